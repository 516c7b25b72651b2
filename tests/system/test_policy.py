# SPDX-License-Identifier: Apache-2.0
"""Who may call what, over sockets and over shared memory: the daemon's loops and its workers by one policy, reloads by
`$/reload`, SIGHUP and knit reload, and what an operator is told."""

import os
import re
import signal
import subprocess
import time

from knit_attach import attach, grant
from knit_harness import PATIENCE, Case, Daemon, RpcError, main, wait_until
from knit_lanes import Lanes

DENIED, UNKNOWN_TASK, BAD_ARGUMENT, QUOTA, TIMEOUT, DRAINING, UNAUTHENTICATED = 301, 300, 302, 201, 303, 202, 103
KNIT = os.environ['KNIT_TOOL']
UID = f'uid:{os.geteuid()}'


def daemon_with(text, *arguments, **options):
    """A daemon whose policy file `policy` of its folder has this text."""
    class WithPolicy(Daemon):
        def write(self, name, content):
            if name == 'k.conf':
                self.policy = super().write('policy', text)
                content = f'[server]\npolicy = policy\n{content}'
            return super().write(name, content)

        def reload(self, new_text):
            super().write('policy', new_text)
            with self.unix() as rpc:
                return rpc.call('$/reload')
    return WithPolicy(*arguments, **options)


def section(principal, allow):
    return f'[principal {principal}]\nallow = {allow}\n'


def names(rpc):
    return {task['name'] for task in rpc.call('$/tasks')['tasks']}


class Limits(Case):
    def test_all_connections_of_a_principal_have_its_calls_in_flight_together(self):
        text = section(UID, '* $/stats') + 'calls_in_flight = 2\n' + section('anonymous', '*')
        with daemon_with(text, workers=3) as daemon, daemon.unix() as one, daemon.unix() as two, daemon.tcp() as other:
            two.hello()
            held = [one.request('sleep', 600000) for _ in range(2)]
            wait_until(lambda: daemon.stats()['loops']['calls_published'] >= 2, 'both to begin')
            error = self.assert_fails(QUOTA, two.call, 'echo', 1)
            self.assertEqual((error.details['limit'], error.details['started'], error.details['retryable']), (2, 'no', True))
            self.assertGreater(error.details['retry_after_ms'], 0)
            self.assertIn('calls_in_flight', error.text)
            self.assertEqual(other.call('echo', 1), 1)
            self.assertEqual(daemon.stats()['loops']['calls_over_quota'], 1)
            # A new file counts at once; what is in flight stays so.
            daemon.reload(section(UID, '* $/stats') + 'calls_in_flight = 3\n')
            self.assertEqual(two.call('echo', 1), 1)
            for msgid in held:
                one.notify('$/cancel', msgid)

    def test_a_key_that_is_said_again_is_no_call_more(self):
        text = section(UID, '* $/stats') + section('anonymous', '*') + 'calls_in_flight = 1\n'
        with daemon_with(text) as daemon, daemon.tcp() as one, daemon.tcp() as two:
            two.hello()
            first = one.request('sleep', 2000, options={'key': 'k'})
            wait_until(lambda: daemon.stats()['loops']['calls_published'] == 1, 'it to begin')
            again = two.request('sleep', 2000, options={'key': 'k'})
            for options in {'key': 'l'}, None:
                self.assert_fails(QUOTA, two.result, two.request('sleep', 2000, options=options))
            self.assertEqual(two.result(again), one.result(first))
            self.assertEqual(two.call('sleep', 2000, options={'key': 'k'}), one.call('echo', None))
            loops = daemon.stats()['loops']
            self.assertEqual((loops['keys_joined'], loops['keys_repeated'], loops['calls_over_quota']), (1, 1, 2))

    def test_when_to_come_again_is_guessed_from_how_calls_have_ended(self):
        text = section(UID, '* $/stats') + section('anonymous', '*') + 'calls_in_flight = 1\n'
        with daemon_with(text) as daemon, daemon.tcp() as rpc:
            rpc.hello()
            for _ in range(3):
                rpc.call('sleep', 200)
            held = rpc.request('sleep', 3600000)
            error = self.assert_fails(QUOTA, rpc.call, 'echo', 1)
            rpc.notify('$/cancel', held)
            self.assertGreater(error.details['retry_after_ms'], 150)
            self.assertLessEqual(error.details['retry_after_ms'], 10001)

    def test_calls_that_outlive_their_connection_count_until_they_end(self):
        text = section(UID, '* $/stats') + section('anonymous', '*') + 'calls_in_flight = 2\n'
        with daemon_with(text) as daemon, daemon.tcp() as after:
            after.hello()
            for number, options in enumerate((None, {'key': 'k'})):
                with daemon.tcp() as rpc:
                    rpc.hello()
                    if options is None:
                        rpc.notify('sleep', 2000)
                    else:
                        rpc.request('sleep', 2000, options=options)
                    wait_until(lambda: daemon.stats()['loops']['calls_published'] > number, 'it to begin')
            self.assert_fails(QUOTA, after.call, 'echo', 1)
            wait_until(lambda: after.response(after.request('echo', 1))[0] is None, 'one to end')
            wait_until(lambda: [error for error, _ in map(after.response, (
                after.request('echo', 1, options={'key': f'{i}'}) for i in range(2)))] == [None, None], 'both to end')

    def test_calls_a_second_are_refused_until_the_time_has_paid_for_them(self):
        text = section(UID, '* $/stats') + 'calls_per_second = 10\n'
        with daemon_with(text) as daemon, daemon.unix() as rpc:
            rpc.hello()
            outcomes = []
            for i in range(20):
                rpc.request('echo', i)
            for msgid in range(rpc.next_id - 20, rpc.next_id):
                outcomes.append(rpc.response(msgid)[0])
            refused = [error for error in outcomes if error]
            self.assertGreater(len(refused), 10)
            self.assertEqual({error[0] for error in refused}, {QUOTA})
            wait_ms = refused[-1][2]['retry_after_ms']
            self.assertTrue(1 <= wait_ms <= 110)
            wait_until(lambda: rpc.response(rpc.request('echo', 1))[0] is None, 'it to be paid for')

    def test_what_is_refused_for_them_has_a_line_in_a_second_with_a_count_of_the_others(self):
        text = section(UID, '* $/stats') + section('anonymous', '*') + 'calls_in_flight = 1\n'
        with daemon_with(text) as daemon, daemon.tcp() as rpc:
            rpc.hello()
            held = rpc.request('sleep', 600000)
            for _ in range(500):
                rpc.request('echo', 1)
            for msgid in range(held + 1, held + 501):
                self.assertEqual(rpc.response(msgid)[0][0], QUOTA)
            self.assertEqual(daemon.stats()['loops']['calls_over_quota'], 500)
            self.assertRegex(daemon.log(), r'level=warning msg="call refused" code=QUOTA reason="the caller is over its limit of 1 '
                                           r'\(calls_in_flight\)" principal=anonymous task=echo limit=1 peer=127.0.0.1:\d+ name=test')

            def lines():
                log = daemon.log()
                left_out = re.findall('msg="lines were left out" kind="call refused: QUOTA" lines=([0-9]+)', log)
                return log.count('msg="call refused"') + sum(map(int, left_out)) == 500
            wait_until(lines, 'the count of those left out')
            self.assertLess(daemon.log().count('refused'), 50)
            rpc.notify('$/cancel', held)

    def test_what_is_over_them_waits_where_the_policy_says_so(self):
        text = section(UID, '* $/stats') + 'calls_in_flight = 2\nover_limit = wait\n' + section('anonymous', '*')
        with daemon_with(text, workers=3) as daemon, daemon.unix() as one, daemon.unix() as two, daemon.tcp() as other:
            two.hello()
            held = [one.request('sleep', 600000) for _ in range(2)]
            wait_until(lambda: daemon.stats()['loops']['calls_published'] >= 2, 'both to begin')
            late = two.request('echo', 1, options={'timeout': 0.001})
            waiting = two.request('echo', 2)
            self.assertEqual(two.response(late)[0][0], TIMEOUT)
            self.assertEqual(other.call('echo', 1), 1)
            # It sleeps while they wait: some hundred turns, of polling before a sleep; never to sleep is 100,000.
            before = daemon.stats()['loops']['turns']
            other.call('sleep', 300)
            self.assertLess(daemon.stats()['loops']['turns'] - before, 5000)
            one.notify('$/cancel', held[0])
            self.assertEqual(two.response(waiting), [None, 2])
            self.assertEqual(daemon.stats()['loops']['calls_over_quota'], 0)
            # A new file counts for those that wait.
            one.request('sleep', 600000)
            waiting = two.request('echo', 3)
            wait_until(lambda: daemon.stats()['loops']['waits_for_limit'] >= 2, 'it to wait')
            daemon.reload(section(UID, '* $/stats'))
            self.assertEqual(two.response(waiting), [None, 3])

    def test_who_has_a_limit_a_second_does_not_attach(self):
        for limit in ('calls_per_second = 1000000', 'bytes_per_second = 1GiB'):
            with self.subTest(limit=limit), daemon_with(section(UID, '* $/attach') + limit + '\n') as daemon, daemon.unix() as rpc:
                self.assertIn('a second', self.assert_fails(DENIED, grant, rpc).text)
                self.assertEqual(rpc.call('echo', 1), 1)

    def test_sessions_of_a_principal_have_no_more_slots_than_calls_in_flight(self):
        def attaches(rpc, expected, **options):
            result, fds = attach(rpc, **options)
            for fd in fds:
                os.close(fd)
            self.assertEqual(result['slots'], expected)

        text = section(UID, '* $/attach $/stats') + 'calls_in_flight = 100\n'
        with daemon_with(text) as daemon, daemon.unix() as one, daemon.unix() as two, daemon.unix() as three:
            attaches(one, 64, slots=64)
            attaches(two, 36)
            error = self.assert_fails(QUOTA, grant, three)
            self.assertIn('calls_in_flight', error.text)
            # Calls by connections are counted apart.
            self.assertEqual(three.call('echo', 1), 1)
            # A lower limit is for those that come.
            daemon.reload(section(UID, '* $/attach $/stats') + 'calls_in_flight = 40\n')
            self.assertEqual(one.call('$/attached').keys(), {'clock'})
            two.close()
            self.assert_fails(QUOTA, grant, three)
            one.close()
            wait_until(lambda: self.may_attach(daemon), 'the slots to be given back')
            attaches(three, 40)

    def may_attach(self, daemon):
        with daemon.unix() as rpc:
            try:
                for fd in grant(rpc, slots=1)[1]:
                    os.close(fd)
            except RpcError:
                return False
        return True

    def test_what_waits_for_a_limit_is_told_to_go_elsewhere_by_one_that_drains(self):
        text = section(UID, '* $/stats $/reload') + 'calls_per_second = 10\nover_limit = wait\n'
        with daemon_with(text) as daemon, daemon.unix() as rpc:
            rpc.hello()
            ids = [rpc.request('echo', i) for i in range(1000)]
            wait_until(lambda: daemon.stats()['loops']['waits_for_limit'] > 0, 'it to wait')
            daemon.process.terminate()
            codes = {(rpc.response(msgid)[0] or [0])[0] for msgid in ids}
            self.assertEqual(codes, {0, DRAINING})


class Sockets(Case):
    def test_what_is_not_allowed_is_denied_and_did_not_start(self):
        with daemon_with(section(UID, 'add $/tasks') + section('anonymous', 'echo')) as daemon:
            with daemon.unix() as local, daemon.tcp() as other:
                for rpc in local, other:
                    rpc.hello()
                self.assertEqual(local.call('add', 1, 2), 3)
                self.assertEqual(other.call('echo', 5), 5)
                denied = self.assert_fails(DENIED, local.call, 'echo', 5)
                self.assertEqual((denied.details['started'], denied.details['retryable']), ('no', False))
                self.assertIn(UID, denied.text)
                self.assert_fails(DENIED, other.call, 'add', 1, 2)
                self.assertEqual(names(local), {'add'})
                self.assert_fails(DENIED, other.call, '$/tasks')
                self.assert_fails(DENIED, other.call, '$/stats')
                self.assert_fails(DENIED, other.call, '$/reload')
                self.assert_fails(DENIED, other.call, '$/why', 'anonymous', 'echo')
                self.assertEqual(other.call('$/ping', 1), 1)
                self.assert_fails(DENIED, other.call, 'addd')
            stats = daemon.stats()
            self.assertEqual(stats['loops']['calls_denied'], 7)
            log = daemon.log()
            self.assertRegex(log, r'msg=denied .*principal=anonymous task=add peer=127')
            self.assertRegex(log, rf'msg=denied .*principal={UID} task=echo peer=uid')

    def test_what_one_may_not_call_and_what_there_is_not_look_the_same(self):
        text = section('anonymous', 'echo ad* a*b') + 'deny = add adx*\n' + section(UID, '$/stats')
        with daemon_with(text, queue_max=50) as daemon, daemon.tcp() as rpc:
            rpc.hello()
            same = set()
            for name in ('sleep', 'sleeq', 'add', 'adxyz', 'x' * 120, 'x' * 5000, 3, 4000, 1 << 63):
                for options in (None, {'timeout': 1000}, {'key': 'k'}, {'queue': 0}, {'timeout': 0}):
                    msgid = rpc.request(name, 1, 2, options=options)
                    error = self.assert_fails(DENIED, rpc.result, msgid)
                    said = f'task number {name}' if isinstance(name, int) else name[:128]
                    same.add((error.text.replace(said, 'NAME'), str(error.details)))
            self.assertEqual(len(same), 1, same)
            self.assertEqual(error.details['started'], 'no')
            # Only who could run one of that name learns that there is none, and nothing of others.
            for name in 'adder', 'ab', 'axxb':
                error = self.assert_fails(UNKNOWN_TASK, rpc.call, name)
                self.assertEqual(error.text, f"there is no task '{name}'")
            self.assertEqual(daemon.stats()['loops']['calls_denied'], 45)
            self.assertRegex(daemon.log(), 'msg=denied .* let anonymous call sleep" principal=anonymous task=sleep ')
            self.assertRegex(daemon.log(), 'msg=denied .* let anonymous call sleeq" principal=anonymous task="there is none" ')
            # A name is shown as far as it is, but no part of a character: a strict reader of strings reads all of them.
            for name in 'x' * 127 + 'é', 'x' * 126 + '√', 'add' + 'e' * 60 + 'é':
                msgid = rpc.request(name)
                with self.assertRaises(RpcError) as caught:
                    rpc.result(msgid)
                self.assertTrue(caught.exception.text.encode('utf-8', 'strict').rstrip(b"'")[-2:] in (b'xx', b'ee'))
            # While calls wait as well, with what a task itself says of timeouts and of how long it takes.
            held = [rpc.request('echo', 1) for _ in range(20)]
            waiting = [rpc.request(name, 1, options={'timeout': 5}) for name in ('sleep', 'sleeq')]
            for msgid in held:
                rpc.result(msgid)
            for msgid in waiting:
                self.assert_fails(DENIED, rpc.result, msgid)

    def test_who_may_do_something_is_no_stranger_any_more(self):
        with daemon_with(section(UID, '* $/*'), threads_io=1) as daemon, daemon.tcp() as rpc:
            self.assert_fails(UNAUTHENTICATED, rpc.call, 'add', 1, 2)
            daemon.reload(section(UID, '* $/*') + section('anonymous', 'add'))
            self.assertEqual(rpc.call('add', 1, 2), 3)

    def test_who_becomes_a_stranger_by_a_reload_has_a_stranger_s_limits(self):
        known = section(UID, '* $/*')
        with daemon_with(known + section('anonymous', '*'), threads_io=1) as daemon:
            talks, waits, *others = [daemon.tcp() for _ in range(258)]
            for rpc in talks, waits:
                self.assertEqual(rpc.call('add', 1, 2), 3)
            began = time.monotonic()
            daemon.reload(known)
            # There are 256 of them.
            wait_until(lambda: daemon.stats()['loops']['strangers_dropped'] == 2, 'two to go')
            self.assertTrue(talks.is_closed_by_peer() and waits.is_closed_by_peer())
            talks, waits, *others = others
            self.assert_fails(UNAUTHENTICATED, talks.call, 'add', 1, 2)
            self.assertEqual(waits.call('$/ping', 1), 1)
            try:
                for _ in range(70):
                    talks.notify('$/ping', b'x' * 1000)
            except OSError:
                pass
            self.assertTrue(talks.is_closed_by_peer())
            self.assertEqual(daemon.stats()['loops']['strangers_dropped'], 3)
            # What one has done before it was one does not count, and it is none again by another reload.
            daemon.reload(known + section('anonymous', 'add'))
            self.assertEqual(waits.call('add', 1, 2), 3)
            daemon.reload(known)
            waits.sock.settimeout(10 * PATIENCE)
            self.assertTrue(waits.is_closed_by_peer())
            self.assertGreater(time.monotonic() - began, 9.5)

    def test_by_number_and_by_notification_it_is_the_same(self):
        with daemon_with(section('anonymous', 'add')) as daemon, daemon.unix() as local, daemon.tcp() as rpc:
            for number in range(8):
                if number != 0:
                    self.assert_fails(DENIED, rpc.call, number, 1, 2)
            self.assertEqual(rpc.call(0, 1, 2), 3)
            rpc.notify('echo', 1)
            self.assertEqual(rpc.call('add', 1, 2), 3)
            self.assertEqual(local.call('$/stats')['loops']['notifications_dropped'], 1)

    def test_log_lines_are_few_and_denials_all_counted(self):
        with daemon_with(section('anonymous', 'add')) as daemon, daemon.tcp() as rpc:
            for _ in range(500):
                rpc.request('echo', 1)
            for msgid in range(1, 501):
                self.assertIsNotNone(rpc.response(msgid)[0])
            self.assertEqual(daemon.stats()['loops']['calls_denied'], 500)
            self.assertLessEqual(daemon.log().count('msg=denied'), 100)

    def test_a_reload_holds_for_what_is_sent_when_it_has_returned(self):
        with daemon_with(section('anonymous', 'add')) as daemon, daemon.tcp() as rpc:
            for i in range(50):
                task, other = ('echo', 'add') if i % 2 == 0 else ('add', 'echo')
                self.assertIsNone(daemon.reload(section('anonymous', task)))
                rpc.call(task, *([1, 2] if task == 'add' else [1]))
                self.assert_fails(DENIED, rpc.call, other, *([1, 2] if other == 'add' else [1]))

    def test_one_who_reloads_in_a_loop_has_few_lines_and_a_count_of_the_others(self):
        with daemon_with(section('anonymous', '$/reload no_such_task')) as daemon, daemon.tcp() as rpc:
            for _ in range(200):
                rpc.call('$/reload')
            wait_until(lambda: 'kind="reloaded, or not"' in daemon.log(), 'the count of those left out')

            def lines():
                log = daemon.log()
                left_out = re.findall('kind="reloaded, or not" lines=([0-9]+)', log)
                return log.count('msg=reloaded') + sum(map(int, left_out)) == 200
            wait_until(lines, 'the rest of the count')
            self.assertLessEqual(daemon.log().count('msg=reloaded'), 100)
            self.assertLessEqual(daemon.log().count('pattern=no_such_task'), 101)

    def test_a_bad_file_changes_nothing(self):
        with daemon_with(section('anonymous', 'add')) as daemon, daemon.tcp() as rpc:
            failed = self.assert_fails(BAD_ARGUMENT, daemon.reload, section('anonymous', 'echo') + '[nobody]\n')
            self.assertRegex(failed.text, r'/policy:3: expected \[group NAME\] or \[principal NAME\]')
            self.assertEqual(rpc.call('add', 1, 2), 3)
            self.assert_fails(DENIED, rpc.call, 'echo', 1)
            os.unlink(daemon.policy)
            with daemon.unix() as local:
                self.assertIn('No such file', self.assert_fails(BAD_ARGUMENT, local.call, '$/reload').text)
            self.assertEqual(rpc.call('add', 1, 2), 3)

    def test_sighup_is_a_reload(self):
        with daemon_with(section('anonymous', 'add')) as daemon, daemon.tcp() as rpc:
            daemon.write('policy', section('anonymous', 'echo no_such_task'))
            daemon.send_signal(signal.SIGHUP)
            wait_until(lambda: 'msg=reloaded' in daemon.log(), 'the reload')
            self.assertEqual(rpc.call('echo', 1), 1)
            self.assert_fails(DENIED, rpc.call, 'add', 1, 2)
            self.assertIn('pattern=no_such_task', daemon.log())

    def test_a_file_that_changes_is_read_without_a_signal(self):
        """As in a volume of Kubernetes, where nobody can send one: reload_check_s."""
        with daemon_with(section(UID, '* $/stats'), reload_check_s=1) as daemon, daemon.unix() as rpc:
            self.assertEqual(rpc.call('echo', 1), 1)
            daemon.write('policy.new', section(UID, 'add $/stats'))
            os.rename(os.path.join(daemon.dir, 'policy.new'), daemon.policy)

            def is_denied():
                try:
                    return not rpc.call('echo', 1)
                except RpcError as error:
                    return error.code == DENIED
            wait_until(is_denied, 'the new policy', 6 * PATIENCE)
            self.assertEqual(rpc.call('add', 2, 3), 5)
            # A mistake changes nothing, and is said.
            daemon.write('policy', 'allow = *\n')
            wait_until(lambda: 'not reloaded: nothing has changed' in daemon.log(), 'the refusal', 6 * PATIENCE)
            self.assertEqual(rpc.call('add', 2, 3), 5)
            self.assertTrue(is_denied())

    def test_several_loops_have_one_policy(self):
        with daemon_with(section('anonymous', 'add'), threads_io=3) as daemon:
            rpcs = [daemon.tcp() for _ in range(6)]
            daemon.reload(section('anonymous', 'echo'))
            for rpc in rpcs:
                self.assertEqual(rpc.call('echo', 1), 1)
                self.assert_fails(DENIED, rpc.call, 'add', 1, 2)
                rpc.close()


class SharedMemory(Case):
    def test_attaching_has_to_be_allowed(self):
        if os.geteuid() != 0:
            self.skipTest('the own user may use every method')
        with daemon_with('[group all]\nmembers = uid:*\nallow = add\n', socket_mode='0666') as daemon:
            os.chmod(daemon.dir, 0o755)
            command = [KNIT, '-u', f'shm://{daemon.socket}', 'call', 'add', '1', '2']
            done = subprocess.run(command, capture_output=True, text=True, user=65534, timeout=PATIENCE)
            self.assertEqual(done.returncode, 4, done.stderr)
            self.assertIn('DENIED', done.stderr)
            daemon.reload('[group all]\nmembers = uid:*\nallow = add $/tasks $/attach\n')
            done = subprocess.run(command, capture_output=True, text=True, user=65534, timeout=PATIENCE)
            self.assertEqual((done.returncode, done.stdout), (0, '3\n'), done.stderr)

    @staticmethod
    def publish_denied(daemon, lanes):
        """What lies in both lanes, now that the policy allows `add` alone; both workers are woken."""
        daemon.reload(section(UID, 'add'))
        lanes.publish(0)
        lanes.publish(1)
        with daemon.unix() as other:
            other.call('add', 1, 1)
            other.call('add', 1, 1)

    def test_workers_deny_what_is_written_into_a_lane(self):
        """The calls are published as bytes, so no library has looked at them."""
        with daemon_with(section(UID, '*')) as daemon, daemon.unix() as rpc:
            with Lanes(rpc, [[('add', 1, 2), ('echo', 7)], [('echo', 8)]]) as lanes:
                self.publish_denied(daemon, lanes)
                wait_until(lambda: daemon_denied(daemon) == 2, 'two denials')
                wait_until(lambda: daemon.log().count('msg=denied') == 2, 'their lines')
            self.assertRegex(daemon.log(), rf'msg=denied principal={UID} task=echo session=\d+ peer=uid')

    def test_lines_of_workers_that_are_left_out_are_counted(self):
        """A worker tells a few a second, the host how many it did not."""
        with daemon_with(section(UID, '*')) as daemon, daemon.unix() as rpc:
            with Lanes(rpc, [[('echo', 7)] * 30] * 2) as lanes:
                self.publish_denied(daemon, lanes)
                wait_until(lambda: daemon_denied(daemon) == 60, 'all denials')
                left_out = lambda: sum(int(lines) for lines in re.findall('kind=denied lines=([0-9]+)', daemon.log()))
                wait_until(lambda: daemon.log().count('msg=denied') + left_out() == 60, 'their lines, or their number')
                self.assertEqual(daemon.stats()['log_left_out'], left_out())

    def test_numbers_that_there_are_not_look_as_those_that_one_may_not_call(self):
        with daemon_with(section(UID, 'add $/tasks $/attach')) as daemon, daemon.unix() as rpc:
            with Lanes(rpc, [[(3, 1), (60, 1)], [(1000, 1), (65535, 1)]]) as lanes:
                lanes.publish(0)
                lanes.publish(1)
                with daemon.unix() as other:
                    other.call('add', 1, 1)
                    other.call('add', 1, 1)
                wait_until(lanes.is_answered, 'the answers')
                outcomes = [lanes.outcome(slot) for slot in range(4)]
                self.assertEqual(outcomes[0][1][0], DENIED)
                self.assertEqual(outcomes, outcomes[:1] * 4)

    def test_the_tool_over_shm(self):
        with daemon_with(section(UID, 'add')) as daemon:
            url = f'shm://{daemon.socket}'

            def knit(*arguments):
                return subprocess.run([KNIT, '-u', url, *arguments], capture_output=True, text=True, timeout=PATIENCE)
            self.assertEqual(knit('call', 'add', '1', '2').stdout, '3\n')
            denied = knit('call', 'echo', '1')
            self.assertEqual((denied.returncode, denied.stdout), (4, ''))
            self.assertIn('DENIED', denied.stderr)
            self.assertIn('DENIED', knit('call', 'nosuch', '1').stderr)
            daemon.reload(section(UID, 'echo n*'))
            self.assertIn('UNKNOWN_TASK', knit('call', 'nosuch', '1').stderr)
            self.assertEqual(knit('call', 'echo', '1').stdout, '1\n')

    def test_a_stopped_worker_decides_by_what_holds_when_it_goes_on(self):
        """Stopped over two reloads, of which the second gives the old class's row to others."""
        with daemon_with(section(UID, 'add echo'), workers=1) as daemon, daemon.unix() as rpc:
            with Lanes(rpc, [[('echo', 7)]]) as lanes:
                worker = daemon.stats()['lanes'][0]['pid']
                os.kill(worker, signal.SIGSTOP)
                lanes.publish(0)
                daemon.reload(section(UID, 'add'))
                daemon.reload(section(UID, 'sha256') + section('anonymous', 'echo add'))
                with daemon.tcp() as other:
                    msgid = other.request('echo', 1)
                    os.kill(worker, signal.SIGCONT)
                    self.assertEqual(other.result(msgid), 1)
                wait_until(lambda: daemon_denied(daemon) == 1, 'the denial')

    def test_a_place_that_is_used_again_has_its_own_rights(self):
        with daemon_with(section(UID, 'add'), workers=1) as daemon:
            for _ in range(5):
                with daemon.unix() as rpc:
                    _, fds = attach(rpc)
                    for fd in fds:
                        os.close(fd)
                wait_until(lambda: daemon.stats()['pool']['foreign_sessions'] == 0, 'the end of the session')
            with daemon.unix() as rpc:
                daemon.reload(section(UID, 'add echo'))
                with Lanes(rpc, [[('echo', 1)]]) as lanes:
                    lanes.publish(0)
                    with daemon.unix() as other:
                        other.call('add', 1, 1)
                    wait_until(lambda: lanes.order(0), 'the answer')
                self.assertEqual(daemon_denied(daemon), 0)


def daemon_denied(daemon):
    return sum(lane['denied'] for lane in daemon.stats()['lanes'])


class Operators(Case):
    def knit(self, daemon, *arguments):
        return subprocess.run([KNIT, '-u', f'unix://{daemon.socket}', *arguments], capture_output=True, text=True, timeout=PATIENCE)

    def test_why_names_the_line(self):
        text = '[group g]\nmembers = token:* unix-group:root\nallow = a* $/stats\n[principal token:x]\ndeny = add\n'
        with daemon_with(text) as daemon:
            for principal, name, status, answer in (
                    ('token:y', 'add', 0, 'allowed: [group g] allows a* on line 3\n'),
                    ('token:x', 'add', 1, 'denied: [principal token:x] denies add on line 5\n'),
                    ('token:y', '$/stats', 0, 'allowed: [group g] allows $/stats on line 3\n'),
                    ('user:root', 'add', 0, 'allowed: [group g] allows a* on line 3\n'),
                    ('uid:0', 'add', 0, 'allowed: [group g] allows a* on line 3\n'),
                    ('uid:4294967000', 'add', 1, 'denied: no section speaks of this principal\n'),
                    ('token:y', 'echo', 1, 'denied: [group g] of line 1 does not allow it\n'),
                    ('anonymous', 'add', 1, 'denied: no section speaks of this principal\n')):
                done = self.knit(daemon, 'policy', 'why', principal, name)
                self.assertEqual((done.returncode, done.stdout), (status, answer), done.stderr)
            for principal in 'x', 'tokn:y', 'token:', 'token:*', 'unix-group:root', '':
                done = self.knit(daemon, 'policy', 'why', principal, 'add')
                self.assertEqual(done.returncode, 2, principal)
                self.assertIn(f"'{principal}' is no principal: expected anonymous, token:NAME", done.stderr)
            self.assertEqual(self.knit(daemon, '--json', 'policy', 'why', 'token:y', 'add').stdout,
                             '{"allowed":true,"because":"[group g] allows a* on line 3"}\n')

    def test_reload_prints_the_mistake(self):
        with daemon_with(section(UID, 'add')) as daemon:
            done = self.knit(daemon, 'reload')
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, '', ''))
            daemon.write('policy', section(UID, 'add ad') + section('token:nobody', 'add'))
            done = self.knit(daemon, 'reload')
            self.assertEqual((done.returncode, done.stdout, done.stderr),
                             (0, '', f'knit: {daemon.policy}:2: the policy names a task that there is not: ad; '
                                     f'{daemon.policy}:3: the policy names a token that there is not: token:nobody\n'))
            daemon.write('policy', '[group a]\nallow = a,b\n')
            done = self.knit(daemon, 'reload')
            self.assertEqual(done.returncode, 4)
            self.assertIn("/policy:2: 'a,b': expected names of tasks", done.stderr)

    def test_check_needs_no_daemon(self):
        with daemon_with('[principal user:root]\nallow = add\n') as daemon:
            done = self.knit(daemon, 'policy', 'check', daemon.policy)
            self.assertEqual((done.returncode, done.stdout), (0, f'{daemon.policy}: 1 sections, nothing wrong with them\n'))
            bad = daemon.write('bad', '[principal user:no-such-user]\n')
            done = self.knit(daemon, 'policy', 'check', bad)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f'{bad}:1: this machine has no such user or group: user:no-such-user', done.stderr)
            self.assertEqual(self.knit(daemon, 'policy', 'check', '/no/such').returncode, 2)
            self.assertEqual(self.knit(daemon, 'policy', 'check').returncode, 2)

    def test_without_a_policy_all_is_allowed_and_operators_may_ask(self):
        with Daemon() as daemon, daemon.tcp() as rpc:
            self.assertEqual(rpc.call('add', 1, 2), 3)
            self.assertEqual(self.knit(daemon, 'policy', 'why', 'anonymous', 'add').returncode, 0)
            self.assertEqual(self.knit(daemon, 'reload').returncode, 0)
            self.assert_fails(DENIED, rpc.call, '$/reload')

    def test_a_start_is_refused_with_a_bad_policy(self):
        for text, sentence in (('[x]\n', ':1: expected [group NAME]'), ('[principal user:no-such-user]\n', 'no such user'),
                               (None, 'server.policy: cannot read')):
            with self.assertRaises(AssertionError) as caught:
                daemon_with(text or '', *([] if text else ['--policy=/no/such/policy']))
            self.assertIn(sentence, str(caught.exception))
        with self.assertRaises(AssertionError) as caught:
            daemon_with('', attach_users='root')
        self.assertIn('expected neither attach_users nor attach_groups', str(caught.exception))


if __name__ == '__main__':
    main()
