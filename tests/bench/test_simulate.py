#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The model of lanes: no call is lost, a seed repeats, it does what is known without it, and its check runs beside real calls."""

import os
import subprocess
import sys
import unittest

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'bench')
sys.path.insert(0, BENCH)
import counts  # noqa: E402 pylint: disable=wrong-import-position
import simulate  # noqa: E402 pylint: disable=wrong-import-position

BUILD = sys.argv.pop(1) if len(sys.argv) > 1 else None
COSTS = simulate.costs_of(counts.KEPT)


def result(**changed):
    how = dict(costs=COSTS, seed=1, ns=2e6, workers=4, callers=1, park='bits', spread='one', size=64, task_ns=0, pause_ns=0)
    return simulate.Result(**dict(how, **changed))


class Model(unittest.TestCase):
    def test_every_call_of_every_policy_is_answered(self):
        for park in ('full', 'looker', 'bits'):
            for spread in ('one', 'spread', 'wanted'):
                for workers in (1, 2, 16):
                    for pause_ns in (0, 200000):
                        got = result(ns=3e6, workers=workers, callers=3, park=park, spread=spread, size=16,
                                     task_ns=simulate.short_or_long, pause_ns=pause_ns)
                        # A lost call ends its caller: nobody would have batches in the last part.
                        self.assertGreater(got.per_second, 3 * 16 / 3e-3 / 10, (park, spread, workers, pause_ns))

    def test_a_seed_gives_the_same_figures(self):
        def figures(seed):
            return vars(result(seed=seed, callers=4, task_ns=simulate.short_or_long, size=1, pause_ns=30000))
        self.assertEqual(figures(7), figures(7))
        self.assertNotEqual(figures(7), figures(8))

    def test_one_worker_does_one_call_at_a_time(self):
        got = result(workers=1, task_ns=10000, ns=20e6)
        self.assertAlmostEqual(got.per_second * (10000 + COSTS['run']) / 1e9, 1, delta=0.02)

    def test_long_calls_are_spread_over_all_workers(self):
        one, four = (result(workers=workers, spread='spread', task_ns=50000, ns=40e6).per_second for workers in (1, 4))
        self.assertAlmostEqual(four / one, 4, delta=0.2)

    def test_a_sleeping_worker_costs_a_wake_up(self):
        awake, asleep = (result(workers=1, size=1, pause_ns=pause, ns=20e6).p50 for pause in (0, 500000))
        self.assertGreater(asleep - awake, 0.99 * COSTS['wake'])

    @unittest.skipIf(BUILD is None, 'no build folder is given')
    def test_the_check_runs_real_calls_beside_the_model(self):
        run = subprocess.run([os.path.join(BENCH, 'simulate.py'), '--check', BUILD, '--rounds', '1', '--seconds', '0.05'],
                             stdout=subprocess.PIPE, encoding='utf-8', check=False)
        self.assertEqual(run.returncode, 0, run.stdout)
        rows = [line.split() for line in run.stdout.splitlines() if line[:2] in ('1 ', '2 ')]
        self.assertEqual(len(rows), 2 * len(simulate.CHECKED), run.stdout)
        self.assertGreater(min(float(row[-1]) for row in rows), 0, run.stdout)

    def test_the_check_takes_its_costs_of_one_case(self):
        for each_ns in 300, 600:
            real = [size * (each_ns if task == 'empty' else each_ns + 5000) for task, size in simulate.CHECKED]
            _, task_ns, rows = simulate.beside_model(60, 2500, real * 2, 1)
            self.assertEqual(task_ns, 5000)
            # The case of which the costs are taken.
            calibrated = rows[simulate.CHECKED.index(('empty', 1000))]
            self.assertAlmostEqual(calibrated['real/model'], 1, delta=0.02)


if __name__ == '__main__':
    unittest.main()
