# SPDX-License-Identifier: Apache-2.0
"""Workers on a machine that fails once: while the first ones start, and while they serve a session over each transport,
attach and detach sessions, die and are replaced. One counter serves all workers, so one of them fails.
"""

import os
import shutil
import tempfile

from knit_ground import Failing, Scenes
from knit_harness import main, worker_with


class Worker(Scenes):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='knit-ground-')
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def fresh(self, book):
        return Failing(book, worker=worker_with(self.dir, book.environment('knitting-worker')))

    def test_a_start_is_refused_with_a_sentence_or_succeeds(self):
        self.starts_are_refused_with_a_sentence_or_succeed('workers, starting', seconds=8)

    def test_serving_goes_on(self):
        self.serving_goes_on('workers, serving', seconds=12)


if 'KNIT_GROUND_SESSION' in os.environ:
    main()
