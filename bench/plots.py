#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws with gnuplot: compare.py's batches, and the output of knit-bench --percentiles --format=json: latency by percentile of single calls, and throughput by the
calls in flight on one connection. One line for each path."""

import json
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PERCENTILES = ('50', '90', '99', '99.9', '99.99')


def gnuplot():
    """The program, or None."""
    return shutil.which(os.environ.get('GNUPLOT', 'gnuplot'))


def draw(program, path, blocks):
    """Blocks of lines, one for each curve, as data for the gnuplot program of that name."""
    text = '\n'.join(f'$curve{i} << END\n' + '\n'.join(lines) + '\nEND' for i, lines in enumerate(blocks.values(), 1))
    text += f'\nnames = "{" ".join(blocks)}"\nload "{HERE}/{program}"\n'
    libraries = os.environ.get('GNUPLOT_LIBRARIES', os.environ.get('LD_LIBRARY_PATH', ''))
    subprocess.run([gnuplot(), '-e', f'svg = "{path}"', '-'], input=text, encoding='utf-8', check=True,
                   env=dict(os.environ, LD_LIBRARY_PATH=libraries))


def main():
    if len(sys.argv) != 3:
        sys.exit('usage: plots.py CALLS.JSON FOLDER')
    if gnuplot() is None:
        sys.exit('there is no gnuplot')
    with open(sys.argv[1], encoding='utf-8') as file:
        rows = json.load(file)['rows']
    latency, depth = {}, {}
    for row in rows:
        in_flight = row['conns x depth'].split('x')[1]
        depth.setdefault(row['path'], []).append(f'{in_flight} {row["calls/s"]}')
        if in_flight == '1':
            # 1 / (1 - share): each nine takes the same room.
            latency[row['path']] = [f'{100 / (100 - float(p)):.6g} {row[f"p{p}_us"]}' for p in PERCENTILES]
    draw('latency.gp', os.path.join(sys.argv[2], 'latency.svg'), latency)
    draw('depth.gp', os.path.join(sys.argv[2], 'depth.svg'), depth)
    return 0


if __name__ == '__main__':
    sys.exit(main())
