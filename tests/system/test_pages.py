# SPDX-License-Identifier: Apache-2.0
"""The pages of deploy/doc that work with containers, followed to the letter: each file is written, each command run in its order, and
each prints what is shown behind it. See knit_podman.py for where this is skipped."""

import os
import shutil
import subprocess
import sys
import unittest

import knit_examples
import knit_podman
from knit_harness import main
from knit_podman import LONG

SOURCE = os.environ['KNIT_SOURCE']

# Where a machine has no curl.
CURL = '''#!{python}
import sys, urllib.request
sys.stdout.write(urllib.request.urlopen(sys.argv[-1], timeout=60).read().decode())
'''


def without_noise(text):
    """podman says it where no systemd runs, which does no harm."""
    return ''.join(line for line in text.splitlines(keepends=True) if 'systemd connection' not in line)


class Pages(unittest.TestCase):
    def test_podman(self):
        podman = knit_podman.Podman()
        self.addCleanup(podman.close)
        podman.start_or_skip()
        folder, programs = f'{podman.dir}/page', f'{podman.dir}/bin'
        os.mkdir(folder)
        os.mkdir(programs)
        os.symlink(SOURCE, f'{folder}/knitting')
        if shutil.which('curl') is None:
            with open(f'{programs}/curl', 'w') as file:
                file.write(CURL.format(python=sys.executable))
            os.chmod(f'{programs}/curl', 0o755)
        environ = {**podman.environ, 'PATH': f'{programs}:{os.environ["PATH"]}', 'BUILDAH_ISOLATION': 'chroot'}
        steps = knit_examples.steps(knit_examples.text_of(SOURCE, 'deploy/doc/PODMAN.md'))
        self.assertGreater(len(steps), 10)
        for step in steps:
            if step.name:
                with open(f'{folder}/{step.name}', 'w') as file:
                    file.write(step.text)
                continue
            done = subprocess.run(['bash', '-o', 'pipefail', '-c', step.text], cwd=folder, env=environ, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=8 * LONG)
            self.assertEqual((without_noise(done.stdout), done.returncode), (step.output, 0), f'{step.line}: {step.text}')


if __name__ == '__main__':
    knit_podman.alone()
    main()
