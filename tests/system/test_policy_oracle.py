# SPDX-License-Identifier: Apache-2.0
"""S8 over real lanes: random policies, principals and tasks, and a new policy between the moment at which a call is
published and the one at which a worker takes it. What the outcome has to be an oracle says, which knows what was written
into the file and reads no code of the product.

Callers write their calls into the lanes as bytes (knit_lanes.py), so nobody but the worker decides. A call obeys the policy
that holds when it is taken, and by then one holds whose reload has returned:

    stopped     the workers are stopped, calls are published, one to three reloads return, the workers go on: the last one
    held        a call of each lane waits at a gate: what was answered before has the old policy, what is behind it the new
    racing      the workers run during the reload: of each worker and session calls first have the old policy, then the
                new; what is published after it returned has the new one

The ordinary run lasts some seconds; KNIT_TEST_LONG=1 asks for 100,000 calls.
"""

import contextlib
import hashlib
import os
import random
import re
import struct
import tempfile
import time

from knit_harness import SLOWDOWN, Case, main, wait_until
from knit_lanes import Lanes
from knit_witness import LONG, LedgerDaemon, seed, stopped

DENIED, WORKERS, TASKS, SECONDS, CALLS_MIN = 301, 2, 50, 5, 2000
TOKENS = {f'token:{name}': f'{name}-0123456789abcdef' for name in ('ann', 'anton', 'bert', 'berta')}
USER = ['uid:%d' % os.geteuid(), *{'gid:%d' % gid for gid in (os.getegid(), *os.getgroups())}]
# Of each session: the names of its principal, and the token that it says.
PRINCIPALS = [([name], token) for name, token in TOKENS.items()] + [(USER, None)]
MEMBERS = ['*', 'token:*', 'token:a*', 'token:*a', 'token:*t*', 'token:bert', 'token:ann', 'token:nobody', 'uid:*', 'gid:*',
           USER[0], USER[1], 'anonymous']
PATTERNS = ['number_*', '*_1*', '*7', 'number_2*', 'n*_*3', 'number_12', 'number_40', 'number_0', 'num*_4*', 'no_such_task',
            '*_', 'number_*5*']
# What the test itself calls.
BASE = (['*'], ['hold', 'same', '$/*'], [])


class Policy:
    """Sections: members, what they allow, what they deny."""

    def __init__(self, number=None):
        """None: by which everything is allowed."""
        def some(words):
            return number.sample(words, number.randint(1, 3))
        self.sections = [BASE, (['*'], ['*'], [])] if number is None else [BASE] + [
            (some(MEMBERS), some(PATTERNS + ['*']), some(PATTERNS) if number.random() < 0.5 else [])
            for _ in range(number.randint(0, 6))]

    def text(self):
        return ''.join(f'[group g{i}]\nmembers = {" ".join(members)}\nallow = {" ".join(allow)}\n' +
                       (f'deny = {" ".join(deny)}\n' if deny else '')
                       for i, (members, allow, deny) in enumerate(self.sections))

    def allows(self, names, task):
        def some_is(patterns, texts):
            return any(re.fullmatch('.*'.join(map(re.escape, p.split('*'))), text) for p in patterns for text in texts)
        apply = [(allow, deny) for members, allow, deny in self.sections if some_is(members, names)]
        return (any(some_is(allow, [task]) for allow, _ in apply) and
                not any(some_is(deny, [task]) for _, deny in apply))


class Session:
    """One principal's, with calls for each lane."""

    def __init__(self, daemon, names, token, calls):
        self.names, self.calls = names, calls
        self.rpc = daemon.unix()
        self.rpc.call('$/hello', {'name': 'test', **({} if token is None else {'token': token})})
        self.lanes = Lanes(self.rpc, calls)

    def close(self):
        self.lanes.__exit__()
        self.rpc.close()

    def call(self, slot):
        lane, i = self.lanes.slots[slot]
        return self.calls[lane][i]

    def answered(self):
        return {slot for slot in range(len(self.lanes.slots)) if self.lanes.outcome(slot) is not None}

    def is_allowed(self, slot):
        """What became of it, and that it is one of the two."""
        is_result, value = self.lanes.outcome(slot)
        task, *arguments = self.call(slot)
        if not is_result:
            assert value[0] == DENIED, value
        elif task != 'hold':
            assert value == arguments[0] + int(task[7:]), (task, arguments, value)
        return is_result

    def may(self, policy, slot):
        return policy.allows(self.names, self.call(slot)[0])


class Oracle(Case):
    def setUp(self):
        self.number = random.Random(seed())
        self.calls = self.denied = self.changed = self.reloads = self.raced = 0

    def reload(self, policy=None):
        """Returns the policy that holds from now on."""
        policy = policy or Policy(self.number)
        self.write(policy)
        self.operator.call('$/reload')
        return policy

    def write(self, policy):
        with open(self.policy_path, 'w') as file:
            file.write(policy.text())
        self.reloads += 1

    def wake(self):
        """Both workers look into all lanes."""
        for msgid in [self.other.request('same', 1) for _ in range(2 * WORKERS)]:
            self.other.result(msgid)
        return True

    def some_calls(self):
        return [[(f'number_{self.number.randrange(TASKS)}', self.number.randrange(100))
                 for _ in range(self.number.randint(1, 60))] for _ in range(WORKERS)]

    @contextlib.contextmanager
    def sessions(self, holds=False):
        """Of all principals, and the policy that holds now. `holds`: a call of each lane waits at gate 0."""
        self.reload(Policy())
        calls = [self.some_calls() for _ in PRINCIPALS]
        for lane in range(WORKERS) if holds else ():
            row = self.number.choice(calls)[lane]
            row.insert(self.number.randint(0, len(row)), ('hold', lane, 0))
        with contextlib.ExitStack() as stack:
            sessions = [stack.enter_context(contextlib.closing(Session(self.daemon, *principal, rows)))
                        for principal, rows in zip(PRINCIPALS, calls)]
            self.number.shuffle(sessions)
            yield sessions, self.reload()

    def publish(self, sessions):
        for session in sessions:
            for lane in range(WORKERS):
                session.lanes.publish(lane)

    def await_all(self, sessions):
        wait_until(lambda: self.wake() and all(session.lanes.is_answered() for session in sessions), 'all to be answered')

    def count(self, session, slot, old, new):
        self.calls += 1
        self.denied += not session.is_allowed(slot)
        self.changed += session.may(old, slot) != session.may(new, slot)

    def compare(self, sessions, old, new, has_old=lambda session, slot: False):
        for session in sessions:
            for slot in range(len(session.lanes.slots)):
                policy = old if has_old(session, slot) else new
                self.assertEqual(session.is_allowed(slot), session.may(policy, slot),
                                 (session.names, session.call(slot), policy.text()))
                self.count(session, slot, old, new)

    def stopped(self):
        with self.sessions() as (sessions, old):
            with stopped(self.workers[0]), stopped(self.workers[1]):
                self.publish(sessions)
                for _ in range(self.number.randint(1, 3)):
                    new = self.reload()
            self.await_all(sessions)
            self.compare(sessions, old, new)

    def held(self):
        ledger = self.daemon.ledger
        ledger.forget(0, WORKERS)
        ledger.set_gate(0, False)
        with self.sessions(holds=True) as (sessions, old):
            self.publish(sessions)
            woken = [self.other.request('same', 1) for _ in range(2 * WORKERS)]
            for lane in range(WORKERS):
                ledger.wait_for(lane)
            before = {session: session.answered() for session in sessions}
            for _ in range(self.number.randint(1, 3)):
                new = self.reload()
            ledger.set_gate(0, True)
            for msgid in woken:
                self.other.result(msgid)
            self.await_all(sessions)
            self.compare(sessions, old, new, lambda session, slot: slot in before[session] or session.call(slot)[0] == 'hold')

    def racing(self):
        with self.sessions() as (sessions, old):
            new, halves = Policy(self.number), {}
            self.write(new)
            pieces = [(session, lane) for session in sessions for lane in range(WORKERS)]
            self.number.shuffle(pieces)
            begin, woken = self.number.randrange(len(pieces)), []
            for i, (session, lane) in enumerate(pieces):
                if i == begin:
                    msgid = self.operator.request('$/reload')
                halves[session, lane] = half = self.number.randint(0, len(session.calls[lane]))
                session.lanes.publish(lane, 0, half)
                woken.append(self.other.request('same', 1))
            self.operator.result(msgid)
            for session, lane in pieces:
                session.lanes.publish(lane, halves[session, lane])
            for msgid in woken:
                self.other.result(msgid)
            self.await_all(sessions)
            for session in sessions:
                wait_until(lambda: sum(len(session.lanes.order(lane)) for lane in range(WORKERS)) == len(session.lanes.slots),
                           'its completions')
                for lane in range(WORKERS):
                    self.compare_order(session, session.lanes.order(lane), halves, old, new)

    def compare_order(self, session, order, halves, old, new):
        """What one worker did for one session."""
        has_old, was_old = True, False
        for lane, i in order:
            slot = session.lanes.slots.index((lane, i))
            has_old = has_old and i < halves[session, lane] and session.is_allowed(slot) == session.may(old, slot)
            if not has_old:
                self.assertEqual(session.is_allowed(slot), session.may(new, slot),
                                 (session.names, session.call(slot), i, halves[session, lane], old.text(), new.text()))
            differs = session.may(old, slot) != session.may(new, slot)
            self.raced += was_old and differs and not has_old and i < halves[session, lane]
            was_old = has_old and (was_old or differs)
            self.count(session, slot, old, new)

    def test_workers_decide_as_the_oracle_does(self):
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix='knit-'))
            self.policy_path, tokens = os.path.join(folder, 'policy'), os.path.join(folder, 'tokens')
            self.write(Policy())
            with open(tokens, 'w') as file:
                file.writelines(f'{name[6:]} sha256:{hashlib.sha256(token.encode()).hexdigest()}\n'
                                for name, token in TOKENS.items())
            self.daemon = stack.enter_context(LedgerDaemon('--module', os.environ['KNIT_LIST_MODULE'], workers=WORKERS,
                                                           policy=self.policy_path, tokens=tokens))
            self.operator, self.other = stack.enter_context(self.daemon.unix()), stack.enter_context(self.daemon.tcp())
            self.workers = self.daemon.wait_for_workers(WORKERS)
            until, rounds = time.monotonic() + SECONDS * SLOWDOWN, 0
            while self.calls < (100000 if LONG else CALLS_MIN) or (not LONG and time.monotonic() < until):
                for form in self.stopped, self.held, self.racing:
                    form()
                    rounds += 1
            wait_until(lambda: sum(lane['denied'] for lane in self.daemon.stats()['lanes']) == self.denied, 'the denials to be counted')
        print(f'oracle: {self.calls} calls in {rounds} rounds with {self.reloads} reloads, {self.denied} denied, {self.changed} for '
              f'which the reload made a difference, {self.raced} times between two calls of a worker and session: all as the policy '
              'says that held when they were taken')
        self.assertGreaterEqual(self.calls, CALLS_MIN)
        for part in self.denied, self.calls - self.denied, self.changed:
            self.assertGreater(part, self.calls // 10)


if __name__ == '__main__':
    main()
