# SPDX-License-Identifier: Apache-2.0
"""A daemon and a tool in rude surroundings: signals that nobody asked for, standard descriptors that are closed, limits."""

import os
import resource
import signal
import subprocess
import tempfile
import unittest.mock

from knit_harness import PATIENCE, Case, Daemon, main, wait_until
from knit_witness import LedgerDaemon, is_alive

# What ends a process that has not said otherwise, and means nothing here.
UNASKED = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGPWR,
           signal.SIGXFSZ, signal.SIGXCPU, signal.SIGPIPE, signal.SIGRTMIN, signal.SIGRTMAX]
FILE_BYTES = 256 * 1024


class Signals(Case):
    def test_signals_that_nobody_asked_for_change_nothing(self):
        with LedgerDaemon() as daemon, daemon.unix() as rpc:
            running = rpc.request('hold', 1, 1)
            daemon.ledger.wait_for(1)
            for number in UNASKED:
                daemon.send_signal(number)
            with daemon.unix() as other:
                self.assertEqual(other.call('$/ping', 1), 1)
            daemon.ledger.open_gate(1)
            self.assertGreater(rpc.result(running), 0)

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
        with tempfile.TemporaryDirectory(prefix='knit-') as folder:
            done = subprocess.run(
                [os.environ['KNIT_DAEMON'], '--listen=127.0.0.1:0', f'--socket={folder}/k.sock', '--workers=2',
                 '--worker-program', os.environ['KNIT_WORKER'], '--module', os.environ['KNIT_MODULE']],
                preexec_fn=limit, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=3 * PATIENCE)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn('knittingd: ', done.stderr)
            self.assertIn('File too large', done.stderr)
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


if __name__ == '__main__':
    main()
