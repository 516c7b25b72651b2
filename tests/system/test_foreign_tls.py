# SPDX-License-Identifier: Apache-2.0
"""The example caller, which knows MessagePack and TLS and nothing of Knitting, over knits://. Ruby stands in
test_foreign_clients.py."""

import os
import subprocess
import sys
import unittest

from knit_harness import PATIENCE, main
from knit_tls import Authority, TlsDaemon


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


if __name__ == '__main__':
    main()
