# SPDX-License-Identifier: Apache-2.0
"""Behind a proxy: what says for whom it connects, and HAProxy in front of daemons that come and go."""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile

from knit_harness import PATIENCE, Case, Daemon, Rpc, main, wait_until
from knit_load import Load
from knit_tls import Authority, TlsDaemon

HAPROXY = '/usr/sbin/haproxy'
SIGNATURE = b'\r\n\r\n\0\r\nQUIT\n'
UNAUTHENTICATED = 103
PROXY, LOCAL, STREAM4, STREAM6 = 0x21, 0x20, 0x11, 0x21
RESTARTS = 20 if os.environ.get('KNIT_TEST_LONG') == '1' else 3


def header(command, family, body=b'', extra=b''):
    return SIGNATURE + struct.pack('>BBH', command, family, len(body + extra)) + body + extra


def from_ipv4(address, port, extra=b''):
    return header(PROXY, STREAM4, socket.inet_aton(address) + socket.inet_aton('192.0.2.1') + struct.pack('>HH', port, 5648), extra)


def from_ipv6(address, port):
    return header(PROXY, STREAM6, socket.inet_pton(socket.AF_INET6, address) + socket.inet_pton(socket.AF_INET6, '::1') +
                  struct.pack('>HH', port, 5648))


class Headers(Case):
    def connect(self, daemon, first):
        rpc = daemon.tcp()
        rpc.send(first)
        return rpc

    def assert_refused(self, daemon, first, reason):
        before = daemon.stats()['loops']['handshakes_failed']
        with self.connect(daemon, first) as rpc:
            self.assertTrue(rpc.is_closed_by_peer())
            self.assertEqual(rpc.responses, {})
        wait_until(lambda: daemon.stats()['loops']['handshakes_failed'] == before + 1, 'the count')
        if reason is not None:
            self.assertRegex(daemon.log(), f'msg="PROXY header refused".*{reason}.*peer=127.0.0.1')

    def test_the_client_s_address_is_in_the_log(self):
        with Daemon(debug='host', proxy_from='127.0.0.0/8') as daemon:
            self.assertIn('callers="every user of this machine, and whom a proxy of proxy_from lets through"', daemon.log())
            for first, peer in ((from_ipv4('192.0.2.7', 4711), '192.0.2.7:4711'),
                                (from_ipv4('192.0.2.8', 1, b'\x04\0\x03abc'), '192.0.2.8:1'),
                                (from_ipv6('2001:db8::7', 4712), '[2001:db8::7]:4712')):
                for pieces in ([first], [first[:5], first[5:17], first[17:]], [bytes([b]) for b in first]):
                    with daemon.tcp() as rpc:
                        for piece in pieces:
                            rpc.send(piece)
                        self.assertEqual(rpc.call('add', 1, 2), 3)
                wait_until(lambda: len(re.findall(f'connection closed".*peer={re.escape(peer)} ', daemon.log())) == 3, 'lines')
            # In one piece with a call, of which not a byte is taken.
            with self.connect(daemon, from_ipv4('192.0.2.9', 1) + b'\x94\x00\x07\xa6$/ping\x90') as rpc:
                rpc.next_id = 8
                self.assertEqual(rpc.response(7), [None, None])

    def test_a_proxy_that_speaks_for_itself_has_its_own_address(self):
        with Daemon(debug='host', proxy_from='127.0.0.1') as daemon:
            for first in header(LOCAL, 0), header(LOCAL, STREAM4, bytes(12)), header(PROXY, 0), header(PROXY, 0x31, bytes(216)):
                with self.connect(daemon, first) as rpc:
                    port = rpc.sock.getsockname()[1]
                    self.assertEqual(rpc.call('add', 1, 2), 3)
                wait_until(lambda: f'peer=127.0.0.1:{port}' in daemon.log(), 'its line')

    def test_anything_else_is_refused(self):
        # Of such lines there is one a second.
        for first, reason in ((b'\x94\x00\x07\xa6$/ping\x90', 'there is none of version 2'),
                              (SIGNATURE + b'\x11\x11\0\0', 'its version or command is unknown')):
            with Daemon(proxy_from='127.0.0.1') as daemon:
                self.assert_refused(daemon, first, reason)
        with Daemon(proxy_from='127.0.0.1') as daemon:
            for first in (b'PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n', b'\r\n\r\n\0\r\nQUIX', SIGNATURE + b'\x21\x11\xff\xff',
                          header(PROXY, STREAM4, bytes(11)), header(PROXY, STREAM6, bytes(35)), header(PROXY, 0x12, bytes(12)),
                          header(PROXY, 0x41, bytes(12)), header(0x22, STREAM4, bytes(12))):
                self.assert_refused(daemon, first, None)
            with self.connect(daemon, SIGNATURE) as rpc:
                rpc.sock.shutdown(socket.SHUT_WR)
                self.assertTrue(rpc.is_closed_by_peer())

    def test_one_that_says_nothing_is_ended_and_does_not_keep_others_out(self):
        with Daemon(proxy_from='127.0.0.1') as daemon:
            silent = [daemon.tcp() for _ in range(300)]
            with self.connect(daemon, from_ipv4('192.0.2.7', 4711)) as rpc:
                self.assertEqual(rpc.call('add', 1, 2), 3)
            wait_until(lambda: daemon.stats()['loops']['handshakes_failed'] >= 300 - 256, 'the oldest to be ended')
            for rpc in silent:
                rpc.close()

    def test_nobody_else_may_say_so(self):
        with Daemon(proxy_from='192.0.2.0/24') as daemon:
            with daemon.tcp() as rpc:
                self.assertEqual(rpc.call('add', 1, 2), 3)
            with self.connect(daemon, from_ipv4('192.0.2.7', 4711)) as rpc:
                self.assertTrue(rpc.is_closed_by_peer())
            self.assertIn('connection closed for a bad message', daemon.log())

    def test_with_tls_it_comes_before_the_handshake(self):
        authority = Authority()
        self.addCleanup(authority.close)
        with TlsDaemon(authority, debug='host', proxy_from='127.0.0.1') as daemon:
            with daemon.raw() as sock:
                sock.sendall(from_ipv4('192.0.2.7', 4711))
                with authority.client().wrap_socket(sock, server_hostname='localhost') as tls:
                    rpc = Rpc(tls)
                    self.assertEqual(rpc.call('add', 1, 2), 3)
            wait_until(lambda: 'peer=192.0.2.7:4711' in daemon.log(), 'its line')
            with daemon.raw() as sock, self.assertRaises((ssl.SSLError, OSError)):
                authority.client().wrap_socket(sock, server_hostname='localhost')

    def test_a_token_that_a_proxy_passes_on_unencrypted_has_come_over_a_network(self):
        """Be the proxy on this machine: its client is not, and its token was to be read on the way."""
        token = 'x' * 16
        authority = Authority()
        self.addCleanup(authority.close)
        tokens = authority.path('tokens')
        with open(tokens, 'w') as file:
            file.write(f'nightly sha256:{hashlib.sha256(token.encode()).hexdigest()}\n')
        with Daemon(tokens=tokens, proxy_from='127.0.0.1') as daemon:
            for first in from_ipv4('192.0.2.7', 4711), from_ipv6('2001:db8::7', 4711):
                with self.connect(daemon, first) as rpc:
                    text = self.assert_fails(UNAUTHENTICATED, rpc.call, '$/hello', {'name': 'a', 'token': token}).text
                    self.assertIn('a token came unencrypted over a network', text)
                    self.assertTrue(rpc.is_closed_by_peer())
            for first in header(LOCAL, 0), from_ipv4('127.0.0.9', 4711):
                with self.connect(daemon, first) as rpc:
                    self.assertEqual(rpc.call('$/hello', {'name': 'a', 'token': token})['principal'], 'token:nightly')
        with TlsDaemon(authority, tokens=tokens, proxy_from='127.0.0.1') as daemon:
            with daemon.raw() as sock:
                sock.sendall(from_ipv4('192.0.2.7', 4711))
                with authority.client().wrap_socket(sock, server_hostname='localhost') as tls:
                    self.assertEqual(Rpc(tls).call('$/hello', {'name': 'a', 'token': token})['principal'], 'token:nightly')

    def test_one_that_ends_without_a_byte_is_no_failure(self):
        """As health checks do, behind their header or without one."""
        authority = Authority()
        self.addCleanup(authority.close)
        with TlsDaemon(authority, proxy_from='127.0.0.1') as daemon:
            before = daemon.stats()['loops']['connections_closed']
            reset = struct.pack('ii', 1, 0)
            for count, first in enumerate((header(LOCAL, 0), from_ipv4('192.0.2.7', 4711), b'') * 2):
                with daemon.raw() as sock:
                    sock.sendall(first)
                    if count >= 3:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            wait_until(lambda: daemon.stats()['loops']['connections_closed'] >= before + 6, 'all to be closed')
            self.assertEqual(daemon.stats()['loops']['handshakes_failed'], 0)
            self.assertNotIn('level=warning', daemon.log())
            with daemon.raw() as sock:
                sock.sendall(header(LOCAL, 0) + b'\x16\x03\x01')
            wait_until(lambda: 'TLS handshake failed' in daemon.log(), 'one that had begun')

    def test_an_address_that_begins_many_handshakes_loses_its_own(self):
        authority = Authority()
        self.addCleanup(authority.close)
        with TlsDaemon(authority, proxy_from='127.0.0.1') as daemon, contextlib.ExitStack() as stack:
            def begin(address):
                sock = stack.enter_context(daemon.raw())
                sock.sendall(from_ipv4(address, 4711))
                return sock
            first = begin('192.0.2.7')
            for _ in range(300):
                begin('192.0.2.8')
            wait_until(lambda: daemon.stats()['loops']['handshakes_failed'] >= 45, 'the first ones to go')
            with authority.client().wrap_socket(first, server_hostname='localhost') as tls:
                self.assertEqual(Rpc(tls).call('add', 1, 2), 3)

    def test_networks_are_checked(self):
        for wrong in '10.0.0.1/8', '10.0.0.0/33', 'fd00::/129', 'localhost', '10.0.0.0/', '10.0.0.0/-1', '::1/0', '':
            with self.subTest(wrong):
                daemon = Daemon(f'--proxy-from={wrong}', wait=False)
                daemon.expected_status = daemon.wait()
                self.assertEqual(daemon.expected_status, 2)
                self.assertIn('server.proxy_from: expected', daemon.log())
                daemon.__exit__(None)
        for right in '::ffff:127.0.0.1', '0.0.0.0/0', '::/0', '127.0.0.1/32':
            with self.subTest(right), Daemon(proxy_from=right) as daemon:
                with self.connect(daemon, from_ipv4('192.0.2.7', 4711)) as rpc:
                    self.assertEqual(rpc.call('add', 1, 2), 3)


CONFIGURATION = '''
global
  maxconn 500
  stats socket {folder}/admin.sock level admin
defaults
  mode tcp
  timeout connect 2s
  timeout client 1m
  timeout server 1m
listen knit
  bind unix@{folder}/proxy.sock
  bind 127.0.0.1:{port}
  balance leastconn
  option redispatch
  retries 5
  server a 127.0.0.1:{a} check inter 100ms send-proxy-v2 check-send-proxy
  server b 127.0.0.1:{b} check inter 100ms send-proxy-v2 check-send-proxy
'''


class Haproxy(Case):
    """HAProxy 2.6 in front of two daemons, one of which is drained, ended, started again, and then the other one."""

    def ask(self, command):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(f'{self.folder}/admin.sock')
            sock.sendall(command.encode() + b'\n')
            answer = b''
            while piece := sock.recv(65536):
                answer += piece
        return answer.decode()

    def state(self, server):
        rows = [line.split(',') for line in self.ask('show stat').splitlines()]
        return next(row[17] for row in rows if row[:2] == ['knit', server])

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='knit-')
        self.addCleanup(shutil.rmtree, self.folder)
        self.daemons = {name: Daemon(proxy_from='127.0.0.1', debug='host') for name in 'ab'}
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(('127.0.0.1', 0))
            self.port = free.getsockname()[1]
        with open(f'{self.folder}/ha.cfg', 'w') as file:
            file.write(CONFIGURATION.format(folder=self.folder, port=self.port, **{n: d.port for n, d in self.daemons.items()}))
        self.proxy = subprocess.Popen([HAPROXY, '-db', '-f', f'{self.folder}/ha.cfg'], stdin=subprocess.DEVNULL)
        self.addCleanup(self.end)
        wait_until(lambda: os.path.exists(f'{self.folder}/admin.sock') and self.state('a') == self.state('b') == 'UP', 'HAProxy')

    def end(self):
        self.proxy.kill()
        self.proxy.wait()
        for daemon in self.daemons.values():
            daemon.__exit__(None)

    def test_rolling_restarts_fail_no_call(self):
        with Load(self.port, f'{self.folder}/proxy.sock') as load:
            for i in range(RESTARTS):
                name = 'ab'[i % 2]
                before = load.counts['ok']
                wait_until(lambda: load.counts['ok'] > before + 50, 'calls')
                self.ask(f'set server knit/{name} state drain')
                elder = self.daemons[name]
                elder.send_signal(signal.SIGTERM)
                self.assertEqual(elder.wait(2 * PATIENCE), 0)
                self.assertRegex(elder.log(), r'connection opened".*peer=127\.0\.0\.1:')
                self.daemons[name] = Daemon(proxy_from='127.0.0.1', debug='host', listen=f'127.0.0.1:{elder.port}')
                elder.__exit__(None)
                self.ask(f'set server knit/{name} state ready')
                wait_until(lambda: self.state(name) == 'UP', 'it to be served')
        print(f'{RESTARTS} restarts behind HAProxy: {dict(load.counts)}')
        self.assertEqual(load.failures, [])
        self.assertEqual(set(load.counts) - {'ok', 'sent again'}, set())


if __name__ == '__main__':
    main()
