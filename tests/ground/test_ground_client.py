# SPDX-License-Identifier: Apache-2.0
"""The client library on a machine that fails once, at each place of a whole session, over each transport."""

import os
import subprocess

from knit_ground import KINDS, Findings, Points, run_session
from knit_harness import Case, Daemon, main


class Client(Case):
    def test_one_failure_costs_a_session_at_most_a_few_steps(self):
        for scheme in 0, 1, 2:
            with Daemon() as daemon, Findings(self, f'client, {daemon.urls[scheme].split(":")[0]}') as findings:
                self.run_all(findings, daemon.urls[scheme])

    def run_all(self, findings, url):
        book = findings.book
        book.record(KINDS)
        status, output = run_session(url, book=book)
        self.assertEqual(status, 0, output)
        for point in Points(book.points(), seconds=10):
            book.fail(KINDS, point)
            try:
                status, output = run_session(url, book=book)
            except subprocess.TimeoutExpired as stuck:
                status, output = 'a hang', (stuck.output or b'').decode(errors='replace')
            findings.note(point, status == 0, 'refused' in output, f'status {status}\n{output}')
        status, output = run_session(url, '--strict')
        self.assertEqual(status, 0, output)


if 'KNIT_GROUND_SESSION' in os.environ:
    main()
