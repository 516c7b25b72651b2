# SPDX-License-Identifier: Apache-2.0
"""TLS: calls through it, who is refused, how it ends, and what strangers may do before their handshake is over."""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import time
import unittest

from knit_harness import PATIENCE, SLOWDOWN, Case, main, wait_until
from knit_tls import Authority, TlsDaemon, client_hello

KNIT = os.environ['KNIT_TOOL']
VERSIONS = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def setUpModule():
    global authority
    authority = Authority()


def tearDownModule():
    authority.close()


class TlsCase(Case):
    options = {}

    @classmethod
    def setUpClass(cls):
        cls.daemon = TlsDaemon(authority, **cls.options)

    @classmethod
    def tearDownClass(cls):
        with cls.daemon:
            pass

    def counters(self):
        return self.daemon.stats()['loops']

    def assert_refused(self, reason, context, **options):
        """Its handshake fails, and the log says why. A client of TLS 1.3 is told when its own side is over."""
        before = self.daemon.log()
        with self.assertRaises((ssl.SSLError, ConnectionResetError)):
            with self.daemon.tls(context, **options) as rpc:
                rpc.call('echo', 1)
        wait_until(lambda: reason in self.daemon.log()[len(before):], f'the reason {reason!r}')


class Calls(TlsCase):
    def test_calls_of_all_sizes_have_their_results(self):
        for version in VERSIONS:
            with self.subTest(version), self.daemon.tls(authority.client(version=version)) as rpc:
                self.assertEqual(rpc.sock.selected_alpn_protocol(), 'knit/1')
                for size in 0, 1, 100, 16383, 16384, 16385, 70000, 3000000:
                    self.assertEqual(rpc.call('echo', b'x' * size), b'x' * size)

    def test_many_calls_at_once_have_theirs(self):
        for version in VERSIONS:
            with self.subTest(version), self.daemon.tls(authority.client(version=version)) as rpc:
                msgids = [rpc.request('echo', number) for number in range(5000)]
                self.assertEqual([rpc.result(msgid) for msgid in msgids], list(range(5000)))

    def test_a_call_that_comes_with_the_end_of_the_handshake_is_seen(self):
        """In one piece with it, so that no event follows."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = authority.client().wrap_bio(incoming, outgoing, server_hostname='localhost')
        with self.daemon.raw() as sock:
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    sock.sendall(outgoing.read())
                    incoming.write(sock.recv(65536))
            client.write(b'\x94\x00\x07\xa6$/ping\x90')
            sock.sendall(outgoing.read())
            while True:
                incoming.write(sock.recv(65536))
                try:
                    self.assertEqual(client.read(), b'\x94\x01\x07\xc0\xc0')
                    break
                except ssl.SSLWantReadError:  # a ticket came alone
                    pass

    def test_one_who_offers_no_protocol_is_served(self):
        with self.daemon.tls(authority.client(alpn=())) as rpc:
            self.assertEqual(rpc.call('echo', 1), 1)

    def test_one_who_offers_another_protocol_is_refused(self):
        self.assert_refused('reason="no application protocol"', authority.client(alpn=('h2',)))

    def test_connections_that_are_idle_cost_little(self):
        """R17: 20 KB each, of the daemon's own memory."""
        number = 10000 if 'KNIT_TEST_LONG' in os.environ else 500
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        if most < number + 100:
            self.skipTest(f'{most} files may be open')
        for version in VERSIONS:
            with self.subTest(version), TlsDaemon(authority) as daemon, contextlib.ExitStack() as stack:
                context = authority.client(version=version)

                def connect(count):
                    for _ in range(count):
                        rpc = stack.enter_context(daemon.tls(context))
                        self.assertEqual(rpc.call('$/ping', 1), 1)
                connect(50)
                before = daemon.memory_kb()
                connect(number)
                each = (daemon.memory_kb() - before) / number
                print(f'{number} connections with {version.name}: {each:.1f} KB each')
                self.assertLess(each, 20)

    def test_no_descriptors_pass(self):
        with self.daemon.tls() as rpc:
            self.assertNotIn('attach', rpc.hello()['features'])

    def test_openssl_s_client_speaks_with_it(self):
        message = b'\x94\x00\x07\xa6$/ping\x90'
        client = subprocess.Popen(
            ['openssl', 's_client', '-connect', f'127.0.0.1:{self.daemon.port}', '-CAfile', authority.path('ca.pem'), '-quiet',
             '-verify_return_error', '-alpn', 'knit/1'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            client.stdin.write(message)
            client.stdin.flush()
            self.assertEqual(client.stdout.read(5), b'\x94\x01\x07\xc0\xc0')
        finally:
            client.kill()
            client.wait()
            client.stdin.close()
            client.stdout.close()


class What_is_spoken(TlsCase):
    def refused(self, *arguments):
        """What s_client is told."""
        done = subprocess.run(
            ['openssl', 's_client', '-connect', f'127.0.0.1:{self.daemon.port}', *arguments], input=b'', capture_output=True,
            timeout=PATIENCE)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        return done.stderr.decode()

    def test_older_versions_are_refused(self):
        for version in '-tls1', '-tls1_1':
            with self.subTest(version):
                self.assertRegex(self.refused(version, '-cipher', 'ALL:@SECLEVEL=0'), 'alert protocol version|no protocols')

    def test_ciphers_that_are_not_authenticated_with_their_data_are_refused(self):
        for cipher in 'ECDHE-ECDSA-AES128-SHA256', 'ECDHE-ECDSA-AES256-SHA', 'AES128-GCM-SHA256':
            with self.subTest(cipher):
                self.assertIn('alert handshake failure', self.refused('-tls1_2', '-cipher', f'{cipher}:@SECLEVEL=0'))

    def test_renegotiation_is_refused_and_harms_nobody(self):
        client = subprocess.Popen(
            ['openssl', 's_client', '-connect', f'127.0.0.1:{self.daemon.port}', '-tls1_2', '-legacy_renegotiation'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, _ = client.communicate(b'R\n', timeout=PATIENCE)
        self.assertIn(b'RENEGOTIATING', output)
        self.assertRegex(output, b'no renegotiation|wrong version|error')
        with self.daemon.tls() as rpc:
            self.assertEqual(rpc.call('echo', 1), 1)

    def test_nothing_is_taken_before_the_handshake_is_over(self):
        """No early data: what comes twice, because somebody on the way repeats it, would be called twice."""
        session = authority.path('session')
        client = subprocess.Popen(
            ['openssl', 's_client', '-connect', f'127.0.0.1:{self.daemon.port}', '-tls1_3', '-sess_out', session],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            def show():
                done = subprocess.run(['openssl', 'sess_id', '-in', session, '-noout', '-text'], capture_output=True, text=True)
                return re.search(r'Max Early Data: (\d+)', done.stdout)
            self.assertEqual(wait_until(show, 'a ticket')[1], '0')
        finally:
            client.kill()
            client.wait()
            client.stdin.close()

    def test_plain_bytes_are_refused_with_a_reason(self):
        for plain, reason in ((b'\x94\x00\x07\xa6$/ping\x90', 'the client does not speak TLS'),
                              (b'GET / HTTP/1.1\r\n\r\n', 'the client speaks HTTP without TLS')):
            before = self.counters()['handshakes_failed']
            with self.daemon.raw() as sock:
                sock.sendall(plain)
                self.assertNotIn(b'\x94\x01\x07', sock.recv(65536))
            wait_until(lambda: self.counters()['handshakes_failed'] == before + 1, 'the count')
            self.assertRegex(self.daemon.log(), f'msg="TLS handshake failed" reason="{reason}" .*peer=127.0.0.1:')


class Ends(TlsCase):
    def test_an_end_by_both_sides_is_seen_by_both(self):
        with self.daemon.tls() as rpc:
            rpc.call('echo', 1)
            self.assertEqual(rpc.sock.unwrap().recv(1), b'')

    def test_replies_that_are_there_come_before_the_end(self):
        """The peer says that it sends no more, which is not the end of what it gets."""
        with self.daemon.tls() as rpc:
            big = b'y' * 1000000
            msgids = [rpc.request('echo', big) for _ in range(4)]
            self.assertEqual([len(rpc.result(msgid)) for msgid in msgids], [len(big)] * 4)

    def test_bad_bytes_end_the_connection_after_its_error(self):
        with self.daemon.tls() as rpc:
            rpc.send(b'\xc1')
            self.assertTrue(rpc.is_closed_by_peer())

    def test_a_bare_end_of_the_socket_ends_calls(self):
        with self.daemon.tls() as rpc:
            before = self.counters()['connections_closed']
            rpc.request('sleep', 20)
            rpc.sock.shutdown(socket.SHUT_WR)
            wait_until(lambda: self.counters()['connections_closed'] > before, 'the end')

    def test_a_daemon_that_ends_says_so(self):
        with TlsDaemon(authority) as daemon, daemon.tls() as rpc:
            rpc.hello()
            daemon.send_signal(signal.SIGTERM)
            self.assertTrue(rpc.is_closed_by_peer())
            self.assertEqual(rpc.notifications[0][0], '$/goaway')


class Strangers(TlsCase):
    def test_of_many_that_never_finish_the_oldest_go_and_others_are_served(self):
        with TlsDaemon(authority) as daemon:
            silent = []
            try:
                for _ in range(300):
                    silent.append(daemon.raw())
                with daemon.tls() as rpc:
                    self.assertEqual(rpc.call('echo', 1), 1)
                self.assertGreaterEqual(daemon.stats()['loops']['handshakes_failed'], 300 - 256)
                self.assertEqual(silent[0].recv(1), b'')
                self.assertIn('others came, and it was there longest', daemon.log())
            finally:
                for sock in silent:
                    sock.close()

    def test_two_thousand_that_begin_and_do_not_go_on_cost_little(self):
        """S3: the memory is bounded, and others are served meanwhile. Half of them say all that comes first."""
        begun = client_hello(authority)
        with TlsDaemon(authority) as daemon:
            context, silent, times = authority.client(), [], []
            with daemon.tls(context) as rpc:
                rpc.call('echo', 1)
            before = daemon.memory_kb()
            try:
                for number in range(2000):
                    silent.append(daemon.raw())
                    silent[-1].sendall(begun if number % 2 else begun[:100])
                    if number % 100 == 99:
                        began = time.monotonic()
                        with daemon.tls(context) as rpc:
                            self.assertEqual(rpc.call('echo', number), number)
                        times.append(time.monotonic() - began)
                grown = daemon.memory_kb() - before
            finally:
                for sock in silent:
                    sock.close()
            print(f'2,000 strangers: {grown / 1024:.1f} MiB more, a handshake and a call beside them {sorted(times)[-2] * 1000:.1f} ms')
            self.assertLess(grown, 20 * 1024)
            self.assertLess(sorted(times)[-2], 2 * SLOWDOWN)

    def test_one_that_sends_nothing_is_closed_in_time(self):
        with self.daemon.raw() as sock:
            sock.settimeout(10 * PATIENCE)
            self.assertEqual(sock.recv(1), b'')
        self.assertIn('it took longer than 10 s', self.daemon.log())

    def test_one_that_says_much_too_much_is_closed(self):
        """Handshake records whose message would be longer than any."""
        record = b'\x16\x03\x01\x40\x00' + b'\x01\x01\xff\xff' + b'\x00' * (16384 - 4)
        with self.daemon.raw() as sock:
            try:
                for _ in range(100):
                    sock.sendall(record)
                self.assertLess(len(sock.recv(65536)), 100)
                self.assertEqual(sock.recv(65536), b'')
            except (ConnectionResetError, BrokenPipeError):
                pass


class Names(TlsCase):
    """Several certificates: each client gets one for the name that it calls."""

    @classmethod
    def setUpClass(cls):
        names = 'server', 'server_rsa', 'other'
        cls.daemon = TlsDaemon(authority, certificate=None,
                               tls_certificate=','.join(authority.path(f'{name}.pem') for name in names),
                               tls_key=','.join(authority.path(f'{name}.key') for name in names))

    def shown(self, name, ciphers=None):
        context = authority.client(version=ssl.TLSVersion.TLSv1_2 if ciphers else None)
        if ciphers:
            context.set_ciphers(ciphers)
        with self.daemon.tls(context, name=name) as rpc:
            self.assertEqual(rpc.call('echo', name), name)
            return dict(pair for pairs in rpc.sock.getpeercert()['subject'] for pair in pairs)['commonName']

    def test_a_client_gets_the_certificate_of_the_name_that_it_calls(self):
        for name, expected in [('localhost', 'server'), ('other.example', 'other'), ('a.wild.example', 'other'),
                               ('127.0.0.1', 'server')]:
            with self.subTest(name):
                self.assertEqual(self.shown(name), expected)

    def test_of_two_for_one_name_it_gets_the_one_that_it_can_verify(self):
        self.assertEqual(self.shown('localhost', 'ECDHE-RSA-AES128-GCM-SHA256'), 'server_rsa')
        self.assertEqual(self.shown('localhost', 'ECDHE-ECDSA-AES128-GCM-SHA256'), 'server')

    def test_one_who_calls_another_name_gets_the_first(self):
        context = authority.client()
        context.check_hostname = False
        with self.daemon.tls(context, name='nobody.example') as rpc:
            self.assertIn((('commonName', 'server'),), rpc.sock.getpeercert()['subject'])


BAD_CLIENTS = [
    ('client_expired', 'certificate has expired'),
    ('client_revoked', 'certificate revoked'),
    ('client_of_server', 'unsuitable certificate purpose|unsupported certificate purpose'),
    ('stranger', 'unable to get local issuer certificate'),
    ('client_nobody', 'the certificate names nobody'),
]


class Clients(TlsCase):
    """Whose certificates are taken, and who they say that they are."""

    trust = {}

    @classmethod
    def setUpClass(cls):
        cls.trust = {'tls_client_ca': authority.path('ca.pem'), 'tls_crl': authority.path('crl.pem')}
        cls.daemon = TlsDaemon(authority, tls_client='optional', **cls.trust)
        cls.strict = TlsDaemon(authority, tls_client='required', **cls.trust)

    @classmethod
    def tearDownClass(cls):
        with cls.daemon, cls.strict:
            pass

    def refused(self, daemon, context, reason):
        """Until the log says it: of many in one second it leaves some out."""
        before = len(daemon.log())

        def is_refused():
            with self.assertRaises((ssl.SSLError, ConnectionResetError, EOFError, BrokenPipeError)):
                with daemon.tls(context) as rpc:
                    rpc.call('echo', 1)
            return re.search(f'TLS handshake failed" reason="({reason})"?', daemon.log()[before:])
        wait_until(is_refused, reason)

    def test_one_whose_certificate_names_nobody_is_told(self):
        for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
            context = authority.client('client_nobody', version=version)
            with self.subTest(version), self.assertRaisesRegex(ssl.SSLError, 'ALERT_BAD_CERTIFICATE'):
                with self.strict.tls(context) as rpc:
                    rpc.call('echo', 1)

    def test_a_certificate_says_who_its_client_is(self):
        for daemon in self.daemon, self.strict:
            for version in VERSIONS:
                for certificate, name in [('client', 'cert:uri:spiffe://knitting/client'),
                                          ('client_dns', 'cert:dns:client-dns.example')]:
                    with self.subTest((version, name)), daemon.tls(authority.client(certificate, version=version)) as rpc:
                        self.assertEqual(rpc.hello()['principal'], name)
                        self.assertEqual(rpc.call('echo', 1), 1)

    def test_bad_ones_are_refused_and_the_log_says_why(self):
        for daemon in self.daemon, self.strict:
            for version in VERSIONS:
                for certificate, reason in BAD_CLIENTS:
                    with self.subTest((version, certificate)):
                        self.refused(daemon, authority.client(certificate, version=version), reason)

    def test_one_without_is_anonymous_or_refused(self):
        with self.daemon.tls() as rpc:
            self.assertEqual(rpc.hello()['principal'], 'anonymous')
        for version in VERSIONS:
            self.refused(self.strict, authority.client(version=version), 'peer did not return a certificate')

    def test_one_who_was_refused_harms_nobody(self):
        with self.strict.tls(authority.client('client')) as rpc:
            self.refused(self.strict, authority.client('stranger'), 'unable to get')
            self.assertEqual(rpc.call('echo', 1), 1)

    def test_a_list_of_certificates_may_not_be_long(self):
        chain = authority.path('long.pem')
        with open(authority.path('client.pem')) as leaf, open(authority.path('ca.pem')) as ca, open(chain, 'w') as file:
            file.write(leaf.read() + 100 * ca.read())
        shutil.copy(authority.path('client.key'), authority.path('long.key'))
        for version in VERSIONS:
            self.refused(self.strict, authority.client('long', version=version), 'excessive message size')

    def test_a_list_of_revoked_ones_that_is_missing_or_old_refuses_all(self):
        for crl in 'crl_stranger.pem', 'crl_old.pem':
            with self.subTest(crl), TlsDaemon(authority, tls_client='required', tls_client_ca=authority.path('ca.pem'),
                                              tls_crl=authority.path(crl)) as daemon:
                self.refused(daemon, authority.client('client'), 'unable to get certificate CRL|CRL has expired')

    def test_an_authority_without_a_list_of_revoked_ones_is_said_beforehand(self):
        """At the start, after a reload, by the check: all its clients would be refused, as if it were not known."""
        crl = authority.path('crl_few.pem')
        shutil.copy(authority.path('crl_stranger.pem'), crl)
        words = 'an authority of tls_client_ca has no list of revoked certificates, so what it has certified is refused'
        line = f'level=warning msg="{words}" file={crl} authority='
        options = {'tls_client': 'optional', 'tls_client_ca': authority.path('ca.pem'), 'tls_crl': crl}
        with TlsDaemon(authority, '--check-config', wait=False, **options) as daemon:
            daemon.wait()
            self.assertEqual([daemon.log().count(line), len(daemon.log().splitlines())], [1, 1])
        with TlsDaemon(authority, **options) as daemon:
            self.assertEqual(daemon.log().count(line), 1)
            url = next(url for url in daemon.urls if url.startswith('unix://'))
            for lists, said in (('crl_stranger',), f'knit: {words}: {crl}\n'), (('crl_stranger', 'crl_empty'), ''):
                with open(crl, 'w') as file:
                    file.writelines(open(authority.path(f'{name}.pem')).read() for name in lists)
                done = subprocess.run([KNIT, '-u', url, 'reload'], capture_output=True, text=True, timeout=PATIENCE)
                self.assertEqual((done.returncode, done.stderr), (0, said))
            self.assertEqual(daemon.log().count(line), 2)

    def test_a_list_that_is_read_again_refuses_whom_it_names(self):
        crl = authority.path('crl_now.pem')
        shutil.copy(authority.path('crl_empty.pem'), crl)
        with TlsDaemon(authority, tls_client='required', tls_client_ca=authority.path('ca.pem'), tls_crl=crl) as daemon:
            with daemon.tls(authority.client('client_revoked')) as rpc:
                self.assertEqual(rpc.call('echo', 1), 1)
            shutil.copy(authority.path('crl.pem'), crl)
            daemon.send_signal(signal.SIGHUP)
            wait_until(lambda: 'msg=reloaded' in daemon.log(), 'the reload')
            self.refused(daemon, authority.client('client_revoked'), 'certificate revoked')
            with daemon.tls(authority.client('client')) as rpc:
                self.assertEqual(rpc.call('echo', 1), 1)

    def test_other_machines_may_be_listened_to_where_certificates_are_required(self):
        with TlsDaemon(authority, tls_client='required', listen_tls='0.0.0.0:0', **self.trust) as daemon:
            self.assertIn('callers="whom a certificate of tls_client_ca names"', daemon.log())
            with daemon.tls(authority.client('client')) as rpc:
                self.assertEqual(rpc.call('echo', 1), 1)


class Tickets(Case):
    """Clients resume what they had, where nothing has changed that was asked of them then."""

    def setUp(self):
        self.trust = {'tls_client': 'required', 'tls_client_ca': authority.path('ca_now.pem'), 'tls_crl': authority.path('crl_now.pem')}
        self.set_trust()

    @staticmethod
    def set_trust(ca='ca', crl='crl_empty'):
        shutil.copy(authority.path(f'{ca}.pem'), authority.path('ca_now.pem'))
        shutil.copy(authority.path(f'{crl}.pem'), authority.path('crl_now.pem'))

    @staticmethod
    def reload(daemon):
        before = daemon.log().count('msg=reloaded')
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: daemon.log().count('msg=reloaded') > before, 'the reload')

    def resume(self, daemon, context, session):
        """Whether it was, what its session is now, and who the client is."""
        with daemon.tls(context, session=session) as rpc:
            name = rpc.hello()['principal']
            return rpc.sock.session_reused, rpc.sock.session, name

    def keys(self, count=1):
        path = authority.path(f'tickets_{count}')
        with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), 'wb') as file:
            file.write(os.urandom(80 * count))
        return path

    def test_a_client_resumes_with_the_daemon_that_takes_over(self):
        with TlsDaemon(authority, **self.trust) as elder:
            context = authority.client('client')
            _, session, name = self.resume(elder, context, None)
            with TlsDaemon(authority, '--take-over', socket=elder.socket, **self.trust) as daemon:
                self.assertEqual(elder.wait(), 0)
                self.assertEqual(daemon.urls[0], elder.urls[0])
                reused, _, again = self.resume(daemon, context, session)
                self.assertTrue(reused)
                self.assertEqual(again, name)

    def test_a_client_resumes_and_is_who_it_was(self):
        with TlsDaemon(authority, **self.trust) as daemon:
            for version in VERSIONS:
                with self.subTest(version):
                    context = authority.client('client', version=version)
                    resumed, session, name = self.resume(daemon, context, None)
                    self.assertEqual((resumed, name), (False, 'cert:uri:spiffe://knitting/client'))
                    for _ in range(3):
                        before = session
                        resumed, session, name = self.resume(daemon, context, session)
                        self.assertEqual((resumed, name), (True, 'cert:uri:spiffe://knitting/client'))
                        self.assertEqual(before == session, version != ssl.TLSVersion.TLSv1_3)
            self.assertEqual(daemon.stats()['loops']['handshakes_resumed'], 6)

    def test_it_resumes_after_a_reload_that_changes_no_trust(self):
        with TlsDaemon(authority, **self.trust) as daemon:
            context = authority.client('client')
            session = self.resume(daemon, context, None)[1]
            self.reload(daemon)
            self.assertTrue(self.resume(daemon, context, session)[0])

    def test_one_who_is_not_trusted_any_more_is_not_let_in(self):
        """Its old ticket could be decrypted, and a session that is resumed has no certificates to verify."""
        keys = self.keys()
        for version in VERSIONS:
            for ca, crl, certificate in ('stranger_ca', 'crl_stranger', 'client'), ('ca', 'crl', 'client_revoked'):
                with self.subTest((version, ca)), TlsDaemon(authority, **self.trust, tls_ticket_keys=keys) as daemon:
                    self.set_trust()
                    self.reload(daemon)
                    context = authority.client(certificate, version=version)
                    session = self.resume(daemon, context, None)[1]
                    self.assertTrue(self.resume(daemon, context, session)[0])
                    self.set_trust(ca, crl)
                    self.reload(daemon)
                    with self.assertRaises((ssl.SSLError, ConnectionResetError, EOFError, BrokenPipeError)):
                        self.resume(daemon, context, session)

    def test_a_list_that_is_old_ends_what_was_resumed(self):
        """Each time a client resumes it gets another ticket, so it would never be verified again."""
        until = int(time.time()) + 4 * SLOWDOWN
        authority.revoked_until('crl_short', until)
        self.set_trust(crl='crl_short')
        with TlsDaemon(authority, **self.trust) as daemon:
            sessions = []
            for version in VERSIONS:
                context = authority.client('client', version=version)
                session = self.resume(daemon, context, None)[1]
                resumed, session, _ = self.resume(daemon, context, session)
                self.assertTrue(resumed)
                sessions.append((context, session))
            # The daemon's clock is that of the last tick.
            wait_until(lambda: time.time() > until + 0.1, 'the end of the list')
            for context, session in sessions:
                with self.assertRaises((ssl.SSLError, ConnectionResetError, EOFError, BrokenPipeError)):
                    self.resume(daemon, context, session)

    def test_one_who_is_trusted_still_has_a_full_handshake_after_a_change(self):
        with TlsDaemon(authority, **self.trust) as daemon:
            context = authority.client('client')
            session = self.resume(daemon, context, None)[1]
            self.set_trust(crl='crl')
            self.reload(daemon)
            self.assertEqual(self.resume(daemon, context, session)[::2], (False, 'cert:uri:spiffe://knitting/client'))

    def test_daemons_with_the_same_keys_take_each_others_tickets(self):
        keys = self.keys()
        with TlsDaemon(authority, **self.trust, tls_ticket_keys=keys) as one, \
                TlsDaemon(authority, **self.trust, tls_ticket_keys=keys) as two:
            context = authority.client('client')
            session = self.resume(one, context, None)[1]
            self.assertTrue(self.resume(two, context, session)[0])
        with TlsDaemon(authority, **self.trust) as other:
            self.assertFalse(self.resume(other, context, session)[0])

    def test_a_key_that_is_not_the_first_any_more_is_taken_and_then_forgotten(self):
        path = self.keys()
        with open(path, 'rb') as file:
            first = file.read()

        def write(*parts):
            with open(path, 'wb') as file:
                file.write(b''.join(parts))
        with TlsDaemon(authority, **self.trust, tls_ticket_keys=path) as daemon:
            context = authority.client('client')
            session = self.resume(daemon, context, None)[1]
            second = os.urandom(80)
            write(second, first)
            self.reload(daemon)
            resumed, later, _ = self.resume(daemon, context, session)
            self.assertTrue(resumed)
            write(second)
            self.reload(daemon)
            self.assertFalse(self.resume(daemon, context, session)[0])
            self.assertTrue(self.resume(daemon, context, later)[0])

    def test_a_bad_file_of_keys_is_refused(self):
        for content, mode, words in [(b'x' * 79, 0o600, 'expected 80, 160 or 240 random bytes in '), (b'', 0o600, 'expected 80'),
                                     (b'x' * 320, 0o600, 'expected 80'), (b'x' * 80, 0o604, 'only its owner and group may read')]:
            path = authority.path('tickets_bad')
            with open(path, 'wb') as file:
                file.write(content)
            os.chmod(path, mode)
            done = subprocess.run(
                [os.environ['KNIT_DAEMON'], '--check-config', '--config', '/dev/null', '--listen-tls', '127.0.0.1:0',
                 '--tls-certificate', authority.path('server.pem'), '--tls-key', authority.path('server.key'),
                 '--tls-ticket-keys', path], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2)
            self.assertIn('server.tls_ticket_keys: ', done.stderr)
            self.assertIn(words, done.stderr)


class Reload(Case):
    def setUp(self):
        self.show('server')
        self.daemon = TlsDaemon(authority, certificate=None, tls_certificate=authority.path('now.pem'),
                                tls_key=authority.path('now.key'))

    @staticmethod
    def show(name):
        """In the place that the settings name, each file at once."""
        for kind in 'pem', 'key':
            shutil.copy(authority.path(f'{name}.{kind}'), authority.path('next'))
            os.rename(authority.path('next'), authority.path(f'now.{kind}'))

    def reload(self, daemon, words):
        before = daemon.log().count(words)
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: daemon.log().count(words) > before, words)

    def test_a_new_certificate_is_shown_and_connections_stay(self):
        with self.daemon as daemon:
            with daemon.tls() as rpc:
                self.assertEqual(rpc.sock.getpeercert()['subject'], ((('commonName', 'server'),),))
                self.show('server_rsa')
                self.reload(daemon, 'msg=reloaded')
                self.assertEqual(rpc.call('echo', 1), 1)
                with daemon.tls() as other:
                    self.assertEqual(other.sock.getpeercert()['subject'], ((('commonName', 'server_rsa'),),))
                self.assertEqual(rpc.call('echo', b'x' * 100000), b'x' * 100000)

    def test_a_bad_one_changes_nothing(self):
        with self.daemon as daemon:
            shutil.copy(authority.path('other.key'), authority.path('now.key'))
            self.reload(daemon, 'msg="not reloaded: nothing has changed" reason="server.tls_key: expected')
            with daemon.tls() as rpc:
                self.assertEqual(rpc.call('echo', 1), 1)

    def test_what_expires_soon_is_said_at_the_start_and_after_a_reload(self):
        """Of each file that names one, with the days that are left; and what has expired."""
        self.assertNotIn('expire', self.daemon.log())
        words = ('level=warning msg="a certificate, or a list of revoked ones, expires soon" '
                 f'file={authority.path("now.pem")} days_left=4')
        with self.daemon as daemon:
            self.show('server_soon')
            self.reload(daemon, words)
            self.show('server_expired')
            self.reload(daemon, f'level=error msg="a certificate, or a list of revoked ones, has expired" file={authority.path("now.pem")}')
        self.show('server_soon')
        with TlsDaemon(authority, certificate='server_soon', tls_client='optional', tls_client_ca=authority.path('ca.pem'),
                       tls_crl=authority.path('crl_old.pem')) as daemon:
            self.assertIn(f'expires soon" file={authority.path("server_soon.pem")} days_left=4', daemon.log())
            self.assertIn(f'has expired" file={authority.path("crl_old.pem")}', daemon.log())
            self.assertEqual(daemon.log().count('expire'), 2)

    def test_who_asks_for_a_reload_hears_it(self):
        with self.daemon as daemon:
            url = next(url for url in daemon.urls if url.startswith('unix://'))
            for name, words in (('server', ''), ('server_expired', 'a certificate, or a list of revoked ones, has expired: {}'),
                                ('server_later', 'a certificate, or a list of revoked ones, is not valid yet: {}'),
                                ('server_soon', 'a certificate, or a list of revoked ones, expires soon: {}'),
                                ('server_self', "the certificate that is shown is an authority's, which some clients refuse: {}")):
                words = words.format(authority.path('now.pem'))
                with self.subTest(name):
                    self.show(name)
                    done = subprocess.run([KNIT, '-u', url, 'reload'], capture_output=True, text=True, timeout=PATIENCE)
                    self.assertEqual((done.returncode, done.stdout, done.stderr), (0, '', words and f'knit: {words}\n'))
            done = subprocess.run([KNIT, '-u', url, '--json', 'reload'], capture_output=True, text=True, timeout=PATIENCE)
            self.assertEqual(json.loads(done.stderr), {'note': words})

    def test_what_is_not_valid_yet_or_an_authority_s_is_said_too(self):
        with self.daemon as daemon:
            self.show('server_later')
            self.reload(daemon, 'level=error msg="a certificate, or a list of revoked ones, is not valid yet" '
                                f'file={authority.path("now.pem")} valid_in_s=')
            self.show('server_self')
            self.reload(daemon, 'level=warning msg="the certificate that is shown is an authority\'s, which some clients refuse" '
                                f'file={authority.path("now.pem")}')

    def test_one_for_another_purpose_changes_nothing(self):
        with self.daemon as daemon:
            self.show('client')
            self.reload(daemon, 'msg="not reloaded: nothing has changed" reason="server.tls_certificate: expected one for servers')
            with daemon.tls() as rpc:
                self.assertEqual(rpc.call('echo', 1), 1)

    def test_handshakes_while_it_changes_succeed(self):
        with self.daemon as daemon:
            context = authority.client()

            def change(rounds):
                for number in range(6 * rounds):
                    if number % 6 == 0:
                        self.show(('server', 'server_rsa')[number // 6 % 2])
                        daemon.send_signal(signal.SIGHUP)
                    with daemon.tls(context) as rpc:
                        self.assertEqual(rpc.call('echo', number), number)
            change(10)
            before = daemon.memory_kb()
            change(300 if 'KNIT_TEST_LONG' in os.environ else 20)
            self.assertEqual(daemon.stats()['loops']['handshakes_failed'], 0)
            self.assertLess(daemon.memory_kb() - before, 1024)


class Settings(unittest.TestCase):
    def refusal(self, **options):
        daemon = TlsDaemon(authority, wait=False, **options)
        daemon.expected_status = 2
        with daemon:
            daemon.wait()
            return daemon.log()

    def test_settings_that_do_not_fit_are_refused(self):
        pair = authority.pair
        encrypted = authority.path('encrypted.key')
        fifo = authority.path('fifo')
        os.mkfifo(fifo)
        subprocess.run(['openssl', 'pkey', '-in', authority.path('server.key'), '-aes256', '-passout', 'pass:x', '-out', encrypted],
                       check=True)
        for options, words in [
                ({'certificate': None}, 'server.listen_tls: expected tls_certificate and tls_key beside it'),
                ({'tls_key': authority.path('other.key')}, 'server.tls_key: expected the private key of .*: key values mismatch'),
                ({'tls_key': authority.path('server_rsa.key')}, 'server.tls_key: expected the private key of '),
                ({'tls_key': '/nowhere/at/all'}, 'server.tls_key: .*: No such file'),
                ({'tls_key': encrypted}, 'server.tls_key: .*/encrypted.key is encrypted: expected the private key of .* without a password'),
                ({'tls_key': fifo}, 'server.tls_key: .*/fifo is no regular file'),
                ({'tls_certificate': fifo}, 'server.tls_certificate: .*/fifo is no regular file'),
                ({'tls_client': 'optional', 'tls_client_ca': fifo}, 'server.tls_client_ca: .*/fifo is no regular file'),
                ({'tls_client': 'optional', 'tls_client_ca': authority.path('ca.pem'), 'tls_crl': fifo},
                 'server.tls_crl: .*/fifo is no regular file'),
                ({'tls_certificate': authority.path('server.key')}, 'server.tls_certificate: expected a certificate in PEM.*: there is none'),
                ({'tls_key': authority.path('ca.pem')}, 'server.tls_key: expected the private key of .*/ca.pem: there is none'),
                ({'listen_tls': 'none'}, 'server.tls_certificate: means nothing without listen_tls'),
                ({'listen_tls': '127.0.0.1:no'}, "server.listen_tls: expected ADDRESS:PORT or .*, not '127.0.0.1:no'"),
                ({'tls_client': 'required'}, 'server.tls_client: expected tls_client_ca beside it'),
                ({'tls_client_ca': authority.path('ca.pem')}, 'server.tls_client_ca: means nothing with tls_client none'),
                ({'tls_crl': authority.path('crl.pem')}, 'server.tls_crl: means nothing without tls_client_ca'),
                ({'tls_client': 'optional', 'tls_client_ca': authority.path('crl.pem')},
                 'server.tls_client_ca: expected certificates of authorities, in PEM, in '),
                ({'tls_client': 'optional', 'tls_client_ca': authority.path('client.pem')},
                 'server.tls_client_ca: expected certificates of authorities, .*client.pem: number 1 there is none'),
                (pair('client'), 'server.tls_certificate: expected one for servers .*client.pem'),
                (pair('ca'), 'server.tls_certificate: expected one for servers .*ca.pem'),
                ({'tls_client': 'optional', 'tls_client_ca': '/nowhere'}, 'server.tls_client_ca: .*: No such file'),
                ({'tls_client': 'optional', 'tls_client_ca': authority.path('ca.pem'), 'tls_crl': authority.path('ca.pem')},
                 'server.tls_crl: expected lists of revoked certificates, in PEM, in '),
                ({'tls_client': 'optional', 'tls_client_ca': authority.path('ca.pem'), 'listen_tls': '0.0.0.0:0'},
                 'server.listen_tls: other machines can reach 0.0.0.0:0 and there is no'),
                ({'tls_certificate': f"{authority.path('server.pem')},{authority.path('other.pem')}"},
                 'server.tls_key: expected as many as tls_certificate, one for each in the same order, 2 and not 1'),
                ({'listen_tls': '0.0.0.0:0'}, 'server.listen_tls: other machines can reach 0.0.0.0:0 and there is no'),
        ]:
            with self.subTest(words):
                self.assertRegex(self.refusal(**options), words)

    def test_the_check_of_settings_says_the_same(self):
        done = subprocess.run(
            [os.environ['KNIT_DAEMON'], '--check-config', '--config', '/dev/null', '--listen-tls', '127.0.0.1:0'],
            capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn('server.listen_tls: expected tls_certificate', done.stderr)

    def test_the_check_says_what_time_says_of_certificates(self):
        """The start would go on, since local callers need no certificate, so the check does not fail."""
        for name, words in (('server', None), ('server_expired', 'level=error msg="a certificate, .* has expired" file={}'),
                            ('server_later', 'level=error msg="a certificate, .* is not valid yet" file={} valid_in_s='),
                            ('server_soon', 'level=warning msg="a certificate, .* expires soon" file={} days_left=4'),
                            ('server_self', "level=warning msg=\"the certificate that is shown is an authority's, .*\" file={}")):
            with self.subTest(name), TlsDaemon(authority, '--check-config', certificate=name, wait=False) as daemon:
                daemon.wait()
                lines = daemon.log().splitlines()
                self.assertEqual(len(lines), words is not None, lines)
                if words is not None:
                    self.assertRegex(lines[0], words.format(authority.path(f'{name}.pem')))


if __name__ == '__main__':
    main()
