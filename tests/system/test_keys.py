# SPDX-License-Identifier: Apache-2.0
"""Idempotency keys on the wire: a repeated key joins the call that runs or gets its outcome, in whatever loop and on
whatever connection; what ran is known by the ledger, which counts it."""

import os
import signal

import msgpack

from knit_harness import Case, main, wait_until
from knit_witness import Ledger, LedgerDaemon

QUOTA, UNKNOWN_TASK, TIMEOUT, CANCELLED, DUPLICATE, WORKER_DIED, TASK_FAILED = 201, 300, 303, 304, 306, 400, 600
OF_ONE = 4096


class Keys(Case):
    def setUp(self):
        self.ledger = Ledger()
        self.addCleanup(self.ledger.close)

    def daemon(self, workers=2, threads_io=2, **options):
        return LedgerDaemon(ledger=self.ledger, workers=workers, threads_io=threads_io, **options)

    def connect(self, opened):
        rpc = opened()
        self.addCleanup(rpc.close)
        rpc.hello()
        return rpc

    def fails(self, rpc, msgid, code, started):
        error, _ = rpc.response(msgid)
        self.assertIsNotNone(error)
        self.assertEqual((error[0], error[2]['started']), (code, started), error)
        return error

    def begin(self, rpc, call, gate, key, **options):
        """A call that waits at the gate, and has begun."""
        msgid = rpc.request('hold', call, gate, False, options={'key': key, **options})
        self.ledger.wait_for(call)
        return msgid

    def join(self, daemon, rpc, call, gate, key, **options):
        joined = daemon.stats()['loops']['keys_joined']
        msgid = rpc.request('hold', call, gate, False, options={'key': key, **options})
        wait_until(lambda: daemon.stats()['loops']['keys_joined'] > joined, 'the request to join')
        return msgid

    def test_a_repeated_key_gets_the_outcome_and_runs_nothing(self):
        with self.daemon() as daemon:
            for number, (_, opened) in enumerate(daemon.transports()):
                rpc, other = self.connect(opened), self.connect(opened)
                self.assertIn('key', rpc.hello()['features'])
                first = rpc.call('ledger', number, options={'key': 'k'})
                for again in rpc, other:
                    for key in 'k', b'k':
                        self.assertEqual(again.call('ledger', number, options={'key': key}), first)
                self.assertEqual(self.ledger.ran(number), 1)
                rpc.call('ledger', number, options={'key': 'l'})
                rpc.call('ledger', number)
                self.assertEqual(self.ledger.ran(number), 3)
            self.assertEqual(daemon.stats()['loops']['keys_repeated'], 8)

    def test_requests_of_all_loops_join_the_call_that_runs(self):
        with self.daemon() as daemon:
            all_of_them = [self.connect(daemon.tcp) for _ in range(6)]
            waiting = [self.begin(all_of_them[0], 1, 1, 'k')]
            waiting += [self.join(daemon, rpc, 1, 1, 'k') for rpc in all_of_them[1:]]
            waiting.append(self.join(daemon, all_of_them[0], 1, 1, 'k'))
            all_of_them.append(all_of_them[0])
            self.ledger.open_gate(1)
            results = {rpc.result(msgid) for rpc, msgid in zip(all_of_them, waiting)}
            self.assertEqual(len(results), 1)
            self.assertEqual(self.ledger.ran(1), 1)

    def test_another_content_is_refused(self):
        with self.daemon() as daemon:
            rpc = self.connect(daemon.unix)
            held = self.begin(rpc, 1, 1, 'k')
            for method, *params in (('hold', 1, 2, False), ('ledger', 1), ('hold', 1, 1, True)):
                self.fails(rpc, rpc.request(method, *params, options={'key': 'k'}), DUPLICATE, 'no')
            self.ledger.open_gate(1)
            rpc.result(held)
            self.fails(rpc, rpc.request('ledger', 1, options={'key': 'k'}), DUPLICATE, 'no')
            self.assertEqual(self.ledger.ran(1), 1)
            self.assertEqual(daemon.stats()['loops']['keys_refused'], 4)

    def test_a_key_is_one_principals(self):
        with self.daemon() as daemon:
            for opened in daemon.tcp, daemon.unix:
                self.connect(opened).call('ledger', 1, options={'key': 'k'})
            self.assertEqual(self.ledger.ran(1), 2)

    def test_a_call_outlives_its_connection(self):
        with self.daemon() as daemon:
            for number, (_, opened) in enumerate(daemon.transports()):
                first = self.connect(opened)
                self.begin(first, number, number, 'k')
                closed = daemon.stats()['loops']['connections_closed']
                first.close()
                wait_until(lambda: daemon.stats()['loops']['connections_closed'] > closed + 1, 'its end')
                second = self.connect(opened)
                joined = self.join(daemon, second, number, number, 'k')
                self.ledger.open_gate(number)
                second.result(joined)
                self.assertEqual(self.ledger.ran(number), 1)

    def test_a_cancel_leaves_for_itself_alone(self):
        with self.daemon() as daemon:
            one, other = self.connect(daemon.tcp), self.connect(daemon.tcp)
            for reason in ([], ['later']):
                call = len(reason)
                first = self.begin(one, call, call, f'k{call}')
                second = self.join(daemon, other, call, call, f'k{call}')
                one.notify('$/cancel', first, *reason)
                self.fails(one, first, CANCELLED, 'unknown')
                third = self.join(daemon, one, call, call, f'k{call}')
                other.notify('$/cancel', second, *reason)
                self.fails(other, second, CANCELLED, 'unknown')
                self.ledger.open_gate(call)
                one.result(third)
                self.assertEqual(self.ledger.ran(call), 1)

    def test_a_timeout_of_its_own_ends_the_wait_and_not_the_call(self):
        with self.daemon() as daemon:
            one, other = self.connect(daemon.tcp), self.connect(daemon.tcp)
            first = self.begin(one, 1, 1, 'k')
            self.fails(other, self.join(daemon, other, 1, 1, 'k', timeout=20), TIMEOUT, 'unknown')
            late = self.join(daemon, other, 1, 1, 'k', timeout={'time': 20, 'default': 'late'})
            self.assertEqual(other.result(late), 'late')
            self.ledger.open_gate(1)
            one.result(first)
            self.assertEqual(self.ledger.ran(1), 1)

    def test_the_calls_timeout_is_its_outcome(self):
        with self.daemon() as daemon:
            rpc = self.connect(daemon.tcp)
            first = rpc.request('hold', 1, 1, True, options={'key': 'k', 'timeout': 1000})
            self.ledger.wait_for(1)
            self.fails(rpc, first, TIMEOUT, 'yes')
            again = {'key': 'k', 'timeout': {'time': 1000, 'default': 'late'}}
            self.assertEqual(rpc.call('hold', 1, 1, True, options=again), 'late')
            self.fails(rpc, rpc.request('hold', 1, 1, True, options={'key': 'k'}), TIMEOUT, 'yes')
            self.ledger.open_gate(1)
            self.assertEqual(self.ledger.ran(1), 1)

    def test_errors_that_are_not_started_give_the_key_free(self):
        with self.daemon(workers=1) as daemon:
            rpc = self.connect(daemon.unix)
            busy = rpc.request('hold', 1, 1, True)
            self.ledger.wait_for(1)
            self.fails(rpc, rpc.request('ledger', 2, options={'key': 'k', 'queue': 5}), TIMEOUT, 'no')
            self.fails(rpc, rpc.request('nothing', options={'key': 'k'}), UNKNOWN_TASK, 'no')
            self.ledger.open_gate(1)
            rpc.result(busy)
            rpc.call('ledger', 2, options={'key': 'k'})
            self.assertEqual(self.ledger.ran(2), 1)

    def test_all_other_errors_are_kept(self):
        with self.daemon() as daemon:
            rpc = self.connect(daemon.unix)
            errors = [self.fails(rpc, rpc.request('ledger', -1, options={'key': 'f'}), TASK_FAILED, 'yes') for _ in '12']
            self.assertEqual(errors[0], errors[1])
            died = self.begin(rpc, 1, 1, 'd')
            os.kill(self.ledger.worker(1), signal.SIGKILL)
            for msgid in died, rpc.request('hold', 1, 1, False, options={'key': 'd'}):
                self.fails(rpc, msgid, WORKER_DIED, 'yes')
            self.assertEqual(self.ledger.ran(1), 1)

    def test_a_large_outcome_is_had_once(self):
        body = b'x' * (2 << 20)
        with self.daemon() as daemon:
            rpc = self.connect(daemon.unix)
            self.assertEqual(rpc.call('carry', 1, 0, body, options={'key': 'k'}), body)
            self.fails(rpc, rpc.request('carry', 1, 0, body, options={'key': 'k'}), DUPLICATE, 'yes')
            self.assertEqual(self.ledger.ran(1), 1)
            again = rpc.call('carry', 2, 0, body[:60000], options={'key': 'l'})
            self.assertEqual(rpc.call('carry', 2, 0, body[:60000], options={'key': 'l'}), again)
            self.assertEqual(self.ledger.ran(2), 1)

    def test_full_it_refuses_and_forgets_nothing(self):
        with self.daemon() as daemon:
            rpc = self.connect(daemon.tcp)
            for begin in range(0, OF_ONE, 512):
                sent = [rpc.request('ledger', call, options={'key': f'{call}'}) for call in range(begin, begin + 512)]
                for msgid in sent:
                    rpc.result(msgid)
            error = self.fails(rpc, rpc.request('ledger', 0, options={'key': 'more'}), QUOTA, 'no')
            self.assertTrue(0 < error[2]['retry_after_ms'] <= 60000, error)
            self.assertRegex(daemon.log(), 'msg="call refused" code=QUOTA reason="there is no room for another key: .*'
                                           'principal=anonymous task=ledger ')
            for call in (0, OF_ONE - 1):
                rpc.call('ledger', call, options={'key': f'{call}'})
                self.assertEqual(self.ledger.ran(call), 1)
            self.connect(daemon.unix).call('ledger', OF_ONE, options={'key': 'more'})
            rpc.call('ledger', OF_ONE)
            self.assertEqual(self.ledger.ran(OF_ONE), 2)

    def test_what_nobody_waits_for_has_as_long_as_a_notification(self):
        with self.daemon(notification_max_ms=1) as daemon:
            one, other, third = (self.connect(daemon.tcp) for _ in '123')
            self.begin(one, 1, 1, 'k')
            joined = self.join(daemon, other, 1, 1, 'k')
            self.begin(one, 2, 2, 'l')
            one.close()
            # Of the second one the task stops by itself when it is told to.
            wait_until(lambda: daemon.stats()['loops']['calls_failed'] > 0, 'the abort')
            self.fails(third, third.request('hold', 2, 2, False, options={'key': 'l'}), TASK_FAILED, 'yes')
            self.ledger.open_gate(1)
            other.result(joined)
            self.assertEqual((self.ledger.ran(1), self.ledger.ran(2)), (1, 1))

    def test_other_calls_may_refer_to_one(self):
        def ref(msgid):
            return msgpack.ExtType(40, msgpack.packb(msgid))
        with self.daemon() as daemon:
            rpc = self.connect(daemon.unix)
            first = self.begin(rpc, 1, 1, 'k')
            same = rpc.request('same', ref(first))
            second = self.join(daemon, rpc, 1, 1, 'k')
            last = rpc.request('same', ref(second), options={'key': 's'})
            kept = rpc.request('ledger', 2, options={'key': 'kept', 'keep': 1})
            self.assertTrue(rpc.result(kept))
            self.assertEqual(rpc.call('same', ref(kept)), self.ledger.worker(2))
            self.ledger.open_gate(1)
            self.assertEqual({rpc.result(msgid) for msgid in (first, same, second, last)}, {self.ledger.worker(1)})

    def test_a_daemon_that_drains_gives_all_their_outcomes(self):
        with self.daemon() as daemon:
            both = [self.connect(daemon.tcp) for _ in '1234']
            waiting = [self.begin(both[0], 1, 1, 'k')] + [self.join(daemon, rpc, 1, 1, 'k') for rpc in both[1:]]
            daemon.send_signal(signal.SIGTERM)
            wait_until(lambda: 'draining' in daemon.log(), 'the drain to begin')
            self.ledger.open_gate(1)
            self.assertEqual(len({rpc.result(msgid) for rpc, msgid in zip(both, waiting)}), 1)
            daemon.wait()


if __name__ == '__main__':
    main()
