# SPDX-License-Identifier: Apache-2.0
"""Calls that are cancelled as soon as they are made. What was cancelled gives its place back when its work has ended and
not before, so a flood of them starts no more work than there are places for.
"""

import contextlib
import time

import msgpack

from knit_chaos import Audit, ChaosCaller, Record
from knit_harness import SLOWDOWN, Case, main, wait_until
from knit_witness import LONG, LedgerDaemon, descriptors, seed

CALLS = 10000000 // 4 if LONG else 200000
IN_FLIGHT, WORKERS = 16, 2


class Floods(Case):
    def test_call_and_cancel(self):
        start = seed()
        for transport in ('shm', 'tcp'):
            with self.subTest(transport), contextlib.closing(Record()) as record, LedgerDaemon() as daemon:
                # A short one first, so that everything that is made once has been made.
                self.flood(daemon, record, transport, 0, 1000, start)
                before = descriptors(daemon.pid), daemon.memory_kb()
                begun = time.monotonic()
                self.flood(daemon, record, transport, 1000, CALLS, start)
                rate = CALLS / (time.monotonic() - begun)
                audit = Audit()
                audit.add(daemon.ledger, record, 1000, CALLS, False)
                print(f'flood: {transport}: {rate:.0f} calls and cancels a second; {audit}')
                self.assertEqual(audit.wrong, [])
                self.assertEqual({told.split(',')[0] for told in audit.told} - {'ok', 'CANCELLED'}, set())
                daemon.wait_for_quiet()
                wait_until(lambda: descriptors(daemon.pid) <= before[0], f'{before[0]} descriptors')
                self.assertLess(daemon.memory_kb() - before[1], 4096)
                self.assertGreater(rate, 1000 / SLOWDOWN)

    @staticmethod
    def flood(daemon, record, transport, first, count, start):
        with ChaosCaller(daemon.url(transport), record, 0, first, count, 2 * (start // 2), window=256, plain=2) as caller:
            if caller.wait(120 * SLOWDOWN) != 0:
                raise AssertionError('the caller failed')

    def test_cancelled_work_keeps_its_place(self):
        """Deaf tasks: however often they are cancelled and called again, no more run than there are workers."""
        with LedgerDaemon(workers=WORKERS, in_flight_max=IN_FLIGHT) as daemon, daemon.tcp() as rpc:
            count = 2000
            for i in range(WORKERS):
                rpc.send(msgpack.packb([0, i, 'hold', [100 + i, 1, True]]))
            try:
                wait_until(lambda: sum(daemon.ledger.times(100, count)) == WORKERS, 'all workers to hold')
                begun = time.monotonic()
                for i in range(count):
                    if i >= WORKERS:
                        rpc.send(msgpack.packb([0, i, 'hold', [100 + i, 1, True]]))
                    rpc.send(msgpack.packb([2, '$/cancel', [i]]))
                    if i % 100 == 0:
                        self.assertEqual(sum(daemon.ledger.times(100, count)), WORKERS)
                rate = count / (time.monotonic() - begun)
                # This connection is not read any more: what was cancelled behind the deaf ones still has its place.
                self.assertEqual(len(daemon.workers()), WORKERS)
                self.assertEqual(sum(daemon.ledger.times(100, count)), WORKERS)
            finally:
                daemon.ledger.open_gate(1)
            codes = {}
            for i in range(count):
                error, _ = rpc.response(i)
                code = 'ok' if error is None else str(error).split(' ')[0]
                codes[code] = codes.get(code, 0) + 1
            started = sum(daemon.ledger.times(100, count))
            print(f'flood: {count} deaf calls cancelled at {rate:.0f}/s on {WORKERS} workers: {WORKERS} ran before the gate'
                  f' was opened, {started} in all; outcomes {codes}')
            self.assertEqual(max(daemon.ledger.times(100, count)), 1)


if __name__ == '__main__':
    main()
