# SPDX-License-Identifier: Apache-2.0
"""Descriptors that a caller sends to the daemon. The last close of a socket with unsent data and SO_LINGER sleeps until the
data is sent or the time is over, in the thread that closes it, so the daemon must never become the holder of one, or give it to
a thread that has nothing else to do. old_kernel.c plays a kernel that cannot refuse them."""

import array
import contextlib
import multiprocessing
import os
import signal
import socket
import struct
import tempfile
import time
import unittest.mock

from knit_attach import BELL, attach, grant
from knit_harness import SLOWDOWN, Case, Daemon, main, wait_until

LINGER_S = 8
BOUND_S = 1 * SLOWDOWN  # ten times the usual delay of a busy machine, and far from LINGER_S


def lingering(stack):
    """A socket whose close takes LINGER_S: its peer reads nothing."""
    server = stack.enter_context(socket.create_server(('127.0.0.1', 0)))
    sender = socket.create_connection(server.getsockname())
    stack.enter_context(server.accept()[0])
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, LINGER_S))
    sender.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sender.send(bytes(1 << 20))
    return sender


def close_awake(gift):
    """Where the daemon was faster the last close is this one; a signal ends its sleep."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    gift.close()
    signal.setitimer(signal.ITIMER_REAL, 0)


def give_away(sock, data, gift, flags=0):
    """Sends the descriptor and keeps none. Whether it was taken."""
    try:
        sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [gift.fileno()]))], flags)
        taken = True
    except (PermissionError, BrokenPipeError):
        taken = False
    close_awake(gift)
    return taken


def nested(stack):
    """A socket in whose queue a lingering one waits."""
    outer, inner = socket.socketpair()
    give_away(outer, b'x', lingering(stack))
    outer.close()
    return inner


@contextlib.contextmanager
def before_passrights():
    """Daemons that start meanwhile cannot have descriptors refused."""
    with tempfile.TemporaryDirectory(prefix='knit-') as folder:
        path = os.path.join(folder, 'daemon')
        with open(path, 'w') as file:
            file.write(f'#!/bin/sh\nexec {os.environ["KNIT_OLD_KERNEL"]} passrights=none {os.environ["KNIT_DAEMON"]} "$@"\n')
        os.chmod(path, 0o755)
        with unittest.mock.patch.dict(os.environ, KNIT_DAEMON=path):
            yield


def descriptors_of(daemon):
    return len(os.listdir(f'/proc/{daemon.pid}/fd'))


def give_all_the_time(path):
    """Each on a connection of its own."""
    kept = []
    while True:
        stack = contextlib.ExitStack()
        sock = stack.enter_context(socket.socket(socket.AF_UNIX))
        sock.connect(path)
        give_away(sock, b'\x93\x02\xa6$/ping\x90', nested(stack))
        kept.append(stack)
        if len(kept) > 9:
            kept.pop(0).close()


class Bell(Case):
    """Needs nothing of the kernel."""

    def measure(self, daemon):
        begun = time.monotonic()
        with daemon.unix() as rpc:
            self.assertEqual(rpc.call('$/ping', 1), 1)
        elapsed = time.monotonic() - begun
        print(f'a new connection had its answer after {1000 * elapsed:.1f} ms')
        self.assertLess(elapsed, BOUND_S)

    def test_over_the_bell(self):
        """The host's end takes nothing, and its peer cannot change that; the session works on."""
        with Daemon(threads_io=1) as daemon, contextlib.ExitStack() as stack:
            rpc = daemon.unix()
            fds = attach(rpc)[1]
            bell = socket.socket(fileno=fds.pop(BELL))
            bell.setblocking(False)
            gift = lingering(stack)
            self.assertFalse(give_away(bell, b'x', gift))
            with self.assertRaises(BlockingIOError):
                bell.recv(1)
            rpc.close()
            wait_until(lambda: daemon.stats()['pool']['foreign_sessions'] == 0, 'the session to end', BOUND_S)
            self.measure(daemon)
            bell.close()
            for fd in fds:
                os.close(fd)


class Workers(Bell):
    """Needs nothing of the kernel either: what a worker sends goes through a pipe."""

    def test_over_the_control_socket(self):
        with Daemon(threads_io=1, workers=1, permission='unsafe', module=os.environ['KNIT_RUDE']) as daemon:
            with daemon.unix() as rpc:
                self.assertEqual(rpc.call('give'), 0)
                self.measure(daemon)
            self.assertEqual(daemon.stats()['pool']['deaths'], 0)


class Descriptors(Bell):
    def test_over_the_unix_socket(self):
        """Linux 6.16 refuses them to the sender."""
        if tuple(map(int, os.uname().release.split('-')[0].split('.')[:2])) < (6, 16):
            self.skipTest('this kernel has no SO_PASSRIGHTS')
        with Daemon(threads_io=1) as daemon, contextlib.ExitStack() as stack:
            rpc = stack.enter_context(daemon.unix())
            gift = lingering(stack)
            self.assertFalse(give_away(rpc.sock, b'\x93\x02\xa6$/ping\x90', gift))
            self.measure(daemon)
            result, fds = grant(rpc)
            for fd in fds:
                os.close(fd)
            self.assertEqual(len(fds), 4, 'the other way they still pass')


class BeforePassrights(Bell):
    """The connection that sends them ends; all others do not notice, and nothing is left open."""

    def setUp(self):
        self.enterContext(before_passrights())

    def expect_the_end(self, rpc):
        with self.assertRaises((EOFError, ConnectionError)):
            rpc.call('$/ping')
        rpc.close()

    def test_gifts_end_the_connection(self):
        with Daemon(threads_io=1) as daemon, contextlib.ExitStack() as stack:
            before = descriptors_of(daemon)
            for make, flags in ((lingering, 0), (nested, 0), (lingering, socket.MSG_OOB)):
                rpc = daemon.unix()
                self.assertTrue(give_away(rpc.sock, b'\xc0', make(stack), flags))
                self.measure(daemon)
                self.expect_the_end(rpc)
            wait_until(lambda: descriptors_of(daemon) == before, 'nothing to be left open', BOUND_S)
            self.assertIn('its peer sent descriptors', daemon.log())

    def test_gifts_that_nobody_receives(self):
        """They are in the queue of a connection when it is turned away, or closed for another reason."""
        with Daemon(threads_io=1, max_connections=8) as daemon, contextlib.ExitStack() as stack:
            before = descriptors_of(daemon)
            held = [stack.enter_context(daemon.unix()) for _ in range(8)]
            for rpc in held:
                rpc.call('$/ping')
            os.kill(daemon.pid, signal.SIGSTOP)
            bad = held.pop()
            bad.sock.send(b'\xc1')  # no message
            self.assertTrue(give_away(bad.sock, b'x', lingering(stack)))
            late = [daemon.unix() for _ in range(80)]
            for rpc in late:
                self.assertTrue(give_away(rpc.sock, b'x', lingering(stack)))
            os.kill(daemon.pid, signal.SIGCONT)
            begun = time.monotonic()
            for rpc in [bad, *late]:
                self.expect_the_end(rpc)
            self.assertEqual(held[0].call('$/ping', 1), 1)
            elapsed = time.monotonic() - begun
            print(f'81 connections were turned away after {1000 * elapsed:.1f} ms')
            self.assertLess(elapsed, BOUND_S)
            held.pop().close()
            wait_until(lambda: descriptors_of(daemon) <= before + 6, 'nothing to be left open', BOUND_S)

    def test_gifts_at_the_end(self):
        with Daemon(threads_io=1) as daemon, contextlib.ExitStack() as stack:
            os.kill(daemon.pid, signal.SIGSTOP)
            for _ in range(8):
                self.assertTrue(give_away(stack.enter_context(daemon.unix()).sock, b'x', nested(stack)))
            os.kill(daemon.pid, signal.SIGTERM)
            os.kill(daemon.pid, signal.SIGCONT)
            begun = time.monotonic()
            daemon.process.wait(LINGER_S)
            print(f'the daemon ended after {1000 * (time.monotonic() - begun):.1f} ms')
            self.assertLess(time.monotonic() - begun, LINGER_S / 2)

    def waits_beside(self, daemon, quiet):
        """The p99 of what a connection and a new one wait for their answers, in ms."""
        waits = {'quiet': [], 'new': []}
        for i in range(400):
            begun = time.monotonic()
            self.assertEqual(quiet.call('$/ping', i), i)
            between = time.monotonic()
            with daemon.unix() as other:
                self.assertEqual(other.call('$/ping', i), i)
            waits['quiet'].append((between - begun) * 1000)
            waits['new'].append((time.monotonic() - between) * 1000)
        for name, values in waits.items():
            values.sort()
            print(f'a {name} connection: p50 {values[200]:.2f} ms, p99 {values[396]:.2f}, worst {values[-1]:.2f}')
        return max(values[396] for values in waits.values())

    def test_a_quiet_connection_beside_many(self):
        """What the closes cost shows each time; that the machine was busy does not."""
        with Daemon(threads_io=1) as daemon, daemon.unix() as quiet:
            giver = multiprocessing.get_context('fork').Process(target=give_all_the_time, args=(daemon.socket,), daemon=True)
            giver.start()
            try:
                wait_until(lambda: daemon.stats()['loops']['messages_bad'] > 100, 'the attack to begin', 10 * BOUND_S)
                for _ in range(5):
                    p99 = self.waits_beside(daemon, quiet)
                    self.assertTrue(giver.is_alive())
                    if p99 < 50 * SLOWDOWN:
                        return
            finally:
                giver.kill()
                giver.join()
        self.fail('the p99 was above 50 ms each time')


if __name__ == '__main__':
    main()
