# SPDX-License-Identifier: Apache-2.0
"""The page that leads to containers, followed to the letter. test_pods.py follows the one for Kubernetes. See knit_podman.py for where this
is skipped."""

import unittest

import knit_podman
from knit_harness import main
from knit_pages import follow


class Pages(unittest.TestCase):
    def test_podman(self):
        podman = knit_podman.Podman()
        self.addCleanup(podman.close)
        podman.start_or_skip()
        follow(self, podman, 'deploy/doc/PODMAN.md')


if __name__ == '__main__':
    knit_podman.alone()
    main()
