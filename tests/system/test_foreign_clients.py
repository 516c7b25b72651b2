# SPDX-License-Identifier: Apache-2.0
"""Programs that know MessagePack-RPC and nothing of Knitting: Neovim, pynvim's session, msgpack of Python, with TLS too,
and of Ruby. tests/run.sh installs what they need."""

import json
import os
import subprocess
import sys
import unittest

import pynvim.msgpack_rpc as pynvim_rpc

from knit_foreign import ANSWERS, run_foreign
from knit_harness import PATIENCE, DaemonCase, main
from knit_tls import Authority, TlsDaemon

NEOVIM, RUBY = 'nvim', 'ruby'

# Writes what it got as JSON, one value a line.
SCRIPT = '''
let channel = sockconnect($MODE, $ADDRESS, {'rpc': v:true})
let lines = [json_encode(rpcrequest(channel, 'add', 2, 40)), json_encode(rpcrequest(channel, 'echo', {'a': [1, 'b']}))]
try
  call rpcrequest(channel, 'fail', 7, 'out of wool')
catch
  call add(lines, json_encode(v:exception))
endtry
call rpcnotify(channel, 'add', 1, 1)
call add(lines, json_encode(rpcrequest(channel, '$/ping', 'still there')))
call writefile(lines, $OUTPUT)
qall!
'''


class Foreign(DaemonCase):
    def test_ruby(self):
        self.assertEqual(run_foreign(RUBY, 'caller.rb', 'tcp', '127.0.0.1', self.daemon.port), ANSWERS)
        self.assertEqual(run_foreign(RUBY, 'caller.rb', 'unix', self.daemon.socket), ANSWERS)

    def test_neovim(self):
        script = self.daemon.write('script.vim', SCRIPT)
        output = os.path.join(self.daemon.dir, 'output')
        for mode, address in (('tcp', f'127.0.0.1:{self.daemon.port}'), ('pipe', self.daemon.socket)):
            with self.subTest(mode):
                done = subprocess.run([NEOVIM, '--clean', '--headless', '-S', script], stdin=subprocess.DEVNULL,
                                      capture_output=True, text=True, timeout=3 * PATIENCE,
                                      env={**os.environ, 'MODE': mode, 'ADDRESS': address, 'OUTPUT': output})
                self.assertEqual(done.returncode, 0, done.stderr)
                with open(output) as file:
                    total, echoed, failure, pong = map(json.loads, file)
                self.assertEqual((total, echoed, pong), (42, {'a': [1, 'b']}, 'still there'))
                print(failure)
                self.assertIn('600 TASK_FAILED: out of wool', failure)
                os.unlink(output)

    def test_pynvim(self):
        sessions = {'tcp': lambda: pynvim_rpc.tcp_session('127.0.0.1', self.daemon.port),
                    'unix': lambda: pynvim_rpc.socket_session(self.daemon.socket)}
        for name, connect in sessions.items():
            with self.subTest(name):
                session = connect()
                session.error_wrapper = lambda error: RuntimeError(error)
                self.assertEqual(session.request('add', 2, 40), 42)
                self.assertEqual(session.request('echo', {'a': [1, None]}), {'a': [1, None]})
                with self.assertRaisesRegex(RuntimeError, '600 TASK_FAILED: out of wool'):
                    session.request('fail', 7, 'out of wool')
                self.assertEqual(session.request('$/ping', 'still there'), 'still there')
                session.close()

    def test_the_example_caller(self):
        for url in (u for u in self.daemon.urls if not u.startswith('shm:')):
            with self.subTest(url):
                done = subprocess.run([sys.executable, os.environ['KNIT_EXAMPLE_CALLER'], url],
                                      capture_output=True, text=True, timeout=PATIENCE)
                self.assertEqual((done.returncode, done.stderr), (0, ''))
                self.assertIn('add = 5', done.stdout)
                self.assertIn('fail failed: 600 TASK_FAILED', done.stdout)


class ForeignTls(unittest.TestCase):
    """Those whose languages bring TLS along."""

    def test_ruby_and_python(self):
        authority = Authority()
        self.addCleanup(authority.close)
        with TlsDaemon(authority) as daemon:
            port = int(next(u for u in daemon.urls if u.startswith('knits://')).rsplit(':', 1)[1])
            self.assertEqual(run_foreign(RUBY, 'caller.rb', 'tls', 'localhost', port, authority.path('ca.pem')), ANSWERS)
            with daemon.tls(authority.client()) as rpc:
                self.assertEqual(rpc.call('add', 2, 40), 42)

    def test_the_example_caller(self):
        authority = Authority()
        self.addCleanup(authority.close)
        with TlsDaemon(authority) as daemon:
            def run(**environment):
                return subprocess.run([sys.executable, os.environ['KNIT_EXAMPLE_CALLER'], f'knits://localhost:{daemon.port}'],
                                      capture_output=True, text=True, timeout=PATIENCE, env={**os.environ, **environment})
            done = run(SSL_CERT_FILE=authority.path('ca.pem'))
            self.assertEqual((done.returncode, done.stderr), (0, ''))
            self.assertIn('add = 5', done.stdout)
            self.assertIn('fail failed: 600 TASK_FAILED', done.stdout)
            done = run()
            self.assertEqual((done.returncode, done.stdout), (1, ''))
            self.assertIn('certificate verify failed', done.stderr)


if __name__ == '__main__':
    main()
