# SPDX-License-Identifier: Apache-2.0
"""A quiet connection beside others that attack its event loop: how long 99 of 100 of its `$/ping` wait; the goal is 5 ms. And
messages of some size beside many that are never whole. attacks.py measures these and others.
"""

import itertools

from knit_attacks import SETTINGS, TRICKLES, beside, costly, echo, expire_bound, floods, ping, press, refer, trickle, waits
from knit_harness import SLOWDOWN, Case, Daemon, main, wait_until

GOAL_MS, BOUND = 5, 10
PINGS, TRIES = 400, 5


class Quiet(Case):
    def wait_beside(self, name, attack, *arguments):
        """An attack shows each time; that the machine was busy does not."""
        with Daemon(**SETTINGS) as daemon, ping(daemon) as ask, beside(attack, daemon, *arguments) as attacker:
            for _ in range(TRIES):
                values = waits(ask, 60, PINGS, daemon.pid)
                p99 = values[len(values) * 99 // 100]
                print(f'quiet: beside {name}: p50 {values[len(values) // 2]:.2f} ms, p99 {p99:.2f}, worst {values[-1]:.2f}')
                self.assertTrue(attacker.is_alive(), 'the attack has ended')
                if p99 < GOAL_MS * BOUND * SLOWDOWN:
                    return
        self.fail(f'beside {name}: the p99 was above {GOAL_MS * BOUND} ms each time')

    def test_floods_of_many_connections(self):
        self.wait_beside('200 floods of $/ping', press, floods(200))

    def test_messages_that_are_costly(self):
        for name, blob in costly():
            with self.subTest(name):
                self.wait_beside(name, press, [blob] * 4)

    def test_references(self):
        """Neither does a turn last as long as all that one result makes ready, nor does a deadline cost by all that wait:
        half of the time is spent in pings that are short. One such turn, or look, took 50 ms."""
        for attack, name in (refer, '1000 calls that wait for 7 MiB'), \
                (expire_bound, '200000 calls that wait, and some that time out'):
            with self.subTest(name), Daemon(lane_depth_us=0, **SETTINGS) as daemon, ping(daemon) as ask, \
                    beside(attack, daemon):
                for _ in range(TRIES):
                    values = waits(ask, 1, pid=daemon.pid)
                    spent = list(itertools.accumulate(values))
                    half = next(value for value, so_far in zip(values, spent) if so_far >= spent[-1] / 2)
                    print(f'quiet: beside {name}: half of the time in pings of up to {half:.2f} ms')
                    if half < GOAL_MS * BOUND / 2 * SLOWDOWN:
                        break
                else:
                    self.fail(f'beside {name}: above {GOAL_MS * BOUND / 2} ms each time')

    def test_trickles(self):
        """Slow ones, and such as are just fast enough to keep what they have: a quarter of the budget is all of theirs."""
        for rate in 66 << 10, 600 << 10:
            with self.subTest(rate=rate), Daemon(**SETTINGS) as daemon, beside(trickle, daemon, rate):
                wait_until(lambda: daemon.stats()['loops']['waits_for_room'] > TRICKLES // 2, 'the budget to be used up')
                for transport, who in ('unix', 'another user'), ('tcp', 'their own address'):
                    for size in 40 << 10, 1 << 20:
                        self.echo_beside(daemon, f'{TRICKLES} trickles of {rate >> 10} KiB/s', size, transport, who)

    def echo_beside(self, daemon, name, size, transport, who):
        for _ in range(TRIES):
            with echo(daemon, size, transport) as ask:
                worst = waits(ask, 1)[-1]
            print(f'quiet: {name}: {size >> 10} KiB of {who}: worst {worst:.1f} ms')
            if worst < 50 * BOUND * SLOWDOWN:
                return
        self.fail(f'beside {name}: {size >> 10} KiB of {who} were above {50 * BOUND} ms each time')


if __name__ == '__main__':
    main()
