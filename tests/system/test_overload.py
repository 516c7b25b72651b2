# SPDX-License-Identifier: Apache-2.0
"""R10: three times as many calls as the workers can run, sent at the times of a clock and not when answers come, each with
a time for which its caller waits. Results that come within that time count, and nothing else does.

The goal is 90 % of what the workers do in a closed loop, refusals within 1 ms at the 99th percentile, and no memory that
grows. The short form asks for half of the goodput, and for nine of ten refusals within ten times as long. The tasks sleep, so
that the one who sends (open_loop.c) does not compete with the workers for cores. Without refusals every call would wait until
its time is nearly over, and none would be of use.
"""

import json
import os
import subprocess
import time

from knit_harness import SLOWDOWN, Case, Daemon, main

LONG = os.environ.get('KNIT_TEST_LONG') == '1'
SECONDS, CONNECTIONS, WORKERS, TRIES = (60 if LONG else 2), 4, 2, 3
RATE = 3 * WORKERS * 1000  # of tasks of 1 ms
PATIENCE_MS, TASK_MS = 200, 1
P90, P99 = 1, 2
GOODPUT, REFUSED, REFUSED_MS, GROWTH_KB = (0.9, P99, 1, 16384) if LONG else (0.45, P90, 10, 65536)


def peak_of(daemon, seconds=0.5):
    """Calls a second where as many are in flight as keep the workers busy; what they take is known then. On a machine that
    is busy some are refused: they take longer than they are to wait."""
    with daemon.tcp() as rpc:
        for _ in range(8):
            rpc.request('sleep', TASK_MS)
        begin, count = time.monotonic(), 0
        while time.monotonic() - begin < seconds:
            count += rpc.response(rpc.next_id - 8)[0] is None
            rpc.request('sleep', TASK_MS)
        took = time.monotonic() - begin
        for msgid in range(rpc.next_id - 8, rpc.next_id):
            rpc.response(msgid)
    return count / took


def open_loop(daemon):
    words = map(str, (daemon.port, CONNECTIONS, RATE, SECONDS, PATIENCE_MS))
    done = subprocess.run([os.environ['KNIT_OPEN_LOOP'], *words], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


class Overload(Case):
    def overload(self, daemon, name):
        peak, before_kb = peak_of(daemon), daemon.memory_kb()
        load = open_loop(daemon)
        grown_kb, outcomes = daemon.memory_kb() - before_kb, load['outcomes']
        self.assertEqual((load['sent'], sum(outcomes.values())), (RATE * SECONDS, RATE * SECONDS))
        self.assertEqual(outcomes['other'], 0)
        self.assertLess(grown_kb, GROWTH_KB)
        goodput = outcomes['ok'] / SECONDS / peak
        print(f'overload, {name}, {SECONDS} s: peak {peak:.0f}/s, sent {RATE}/s, goodput {goodput:.2f} of peak, {outcomes}, '
              f'{grown_kb} KiB more; p50, p90, p99, p99.9 and worst, in ms, of refusals from when they were sent '
              f'{load["refused_from_send_ms"]}, from when they were due {load["refused_from_due_ms"]}, and of how late they '
              f'were sent {load["sent_late_ms"]}')
        self.assertGreater(outcomes['200'], load['sent'] // 3)
        return goodput > GOODPUT and load['refused_from_send_ms'][REFUSED] < REFUSED_MS * SLOWDOWN

    def test_most_of_what_is_run_is_of_use(self):
        for name, queue_delay_ms in (('a limit of the server', 20), ('timeouts alone', 600000)):
            with self.subTest(name), Daemon(workers=WORKERS, threads_io=1, queue_delay_ms=queue_delay_ms) as daemon:
                self.assertTrue(any(self.overload(daemon, name) for _ in range(TRIES)), 'the goodput, or the refusals')


if __name__ == '__main__':
    main()
