# SPDX-License-Identifier: Apache-2.0
"""The daemon's part of the protocol: hello, ping, limits, and the answers to malformed input. No task is called."""

import contextlib
import os
import signal
import socket
import statistics
import threading
import time

import msgpack

from knit_attach import LAYOUT
from knit_harness import PATIENCE, SANITIZED, SLOWDOWN, Case, Daemon, DaemonCase, main, reset, wait_until

BAD_MESSAGE, TOO_LARGE, TOO_DEEP = 100, 101, 102
UNKNOWN_TASK, BAD_ARGUMENT, DENIED = 300, 302, 301


def nested(depth):
    """A request whose params nest so deep, the params array being the first."""
    return b'\x94\x00\x07\xa6$/ping' + b'\x91' * depth + b'\xc0'


class Peak:
    """The peak memory of a process since then, above what it held then."""

    def __init__(self, pid):
        self.pid = pid
        # This resets the kernel's peak: proc_pid_clear_refs(5).
        with open(f'/proc/{pid}/clear_refs', 'w') as file:
            file.write('5')
        self.before = self.read()

    def read(self):
        with open(f'/proc/{self.pid}/status') as file:
            return next(int(line.split()[1]) for line in file if line.startswith('VmHWM:'))

    def growth_kb(self):
        return self.read() - self.before


def answered_after_ms(rpc):
    """Until the first message or the end of the stream; the connection stays as it is."""
    begun = time.monotonic()
    try:
        rpc.receive()
    except ConnectionResetError:
        pass
    return (time.monotonic() - begun) * 1000


class Protocol(DaemonCase):
    daemon_options = {'message_max_bytes': 65536}

    def assert_alive(self):
        with self.daemon.tcp() as rpc:
            self.assertEqual(rpc.call('$/ping', 'still'), 'still')

    def test_hello_announces_limits_and_features(self):
        for rpc in self.both():
            hello = rpc.hello()
            self.assertEqual(hello['server'], 'knittingd')
            self.assertEqual(hello['protocol'], 1)
            self.assertIn('cancel', hello['features'])
            self.assertIn('output', hello['features'])
            self.assertIn('progress', hello['features'])
            self.assertIn('limits', hello)
            self.assertIn('principal', hello)
            self.assertEqual(hello['capacity'], {'workers': len(rpc.call('$/stats')['lanes'])})

    def test_hello_names_the_run_of_the_daemon(self):
        with self.daemon.tcp() as tcp, self.daemon.unix() as unix:
            here = {rpc.hello()['instance'] for rpc in (tcp, unix)}
        self.assertEqual(len(here), 1)
        self.assertRegex(*here, '^[0-9a-f]{32}$')
        with Daemon() as daemon, daemon.tcp() as rpc:
            self.assertNotIn(rpc.hello()['instance'], here)

    def test_errors_of_hello_and_tasks_name_the_mistake(self):
        for rpc in self.both():
            for method, params in (('$/hello', []), ('$/hello', [5]), ('$/hello', [{'name': 1}]), ('$/tasks', [5]),
                                   ('$/tasks', [{'after': 'add'}]), ('$/tasks', [{'limit': -1}]), ('$/tasks', [{}, {}])):
                with self.subTest(method=method, params=params):
                    self.assert_fails(BAD_ARGUMENT, rpc.call, method, *params)
            everything = rpc.call('$/tasks')['tasks']
            for limit in (2000, 1000000):
                page = rpc.call('$/tasks', {'limit': limit})
                self.assertEqual((page['tasks'], page['more']), (everything, False))
            page = rpc.call('$/tasks', {'after': 1000000})
            self.assertEqual((page['tasks'], page['more']), ([], False))

    def test_ping_returns_what_it_was_given(self):
        for rpc in self.both():
            for value in (None, True, 0, -1, 2**64 - 1, 1.5, 'text', b'bin', [1, [2]], {'k': {1: 2}}, 'x' * 60000):
                self.assertEqual(rpc.call('$/ping', value), value)
            self.assertIsNone(rpc.call('$/ping'))

    def test_ping_refuses_values_that_a_task_would_not_get(self):
        for rpc in self.both():
            for value in (b'\xa2\xc3\x28', b'\xd4\x2a\x00', b'\xd4\x05\x00'):  # no UTF-8, ext 42, ext 5
                rpc.send(b'\x94\x00\x07\xa6$/ping\x91' + value)
                self.assert_fails(302, rpc.result, 7)
            self.assertEqual(rpc.call('$/ping', 1), 1)

    def test_one_byte_at_a_time(self):
        for rpc in self.both():
            rpc.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            for byte in msgpack.packb([0, 9, '$/ping', [{'a': 'b' * 300}]]):
                rpc.send(bytes([byte]))
            self.assertEqual(rpc.result(9), {'a': 'b' * 300})

    def test_many_requests_in_one_write(self):
        for rpc in self.both():
            count = 20000
            data = b''.join(msgpack.packb([0, i, '$/ping', [i]]) for i in range(count))
            sender = threading.Thread(target=rpc.send, args=(data,))
            sender.start()
            for i in range(count):
                self.assertEqual(rpc.result(i), i)
            sender.join()

    def test_any_msgid_of_32_bits(self):
        for rpc in self.both():
            for msgid in (0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1):
                rpc.next_id = msgid
                self.assertEqual(rpc.call('$/ping', msgid), msgid)

    def test_errors_are_text_for_plain_callers_and_structured_after_hello(self):
        for rpc in self.both():
            plain = self.assert_fails(UNKNOWN_TASK, rpc.call, '$/nonsense')
            self.assertIsInstance(plain.error, str)
            self.assertTrue(plain.error.startswith('300 UNKNOWN_TASK: '))
            rpc.hello()
            full = self.assert_fails(UNKNOWN_TASK, rpc.call, '$/nonsense')
            self.assertEqual(full.details['name'], 'UNKNOWN_TASK')
            self.assertEqual(full.details['started'], 'no')
            self.assertEqual(full.details['origin'], 'server')
            self.assertIs(full.details['retryable'], False)

    def test_unknown_notifications_are_counted_and_dropped(self):
        before = self.daemon.stats()['loops']['notifications_dropped']
        with self.daemon.tcp() as rpc:
            rpc.notify('$/nonsense', 1)
            rpc.notify('no such task', 1)
            for name in 'ping', 'tasks', 'stats', 'calls', 'sessions', 'why', 'stop', 'kill', 'reload':
                rpc.notify(f'$/{name}')
            self.assertEqual(rpc.call('$/ping', 1), 1)
        self.assertEqual(self.daemon.stats()['loops']['notifications_dropped'], before + 11)

    def test_malformed_messages_are_answered_where_possible_and_end_the_connection(self):
        cases = {
            'not msgpack': (b'\xc1', None),
            'an integer': (b'\x01', None),
            'http': (b'GET / HTTP/1.1\r\n\r\n', None),
            'an empty array': (b'\x90', None),
            'a fourth kind': (b'\x94\x03\x01\xa1x\x90', None),
            'a short request': (b'\x93\x00\x01\xa1x', None),
            'a response': (b'\x94\x01\x05\xc0\xc0', None),
            'a msgid beyond 32 bits': (b'\x94\x00\xcf\x00\x00\x00\x01\x00\x00\x00\x00\xa1x\x90', None),
            'params that are no array': (b'\x94\x00\x05\xa6$/ping\x01', 5),
            'a method that is nil': (b'\x94\x00\x05\xc0\x90', 5),
        }
        for name, (data, msgid) in cases.items():
            for connect in (self.daemon.tcp, self.daemon.unix):
                with self.subTest(name), connect() as rpc:
                    rpc.send(data)
                    self.assertTrue(rpc.is_closed_by_peer(), 'the connection stays open')
                    if msgid is not None:
                        self.assertIn(msgid, rpc.responses)
                        self.assertTrue(rpc.responses[msgid][0].startswith('100 BAD_MESSAGE'))
        self.assert_alive()

    def test_answers_to_messages_before_a_malformed_one_arrive(self):
        for rpc in self.both():
            rpc.send(b''.join(msgpack.packb([0, i, '$/ping', [i]]) for i in range(100)) + b'\xc1' * 1000)
            self.assertTrue(rpc.is_closed_by_peer())
            self.assertEqual({i: r for i, r in rpc.responses.items() if i < 100},
                             {i: [None, i] for i in range(100)})

    def test_depth_is_limited(self):
        for rpc in self.both():
            rpc.send(nested(32))
            rpc.result(7)
            rpc.send(nested(33))
            self.assert_fails(TOO_DEEP, rpc.result, 7)
            self.assertEqual(rpc.call('$/ping', 1), 1)

    def test_a_depth_of_a_million_costs_what_a_depth_of_33_does(self):
        spans, bytes_sent = [], nested(1000000)
        for connect in (self.daemon.tcp, self.daemon.unix):
            self.refuses(connect, bytes_sent)
        peak = Peak(self.daemon.pid)
        for _ in range(10):
            for connect in (self.daemon.tcp, self.daemon.unix):
                spans.append(self.refuses(connect, bytes_sent))
        median, growth = statistics.median(spans), peak.growth_kb()
        print(f'a depth of 1,000,000, {len(bytes_sent)} bytes: closed after {median:.1f} ms with the sending, worst '
              f'{max(spans):.1f}; peak {growth:+d} KB')
        self.assertLess(median, 250 * SLOWDOWN)
        if not SANITIZED:
            self.assertLess(growth, 1024)
        self.assert_alive()

    def refuses(self, connect, data):
        """Milliseconds from the first byte to the end of the stream."""
        begun = time.monotonic()
        with connect() as rpc:
            try:
                rpc.send(data)
            except (ConnectionResetError, BrokenPipeError):
                pass
            self.assertTrue(rpc.is_closed_by_peer())
        return (time.monotonic() - begun) * 1000

    def test_a_message_over_the_limit_is_skipped_and_one_far_over_it_ends_the_connection(self):
        for rpc in self.both():
            rpc.hello()
            error = self.assert_fails(TOO_LARGE, rpc.call, '$/ping', 'x' * 70000)
            self.assertEqual(error.details['limit'], 65536)
            self.assertGreater(error.details['actual'], 70000)
            self.assertIn(f"{error.details['actual']} bytes, at most 65536", error.text)
            self.assert_fails(TOO_LARGE, rpc.call, '$/ping', [1] * 70000)
            self.assertEqual(rpc.call('$/ping', 1), 1)
        with self.daemon.tcp() as rpc:
            try:
                rpc.request('$/ping', 'x' * 300000)
            except (ConnectionResetError, BrokenPipeError):
                pass
            self.assertTrue(rpc.is_closed_by_peer())

    def test_five_byte_bombs_cost_five_bytes(self):
        bombs = [b'\xdd\xff\xff\xff\xff', b'\xdf\xff\xff\xff\xff', b'\xdb\xff\xff\xff\xff', b'\xc6\xff\xff\xff\xff',
                 b'\xc9\xff\xff\xff\xff\x2a']
        # An extension's length is complete only with its type.
        prefixes = [b'', b'\x94\x00\x01\xa6$/ping', b'\x94\x00\x01\xa6$/ping\x91']
        messages = [prefix + bomb for bomb in bombs for prefix in prefixes]
        self.throw(messages)
        peak, spans = Peak(self.daemon.pid), []
        for _ in range(10):
            spans += self.throw(messages)
        median, growth = statistics.median(spans), peak.growth_kb()
        print(f'{len(spans)} bombs: answered {median:.2f} ms after the last byte, worst {max(spans):.2f}; {len(messages)} open '
              f'at once: peak {growth:+d} KB')
        self.assertLess(median, 10 * SLOWDOWN)
        self.assertLess(growth, 1024)
        self.assert_alive()

    def throw(self, messages):
        """How long the sender of each, which keeps its side open, waits for an answer or the end of the stream."""
        connections, spans = [], []
        try:
            for message in messages:
                connections.append(self.daemon.tcp())
                for i in range(len(message)):
                    connections[-1].send(message[i:i + 1])
                spans.append(answered_after_ms(connections[-1]))
        finally:
            for rpc in connections:
                rpc.close()
        return spans

    def test_every_prefix_of_a_message_may_be_the_last(self):
        message = msgpack.packb([0, 1, '$/ping', [{'key': ['value', 1.5, b'bin']}], {'timeout': 5}])
        for end in range(len(message)):
            with self.daemon.tcp() as rpc:
                rpc.send(message[:end])
                if end % 2:
                    reset(rpc.sock)
        self.assert_alive()

    def test_random_bytes_end_no_daemon(self):
        seed = os.environ.get('KNIT_TEST_SEED') or str(int.from_bytes(os.urandom(4), 'little'))
        print(f'seed {seed}, repeat with KNIT_TEST_SEED={seed}')
        import random
        random = random.Random(seed)
        for _ in range(200):
            with self.daemon.tcp() as rpc:
                data = bytearray(msgpack.packb([0, 1, '$/ping', [random.random(), 'x' * random.randrange(40)]]))
                for _ in range(random.randrange(1, 5)):
                    data[random.randrange(len(data))] = random.randrange(256)
                rpc.send(bytes(data))
                rpc.sock.shutdown(socket.SHUT_WR)
                rpc.is_closed_by_peer()
        self.assert_alive()

    def test_options_and_params_of_methods_have_limits(self):
        """The connection lives, and the error names the limit."""
        with Daemon() as daemon, daemon.tcp() as rpc:
            rpc.hello()
            for limit, method, params, options in ((65536, '$/ping', ['x' * 65533], None), (65536, '$/hello', [[1] * 65533], None),
                                                   (32, 'echo', [1], dict.fromkeys(range(33))),
                                                   (4096, 'echo', [1], {'trace': 'x' * 4090})):
                error = self.assert_fails(TOO_LARGE, rpc.call, method, *params, options=options)
                self.assertEqual(error.details['limit'], limit)
                self.assertIn(str(limit), error.text)
            self.assertEqual(rpc.call('$/ping', 'x' * 65532), 'x' * 65532)
            self.assertEqual(rpc.call('echo', 'x' * 70000, options=dict.fromkeys(range(32))), 'x' * 70000)

    def test_a_half_closed_connection_gets_its_answers(self):
        for rpc in self.both():
            rpc.send(msgpack.packb([0, 1, '$/ping', ['last']]))
            rpc.sock.shutdown(socket.SHUT_WR)
            self.assertTrue(rpc.is_closed_by_peer())
            self.assertEqual(rpc.responses[1], [None, 'last'])

    def test_a_half_closed_connection_gets_long_answers_whole(self):
        """More than the socket holds, and with the connection paused for it or for its calls."""
        size = 60000
        with Daemon(workers=1, in_flight_max=1) as daemon:
            for name, connect in daemon.transports():
                for pings, calls in ((16, 0), (60, 0), (16, 2)):
                    with self.subTest(name, pings=pings, calls=calls), connect() as rpc:
                        rpc.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
                        rpc.send(b''.join(msgpack.packb([0, i, '$/ping', ['x' * size]]) for i in range(pings)))
                        for i in range(calls):
                            rpc.send(msgpack.packb([0, pings + i, 'sleep', [60000]]))
                        rpc.sock.shutdown(socket.SHUT_WR)
                        self.assertTrue(rpc.is_closed_by_peer())
                        self.assertEqual({msgid: len(result) for msgid, (_, result) in rpc.responses.items()},
                                         dict.fromkeys(range(pings), size))
                        wait_until(lambda: daemon.stats()['connections'] == 1, 'the connection to be closed')
                        with connect() as other:
                            self.assertIsNone(other.call('sleep', 1))

    def test_attach_is_refused_over_tcp(self):
        with self.daemon.tcp() as rpc:
            self.assert_fails(DENIED, rpc.call, '$/attach', {'version': LAYOUT})

    def test_errors_of_attach_name_the_mistake(self):
        with self.daemon.unix() as rpc:
            self.assert_fails(BAD_ARGUMENT, rpc.call, '$/attach')
            self.assert_fails(BAD_ARGUMENT, rpc.call, '$/attach', {'version': 'one'})
            error = self.assert_fails(BAD_ARGUMENT, rpc.call, '$/attach', {'version': 99999})
            self.assertIn('same version', error.text)

    def test_stats_count(self):
        with self.daemon.tcp() as rpc:
            stats = rpc.call('$/stats')
            self.assertGreaterEqual(stats['connections'], 1)
            self.assertEqual(stats['pid'], self.daemon.pid)
            self.assertEqual(len(stats['lanes']), 2)

    def test_a_reader_that_never_reads_is_not_read_and_costs_little(self):
        before = self.daemon.memory_kb()
        with self.daemon.tcp() as rpc:
            rpc.sock.setblocking(False)
            data = msgpack.packb([0, 1, '$/ping', ['x' * 60000]])
            sent = 0
            try:
                while sent < 200 << 20:
                    sent += rpc.sock.send(data[sent % len(data):])
            except BlockingIOError:
                pass
            self.assertLess(sent, 100 << 20)
            self.assert_alive()
            self.assertLess(self.daemon.memory_kb() - before, 16 * 1024)

    def test_idle_connections_cost_little(self):
        connections = []
        try:
            for _ in range(50):
                connections.append(self.daemon.tcp())
            for rpc in connections:
                rpc.call('$/ping')
            before = self.daemon.memory_kb()
            for _ in range(800):
                connections.append(self.daemon.tcp())
            for rpc in connections:
                rpc.call('$/ping', 'x' * 1000)
            each = (self.daemon.memory_kb() - before) / 800
            print(f'{each:.2f} KB an idle connection')
            self.assertLess(each, 4 * SLOWDOWN)
        finally:
            for rpc in connections:
                rpc.close()

    def test_closed_connections_are_forgotten(self):
        with self.daemon.unix() as rpc:
            for _ in range(50):
                self.daemon.tcp().close()
            wait_until(lambda: rpc.call('$/stats')['connections'] <= 2, 'connections to go')


class Ending(Case):
    def test_sigterm_says_goaway_to_those_who_said_hello_and_ends_with_0(self):
        with Daemon(drain_ms=200) as daemon:
            known, plain = daemon.tcp(), daemon.tcp()
            known.hello()
            plain.call('$/ping')
            daemon.send_signal(signal.SIGTERM)
            self.assertTrue(known.is_closed_by_peer())
            self.assertTrue(plain.is_closed_by_peer())
            self.assertEqual([n[0] for n in known.notifications], ['$/goaway'])
            self.assertEqual(plain.notifications, [])
            self.assertEqual(daemon.wait(), 0)
            self.assertFalse(os.path.exists(daemon.socket))
            self.assertEqual(sorted(os.listdir(daemon.dir)), ['k.conf', 'log'])
            known.close()
            plain.close()

    def test_sigint_is_the_same(self):
        with Daemon() as daemon:
            self.assertEqual(daemon.end(signal.SIGINT), 0)

    def test_sighup_changes_nothing(self):
        with Daemon() as daemon, daemon.tcp() as rpc:
            daemon.send_signal(signal.SIGHUP)
            self.assertEqual(rpc.call('$/ping', 1), 1)


class Connections(Case):
    def test_more_than_max_connections_are_closed(self):
        with Daemon(max_connections=3) as daemon:
            kept = [daemon.tcp() for _ in range(3)]
            for rpc in kept:
                rpc.call('$/ping')
            with daemon.tcp() as fourth:
                self.assertTrue(fourth.is_closed_by_peer())
            kept.pop().close()

            def another():
                with daemon.tcp() as rpc:
                    try:
                        return rpc.call('$/ping', 1)
                    except (EOFError, ConnectionResetError):
                        return None
            wait_until(another, 'a place')
            for rpc in kept:
                rpc.close()

    def test_idle_connections_are_closed_when_idle_timeout_s_is_set(self):
        with Daemon(idle_timeout_s=1) as daemon, daemon.tcp() as rpc:
            rpc.call('$/ping')
            self.assertTrue(rpc.is_closed_by_peer())

    def test_incomplete_messages_do_not_use_up_all_memory(self):
        """With the least budget there is, an address has room for one message: those before it have a second each."""
        size = 900000
        part = b'\x94\x00\x01\xa4echo\x91\xdb' + size.to_bytes(4, 'big') + b'x' * (size - 100000)

        def begin(rpc):
            try:
                rpc.send(part)
            except OSError:
                pass  # closed because the others need the memory, as the test wants

        with Daemon(threads_io=1, message_max_bytes='1MiB', input_max_bytes='4MiB') as daemon:
            before = daemon.memory_kb()
            with contextlib.ExitStack() as stack:
                begun = [stack.enter_context(connect()) for connect in [daemon.tcp] * 3 + [daemon.unix] * 13]
                senders = [threading.Thread(target=begin, args=(rpc,)) for rpc in begun]
                for sender in senders:
                    sender.start()
                with daemon.tcp() as rpc:
                    # Each of the eight from the same address may keep its place for more than a second.
                    rpc.sock.settimeout(4 * PATIENCE)
                    self.assertEqual(rpc.call('echo', 'y' * size), 'y' * size)
                self.assertLess(daemon.memory_kb() - before, 10 * 1024)
                for rpc in begun:
                    rpc.sock.shutdown(socket.SHUT_RDWR)
                for sender in senders:
                    sender.join()
            with daemon.tcp() as rpc:
                loops = rpc.call('$/stats')['loops']
                self.assertGreater(loops['inputs_dropped'], 0)
                self.assertGreater(loops['waits_for_room'], 0)
                self.assertEqual(rpc.call('echo', 'y' * size), 'y' * size)

    def test_connections_are_dealt_to_all_loops(self):
        with Daemon(threads_io=3) as daemon:
            connections = [daemon.tcp() for _ in range(9)]
            for i, rpc in enumerate(connections):
                self.assertEqual(rpc.call('$/ping', i), i)
            self.assertEqual(connections[0].call('$/stats')['loops']['count'], 3)
            for rpc in connections:
                rpc.close()

    def test_running_out_of_descriptors_turns_connections_away_and_passes(self):
        with Daemon() as daemon:
            import resource
            hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)[1]
            used = len(os.listdir(f'/proc/{daemon.pid}/fd'))
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used + 8, hard))
            connections = [daemon.tcp() for _ in range(30)]
            alive = 0
            for rpc in connections:
                try:
                    alive += rpc.call('$/ping', 1)
                except (EOFError, ConnectionResetError):
                    pass
            self.assertGreater(alive, 4)
            self.assertLess(alive, 12)
            for rpc in connections:
                rpc.close()

            def works():
                with daemon.tcp() as rpc:
                    try:
                        return rpc.call('$/ping', 1)
                    except (EOFError, ConnectionResetError):
                        return None
            wait_until(works, 'connections to be taken again')


if __name__ == '__main__':
    main()
