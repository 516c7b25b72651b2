# SPDX-License-Identifier: Apache-2.0
"""What scanners of TLS find: sslscan and testssl.sh, Debian's packages of these names. Without them nothing is looked at, and
the test says so. testssl.sh takes minutes, and is run in the long form alone."""

import json
import os
import re
import shutil
import subprocess
import sys

from knit_harness import Case, main
from knit_tls import Authority, TlsDaemon

SCAN, TEST = shutil.which('sslscan'), shutil.which('testssl') or shutil.which('testssl.sh')
LONG = 'KNIT_TEST_LONG' in os.environ

# Of any name that DNS knows nothing of.
NOT_OURS = {'DNS_CAArecord'}


class Scanners(Case):
    @classmethod
    def setUpClass(cls):
        cls.authority = Authority()
        names = 'server', 'server_rsa'
        cls.daemon = TlsDaemon(cls.authority, certificate=None,
                               tls_certificate=','.join(cls.authority.path(f'{name}.pem') for name in names),
                               tls_key=','.join(cls.authority.path(f'{name}.key') for name in names))

    @classmethod
    def tearDownClass(cls):
        with cls.daemon:
            cls.authority.close()

    def test_sslscan_sees_what_is_meant_to_be_there(self):
        if SCAN is None:
            self.skipTest('there is no sslscan')
        done = subprocess.run([SCAN, '--no-colour', f'127.0.0.1:{self.daemon.port}'], capture_output=True, text=True, timeout=120)
        for version in 'SSLv2', 'SSLv3', 'TLSv1.0', 'TLSv1.1':
            self.assertRegex(done.stdout, rf'{re.escape(version)} +disabled')
        self.assertRegex(done.stdout, 'renegotiation not supported')
        ciphers = re.findall(r'^(?:Preferred|Accepted) +(\S+) +\d+ bits +(\S+)', done.stdout, re.M)
        self.assertEqual({version for version, _ in ciphers}, {'TLSv1.2', 'TLSv1.3'})
        for _, cipher in ciphers:
            self.assertRegex(cipher, '^(TLS_|ECDHE-).*(GCM|POLY1305)')

    def test_testssl_finds_nothing_of_medium_severity_or_above(self):
        if TEST is None or not LONG:
            self.skipTest('there is no testssl' if TEST is None else 'KNIT_TEST_LONG is not set')
        found = os.path.join(self.daemon.dir, 'found.json')
        subprocess.run([TEST, '--quiet', '--color', '0', '--warnings', 'off', '--add-ca', self.authority.path('ca.pem'),
                        '--jsonfile', found, f'localhost:{self.daemon.port}'], capture_output=True, timeout=1500)
        with open(found) as file:
            findings = json.load(file)
        self.assertGreater(len(findings), 80)
        for finding in findings:
            if finding['severity'] == 'WARN':  # what it could not find out
                print('testssl:', finding['id'], finding['finding'])
        self.assertEqual([finding for finding in findings if finding['severity'] in ('LOW', 'MEDIUM', 'HIGH', 'CRITICAL') and
                          finding['id'].split()[0] not in NOT_OURS], [])


if __name__ == '__main__':
    if SCAN is None and (TEST is None or not LONG):
        print('skipped: there is neither sslscan nor, in the long form, testssl')
        sys.exit(77)
    main()
