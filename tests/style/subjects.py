#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the subjects of the commits since BASE: `area: what`, at most 65 characters; or with --self-test the check itself.

    tests/style/subjects.py [ROOT]
    tests/style/subjects.py --self-test

That the mood is imperative is for its readers to see. Without the history, as in an archive or a shallow clone, the test
counts as skipped.
"""

import argparse
import os
import re
import subprocess
import sys

BASE = '6d93938'  # older subjects are as they are
SUBJECT_MAX = 65
SKIPPED = 77

SAMPLES = [  # (subject, is it accepted)
    ('fastpath: take one call at a time', True),
    ('tests/system, fastpath: ' + 'x' * 41, True),
    ('Revert "fastpath: take one call at a time"', True),
    ('tests/system, fastpath: ' + 'x' * 42, False),
    ('fastpath: take one call at a time.', False),
    ('take one call at a time', False),
    ('fastpath:take one call at a time', False),
    ('fastpath: ', False),
]


def flaw(subject):
    """What is wrong with a subject, or None."""
    if len(subject) > SUBJECT_MAX:
        return f'{len(subject)} characters, limit {SUBJECT_MAX}'
    if re.match(r'Revert "', subject):
        return None
    if not re.match(r'[A-Za-z][\w/.-]*(, [A-Za-z][\w/.-]*)*: \S', subject):
        return 'expected "area: what"'
    if subject.endswith('.'):
        return 'ends with a full stop'
    return None


def self_test():
    wrong = [subject for subject, is_accepted in SAMPLES if (flaw(subject) is None) != is_accepted]
    print(*wrong, f'{len(SAMPLES)} subjects tried, {len(wrong)} failures', sep='\n')
    return 1 if wrong else 0


def check(root):
    try:
        lines = subprocess.run(['git', '-C', root, 'log', '--no-merges', '--format=%h %s', f'{BASE}..HEAD'], check=True,
                               capture_output=True, text=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        print(f'skipped: no history back to {BASE} here')
        return SKIPPED
    count = 0
    for line in lines:
        commit, _, subject = line.partition(' ')
        text = flaw(subject)
        if text:
            print(f'{commit} "{subject}": {text}')
            count += 1
    print(f'{len(lines)} commits, {count} findings')
    return 1 if count else 0


def main():
    parser = argparse.ArgumentParser(description='Checks the subjects of commits.')
    parser.add_argument('--self-test', action='store_true', help='try the check on samples')
    parser.add_argument('root', nargs='?', default=os.path.join(os.path.dirname(__file__), '../..'))
    arguments = parser.parse_args()
    return self_test() if arguments.self_test else check(arguments.root)


if __name__ == '__main__':
    sys.exit(main())
