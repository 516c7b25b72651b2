# SPDX-License-Identifier: Apache-2.0
"""knit check: an operator inspects a daemon that works, that is stopped, that is broken, and a process that is none."""

import json
import os
import signal
import struct
import subprocess
import threading

from knit_attach import attach_and_forget, seal, grant, send_attached
from knit_harness import PATIENCE, Case, Daemon, main, wait_until

KNIT = os.environ['KNIT_TOOL']
STATE = 4096  # of a reply segment: the session's state


def check(*arguments, **options):
    return subprocess.run([KNIT, 'check', *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=6 * PATIENCE, **options)


class Check(Case):
    def check(self, daemon, status=0):
        result = check('--json', daemon.pid)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return json.loads(result.stdout)

    def test_a_daemon_at_work(self):
        with Daemon() as daemon:
            url = next(url for url in daemon.urls if url.startswith('shm:'))
            with subprocess.Popen([KNIT, '-u', url, 'call', 'sleep', '60000']) as caller:
                try:
                    # A worker writes down what it runs after it has claimed it; before, the session is there, and has no
                    # counts until it is attached.
                    ran = wait_until(lambda: next(
                        (lane['session'] for lane in self.check(daemon)['lanes'] if 'session' in lane), None), 'the call')
                    found = next(s for s in self.check(daemon)['sessions'] if s['id'] == ran)
                    self.assertEqual((found['state'], found['queued'], found['running'], found['findings']),
                                     ('open', 0, 1, []))
                    result = check(daemon.pid)
                    self.assertEqual(result.returncode, 0)
                    self.assertIn('2 lanes, 2 sessions\n', result.stdout)
                    self.assertRegex(result.stdout, rf'lane \d is awake: runs task \d+ for session {found["id"]}, slot \d')
                    self.assertIn(f'session {found["id"]} is open: 0 queued, 1 running, 0 results held', result.stdout)
                    self.assertTrue(result.stdout.endswith('\nnothing is broken\n'))
                finally:
                    caller.kill()

    def test_a_session_that_is_not_attached_yet(self):
        with Daemon() as daemon, daemon.unix() as rpc:
            result, fds = grant(rpc)

            def session():
                return next(s for s in self.check(daemon)['sessions'] if s['id'] == result['id'])
            self.assertEqual(session(), {'id': result['id'], 'state': 'not attached yet', 'findings': []})
            self.assertIn(f'session {result["id"]} is not attached yet\n', check(daemon.pid).stdout)
            seal(fds)
            send_attached(rpc)
            self.assertEqual((session()['state'], session()['queued'], session()['findings']), ('open', 0, []))
            for fd in fds:
                os.close(fd)

    def test_callers_come_and_go(self):
        """A session that is half made, or half freed, is not reported as broken."""
        with Daemon() as daemon:
            is_over = threading.Event()

            def come_and_go():
                while not is_over.is_set():
                    with daemon.unix() as rpc:
                        attach_and_forget(rpc)
            callers = [threading.Thread(target=come_and_go) for _ in range(2)]
            for caller in callers:
                caller.start()
            try:
                for _ in range(30):
                    self.check(daemon)
            finally:
                is_over.set()
                for caller in callers:
                    caller.join()

    def test_a_daemon_that_is_stopped_and_broken(self):
        with Daemon() as daemon:
            os.kill(daemon.pid, signal.SIGSTOP)
            try:
                sound = self.check(daemon)
                self.assertEqual([s['findings'] for s in sound['sessions']], [[]])
                segment = f'/memfd:knit-reply-{sound["sessions"][0]["id"]} (deleted)'
                folder = f'/proc/{daemon.pid}/fd/'
                path = next(folder + fd for fd in os.listdir(folder) if os.readlink(folder + fd) == segment)
                with open(path, 'r+b', buffering=0) as reply:
                    reply.seek(STATE)
                    reply.write(struct.pack('=I', 7))
                    broken = self.check(daemon, status=1)
                    self.assertEqual(broken['sessions'][0]['findings'], ["the session's state is 7"])
                    self.assertTrue(check(daemon.pid).stdout.endswith("  the session's state is 7\n1 things are broken\n"))
                    reply.seek(STATE)
                    reply.write(struct.pack('=I', 0))
                    reply.seek(0)
                    head = reply.read(8)
                    reply.seek(0)
                    reply.write(b'\0' * 8)
                    self.assertEqual(self.check(daemon, status=1)['sessions'][0]['findings'],
                                     ['its reply segment: it does not begin like a segment'])
                    reply.seek(0)
                    reply.write(head)
                self.assertEqual(self.check(daemon)['sessions'][0]['findings'], [])
            finally:
                os.kill(daemon.pid, signal.SIGCONT)

    def test_processes_that_cannot_be_inspected(self):
        def refused(status, text, *arguments, **options):
            result = check(*arguments, **options)
            self.assertEqual((result.returncode, result.stdout), (status, ''))
            self.assertEqual(result.stderr.count('\n'), 1)
            self.assertIn(text, result.stderr)

        refused(2, 'takes the process id')
        refused(2, 'takes the process id', 'knittingd')
        refused(2, 'takes the process id', 1, 2)
        refused(3, 'has no pool', os.getpid())
        refused(3, 'does not exist', 2 ** 31 - 1)
        if os.geteuid() == 0:
            with Daemon() as daemon:
                refused(4, 'belongs to another user', daemon.pid, user=65534)


if __name__ == '__main__':
    main()
