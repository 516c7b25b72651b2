# SPDX-License-Identifier: Apache-2.0
"""What whoever runs the daemon is told: sentences that name the cause, and log lines that say who, in which task, how long."""

import os
import shutil
import subprocess
import tempfile

from knit_harness import PATIENCE, Case, Daemon, main, wait_until

REFUSED = 1, 2
NOBODY = 65534 if os.geteuid() == 0 else None


class Sentences(Case):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='knit-')
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def refused(self, part, *arguments, socket=True, user=None, **environment):
        place = [f'--socket={self.dir}/k.sock'] if socket else []
        done = subprocess.run(
            [os.environ['KNIT_DAEMON'], '--worker-program', os.environ['KNIT_WORKER'], '--module', os.environ['KNIT_MODULE'],
             '--workers=1', *place, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=3 * PATIENCE, user=user, env={**os.environ, **environment})
        self.assertIn(done.returncode, REFUSED, done.stderr)
        sentences = [line for line in done.stderr.splitlines() if line.startswith('knittingd: ')]
        self.assertEqual(len(sentences), 1, done.stderr)
        self.assertIn(part, sentences[0])

    def test_a_port_out_of_range(self):
        self.refused("expected a port from 0 to 65535, not '127.0.0.1:70000'", '--listen=127.0.0.1:70000')

    def test_an_address_given_twice(self):
        with Daemon() as daemon:
            port = daemon.port
        self.refused('is given twice', f'--listen=127.0.0.1:{port}', f'--listen=127.0.0.1:{port}')

    def test_port_0_given_twice_is_two_ports(self):
        with Daemon('--listen=127.0.0.1:0') as daemon:
            self.assertEqual(len({url for url in daemon.urls if url.startswith('knit://')}), 2)

    def test_a_unit_that_is_none(self):
        self.refused('with KiB, MiB or GiB right behind it', '--arena-bytes=1G')

    def test_a_relative_runtime_folder(self):
        """Root's usual place is another one, so root tries it as somebody else."""
        self.refused("$XDG_RUNTIME_DIR is 'run/me', which is no absolute path", '--listen=127.0.0.1:0', socket=False, user=NOBODY,
                     XDG_RUNTIME_DIR='run/me')


class Log(Case):
    def test_a_replaced_worker_has_no_empty_reason(self):
        with Daemon(workers=1) as daemon, daemon.tcp() as rpc:
            self.assert_fails(400, rpc.call, 'crash', 'abort')
            wait_until(lambda: 'worker replaced' in daemon.log(), 'the replacement')
            self.assertNotIn('reason=""', daemon.log())

    def test_a_hard_timeout_says_task_and_milliseconds(self):
        with Daemon(workers=1, hard_timeout_ms=100) as daemon, daemon.tcp() as rpc:
            failed = self.assert_fails(401, rpc.call, 'sleep', 60000)
            self.assertIn('the task sleep ran longer than its hard timeout of 100 ms', failed.text)
            line, = (line for line in daemon.log().splitlines() if 'hard timeout' in line)
            self.assertIn('task=sleep hard_timeout_ms=100', line)


main()
