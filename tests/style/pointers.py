# SPDX-License-Identifier: Apache-2.0
"""Where a pointer is tested without NULL: `!p`, `if (p)`, `p && q`.

Types come from text alone. A name is a pointer when its function declares it with a star; a member, when every structure
that has a member of this name declares it with one. What cannot be known so is left out: nothing is flagged wrongly.
"""

import re

DECLARATION = re.compile(r'\s*(?:(?:const|static|struct|union|enum|unsigned|signed|long|short|register|_Atomic|volatile)\s+)*'
                         r'(?!return\b|case\b|else\b|goto\b|sizeof\b|do\b)[A-Za-z_]\w*(?:\s+const)?\s+((?:\*|\w).*)', re.S)
DECLARATOR = re.compile(r'\s*(\**)(?:(?:const|restrict)\s+)*(\w+)\s*((?:\[[^\]]*\]\s*)*)(?::\s*\d+\s*)?(?:=.*)?', re.S)
FUNCTION_POINTER = re.compile(r'.*?\(\*+(\w+)\)\s*\(', re.S)
STRUCTURE = re.compile(r'\b(?:struct|union)\b[^;{}()=]*\{')
EXPRESSION = r'(\**)([A-Za-z_]\w*)((?:(?:->|\.)\w+|\[[^\[\]]*\])*)(?!\w|\(|\[|\.|->)'
NEGATED = re.compile(r'(?<![\w!])!' + EXPRESSION)
TRUE = re.compile(r'(\bif \(|\bwhile \(|&&\s|\|\|\s|\breturn |[^=!<>]= |[(,;{]\s?)\s*' + EXPRESSION +
                  r'(?=(\)|;|\s+&&|\s+\|\||\s+\?))')


def split(text):
    """At the commas that stand in no brackets."""
    parts, depth = [''], 0
    for c in text:
        depth += (c in '([{') - (c in ')]}')
        if c == ',' and depth == 0:
            parts.append('')
        else:
            parts[-1] += c
    return parts


def declared(text):
    """(name, how many stars and brackets) of each name that a declaration, its semicolon left off, declares."""
    pointer = FUNCTION_POINTER.fullmatch(text[:text.find('(', text.find('(*') + 1) + 1]) if '(*' in text else None
    if pointer:
        return [(pointer[1], 1)]
    match = DECLARATION.fullmatch(text)
    found = []
    for part in split(match[1]) if match else []:
        declarator = DECLARATOR.fullmatch(part)
        if not declarator:
            return []
        found.append((declarator[2], len(declarator[1]) + declarator[3].count('['), bool(declarator[1])))
    return [(name, depth if has_star else 0) for name, depth, has_star in found]


def members(sources):
    """{member: stars and brackets} of members that are pointers wherever they are members."""
    known = {}
    for source in sources:
        for start in STRUCTURE.finditer(source.code):
            end = source.code.find('}', start.end())
            for part in source.code[start.end():end].split(';'):
                for name, depth in declared(part):
                    known.setdefault(name, set()).add(depth)
    return {name: depths.pop() for name, depths in known.items() if len(depths) == 1 and 0 not in depths}


def locals_of(text):
    """The same of the parameters and variables of one function."""
    head, _, body = text.partition('{')
    parts = split(head[head.find('(') + 1:head.rfind(')')])
    parts += re.split(r'[;{}]|\bfor \(', re.sub(r'= \{[^;]*\}(?=;|,)', '', body))
    known = {}
    for part in parts:
        for name, depth in declared(part):
            known.setdefault(name, set()).add(depth)
    return {name: depths.pop() for name, depths in known.items() if len(depths) == 1}


def is_pointer(match, at, variables, fields):
    stars, name, path = match[at], match[at + 1], match[at + 2]
    steps = re.findall(r'(?:->|\.)(\w+)', path)
    brackets = len(re.findall(r'\[', re.split(r'->\w+|\.\w+', path)[-1]))
    depth = fields.get(steps[-1], 0) if steps else variables.get(name, 0)
    return depth > len(stars) + brackets


def tests(source, fields):
    """(begin, end, is negated) of each test of a pointer that does not say NULL; begin is that of its expression."""
    starts = [0]
    for line in source.code.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for function in source.functions:
        begin, end = starts[function.line - 1], starts[function.line - 1 + function.lines]
        variables = locals_of(source.code[begin:end])
        for match in NEGATED.finditer(source.code, begin, end):
            if is_pointer(match, 1, variables, fields):
                yield match.start() + 1, match.end(), True
        for match in TRUE.finditer(source.code, begin, end):
            before, after = match[1].strip(), match[5].strip()
            if after in (')', ';') and before not in ('if (', 'while (', '&&', '||'):
                continue
            if is_pointer(match, 2, variables, fields):
                yield match.start(2), match.end(4), False
