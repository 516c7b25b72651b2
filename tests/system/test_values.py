# SPDX-License-Identifier: Apache-2.0
"""Values that are built and read with <knitting/values.h>, on both sides, over every transport."""

import os
import subprocess

from knit_harness import PATIENCE, Case, Daemon, main

VALUES = os.environ['KNIT_CLIENT_VALUES']
MODULE = os.environ['KNIT_VALUES']


class Values(Case):
    def test_all_values_over_every_transport(self):
        with Daemon(module=MODULE) as daemon:
            self.assertEqual([url.split(':')[0] for url in daemon.urls], ['knit', 'unix', 'shm'])
            for url in daemon.urls:
                with self.subTest(url.split(':')[0]):
                    done = subprocess.run([VALUES, url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                          text=True, timeout=12 * PATIENCE)
                    self.assertEqual(done.returncode, 0, done.stdout)


main()
