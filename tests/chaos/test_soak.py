# SPDX-License-Identifier: Apache-2.0
"""Nothing drifts: callers of every kind come, call, cancel, let go and leave, for as long as is asked for. The daemon's
own memory is sampled once a round; its slope over the second half is printed, descriptors must be what they were.

KNIT_TEST_MINUTES=n soaks for so long; KNIT_TEST_LONG=1 for a day. From an hour on the slope itself has a bound.
"""

import contextlib
import os
import random
import time

from knit_chaos import Audit, ChaosCaller, Record
from knit_harness import PATIENCE, SLOWDOWN, Case, main, wait_until
from knit_witness import LONG, LedgerDaemon, descriptors, mappings, seed

MINUTES = float(os.environ.get('KNIT_TEST_MINUTES') or (24 * 60 if LONG else 0.2))
SEATS = (('shm', 8000), ('shm', 300), ('unix', 3000), ('unix', 100), ('tcp', 3000), ('tcp', 100))


def slope(samples):
    """KB a minute, by least squares."""
    n = len(samples)
    middle = sum(t for t, _ in samples) / n, sum(kb for _, kb in samples) / n
    square = sum((t - middle[0]) ** 2 for t, _ in samples)
    return 60 * sum((t - middle[0]) * (kb - middle[1]) for t, kb in samples) / square


class Soak(Case):
    def test_nothing_drifts(self):
        number, until = random.Random(seed()), time.monotonic() + MINUTES * 60 * SLOWDOWN
        samples, held, total = [], [], Audit()
        with contextlib.closing(Record()) as record, LedgerDaemon() as daemon:
            while len(samples) < 8 or time.monotonic() < until:
                self.one_round(daemon, record, number, total)
                samples.append((time.monotonic(), daemon.memory_kb()))
                held = held or self.holdings(daemon)
                wait_until(lambda: self.holdings(daemon) == held, f'descriptors and mappings to be {held} again')
            pool = daemon.stats()['pool']
        half = samples[len(samples) // 2:]
        growth, drift = half[-1][1] - half[0][1], slope(half)
        print(f'soak: {samples[-1][0] - samples[0][0]:.0f} s, {len(samples)} rounds, {total}')
        print(f'soak: the daemon holds {samples[-1][1]} KB, {growth:+d} KB in the second half, a slope of {drift:+.1f} KB'
              f' a minute; descriptors and mappings {held}')
        self.assertEqual((pool['deaths'], pool['condemned']), (0, 0))
        self.assertLess(growth, 1024)
        if MINUTES >= 60:
            self.assertLess(drift, 10)

    @staticmethod
    def holdings(daemon):
        return [(descriptors(pid), mappings(pid)) for pid in [daemon.pid, *daemon.workers()]]

    def one_round(self, daemon, record, number, total):
        first, callers = 0, []
        with contextlib.ExitStack() as stack:
            for seat, (transport, count) in enumerate(SEATS):
                callers.append(stack.enter_context(ChaosCaller(
                    daemon.url(transport), record, seat, first, count, number.randrange(1 << 30))))
                first += count
            for caller in callers:
                self.assertEqual(caller.wait(6 * PATIENCE), 0)
        daemon.wait_for_quiet()
        wait_until(lambda: not any(lane['is_running'] for lane in daemon.stats()['lanes']), 'workers to be idle')
        here = Audit()
        for caller in callers:
            for audit in (here, total):
                audit.add(daemon.ledger, record, caller.first, caller.count, False)
        self.assertEqual(here.wrong, [])
        daemon.ledger.forget(0, first)
        record.forget(0, first)


if __name__ == '__main__':
    main()
