# SPDX-License-Identifier: Apache-2.0
"""Tasks called over TCP and unix sockets: results, failures, timeouts, cancelling, waiting, ending."""

import hashlib
import os
import signal
import statistics
import threading
import time
import unittest

import msgpack

from knit_attach import LAYOUT
from knit_harness import SLOWDOWN, Case, Daemon, DaemonCase, Rpc, main, reset, wait_until
from knit_witness import LedgerDaemon

TOO_LARGE, OVERLOADED, DRAINING, STALE_EPOCH = 101, 200, 202, 205
UNKNOWN_TASK, BAD_ARGUMENT, TIMEOUT, CANCELLED = 300, 302, 303, 304
WORKER_DIED, HARD_TIMEOUT, SHUTDOWN, TASK_FAILED = 400, 401, 502, 600


class Calls(DaemonCase):
    daemon_options = {'workers': 2, 'slots': 64}

    def assert_idle(self):
        """All slots are free: as many calls as there are slots, at once, on one connection."""
        with self.daemon.tcp() as rpc:
            self.assertEqual(rpc.call_all([['add', i, 1] for i in range(200)]), list(range(1, 201)))

    def keep_workers_busy(self, rpc):
        """Calls that run until they are cancelled."""
        busy = [rpc.request('sleep', 3600000) for _ in range(2)]
        wait_until(lambda: sum(lane['is_running'] for lane in self.daemon.stats()['lanes']) == 2, 'busy workers')
        return busy

    def cancel(self, rpc, msgids):
        for msgid in msgids:
            rpc.notify('$/cancel', msgid)
        for msgid in msgids:
            self.assert_fails(CANCELLED, rpc.result, msgid)

    def test_results(self):
        data = os.urandom(100000)
        for rpc in self.both():
            self.assertEqual(rpc.call('add', 2**62, 2**62 - 1), 2**63 - 1)
            self.assertEqual(rpc.call('sha256', data), hashlib.sha256(data).hexdigest())
            self.assertEqual(rpc.call('primes_below', 10000), 1229)

    def test_values_of_every_size_come_back_whole(self):
        sizes = [0, 1, 2, 30, 31, 32, 33, 60, 90, *range(95, 115), 255, 256, 4096, 65535, 65536, 1 << 20, (8 << 20) - 64]
        for rpc in self.both():
            for size in sizes:
                data = os.urandom(size)
                self.assertEqual(rpc.call('echo', data), data)

    def test_many_large_results_on_one_connection(self):
        for rpc in self.both():
            data = [os.urandom(3 << 20) for _ in range(2)]
            self.assertEqual(rpc.call_all([['echo', data[i % 2]] for i in range(24)]), data * 12)
        self.assert_idle()

    def test_a_task_by_its_number(self):
        for rpc in self.both():
            page = rpc.call('$/tasks', {'limit': 3})
            self.assertEqual(len(page['tasks']), 3)
            self.assertIs(page['more'], True)
            tasks = page['tasks'] + rpc.call('$/tasks', {'after': page['tasks'][-1]['id']})['tasks']
            number = next(t['id'] for t in tasks if t['name'] == 'add')
            self.assertEqual(rpc.call(number, 1, 2), 3)
            self.assertEqual(rpc.call(number, 1, 2, options={'epoch': page['epoch']}), 3)
            self.assert_fails(STALE_EPOCH, rpc.call, number, 1, 2, options={'epoch': page['epoch'] + 1})
            self.assert_fails(UNKNOWN_TASK, rpc.call, 4711)
            self.assert_fails(UNKNOWN_TASK, rpc.call, 2**64 - 1)

    def test_a_name_as_bin(self):
        for rpc in self.both():
            rpc.send(msgpack.packb([0, 5, b'add', [1, 2]], use_bin_type=True))
            self.assertEqual(rpc.result(5), 3)

    def test_wrong_calls_are_refused_by_name_and_the_connection_lives(self):
        for rpc in self.both():
            self.assertIn("'add'", self.assert_fails(UNKNOWN_TASK, rpc.call, 'ad', 1).text)
            self.assert_fails(UNKNOWN_TASK, rpc.call, '')
            self.assert_fails(UNKNOWN_TASK, rpc.call, 'x' * 1000)
            self.assertIn('(a)', self.assert_fails(BAD_ARGUMENT, rpc.call, 'add', 'x', 1).text)
            self.assert_fails(BAD_ARGUMENT, rpc.call, 'add', 1)
            self.assert_fails(BAD_ARGUMENT, rpc.call, 'add', 1, 2, 3)
            self.assert_fails(BAD_ARGUMENT, rpc.call, 'echo', '\udcff')
            self.assert_fails(BAD_ARGUMENT, rpc.call, 'add', 1, 2, options={'timeout': 'soon'})
            error = self.assert_fails(TOO_LARGE, rpc.call, 'echo', b'x' * (8 << 20))
            self.assertRegex(error.text, r'the arguments are 8388614 bytes, 8388608 are allowed \(call_max_bytes\)$')
            self.assertEqual(rpc.call('add', 1, 2, options={'nonsense': [1], 'timeout': None}), 3)

    def test_a_failing_task_tells_code_and_data(self):
        for rpc in self.both():
            self.assertEqual(self.assert_fails(TASK_FAILED, rpc.call, 'fail', 7, 'no luck').text, 'TASK_FAILED: no luck')
            rpc.hello()
            error = self.assert_fails(TASK_FAILED, rpc.call, 'fail', 7, 'no luck', {'why': [1, 2]})
            self.assertEqual(error.text, 'no luck')
            self.assertEqual(error.details['started'], 'yes')
            self.assertEqual(error.details['origin'], 'task')
            self.assertEqual(error.details['data']['code'], 7)

    def test_nil_stands_for_an_argument_that_was_left_out_and_zero_does_not(self):
        for rpc in self.both():
            rpc.hello()
            for arguments, code in ((), 42), ((None,), 42), ((0,), 0):
                error = self.assert_fails(TASK_FAILED, rpc.call, 'fail', *arguments)
                self.assertEqual(error.details['data']['code'], code)
            for arguments, words in ((), 2), ((None,), 2), ((0,), 0), ((1,), 1):
                self.assertEqual(len(rpc.call('word_count', 'wool wool yarn', *arguments)), words)
            self.assert_fails(TASK_FAILED, rpc.call, 'word_count', 'wool', -1)

    def test_a_crash_fails_its_own_call_alone(self):
        for rpc in self.both():
            rpc.hello()
            others = [rpc.request('sleep', 50) for _ in range(8)]
            error = self.assert_fails(WORKER_DIED, rpc.call, 'crash', 'abort')
            self.assertEqual(error.details['signal'], signal.SIGABRT)
            self.assertEqual(error.details['started'], 'yes')
            for msgid in others:
                self.assertIsNone(rpc.result(msgid))
            self.assertEqual(rpc.call('add', 1, 2), 3)

    def test_replies_come_out_of_order(self):
        for rpc in self.both():
            slow = rpc.request('sleep', 3600000)
            quick = rpc.request('add', 1, 2)
            self.assertEqual(rpc.result(quick), 3)
            self.assertNotIn(slow, rpc.responses)
            self.cancel(rpc, [slow])

    def test_more_calls_than_slots_wait_and_none_is_lost(self):
        for rpc in self.both():
            self.assertEqual(rpc.call_all([['add', i, 1] for i in range(5000)]), list(range(1, 5001)))
        self.assertGreater(self.daemon.stats()['loops']['waits_for_slot'], 0)

    def test_a_greedy_connection_leaves_room_for_a_modest_one(self):
        with self.daemon.tcp() as greedy, self.daemon.tcp() as modest:
            data = b''.join(msgpack.packb([0, i, 'sleep', [5]]) for i in range(600))
            before = self.daemon.stats()['loops']['calls_answered']
            greedy.send(data)
            self.assertEqual(modest.call('add', 1, 2), 3)
            # With fair shares the modest call waits for a few of the greedy one's.
            self.assertLess(self.daemon.stats()['loops']['calls_answered'] - before, 300)
            for i in range(600):
                greedy.result(i)

    def test_a_msgid_in_flight_ends_the_connection_and_aborts_the_call(self):
        for rpc in self.both():
            rpc.send(msgpack.packb([0, 5, 'sleep', [10000]]) + msgpack.packb([0, 5, 'add', [1, 2]]))
            self.assertTrue(rpc.is_closed_by_peer())
            self.assertTrue(rpc.responses[5][0].startswith('100 BAD_MESSAGE'))
        self.assert_idle()

    def test_a_msgid_is_free_after_its_response(self):
        for rpc in self.both():
            for i in range(100):
                rpc.send(msgpack.packb([0, 5, 'add', [i, 1]]))
                self.assertEqual(rpc.result(5), i + 1)

    def test_notifications_run_tasks_and_have_no_response(self):
        before = self.daemon.stats()['loops']
        for rpc in self.both():
            for _ in range(10):
                rpc.notify('add', 1, 2)
            rpc.notify('no such task')
            self.assertEqual(rpc.call('add', 1, 2), 3)
            self.assertEqual(rpc.notifications, [])
        after = self.daemon.stats()['loops']
        self.assertEqual(after['notifications'] - before['notifications'], 22)
        self.assertEqual(after['notifications_dropped'] - before['notifications_dropped'], 2)

    # ---- timeouts --------------------------------------------------------------------------------

    def test_a_timeout_comes_at_its_time_and_the_slot_comes_back(self):
        for rpc in self.both():
            rpc.hello()
            late = []
            for _ in range(5):
                began = time.monotonic()
                error = self.assert_fails(TIMEOUT, rpc.call, 'sleep', 2000, options={'timeout': 60})
                late.append(time.monotonic() - began - 0.060)
                self.assertEqual(error.details['started'], 'yes')
                self.assertEqual(rpc.call('add', 1, 2), 3)
            self.assertGreaterEqual(min(late), 0)
            self.assertLess(statistics.median(late), 0.05 * SLOWDOWN)
            self.assertLess(max(late), 1 * SLOWDOWN)
        self.assert_idle()

    def test_a_queued_call_that_expires_is_never_started(self):
        for rpc in self.both():
            rpc.hello()
            busy = self.keep_workers_busy(rpc)
            error = self.assert_fails(TIMEOUT, rpc.call, 'crash', options={'timeout': 30})
            self.assertEqual(error.details['started'], 'no')
            error = self.assert_fails(TIMEOUT, rpc.call, 'crash', options={'queue': 30})
            self.assertEqual(error.details['started'], 'no')
            self.cancel(rpc, busy)
            self.assertEqual(rpc.call('add', 1, 2), 3)

    def test_the_queue_timeout_does_not_end_a_call_that_has_started(self):
        """One that a busy machine does not start in that time did not start; then it gets longer."""
        for rpc in self.both():
            rpc.hello()
            queue_ms, is_run = 50, False
            while not is_run:
                error, _ = rpc.response(rpc.request('sleep', 4 * queue_ms, options={'queue': queue_ms}))
                is_run = error is None
                self.assertTrue(is_run or (error[0], error[2]['started']) == (TIMEOUT, 'no'), error)
                queue_ms *= 2

    def test_a_timeout_of_zero_and_timeouts_that_mean_none(self):
        for rpc in self.both():
            rpc.hello()
            error = self.assert_fails(TIMEOUT, rpc.call, 'crash', options={'timeout': 0})
            self.assertEqual(error.details['started'], 'no')
            for never in (-1, -0.5, float('nan'), float('inf'), 2**63, 1e300):
                self.assertEqual(rpc.call('add', 1, 2, options={'timeout': never}), 3)

    def test_a_late_result_is_dropped_and_its_msgid_free(self):
        with self.daemon.tcp() as rpc:
            for i in range(5):
                rpc.send(msgpack.packb([0, 9, 'sleep', [3600000], {'timeout': 5}]))
                self.assertTrue(rpc.response(9)[0].startswith('303 TIMEOUT'))
            rpc.send(msgpack.packb([0, 9, 'add', [1, 2]]))
            self.assertEqual(rpc.result(9), 3)
            self.assertIsNone(rpc.call('sleep', 50))
            self.assertEqual(rpc.responses, {})

    def test_many_timeouts_at_once(self):
        with self.daemon.tcp() as rpc:
            ids = {rpc.request('sleep', 3600000, options={'timeout': 20 + i}): i for i in range(50)}
            for msgid in ids:
                self.assertTrue(rpc.response(msgid)[0].startswith('303 TIMEOUT'))
        self.assert_idle()

    # ---- cancelling ------------------------------------------------------------------------------

    def test_cancel_ends_a_running_call_soon(self):
        for rpc in self.both():
            msgid = rpc.request('sleep', 20000)
            wait_until(lambda: any(lane['is_running'] for lane in self.daemon.stats()['lanes']), 'the task to run')
            began = time.monotonic()
            rpc.notify('$/cancel', msgid)
            rpc.notify('$/cancel', msgid)
            self.assertIsNotNone(rpc.response(msgid))
            self.assertLess(time.monotonic() - began, 2 * SLOWDOWN)
            rpc.notify('$/cancel', msgid)
            self.assertEqual(rpc.call('add', 1, 2), 3)

    def test_cancel_of_a_queued_call_keeps_it_from_starting(self):
        with self.daemon.tcp() as rpc:
            rpc.hello()
            busy = self.keep_workers_busy(rpc)
            queued = rpc.request('crash')
            rpc.notify('$/cancel', queued)
            error = self.assert_fails(CANCELLED, rpc.result, queued)
            self.assertEqual(error.details['started'], 'no')
            # At once, not when a worker gets to it.
            self.assertEqual(rpc.responses, {})
            self.cancel(rpc, busy)

    def test_cancel_of_an_unknown_call_is_ignored(self):
        for rpc in self.both():
            rpc.notify('$/cancel', 4711)
            rpc.notify('$/cancel')
            rpc.notify('$/cancel', 'x')
            self.assertEqual(rpc.call('add', 1, 2), 3)

    def test_a_caller_that_leaves_has_its_calls_aborted(self):
        for leave in (lambda rpc: rpc.close(), lambda rpc: reset(rpc.sock)):
            rpc = self.daemon.tcp()
            for _ in range(10):
                rpc.request('sleep', 20000)
            wait_until(lambda: sum(lane['is_running'] for lane in self.daemon.stats()['lanes']) == 2, 'busy workers')
            leave(rpc)
            wait_until(lambda: not any(lane['is_running'] for lane in self.daemon.stats()['lanes']), 'idle workers')
        self.assert_idle()

    def test_callers_that_leave_at_random_lose_nothing_for_others(self):
        stop = threading.Event()
        failed = []

        def steady():
            try:
                with self.daemon.unix() as rpc:
                    i = 0
                    while not stop.is_set():
                        ids = [(i + k, rpc.request('add', i + k, 1)) for k in range(20)]
                        for k, msgid in ids:
                            assert rpc.result(msgid) == k + 1
                        i += 20
            except Exception as error:
                failed.append(error)
        thread = threading.Thread(target=steady)
        thread.start()
        for i in range(150):
            rpc = self.daemon.tcp()
            for k in range(i % 30):
                rpc.request('echo', b'x' * (k * 997))
            if i % 3 == 0:
                rpc.call('add', 1, 2)
            if i % 2:
                reset(rpc.sock)
            else:
                rpc.close()
        stop.set()
        thread.join()
        self.assertEqual(failed, [])
        self.assert_idle()


class Killing(Case):
    def test_killing_a_worker_fails_what_it_ran_and_nothing_else(self):
        with Daemon(workers=1) as daemon, daemon.tcp() as rpc:
            rpc.hello()
            running = rpc.request('sleep', 20000)
            queued = [rpc.request('add', i, 1) for i in range(32)]
            lane = wait_until(lambda: next((l for l in daemon.stats()['lanes'] if l['is_running']), None), 'a call')
            os.kill(lane['pid'], signal.SIGKILL)
            error = self.assert_fails(WORKER_DIED, rpc.result, running)
            self.assertEqual(error.details['signal'], signal.SIGKILL)
            self.assertEqual([rpc.result(msgid) for msgid in queued], list(range(1, 33)))

    def test_killing_the_daemon_ends_its_workers(self):
        with Daemon(workers=2) as daemon:
            pids = [lane['pid'] for lane in daemon.stats()['lanes']]
            daemon.expected_status = -signal.SIGKILL
            daemon.process.kill()
            daemon.wait()
            for pid in pids:
                wait_until(lambda: not os.path.exists(f'/proc/{pid}'), 'the worker to go')

    def test_a_hard_timeout_kills_that_worker_alone(self):
        with Daemon(workers=2, hard_timeout_ms=200) as daemon, daemon.tcp() as rpc:
            rpc.hello()
            # Counting this far takes far longer than 200 ms, and no abort flag is set.
            hung = rpc.request('sleep', 20000)
            error = self.assert_fails(HARD_TIMEOUT, rpc.result, hung)
            self.assertEqual(error.details['started'], 'yes')
            self.assertEqual(rpc.call('add', 1, 2), 3)
            wait_until(lambda: daemon.stats()['pool']['lanes_serving'] == 2, 'a new worker')


class Waiting(Case):
    def test_a_full_queue_refuses_with_a_hint(self):
        """Twice: what the first calls took is known then, and that there were none before counts for nothing."""
        with LedgerDaemon(workers=1, queue_max=4) as daemon, daemon.tcp() as rpc:
            rpc.hello()
            for gate in (1, 2):
                ids = [rpc.request('hold', i, gate) for i in range(8)]
                for msgid in ids[4:]:
                    error = self.assert_fails(OVERLOADED, rpc.result, msgid)
                    self.assertGreaterEqual(error.details['retry_after_ms'], 1)
                    self.assertLess(error.details['retry_after_ms'], 5000)
                    self.assertIs(error.details['retryable'], True)
                    self.assertEqual(error.details['limit'], 4)
                daemon.ledger.open_gate(gate)
                for msgid in ids[:4]:
                    rpc.result(msgid)
            self.assertRegex(daemon.log(), r'msg="call refused" code=OVERLOADED reason=".* \(queue_max\)" principal=anonymous task=hold '
                                           'limit=4 peer=127')

    def test_a_connection_at_its_limit_waits(self):
        with Daemon(workers=1, in_flight_max=2) as daemon, daemon.tcp() as rpc:
            ids = [rpc.request('sleep', 20) for _ in range(10)] + [rpc.request('$/ping')]
            for msgid in ids:
                self.assertIsNone(rpc.result(msgid))

    def test_a_connection_at_its_limit_can_cancel(self):
        with Daemon(workers=1, in_flight_max=2) as daemon, daemon.tcp() as rpc:
            rpc.hello()
            ids = [rpc.request('sleep', 20000) for _ in range(2)]
            rpc.notify('$/cancel', ids[1])
            self.assert_fails(CANCELLED, rpc.result, ids[1])
            waiting = rpc.request('sleep', 1), rpc.request('sleep', 1), rpc.request('sleep', 1)
            rpc.notify('$/cancel', waiting[2])
            self.assertEqual(self.assert_fails(CANCELLED, rpc.result, waiting[2]).details['started'], 'no')
            rpc.notify('$/cancel', ids[0])
            self.assert_fails(CANCELLED, rpc.result, ids[0])
            self.assertIsNone(rpc.result(waiting[0]))
            self.assertIsNone(rpc.result(waiting[1]))

    def test_hello_announces_how_many_calls_may_be_in_flight(self):
        for slots in (16, 17, 18, 64, 1000):
            with Daemon(workers=1, threads_io=1, slots=slots, lane_depth_us=0) as daemon, daemon.tcp() as rpc:
                share = rpc.hello()['limits']['in_flight']
                held = [rpc.request('sleep', 20000) for _ in range(share + 1)]
                wait_until(lambda: daemon.stats()['loops']['waits_for_slot'] > 0, 'the connection to wait')
                self.assertEqual(daemon.stats()['loops']['calls_published'], share)
                for msgid in held:
                    rpc.notify('$/cancel', msgid)
                for msgid in held:
                    self.assert_fails(CANCELLED, rpc.result, msgid)
        with Daemon(workers=1, in_flight_max=7) as daemon, daemon.tcp() as rpc:
            self.assertEqual(rpc.hello()['limits']['in_flight'], 7)

    def test_a_connection_at_its_limit_may_be_closed(self):
        """A connection that is closed with a reply unread is reset, a unix socket too."""
        def give_up(rpc, unread, close):
            rpc.request('$/ping')
            if not unread:
                rpc.receive()
            ids = [rpc.request('sleep', 60000) for _ in range(3)]
            wait_until(lambda: daemon.stats()['loops']['calls_published'] == published + 2, 'the limit')
            ids.append(rpc.request('sleep', 60000))
            # A later turn answers what is sent after this, and that turn has seen the limit.
            for _ in range(3):
                daemon.stats()
            close(rpc)

        with Daemon(workers=1, in_flight_max=2, threads_io=1) as daemon:
            for name, connect in daemon.transports():
                for unread, close in ((False, Rpc.close), (True, Rpc.close), (True, lambda rpc: reset(rpc.sock))):
                    with self.subTest(name, unread=unread):
                        published = daemon.stats()['loops']['calls_published']
                        give_up(connect(), unread, close)
                        wait_until(lambda: daemon.stats()['connections'] == 1, 'the connection to be closed')
                        with daemon.unix() as other:
                            other.call('sleep', 1)

    def test_calls_wait_for_arena_space(self):
        with Daemon(workers=1, arena_bytes='1MiB', arena_initial_bytes=0) as daemon:
            for _, connect in daemon.transports():
                with connect() as rpc:
                    data = os.urandom(100000)
                    self.assertEqual(rpc.call_all([['echo', data]] * 64), [data] * 64)

    def test_a_slow_reader_is_dropped_and_its_blocks_come_back(self):
        with Daemon(workers=2, output_stall_s=1, output_max_bytes=65536) as daemon:
            with daemon.tcp() as slow, daemon.tcp() as other:
                def send():
                    try:
                        for _ in range(12):
                            slow.request('echo', b'x' * (2 << 20))
                    except OSError:
                        pass  # it is disconnected for not reading, as the test wants
                sender = threading.Thread(target=send)
                sender.start()
                wait_until(lambda: other.call('$/stats')['loops']['readers_dropped'] == 1, 'the slow reader to go', 30)
                sender.join()
                data = b'y' * (4 << 20)
                self.assertEqual(other.call_all([['echo', data]] * 8), [data] * 8)


    def test_a_reader_that_fills_the_arena_does_not_stop_the_others(self):
        """Long before it is dropped for not reading: a second or two."""
        with Daemon(workers=2, threads_io=1, arena_bytes='8MiB', output_max_bytes='1GiB') as daemon:
            with daemon.tcp() as slow, daemon.tcp() as other:
                def send():
                    try:
                        for _ in range(64):
                            slow.request('echo', b'x' * 1000000)
                    except OSError:
                        pass
                sender = threading.Thread(target=send)
                sender.start()
                worst = 0
                while daemon.stats()['loops']['readers_dropped'] == 0:
                    begun = time.monotonic()
                    self.assertEqual(other.call('echo', 'x' * 1000), 'x' * 1000)
                    worst = max(worst, time.monotonic() - begun)
                sender.join()
                print(f'the slowest call took {worst:.1f} s')
                self.assertLess(worst, 8 * SLOWDOWN)


class Ending(Case):
    def test_sigterm_lets_calls_finish_and_refuses_new_ones(self):
        with LedgerDaemon(workers=2, drain_ms=60000) as daemon, daemon.tcp() as rpc, daemon.unix() as other:
            rpc.hello()
            self.assertEqual(other.call('$/ping', 1), 1)
            ids = [rpc.request('hold', i, 1) for i in range(3)]
            wait_until(lambda: sum(daemon.ledger.times(0, 3)) == 2, 'two of them to start')
            daemon.send_signal(signal.SIGTERM)
            while not rpc.notifications:
                rpc.receive()
            self.assertEqual(rpc.notifications[0][0], '$/goaway')
            error = self.assert_fails(DRAINING, rpc.call, 'ledger', 3)
            self.assertEqual(error.details['started'], 'no')
            self.assertEqual(rpc.call('$/ping', 1), 1)
            self.assert_fails(DRAINING, other.call, '$/attach', {'version': LAYOUT})
            # A caller that says hello late gets $/goaway at once.
            other.hello()
            self.assertTrue(other.notifications or other.receive())
            self.assertEqual(other.notifications[0][0], '$/goaway')
            daemon.ledger.open_gate(1)
            for msgid in ids:
                rpc.result(msgid)
            self.assertEqual(daemon.wait(), 0)
            self.assertEqual(daemon.ledger.times(0, 4).tolist(), [1, 1, 1, 0])

    def test_a_call_that_outlasts_the_drain_fails_with_shutdown(self):
        with Daemon(workers=1, drain_ms=100) as daemon, daemon.tcp() as rpc:
            rpc.hello()
            running, queued = rpc.request('sleep', 60000), rpc.request('add', 1, 2)
            wait_until(lambda: any(lane['is_running'] for lane in rpc.call('$/stats')['lanes']), 'the task to run')
            daemon.send_signal(signal.SIGTERM)
            error = self.assert_fails(SHUTDOWN, rpc.result, queued)
            self.assertEqual(error.details['started'], 'no')
            # The task sees its abort flag, and nobody has cancelled it.
            error = self.assert_fails(SHUTDOWN, rpc.result, running)
            self.assertEqual(error.details['started'], 'yes')
            self.assertEqual(daemon.wait(), 0)

    def test_a_drain_serves_what_waited(self):
        """What was read before it has been accepted, in the lanes or waiting for them."""
        with LedgerDaemon(workers=1, threads_io=1, drain_ms=60000) as daemon, daemon.tcp() as rpc, daemon.tcp() as other:
            rpc.hello()
            other.hello()
            ids, others, sent = range(100), range(100, 120), 0
            for connection, numbers in (rpc, ids), (other, others):
                calls = b''.join(msgpack.packb([0, i, 'hold', [i, 1]]) for i in numbers)
                connection.send(calls)
                sent += len(calls)
            wait_until(lambda: daemon.stats()['loops']['bytes_in'] >= sent, 'all to be read')
            wait_until(lambda: daemon.stats()['loops']['waits_for_slot'] > 1, 'both to wait')
            daemon.send_signal(signal.SIGTERM)
            wait_until(lambda: 'msg=draining' in daemon.log(), 'it to drain')
            daemon.ledger.open_gate(1)
            for connection, numbers in (rpc, ids), (other, others):
                for msgid in numbers:
                    connection.result(msgid)
            self.assertEqual(daemon.wait(), 0)
            self.assertEqual(set(daemon.ledger.times(0, 120)), {1})

    def test_a_drain_refuses_what_finds_no_slot_at_once(self):
        with Daemon(workers=1, in_flight_max=1, drain_ms=60000) as daemon, daemon.tcp() as rpc:
            rpc.hello()
            # In one write, so that both have been read when the first one runs.
            rpc.send(msgpack.packb([0, 100, 'sleep', [3600000]]) + msgpack.packb([0, 101, 'add', [1, 2]]))
            wait_until(lambda: daemon.stats()['lanes'][0]['is_running'], 'the task to run')
            daemon.send_signal(signal.SIGTERM)
            error = self.assert_fails(DRAINING, rpc.result, 101)
            self.assertEqual(error.details['started'], 'no')
            rpc.notify('$/cancel', 100)
            self.assert_fails(CANCELLED, rpc.result, 100)
            self.assertEqual(daemon.wait(), 0)

    def test_a_drain_does_not_wait_for_the_call_of_a_peer_that_is_gone(self):
        """Its end stands behind calls that wait, where nobody reads: those are refused first."""
        with Daemon(workers=1, in_flight_max=1, drain_ms=60000) as daemon:
            with daemon.tcp() as rpc:
                rpc.hello()
                rpc.request('sleep', 3600000)
                rpc.sock.settimeout(1)
                with self.assertRaises(TimeoutError):
                    rpc.sock.sendall(msgpack.packb([0, 100, 'echo', [bytes(1 << 20)]]) * 64)
            self.assertTrue(daemon.stats()['lanes'][0]['is_running'])
            daemon.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(), 0)

    def test_a_second_signal_does_not_wait(self):
        with Daemon(workers=1, drain_ms=60000) as daemon, daemon.tcp() as rpc:
            rpc.request('sleep', 60000)
            wait_until(lambda: any(lane['is_running'] for lane in rpc.call('$/stats')['lanes']), 'the task to run')
            daemon.send_signal(signal.SIGTERM)
            wait_until(lambda: 'draining' in daemon.log(), 'the drain')
            began = time.monotonic()
            while daemon.process.poll() is None and time.monotonic() - began < 20:
                daemon.send_signal(signal.SIGINT)
                time.sleep(0.05)
            self.assertEqual(daemon.wait(), 0)
            self.assertLess(time.monotonic() - began, 15)

    def test_a_client_that_does_not_read_cannot_keep_the_daemon(self):
        with Daemon(workers=1, drain_ms=200) as daemon, daemon.tcp() as rpc:
            for _ in range(10):
                rpc.request('echo', b'x' * (1 << 20))
            daemon.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(), 0)


class Process(Case):
    def test_what_a_task_prints_goes_to_the_log(self):
        with Daemon(environment={'KNITTING_DEBUG': 'lane,lifecycle,signals,imports,host'}) as daemon:
            with daemon.tcp() as rpc:
                self.assert_fails(WORKER_DIED, rpc.call, 'crash', 'abort')
            wait_until(lambda: 'worker died' in daemon.log(), 'the line about the death')
            self.assertIn('level=debug msg=module', daemon.log())
            wait_until(lambda: 'msg="connection closed" loop=0' in daemon.log(), 'the line about the connection')
            self.assertIn('signature="add(a: int, b: int) -> int"', daemon.log())

    @unittest.skipUnless(os.geteuid() == 0, 'needs a process namespace of its own')
    def test_as_process_1_it_reaps_orphans(self):
        import shutil
        import subprocess
        import tempfile
        if not shutil.which('unshare'):
            self.skipTest('no unshare')
        with tempfile.TemporaryDirectory() as folder:
            ready = os.path.join(folder, 'ready')
            process = subprocess.Popen(
                ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc', os.environ['KNIT_DAEMON'],
                 '--listen=none', f'--socket={folder}/k.sock', '--workers=1', f'--ready-file={ready}',
                 '--worker-program', os.environ['KNIT_WORKER'], '--module', os.environ['KNIT_MODULE']],
                stderr=subprocess.DEVNULL)
            wait_until(lambda: os.path.exists(ready) or process.poll() is not None, 'the daemon')
            if process.poll() is not None:
                self.skipTest('no process namespaces here')

            def children(pid):
                with open(f'/proc/{pid}/task/{pid}/children') as file:
                    return sorted(file.read().split())
            inside = int(children(process.pid)[0])
            before = children(inside)
            # A shell in the namespace leaves an orphan behind, which ends at once.
            subprocess.run(['nsenter', '-t', str(inside), '-p', '-m', 'sh', '-c', '(sleep 0.1 &) ; exit 0'],
                           timeout=30, check=True)
            wait_until(lambda: children(inside) == before, 'the orphan to be reaped')
            os.kill(inside, signal.SIGTERM)
            self.assertEqual(process.wait(30), 0)


if __name__ == '__main__':
    main()
