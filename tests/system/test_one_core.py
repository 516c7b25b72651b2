# SPDX-License-Identifier: Apache-2.0
"""Caller, daemon and worker share one core: who waits there gives way instead of spinning. Counted is what repeats on a
busy machine: turns of the loop, which polls in some of them, and how often the worker leaves the core.
"""

import os

from knit_harness import Case, main
from knit_witness import LedgerDaemon

CALLS = 1000


def switches(pid):
    """Of the thread that runs tasks."""
    with open(f'/proc/{pid}/status') as file:
        return sum(int(line.split()[1]) for line in file if 'ctxt_switches:' in line)


class OneCore(Case):
    def setUp(self):
        allowed = os.sched_getaffinity(0)
        self.addCleanup(os.sched_setaffinity, 0, allowed)
        os.sched_setaffinity(0, {min(allowed)})
        self.daemon = self.enterContext(LedgerDaemon(workers=1, threads_io=1))

    def test_a_loop_does_not_poll_for_a_worker_on_its_core(self):
        goal = 2  # turns a call: with the request, with the answer
        for name, connect in self.daemon.transports():
            with self.subTest(name), connect() as rpc:
                before = rpc.call('$/stats')['loops']['turns']
                for number in range(CALLS):
                    self.assertEqual(rpc.call('same', number), number)
                turns = rpc.call('$/stats')['loops']['turns'] - before
                self.assertLess(turns / CALLS, 3 * goal)

    def test_a_worker_leaves_the_core_once_a_call(self):
        goal = 1
        worker, = self.daemon.wait_for_workers(1)
        with self.daemon.unix() as rpc:
            before = switches(worker)
            for number in range(CALLS):
                self.assertEqual(rpc.call('same', number), number)
            self.assertLess((switches(worker) - before) / CALLS, 3 * goal)


if __name__ == '__main__':
    main()
