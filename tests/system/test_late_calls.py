# SPDX-License-Identifier: Apache-2.0
"""What comes when a timeout is over or a call is aborted with a reason, and notifications, over every transport: by the
library, the tool, and any client of the protocol."""

import json
import os
import subprocess
import time

import msgpack

from knit_harness import PATIENCE, SLOWDOWN, Case, Daemon, RpcError, main, wait_until
from knit_witness import LedgerDaemon

CALLS, GIVEN_UP = os.environ['KNIT_LATE_CALLS'], os.environ['KNIT_GIVEN_UP']
LATE, TOOL = os.environ['KNIT_LATE'], os.environ['KNIT_TOOL']
OVERLOADED, TIMEOUT, CANCELLED, HARD_TIMEOUT, SHUTDOWN = 200, 303, 304, 401, 502


class LateCalls(Case):
    def over_every_transport(self, program, give_pid=False):
        with Daemon(module=LATE, workers=1) as daemon:
            for url in daemon.urls:
                with self.subTest(url.split(':')[0]):
                    done = subprocess.run([program, url, *([str(daemon.pid)] if give_pid else [])], stdout=subprocess.PIPE,
                                          stderr=subprocess.STDOUT, text=True, timeout=12 * PATIENCE)
                    print(done.stdout)
                    self.assertEqual(done.returncode, 0, done.stdout)

    def test_timeouts_of_the_library_over_every_transport(self):
        self.over_every_transport(CALLS)

    def test_aborts_and_notifications_over_every_transport(self):
        self.over_every_transport(GIVEN_UP, give_pid=True)

    def test_a_reason_ends_a_call_at_once(self):
        with Daemon(module=LATE, workers=1) as daemon, daemon.tcp() as rpc:
            held, queued = rpc.request('hold', 600000), rpc.request('hold', 600000)
            for msgid, reason, text in ((held, 'why', '304 CANCELLED: why'), (queued, 7, '304 CANCELLED: the call was')):
                rpc.notify('$/cancel', msgid, reason)
                error = self.assert_fails(CANCELLED, rpc.result, msgid)
                self.assertTrue(error.error.startswith(text), error.error)
            rpc.hello()
            held = rpc.request('hold', 600000)
            rpc.notify('$/cancel', held, {'who': 'me'})
            rpc.notify('$/cancel', held, 'again')
            self.assertEqual(self.assert_fails(CANCELLED, rpc.result, held).details['data'], {'who': 'me'})
            self.assertGreaterEqual(rpc.call('count'), 1)

    def test_the_tool(self):
        with Daemon(module=LATE, workers=1) as daemon:
            for url in daemon.urls:
                for options, status, output in ((['--default', '{"a": [1]}'], 0, {'a': [1]}),
                                                (['--maybe'], 0, None),
                                                (['--error', 'too slow'], 5, 'too slow'),
                                                ([], 5, 'TIMEOUT')):
                    with self.subTest(url.split(':')[0], options=options):
                        done = subprocess.run([TOOL, '-u', url, '--timeout', '50', *options, 'call', 'hold', '600000'],
                                              capture_output=True, text=True, timeout=PATIENCE)
                        self.assertEqual(done.returncode, status, done.stderr)
                        if status == 0:
                            self.assertEqual(json.loads(done.stdout), output)
                        else:
                            self.assertIn(output, done.stderr)
            done = subprocess.run([TOOL, '-u', daemon.urls[0], '--default', '{', 'call', 'hold', '1'],
                                  capture_output=True, text=True, timeout=PATIENCE)
            self.assertEqual(done.returncode, 2)
            self.assertIn('--default is no JSON', done.stderr)

    def test_clients_of_the_protocol_need_no_hello(self):
        with Daemon(module=LATE, workers=1) as daemon, daemon.tcp() as rpc:
            late = {'time': 20, 'default': [1, None], 'maybe': True, 'error': 'no'}
            self.assertEqual(rpc.call('hold', 600000, options={'timeout': late}), [1, None])
            self.assertIsNone(rpc.call('hold', 600000, options={'timeout': {'time': 20, 'maybe': True}}))
            error = self.assert_fails(TIMEOUT, rpc.call, 'hold', 600000, options={'timeout': {'time': 20, 'error': 'late'}})
            self.assertEqual(error.error, '303 TIMEOUT: late')
            self.assertEqual(rpc.call('hold', 600000, options={'timeout': {'time': 0, 'default': 7}}), 7)
            self.assertEqual(rpc.call('late_value', 600000), 7)
            self.assertEqual(rpc.call('late_value', 600000, options={'timeout': {'default': 'x'}}), 'x')
            self.assertEqual(rpc.call('late_value', 600000, options={'output': True}), [7, [b'', False]])
            rpc.hello()
            late = {'time': 20, 'error': {'message': 'late', 'data': {'x': 1}}}
            error = self.assert_fails(TIMEOUT, rpc.call, 'hold', 600000, options={'timeout': late})
            self.assertEqual((error.text, error.details['data']), ('late', {'x': 1}))
            error = self.assert_fails(TIMEOUT, rpc.call, 'late_error', 600000)
            self.assertEqual((error.text, error.details['data']), ('too slow', [5]))
            tasks = {task['name']: task for task in rpc.call('$/tasks')['tasks']}
            self.assertEqual(tasks['late_value']['on_timeout'], {'default': 7})
            self.assertEqual(tasks['late_error']['on_timeout'], {'error': {'message': 'too slow', 'data': [5]}})
            self.assertNotIn('on_timeout', tasks['hold'])

    def test_a_request_beyond_its_own_limit_is_refused_at_once(self):
        with LedgerDaemon(workers=1, slots=64, threads_io=1) as daemon, daemon.tcp() as rpc:
            rpc.hello()
            rpc.request('hold', 0, 1)
            daemon.ledger.wait_for(0)
            # The last ones wait for a slot.
            for i in range(1, 101):
                rpc.request('ledger', 100 + i, options={'queue_max': 101})
            for limit in 101, 5:
                error = self.assert_fails(OVERLOADED, rpc.call, 'ledger', 1000, options={'queue_max': limit})
                self.assertEqual(error.details['limit'], limit)
                self.assertGreater(error.details['retry_after_ms'], 0)
            daemon.ledger.open_gate(1)
            for msgid in range(2, 103):
                rpc.result(msgid)
            self.assertEqual(daemon.ledger.ran(1000), 0)

    @staticmethod
    def code_of(rpc, msgid):
        try:
            rpc.result(msgid)
        except RpcError as error:
            return error.code
        return 0

    def test_a_hard_timeout_may_end_the_pool(self):
        daemon = Daemon(module=LATE, workers=2, hard_timeout_ms=2000, hard_timeout_scope='pool')
        daemon.expected_status = 1
        with daemon, daemon.tcp() as rpc, daemon.unix() as other:
            for connection in rpc, other:
                connection.hello()
            overrun = rpc.request('busy', 600000)
            wait_until(lambda: daemon.stats()['loops']['calls_published'] > 0, 'the call')
            # The second worker's, and one that waits behind them.
            others = [other.request('hold', 600000), other.request('hold', 600000)]
            self.assert_fails(HARD_TIMEOUT, rpc.result, overrun)
            # A busy machine may see both limits pass at once.
            codes = [self.code_of(other, call) for call in others]
            self.assertIn(codes[0], (SHUTDOWN, HARD_TIMEOUT))
            self.assertEqual(codes[1], SHUTDOWN)
            daemon.wait()
            self.assertIn('hard_timeout_scope = pool', daemon.log())

    def test_a_call_that_never_got_a_slot(self):
        with LedgerDaemon(workers=1, slots=64, threads_io=1) as daemon, daemon.tcp() as rpc, daemon.tcp() as other:
            rpc.hello()
            held = other.request('hold', 0, 1)
            daemon.ledger.wait_for(0)
            begun = time.monotonic()
            late = {'time': 100, 'default': 'nothing'}
            rpc.send(b''.join(msgpack.packb([0, 100 + i, 'ledger', [100 + i]]) for i in range(100)) +
                     msgpack.packb([0, 1000, 'ledger', [1000], {'timeout': late}]) +
                     msgpack.packb([0, 1001, 'ledger', [1001], {'timeout': late, 'queue': 50}]) +
                     msgpack.packb([0, 1002, 'ledger', [1002, *[[]] * 300], {'timeout': late}]))
            self.assertEqual([rpc.result(1000), rpc.result(1002)], ['nothing'] * 2)
            late_ms = (time.monotonic() - begun) * 1000 - 100
            print(f'answered {late_ms:.1f} ms after the deadline')
            self.assertGreater(late_ms, 0)
            self.assertLess(late_ms, 1000 * SLOWDOWN)
            # The end of `queue` is the error always.
            self.assert_fails(TIMEOUT, rpc.result, 1001)
            daemon.ledger.open_gate(1)
            for msgid in range(100, 200):
                rpc.result(msgid)
            other.result(held)
            self.assertEqual([daemon.ledger.ran(1000 + i) for i in range(3)], [0] * 3)


if __name__ == '__main__':
    main()
