# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that disturbs connections as networks do, by a schedule that its seed repeats.

Each connection has a script of its own, made from the seed and the connection's number and printed when it begins.
A step begins when so many bytes have passed in both directions together; the steps are

    delay MS           nothing moves
    trickle BYTES      in one direction every byte is a segment of its own
    blackhole MS       what is sent in one direction is dropped; a reset follows, since TCP does not hide lost bytes
    half_close MS      one direction ends in order, the other goes on; a reset follows
    reset              both sides get one

Both directions are buffered by one read each, and a side is read only when the other has received what came before,
so backpressure passes through.
"""

import collections
import contextlib
import random
import select
import socket
import threading
import time

from knit_harness import reset

LAST = ('reset', 'reset', 'half_close', 'blackhole')
TO = ('to the daemon', 'to the caller')


def script(seed, number, calm):
    """[(kind, bytes before it, direction, amount), ...]; a calm one lets everything pass."""
    if calm:
        return []
    number = random.Random(f'{seed}/{number}')
    steps = []
    for kind in [*(number.choice(('delay', 'trickle')) for _ in range(number.randrange(4))), number.choice(LAST)]:
        # Often within the first messages, sometimes far into the load.
        before = number.choice((number.randrange(200), number.randrange(5000), number.randrange(200000)))
        amount = number.randrange(1, 400) if kind == 'trickle' else number.randrange(1, 120)
        steps.append((kind, before, number.randrange(2), amount))
    return steps


class Connection(threading.Thread):
    def __init__(self, proxy, caller, steps):
        super().__init__(daemon=True)
        self.proxy, self.steps = proxy, steps
        self.caller = caller
        self.pending, self.ended = [b'', b''], [False, False]
        self.moved = 0

    def run(self):
        daemon_side = socket.create_connection(self.proxy.target)
        # In the order of TO: sides[1 - d] sends in direction d, sides[d] receives.
        self.sides = (daemon_side, self.caller)
        for side in self.sides:
            side.setblocking(False)
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.follow()
        except OSError:
            pass  # one side has reset, so the other gets that too
        for side in self.sides:
            reset(side)

    def follow(self):
        for kind, before, direction, amount in self.steps:
            if not self.forward(self.moved + before):
                return
            self.proxy.seen[kind] += 1
            until = time.monotonic() + amount / 1000
            if kind == 'delay':
                self.proxy.is_over.wait(amount / 1000)
            elif kind == 'trickle':
                self.forward(self.moved + amount, single=direction)
            elif kind == 'blackhole':
                self.forward(None, until, swallow=direction)
            elif kind == 'half_close':
                with contextlib.suppress(OSError):
                    self.sides[direction].shutdown(socket.SHUT_WR)
                self.ended[direction] = True
                self.forward(None, until, swallow=direction)
            if kind in LAST:
                return
        self.forward(None)

    def forward(self, moved, until=None, single=None, swallow=None):
        """Until so many bytes have moved, or the time has come. False when there is nothing left to forward."""
        while (moved is None or self.moved < moved) and not self.proxy.is_over.is_set():
            if until is not None and time.monotonic() >= until:
                return True
            if all(self.ended):
                return False
            reads = [self.sides[1 - d] for d in (0, 1) if not self.pending[d] and (not self.ended[d] or d == swallow)]
            writes = [self.sides[d] for d in (0, 1) if self.pending[d]]
            readable, writable, _ = select.select(reads, writes, [], 0.02)
            for d in (0, 1):
                if self.sides[1 - d] in readable:
                    self.receive(d, swallow == d)
                if self.sides[d] in writable:
                    sent = self.sides[d].send(self.pending[d][:1] if d == single else self.pending[d])
                    self.pending[d] = self.pending[d][sent:]
                    self.moved += sent
        return not self.proxy.is_over.is_set()

    def receive(self, d, is_swallowed):
        data = self.sides[1 - d].recv(65536)
        if is_swallowed:
            # An end that is not passed on would be read again and again without a pause.
            if not data:
                self.proxy.is_over.wait(0.001)
            return
        self.pending[d] = data
        if not data:
            self.ended[d] = True
            self.sides[d].shutdown(socket.SHUT_WR)


class ChaosProxy:
    """Listens on a port of its own for connections to a daemon's URL, with TLS or without."""

    def __init__(self, url, seed):
        self.scheme, port = url.rsplit(':', 1)
        self.target, self.seed = ('127.0.0.1', int(port)), seed
        self.seen = collections.Counter()
        self.is_over, self.is_calm, self.connections = threading.Event(), False, []
        self.listener = socket.create_server(('127.0.0.1', 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f'{self.scheme}:{self.port}'

    def accept(self):
        while True:
            try:
                caller, _ = self.listener.accept()
            except OSError:
                return
            number = len(self.connections)
            steps = script(self.seed, number, self.is_calm)
            print(f'connection {number}:', '; '.join(
                f'after {before} bytes {kind} {amount} {TO[d]}' for kind, before, d, amount in steps) or 'calm', flush=True)
            connection = Connection(self, caller, steps)
            self.connections.append(connection)
            connection.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.is_over.set()
        # Closing alone does not end an accept() that another thread is in.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
        for connection in self.connections:
            connection.join()
