# SPDX-License-Identifier: Apache-2.0
"""A quiet caller beside others that keep the only worker busy with long calls. Its echo may wait for the call that runs
and for one more, and 5 ms beside that, whatever the others have queued: in one connection, in many, or in sessions of
their own. The bound is ten times as much; each attack made it wait for all that was queued, or for a call of each session.
"""

import contextlib
import os
import pwd
import tempfile
import time

import msgpack

from knit_harness import SLOWDOWN, Case, Daemon, main, wait_until
from knit_lanes import Lanes

ECHOES, TRIES, SHARE_MS, BOUND = 40, 3, 5, 10


class FairTime(Case):
    def measure(self, name, quiet, task_ms, is_attacked):
        goal = 2 * task_ms + SHARE_MS
        for _ in range(TRIES):
            waits = []
            for i in range(ECHOES):
                begun = time.monotonic()
                self.assertEqual(quiet.call('echo', i), i)
                waits.append((time.monotonic() - begun) * 1000)
            self.assertTrue(is_attacked(), 'the attack has ended')
            waits.sort()
            print(f'fair time: echo beside {name}: median {waits[len(waits) // 2]:.1f} ms, worst {waits[-1]:.1f}, goal {goal}')
            if waits[-1] < goal * BOUND * SLOWDOWN:
                return
        self.fail(f'beside {name} an echo waited for more than {goal * BOUND} ms each time')

    def test_beside_a_connection_with_long_calls(self):
        """Its calls wait in the daemon, which puts few of them into the lane."""
        task_ms, calls = 5, 2000
        with Daemon(workers=1, threads_io=1, drain_ms=0) as daemon, daemon.tcp() as greedy, daemon.tcp() as quiet:
            quiet.call('echo', 0)
            greedy.send(b''.join(msgpack.packb([0, i, 'sleep', [task_ms]]) for i in range(calls)))
            wait_until(lambda: daemon.stats()['loops']['waits_for_slot'] > 0, 'its calls to wait')
            self.measure(f'{calls} calls of {task_ms} ms', quiet, task_ms,
                         lambda: daemon.stats()['loops']['calls_answered'] < calls)
            # Each has its outcome, those that waited too: they are put into the lane before the daemon drains.
            # On a busy machine none is left to be cancelled.
            greedy.send(b''.join(msgpack.packb([2, '$/cancel', [i]]) for i in range(calls)))
            outcomes = [greedy.response(i)[0] for i in range(calls)]
            self.assertLessEqual({str(error)[:3] for error in outcomes if error}, {'304'})

    def test_beside_many_connections_of_another_user(self):
        """Each has one call after the other, so all are as quiet; but all of them together are one principal."""
        task_ms, connections, calls = 5, 100, 100
        with Daemon(workers=1, threads_io=1, drain_ms=0, socket_mode='0666') as daemon, daemon.unix() as quiet, \
                contextlib.ExitStack() as stack:
            quiet.call('echo', 0)
            os.chmod(daemon.dir, 0o755)
            os.seteuid(pwd.getpwnam('nobody').pw_uid)
            try:
                greedy = [stack.enter_context(daemon.unix()) for _ in range(connections)]
            finally:
                os.seteuid(0)
            for rpc in greedy:
                rpc.send(b''.join(msgpack.packb([0, i, 'sleep', [task_ms]]) for i in range(calls)))
            wait_until(lambda: daemon.stats()['loops']['waits_for_slot'] >= connections, 'all to wait')
            self.measure(f'{connections} connections with calls of {task_ms} ms', quiet, task_ms,
                         lambda: daemon.stats()['loops']['calls_answered'] < connections * calls)

    def test_beside_many_sessions_with_long_calls(self):
        """They share the worker's time with the session of the quiet one's event loop."""
        task_ms, sessions, calls = 20, 40, 20
        with Daemon(workers=1, threads_io=1, drain_ms=0) as daemon, daemon.tcp() as quiet, contextlib.ExitStack() as stack:
            quiet.call('echo', 0)
            lanes = []
            for _ in range(sessions):
                rpc = stack.enter_context(daemon.unix())
                lanes.append(stack.enter_context(Lanes(rpc, [[('sleep', task_ms)] * calls])))
            for session in lanes:
                session.publish(0)
            quiet.call('echo', 0)
            self.measure(f'{sessions} sessions with {calls} calls of {task_ms} ms', quiet, task_ms,
                         lambda: not any(session.is_answered() for session in lanes))

    def beside_sessions_of_another_user(self, policy=None, greedy_for_each=1, workers=1):
        """A modest session has as many calls as each greedy one. When it has all its outcomes, the greedy ones together
        have as many as one, by the weights; with a share for each session they had nearly all of theirs."""
        task_ms, sessions, calls, slack = 4, 12, 25, 8
        settings = {'policy': policy} if policy else {'attach_users': 'nobody'}
        with Daemon(workers=workers, threads_io=1, drain_ms=0, socket_mode='0666', **settings) as daemon, \
                contextlib.ExitStack() as stack:
            os.chmod(daemon.dir, 0o755)
            os.seteuid(pwd.getpwnam('nobody').pw_uid)
            try:
                others = [stack.enter_context(daemon.unix()) for _ in range(sessions)]
            finally:
                os.seteuid(0)
            rpc = stack.enter_context(daemon.unix())
            row = [[('sleep', task_ms)] * calls] * workers
            greedy = [stack.enter_context(Lanes(other, row)) for other in others]
            modest = stack.enter_context(Lanes(rpc, row))
            for session in [*greedy, modest]:
                for lane in range(workers):
                    session.publish(lane)
            rpc.call('echo', 0)
            wait_until(modest.is_answered, 'the modest calls to be answered')
            got = sum(session.answered() for session in greedy)
            print(f'fair time: beside {calls * workers} calls of one session {got} of {sessions} sessions of another user')
            self.assertLessEqual(got, greedy_for_each * workers * calls * 2 + slack)
            self.assertGreaterEqual(got, greedy_for_each * workers * calls // 2 - slack)

    def test_beside_many_sessions_of_another_user(self):
        self.beside_sessions_of_another_user()

    def test_beside_many_sessions_of_another_user_with_several_workers(self):
        """They steal from each other, and pay for that too."""
        self.beside_sessions_of_another_user(workers=3)

    def test_by_weight(self):
        with tempfile.NamedTemporaryFile('w', suffix='.policy') as policy:
            policy.write('[principal user:nobody]\nallow = * $/attach $/tasks\nweight = 3\n[principal user:root]\nallow = * $/*\n')
            policy.flush()
            self.beside_sessions_of_another_user(policy.name, 3)

    def test_the_session_of_a_loop_weighs_as_much_as_wait_in_it(self):
        """Two users' calls wait in the daemon, and a third principal is a session: it gets a third and no half."""
        task_ms, calls, waiting = 4, 25, 300
        with Daemon(workers=1, threads_io=1, drain_ms=0, socket_mode='0666') as daemon, contextlib.ExitStack() as stack:
            os.chmod(daemon.dir, 0o755)
            os.seteuid(pwd.getpwnam('nobody').pw_uid)
            try:
                users = [stack.enter_context(daemon.unix())]
            finally:
                os.seteuid(0)
            users.append(stack.enter_context(daemon.unix()))
            session = stack.enter_context(Lanes(stack.enter_context(daemon.unix()), [[('sleep', task_ms)] * calls]))
            for rpc in users:
                rpc.send(b''.join(msgpack.packb([0, i, 'sleep', [task_ms]]) for i in range(waiting)))
            wait_until(lambda: daemon.stats()['loops']['waits_for_slot'] >= len(users), 'both to wait')
            before = daemon.stats()['loops']['calls_answered']
            session.publish(0)
            wait_until(session.is_answered, 'the calls of the session to be answered')
            got = daemon.stats()['loops']['calls_answered'] - before
            print(f'fair time: beside {calls} calls of a session {got} of two users in a loop')
            self.assertGreaterEqual(got, calls * 3 // 2)
            self.assertLessEqual(got, calls * 4)


if __name__ == '__main__':
    main()
