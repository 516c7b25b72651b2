# SPDX-License-Identifier: Apache-2.0
"""Every example of the installed headers, the READMEs and the man pages, compiled and run: see knit_examples.py.

An example is found by itself. One that is not run stands in NOT_RUN with the reason, nowhere else; a line of NOT_RUN
that no example has fails. A file's examples run in their order in one folder:

- a module is compiled, left there as TASK.c and TASK.so for the file's later examples, and loaded by a daemon whose
  tasks then include its own; `add` must add;
- a program must end with status 0 and say nothing on standard error while a daemon listens, which has the module above if
  the program calls its task. Without a daemon it must end by itself and say so; one with a pool of its own, of the
  example module, must print 5;
- shell runs with `set -eu`. The built programs are on the PATH, KNITTING_URL names the daemon, `knittingd` in it
  starts one of its own, which ends once it serves;
- an ini file must pass `knittingd --check-config`; the modules that it names are there;
- a policy must pass `knit policy check`;
- a line for Neovim must echo 5.

A tutorial is one session in one folder: its files are written, its commands run in their order, each must print what is
shown behind it, and succeed where nothing is. `export` and `cd` hold for those after it; a `knittingd` stands for one in a
second terminal, and ends the one before it, or takes over from it; `cc` warns of everything.

In place of /run/knitting/knitting.sock and port 5648 stand the socket and port of the test's daemon (in an ini file the
test's folder in place of /run/knitting), in place of the group knitting that of the test.
"""

import grp
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

import knit_examples
from knit_examples import MODULE, Example
from knit_harness import Daemon, PATIENCE, main

# Pages that test_pages.py and test_pods.py follow, where there are containers.
FOLLOWED_ELSEWHERE = {'deploy/doc/KUBERNETES.md', 'deploy/doc/PODMAN.md'}

NOT_RUN = {
    ('README.md', './deploy/quickstart.sh'): 'builds and tests everything; tests/run.sh runs the quickstart',
    ('README.md', 'sudo systemd-sysusers'): 'makes a user and starts a service of the system',
    ('README.md', 'meson setup build'): 'installs into the system; the test deploy-install installs elsewhere',
    ('README.md', 'sudo systemd-sysusers'): 'makes a user of this machine and starts a service on it',
    ('deploy/README.md', './deploy/release.sh'): 'builds twice and installs; tests/run.sh builds a release and tests it',
    ('bench/README.md', 'ninja -C build'): 'takes minutes; the bench-* tests run these programs with --quick',
    ('tests/fuzz/README.md', 'meson test -C build'): 'these are the fuzz-* tests',
    ('tests/fuzz/README.md', 'CC=clang meson setup'): 'a build of its own, and minutes of fuzzing',
}

ROOT = os.environ['KNIT_SOURCE']
BUILD = os.environ['KNIT_BUILD']
CC = shlex.split(os.environ['KNIT_CC'])
FLAGS = ['-std=gnu17', '-Wall', '-Wextra', '-Wconversion', '-Werror'] + shlex.split(os.environ.get('KNIT_CFLAGS', ''))
HERE = os.path.dirname(os.path.abspath(__file__))


def reason_not_to_run(example):
    return next((reason for (path, head), reason in NOT_RUN.items()
                 if example.path == path and example.head.startswith(head)), None)


class Folder:
    """Where the examples of one file run, with stand-ins for what they expect of the system."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix='knit-examples-')
        self.programs = os.path.join(self.path, 'bin')
        os.mkdir(self.programs)
        # Starts a daemon with the words of the example, and ends it once it serves.
        self.program('knittingd', f'''#!{sys.executable} -B
import sys
sys.path.insert(0, {HERE!r})
from knit_harness import Daemon
words = sys.argv[1:]
module = None
if '--module' in words:
    at = words.index('--module')
    module = words[at + 1]
    del words[at:at + 2]
with Daemon(*words, module=module):
    pass
''')
        os.symlink(os.environ['KNIT_TOOL'], os.path.join(self.programs, 'knit'))
        with open(os.path.join(self.path, 'book.txt'), 'w', encoding='utf-8') as file:
            file.write('a book of words and words\n')

    def program(self, name, text):
        path = os.path.join(self.programs, name)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)
        os.chmod(path, 0o755)

    def file(self, name, text):
        path = os.path.join(self.path, name)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)
        return path

    def close(self):
        shutil.rmtree(self.path, ignore_errors=True)


def environment(folder, daemon):
    if daemon is not None:
        folder.program('systemctl', f'#!/bin/sh\necho {daemon.pid}\n')
    return {
        **os.environ,
        'PATH': folder.programs + ':' + os.environ['PATH'],
        'PKG_CONFIG_PATH': os.path.join(BUILD, 'clients'),
        'LD_LIBRARY_PATH': os.path.join(BUILD, 'clients'),
        **({'KNITTING_URL': 'shm://' + daemon.socket} if daemon is not None else {}),
    }


def adapted(text, daemon):
    text = text.replace('/run/knitting/knitting.sock', daemon.socket)
    text = text.replace('127.0.0.1:5648', f'127.0.0.1:{daemon.port}')
    return re.sub(r'knit://localhost(?!:)', f'knit://127.0.0.1:{daemon.port}', text)


def run(command, folder, daemon):
    return subprocess.run(command, cwd=folder.path, env=environment(folder, daemon), capture_output=True, text=True,
                          timeout=4 * PATIENCE)


def flags_of_package(*options):
    said = subprocess.run(['pkg-config', *options, 'knitting'], check=True, capture_output=True, text=True,
                          env={**os.environ, 'PKG_CONFIG_PATH': os.path.join(BUILD, 'clients')})
    return shlex.split(said.stdout)


class Failure(Exception):
    """An example that does not do what it should."""


def demand(condition, done, what):
    if not condition:
        raise Failure(f'{what}; status {done.returncode}\n{done.stdout}{done.stderr}')


def compile_c(folder, name, text, *options):
    """The path of what comes out."""
    source = folder.file(name + '.c', text)
    output = os.path.join(folder.path, name + ('.so' if '-shared' in options else ''))
    packaged = flags_of_package('--cflags') if '-shared' in options else flags_of_package('--cflags', '--libs')
    done = subprocess.run([*CC, *FLAGS, *options, '-o', output, source, *packaged], capture_output=True, text=True)
    demand(done.returncode == 0, done, 'it does not compile')
    return output


def run_module(folder, text):
    tasks = re.findall(r'KNIT_(?:TASK|IMPLEMENT)\((\w+)', text)
    if not tasks:
        raise Failure('a module without tasks')
    path = compile_c(folder, tasks[0], text, '-shared', '-fPIC')
    with Daemon(module=path) as daemon, daemon.unix() as rpc:
        served = [entry['name'] for entry in rpc.call('$/tasks')['tasks']]
        if not set(tasks) <= set(served):
            raise Failure(f'the pool serves {served}, the module has {tasks}')
        if 'add' in tasks and rpc.call('add', 2, 3) != 5:
            raise Failure('add(2, 3) is not 5')
        if 'example' in tasks:
            rpc.call('example', {'a': 1})


def module_of(folder, text):
    """The module of this file's earlier examples that has a task which the program calls; None: there is none."""
    return next((os.path.join(folder.path, name) for name in sorted(os.listdir(folder.path))
                 if name.endswith('.so') and f'"{name[:-3]}"' in text), None)


def run_program(folder, text):
    if re.search(r'knit_pool_(task_)?open', text):
        done = run([compile_c(folder, 'program', text.replace('/usr/lib/knitting/modules/example.so', os.environ['KNIT_MODULE']))],
                   folder, None)
        demand(done.returncode == 0 and done.stdout == '5\n' and done.stderr == '', done, 'it does not add')
        return
    with Daemon(module=module_of(folder, text)) as daemon:
        done = run([compile_c(folder, 'program', adapted(text, daemon))], folder, daemon)
        demand(done.returncode == 0 and done.stderr == '', done, 'it fails beside a daemon')
    done = run([os.path.join(folder.path, 'program')], folder, None)
    demand(done.returncode >= 0 and done.stderr != '', done, 'without a daemon it crashes, or says nothing')


def run_shell(folder, text):
    with Daemon() as daemon:
        done = run(['bash', '-c', 'set -euo pipefail\n' + adapted(text, daemon)], folder, daemon)
        demand(done.returncode == 0, done, 'it fails')


def run_ini(folder, text):
    group = grp.getgrgid(os.getgid()).gr_name
    modules = re.findall(r'(\S+)\.so\b', text)
    for module in modules:
        name = os.path.basename(module)
        os.makedirs(os.path.dirname(os.path.join(folder.path, module)), exist_ok=True)
        compile_c(folder, module, f'#include <knitting/task.h>\nKNIT_MODULE("1.0");\nKNIT_TASK({name}, "{name}() -> nil")\n'
                  '{ return knit_return_nil(call); }\n', '-shared', '-fPIC')
    text = re.sub(r'^(attach_groups = )knitting$', r'\g<1>' + group, text, flags=re.M)
    path = folder.file('knittingd.conf', text.replace('/run/knitting/', folder.path + '/'))
    done = run([os.environ['KNIT_DAEMON'], '--check-config', '--config', path,
                '--worker-program', os.environ['KNIT_WORKER'],
                *([] if modules else ['--module', os.environ['KNIT_MODULE']])], folder, None)
    demand(done.returncode == 0, done, 'it is refused')


def run_policy(folder, text):
    """The user and the group that it names are the test's own."""
    text = text.replace('user:backup', 'uid:0').replace('unix-group:ops', 'gid:0')
    done = run(['knit', 'policy', 'check', folder.file('policy', text)], folder, None)
    demand(done.returncode == 0, done, 'it is refused')


def run_vim(folder, text):
    with Daemon() as daemon:
        line = adapted(text, daemon).strip().removeprefix(':')
        done = run(['nvim', '--headless', '-u', 'NONE', '-c', line, '-c', 'qa!'], folder, daemon)
        demand(done.returncode == 0 and done.stderr.strip() == '5', done, 'it does not echo 5')


def run_example(folder, example):
    if example.language == 'c':
        kind, text = knit_examples.whole(example.text)
        (run_module if kind == MODULE else run_program)(folder, text)
    else:
        {'sh': run_shell, 'ini': run_ini, 'policy': run_policy, 'vim': run_vim}[example.language](folder, example.text)


class Session:
    """The terminals in which a tutorial is followed."""

    def __init__(self):
        self.folder = Folder()
        self.at, self.variables, self.daemon = self.folder.path, {}, None
        programs = [shutil.which(word) or word for word in CC[:2]]  # the compiler, perhaps behind a cache
        compiler = ' '.join(shlex.quote(word) for word in [*programs, *CC[2:], *FLAGS])
        self.folder.program('cc', f'#!/bin/sh\nexec {compiler} "$@"\n')

    def close(self):
        try:
            self.end_daemon()
        finally:
            self.folder.close()

    def end_daemon(self):
        daemon, self.daemon = self.daemon, None
        if daemon is not None:
            with daemon:
                pass

    def start_daemon(self, words):
        if words[0] == '--config':
            self.start_configured(words[1], words[2:])
            return
        self.end_daemon()
        options = [(words[i].removeprefix('--'), words[i + 1]) for i in range(0, len(words), 2)]
        modules = [value for name, value in options if name == 'module']
        others = {name: value for name, value in options if name != 'module'}
        self.daemon = Daemon(*[word for module in modules[1:] for word in ('--module', module)], module=modules[0],
                             cwd=self.at, **others)

    def start_configured(self, config, others):
        """With the settings of a file, but for the port."""
        elder = self.daemon
        if '--take-over' not in others:
            self.end_daemon()
        daemon = Daemon(*others, config_path=os.path.join(self.at, config), module='', workers=None, listen=None, omit_socket=True,
                        listen_tls='127.0.0.1:0', cwd=self.at)
        if '--take-over' in others:
            with elder:
                elder.wait()
        self.daemon = daemon

    def own(self, text):
        """With the daemon's port in place of the usual one."""
        if self.daemon is not None:
            for url in self.daemon.urls:
                scheme, _, place = url.partition('://')
                port = place.rpartition(':')[2]
                if scheme == 'knit':
                    text = text.replace('127.0.0.1:5648', f'127.0.0.1:{port}')
                elif scheme == 'knits':
                    text = text.replace('localhost:5649', f'localhost:{port}')
        return text

    def run(self, command):
        environ = {**environment(self.folder, None), **{name: self.own(value) for name, value in self.variables.items()}}
        return subprocess.run(['bash', '-o', 'pipefail', '-c', self.own(command)], cwd=self.at, env=environ, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=4 * PATIENCE)

    def follow(self, step):
        """What the step shows and does not do; '': it does it."""
        words = [] if step.name else shlex.split(step.text)
        if step.name:
            with open(os.path.join(self.at, step.name), 'w', encoding='utf-8') as file:
                file.write(step.text)
        elif words[0] == 'cd':
            self.at = os.path.join(self.at, words[1])
        elif words[0] == 'export':
            self.variables.update([words[1].split('=', 1)])
        elif words[0] == 'knittingd':
            self.start_daemon(words[1:])
        else:
            done = self.run(step.text)
            output = self.own(step.output)
            if done.stdout != output or (done.returncode != 0 and output == '') or done.returncode < 0:
                return f'$ {step.text}\nstatus {done.returncode}, and it prints\n{done.stdout}in place of\n{output}'
        return ''


class Tutorials(unittest.TestCase):
    def test_each_runs_as_it_stands(self):
        tutorials = knit_examples.all_tutorials(ROOT)
        self.assertLess(FOLLOWED_ELSEWHERE, set(tutorials))
        for path, steps in tutorials.items():
            if path in FOLLOWED_ELSEWHERE:
                continue
            session = Session()
            self.addCleanup(session.close)
            for step in steps:
                with self.subTest(f'{path}:{step.line}'):
                    self.assertEqual(session.follow(step), '')

    def test_what_a_step_does_not_do_is_seen(self):
        session = Session()
        self.addCleanup(session.close)
        for text, output, is_right in (('echo a', 'a\n', True), ('echo a', 'b\n', False), ('echo a', '', False),
                                       ('true', '', True), ('false', '', False), ('true', 'a\n', False),
                                       ('echo a; false', 'a\n', True), ('kill -SEGV $$', '', False)):
            wrong = session.follow(knit_examples.Step(1, '', text, output))
            self.assertEqual(wrong == '', is_right, (text, wrong))
        with self.assertRaises(ValueError):
            knit_examples.steps('```c\nint a;\n```\n')


class Examples(unittest.TestCase):
    """One method for each file that has examples, added below."""

    def check(self, found):
        folder = Folder()
        self.addCleanup(folder.close)
        for example in found:
            with self.subTest(example.name):
                reason = reason_not_to_run(example)
                if reason is None and example.language == 'vim' and not shutil.which('nvim'):
                    reason = 'nvim is not installed'
                if reason is not None:
                    print(f'{example.name} is not run: {reason}')
                    continue
                try:
                    run_example(folder, example)
                except Failure as failure:
                    self.fail(f'{example.name}: {failure}')


FOUND = knit_examples.all_examples(ROOT)
for path in sorted({example.path for example in FOUND}):
    def check(self, path=path):
        self.check([example for example in FOUND if example.path == path])
    setattr(Examples, 'test_' + re.sub(r'\W', '_', path), check)


class TheCheckItself(unittest.TestCase):
    """That an example which is wrong does fail, and none is overlooked."""

    def fails(self, language, text):
        folder = Folder()
        self.addCleanup(folder.close)
        with self.assertRaises(Failure):
            run_example(folder, Example('README.md', 1, language, text))

    def test_wrong_examples_fail(self):
        self.fails('c', 'struct knit *k;\nknit_open("x", NULL, &k)\n')
        self.fails('c', 'int unused;\nknit_close(NULL);\n')
        self.fails('c', '*(volatile int *)0 = 1;\n')
        self.fails('c', '#include <knitting/task.h>\nKNIT_MODULE("1.0");\nKNIT_TASK(add, "add(a: int, b: int) -> int")\n'
                   '{\nreturn knit_return_int(call, knit_arg_int(call, 0));\n}\n')
        self.fails('sh', 'knit call no_such_task\n')
        self.fails('sh', 'false\ntrue\n')
        self.fails('ini', '[pool]\nworker = 1\n')
        self.fails('policy', '[group a]\nmembers = b\nalow = c\n')

    def test_examples_are_found(self):
        header = ('/* Text.\n *\n *     struct a *a;\n *\n *     a();\n *\n * A table:\n *     knit://HOST   TCP; the port\n */\n')
        self.assertEqual([(e.line, e.language, e.text) for e in knit_examples.examples('a.h', header)],
                         [(3, 'c', 'struct a *a;\n\na();\n')])
        readme = 'Text.\n\n    a b\n\n- item\n    of a list\n\n```sh\n    c d\n```\n```values\nx\n```\n'
        self.assertEqual([(e.line, e.language, e.text) for e in knit_examples.examples('README.md', readme)],
                         [(9, 'sh', '    c d\n'), (3, 'sh', 'a b\n')])
        page = 'TEXT\n\n```\nputs("a\\\\n");\n```\n```\n[a]\nb = c\n```\n'
        self.assertEqual([(e.line, e.language, e.text) for e in knit_examples.examples('a.scd', page)],
                         [(4, 'c', 'puts("a\\n");\n'), (7, 'ini', '[a]\nb = c\n')])

    def test_each_exception_has_its_example(self):
        for path, head in NOT_RUN:
            self.assertTrue([e for e in FOUND if e.path == path and e.head.startswith(head)], f'{path}: {head}')

    def test_there_are_examples_of_each_kind(self):
        for pattern in (r'\.h$', r'README\.md$', r'\.scd$'):
            self.assertTrue([e for e in FOUND if re.search(pattern, e.path) and e.language == 'c'], pattern)


if __name__ == '__main__':
    main()
