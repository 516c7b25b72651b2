# SPDX-License-Identifier: Apache-2.0
"""Callers over every transport, workers and the daemon are killed and stopped at random moments under load, and each
call still has one true outcome: knit_chaos.py says how that is checked.

The ordinary run makes a million calls, or as many as fit into its time; KNIT_TEST_CALLS=n asks for more of them, and
KNIT_TEST_LONG=1 for a hundred million.
"""

import collections
import contextlib
import os
import random
import signal
import time

from knit_chaos import Audit, ChaosCaller, Record, spread
from knit_harness import PATIENCE, SLOWDOWN, Case, main, wait_until
from knit_tls import Authority
from knit_witness import LONG, Ledger, LedgerDaemon, descriptors, is_alive, milliseconds_since, seed

CALLS = int(os.environ.get('KNIT_TEST_CALLS') or (100000000 if LONG else 1000000))
# The ordinary run ends after so many seconds with fewer calls, but it needs at least CALLS_MIN.
SECONDS, CALLS_MIN = 20, 50000
# One round takes a part of the ledger and ends in an audit of it.
ROUND_CALLS = min(CALLS // 4, 2000000)
WORKERS = 3
# (transport, calls that one caller process makes)
SEATS = (('shm', 40000), ('shm', 15000), ('unix', 15000), ('tcp', 15000), ('tls', 15000))
KILLED = -9


def worker_pids(daemon_pid):
    """From /proc, since a daemon that is stopped does not answer."""
    pids = []
    for task in os.listdir(f'/proc/{daemon_pid}/task'):
        with contextlib.suppress(OSError):
            with open(f'/proc/{daemon_pid}/task/{task}/children') as file:
                pids += map(int, file.read().split())
    return [pid for pid in pids if is_alive(pid)]


class Round:
    """One daemon, a caller on each seat, and random kills and stops of all of them."""

    def __init__(self, daemon, authority, ledger, record, number):
        self.daemon, self.authority, self.ledger, self.record, self.number = daemon, authority, ledger, record, number
        self.next_id, self.past, self.callers, self.stopped = 0, [], {}, {}
        self.killed_workers = self.killed_callers = self.stops = 0
        self.sessions = [record.sessions(seat) for seat in range(len(SEATS))]

    def begun(self):
        return sum(self.record.begun(seat) - before for seat, before in enumerate(self.begun_before))

    def start(self, seat):
        transport, count = SEATS[seat]
        count = min(count, ROUND_CALLS)
        if self.next_id + count > Ledger.IDS:
            return
        self.callers[seat] = ChaosCaller(self.daemon.url(transport), self.record, seat, self.next_id, count,
                                         self.number.randrange(1 << 30), trusts=self.authority.path('ca.pem'))
        self.next_id += count

    def reap(self, may_fail=False):
        for seat, caller in list(self.callers.items()):
            if caller.is_over():
                status = caller.process.returncode
                if status != 0 and not caller.was_killed and not (may_fail and status == 3):
                    raise AssertionError(f'the caller of seat {seat} ends with {status}')
                self.past.append((caller.first, caller.count, caller.was_killed))
                caller.__exit__()
                del self.callers[seat]

    def go_on(self, pids=None):
        for pid in list(self.stopped) if pids is None else pids:
            del self.stopped[pid]
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def stop(self, pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            self.stopped[pid] = time.monotonic() + self.number.random() * 0.03
            self.stops += 1

    def disturb(self):
        what = self.number.random()
        workers, callers = worker_pids(self.daemon.pid), list(self.callers.values())
        if what < 0.25 and workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.number.choice(workers), signal.SIGKILL)
                self.killed_workers += 1
        elif what < 0.35 and callers:
            caller = self.number.choice(callers)
            self.stopped.pop(caller.pid, None)
            self.killed_callers += caller.kill()
        elif what < 0.8:
            self.stop(self.number.choice([self.daemon.pid, *workers, *(c.pid for c in callers if not c.is_over())]))

    def run(self, until):
        self.begun_before = [self.record.begun(seat) for seat in range(len(SEATS))]
        while self.begun() < ROUND_CALLS and time.monotonic() < until:
            self.reap()
            for seat in range(len(SEATS)):
                if seat not in self.callers:
                    self.start(seat)
            self.disturb()
            moment = time.monotonic() + self.number.random() * 0.03
            wait_until(lambda: time.monotonic() > moment, 'the next moment')
            now = time.monotonic()
            self.go_on([pid for pid, end in self.stopped.items() if end < now])

    def end_in_peace(self):
        """All calls end."""
        self.go_on()
        wait_until(lambda: self.reap() or not self.callers, 'callers to end', 6 * PATIENCE)

    def end_by_death(self):
        """The daemon's: (milliseconds until its callers had ended, until its workers had)."""
        self.go_on()
        wait_until(lambda: all(self.record.begun(seat) > caller.before[0] for seat, caller in self.callers.items()
                               if not caller.is_over()), 'calls')
        workers = worker_pids(self.daemon.pid)
        killed_ns = time.monotonic_ns()
        self.daemon.process.kill()
        self.daemon.expected_status = KILLED
        groups, gone = (workers, [caller.pid for caller in self.callers.values()]), {}

        def all_gone():
            for i, pids in enumerate(groups):
                if i not in gone and not any(map(is_alive, pids)):
                    gone[i] = milliseconds_since(killed_ns)
            return len(gone) == len(groups)
        wait_until(all_gone, 'callers and workers to end', 6 * PATIENCE)
        self.daemon.wait()
        self.reap(may_fail=True)
        return gone[1], gone[0]

    def close(self):
        self.go_on()
        for caller in self.callers.values():
            caller.__exit__()

    def audit(self, audit):
        for first, count, was_killed in self.past:
            audit.add(self.ledger, self.record, first, count, was_killed)


class Chaos(Case):
    def test_each_call_has_one_true_outcome(self):
        number = random.Random(seed())
        self.by_transport = collections.Counter()
        until = time.monotonic() + (SECONDS * SLOWDOWN if CALLS <= 1000000 else 1 << 30)
        total, rounds, deaths = Audit(), [], []
        with contextlib.closing(Authority()) as self.authority:
            while total.calls < CALLS and time.monotonic() < until:
                with contextlib.closing(Ledger()) as ledger, contextlib.closing(Record()) as record:
                    self.one_round(number, ledger, record, min(until, time.monotonic() + 60), total, rounds, deaths)
                    for seat, (transport, _) in enumerate(SEATS):
                        self.by_transport[transport] += record.begun(seat)
        kinds = [sum(r[i] for r in rounds) for i in range(3)]
        print(f'chaos: {total}; {dict(self.by_transport)}')
        print(f'chaos: {len(rounds)} rounds, {kinds[0]} workers and {kinds[1]} callers killed, {kinds[2]} stops')
        if deaths:
            print(f'chaos: {len(deaths)} daemons killed: callers ended after {spread(d[0] for d in deaths)};'
                  f' workers after {spread(d[1] for d in deaths)}')
        self.assertGreater(total.calls, CALLS_MIN / SLOWDOWN)
        self.assertGreater(min(kinds), 0)
        for transport, _ in SEATS:
            self.assertGreater(self.by_transport[transport], CALLS_MIN / 50 / SLOWDOWN, transport)

    def one_round(self, number, ledger, record, until, total, rounds, deaths):
        with LedgerDaemon(ledger=ledger, workers=WORKERS, listen_tls='127.0.0.1:0', **self.authority.pair('server')) as daemon:
            before = descriptors(daemon.pid)
            chaos = Round(daemon, self.authority, ledger, record, number)
            try:
                chaos.run(until)
                dies = len(rounds) % 2 == 1
                if dies:
                    deaths.append(chaos.end_by_death())
                    self.assertLess(max(deaths[-1]), 10000 * SLOWDOWN)
                else:
                    chaos.end_in_peace()
                    self.check_daemon(daemon, before)
            finally:
                chaos.close()
            here = Audit()
            chaos.audit(here)
            chaos.audit(total)
            self.assertEqual(here.wrong, [])
            may_be = {'ok', 'WORKER_DIED', 'NO_WORKER', 'TIMEOUT', 'CANCELLED', 'TASK_FAILED', 'freed early', 'no outcome',
                      'never begun'} | ({'DISCONNECTED'} if dies else set())
            self.assertEqual({outcome.split(',')[0] for outcome in here.outcomes} - may_be, set(), here)
            rounds.append((chaos.killed_workers, chaos.killed_callers, chaos.stops))
            if CALLS > 1000000:
                # For a run that is interrupted.
                print(f'chaos: {len(rounds)} rounds, {total.calls} calls so far, none lost and none twice', flush=True)

    def check_daemon(self, daemon, before):
        daemon.wait_for_workers(WORKERS)
        pool = daemon.wait_for_quiet()['pool']
        self.assertEqual((pool['condemned'], pool['quarantined']), (0, 0))
        wait_until(lambda: not any(lane['is_running'] for lane in daemon.stats()['lanes']), 'workers to be idle')
        wait_until(lambda: descriptors(daemon.pid) <= before, f'{before} descriptors')


if __name__ == '__main__':
    main()
