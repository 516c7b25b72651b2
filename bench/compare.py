#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""From the lines that compare.sh gathers to a table, a JSON file and a plot.

What is compared stands in the same round: the ratio to a peer is the median of the rounds' ratios. A network peer is
compared with Knitting over TCP, one for threads of a process with Knitting through shared memory.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys

LOCAL = ('zeromq-inproc', 'piscina')
NOISY_PERCENT = 15
OWN = 'knitting-'
HERE = os.path.dirname(os.path.abspath(__file__))


def spread(values):
    """Half the distance between the quartiles, in percent of the median."""
    if len(values) < 2:
        return 0.0
    quarters = statistics.quantiles(values, n=4, method='inclusive')
    return 50 * (quarters[2] - quarters[0]) / statistics.median(values)


def by_case(lines):
    """{name: {(depth, bytes): {round: line}}} in the order of first appearance, and {name: why it was skipped}."""
    figures, skipped = {}, {}
    for line in lines:
        if 'skipped' in line:
            skipped[line['name']] = line['skipped']
        else:
            rounds = figures.setdefault(line['name'], {}).setdefault((line['depth'], line['bytes']), {})
            rounds[line['round']] = line
    return figures, skipped


def own_of(name):
    return OWN + ('shm' if name in LOCAL else 'tcp')


def ratio(figures, name, case):
    """How many times as many calls a second Knitting does, or None."""
    own, other = figures.get(own_of(name), {}).get(case, {}), figures[name][case]
    ratios = [own[r]['rate'] / other[r]['rate'] for r in other if r in own and other[r]['rate'] > 0]
    return statistics.median(ratios) if ratios and not name.startswith(OWN) else None


def summarize(figures):
    rows = []
    for name, cases in figures.items():
        for case, rounds in sorted(cases.items(), key=lambda item: (item[0][1], item[0][0])):
            rates = [line['rate'] for line in rounds.values()]
            rows.append({
                'name': name, 'depth': case[0], 'bytes': case[1], 'rounds': len(rates),
                'rate': statistics.median(rates), 'spread_percent': round(spread(rates), 1),
                'p50_ns': statistics.median(line['p50_ns'] for line in rounds.values()),
                'p99_ns': statistics.median(line['p99_ns'] for line in rounds.values()),
                'compared_with': None if name.startswith(OWN) else own_of(name),
                'knitting_times': ratio(figures, name, case)})
    return rows


# ---- The table -------------------------------------------------------------------------------------------------------

def short(value):
    """Three figures: 1.23M, 45.6k, 789."""
    for unit, size in (('M', 1e6), ('k', 1e3), ('', 1)):
        if value >= size:
            return f'{value / size:.{0 if value >= 100 * size else 1 if value >= 10 * size else 2}f}{unit}'
    return f'{value:.2f}'


def size_of(count):
    return f'{count // 1024} KiB' if count >= 1024 else f'{count} B'


def table(rows, skipped):
    cases = sorted({(row['bytes'], row['depth']) for row in rows})
    found = {(row['name'], row['bytes'], row['depth']): row for row in rows}
    names = list(dict.fromkeys(row['name'] for row in rows))
    titles = [f'{size_of(count)}, {"one at a time" if depth == 1 else f"{depth} in flight"}' for count, depth in cases]
    lines = ['| | ' + ' | '.join(titles) + ' |', '|---|' + '---:|' * len(titles)]
    for name in names:
        cells = []
        for case in cases:
            row = found.get((name, *case))
            if row is None:
                cells.append('-')
                continue
            text = f'{"~" if row["spread_percent"] > NOISY_PERCENT else ""}{short(row["rate"])}/s'
            if case[1] == 1:
                text += f' ({short(row["p50_ns"] / 1000)} us)'
            if row['knitting_times'] is not None:
                text += f', **{row["knitting_times"]:.{1 if row["knitting_times"] >= 1 else 2}f}x**'
            cells.append(text)
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    lines += [f'| {name} | ' + ' | '.join(['skipped'] * len(cases)) + ' |' for name in skipped if name not in names]
    return '\n'.join(lines)


# ---- The plot --------------------------------------------------------------------------------------------------------

def plot(rows, path):
    """Bars of one size, both depths; False where there is no gnuplot."""
    if not shutil.which('gnuplot'):
        return False
    data = {}
    for row in rows:
        if row['bytes'] == min(r['bytes'] for r in rows):
            data.setdefault(row['name'], {})[row['depth']] = row['rate']
    depths = sorted({row['depth'] for row in rows})
    order = sorted(data, key=lambda name: data[name].get(depths[-1], 0))
    lines = [f'"{name}" ' + ' '.join(str(data[name].get(depth, 'NaN')) for depth in depths) for name in order]
    program = '$figures << END\n' + '\n'.join(lines) + '\nEND\n' + f'load "{HERE}/compare.gp"\n'
    subprocess.run(['gnuplot', '-e', f'svg = "{path}"; few = {depths[0]}; many = {depths[-1]}', '-'],
                   input=program, encoding='utf-8', check=True)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--figures', required=True, help='lines of JSON')
    parser.add_argument('--machine', default='', help='what it was measured on')
    parser.add_argument('--out', required=True, help='prefix of the files that are written')
    args = parser.parse_args()
    with open(args.figures, encoding='utf-8') as file:
        figures, skipped = by_case(json.loads(line) for line in file)
    rows = summarize(figures)
    with open(args.out + '.json', 'w', encoding='utf-8') as file:
        json.dump({'title': 'an argument echoed by one worker, one connection', 'machine': args.machine,
                   'rows': rows, 'skipped': skipped}, file, indent=1)
        file.write('\n')
    print(f'Calls a second (p50) of an argument echoed by one worker over one connection. {args.machine}. Medians of '
          f'{max((row["rounds"] for row in rows), default=0)} rounds; **x**: how many times as many calls Knitting '
          'does, over TCP, or through shared memory where the other is for threads.\n')
    print(table(rows, skipped))
    for name, why in skipped.items():
        print(f'\n{name} was skipped: {why}')
    if any(row['spread_percent'] > NOISY_PERCENT for row in rows):
        print(f'\n~ the rounds differ by more than {NOISY_PERCENT} %: an order of magnitude. Run again with nothing else running.')
    if not plot(rows, args.out + '.svg'):
        print('\nno plot: there is no gnuplot (gnuplot-nox)')
    return 0


if __name__ == '__main__':
    sys.exit(main())
