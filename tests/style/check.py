#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the house rules over the source tree, or with --self-test the rules themselves.

    tests/style/check.py [--build DIR] [ROOT]      findings as path:line: rule: text, status 1 when there are any
    tests/style/check.py --self-test

With --build, which tests exist is read from what Meson wrote into that build folder, otherwise from the meson.build files.
"""

import argparse
import os
import sys

from rules import RULES, registered
from samples import SAMPLES
from source import Tree, read_tree


def check(root, build):
    tree = read_tree(root, registered(build) if build else None)
    count = 0
    for name, rule in RULES.items():
        for path, line, text in rule(tree):
            print(f'{path}:{line}: {name}: {text}')
            count += 1
    print(f'{len(tree.sources)} files, {len(RULES)} rules, {count} findings')
    return 1 if count else 0


def self_test():
    failures = []
    for name in RULES.keys() - SAMPLES.keys():
        failures.append(f'{name}: a rule without samples')
    for name, (flagged, passed) in SAMPLES.items():
        for number, files in enumerate(flagged):
            if not list(RULES[name](Tree(files))):
                failures.append(f'{name}: bad sample {number} is not flagged')
        for number, files in enumerate(passed):
            for path, line, text in RULES[name](Tree(files)):
                failures.append(f'{name}: good sample {number} is flagged: {path}:{line}: {text}')
    for failure in failures:
        print(failure)
    print(f'{len(SAMPLES)} rules tried, {len(failures)} failures')
    return 1 if failures else 0


def main():
    parser = argparse.ArgumentParser(description='Checks the house rules.')
    parser.add_argument('--build', help='build folder, to learn which tests are run')
    parser.add_argument('--self-test', action='store_true', help='try the rules on samples')
    parser.add_argument('root', nargs='?', default=os.path.join(os.path.dirname(__file__), '../..'))
    arguments = parser.parse_args()
    return self_test() if arguments.self_test else check(arguments.root, arguments.build)


if __name__ == '__main__':
    sys.exit(main())
