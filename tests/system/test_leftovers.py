# SPDX-License-Identifier: Apache-2.0
"""What a task cannot change for the calls after it, nor the worker for the task: module_leftovers.c tries."""

import os
import subprocess
import unittest

from knit_harness import Case, Daemon, main

LEFTOVERS = os.environ['KNIT_LEFTOVERS']
SANITIZED = 'KNIT_SANITIZED' in os.environ
SHARED_LIBRARIES = 'KNIT_WORKER_SHARES_LIBRARIES' in os.environ


def lines_of(*command):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout.splitlines()


@unittest.skipIf(SHARED_LIBRARIES, 'msgpack-c or libseccomp has no archive here: the worker is linked with the shared ones')
class OwnLibraries(Case):
    def test_a_module_with_a_librarys_names_calls_its_own_functions(self):
        with Daemon(module=LEFTOVERS) as daemon, daemon.tcp() as rpc:
            self.assertIs(rpc.call('owns'), True)

    @unittest.skipIf(SANITIZED, 'a sanitizer brings its own names')
    def test_the_worker_offers_no_names_but_the_c_librarys(self):
        needed = [line.split('[')[1].rstrip(']') for line in lines_of('readelf', '-Wd', os.environ['KNIT_WORKER'])
                  if '(NEEDED)' in line]
        self.assertEqual([name for name in needed if not name.startswith(('libc.', 'libm.', 'ld-'))], [])
        defined = [line.split()[-1] for line in lines_of('nm', '-D', '--defined-only', os.environ['KNIT_WORKER'])]
        self.assertEqual([name for name in defined if '@GLIBC' not in name], [])


main()
