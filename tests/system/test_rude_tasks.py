# SPDX-License-Identifier: Apache-2.0
"""Tasks that misbehave: module_rude.c says what each of them does. At most its own call fails; the next calls get a
worker that works; no process of it outlives the daemon; the daemon has as many descriptors as before.
"""

import json
import os
import signal
import statistics
import subprocess
import time
import unittest

from knit_attach import attach_and_forget
from knit_harness import PATIENCE, SANITIZED, SLOWDOWN, Case, Daemon, RpcError, main, wait_until
from knit_lanes import Lanes
from knit_witness import descriptors, is_alive

QUARANTINED, UNKNOWN_TASK, DENIED, BAD_ARGUMENT = 204, 300, 301, 302
WORKER_DIED, HARD_TIMEOUT, TASK_FAILED = 400, 401, 600


def processes():
    """(process, parent, group, session) of each one that runs; zombies do not count."""
    found = []
    for name in os.listdir('/proc'):
        if name.isdigit():
            try:
                with open(f'/proc/{name}/stat') as file:
                    state, parent, group, session = file.read().rsplit(')', 1)[1].split()[:4]
            except OSError:
                continue
            if state not in 'ZX':
                found.append((int(name), int(parent), int(group), int(session)))
    return found


class Family:
    """A daemon's workers and all processes that they started. An orphan has another parent, so group and session count
    too: each worker leads one of its own."""

    def __init__(self, pid):
        self.pid, self.pids, self.groups = pid, set(), set()
        with open(f'/proc/{pid}/stat') as file:
            self.foreign = set(file.read().rsplit(')', 1)[1].split()[2:4])

    def living(self):
        """Those that run now; all that were ever seen are remembered."""
        listed, before = processes(), -1
        while before != (before := len(self.pids)):
            for pid, parent, group, session in listed:
                if parent == self.pid or parent in self.pids or self.groups & {group, session}:
                    self.pids.add(pid)
                    self.groups |= {number for number in (group, session) if str(number) not in self.foreign}
        return {one[0] for one in listed if one[0] in self.pids}


class RudeTasks(Case):
    def setUp(self):
        self.daemon = Daemon(module=os.environ['KNIT_RUDE'], workers=2)
        self.rpc = self.daemon.tcp()
        self.rpc.hello()
        self.rpc.call('same', 1)
        self.before = descriptors(self.daemon.pid)
        self.family = Family(self.daemon.pid)
        self.family.living()

    def tearDown(self):
        self.rpc.close()
        with self.daemon:
            self.family.living()
        wait_until(lambda: not self.family.living(), 'all of its processes to go')

    def serves(self, workers=2):
        """A full set of workers, calls that are answered, no descriptor more than before."""
        self.family.living()
        wait_until(lambda: [lane['state'] for lane in self.rpc.call('$/stats')['lanes']] == ['serving'] * workers,
                   'workers')
        for i in range(20):
            self.assertEqual(self.rpc.call('same', i), i)
        wait_until(lambda: descriptors(self.daemon.pid) <= self.before, f'{self.before} descriptors')

    def dies(self, code, *call):
        error = self.assert_fails(code, self.rpc.call, *call)
        self.assertEqual(error.details['started'], 'yes')
        self.serves()
        wait_until(lambda: len(self.family.living()) <= 2, 'what it started to go')
        return error

    def test_closing_every_descriptor(self):
        try:
            self.rpc.call('close_all')
        except RpcError as error:
            self.assertEqual(error.code, WORKER_DIED)
        self.serves()
        self.attaches()
        self.serves()

    def attaches(self):
        with self.daemon.unix() as rpc:
            attach_and_forget(rpc)
        wait_until(lambda: self.rpc.call('$/stats')['pool']['closing_sessions'] == 0, 'the session to go')

    def test_using_up_all_descriptors(self):
        """A worker that has none left is replaced when it has to attach a session; its running call still ends well."""
        # By one worker or by both.
        self.assertGreater(sum(self.rpc.call('leak') for _ in range(4)), 10)
        naps = [self.rpc.request('nap', 300) for _ in range(4)]
        wait_until(lambda: all(lane['is_running'] for lane in self.daemon.stats()['lanes']), 'both to be busy')
        self.attaches()
        pids = {self.rpc.result(msgid) for msgid in naps}
        self.serves()
        self.attaches()
        self.serves()
        self.assertEqual(self.daemon.stats()['pool']['condemned'], 0)
        self.assertNotEqual(pids & {lane['pid'] for lane in self.daemon.stats()['lanes']}, pids)

    @unittest.skipIf(SANITIZED, 'a sanitizer takes memory without asking for it')
    def test_using_up_all_memory(self):
        with Daemon('--memory-max-bytes=64MiB', module=os.environ['KNIT_RUDE'], workers=1) as daemon, daemon.tcp() as rpc:
            before = rpc.call('nap', 0)
            self.assertGreater(rpc.call('hoard'), 1 << 20)
            for _ in range(2):
                with daemon.unix() as other:
                    attach_and_forget(other)
                    wait_until(lambda: rpc.call('nap', 0) != before, 'a worker that has memory')
            self.assertEqual(daemon.stats()['pool']['condemned'], 0)

    def test_a_child_that_stays_when_its_parent_lives(self):
        child = self.rpc.call('orphan', False)
        self.assertTrue(is_alive(child))
        self.assertIn(child, self.family.living())
        self.serves()

    def test_a_child_that_stays_when_its_parent_dies(self):
        self.dies(WORKER_DIED, 'orphan', True)

    def test_children_that_left_the_process_group(self):
        """A task that may do anything has a child in a session of its own, which holds what it inherited."""
        with Daemon('--permission=unsafe', module=os.environ['KNIT_RUDE'], workers=1) as daemon, daemon.tcp() as rpc:
            rpc.hello()
            child = rpc.call('orphan', False)
            wait_until(lambda: os.getsid(child) == child, 'it to leave')
            self.assert_fails(WORKER_DIED, rpc.call, 'leave', 3)
            wait_until(lambda: not is_alive(child), 'it to go with its worker')
            self.assertEqual(rpc.call('same', 1), 1)
            child = rpc.call('orphan', False)
            wait_until(lambda: os.getsid(child) == child, 'the next one to leave')
        self.assertFalse(is_alive(child))

    def scatter(self, rpc, depth, is_bare=False):
        """Leaves processes of a task; the last of them, and the worker."""
        last, worker = map(int, rpc.call('scatter', depth, is_bare).split())
        self.assertTrue(is_alive(last))
        self.assertNotIn(os.getsid(last), (os.getsid(worker), worker))
        return last, worker

    def serve_again(self, daemon, dead):
        """Until all lanes have workers, none of them that one."""
        wait_until(lambda: [lane['state'] for lane in daemon.stats()['lanes'] if lane['pid'] != dead] == ['serving'] * 2,
                   'a replacement')

    def test_what_a_task_left_dies_with_its_own_worker_and_with_no_other(self):
        with Daemon('--permission=unsafe', module=os.environ['KNIT_RUDE'], workers=2) as daemon, daemon.tcp() as rpc:
            for is_bare in (False, True):
                last, worker = self.scatter(rpc, 1, is_bare)
                other, = {lane['pid'] for lane in daemon.stats()['lanes']} - {worker}
                if not is_bare:
                    os.kill(other, signal.SIGKILL)
                    self.serve_again(daemon, other)
                    self.assertTrue(is_alive(last))
                os.kill(worker, signal.SIGKILL)
                self.serve_again(daemon, worker)
                self.assertFalse(is_alive(last))

    def test_a_row_of_sessions_is_gone_before_its_lane_is_used_again(self):
        with Daemon('--permission=unsafe', module=os.environ['KNIT_RUDE'], workers=1) as daemon, daemon.tcp() as rpc:
            for depth in (2, 6):
                last, worker = self.scatter(rpc, depth)
                os.kill(worker, signal.SIGKILL)
                self.assertEqual(rpc.call('same', 1), 1)
                self.assertFalse(is_alive(last))
                last, worker = self.scatter(rpc, depth)
                self.assert_fails(HARD_TIMEOUT, rpc.call, 'hang')
                self.assertEqual(rpc.call('same', 1), 1)
                self.assertFalse(is_alive(last))
            last, worker = self.scatter(rpc, 6)
        self.assertFalse(is_alive(last))

    def test_a_task_that_hangs_with_children(self):
        error = self.dies(HARD_TIMEOUT, 'hang')
        self.assertEqual(error.details.get('limit'), 200)

    def test_notifications_that_hang_when_their_caller_has_gone(self):
        with Daemon('--notification-max-ms=300', '--abort-grace-ms=200', module=os.environ['KNIT_RUDE'], workers=2) as daemon:
            for _, connect in daemon.transports():
                before = {lane['pid'] for lane in daemon.stats()['lanes']}
                begun = time.monotonic()
                with connect() as caller:
                    caller.notify('hold_out')
                    caller.notify('hold_out')
                    wait_until(lambda: all(lane['is_running'] for lane in daemon.stats()['lanes']), 'both to hang')
                with daemon.tcp() as rpc:
                    self.assertEqual(rpc.call('same', 1), 1)
                    ms = (time.monotonic() - begun) * 1000
                print(f'both workers hang in notifications of a caller that has gone: 300 ms and 200 of grace, served after {ms:.0f} ms')
                self.assertGreater(ms, 499)
                self.assertLess(ms, 5000 * SLOWDOWN)
                wait_until(lambda: not any(is_alive(pid) for pid in before), 'both workers to be killed')

    def test_a_task_with_a_timeout_of_its_own(self):
        """It holds for calls by each way, and for notifications of a caller that is still there."""
        for url in self.daemon.urls:
            done = subprocess.run([os.environ['KNIT_TOOL'], '-u', url, '--json', 'call', 'obey'], capture_output=True, text=True,
                                  timeout=3 * PATIENCE)
            self.assertEqual(json.loads(done.stderr)['name'], 'TIMEOUT', url)
        # Of two principals: long calls of one leave a worker to the other.
        with self.daemon.unix() as caller, self.daemon.tcp() as other:
            caller.notify('obey')
            other.notify('obey')
            wait_until(lambda: all(lane['is_running'] for lane in self.daemon.stats()['lanes']), 'both to run')
            self.assertEqual(self.rpc.call('same', 1), 1)

    def test_a_deadline_that_passes_while_the_caller_over_shared_memory_does_something_else(self):
        with Daemon('--abort-grace-ms=200', module=os.environ['KNIT_RUDE'], workers=1) as daemon, \
                daemon.unix() as caller, daemon.tcp() as rpc:
            caller.hello()
            deadline_ns = time.monotonic_ns() + 1000000000
            with Lanes(caller, [[('hold_out',)]], deadline_ns) as lanes:
                lanes.publish(0)
                # The first of them wakes the worker, the last is served by the next one.
                while not lanes.is_answered():
                    self.assertEqual(rpc.call('same', 1), 1)
                ms = (time.monotonic_ns() - deadline_ns) / 1e6
                print(f'a task of a caller over shared memory hangs; its deadline passes, 200 ms of grace: served {ms:.0f} ms after it')
                self.assertGreater(ms, 199)
                self.assertLess(ms, 3000 * SLOWDOWN)

    def test_how_soon_a_hung_task_is_gone(self):
        """It, its worker and its children, counted from the call."""
        failed, gone, seen = [], [], []
        for _ in range(10):
            begun = time.monotonic()
            msgid = self.rpc.request('hang')
            while time.monotonic() - begun < 0.15:
                seen.append(len(self.family.living()))
            self.assert_fails(HARD_TIMEOUT, self.rpc.result, msgid)
            failed.append((time.monotonic() - begun) * 1000)
            # The orphans of a dead worker are still in its group, which is known.
            wait_until(lambda: len(self.family.living()) <= 2, 'it and its children to be gone')
            gone.append((time.monotonic() - begun) * 1000)
            # A call that ends well, so that the deaths are not in a row.
            self.serves()
            self.rpc.call('chatter', 0)
        self.assertEqual(max(seen), 5, 'two workers and three children')
        print(f'hung: hard timeout 200 ms; failed after {min(failed):.1f} to {max(failed):.1f} ms, it and its children gone after '
              f'{min(gone):.1f} to {max(gone):.1f} ms')
        self.assertGreater(min(failed), 199)
        # Ten times the goal for most of them; more at the worst, since each needs ten processes to have their turn.
        self.assertLess(statistics.median(gone), 200 + 200 * SLOWDOWN)
        self.assertLess(max(gone), 200 + 1000 * SLOWDOWN)

    def test_a_task_that_stops_itself(self):
        self.dies(HARD_TIMEOUT, 'stand_still')

    def test_a_task_that_waits_in_the_kernel(self):
        self.dies(HARD_TIMEOUT, 'wait_for_child')

    def test_descriptors_that_are_made_blocking(self):
        """The worker's descriptors are not shared: the daemon, woken by another event while a call runs, does not block on
        a bell."""
        self.assertGreater(self.rpc.call('let_block'), 0)
        for _ in range(3):
            msgid = self.rpc.request('hang')
            with self.daemon.tcp() as other:
                other.hello()
                self.assertEqual(other.call('same', 1), 1)
            self.assert_fails(HARD_TIMEOUT, self.rpc.result, msgid)
            self.rpc.call('let_block')
        self.serves()

    def test_a_full_stack(self):
        self.dies(WORKER_DIED, 'overflow')

    def test_exit(self):
        self.dies(WORKER_DIED, 'leave', 0)

    def test_exit_at_once(self):
        self.dies(WORKER_DIED, 'leave', 1)

    def test_the_end_of_its_thread(self):
        self.dies(WORKER_DIED, 'leave', 2)

    def test_the_end_of_an_event_loop(self):
        """By a task that the loop runs itself: the daemon ends, and not well, rather than stay without it."""
        for how, what in (2, 'a task has ended the thread of an event loop'), (0, 'a task has called exit() in an event loop'):
            with self.subTest(what), Daemon(
                    '--inliner-modules', os.environ['KNIT_RUDE'], module=os.environ['KNIT_RUDE'], workers=1, threads_io=1,
                    inliner_position='first', inline_unconfined='on') as daemon, daemon.tcp() as rpc:
                daemon.expected_status = -signal.SIGABRT
                rpc.request('leave', how)
                self.assertTrue(rpc.is_closed_by_peer())
                self.assertEqual(daemon.wait(), -signal.SIGABRT)
                self.assertIn(what, daemon.log())

    def test_abort(self):
        error = self.dies(WORKER_DIED, 'leave', 3)
        self.assertEqual(error.details['signal'], 6)

    def test_printing_much(self):
        self.assertEqual(self.rpc.call('chatter', 200000), 200000)
        self.assertEqual(self.rpc.call('chatter', 200000, True), 200000)
        self.serves()
        log = self.daemon.log()
        self.assertIn('line 0', log)
        self.assertNotIn('\033', log)
        self.assertLess(max(map(len, log.splitlines())), 20000)

    def test_signals_that_are_ignored(self):
        for _ in range(4):
            self.rpc.call('wild_signals')
        self.serves()

    def test_threads_that_are_never_joined(self):
        self.assertEqual(self.rpc.call('threads', 500), 500)
        self.serves()

    def test_good_calls_between_do_not_save_a_task_that_takes_workers_down(self):
        for _ in range(10):
            self.dies(WORKER_DIED, 'overflow')
        self.assert_fails(QUARANTINED, self.rpc.call, 'overflow')
        self.serves()
        dead = self.rpc.call('$/stats')['tasks']
        self.assertEqual(dead, [{'task': 'overflow', 'deaths': 10, 'signal': signal.SIGSEGV, 'quarantined': True}])
        listed = [task for task in self.rpc.call('$/tasks')['tasks'] if 'deaths' in task]
        self.assertEqual([(task['name'], task['deaths'], task['signal'], task['quarantined']) for task in listed],
                         [('overflow', 10, signal.SIGSEGV, True)])
        # Nobody knows who calls by TCP.
        self.assert_fails(DENIED, self.rpc.call, '$/lift', 'overflow')
        with self.daemon.unix() as local:
            local.hello()
            self.assert_fails(BAD_ARGUMENT, local.call, '$/lift')
            self.assert_fails(BAD_ARGUMENT, local.call, '$/lift', 7)
            self.assert_fails(UNKNOWN_TASK, local.call, '$/lift', 'nobody')
            self.assertIs(local.call('$/lift', 'overflow'), True)
            self.assertIs(local.call('$/lift', 'overflow'), False)
        self.dies(WORKER_DIED, 'overflow')
        self.assertEqual(self.rpc.call('$/stats')['pool']['quarantined'], 0)


if __name__ == '__main__':
    main()
