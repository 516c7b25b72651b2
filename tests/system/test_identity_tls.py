# SPDX-License-Identifier: Apache-2.0
"""Who calls through TLS: by a certificate, by a token, or nobody knows."""

import os
import socket
import ssl
import tempfile

from knit_harness import Case, main, wait_until
from knit_tls import Authority, TlsDaemon
from test_identity import BAD_ARGUMENT, DENIED, NIGHTLY, TOKENS, UNAUTHENTICATED, hello


def setUpModule():
    global authority
    authority = Authority()


def tearDownModule():
    authority.close()


class Identity(Case):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix='knit-')
        path = os.path.join(cls.folder.name, 'tokens')
        with open(path, 'w') as file:
            file.write(TOKENS)
        cls.daemon = TlsDaemon(authority, tokens=path, tls_client='optional', tls_client_ca=authority.path('ca.pem'))

    @classmethod
    def tearDownClass(cls):
        with cls.daemon:
            pass
        cls.folder.cleanup()

    def test_a_certificate_says_who_calls(self):
        for name, principal in (('client', 'cert:uri:spiffe://knitting/client'),
                                ('client_dns', 'cert:dns:client-dns.example')):
            for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
                context = authority.client(name, version=version)
                with self.subTest((name, version)), self.daemon.tls(context) as rpc:
                    self.assertEqual(rpc.call('add', 2, 3), 5)
                    self.assertEqual(hello(rpc)['principal'], principal)
                    error = self.assert_fails(DENIED, hello, rpc, NIGHTLY)
                    self.assertIn('certificate', error.text)
                    self.assertEqual(hello(rpc)['principal'], principal)

    def test_a_token_says_it_where_no_certificate_does(self):
        with self.daemon.tls() as rpc:
            self.assertEqual(hello(rpc)['principal'], 'anonymous')
            self.assert_fails(UNAUTHENTICATED, rpc.call, 'add', 2, 3)
            self.assertEqual(hello(rpc, NIGHTLY)['principal'], 'token:nightly')
            self.assertEqual(rpc.call('add', 2, 3), 5)

    def test_a_wrong_token_closes(self):
        with self.daemon.tls() as rpc:
            self.assert_fails(UNAUTHENTICATED, hello, rpc, 'wrong-0123456789abcdef')
            self.assertTrue(rpc.is_closed_by_peer())

    def test_what_a_stranger_may_send_is_bounded(self):
        before = self.daemon.stats()['loops']['strangers_dropped']
        with self.daemon.tls() as rpc:
            try:
                while True:
                    rpc.notify('$/ping', b'x' * 1000)
            except (OSError, ssl.SSLError):
                pass
        wait_until(lambda: self.daemon.stats()['loops']['strangers_dropped'] > before, 'the stranger to go')

    def test_authentication_lets_others_reach_it(self):
        """An address that other machines reach is listened on with TLS, where nobody may call who is not known."""
        with TlsDaemon(authority, listen_tls='0.0.0.0:0', require_authentication='on') as daemon:
            with socket.create_connection(('127.0.0.1', daemon.port)):
                pass
            self.assertIn('there is neither tokens nor tls_client" address=0.0.0.0:', daemon.log())
        with TlsDaemon(authority, require_authentication='on', tls_client='optional', tls_client_ca=authority.path('ca.pem')) as daemon:
            self.assertNotIn('nobody can say', daemon.log())
        with self.assertRaisesRegex(AssertionError, 'there is no authentication; expected listen_tls with tokens'):
            TlsDaemon(authority, listen_tls='0.0.0.0:0')

    def test_a_policy_lets_others_reach_it_as_long_as_it_gives_strangers_nothing(self):
        known = '[group known]\nmembers = token:* uid:*\nallow = * $/*\n'
        gives = r':4: gives anonymous something, and other machines can reach 0\.0\.0\.0'
        with tempfile.NamedTemporaryFile('w', prefix='knit-policy-') as policy:
            def write(text):
                policy.seek(0)
                policy.truncate()
                policy.write(text)
                policy.flush()
            write(known)
            with TlsDaemon(authority, listen_tls='0.0.0.0:0', policy=policy.name) as daemon, daemon.unix() as rpc:
                with socket.create_connection(('127.0.0.1', daemon.port)):
                    pass
                rpc.hello()
                write(known + '[principal anonymous]\nallow = add\n')
                self.assertRegex(self.assert_fails(BAD_ARGUMENT, rpc.call, '$/reload').text, gives)
                write(known + '# more\n')
                rpc.call('$/reload')
            write(known + '[group all]\nmembers = *\nallow = add\n')
            with self.assertRaisesRegex(AssertionError, gives):
                TlsDaemon(authority, listen_tls='0.0.0.0:0', policy=policy.name)
            with TlsDaemon(authority, listen_tls='0.0.0.0:0', policy=policy.name, require_authentication='on'):
                pass
            with self.assertRaisesRegex(AssertionError, 'there is no authentication'):
                TlsDaemon(authority, listen='0.0.0.0:0', policy=policy.name)


if __name__ == '__main__':
    main()
