#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes of page.html what page.c writes: page.py PAGE OUTPUT.

The parts between the places where rows go, as C arrays, and the content security policy, which allows the style and the
script of the page by their digests and nothing else.
"""

import base64
import hashlib
import re
import sys

PLACES = ['TASKS', 'LANES', 'CALLERS', 'WAITING', 'CALLS', 'LEFT', 'DAEMON']


def digest(text):
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def only(name, page):
    found = re.findall(f'<{name}>(.*?)</{name}>', page, re.S)
    if len(found) != 1 or page.count(f'<{name}') != 1:
        sys.exit(f'page.html: expected one <{name}>, without attributes')
    return found[0]


def array(name, text):
    """Numbers, since compilers warn of texts of more than 4095 bytes."""
    numbers = [str(byte - 256 if byte > 127 else byte) for byte in text.encode() + b'\0']
    lines = [', '.join(numbers[i:i + 24]) for i in range(0, len(numbers), 24)]
    return f'static const char {name}[] = {{\n    ' + ',\n    '.join(lines) + '};\n'


def main():
    source, output = sys.argv[1:]
    with open(source, encoding='utf-8') as file:
        page = file.read()
    if re.search(r'\s(style|on\w+)=|<(link|img|iframe|form)\b|javascript:', page):
        sys.exit('page.html: the policy would refuse attributes with style or script, and all that is elsewhere')
    parts = re.split('|'.join(f'<!--{place}-->\n' for place in PLACES), page)
    if len(parts) != len(PLACES) + 1 or re.findall('<!--(.*?)-->', page) != PLACES:
        sys.exit('page.html: expected the places ' + ', '.join(PLACES))
    policy = (f"default-src 'none'; style-src {digest(only('style', page))}; script-src {digest(only('script', page))}; "
              "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
    with open(output, 'w', encoding='ascii') as file:
        file.write('/* Made of page.html by page.py. */\n#include "server/admin/page.h"\n\n')
        file.write(f'const char knit_page_policy[] =\n    "{policy}";\n\n')
        for i, part in enumerate(parts):
            file.write(array(f'part_{i}', part))
        file.write('\nconst char *const knit_page_parts[] = {' + ', '.join(f'part_{i}' for i in range(len(parts))) + '};\n')


main()
