# SPDX-License-Identifier: Apache-2.0
"""Programs that know MessagePack and TLS and nothing of Knitting, over knits://: the Python of the examples, and Ruby."""

import json
import os
import shutil
import subprocess
import sys
import unittest

from knit_harness import PATIENCE, main
from knit_tls import Authority, TlsDaemon

RUBY = shutil.which('ruby')
HAS_RUBY = RUBY is not None and subprocess.run([RUBY, '-rmsgpack', '-ropenssl', '-e', ''], stderr=subprocess.DEVNULL).returncode == 0

# Makes its calls all at once, then prints the outcomes by their numbers, one JSON a line.
SCRIPT = '''
require 'json'
require 'msgpack'
require 'openssl'
require 'socket'

port, authority = ARGV
context = OpenSSL::SSL::SSLContext.new
context.set_params(ca_file: authority, alpn_protocols: ['knit/1'])
stream = OpenSSL::SSL::SSLSocket.new(TCPSocket.new('127.0.0.1', port.to_i), context)
stream.sync_close = true
stream.hostname = 'localhost'
stream.connect
stream.post_connection_check('localhost')
abort("agreed on #{stream.alpn_protocol}") unless stream.alpn_protocol == 'knit/1'

requests = [['add', 2, 40], ['echo', {'a' => [1, nil, 'b' * 100_000]}], ['fail', 7, 'out of wool'], ['$/ping', 'still there']]
stream.write(requests.each_with_index.map { |(method, *params), msgid| [0, msgid, method, params].to_msgpack }.join)
answers = {}
unpacker = MessagePack::Unpacker.new
while answers.size < requests.size
  unpacker.feed_each(stream.readpartial(65_536)) { |_, msgid, error, result| answers[msgid] = [error, result] }
end
answers.sort.each { |_, outcome| puts JSON.generate(outcome) }
stream.close
'''


def setUpModule():
    global authority
    authority = Authority()


def tearDownModule():
    authority.close()


class Foreign(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = TlsDaemon(authority)

    @classmethod
    def tearDownClass(cls):
        with cls.daemon:
            pass

    def test_the_example_caller(self):
        def run(host, **environment):
            return subprocess.run([sys.executable, os.environ['KNIT_EXAMPLE_CALLER'], f'knits://{host}:{self.daemon.port}'],
                                  capture_output=True, text=True, timeout=PATIENCE, env={**os.environ, **environment})
        for host in 'localhost', '127.0.0.1':
            with self.subTest(host):
                done = run(host, SSL_CERT_FILE=authority.path('ca.pem'))
                self.assertEqual((done.returncode, done.stderr), (0, ''))
                self.assertIn('add = 5', done.stdout)
                self.assertIn('fail failed: 600 TASK_FAILED', done.stdout)
        done = run('localhost')
        self.assertEqual((done.returncode, done.stdout), (1, ''))
        self.assertIn('certificate verify failed', done.stderr)

    @unittest.skipUnless(HAS_RUBY, 'Ruby with its msgpack is not installed')
    def test_ruby(self):
        done = subprocess.run([RUBY, self.daemon.write('caller.rb', SCRIPT), str(self.daemon.port), authority.path('ca.pem')],
                              capture_output=True, text=True, timeout=3 * PATIENCE)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        total, echoed, failure, pong = map(json.loads, done.stdout.splitlines())
        self.assertEqual((total, pong), ([None, 42], [None, 'still there']))
        self.assertEqual(echoed, [None, {'a': [1, None, 'b' * 100000]}])
        self.assertIn('600 TASK_FAILED: out of wool', failure[0])


if __name__ == '__main__':
    main()
