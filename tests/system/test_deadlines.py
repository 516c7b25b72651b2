# SPDX-License-Identifier: Apache-2.0
"""Timeouts and cancelling, over each way to call: a call that expires in a queue never starts, a running one is answered
in time, and the worker serves others afterwards. The ledger says what started.
"""

import datetime
import mmap
import os
import random
import re
import shutil
import struct
import tempfile
import threading
import time

import msgpack

from knit_harness import SLOWDOWN, Case, main, wait_until, worker_with
from knit_witness import LONG, Caller, LedgerDaemon, seed

TIMEOUT, CANCELLED, TASK_FAILED = 303, 304, 600
QUEUED = 16
# Ten times the goal at the median; more at the worst, since a machine that runs tests in parallel stalls.
LATE_MS, LATE_WORST_MS = 50 * SLOWDOWN, 1000 * SLOWDOWN
# Enough to be started on a busy machine, and a fraction of what the primes take.
BUDGET_MS = 300


TRANSPORTS = ('tcp', 'unix', 'shm')
SPANS_MS = (1, 10, 100, 1000, 10000) if LONG else (1, 5, 20, 100, 300)


def truths(transport, started):
    """Possible values of `started`: over a stream the library's own timer may be first, which cannot know it."""
    return {(TIMEOUT, started)} if transport == 'shm' else {(TIMEOUT, started), (TIMEOUT, 'unknown')}


class JumpingClock:
    """jumping_clock.c for programs with its environment, and a thread that sets that clock all the time."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix='knit-clock-')
        path = os.path.join(self.dir, 'off-by')
        with open(path, 'wb') as file:
            file.write(struct.pack('=q', 3600))
        self.file = open(path, 'r+b')
        self.memory = mmap.mmap(self.file.fileno(), 8)
        self.environment = {'LD_PRELOAD': os.environ['KNIT_JUMPING_CLOCK'], 'KNIT_CLOCK': path,
                            'ASAN_OPTIONS': os.environ.get('ASAN_OPTIONS', '') + ':verify_asan_link_order=0'}
        self.jumps, self.is_over = 0, threading.Event()
        self.thread = threading.Thread(target=self.jump)

    def jump(self):
        while not self.is_over.wait(0.005):
            self.jumps += 1
            struct.pack_into('=q', self.memory, 0, 3600 if self.jumps % 2 == 0 else -3600)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()
        self.memory.close()
        self.file.close()
        shutil.rmtree(self.dir)


class Deadlines(Case):
    def test_a_call_that_expires_in_the_queue_never_starts(self):
        for transport in TRANSPORTS:
            with self.subTest(transport), LedgerDaemon(workers=1) as daemon:
                self.expire_in_queue(transport, daemon)

    def expire_in_queue(self, transport, daemon, environment=None):
        """All of them expire at one moment, so one stall of the machine makes all late: then once more."""
        for first in (1000, 2000, 3000):
            late_ms = self.expire_once(transport, daemon, first, environment)
            median_ms = sorted(late_ms)[QUEUED // 2]
            if median_ms < LATE_MS:
                break
        self.assertLess(median_ms, LATE_MS)

    def expire_once(self, transport, daemon, first, environment):
        with Caller(daemon.url(transport), 'expire', 1, first, QUEUED, 10, environment=environment) as caller:
            caller.wait_ready()
            daemon.ledger.wait_for(first)
            caller.go_on()
            outcomes = caller.outcomes()
            self.assertEqual({(o.code, o.started) for o in outcomes} - truths(transport, 'no'), set())
            late_ms = [(o.ns - caller.begun_ns) / 1e6 - 10 for o in outcomes]
            print(f'{transport}: {QUEUED} answered {min(late_ms):.1f} to {max(late_ms):.1f} ms after their deadline')
            self.assertEqual(len(outcomes), QUEUED)
            self.assertGreater(min(late_ms), 0)
            self.assertLess(max(late_ms), LATE_WORST_MS)
        with daemon.tcp() as rpc:
            # The caller is gone, so its running call is aborted; the worker steps over the rest and claims this one.
            self.assertGreater(rpc.call('ledger', 1), 0)
        self.assertEqual([daemon.ledger.ran(first + i) for i in range(1, QUEUED + 1)], [0] * QUEUED)
        return late_ms

    def test_a_call_that_expires_before_it_has_a_slot_never_starts(self):
        for option in ('timeout', 'queue'):
            with self.subTest(option), LedgerDaemon(workers=1, slots=64, threads_io=1) as daemon, \
                    daemon.tcp() as rpc, daemon.tcp() as other:
                rpc.hello()
                held = other.request('hold', 0, 1)
                daemon.ledger.wait_for(0)
                begun = time.monotonic()
                rpc.send(b''.join(msgpack.packb([0, 100 + i, 'ledger', [100 + i]]) for i in range(100)) +
                         msgpack.packb([0, 1000, 'ledger', [1000], {option: 100}]))
                error = self.assert_fails(TIMEOUT, rpc.result, 1000)
                late_ms = (time.monotonic() - begun) * 1000 - 100
                print(f'{option}: answered {late_ms:.1f} ms after the deadline')
                self.assertEqual(error.details['started'], 'no')
                self.assertGreater(late_ms, 0)
                self.assertLess(late_ms, LATE_WORST_MS)
                self.assertEqual(daemon.ledger.ran(100), 0)
                daemon.ledger.open_gate(1)
                for msgid in range(100, 200):
                    rpc.result(msgid)
                other.result(held)
                self.assertEqual(daemon.ledger.ran(1000), 0)

    def test_a_computation_is_answered_at_its_deadline(self):
        example = ('--module', os.environ['KNIT_MODULE'])
        for transport in TRANSPORTS:
            with self.subTest(transport), LedgerDaemon(*example, workers=1) as daemon:
                with Caller(daemon.url(transport), 'primes', 1000000000, BUDGET_MS) as caller:
                    caller.wait_ready()
                    outcome, = caller.outcomes()
                late_ms = (outcome.ns - caller.begun_ns) / 1e6 - BUDGET_MS
                print(f'{transport}: answered {late_ms:.1f} ms after the deadline')
                self.assertIn((outcome.code, outcome.started), truths(transport, 'yes'))
                self.assertGreater(late_ms, 0)
                self.assertLess(late_ms, LATE_WORST_MS)
                with daemon.tcp() as rpc:
                    self.assertGreater(rpc.call('ledger', 1), 0)

    def test_cancelling_running_and_waiting_calls(self):
        for transport in TRANSPORTS:
            with self.subTest(transport), LedgerDaemon(workers=1) as daemon, \
                    Caller(daemon.url(transport), 'cancel', 1, 100, QUEUED) as caller:
                caller.wait_ready()
                daemon.ledger.wait_for(100)
                caller.go_on()
                caller.go_on()
                first, *rest = caller.outcomes()
                self.assertIn((first.code, first.started), ((CANCELLED, 'yes'), (TASK_FAILED, 'yes')))
                self.assertEqual([(o.code, o.started) for o in rest], [(CANCELLED, 'no')] * QUEUED)
                self.assertEqual([daemon.ledger.ran(100 + i) for i in range(QUEUED + 1)], [1] + [0] * QUEUED)

    def test_a_task_that_ignores_its_abort_keeps_only_its_worker(self):
        with LedgerDaemon(workers=2) as daemon, daemon.tcp() as rpc:
            rpc.hello()
            ms = 10
            while daemon.ledger.ran(1) == 0:
                ms *= 2
                error = self.assert_fails(TIMEOUT, rpc.call, 'hold', 1, 1, True, options={'timeout': ms})
                self.assertEqual(error.details['started'], 'yes' if daemon.ledger.ran(1) else 'no')
            for i in range(20):
                self.assertNotEqual(rpc.call('ledger', 2 + i), daemon.ledger.worker(1))
            daemon.ledger.open_gate(1)
            wait_until(lambda: daemon.ledger.worker(1) in [rpc.call('ledger', 50) for _ in range(8)],
                       'the worker to serve again')
            self.assertEqual(daemon.stats()['pool']['deaths'], 0)

    def test_many_deadlines_at_once_are_never_early(self):
        with LedgerDaemon(workers=1) as daemon:
            self.many_deadlines(daemon)

    def test_the_clock_of_the_day_may_jump(self):
        """By an hour, back and forth, for the daemon, its workers and a local caller."""
        with JumpingClock() as clock, LedgerDaemon(
                workers=1, worker=worker_with(clock.dir, clock.environment), environment=clock.environment) as daemon:
            self.expire_in_queue('shm', daemon, clock.environment)
            self.many_deadlines(daemon)
            stamps = re.findall(r'^ts=(\S+)Z ', daemon.log(), re.MULTILINE)
            moments = [datetime.datetime.fromisoformat(stamp + '+00:00').timestamp() for stamp in stamps]
        print(f'{clock.jumps} jumps')
        self.assertGreater(clock.jumps, 10)
        self.assertTrue(any(abs(moment - time.time()) > 1800 for moment in moments), stamps)

    def many_deadlines(self, daemon):
        number = random.Random(seed())
        with daemon.tcp() as rpc, daemon.unix() as other:
            rpc.hello()
            blocker = other.request('hold', 0, 1)
            daemon.ledger.wait_for(0)
            spans = [number.choice(SPANS_MS) * number.random() for _ in range(300)]
            data = b''.join(msgpack.packb([0, 100 + i, 'ledger', [100 + i], {'timeout': ms}])
                            for i, ms in enumerate(spans))
            sent = time.monotonic()
            rpc.send(data)
            due = {100 + i: sent + ms / 1000 for i, ms in enumerate(spans)}
            late = []
            while due:
                before = set(rpc.responses)
                rpc.receive()
                now = time.monotonic()
                for msgid in set(rpc.responses) - before:
                    error, _ = rpc.responses.pop(msgid)
                    self.assertEqual((error[0], error[2]['started']), (TIMEOUT, 'no'))
                    late.append((now - due.pop(msgid)) * 1000)
            late.sort()
            print(f'{len(late)} deadlines up to {SPANS_MS[-1]} ms, the queue full: {late[0]:.2f} to {late[-1]:.2f} ms late, p99 {late[-4]:.2f} ms')
            self.assertGreater(late[0], 0)
            self.assertLess(late[len(late) // 2], LATE_MS)
            self.assertLess(late[-1], LATE_WORST_MS)
            daemon.ledger.open_gate(1)
            other.result(blocker)
            rpc.call('ledger', 1)
            self.assertEqual(sum(daemon.ledger.ran(100 + i) for i in range(300)), 0)


if __name__ == '__main__':
    main()
