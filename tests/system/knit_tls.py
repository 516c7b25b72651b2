# SPDX-License-Identifier: Apache-2.0
"""What tests of TLS share: an authority with certificates (tests/support/authority.sh), daemons that listen with TLS, and
connections to them by Python's own ssl."""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time

from knit_harness import PATIENCE, Daemon, Rpc

AUTHORITY = os.environ['KNIT_AUTHORITY']


class Authority:
    """A folder with certificates; authority.sh says which."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix='knit-tls-')
        subprocess.run([AUTHORITY, self.folder], check=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def pair(self, name):
        """The options of a daemon that shows this certificate."""
        return {'tls_certificate': self.path(f'{name}.pem'), 'tls_key': self.path(f'{name}.key')}

    def revoked_until(self, name, seconds):
        """A list of the authority's that is old at that time."""
        when = time.strftime('%Y%m%d%H%M%SZ', time.gmtime(seconds))
        subprocess.run(['openssl', 'ca', '-config', 'openssl.cnf', '-cert', 'ca.pem', '-keyfile', 'ca.key', '-gencrl', '-out',
                        f'{name}.pem', '-crl_nextupdate', when], cwd=self.folder, check=True, capture_output=True,
                       env=dict(os.environ, PURPOSE='clientAuth', NAMES='DNS:localhost'))

    def client(self, certificate=None, trusts='ca', alpn=('knit/1',), version=None):
        """A context of a client that verifies whom it calls."""
        context = ssl.create_default_context(cafile=self.path(f'{trusts}.pem'))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if certificate is not None:
            context.load_cert_chain(self.path(f'{certificate}.pem'), self.path(f'{certificate}.key'))
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def client_hello(authority):
    """The bytes that a client says before it is answered."""
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        authority.client().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname='localhost').do_handshake()
    return outgoing.read()


class TlsDaemon(Daemon):
    """Listens with TLS on a free port as well, with the certificate of that name."""

    def __init__(self, authority, *arguments, certificate='server', **options):
        self.authority = authority
        if certificate is not None:
            options = {**authority.pair(certificate), **options}
        super().__init__(*arguments, **{'listen': 'none', 'listen_tls': '127.0.0.1:0', **options})

    @property
    def port(self):
        return int(next(url for url in self.urls if url.startswith('knits://')).rsplit(':', 1)[1])

    def raw(self):
        """A connection that has sent nothing yet."""
        return socket.create_connection(('127.0.0.1', self.port), timeout=PATIENCE)

    def wrap(self, context=None, name='localhost', **options):
        """The socket of a connection whose handshake is over, for this side at least."""
        sock = self.raw()
        try:
            return (context or self.authority.client()).wrap_socket(sock, server_hostname=name, **options)
        except BaseException:
            sock.close()
            raise

    @contextlib.contextmanager
    def tls(self, context=None, **options):
        with self.wrap(context, **options) as sock:
            yield Rpc(sock)
