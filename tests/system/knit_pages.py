# SPDX-License-Identifier: Apache-2.0
"""A page of deploy/doc that works with containers, followed to the letter: each file is written, each command run in its order, and each
prints what is shown behind it."""

import os
import shutil
import signal
import subprocess
import sys
import time

import knit_examples
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


def run(command, folder, environ, is_broken):
    """What it prints, and its status. It is ended when nothing can come of it any more."""
    with subprocess.Popen(['bash', '-o', 'pipefail', '-c', command], cwd=folder, env=environ, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True) as process:
        deadline = time.monotonic() + 8 * LONG
        while True:
            try:
                return process.communicate(timeout=1)[0], process.returncode
            except subprocess.TimeoutExpired:
                if is_broken() or time.monotonic() > deadline:
                    os.killpg(process.pid, signal.SIGKILL)


def follow(case, podman, page, programs=None, variables=None, is_broken=lambda: False):
    """`programs` are texts, by the names of the programs. Those that the page starts in the background end with the test's namespaces."""
    folder, path = f'{podman.dir}/page', f'{podman.dir}/bin'
    os.mkdir(folder)
    os.mkdir(path)
    os.symlink(SOURCE, f'{folder}/knitting')
    programs = {**({} if shutil.which('curl') else {'curl': CURL.format(python=sys.executable)}), **(programs or {})}
    for name, text in programs.items():
        with open(f'{path}/{name}', 'w') as file:
            file.write(text)
        os.chmod(f'{path}/{name}', 0o755)
    environ = {**podman.environ, **(variables or {}), 'PATH': f'{path}:{os.environ["PATH"]}', 'BUILDAH_ISOLATION': 'chroot'}
    steps = knit_examples.steps(knit_examples.text_of(SOURCE, page))
    case.assertGreater(len(steps), 10)
    for step in steps:
        if step.name:
            with open(f'{folder}/{step.name}', 'w') as file:
                file.write(step.text)
            continue
        printed, status = run(step.text, folder, environ, is_broken)
        case.assertEqual((without_noise(printed), status), (step.output, 0), f'{page}:{step.line}: {step.text}')
