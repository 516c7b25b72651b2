# SPDX-License-Identifier: Apache-2.0
"""R10: three times as many calls as the workers can run, sent at the times of a clock and not when answers come, each with
a time for which its caller waits. Results that come within that time count, and nothing else does.

The goal is 90 % of what the workers do in a closed loop, refusals within 1 ms at the 99th percentile, and no memory that
grows. The short form asks for half of the goodput, and for half of the refusals within ten times as long. The tasks sleep, so that the one who sends does not compete
with the workers for cores. Without refusals every call would wait until its time is nearly over, and none would be of use.
"""

import os
import select
import time

import msgpack

from knit_harness import SLOWDOWN, Case, Daemon, main

LONG = os.environ.get('KNIT_TEST_LONG') == '1'
SECONDS, CONNECTIONS, WORKERS, TRIES = (60 if LONG else 2), 4, 2, 3
RATE = 3 * WORKERS * 1000  # of tasks of 1 ms
PATIENCE_MS, TASK_MS, OVERLOADED, TIMEOUT = 200, 1, '200', '303'
GOODPUT, PERCENT, REFUSED_MS, GROWTH_KB = (0.9, 99, 1, 16384) if LONG else (0.45, 50, 10, 65536)


class Peer:
    def __init__(self, rpc):
        self.rpc, self.sock, self.unpacker, self.unsent = rpc, rpc.sock, msgpack.Unpacker(raw=False), b''
        self.sock.setblocking(False)

    def send(self, data=b''):
        self.unsent += data
        try:
            self.unsent = self.unsent[self.sock.send(self.unsent):] if self.unsent else b''
        except BlockingIOError:
            pass

    def responses(self):
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return
        assert data, 'the connection was closed'
        self.unpacker.feed(data)
        for _, msgid, error, _ in self.unpacker:
            yield msgid, error


class Load:
    """Outcomes by code, '' being a result in time, 'late' one that came too late, 'spent' what waited and was not run then;
    how long refusals took, in ms."""
    def __init__(self, peers, seconds, rate, options):
        self.outcomes, self.refused, sent, waiting = {}, [], {}, True
        begin, number = time.monotonic(), 0
        while waiting or sent:
            now = time.monotonic()
            due = int(min(now - begin, seconds) * rate)
            waiting = now - begin < seconds
            for number in range(number, due):
                sent[number] = time.monotonic()
                peers[number % len(peers)].send(msgpack.packb([0, number, 'sleep', [TASK_MS], options]))
            number = due
            for peer in peers:
                peer.send()
            assert now - begin < 3 * seconds + 60, f'{len(sent)} calls have no outcome'
            for peer in select.select([peer.sock for peer in peers], [], [], 0.0002)[0]:
                self.take(next(p for p in peers if p.sock is peer), sent)
        self.sent = number

    def take(self, peer, sent):
        for msgid, error in peer.responses():
            took_ms = (time.monotonic() - sent.pop(msgid)) * 1000
            kind = str(error)[:3] if error else '' if took_ms <= PATIENCE_MS else 'late'
            kind = 'spent' if error and 'has waited' in error else kind
            self.outcomes[kind] = self.outcomes.get(kind, 0) + 1
            if kind == OVERLOADED:
                self.refused.append(took_ms)


def peak_of(daemon, seconds=0.5):
    """Calls a second where as many are in flight as keep the workers busy; what they take is known then."""
    with daemon.tcp() as rpc:
        for _ in range(8):
            rpc.request('sleep', TASK_MS)
        begin, count = time.monotonic(), 0
        while time.monotonic() - begin < seconds:
            rpc.result(rpc.next_id - 8)
            rpc.request('sleep', TASK_MS)
            count += 1
        took = time.monotonic() - begin
        for msgid in range(rpc.next_id - 8, rpc.next_id):
            rpc.result(msgid)
    return count / took


class Overload(Case):
    def overload(self, daemon, name):
        peak = peak_of(daemon)
        peers = [Peer(daemon.tcp()) for _ in range(CONNECTIONS)]
        try:
            before_kb = daemon.memory_kb()
            load = Load(peers, SECONDS, RATE, {'timeout': PATIENCE_MS})
            grown_kb = daemon.memory_kb() - before_kb
        finally:
            for peer in peers:
                peer.rpc.close()
        self.assertEqual(sum(load.outcomes.values()), load.sent)
        self.assertLessEqual(set(load.outcomes), {'', 'late', 'spent', OVERLOADED, TIMEOUT})
        self.assertLess(grown_kb, GROWTH_KB)
        goodput = load.outcomes.get('', 0) / SECONDS / peak
        load.refused.sort()
        refused_ms = [load.refused[len(load.refused) * percent // 100] if load.refused else 0 for percent in (99, PERCENT)]
        print(f'overload, {name}, {SECONDS} s: peak {peak:.0f}/s, sent {load.sent / SECONDS:.0f}/s, goodput {goodput:.2f} of peak, '
              f'p99 of refusals {refused_ms[0]:.2f} ms, {load.outcomes}, {grown_kb} KiB more')
        self.assertGreater(load.outcomes.get(OVERLOADED, 0), load.sent // 3)
        return goodput > GOODPUT and refused_ms[1] < REFUSED_MS * SLOWDOWN

    def test_most_of_what_is_run_is_of_use(self):
        for name, queue_delay_ms in (('a limit of the server', 20), ('timeouts alone', 600000)):
            with self.subTest(name), Daemon(workers=WORKERS, threads_io=1, queue_delay_ms=queue_delay_ms) as daemon:
                self.assertTrue(any(self.overload(daemon, name) for _ in range(TRIES)), 'the goodput, or the refusals')


if __name__ == '__main__':
    main()
