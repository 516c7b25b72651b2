# SPDX-License-Identifier: Apache-2.0
"""Very many requests to the admin face.

    with Flood(daemon, 'GET /nowhere', 'POST /stats') as flood:    in a thread of its own
        ...
    flood.statuses
"""

import itertools
import selectors
import socket
import threading

CONNECTIONS = 64


class Flood:
    """So many connections that send a request each, read what comes, and come again."""

    def __init__(self, daemon, *requests):
        self.address = '127.0.0.1', int(daemon.admin.rstrip('/').rsplit(':', 1)[1])
        self.requests = itertools.cycle([f'{line} HTTP/1.1\r\nHost: localhost\r\n\r\n'.encode() for line in requests])
        self.thread = threading.Thread(target=self.run)
        self.is_over, self.sent, self.statuses = False, 0, set()

    def begin(self):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(self.address)
        self.selector.register(sock, selectors.EVENT_WRITE)

    def go_on(self, key):
        sock = key.fileobj
        if key.data is None:
            sock.sendall(next(self.requests))
            self.sent += 1
            self.selector.modify(sock, selectors.EVENT_READ, b'')
            return
        piece = sock.recv(1 << 16)
        self.selector.modify(sock, selectors.EVENT_READ, key.data + piece)
        if not piece:
            self.statuses.add(int(key.data[9:12] or 0))
            self.selector.unregister(sock)
            sock.close()
            self.begin()

    def run(self):
        with selectors.DefaultSelector() as self.selector:
            for _ in range(CONNECTIONS):
                self.begin()
            while not self.is_over:
                for key, _ in self.selector.select(0.1):
                    self.go_on(key)
            for key in self.selector.get_map().values():
                key.fileobj.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over = True
        self.thread.join()
