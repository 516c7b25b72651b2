# SPDX-License-Identifier: Apache-2.0
"""A program with one session of the library for several daemons, under load: spreads.c."""

import os
import subprocess

from knit_harness import PATIENCE, wait_until

SPREADS = os.environ['KNIT_SPREADS']
NEVER = 3600000


class Caller:
    """A program with one session, which calls all the time until it is told to end."""

    def __init__(self, daemons, depth, nap_ms, timeout_ms=NEVER, addresses='', environment=None, scheme='knit',
                 name='pool.example'):
        """By a URL that lists the daemons, or by a name, whose addresses stand in that file."""
        places = [f'{name}:{daemons[0].port}'] if addresses else [f'127.0.0.1:{daemon.port}' for daemon in daemons]
        self.process = subprocess.Popen([SPREADS, f'{scheme}://' + ','.join(places), str(depth), str(nap_ms), str(timeout_ms)],
                                        env={**os.environ, 'KNIT_ADDRESSES': addresses, **(environment or {})}, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def read(self):
        words = self.process.stdout.readline().rstrip('\n').split(' ', 3)
        assert len(words) == 4 and words[0].isdigit(), words
        self.ok, self.unstarted, self.failed, self.last = *map(int, words[:3]), words[3]
        return self

    def ask(self):
        self.process.stdin.write('\n')
        return self.read()

    def goes_on(self, calls=100):
        """That many calls more end well."""
        end = self.ask().ok + calls
        wait_until(lambda: self.ask().ok >= end, f'{calls} calls', 6 * PATIENCE)

    def end(self):
        self.process.stdin.write('end\n')
        self.read()
        self.process.wait(PATIENCE)
        return self


def served(daemon):
    return daemon.stats()['loops']['calls_answered']
