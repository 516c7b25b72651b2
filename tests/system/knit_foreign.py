# SPDX-License-Identifier: Apache-2.0
"""Callers in other languages, in foreign/: each makes the same calls and prints what it got."""

import json
import os
import subprocess

from knit_harness import PATIENCE

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'foreign')
ANSWERS = [42, {'a': [1, 'b', None, 2.5]}, '600 TASK_FAILED: out of wool', 'still there']


def run_foreign(program, script, *arguments, **environment):
    """What it printed."""
    done = subprocess.run([program, os.path.join(FOLDER, script), *map(str, arguments)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=3 * PATIENCE, env={**os.environ, **environment})
    if done.returncode != 0 or done.stderr:
        raise AssertionError(f'{script} ended with {done.returncode}: {done.stderr}')
    return [json.loads(line)[0] for line in done.stdout.splitlines()]
