# SPDX-License-Identifier: Apache-2.0
"""The files of the project, as the rules see them.

A rule looks at a `Tree`: paths relative to the root and their text. For C it can ask for the code alone, with comments,
strings and preprocessor lines blanked out in place, so that line numbers stay true, and for the functions in it. A real
parser is not needed: the code is laid out by clang-format, and what a rule misreads shows in its self-test.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from functools import cached_property

# A comment, a string or a character, whichever begins first.
TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
DIRECTIVE = re.compile(r'^[ \t]*#(?:[^\n\\]|\\.|\\\n)*', re.M | re.S)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def blank(text):
    """The same text with everything but its line ends replaced by spaces."""
    return re.sub(r'[^\n]', ' ', text)


@dataclass
class Function:
    name: str
    line: int
    lines: int
    parameters: int


class Source:
    """One file."""

    def __init__(self, path, text):
        self.path = path
        self.text = text

    @property
    def folder(self):
        return self.path.split('/')[0] if '/' in self.path else ''

    @property
    def name(self):
        return os.path.basename(self.path)

    @property
    def is_c(self):
        return self.path.endswith(('.c', '.h'))

    @cached_property
    def lines(self):
        return self.text.splitlines()

    def line_of(self, offset):
        return self.text.count('\n', 0, offset) + 1

    @cached_property
    def uncommented(self):
        """C without comments; strings stay."""
        return TOKEN.sub(lambda m: blank(m[0]) if m[0].startswith('/') else m[0], self.text)

    @cached_property
    def code(self):
        """C without comments, without what strings hold; macros stay."""
        def keep_quotes(match):
            inner = match[0]
            return blank(inner) if inner[0] == '/' else inner[0] + blank(inner[1:-1]) + inner[-1]
        return TOKEN.sub(keep_quotes, self.text)

    @cached_property
    def includes(self):
        """(line, '<' or '"', path) of each include."""
        return [(self.line_of(m.start()), m[1], m[2]) for m in INCLUDE.finditer(self.uncommented)]

    @cached_property
    def functions(self):
        text = DIRECTIVE.sub(lambda m: blank(m[0]), self.code)
        text = re.sub(r'extern\s*"\s*"\s*\{', lambda m: blank(m[0]), text)
        return list(find_functions(text))


def find_functions(text):
    """A function is a brace at depth 0 that follows a closing parenthesis; `struct x {` and `= {` do not."""
    depth = 0
    begin = 0  # where the declaration that stands before the next brace begins
    function = None
    for match in re.finditer(r'[{};]', text):
        at = match.start()
        if match[0] == '{':
            if depth == 0:
                head = text[begin:at]
                if head.rstrip().endswith(')') and '=' not in re.sub(r'\([^()]*\)', '', head):
                    function = describe(text, begin + len(head) - len(head.lstrip()), at)
            depth += 1
        elif match[0] == '}':
            depth = max(0, depth - 1)
            if depth == 0:
                if function:
                    function.lines = text.count('\n', 0, at) + 2 - function.line
                    yield function
                function = None
                begin = at + 1
        elif depth == 0:
            begin = at + 1


def describe(text, begin, end):
    head = text[begin:end]
    name = re.search(r'(\w+)\s*\(', head)
    inside = head[name.end():head.rindex(')')] if name else ''
    flat = inside
    while re.search(r'\([^()]*\)', flat):
        flat = re.sub(r'\([^()]*\)', '', flat)
    # Places for results are not counted: what has many results would otherwise hide them in a structure.
    given = [p for p in flat.split(',') if p.strip() not in ('', 'void') and not re.search(r'\bret_\w+', p)]
    return Function(name[1] if name else '?', text.count('\n', 0, begin) + 1, 0, len(given))


class Tree:
    """The files of a source tree; for self-tests, a dictionary of path to text."""

    def __init__(self, files, build=None):
        self.sources = [Source(path, text) for path, text in sorted(files.items())]
        self.by_path = {source.path: source for source in self.sources}
        self.build = build  # what the build knows of tests, see registered()

    def c(self):
        return [source for source in self.sources if source.is_c]

    def named(self, *suffixes):
        return [source for source in self.sources if source.path.endswith(suffixes)]


def read_tree(root, build=None):
    """What git knows, staged files included; without git, every file that is no build's."""
    try:
        listed = subprocess.run(['git', '-C', root, 'ls-files', '-z'], check=True,
                                capture_output=True, text=True).stdout
        paths = [path for path in listed.split('\0') if path]
    except (OSError, subprocess.CalledProcessError):
        paths = [path for path in walk(root)]
    files = {}
    for path in paths:
        try:
            with open(os.path.join(root, path), encoding='utf-8') as file:
                files[path] = file.read()
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue  # binary, or removed and not yet committed
    return Tree(files, build)


def walk(root):
    for parent, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f != '.git' and
                      not os.path.exists(os.path.join(parent, f, 'meson-info'))]
        for name in names:
            yield os.path.relpath(os.path.join(parent, name), root)
