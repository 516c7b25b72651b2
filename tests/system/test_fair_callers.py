# SPDX-License-Identifier: Apache-2.0
"""R11: one greedy and nine modest callers, each a principal of its own by a token, over TCP and over shared memory, with
short and with long tasks, at two and at eight workers. The modest together use a tenth of two workers, or a quarter of
eight, by a clock; the greedy one keeps all its calls in flight.

The goal is that the modest get at least 90 % of what they get alone, with a p99 of at most twice that alone and 200 us for
each flow; beside calls that are longer than their own also what two of these take, since none is interrupted: but not in
the long form with eight workers, of which long calls leave some free. The tasks sleep, so that those who call do not compete with the workers for cores. The short form asks for half of the calls and for
ten times as long, and that the greedy one gets a part of the workers; the long form takes half a minute for each figure:

    KNIT_TEST_LONG=1 meson test -C build system-fair_callers --verbose
"""

import contextlib
import hashlib
import json
import os
import subprocess
import tempfile
import time
import unittest

from knit_harness import SLOWDOWN, Case, Daemon, main, wait_until

LONG = os.environ.get('KNIT_TEST_LONG') == '1'
MODEST, SECONDS, WARM, TRIES = 9, (30 if LONG else 1.5), 0.3, 3
PART, BOUND = (0.9, 3) if LONG else (0.5, 10)
SHARE = {2: 0.10, 8: 0.25}  # of the workers, of all modest ones together
QUANTUM_MS = 0.2
# Of the modest, and of the greedy one; and the task of the greedy one.
TASKS = {'short_tasks': (1, 1, 'other_nap'), 'long_tasks': (20, 20, 'other_nap'), 'short_tasks_beside_long_ones': (1, 100, 'other_nap'),
         'short_calls_beside_long_ones_of_one_task': (1, 100, 'nap')}


def named(name):
    return f'token-of-{name}-0123456789abcdef'


@unittest.skipUnless('KNIT_HAS_BENCH' in os.environ, 'built with -Dbench=false')
class FairCallers(Case):
    def bench(self, folder, url, name, *options):
        return subprocess.Popen([os.environ['KNIT_TOOL'], 'bench', '--url', url, '--token-file', f'{folder}/{name}',
                                 '--format=json', '--percentiles', *options], stdout=subprocess.PIPE, text=True)

    def modest(self, folder, url, task_ms, workers):
        """Calls a second of all together, the worst p99 in ms, and failures."""
        rate = max(SHARE[workers] * workers * 1000 / task_ms / MODEST, 2 / SECONDS)
        with contextlib.ExitStack() as stack:
            callers = [stack.enter_context(self.bench(folder, url, f'modest{i}', '--rate', f'{rate:.3f}', '--depth', '64',
                                                      '--seconds', str(SECONDS), '--warm', str(WARM), f'nap({task_ms})'))
                       for i in range(MODEST)]
            rows = [json.loads(caller.communicate()[0])['rows'][0] for caller in callers]
        return sum(row['calls'] for row in rows) / SECONDS, max(row['p99_us'] for row in rows) / 1000, sum(row['errors'] for row in rows)

    def beside(self, folder, daemon, url, tasks, workers):
        """The same, and the part of the workers' time that the greedy one got."""
        connections, depth = 4, 32

        def calls():
            return sum(lane['calls'] for lane in daemon.stats()['lanes'])

        with self.bench(folder, url, 'greedy', '--connections', str(connections), '--depth', str(depth), '--seconds', '600',
                        f'{tasks[2]}({tasks[1]})') as greedy:
            try:
                begun = calls()
                wait_until(lambda: calls() > begun + 2 * workers, 'the greedy one to call')
                before, from_s = calls(), time.monotonic()
                got, p99_ms, errors = self.modest(folder, url, tasks[0], workers)
                self.assertIsNone(greedy.poll(), 'the greedy one has ended')
                others, seconds = calls() - before - got * (SECONDS + WARM), time.monotonic() - from_s
            finally:
                greedy.kill()
        return got, p99_ms, errors, others * tasks[1] / 1000 / seconds / workers

    def longest_wait_ms(self, tasks, workers):
        return 0 if tasks[0] == tasks[1] or (LONG and workers == 8) else 2 * tasks[1]

    def measure(self, path, tasks, workers):
        names = ['greedy'] + [f'modest{i}' for i in range(MODEST)]
        with tempfile.TemporaryDirectory(prefix='knit-') as folder:
            with open(f'{folder}/tokens', 'w') as tokens:
                for name in names:
                    tokens.write(f'{name} sha256:{hashlib.sha256(named(name).encode()).hexdigest()}\n')
                    with open(os.open(f'{folder}/{name}', os.O_WRONLY | os.O_CREAT, 0o600), 'w') as file:
                        file.write(named(name))
            with Daemon(module=os.environ['KNIT_NAPS'], tokens=f'{folder}/tokens', workers=workers, threads_io=1, drain_ms=0) as daemon:
                url = f'shm://{daemon.socket}' if path == 'shm' else f'knit://127.0.0.1:{daemon.port}'
                for _ in range(TRIES):
                    alone, alone_ms, errors = self.modest(folder, url, tasks[0], workers)
                    self.assertEqual(errors, 0)
                    got, p99_ms, errors, greedy = self.beside(folder, daemon, url, tasks, workers)
                    self.assertEqual(errors, 0)
                    goal_ms = 2 * alone_ms + QUANTUM_MS * len(names) + self.longest_wait_ms(tasks, workers)
                    print(f'fair callers: {path}, {workers} workers, tasks of {tasks[0]} ms beside {tasks[1]} ms: {got / alone:.2f} of '
                          f'{alone:.0f} calls/s, p99 {p99_ms:.1f} ms, alone {alone_ms:.1f}, goal {goal_ms:.1f}; the greedy one has '
                          f'{greedy:.2f} of the workers')
                    if got >= alone * PART and p99_ms < goal_ms * BOUND * SLOWDOWN:
                        # Where nothing else runs it is above 0.5; who has no core cannot call.
                        self.assertGreater(greedy, 0.05)
                        return
        self.fail('the modest ones got too little each time')


def add(path, workers, name):
    def test(self):
        self.measure(path, TASKS[name], workers)

    setattr(FairCallers, f'test_{name}_over_{path}_at_{workers}_workers', test)


for arguments in ((path, workers, name) for path in ('shm', 'tcp') for workers in SHARE for name in TASKS):
    if LONG or arguments[2] != 'short_calls_beside_long_ones_of_one_task' or arguments[:2] == ('tcp', 8):
        add(*arguments)

if __name__ == '__main__':
    main()
