# SPDX-License-Identifier: Apache-2.0
"""Bars on a logarithmic scale as SVG, written by hand: a plot of some rectangles is not worth another program, which few
machines have, and SVG that is text can be compared with what it was before."""

import math
from xml.sax.saxutils import escape

WIDTH, NAMES, RIGHT = 800, 170, 70  # of the picture, of the names left of the bars, of the figures right of them
TOP, BAR, GAP = 56, 11, 9           # above the bars, a bar, between two groups
COLOURS = ('#9db7d5', '#1f4e8c', '#3d8c40')


def text(x, y, words, anchor='start', size=12):
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}">{escape(words)}</text>'


def rectangle(x, y, width, height, colour):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def scale(values):
    """From a value to pixels, and the powers of ten among them."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    room = WIDTH - NAMES - RIGHT
    return (lambda value: room * (math.log10(value) - low) / max(1, high - low)), range(low, high + 1)


def bars(title, series, groups):
    """A group of bars for each (name, values), a colour for each of the series; None is a bar that is not there."""
    length, powers = scale([value for _, values in groups for value in values if value])
    height = TOP + len(groups) * (len(series) * BAR + GAP) + 24
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif">',
             rectangle(0, 0, WIDTH, height, 'white'), text(WIDTH / 2, 20, title, 'middle', 15)]
    for index, name in enumerate(series):
        lines += [rectangle(NAMES + index * 140, 32, BAR, BAR, COLOURS[index]), text(NAMES + index * 140 + 16, 42, name)]
    for power in powers:
        x = NAMES + length(10 ** power)
        lines += [f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - 20}" stroke="#dddddd"/>',
                  text(x, height - 6, f'{10 ** power:,}', 'middle', 10)]
    y = TOP
    for name, values in groups:
        lines.append(text(NAMES - 8, y + len(series) * BAR / 2 + 4, name, 'end'))
        for index, value in enumerate(values):
            if value:
                lines += [rectangle(NAMES, y, length(value), BAR - 1, COLOURS[index]),
                          text(NAMES + length(value) + 4, y + BAR - 2, f'{value:,.0f}', size=10)]
            y += BAR
        y += GAP
    return '\n'.join(lines) + '\n</svg>\n'
