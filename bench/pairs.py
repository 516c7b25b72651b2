#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two builds beside each other: pairs.py BEFORE AFTER, both build folders, built. Each case is run by the programs of one build
and at once by those of the other, in a new order each round; the ratio is the median of the rounds' ratios of calls a second, above
1 if AFTER does more. Quartiles of the ratios say whether that is more than noise.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

import measure

CASES = (
    ('shm', 'empty'),
    ('shm', '--batch 1000 empty'),
    ('shm', '--batch 1000 echo:37'),
    ('shm', '--batch 64 echo:64'),
    ('shm', 'echo:1000'),
    ('unix', '--batch 64 echo:64'),
    ('knit', 'echo:64'),
    ('knit', '-c 4 -d 16 echo:64'),
)


def rate(build, url, case, args):
    run = subprocess.run([os.path.join(build, 'bench/knit-bench'), '--url', url, '--format=json', f'--seconds={args.seconds}',
                          '--warm=0.03', *(['--quick'] if args.quick else []), *case.split()],
                         stdout=subprocess.PIPE, encoding='utf-8', check=False)
    if run.returncode != 0:
        sys.exit(f'{build}: {case} by {url} failed')
    report = json.loads(run.stdout)
    return report['rows'][0]['calls/s'], report['machine']


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('builds', nargs=2, metavar='BUILD')
    parser.add_argument('--rounds', type=int, default=11)
    parser.add_argument('--seconds', type=float, default=0.15, help='of each case in a round')
    parser.add_argument('--format', choices=('table', 'json', 'csv', 'markdown'), default='table')
    parser.add_argument('--quick', action='store_true', help='a short run; its figures mean nothing')
    args = parser.parse_args()
    found, machine = {}, ''
    with measure.Bench(args) as bench:
        daemons = []
        for index, build in enumerate(args.builds):
            args.build = build
            daemons.append(bench.daemon(f'of-{index}'))
        for number in range(args.rounds):
            for scheme, case in CASES:
                for index in ((0, 1) if number % 2 == 0 else (1, 0)):
                    figure, machine = rate(args.builds[index], daemons[index].url(scheme), case, args)
                    found.setdefault((scheme, case), ([], []))[index].append(figure)
    rows = []
    for (scheme, case), (before, after) in found.items():
        ratios = [one / other for one, other in zip(after, before)]
        quarters = statistics.quantiles(ratios, n=4, method='inclusive') if len(ratios) > 1 else ratios * 3
        rows.append({'case': f'{scheme.replace("knit", "tcp")} {case}', 'before/s': statistics.median(before),
                     'after/s': statistics.median(after), 'ratio': quarters[1], 'from': quarters[0], 'to': quarters[2]})
    measure.show(f'calls a second, {args.builds[1]} beside {args.builds[0]}', machine, rows, args.format)
    return 0


if __name__ == '__main__':
    sys.exit(main())
