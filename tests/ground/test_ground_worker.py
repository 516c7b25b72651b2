# SPDX-License-Identifier: Apache-2.0
"""Workers on a machine that fails once: while the first ones start, and while they serve a session over each transport,
take sessions over and let them go, die and are replaced. One counter serves all workers, so one of them fails.
"""

import os
import shlex
import shutil
import tempfile
from unittest import mock

from knit_ground import Failing, Scenes
from knit_harness import main


class Worker(Scenes):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='knit-ground-')
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def fresh(self, book):
        """The pool gives a worker an environment of its own, so a script stands before it."""
        path = os.path.join(self.dir, 'worker')
        words = [f'{name}={shlex.quote(value)}' for name, value in book.environment('knitting-worker').items()]
        with open(path, 'w') as file:
            file.write(f'#!/bin/sh\n{" ".join(words)} exec {shlex.quote(os.environ["KNIT_WORKER"])} "$@"\n')
        os.chmod(path, 0o755)
        with mock.patch.dict(os.environ, KNIT_WORKER=path):
            return Failing(book)

    def test_a_start_is_refused_with_a_sentence_or_succeeds(self):
        self.starts_are_refused_with_a_sentence_or_succeed('workers, starting', seconds=8)

    def test_serving_goes_on(self):
        self.serving_goes_on('workers, serving', seconds=12)


if 'KNIT_GROUND_SESSION' in os.environ:
    main()
