#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The aims of Knitting's cost and its figures: instructions of counts.txt, then times, each with the floor that is measured in
turns with it.

A ratio is the time, or processor time, of a call divided by the floor's; for rates it is the floor's rate divided by ours.
An aim is the largest ratio that is good enough. The floors are described in METHOD.md.
"""

import argparse
import os
import sys
import time
from collections import namedtuple

import counts
import measure

# Parts of counts.txt, and the most instructions that are good enough; as a share of another part's where a name is given.
COUNTS = (
    ('worker: empty', 'run_empty', 225),
    ('worker: add', 'run_add', 380),
    ('worker: echo, 37 B', 'run_echo_37', 400),
    ('worker: echo, 64 B', 'run_echo_64', 450),
    ('worker: echo, 1000 B', 'run_echo_1000', 900),
    ('library, batched, start to finish: empty', 'library_empty', 220),
    ('library, batched, start to finish: echo, 37 B', 'library_echo_37', 300),
    ('library, knit_call() of add', 'library_call_add', 400),
    ('library, knit_call_prepared() of add', 'library_prepared_add', 400),
    ('daemon, 16 in a read: route', 'route_16', 435),
    ('daemon, 16 in a read: reply', 'reply_16', 277),
    ('worker: empty, 64 sessions attached', 'run_sessions_64', ('run_empty', 1.05)),
    ('single: empty, 64 sessions attached', 'single_sessions_64', ('single_empty', 1.05)),
    ('single: text, 65,000 B', 'single_text_65000', ('single_bin_65000', 1.1)),
    ('one park, 64 sessions, 64 lanes', 'park_64x64', 5000),
)

# by: span (median of one call), rate (calls a second), or cpu (processor time a call, of all processes). The caller has one
# core and the daemon with its worker the other, like the two sides of a floor, unless there is only one core. A floor that
# begins with "shm" is another call.
Row = namedtuple('Row', 'what by floor case aim')

ROWS = (
    Row('shm, empty, one at a time', 'span', 'line empty', 'shm empty', 1.3),
    Row('shm, empty, one at a time, knit_call()', 'span', 'line empty', 'shm --typed empty', 1.3),
    Row('shm, empty, one at a time, knit_call_prepared()', 'span', 'line empty', 'shm --typed --prepared empty', 1.3),
    Row('shm, empty, batches of 1000', 'rate', 'memory --batch 1000 echo:8', 'shm --batch 1000 empty', 1.5),
    Row('shm, empty, batches of 1000, prepared', 'rate', 'memory --batch 1000 echo:8', 'shm --batch 1000 --prepared empty', 1.5),
    Row('shm, 37 B, batches of 1000', 'rate', 'memory --batch 1000 echo:37', 'shm --batch 1000 echo:37', 2.1),
    Row('shm, 64 B, one at a time', 'span', 'line echo:64', 'shm echo:64', 2.5),
    Row('shm, 64 B, batches of 64', 'rate', 'memory --batch 64 echo:64', 'shm --batch 64 echo:64', 1.4),
    Row('shm, 64 KiB, one at a time', 'span', 'memory echo:65536', 'shm echo:65536', 1.43),
    Row('shm, 1 MiB, one at a time', 'span', 'memory echo:1048576', 'shm echo:1048576', 1.43),
    Row('shm, 65,000 B of text (floor: of bin)', 'span', 'shm echo:65000', 'shm echo:65000t', 1.1),
    Row('shm, 1 MB of text (floor: of bin)', 'span', 'shm echo:1000000', 'shm echo:1000000t', 1.1),
    Row('a parked worker: a call after 2 ms', 'span', 'futex --pause 2 echo:64', 'shm --pause 2 echo:64', 1.3),
    Row('all asleep: a call every 50 ms', 'span', 'futex --pause 50 --seconds 1 echo:64',
        'shm --pause 50 --seconds 1 echo:64', 1.5),
    Row('caller and worker on one core', 'span', 'futex --cpu 0 echo:64', 'one-core echo:64', 2.0),
    Row('one core, 64 B, one at a time (floor: a pipe pool)', 'span', 'pipe --cpu 0 echo:64', 'one-core echo:64', 1.2),
    Row('one core, 64 B, batches of 64 (floor: a thread pool)', 'rate', 'threads --cpu 0 --batch 64 echo:64',
        'one-core --batch 64 echo:64', 1.36),
    Row('unix, 64 B, 1 connection', 'span', 'unix echo:64', 'unix echo:64', 1.5),
    Row('tcp, 64 B, 1 connection', 'span', 'tcp echo:64', 'tcp echo:64', 1.5),
    Row('tcp, 64 B, 1 connection, 16 deep', 'rate', 'tcp -d 16 echo:64', 'tcp -d 16 echo:64', 1.5),
    Row('tcp, 64 B, 50 connections', 'rate', 'tcp -c 50 echo:64', 'tcp -c 50 echo:64', 2.0),
    Row('tcp, 64 B, 50 connections, 16 deep', 'rate', 'tcp -c 50 -d 16 echo:64', 'tcp -c 50 -d 16 echo:64', 3.33),
    Row('tcp, 64 KiB, 1 connection', 'span', 'tcp echo:65536', 'tcp echo:65536', 1.43),
    Row('processor time: tcp, 50 connections, 16 deep', 'cpu', 'tcp -c 50 -d 16 echo:64', 'tcp -c 50 -d 16 echo:64', 3.0),
)

# Of knit-lane-bench, whose floor is the line; the last is compared with itself at 4 KiB.
LANES = (
    ('bare lane, 40 B, one at a time', 'process echo 40 single', 2.0),
    ('bare lane, 64 B, one at a time', 'process echo 64 single', 2.5),
)
IN_PLACE_AIM = 1.1

# The library compared with the bare lane and the same bytes.
BESIDE_LANES = (('shm, 64 KiB, one at a time', 65536, 1.2), ('shm, 1 MiB, one at a time', 1048576, 1.2))

IDLE_WORKERS, IDLE_SECONDS, IDLE_AIM_PERCENT = 8, 10, 0.1

COLUMN = {'span': 'p50_us', 'rate': 'calls/s', 'cpu': 'cpu_us'}
UNIT = {'span': 'us', 'rate': '/s', 'cpu': 'us'}


def row(what, unit, figure, floor, ratio, aim, spread, rate=None):
    return {'what': what, 'unit': unit, 'figure': figure, 'calls/s': rate, 'floor': floor, 'ratio': ratio, 'aim': aim, 'spread_%': spread,
            '': measure.verdict(ratio, aim, spread)}


def lines(urls, pids):
    """Each row's floor, then its case."""
    for at in ROWS:
        path, case = at.case.split(' ', 1)
        yield f'--url {urls["shm"]} --base {at.floor[4:]}' if at.floor.startswith('shm ') else f'--url floor:{at.floor}'
        yield f'--url {urls[path]} --warm {0 if at.by == "cpu" else 0.05} --pids {pids} {case}'


def measured(bench):
    first, *others = sorted(os.sched_getaffinity(0))
    one_core = bench.daemon('one-core', cpu=first)
    daemon = bench.daemon('apart', cpu=others[0] if others else first)
    urls = {path: f'{daemon.url(scheme)} --cpu 0' for path, scheme in (('shm', 'shm'), ('unix', 'unix'), ('tcp', 'knit'))}
    urls['one-core'] = f'{one_core.url("shm")} --cpu 0'
    found, machine = bench.cases(list(lines(urls, ','.join(map(str, daemon.pids())))))
    rows = []
    for at, floor, case in zip(ROWS, found[::2], found[1::2]):
        ratio = 1 / case['rate/floor'] if at.by == 'rate' else case[f'{at.by}/floor']
        floor_figure = case['cpu_us'] / ratio if at.by == 'cpu' else floor[COLUMN[at.by]]
        rows.append(row(at.what, UNIT[at.by], case[COLUMN[at.by]], floor_figure, ratio, at.aim,
                        case['spread_%'], case['calls/s']))
    return rows, machine


def lanes(bench):
    rows = []
    for what, only, aim in LANES:
        (floor, case), _ = bench.program('knit-lane-bench', '--worker=process', f'--only={only}')
        rows.append(row(what, 'ns', case['typical_ns'], floor['typical_ns'], case['x_floor'], aim, case['spread_%']))
    (_, small, _, large), _ = bench.program('knit-lane-bench', '--worker=process', '--only=in place')
    rows.append(row('bare lane, 1 MiB in place (floor: 4 KiB)', 'ns', large['typical_ns'], small['typical_ns'],
                    large['typical_ns'] / small['typical_ns'], IN_PLACE_AIM, large['spread_%']))
    return rows


def beside_lanes(bench, rows):
    """Not in turns with each other, but both the time of copies that take far longer than a cache line."""
    figures = {at['what']: at for at in rows}
    for what, count, aim in BESIDE_LANES:
        (_, lane), _ = bench.program('knit-lane-bench', '--worker=process', f'--only=process echo {count} single')
        ns = figures[what]['figure'] * 1000
        yield row(f'{what} (floor: bare lane)', 'ns', ns, lane['typical_ns'], ns / lane['typical_ns'], aim, lane['spread_%'])


def counted(path):
    """The parts that have an aim, and by how much it is missed."""
    built, found = counts.read(path)
    for what, name, aim in COUNTS:
        now = found.get(name, (None,))[0]
        if isinstance(aim, tuple):
            aim = round(found[aim[0]][0] * aim[1], 1)
        yield {'instructions a call': what, 'now': now, 'aim': aim, 'now/aim': now and now / aim,
               '': 'not counted' if now is None else measure.verdict(now, aim, None)}


def clock_of(pid):
    """The clock that counts a process's time on all cores, as clock_getcpuclockid() makes it of the pid."""
    return ~pid << 3 | 2


def idle(bench):
    """The share of a core that a daemon and its workers use without calls."""
    daemon = bench.daemon('idle', workers=IDLE_WORKERS)
    time.sleep(0.1 if bench.args.quick else 1)  # until the work of the start has ended
    pids = daemon.pids()
    if len(pids) != 1 + IDLE_WORKERS or time.clock_gettime_ns(clock_of(os.getpid())) == 0:
        sys.exit('the processor time of the idle daemon cannot be had')
    before, began = sum(time.clock_gettime_ns(clock_of(pid)) for pid in pids), time.monotonic_ns()
    time.sleep(0.1 if bench.args.quick else IDLE_SECONDS)
    used = sum(time.clock_gettime_ns(clock_of(pid)) for pid in pids) - before
    percent = 100 * used / (time.monotonic_ns() - began)
    daemon.stop()
    return row(f'idle daemon, {IDLE_WORKERS} workers: share of a core', '%', percent, None, percent, IDLE_AIM_PERCENT, None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measure.options(parser)
    parser.add_argument('--counts', default=counts.KEPT, help='file of counts')
    parser.add_argument('--counts-alone', action='store_true', help='measure nothing: the table of instructions')
    args = parser.parse_args()
    built, _ = counts.read(args.counts)
    measure.show('aims: instructions of the parts of a call', built, list(counted(args.counts)), args.format)
    if args.counts_alone:
        return 0
    print()
    with measure.Bench(args) as bench:
        rows = lanes(bench)
        of_calls, machine = measured(bench)
        rows += [*beside_lanes(bench, of_calls), *of_calls, idle(bench)]
        measure.show('aims: what a call costs beside its floor', machine, rows, bench.args.format)
    return 0


if __name__ == '__main__':
    sys.exit(main())
