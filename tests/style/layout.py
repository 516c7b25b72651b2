#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that every C file is laid out as clang-format would, or with --self-test that a file which is not is found.

    tests/style/layout.py [ROOT]        path:line of each difference, status 1 when there are any
    tests/style/layout.py --self-test

`clang-format -i $(git ls-files '*.c' '*.h')` mends them. Releases of clang-format differ in what they do: one of another
release than MAJOR checks nothing, and the test counts as skipped.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

from source import read_tree

MAJOR = 14  # Debian 12's
SKIPPED = 77
GOOD = 'int knit_a(void)\n{\n    return 1;\n}\n'
BAD = 'int knit_a(void) {\n  return 1;\n}\n'


def find_program():
    """(path, None), or (None, why not)."""
    for name in (f'clang-format-{MAJOR}', 'clang-format'):
        path = shutil.which(name)
        if path:
            said = subprocess.run([path, '--version'], check=True, capture_output=True, text=True).stdout
            major = re.search(r'version (\d+)', said)
            if major and int(major[1]) == MAJOR:
                return path, None
            return None, f'expected clang-format {MAJOR}, found {said.strip()}'
    return None, f'clang-format {MAJOR} is not installed'


def differences(program, root, paths):
    """path:line: text, one for each place that clang-format would change."""
    def check(part):
        done = subprocess.run([program, '--dry-run', '--style=file', *part], cwd=root, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return done.stderr
    width = os.cpu_count() or 1
    with ThreadPoolExecutor(width) as pool:
        said = pool.map(check, [part for part in (paths[i::4 * width] for i in range(4 * width)) if part])
    return sorted(f'{path}:{line}: not as clang-format {MAJOR} lays it out'
                  for text in said for path, line in re.findall(r'^(\S+?):(\d+):\d+: warning: ', text, re.M))


def self_test(program, root):
    """A misplaced brace is found in the file that has it, and in no other."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(os.path.join(root, '.clang-format'), folder)
        for name, text in (('good.c', GOOD), ('bad.c', BAD)):
            with open(os.path.join(folder, name), 'w', encoding='utf-8') as file:
                file.write(text)
        found = differences(program, folder, ['good.c', 'bad.c'])
    if not found or any(not line.startswith('bad.c:1:') and not line.startswith('bad.c:2:') for line in found):
        print('expected differences in bad.c alone, found:', *found, sep='\n')
        return 1
    print(f'{len(found)} differences in bad.c, none in good.c')
    return 0


def main():
    parser = argparse.ArgumentParser(description='Checks the layout of C files.')
    parser.add_argument('--self-test', action='store_true', help='try the check on samples')
    parser.add_argument('root', nargs='?', default=os.path.join(os.path.dirname(__file__), '../..'))
    arguments = parser.parse_args()
    program, why = find_program()
    if why:
        print(f'skipped: {why}')
        return SKIPPED
    if arguments.self_test:
        return self_test(program, arguments.root)
    paths = [source.path for source in read_tree(arguments.root).c()]
    found = differences(program, arguments.root, paths)
    print(*found, f'{len(paths)} files, {len(found)} differences', sep='\n')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
