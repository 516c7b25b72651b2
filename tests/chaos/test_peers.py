# SPDX-License-Identifier: Apache-2.0
"""Many peers that are slow, that never read, or that do nothing: what each costs the daemon, whether it is closed, and
the latency of others. Figures are printed; the bounds are ten times the goal.

KNIT_TEST_LONG=1 has 10,000 idle connections instead of 2,000, and measures for longer.
"""

import contextlib
import os
import resource
import time

import msgpack

from knit_chaos import percentile
from knit_harness import SLOWDOWN, Case, Daemon, main, wait_until
from knit_witness import LONG, descriptors

IDLE = 10000 if LONG else 2000
SLOW, UNREAD = 1000, 50


def room_for(connections):
    """False when the limit of descriptors is too low, here and in the daemon, which inherits it."""
    need = connections + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < need and (hard == resource.RLIM_INFINITY or hard >= need):
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= need


def scheduled_ns(pid, task):
    """How long that thread ran, and how long it could have run and had no core, from the scheduler."""
    with open(f'/proc/{pid}/task/{task}/schedstat') as file:
        return list(map(int, file.read().split()[:2]))


def cpu_ns(pids):
    """Of all their threads."""
    return sum(scheduled_ns(pid, task)[0] for pid in pids for task in os.listdir(f'/proc/{pid}/task'))


def loop_delay_ns(pid):
    """Of a daemon's threads but the first one: that of its event loop, and one that only closes."""
    return sum(scheduled_ns(pid, task)[1] for task in os.listdir(f'/proc/{pid}/task') if task != str(pid))


def children(pid):
    pids = []
    for task in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{task}/children') as file:
            pids += map(int, file.read().split())
    return pids


def pass_time(seconds):
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, 'the time to pass', seconds + 60)


class Peers(Case):
    def setUp(self):
        if not room_for(max(IDLE, SLOW)):
            self.skipTest(f'{IDLE} descriptors cannot be had')

    def test_idle_connections(self):
        with contextlib.ExitStack() as stack:
            daemon = stack.enter_context(Daemon(max_connections=IDLE + 200))
            for _ in range(50):
                stack.enter_context(daemon.tcp()).call('$/ping')
            before = daemon.memory_kb()
            idle = [stack.enter_context(daemon.tcp()) for _ in range(IDLE)]
            for rpc in idle:
                rpc.call('$/ping', 'x' * 1000)
            each = (daemon.memory_kb() - before) / IDLE
            used, seconds = cpu_ns([daemon.pid]), 5 if LONG else 1
            pass_time(seconds)
            share = (cpu_ns([daemon.pid]) - used) / 1e9 / seconds
            print(f'idle: {IDLE} TCP connections, {each:.2f} KB each; the daemon used {share:.4%} of a core meanwhile')
            self.assertLess(each, 40)
            self.assertLess(share, 0.01 * SLOWDOWN)

    def test_an_idle_daemon(self):
        with Daemon(workers=8) as daemon, daemon.tcp() as rpc:
            rpc.call_all([['echo', i] for i in range(1000)])
            pids = [daemon.pid, *children(daemon.pid)]
            self.assertEqual(len(pids), 9)
            # Workers spin for a while before they sleep without end.
            pass_time(0.5)
            used, seconds = cpu_ns(pids), 20 if LONG else 2
            self.assertGreater(used, 0)
            pass_time(seconds)
            share = (cpu_ns(pids) - used) / 1e9 / seconds
            print(f'idle: the daemon and 8 workers used {share:.4%} of a core in {seconds} s')
            self.assertLess(share, 0.01 * SLOWDOWN)

    def test_peers_that_send_a_byte_a_second(self):
        """Each byte makes its message longer; that does not keep the connection open."""
        message = msgpack.packb([0, 1, '$/ping', ['x' * 5000]])
        with contextlib.ExitStack() as stack:
            daemon = stack.enter_context(Daemon(max_connections=SLOW + 100, idle_timeout_s=4))
            honest = stack.enter_context(daemon.tcp())
            alone = self.latencies(honest)
            before = daemon.memory_kb()
            slow = []
            while len(slow) < SLOW:
                slow += [stack.enter_context(daemon.tcp()).sock for _ in range(SLOW // 20)]
                # So that this connection is not idle meanwhile.
                honest.call('$/ping', 0)
            begun, most, with_them = time.monotonic(), 0, []
            for i, byte in enumerate(message[:int(15 * SLOWDOWN)]):
                for n, sock in enumerate(slow):
                    with contextlib.suppress(OSError):
                        sock.send(bytes([byte]))
                    if n % 100 == 0:
                        honest.call('$/ping', 0)
                with_them += self.latencies(honest)
                most = max(most, daemon.memory_kb() - before)
                due = begun + i + 1
                wait_until(lambda: time.monotonic() > due or self.left(daemon) == 0, 'the next byte')
                if self.left(daemon) == 0:
                    break
            seconds = time.monotonic() - begun
            print(f'slow: {SLOW} connections at a byte a second, the last closed after {seconds:.1f} s with a limit of 4 s;'
                  f' {most} KB at most; p99 of others {percentile(sorted(alone), 99):.0f} us, then '
                  f'{percentile(sorted(with_them), 99):.0f} us')
            self.assertLess(seconds, 10 * SLOWDOWN)
            self.assertLess(most, 8 * 1024)
            self.assertEqual(honest.call('$/ping', 1), 1)

    @staticmethod
    def left(daemon):
        return daemon.stats()['connections'] > 2 and 1 or 0

    @staticmethod
    def latencies(rpc):
        spans = []
        for i in range(100):
            begun = time.perf_counter()
            rpc.call('echo', i)
            spans.append((time.perf_counter() - begun) * 1e6)
        return spans

    def test_peers_that_never_read(self):
        with contextlib.ExitStack() as stack:
            daemon = stack.enter_context(Daemon(output_stall_s=1, output_max_bytes=65536))
            before, most, sent = (descriptors(daemon.pid), daemon.memory_kb()), 0, 0
            request = msgpack.packb([0, 1, '$/ping', ['x' * 30000]])
            silent = [stack.enter_context(daemon.tcp()).sock for _ in range(UNREAD)]
            for sock in silent:
                sock.setblocking(False)
            begun = time.monotonic()

            def all_dropped():
                nonlocal most, sent
                for sock in silent:
                    with contextlib.suppress(OSError):
                        sent += sock.send(request[sent % len(request):])
                most = max(most, daemon.memory_kb() - before[1])
                return daemon.stats()['loops']['readers_dropped'] >= UNREAD
            wait_until(all_dropped, 'readers to be dropped', 30 * SLOWDOWN)
            seconds = time.monotonic() - begun
            wait_until(lambda: descriptors(daemon.pid) <= before[0], 'their descriptors')
            print(f'unread: {UNREAD} peers that never read, all dropped after {seconds:.1f} s; {most} KB at most')
            self.assertLess(most, UNREAD * 1024)


if __name__ == '__main__':
    main()
