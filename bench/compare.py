#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""From the lines that compare.sh gathers to tables, a JSON file and plots.

What is compared stands in the same round: the ratio to a peer is the median of the rounds' ratios. A network peer is
compared with Knitting over TCP, one for threads of a process or for pipes between two with Knitting through shared memory. A
rate is calls by the time that passed, not by what a call took. A peer that failed in
any round is skipped as a whole: rounds that happened to go well say nothing.
"""

import argparse
import json
import statistics
import sys
import textwrap

import plots
from compare_plot import bars

NOISY_PERCENT = 15
COLUMNS = 128
OWN = 'knitting-'


def spread(values):
    """Half the distance between the quartiles, in percent of the median."""
    if len(values) < 2:
        return 0.0
    quarters = statistics.quantiles(values, n=4, method='inclusive')
    return 50 * (quarters[2] - quarters[0]) / statistics.median(values)


def by_case(lines):
    """{name: {(depth, bytes, batch): {round: line}}} in the order of first appearance, and {name: why it was skipped}."""
    figures, skipped = {}, {}
    for line in lines:
        if 'skipped' in line:
            skipped[line['name']] = line['skipped']
        else:
            case = line['depth'], line['bytes'], line['batch']
            figures.setdefault(line['name'], {}).setdefault(case, {})[line['round']] = line
    return {name: cases for name, cases in figures.items() if name not in skipped}, skipped


def kind_of(cases):
    return next(line['kind'] for rounds in cases.values() for line in rounds.values())


def own_of(kind, batch):
    return OWN + ('shm' if batch or kind in ('threads', 'pipes') else 'tcp')


def ratio(own, other):
    """How many times as many calls a second Knitting does in a round, or None."""
    ratios = [own[r]['rate'] / other[r]['rate'] for r in other if r in own and other[r]['rate'] > 0]
    return statistics.median(ratios) if ratios else None


def summarize(figures):
    rows = []
    for name, cases in figures.items():
        kind = kind_of(cases)
        for case, rounds in sorted(cases.items(), key=lambda item: (item[0][2], item[0][1], item[0][0])):
            compared = None if kind == 'own' else own_of(kind, case[2])
            rates = [line['rate'] for line in rounds.values()]
            rows.append({
                'name': name, 'kind': kind, 'depth': case[0], 'batch': case[2], 'bytes': case[1],
                'rounds': len(rates),
                'rate': statistics.median(rates), 'spread_percent': round(spread(rates), 1),
                'p50_ns': statistics.median(line['p50_ns'] for line in rounds.values()),
                'p99_ns': statistics.median(line['p99_ns'] for line in rounds.values()),
                'compared_with': compared,
                'knitting_times': ratio(figures.get(compared, {}).get(case, {}), rounds)})
    return rows


# ---- The table -------------------------------------------------------------------------------------------------------

LABELS = {'bare': ' (no worker)', 'threads': ' (threads)', 'pipes': ' (pipes)', 'floor': ' (two counters, both spin)'}


def short(value):
    """Three figures: 1.23M, 45.6k, 789."""
    for unit, size in (('M', 1e6), ('k', 1e3), ('', 1)):
        if value >= size:
            return f'{value / size:.{0 if value >= 100 * size else 1 if value >= 10 * size else 2}f}{unit}'
    return f'{value:.2f}'


def size_of(count):
    return f'{count // 1024} KiB' if count >= 1024 else f'{count} B'


def cell(row):
    if row is None:
        return '-'
    text = f'{short(row["rate"])}/s'
    if row['depth'] == 1 and not row['batch']:
        text = f'{short(row["p50_ns"] / 1000)} us ({text})'
    if row['spread_percent'] > NOISY_PERCENT:
        text = '~' + text
    if row['knitting_times'] is not None:
        text += f', **{row["knitting_times"]:.{1 if row["knitting_times"] >= 1 else 2}f}x**'
    return text


def title_of(count, depth, batch):
    if batch:
        return str(depth)
    return f'{size_of(count)}, {"one at a time" if depth == 1 else f"{depth} in flight"}'


def table(rows, skipped, head=''):
    cases = sorted({(row['bytes'], row['depth']) for row in rows})
    found = {(row['name'], row['bytes'], row['depth']): row for row in rows}
    kinds = {row['name']: row['kind'] for row in rows}
    titles = [title_of(count, depth, rows[0]['batch']) for count, depth in cases]
    lines = [f'| {head} | ' + ' | '.join(titles) + ' |', '|---|' + '---:|' * len(titles)]
    for name, kind in kinds.items():
        cells = [cell(found.get((name, *case))) for case in cases]
        lines.append(f'| {name}{LABELS.get(kind, "")} | ' + ' | '.join(cells) + ' |')
    lines += [f'| {name} | ' + ' | '.join(['skipped'] * len(cases)) + ' |' for name in skipped]
    return '\n'.join(lines)


def text(rows, skipped, machine):
    rounds = max((row['rounds'] for row in rows), default=0)
    parts = [f'An argument echoed by one worker over one connection: p50 of a call (calls a second by the time that passed), or '
             f'calls a second. {machine}. Medians of {rounds} rounds; **x**: how many times as many calls Knitting does, over TCP, '
             'or through shared memory where the other is for threads of one process or for pipes.',
             table([row for row in rows if not row['batch']], skipped)]
    batches = [row for row in rows if row['batch']]
    if batches:
        parts += ['64 bytes in batches, a batch after another: calls a second by calls in a batch. **x**: how many times as '
                  'many Knitting does through shared memory.', table(batches, [], 'calls in a batch')]
    parts += [f'{name} was skipped: {why}' for name, why in skipped.items()]
    if any(row['spread_percent'] > NOISY_PERCENT for row in rows):
        parts.append(f'~ the rounds differ by more than {NOISY_PERCENT} %: an order of magnitude. Run again with nothing '
                     'else running.')
    return '\n\n'.join(part if part.startswith('|') else textwrap.fill(part, COLUMNS) for part in parts) + '\n'


def plot(rows):
    rows = [row for row in rows if not row['batch']]
    smallest = min(row['bytes'] for row in rows)
    depths = sorted({row['depth'] for row in rows})
    groups = {}
    for row in rows:
        if row['bytes'] == smallest:
            name = row['name'] + LABELS.get(row['kind'], '')
            groups.setdefault(name, {})[row['depth']] = row['rate']
    order = sorted(groups, key=lambda name: groups[name].get(depths[-1], 0), reverse=True)
    return bars(f'Calls a second: {size_of(smallest)} echoed by one worker, one connection',
                ['one at a time' if depth == 1 else f'{depth} in flight' for depth in depths],
                [(name, [groups[name].get(depth) for depth in depths]) for name in order])


def plot_batches(path, rows):
    """False: there is no gnuplot."""
    curves = {}
    for row in rows:
        if row['batch']:
            curves.setdefault(row['name'], []).append(f'{row["depth"]} {row["rate"]}')
    if plots.gnuplot() is None:
        return False
    if curves:
        plots.draw('batches.gp', path, curves)
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
    with open(args.out + '.md', 'w', encoding='utf-8') as file:
        file.write(text(rows, skipped, args.machine))
    if rows:
        with open(args.out + '.svg', 'w', encoding='utf-8') as file:
            file.write(plot(rows))
        if not plot_batches(args.out + '-batches.svg', rows):
            print('there is no gnuplot: no plot of batches', file=sys.stderr)
    print(text(rows, skipped, args.machine), end='')
    return 0 if rows else 1


if __name__ == '__main__':
    sys.exit(main())
