# SPDX-License-Identifier: Apache-2.0
"""Caller and daemon in different time namespaces, as when a container was restored on another machine: their monotonic clocks
differ, and a deadline over shared memory is as far away for the task as its caller has said."""

import json
import os
import subprocess
import time
import unittest.mock

from knit_harness import PATIENCE, Case, main
from knit_witness import LedgerDaemon

GIVEN_MS = 60000
# Behind by half of what the clock shows, since it cannot show less than nothing; ahead by a day.
SHIFTS_S = -int(time.monotonic() / 2), 86400


def inside(shift_s):
    return ['unshare', '--time', f'--monotonic={shift_s}']


class TimeNamespaces(Case):
    def setUp(self):
        tried = subprocess.run([*inside(SHIFTS_S[1]), 'true'], capture_output=True, text=True, timeout=3 * PATIENCE)
        if tried.returncode != 0:
            self.skipTest(f'no time namespace can be made here: {tried.stderr.strip()}')

    def time_left_ms(self, daemon, scheme, prefix=()):
        done = subprocess.run([*prefix, os.environ['KNIT_TOOL'], '-u', daemon.url(scheme), '-t', str(GIVEN_MS), 'call', 'time_left'],
                              capture_output=True, text=True, timeout=3 * PATIENCE)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout) / 1e6

    def check(self, daemon, prefix=()):
        for scheme in 'shm', 'unix':
            left_ms = self.time_left_ms(daemon, scheme, prefix)
            print(f'{scheme}: {left_ms:.1f} of {GIVEN_MS} ms left to the task')
            self.assertGreater(left_ms, GIVEN_MS / 2)
            self.assertLessEqual(left_ms, GIVEN_MS + 1)

    def test_a_caller_elsewhere(self):
        with LedgerDaemon() as daemon:
            self.check(daemon)
            for shift_s in SHIFTS_S:
                with self.subTest(shift_s):
                    self.check(daemon, inside(shift_s))

    def test_a_daemon_elsewhere(self):
        popen = subprocess.Popen
        for shift_s in SHIFTS_S:
            def elsewhere(command, **options):
                return popen([*inside(shift_s), *command], **options)
            with self.subTest(shift_s), unittest.mock.patch.object(subprocess, 'Popen', elsewhere):
                daemon = LedgerDaemon()
            with daemon:
                self.check(daemon)


if __name__ == '__main__':
    main()
