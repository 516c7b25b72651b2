# SPDX-License-Identifier: Apache-2.0
"""What callers get before the outcome of a call, by library and by hand."""

import os
import subprocess

from knit_harness import PATIENCE, Case, Daemon, main

CALLS = os.environ['KNIT_CLIENT_LATER']
MODULE = os.environ['KNIT_LATER']


class Later(Case):
    def test_all_cases_over_every_transport(self):
        for scheme in 0, 1, 2:
            with Daemon(module=MODULE) as daemon, self.subTest(daemon.urls[scheme]):
                result = subprocess.run([CALLS, daemon.urls[scheme]], stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, timeout=12 * PATIENCE)
                self.assertEqual(result.returncode, 0, result.stdout)


if __name__ == '__main__':
    main()
