# SPDX-License-Identifier: Apache-2.0
"""Greedy connections and a modest one on the same event loop. The greedy ones occupy slots by calls, by calls that they
cancel, or by notifications; the modest one's call is answered while they are still occupied.

Calls of the greedy ones are bound to one worker, which waits at a gate, and stealing is off; so the modest one's call,
bound to the other worker, needs nothing but a slot. Notifications cannot be bound; those that get to the other worker run.
"""

import threading

import msgpack

from knit_harness import Case, main, wait_until
from knit_witness import LedgerDaemon

SLOTS = 64
GATE = 1


class Shares(Case):
    LANE_DEPTH_US = 0

    def setUp(self):
        self.daemon = LedgerDaemon(workers=2, slots=SLOTS, arena_bytes='8MiB', threads_io=1, steal='off', balancer='robinRound',
                                   lane_depth_us=self.LANE_DEPTH_US)
        self.addCleanup(self.daemon.__exit__, None, None, None)
        self.modest = self.daemon.unix()
        self.addCleanup(self.modest.close)
        self.modest.hello()
        workers = {}
        for key in range(100):
            workers.setdefault(self.modest.call('ledger', 0, options={'affinity': key}), key)
            if len(workers) == 2:
                break
        self.busy, self.idle = workers.values()

    def greedy(self):
        rpc = self.daemon.unix()
        self.addCleanup(rpc.close)
        return rpc

    def flood(self, rpc, first, count):
        """So many calls for the busy worker, in one write: a socket that is not read takes few writes."""
        msgids = range(rpc.next_id, rpc.next_id + count)
        rpc.next_id += count
        rpc.send(b''.join(msgpack.packb([0, msgid, 'ledger', [first + i], {'affinity': self.busy}])
                          for i, msgid in enumerate(msgids)))
        return msgids

    def wait_until_it_waits(self, times=1):
        """How often the greedy ones had to wait."""
        wait_until(lambda: self.daemon.stats()['loops']['waits_for_slot'] >= times, 'connections to wait for slots')

    def expect_room(self):
        for call in range(100, 110):
            self.modest.call('ledger', call, options={'affinity': self.idle})
        self.assertEqual(self.daemon.ledger.ran(1), 1)

    def block(self, rpc):
        msgid = rpc.request('hold', 1, GATE, options={'affinity': self.busy})
        self.daemon.ledger.wait_for(1)
        return msgid

    def test_calls(self):
        greedy = self.greedy()
        held = self.block(greedy)
        calls = self.flood(greedy, 200, 2 * SLOTS)
        self.wait_until_it_waits()
        self.expect_room()
        self.daemon.ledger.open_gate(GATE)
        for msgid in [held, *calls]:
            greedy.result(msgid)
        self.assertEqual(self.daemon.ledger.times(200, 2 * SLOTS).tolist(), [1] * (2 * SLOTS))

    def test_calls_of_many_connections(self):
        first = self.greedy()
        held = self.block(first)
        calls = []
        for n in range(5):
            greedy = self.greedy()
            calls += [(greedy, msgid) for msgid in self.flood(greedy, 200 + n * SLOTS, SLOTS)]
            self.wait_until_it_waits(n + 1)
        self.expect_room()
        self.daemon.ledger.open_gate(GATE)
        for greedy, msgid in [(first, held), *calls]:
            greedy.result(msgid)

    def test_calls_that_are_cancelled(self):
        """An outcome given early frees no slot."""
        held = self.block(self.modest)
        for n in range(2):
            greedy = self.greedy()
            greedy.send(b''.join(msgpack.packb([0, i, 'ledger', [200 + i], {'affinity': self.busy}]) +
                                 msgpack.packb([2, '$/cancel', [i]]) for i in range(SLOTS)))
            self.wait_until_it_waits(n + 1)
        self.expect_room()
        self.daemon.ledger.open_gate(GATE)
        self.modest.result(held)
        wait_until(lambda: greedy.receive() and len(greedy.responses) == SLOTS, 'all to be answered')
        # A connection that was not read while it waited for its share did not get its cancels through in time.
        self.assertLess(sum(self.daemon.ledger.times(200, SLOTS)), SLOTS)

    def test_large_arguments(self):
        """One connection fills the request arena as far as it may; small calls need no arena."""
        greedy = self.greedy()
        held = self.block(greedy)
        body = b'x' * 1000000
        calls = range(greedy.next_id, greedy.next_id + 16)

        def send():
            for i in calls:
                greedy.request('carry', 200 + i, 0, body, options={'affinity': self.busy})
        sender = threading.Thread(target=send)
        sender.start()
        try:
            self.wait_until_it_waits()
            self.expect_room()
            self.modest.call('carry', 150, 0, body, options={'affinity': self.idle})
        finally:
            self.daemon.ledger.open_gate(GATE)
            for msgid in [held, *calls]:
                greedy.response(msgid)
            sender.join()

    def test_notifications(self):
        greedy = self.greedy()
        held = self.block(greedy)
        greedy.send(b''.join(msgpack.packb([2, 'ledger', [200 + i]]) for i in range(8 * SLOTS)))
        self.wait_until_it_waits()
        self.expect_room()
        self.daemon.ledger.open_gate(GATE)
        greedy.result(held)
        wait_until(lambda: sum(self.daemon.ledger.times(200, 8 * SLOTS)) == 8 * SLOTS, 'the notifications to run')

    def test_notifications_of_a_connection_that_leaves(self):
        """They count for no share any more, and the slots come back."""
        greedy = self.greedy()
        self.block(self.modest)
        greedy.send(b''.join(msgpack.packb([2, 'ledger', [200 + i]]) for i in range(8 * SLOTS)))
        self.wait_until_it_waits()
        closed = self.daemon.stats()['loops']['connections_closed']
        greedy.close()
        # One of them is that of the stats before.
        wait_until(lambda: self.daemon.stats()['loops']['connections_closed'] > closed + 1, 'the connection to go')
        self.expect_room()
        self.daemon.ledger.open_gate(GATE)
        other = self.greedy()
        for msgid in [other.request('ledger', 1000 + i) for i in range(4 * SLOTS)]:
            other.result(msgid)


class ShallowLanes(Shares):
    """The same where lanes hold little, so that what is bound to the busy worker waits before it gets a slot."""
    LANE_DEPTH_US = 500


class Affinity(Case):
    CALLS = 20

    def test_an_idle_worker_leaves_calls_that_are_bound_to_a_busy_one(self):
        """Stealing is on, and the idle worker is kept awake by calls of its own, between which it looks into other lanes."""
        with LedgerDaemon(workers=2, threads_io=1, lane_depth_us=0) as daemon, daemon.unix() as rpc, daemon.tcp() as other:
            keys = {}
            for key in range(100):
                keys.setdefault(rpc.call('ledger', 0, options={'affinity': key}), key)
            (busy_pid, busy), (idle_pid, idle) = keys.items()
            held = rpc.request('hold', 1, GATE, options={'affinity': busy})
            daemon.ledger.wait_for(1)
            bound = [rpc.request('ledger', 100 + i, options={'affinity': busy}) for i in range(self.CALLS)]
            self.assertEqual(rpc.call('$/ping', 1), 1)
            for i in range(100):
                self.assertEqual(other.call('ledger', 200 + i, options={'affinity': idle}), idle_pid)
            self.assertEqual(set(daemon.ledger.times(100, self.CALLS)), {0})
            daemon.ledger.open_gate(GATE)
            self.assertEqual({rpc.result(msgid) for msgid in [held, *bound]}, {busy_pid})


class Leaving(Case):
    def test_notifications_that_wait_run_though_their_caller_has_gone(self):
        """A program that sends some and ends is the usual sender of them."""
        calls = 300
        for gate, transport in enumerate(('tcp', 'unix'), 1):
            with self.subTest(transport), LedgerDaemon(workers=1, threads_io=1) as daemon, daemon.unix() as holder:
                held = holder.request('hold', 0, gate)
                daemon.ledger.wait_for(0)
                with getattr(daemon, transport)() as rpc:
                    rpc.send(b''.join(msgpack.packb([2, 'ledger', [1 + i]]) + msgpack.packb([0, i, 'ledger', [calls + 1 + i]])
                                      for i in range(calls)))
                    wait_until(lambda: daemon.stats()['loops']['waits_for_slot'] > 0, 'it to wait')
                self.assertLess(daemon.stats()['loops']['calls_published'], calls // 2)
                daemon.ledger.open_gate(gate)
                holder.result(held)
                wait_until(lambda: sum(daemon.ledger.times(1, calls)) == calls, 'all to run')
                self.assertEqual(set(daemon.ledger.times(1, calls).tolist()), {1})
                # Of the requests only those that were in the lane when it left.
                self.assertLess(sum(daemon.ledger.times(calls + 1, calls)), calls // 2)


if __name__ == '__main__':
    main()
