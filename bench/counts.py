#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Instructions and allocations of the parts of a call, compared with counts.txt.

knit-counts does each part many times in a function of its own; callgrind collects inside those functions only. A figure
that grew by more than 5 % fails until counts.txt is changed in the same commit, by intent.
Allocations may not grow at all.

Figures hold for one compiler and optimisation, which the file names; elsewhere instructions are not compared, and the
test is skipped (77). The dynamic linker chooses memcpy() and its relatives by processor, so it is set to the plain ones.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
GREW = 1.05  # of instructions: less is what another release of a library does
SHRANK = 0.95
PREFIX = 'counted_'
KEPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'counts.txt')


def skip(why):
    print(f'skipped: {why}')
    sys.exit(SKIPPED)


# ---- Counting --------------------------------------------------------------------------------------------------------

def phases(text):
    """{name: (calls, allocations)} of what knit-counts prints."""
    return {name: (int(calls), int(allocations))
            for name, calls, allocations in (line.split() for line in text.splitlines())}


def inclusive(path):
    """{phase: instructions} out of callgrind's file, written without compressed names and positions.

    A function's block begins with fn=; its own lines are "position cost", and each "calls=" is followed by such a line
    with the inclusive cost of what was called. A phase calls nothing that calls it, so the sum is its inclusive cost.
    """
    totals, function = {}, None
    with open(path, encoding='utf-8') as file:
        for line in file:
            if line.startswith('fn='):
                name = line[3:].strip().split('.')[0]
                function = name[len(PREFIX):] if name.startswith(PREFIX) else None
            elif function and line[0].isdigit():
                totals[function] = totals.get(function, 0) + int(line.split()[1])
    return totals


def count(program, modules):
    """[(phase, instructions a call, allocations a call)]"""
    environment = dict(os.environ, GLIBC_TUNABLES='glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX512VL,-AVX2,-ERMS,-FSRM')
    with tempfile.TemporaryDirectory() as scratch:
        out = os.path.join(scratch, 'callgrind.out')
        run = subprocess.run(
            ['valgrind', '--tool=callgrind', f'--callgrind-out-file={out}', f'--toggle-collect={PREFIX}*',
             '--compress-strings=no', '--compress-pos=no', program, *modules],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding='utf-8', check=False)
        if run.returncode != 0:
            sys.exit(f'knit-counts failed under valgrind:\n{run.stdout}{run.stderr}')
        totals = inclusive(out)
    found = phases(run.stdout)
    missing = [name for name in found if name not in totals]
    if missing:
        sys.exit(f'callgrind saw nothing of: {" ".join(missing)}')
    return [(name, totals[name] / calls, allocations / calls) for name, (calls, allocations) in found.items()]


def count_allocations(program, modules):
    run = subprocess.run([program, *modules], stdout=subprocess.PIPE, encoding='utf-8', check=True)
    return [(name, None, allocations / calls) for name, (calls, allocations) in phases(run.stdout).items()]


# ---- The file --------------------------------------------------------------------------------------------------------

HEAD = '''# SPDX-License-Identifier: Apache-2.0
# Instructions and allocations a call, by part of it. Renewed by `ninja counts-update`; METHOD.md says what the parts are.
'''


def read(path):
    """The compiler that built them, and {phase: (instructions, allocations)}."""
    built, figures = None, {}
    with open(path, encoding='utf-8') as file:
        for line in file:
            if line.startswith('built by '):
                built = line[9:].strip()
            elif line.strip() and not line.startswith('#'):
                name, instructions, allocations = line.split()
                figures[name] = (float(instructions), float(allocations))
    return built, figures


def write(path, built, counted):
    with open(path, 'w', encoding='utf-8') as file:
        file.write(f'{HEAD}built by {built}\n\n')
        for name, instructions, allocations in counted:
            file.write(f'{name:<20} {instructions:9.1f} {allocations:7.4f}\n')


def compare(counted, kept):
    """Prints the table; how many figures grew."""
    grew = 0
    print(f'{"part":<20} {"kept":>9} {"now":>9} {"":>7}  allocations')
    for name, instructions, allocations in counted:
        was, allocated = kept.get(name, (None, None))
        says = []
        if was is None:
            says.append('NOT IN counts.txt')
            grew += 1
        else:
            if instructions and instructions > was * GREW:
                says.append('MORE INSTRUCTIONS')
            if allocations > allocated + 0.00005:
                says.append('MORE ALLOCATIONS')
            grew += len(says) > 0
            if instructions and instructions < was * SHRANK:
                says.append('fewer: keep it')
        now = f'{instructions:9.1f} {(instructions / was - 1) * 100:+6.1f}%' if instructions and was else ' ' * 17
        print(f'{name:<20} {was or 0:9.1f} {now}  {allocations:.4f}  {", ".join(says)}'.rstrip())
    for name in kept.keys() - {name for name, _, _ in counted}:
        print(f'{name:<20} NOT COUNTED ANY MORE')
        grew += 1
    return grew


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('program', help='knit-counts')
    parser.add_argument('modules', nargs='+', help='a module of 65,500 tasks, then those with empty, echo and add')
    parser.add_argument('--kept', default=KEPT)
    parser.add_argument('--built', default='an unnamed compiler', help='compiler and options, as counts.txt names them')
    parser.add_argument('--allocations', action='store_true', help='allocations alone, which needs no valgrind')
    parser.add_argument('--any-build', action='store_true', help='compare instructions of another build; nothing fails')
    parser.add_argument('--update', action='store_true', help='write the file instead of comparing with it')
    args = parser.parse_args()
    if args.allocations:
        counted = count_allocations(args.program, args.modules)
    elif not args.update and not args.any_build and read(args.kept)[0] != args.built:
        skip(f'counts.txt is of {read(args.kept)[0]}, this is {args.built}')
    elif not shutil.which('valgrind'):
        skip('there is no valgrind')
    else:
        counted = count(args.program, args.modules)
    if args.update:
        write(args.kept, args.built, counted)
        return 0
    grew = compare(counted, read(args.kept)[1])
    if args.any_build:
        return 0
    if grew:
        print(f'{grew} grew: find out why, or renew counts.txt (ninja counts-update) and say why in the same commit')
    return 1 if grew else 0


if __name__ == '__main__':
    sys.exit(main())
