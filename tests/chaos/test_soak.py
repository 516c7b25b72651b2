# SPDX-License-Identifier: Apache-2.0
"""Nothing drifts: callers of every kind come, call, cancel, free handles early and leave, for a given time. Many more
come for one call each, so that what is lost with each connection or session adds up within seconds. The memory of the
daemon and its workers is sampled once a round; its growth in the second half is divided by the number of callers that
came. Descriptors must be the same as before.

KNIT_TEST_MINUTES=n soaks for so long, else 20 seconds; KNIT_TEST_LONG=1 for a day. From an hour on the slope over time
has a bound too.
"""

import contextlib
import os
import random
import time

from knit_attach import LAYOUT
from knit_chaos import Audit, ChaosCaller, Record
from knit_harness import PATIENCE, SLOWDOWN, Case, main, wait_until
from knit_witness import LONG, LedgerDaemon, descriptors, mappings, seed

MINUTES = float(os.environ.get('KNIT_TEST_MINUTES') or (24 * 60 if LONG else 1 / 3))
SEATS = (('shm', 8000), ('shm', 300), ('unix', 3000), ('unix', 100), ('tcp', 3000), ('tcp', 100))
# How many come in each round for one call, and by how much memory may grow with each: half of a leak of 2 KB.
CONNECTIONS, SESSIONS, EACH_KB = 400, 80, 1


def slope(samples):
    """KB for one more, by least squares."""
    n = len(samples)
    middle = sum(x for x, _ in samples) / n, sum(kb for _, kb in samples) / n
    square = sum((x - middle[0]) ** 2 for x, _ in samples)
    return sum((x - middle[0]) * (kb - middle[1]) for x, kb in samples) / square


def private_kb(pid):
    with open(f'/proc/{pid}/status') as file:
        return next(int(line.split()[1]) for line in file if line.startswith('RssAnon:'))


class Soak(Case):
    def test_nothing_drifts(self):
        number, begun = random.Random(seed()), time.monotonic()
        moments, ours, theirs, held, total = [], [], [], [], Audit()
        with contextlib.closing(Record()) as record, LedgerDaemon() as daemon:
            while len(ours) < 8 or time.monotonic() < begun + MINUTES * 60 * SLOWDOWN:
                self.one_round(daemon, record, number, total)
                self.crowd(daemon)
                moments.append(time.monotonic() - begun)
                ours.append(daemon.memory_kb())
                theirs.append([private_kb(pid) for pid in daemon.workers()])
                held = held or self.holdings(daemon)
                wait_until(lambda: self.holdings(daemon) == held, f'descriptors and mappings to be {held} again')
            pool = daemon.stats()['pool']
        print(f'soak: {moments[-1]:.0f} s, {len(ours)} rounds, {total}')
        half = range(len(ours) // 2, len(ours))
        a_connection = slope([(i * (CONNECTIONS + SESSIONS), ours[i]) for i in half])
        a_session = max(slope([(i * SESSIONS, kb[lane]) for i, kb in enumerate(theirs) if i in half])
                        for lane in range(len(theirs[0])))
        drift = 60 * slope([(moments[i], ours[i]) for i in half])
        print(f'soak: the daemon holds {ours[-1]} KB, {1000 * a_connection:+.1f} KB with 1,000 connections and {drift:+.1f} '
              f'KB a minute in the second half; workers hold {theirs[-1]} KB, {1000 * a_session:+.1f} KB with 1,000 sessions;'
              f' descriptors and mappings {held}')
        self.assertEqual((pool['deaths'], pool['condemned']), (0, 0))
        self.assertLess(a_connection, EACH_KB)
        self.assertLess(a_session, EACH_KB)
        if MINUTES >= 60:
            self.assertLess(drift, 10)

    @staticmethod
    def crowd(daemon):
        for i in range(CONNECTIONS):
            with (daemon.tcp, daemon.unix)[i % 2]() as rpc:
                rpc.hello()
                rpc.call('same', 'x' * 100)
        for i in range(SESSIONS):
            with daemon.unix() as rpc:
                rpc.call('$/attach', {'version': LAYOUT})
            if i % 8 == 7:
                daemon.wait_for_quiet()

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
