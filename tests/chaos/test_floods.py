# SPDX-License-Identifier: Apache-2.0
"""Calls that are cancelled as soon as they are made. A cancelled call frees its slot when its work has ended and not
before, so a flood of them starts no more work than there are slots.
"""

import collections
import concurrent.futures
import contextlib
import time

import msgpack

from knit_chaos import Audit, ChaosCaller, Record
from knit_harness import SLOWDOWN, Case, main, wait_until
from knit_witness import LONG, LedgerDaemon, descriptors, seed

CALLS = 10000000 // 4 if LONG else 200000
SLOTS, FLOOD = 16, 64


def request(msgid, task, *params):
    return msgpack.packb([0, msgid, task, list(params)])


def code(error):
    return 'ok' if error is None else str(error).split(' ')[0]


class Floods(Case):
    def test_the_library_cancels_each_call_at_once(self):
        start = seed()
        for transport in ('shm', 'tcp'):
            with self.subTest(transport), contextlib.closing(Record()) as record, LedgerDaemon() as daemon:
                # A short one first, so that everything that is allocated once is allocated.
                self.flood(daemon, record, transport, 0, 1000, start)
                before = descriptors(daemon.pid), daemon.memory_kb()
                begun = time.monotonic()
                self.flood(daemon, record, transport, 1000, CALLS, start)
                rate = CALLS / (time.monotonic() - begun)
                audit = Audit()
                audit.add(daemon.ledger, record, 1000, CALLS, False)
                print(f'flood: {transport}: {rate:.0f} calls and cancels a second; {audit}')
                self.assertEqual(audit.wrong, [])
                self.assertEqual({outcome.split(',')[0] for outcome in audit.outcomes} - {'ok', 'CANCELLED'}, set())
                daemon.wait_for_quiet()
                wait_until(lambda: descriptors(daemon.pid) <= before[0], f'{before[0]} descriptors')
                self.assertLess(daemon.memory_kb() - before[1], 4096)
                self.assertGreater(rate, 1000 / SLOWDOWN)

    @staticmethod
    def flood(daemon, record, transport, first, count, start):
        with ChaosCaller(daemon.url(transport), record, 0, first, count, 2 * (start // 2), window=256, plain=2) as caller:
            if caller.wait(120 * SLOWDOWN) != 0:
                raise AssertionError('the caller failed')

    def test_many_calls_and_cancels_in_one_write(self):
        """The library sends each cancel at once. This client sends many calls with their cancels in one write, as fast as
        the daemon reads them."""
        with LedgerDaemon() as daemon, daemon.tcp() as rpc:
            flood = [request(i, 'ledger', i) + msgpack.packb([2, '$/cancel', [i]]) for i in range(CALLS)]
            writes = [b''.join(flood[i:i + FLOOD]) for i in range(0, CALLS, FLOOD)]
            outcomes, unpacker = {}, msgpack.Unpacker()
            begun = time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(1) as writer:
                written = writer.submit(lambda: [rpc.send(data) for data in writes])
                while len(outcomes) < CALLS:
                    data = rpc.sock.recv(1 << 18)
                    self.assertTrue(data, 'the daemon closed the connection')
                    unpacker.feed(data)
                    for _, msgid, error, _ in unpacker:
                        self.assertNotIn(msgid, outcomes)
                        outcomes[msgid] = code(error)
                written.result()
            rate = CALLS / (time.monotonic() - begun)
            daemon.wait_for_quiet()
            ran = collections.Counter(zip((outcomes[i] for i in range(CALLS)), daemon.ledger.times(0, CALLS)))
            print(f'flood: {FLOOD} in a write: {rate:.0f} calls and cancels a second; (outcome, ran): {dict(ran)}')
            self.assertEqual(set(ran) - {('ok', 1), ('304', 0), ('304', 1)}, set())
            self.assertGreater(rate, 10000 / SLOWDOWN)

    def test_cancelled_calls_keep_their_slots(self):
        """Behind a call that ignores its abort others are made and cancelled: their callers get the outcome at once, but
        their slots stay in use until a worker has answered them. So no more are published than there are slots."""
        for queue_max in (0, 6):
            with self.subTest(queue_max=queue_max), LedgerDaemon(workers=1, slots=SLOTS, threads_io=1,
                                                                 lane_depth_us=0, queue_max=queue_max) as daemon, \
                    daemon.tcp() as rpc, daemon.tcp() as other:
                places, codes = queue_max or SLOTS, collections.Counter()
                rpc.send(request(0, 'hold', 0, 1, True))
                try:
                    daemon.ledger.wait_for(0)
                    for i in range(1, FLOOD):
                        rpc.send(request(i, 'ledger', i) + msgpack.packb([2, '$/cancel', [i]]))
                    if queue_max:
                        for i in range(1, FLOOD):
                            codes[code(rpc.response(i)[0])] += 1
                        self.assertEqual(codes, {'304': queue_max - 1, '200': FLOOD - queue_max})
                        self.assertEqual(code(other.response(other.request('ledger', FLOOD))[0]), '200')
                    else:
                        wait_until(lambda: daemon.stats()['loops']['waits_for_slot'] > 0, 'a call to find no slot')
                        waiting = other.request('ledger', FLOOD)
                    published = daemon.stats()['loops']['calls_published']
                    print(f'flood: {FLOOD - 1} cancelled behind a running call, {places} places: {published} published')
                    self.assertGreater(published, 1)
                    self.assertLessEqual(published, places)
                    self.assertEqual(sum(daemon.ledger.times(0, FLOOD + 1)), 1)
                finally:
                    daemon.ledger.open_gate(1)
                self.assertEqual(code(rpc.response(0)[0]), 'ok')
                if not queue_max:
                    for i in range(1, FLOOD):
                        codes[code(rpc.response(i)[0])] += 1
                    self.assertEqual(code(other.response(waiting)[0]), 'ok')
                self.assertEqual(set(codes) - {'ok', '304', '200'}, set())
                self.assertLessEqual(sum(daemon.ledger.times(1, FLOOD - 1)), codes['ok'])
                self.every_slot_is_free(daemon, other)

    def test_cancelled_calls_that_still_run_count_as_in_flight(self):
        """They go on running, so their connection may not have others instead; another connection may."""
        limit = 2
        with LedgerDaemon(workers=limit + 1, in_flight_max=limit, threads_io=1) as daemon, daemon.tcp() as rpc, \
                daemon.tcp() as other:
            for i in range(limit):
                rpc.send(request(i, 'hold', i, 1, True))
            try:
                wait_until(lambda: sum(daemon.ledger.times(0, limit)) == limit, 'them to run')
                for i in range(limit):
                    rpc.send(msgpack.packb([2, '$/cancel', [i]]))
                wait_until(lambda: daemon.stats()['loops']['calls_cancelled'] == limit, 'them to be cancelled')
                bytes_in = daemon.stats()['loops']['bytes_in']
                for i in range(limit, FLOOD):
                    rpc.send(request(i, 'hold', i, 1, True))
                wait_until(lambda: daemon.stats()['loops']['bytes_in'] > bytes_in + 100, 'more calls to come')
                for i in range(100):
                    self.assertGreater(other.call('ledger', FLOOD + i), 0)
                self.assertEqual(sum(daemon.ledger.times(0, FLOOD)), limit)
            finally:
                daemon.ledger.open_gate(1)
            codes = collections.Counter(code(rpc.response(i)[0]) for i in range(FLOOD))
            print(f'flood: {limit} running calls cancelled, {FLOOD} made, {limit} may be in flight: {limit} ran; then {codes}')
            self.assertEqual(set(codes) - {'ok', '304'}, set())
            self.assertEqual(set(daemon.ledger.times(0, FLOOD)), {1})
            self.every_slot_is_free(daemon, other)

    def every_slot_is_free(self, daemon, rpc):
        first = 2 * FLOOD + 100
        wait_until(lambda: not any(lane['is_running'] for lane in daemon.stats()['lanes']), 'the workers to be idle')
        for i in range(4 * SLOTS):
            self.assertGreater(rpc.call('ledger', first + i), 0)
        self.assertEqual(set(daemon.ledger.times(first, 4 * SLOTS)), {1})


if __name__ == '__main__':
    main()
