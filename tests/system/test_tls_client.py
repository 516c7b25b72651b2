# SPDX-License-Identifier: Apache-2.0
"""knits:// as the tool knit has it, by the library: whom it trusts, what it says of those whom it does not, and calls. The
daemon is the real one; what no daemon does, a server of Python's ssl does."""

import base64
import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import unittest
import warnings

from knit_harness import PATIENCE, main, wait_until
from knit_spread import Caller, served
from knit_tls import Authority, TlsDaemon

KNIT = os.environ['KNIT_TOOL']
OK, USAGE, DISCONNECTED, TIMEOUT = 0, 2, 3, 5


def setUpModule():
    global authority
    authority = Authority()


def tearDownModule():
    authority.close()


def pin(name):
    """Of the key in that certificate."""
    certificate = subprocess.run(['openssl', 'x509', '-in', authority.path(f'{name}.pem'), '-pubkey', '-noout'],
                                 stdout=subprocess.PIPE, check=True).stdout
    key = subprocess.run(['openssl', 'pkey', '-pubin', '-outform', 'der'], input=certificate, stdout=subprocess.PIPE, check=True).stdout
    return 'sha256//' + base64.b64encode(hashlib.sha256(key).digest()).decode()


class ToolCase(unittest.TestCase):
    def knit(self, url, *arguments, status=OK, trusts='ca', stdin=None, environment=None):
        trust = ['--tls-ca', authority.path(f'{trusts}.pem')] if trusts else []
        done = subprocess.run([KNIT, '-u', url, *trust, *arguments], input=stdin, capture_output=True, text=True,
                              timeout=6 * PATIENCE, env={**os.environ, **(environment or {})})
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def refused(self, url, *arguments, status=DISCONNECTED, name='UNAUTHENTICATED', **options):
        """The message of the one error there is."""
        done = self.knit(url, '--json', *arguments, 'ping', status=status, **options)
        error = json.loads(done.stderr)
        self.assertEqual((error['name'], error['started'], error['origin']), (name, 'no', 'client'))
        self.retryable = error['retryable']
        return error['message']


class WithDaemon(ToolCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = TlsDaemon(authority, listen='127.0.0.1:0')
        cls.named = f'knits://localhost:{cls.daemon.port}'
        cls.numbered = f'knits://127.0.0.1:{cls.daemon.port}'

    @classmethod
    def tearDownClass(cls):
        with cls.daemon:
            pass

    def test_calls_by_name_and_by_address(self):
        for url in self.named, self.numbered:
            with self.subTest(url):
                self.assertEqual(self.knit(url, 'call', 'add', '2', '3').stdout, '5\n')
                self.assertIn('add(', self.knit(url, 'tasks').stdout)
                self.knit(url, 'ping')

    @unittest.skipUnless('KNIT_HAS_BENCH' in os.environ, 'built with -Dbench=false')
    def test_a_load_says_who_calls(self):
        token = 'nightly-0123456789abcdef'
        with tempfile.TemporaryDirectory(prefix='knit-') as folder:
            paths = [os.path.join(folder, name) for name in ('tokens', 'nightly.token')]
            for path, text in zip(paths, (f'nightly sha256:{hashlib.sha256(token.encode()).hexdigest()}\n', token)):
                with open(path, 'w') as file:
                    file.write(text)
            with TlsDaemon(authority, tokens=paths[0]) as daemon:
                def bench(*options, **more):
                    return self.knit(f'knits://localhost:{daemon.port}', *options, 'bench', '--count', '10', 'echo:8', **more)
                bench('--token-file', paths[1])
                for variable, value in (('KNITTING_TOKEN_FILE', paths[1]), ('KNITTING_TOKEN', token)):
                    bench(environment={variable: value})
                for done in bench(status=1), bench('--token-file', paths[1], status=1, trusts=None):
                    self.assertRegex(done.stdout + done.stderr, 'say who you are|not trusted')

    def test_large_and_many(self):
        text = 'x' * 3000000
        self.assertEqual(self.knit(self.named, 'call', 'echo', '-', '--raw', stdin=text).stdout, text)
        lines = ''.join(f'[{number}, 1]\n' for number in range(5000))
        done = self.knit(self.named, '-j', '500', 'batch', 'add', stdin=lines)
        self.assertEqual(done.stdout, ''.join(f'{number + 1}\n' for number in range(5000)))

    def test_the_systems_authorities(self):
        """Where OpenSSL looks for these."""
        self.assertIn('that is not trusted', self.refused(self.named, trusts=None))
        self.knit(self.named, 'ping', trusts=None, environment={'SSL_CERT_FILE': authority.path('ca.pem')})

    def test_an_authority_that_is_not_trusted(self):
        message = self.refused(self.named, trusts='stranger_ca')
        self.assertIn(f"cannot connect to localhost:{self.daemon.port}: the server's certificate is of an authority that is not "
                      'trusted: /CN=Knitting tests ca', message)
        self.assertFalse(self.retryable)

    def test_pins(self):
        right, wrong = pin('server'), pin('other')
        self.knit(self.named, '--tls-pin', f'{wrong};{right}', 'ping')
        self.assertIn('not the pinned one', self.refused(self.named, '--tls-pin', wrong))
        self.knit(self.named, '--tls-pin', right, '--tls-pin-only', 'ping', trusts=None)
        self.assertIn('not trusted', self.refused(self.named, '--tls-pin', right, trusts=None))

    def test_plain_where_tls_is_spoken_and_the_reverse(self):
        plain = next(url for url in self.daemon.urls if url.startswith('knit://'))
        message = self.refused(f'knit://127.0.0.1:{self.daemon.port}', name='DISCONNECTED', trusts=None)
        self.assertIn('the log of knittingd there says why; if it speaks TLS, its URL begins with knits://', message)
        message = self.refused(plain.replace('knit:', 'knits:'), name='DISCONNECTED')
        self.assertRegex(message, 'does not speak TLS')

    def test_mistakes_on_the_command_line(self):
        plain = next(url for url in self.daemon.urls if url.startswith('knit://'))
        for url, arguments, words in (
                (plain, (), 'knits:// is expected'),
                (self.named, ('--tls-key', authority.path('client.key')), 'without its certificate'),
                (self.named, ('--tls-cert', authority.path('client.pem')), 'cannot use the key'),
                (self.named, ('--tls-cert', '/nonexistent'), 'cannot use the certificate "/nonexistent": No such file'),
                (self.named, ('--tls-pin', 'sha256//x'), 'is expected'),
                (self.named, ('--tls-pin-only',), 'none is given')):
            with self.subTest(words):
                self.assertIn(words, self.knit(url, *arguments, 'ping', status=USAGE).stderr)

    def test_other_urls_do_not_look_at_it(self):
        self.knit(next(url for url in self.daemon.urls if url.startswith('unix://')), 'ping')


class Lost(unittest.TestCase):
    def test_the_next_connection_of_a_session_is_resumed(self):
        """With a daemon that has the ticket keys of the one before."""
        keys = authority.path('ticket_keys')
        with open(os.open(keys, os.O_CREAT | os.O_WRONLY, 0o600), 'wb') as file:
            file.write(os.urandom(80))
        first = TlsDaemon(authority, tls_ticket_keys=keys)
        first.expected_status = -signal.SIGKILL
        with first:
            caller = subprocess.Popen([os.environ['KNIT_RETURNS'], f'knits://localhost:{first.port}'], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True,
                                      env={**os.environ, 'SSL_CERT_FILE': authority.path('ca.pem')})
            self.addCleanup(caller.wait)
            self.addCleanup(caller.kill)
            self.assertEqual(caller.stdout.readline(), 'before\n')
            self.assertEqual(first.stats()['loops']['handshakes_resumed'], 0)
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
            caller.stdin.write('\n')
            caller.stdin.flush()
            self.assertEqual(caller.stdout.readline(), 'between\n')
            with TlsDaemon(authority, tls_ticket_keys=keys, listen_tls=f'127.0.0.1:{first.port}') as second:
                self.assertEqual(caller.communicate(timeout=6 * PATIENCE)[0], 'after\n')
                self.assertEqual(caller.returncode, 0)
                self.assertEqual(second.stats()['loops']['handshakes_resumed'], 1)


class Several(unittest.TestCase):
    def test_calls_are_shared_and_go_on_when_one_dies(self):
        first, second = TlsDaemon(authority), TlsDaemon(authority)
        first.expected_status = -signal.SIGKILL
        trust = {'KNIT_CA': authority.path('ca.pem')}
        with first, second, Caller((first, second), 8, 1, scheme='knits', environment=trust) as caller:
            wait_until(lambda: served(first) and served(second), 'calls at both')
            caller.goes_on(200)
            self.assertEqual(caller.failed, 0, caller.last)
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
            caller.goes_on(200)
            lost = caller.failed
            self.assertLessEqual(lost, 8, caller.last)
            with TlsDaemon(authority, listen_tls=f'127.0.0.1:{first.port}') as again:
                wait_until(lambda: served(again) > 50, 'it to take calls again', 6 * PATIENCE)
                caller.end()
            self.assertEqual((caller.unstarted, caller.failed), (0, lost), caller.last)

    def test_an_address_whose_handshake_is_not_answered_hides_no_other(self):
        with TlsDaemon(authority, listen_tls='127.0.0.2:0') as daemon, socket.create_server(('127.0.0.1', daemon.port)) as mute:
            # The last one is tried first.
            addresses = daemon.write('addresses', '127.0.0.2\n127.0.0.1\n')
            environment = {'KNIT_CA': authority.path('ca.pem'), 'KNIT_CONNECT_MS': '3000'}
            with Caller([daemon], 1, 1, scheme='knits', name='localhost', addresses=addresses, environment=environment) as caller:
                caller.goes_on(10)
                caller.end()
            self.assertEqual((caller.unstarted, caller.failed), (0, 0), caller.last)
            mute.settimeout(PATIENCE)
            mute.accept()[0].close()


class OtherCertificates(ToolCase):
    def assert_refused(self, certificate, words):
        with TlsDaemon(authority, certificate=certificate) as daemon:
            self.assertIn(words, self.refused(f'knits://localhost:{daemon.port}'))

    def test_one_that_has_expired(self):
        self.assert_refused('server_expired', "the server's certificate has expired: it was valid until 20")

    def test_one_of_another_host(self):
        self.assert_refused('other', "for another name than 'localhost'; it has: other.example, *.wild.example")

    def test_the_caller_s_own_that_the_daemon_calls_bad(self):
        with TlsDaemon(authority, tls_client='required', tls_client_ca=authority.path('ca.pem')) as daemon:
            for name, words in (('client_nobody', 'it names nobody, since it has no URI and no DNS name'),
                                ('client_later', 'it is not valid yet')):
                with self.subTest(name):
                    message = self.refused(f'knits://localhost:{daemon.port}', '--tls-cert', authority.path(f'{name}.pem'),
                                           '--tls-key', authority.path(f'{name}.key'))
                    self.assertTrue(message.endswith(f"the server refuses this caller's certificate: {words}"), message)

    def test_one_with_an_rsa_key(self):
        with TlsDaemon(authority, certificate='server_rsa') as daemon:
            self.knit(f'knits://localhost:{daemon.port}', 'call', 'add', '1', '2')


class Server:
    """Gives each connection, one after the other, to a function; knits:// url of it."""

    def __init__(self, serve):
        self.serve = serve
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.url = f'knits://localhost:{self.listener.getsockname()[1]}'
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with sock:
                sock.settimeout(PATIENCE)
                try:
                    self.serve(sock)
                except (OSError, ssl.SSLError):
                    pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


def context(certificate='server', alpn=('knit/1',), version=None, asks=False):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(authority.path(f'{certificate}.pem'), authority.path(f'{certificate}.key'))
    if alpn:
        made.set_alpn_protocols(list(alpn))
    if version is not None:
        made.minimum_version = made.maximum_version = version
    if asks:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(authority.path('ca.pem'))
    return made


def silently(sock):
    """Until the client goes."""
    while sock.recv(65536):
        pass


class OtherServers(ToolCase):
    @staticmethod
    def speaking(made):
        def serve(sock):
            with made.wrap_socket(sock, server_side=True) as wrapped:
                silently(wrapped)
        return serve

    def test_one_without_the_protocol(self):
        with Server(self.speaking(context(alpn=()))) as server:
            self.assertIn('knit/1 (ALPN)', self.refused(server.url, name='DISCONNECTED'))
            self.assertFalse(self.retryable)

    def test_one_with_a_certificate_that_is_not_for_servers(self):
        with Server(self.speaking(context('client'))) as server:
            self.assertIn('unsuitable certificate purpose', self.refused(server.url))

    def test_one_that_wants_a_certificate_of_the_caller(self):
        for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
            with self.subTest(version), Server(self.speaking(context(asks=True, version=version))) as server:
                self.assertIn('certificate', self.refused(server.url))
                self.assertIn("refuses this caller's certificate", self.refused(
                    server.url, '--tls-cert', authority.path('stranger.pem'), '--tls-key', authority.path('stranger.key')))

    def test_one_that_sees_the_callers_certificate(self):
        seen = []

        def serve(sock):
            with context(asks=True).wrap_socket(sock, server_side=True) as wrapped:
                seen.append(wrapped.getpeercert()['subjectAltName'])
                self.assertIn(b'$/hello', wrapped.recv(65536))
                wrapped.unwrap()
        with Server(serve) as server:
            message = self.refused(server.url, '--tls-cert', authority.path('client.pem'), '--tls-key',
                                   authority.path('client.key'), name='DISCONNECTED')
            self.assertIn('the server closed the connection', message)
        self.assertEqual(seen, [(('URI', 'spiffe://knitting/client'), ('DNS', 'client.example'))])

    def test_one_of_an_old_version(self):
        made = context()
        made.set_ciphers('ALL:@SECLEVEL=0')
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', DeprecationWarning)
            made.minimum_version = ssl.TLSVersion.TLSv1
            made.maximum_version = ssl.TLSVersion.TLSv1_1
        with Server(self.speaking(made)) as server:
            self.assertIn('no TLS from 1.2 on', self.refused(server.url, name='DISCONNECTED'))

    def test_one_that_ends_in_the_handshake(self):
        with Server(lambda sock: sock.recv(1)) as server:
            self.assertIn("in TLS's handshake", self.refused(server.url, name='DISCONNECTED'))
            self.assertTrue(self.retryable)

    def test_one_that_cuts_the_connection(self):
        def serve(sock):
            with context().wrap_socket(sock, server_side=True) as wrapped:
                wrapped.recv(65536)
                wrapped.shutdown(socket.SHUT_RDWR)
        with Server(serve) as server:
            self.assertIn('was cut, not ended by the server', self.refused(server.url, name='DISCONNECTED'))

    def test_one_that_says_nothing_costs_no_more_than_the_time_there_is(self):
        with Server(silently) as server:
            done = self.knit(server.url, '-t', '200', 'ping', status=TIMEOUT)
            self.assertIn('in time', done.stderr)


if __name__ == '__main__':
    main()
