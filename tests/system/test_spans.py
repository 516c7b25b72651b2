# SPDX-License-Identifier: Apache-2.0
"""Spans of calls, by OTLP/HTTP as JSON: what a collector gets, and that one of no good costs spans alone."""

import contextlib
import json
import os
import re
import socket
import threading
import time
import unittest

from knit_harness import PATIENCE, SLOWDOWN, Case, Daemon, main, reset, wait_until
from knit_witness import LONG, LedgerDaemon

TRACE, SPAN = '0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331'
SAMPLED, UNSAMPLED = f'00-{TRACE}-{SPAN}-01', f'00-{TRACE}-{SPAN}-00'
OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}'


class Collector:
    """Takes requests, one at a time, as `answer` says: bytes to send back, or a function of the socket."""

    def __init__(self, answer=OK):
        self.answer, self.bodies, self.heads, self.refused = answer, [], [], 0
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        self.url = f'http://127.0.0.1:{self.port}/v1/traces'
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def close(self):
        self.over.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()

    def serve(self):
        while not self.over.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE)
            with contextlib.suppress(OSError), connection:
                self.take(connection)

    def take(self, connection):
        data = b''
        while b'\r\n\r\n' not in data:
            data += connection.recv(1 << 16) or self.lost()
        head, _, body = data.partition(b'\r\n\r\n')
        length = int(re.search(rb'(?i)content-length: (\d+)', head)[1])
        while len(body) < length:
            body += connection.recv(1 << 20) or self.lost()
        if callable(self.answer):
            self.answer(connection)
        else:
            connection.sendall(self.answer)
        if self.answer == OK:
            self.heads.append(head)
            self.bodies.append(body)
        else:
            self.refused += 1

    @staticmethod
    def lost():
        raise ConnectionError

    def spans(self):
        return [span for body in list(self.bodies) for resource in json.loads(body)['resourceSpans']
                for scope in resource['scopeSpans'] for span in scope['spans']]

    def wait_for(self, count):
        return wait_until(lambda: (lambda spans: len(spans) >= count and spans)(self.spans()), f'{count} spans')


def attributes_of(span):
    return {item['key']: next(iter(item['value'].values())) for item in span['attributes']}


class Exported(Case):
    def setUp(self):
        self.collector = Collector()
        self.addCleanup(self.collector.close)

    def start(self, **options):
        daemon = LedgerDaemon(**{'otlp_endpoint': self.collector.url, 'workers': 2, 'threads_io': 1, **options})
        self.addCleanup(daemon.__exit__, None, None, None)
        return daemon

    def loops(self, daemon):
        return daemon.stats()['loops']

    def call_many(self, daemon, count):
        """How long the slowest batch took."""
        slowest = 0
        with daemon.tcp() as rpc:
            for _ in range(count // 500):
                began = time.monotonic()
                ids = [rpc.request('same', 1, options={'trace': SAMPLED}) for _ in range(500)]
                for msgid in ids:
                    rpc.result(msgid)
                slowest = max(slowest, time.monotonic() - began)
        return slowest


class Spans(Exported):
    def test_a_call(self):
        daemon = self.start(otlp_service_name='shop "7"')
        began = time.time_ns()
        with daemon.tcp() as rpc:
            seen = rpc.call('traced', options={'trace': SAMPLED})
            rpc.call('spend', 20000, options={'trace': SAMPLED})
            instance = rpc.hello()['instance']
        ended = time.time_ns()
        span, other = self.collector.wait_for(2)
        self.assertEqual((span['traceId'], span['parentSpanId'], span['name'], span['kind']), (TRACE, SPAN, 'traced', 2))
        self.assertEqual(seen, f'00-{TRACE}-{span["spanId"]}-01')
        self.assertNotIn(span['spanId'], (SPAN, other['spanId']))
        self.assertEqual(span['status'], {})
        slack = 50_000_000
        self.assertLessEqual(began - slack, int(span['startTimeUnixNano']))
        self.assertLessEqual(int(span['startTimeUnixNano']), int(span['endTimeUnixNano']))
        self.assertLessEqual(int(other['endTimeUnixNano']), ended + slack)
        self.assertGreaterEqual(int(other['endTimeUnixNano']) - int(other['startTimeUnixNano']), 19_900_000)
        attributes = attributes_of(other)
        self.assertEqual(set(attributes), {'knitting.' + name for name in (
            'task', 'principal', 'peer', 'kind', 'outcome', 'wait_us', 'run_us', 'in_bytes', 'out_bytes', 'by')})
        self.assertEqual((attributes['knitting.task'], attributes['knitting.outcome'], attributes['knitting.principal']),
                         ('spend', 'ok', 'anonymous'))
        self.assertGreaterEqual(int(attributes['knitting.run_us']), 19900)
        resource = json.loads(self.collector.bodies[0])['resourceSpans'][0]['resource']
        self.assertEqual(attributes_of(resource)['service.name'], 'shop "7"')
        self.assertEqual(attributes_of(resource)['service.instance.id'], instance)
        head = self.collector.heads[0].decode()
        self.assertTrue(head.startswith('POST /v1/traces HTTP/1.1\r\n'), head)
        self.assertIn(f'\r\nHost: 127.0.0.1:{self.collector.port}\r\n', head)
        self.assertIn('\r\nContent-Type: application/json\r\n', head)

    def test_which_calls_have_one(self):
        daemon = self.start()
        with daemon.tcp() as rpc:
            rpc.call('same', 1)
            rpc.call('same', 1, options={'trace': UNSAMPLED})
            rpc.call('same', 1, options={'trace': 'none'})
            self.assert_fails(300, rpc.call, 'n\udcffo "such\\ \n task', options={'trace': SAMPLED})
            self.assert_fails(302, rpc.call, 'same', options={'trace': SAMPLED})
            self.assert_fails(303, rpc.call, 'hold', 1, 1, True, options={'trace': SAMPLED, 'timeout': 20})
            hold = rpc.request('hold', 2, 2, True, options={'trace': SAMPLED})
            daemon.ledger.wait_for(2)
        for gate in 1, 2:
            daemon.ledger.open_gate(gate)
        unknown, bad, late, gone = self.collector.wait_for(4)
        self.assertEqual(unknown['status']['code'], 2)
        self.assertEqual(unknown['name'], 'n?o "such\\ \n task')
        self.assertIn('argument 1 (value) is missing', bad['status']['message'])
        self.assertEqual(attributes_of(late)['knitting.outcome'], 'TIMEOUT')
        self.assertEqual(attributes_of(gone)['knitting.outcome'], 'caller_gone')
        self.assertEqual(gone['status']['code'], 2)

    def test_many_are_sent_together_and_none_twice(self):
        daemon = self.start(access_log='/dev/null')
        self.call_many(daemon, 3000)
        spans = self.collector.wait_for(3000)
        self.assertEqual(len({span['spanId'] for span in spans}), 3000)
        self.assertLess(len(self.collector.bodies), 100)
        wait_until(lambda: self.loops(daemon)['spans_sent'] == 3000, 'the count')
        self.assertEqual(self.loops(daemon)['spans_dropped'], 0)

    def test_those_at_the_end_are_sent(self):
        daemon = self.start()
        with daemon.tcp() as rpc:
            for _ in range(10):
                rpc.call('same', 1, options={'trace': SAMPLED})
            hold = rpc.request('hold', 1, 1, False, options={'trace': SAMPLED})
            daemon.ledger.wait_for(1)
            daemon.send_signal(15)
            wait_until(lambda: 'msg=draining' in daemon.log(), 'the drain')
            daemon.ledger.open_gate(1)
            rpc.result(hold)
        daemon.wait()
        self.assertEqual(len(self.collector.spans()), 11)

    def test_what_is_refused_for_now_is_sent_again(self):
        answers = [b'HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n\r\n', b'HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n\r\n', reset]
        for answer in answers if LONG else answers[:1]:
            with self.subTest(answer):
                collector = self.collector
                collector.bodies.clear()
                collector.refused, collector.answer = 0, answer
                daemon = self.start()
                with daemon.tcp() as rpc:
                    rpc.call('same', 1, options={'trace': SAMPLED})
                    wait_until(lambda: collector.refused > 0, 'a refusal')
                    collector.answer = OK
                    spans = collector.wait_for(1)
                    wait_until(lambda: self.loops(daemon)['spans_sent'] == 1, 'the count')
                self.assertEqual(len(spans), 1)

    def test_what_is_refused_for_good_is_dropped(self):
        self.collector.answer = b'HTTP/1.1 400 Bad Request\r\n\r\n'
        daemon = self.start()
        with daemon.tcp() as rpc:
            for _ in range(3):
                rpc.call('same', 1, options={'trace': SAMPLED})
            line, = wait_until(lambda: [line for line in daemon.log().splitlines() if 'msg="spans were dropped"' in line],
                               'a line that says so')
            self.assertIn('reason="it answered 400"', line)
            wait_until(lambda: self.loops(daemon)['spans_dropped'] == 3, 'the count')

    def test_settings(self):
        for url, sentence in (
                ('https://collector.example/v1/traces', 'spans go by http alone, to a collector beside the daemon, as '
                 'http://127.0.0.1:4318/v1/traces'),
                ('127.0.0.1:4318', 'expected http://HOST:PORT/PATH'), ('http://', 'expected http://HOST:PORT/PATH'),
                ('http://a:0/', 'expected http://'), ('http://a b/', 'expected http://'), ('http://[::1/', 'expected http://'),
                ('http://user@host/', 'expected http://'), ('http://a:1:2/', 'expected http://'), ('http://a:70000', 'expected http://')):
            daemon = Daemon(otlp_endpoint=url, wait=False)
            daemon.expected_status = 2
            with daemon:
                wait_until(lambda: daemon.process.poll() is not None, 'the end')
                self.assertIn('log.otlp_endpoint: ' + sentence, daemon.log())


class Hostile(Exported):
    """Collectors of no good: calls go on as without, memory has an end, and so has the daemon."""

    def endless(self, first):
        def answer(connection):
            connection.sendall(first)
            while not self.collector.over.is_set():
                connection.sendall(b'X-Filler: ' + b'x' * 1000 + b'\r\n')
        return answer

    def drip(self, connection):
        for byte in OK * 1000:
            if self.collector.over.wait(0.01):
                return
            connection.sendall(bytes([byte ^ 1]))

    def mute(self, connection):
        self.collector.over.wait()

    def check(self, daemon, calls=15000, drops=True):
        self.call_many(daemon, 1000)
        before = daemon.memory_kb()
        self.assertLess(self.call_many(daemon, calls), 5 * SLOWDOWN)
        self.assertLess(daemon.memory_kb() - before, 20 * 1024)
        if drops:
            wait_until(lambda: self.loops(daemon)['spans_dropped'] > 0, 'spans to be dropped')
        began = time.monotonic()
        daemon.end()
        self.assertLess(time.monotonic() - began, 6 * SLOWDOWN)
        self.assertIn('msg="spans were dropped"', daemon.log())

    def test_one_that_is_mute(self):
        self.collector.answer = self.mute
        self.check(self.start())

    @unittest.skipUnless(LONG, 'the long form')
    def test_one_that_answers_by_drops(self):
        self.collector.answer = self.drip
        self.check(self.start(), calls=2000, drops=False)

    @unittest.skipUnless(LONG, 'the long form')
    def test_one_whose_head_has_no_end(self):
        self.collector.answer = self.endless(b'HTTP/1.1 503 Busy\r\n')
        self.check(self.start(), calls=2000, drops=False)

    @unittest.skipUnless(LONG, 'the long form')
    def test_one_that_speaks_something_else(self):
        self.collector.answer = self.endless(b'\x00\xff' * 5000)
        self.check(self.start(), calls=2000, drops=False)

    @unittest.skipUnless(LONG, 'the long form')
    def test_one_that_is_not_there(self):
        self.collector.close()
        self.check(self.start(), calls=2000, drops=False)

    @unittest.skipUnless(LONG, 'the long form')
    def test_one_that_accepts_nothing(self):
        """Its queue of connections is full, so that not even a connection is made."""
        with socket.create_server(('127.0.0.1', 0), backlog=0) as listener:
            waiting = []
            for _ in range(4):
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(listener.getsockname())
                waiting.append(sock)
            self.check(self.start(otlp_endpoint=f'http://127.0.0.1:{listener.getsockname()[1]}'), calls=2000, drops=False)
            for sock in waiting:
                sock.close()


if __name__ == '__main__':
    main()
