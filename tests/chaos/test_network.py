# SPDX-License-Identifier: Apache-2.0
"""Connections between callers and the daemon, with TLS and without, are delayed, split, half closed, blocked and reset
(chaos_proxy.py). A ledger says what ran, the callers' record which outcomes they got: knit_chaos.py compares the two.
"""

import contextlib
import os
import time

from chaos_proxy import ChaosProxy
from knit_chaos import Audit, ChaosCaller, Record
from knit_harness import PATIENCE, SLOWDOWN, Case, main, wait_until
from knit_tls import Authority
from knit_witness import LONG, LedgerDaemon, descriptors, seed

SECONDS = (60 * float(os.environ.get('KNIT_TEST_MINUTES', '10')) if LONG else 6) * SLOWDOWN
CALLERS, CALLS = 6, 3000
# It takes that much longer at most where one kind has not happened yet.
MORE_SECONDS, KINDS = 60 * SLOWDOWN, {'delay', 'trickle', 'blackhole', 'half_close', 'reset'}
# More than a few dozen connections need at a time; a leak of each connection would exceed it.
GROWTH_MAX_KB = 2048


class Network(Case):
    def test_each_call_has_one_true_outcome(self):
        start, until = seed(), time.monotonic() + SECONDS
        with contextlib.closing(Record()) as record, contextlib.closing(Authority()) as authority, \
                LedgerDaemon(workers=2, listen_tls='127.0.0.1:0', **authority.pair('server')) as daemon, \
                ChaosProxy(daemon.url('tcp'), start) as plain, ChaosProxy(daemon.url('tls'), start + 1) as tls:
            proxies = plain, tls
            before, memory = descriptors(daemon.pid), []
            callers, past, first = {}, [], 0

            def has_had_all():
                now = time.monotonic()
                return now >= until and (all(set(proxy.seen) == KINDS for proxy in proxies) or now >= until + MORE_SECONDS)
            with contextlib.ExitStack() as stack:
                while callers or not plain.is_calm:
                    plain.is_calm = tls.is_calm = plain.is_calm or has_had_all()
                    for seat in range(CALLERS):
                        if seat in callers and callers[seat].is_over():
                            self.assertEqual(callers[seat].wait(), 0)
                            past.append(callers.pop(seat))
                            memory.append(daemon.memory_kb())
                        if seat not in callers and not plain.is_calm and first + CALLS <= daemon.ledger.IDS:
                            callers[seat] = stack.enter_context(ChaosCaller(
                                proxies[seat % 2].url, record, seat, first, CALLS, start + first + seat, attempts=400,
                                trusts=authority.path('ca.pem')))
                            first += CALLS
                    wait_until(lambda: not callers or any(c.is_over() for c in callers.values()) or
                               not plain.is_calm and has_had_all(), 'a caller to end', 12 * PATIENCE + SECONDS)
                wait_until(lambda: not any(lane['is_running'] for lane in daemon.stats()['lanes']), 'workers to be idle')
            for name, proxy in zip(('plain', 'TLS'), proxies):
                self.audit(daemon, record, name, proxy, [caller for caller in past if proxies[caller.seat % 2] is proxy])
                proxy.is_over.set()
            self.check(daemon, memory)
            wait_until(lambda: descriptors(daemon.pid) <= before, f'{before} descriptors')

    def audit(self, daemon, record, name, proxy, past):
        audit = Audit()
        for caller in past:
            audit.add(daemon.ledger, record, caller.first, caller.count, False)
        print(f'network, {name}: {audit}')
        print(f'network, {name}: {len(proxy.connections)} connections, {dict(proxy.seen)}')
        self.assertEqual(audit.wrong, [])
        self.assertEqual(audit.calls, CALLS * len(past))
        self.assertGreater(audit.outcomes['ok'], 1000)
        self.assertGreater(sum(n for outcome, n in audit.outcomes.items() if outcome.startswith('DISCONNECTED')), 0)
        self.assertEqual(set(proxy.seen), KINDS)

    def check(self, daemon, memory):
        growth = memory[-1] - memory[len(memory) // 3]
        print(f'network: the daemon grew by {growth} KB')
        pool = daemon.stats()['pool']
        self.assertEqual((pool['deaths'], pool['condemned']), (0, 0))
        self.assertLess(growth, GROWTH_MAX_KB)


if __name__ == '__main__':
    main()
