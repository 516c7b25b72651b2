#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The functions that the installed headers have for programs, and whether a reader is told there what a caller must know.

    tests/style/reference.py [ROOT]     prints each: header, kind, name, and what is not said of it

A function is public if it stands in an installed header, unless the head of that header says that nothing there is for
programs, or which header programs use. A comment that begins with "Not for programs" or "For programs" decides for the
function under it.

Each has a comment right above it, or above the first of some that follow each other without a blank line. Of those that
the library exports it answers what they return (but for the code of an error, which all return that have `ret_error`),
how they fail, if they do, and whether they block; the comment of its section may do that, or "As knit_...()" and "The
same". Which thread may call is said in the head of the header, as is for inline functions, of which none is long, whether
they block.
"""

import os
import re
import sys
from dataclasses import dataclass, field

from source import DIRECTIVE, TOKEN, blank, read_tree

HEADERS = 'clients/include/knitting/'
INTERNAL = re.compile(r'Programs use (?:<|those)|Nothing here is for programs')
DECLARATION = re.compile(r'^(?P<before>(?:[A-Za-z_][\w*\s]*?[\s*]))(?P<name>knit_\w+)\((?P<parameters>[^;{}]*)\)\s*(?P<end>;|\{)', re.M)
SECTION = re.compile(r'/\* ---- ')

FAILS = re.compile(r'\bfails?\b', re.I)
BLOCKS = re.compile(r'\b(?:blocks?|waits?|waiting)\b|\basks nobody\b', re.I)
RETURNS = re.compile(r'\b(?:returns?|true|false|whether|how many)\b', re.I)
ELSEWHERE = re.compile(r'\b[Aa]s (knit_\w+)\(\)|^The same\b')
THREADS = re.compile(r'\bThreads:|whose rules hold here')


@dataclass
class Function:
    path: str
    line: int
    name: str
    is_inline: bool
    is_void: bool
    has_error: bool
    comment: str
    section: str
    flaws: list = field(default_factory=list)


def prose(comment):
    return ' '.join(re.sub(r'^[ \t]*(?:/\*|\*/?)|\*/', ' ', comment, flags=re.M).split())


def head_of(source):
    """The comment below the licence."""
    comments = [m[0] for m in TOKEN.finditer(source.text) if m[0].startswith('/*')]
    return prose(comments[1]) if len(comments) > 1 else ''


def functions(source):
    """Those of a header, with what is said of each, whether they are public or not."""
    code = DIRECTIVE.sub(lambda m: blank(m[0]), source.code)
    comments = [(m.start(), m.end(), m[0]) for m in TOKEN.finditer(source.text) if m[0].startswith('/*')]
    last_end, last_comment = 0, ''
    for match in DECLARATION.finditer(code):
        at = match.start()
        above = [c for c in comments if c[1] <= at]
        between = code[above[-1][1]:at] if above else code[:at]
        if above and between.strip() == '' and between.count('\n') <= 1:
            comment = prose(above[-1][2])
        elif last_end and code[last_end:at].strip() == '' and code[last_end:at].count('\n') <= 1:
            comment = last_comment
        else:
            comment = ''
        sections = [prose(c[2]) for c in above if SECTION.match(c[2])]
        last_end, last_comment = match.end(), comment
        before = match['before']
        yield Function(source.path, source.line_of(match.start('name')), match['name'], 'inline' in before,
                       bool(re.search(r'\bvoid\s*$', before)), 'ret_error' in match['parameters'], comment,
                       sections[-1] if sections else '')


def flaws_of(function, head):
    if not function.comment:
        yield 'has no comment'
    if not THREADS.search(head):
        yield 'is in a header whose head does not say which threads may call ("Threads:")'
    if function.is_inline:
        if not BLOCKS.search(head + function.comment):
            yield 'is in a header whose head does not say whether its functions block'
        return
    said = f'{function.section} {function.comment}'
    if ELSEWHERE.search(function.comment):
        return
    if not function.is_void and not function.has_error and not RETURNS.search(said):
        yield 'does not say what it returns'
    if function.has_error and not FAILS.search(said):
        yield 'does not say how it fails'
    if not BLOCKS.search(said):
        yield 'does not say whether it blocks'


def public(tree):
    """Each public function, with its flaws."""
    found = []
    for source in tree.named('.h'):
        if not source.path.startswith(HEADERS):
            continue
        head = head_of(source)
        for function in functions(source):
            is_public = not INTERNAL.search(head)
            if function.comment.startswith(('Not for programs', 'For programs')):
                is_public = function.comment.startswith('For')
            if is_public:
                function.flaws = list(flaws_of(function, head))
                found.append(function)
    names = {function.name for function in found}
    for function in found:
        for name in filter(None, ELSEWHERE.findall(function.comment)):
            if name not in names:
                function.flaws.append(f'is as {name}(), which is not public')
    return found


# Structures of options, each of whose members a manual page explains.
OPTIONS = ('knit_call_options', 'knit_open_options', 'knit_pool_options', 'knit_retry_options', 'knit_spread_options')


def options(tree):
    """(source, line, structure, member) of each option."""
    for source in tree.named('.h'):
        if not source.path.startswith(HEADERS):
            continue
        for match in re.finditer(r'^struct (\w+) \{(.*?)^\};', source.code, re.M | re.S):
            for member in re.finditer(r'(?:\b(\w+)|\(\*(\w+)\)\([^;]*\))(?:\[\w+\])?;', match[2]):
                name = member[1] or member[2]
                if match[1] in OPTIONS and name != 'reserved':
                    yield source, source.line_of(match.start(2) + member.start()), match[1], name


def emphasised_in(text):
    """What a manual page has between underscores, with those of its own."""
    return {word.replace('-', '_') for word in re.findall(r'(?<!\w)_([A-Za-z][\w-]*?)_(?!\w)', text.replace('\\_', '-'))}


def named_in(text):
    """(name, offset) of each function that a manual page names."""
    return [(match[1].replace('\\', ''), match.start()) for match in re.finditer(r'\*(knit(?:_|\\_)[\w\\]+)\*\(\)', text)]


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), '../..')
    found = public(read_tree(root))
    for function in found:
        kind = 'inline' if function.is_inline else 'library'
        print(f'{os.path.basename(function.path):18} {kind:8} {function.name:30} {"; ".join(function.flaws)}')
    print(f'{len(found)} functions, {sum(bool(function.flaws) for function in found)} with flaws')
    return 1 if any(function.flaws for function in found) else 0


if __name__ == '__main__':
    sys.exit(main())
