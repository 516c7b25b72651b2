# SPDX-License-Identifier: Apache-2.0
"""Sessions of the library that live longer than their daemon."""

import os
import signal
import subprocess

from knit_harness import PATIENCE, Case, Daemon, main, wait_until

RETURNS = os.environ['KNIT_RETURNS']


class Reconnect(Case):
    def test_a_session_goes_on_with_the_next_daemon(self):
        for scheme in 0, 1, 2:
            first = Daemon()
            first.expected_status = -signal.SIGKILL
            with self.subTest(first.urls[scheme]), first:
                caller = subprocess.Popen([RETURNS, first.urls[scheme]], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                          text=True)
                self.addCleanup(caller.wait)
                self.addCleanup(caller.kill)
                self.assertEqual(caller.stdout.readline(), 'before\n')
                os.kill(first.pid, signal.SIGKILL)
                first.wait()
                caller.stdin.write('\n')
                caller.stdin.flush()
                self.assertEqual(caller.stdout.readline(), 'between\n')
                with Daemon(listen=f'127.0.0.1:{first.port}', socket=first.socket):
                    self.assertEqual(caller.communicate(timeout=6 * PATIENCE)[0], 'after\n')
                    self.assertEqual(caller.returncode, 0)

    def test_a_call_goes_on_where_it_is_while_the_next_daemon_takes_others(self):
        with Daemon(drain_ms=3600000) as first:
            url = f'knit://127.0.0.1:{first.port}'
            caller = subprocess.Popen([RETURNS, url, 'beside'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.addCleanup(caller.wait)
            self.addCleanup(caller.kill)
            self.assertEqual(caller.stdout.readline(), 'before\n')
            first.send_signal(signal.SIGTERM)
            wait_until(lambda: 'msg=draining' in first.log(), 'it to drain')
            with Daemon(listen=f'127.0.0.1:{first.port}'):
                self.assertEqual(caller.communicate('\n', timeout=6 * PATIENCE)[0], 'after\n')
                self.assertEqual(caller.returncode, 0)
                self.assertEqual(first.wait(), 0)

    def test_a_session_goes_from_one_of_several_daemons_to_the_next(self):
        first, second = Daemon(), Daemon()
        first.expected_status = second.expected_status = -signal.SIGKILL
        with first, second:
            url = f'knit://127.0.0.1:{first.port},127.0.0.1:{second.port}'
            caller = subprocess.Popen([RETURNS, url, 'round'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.addCleanup(caller.wait)
            self.addCleanup(caller.kill)

            def expect(line):
                self.assertEqual(caller.stdout.readline(), line + '\n')

            def let_on():
                caller.stdin.write('\n')
                caller.stdin.flush()

            expect('before')
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
            let_on()
            expect('between')
            with Daemon(listen=f'127.0.0.1:{first.port}'):
                os.kill(second.pid, signal.SIGKILL)
                second.wait()
                let_on()
                expect('after')
                self.assertEqual(caller.wait(PATIENCE), 0)


if __name__ == '__main__':
    main()
