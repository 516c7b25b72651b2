# SPDX-License-Identifier: Apache-2.0
"""What tests that kill processes need: processes and their descriptors, a ledger of what ran, callers to kill.

Programs come from the environment, where meson.build puts them: KNIT_LEDGER, KNIT_CALLER, and those of knit_harness.
"""

import array
import contextlib
import mmap
import os
import random
import signal
import struct
import subprocess
import tempfile
import threading
import time

from knit_harness import PATIENCE, Child, Daemon, wait_until

# The long forms of random tests were asked for.
LONG = 'KNIT_TEST_LONG' in os.environ


def seed():
    """A number to repeat a failing run with; printed."""
    value = int(os.environ.get('KNIT_TEST_SEED') or random.SystemRandom().randrange(1 << 32))
    print(f'seed {value}, repeat with KNIT_TEST_SEED={value}', flush=True)
    return value


def is_alive(pid):
    """Whether that process runs; a zombie does not."""
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rsplit(')', 1)[1].split()[0] not in 'ZX'
    except OSError:
        return False


def descriptors(pid):
    return len(os.listdir(f'/proc/{pid}/fd'))


def mappings(pid):
    with open(f'/proc/{pid}/maps') as file:
        return sum('memfd:' in line for line in file)


def state(pid):
    with open(f'/proc/{pid}/stat') as file:
        return file.read().rsplit(')', 1)[1].split()[0]


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: state(pid) == 'T', f'{pid} to stop')
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Ledger:
    """How often each call ran, written by the tasks of module_ledger.c, and the gates they wait at."""

    GATES, IDS = 64, 1 << 22

    def __init__(self):
        self.file = tempfile.NamedTemporaryFile(prefix='knit-ledger-')
        self.file.truncate(4 * self.GATES + 8 * self.IDS)
        os.chmod(self.file.name, 0o666)
        self.memory = mmap.mmap(self.file.fileno(), 0)
        self.path = self.file.name

    def ran(self, call):
        return self.entry(call)[0]

    def worker(self, call):
        """The process that runs it, or ran it last."""
        return self.entry(call)[1]

    def entry(self, call):
        return struct.unpack_from('=II', self.memory, 4 * self.GATES + 8 * call)

    def times(self, first, count):
        """ran() of many calls."""
        begin = 4 * self.GATES + 8 * first
        return array.array('I', self.memory[begin:begin + 8 * count])[::2]

    def forget(self, first, count):
        begin = 4 * self.GATES + 8 * first
        self.memory[begin:begin + 8 * count] = bytes(8 * count)

    def open_gate(self, gate):
        self.set_gate(gate, True)

    def set_gate(self, gate, is_open):
        struct.pack_into('=I', self.memory, 4 * gate, is_open)

    def wait_for(self, call):
        wait_until(lambda: self.ran(call) > 0, f'call {call} to start')

    def close(self):
        self.memory.close()
        self.file.close()


class LedgerDaemon(Daemon):
    """A daemon with the tasks of the ledger only, so that no call can make a worker die."""

    def __init__(self, *arguments, ledger=None, **options):
        """ledger: one that outlives the daemon; None: the daemon gets its own."""
        self.ledger, self.owns_ledger = ledger or Ledger(), ledger is None
        if 'permission' not in options:
            options.update(permission='custom', write_paths=self.ledger.path)
        super().__init__(*arguments, module=os.environ['KNIT_LEDGER'], bootstrap=self.ledger.path, **options)

    def __exit__(self, *arguments):
        try:
            super().__exit__(*arguments)
        finally:
            if self.owns_ledger:
                self.ledger.close()

    def url(self, transport):
        scheme = {'tcp': 'knit', 'tls': 'knits', 'unix': 'unix', 'shm': 'shm'}[transport]
        return next(u for u in self.urls if u.startswith(scheme + '://'))

    def workers(self):
        """Process ids of those that serve, in the order of their lanes."""
        return [lane['pid'] for lane in self.stats()['lanes'] if lane['state'] == 'serving']

    def wait_for_workers(self, count):
        return wait_until(lambda: (lambda pids: len(pids) == count and pids)(self.workers()), f'{count} workers')

    def wait_for_quiet(self):
        """Waits until all callers' sessions are gone: the stats when only the sessions of the loops are left."""
        def quiet():
            stats = self.stats()
            pool = stats['pool']
            return pool['foreign_sessions'] == 0 and pool['closing_sessions'] == 0 and stats
        return wait_until(quiet, 'sessions to go')


class Outcome:
    """One line of `caller ... calls`."""

    def __init__(self, line):
        call, code, self.started, worker, ns = line.split()
        self.call, self.code, self.worker, self.ns = int(call), int(code), int(worker), int(ns)

    def __repr__(self):
        return f'{self.call}: code {self.code}, started {self.started}, worker {self.worker}'


class Caller(Child):
    """tests/system/caller.c, started."""

    def __init__(self, url, *words, prefix=(), environment=None):
        super().__init__([*prefix, os.environ['KNIT_CALLER'], url, *map(str, words)], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})
        self.is_local = url.startswith('shm:')

    def wait_ready(self):
        line = self.process.stdout.readline()
        if not line.startswith('ready '):
            raise AssertionError(f'the caller prints {line!r} and ends with {self.process.wait(PATIENCE)}')
        self.begun_ns = int(line.split()[1])
        return self

    def go_on(self):
        """Of `calls` and similar modes: the next step, once its first call runs."""
        self.process.stdin.write('\n')
        self.process.stdin.flush()
        return self.wait_ready()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def read_to_end(self, seconds):
        """The rest of its output. A caller that runs for longer than that hangs, and is killed."""
        watch = threading.Timer(seconds, self.process.kill)
        watch.start()
        try:
            text = self.process.stdout.read()
            if self.process.wait(PATIENCE) != 0:
                raise AssertionError(f'the caller ends with {self.process.returncode}')
        finally:
            watch.cancel()
        return text

    def outcomes(self):
        return [Outcome(line) for line in self.read_to_end(3 * PATIENCE).splitlines()]

    def tally(self):
        """Of `tally`: the outcomes that are errors, and the count of the others."""
        *lines, good = self.read_to_end(PATIENCE).splitlines()
        return [Outcome(line) for line in lines], int(good)

    def count(self):
        """Of `loop`: ends it; how many calls were answered correctly."""
        self.process.stdin.close()
        return int(self.read_to_end(PATIENCE).split()[-1])


def milliseconds_since(ns):
    return (time.monotonic_ns() - ns) / 1e6
