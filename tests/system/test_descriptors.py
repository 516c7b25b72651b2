# SPDX-License-Identifier: Apache-2.0
"""Descriptors that a caller sends to the daemon. The last close of a socket with unsent data and SO_LINGER sleeps until the
data is sent or the time is over, in the thread that closes it, so the daemon must never become the holder of one."""

import array
import contextlib
import os
import socket
import struct
import time

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


def give_away(sock, data, gift):
    """Sends the descriptor and keeps none. Whether it was taken."""
    try:
        sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [gift.fileno()]))])
        taken = True
    except (PermissionError, BrokenPipeError):
        taken = False
    if taken:
        gift.close()
    else:
        gift.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        gift.close()
    return taken


class Descriptors(Case):
    def measure(self, daemon):
        begun = time.monotonic()
        with daemon.unix() as rpc:
            self.assertEqual(rpc.call('$/ping', 1), 1)
        elapsed = time.monotonic() - begun
        print(f'a new connection had its answer after {1000 * elapsed:.1f} ms')
        self.assertLess(elapsed, BOUND_S)

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


if __name__ == '__main__':
    main()
