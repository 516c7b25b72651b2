# SPDX-License-Identifier: Apache-2.0
"""Callers at half the rate that the workers can reach, while a worker is killed every 50 ms, and while callers and
workers are stopped. Figures are printed; the bounds are ten times the goal. Calls are so short that a worker is seldom
killed during one, so some victims get a call that waits.

KNIT_TEST_MINUTES=n kills for so long; KNIT_TEST_LONG=1 is ten minutes of it. Without them it is 20 seconds.
"""

import contextlib
import os
import random
import signal
import statistics
import time

from knit_chaos import Audit, ChaosCaller, Record, percentile, spread
from knit_harness import SLOWDOWN, Case, main, wait_until
from knit_witness import LONG, LedgerDaemon, descriptors, mappings, seed

MINUTES = float(os.environ.get('KNIT_TEST_MINUTES') or (10 if LONG else 1 / 3))
ROUND_SECONDS = 6 * SLOWDOWN
WORKERS, EVERY_MS = 3, 50
TRANSPORTS = ('shm', 'tcp')
RATE_MAX = 150000
# The goal of both times in the median, and the bound of the 99th percentile.
GOAL_MS, WORST_MS = 50, 1000
WORKER_DIED, BUSY_EVERY, OPEN_GATE, SHUT_GATE = 400, 5, 1, 2


def pass_until(moment):
    wait_until(lambda: time.monotonic() >= moment, 'the next moment', 60 * SLOWDOWN)


class HalfLoad:
    """A daemon, and for each transport a caller at half the rate that they reached together before."""

    def __init__(self, stack, number, seconds):
        self.record = stack.enter_context(contextlib.closing(Record()))
        self.daemon = stack.enter_context(LedgerDaemon(workers=WORKERS))
        self.ledger, self.callers, first = self.daemon.ledger, [], 0
        for sessions, plan in enumerate(('full', 'half'), 1):
            rates = [RATE_MAX] * 2
            if plan == 'half':
                rates = [max(100, int(done / 2)) for done in self.measure(0.5)]
                for caller in self.callers:
                    caller.kill()
                self.daemon.wait_for_quiet()
                # Everything that is allocated once is allocated.
                self.before = self.holdings(), self.daemon.memory_kb()
                self.rates, self.callers = rates, []
            for seat, (transport, rate) in enumerate(zip(TRANSPORTS, rates)):
                count = int(rate * (seconds if plan == 'half' else 60))
                # Four callers, and the last ids are those of held calls.
                if count > self.ledger.IDS // 5:
                    count = self.ledger.IDS // 5
                    # It is to last for as long as the test.
                    rate = int(count / seconds) if plan == 'half' else rate
                self.callers.append(stack.enter_context(ChaosCaller(
                    self.daemon.url(transport), self.record, seat, first, count, number.randrange(1 << 30),
                    window=1000, rate=rate, plain=1)))
                first += count
            # A caller that has not attached yet would be measured as slow.
            wait_until(lambda: all(self.record.sessions(seat) >= sessions for seat in range(len(TRANSPORTS))), 'callers')

    def holdings(self):
        pids = [self.daemon.pid, *self.daemon.workers()]
        return [(descriptors(pid), mappings(pid)) for pid in pids]

    def measure(self, seconds):
        """Calls a second of each caller."""
        before, begun = [self.record.done(seat) for seat in range(len(TRANSPORTS))], time.monotonic()
        pass_until(begun + seconds)
        span = time.monotonic() - begun
        return [(self.record.done(seat) - n) / span for seat, n in enumerate(before)]


class Kills(Case):
    def test_a_worker_every_50_ms(self):
        number, until = random.Random(seed()), time.monotonic() + MINUTES * 60 * SLOWDOWN
        failed_ms, replaced, total, kills, held = [], [], Audit(), 0, 0
        while kills == 0 or time.monotonic() < until:
            with contextlib.ExitStack() as stack:
                load = HalfLoad(stack, number, ROUND_SECONDS)
                load.ledger.open_gate(OPEN_GATE)
                victims, held_ms = self.kill_until_they_end(load, number, replaced)
                kills += len(victims)
                held += len(held_ms)
                failed_ms += held_ms
                here = Audit()
                for caller in load.callers:
                    self.assertEqual(caller.wait(), 0)
                    # Kills are so far apart that the last one before the outcome is the cause.
                    for _, ns in caller.deaths():
                        failed_ms.append((ns - max(killed for killed in victims.values() if killed <= ns)) / 1e6)
                    for audit in (here, total):
                        audit.add(load.ledger, load.record, caller.first, caller.count, False)
                self.check(load, here, len(victims))
        print(f'kills: {kills} workers killed, half load {load.rates} calls/s over {TRANSPORTS}; {total}')
        print(f'kills: {len(failed_ms)} calls failed, {held} of them held, after {spread(failed_ms)};'
              f' replaced after {spread(replaced)}')
        self.assertEqual(set(total.outcomes) - {'ok', 'WORKER_DIED, started: yes'}, set())
        self.assertGreater(held, 0)
        for spans in (sorted(failed_ms), sorted(replaced)):
            self.assertLess(percentile(spans, 50), 10 * GOAL_MS * SLOWDOWN)
            self.assertLess(percentile(spans, 99), WORST_MS * SLOWDOWN)

    def kill_until_they_end(self, load, number, replaced):
        """{process: when it was killed}, and after how many milliseconds each held call failed."""
        victims, held_ms, call = {}, [], load.ledger.IDS - 1
        with load.daemon.unix() as rpc, load.daemon.unix() as other:
            other.hello()

            def serving():
                return [lane['pid'] for lane in rpc.call('$/stats')['lanes'] if lane['state'] == 'serving']
            while not any(caller.is_over() for caller in load.callers):
                victim, msgid = number.choice(wait_until(serving, 'a worker')), None
                if len(victims) % BUSY_EVERY == 0:
                    msgid = other.request('hold', call, SHUT_GATE)
                    load.ledger.wait_for(call)
                    victim = load.ledger.worker(call)
                killed_ns = time.monotonic_ns()
                os.kill(victim, signal.SIGKILL)
                victims[victim] = killed_ns
                if msgid is not None:
                    error = self.assert_fails(WORKER_DIED, other.result, msgid)
                    held_ms.append((time.monotonic_ns() - killed_ns) / 1e6)
                    self.assertEqual(error.details['started'], 'yes')
                    # One that ends well, so that the deaths are not in a row.
                    other.call('hold', call - 1, OPEN_GATE)
                    self.assertEqual([load.ledger.ran(call), load.ledger.ran(call - 1)], [1, 1])
                    call -= 2
                wait_until(lambda: victim not in (pids := serving()) and len(pids) == WORKERS, 'the replacement')
                replaced.append((time.monotonic_ns() - killed_ns) / 1e6)
                pass_until(killed_ns / 1e9 + EVERY_MS / 1000)
        return victims, held_ms

    def check(self, load, audit, kills):
        daemon, (holdings, memory) = load.daemon, load.before
        self.assertEqual(audit.wrong, [])
        self.assertLessEqual(audit.outcomes['WORKER_DIED, started: yes'], kills)
        daemon.wait_for_workers(WORKERS)
        pool = daemon.wait_for_quiet()['pool']
        self.assertEqual((pool['condemned'], pool['quarantined'], pool['deaths']), (0, 0, kills))
        wait_until(lambda: load.holdings() == holdings, f'descriptors and mappings to be {holdings} again')
        self.assertLess(daemon.memory_kb() - memory, 4096)


class Stops(Case):
    """Windows of time in which a process is stopped again and again at random points alternate with others. The median of
    many pairs tells little of a machine that stands still in some."""

    PAIRS, SECONDS = 12, 0.3

    def test_a_stopped_peer_costs_others_little(self):
        number = random.Random(seed())
        with contextlib.ExitStack() as stack:
            load = HalfLoad(stack, number, 20 * SLOWDOWN)
            lazy = stack.enter_context(ChaosCaller(load.daemon.url('shm'), load.record, 9, load.ledger.IDS - 400000,
                                                   400000, 2, rate=2000))
            wait_until(lambda: load.record.done(9) > 0, 'the caller that is to stop')
            for kind, pids in (('caller', [lazy.pid]), ('worker', load.daemon.workers())):
                stolen = self.stolen(load)
                losses = [self.loss(load, number, pids) for _ in range(self.PAIRS)]
                print(f'stops: a {kind} stopped again and again, half load of {load.rates} calls/s: others lose '
                      f'{min(losses):.1%} to {max(losses):.1%} of their throughput, {statistics.median(losses):.1%} in the median')
                self.assertLess(statistics.median(losses), 0.5)
                stolen = self.stolen(load) - stolen
            # Calls in the lane of a stopped worker did not wait for it.
            self.assertGreater(stolen, 0)
            for caller in (*load.callers, lazy):
                caller.kill()

    def loss(self, load, number, pids):
        rates = {}
        for stops in (True, False):
            before, begun = self.done(load), time.monotonic()
            while time.monotonic() < begun + self.SECONDS:
                moment = time.monotonic() + number.random() * 0.04
                pid = number.choice(pids)
                if stops:
                    os.kill(pid, signal.SIGSTOP)
                try:
                    pass_until(moment)
                finally:
                    os.kill(pid, signal.SIGCONT)
                # It runs for a moment, so that it is stopped somewhere else the next time.
                pass_until(time.monotonic() + 0.001)
            rates[stops] = (self.done(load) - before) / (time.monotonic() - begun)
        return 1 - rates[True] / max(rates[False], 1)

    @staticmethod
    def stolen(load):
        return sum(lane['stolen'] for lane in load.daemon.stats()['lanes'])

    @staticmethod
    def done(load):
        return sum(load.record.done(seat) for seat in range(len(TRANSPORTS)))


if __name__ == '__main__':
    main()
