# SPDX-License-Identifier: Apache-2.0
"""A quiet connection beside others that attack its event loop. Each attack runs in a process of its own for as long as the
quiet one asks; what is measured is how long a `$/ping` of the quiet one waits. The goal is 5 ms for 99 of 100.
"""

import contextlib
import multiprocessing
import selectors
import socket
import time

import msgpack

from knit_harness import SLOWDOWN, Case, Daemon, main, wait_until

GOAL_MS, BOUND = 5, 10
PINGS = 400


def request(msgid, method, params, *options):
    return msgpack.packb([0, msgid, method, params, *options])


def press(port, blobs, stop):
    """Sends its blob on each connection again and again, and reads what comes."""
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        def connect(blob):
            sock = stack.enter_context(socket.create_connection(('127.0.0.1', port)))
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, [blob, 0])

        for blob in blobs:
            connect(blob)
        while not stop.is_set():
            for key, events in selector.select(0.1):
                try:
                    if events & selectors.EVENT_READ and not key.fileobj.recv(1 << 20):
                        raise ConnectionError
                    if events & selectors.EVENT_WRITE:
                        blob, at = key.data
                        at += key.fileobj.send(memoryview(blob)[at:at + (1 << 18)])
                        key.data[1] = at % len(blob)
                except BlockingIOError:
                    pass
                except OSError:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    connect(key.data[0])


class Quiet(Case):
    def wait_beside(self, name, blobs, attack=press, **settings):
        """The waits of the quiet one, sorted, in ms."""
        context = multiprocessing.get_context('fork')
        with Daemon(workers=1, threads_io=1, **settings) as daemon, daemon.tcp() as quiet:
            stop = context.Event()
            attacker = context.Process(target=attack, args=(daemon.port, blobs, stop), daemon=True)
            before = daemon.stats()['loops']['bytes_in']
            attacker.start()
            try:
                wait_until(lambda: daemon.stats()['loops']['bytes_in'] > before + (1 << 20), 'the attack to begin', 60 * SLOWDOWN)
                waits = []
                for i in range(PINGS):
                    begun = time.monotonic()
                    self.assertEqual(quiet.call('$/ping', i), i)
                    waits.append((time.monotonic() - begun) * 1000)
                self.assertTrue(attacker.is_alive(), 'the attack has ended')
            finally:
                stop.set()
                attacker.join()
        waits.sort()
        p99 = waits[len(waits) * 99 // 100]
        print(f'quiet: beside {name}: p50 {waits[len(waits) // 2]:.2f} ms, p99 {p99:.2f}, worst {waits[-1]:.2f}')
        self.assertLess(p99, GOAL_MS * BOUND * SLOWDOWN, f'beside {name}')

    def test_floods_of_many_connections(self):
        self.wait_beside('200 floods of $/ping', [request(1, '$/ping', []) * 20000] * 200)


if __name__ == '__main__':
    main()
