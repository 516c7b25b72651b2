# SPDX-License-Identifier: Apache-2.0
"""The house rules that a program can check. CONTRIBUTING.md says them in words, and why.

Each rule is a function from a tree to findings `(path, line, text)`. samples.py holds for each rule something it must
flag and something it must let pass; check.py refuses a rule that has none.
"""

import json
import os
import re

import pointers
import reference

RULES = {}


def rule(function):
    RULES[function.__name__.replace('_', '-')] = function
    return function


# ---- Who may know whom -----------------------------------------------------------------------------------------------

# A folder may include itself and these. The installed headers and config.h are open to all.
MAY_INCLUDE = {
    'proto': set(),
    'fastpath': {'proto'},
    'clients': {'proto', 'fastpath'},
    'server': {'proto', 'fastpath'},
    'bench': {'proto', 'fastpath', 'clients', 'server', 'tests'},
    'tests': {'proto', 'fastpath', 'clients', 'server', 'bench'},
}

# The rooms of a folder that has them, each with those it may include besides itself.
ROOMS = {
    'fastpath/lane': set(),
    'fastpath/confine': set(),
    'fastpath/control': {'fastpath/lane', 'fastpath/confine'},
    'fastpath/worker': {'fastpath/control', 'fastpath/lane', 'fastpath/confine'},
    'fastpath/host': {'fastpath/control', 'fastpath/lane', 'fastpath/confine'},
    'server/base': set(),
    'server/config': {'server/base'},
    'server/policy': {'server/config', 'server/base'},
    'server/admin': {'server/base'},
    'server/report': {'server/admin', 'server/config', 'server/base'},
    'server/rpc': {'server/report', 'server/admin', 'server/policy', 'server/config', 'server/base'},
    'server/tls': {'server/policy', 'server/config', 'server/base'},
    'server/net': {'server/tls', 'server/rpc', 'server/policy', 'server/config', 'server/base'},
    'server/daemon': {'server/net', 'server/tls', 'server/rpc', 'server/admin', 'server/policy', 'server/config',
                      'server/base', 'server/report'},
    'clients/include/knitting': set(),
    'clients/lib': set(),
    'clients/tool': set(),
    'clients/examples': set(),
}

# Folders whose files stand in layers, the lowest first. A file (its name without .c or .h) may include its own header, and
# of the folder only files of the layers below its own.
LAYERS = {
    'clients/lib': [
        {'chance', 'error', 'handle_flags', 'poll_fd', 'pool_debug', 'pool_options', 'shape', 'transport', 'url'},
        {'args', 'lanes', 'resolve', 'retry', 'stream', 'tls_peer', 'token', 'transport_plain', 'watcher'},
        {'connect', 'endpoints', 'late', 'lost', 'members', 'prepared', 'promise', 'question', 'tls'},
        {'handle', 'link', 'tls_none', 'transport_tls'},
        {'choose', 'handle_inline', 'handle_late', 'handle_lost', 'handle_set'},
        {'client', 'handle_promise', 'handle_retry', 'handle_shelve'},
        {'admin_calls'},
        {'typed'},
        {'forks', 'outcome', 'set', 'spread', 'start'},
        {'call'},
        {'call_args'},
        {'attach', 'notifier'},
        {'pool', 'reconnect'},
        {'open'},
        {'pool_session'},
    ],
}

# Libraries, and the folders that may see them. Tests, benches and examples may see all of them.
THIRD_PARTY = [
    (r'event2/.*|event\.h|evutil\.h', {'server'}),
    (r'msgpack(\.h|/.*)', {'proto'}),
    (r'json-c/.*', {'clients'}),
    (r'openssl/.*', {'clients', 'server'}),
    (r'cmocka\.h', set()),
    (r'seccomp\.h', {'fastpath'}),
    (r'zmq\.h|nats/.*|nng/.*|hiredis/.*|libgearman/.*', set()),  # peers of bench/
]
EXEMPT = re.compile(r'(tests|bench|clients/examples)/')

EXAMPLE = re.compile(r'clients/examples/')

# Of C++, for the installed headers that have a part of their own for it.
SYSTEM_CPP = re.compile(r'cxxabi\.h|exception|string_view|type_traits')

SYSTEM = re.compile(r'''(
    assert|complex|ctype|errno|fenv|float|inttypes|iso646|limits|locale|math|setjmp|signal|stdalign|stdarg|stdatomic|
    stdbool|stddef|stdint|stdio|stdio_ext|stdlib|stdnoreturn|string|strings|tgmath|threads|time|uchar|wchar|wctype|
    dirent|dlfcn|elf|endian|byteswap|execinfo|fcntl|ftw|getopt|glob|grp|libgen|link|malloc|netdb|paths|poll|pthread|pwd|
    sched|semaphore|spawn|sysexits|syslog|termios|ucontext|unistd|utmp|immintrin|x86intrin|cpuid|
    (sys|linux|net|netinet|arpa|asm|sanitizer|valgrind)/[\w/-]+
)\.h''', re.X)


@rule
def dependency(tree):
    """Folders know each other in one direction."""
    for source in tree.c():
        if source.folder not in MAY_INCLUDE:
            continue
        installed = source.path.startswith('clients/include/')
        example = EXAMPLE.match(source.path)
        for line, quote, path in source.includes:
            if path.startswith('knitting/'):
                if quote != '<':
                    yield source.path, line, f'"{path}": installed headers are included as <{path}>'
            elif quote == '"':
                target = path.split('/')[0] if '/' in path else ''
                if example and target == '':
                    continue  # beside it, so that both can be copied out of the tree
                if target == '' and path != 'config.h':
                    yield source.path, line, f'"{path}": paths begin at the root, as in "proto/scan.h"'
                elif installed:
                    yield source.path, line, f'"{path}": installed headers include only <knitting/...>'
                elif example and target != 'clients':
                    yield source.path, line, f'"{path}": examples use what is installed, nothing else'
                elif target not in MAY_INCLUDE[source.folder] | {source.folder, ''}:
                    yield source.path, line, f'"{path}": {source.folder}/ may not know {target}/'


@rule
def room(tree):
    """Inside a folder its rooms know each other in one direction, and each file stands in one of them."""
    folders = {path.split('/')[0] for path in ROOMS}
    for source in tree.c():
        here = os.path.dirname(source.path)
        if source.folder not in folders:
            continue
        if here not in ROOMS:
            yield source.path, 1, f'{here}/ is no room that tests/style/rules.py names'
            continue
        for line, quote, path in source.includes:
            there = os.path.dirname(path)
            if quote == '"' and path.split('/')[0] == source.folder and there not in ROOMS[here] | {here}:
                yield source.path, line, f'"{path}": {here}/ may not know {there}/'


@rule
def layer(tree):
    """Inside a folder with layers an include leads down."""
    for source in tree.c():
        here, name = os.path.split(source.path)
        if here not in LAYERS:
            continue
        stands_in = {stem: number for number, stems in enumerate(LAYERS[here]) for stem in stems}
        stem = name[:-2]
        if stem not in stands_in:
            yield source.path, 1, f'{stem} stands in no layer that tests/style/rules.py names for {here}/'
            continue
        for line, quote, path in source.includes:
            there, target = os.path.dirname(path), os.path.basename(path)[:-2]
            if quote == '"' and there == here and target != stem and stands_in.get(target, 0) >= stands_in[stem]:
                yield source.path, line, f'"{path}": {target} does not stand below {stem}'


@rule
def third_party(tree):
    """A library is seen in the folder that wraps it, so that it can be replaced there."""
    for source in tree.c():
        for line, quote, path in source.includes:
            if quote != '<' or path.startswith('knitting/'):
                continue
            seen_in = next((folders for pattern, folders in THIRD_PARTY
                            if re.fullmatch(pattern, path)), None)
            if seen_in is None:
                if not SYSTEM.fullmatch(path) and not SYSTEM_CPP.fullmatch(path):
                    yield source.path, line, (f'<{path}>: neither a header of the system nor a library that '
                                              'tests/style/rules.py names')
            elif not EXEMPT.match(source.path) and source.folder not in seen_in:
                yield source.path, line, f'<{path}>: not to be seen in {source.folder}/'
            elif source.path.startswith('clients/include/'):
                yield source.path, line, f'<{path}>: installed headers need no library'


@rule
def own_header_first(tree):
    """The first include of x.c is x.h, which proves that the header stands alone."""
    for source in tree.c():
        own = source.path[:-2] + '.h'
        if source.path.endswith('.c') and own in tree.by_path and source.includes:
            line, _, path = source.includes[0]
            if path not in (own, os.path.basename(own) if EXAMPLE.match(source.path) else own):
                yield source.path, line, f'"{own}" comes first'


# ---- Sizes -----------------------------------------------------------------------------------------------------------

FILE_LINES = {'.c': 700, '.h': 300}
TEST_FILE_LINES = {'.c': 800, '.h': 300}
FUNCTION_LINES = 70
PARAMETERS = 6
COLUMNS = 100


def sizes(tree):
    """(key, actual, limit, path, line, text); what is over its limit must stand in exceptions.txt."""
    for source in tree.c():
        path, count = source.path, len(source.lines)
        limits = TEST_FILE_LINES if path.startswith('tests/') else FILE_LINES
        yield f'file {path}', count, limits[path[-2:]], path, 1, f'{count} lines'
        widest, at = max(((len(text), n) for n, text in enumerate(source.lines, 1)), default=(0, 1))
        yield f'columns {path}', widest, COLUMNS, path, at, f'{widest} columns'
        for function in source.functions:
            yield (f'function {path}:{function.name}', function.lines, FUNCTION_LINES, path, function.line,
                   f'{function.name}: {function.lines} lines')
            yield (f'parameters {path}:{function.name}', function.parameters, PARAMETERS, path,
                   function.line, f'{function.name}: {function.parameters} parameters')


@rule
def size(tree):
    """Files, functions and lines stay small; an exception can shrink, and goes when it is not needed."""
    where = 'tests/style/exceptions.txt'
    allowed = {}
    if where in tree.by_path:
        for number, line in enumerate(tree.by_path[where].lines, 1):
            if line.strip() and not line.startswith('#'):
                key, _, value = line.rpartition(' ')
                allowed[key] = (int(value), number)
    for key, actual, limit, path, line, text in sizes(tree):
        exception, number = allowed.pop(key, (None, 0))
        if exception is None:
            if actual > limit:
                yield path, line, f'{text}, limit {limit}'
        elif actual <= limit:
            yield where, number, f'"{key}" is within its limit now: remove the line'
        elif actual < exception:
            yield where, number, f'"{key}" has shrunk: lower {exception} to {actual}'
        elif actual > exception:
            yield path, line, f'{text}, its exception allows {exception}'
    for key, (_, number) in allowed.items():
        yield where, number, f'"{key}" does not exist: remove the line'


# ---- What a file begins with -----------------------------------------------------------------------------------------

SPDX = 'SPDX-License-Identifier: Apache-2.0'
SLASH_COMMENTS = ('.c', '.h', '.pml')
HASH_COMMENTS = ('.py', '.sh', 'meson.build', 'meson_options.txt', '.ci/run', '.service', '.ini', '.map')


@rule
def spdx(tree):
    """The first line says the licence (after #! in scripts)."""
    for source in tree.sources:
        lines = source.lines
        if source.path.endswith(SLASH_COMMENTS) and lines[:1] != [f'/* {SPDX} */']:
            yield source.path, 1, f'the first line is not "/* {SPDX} */"'
        elif source.path.endswith(HASH_COMMENTS):
            first = lines[1:2] if lines and lines[0].startswith('#!') else lines[:1]
            if first != [f'# {SPDX}']:
                yield source.path, 1, f'does not begin with "# {SPDX}"'


@rule
def head_comment(tree):
    """A C file says what it is before it is it."""
    for source in tree.c():
        head = re.match(r'[^\n]*\n\s*/\*(.*?)\*/', source.text, re.S)
        if not head or len(re.sub(r'[\s*]+', ' ', head[1]).strip()) < 30:
            yield source.path, 2, 'no head comment that says how it works and why so'


@rule
def pragma_once(tree):
    """Headers are guarded, all in the same way."""
    for source in tree.named('.h'):
        if not re.search(r'^#pragma once$', source.text, re.M):
            yield source.path, 1, 'no #pragma once'


# ---- What is not called ----------------------------------------------------------------------------------------------

BANNED = {
    'sprintf': 'snprintf', 'vsprintf': 'vsnprintf', 'strcpy': 'memcpy with a checked length',
    'strcat': 'memcpy with a checked length', 'strncpy': 'memcpy with a checked length',
    'strncat': 'memcpy with a checked length', 'stpcpy': 'memcpy with a checked length',
    'atoi': 'strtol with end and range checked', 'atol': 'strtol with end and range checked',
    'atoll': 'strtoll with end and range checked', 'atof': 'strtod with end checked',
    'strtok': 'strcspn, or strtok_r', 'gets': 'fgets', 'mktemp': 'mkstemp', 'tmpnam': 'mkstemp',
    'alloca': 'a bound and an array',
}


def calls(source, names):
    # Not a member (`api->signal(...)`) and not a declaration's own name after a type.
    for match in re.finditer(r'(?<![\w.>])(' + '|'.join(names) + r')\s*\(', source.code):
        yield source.line_of(match.start()), match[1]


@rule
def banned_call(tree):
    """Calls that cannot be used safely, or that have a better form."""
    for source in tree.c():
        for line, name in calls(source, BANNED):
            yield source.path, line, f'{name}(): use {BANNED[name]}'


@rule
def idiom(tree):
    """Of two ways to write the same thing the tree has one."""
    for source in tree.c():
        for match in re.finditer(r'\bsizeof\b(?!\()', source.code):
            yield source.path, source.line_of(match.start()), 'sizeof takes parentheses: sizeof(x), sizeof(*x)'
        for match in re.finditer(r'\bsizeof\(([^()]+)\) /\s+sizeof\(\*\1\)', source.code):
            yield source.path, source.line_of(match.start()), f'the length of an array is sizeof({match[1]}) / sizeof({match[1]}[0])'
    fields = pointers.members(tree.c())
    for source in tree.c():
        for begin, end, is_negated in pointers.tests(source, fields):
            name, sign = source.code[begin:end], '==' if is_negated else '!='
            yield source.path, source.line_of(begin), f'a pointer is compared with NULL: {name} {sign} NULL'


# Of a function whose callers may do without what it writes.
OPTIONAL_RESULT = re.compile(r'\bret_(?:error|why|flaw|reason)\b')
MAY_BE_IGNORED = {'knit_ping'}


@rule
def must_check(tree):
    """A caller that ignores the status of a function that writes its results on success uses unset variables."""
    for source in tree.named('.h'):
        if EXEMPT.match(source.path):
            continue
        for match in re.finditer(r'^((?:[\w()",\s]*?))\bint (knit_\w+)\(([^;{]*)\);', source.code, re.M):
            results = re.search(r'\bret_\w+', OPTIONAL_RESULT.sub('', match[3]))
            if results and 'KNIT_MUST_CHECK' not in match[1] and match[2] not in MAY_BE_IGNORED:
                yield source.path, source.line_of(match.start(2)), f'{match[2]}(): KNIT_MUST_CHECK is missing'
    for source in tree.c():
        if source.path != 'clients/include/knitting/code.h':
            for match in re.finditer(r'\bwarn_unused_result\b', source.code):
                yield source.path, source.line_of(match.start()), 'warn_unused_result is called KNIT_MUST_CHECK'


@rule
def atomics(tree):
    """Each access to shared memory names its order: C11's _explicit forms, nothing else."""
    plain = re.compile(r'\batomic_(?:load|store|exchange|compare_exchange_(?:strong|weak)|fetch_[a-z]+|'
                       r'flag_test_and_set|flag_clear)\s*\(')
    builtin = re.compile(r'\b(__atomic_\w+|__sync_\w+)\s*\(')
    volatile = re.compile(r'(?<!__asm__ )(?<!asm )\bvolatile\b(?! sig_atomic_t)')
    for source in tree.c():
        for match in plain.finditer(source.code):
            yield source.path, source.line_of(match.start()), f'{match[0].rstrip("( ")}(): use the _explicit form'
        for match in builtin.finditer(source.code):
            yield source.path, source.line_of(match.start()), f'{match[1]}(): use <stdatomic.h>'
        if not EXEMPT.match(source.path):
            for match in volatile.finditer(source.code):
                yield source.path, source.line_of(match.start()), 'volatile orders nothing: use an atomic'


# Files of the server with atomics of their own: counters that all threads read, the log, and what a principal may
# do and ask for.
MAY_COUNT = re.compile(r'server/(base/(counters|log)|policy/(principals?|quota))\.[ch]')


@rule
def lane_word(tree):
    """Words of a lane are read and written in fastpath; server and clients call its functions."""
    for source in tree.c():
        if source.folder not in ('server', 'clients') or MAY_COUNT.fullmatch(source.path):
            continue
        for match in re.finditer(r'\batomic_\w+|\b_Atomic\b', source.code):
            yield source.path, source.line_of(match.start()), f'{match[0]}: words of a lane belong to fastpath'
        for line, _, path in source.includes:
            if path == 'stdatomic.h':
                yield source.path, line, '<stdatomic.h>: words of a lane belong to fastpath'


@rule
def quiet_library(tree):
    """Libraries return errors; they neither print nor end the program. A file with main() is no library."""
    noisy = ['printf', 'fprintf', 'vprintf', 'vfprintf', 'puts', 'fputs', 'putchar', 'perror', 'syslog',
             'exit', 'warn', 'warnx', 'err', 'errx']
    for source in tree.c():
        if source.folder in ('proto', 'fastpath') and not any(f.name == 'main' for f in source.functions):
            for line, name in calls(source, noisy):
                yield source.path, line, f'{name}() in a library: return an error'


# deadline.c is where tests pause, all others wait for a condition. What a module's task does with its time is its own.
MAY_PAUSE = re.compile(r'tests/(support/deadline|.*module_\w+)\.c')


@rule
def sleep_in_test(tree):
    """Tests wait for conditions, up to a deadline. Scripts poll with pauses of at most 50 ms."""
    for source in tree.sources:
        if source.folder != 'tests' or source.path.startswith('tests/style/'):
            continue
        if source.is_c and not MAY_PAUSE.fullmatch(source.path):
            for line, name in calls(source, ['sleep', 'usleep', 'nanosleep', 'clock_nanosleep', 'thrd_sleep']):
                yield source.path, line, f'{name}(): wait for a condition (tests/support/deadline.h)'
        elif source.path.endswith('.py'):
            for match in re.finditer(r'\btime\.sleep\(([^()]*)\)', source.text):
                if not re.fullmatch(r'0?\.0[0-5]\d*', match[1]):
                    yield source.path, source.line_of(match.start()), f'{match[0]}: poll, at most 0.05 s at a time'
        elif source.path.endswith('.sh'):
            for match in re.finditer(r'(?:^|[;&|]|\bdo\b)\s*sleep\s+([^\s;]+)', source.text, re.M):
                if not re.fullmatch(r'0?\.0[0-5]\d*', match[1]):
                    yield source.path, source.line_of(match.start(1)), f'sleep {match[1]}: poll, at most 0.05 s at a time'


# ---- Words -----------------------------------------------------------------------------------------------------------

MARKS = re.compile(r'\b(TODO|FIXME|XXX|HACK)\b|^[ \t]*#[ \t]*if[ \t]+0\b', re.M)
MACHINE = re.compile(r'(?<![\w.$}/-])/(?:work|farm|root|home|Users|mnt)/[\w.-]+')


@rule
def words(tree):
    """What is left over from writing, and paths that exist on one machine alone."""
    for source in tree.sources:
        if source.path.startswith('tests/style/'):
            continue
        for match in MARKS.finditer(source.text):
            yield source.path, source.line_of(match.start()), f'"{match[0].strip()}": finish it, or file it'
        for match in MACHINE.finditer(source.text):
            yield source.path, source.line_of(match.start()), f'{match[0]}: a path of one machine'


@rule
def cited_texts(tree):
    """A text that is referred to exists, and so does what a link points to."""
    names = {source.name for source in tree.sources}
    for source in tree.sources:
        if source.path.startswith('tests/style/'):
            continue
        for match in re.finditer(r'(?<![\w.:/-])((?:[\w.-]+/)*[A-Za-z][\w-]*\.md)\b', source.text):
            if os.path.basename(match[1]) not in names:
                yield source.path, source.line_of(match.start()), f'{match[1]} is not in the tree'
        if source.path.endswith('.md'):
            for match in re.finditer(r'\]\(([^)#\s]+)[^)]*\)', source.text):
                target = os.path.normpath(os.path.join(os.path.dirname(source.path), match[1]))
                known = target in tree.by_path or any(p.startswith(target + '/') for p in tree.by_path)
                if '://' not in match[1] and not known:
                    yield source.path, source.line_of(match.start()), f'{match[1]} is not in the tree'


GUIDES = ('ARCHITECTURE.md', 'HACKING.md')


@rule
def cited_names(tree):
    """What the guides send a reader to is there: each file, and each function, in a file that its sentence names.

    A sentence ends at a full stop or at an item of a list. Where it names no C file, the function may be anywhere.
    """
    defined = {source.path: {function.name for function in source.functions} for source in tree.c()}
    anywhere = set().union(*defined.values()) if defined else set()
    tasks = {f'{name}_run' for source in tree.c() for name in re.findall(r'\bKNIT_TASK\((\w+)', source.text)}
    for guide in (tree.by_path[path] for path in GUIDES if path in tree.by_path):
        begin = 0
        for part in re.split(r'(?<=[.;])\s|\n(?=- |\d+\. |\||\n)', guide.text):
            at = guide.text.index(part, begin)
            begin = at + len(part)
            paths = [path for path in re.findall(r'`((?:[\w.-]+/)+[\w.-]+\.\w+)', part) if not path.startswith('build/')]
            for path in paths:
                if path not in tree.by_path:
                    yield guide.path, guide.line_of(at), f'{path} is not in the tree'
            files = [path for path in paths if path in defined]
            known = set().union(*(defined[path] for path in files)) if files else anywhere
            for name in re.findall(r'`(\w+)\(\)', part):
                if name not in known | tasks:
                    yield guide.path, guide.line_of(at), f'{name}() is not defined in {", ".join(files) or "the tree"}'


# ---- Folders and tests -----------------------------------------------------------------------------------------------

FOLDERS = ('proto', 'fastpath', 'clients', 'server', 'tests', 'bench', 'deploy')
README_LINES = 60


@rule
def readme(tree):
    """Each folder has its page, and it is one page."""
    for folder in FOLDERS:
        path = f'{folder}/README.md'
        if path not in tree.by_path:
            yield path, 1, 'missing: what lives here, what may not, what to read first, its words'
        elif len(tree.by_path[path].lines) > README_LINES:
            yield path, README_LINES, f'{len(tree.by_path[path].lines)} lines, limit {README_LINES}'


def registered(build):
    """Sources of the programs that the build's tests run, from what Meson wrote about them."""
    with open(os.path.join(build, 'meson-info/intro-targets.json'), encoding='utf-8') as file:
        targets = json.load(file)
    with open(os.path.join(build, 'meson-info/intro-tests.json'), encoding='utf-8') as file:
        run = {os.path.realpath(part) for test in json.load(file) for part in test['cmd']}
    sources = set()
    for target in targets:
        if any(os.path.realpath(output) in run for output in target['filename']):
            for group in target['target_sources']:
                sources.update(os.path.realpath(path) for path in group['sources'])
    return sources


@rule
def unregistered_test(tree):
    """A test program that no test() runs passes always."""
    recipes = '\n'.join(s.text for s in tree.named('meson.build'))
    for source in tree.sources:
        if not re.fullmatch(r'tests/.*test_\w+\.(c|py)', source.path):
            continue
        if source.is_c and tree.build is not None:
            known = any(path.endswith('/' + source.path) for path in tree.build)
        else:
            stem = re.escape(os.path.splitext(source.name)[0].removeprefix('test_'))
            known = re.search(rf"'(?:[\w./]*/)?(?:test_)?{stem}(?:\.\w+)?'", recipes)
        if not known:
            yield source.path, 1, 'no test() runs it: name it in the meson.build of its folder'


EXCUSE = re.compile(r"^    (?:'(\w+)'|\('(\w+)', '(\w+)'\)): '", re.M)


@rule
def excused_function(tree):
    """Each function that tests/ground excuses from reporting a failure exists: a renamed one would be found by luck."""
    table = tree.by_path.get('tests/ground/knit_ground.py')
    if not table:
        return
    names = {name for s in tree.c() if not EXEMPT.match(s.path) for name in re.findall(r'\b(\w+)\(', s.code)}
    for match in EXCUSE.finditer(table.text):
        for name in filter(None, match.groups()):
            if name.removesuffix('64') not in names:  # open() is open64() in the C library
                yield table.path, table.line_of(match.start()), f'there is no function {name}()'


SETTING = re.compile(r'\{"(\w+)", "(\w+)", (?:NULL|"([\w-]+)"), KNIT_SETTING_')


# What a program's pool has and a daemon has not.
POOL_ALONE = {'kind', 'environment', 'startup_ms', 'stop_ms', 'on_event', 'on_output', 'user', 'reserved'}


@rule
def strange_pool_option(tree):
    """Each option of a program's pool is a setting of the daemon by the same name, or one of those that it alone has."""
    table, header = (tree.by_path.get(path) for path in ('server/config/setting_table.c', 'clients/include/knitting/pool_options.h'))
    if not table or not header:
        return
    keys = {match[2] for match in SETTING.finditer(table.uncommented)}
    body = re.search(r'struct knit_pool_options \{(.*?)^\};', header.uncommented, re.S | re.M)
    for match in re.finditer(r'(\w+)(?:\[\d+\])?;|\(\*(\w+)\)\(', body[1] if body else ''):
        name = match[1] or match[2]
        if name not in keys | POOL_ALONE:
            yield header.path, header.line_of(body.start(1) + match.start()), f'{name} is no setting of the daemon'


@rule
def undocumented_setting(tree):
    """Each setting of the daemon is in its manual and in the sample file, each other option in the manual."""
    table = tree.by_path.get('server/config/setting_table.c')
    if not table:
        return
    # scdoc wants some underscores escaped.
    manual = '\n'.join(s.text for s in tree.named('.scd') if 'knittingd' in s.name).replace('\\', '')
    sample = '\n'.join(s.text for s in tree.sources if re.match(r'knittingd\.conf(?!.*\.scd)', s.name))
    words = tree.by_path.get('server/config/command_line.c')
    for match in re.finditer(r'\{"([a-z-]+)", WORD_', words.uncommented if words else ''):
        if manual and not re.search(rf'--{match[1]}(?![\w-])', manual):
            yield words.path, words.line_of(match.start()), f'--{match[1]} is not in the manual page'
    for match in SETTING.finditer(table.uncommented):
        section, key, name = match[1], match[2], match[3] or match[2].replace('_', '-')
        line = table.line_of(match.start())
        if manual and not re.search(rf'--{name}(?![\w-])', manual):
            yield table.path, line, f'--{name} is not in the manual page'
        if manual and not re.search(rf'\b{key}\b', manual):
            yield table.path, line, f'[{section}] {key} is not in the manual page'
        if sample and not re.search(rf'^[#;]?\s*{key}\s*=', sample, re.M):
            yield table.path, line, f'[{section}] {key} is not in the sample file'


@rule
def unexplained_function(tree):
    """Of each function for programs its header says what a caller must know; see reference.py."""
    for function in reference.public(tree):
        for flaw in function.flaws:
            yield function.path, function.line, f'{function.name}() {flaw}'


@rule
def unnamed_function(tree):
    """Each function for programs is in a manual page of the library, and each that these name is there."""
    pages = [s for s in tree.sources if re.search(r'\.[37]\.scd$', s.path)]
    public = reference.public(tree)
    named = {name for page in pages for name, _ in reference.named_in(page.text)}
    for function in public:
        if pages and function.name not in named:
            yield function.path, function.line, f'{function.name}() is in no manual page'
    # Those of typed arrays are made by macros, and named as "first to last".
    known = {function.name for function in public}
    generated = re.compile(r'knit_(?:value|pass)_[iuf]\d+c?s')
    for page in pages if public else []:
        for name, at in reference.named_in(page.text):
            if name not in known and not generated.fullmatch(name):
                yield page.path, page.line_of(at), f'{name}() is not in the installed headers'


@rule
def unnamed_option(tree):
    """Each member of a structure of options is in a manual page of the library."""
    pages = [s for s in tree.sources if re.search(r'\.[37]\.scd$', s.path)]
    named = set().union(*(reference.emphasised_in(page.text) for page in pages))
    for source, line, structure, member in reference.options(tree):
        if pages and member not in named:
            yield source.path, line, f'{member} of struct {structure} is in no manual page'
