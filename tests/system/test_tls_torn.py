# SPDX-License-Identifier: Apache-2.0
"""TLS over a network that does what it likes: connections that are cut after each of their bytes, bytes that come one by one,
records of one byte, many records in one piece."""

import os
import random
import socket
import ssl
import threading

import msgpack

from knit_harness import PATIENCE, Case, main, reset, wait_until
from knit_tls import Authority, TlsDaemon

VERSIONS = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
LONG = 'KNIT_TEST_LONG' in os.environ
SEED = int(os.environ.get('KNIT_TEST_SEED') or random.randrange(1 << 32))
BROKEN = ssl.SSLError, ConnectionError, EOFError, socket.timeout


def setUpModule():
    global authority
    print(f'KNIT_TEST_SEED={SEED}')
    authority = Authority()


def tearDownModule():
    authority.close()


class Wire:
    """A way to the daemon that ends after so many bytes to it, or from it; None: never. `most` bytes go at a time."""

    def __init__(self, port, to_daemon=None, from_daemon=None, most=65536, resets=False):
        self.left = {'to': to_daemon, 'from': from_daemon}
        self.passed = {'to': 0, 'from': 0}
        self.most, self.resets = most, resets
        self.client, near = socket.socketpair()
        self.client.settimeout(PATIENCE)
        self.ends = near, socket.create_connection(('127.0.0.1', port), timeout=PATIENCE)
        self.ends[1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.threads = [threading.Thread(target=self.carry, args=('to', *self.ends)),
                        threading.Thread(target=self.carry, args=('from', *reversed(self.ends)))]
        for thread in self.threads:
            thread.start()

    def carry(self, direction, source, target):
        try:
            while self.left[direction] != 0:
                data = source.recv(min(self.most, self.left[direction] or self.most))
                if not data:
                    break
                target.sendall(data)
                self.passed[direction] += len(data)
                if self.left[direction] is not None:
                    self.left[direction] -= len(data)
        except OSError:
            pass
        for end in self.ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()
        for thread in self.threads:
            thread.join()
        self.ends[0].close()
        if self.resets:
            reset(self.ends[1])
        else:
            self.ends[1].close()


def call(sock, context, value):
    """One call, from the handshake to the end that both sides say. The client does without a thread of its own."""
    with context.wrap_socket(sock, server_hostname='localhost') as tls:
        tls.sendall(msgpack.packb([0, 7, 'echo', [value]]))
        unpacker = msgpack.Unpacker(max_buffer_size=1 << 30)
        while True:
            data = tls.recv(65536)
            if not data:
                raise EOFError
            unpacker.feed(data)
            for message in unpacker:
                tls.unwrap()
                return message


class Torn(Case):
    def is_idle(self, daemon):
        return daemon.stats()['connections'] == 1  # the one that asks

    def descriptors(self, daemon):
        return len(os.listdir(f'/proc/{daemon.pid}/fd'))

    def test_a_connection_may_be_cut_after_any_of_its_bytes(self):
        """Each call has its result or none at all, and nothing of it is left behind."""
        chance = random.Random(SEED)
        with TlsDaemon(authority, tls_client='required', tls_client_ca=authority.path('ca.pem')) as daemon:
            for version in VERSIONS:
                context = authority.client('client', version=version)
                with Wire(daemon.port) as wire:
                    self.assertEqual(call(wire.client, context, 'whole'), [1, 7, None, 'whole'])
                total = dict(wire.passed)
                wait_until(lambda: self.is_idle(daemon), 'the end')
                before, memory = self.descriptors(daemon), daemon.memory_kb()
                for direction in 'to', 'from':
                    step = 1 if LONG else 23
                    for at in range(0, total[direction], step):
                        at = min(at + chance.randrange(step), total[direction] - 1)
                        cut = {'to_daemon' if direction == 'to' else 'from_daemon': at}
                        with Wire(daemon.port, **cut, resets=chance.random() < 0.5) as wire:
                            try:
                                self.assertEqual(call(wire.client, context, at), [1, 7, None, at])
                            except BROKEN:
                                pass
                wait_until(lambda: self.is_idle(daemon), 'the end of all')
                wait_until(lambda: self.descriptors(daemon) <= before, 'the descriptors')
                self.assertLess(daemon.memory_kb() - memory, 4096)
            with daemon.tls(authority.client('client')) as rpc:
                self.assertEqual(rpc.call('echo', 1), 1)

    def test_bytes_may_come_one_by_one(self):
        with TlsDaemon(authority) as daemon:
            for version in VERSIONS:
                with self.subTest(version), Wire(daemon.port, most=1) as wire:
                    value = b'v' * 3000
                    self.assertEqual(call(wire.client, authority.client(version=version), value), [1, 7, None, value])

    def test_records_may_hold_one_byte(self):
        """All of them come in one piece, with the end of the stream behind them: no event follows that one."""
        with TlsDaemon(authority) as daemon:
            for version in VERSIONS:
                with self.subTest(version), daemon.raw() as sock:
                    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                    client = authority.client(version=version).wrap_bio(incoming, outgoing, server_hostname='localhost')

                    def drive(step):
                        while True:
                            try:
                                return step()
                            except ssl.SSLWantReadError:
                                sock.sendall(outgoing.read())
                                incoming.write(sock.recv(65536))
                    drive(client.do_handshake)
                    sock.sendall(outgoing.read())
                    message = b''.join(msgpack.packb([0, msgid, '$/ping', [msgid]]) for msgid in range(300))
                    for at in range(len(message)):
                        client.write(message[at:at + 1])
                    try:
                        client.unwrap()
                    except ssl.SSLWantReadError:
                        pass
                    sock.sendall(outgoing.read())
                    unpacker, replies = msgpack.Unpacker(), []
                    while len(replies) < 300:
                        unpacker.feed(drive(lambda: client.read(65536)))
                        replies += list(unpacker)
                    self.assertEqual(replies, [[1, msgid, None, msgid] for msgid in range(300)])

    def test_one_who_reads_slowly_gets_all(self):
        """Through small buffers, so that the daemon's writes are refused and repeated, while more replies come."""
        with TlsDaemon(authority) as daemon:
            for version in VERSIONS:
                with self.subTest(version), Wire(daemon.port, most=1500) as wire:
                    with authority.client(version=version).wrap_socket(wire.client, server_hostname='localhost') as tls:
                        wire.ends[1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                        values = [os.urandom(size) for size in (10, 100000, 20, 16384, 300000, 5)]
                        for msgid, value in enumerate(values):
                            tls.sendall(msgpack.packb([0, msgid, 'echo', [value]]))
                        unpacker, replies = msgpack.Unpacker(max_buffer_size=1 << 30), {}
                        while len(replies) < len(values):
                            unpacker.feed(tls.recv(700))
                            replies.update((message[1], message[3]) for message in unpacker)
                        self.assertEqual([replies[msgid] for msgid in range(len(values))], values)


if __name__ == '__main__':
    main()
