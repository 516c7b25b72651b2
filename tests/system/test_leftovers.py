# SPDX-License-Identifier: Apache-2.0
"""What a task cannot change for the calls after it, nor the worker for the task: module_leftovers.c tries."""

import os
import platform
import re
import subprocess
import unittest

from knit_harness import SANITIZED, Case, Daemon, main

LEFTOVERS = os.environ['KNIT_LEFTOVERS']
SHARED_LIBRARIES = 'KNIT_WORKER_SHARES_LIBRARIES' in os.environ


def lines_of(*command):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout.splitlines()


@unittest.skipIf(SHARED_LIBRARIES, 'msgpack-c or libseccomp has no archive here: the worker is linked with the shared ones')
class OwnLibraries(Case):
    def test_a_module_with_a_librarys_names_calls_its_own_functions(self):
        with Daemon(module=LEFTOVERS) as daemon, daemon.tcp() as rpc:
            self.assertIs(rpc.call('owns'), True)

    @unittest.skipIf(SANITIZED, 'a sanitizer brings its own names')
    def test_the_worker_offers_no_names_but_those_of_leftovers(self):
        with open(os.path.join(os.environ['KNIT_SOURCE'], 'fastpath/worker/leftovers.c'), encoding='utf-8') as file:
            watched = re.findall(r'^ +X\((\w+)\)', file.read(), re.M)
        needed = [line.split('[')[1].rstrip(']') for line in lines_of('readelf', '-Wd', os.environ['KNIT_WORKER'])
                  if '(NEEDED)' in line]
        self.assertEqual([name for name in needed if not name.startswith(('libc.', 'libm.', 'ld-'))], [])
        defined = [line.split()[-1] for line in lines_of('nm', '-D', '--defined-only', os.environ['KNIT_WORKER'])]
        self.assertEqual(sorted(name for name in defined if '@GLIBC' not in name), sorted(watched))


class Leftovers(Case):
    def leaves_nothing(self, rpc, look, *things):
        before = rpc.call(*look)
        for thing in things:
            with self.subTest(thing):
                rpc.call('spoil', thing)
                self.assertEqual(rpc.call(*look), before)

    def test_the_floating_point_unit_is_as_before(self):
        x86 = ['flush', 'precision', 'registers'] if platform.machine() == 'x86_64' else []
        with Daemon(module=LEFTOVERS, workers=1) as daemon, daemon.tcp() as rpc:
            self.leaves_nothing(rpc, ['state'], 'rounding', 'traps', 'exceptions', *x86)

    @unittest.skipIf(SANITIZED, 'a sanitizer has functions of these names already')
    def test_the_process_is_as_before(self):
        with Daemon(module=LEFTOVERS, workers=1) as daemon, daemon.tcp() as rpc:
            self.leaves_nothing(rpc, ['process', 0], 'mask', 'mask, BSD', 'blocked, BSD', 'mask, System V', 'stack', 'pipe',
                                'pipe, BSD', 'pipe, System V', 'hangup', 'faults', 'locale', 'thread locale', 'folder', 'umask',
                                'affinity', 'nice', 'priority', 'scheduler', 'pending alarm', 'limit', 'limit for good',
                                'limit of that process')
            # Longer than the alarms that were left.
            self.leaves_nothing(rpc, ['process', 60], 'alarm', 'timer', 'timers of its time')

    def test_a_module_linked_with_fast_math_changes_no_numbers_of_another(self):
        with Daemon(module=LEFTOVERS, workers=1) as daemon, daemon.tcp() as rpc:
            before = rpc.call('state')[1:]
            self.assertEqual(rpc.call('computed'), [before[2], before[2]])
            self.assertNotEqual(before[2], 0)
        fast = os.environ['KNIT_FAST']
        for first, second in (LEFTOVERS, fast), (fast, LEFTOVERS):
            with self.subTest(first=first), Daemon('--module', second, module=first, workers=1) as daemon, daemon.tcp() as rpc:
                self.assertEqual(rpc.call('state')[1:], before)
                self.assertEqual(rpc.call('computed'), [before[2], before[2]])
                rpc.call('fast')
                self.assertEqual(rpc.call('state')[1:], before)


main()
