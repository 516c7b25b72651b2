# SPDX-License-Identifier: Apache-2.0
"""A worker is killed: the call that it ran fails with WORKER_DIED, every queued one runs in another worker, once; a
replacement serves; other calls are not affected.

The ledger is the oracle: a counter for each call, raised by the task itself in a mapped file. All workers are made to
hold before the queue is filled, so the killed one has all of it behind its running call.
"""

import os
import random
import signal
import time

from knit_harness import Case, main, wait_until
from knit_witness import LONG, Caller, LedgerDaemon, descriptors, is_alive, mappings, milliseconds_since, seed

WORKER_DIED = 400
QUEUED = 32


def wait_for_replacement(daemon, count, victim):
    def replaced():
        pids = daemon.workers()
        return len(pids) == count and victim not in pids and pids
    return wait_until(replaced, 'the replacement')


class WorkerDeath(Case):
    def kill_one_with_a_queue(self, transport):
        with LedgerDaemon() as daemon, daemon.unix() as other, \
                Caller(daemon.url('shm'), 'loop', 1) as bystander:
            bystander.wait_ready()
            # One worker waits at gate 0 with a call of another caller, so the first call goes to the other one, and the
            # rest has to wait.
            elsewhere = other.request('hold', 0, 0)
            daemon.ledger.wait_for(0)
            with Caller(daemon.url(transport), 'calls', 1, 100, QUEUED) as caller:
                caller.wait_ready()
                daemon.ledger.wait_for(100)
                victim = daemon.ledger.worker(100)
                self.assertNotEqual(victim, daemon.ledger.worker(0))
                caller.go_on()
                self.assertEqual([daemon.ledger.ran(100 + i) for i in range(1, QUEUED + 1)], [0] * QUEUED)
                killed_ns = time.monotonic_ns()
                os.kill(victim, signal.SIGKILL)
                wait_for_replacement(daemon, 2, victim)
                replaced_ms = milliseconds_since(killed_ns)
                outcomes = caller.outcomes()
            daemon.ledger.open_gate(0)
            self.assertEqual(other.result(elsewhere), daemon.ledger.worker(0))
            self.check(daemon, outcomes, victim)
            failed_ms = (outcomes[0].ns - killed_ns) / 1e6
            print(f'{transport}: failed {failed_ms:.1f} ms after the kill, replaced after {replaced_ms:.1f} ms')
            self.assertLess(failed_ms, 1000)
            self.assertLess(replaced_ms, 5000)
            self.assertGreater(bystander.count(), 0)
            pool = daemon.stats()['pool']
            self.assertEqual((pool['deaths'], pool['condemned'], pool['quarantined']), (1, 0, 0))

    def check(self, daemon, outcomes, victim):
        failed = [o for o in outcomes if o.code != 0]
        self.assertEqual([(o.call, o.code, o.started) for o in failed], [(100, WORKER_DIED, 'yes')], outcomes)
        self.assertEqual([daemon.ledger.ran(100 + i) for i in range(QUEUED + 1)], [1] * (QUEUED + 1))
        self.assertNotIn(victim, [o.worker for o in outcomes])

    def test_over_tcp(self):
        self.kill_one_with_a_queue('tcp')

    def test_over_unix(self):
        self.kill_one_with_a_queue('unix')

    def test_over_shm(self):
        self.kill_one_with_a_queue('shm')

    def test_the_only_worker(self):
        for transport in ('tcp', 'shm'):
            with self.subTest(transport), LedgerDaemon(workers=1) as daemon, \
                    Caller(daemon.url(transport), 'calls', 1, 100, QUEUED) as caller:
                caller.wait_ready()
                daemon.ledger.wait_for(100)
                caller.go_on()
                os.kill(daemon.ledger.worker(100), signal.SIGKILL)
                self.check(daemon, caller.outcomes(), daemon.ledger.worker(100))

    def test_the_death_of_an_idle_worker_costs_no_call(self):
        with LedgerDaemon() as daemon, Caller(daemon.url('shm'), 'loop', 2) as shm, \
                Caller(daemon.url('tcp'), 'hold', 1, 100, 1) as caller:
            shm.wait_ready()
            caller.wait_ready()
            daemon.ledger.wait_for(100)
            shm.count()
            idle, = set(daemon.workers()) - {daemon.ledger.worker(100)}
            os.kill(idle, signal.SIGKILL)
            wait_for_replacement(daemon, 2, idle)
            daemon.ledger.open_gate(1)
            self.assertEqual([o.code for o in caller.outcomes()], [0])

    def test_a_worker_every_50_ms_under_load(self):
        """Every call has one outcome, and ran once if that is a success, at most once if it is an error."""
        number = random.Random(seed())
        count = 3000000 if LONG else 150000
        with LedgerDaemon(workers=3) as daemon, Caller(daemon.url('shm'), 'tally', 0, count) as shm, \
                Caller(daemon.url('tcp'), 'tally', count, count // 10) as tcp:
            shm.wait_ready()
            tcp.wait_ready()
            before = descriptors(daemon.pid)
            kills, outages = 0, []
            while shm.process.poll() is None or tcp.process.poll() is None:
                victim = number.choice(daemon.workers() or [None])
                if victim is None:
                    continue
                os.kill(victim, signal.SIGKILL)
                killed_ns = time.monotonic_ns()
                wait_for_replacement(daemon, 3, victim)
                outages.append(milliseconds_since(killed_ns))
                kills += 1
                again = killed_ns + 50000000
                wait_until(lambda: time.monotonic_ns() > again, 'the next moment')
            for name, caller, first, calls in (('shm', shm, 0, count), ('tcp', tcp, count, count // 10)):
                failed, good = caller.tally()
                print(f'{name}: {calls} calls, {len(failed)} failed')
                self.assertEqual(len(failed) + good, calls)
                self.assertEqual({(o.code, o.started) for o in failed} - {(WORKER_DIED, 'yes')}, set())
                self.assertLessEqual(len(failed), kills)
                times = daemon.ledger.times(first, calls)
                bad = {o.call - first for o in failed}
                wrong = [i for i in range(calls) if times[i] != 1 and not (i in bad and times[i] == 0)]
                self.assertEqual(wrong, [], f'calls that ran another number of times: {[times[i] for i in wrong]}')
            outages.sort()
            print(f'{kills} workers killed, replaced after {outages[len(outages) // 2]:.1f} ms, at most {outages[-1]:.1f}')
            wait_until(lambda: descriptors(daemon.pid) <= before, f'{before} descriptors')
            pool = daemon.wait_for_quiet()['pool']
            self.assertEqual((pool['condemned'], pool['quarantined']), (0, 0))

    def test_dead_workers_leave_nothing_behind(self):
        number = random.Random(seed())
        with LedgerDaemon() as daemon, daemon.tcp() as rpc, Caller(daemon.url('shm'), 'hold', 1, 1, 1) as attached:
            attached.wait_ready()
            daemon.ledger.wait_for(1)
            holder = daemon.ledger.worker(1)
            rpc.call('ledger', 2)
            before = None
            for i in range(12):
                victim = number.choice([pid for pid in daemon.workers() if pid != holder])
                os.kill(victim, signal.SIGKILL)
                wait_for_replacement(daemon, 2, victim)
                self.assertFalse(is_alive(victim))
                rpc.call('ledger', 3 + i)
                now = descriptors(daemon.pid), mappings(daemon.pid)
                before = before or now
                self.assertEqual(now, before, f'descriptors and mappings after {i + 1} deaths')
            self.assertEqual([daemon.ledger.ran(3 + i) for i in range(12)], [1] * 12)
            daemon.ledger.open_gate(1)
            self.assertEqual([o.code for o in attached.outcomes()], [0])


if __name__ == '__main__':
    main()
