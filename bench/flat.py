#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether a call costs the same however many there are of everything else: sessions, connections, tasks, workers.

Each group begins with the fewest; the ratio is the span of a single call with more of them divided by its span, measured in
turns. The others are idle: sessions and connections without calls, tasks that are not called, workers that sleep.
"""

import argparse
import os
import resource
import sys
from collections import namedtuple

import measure

SESSIONS = (1, 2, 8)  # of one user, who may not have more: counts.txt has 64
CONNECTIONS = (1, 100, 1000, 10000)
WORKERS = (1, 2, 4, 16)
FILES_BESIDE = 100  # what bench and daemon need besides a descriptor for each connection

# The largest ratio that is good enough: smaller differences are noise.
AIM = 1.25

Row = namedtuple('Row', 'group count case')


def sessions(daemon):
    return [Row('shm: sessions', count, f'--url {daemon.url("shm")} --idle {count - 1} empty') for count in SESSIONS]


def connections(daemon):
    """As many as this machine lets a process have."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - FILES_BESIDE
    if most < CONNECTIONS[-1]:
        print(f'no {CONNECTIONS[-1]} connections: ulimit -n is {most + FILES_BESIDE}', file=sys.stderr)
    return [Row('tcp: connections', count, f'--url {daemon.url("knit")} --idle {count - 1} echo:64')
            for count in CONNECTIONS if count <= most]


def tasks(bench, few):
    """The called task comes after those of a full registry."""
    many = bench.daemon('many', modules=[os.path.join(bench.args.build, 'bench/bench-tasks-many.so')])
    return [Row(f'{scheme}: tasks', count, f'--url {daemon.url(scheme)} empty')
            for scheme in ('shm', 'knit') for count, daemon in (('few', few), ('65500 more', many))]


def workers(bench, one):
    daemons = [one if count == 1 else bench.daemon(f'workers-{count}', workers=count) for count in WORKERS]
    return [Row(f'{scheme}: workers', count, f'--url {daemon.url(scheme)} empty')
            for scheme in ('shm', 'knit') for count, daemon in zip(WORKERS, daemons)]


def lines(rows):
    """The first of each group is what the others are multiples of."""
    group = None
    for at in rows:
        yield at.case if at.group == group else f'--base {at.case}'
        group = at.group


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measure.options(parser)
    with measure.Bench(parser.parse_args()) as bench:
        daemon = bench.daemon('main')
        rows = sessions(daemon) + connections(daemon) + tasks(bench, daemon) + workers(bench, daemon)
        found, machine = bench.cases(list(lines(rows)))
        shown = []
        for at, case in zip(rows, found):
            ratio = case.get('span/floor', 1.0)
            shown.append({'what': at.group.replace('knit', 'tcp'), 'count': str(at.count), 'p50_us': case['p50_us'],
                          'ratio': ratio, 'aim': AIM, 'spread_%': case['spread_%'],
                          '': measure.verdict(ratio, AIM, case['spread_%'])})
        measure.show('flatness: a single call with more of everything else', machine, shown, bench.args.format)
    return 0


if __name__ == '__main__':
    sys.exit(main())
