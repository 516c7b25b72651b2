# SPDX-License-Identifier: Apache-2.0
"""How a daemon ends: who is told, who is served meanwhile, and for how long."""

import mmap
import os
import signal
import subprocess
import time

from knit_attach import LAYOUT, REPLY, attach
from knit_harness import PATIENCE, SLOWDOWN, Case, Daemon, main, wait_until
from knit_witness import LedgerDaemon

DRAINING, DENIED = 202, 301
# The state of a session, in its reply segment.
STATE, OPEN, STATE_DRAINING = 4096, 0, 1
KNIT = os.environ['KNIT_TOOL']


def knit(url, *words):
    return subprocess.run([KNIT, '-u', url, *words], capture_output=True, text=True, timeout=PATIENCE)


class Plain(Case):
    """Clients that have not said hello."""

    def test_they_are_served_until_half_of_the_time(self):
        half = 2 * SLOWDOWN
        with Daemon(drain_ms=int(2000 * half)) as daemon, daemon.tcp() as plain, daemon.unix() as known, \
                daemon.unix() as busy:
            # It keeps the daemon for longer than half of the time: a client with no call in flight has its answer as well.
            busy.request('sleep', int(1500 * half))
            known.hello()
            self.assertEqual(plain.call('add', 1, 2), 3)
            began = time.monotonic()
            daemon.send_signal(signal.SIGTERM)
            wait_until(lambda: known.notifications or not known.receive(), 'goaway')
            self.assertEqual(known.notifications[0][0], '$/goaway')
            self.assert_fails(DRAINING, known.call, 'add', 1, 2)
            served, error = 0, None
            while error is None:
                error, result = plain.response(plain.request('add', served, 1))
                if error is None:
                    self.assertEqual(result, served + 1)
                    served += 1
            self.assertRegex(error, '^202 DRAINING: ')
            self.assertGreater(time.monotonic() - began, half * 0.9)
            self.assertGreater(served, 100)
            self.assertEqual(plain.notifications, [])
            self.assertEqual(daemon.wait(), 0)
            self.assertLess(time.monotonic() - began, 2 * half)

    def test_the_daemon_does_not_wait_for_one_that_has_gone(self):
        with Daemon(drain_ms=3600000) as daemon:
            with daemon.tcp() as plain, daemon.tcp() as second:
                self.assertEqual(plain.call('add', 1, 2), 3)
                self.assertEqual(second.call('add', 1, 2), 3)
                daemon.send_signal(signal.SIGTERM)
                wait_until(lambda: 'msg=draining' in daemon.log(), 'it to drain')
                self.assertEqual(plain.call('add', 3, 2), 5)
                # It can be told now, and the other one has called in vain.
                second.hello()
                wait_until(lambda: second.notifications or not second.receive(), 'goaway')
                self.assert_fails(DRAINING, second.call, 'add', 1, 2)
                self.assertEqual(plain.call('add', 3, 2), 5)
            self.assertEqual(daemon.wait(), 0)

    def test_a_second_signal_ends_their_time(self):
        with Daemon(drain_ms=3600000) as daemon, daemon.tcp() as plain:
            self.assertEqual(plain.call('add', 1, 2), 3)
            daemon.send_signal(signal.SIGTERM)
            wait_until(lambda: 'msg=draining' in daemon.log(), 'it to drain')
            self.assertEqual(plain.call('add', 3, 2), 5)
            daemon.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(), 0)

    def test_a_long_call_of_theirs_that_waits_is_not_refused_before(self):
        with Daemon(workers=1, in_flight_max=1, drain_ms=3600000) as daemon:
            with daemon.tcp() as plain:
                ids = [plain.request('sleep', 20) for _ in range(20)]
                daemon.send_signal(signal.SIGTERM)
                self.assertEqual([plain.result(msgid) for msgid in ids], [None] * 20)
            self.assertEqual(daemon.wait(), 0)


class Asked(Case):
    def test_knit_drain_ends_the_daemon(self):
        for scheme in 'unix', 'shm':
            with self.subTest(scheme), Daemon(drain_ms=3600000) as daemon:
                with daemon.tcp() as plain:
                    self.assertEqual(plain.call('add', 1, 2), 3)
                    url = f'{scheme}://{daemon.socket}'
                    with daemon.unix() as asker:
                        asker.hello()
                        self.assertEqual(knit(url, 'drain').stdout, 'it drains\n')
                        # Whoever asked before it began may ask again, and ends nothing by that.
                        self.assertIs(asker.call('$/drain'), False)
                    self.assertEqual(plain.call('add', 1, 2), 3)
                    self.assertFalse(os.path.exists(daemon.socket))
                self.assertEqual(daemon.wait(), 0)
                self.assertIn('msg="asked to drain"', daemon.log())

    def test_the_first_signal_after_it_ends_no_call(self):
        with LedgerDaemon(drain_ms=3600000) as daemon, daemon.unix() as asker, daemon.tcp() as rpc:
            asker.hello()
            msgid = rpc.request('hold', 1, 1)
            daemon.ledger.wait_for(1)
            self.assertIs(asker.call('$/drain'), True)
            wait_until(lambda: 'msg=draining' in daemon.log(), 'it to drain')
            daemon.send_signal(signal.SIGTERM)
            # The other worker serves, and the signal has come before.
            rpc.call('ledger', 2)
            daemon.ledger.open_gate(1)
            rpc.result(msgid)
            rpc.call('ledger', 3)
            daemon.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(), 0)

    def test_what_it_cannot_print_it_has_done(self):
        with Daemon() as daemon, open('/dev/full', 'w') as full:
            done = subprocess.run([KNIT, '-u', daemon.urls[1], 'drain'], stdout=full, stderr=subprocess.PIPE, text=True,
                                  timeout=PATIENCE)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn('cannot write the output', done.stderr)
            self.assertEqual(daemon.wait(), 0)

    def test_only_root_and_the_daemon_s_user_may(self):
        with Daemon() as daemon, daemon.tcp() as rpc:
            done = knit(daemon.urls[0], 'drain')
            self.assertNotEqual(done.returncode, 0)
            self.assertIn('DENIED: $/drain: only root', done.stderr)
            self.assert_fails(DENIED, rpc.call, '$/drain')
            self.assertEqual(rpc.call('add', 1, 2), 3)
            self.assertNotIn('msg=draining', daemon.log())

    def test_a_caller_by_shared_memory_sees_it_at_once(self):
        with Daemon(drain_ms=3600000) as daemon:
            with daemon.tcp() as plain, daemon.unix() as lease:
                _, fds = attach(lease)
                reply = mmap.mmap(fds[REPLY], 0, prot=mmap.PROT_READ)
                for fd in fds:
                    os.close(fd)
                self.assertEqual(plain.call('add', 1, 2), 3)
                self.assertEqual(reply[STATE], OPEN)
                asker = daemon.unix()
                self.assertIs(asker.call('$/drain'), True)
                wait_until(lambda: reply[STATE] == STATE_DRAINING, 'it to be told')
                self.assertEqual(plain.call('add', 1, 2), 3)
                self.assert_fails(DRAINING, asker.call, '$/attach', {'version': LAYOUT})
                asker.close()
            self.assertEqual(daemon.wait(), 0)


if __name__ == '__main__':
    main()
