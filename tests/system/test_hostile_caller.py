# SPDX-License-Identifier: Apache-2.0
"""A caller of another uid attacks through everything that it was given; hostile/ has the attacks, each prints its seed.

The oracle: the same daemon and the same workers serve afterwards; all calls of honest callers beside it were answered
correctly and none waited for long; only the attacker was evicted; descriptors, mappings and memory are the same as
before. The exit status of an attack says whether it has really done what it is to do.
"""

import contextlib
import os
import pwd
import random
import signal
import subprocess
import sys
import tempfile
import time

from knit_harness import PATIENCE, SLOWDOWN, Case, Child, main, wait_until
from knit_witness import LONG, Caller, LedgerDaemon, descriptors, mappings, seed, stopped

NO_WORKER, WORKER_DIED = 203, 400
# The longest time that a call of another caller may take meanwhile.
LONGEST = PATIENCE / 2
SECONDS = (3000 if LONG else 60) * SLOWDOWN


def hostile_program(daemon, epoch, task, name, **options):
    """hostile/, started: that attack, with calls of that task, as the user nobody."""
    nobody = pwd.getpwnam('nobody').pw_uid
    return Child([os.environ['KNIT_HOSTILE'], daemon.socket, str(nobody), str(epoch), str(task), name],
                 stdin=subprocess.DEVNULL, **options)


class Hostile(Case):
    def attack(self, name, evicted=(0,), task='same', others=contextlib.nullcontext):
        """evicted: how many sessions may be; others: a context in which each honest caller is meanwhile."""
        with LedgerDaemon(socket_mode='0666', attach_users='nobody', sessions_per_user=8) as daemon:
            os.chmod(daemon.dir, 0o755)
            with daemon.unix() as rpc:
                tasks = rpc.call('$/tasks')
                number = next(t['id'] for t in tasks['tasks'] if t['name'] == task)
            # An earlier caller, so that everything that is allocated once is allocated.
            with Caller(daemon.url('shm'), 'loop', 0) as first:
                first.wait_ready().count()
            daemon.wait_for_quiet()
            before = self.holdings(daemon)
            pids, memory = daemon.workers(), daemon.memory_kb()
            with Caller(daemon.url('shm'), 'loop', 1) as honest, Caller(daemon.url('tcp'), 'loop', 2) as remote:
                honest.wait_ready()
                remote.wait_ready()
                with others(honest.pid), others(remote.pid):
                    status, longest = self.run_hostile(daemon, tasks['epoch'], number, name)
                self.assertIsNone(honest.process.poll(), 'an honest local caller was ended')
                self.assertIsNone(remote.process.poll(), 'an honest remote caller was ended')
                calls = honest.count(), remote.count()
            self.assertGreater(min(calls), 10)
            self.assertEqual(status, 0, f'{name}: see its lines above')
            self.assertLess(longest, LONGEST)
            pool = daemon.wait_for_quiet()['pool']
            self.assertEqual(daemon.workers(), pids)
            self.assertEqual((pool['deaths'], pool['quarantined']), (0, 0))
            print(f"{name}: {pool['condemned']} evicted, {calls[0]} local and {calls[1]} remote calls were right, a call "
                  f'took {longest * 1000:.0f} ms at most')
            self.assertIn(pool['condemned'], evicted)
            wait_until(lambda: self.holdings(daemon) == before, f'descriptors and mappings to be {before} again')
            self.assertLess(daemon.memory_kb() - memory, 8192)

    def run_hostile(self, daemon, epoch, task, name):
        """Its exit status, and the longest call of another caller while it ran."""
        longest = 0
        with tempfile.TemporaryFile('w+', errors='replace') as lines, daemon.tcp() as rpc:
            try:
                with hostile_program(daemon, epoch, task, name, stdout=lines, stderr=lines,
                                     env={**os.environ, 'KNIT_TEST_SEED': str(self.seed)}) as hostile:
                    until = time.monotonic() + SECONDS
                    while not hostile.is_over() and time.monotonic() < until:
                        begun = time.monotonic()
                        rpc.call('same', begun)
                        longest = max(longest, time.monotonic() - begun)
                        with contextlib.suppress(subprocess.TimeoutExpired):
                            hostile.process.wait(0.005)
            finally:
                lines.seek(0)
                print(lines.read(), end='', flush=True)
        return hostile.process.returncode, longest

    @classmethod
    def setUpClass(cls):
        cls.seed = seed()

    def holdings(self, daemon):
        return [(descriptors(pid), mappings(pid)) for pid in [daemon.pid, *daemon.workers()]]

    def test_any_value_anywhere(self):
        self.attack('scribble', evicted=range(1, 100000))

    def test_cells_with_one_wrong_word(self):
        self.attack('cells', evicted=(12,))

    def test_payloads_that_are_no_arguments(self):
        self.attack('payloads')

    def test_arguments_that_change_while_they_are_read(self):
        self.attack('changing', task='twice')

    def test_cells_that_change_while_they_are_read(self):
        self.attack('flipping', evicted=range(1, 100000), task='twice')

    def test_results_that_are_never_released(self):
        self.attack('greed')

    def test_waiting_without_sleeping(self):
        self.attack('false_arms')

    def test_a_bell_that_is_never_read_or_shut(self):
        self.attack('full_bell')

    def test_notifying_without_calling(self):
        """The honest callers are stopped: a worker that has calls seldom sleeps, and is then not woken by the attack."""
        self.attack('notifying', evicted=(1,), others=stopped)

    def test_moving_sleepers_to_another_futex(self):
        self.attack('requeue')

    def test_punching_holes(self):
        self.attack('holes')

    def test_filling_and_emptying_an_unsealed_segment(self):
        self.attack('punch', evicted=(1,))

    def test_calling_on_without_a_connection(self):
        self.attack('leave')

    def test_access_that_was_not_granted(self):
        self.attack('rights')

    def test_descriptors_that_are_not_expected(self):
        self.attack('surplus')

    def test_more_sessions_than_a_user_may_have(self):
        self.attack('quota')


class WhileWorkersDie(Case):
    """Recovery after a death works beside memory that the attacker writes."""

    def attack(self, name, calls=60000):
        number = random.Random(seed())
        with LedgerDaemon(socket_mode='0666', attach_users='nobody', sessions_per_user=8, workers=3) as daemon:
            os.chmod(daemon.dir, 0o755)
            with daemon.unix() as rpc:
                tasks = rpc.call('$/tasks')
                same = next(t['id'] for t in tasks['tasks'] if t['name'] == 'same')
            with hostile_program(daemon, tasks['epoch'], same, name) as hostile:
                with Caller(daemon.url('shm'), 'tally', 0, calls) as honest:
                    honest.wait_ready()
                    kills = self.kill_until(daemon, number, honest.is_over)
                    failed, good = honest.tally()
                self.kill_until(daemon, number, hostile.is_over)
            print(f'{name}: {kills} workers killed, {len(failed)} of {calls} calls failed')
            self.assertEqual(hostile.process.returncode, 0, f'{name}: see its lines above')
            self.assertEqual(len(failed) + good, calls)
            # When workers start slowly, all of them may be dead for a moment.
            self.assertEqual({(o.code, o.started) for o in failed} - {(WORKER_DIED, 'yes'), (NO_WORKER, 'no')}, set())
            times = daemon.ledger.times(0, calls)
            truth = {o.call: (0,) if o.started == 'no' else (0, 1) for o in failed}
            self.assertEqual([i for i in range(calls) if times[i] not in truth.get(i, (1,))], [])
            daemon.wait_for_workers(3)
            daemon.wait_for_quiet()
            deaths = [line for line in daemon.log().splitlines() if 'msg="worker died"' in line]
            self.assertEqual([line for line in deaths if 'SIGKILL' not in line], [])

    @staticmethod
    def kill_until(daemon, number, is_over):
        kills = 0
        while not is_over():
            # One that was killed a moment ago may still be listed, and be gone before it is killed again.
            with contextlib.suppress(ProcessLookupError):
                os.kill(number.choice(daemon.wait_for_workers(3)), signal.SIGKILL)
                kills += 1
            again = time.monotonic() + number.random() * 0.1 * SLOWDOWN
            wait_until(lambda: time.monotonic() > again, 'the next moment')
        return kills

    def test_any_value_anywhere(self):
        self.attack('scribble')

    def test_results_that_are_never_released(self):
        self.attack('greed')

    def test_punching_holes(self):
        self.attack('holes')

    def test_filling_and_emptying_an_unsealed_segment(self):
        self.attack('punch')

    def test_payloads(self):
        self.attack('payloads')


class Uninvited(Case):
    def test_a_user_that_is_not_listed_may_not_attach(self):
        with LedgerDaemon(socket_mode='0666', attach_users='root') as daemon:
            os.chmod(daemon.dir, 0o755)
            nobody = pwd.getpwnam('nobody').pw_uid
            done = subprocess.run([os.environ['KNIT_HOSTILE'], daemon.socket, str(nobody), '1', '0', 'rights'],
                                  capture_output=True, text=True, errors='replace', timeout=PATIENCE)
            self.assertEqual(done.returncode, 1)
            self.assertIn('301 DENIED', done.stderr)


if __name__ == '__main__':
    if os.geteuid() != 0:
        print('only root can become another user')
        sys.exit(77)
    main()
