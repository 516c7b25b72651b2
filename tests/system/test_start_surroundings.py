# SPDX-License-Identifier: Apache-2.0
"""A daemon and a tool in rude surroundings: signals that have no use here, standard descriptors that are closed,
limits, files that stand in the way."""

import contextlib
import fcntl
import os
import pty
import resource
import shutil
import signal
import stat
import subprocess
import tempfile
import termios
import unittest.mock

from knit_harness import PATIENCE, Case, Daemon, main, wait_until
from knit_witness import LedgerDaemon, is_alive

# What ends a process that has not said otherwise, and means nothing here.
UNASKED = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGPWR,
           signal.SIGXFSZ, signal.SIGXCPU, signal.SIGPIPE, signal.SIGRTMIN, signal.SIGRTMAX]
# The others a task may have asked for, by a timer, or a limit of the processor time.
UNASKED_OF_WORKERS = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGIO, signal.SIGPWR, signal.SIGXFSZ, signal.SIGPIPE, signal.SIGRTMIN,
                      signal.SIGRTMAX]
START, SETTINGS = 1, 2
FILE_BYTES = 256 * 1024


class Signals(Case):
    def test_signals_that_nobody_asked_for_change_nothing(self):
        with LedgerDaemon() as daemon, daemon.unix() as rpc:
            running = rpc.request('hold', 1, 1)
            daemon.ledger.wait_for(1)
            workers = daemon.workers()
            for number in UNASKED:
                daemon.send_signal(number)
            for pid in workers:
                for number in UNASKED_OF_WORKERS:
                    os.kill(pid, number)
            with daemon.unix() as other:
                self.assertEqual(other.call('$/ping', 1), 1)
            daemon.ledger.open_gate(1)
            self.assertIn(rpc.result(running), workers)
            self.assertEqual(daemon.workers(), workers)
            self.assertNotIn('worker died', daemon.log())

    def test_sigterm_to_every_process_drains(self):
        """A service manager signals all processes of a service, workers too: calls that run end well, and no worker dies."""
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number), LedgerDaemon() as daemon, daemon.unix() as rpc:
                workers = daemon.workers()
                running = [rpc.request('hold', call, 1) for call in (1, 2)]
                daemon.ledger.wait_for(1)
                daemon.ledger.wait_for(2)
                for pid in workers:
                    os.kill(pid, number)
                daemon.send_signal(number)
                wait_until(lambda: 'msg=draining' in daemon.log(), 'it to drain')
                self.assertEqual([is_alive(pid) for pid in workers], [True] * len(workers))
                daemon.ledger.open_gate(1)
                self.assertEqual(sorted(rpc.result(call) for call in running), sorted(workers))
                self.assertEqual(daemon.wait(), 0)
                self.assertNotIn('level=warning', daemon.log())
                self.assertNotIn('level=error', daemon.log())

    def test_a_limit_of_file_sizes_is_an_error_like_any_other(self):
        """Memory that processes share counts as a file."""
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
        for check in ((), ('--check-config',)):
            with tempfile.TemporaryDirectory(prefix='knit-') as folder:
                done = subprocess.run(
                    [os.environ['KNIT_DAEMON'], '--listen=127.0.0.1:0', '--admin=none', f'--socket={folder}/k.sock', '--workers=2',
                     '--worker-program', os.environ['KNIT_WORKER'], '--module', os.environ['KNIT_MODULE'], *check],
                    preexec_fn=limit, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=3 * PATIENCE)
                self.assertEqual(done.returncode, START, done.stderr)
                self.assertIn('knittingd: ', done.stderr)
                self.assertIn('File too large; the limit of file sizes (ulimit -f)', done.stderr)
                self.assertEqual(os.listdir(folder), [])


class Descriptors(Case):
    def test_a_daemon_without_standard_descriptors_serves_and_ends(self):
        """None of its own descriptors gets the number of one, or its log would go into what it lives on."""
        with tempfile.NamedTemporaryFile('w', prefix='knit-', delete=False) as script:
            script.write(f'#!/bin/sh\nexec "{os.environ["KNIT_DAEMON"]}" "$@" <&- >&- 2>&-\n')
        self.addCleanup(os.unlink, script.name)
        os.chmod(script.name, 0o755)
        with unittest.mock.patch.dict(os.environ, KNIT_DAEMON=script.name), Daemon() as daemon, daemon.unix() as rpc:
            self.assertEqual(rpc.call('echo', 1), 1)
            self.assertEqual({os.readlink(f'/proc/{daemon.pid}/fd/{number}') for number in range(3)}, {'/'})

    def test_the_tool_without_standard_descriptors_says_that_it_could_not_print(self):
        with Daemon() as daemon:
            for words, status in (('>&-', 7), ('<&- >&- 2>&-', 7), ('2>&-', 0), ('<&-', 0)):
                with self.subTest(words):
                    done = subprocess.run(['sh', '-c', f'exec "$0" "$@" {words}', os.environ['KNIT_TOOL'], '-u',
                                           f'unix://{daemon.socket}', 'call', 'echo', '[7]'],
                                          capture_output=True, text=True, timeout=3 * PATIENCE)
                    self.assertEqual(done.returncode, status, done.stderr)
                    self.assertEqual(done.stdout, '[7]\n' if status == 0 else '')
                    self.assertEqual('Bad file descriptor' in done.stderr, words == '>&-')


class ReadyFile(Case):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='knit-')
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.path = os.path.join(self.dir, 'ready')

    def assert_refused_and_kept(self, part, status=SETTINGS):
        before = os.lstat(self.path)
        done = subprocess.run(
            [os.environ['KNIT_DAEMON'], '--listen=127.0.0.1:0', '--admin=none', f'--socket={self.dir}/k.sock', '--workers=1',
             '--worker-program', os.environ['KNIT_WORKER'], '--module', os.environ['KNIT_MODULE'],
             '--ready-file', self.path], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=3 * PATIENCE)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertIn(part, done.stderr)
        self.assertIn(self.path, done.stderr)
        after = os.lstat(self.path)
        self.assertEqual((before.st_ino, before.st_mode, before.st_mtime_ns), (after.st_ino, after.st_mode, after.st_mtime_ns))
        self.assertEqual(os.listdir(self.dir), ['ready'])

    def test_what_is_no_regular_file_is_refused_and_stays(self):
        os.mkfifo(self.path)
        self.assert_refused_and_kept('no regular file')
        os.unlink(self.path)
        os.symlink('/dev/null', self.path)
        self.assert_refused_and_kept('no regular file')
        os.unlink(self.path)
        os.mkdir(self.path)
        self.assert_refused_and_kept('no regular file')
        os.rmdir(self.path)
        if os.geteuid() == 0:
            os.mknod(self.path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
            self.assert_refused_and_kept('no regular file')

    def test_a_file_of_somebody_else_is_refused_and_stays(self):
        with open(self.path, 'w') as file:
            file.write('precious\n')
        self.assert_refused_and_kept('no ready file')

    def test_that_of_a_daemon_that_serves_is_refused_and_stays(self):
        with Daemon(f'--ready-file={self.path}', wait=False) as daemon:
            wait_until(lambda: f'pid={daemon.pid}\n' in self.content(), 'the ready file')
            self.assert_refused_and_kept('of a daemon that serves', START)
            daemon.expected_status = -signal.SIGKILL
            daemon.end(signal.SIGKILL)
        # A lock that takes no right to write the file keeps nobody from starting.
        with open(self.path) as file:
            fcntl.lockf(file, fcntl.LOCK_SH)
            with Daemon(f'--ready-file={self.path}', wait=False) as other:
                wait_until(lambda: f'pid={other.pid}\n' in self.content(), 'the ready file of another')

    def test_a_stale_one_and_an_empty_one_are_replaced(self):
        for text in ('url=unix:///nowhere\npid=1\n', ''):
            with open(self.path, 'w') as file:
                file.write(text)
            with Daemon(f'--ready-file={self.path}', wait=False) as daemon:
                wait_until(lambda: f'pid={daemon.pid}\n' in self.content(), 'the ready file')

    def content(self):
        try:
            with open(self.path) as file:
                return file.read()
        except FileNotFoundError:
            return ''

    def test_it_goes_when_the_daemon_begins_to_drain(self):
        with LedgerDaemon() as daemon, daemon.unix() as rpc:
            running = rpc.request('hold', 1, 1)
            daemon.ledger.wait_for(1)
            daemon.send_signal(signal.SIGTERM)
            wait_until(lambda: not os.path.exists(daemon.ready_file), 'the ready file to go')
            self.assertIsNone(daemon.process.poll())
            daemon.ledger.open_gate(1)
            self.assertGreater(rpc.result(running), 0)

    def test_one_that_took_its_place_stays(self):
        with Daemon() as daemon:
            os.unlink(daemon.ready_file)
            other = daemon.write('ready', "somebody else's\n")
            self.assertEqual(daemon.end(), 0)
            self.assertTrue(os.path.exists(other))


class Machine(Case):
    def refused(self, command, parts):
        with tempfile.TemporaryDirectory(prefix='knit-') as folder:
            for check in ((), ('--check-config',)):
                done = subprocess.run(
                    [*command, os.environ['KNIT_DAEMON'], '--listen=127.0.0.1:0', '--admin=none', f'--socket={folder}/k.sock', '--workers=1',
                     '--worker-program', os.environ['KNIT_WORKER'], '--module', os.environ['KNIT_MODULE'], *check],
                    stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=3 * PATIENCE)
                self.assertEqual(done.returncode, START, done.stderr)
                for part in parts:
                    self.assertIn(part, done.stderr)

    def test_without_proc(self):
        hide = ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs none /proc && exec "$0" "$@"']
        if subprocess.run([*hide, 'true'], capture_output=True, timeout=30).returncode != 0:
            self.skipTest('/proc cannot be hidden here')
        self.refused(hide, ['/proc has to be mounted'])

    def test_without_close_range(self):
        for name in 'ENOSYS', 'EPERM':
            self.refused([os.environ['KNIT_OLD_KERNEL'], f'close_range={name}'], ['close_range', 'Linux 5.9'])

    def test_a_worker_goes_first_when_memory_is_short(self):
        def score(pid):
            with open(f'/proc/{pid}/oom_score_adj') as file:
                return int(file.read())
        with LedgerDaemon() as daemon:
            self.assertEqual({score(pid) for pid in daemon.workers()}, {500})
            self.assertEqual(score(daemon.pid), score(os.getpid()))

    def test_a_terminal_that_stops_writers_in_the_background_stops_no_daemon(self):
        """stty tostop, and the daemon's log goes to that terminal."""
        pid, terminal = pty.fork()
        if pid == 0:
            try:
                attributes = termios.tcgetattr(0)
                attributes[3] |= termios.TOSTOP
                termios.tcsetattr(0, termios.TCSANOW, attributes)
                with open('/dev/tty', 'wb', buffering=0) as tty, \
                        unittest.mock.patch.object(subprocess, 'Popen', self.in_background(subprocess.Popen)), \
                        Daemon(log_fd=tty.fileno()) as daemon, daemon.unix() as rpc:
                    os._exit(0 if rpc.call('echo', 7) == 7 and daemon.end() == 0 else 2)
            finally:
                os._exit(1)
        said = b''
        with contextlib.suppress(OSError):
            while part := os.read(terminal, 65536):
                said += part
        os.close(terminal)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0, said)
        self.assertIn(b'msg=ready', said)

    @staticmethod
    def in_background(popen):
        return lambda *arguments, **options: popen(*arguments, preexec_fn=lambda: os.setpgid(0, 0), **options)


if __name__ == '__main__':
    main()
