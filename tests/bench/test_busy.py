#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""busy.py beside made-up figures of the system: what is own, what is others', what is stolen."""

import os
import subprocess
import sys
import tempfile
import unittest

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'bench')
sys.path.insert(0, BENCH)
import busy  # noqa: E402 pylint: disable=wrong-import-position

TICKS = busy.TICKS_A_SECOND


def at(seconds, **ticks):
    """Two processors after so many seconds, idle but for what is given."""
    names = 'user nice system idle iowait irq softirq steal guest guest_nice'.split()
    ticks = {name: ticks.get(name, 0) * TICKS for name in names}
    ticks['idle'] = 2 * seconds * TICKS - sum(ticks.values())
    return 'cpu  ' + ' '.join(str(ticks[name]) for name in names) + '\ncpu0 1 2 3\n'


class Busy(unittest.TestCase):
    def setUp(self):
        self.proc = tempfile.TemporaryDirectory()
        self.addCleanup(self.proc.cleanup)

    def time(self, text):
        with open(os.path.join(self.proc.name, 'stat'), 'w', encoding='utf-8') as file:
            file.write(text)
        return busy.read_time(self.proc.name)

    def shares(self, own, **ticks):
        return busy.shares(self.time(at(0)), self.time(at(100, **ticks)), own)

    def test_what_the_command_did_is_not_others(self):
        found = self.shares(150, user=100, system=50)
        self.assertEqual(found, (0, 0))
        self.assertFalse(busy.is_busy(found))

    def test_what_others_did_is_a_share_of_all_processors(self):
        found = self.shares(100, user=100, nice=10, system=10)
        self.assertEqual(found, (10, 0))
        self.assertTrue(busy.is_busy(found))

    def test_stolen_time_alone_is_busy(self):
        found = self.shares(0, steal=6)
        self.assertEqual(found, (0, 3))
        self.assertTrue(busy.is_busy(found))

    def test_interrupts_and_waiting_are_nobodys(self):
        self.assertEqual(self.shares(0, irq=10, softirq=20, iowait=30), (0, 0))

    def test_a_resting_machine_runs_the_command_and_its_status_is_told(self):
        self.time(at(100))
        with open(os.path.join(self.proc.name, 'loadavg'), 'w', encoding='utf-8') as file:
            file.write('0.25 1.00 2.00 1/100 1000\n')
        for command, status in (('true', 0), ('false', 1)):
            run = subprocess.run([os.path.join(BENCH, 'busy.py'), '--proc', self.proc.name, '--give-up', command],
                                 stderr=subprocess.PIPE, encoding='utf-8', check=False)
            self.assertEqual(run.returncode, status)
            self.assertIn('the machine was at rest (before, others took 0 % of the processors', run.stderr)
            self.assertIn('load average was 0.25', run.stderr)


if __name__ == '__main__':
    unittest.main()
