#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""CASES.md is what runs: its first part what `conformance_tests --list` prints, its last part names tests that there are.

Usage: check_list.py CASES.md BUILD_DIR conformance_tests
"""
import difflib
import json
import os
import re
import subprocess
import sys

ELSEWHERE = '## Elsewhere\n'


def unlike(page, listed):
    return list(difflib.unified_diff(page.splitlines(), listed.splitlines(), 'CASES.md', 'what runs', lineterm='', n=0))


def twice(listed):
    numbers = re.findall(r'^\| (\w+) \|', listed, re.M)
    return [f'{number} stands there twice' for number in sorted(set(numbers)) if numbers.count(number) > 1]


def unknown(page, tests):
    """Tests that the last column names, and that do not run."""
    rows = re.findall(r'^\|.*\|([^|]*)\|$', page, re.M)[2:]
    named = [name for row in rows for name in re.findall(r'`([^`]+)`', row)]
    return (['no test is named'] if not named or any('`' not in row for row in rows) else []) + \
        [f'there is no test {name}' for name in named if name not in tests]


def main():
    path, build, program = sys.argv[1:]
    with open(path, encoding='utf-8') as file:
        page, elsewhere = file.read().split(ELSEWHERE)
    with open(os.path.join(build, 'meson-info/intro-tests.json'), encoding='utf-8') as file:
        tests = {test['name'] for test in json.load(file)}
    listed = subprocess.run([program, '--list'], stdout=subprocess.PIPE, text=True, check=True).stdout
    findings = twice(listed) + unlike(page[page.index('\n## ') + 1:], listed) + unknown(elsewhere, tests)
    if findings:
        print(*findings, f'{path} is not what runs; {program} --list prints its tables', sep='\n')
    return 1 if findings else 0


sys.exit(main())
