# SPDX-License-Identifier: Apache-2.0
"""Programs that know MessagePack-RPC and nothing of Knitting: Neovim, pynvim's session, the Python of the examples."""

import json
import os
import shutil
import subprocess
import sys
import unittest

from knit_harness import PATIENCE, DaemonCase, main

try:
    import pynvim.msgpack_rpc as pynvim_rpc
except ImportError:
    pynvim_rpc = None

NEOVIM = shutil.which('nvim')

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
    @unittest.skipUnless(NEOVIM, 'Neovim is not installed')
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

    @unittest.skipUnless(pynvim_rpc, 'pynvim is not installed')
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


if __name__ == '__main__':
    if not NEOVIM and not pynvim_rpc:
        print('neither Neovim nor pynvim is installed')
        sys.exit(77)
    main()
