# SPDX-License-Identifier: Apache-2.0
"""Arguments that refer to other calls of the connection (ext 40), on the wire: resolved by the daemon, in order, with no
more round trips than one; refused where they refer to nothing; gone with their connection. What holds is known by the
ledger's gates and by the daemon's counters, never by time."""

import random

import msgpack

from knit_harness import Case, main, wait_until
from knit_witness import Ledger, LedgerDaemon, seed

BAD_ARGUMENT, TIMEOUT, CANCELLED, DEPENDENCY, TASK_FAILED = 302, 303, 304, 305, 600
UNKNOWN_TASK, OVERLOADED, TOO_DEEP, TOO_LARGE, QUOTA, BAD_MESSAGE = 300, 200, 102, 101, 201, 100


def ref(msgid):
    return msgpack.ExtType(40, msgpack.packb(msgid))


def burst(rpc, requests):
    """(msgid, method, params, options?) of each, in one send."""
    rpc.send(b''.join(msgpack.packb([0, *request], use_bin_type=True) for request in requests))
    rpc.next_id = max(request[0] for request in requests) + 1


class References(Case):
    def setUp(self):
        self.ledger = Ledger()
        self.addCleanup(self.ledger.close)

    def daemon(self, **options):
        return LedgerDaemon(ledger=self.ledger, workers=2, threads_io=1, **options)

    def connect(self, daemon):
        rpc = daemon.unix()
        self.addCleanup(rpc.close)
        rpc.hello()
        return rpc

    def hold(self, rpc, call, gate):
        """A call that ends in its id when the gate is open, and occupies no worker."""
        msgid = rpc.request('defer', call, gate)
        self.ledger.wait_for(call)
        return msgid

    def fails(self, rpc, msgid, code, started='no'):
        error, _ = rpc.response(msgid)
        self.assertIsNotNone(error)
        self.assertEqual(error[0], code, error)
        self.assertEqual(error[2].get('started'), started, error)
        return error

    def is_idle(self, daemon):
        loops = daemon.stats()['loops']
        return loops['references_bound'] == loops['references_over'] > 0

    def test_results_are_put_in_place(self):
        with self.daemon() as daemon:
            rpc = self.connect(daemon)
            self.assertIn('references', rpc.hello()['features'])
            a = self.hold(rpc, 7, 1)
            both = rpc.request('same', [1, 2])
            pair = rpc.request('carry', 3, 0, b'x')
            b = rpc.request('same', ref(a))
            c = rpc.request('ledger', ref(b))
            rpc.call('$/ping')
            self.assertNotIn(b, rpc.responses)
            self.assertEqual(self.ledger.ran(7), 1)
            self.ledger.open_gate(1)
            self.assertEqual(rpc.result(b), 7)
            self.assertTrue(rpc.result(c))
            self.assertEqual(self.ledger.ran(7), 2)
            self.assertEqual(rpc.result(a), 7)
            self.assertEqual(rpc.result(both), [1, 2])
            self.assertEqual(rpc.result(pair), b'x')

    def test_a_chain_of_16_in_one_send_takes_one_round_trip(self):
        """Nothing is read before all is sent, and nothing more is sent."""
        with self.daemon() as daemon:
            rpc = self.connect(daemon)
            burst(rpc, [(100, 'same', ['x'], {'keep': 1})] +
                  [(101 + i, 'same', [ref(100 + i)], {'keep': 1}) for i in range(15)])
            self.assertEqual([rpc.result(100 + i) for i in range(16)], ['x'] * 16)

    def test_no_priority_brings_a_request_before_those_that_it_refers_to(self):
        with self.daemon() as daemon:
            rpc = self.connect(daemon)
            for call in (1, 2):
                rpc.request('hold', call, 1)
                self.ledger.wait_for(call)
            burst(rpc, [(100 + i, 'same', [i]) for i in range(20)] +
                  [(200, 'same', [5], {'priority': 2, 'keep': 1}), (201, 'same', [ref(200)], {'priority': 0}),
                   (202, 'same', [6], {'priority': 0})])
            rpc.call('$/ping')
            self.ledger.open_gate(1)
            self.assertEqual(rpc.result(201), 5)
            self.assertEqual(rpc.result(202), 6)

    def test_many_sizes_and_types(self):
        with self.daemon() as daemon:
            rpc = self.connect(daemon)
            floats = msgpack.ExtType(36, bytes([9, 0]) + bytes(range(80)))
            for value in [None, 0, 'x' * 104, b'y' * 2000, b'z' * (1 << 20), {'a': [1, {}]}, floats]:
                first = rpc.request('twice', value, options={'keep': 2})
                second = rpc.request('twice', ref(first))
                third = rpc.request('carry', 0, 0, ref(first)) if isinstance(value, bytes) else None
                self.assertEqual(rpc.result(first), value)
                got = rpc.result(second)
                if value is floats:
                    self.assertEqual((got.code, got.data[-80:]), (36, floats.data[-80:]))
                else:
                    self.assertEqual(got, value)
                if third:
                    self.assertEqual(rpc.result(third), value)

    def test_what_is_kept(self):
        with self.daemon() as daemon:
            rpc = self.connect(daemon)
            kept = rpc.request('same', 5, options={'keep': 2})
            self.assertEqual(rpc.result(kept), 5)
            self.assertEqual(rpc.call('same', ref(kept)), 5)
            self.assertEqual(rpc.call('same', ref(kept)), 5)
            error = self.fails(rpc, rpc.request('same', ref(kept)), DEPENDENCY)
            self.assertEqual(error[2]['unknown'], kept)
            self.assertTrue(wait_until(lambda: self.is_idle(daemon), 'the loops to be idle'))

    def test_one_that_was_refused_is_what_references_to_its_number_mean(self):
        with self.daemon() as daemon:
            rpc = self.connect(daemon)
            for params, options, cause in (([ref(4000000000)], {}, DEPENDENCY), ([1, 2, 3], {'timeout': 0}, TIMEOUT),
                                           ([msgpack.ExtType(40, b'\xff')], {}, BAD_ARGUMENT)):
                burst(rpc, [(100, 'same', [5], {'keep': 2})])
                self.assertEqual(rpc.result(100), 5)
                burst(rpc, [(100, 'same', params, dict(options, keep=1)), (101, 'same', [ref(100)])])
                self.fails(rpc, 100, cause)
                self.assertEqual(self.fails(rpc, 101, DEPENDENCY)[2]['cause'][0], cause)
            self.assertTrue(wait_until(lambda: self.is_idle(daemon), 'the loops to be idle'))

    def test_references_to_nothing_and_too_many(self):
        with self.daemon() as daemon:
            rpc = self.connect(daemon)
            done = rpc.request('same', 1)
            self.assertEqual(rpc.result(done), 1)
            for unknown in (done, 4000000000, rpc.next_id + 2):
                error = self.fails(rpc, rpc.request('same', ref(unknown)), DEPENDENCY)
                self.assertEqual(error[2]['unknown'], unknown)
            own = rpc.next_id
            self.assertEqual(self.fails(rpc, rpc.request('same', ref(own)), DEPENDENCY)[2]['unknown'], own)
            a = self.hold(rpc, 1, 1)
            self.fails(rpc, rpc.request('same', *[ref(a)] * 17), BAD_ARGUMENT)
            for body in (b'', b'\xa1x', b'\xff', b'\xcf' + bytes(7) + b'\x01\x00', b'\x01\x01', b'\xcf\x00\x00\x00\x01' + bytes(4)):
                self.fails(rpc, rpc.request('same', msgpack.ExtType(40, body)), BAD_ARGUMENT)
            # Within a value it is none.
            self.fails(rpc, rpc.request('same', [ref(a)]), BAD_ARGUMENT)
            many = rpc.request('same', *[ref(a)] * 16)
            self.ledger.open_gate(1)
            self.fails(rpc, many, BAD_ARGUMENT)  # of one parameter
            self.assertEqual(rpc.result(a), 1)
            self.assertEqual(rpc.call('same', 2), 2)

    def test_a_notification_has_no_response_whatever_it_refers_to(self):
        with self.daemon() as daemon:
            rpc = self.connect(daemon)
            for params in ([msgpack.ExtType(40, b'\xff')], [ref(1)] * 17, [ref(rpc.next_id)]):
                rpc.notify('same', *params)
            rpc.call('$/ping')
            self.assertEqual(rpc.responses, {})
            wait_until(lambda: daemon.stats()['loops']['notifications'] == 3, 'the notifications to be counted')

    def test_what_cannot_be_kept_takes_no_memory(self):
        size, count = 1000000, 60
        with self.daemon(call_max_bytes=1 << 20, input_max_bytes=20 << 20) as daemon:
            rpc = self.connect(daemon)
            a = self.hold(rpc, 1, 1)
            kept = [rpc.request('carry', 0, 0, bytes(size), options={'keep': 1}) for _ in range(4)]
            for msgid in kept:
                self.assertEqual(len(rpc.result(msgid)), size)
            waits = rpc.request('same', ref(a), *[ref(msgid) for msgid in kept])
            others = [self.connect(daemon) for _ in range(count)]
            before = daemon.memory_kb()
            for other in others:
                self.assertEqual(len(other.call('carry', 0, 0, bytes(size), options={'keep': 1})), size)
            self.assertLess(daemon.memory_kb(), before + count * size // 4 // 1024)
            error = self.fails(other, other.request('same', ref(other.next_id - 1)), DEPENDENCY)
            self.assertEqual(error[2]['cause'][0], QUOTA)
            self.ledger.open_gate(1)
            self.fails(rpc, waits, TOO_LARGE)
            self.assertEqual(rpc.result(a), 1)

    def test_failures_have_their_cause(self):
        with self.daemon() as daemon:
            rpc = self.connect(daemon)
            a = self.hold(rpc, 1, 1)
            b = rpc.request('ledger', ref(a))
            c = rpc.request('ledger', ref(b))
            rpc.notify('$/cancel', a)
            for msgid in (b, c):
                error = self.fails(rpc, msgid, DEPENDENCY)
                self.assertEqual(error[2]['cause'][0], CANCELLED)
            self.fails(rpc, a, CANCELLED, 'yes')
            bad = rpc.request('ledger', -5, options={'keep': 1})
            error = self.fails(rpc, rpc.request('same', ref(bad)), DEPENDENCY)
            self.assertEqual(error[2]['cause'][0], TASK_FAILED)
            self.fails(rpc, bad, TASK_FAILED, 'yes')
            # Refused before it is a call.
            a = self.hold(rpc, 2, 2)
            deep = rpc.request('same', ref(a), ref(a), options={'timeout': 0})
            self.fails(rpc, deep, TIMEOUT)
            late = rpc.request('same', ref(a), options={'timeout': {'time': 20, 'default': 9}})
            later = rpc.request('same', ref(late))
            self.assertEqual(rpc.result(late), 9)
            self.assertEqual(rpc.result(later), 9)
            error = self.fails(rpc, rpc.request('same', ref(a), options={'timeout': 20}), TIMEOUT)
            self.assertIn('waited for its arguments', error[1])
            self.fails(rpc, rpc.request('same', ref(a), options={'queue': 20}), TIMEOUT)
            self.fails(rpc, rpc.request('same', ref(a), options={'queue': 0}), OVERLOADED)
            waits = rpc.request('ledger', ref(a))
            rpc.notify('$/cancel', waits)
            self.fails(rpc, waits, CANCELLED)
            self.ledger.open_gate(2)
            self.assertEqual(rpc.result(a), 2)
            self.assertEqual(self.ledger.ran(2), 1)

    def test_what_is_refused_is_kept_too(self):
        with self.daemon() as daemon:
            rpc = self.connect(daemon)
            keep = {'keep': 1}
            there = rpc.request('same', 4, options=keep)
            self.assertEqual(rpc.result(there), 4)
            burst(rpc, [(100, 'nothing', [1], keep), (101, 'same', [ref(100)], keep), (102, 'same', [ref(101)]),
                        (110, 'same', [ref(4000000000)], keep), (111, 'same', [ref(110)]),
                        (120, 'same', [ref(101)] * 17, keep), (121, 'same', [ref(120)]),
                        (130, 'same', [5], {'keep': 1, 'timeout': {'time': 0, 'default': 6}}), (131, 'same', [ref(130)])])
            for msgid, code in ((101, UNKNOWN_TASK), (102, UNKNOWN_TASK), (111, DEPENDENCY), (121, BAD_ARGUMENT)):
                self.assertEqual(self.fails(rpc, msgid, DEPENDENCY)[2]['cause'][0], code)
            self.assertEqual(rpc.result(131), 6)
            # In the input too, where the workers are held. One with its arguments does not wait for these.
            for call in (1, 2):
                rpc.request('hold', call, 1)
                self.ledger.wait_for(call)
            burst(rpc, [(200 + i, 'same', [i]) for i in range(3)] + [(290, 'same', [ref(there)], {'timeout': 20})])
            self.assertNotIn('its arguments', self.fails(rpc, 290, TIMEOUT)[1])
            burst(rpc, [(210 + i, 'same', [i]) for i in range(20)] +
                  [(300, 'same', [1], {'keep': 1, 'timeout': 20}), (301, 'same', [2], keep), (302, 'same', [3], {'keep': 1, 'queue_max': 1})] +
                  [(310 + i, 'same', [ref(300 + i)]) for i in range(3)])
            rpc.notify('$/cancel', 301)
            for msgid, code in ((300, TIMEOUT), (301, CANCELLED), (302, OVERLOADED)):
                self.fails(rpc, msgid, code)
            self.ledger.open_gate(1)
            for msgid, code in ((310, TIMEOUT), (311, CANCELLED), (312, OVERLOADED)):
                self.assertEqual(self.fails(rpc, msgid, DEPENDENCY)[2]['cause'][0], code)

    def test_what_results_are_is_within_the_limits(self):
        with self.daemon(call_max_bytes=65536) as daemon:
            rpc = self.connect(daemon)
            half = rpc.request('carry', 0, 0, bytes(40000), options={'keep': 4})
            self.assertEqual(rpc.result(half), bytes(40000))
            self.fails(rpc, rpc.request('same', ref(half), ref(half)), TOO_LARGE)
            value = 1
            for _ in range(30):
                value = [value]
            nested = rpc.request('same', value, options={'keep': 1})
            self.assertEqual(rpc.result(nested), value)
            self.assertEqual(rpc.call('same', ref(nested)), value)

    def test_a_msgid_in_use_is_one_of_a_call_that_waits_too(self):
        with self.daemon() as daemon:
            rpc = self.connect(daemon)
            a = self.hold(rpc, 1, 1)
            b = rpc.request('same', ref(a))
            rpc.send(msgpack.packb([0, b, 'same', [1]]))
            self.assertEqual(rpc.response(b)[0][0], BAD_MESSAGE)
            self.assertTrue(rpc.is_closed_by_peer())
            self.ledger.open_gate(1)
            wait_until(lambda: self.is_idle(daemon), 'the loops to be idle')

    def test_a_connection_that_closes_leaves_nothing(self):
        with self.daemon() as daemon:
            for end in range(4):
                rpc = self.connect(daemon)
                call = 10 + end
                a = self.hold(rpc, call, 1)
                for _ in range(50):
                    b = rpc.request('ledger', ref(a), options={'keep': 3})
                    rpc.request('ledger', ref(b))
                rpc.request('same', b'x' * 100000, options={'keep': 5})
                rpc.call('$/ping')
                rpc.close()
                wait_until(lambda: self.is_idle(daemon), 'the loops to be idle')
            self.ledger.open_gate(1)

    def test_over_the_limit_of_calls_in_flight_reading_pauses(self):
        with self.daemon(in_flight_max=8) as daemon:
            rpc = self.connect(daemon)
            a = self.hold(rpc, 1, 1)
            waiting = [rpc.request('same', ref(a)) for _ in range(7)]
            more = [rpc.request('same', i) for i in range(20)]
            wait_until(lambda: daemon.stats()['loops']['references_bound'] == 7, 'requests to wait')
            self.ledger.open_gate(1)
            self.assertEqual([rpc.result(msgid) for msgid in waiting], [1] * 7)
            self.assertEqual([rpc.result(msgid) for msgid in more], list(range(20)))
            self.assertEqual(rpc.result(a), 1)

    def test_more_outcomes_than_are_kept_of_a_connection(self):
        """All of them are waited for, so none can make room."""
        with self.daemon() as daemon:
            rpc = self.connect(daemon)
            a = self.hold(rpc, 1, 1)
            kept = [rpc.request('same', i, options={'keep': 1}) for i in range(1023)]
            self.assertEqual([rpc.result(msgid) for msgid in kept], list(range(1023)))
            waiting = [rpc.request('same', ref(a), *[ref(msgid) for msgid in kept[i:i + 15]]) for i in range(0, 1023, 15)]
            b = self.hold(rpc, 2, 1)
            self.fails(rpc, rpc.request('same', ref(b)), QUOTA)
            self.ledger.open_gate(1)
            for msgid in waiting:
                self.fails(rpc, msgid, BAD_ARGUMENT)  # of one parameter
            self.assertEqual((rpc.result(a), rpc.result(b)), (1, 2))
            self.assertEqual(rpc.call('same', 2), 2)

    def test_random_graphs(self):
        chance = random.Random(seed())
        with self.daemon() as daemon:
            rpc = self.connect(daemon)
            for _ in range(20):
                first, values, requests = rpc.next_id, {}, []
                for msgid in range(first, first + 150):
                    source = chance.randrange(first, msgid) if msgid > first and chance.random() < 0.8 else None
                    if source is None:
                        values[msgid] = msgid if chance.random() < 0.9 else None
                        method, params = ('same', [msgid]) if values[msgid] else ('ledger', [-1])
                    else:
                        values[msgid] = values[source]
                        method, params = 'same', [ref(source)]
                    requests.append((msgid, method, params, {'keep': 200}))
                while requests:
                    part = chance.randrange(1, len(requests) + 1)
                    burst(rpc, requests[:part])
                    requests = requests[part:]
                for msgid, value in values.items():
                    error, result = rpc.response(msgid)
                    if value is None:
                        self.assertIn(error[0], (TASK_FAILED, DEPENDENCY))
                        if error[0] == DEPENDENCY:
                            self.assertEqual(error[2]['cause'][0], TASK_FAILED)
                    else:
                        self.assertEqual((error, result), (None, value))
            self.assertTrue(self.is_idle(daemon))

    def test_random_references(self):
        """Whatever stands in them, the connection lives and each request has its one answer."""
        chance = random.Random(seed())
        with self.daemon() as daemon:
            rpc = self.connect(daemon)
            for _ in range(50):
                first = rpc.next_id
                requests = []
                for msgid in range(first, first + 60):
                    params = [chance.choice([
                        ref(chance.randrange(max(0, first - 50), first + 60)),
                        msgpack.ExtType(40, chance.randbytes(chance.randrange(0, 7))),
                        [ref(first)], {'a': ref(first)}, msgid, 'x' * chance.randrange(3000)])
                        for _ in range(chance.choice([1, 1, 1, 2, 20]))]
                    options = {'keep': chance.randrange(3)} if chance.random() < 0.5 else {}
                    if chance.random() < 0.1:
                        options['timeout'] = chance.randrange(3)
                    requests.append((msgid, 'same', params, options))
                burst(rpc, requests)
                for msgid in range(first, first + 60, 7):
                    rpc.notify('$/cancel', msgid)
                for msgid in range(first, first + 60):
                    rpc.response(msgid)
            self.assertTrue(self.is_idle(daemon))
            self.assertEqual(rpc.call('same', 1), 1)


if __name__ == '__main__':
    main()
