# SPDX-License-Identifier: Apache-2.0
"""Callers that go on while daemons come and go."""

import collections
import socket
import threading

from knit_harness import PATIENCE, Rpc, RpcError

DRAINING = 202


class Load:
    """By TCP and by a unix socket, with hello and without, for one call a connection and for many. Each outcome is counted
    by its name."""

    def __init__(self, port, path):
        self.addresses = (('127.0.0.1', port), path)
        self.counts = collections.Counter()
        self.failures = []
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(address, is_known, calls))
                        for address in self.addresses for is_known in (False, True) for calls in (1, 30)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def note(self, what, failure=None):
        with self.lock:
            self.counts[what] += 1
            if failure is not None:
                self.failures.append(failure)

    def connect(self, address):
        sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        sock.settimeout(PATIENCE)
        try:
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        return Rpc(sock)

    def run(self, address, is_known, calls):
        while not self.stop.is_set():
            try:
                with self.connect(address) as rpc:
                    self.call(rpc, is_known, calls)
            except OSError as error:
                self.note('refused' if isinstance(error, ConnectionRefusedError) else 'broken', repr(error))
            except (EOFError, RpcError) as error:
                self.note('failed', repr(error))

    def call(self, rpc, is_known, calls):
        """Some calls on one connection. One that has said hello leaves when it is told to; what it had sent before it
        knew and is certainly not started goes elsewhere, as the library does it with `retry`."""
        if is_known:
            rpc.hello()
        for i in range(calls):
            error, result = rpc.response(rpc.request('sleep', 1) if i % 2 else rpc.request('add', i, 1))
            is_told = any(name == '$/goaway' for name, *_ in rpc.notifications)
            if error is None:
                self.note('ok', None if i % 2 or result == i + 1 else f'add gave {result}')
            elif is_known and is_told and error[0] == DRAINING and error[2]['started'] == 'no':
                self.note('sent again')
            else:
                self.note('failed', repr(error))
            if is_told:
                return
