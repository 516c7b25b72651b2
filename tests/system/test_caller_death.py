# SPDX-License-Identifier: Apache-2.0
"""A caller in shared memory is killed at random moments under load: what it held is freed, others are not affected."""

import random
import time

from knit_attach import attach_and_forget
from knit_harness import Case, main, wait_until
from knit_witness import Caller, LedgerDaemon, descriptors, mappings, milliseconds_since, seed

KILLS = 40


class CallerDeath(Case):
    def holdings(self, daemon):
        pids = [daemon.pid, *daemon.workers()]
        return [(descriptors(pid), mappings(pid)) for pid in pids]

    def test_at_random_moments(self):
        number = random.Random(seed())
        with LedgerDaemon() as daemon, Caller(daemon.url('shm'), 'loop', 1) as honest, \
                Caller(daemon.url('tcp'), 'loop', 2) as remote:
            honest.wait_ready()
            remote.wait_ready()
            workers = daemon.workers()
            # An earlier caller, so that everything that is allocated once is allocated.
            self.kill_one(daemon, number)
            before, memory_before = self.holdings(daemon), daemon.memory_kb()
            slowest = max(self.kill_one(daemon, number) for _ in range(KILLS))
            print(f'{KILLS} callers killed, the slowest reclaimed after {slowest:.1f} ms')
            self.assertLess(slowest, 1000)
            wait_until(lambda: self.holdings(daemon) == before, f'descriptors and mappings to be {before} again')
            self.assertLess(daemon.memory_kb() - memory_before, 4096)
            self.assertEqual(daemon.workers(), workers)
            self.assertGreater(honest.count(), KILLS)
            self.assertGreater(remote.count(), KILLS)
            pool = daemon.stats()['pool']
            self.assertEqual((pool['deaths'], pool['condemned']), (0, 0))

    def kill_one(self, daemon, number):
        """Milliseconds until its session is gone."""
        with Caller(daemon.url('shm'), 'loop', number.randrange(1 << 30)) as caller, daemon.unix() as rpc:
            caller.wait_ready()
            moment = time.monotonic() + number.random() * 0.01
            while time.monotonic() < moment:
                pass
            killed_ns = time.monotonic_ns()
            caller.kill()

            def reclaimed():
                pool = rpc.call('$/stats')['pool']
                return pool['foreign_sessions'] == 1 and pool['closing_sessions'] == 0
            wait_until(reclaimed, 'the session to go')
            return milliseconds_since(killed_ns)

    def test_with_calls_queued_and_running(self):
        """The running call is aborted, the queued ones never start, and the worker is free again."""
        with LedgerDaemon() as daemon, daemon.unix() as rpc:
            for base in (100, 300):
                with Caller(daemon.url('shm'), 'hold', 1, base, 64) as caller:
                    caller.wait_ready()
                    daemon.ledger.wait_for(base)
                    wait_until(lambda: all(lane['is_running'] for lane in rpc.call('$/stats')['lanes']), 'both to run')
                    caller.kill()
                daemon.wait_for_quiet()
                self.assertEqual(sum(daemon.ledger.ran(base + i) for i in range(64)), 2)
                self.assertEqual([rpc.call('ledger', 1) > 0 for _ in range(4)], [True] * 4)

    def test_before_and_after_its_first_call(self):
        with LedgerDaemon() as daemon:
            before = None
            for _ in range(10):
                with daemon.unix() as rpc:
                    attach_and_forget(rpc)
                daemon.wait_for_quiet()
                now = self.holdings(daemon)
                before = before or now
            wait_until(lambda: self.holdings(daemon) == before, f'descriptors and mappings to be {before} again')


if __name__ == '__main__':
    main()
