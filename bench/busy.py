#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command and says whether the machine did anything else meanwhile: busy.py [OPTION...] COMMAND...

Before the command it looks for a while at a machine that should rest. Then what the processors did while the command ran,
less what the command and its children did, is what others did; and what the host of a virtual machine took is stolen time.
The load average is told and decides nothing: it is still high from a build that ended a minute ago.

What it found is a sentence on standard error. The exit status is the command's, or 75 when that was 0 and the
machine was busy: others took more than 3 % of the processors, or more than 2 % were stolen.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections import namedtuple

BUSY = 75
OTHERS_PERCENT, STOLEN_PERCENT = 3, 2
SECONDS_BEFORE = 2
TICKS_A_SECOND = os.sysconf('SC_CLK_TCK')

# Seconds of all processors together.
Time = namedtuple('Time', 'total working stolen')


def read_time(proc):
    """Of /proc/stat's first line: user nice system idle iowait irq softirq steal, and guests, who are in user already. Interrupts
    are nobody's: most are for what the command sent."""
    with open(os.path.join(proc, 'stat'), encoding='utf-8') as file:
        ticks = [int(word) / TICKS_A_SECOND for word in file.readline().split()[1:9]]
    return Time(sum(ticks), sum(ticks[:3]), ticks[7])


def read_load(proc):
    with open(os.path.join(proc, 'loadavg'), encoding='utf-8') as file:
        return file.read().split()[0]


def own_seconds():
    """Of this process and of its children that have ended, and theirs."""
    return sum(use.ru_utime + use.ru_stime for use in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def shares(before, after, own=0.0):
    """What others did and what was stolen, in percent of all processors."""
    total = max(after.total - before.total, 1 / TICKS_A_SECOND)
    others = max(after.working - before.working - own, 0)
    return 100 * others / total, 100 * (after.stolen - before.stolen) / total


def is_busy(*found):
    return any(others > OTHERS_PERCENT or stolen > STOLEN_PERCENT for others, stolen in filter(None, found))


def sentence(load, rest, run):
    found = f'before, others took {rest[0]:.0f} % of the processors, {rest[1]:.0f} % were stolen, and the load average was {load}'
    if run:
        found += f'; meanwhile others took {run[0]:.0f} %, and {run[1]:.0f} % were stolen'
    return f'the machine was {"busy" if is_busy(rest, run) else "at rest"} ({found})'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--proc', default='/proc', help='where the system tells it')
    parser.add_argument('--say', help='a file for the sentence, too')
    parser.add_argument('--give-up', action='store_true', help='do not run the command on a machine that does not rest')
    parser.add_argument('command', nargs=argparse.REMAINDER)
    args = parser.parse_args()
    load, before = read_load(args.proc), read_time(args.proc)
    time.sleep(SECONDS_BEFORE)
    began, own = read_time(args.proc), own_seconds()
    rest = shares(before, began)
    status, run = 0, None
    if not (args.give_up and is_busy(rest)):
        status = subprocess.run(args.command, check=False).returncode
        run = shares(began, read_time(args.proc), own_seconds() - own)
    found = sentence(load, rest, run)
    print(found, file=sys.stderr)
    if args.say:
        with open(args.say, 'w', encoding='utf-8') as file:
            file.write(found + '\n')
    return status or (BUSY if is_busy(rest, run) else 0)


if __name__ == '__main__':
    sys.exit(main())
