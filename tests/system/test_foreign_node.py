# SPDX-License-Identifier: Apache-2.0
"""npm's msgpack-rpc-lite, which no Debian package has: tests/run.sh fetches what foreign/package-lock.json names."""

import os
import sys

from knit_foreign import ANSWERS, run_foreign
from knit_harness import DaemonCase, main

PACKAGES = os.environ['KNIT_NPM']


class Node(DaemonCase):
    def test_it_calls(self):
        self.assertEqual(run_foreign('node', 'caller.js', '127.0.0.1', self.daemon.port, NODE_PATH=PACKAGES), ANSWERS)


if __name__ == '__main__':
    if not os.path.isdir(PACKAGES):
        print(f'{PACKAGES} is missing: tests/run.sh fetches it, unless it has --no-install')
        sys.exit(77)
    main()
