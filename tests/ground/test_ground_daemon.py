# SPDX-License-Identifier: Apache-2.0
"""The daemon on a machine that fails once: while it starts, while it serves a session over each transport, shows its admin
face and loses a worker, and while it stops. What was not refused goes on, and for the next caller everything works.
"""

import os

from knit_ground import KINDS, WRONG, Failing, Findings, Points, Scenes, has_workers, run_session
from knit_harness import main, wait_until
from knit_witness import is_alive


class Server(Scenes):
    def fresh(self, book):
        return Failing(book, environment=book.environment('knittingd'), admin='127.0.0.1:0')

    def test_a_start_is_refused_with_a_sentence_or_succeeds(self):
        self.starts_are_refused_with_a_sentence_or_succeed('daemon, starting', seconds=8)

    def test_serving_goes_on(self):
        self.serving_goes_on('daemon, serving', seconds=12)

    def test_stopping_ends(self):
        with Findings(self, 'daemon, stopping') as findings:
            book = findings.book
            failing = self.begin(book)
            book.record(KINDS)
            failing.daemon.end()
            points = book.points()
            failing.end()
            usual = failing.reasons(failing.whole_log)
            for point in Points(points, seconds=8):
                failing, why = self.fresh(book), ''
                self.assertTrue(failing.has_started())
                run_session(failing.daemon.urls[2])
                wait_until(lambda: has_workers(failing.daemon), 'workers')
                workers = [lane['pid'] for lane in failing.daemon.stats()['lanes']]
                book.fail(KINDS, point)
                try:
                    status = failing.daemon.end()
                    why = f'ended with {status}' if status != 0 else ''
                    wait_until(lambda: not any(is_alive(pid) for pid in workers), 'workers to go')
                except WRONG as wrong:
                    why = repr(wrong)
                self.conclude(findings, failing, point, False, why, usual)


if 'KNIT_GROUND_SESSION' in os.environ:
    main()
