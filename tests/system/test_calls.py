# SPDX-License-Identifier: Apache-2.0
"""What runs, what waits and who is attached: as operators see it, and what they do to it."""

import json
import os
import re
import subprocess

from knit_harness import PATIENCE, Case, Child, Daemon, main, wait_until

KNIT = os.environ['KNIT_TOOL']
DENIED, UNKNOWN_TASK, BAD_ARGUMENT = 301, 300, 302


def knit(daemon, *arguments, status=0):
    done = subprocess.run([KNIT, '-u', f'unix://{daemon.socket}', *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=3 * PATIENCE)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout if status == 0 else done.stderr


def caller(daemon, *arguments):
    """By shared memory, in a process of its own."""
    return Child([KNIT, '-u', f'shm://{daemon.socket}', 'call', *arguments], stdout=subprocess.PIPE, text=True)


def address(row):
    return row['session'], row['slot'], row['generation']


class Lists(Case):
    def test_calls_are_listed_by_their_addresses(self):
        with Daemon(workers=1) as daemon, daemon.unix() as rpc, daemon.unix() as operator, caller(daemon, 'sleep', '60000') as child:
            def listed(count):
                rows = operator.call('$/calls')['calls']
                return len(rows) == count and rows
            (row,) = wait_until(lambda: listed(1), 'the call by shared memory')
            self.assertEqual(set(row), {'task', 'state', 'principal', 'age_ms', 'worker', 'pid', 'session', 'slot', 'generation'})
            self.assertEqual((row['task'], row['state'], row['principal'], row['worker']), ('sleep', 'running', f'uid:{os.getuid()}', 0))
            self.assertEqual(row['pid'], daemon.stats()['lanes'][0]['pid'])
            with caller(daemon, 'add', '1', '2') as behind:
                msgid = rpc.request('add', 3, 4)
                rows = wait_until(lambda: listed(3), 'two that wait')
                self.assertEqual(len({address(row) for row in rows}), 3)
                waiting = [row for row in rows if row['state'] == 'queued']
                self.assertEqual([set(row) for row in waiting], 2 * [{'task', 'state', 'principal', 'session', 'slot', 'generation'}])
                self.assertEqual({row['task'] for row in waiting}, {'add'})
                child.process.kill()
                child.process.wait()
                self.assertEqual(rpc.result(msgid), 7)
                self.assertEqual(behind.process.communicate(timeout=PATIENCE)[0], '3\n')
            wait_until(lambda: operator.call('$/calls') == {'calls': [], 'waiting': [], 'left_out': 0}, 'nothing to run')

    def test_a_slot_s_next_call_has_another_address(self):
        with Daemon(workers=1) as daemon, daemon.unix() as rpc, daemon.unix() as operator:
            seen = []
            for _ in range(5):
                msgid = rpc.request('sleep', 200)
                (row,) = wait_until(lambda: operator.call('$/calls')['calls'], 'the call')
                rpc.response(msgid)
                wait_until(lambda: not operator.call('$/calls')['calls'], 'its end')
                seen.append(address(row))
            self.assertEqual(len(set(seen)), len(seen))
            self.assertLess(len({place[:2] for place in seen}), len(seen))

    def test_many_ask_at_once(self):
        with Daemon(workers=1, threads_io=4) as daemon, daemon.unix() as rpc, daemon.unix() as operator:
            msgid = rpc.request('sleep', 60000)
            wait_until(lambda: operator.call('$/calls')['calls'], 'the call')
            others = [daemon.unix() for _ in range(8)]
            asked = [(other, other.request(method)) for other in others for method in ('$/calls', '$/sessions', '$/calls')]
            for other, asked_id in asked:
                answer = other.result(asked_id)
                self.assertEqual([len(answer.get('calls', [0]))], [1], answer)
            for other in others:
                other.close()
            rpc.notify('$/cancel', msgid)
            rpc.response(msgid)

    def test_a_caller_that_asks_and_goes_is_forgotten(self):
        with Daemon() as daemon:
            for _ in range(20):
                with daemon.unix() as rpc:
                    for _ in range(10):
                        rpc.request('$/calls')
            with daemon.unix() as rpc:
                self.assertEqual(rpc.call('$/calls')['calls'], [])
                ids = [rpc.request('$/sessions') for _ in range(200)]
                errors = [error for error, _ in (rpc.response(msgid) for msgid in ids)]
                self.assertLessEqual(set(errors), {None, '201 QUOTA: $/sessions: as many as may wait do already'})
                self.assertGreaterEqual(errors.count(None), 64)

    def test_sessions_are_loops_and_who_attached(self):
        with Daemon(workers=1, threads_io=2) as daemon, daemon.unix() as operator, caller(daemon, 'sleep', '60000') as child:
            def attached():
                rows = operator.call('$/sessions')['sessions']
                return [row for row in rows if row['kind'] == 'shm' and row['running'] == 1] and rows
            rows = wait_until(attached, 'the caller')
            self.assertEqual(sorted(row['kind'] for row in rows), ['loop', 'loop', 'shm'])
            (row,) = (row for row in rows if row['kind'] == 'shm')
            self.assertEqual({key: row[key] for key in ('principal', 'uid', 'pid', 'state', 'queued')},
                             {'principal': f'uid:{os.getuid()}', 'uid': os.getuid(), 'pid': child.pid, 'state': 'open', 'queued': 0})
            self.assertGreater(row['memory_bytes'], 4096)
            self.assertEqual(row['session'], operator.call('$/calls')['calls'][0]['session'])
            self.assertEqual({row['state'] for row in rows}, {'open'})
            child.process.kill()
            child.process.wait()
            wait_until(lambda: len(operator.call('$/sessions')['sessions']) == 2, 'its end')

    def test_they_are_for_operators(self):
        with Daemon() as daemon, daemon.tcp() as rpc:
            for method in '$/calls', '$/sessions':
                self.assert_fails(DENIED, rpc.call, method)

    def test_the_tool_prints_them(self):
        with Daemon(workers=1) as daemon, daemon.unix() as rpc:
            msgid = rpc.request('sleep', 60000)
            (row,) = wait_until(lambda: json.loads(knit(daemon, 'calls', '--json'))['calls'], 'the call')
            head, line = knit(daemon, 'calls').splitlines()
            self.assertEqual(head.split(), ['CALL', 'STATE', 'AGE', 'WORKER', 'PRINCIPAL', 'TASK'])
            self.assertRegex(line, rf'^{row["session"]}\.{row["slot"]}\.{row["generation"]} +running +\d+m?s +0 +uid:{os.getuid()} +sleep *$')
            head, line = knit(daemon, 'sessions').splitlines()
            self.assertEqual(head.split()[:3], ['SESSION', 'KIND', 'STATE'])
            self.assertRegex(line, rf'^{row["session"]} +loop +open +\d+ +1 +0 ')
            self.assertIn('takes no arguments', knit(daemon, 'calls', 'all', status=2))
            rpc.notify('$/cancel', msgid)
            rpc.response(msgid)


if __name__ == '__main__':
    main()
