# SPDX-License-Identifier: Apache-2.0
"""Connections between callers and the daemon are delayed, split, half closed, blocked and reset (chaos_proxy.py). A
ledger says what ran, the callers' record which outcomes they got: knit_chaos.py compares the two.
"""

import contextlib
import os
import time

from chaos_proxy import ChaosProxy
from knit_chaos import Audit, ChaosCaller, Record
from knit_harness import PATIENCE, SLOWDOWN, Case, main, wait_until
from knit_witness import LONG, LedgerDaemon, descriptors, seed

SECONDS = (60 * float(os.environ.get('KNIT_TEST_MINUTES', '10')) if LONG else 6) * SLOWDOWN
CALLERS, CALLS = 6, 3000
# More than a few dozen connections need at a time; a leak of each connection would exceed it.
GROWTH_MAX_KB = 2048


class Network(Case):
    def test_each_call_has_one_true_outcome(self):
        start, until = seed(), time.monotonic() + SECONDS
        with contextlib.closing(Record()) as record, LedgerDaemon(workers=2) as daemon, \
                ChaosProxy(daemon.port, start) as proxy:
            before, memory = descriptors(daemon.pid), []
            callers, past, first = {}, [], 0
            with contextlib.ExitStack() as stack:
                while callers or time.monotonic() < until:
                    proxy.is_calm = time.monotonic() >= until
                    for seat in range(CALLERS):
                        if seat in callers and callers[seat].is_over():
                            self.assertEqual(callers[seat].wait(), 0)
                            past.append(callers.pop(seat))
                            memory.append(daemon.memory_kb())
                        if seat not in callers and not proxy.is_calm and first + CALLS <= daemon.ledger.IDS:
                            callers[seat] = stack.enter_context(ChaosCaller(
                                proxy.url, record, seat, first, CALLS, start + first + seat, attempts=400))
                            first += CALLS
                    wait_until(lambda: any(c.is_over() for c in callers.values()) or time.monotonic() > until,
                               'a caller to end', 12 * PATIENCE + SECONDS)
                wait_until(lambda: not any(lane['is_running'] for lane in daemon.stats()['lanes']), 'workers to be idle')
            self.check(daemon, record, proxy, past, memory)
            proxy.is_over.set()
            wait_until(lambda: descriptors(daemon.pid) <= before, f'{before} descriptors')

    def check(self, daemon, record, proxy, past, memory):
        audit = Audit()
        for caller in past:
            audit.add(daemon.ledger, record, caller.first, caller.count, False)
        growth = memory[-1] - memory[len(memory) // 3]
        print(f'network: {audit}')
        print(f'network: {len(proxy.connections)} connections, {dict(proxy.seen)}; the daemon grew by {growth} KB')
        self.assertEqual(audit.wrong, [])
        self.assertEqual(audit.calls, CALLS * len(past))
        self.assertGreater(audit.outcomes['ok'], 1000)
        self.assertGreater(sum(n for outcome, n in audit.outcomes.items() if outcome.startswith('DISCONNECTED')), 0)
        self.assertEqual(set(proxy.seen), {'delay', 'trickle', 'blackhole', 'half_close', 'reset'})
        pool = daemon.stats()['pool']
        self.assertEqual((pool['deaths'], pool['condemned']), (0, 0))
        self.assertLess(growth, GROWTH_MAX_KB)


if __name__ == '__main__':
    main()
