# SPDX-License-Identifier: Apache-2.0
"""Finds the examples in installed headers, READMEs and man pages, and makes whole programs of those in C.

Where an example stands:
- in a header, the lines of a comment that are indented by four spaces more than its text;
- in a README, what stands between ``` fences, by the language behind the fence, and blocks indented by four spaces (shell);
- in a man page, what stands between ``` lines.

What is no example: indented lines of a header in which no line ends as C does (tables), and fences of other languages
than sh, c, ini, policy and vim.

What is made of C:
- a block with KNIT_MODULE is a module as it is;
- a block with main() is a program as it is;
- a block that takes arguments (knit_arg_...) is the body of a task, example(options: map) -> any;
- all others are the body of main(). Includes go to the top, with <knitting/knitting.h> and <stdio.h>.

A tutorial, in deploy/doc, is one session from its beginning to its end: a fence with a language and a name is a file, one of
language console has commands behind "$ ", each followed by what it prints. It has no other fences.
"""

import os
import re
from dataclasses import dataclass

LANGUAGES = ('sh', 'c', 'ini', 'policy', 'vim')
MODULE, PROGRAM = 'module', 'program'


@dataclass
class Example:
    path: str
    line: int
    language: str
    text: str

    @property
    def name(self):
        return f'{self.path}:{self.line}'

    @property
    def head(self):
        """What it is known by where it is excepted: its first line."""
        return self.text.splitlines()[0].strip()


@dataclass
class Step:
    """Of a tutorial: a file to write, or a command to run and what it prints."""
    line: int
    name: str  # of the file; '': it is a command
    text: str
    output: str = ''


# Followed by a test of its own, which boots a system for it.
ELSEWHERE = {'deploy/doc/DEBIAN.md': 'test_packages.py', 'deploy/doc/SYSTEMD.md': 'test_units.py'}


def is_tutorial(path):
    return bool(re.fullmatch(r'deploy/doc/.*\.md', path)) and path not in ELSEWHERE


def steps(text):
    found = []
    for match in re.finditer(r'^```([^\n]*)\n(.*?)^```$', text, re.M | re.S):
        line = text.count('\n', 0, match.start()) + 2
        language, _, name = match[1].partition(' ')
        if name:
            found.append(Step(line, name, match[2]))
        elif language == 'console':
            for at, part in enumerate(match[2].splitlines(keepends=True), line):
                if part.startswith('$ '):
                    found.append(Step(at, '', part[2:].rstrip('\n')))
                else:
                    found[-1].output += part
        else:
            raise ValueError(f'line {line}: a fence of a tutorial is a file with its name, or a console')
    return found


def is_example_file(path):
    return bool(re.fullmatch(r'clients/include/.*\.h|(?:.*/)?README\.md|deploy/man/.*\.scd', path))


def examples(path, text):
    if path.endswith('.h'):
        return [example for example in indented(path, text, r' \* ', ' *') if example.language]
    if path.endswith('.md'):
        return fenced(path, text) + indented(path, without_fences(text), '', '')
    return fenced(path, text.replace('\\\\', '\\'))


def language_of(text):
    if re.search(r'^#include|[;{}]$', text, re.M):
        return 'c'
    if re.search(r'^\[\w+\]$', text, re.M):
        return 'ini'
    if re.search(r'^\[(group|principal) .*\]$', text, re.M):
        return 'policy'
    return 'sh'


def fenced(path, text):
    found = []
    for match in re.finditer(r'^```(\w*)\n(.*?)^```$', text, re.M | re.S):
        language = match[1] or language_of(match[2])
        if language in LANGUAGES:
            found.append(Example(path, text.count('\n', 0, match.start()) + 2, language, match[2]))
    return found


def without_fences(text):
    """What is in a fence, and what goes on an item of a list, is no indented block."""
    text = re.sub(r'^```.*?^```$', lambda m: re.sub(r'[^\n]+', '.', m[0]), text, flags=re.M | re.S)
    return re.sub(r'(?<=\S\n)(?:    .*\n)+', lambda m: re.sub(r'[^\n]+', '.', m[0]), text)


def indented(path, text, margin, blank):
    found, block, begin = [], [], 0
    for number, line in enumerate(text.splitlines() + ['.'], 1):
        match = re.fullmatch(margin + r'    (.*\S.*)', line)
        if match:
            begin = begin or number
            block.append(match[1])
        elif block and line.rstrip() == blank:
            block.append('')
        elif block:
            body = '\n'.join(block).rstrip() + '\n'
            language = language_of(body)
            if not margin or language == 'c':
                found.append(Example(path, begin, language, body))
            block, begin = [], 0
    return found


def whole(text):
    """(MODULE or PROGRAM, a whole file of C)."""
    if 'KNIT_MODULE' in text:
        return MODULE, text
    if re.search(r'\bint main\(', text):
        return PROGRAM, text
    includes = re.findall(r'^#include.*\n', text, re.M)
    body = re.sub(r'^#include.*\n', '', text, flags=re.M)
    if 'knit_arg_' in text:
        return MODULE, ('#include <knitting/task.h>\n#include <knitting/values.h>\n' + ''.join(includes) +
                        'KNIT_MODULE("1.0");\nKNIT_TASK(example, "example(options: map) -> any")\n{\n' + body + '}\n')
    if 'knit_pool_' in text:
        includes.append('#include <knitting/pool.h>\n')
    return PROGRAM, ('#include <stdio.h>\n#include <knitting/knitting.h>\n' + ''.join(includes) +
                     'int main(void)\n{\n' + body + 'return 0;\n}\n')


def source_files(root):
    """Paths, relative to the root, that are in no build folder."""
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != '.git' and
                      not os.path.exists(os.path.join(parent, name, 'meson-info'))]
        for name in names:
            yield os.path.relpath(os.path.join(parent, name), root)


def text_of(root, path):
    with open(os.path.join(root, path), encoding='utf-8') as file:
        return file.read()


def all_examples(root):
    found = []
    for path in filter(is_example_file, source_files(root)):
        found += examples(path, text_of(root, path))
    return sorted(found, key=lambda example: (example.path, example.line))


def all_tutorials(root):
    """The steps of each, by its path."""
    return {path: steps(text_of(root, path)) for path in sorted(filter(is_tutorial, source_files(root)))}
