# SPDX-License-Identifier: Apache-2.0
"""What runs, what waits and who is attached: as operators see it, and what they do to it."""

import json
import os
import subprocess
import threading

from knit_harness import PATIENCE, Case, Child, Daemon, main, wait_until

KNIT = os.environ['KNIT_TOOL']
RUDE = os.environ['KNIT_RUDE']
CANCELLED, DENIED, BAD_ARGUMENT = 304, 301, 302


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
            (row,) = wait_until(lambda: [row for row in listed(1) or () if row['state'] == 'running'], 'the call by shared memory')
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
            wait_until(lambda: [operator.call('$/calls')[key] for key in ('calls', 'waiting', 'left_out')] == [[], [], 0],
                       'nothing to run')

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

    def test_who_waits_for_a_call_is_named_while_others_begin(self):
        """The lists of the loops and the look at the workers are not of the same moment."""
        with Daemon(workers=2, threads_io=2) as daemon, daemon.unix() as operator:
            over = threading.Event()

            def load():
                with daemon.tcp() as rpc:
                    while not over.is_set():
                        rpc.call_all([['sleep', number % 2] for number in range(20)])
            threads = [threading.Thread(target=load) for _ in range(2)]
            for thread in threads:
                thread.start()
            names = {row['principal'] for _ in range(600) for row in operator.call('$/calls')['calls']}
            over.set()
            for thread in threads:
                thread.join()
            self.assertIn('anonymous', names)
            self.assertNotIn('gone', names)

    def test_a_call_whose_caller_has_gone_is_listed_while_it_runs(self):
        with Daemon('--module', RUDE, workers=1, abort_grace_ms=60000) as daemon, daemon.unix() as operator:
            with daemon.tcp() as rpc:
                rpc.request('nap', 60000)
                wait_until(lambda: [row for row in operator.call('$/calls')['calls'] if row['state'] == 'running'], 'the call')
            (row,) = wait_until(lambda: [row for row in operator.call('$/calls')['calls'] if row['principal'] != 'anonymous'],
                                'its caller to be gone')
            self.assertEqual((row['principal'], row['state'], row['worker']), ('gone', 'running', 0))
            self.assertTrue(operator.call('$/kill', *address(row), 0))

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
                def answered():
                    """None until the daemon has noticed that they are gone: they may all wait still."""
                    error, result = rpc.response(rpc.request('$/calls'))
                    return result if error is None else None
                self.assertEqual(wait_until(answered, 'room for another that asks')['calls'], [])
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


class Ended(Case):
    """By an operator, whose calls they are not."""

    def running(self, operator, task='sleep', count=1):
        def found():
            rows = [row for row in operator.call('$/calls')['calls'] if (row['task'], row['state']) == (task, 'running')]
            return len(rows) == count and rows
        return wait_until(found, f'{count} of {task} to run')

    def queued(self, operator, count=1):
        def found():
            rows = [row for row in operator.call('$/calls')['calls'] if row['state'] == 'queued']
            return len(rows) == count and rows
        return wait_until(found, f'{count} that wait')

    def outcome(self, child):
        """Of a caller by shared memory: the error that it prints."""
        out, _ = child.process.communicate(timeout=3 * PATIENCE)
        return json.loads(out.splitlines()[0])

    def shm(self, daemon, *arguments):
        return Child([KNIT, '-u', f'shm://{daemon.socket}', '--json', 'call', *arguments], stdout=subprocess.PIPE,
                     stderr=subprocess.STDOUT, text=True)

    def test_what_runs_is_told(self):
        with Daemon(workers=1) as daemon, daemon.unix() as rpc, daemon.unix() as operator, self.shm(daemon, 'sleep', '60000') as child:
            (row,) = self.running(operator)
            self.assertIs(operator.call('$/stop', *address(row)), True)
            error = self.outcome(child)
            self.assertEqual((error['name'], error['started'], error['message']),
                             ('CANCELLED', 'yes', 'stopped by an operator while it ran'))
            rpc.call('$/hello', {'name': 'test'})
            msgid = rpc.request('sleep', 60000)
            (row,) = self.running(operator)
            self.assertIs(operator.call('$/stop', *address(row)), True)
            error, _ = rpc.response(msgid)
            self.assertEqual((error[0], error[1], error[2]['started']), (CANCELLED, 'stopped by an operator while it ran', 'yes'))
            self.assertIs(operator.call('$/stop', *address(row)), False)
            self.assertEqual(daemon.stats()['lanes'][0]['deaths'], 0)
            self.assertIn('msg="a call is to stop"', daemon.log())

    def test_what_waits_is_not_started(self):
        with Daemon('--module', RUDE, workers=1) as daemon, daemon.unix() as rpc, daemon.unix() as operator, \
                self.shm(daemon, 'sleep', '60000') as first:
            self.running(operator)
            with self.shm(daemon, 'nap', '0') as second:
                (by_memory,) = self.queued(operator)
                rpc.call('$/hello', {'name': 'test'})
                msgid = rpc.request('nap', 0)
                rows = self.queued(operator, 2)
                (by_socket,) = (row for row in rows if row['session'] != by_memory['session'])
                for row in rows:
                    self.assertIs(operator.call('$/stop', *address(row)), True)
                # At once, while the worker is busy.
                error, _ = rpc.response(msgid)
                self.assertEqual((error[0], error[2]['started']), (CANCELLED, 'no'))
                self.assertIs(operator.call('$/stop', *address(self.running(operator)[0])), True)
                error = self.outcome(second)
                self.assertEqual((error['name'], error['started']), ('CANCELLED', 'no'))
                self.assertEqual(self.outcome(first)['name'], 'CANCELLED')
            self.assertNotEqual(by_socket['session'], by_memory['session'])
            # The slots' next calls are others.
            self.assertEqual([rpc.call('add', i, 1) for i in range(100)], list(range(1, 101)))
            self.assertEqual(knit(daemon, 'call', 'add', '1', '2'), '3\n')

    def test_what_goes_on_loses_its_worker(self):
        with Daemon('--module', RUDE, workers=1, abort_grace_ms=100) as daemon, daemon.unix() as rpc, daemon.unix() as operator, \
                self.shm(daemon, 'hold_out') as child:
            (row,) = self.running(operator, 'hold_out')
            # One that only stops it does not kill, however long it goes on: a caller waits.
            self.assertIs(operator.call('$/stop', *address(row)), True)
            rpc.call('$/hello', {'name': 'test'})
            msgid = rpc.request('add', 3, 4)
            self.queued(operator)
            self.assertEqual(daemon.stats()['lanes'][0]['deaths'], 0)
            self.assertIs(operator.call('$/kill', *address(row)), True)
            error = self.outcome(child)
            self.assertEqual((error['name'], error['started'], error['message']),
                             ('CANCELLED', 'yes', 'an operator killed the task hold_out, which did not stop'))
            self.assertEqual(rpc.result(msgid), 7)
            self.assertEqual(daemon.stats()['lanes'][0]['deaths'], 1)
            self.assertIs(operator.call('$/kill', *address(row)), False)
            # Which task that was is an operator's business: nobody is quarantined.
            self.assertEqual(operator.call('$/stats')['tasks'], [])
            msgid = rpc.request('hold_out')
            (row,) = self.running(operator, 'hold_out')
            self.assertIs(operator.call('$/kill', *address(row), 0), True)
            error, _ = rpc.response(msgid)
            self.assertEqual((error[0], error[2]['started']), (CANCELLED, 'yes'))
            self.assertIn('when an operator had asked it to stop', daemon.log())

    def test_a_kill_hits_no_other_call(self):
        """Many calls that end by themselves about when their kill is due, and others that begin then."""
        with Daemon('--module', RUDE, workers=2) as daemon, daemon.unix() as rpc, daemon.unix() as operator:
            for _ in range(10):
                ids = [rpc.request('nap', 20) for _ in range(6)]
                asked = set()
                while any(msgid not in rpc.responses for msgid in ids):
                    for row in operator.call('$/calls')['calls']:
                        if row['state'] == 'running' and len(asked) < 2 and address(row) not in asked:
                            asked.add(address(row))
                            operator.call('$/kill', *address(row), 15)
                    rpc.call('$/ping')
                errors = [error for error in (rpc.response(msgid)[0] for msgid in ids) if error]
                self.assertLessEqual(len(errors), len(asked))
                self.assertLessEqual({error.split(':')[0] for error in errors}, {'304 CANCELLED'})

    def test_addresses_that_are_none(self):
        with Daemon(workers=2) as daemon, daemon.unix() as rpc, daemon.unix() as operator, daemon.tcp() as stranger:
            msgid = rpc.request('sleep', 60000)
            (row,) = self.running(operator)
            session, slot, generation = address(row)
            for place in ((session, slot, generation + 1), (session, slot, 0), (session, slot + 1, 1), (session, 1 << 20, generation),
                          (session + 1000, slot, generation), (0, slot, generation), (session, slot, (1 << 40) - 1)):
                self.assert_fails(BAD_ARGUMENT, operator.call, '$/stop', *place)
                self.assert_fails(BAD_ARGUMENT, operator.call, '$/kill', *place, 0)
            # Ended: an earlier one of the slot, and whatever was of a session that is over.
            rpc.notify('$/cancel', msgid)
            rpc.response(msgid)
            msgid = rpc.request('sleep', 60000)
            (again,) = self.running(operator)
            self.assertIs(operator.call('$/stop', session, slot, generation), False)

            def sessions():
                return [each['session'] for each in operator.call('$/sessions')['sessions']]
            over = max(sessions()) + 1
            with self.shm(daemon, 'add', '1', '2') as child:
                self.assertEqual(self.outcome(child), 3)
            wait_until(lambda: over not in sessions(), 'the session to be over')
            self.assertIs(operator.call('$/kill', over, 0, 1, 0), False)
            row = again
            for params in (), (session, slot), (session, slot, -1), (session, slot, 'x'), (session, slot, 1 << 40), \
                    (session, 1 << 32, 1), (session, slot, generation, 1, 1), (session, slot, generation, -1):
                self.assert_fails(BAD_ARGUMENT, operator.call, '$/kill', *params)
            self.assert_fails(BAD_ARGUMENT, operator.call, '$/stop', *address(row), 1)
            for method in '$/stop', '$/kill':
                self.assert_fails(DENIED, stranger.call, method, *address(row))
            self.assertEqual([place for place in map(address, self.running(operator))], [address(row)])
            rpc.notify('$/cancel', msgid)
            self.assertIsNotNone(rpc.response(msgid)[0])

    def test_the_tool_ends_calls(self):
        with Daemon('--module', RUDE, workers=2) as daemon, daemon.unix() as rpc, daemon.unix() as operator:
            msgid = rpc.request('sleep', 60000)
            (row,) = self.running(operator)
            place = '.'.join(map(str, address(row)))
            self.assertEqual(knit(daemon, 'stop', place), f'{place} is asked to stop\n')
            self.assertIsNotNone(rpc.response(msgid)[0])
            # One that has ended, or never was, keeps nobody from the next one.
            session, slot, generation = address(row)
            later = f'{session}.{slot}.{generation + 1}'
            done = subprocess.run([KNIT, '-u', f'unix://{daemon.socket}', 'stop', later, place], capture_output=True, text=True, timeout=3 * PATIENCE)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (1, f'{later} is the address of no call\n{place} has ended\n', ''))
            done = subprocess.run([KNIT, '-u', f'unix://{daemon.socket}', '--json', 'kill', later, place], capture_output=True, text=True, timeout=3 * PATIENCE)
            self.assertEqual([json.loads(line) for line in done.stdout.splitlines()],
                             [{'call': later, 'asked': False, 'ended': False}, {'call': place, 'asked': False, 'ended': True}])
            msgid = rpc.request('hold_out')
            (row,) = self.running(operator, 'hold_out')
            place = '.'.join(map(str, address(row)))
            self.assertEqual(json.loads(knit(daemon, '--json', 'kill', '--grace', '10', place)), {'call': place, 'asked': True, 'ended': False})
            self.assertIsNotNone(rpc.response(msgid)[0])
            for wrong in '1.2', '1.2.3.4', 'x.1.1', '1.2.', '-1.2.3', '1.2.99999999999999999999':
                self.assertIn('expected SESSION.SLOT.GENERATION', knit(daemon, 'stop', '--', wrong, status=2))
            self.assertIn('takes addresses', knit(daemon, 'kill', status=2))


if __name__ == '__main__':
    main()
