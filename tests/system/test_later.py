# SPDX-License-Identifier: Apache-2.0
"""What callers get before the outcome of a call, by library and by hand."""

import os
import subprocess

from knit_harness import PATIENCE, Case, Daemon, main

PROGRESS = os.environ['KNIT_CLIENT_LATER'], os.environ['KNIT_LATER']
DEFERRED = os.environ['KNIT_CLIENT_DEFERRED'], os.environ['KNIT_DEFERRED']


class Later(Case):
    def run_cases(self, program, module, is_any_late=False, **options):
        for scheme in 0, 1, 2:
            with Daemon(module=module, **options) as daemon, self.subTest(daemon.urls[scheme]):
                result = subprocess.run([program, daemon.urls[scheme]], stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, timeout=12 * PATIENCE)
                self.assertEqual(result.returncode, 0, result.stdout)
                lanes = daemon.stats()['lanes']
                self.assertEqual(sum(lane['late'] for lane in lanes) > 0, is_any_late)

    def test_values_come_over_every_transport(self):
        self.run_cases(*PROGRESS)

    def test_outcomes_come_later_over_every_transport(self):
        self.run_cases(*DEFERRED, is_any_late=True, workers=1, abort_grace_ms=300)


if __name__ == '__main__':
    main()
