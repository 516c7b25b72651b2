# SPDX-License-Identifier: Apache-2.0
"""Places are kept for those who need one: descriptors for workers, connections for the unix socket, sessions for users who
have none."""

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import unittest.mock

from knit_attach import attach, grant
from knit_harness import PATIENCE, Case, Daemon, RpcError, main, wait_until
from knit_witness import LedgerDaemon, is_alive

FILES = 300
QUOTA = 201


@contextlib.contextmanager
def few_files(count):
    """Daemons that are started meanwhile may open so many files, and cannot change that."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    popen = subprocess.Popen

    def limited(*arguments, **options):
        return popen(*arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count)), **options)
    with unittest.mock.patch.object(subprocess, 'Popen', limited):
        yield
    assert before == resource.getrlimit(resource.RLIMIT_NOFILE)


class Descriptors(Case):
    def test_a_flood_of_connections_leaves_what_a_new_worker_needs(self):
        with few_files(FILES):
            daemon = LedgerDaemon()
        with daemon, contextlib.ExitStack() as stack:
            open_count = 0
            for _ in range(2 * FILES):
                rpc = stack.enter_context(daemon.tcp())
                with contextlib.suppress(EOFError, ConnectionError):
                    open_count += rpc.call('$/ping', 1)
            self.assertGreater(open_count, FILES // 8)
            self.assertLess(open_count, FILES)
            with daemon.unix() as rpc:
                self.assertEqual(rpc.call('$/ping', 1), 1, 'the unix socket has places of its own')
            for pid in daemon.wait_for_workers(2):
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda: not is_alive(pid), 'it to die')
                wait_until(lambda: pid not in daemon.wait_for_workers(2), 'another to take its place')
            with daemon.unix() as rpc:
                fds = attach(rpc)[1]
                for fd in fds:
                    os.close(fd)
            print(f'{open_count} connections of {FILES} descriptors')
            self.assertIn(f'files={FILES}', daemon.log())
            self.assertIn('msg="fewer connections than max_connections"', daemon.log())

    def test_too_few_for_anything_are_refused(self):
        with few_files(40):
            for check in ((), ('--check-config',)):
                process = subprocess.Popen(
                    [os.environ['KNIT_DAEMON'], '--listen=127.0.0.1:0', '--admin=none', '--socket=none', '--workers=8', '--worker-program',
                     os.environ['KNIT_WORKER'], '--module', os.environ['KNIT_MODULE'], *check],
                    stderr=subprocess.PIPE, text=True)
                _, stderr = process.communicate(timeout=3 * PATIENCE)
                self.assertEqual(process.returncode, 1, stderr)
                self.assertIn('ulimit -n', stderr)
                self.assertIn('40', stderr)


class Sessions(Case):
    def test_a_users_parallel_calls_of_the_tool_all_succeed(self):
        with Daemon() as daemon:
            # Sessions that end count until every worker has detached them, so fewer run than there are places.
            script = (f'for i in $(seq 20); do (for j in $(seq 10); do "$0" -u shm://{daemon.socket} call echo 1 || '
                      'echo failed; done) & done; wait')
            done = subprocess.run(['sh', '-c', script, os.environ['KNIT_TOOL']], capture_output=True, text=True,
                                  timeout=12 * PATIENCE)
            self.assertEqual(done.stdout.split(), ['1'] * 200, done.stderr)

    def test_one_user_never_has_them_all(self):
        """16 are kept for users who have none, a quarter where there are few for all."""
        with Daemon(workers=1, sessions_per_user=120, arena_bytes='64KiB') as daemon, contextlib.ExitStack() as stack:
            rpcs = (stack.enter_context(daemon.unix()) for _ in range(120))
            granted = 0
            with self.assertRaises(RpcError) as refused:
                for rpc in rpcs:
                    for fd in grant(rpc, slots=1, arena=4096)[1]:
                        os.close(fd)
                    granted += 1
            for_all = int(re.search(r'there are (\d+) for all', refused.exception.text)[1])
            self.assertEqual((refused.exception.code, granted), (QUOTA, for_all - min(16, for_all // 4)))

    def test_the_limit_is_a_setting_and_stands_in_the_error(self):
        with Daemon(sessions_per_user=2) as daemon, contextlib.ExitStack() as stack:
            for _ in range(2):
                for fd in grant(stack.enter_context(daemon.unix()))[1]:
                    os.close(fd)
            with daemon.unix() as rpc:
                error = self.assert_fails(QUOTA, grant, rpc)
            self.assertIn('2, by sessions_per_user', error.text)


if __name__ == '__main__':
    main()
