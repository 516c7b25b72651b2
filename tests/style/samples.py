# SPDX-License-Identifier: Apache-2.0
"""For each rule, trees that it must flag and trees that it must let pass: a rule that flags nothing proves nothing."""

HEAD = '''/* SPDX-License-Identifier: Apache-2.0 */
/* A sample that says what it is, at the length which a head comment has at the least.
 */
'''


def lines(count, text='    x++;\n'):
    return text * count


def in_function(*statements, path='server/a.c'):
    body = ''.join(f'    {s}\n' for s in statements)
    return {path: HEAD + 'int knit_a(void)\n{\n' + body + '}\n'}


def including(path, *includes):
    return {path: HEAD + ''.join(f'#include {i}\n' for i in includes)}


READMES = {f'{f}/README.md': '# A folder\n' for f in
           ('proto', 'fastpath', 'clients', 'server', 'tests', 'bench', 'deploy')}
EXCEPTIONS = 'tests/style/exceptions.txt'
LONG = in_function(*['x++;'] * 80)

TABLE = {'server/config/setting_table.c': HEAD + '    {"pool", "modules", "module", KNIT_SETTING_PATH_LIST, AT(a)},\n'
                                          '    {"worker", "spin_us", NULL, KNIT_SETTING_NUMBER, AT(b)},\n'}
MANUAL = {'server/knittingd.8.scd': '*--module* _PATH_\n*--spin-us*\nmodules\nspin\\_us\n'}
CONF = {'server/knittingd.conf': '[pool]\n#modules = a.so\n[worker]\n#spin_us = 50\n'}



def header(*declarations, head='Threads: any. Nothing here blocks.'):
    return {'clients/include/knitting/a.h': HEAD[:-4] + f' * {head}\n */\n' + ''.join(declarations)}


CHOICES = header('struct knit_call_options {\n    double wait_ms; /* how long; 0 = not */\n'
                 '    void (*on_event)(void *user, int event);\n    uint64_t reserved[4];\n};\n')
TOLD = '/* Returns 1. Does not block. Fails with KNIT_DENIED. */\nint knit_a(struct knit *k, struct knit_error *ret_error);\n'
INLINE = 'static inline int knit_b(void)\n{\n    return 1;\n}\n'

# rule: ([flagged...], [let pass...])
SAMPLES = {
    'dependency': (
        [including('proto/a.c', '"fastpath/ring.h"'),
         including('fastpath/a.c', '"server/daemon/loop.h"'),
         including('clients/a.c', '"server/daemon/loop.h"'),
         including('server/a.c', '"clients/tool.h"'),
         including('server/a.c', '"loop.h"'),
         including('server/a.c', '"knitting/task.h"'),
         including('clients/include/knitting/a.h', '"proto/value.h"'),
         including('clients/examples/a.c', '"proto/value.h"')],
        [including('server/a.c', '"server/daemon/loop.h"', '"fastpath/ring.h"', '"proto/scan.h"', '<knitting/code.h>',
                   '"config.h"'),
         including('tests/server/test_a.c', '"server/daemon/loop.h"', '"tests/support/random.h"'),
         including('clients/examples/a.c', '"words.h"', '<knitting/task.h>'),
         {'proto/a.c': HEAD + '/* #include "server/daemon/loop.h" */\n'}]),
    'room': (
        [including('fastpath/lane/a.c', '"fastpath/host/pool.h"'),
         including('fastpath/host/a.c', '"fastpath/worker/runner.h"'),
         including('fastpath/confine/a.c', '"fastpath/lane/layout.h"'),
         including('fastpath/a.c', '"proto/span.h"'),
         including('server/rpc/a.c', '"server/net/connection.h"'),
         including('server/net/a.c', '"server/daemon/loop.h"'),
         including('server/base/a.c', '"server/config/setting.h"')],
        [including('server/net/a.c', '"server/rpc/router.h"', '"server/base/turn.h"', '"fastpath/host/pool.h"'),
         including('fastpath/host/a.c', '"fastpath/lane/bell.h"', '"fastpath/host/pool.h"', '"proto/span.h"',
                   '<knitting/code.h>'),
         including('proto/a.c', '"proto/span.h"')]),
    'layer': (
        [including('clients/lib/stream.c', '"clients/lib/client.h"'),
         including('clients/lib/handle.h', '"clients/lib/call.h"'),
         including('clients/lib/lanes.c', '"clients/lib/stream.h"'),
         including('clients/lib/other.c', '"proto/span.h"')],
        [including('clients/lib/stream.c', '"clients/lib/stream.h"', '"clients/lib/transport.h"', '"proto/span.h"'),
         including('clients/lib/open.c', '"clients/lib/attach.h"', '"clients/lib/url.h"'),
         including('clients/tool/a.c', '"clients/tool/tool.h"')]),
    'third-party': (
        [including('fastpath/a.c', '<event2/event.h>'),
         including('server/a.c', '<msgpack.h>'),
         including('server/a.c', '<json-c/json.h>'),
         including('proto/a.c', '<openssl/ssl.h>'),
         including('clients/include/knitting/a.h', '<json-c/json.h>'),
         including('server/a.c', '<glib.h>')],
        [including('server/a.c', '<event2/event.h>', '<sys/socket.h>', '<stdint.h>'),
         including('clients/examples/a.c', '<event2/event.h>', '<openssl/sha.h>'),
         including('tests/proto/test_a.c', '<cmocka.h>', '<msgpack.h>')]),
    'own-header-first': (
        [{**including('proto/a.c', '<stdint.h>', '"proto/a.h"'), 'proto/a.h': HEAD}],
        [{**including('proto/a.c', '"proto/a.h"', '<stdint.h>'), 'proto/a.h': HEAD},
         {**including('clients/examples/a.c', '"a.h"', '<stdint.h>'), 'clients/examples/a.h': HEAD}]),
    'size': (
        [{'server/a.c': HEAD + lines(698, '\n')},
         {'tests/server/a.c': HEAD + lines(798, '\n')},
         {'server/a.h': HEAD + lines(298, '\n')},
         LONG,
         {'server/a.c': HEAD + 'struct knit_a *knit_a(int x)\n{\n' + lines(70) + '}\n'},
         {'clients/a.c': HEAD + 'KNIT_TASK(add, "add() -> int", .doc = "{")\n{\n' + lines(70) + '}\n'},
         {'server/a.c': HEAD + 'int knit_a(int a, int b, int c, int d, int e, int f, int g)\n{\n}\n'},
         {'server/a.c': HEAD + 'int knit_a(int a, int b, int c, int d, int e, int f, int (*g)(int, int))\n{\n}\n'},
         {'server/a.c': HEAD + '// ' + 'x' * 98 + '\n'},
         {**LONG, EXCEPTIONS: 'function server/a.c:knit_a 84\n'},
         {**LONG, EXCEPTIONS: 'function server/a.c:knit_a 82\n'},
         {**LONG, EXCEPTIONS: 'function server/a.c:knit_a 83\nfile server/gone.c 900\n'},
         {**in_function('x++;'), EXCEPTIONS: 'function server/a.c:knit_a 83\n'}],
        [{**LONG, EXCEPTIONS: '# why\nfunction server/a.c:knit_a 83\n'},
         {'server/a.c': HEAD + 'static const struct knit_a a[] = {\n' + lines(90, '    {f(1)},\n') + '};\n'},
         {'server/a.c': HEAD + 'struct knit_a {\n' + lines(90, '    int (*f)(void);\n') + '};\n'},
         {'server/a.c': HEAD + 'int knit_a(int a, int b, int c, int d, int e, int f, int *ret_g, int **ret_h)\n{\n}\n'},
         {'server/a.c': HEAD + 'int knit_a(void)\n{\n    char c = \'{\';\n}\n\n' * 20},
         {'server/a.c': HEAD + lines(697, '\n')},
         {'tests/server/a.c': HEAD + lines(797, '\n')},
         {'server/a.c': HEAD + '#define A(x) \\\n' + '    do { \\\n' + lines(80, '    (x)++; \\\n') + '} while (0)\n'}]),
    'spdx': (
        [{'server/a.c': 'int a;\n'}, {'server/a.py': 'pass\n'}, {'server/a.sh': '#!/bin/sh\n:\n'},
         {'server/meson.build': "subdir('x')\n"}],
        [{'server/a.c': HEAD}, {'a.sh': '#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n'},
         {'server/README.md': 'x\n'}]),
    'head-comment': (
        [{'server/a.c': '/* SPDX-License-Identifier: Apache-2.0 */\n#include <stdint.h>\n'},
         {'server/a.c': '/* SPDX-License-Identifier: Apache-2.0 */\n/* a.c */\n'}],
        [{'server/a.c': HEAD}]),
    'pragma-once': (
        [{'server/a.h': HEAD + '#ifndef A_H\n#define A_H\n#endif\n'}],
        [{'server/a.h': HEAD + '#pragma once\n'}]),
    'banned-call': (
        [in_function(f'x = {name}(a, b);') for name in
         ('sprintf', 'strcpy', 'strcat', 'atoi', 'atol', 'strtok', 'strncpy', 'alloca')],
        [in_function('snprintf(a, n, "sprintf(x)");', 'my_strcpy(a);', '/* atoi(x) */', 'api->gets(call);')]),
    'idiom': (
        [in_function('x = sizeof y;'), in_function('x = sizeof *y->z;'), in_function('x = sizeof(y) / sizeof(*y);'),
         in_function('char *p = x;', 'if (!p)', '    return 1;'),
         in_function('const struct knit_a *p, *q = x;', 'return p && q->b;'),
         in_function('char **p = x;', 'while (*p)', '    p++;'),
         {'server/a.c': HEAD + 'struct knit_a {\n    int b;\n    char *c;\n};\nint knit_a(struct knit_a *a)\n{\n'
          '    return a->c ? 1 : 0;\n}\n'},
         {'server/a.c': HEAD + 'int knit_a(int b, char *c)\n{\n    return b == 1 && !c;\n}\n'}],
        [in_function('char *p = x, c = *p;', 'if (p == NULL || !*p || c || !strlen(p) || !(p - x))', '    return p != x;'),
         in_function('bool p = x;', 'if (!p && x->p)', '    return 1;'),
         {'server/a.c': HEAD + 'struct knit_a {\n    char *b;\n};\nstruct knit_c {\n    int b;\n};\nint knit_a(struct knit_c *c)\n'
          '{\n    return c->b && !c->b;\n}\n'},
         in_function('x = sizeof(y) / sizeof(*y->z) + sizeof(y) / sizeof(y[0]);', '/* sizeof x */', 'a = "sizeof x";')]),
    'must-check': (
        [{'proto/a.h': HEAD + 'int knit_a(int a, struct knit_a **ret_a);\n'},
         {'proto/a.h': HEAD + 'KNIT_MUST_CHECK int knit_b(int *ret_a);\nint knit_a(int a,\n    int *ret_a);\n'},
         {'proto/a.h': HEAD + '__attribute__((warn_unused_result)) int knit_a(void);\n'}],
        [{'proto/a.h': HEAD + 'KNIT_MUST_CHECK int knit_a(int a, struct knit_a **ret_a);\n'
          'int knit_b(struct knit_error *ret_error);\nvoid knit_c(int *ret_a);\n/* int knit_d(int *ret_a); */\n'},
         {'tests/a/b.h': HEAD + 'int knit_a(int *ret_a);\n'}]),
    'atomics': (
        [in_function('x = atomic_load(&a);'), in_function('atomic_fetch_add(&a, 1);'),
         in_function('atomic_compare_exchange_strong(&a, &b, c);'), in_function('atomic_store (&a, 1);'),
         in_function('x = __atomic_load_n(&a, __ATOMIC_RELAXED);'), in_function('__sync_synchronize();'),
         in_function('volatile int x;'),
         in_function('atomic_store(&a, 1);', path='tests/fastpath/test_a.c')],
        [in_function('x = atomic_load_explicit(&a, memory_order_acquire);', '__asm__ volatile("" ::: "memory");',
                     'volatile sig_atomic_t x;', 'atomic_thread_fence(memory_order_seq_cst);')]),
    'lane-word': (
        [in_function('x = atomic_load_explicit(&a, memory_order_relaxed);'),
         in_function('_Atomic int x;', path='clients/lib/a.c'),
         including('clients/tool/a.c', '<stdatomic.h>')],
        [in_function('x = atomic_load_explicit(&a, memory_order_relaxed);', path='server/base/log.c'),
         in_function('x = atomic_load_explicit(&a, memory_order_relaxed);', path='fastpath/lane/a.c'),
         in_function('/* atomic_store() */', 'x = knit_session_has_started(session, slot);')]),
    'quiet-library': (
        [in_function('printf("x");', path='proto/a.c'), in_function('exit(1);', path='fastpath/a.c')],
        [in_function('fprintf(stderr, "x");'), in_function('_exit(1);', path='fastpath/a.c'),
         {'fastpath/a.c': HEAD + 'int main(void)\n{\n    exit(1);\n}\n'}]),
    'sleep-in-test': (
        [in_function('usleep(10);', path='tests/server/test_a.c'), in_function('sleep(1);', path='tests/a/b.c'),
         {'tests/system/a.py': 'time.sleep(1)\n'}, {'tests/system/a.py': 'time.sleep(delay)\n'},
         {'tests/a.sh': 'x; sleep 1\n'}],
        [in_function('nanosleep(&a, 0);', path='tests/support/deadline.c'),
         {'tests/system/a.py': 'time.sleep(0.02)\n'}, {'tests/a.sh': 'while x; do sleep 0.05; done\n'},
         in_function('nanosleep(&a, 0);', path='server/a.c')]),
    'words': (
        [in_function('/* TODO: this */'), in_function('/* FIXME */'), {'server/a.c': HEAD + '#if 0\n#endif\n'},
         {'a.sh': 'cd /home/somebody/project\n'}, {'a.md': 'see /root/x.\n'}],
        [in_function('/* nothing to do */'), {'a.md': 'see tests/work/x and `$HOME/x` and https://host/home/x\n'}]),
    'cited-texts': (
        [{'server/a.c': HEAD + '/* See NOWHERE.md. */\n'}, {'a.md': 'See [this](proto/gone.c).\n'},
         {'server/a.c': HEAD + '/* NOWHERE.md */\n'}],
        [{'server/a.c': HEAD + '/* See proto/HERE.md, https://example.org/x/spec.md. */\n', 'proto/HERE.md': 'See [that](../server/a.c), '
          '[folder](../server/), [far](https://example.org/x).\n'}]),
    'cited-names': (
        [{'ARCHITECTURE.md': 'See `server/gone.c`.\n'},
         {'HACKING.md': 'See `knit_b()`.\n', **in_function('x++;')},
         {'HACKING.md': 'See `server/b.c`: `knit_a()`.\n', **in_function('x++;'), 'server/b.c': HEAD},
         {'ARCHITECTURE.md': '- `server/a.c`: `knit_a()`\n- `server/b.c`: `knit_a()`\n', **in_function('x++;'), 'server/b.c': HEAD}],
        [{'ARCHITECTURE.md': '- `server/a.c`: `knit_a()`\n- `server/b.c`. Then `knit_a()` and `build/server/x.so`.\n',
          **in_function('x++;'), 'server/b.c': HEAD},
         {'README.md': '`server/gone.c`: `knit_gone()`\n'}]),
    'readme': (
        [{k: v for k, v in READMES.items() if 'proto' not in k},
         {**READMES, 'proto/README.md': lines(61, 'x\n')}],
        [READMES]),
    'excused-function': (
        [{'tests/ground/knit_ground.py': "SILENT = {\n    'knit_gone': 'it is tried again',\n}\n", **in_function('x++;')},
         {'tests/ground/knit_ground.py': "BELOW = {\n    ('knit_a', 'knit_gone'): 'the same',\n}\n", **in_function('x++;')}],
        [{'tests/ground/knit_ground.py': "SILENT = {\n    'knit_a': 'it is tried again',\n}\n", **in_function('x++;')}]),
    'undocumented-setting': (
        [{**TABLE, **CONF, 'server/knittingd.8.scd': '*--module-path* *--spin-us* modules spin_us\n'},
         {**TABLE, **CONF, 'server/knittingd.8.scd': '*--module* *--spin-us* modules\n'},
         {**TABLE, **CONF, **MANUAL, 'server/config/command_line.c': HEAD + '    {"ready-file", WORD_READY_FILE, "FILE",\n'},
         {**TABLE, **MANUAL, 'server/knittingd.conf': '#modules = a\n# spin_us is not here\n'}],
        [{**TABLE, **MANUAL, **CONF}, TABLE]),
    'strange-pool-option': (
        [{**TABLE, 'clients/include/knitting/pool_options.h': HEAD + 'struct knit_pool_options {\n    uint32_t spins_us;\n};\n'},
         {**TABLE, 'clients/include/knitting/pool_options.h': HEAD + 'struct knit_pool_options {\n    void (*on_end)(void *user);\n};\n'}],
        [{**TABLE, 'clients/include/knitting/pool_options.h': HEAD + 'struct knit_pool_options {\n    uint32_t spin_us, reserved[2];\n'
                                                             '    void (*on_event)(void *user);\n};\n'}]),
    'unregistered-test': (
        [{'tests/proto/test_scan.c': HEAD, 'tests/proto/meson.build': "foreach name : ['value']\n"},
         {'tests/proto/test_scan.c': HEAD},
         {'tests/system/test_start.py': '', 'tests/system/meson.build': "['stop', 'restart']\n"}],
        [{'tests/proto/test_scan.c': HEAD, 'tests/proto/meson.build': "foreach name : ['scan']\n"},
         {'tests/proto/test_scan.c': HEAD, 'tests/proto/meson.build': "files('test_scan.c')\n"},
         {'tests/bench/test_mix.c': HEAD, 'bench/meson.build': "files('../tests/bench/test_mix.c')\n"},
         {'tests/system/test_start.py': '', 'tests/system/meson.build': "['start', 'stop']\n"}]),
    'unexplained-function': (
        [header('int knit_a(struct knit *k);\n'),
         header('/* What it does, and that it does not block. */\nint knit_a(struct knit *k);\n'),
         header(TOLD.replace('Fails with KNIT_DENIED. ', '')),
         header(TOLD.replace('Does not block. ', '')),
         header(TOLD, '\nvoid knit_b(void);\n'),
         header(TOLD, '\n/* As knit_gone(). */\nvoid knit_b(void);\n'),
         header(TOLD, head='It says nothing of these two questions, which callers have.'),
         header('\n', INLINE),
         header('/* One. */\n', INLINE, head='Threads: any.'),
         header('/* For programs: one. */\n', INLINE, head='Nothing here is for programs.')],
        [header(TOLD, 'int knit_b(struct knit *k);\n', '\n/* As knit_a(). */\nint knit_c(struct knit *k);\n', '\n/* One. */\n', INLINE),
         header('/* ---- Questions ----\n *\n * These wait. They fail with KNIT_TIMEOUT. */\n\n', '/* The time. */\n',
                'int knit_a(struct knit_error *ret_error);\n'),
         header('int knit_a(void);\n', head='Nothing here is for programs.'),
         header(TOLD, '/* Not for programs. */\n', INLINE),
         {'clients/lib/a.h': HEAD + 'int knit_a(void);\n'}]),
    'unnamed-function': (
        [{**header(TOLD), 'deploy/man/a.3.scd': '*knit_b*()\n'},
         {**header(TOLD), 'deploy/man/a.3.scd': '*knit_a*(), *knit_gone*()\n'},
         {**header(TOLD), 'deploy/man/a.3.scd': '*knit_ab*()\n', 'deploy/man/a.1.scd': '*knit_a*()\n'}],
        [{**header(TOLD), 'deploy/man/a.3.scd': '*knit_value_f64s*()\n', 'deploy/man/b.7.scd': '*knit\\_a*()\n'}]),
    'unnamed-option': (
        [{**CHOICES, 'deploy/man/a.3.scd': '_wait\\_ms_ user\n'},
         {**CHOICES, 'deploy/man/a.3.scd': '_wait_ _on\\_event_\n'}],
        [{**CHOICES, 'deploy/man/a.3.scd': '_wait\\_ms_, _on\\_event_\n'},
         {'clients/include/knitting/a.h': HEAD + 'struct knit_time {\n    int64_t seconds;\n};\n', 'deploy/man/a.3.scd': 'x\n'}]),
}
