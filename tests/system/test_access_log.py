# SPDX-License-Identifier: Apache-2.0
"""The access log: one line for each call by sockets, whatever becomes of it. The oracle is what the callers sent and were
answered."""

import collections
import json
import os
import random
import signal
import tempfile
import threading
import time

import msgpack

from knit_harness import PATIENCE, SLOWDOWN, Case, Daemon, main, wait_until
from knit_witness import LedgerDaemon, seed


def fields_of(line):
    """Of a line of logfmt. Values here have no blanks but where they are quoted."""
    fields, rest = {}, line
    while rest:
        key, _, rest = rest.partition('=')
        if rest.startswith('"'):
            end = 1
            while rest[end] != '"':
                end += 2 if rest[end] == '\\' else 1
            value, rest = rest[1:end], rest[end + 1:].lstrip(' ')
        else:
            value, _, rest = rest.partition(' ')
        fields[key] = value
    return fields


class Reported(Case):
    daemon_class, options = LedgerDaemon, {}

    def setUp(self):
        self.daemon = self.start()

    def start(self, **options):
        """A daemon whose file is self.path."""
        folder = tempfile.TemporaryDirectory(prefix='knit-access-')
        self.addCleanup(folder.cleanup)
        self.folder, self.path = folder.name, os.path.join(folder.name, 'access.log')
        daemon = self.daemon_class(**{'access_log': self.path, **self.options, **options})
        self.addCleanup(daemon.__exit__, None, None, None)
        return daemon

    def lines(self, path=None):
        with open(path or self.path, errors='replace') as file:
            text = file.read()
        # Of lines that are being written one may see a part.
        return [fields_of(line) for line in text[:text.rfind('\n') + 1].splitlines()]

    def wait_for(self, count, **fields):
        """That many lines with these fields, and no more of them."""
        def found():
            with_them = [line for line in self.lines() if all(line.get(key) == value for key, value in fields.items())]
            return len(with_them) >= count and with_them
        lines = wait_until(found, f'{count} lines with {fields}')
        self.assertEqual(len(lines), count, lines)
        return lines


class Lines(Reported):
    options = {'workers': 2, 'threads_io': 2}

    def test_a_call_that_is_answered(self):
        for name, opened in self.daemon.transports():
            with opened() as rpc:
                sent = time.time()
                rpc.call('ledger', 1)
                peer = rpc.sock.getsockname()
            line, = self.wait_for(1, task='ledger', peer=f'{peer[0]}:{peer[1]}') if name == 'tcp' else \
                [line for line in self.wait_for(2, task='ledger') if line['principal'] != 'anonymous']
            self.assertEqual(set(line), {'ts', 'principal', 'task', 'kind', 'outcome', 'took_us', 'wait_us', 'run_us', 'in_bytes',
                                         'out_bytes', 'by', 'peer'})
            self.assertEqual((line['kind'], line['outcome'], line['by'], line['in_bytes']), ('request', 'ok', 'worker', '2'))
            self.assertEqual(line['principal'], 'anonymous' if name == 'tcp' else f'uid:{os.getuid()}')
            self.assertIn(line['out_bytes'], {'3', '5'})
            self.assertLessEqual(abs(int(line['wait_us']) + int(line['run_us']) - int(line['took_us'])), 1)
            at = time.mktime(time.strptime(line['ts'][:19], '%Y-%m-%dT%H:%M:%S')) - time.timezone
            self.assertLessEqual(abs(at - sent), PATIENCE)

    def test_how_long_it_ran_and_waited(self):
        with self.daemon.tcp() as rpc:
            for _ in range(200):
                rpc.call('same', 1)
            rpc.call('spend', 20000)
        line, = self.wait_for(1, task='spend')
        self.assertGreaterEqual(int(line['run_us']), 19900)
        self.assertGreaterEqual(int(line['took_us']), int(line['run_us']))
        # Of short ones, too, each is measured.
        for line in self.wait_for(200, task='same'):
            self.assertIn('run_us', line)
        ledger = self.daemon.ledger
        with self.daemon.tcp() as rpc:
            holds = [rpc.request('hold', call, 1, False) for call in (1, 2)]
            for call in 1, 2:
                ledger.wait_for(call)
            waits = rpc.request('spend', 1)
            began = time.monotonic()
            wait_until(lambda: time.monotonic() - began > 0.1, 'a tenth of a second')
            ledger.open_gate(1)
            for msgid in holds + [waits]:
                rpc.result(msgid)
        line = self.wait_for(2, task='spend')[1]
        self.assertGreaterEqual(int(line['wait_us']), 90000)
        self.assertLess(int(line['run_us']), 90000)
        for line in self.wait_for(2, task='hold'):
            self.assertGreaterEqual(int(line['run_us']), 90000)

    def test_a_trace_is_named(self):
        trace, span = '0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331'
        with self.daemon.tcp() as rpc:
            rpc.call('ledger', 1, options={'trace': f'00-{trace}-{span}-01'})
            rpc.call('ledger', 1, options={'trace': 'none of any kind'})
            self.assert_fails(300, rpc.call, 'no such task', options={'trace': f'00-{trace}-{span}-00'})
        lines = self.wait_for(2, trace=trace)
        self.assertEqual([line['task'] for line in lines], ['ledger', 'no such task'])
        for line in lines:
            self.assertEqual(len(line['span']), 16)
            self.assertNotEqual(line['span'], span)
        self.assertNotIn('trace', self.wait_for(2, task='ledger')[1])

    def test_what_is_refused(self):
        with self.daemon.tcp() as rpc:
            self.assert_fails(300, rpc.call, 'unknown')
            self.assert_fails(300, rpc.call, 4711)
            self.assert_fails(303, rpc.call, 'ledger', 1, options={'timeout': 0})
            self.assert_fails(302, rpc.call, 'ledger', 1, options={'timeout': 'x'})
            self.assert_fails(302, rpc.call, 'ledger', 'no number')
            rpc.notify('unknown too')
            rpc.call('$/ping')
        self.wait_for(1, task='unknown', outcome='UNKNOWN_TASK', by='none', run_us='0')
        self.wait_for(1, task='', outcome='UNKNOWN_TASK')
        self.wait_for(1, task='ledger', outcome='TIMEOUT', by='none')
        self.wait_for(2, task='ledger', outcome='BAD_ARGUMENT', by='none', out_bytes='0')
        self.wait_for(1, task='unknown too', kind='notification', outcome='UNKNOWN_TASK')
        self.assertEqual(len(self.lines()), 6)

    def test_messages_beyond_a_limit(self):
        """Nothing of them is kept but their kind and number."""
        daemon = self.start(message_max_bytes=4096, call_max_bytes=1024)
        deep = 1
        for _ in range(100):
            deep = [deep]
        with daemon.tcp() as rpc:
            self.assert_fails(101, rpc.call, 'same', bytes(2000))
            self.assert_fails(101, rpc.call, 'same', bytes(5000))
            rpc.notify('same', bytes(6000))
            self.assert_fails(102, rpc.call, 'same', deep)
            rpc.call('same', 1)
            peer = '{}:{}'.format(*rpc.sock.getsockname())
        line, = self.wait_for(1, kind='request', outcome='TOO_LARGE', task='')
        self.assertEqual((line['by'], line['peer'], line['principal'], line['out_bytes']), ('none', peer, 'anonymous', '0'))
        self.assertGreater(int(line['in_bytes']), 5000)
        line, = self.wait_for(1, kind='notification', outcome='TOO_LARGE', task='')
        self.assertGreater(int(line['in_bytes']), 6000)
        self.wait_for(1, kind='request', outcome='TOO_LARGE', task='same')
        self.wait_for(1, kind='request', outcome='TOO_DEEP', task='')
        self.wait_for(1, outcome='ok', task='same')
        self.assertEqual(len(self.lines()), 5)
        with daemon.tcp() as rpc:
            rpc.sock.sendall(msgpack.packb([0, 1, 'same', [bytes(10000)]])[:3000])
        self.assertEqual(len(self.lines()), 5)

    def test_what_ends_early(self):
        ledger = self.daemon.ledger
        with self.daemon.tcp() as rpc:
            holds = [rpc.request('hold', call, 1, True) for call in (1, 2)]
            for call in 1, 2:
                ledger.wait_for(call)
            late = rpc.request('ledger', 3, options={'timeout': 30})
            given = rpc.request('twice', 3, options={'timeout': {'time': 30, 'default': 7}})
            self.assert_fails(303, rpc.result, late)
            gone = rpc.request('same', 'cancelled')
            rpc.notify('$/cancel', gone)
            self.assert_fails(304, rpc.result, gone)
            self.assertEqual(rpc.result(given), 7)
            rpc.call('$/ping')
            ledger.open_gate(1)
            for msgid in holds:
                rpc.result(msgid)
        self.wait_for(1, task='ledger', outcome='TIMEOUT', by='none')
        self.wait_for(1, task='same', outcome='CANCELLED', by='none')
        self.wait_for(1, task='twice', outcome='TIMEOUT', out_bytes='1')
        self.wait_for(2, task='hold', outcome='ok')
        self.assertEqual(len(self.lines()), 5)

    def test_a_timeout_of_one_that_runs(self):
        with self.daemon.tcp() as rpc:
            self.assert_fails(303, rpc.call, 'hold', 1, 2, True, options={'timeout': 50})
        line, = self.wait_for(1, task='hold', outcome='TIMEOUT')
        if line['by'] == 'worker':
            self.assertNotIn('run_us', line)
        self.daemon.ledger.open_gate(2)

    def test_a_caller_that_goes(self):
        ledger = self.daemon.ledger
        with self.daemon.tcp() as other:
            holds = [other.request('hold', call, 1, True) for call in (1, 2)]
            for call in 1, 2:
                ledger.wait_for(call)
            with self.daemon.tcp() as rpc:
                rpc.request('ledger', 3)
                for _ in range(500):
                    rpc.request('same', 1)
                rpc.notify('ledger', 4)
                wait_until(lambda: self.daemon.stats()['loops']['calls_waiting'] > 400, 'calls to wait')
            self.wait_for(1, task='ledger', kind='request', outcome='caller_gone')
            self.wait_for(500, task='same', outcome='caller_gone')
            ledger.open_gate(1)
            for msgid in holds:
                other.result(msgid)
            ledger.wait_for(4)
        self.wait_for(1, task='ledger', kind='notification', outcome='ok', by='worker')
        self.wait_for(2, task='hold', outcome='ok')
        self.assertEqual(len(self.lines()), 504)
        self.assertEqual(ledger.ran(3), 0)

    def test_notifications(self):
        with self.daemon.tcp() as rpc:
            for call in range(10):
                rpc.notify('ledger', call)
            rpc.notify('ledger', 'no number')
            rpc.notify('$/ping')
            for call in range(10):
                self.daemon.ledger.wait_for(call)
        for line in self.wait_for(10, task='ledger', kind='notification', outcome='ok'):
            self.assertIn('run_us', line)
        self.wait_for(1, kind='notification', outcome='BAD_ARGUMENT')

    def test_keys(self):
        ledger = self.daemon.ledger
        with self.daemon.tcp() as rpc, self.daemon.unix() as other, self.daemon.tcp() as third:
            first = rpc.request('hold', 1, 1, False, options={'key': 'k'})
            ledger.wait_for(1)
            joined = [third.request('hold', 1, 1, False, options={'key': 'k'}) for _ in range(3)]
            wait_until(lambda: self.daemon.stats()['loops']['keys_joined'] == 3, 'the requests to join')
            ledger.open_gate(1)
            rpc.result(first)
            for msgid in joined:
                third.result(msgid)
            third.call('hold', 1, 1, False, options={'key': 'k'})
            self.assert_fails(306, third.call, 'hold', 2, 1, False, options={'key': 'k'})
            other.call('ledger', 1)
        self.wait_for(1, task='hold', outcome='ok', by='worker')
        self.wait_for(4, task='hold', outcome='ok', by='key', run_us='0')
        self.wait_for(1, task='hold', outcome='DUPLICATE', by='none')

    def test_references(self):
        with self.daemon.tcp() as rpc:
            first = rpc.request('same', 5, options={'keep': 1})
            second = rpc.request('same', msgpack.ExtType(40, msgpack.packb(first)), options={'keep': 1})
            third = rpc.request('same', msgpack.ExtType(40, msgpack.packb(second)))
            unknown = rpc.request('same', msgpack.ExtType(40, msgpack.packb(4711)))
            self.assertEqual([rpc.result(msgid) for msgid in (first, second, third)], [5, 5, 5])
            self.assert_fails(305, rpc.result, unknown)
        for line in self.wait_for(3, task='same', outcome='ok', by='worker'):
            self.assertIn('run_us', line)
        self.wait_for(1, task='same', outcome='DEPENDENCY', by='none')

    def test_large_results_and_errors(self):
        with self.daemon.tcp() as rpc:
            for size in 0, 100, 1000, 100000, 5000000:
                rpc.call('same', bytes(size))
        lines = self.wait_for(5, task='same', outcome='ok')
        for line, size in zip(lines, (0, 100, 1000, 100000, 5000000)):
            self.assertGreaterEqual(int(line['in_bytes']), size + 3)
            self.assertLessEqual(int(line['in_bytes']), size + 6)
            self.assertEqual(int(line['out_bytes']), int(line['in_bytes']) - 1)
            self.assertIn('run_us', line)

    def test_a_worker_that_dies(self):
        with self.daemon.tcp() as rpc:
            msgid = rpc.request('hold', 1, 1, False)
            self.daemon.ledger.wait_for(1)
            os.kill(self.daemon.ledger.worker(1), signal.SIGKILL)
            self.assert_fails(400, rpc.result, msgid)
        line, = self.wait_for(1, task='hold', outcome='WORKER_DIED', by='worker')
        self.assertNotIn('run_us', line)

    def test_the_end_of_the_daemon(self):
        daemon = self.start(drain_ms=200)
        with daemon.tcp() as rpc:
            rpc.request('hold', 1, 1, True)
            rpc.notify('hold', 2, 1, True)
            for call in 1, 2:
                daemon.ledger.wait_for(call)
            daemon.send_signal(signal.SIGTERM)
            daemon.wait()
        lines = self.wait_for(2, task='hold')
        self.assertEqual({line['kind'] for line in lines}, {'request', 'notification'})
        self.assertNotIn('ok', {line['outcome'] for line in lines})

    def test_each_call_has_one_line(self):
        """A random mix, with callers that go: each call that was answered has the line that says so, and each other one
        a line or none, if it was not read; none has two."""
        rng, ledger = random.Random(seed()), self.daemon.ledger
        answered, sent, notified = collections.Counter(), 0, 0
        for round in range(30):
            rpcs = [rng.choice(self.daemon.transports())[1]() for _ in range(3)]
            for rpc in rpcs:
                rpc.hello()
            ids = []
            for number in range(rng.randrange(1, 120)):
                rpc = rng.choice(rpcs)
                options = rng.choice([None, None, None, {'timeout': rng.randrange(3)}, {'key': f'{round}-{rng.randrange(4)}'},
                                      {'queue': 0}, {'trace': '00-' + '1' * 32 + '-' + '2' * 16 + '-01'}, {'keep': 1}])
                kind = rng.randrange(12)
                if kind == 0:
                    rpc.notify('same', number)
                    notified += 1
                    continue
                if kind == 1 and ids:
                    target = rng.choice(ids)
                    target[0].notify('$/cancel', target[1])
                method, *params = rng.choice([('same', number), ('spend', rng.randrange(300)), ('missing',), ('same',),
                                              ('same', bytes(rng.randrange(3000))), ('ledger', 7)])
                ids.append((rpc, rpc.request(method, *params, options=options)))
                sent += 1
            leaves = rng.random() < 0.3
            for rpc, msgid in ids[:len(ids) // 2 if leaves else len(ids)]:
                error, _ = rpc.response(msgid)
                answered['ok' if error is None else error[2]['name']] += 1
            for rpc in rpcs:
                rpc.close()
        wait_until(lambda: self.daemon.stats()['loops']['calls_in_flight'] == 0, 'all calls to end')

        # What a caller sends and does not wait for may be lost with its connection, unread.
        read = self.daemon.stats()['loops']

        def settled():
            lines = self.lines()
            kinds = collections.Counter(line['kind'] for line in lines)
            return kinds['notification'] == read['notifications'] and kinds['request'] >= read['requests'] and lines
        lines = wait_until(settled, 'all lines')
        self.assertLessEqual(read['notifications'], notified)
        told = collections.Counter(line['outcome'] for line in lines if line['kind'] == 'request')
        for outcome, count in answered.items():
            self.assertGreaterEqual(told[outcome], count, outcome)
        self.assertLessEqual(sum(told.values()), sent)


class Inlined(Reported):
    options = {'workers': 1, 'threads_io': 1, 'inliner_position': 'first', 'inline_unconfined': 'on',
               'inliner_modules': os.environ.get('KNIT_LEDGER'), 'inliner_dispatch_threshold': 1}

    def test_who_ran_it(self):
        with self.daemon.tcp() as rpc:
            rpc.call_all([['spend', 3000]] * 40)
            rpc.notify('spend', 1)
            rpc.call_all([['spend', 0]] * 10)
            self.assert_fails(302, rpc.call, 'spend')
        lines = self.wait_for(50, task='spend', kind='request', outcome='ok')
        self.assertEqual({line['by'] for line in lines}, {'worker', 'inliner'})
        for line in lines[:40]:
            self.assertGreaterEqual(int(line['run_us']), 2990)
        self.wait_for(1, task='spend', kind='notification', outcome='ok')
        self.wait_for(1, task='spend', outcome='BAD_ARGUMENT', by='none')


class Named(Case):
    """The daemon's own lines about a call say of which trace it is a part."""

    TRACE, SPAN = '0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331'
    OPTIONS = {'trace': f'00-{TRACE}-{SPAN}-01'}

    def start(self, **options):
        daemon = LedgerDaemon(**{'workers': 1, 'threads_io': 1, **options})
        self.addCleanup(daemon.__exit__, None, None, None)
        return daemon

    def line(self, daemon, text, count=1):
        lines = wait_until(lambda: (lambda found: len(found) >= count and found)(
            [line for line in daemon.log().splitlines() if f'msg="{text}"' in line]), f'a line {text!r}')
        return fields_of(lines[count - 1])

    def test_one_that_runs_for_long(self):
        daemon = self.start(slow_call_ms=50)
        with daemon.tcp() as rpc:
            for number, options in enumerate((self.OPTIONS, None, self.OPTIONS), 1):
                msgid = rpc.request('hold', number, number, True, options=options)
                line = self.line(daemon, 'task runs for long', number)
                with daemon.unix() as operator:
                    row, = operator.call('$/calls')['calls']
                daemon.ledger.open_gate(number)
                rpc.result(msgid)
                # One without is not taken for that before it, which had its slot.
                self.assertEqual(line.get('trace'), options and self.TRACE)
                self.assertEqual('span' in line, options is not None)
                self.assertNotEqual(line.get('span'), self.SPAN)
                self.assertNotIn('principal', line)
                self.assertEqual([line.get(key) for key in ('session', 'slot', 'generation')],
                                 [str(row[key]) for key in ('session', 'slot', 'generation')])

    def test_one_that_runs_into_its_hard_timeout(self):
        daemon = self.start(hard_timeout_ms=100)
        with daemon.tcp() as rpc:
            self.assert_fails(401, rpc.call, 'hold', 1, 1, True, options=self.OPTIONS)
        self.assertEqual(self.line(daemon, 'task ran into its hard timeout')['trace'], self.TRACE)

    def test_one_that_is_refused(self):
        for access_log in 'none', '/dev/null':
            with self.subTest(access_log):
                daemon = self.start(queue_max=1, access_log=access_log)
                with daemon.tcp() as rpc, daemon.tcp() as other:
                    hold = rpc.request('hold', 1, 1, True)
                    daemon.ledger.wait_for(1)
                    self.assert_fails(200, other.call, 'same', 1, options=self.OPTIONS)
                    daemon.ledger.open_gate(1)
                    rpc.result(hold)
                line = self.line(daemon, 'call refused')
                self.assertEqual(line['trace'], self.TRACE)
                self.assertEqual('span' in line, access_log != 'none')

    def test_one_that_is_denied(self):
        folder = tempfile.TemporaryDirectory(prefix='knit-access-')
        self.addCleanup(folder.cleanup)
        policy = os.path.join(folder.name, 'policy')
        with open(policy, 'w') as file:
            file.write('[principal anonymous]\nallow = same\n')
        daemon = self.start(policy=policy, listen='127.0.0.1:0')
        with daemon.tcp() as rpc:
            self.assert_fails(301, rpc.call, 'ledger', 1, options=self.OPTIONS)
        wait_until(lambda: 'msg=denied' in daemon.log(), 'the line')
        line, = [fields_of(line) for line in daemon.log().splitlines() if 'msg=denied' in line]
        self.assertEqual(line['trace'], self.TRACE)


class Places(Reported):
    options = {'workers': 1, 'threads_io': 1}

    def setUp(self):
        """Each test starts its own."""

    def test_none_is_the_usual_place(self):
        daemon = self.start(access_log='none')
        with daemon.tcp() as rpc:
            rpc.call('same', 1)
        self.assertNotIn('principal=anonymous', daemon.log())

    def test_a_place_that_is_none_of_these(self):
        for place in 'access.log', 'syslog', './x':
            daemon = Daemon(access_log=place, wait=False)
            daemon.expected_status = 2
            with daemon:
                wait_until(lambda: daemon.process.poll() is not None, 'the end')
                self.assertIn(f"log.access_log: expected none, log, or the absolute path of a file, not '{place}'", daemon.log())

    def test_a_file_that_cannot_be_opened(self):
        daemon = Daemon(access_log='/nonexistent/access.log', wait=False)
        daemon.expected_status = 1
        with daemon:
            wait_until(lambda: daemon.process.poll() is not None, 'the end')
            self.assertIn('cannot open the access log /nonexistent/access.log: No such file', daemon.log())

    def test_the_log(self):
        daemon = self.start(access_log='log')
        with daemon.tcp() as rpc:
            rpc.call('same', 1)
        line = wait_until(lambda: [line for line in daemon.log().splitlines() if 'msg=call ' in line], 'the line')[0]
        fields = fields_of(line)
        self.assertEqual((fields['level'], fields['task'], fields['outcome']), ('info', 'same', 'ok'))

    def test_json(self):
        daemon = self.start(log_format='json')
        name = 'quote " \\ \n \x1b \u202e'
        with daemon.tcp() as rpc:
            rpc.call('same', 1)
            self.assert_fails(300, rpc.call, name)
            self.assert_fails(300, rpc.call, 'x' * 3000)
        def found():
            with open(self.path) as file:
                lines = [json.loads(line) for line in file]
            return len(lines) == 3 and lines
        lines = wait_until(found, 'the lines')
        self.assertEqual([line['outcome'] for line in lines], ['ok', 'UNKNOWN_TASK', 'UNKNOWN_TASK'])
        self.assertEqual((lines[1]['task'], lines[2]['task']), (name, 'x' * 64))
        self.assertIsInstance(lines[0]['run_us'], int)

    def test_rotation_loses_no_line(self):
        """Files are renamed and opened again while calls run."""
        daemon, calls, over = self.start(), [0] * 3, threading.Event()

        def call(at):
            with daemon.tcp() as rpc:
                while not over.is_set():
                    rpc.call_all([['same', 1]] * 50)
                    calls[at] += 50
        callers = [threading.Thread(target=call, args=(at,)) for at in range(len(calls))]
        for caller in callers:
            caller.start()
        files = []
        for number in range(10):
            before = sum(calls)
            wait_until(lambda: sum(calls) > before + 500, 'calls')
            files.append(f'{self.path}.{number}')
            os.rename(self.path, files[-1])
            if number % 2:
                daemon.send_signal(signal.SIGHUP)
            else:
                with daemon.unix() as rpc:
                    rpc.call('$/reload')
            wait_until(lambda: os.path.exists(self.path), 'the new file')
        over.set()
        for caller in callers:
            caller.join()
        wait_until(lambda: sum(len(self.lines(path)) for path in [*files, self.path]) >= sum(calls), 'all lines')
        self.assertEqual(sum(len(self.lines(path)) for path in [*files, self.path]), sum(calls))
        self.assertTrue(all(self.lines(path) for path in files))

    def test_a_file_that_cannot_be_opened_again(self):
        daemon = self.start()
        os.chmod(self.folder, 0o700)
        os.rename(self.path, self.path + '.1')
        os.mkdir(self.path)
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: 'not reloaded' in daemon.log(), 'the refusal')
        self.assertIn(f'cannot open the access log {self.path}: Is a directory', daemon.log())
        with daemon.tcp() as rpc:
            rpc.call('same', 1)
        wait_until(lambda: len(self.lines(self.path + '.1')) == 1, 'the line in the old file')

    def test_a_full_disk(self):
        daemon = self.start(access_log='/dev/full')
        with daemon.tcp() as rpc:
            rpc.call_all([['same', 1]] * 100)
            wait_until(lambda: 'lines of the access log were dropped' in daemon.log(), 'a line that says so')
            self.assertIn('reason="No space left on device"', daemon.log())
            wait_until(lambda: rpc.call('same', 1) and daemon.stats()['loops']['access_dropped'] >= 100, 'the count')

    def test_who_reads_a_pipe_slowly_stops_no_call(self):
        folder = tempfile.TemporaryDirectory(prefix='knit-access-')
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, 'pipe')
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        daemon = self.start(access_log=path)
        with daemon.tcp() as rpc:
            for _ in range(20):
                began = time.monotonic()
                rpc.call_all([['same', 1]] * 500)
                self.assertLess(time.monotonic() - began, 5 * SLOWDOWN)
            wait_until(lambda: 'lines of the access log were dropped' in daemon.log(), 'a line that says so')
            wait_until(lambda: rpc.call('same', 1) and daemon.stats()['loops']['access_dropped'] > 0, 'the count')
        text = os.read(reader, 1 << 20).decode()
        os.close(reader)
        # One for which there was room in part ends there, and the next one has a line of its own.
        lines = text.splitlines()
        self.assertTrue(all(line.startswith('ts=') for line in lines), lines)
        self.assertGreater(sum(fields_of(line).get('task') == 'same' for line in lines), len(lines) // 2)


if __name__ == '__main__':
    main()
