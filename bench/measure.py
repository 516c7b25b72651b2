# SPDX-License-Identifier: Apache-2.0
"""What aims.py and flat.py share: daemons to measure, the programs that measure, and tables of what came out.

knit-bench gets all cases as one list and measures them in turns; the rest is done here."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time

SECONDS_TO_START, SECONDS_TO_END = 20, 20
NOISY_PERCENT = 15
MARKDOWN_COLUMNS = 128


class Daemon:
    """A daemon for all figures: one event loop, and one worker by default."""

    def __init__(self, build, scratch, name, *options, cpu=None, modules=(), workers=1):
        self.ready = os.path.join(scratch, name + '.ready')
        modules = [os.path.join(build, 'clients/examples/example.so'), *modules,
                   os.path.join(build, 'bench/bench-tasks.so')]
        command = [os.path.join(build, 'server/knittingd'), '--listen', '127.0.0.1:0', '--admin', 'none', '--threads-io', '1',
                   '--socket', os.path.join(scratch, name + '.socket'), '--ready-file', self.ready,
                   '--worker-program', os.path.join(build, 'fastpath/knitting-worker'), '--workers', str(workers)]
        command += [word for module in modules for word in ('--module', module)] + list(options)
        absent = [path for path in (command[0], *modules) if not os.path.exists(path)]
        if absent:
            sys.exit(f'{absent[0]} is not there: ninja -C {build} builds it')
        cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cpus if cpu is None else {cpu})  # which the daemon inherits
        try:
            with open(os.path.join(scratch, name + '.log'), 'w', encoding='utf-8') as log:
                self.process = subprocess.Popen(command, stdout=log, stderr=log)
        finally:
            os.sched_setaffinity(0, cpus)
        self._await_ready(log.name)

    def _await_ready(self, log):
        until = time.monotonic() + SECONDS_TO_START
        while not (os.path.exists(self.ready) and os.path.getsize(self.ready)):
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                with open(log, encoding='utf-8') as file:
                    sys.exit(f'the daemon does not start:\n{file.read()}')
            time.sleep(0.02)

    def url(self, scheme):
        with open(self.ready, encoding='utf-8') as file:
            return next(line[4:].strip() for line in file if line.startswith(f'url={scheme}:'))

    def pids(self):
        """The daemon and its workers."""
        children = []
        for name in filter(str.isdigit, os.listdir('/proc')):
            with contextlib.suppress(OSError), open(f'/proc/{name}/stat', encoding='utf-8') as file:
                if int(file.read().rsplit(')', 1)[1].split()[1]) == self.process.pid:
                    children.append(int(name))
        return [self.process.pid, *children]

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Bench:
    """A folder for what daemons write, and the daemons, which end with it."""

    def __init__(self, args):
        self.args, self.daemons = args, []
        self.scratch = tempfile.TemporaryDirectory()  # pylint: disable=consider-using-with

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for daemon in self.daemons:
            daemon.stop()
        self.scratch.cleanup()

    def daemon(self, name, *options, **more):
        self.daemons.append(Daemon(self.args.build, self.scratch.name, name, *options, **more))
        return self.daemons[-1]

    def program(self, name, *arguments):
        """The rows, and the machine, that a program of ours prints as JSON."""
        quick = ['--quick'] if self.args.quick else []
        path = os.path.join(self.args.build, 'bench', name)
        if not os.path.exists(path):
            sys.exit(f'{path} is not there: ninja -C {self.args.build} builds it')
        run = subprocess.run([path, '--format=json', *quick, *arguments],
                             stdout=subprocess.PIPE, encoding='utf-8', check=False)
        if run.returncode != 0:
            sys.exit(f'{name} failed')
        report = json.loads(run.stdout)
        return report['rows'], report['machine']

    def cases(self, lines):
        """One row for each case, all measured in turns."""
        path = os.path.join(self.scratch.name, 'cases')
        with open(path, 'w', encoding='utf-8') as file:
            file.write('\n'.join(lines) + '\n')
        return self.program('knit-bench', f'--cases={path}', f'--rounds={self.args.rounds}',
                            f'--seconds={self.args.seconds}', '--warm=0.05')


def options(parser):
    parser.add_argument('--build', required=True, help='build folder, built')
    parser.add_argument('--rounds', type=int, default=5, help='measure everything so often, in turns')
    parser.add_argument('--seconds', type=float, default=0.2, help='of each case in a round')
    parser.add_argument('--format', choices=('table', 'json', 'csv', 'markdown'), default='table')
    parser.add_argument('--quick', action='store_true', help='a short run; its figures mean nothing')


# ---- What came out ---------------------------------------------------------------------------------------------------

def short(value):
    """Three figures."""
    if value is None:
        return '-'
    if isinstance(value, str):
        return value
    for unit, size in (('M', 1e6), ('k', 1e3)):
        if abs(value) >= max(size, 1e4):
            return short(value / size) + unit
    if 0 < abs(value) < 0.1:
        return f'{value:.2g}'
    return f'{value:.{0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2}f}'


def verdict(ratio, aim, spread):
    """Rounds that differ much prove neither."""
    noisy = '~' if spread is not None and spread > NOISY_PERCENT else ''
    return noisy + ('met' if ratio <= aim else 'missed')


def show(title, machine, rows, how):
    """Rows are dictionaries with the same keys."""
    columns = list(rows[0])
    if how == 'json':
        print(json.dumps({'title': title, 'machine': machine, 'rows': rows}, indent=1))
        return
    texts = [[short(row[column]) for column in columns] for row in rows]
    if how == 'csv':
        print('\n'.join(','.join(f'"{text}"' for text in line) for line in [columns, *texts]))
    elif how == 'markdown':
        print(textwrap.fill(f'{title[0].upper()}{title[1:]}. {machine}. ~: the rounds differ by more than {NOISY_PERCENT} %.',
                            MARKDOWN_COLUMNS), end='\n\n')
        print('\n'.join('| ' + ' | '.join(line) + ' |' for line in [columns, ['---', *['---:'] * (len(columns) - 1)], *texts]))
    else:
        widths = [max(len(line[i]) for line in [columns, *texts]) for i in range(len(columns))]
        print(f'{title}\n{machine}\n')
        for line in [columns, *texts]:
            print('  '.join(text.ljust(width) if i == 0 else text.rjust(width)
                            for i, (text, width) in enumerate(zip(line, widths))).rstrip())
