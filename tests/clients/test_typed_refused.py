# SPDX-License-Identifier: Apache-2.0
"""What <knitting/typed.h> must not let through: each case is compiled by each compiler there is, and the message must
name the task and the position. What it must let through is compiled too, without a warning, by old standards.

Usage: test_typed_refused.py INCLUDE_DIR
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

DECLARATIONS = '''
#include <knitting/typed.h>
KNIT_TYPED(divide, ((int, a), (int, b)), ((int, quotient), (int, remainder)));
KNIT_TYPED(narrow, ((u8, a), (f32, b), (bool, c)), ((i16, d), (f32, e)));
KNIT_TYPED(mixed, ((str, text), (f64s, numbers), (bin, bytes)), ((str, text), (any, value)));
KNIT_TYPED(perhaps, ((int, a), (str, b, optional), (time, c, optional)), ((int, d, optional)));
KNIT_TYPED(nothing, (), ());
KNIT_TYPED(anything, ((any, a)), ((any, b)));
'''
VARIABLES = '''
struct knit *k; struct knit_error e; struct knit_handle *h; void *p; int n; unsigned long u; int64_t *q; int64_t *r;
double d; float *f; int16_t *s; short *other; struct knit_text text; struct knit_bytes bytes; struct knit_f64s f64s;
struct knit_f32s f32s; struct knit_any any; struct knit_time time_of_day; struct knit_optional_i64 perhaps_i;
struct knit_optional_str perhaps_text; struct knit_optional_bin perhaps_bin; bool flag; long double wide;
'''

# (expression, what the message must have)
REFUSED = [
    ('KNIT_CALL(divide, k, &e, (2.5, 2), (q, r))', 'divide: argument 1 is of a type'),
    ('KNIT_CALL(divide, k, &e, (7, 2.5f), (q, r))', 'divide: argument 2 is of a type'),
    ('KNIT_CALL(divide, k, &e, ("7", 2), (q, r))', 'divide: argument 1 is of a type'),
    ('KNIT_CALL(divide, k, &e, (7, p), (q, r))', 'divide: argument 2 is of a type'),
    ('KNIT_CALL(divide, k, &e, (flag, 2), (q, r))', 'divide: argument 1 is of a type'),
    ('KNIT_CALL(divide, k, &e, (7, KNIT_NONE), (q, r))', 'divide: argument 2 is of a type'),
    ('KNIT_CALL(divide, k, &e, (perhaps_i, 2), (q, r))', 'divide: argument 1 is of a type'),
    ('KNIT_CALL(divide, k, &e, (wide, 2), (q, r))', 'divide: argument 1 is of a type'),
    ('KNIT_CALL(divide, k, &e, (7), (q, r))', 'divide: argument 2 is missing'),
    ('KNIT_CALL(divide, k, &e, (), (q, r))', 'divide: argument 1 is missing'),
    ('KNIT_CALL(divide, k, &e, (7, 2, 3), (q, r))', 'divide: argument 3 is one too many'),
    ('KNIT_CALL(divide, k, &e, (7, 2), (q, &d))', 'divide: result 2 needs a pointer'),
    ('KNIT_CALL(divide, k, &e, (7, 2), (&n, r))', 'divide: result 1 needs a pointer'),
    ('KNIT_CALL(divide, k, &e, (7, 2), (p, r))', 'divide: result 1 needs a pointer'),
    ('KNIT_CALL(divide, k, &e, (7, 2), (q))', 'divide: result 2 is missing'),
    ('KNIT_CALL(divide, k, &e, (7, 2), ())', 'divide: result 1 is missing'),
    ('KNIT_CALL(divide, k, &e, (7, 2), (q, r, q))', 'divide: result 3 is one too many'),
    ('KNIT_CALL(narrow, k, &e, ("x", 1, 1), (s, f))', 'narrow: argument 1 is of a type'),
    ('KNIT_CALL(narrow, k, &e, (1, u, 1), (s, f))', 'narrow: argument 2 is of a type'),
    ('KNIT_CALL(narrow, k, &e, (1, 1, u), (s, f))', 'narrow: argument 3 is of a type'),
    ('KNIT_CALL(narrow, k, &e, (1, 1, 1.0), (s, f))', 'narrow: argument 3 is of a type'),
    ('KNIT_CALL(narrow, k, &e, (1, 1, 1), (q, f))', 'narrow: result 1 needs a pointer'),
    ('KNIT_CALL(narrow, k, &e, (1, 1, 1), (s, &d))', 'narrow: result 2 needs a pointer'),
    ('KNIT_CALL(mixed, k, &e, (1, f64s, bytes), (&text, &any))', 'mixed: argument 1 is of a type'),
    ('KNIT_CALL(mixed, k, &e, (bytes, f64s, bytes), (&text, &any))', 'mixed: argument 1 is of a type'),
    ('KNIT_CALL(mixed, k, &e, ("x", f32s, bytes), (&text, &any))', 'mixed: argument 2 is of a type'),
    ('KNIT_CALL(mixed, k, &e, ("x", f64s, "y"), (&text, &any))', 'mixed: argument 3 is of a type'),
    ('KNIT_CALL(mixed, k, &e, ("x", f64s, bytes), (&bytes, &any))', 'mixed: result 1 needs a pointer'),
    ('KNIT_CALL(mixed, k, &e, ("x", f64s, bytes), (&text, &bytes))', 'mixed: result 2 needs a pointer'),
    ('KNIT_CALL(perhaps, k, &e, (1, 2), (&perhaps_i))', 'perhaps: argument 2 is of a type'),
    ('KNIT_CALL(perhaps, k, &e, (1, perhaps_bin), (&perhaps_i))', 'perhaps: argument 2 is of a type'),
    ('KNIT_CALL(perhaps, k, &e, (), (&perhaps_i))', 'perhaps: argument 1 is missing'),
    ('KNIT_CALL(perhaps, k, &e, (1), (q))', 'perhaps: result 1 needs a pointer'),
    ('KNIT_CALL(nothing, k, &e, (1), ())', 'nothing: argument 1 is one too many'),
    ('KNIT_CALL(nothing, k, &e, (), (q))', 'nothing: result 1 is one too many'),
    ('KNIT_CALL(anything, k, &e, (p), (&any))', 'anything: argument 1 is of a type'),
    ('KNIT_CALL(anything, k, &e, (), (&any))', 'anything: argument 1 is missing'),
    ('KNIT_START(divide, k, &h, &e, (7))', 'divide: argument 2 is missing'),
    ('KNIT_START(divide, k, &h, &e, (7, "2"))', 'divide: argument 2 is of a type'),
    ('KNIT_AWAIT(divide, h, &e, (q))', 'divide: result 2 is missing'),
    ('KNIT_RESULTS(divide, h, &e, (q, &d))', 'divide: result 2 needs a pointer'),
    ('KNIT_THEN(divide, k, &e, (7, 2, 3), NULL, NULL)', 'divide: argument 3 is one too many'),
    ('KNIT_CALL_WITH(divide, k, NULL, &e, (7, d), (q, r))', 'divide: argument 2 is of a type'),
    ('KNIT_START(divide, k, &h, &e, (&h, 2))', 'divide: argument 1 is of a type'),
    ('KNIT_CALL(anything, k, &e, (k), (&any))', 'anything: argument 1 is of a type'),
    ('KNIT_CALL(nothing, k, &e, (h), ())', 'nothing: argument 1 is one too many'),
    ('KNIT_CALL(unknown, k, &e, (1), (q))', 'unknown'),
]
LET_THROUGH = [
    'KNIT_CALL(divide, k, &e, (7, u), (q, KNIT_IGNORE))',
    "KNIT_CALL(divide, k, &e, ('c', (unsigned char)2), (q, r))",
    'KNIT_CALL(narrow, k, &e, (7, 0.5, true), (s, f))',
    'KNIT_CALL(narrow, k, &e, (n, 1, flag), (other, f))',
    'KNIT_CALL(mixed, k, &e, (text, f64s, bytes), (&text, &any))',
    'KNIT_CALL(perhaps, k, &e, (1), (&perhaps_i))',
    'KNIT_CALL(perhaps, k, &e, (1, knit_some("x"), KNIT_NONE), (&perhaps_i))',
    'KNIT_CALL(perhaps, k, &e, (1, perhaps_text, time_of_day), (&perhaps_i))',
    'KNIT_CALL(nothing, k, &e, (), ())',
    'KNIT_CALL(anything, k, &e, (KNIT_NONE), (&any))',
    'KNIT_START(perhaps, k, &h, &e, (1))',
    'KNIT_START(perhaps, k, &h, &e, (h, h, h))',
    'KNIT_CALL(mixed, k, &e, (h, f64s, h), (&text, &any))',
    'KNIT_THEN(anything, k, &e, (h), NULL, NULL)',
    'KNIT_AWAIT(divide, h, &e, (q, r))',
    'KNIT_THEN(nothing, k, &e, (), NULL, NULL)',
]
# Whole functions that are not what their declaration says; (body, what the message must have).
IMPLEMENTED = [
    ('KNIT_IMPLEMENT(nothing)\nstatic int nothing_impl(struct knit_call *call, int64_t a)', 'nothing_impl'),
    ('KNIT_IMPLEMENT(divide)\nstatic int divide_impl(struct knit_call *call, int64_t a, double b, int64_t *q, int64_t *r)',
     'divide_impl'),
    ('KNIT_IMPLEMENT(anything)\nstatic int anything_impl(struct knit_call *call, struct knit_any a)', 'anything_impl'),
]
DECLARED = [
    ('KNIT_TYPED(t, ((integer, a)), ());', 'integer'),
    ('KNIT_TYPED(u, ((int, a, maybe)), ());', 'maybe'),
    ('KNIT_TYPED(v, (' + ', '.join(f'(int, a{i})' for i in range(17)) + '), ());', 'more_than_16'),
]

WARNINGS = ['-Wall', '-Wextra', '-Werror', '-pedantic']
C_STANDARDS = ['-std=c11', '-std=c17', '-std=gnu17']
CPP_STANDARDS = ['-std=c++17', '-std=gnu++20']


class Compiler:
    def __init__(self, name, standards, include, folder):
        self.name, self.standards, self.include, self.folder = name, standards, include, folder
        self.is_cpp = name.endswith('++')
        # Errors stand at the line of the program, all of them.
        self.where = ['-ferror-limit=0'] if 'clang' in name else ['-ftrack-macro-expansion=0', '-fmax-errors=0']

    def run(self, standard, text, *more):
        source = os.path.join(self.folder, 'case.cc' if self.is_cpp else 'case.c')
        with open(source, 'w', encoding='utf-8') as file:
            file.write(text)
        return subprocess.run([self.name, standard, '-c', '-o', os.devnull, '-I' + self.include, *more, source],
                              text=True, capture_output=True)

    def refuse(self, before, lines, after=''):
        """Each line has an error of its own, the first of which says what it must."""
        begin = before.count('\n') + 1
        done = self.run(self.standards[-1], before + ''.join(line + '\n' for line, _ in lines) + after, '-w', *self.where)
        errors = {}
        for number, text in re.findall(r'case\.cc?:(\d+):[\d:]* (?:fatal )?error: (.*)', done.stderr):
            errors.setdefault(int(number), []).append(text)
        for number, (line, message) in enumerate(lines, begin):
            if not any(message in text for text in errors.get(number, [])[:2]):
                yield f'{self.name} says of {line}: {errors.get(number)}, not "{message}"'

    def refuse_whole(self, text, message):
        # A function of C++ with other parameters is another one; that the first is missing is a warning there.
        done = self.run(self.standards[-1], text, *(['-Werror'] if self.is_cpp else ['-w']))
        if done.returncode == 0 or not re.search(rf'error.*{message}', done.stderr):
            yield f'{self.name} says of {text.splitlines()[-3:]}: {done.stderr[:500]}, not "{message}"'

    def accept(self, standard, text):
        done = self.run(standard, text, *WARNINGS, *(['-Wno-missing-field-initializers'] if self.is_cpp else []))
        if done.returncode != 0:
            yield f'{self.name} {standard} refuses what fits: {done.stderr[:2000]}'


def check(compiler):
    calls = [(f'int r{i}(void) {{ return {expression}; }}', message)
             for i, (expression, message) in enumerate(REFUSED)]
    yield from compiler.refuse(DECLARATIONS + VARIABLES, calls)
    yield from compiler.refuse('#include <knitting/typed.h>\n', DECLARED)
    for head, message in IMPLEMENTED:
        yield from compiler.refuse_whole(f'{DECLARATIONS}KNIT_MODULE("1");\n{head}\n{{ return 0; }}\n', message)
    whole = DECLARATIONS + VARIABLES + ''.join(
        f'int let_{i}(void);\nint let_{i}(void) {{ return {expression}; }}\n' for i, expression in enumerate(LET_THROUGH))
    for standard in compiler.standards:
        yield from compiler.accept(standard, whole)


def main():
    include = sys.argv[1]
    found, failures = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, standards in (('gcc', C_STANDARDS), ('clang', C_STANDARDS), ('g++', CPP_STANDARDS),
                                ('clang++', CPP_STANDARDS)):
            if shutil.which(name):
                found.append(name)
                failures += check(Compiler(name, standards, include, folder))
    for text in failures:
        print(text)
    print(f'{len(REFUSED) + len(DECLARED) + len(IMPLEMENTED)} cases refused by {", ".join(found)}')
    return 1 if failures or not found else 0


sys.exit(main())
