# SPDX-License-Identifier: Apache-2.0
"""The admin face: what it shows, whom it refuses, and what it costs nobody."""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
import urllib.request

from knit_chromium import Chromium
from knit_flood import Flood
from knit_harness import PATIENCE, SLOWDOWN, Case, Daemon, main, wait_until, worker_with

PROMTOOL, PROMETHEUS, CHROMIUM = '/usr/bin/promtool', '/usr/bin/prometheus', '/usr/bin/chromium'
PLACES = 64
HEADERS = {'connection': 'close', 'cache-control': 'no-store', 'x-content-type-options': 'nosniff',
           'cross-origin-resource-policy': 'same-origin', 'referrer-policy': 'no-referrer'}


def connect(daemon):
    where = daemon.admin
    if where.startswith('unix://'):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(where[7:])
        return sock
    host, port = re.fullmatch(r'http://(.*):(\d+)/', where).groups()
    return socket.create_connection((host.strip('[]'), int(port)), timeout=PATIENCE)


def read(sock):
    """Status, headers by their names in small letters, body."""
    answer = b''
    while piece := sock.recv(1 << 20):
        answer += piece
    head, _, body = answer.partition(b'\r\n\r\n')
    lines = head.decode().split('\r\n')
    return int(lines[0].split()[1]), {k.lower(): v for k, v in (line.split(': ', 1) for line in lines[1:])}, body


def send(daemon, data):
    with connect(daemon) as sock:
        sock.sendall(data)
        return read(sock)


def get(daemon, path, *fields, method='GET', host='localhost'):
    return send(daemon, '\r\n'.join([f'{method} {path} HTTP/1.1', f'Host: {host}', *fields, '', '']).encode())


def metrics(daemon):
    """Samples by name and labels."""
    status, _, body = get(daemon, '/metrics')
    assert status == 200, status
    return {key: float(value) for key, value in
            (line.rsplit(' ', 1) for line in body.decode().splitlines() if not line.startswith('#'))}


def free_port():
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


class Face(Daemon):
    def __init__(self, *arguments, admin='127.0.0.1:0', **options):
        super().__init__(*arguments, admin=admin, **options)


class Pages(Case):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Face(admin_hosts='knit.example other.example')

    @classmethod
    def tearDownClass(cls):
        with cls.daemon:
            pass

    def test_probes_say_ok(self):
        for path in '/livez', '/readyz', '/livez?verbose':
            status, headers, body = get(self.daemon, path)
            self.assertEqual((status, body), (200, b'ok\n'))
            self.assertEqual(headers, {**headers, **HEADERS, 'content-type': 'text/plain; charset=utf-8', 'content-length': '3'})
            self.assertIn("frame-ancestors 'none'", headers['content-security-policy'])
            self.assertNotIn('access-control-allow-origin', headers)
        self.assertEqual(send(self.daemon, b'GET /readyz HTTP/1.0\r\n\r\n')[0], 200)

    def test_a_head_is_all_that_head_gets(self):
        for path in '/livez', '/tasks', '/nowhere':
            status, headers, body = get(self.daemon, path)
            self.assertEqual(get(self.daemon, path, method='HEAD'), (status, headers, b''))
            self.assertEqual(len(body), int(headers['content-length']))

    def test_stats_are_those_of_the_protocol(self):
        with self.daemon.tcp() as rpc:
            for i in range(20):
                rpc.call('add', i, 1)
            self.assert_fails(600, rpc.call, 'fail')

            def agree():
                status, headers, body = get(self.daemon, '/stats')
                self.assertEqual((status, headers['content-type']), (200, 'application/json'))
                shown, asked = json.loads(body), rpc.call('$/stats')
                self.assertEqual(list(shown), list(asked))
                self.assertEqual(list(shown['loops']), list(asked['loops']))
                # Those that asking changes.
                shown.pop('admin'), asked.pop('admin')
                for name in 'turns', 'sleeps', 'bytes_in', 'bytes_out', 'requests', 'count':
                    shown['loops'].pop(name), asked['loops'].pop(name)
                for value in shown, asked:
                    value.pop('uptime_ms')
                    for lane in value['lanes']:
                        lane.pop('is_parked'), lane.pop('parks')
                return shown == asked
            wait_until(agree, 'both to say the same')

    def test_tasks_are_those_of_the_pool(self):
        status, headers, body = get(self.daemon, '/tasks')
        self.assertEqual((status, headers['content-type']), (200, 'application/json'))
        with self.daemon.tcp() as rpc:
            self.assertEqual(json.loads(body)['tasks'], rpc.call('$/tasks')['tasks'])

    def test_metrics_count_what_was_done(self):
        before = metrics(self.daemon)
        with self.daemon.tcp() as tcp, self.daemon.unix() as unix:
            for rpc in tcp, unix:
                for i in range(10):
                    rpc.call('add', i, 1)
            self.assert_fails(600, tcp.call, 'fail')

            def grown(name):
                after = metrics(self.daemon)
                return sum(after[key] - before[key] for key in after if key.startswith('knitting_' + name))
            for name, more in (('socket_calls_total{outcome="result"}', 20), ('socket_calls_total{outcome="error"}', 1),
                               ('calls_published_total', 21), ('lane_calls_total{', 21),
                               ('connections_accepted_total{transport="tcp"}', 1),
                               ('connections_accepted_total{transport="unix"}', 1),
                               ('connections_accepted_total{transport="tls"}', 0), ('calls_in_flight', 0)):
                wait_until(lambda: grown(name) == more, name)
            msgid = tcp.request('sleep', 500)
            wait_until(lambda: metrics(self.daemon)['knitting_calls_in_flight'] == 1, 'a call in flight')
            tcp.response(msgid)
        self.assertEqual(before['knitting_workers{state="serving"}'], 2)
        self.assertGreater(before['knitting_memory_limit_bytes'], before['knitting_memory_bytes'])

    def test_tasks_are_counted_by_how_they_were_run(self):
        def shown(daemon):
            return {row.pop('task'): row for row in json.loads(get(daemon, '/tasks')[2])['runs']}
        with Face(workers=2) as daemon, daemon.tcp() as rpc:
            self.assertEqual(len(shown(daemon)), len(rpc.call('$/tasks')['tasks']))
            self.assertEqual({value for row in shown(daemon).values() for value in row.values() if isinstance(value, int)}, {0})
            self.assertEqual({tuple(row[key]) for row in shown(daemon).values() for key in ('run_buckets', 'wait_buckets')},
                             {(0, ) * 15})
            for _ in range(5):
                rpc.call('sleep', 20)
            rpc.call_all([['add', i, 1] for i in range(5000)])
            for _ in range(300):
                self.assert_fails(600, rpc.call, 'fail')

            def is_counted():
                rows = shown(daemon)
                # Of short ones, those that are not looked at yet are missing, and each stands for others.
                return (rows['sleep']['results'] == 5 and abs(rows['add']['results'] + rows['fail']['errors'] - 5300) <= 64 and
                        rows['fail']['errors'] > 150 and rows['add']['errors'] == rows['fail']['results'] == 0)
            wait_until(is_counted, 'the calls')
            self.assertGreaterEqual(shown(daemon)['sleep']['run_us'], 5 * 20000)
            now = metrics(daemon)
            self.assertEqual(now['knitting_task_calls_total{task="sleep",outcome="result"}'], 5)
            self.assertEqual(now['knitting_task_run_seconds_count{task="sleep"}'], 5)
            self.assertGreaterEqual(now['knitting_task_run_seconds_sum{task="sleep"}'], 0.1)
            self.assertEqual(now['knitting_task_run_seconds_bucket{task="sleep",le="0.016384000"}'], 0)
            for task in 'sleep', 'add', 'fail':
                counts = [value for key, value in now.items() if key.startswith(f'knitting_task_run_seconds_bucket{{task="{task}",')]
                self.assertEqual(len(counts), 15)
                self.assertEqual(counts, sorted(counts))
                self.assertEqual(counts[-1], now[f'knitting_task_run_seconds_count{{task="{task}"}}'])

    def test_waits_are_counted_by_task_and_queue(self):
        # More than the lanes hold at once, so most of them wait in the connection, and each is known.
        with Face(workers=1) as daemon, daemon.tcp() as rpc:
            rpc.call_all([['sleep', 20] for _ in range(30)])

            def is_counted():
                now = metrics(daemon)
                count = now['knitting_task_wait_seconds_count{task="sleep",queue="connection"}']
                # All but the first few, the last of them behind 25 others.
                return 20 <= count < 30 and now['knitting_task_wait_seconds_sum{task="sleep",queue="connection"}'] > 20 * 0.02
            wait_until(is_counted, 'the waits in the connection')

    def test_waits_in_lanes_are_estimated(self):
        calls = 64000
        with Face(workers=1, admin='127.0.0.1:0') as daemon:
            done = subprocess.run([os.environ['KNIT_TOOL'], '-u', f'shm://{daemon.socket}', 'batch', 'add'],
                                  input='[1, 2]\n' * calls, stdout=subprocess.DEVNULL, text=True, check=False)
            self.assertEqual(done.returncode, 0)
            now = metrics(daemon)
            counts = [value for key, value in now.items()
                      if key.startswith('knitting_task_wait_seconds_bucket{task="add",queue="lane",')]
            self.assertEqual((len(counts), counts), (15, sorted(counts)))
            # About a thousand are known; that the half is or twice as many is beyond all chance.
            self.assertEqual(counts[-1] % 64, 0)
            self.assertTrue(calls / 2 < counts[-1] < calls * 2, counts[-1])
            self.assertGreater(now['knitting_task_wait_seconds_sum{task="add",queue="lane"}'], 0)
            self.assertEqual(now['knitting_task_wait_seconds_count{task="add",queue="connection"}'], 0)

    def test_refusals_are_counted_by_their_reason(self):
        with Face(call_max_bytes=1000) as daemon, daemon.tcp() as rpc:
            for arguments in ('no_such_task', ), ('echo', 'x' * 2000), ('no_such_task', 1):
                with self.assertRaises(Exception):
                    rpc.call(*arguments)
            with self.assertRaises(Exception):
                rpc.call('add', 1, 2, options={'timeout': 'soon'})
            now = metrics(daemon)
            self.assertEqual([now[f'knitting_calls_refused_total{{reason="{word}"}}']
                              for word in ('unknown_task', 'too_large', 'malformed', 'draining', 'denied')], [2, 1, 1, 0, 0])

    def test_limits_stand_beside_what_they_limit(self):
        with Face(slots=64, max_connections=100) as daemon, daemon.tcp() as tcp, daemon.unix() as unix:
            wait_until(lambda: metrics(daemon)['knitting_connections{transport="unix"}'] == 1, 'both connections')
            now = metrics(daemon)
            self.assertEqual(now['knitting_connections{transport="tcp"}'], 1)
            self.assertEqual(now['knitting_connections{transport="tls"}'], 0)
            self.assertEqual(now['knitting_connections_limit'], 100)
            self.assertEqual(now['knitting_calls_in_flight_limit'], 64 * daemon.stats()['loops']['count'])
            self.assertEqual(now['knitting_request_arena_bytes'], 0)
            self.assertGreater(now['knitting_request_arena_limit_bytes'], 1 << 20)
            before = now['knitting_reply_arena_bytes']
            tcp.call('echo', 'x' * 100000)
            wait_until(lambda: metrics(daemon)['knitting_reply_arena_bytes'] >= before + 100000, 'the arena to be touched')
            self.assertGreater(now['knitting_reply_arena_limit_bytes'], before + 100000)
            self.assertTrue(any(key.startswith('knitting_program_info{file="example.so",number="1"') for key in now))
            unix.close()
            wait_until(lambda: metrics(daemon)['knitting_connections{transport="unix"}'] == 0, 'its end')

    def test_a_worker_s_end_is_counted_by_its_reason(self):
        with Face(hard_timeout_ms=200) as daemon, daemon.tcp() as rpc:
            for kind in 'segv', 'exit':
                with self.assertRaises(Exception):
                    rpc.call('crash', kind)
            with self.assertRaises(Exception):
                rpc.call('sleep', 60000)

            def is_counted():
                now = metrics(daemon)
                return [now[f'knitting_worker_deaths_total{{reason="{word}"}}']
                        for word in ('signal', 'exit', 'hard_timeout', 'not_stopped', 'refused')] == [1, 1, 1, 0, 0]
            wait_until(is_counted, 'three deaths')
            # Both, but that a sanitizer has the signal, and leaves no note whose fault it was.
            self.assertIn(metrics(daemon)['knitting_task_worker_deaths_total{task="crash"}'], (1, 2))

    def test_promtool_finds_nothing_to_say(self):
        if not os.path.exists(PROMTOOL):
            self.skipTest('promtool is not there (Debian: prometheus)')
        done = subprocess.run([PROMTOOL, 'check', 'metrics'], input=get(self.daemon, '/metrics')[2], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        self.assertEqual((done.returncode, done.stdout), (0, b''))
        done = subprocess.run([PROMTOOL, 'check', 'metrics'], input=b'# TYPE a counter\na 1\n', stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        self.assertNotEqual(done.stdout, b'')

    def test_it_answers_to_names_that_it_knows(self):
        for host in 'localhost:5650', '127.0.0.1', '[::1]:1', '192.0.2.7:80', 'knit.example', 'OTHER.example:5650':
            self.assertEqual(get(self.daemon, '/livez', host=host)[0], 200, host)
        for host in 'evil.example', 'localhost.evil.example', '', '127.0.0.1.evil.example', 'knit.example.':
            status, headers, body = get(self.daemon, '/stats', host=host)
            self.assertEqual((status, body), (421, b'Misdirected Request\n'), host)

    def test_pages_of_others_are_refused(self):
        for site, expected in (('cross-site', 403), ('none', 200), ('same-origin', 200), ('same-site', 200)):
            self.assertEqual(get(self.daemon, '/stats', f'Sec-Fetch-Site: {site}')[0], expected)

    def test_each_mistake_has_its_status(self):
        for data, expected in ((b'GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n', 404),
                               (b'GET /stats/ HTTP/1.1\r\nHost: localhost\r\n\r\n', 404),
                               (b'GET /../stats HTTP/1.1\r\nHost: localhost\r\n\r\n', 404),
                               (b'POST /stats HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}', 405),
                               (b'GET /stats\r\n\r\n', 400), (b'GET /stats HTTP/1.1\r\n\r\n', 400),
                               (b'GET /stats HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n', 400),
                               (b'GET /stats HTTP/1.1\r\nHost: localhost\r\n' + b'A: b\r\n' * 2000 + b'\r\n', 431),
                               (b'a' * 10000, 431)):
            status, headers, body = send(self.daemon, data)
            self.assertEqual(status, expected, data[:60])
            self.assertEqual(headers.get('allow'), 'GET, HEAD' if status == 405 else None)
            self.assertEqual(len(body), int(headers['content-length']))

    def test_one_request_is_all_a_connection_has(self):
        one = b'GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n'
        status, _, body = send(self.daemon, one + one)
        self.assertEqual((status, body), (200, b'ok\n'))
        with connect(self.daemon) as sock:
            for byte in one:
                sock.sendall(bytes([byte]))
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(read(sock)[0], 200)


class Calls(Case):
    """What runs and waits, by whomever."""

    def calls(self, daemon):
        status, headers, body = get(daemon, '/calls')
        self.assertEqual((status, headers['content-type']), (200, 'application/json'))
        return json.loads(body)

    def test_nothing_runs_in_an_idle_pool(self):
        with Face() as daemon:
            wait_until(lambda: self.calls(daemon) == {'calls': [], 'waiting': [], 'callers': [], 'left_out': 0},
                       'nothing to run')

    def test_what_runs_and_waits_is_listed(self):
        with Face(workers=2) as daemon, daemon.tcp() as tcp, daemon.unix() as unix:
            begun = time.monotonic()
            nap_ms = int(60000 * SLOWDOWN)
            ids = [tcp.request('sleep', nap_ms)] + [unix.request('sleep', nap_ms) for _ in range(20)]

            def settled():
                shown = self.calls(daemon)
                states = [row['state'] for row in shown['calls']]
                return states.count('running') == 2 and sum(row['count'] for row in shown['waiting']) > 10 and shown
            shown = wait_until(settled, 'two to run and the others to wait')
            running = [row for row in shown['calls'] if row['state'] == 'running']
            lanes = daemon.stats()['lanes']
            self.assertEqual({row['worker'] for row in running}, {0, 1})
            for row in running:
                self.assertEqual(row['pid'], lanes[row['worker']]['pid'])
                self.assertEqual(set(row), {'task', 'state', 'principal', 'age_ms', 'worker', 'pid', 'session', 'slot', 'generation'})
            self.assertEqual({row['task'] for row in shown['calls']}, {'sleep'})
            self.assertLessEqual({row['principal'] for row in shown['calls']}, {'anonymous', f'uid:{os.getuid()}'})
            self.assertEqual({row['principal'] for row in shown['waiting']}, {f'uid:{os.getuid()}'})
            self.assertEqual(len(shown['calls']) + sum(row['count'] for row in shown['waiting']), len(ids))

            def aged():
                ages = [row['age_ms'] for row in self.calls(daemon)['calls'] if row['state'] == 'running']
                self.assertLess(max(ages, default=0), 1000 * (time.monotonic() - begun) + 1)
                return max(ages, default=0) > 500
            wait_until(aged, 'its age')
            now = metrics(daemon)
            self.assertEqual(now['knitting_task_in_flight{task="sleep",state="running"}'], 2)
            queued = len(shown['calls']) - 2
            self.assertEqual(now['knitting_task_in_flight{task="sleep",state="queued"}'], queued)
            self.assertEqual(now['knitting_calls_waiting'], len(ids) - 2 - queued)
            self.assertEqual(now['knitting_calls_in_flight'], 2 + queued)
            daemon.end(signal.SIGKILL)
            daemon.expected_status = -signal.SIGKILL

    def test_calls_by_shared_memory_are_listed_by_their_user(self):
        with Face(workers=1) as daemon:
            caller = subprocess.Popen([os.environ['KNIT_TOOL'], '-u', f'shm://{daemon.socket}', 'call', 'sleep', '2000'])
            try:
                row, = wait_until(lambda: self.calls(daemon)['calls'], 'the call')
                self.assertEqual((row['task'], row['state'], row['principal']), ('sleep', 'running', f'uid:{os.getuid()}'))
            finally:
                caller.kill()
                caller.wait()
            wait_until(lambda: self.calls(daemon)['calls'] == [], 'its end', 2 * PATIENCE)

    def test_many_ask_at_once(self):
        with Face(threads_io=4) as daemon, daemon.tcp() as rpc, contextlib.ExitStack() as stack:
            msgid = rpc.request('sleep', 1000)
            wait_until(lambda: len(self.calls(daemon)['calls']) == 1, 'the call')
            socks = [stack.enter_context(connect(daemon)) for _ in range(40)]
            for sock in socks:
                sock.sendall(b'GET /calls HTTP/1.1\r\nHost: localhost\r\n\r\n')
            self.assertEqual({len(json.loads(read(sock)[2])['calls']) for sock in socks}, {1})
            rpc.response(msgid)


class Limits(Case):
    def test_a_request_that_is_not_sent_ends(self):
        with Face() as daemon:
            socks = [connect(daemon) for _ in range(3)]
            begun = time.monotonic()
            socks[1].sendall(b'GET /livez HTTP/1.1\r\n')
            for sock in socks:
                sock.settimeout(5 + PATIENCE)
                self.assertEqual(sock.recv(100), b'')
                sock.close()
            self.assertGreater(time.monotonic() - begun, 4)

    def test_those_who_are_silent_make_way(self):
        with Face() as daemon, contextlib.ExitStack() as stack:
            def count():
                return sum(os.readlink(f'/proc/{daemon.pid}/fd/{fd}').startswith('socket:') for fd in os.listdir(f'/proc/{daemon.pid}/fd'))
            before = count()
            eldest = stack.enter_context(connect(daemon))
            answered = stack.enter_context(connect(daemon))
            answered.sendall(b'GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n')
            self.assertEqual(read(answered)[0], 200)
            others = [stack.enter_context(connect(daemon)) for _ in range(PLACES - 2)]
            wait_until(lambda: count() == before + PLACES, 'all places to be taken')
            # The first of two more has the place of the one that has its answer.
            for _ in range(2):
                stack.enter_context(connect(daemon))
            self.assertEqual(eldest.recv(100), b'')
            # By no timer: the next one would have ended as well.
            self.assertEqual(select.select(others, [], [], 0)[0], [])
            self.assertEqual(get(daemon, '/livez')[0], 200)
            others[-1].sendall(b'GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n')
            self.assertEqual(read(others[-1])[0], 200)
            # Far more: nobody else notices.
            for _ in range(200):
                stack.enter_context(connect(daemon))
            with daemon.tcp() as rpc:
                self.assertEqual(rpc.call('add', 1, 2), 3)
            self.assertEqual(get(daemon, '/livez')[0], 200)

    def test_descriptors_come_back(self):
        with Face() as daemon:
            def count():
                return len(os.listdir(f'/proc/{daemon.pid}/fd'))
            get(daemon, '/metrics')
            before = wait_until(lambda: (n := count()) and n == count() and n, 'a steady number')
            for _ in range(50):
                get(daemon, '/stats')
                connect(daemon).close()
            wait_until(lambda: count() <= before, 'as many as before')


class Budget(Case):
    """A hundredth of the main thread's time, and 20 ms at once."""

    def taken(self, daemon):
        """Seconds of a processor: of the main thread, by the kernel, and of the face, by its own clock."""
        with open(f'/proc/{daemon.pid}/task/{daemon.pid}/schedstat') as file:
            return int(file.read().split()[0]) / 1e9, daemon.stats()['admin']['busy_ns'] / 1e9

    def flood(self, *paths, piece_s, seconds):
        with Face() as daemon, Flood(daemon, *paths) as flood:
            wait_until(lambda: daemon.stats()['admin']['pauses'] > 0, 'its rest to be used')
            before, begun, late = self.taken(daemon), time.monotonic(), []
            while time.monotonic() - begun < seconds:
                asked = time.monotonic()
                self.assertEqual(get(daemon, '/livez')[0], 200)
                late.append(time.monotonic() - asked)
            seconds, after = time.monotonic() - begun, self.taken(daemon)
            by_kernel, by_itself = (now - then for now, then in zip(after, before))
            print(f'{paths}: {100 * by_kernel / seconds:.2f} % of the main thread, {100 * by_itself / seconds:.2f} % counted, '
                  f'{flood.sent} requests, /livez after {1000 * sorted(late)[len(late) // 2]:.0f} ms, worst {1000 * max(late):.0f}')
            # What the last piece took too much is paid later.
            self.assertLess(by_itself, 0.01 * seconds + piece_s * SLOWDOWN)
            self.assertLess(by_kernel, 0.03 * seconds + piece_s * SLOWDOWN)
            self.assertLess(max(late), PATIENCE / 2)
            now = metrics(daemon)
            self.assertGreater(now['knitting_admin_pauses_total'], 5)
            self.assertGreater(now['knitting_admin_busy_seconds_total'], 0.02)
            self.assertGreater(now['knitting_admin_requests_total'], 64)
            return flood.statuses

    def test_wrong_requests_take_their_share(self):
        self.assertEqual(self.flood('GET /nowhere', 'POST /stats', 'GET', piece_s=0.005, seconds=2), {404, 405, 400})

    def test_right_requests_take_their_share(self):
        self.assertEqual(self.flood('GET /metrics', 'GET /', 'GET /calls', 'GET /livez', piece_s=0.02, seconds=1), {200})

    def test_what_is_sent_byte_by_byte_takes_no_more(self):
        with Face() as daemon, contextlib.ExitStack() as stack:
            socks = [stack.enter_context(connect(daemon)) for _ in range(40)]
            before, begun = self.taken(daemon), time.monotonic()
            while time.monotonic() - begun < 1:
                for sock in socks:
                    sock.sendall(b'a')
            seconds, after = time.monotonic() - begun, self.taken(daemon)
            self.assertGreater(daemon.stats()['admin']['pauses'], 0)
            self.assertLess(after[0] - before[0], 0.02 + 0.03 * seconds + 0.005 * SLOWDOWN)

    def test_who_waits_for_its_rest_is_answered(self):
        with Face() as daemon:
            with Flood(daemon, 'GET /nowhere'):
                wait_until(lambda: daemon.stats()['admin']['pauses'] > 1, 'a pause')
                with contextlib.ExitStack() as stack:
                    socks = [stack.enter_context(connect(daemon)) for _ in range(20)]
                    for sock in socks:
                        sock.sendall(b'GET /calls HTTP/1.1\r\nHost: localhost\r\n\r\n')
                    self.assertEqual({read(sock)[0] for sock in socks}, {200})
            wait_until(lambda: get(daemon, '/readyz')[0] == 200, 'to be quick again')


class Places(Case):
    def test_the_usual_port_may_be_taken(self):
        with contextlib.ExitStack() as stack:
            holder = stack.enter_context(socket.socket())
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):  # by whomever
                holder.bind(('127.0.0.1', 5650))
                holder.listen()
            with Daemon(admin=None) as daemon, daemon.tcp() as rpc:
                self.assertRegex(daemon.log(), r'level=warning msg="no admin face" reason=".*127\.0\.0\.1:5650.* in use')
                self.assertIsNone(daemon.admin)
                self.assertEqual(rpc.call('add', 1, 2), 3)

    def test_one_that_is_named_must_be_had(self):
        with Face() as first:
            port = first.admin.rsplit(':', 1)[1].strip('/')
            second = Daemon(admin=f'127.0.0.1:{port}', wait=False)
            self.assertNotEqual(second.wait(), 0)
            self.assertRegex(second.log(), f'cannot listen on 127.0.0.1:{port}: .* in use')
            second.expected_status = second.process.returncode
            second.__exit__(None)

    def test_wrong_places_are_refused(self):
        for place, part in (('localhost:1', 'number of an address'), ('nowhere', 'ADDRESS:PORT'),
                            ('/no/such/folder/a.sock', '/no/such/folder'), ('127.0.0.1:70000', '65535')):
            for check in [], ['--check-config']:
                daemon = Daemon(*check, admin=place, wait=False)
                daemon.expected_status = daemon.wait()
                self.assertNotEqual(daemon.expected_status, 0)
                self.assertIn(part, daemon.log())
                daemon.__exit__(None)

    def test_it_is_there_by_itself_only_where_everybody_may_call(self):
        with tempfile.NamedTemporaryFile('w', suffix='.policy') as policy:
            policy.write('[anonymous]\nallow = add\n')
            policy.flush()
            for options in {'policy': policy.name}, {'listen': 'none'}, {'require_authentication': 'on'}:
                done = subprocess.run(
                    [os.environ['KNIT_DAEMON'], '--config', '/dev/null', '--print-config',
                     *(f'--{name.replace("_", "-")}={value}' for name, value in options.items())],
                    stdout=subprocess.PIPE, text=True, check=True)
                self.assertRegex(done.stdout, r'(?m)^admin = none +; default', options)
        done = subprocess.run([os.environ['KNIT_DAEMON'], '--config', '/dev/null', '--print-config'], stdout=subprocess.PIPE,
                              text=True, check=True, env={k: v for k, v in os.environ.items() if k != 'RUNTIME_DIRECTORY'})
        self.assertRegex(done.stdout, r'(?m)^admin = 127\.0\.0\.1:5650 +; default')

    def test_a_unix_socket_has_the_rights_of_the_other_one(self):
        folder = tempfile.mkdtemp(prefix='knit-')
        self.addCleanup(shutil.rmtree, folder)
        with Face(admin=f'{folder}/admin.sock', socket_mode='0600') as daemon:
            self.assertEqual(stat.S_IMODE(os.stat(f'{folder}/admin.sock').st_mode), 0o600)
            self.assertEqual(daemon.admin, f'unix://{folder}/admin.sock')
            self.assertEqual(get(daemon, '/readyz')[0], 200)
            self.assertEqual(get(daemon, '/readyz', host='evil.example')[0], 421)
            # What is sent with the bytes is not taken.
            with connect(daemon) as sock:
                one, other = socket.socketpair()
                with one, other, contextlib.suppress(PermissionError):
                    socket.send_fds(sock, [b'GET /livez HTTP/1.1\r\n'], [one.fileno()])
                    self.assertEqual(sock.recv(10), b'')
            self.assertEqual(get(daemon, '/readyz')[0], 200)
        self.assertEqual(os.listdir(folder), [])

    def test_other_addresses(self):
        with Face(admin='[::1]:0') as daemon:
            self.assertEqual(get(daemon, '/livez')[0], 200)


class Readiness(Case):
    def test_a_daemon_that_drains_is_alive_and_not_ready(self):
        with Face() as daemon, daemon.tcp() as rpc:
            rpc.hello()
            msgid = rpc.request('sleep', 1500)
            wait_until(lambda: metrics(daemon)['knitting_calls_in_flight'] == 1, 'the call')
            daemon.send_signal(signal.SIGTERM)
            wait_until(lambda: get(daemon, '/readyz')[::2] == (503, b'draining\n'), 'not to be ready')
            self.assertEqual(get(daemon, '/livez')[0], 200)
            self.assertIsNone(rpc.result(msgid))
            self.assertEqual(daemon.wait(), 0)

    def test_a_daemon_without_a_worker_is_not_ready(self):
        with tempfile.TemporaryDirectory(prefix='knit-') as folder:
            program = worker_with(folder, {})
            with Face(workers=1, worker=program) as daemon:
                self.assertEqual(get(daemon, '/readyz')[0], 200)
                os.rename(program, program + '.gone')
                os.kill(daemon.stats()['lanes'][0]['pid'], signal.SIGKILL)
                wait_until(lambda: get(daemon, '/readyz')[::2] == (503, b'no worker serves\n'), 'not to be ready')
                self.assertEqual(get(daemon, '/livez')[0], 200)
                os.rename(program + '.gone', program)
                wait_until(lambda: get(daemon, '/readyz')[0] == 200, 'to be ready again', 2 * PATIENCE)


class TakeOver(Case):
    def take_over(self, place):
        with Face(admin=place) as elder:
            elder.expected_status = 0
            with Face('--take-over', admin=place, socket=elder.socket, listen=f'127.0.0.1:{elder.port}') as newer:
                self.assertEqual(elder.wait(2 * PATIENCE), 0)

                def is_newer():
                    try:
                        return json.loads(get(newer, '/stats')[2])['pid'] == newer.pid
                    except (OSError, ValueError, IndexError):
                        return False
                wait_until(is_newer, 'the newer one to have the place')
                self.assertEqual(get(newer, '/readyz')[0], 200)
                self.assertNotIn('no admin face', newer.log())

    def test_the_newer_one_gets_the_address(self):
        self.take_over(f'127.0.0.1:{free_port()}')

    def test_the_newer_one_gets_the_socket(self):
        with tempfile.TemporaryDirectory(prefix='knit-') as folder:
            self.take_over(f'{folder}/admin.sock')

    def test_the_elder_goes_on_where_the_newer_one_fails(self):
        with Face(admin=f'127.0.0.1:{free_port()}') as elder:
            newer = Face('--take-over', admin=elder.admin[7:-1], socket=elder.socket, listen=f'127.0.0.1:{elder.port}',
                         module='/nowhere.so', wait=False)
            newer.expected_status = newer.wait()
            self.assertNotEqual(newer.expected_status, 0)
            newer.__exit__(None)
            self.assertEqual(json.loads(get(elder, '/stats')[2])['pid'], elder.pid)


class Page(Case):
    """The page at `/`, as it comes, and as Chromium shows it."""

    def cells(self, page):
        return {key: text for key, text in re.findall(r'data-key="([^"]*)"[^>]*>([^<]*)<', page)}

    def rows(self, page, table):
        body = re.search(f'<table id="{table}">.*?<tbody>(.*?)</tbody>', page, re.S).group(1)
        return [re.findall(r'<td[^>]*>([^<]*)</td>', row) for row in re.findall(r'<tr>(.*?)</tr>', body, re.S)]

    def assert_agrees(self, page, daemon):
        stats, tasks = (json.loads(get(daemon, path)[2]) for path in ('/stats', '/tasks'))
        cells = self.cells(page)
        self.assertGreater(len(cells), 10)
        for key, text in cells.items():
            value = stats
            for part in key.split('.'):
                value = value[part]
            if key != 'uptime_ms':
                self.assertEqual(text, str(value), key)
        self.assertEqual([[row[0], row[1].split(',')[0], *row[2:4], row[8]] for row in self.rows(page, 'lanes')],
                         [[str(i), lane['state'], str(lane['pid']), str(lane['calls']), str(lane['deaths'])]
                          for i, lane in enumerate(stats['lanes'])])
        self.assertEqual([row[:3] for row in self.rows(page, 'tasks')],
                         [[run['task'], str(run['results']), str(run['errors'])] for run in tasks['runs']])

    def test_it_is_a_table_without_scripts(self):
        with Face() as daemon, daemon.tcp() as rpc:
            for i in range(30):
                rpc.call('add', i, 1)
            self.assert_fails(600, rpc.call, 'fail')
            status, headers, body = get(daemon, '/')
            self.assertEqual((status, headers['content-type']), (200, 'text/html; charset=utf-8'))
            self.assert_agrees(body.decode(), daemon)
            policy = headers['content-security-policy']
            self.assertIn("default-src 'none'; style-src 'sha256-", policy)
            self.assertNotIn('unsafe', policy)
            self.assertIn("frame-ancestors 'none'", policy)
            self.assertIsNone(re.search(r'(src|href)="(?!/)', body.decode()))

    def test_callers_and_calls_are_there_without_scripts(self):
        with Face(workers=1) as daemon, daemon.tcp() as tcp, daemon.unix() as unix:
            nap_ms, user = int(60000 * SLOWDOWN), f'uid:{os.getuid()}'
            tcp.request('sleep', nap_ms)
            wait_until(lambda: b'running' in get(daemon, '/calls')[2], 'the call')
            for _ in range(20):
                unix.request('sleep', nap_ms)

            def page():
                shown = json.loads(get(daemon, '/calls')[2])
                waiting = sum(row['count'] for row in shown['waiting'])
                return len(shown['calls']) + waiting == 21 and waiting > 0 and (shown, waiting, get(daemon, '/')[2].decode())
            shown, waiting, text = wait_until(page, 'all calls')
            queued = len(shown['calls']) - 1
            rows = self.rows(text, 'calls')
            self.assertEqual([row[:4] for row in rows], [[row['task'], row['principal'], row['state'], str(row.get('worker', '–'))]
                                                         for row in shown['calls']])
            self.assertEqual({row[4] for row in rows if row[2] == 'queued'}, {'–'})
            self.assertEqual([row[:5] for row in self.rows(text, 'callers')],
                             [['anonymous', '1', '1', '0', '0'], [user, '1', '0', str(queued), str(waiting)]])
            self.assertIn(f'{waiting} calls wait in their connections.', text)
            self.assertIn('Those that run, and wait in lanes.', text)
            self.look_without_scripts(daemon, waiting)
            daemon.end(signal.SIGKILL)
            daemon.expected_status = -signal.SIGKILL

    def look_without_scripts(self, daemon, waiting):
        """As Chromium shows it, on a desk and on a phone."""
        if not os.path.exists(CHROMIUM):
            print('chromium is not there (Debian: chromium)')
            return
        with Chromium() as browser:
            for width, is_dark, paper in (1180, False, 'rgb(244, 245, 247)'), (390, True, 'rgb(17, 20, 24)'):
                browser.emulate(width, is_dark, runs_scripts=False)
                browser.open(daemon.admin)
                self.assertEqual(browser.evaluate('getComputedStyle(document.body).backgroundColor'), paper)
                # Tables scroll, the page does not.
                self.assertEqual(browser.evaluate('innerWidth'), width)
                self.assertEqual(browser.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth'), 0)
                self.assertEqual(browser.evaluate('document.getElementById("state").textContent'), 'As it was when this page was loaded.')
                self.assertEqual(browser.evaluate('document.getElementById("tiles").offsetHeight'), 0)
                self.assertEqual(browser.evaluate('document.getElementById("waiting").textContent.trim()'),
                                 f'{waiting} calls wait in their connections.')
                self.assertEqual(browser.evaluate('document.querySelector("#calls tbody td").innerText'), 'sleep')
                self.assertEqual(browser.evaluate('document.querySelectorAll("#callers tbody tr").length'), 2)

    def test_chromium_shows_what_stats_say(self):
        if not os.path.exists(CHROMIUM):
            self.skipTest('chromium is not there (Debian: chromium)')
        with Face(workers=1) as daemon, daemon.tcp() as rpc, tempfile.TemporaryDirectory(prefix='knit-') as folder:
            for i in range(30):
                rpc.call('add', i, 1)
            self.assert_fails(600, rpc.call, 'fail')
            rpc.request('sleep', int(60000 * SLOWDOWN))
            wait_until(lambda: b'running' in get(daemon, '/calls')[2], 'the call')
            done = subprocess.run(
                [CHROMIUM, '--headless=new', '--no-sandbox', '--disable-gpu', f'--user-data-dir={folder}', '--enable-logging=stderr',
                 '--virtual-time-budget=4000', '--dump-dom', daemon.admin], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                timeout=6 * PATIENCE, env={**os.environ, 'HOME': folder})
            page = done.stdout
            # Scripts have run, and the policy let them.
            self.assertRegex(page, r'id="state"[^>]*>Version [0-9.]+, live\.<', done.stderr)
            self.assertNotRegex(done.stderr, 'Refused to|Uncaught|Content Security Policy')
            self.assertEqual([row[:4] for row in self.rows(page, 'calls')], [['sleep', 'anonymous', 'running', '0']])
            self.assertEqual([row[:5] for row in self.rows(page, 'callers')], [['anonymous', '1', '1', '0', '0']])
            self.assertIn('0 calls wait', page)
            self.assertEqual(re.search('<b id="flight">([^<]*)<', page).group(1), '1')
            self.assert_agrees(page, daemon)
            daemon.end(signal.SIGKILL)
            daemon.expected_status = -signal.SIGKILL

    def test_the_page_says_when_nobody_answers(self):
        """A daemon that stands still has its connections taken by the kernel."""
        if not os.path.exists(CHROMIUM):
            self.skipTest('chromium is not there (Debian: chromium)')
        with Face(workers=1) as daemon, Chromium() as browser:
            def says(words):
                wait_until(lambda: words in browser.evaluate('document.getElementById("state").textContent'), words)
            browser.open(daemon.admin)
            says('live.')
            daemon.send_signal(signal.SIGSTOP)
            try:
                says('No answer: ')
            finally:
                daemon.send_signal(signal.SIGCONT)
            says('live.')


CONFIGURATION = '''
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: knitting
    static_configs: [{{targets: ['127.0.0.1:{port}']}}]
'''


class Prometheus(Case):
    """The real one, which has the pages for a second."""

    def setUp(self):
        if not os.path.exists(PROMETHEUS):
            self.skipTest('prometheus is not there (Debian: prometheus)')
        self.folder = tempfile.mkdtemp(prefix='knit-')
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def query(self, what):
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f'http://127.0.0.1:{self.port}/api/v1/query?query={what}', timeout=PATIENCE) as answer:
                rows = json.load(answer)['data']['result']
                return {row['metric'].get('instance'): row['value'][1] for row in rows}
        return {}

    def test_it_takes_all_of_them(self):
        with Face() as daemon, daemon.tcp() as rpc:
            for i in range(7):
                rpc.call('add', i, 1)
            target, self.port = daemon.admin[7:-1], free_port()
            path = f'{self.folder}/p.yml'
            with open(path, 'w') as file:
                file.write(CONFIGURATION.format(port=target.rsplit(':', 1)[1]))
            with open(f'{self.folder}/log', 'w') as log:
                process = subprocess.Popen(
                    [PROMETHEUS, f'--config.file={path}', f'--storage.tsdb.path={self.folder}/tsdb',
                     f'--web.listen-address=127.0.0.1:{self.port}'], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    cwd=self.folder)
            try:
                wait_until(lambda: self.query('knitting_socket_calls_total%7Boutcome%3D%22result%22%7D').get(target) == '7',
                           'the calls', 6 * PATIENCE)
                self.assertEqual(self.query('up')[target], '1')
                samples = float(self.query('scrape_samples_scraped')[target])
                # Less what Prometheus adds, as it has all that there is.
                self.assertEqual(samples, len(metrics(daemon)))
            finally:
                process.kill()
                process.wait()


if __name__ == '__main__':
    main()
