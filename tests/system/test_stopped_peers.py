# SPDX-License-Identifier: Apache-2.0
"""A process is stopped: a worker, the daemon, a caller in shared memory. All others go on, and when it is continued
nothing is lost. SIGSTOP stands for what swapping or a debugger does to a process.
"""

import contextlib
import os
import random
import signal
import subprocess
import time

from knit_harness import PATIENCE, SLOWDOWN, Case, main, wait_until
from knit_lanes import Lanes
from knit_witness import LONG, Caller, LedgerDaemon, seed, state, stopped


class StoppedPeers(Case):
    def test_an_idle_worker(self):
        """The other worker claims what is queued for it, over every transport."""
        for transport in ('tcp', 'unix', 'shm'):
            with self.subTest(transport), LedgerDaemon(workers=2) as daemon:
                for lane, victim in enumerate(daemon.workers()):
                    first = 1000 * lane
                    with stopped(victim), Caller(daemon.url(transport), 'tally', first, 500) as caller:
                        failed, good = caller.wait_ready().tally()
                        # A call that it had claimed when it was stopped would wait for it.
                        self.assertEqual((failed, good), ([], 500))
                    self.assertEqual(set(daemon.ledger.times(first, 500)), {1})

    def test_the_only_worker_and_a_call_that_may_not_queue(self):
        """The worker seems idle. The call is given up at once, and is not begun when the worker goes on."""
        for transport in ('tcp', 'unix', 'shm'):
            with self.subTest(transport), LedgerDaemon(workers=1) as daemon, daemon.tcp() as rpc:
                with stopped(daemon.workers()[0]):
                    done = subprocess.run([os.environ['KNIT_CLIENT_CALLS'], daemon.url(transport), '--stopped'],
                                          capture_output=True, text=True, timeout=3 * PATIENCE)
                    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                rpc.call('ledger', 2)
                self.assertEqual(list(daemon.ledger.times(1, 2)), [0, 1])

    def test_calls_in_the_lane_of_a_stopped_worker(self):
        """They are published after it was stopped, so it has claimed none. The other worker claims them when it is idle."""
        for lane in range(2):
            with self.subTest(lane=lane), LedgerDaemon(workers=2) as daemon, daemon.unix() as rpc, daemon.tcp() as alarm:
                calls = [[], []]
                calls[lane] = [('ledger', i) for i in range(100)]
                with Lanes(rpc, calls) as lanes, stopped(daemon.workers()[lane]):
                    lanes.publish(lane)
                    alarm.call('ledger', 1000)
                    wait_until(lanes.is_answered, 'the other worker to answer the calls')
                    self.assertEqual(lanes.order(lane), [])
                    self.assertEqual(lanes.order(1 - lane), [(lane, i) for i in range(100)])
                self.assertEqual(set(daemon.ledger.times(0, 100)), {1})

    def test_calls_in_its_lane_while_the_other_worker_is_busy(self):
        """The other worker always has calls in its own lane, and claims these between them, not after them. Each of its
        own takes longer than the interval at which it reads other lanes, and a call is stolen at the second look."""
        few, many, gate = 10, 60, 1
        for lane in range(2):
            with self.subTest(lane=lane), LedgerDaemon(workers=2) as daemon, daemon.unix() as rpc, daemon.tcp() as alarm:
                other, calls = 1 - lane, [[], []]
                calls[lane] = [('ledger', i) for i in range(few)]
                calls[other] = [('hold', 100, gate), *(('carry', 200 + i, 1500, b'') for i in range(many))]
                with Lanes(rpc, calls) as lanes, stopped(daemon.workers()[lane]):
                    lanes.publish(other)
                    waiting = alarm.request('ledger', 1000)
                    daemon.ledger.wait_for(100)
                    lanes.publish(lane)
                    daemon.ledger.open_gate(gate)
                    wait_until(lanes.is_answered, 'the other worker to answer the calls')
                    alarm.result(waiting)
                    order = lanes.order(other)
                    self.assertEqual(lanes.order(lane), [])
                    self.assertEqual(len(order), few + 1 + many)
                    self.assertLess(order.index((lane, few - 1)), order.index((other, many)))
                self.assertEqual(set(daemon.ledger.times(0, few)), {1})

    def test_a_worker_in_the_middle_of_a_call(self):
        with LedgerDaemon(workers=2) as daemon, Caller(daemon.url('shm'), 'calls', 1, 100, 50) as caller, \
                daemon.tcp() as rpc:
            caller.wait_ready()
            daemon.ledger.wait_for(100)
            victim = daemon.ledger.worker(100)
            with stopped(victim):
                caller.go_on()
                for i in range(50):
                    self.assertNotEqual(rpc.call('ledger', 200 + i), victim)
                wait_until(lambda: set(daemon.ledger.times(101, 50)) == {1}, 'the other worker to answer the queue')
                daemon.ledger.open_gate(1)
            outcomes = caller.outcomes()
            self.assertEqual([o.code for o in outcomes], [0] * 51)
            self.assertEqual(outcomes[0].worker, victim)

    def test_all_workers(self):
        """The daemon enforces the deadline; afterwards every call that has not expired runs."""
        with LedgerDaemon(workers=2) as daemon, daemon.tcp() as rpc:
            rpc.hello()
            with contextlib.ExitStack() as stack:
                for pid in daemon.workers():
                    stack.enter_context(stopped(pid))
                patient = rpc.request('ledger', 1)
                begun = time.monotonic()
                error = self.assert_fails(303, rpc.call, 'ledger', 2, options={'timeout': 50})
                self.assertLess(time.monotonic() - begun, SLOWDOWN)
                # A worker that was stopped right after its claim has it; otherwise it never starts.
                self.assertIn(error.details['started'], ('no', 'yes'))
                self.assertEqual(rpc.call('$/ping', 1), 1)
            self.assertGreater(rpc.result(patient), 0)
            rpc.call('ledger', 3)
            if error.details['started'] == 'no':
                self.assertEqual(daemon.ledger.ran(2), 0)

    def test_the_daemon(self):
        """It has no part in a call between caller and worker."""
        with LedgerDaemon() as daemon, Caller(daemon.url('shm'), 'calls', 1, 100, 100) as caller, \
                daemon.tcp() as rpc:
            caller.wait_ready()
            daemon.ledger.wait_for(100)
            with stopped(daemon.pid):
                caller.go_on()
                daemon.ledger.open_gate(1)
                self.assertEqual([o.code for o in caller.outcomes()], [0] * 101)
                waiting = rpc.request('ledger', 1)
            self.assertGreater(rpc.result(waiting), 0)

    def test_a_caller(self):
        with LedgerDaemon() as daemon, Caller(daemon.url('shm'), 'loop', 1) as lazy, \
                Caller(daemon.url('shm'), 'loop', 2) as honest, daemon.tcp() as rpc:
            lazy.wait_ready()
            honest.wait_ready()
            with stopped(lazy.pid):
                for i in range(200):
                    rpc.call('ledger', i)
                self.assertGreater(honest.count(), 0)
            self.assertGreater(lazy.count(), 0)

    def test_a_stopped_caller_that_is_killed(self):
        with LedgerDaemon() as daemon, Caller(daemon.url('shm'), 'loop', 1) as caller:
            caller.wait_ready()
            os.kill(caller.pid, signal.SIGSTOP)
            wait_until(lambda: state(caller.pid) == 'T', 'it to stop')
            caller.kill()
            daemon.wait_for_quiet()

    def test_any_process_at_random_moments(self):
        number = random.Random(seed())
        rounds = 5000 if LONG else 150
        with LedgerDaemon(workers=3) as daemon, Caller(daemon.url('shm'), 'loop', 1) as one, \
                Caller(daemon.url('shm'), 'loop', 2) as two, Caller(daemon.url('tcp'), 'loop', 3) as three:
            for caller in (one, two, three):
                caller.wait_ready()
            pids = [daemon.pid, one.pid, two.pid, three.pid, *daemon.workers()]
            for _ in range(rounds):
                with contextlib.ExitStack() as stack:
                    for pid in number.sample(pids, number.choice((1, 1, 2, 3))):
                        stack.enter_context(stopped(pid))
                    until = time.monotonic() + number.random() * 0.02
                    wait_until(lambda: time.monotonic() > until, 'the next moment')
            calls = [caller.count() for caller in (one, two, three)]
            print(f'{rounds} times one or more processes were stopped; calls answered correctly: {calls}')
            pool = daemon.wait_for_quiet()['pool']
            self.assertEqual((pool['deaths'], pool['condemned']), (0, 0))


if __name__ == '__main__':
    main()
