# SPDX-License-Identifier: Apache-2.0
"""One session of the library with several daemons: how calls are shared, and what one that stops, dies or is replaced
costs. With servers of the test's own: tests/clients/test_spread.c.

R13 with the library's own callers, 100 restarts, prints what it found:

    KNIT_TEST_LONG=1 meson test -C build system-spread --test-args Rolling --verbose
"""

import os
import signal
import time

from knit_harness import PATIENCE, Case, Daemon, main, wait_until
from knit_spread import Caller, served
from test_restart import after

RESTARTS = 100 if os.environ.get('KNIT_TEST_LONG') == '1' else 4


class Shared(Case):
    def test_in_proportion_to_workers(self):
        with Daemon(workers=1) as small, Daemon(workers=3) as large, Caller((small, large), 24, 5) as caller:
            wait_until(lambda: served(small) and served(large), 'calls at both')
            before = served(small), served(large)
            caller.goes_on(800)
            here, there = served(small) - before[0], served(large) - before[1]
            self.assertGreater(here / (here + there), 0.15, (here, there))
            self.assertLess(here / (here + there), 0.35, (here, there))
            caller.end()
            self.assertEqual((caller.unstarted, caller.failed), (0, 0), caller.last)
            print(f'1 worker of 4: {here} of {here + there} calls')

    def test_one_that_stops_is_left_out_and_comes_back(self):
        with Daemon() as first, Daemon() as second, Daemon() as third, \
                Caller((first, second, third), 24, 2, 500) as caller:
            wait_until(lambda: all(served(daemon) for daemon in (first, second, third)), 'calls at all')
            first.send_signal(signal.SIGSTOP)
            try:
                begin = time.monotonic()
                wait_until(lambda: caller.ask().failed, 'what it has to fail')
                caller.goes_on(500)
                # What it has got by now is over.
                wait_until(lambda: time.monotonic() - begin > 4, 'it to be ejected')
                lost = caller.ask().failed
                caller.goes_on(500)
                self.assertEqual(caller.failed, lost, caller.last)
                self.assertLessEqual(lost, 200)
            finally:
                first.send_signal(signal.SIGCONT)
            before = served(first)
            wait_until(lambda: served(first) > before + 50, 'it to take calls again', 6 * PATIENCE)
            caller.end()
            self.assertEqual(caller.unstarted, 0, caller.last)
            print(f'stopped: {lost} calls lost of {caller.ok}')

    def test_one_that_dies_is_left_out_and_comes_back(self):
        first, second = Daemon(), Daemon()
        first.expected_status = -signal.SIGKILL
        with first, second, Caller((first, second), 16, 2) as caller:
            wait_until(lambda: served(first) and served(second), 'calls at both')
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
            caller.goes_on(500)
            lost = caller.failed
            self.assertLessEqual(lost, 16, caller.last)
            with Daemon(listen=f'127.0.0.1:{first.port}') as again:
                wait_until(lambda: served(again) > 50, 'it to take calls again', 6 * PATIENCE)
                caller.end()
            self.assertEqual((caller.unstarted, caller.failed), (0, lost), caller.last)
            print(f'killed: {lost} calls lost of {caller.ok}')

    def test_calls_go_on_in_a_place_where_nobody_listens(self):
        with Daemon() as first, Daemon() as second:
            second.end()
            with Caller((first, second), 8, 1) as caller:
                caller.goes_on(300)
                caller.end()
                self.assertEqual((caller.unstarted, caller.failed), (0, 0), caller.last)


class Named(Case):
    def test_a_name_whose_addresses_change(self):
        with Daemon() as first, Daemon(listen=f'127.0.0.2:{first.port}') as second, \
                Daemon(listen=f'127.0.0.3:{first.port}') as third:
            def have(*addresses):
                os.rename(first.write('new', '\n'.join(addresses)), addresses_path)

            addresses_path = os.path.join(first.dir, 'addresses')
            have('127.0.0.1', '127.0.0.2')
            with Caller([first], 8, 1, addresses=addresses_path) as caller:
                wait_until(lambda: served(first) and served(second), 'calls at both')
                self.assertEqual(served(third), 0)
                have('127.0.0.3', '127.0.0.2')
                wait_until(lambda: served(third), 'calls at the new one')
                # The one that asks is the only connection.
                wait_until(lambda: first.stats()['connections'] == 1, 'the old one to be left')
                before = served(first)
                caller.goes_on(200)
                self.assertEqual(served(first), before)
                caller.end()
                self.assertEqual((caller.unstarted, caller.failed), (0, 0), caller.last)


class Rolling(Case):
    def test_two_daemons_by_turns(self):
        with Daemon() as one, Daemon() as other, Caller((one, other), 16, 2) as caller:
            wait_until(lambda: served(one) and served(other), 'calls at both')
            daemons, rest = [one, other], []
            try:
                for i in range(RESTARTS):
                    elder = daemons[i % 2]
                    daemons[i % 2] = after(elder)
                    rest.append(daemons[i % 2])
                    self.assertEqual(elder.wait(), 0)
                    wait_until(lambda: served(daemons[i % 2]), 'calls at the new one')
                    caller.goes_on(50)
                caller.end()
                self.assertEqual((caller.unstarted, caller.failed), (0, 0), caller.last)
            finally:
                for daemon in rest:
                    daemon.__exit__(None)
            print(f'{RESTARTS} restarts: {caller.ok} calls, none failed')


if __name__ == '__main__':
    main()
