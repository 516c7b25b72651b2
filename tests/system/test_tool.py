# SPDX-License-Identifier: Apache-2.0
"""knit, the tool: what it prints, where, and its exit status; over every transport where that can matter."""

import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import msgpack

from knit_harness import PATIENCE, Child, Daemon, DaemonCase, main, wait_until

KNIT = os.environ['KNIT_TOOL']
OK, FAILED, USAGE, DISCONNECTED, REFUSED, TIMEOUT, BROKE, OUTPUT, CANCELLED = 0, 1, 2, 3, 4, 5, 6, 7, 130


class Tool(DaemonCase):
    def setUp(self):
        self.url = self.daemon.urls[1]

    def knit(self, *arguments, url=None, status=OK, stdin=None, stdin_file=None, text=True, environment=None, errors=1):
        """Where it fails, `errors` lines are on stderr."""
        given = {'stdin': stdin_file} if stdin_file else {'input': stdin}
        result = subprocess.run([KNIT, *(['-u', url or self.url] if url != '' else []), *arguments],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=text, timeout=6 * PATIENCE,
                                env={**os.environ, **(environment or {})}, **given)
        self.assertEqual(result.returncode, status, result.stderr)
        if status != OK:
            self.assertEqual(result.stderr.count('\n' if text else b'\n'), errors, result.stderr)
        return result

    def every_url(self):
        for url in self.daemon.urls:
            with self.subTest(url.split(':')[0]):
                yield url

    def value(self, *arguments, **options):
        return self.knit('call', *arguments, **options).stdout.rstrip('\n')

    def test_results_are_json(self):
        for url in self.every_url():
            self.assertEqual(self.value('add', '2', '3', url=url), '5')
            self.assertEqual(self.value('add', '-2', '-3', url=url), '-5')
            for text in ('null', '"a \\" text"', '[1,2.5,{"b":1,"a":2}]', '18446744073709551615', '{"$float":"NaN"}',
                         '{"$bigint":"-0x10000000000000000"}', '{"$map":[[1,2]]}', '{"$bin":"AAEC"}',
                         '{"$f64":[0.1]}', '{"$time":"2020-01-01T00:00:00.000000001Z"}', '-0.0', '2.0'):
                self.assertEqual(self.value('echo', text, url=url), text)

    def test_files_and_standard_input_are_bin(self):
        with open(KNIT, 'rb') as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        for url in self.every_url():
            self.assertEqual(self.value('sha256', '@' + KNIT, url=url), f'"{digest}"')
            self.assertEqual(self.value('sha256', '-', stdin='abc', url=url),
                             f'"{hashlib.sha256(b"abc").hexdigest()}"')
            self.assertEqual(self.value('sha256', '@/dev/null', url=url), f'"{hashlib.sha256(b"").hexdigest()}"')
        self.assertIn('cannot read /nonexistent', self.knit('call', 'sha256', '@/nonexistent', status=USAGE).stderr)

    def test_files_are_text_or_json_where_that_is_said(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'file')
            with open(path, 'w') as file:
                file.write('["t\u00e4xt", {"a": 1}]')
            self.assertEqual(self.value('echo', '@text:' + path), '"[\\"t\u00e4xt\\", {\\"a\\": 1}]"')
            self.assertEqual(self.value('echo', '@json:' + path), '["t\u00e4xt",{"a":1}]')
            with open(path, 'wb') as file:
                file.write(b'\xff')
            self.assertIn('is no UTF-8', self.knit('call', 'echo', '@text:' + path, status=USAGE).stderr)
            self.assertIn('is no JSON', self.knit('call', 'echo', '@json:' + path, status=USAGE).stderr)
            self.assertIn('cannot read', self.knit('call', 'echo', '@json:' + path + 'x', status=USAGE).stderr)

    def test_a_stream_is_refused_once_it_is_longer_than_a_call_may_be(self):
        """Standard input and the FIFO have no end: reading them whole would not end either."""
        with tempfile.TemporaryDirectory() as folder, Daemon('--call-max-bytes', '65536') as daemon:
            sparse = os.path.join(folder, 'sparse')
            with open(sparse, 'w') as file:
                file.truncate(10 << 30)
            for url in daemon.urls:
                limit = 65536
                for argument in '-', '@/dev/zero', '@' + sparse, '@text:/dev/zero', '@json:/dev/zero':
                    with self.subTest(url=url.split(':')[0], argument=argument), open('/dev/zero') as zeros:
                        error = self.knit('--json', 'call', 'echo', argument, url=url, status=REFUSED, stdin_file=zeros).stderr
                        shown = json.loads(error)
                        self.assertEqual((shown['name'], shown['limit'], shown['started']), ('TOO_LARGE', limit, 'no'))
                        self.assertIn(f'more than {limit * (8 if "json" in argument else 1)} bytes', shown['message'])
                        self.assertIn('call_max_bytes', shown['message'])
                path = os.path.join(folder, 'half')
                with open(path, 'wb') as file:
                    file.write(bytes(60_000))
                self.assertIn('"$bin"', self.value('echo', '@' + path, url=url))
                self.assertIn('the arguments: more than', self.knit('call', 'echo', *['@' + path] * 3, url=url,
                                                                    status=REFUSED).stderr)

    def test_a_batch_has_an_outcome_for_each_line_in_order(self):
        lines = ['[1,2]', '', '[3,"x"]', 'nope', '7', ' [4, 5] \r', '[9223372036854775807,1]', '[1,2]\0[3]', '[6,7]']
        words = [None, 'empty', 'expected int, got str', 'no JSON', 'no array', None, None, 'a NUL', None]
        for url in self.every_url():
            for jobs in '1', '3', '64':
                # The last line has no newline.
                done = self.knit('batch', 'add', '-j', jobs, url=url, stdin='\n'.join(lines), status=FAILED, errors=6)
                self.assertEqual(done.stdout.split('\n'), ['3', '', '', '', '', '9', '', '', '13', ''])
                said = done.stderr.split('\n')
                for number, word in enumerate(words, 1):
                    if word is not None:
                        self.assertTrue(any(line.startswith(f'knit: line {number}: BAD_ARGUMENT: ') and word in line
                                            for line in said), (number, said))
                done = self.knit('batch', 'add', '--json', url=url, stdin='\n'.join(lines), status=FAILED, errors=0)
                shown = [json.loads(line) for line in done.stdout.splitlines()]
                self.assertEqual([outcome.get('result') for outcome in shown], [3, None, None, None, None, 9, None, None, 13])
                self.assertEqual(['error' in outcome for outcome in shown],
                                 [False, True, True, True, True, False, True, True, False])
                self.assertEqual(shown[6]['error']['name'], 'TASK_FAILED')

    def test_a_batch_is_refused_what_is_beyond_queue_max(self):
        for url in self.every_url():
            done = self.knit('batch', 'sleep', '-j', '8', '--queue-max', '2', '--json', url=url, stdin='[200]\n' * 8,
                             status=FAILED, errors=0)
            shown = [json.loads(line) for line in done.stdout.splitlines()]
            self.assertGreaterEqual(sum('result' in outcome for outcome in shown), 2, shown)
            refused = [outcome['error'] for outcome in shown if 'error' in outcome]
            self.assertEqual({error['name'] for error in refused}, {'OVERLOADED'}, shown)
            done = self.knit('batch', 'sleep', '-j', '3', '--queue-max', '2', '--retries', '10', url=url, stdin='[100]\n' * 3)
            self.assertEqual(len(done.stdout.splitlines()), 3)
        for wrong in '0', '1001', 'x':
            self.assertIn('a number from 1 to 1000', self.knit('call', 'add', '--retries', wrong, status=USAGE).stderr)
        for wrong in '0', '65536', 'x':
            self.assertIn('a number from 1 to 65535', self.knit('batch', 'add', '--queue-max', wrong, status=USAGE).stderr)

    def pass_on(self, near, refused=None, lost=None):
        """Requests to the daemon and its answers back, one after the other, until the caller ends; or, told a task, until
        it is called: then as a daemon that shuts down, which takes no more calls and is gone, or one that is gone."""
        def messages(sock):
            unpacker = msgpack.Unpacker(strict_map_key=False)
            while data := sock.recv(65536):
                unpacker.feed(data)
                yield from unpacker
        with near, self.daemon.unix() as far:
            answers = messages(far.sock)
            for request in messages(near):
                if request[2] == lost:
                    return
                if request[2] == refused:
                    near.sendall(msgpack.packb([1, request[1], [202, 'going', {'name': 'DRAINING', 'started': 'no'}], None]))
                    return
                far.sock.sendall(msgpack.packb(request))
                near.sendall(msgpack.packb(next(answers)))

    @contextlib.contextmanager
    def served_anew(self, **first):
        """The URL of a daemon whose first connection is passed on as said, and the second one as it is."""
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f'{folder}/s')
            listener.listen()
            listener.settimeout(6 * PATIENCE)

            def serve():
                self.pass_on(listener.accept()[0], **first)
                self.pass_on(listener.accept()[0])
            serving = threading.Thread(target=serve)
            serving.start()
            try:
                yield f'unix://{folder}/s'
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                serving.join()

    def test_a_call_that_is_made_again_outlives_its_connection(self):
        with self.served_anew(refused='add') as url:
            self.assertEqual(self.value('--retries', '5', 'add', '2', '3', url=url), '5')

    def test_a_batch_whose_calls_are_made_again_outlives_its_connection(self):
        with self.served_anew(lost='add') as url:
            done = self.knit('batch', 'add', '-j', '1', '--retries', '5', '--json', url=url, stdin='[2, 3]\n' * 3, status=FAILED,
                             errors=0)
            shown = [json.loads(line) for line in done.stdout.splitlines()]
            self.assertEqual(shown[0]['error']['name'], 'DISCONNECTED')
            self.assertEqual(shown[1:], [{'result': 5}] * 2)

    def test_a_batch_of_many_calls(self):
        lines = ''.join(f'[{number},{number}]\n' for number in range(5000))
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'lines')
            with open(path, 'w') as file:
                file.write(lines)
            for url in self.every_url():
                for jobs in '1', '7', '1000':
                    shown = self.knit('batch', '-j', jobs, 'add', path, url=url).stdout.split()
                    self.assertEqual(shown, [str(2 * number) for number in range(5000)])
        self.assertEqual(self.knit('batch', 'add', stdin='').stdout, '')
        self.assertEqual(self.knit('batch', 'add', '-', stdin='[1,2]\n').stdout, '3\n')

    def test_a_batch_makes_calls_side_by_side_and_prints_while_it_waits_for_input(self):
        with Daemon(workers=4) as daemon:
            for url in daemon.urls:
                begin = time.monotonic()
                self.assertEqual(self.knit('batch', 'sleep', url=url, stdin='[500]\n' * 8).stdout, 'null\n' * 8)
                self.assertLess(time.monotonic() - begin, 8 * 0.5)
                with Child([KNIT, '-u', url, 'batch', 'add'], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
                    for number in range(3):
                        child.process.stdin.write(b'[%d,1]\n' % number)
                        child.process.stdin.flush()
                        self.assertEqual(child.process.stdout.readline(), b'%d\n' % (number + 1))

    def test_a_batch_refuses_a_line_that_is_too_long_and_goes_on(self):
        with Daemon('--call-max-bytes', '4096', '--message-max-bytes', '4096') as daemon:
            for url in daemon.urls:
                for size in 4096, 50_000, 3_000_000:
                    lines = f'["{"x" * size}"]\n["y"]\n'
                    done = self.knit('batch', 'echo', url=url, stdin=lines, status=FAILED, errors=1)
                    self.assertEqual(done.stdout, '\n"y"\n')
                    self.assertIn('line 1: TOO_LARGE', done.stderr)
                    self.assertIn('4096', done.stderr)

    def test_how_a_batch_ends(self):
        self.knit('batch', 'sleep', '-t', '1000', stdin='[0]\n[10000]\n[0]', status=FAILED)
        self.knit('batch', 'add', '/nonexistent', status=USAGE)
        self.assertIn('Is a directory', self.knit('batch', 'add', '/', status=USAGE).stderr)
        self.assertIn('a number from 1 to 1000', self.knit('batch', '-j0', 'add', status=USAGE).stderr)
        self.knit('batch', status=USAGE)
        many = '[1,2]\n' * 20000
        done = subprocess.run(['sh', '-c', f'printf "[1,2]\\n%.0s" $(seq 20000) | {KNIT} -u {self.url} batch add | head -n 1'],
                              capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual((done.stdout, done.stderr), ('3\n', ''))
        with open('/dev/full', 'w') as full:
            done = subprocess.run([KNIT, '-u', self.url, 'batch', 'add'], input=many, stdout=full, stderr=subprocess.PIPE,
                                  text=True, timeout=PATIENCE)
        self.assertEqual(done.returncode, OUTPUT, done.stderr)
        for url in self.every_url():
            with Child([KNIT, '-u', url, 'batch', 'sleep'], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                       stderr=subprocess.DEVNULL) as child:
                child.process.stdin.write(b'[0]\n[60000]\n[0]\n')
                child.process.stdin.flush()
                self.assertEqual(child.process.stdout.readline(), b'null\n')
                child.process.send_signal(signal.SIGINT)
                self.assertEqual(child.process.wait(PATIENCE), CANCELLED)

    def test_a_batch_whose_daemon_dies_says_how_far_it_came(self):
        for scheme in range(3):
            daemon = Daemon()
            daemon.expected_status = -signal.SIGKILL
            with daemon, Child([KNIT, '-u', daemon.urls[scheme], 'batch', 'sleep'], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
                child.process.stdin.write(b'[0]\n')
                child.process.stdin.flush()
                self.assertEqual(child.process.stdout.readline(), b'null\n')
                os.kill(daemon.pid, signal.SIGKILL)
                self.assertEqual(child.process.wait(PATIENCE), DISCONNECTED)
                self.assertIn(b'nothing behind line 1 was called', child.process.stderr.read())
                child.process.stderr.close()

    def test_raw_output(self):
        self.assertEqual(self.knit('--raw', 'call', 'echo', '"t\u00e4xt"').stdout, 't\u00e4xt')
        self.assertEqual(self.knit('--raw', 'call', 'echo', '-', stdin=b'\x00\xff', text=False).stdout, b'\x00\xff')
        self.assertEqual(self.knit('--raw', 'call', 'add', '2', '3', text=False).stdout, b'\x05')

    def test_options_stand_anywhere_before_the_two_dashes(self):
        for arguments in (('--raw', 'call', 'add', '-5', '7'), ('call', '--raw', 'add', '-5', '7'),
                          ('call', 'add', '--raw', '-5', '7'), ('call', 'add', '-5', '7', '--raw'),
                          ('call', '--raw', '--', 'add', '-5', '7'), ('call', 'add', '--raw', '--', '-5', '7')):
            with self.subTest(arguments):
                self.assertEqual(self.knit(*arguments, text=False).stdout, b'\x02')
        error = self.knit('call', 'add', '--', '--raw', '7', status=USAGE).stderr
        self.assertIn('argument 1 is no JSON', error)

    def test_options_are_read_as_getopt_long_reads_them(self):
        for words in (['-u', self.url], ['-u' + self.url], ['--url', self.url], ['--url=' + self.url],
                      ['--ur', self.url], ['-t500', '-u', self.url], ['--timeout=500', '--url', self.url]):
            for arguments in ([*words, 'call', 'add', '1', '2'], ['call', 'add', '1', '2', *words]):
                with self.subTest(arguments):
                    self.assertEqual(self.knit(*arguments, url='').stdout, '3\n')
        for words, sentence in (
                (['--bogus'], 'unknown option --bogus; see knit help'), (['--jsno'], 'the nearest is --json'),
                (['-x'], 'unknown option -x'), (['-xt5'], 'unknown option -x'), (['-t'], '--timeout needs a value, MS'),
                (['--timeout'], '--timeout needs a value, MS'), (['--json=1'], '--json takes no value'),
                (['-t', 'x'], '--timeout takes a number of milliseconds, not "x"'),
                (['--raw'], 'ping has no option --raw; it is for: call')):
            with self.subTest(words):
                self.assertIn(sentence, self.knit('ping', *words, status=USAGE).stderr)
        for command in ('bench', 'check', 'help', 'version'):
            self.assertIn(f'{command} has no option --timeout; it is for: call batch',
                          self.knit('-t', '5', command, status=USAGE).stderr)
        for words in (['reload'], ['policy', 'why', 'anonymous', 'add']):
            self.knit('-t', '5000', *words)
            self.assertIn('TIMEOUT', self.knit('-t', '0', *words, status=TIMEOUT).stderr)
        self.assertEqual(self.knit('--priority', 'urgent', '--affinity', '7', 'call', 'add', '2', '3').stdout, '5\n')
        self.assertIn('urgent, normal or background', self.knit('--priority', 'high', 'call', 'add', '2', '3', status=USAGE).stderr)
        self.assertIn('a number from 1', self.knit('--affinity', '0', 'call', 'add', '2', '3', status=USAGE).stderr)
        self.assertIn('bench has no option --output; it is for: call', self.knit('--output', 'bench', status=USAGE).stderr)

    def test_every_mistake_is_json_where_that_was_asked_for(self):
        for words in (('--bogus', 'ping'), ('ping', '--bogus'), ('bogus',), (), ('call',), ('call', 'echo', 'x'), ('-t',),
                      ('ping', 'x'), ('check', 'x'), ('check', '4194305'), ('help', 'x'), ('call', 'echo', '@/nonexistent'),
                      ('--timeout', 'x', 'ping'), ('--raw', 'ping'), (b'\xff',), ('call', b'\xff'), ('--', b'\xff\x1b')):
            for arguments in (('--json', *words), *([(*words, '--json')] if words != ('-t',) and '--' not in words else [])):
                with self.subTest(arguments):
                    done = subprocess.run([KNIT, '-u', self.url, *arguments], capture_output=True, timeout=PATIENCE)
                    shown = json.loads(done.stderr.decode())
                    self.assertIn(done.returncode, (USAGE, DISCONNECTED, REFUSED))
                    self.assertTrue(shown['name'] and shown['message'] and shown['origin'], shown)
                    self.assertEqual((shown['started'], done.stdout, done.stderr.count(b'\n')), ('no', b'', 1))

    def test_names_that_are_no_utf8_are_shown_as_escapes(self):
        done = subprocess.run([KNIT, b'caf\xe9\x1b'], capture_output=True, timeout=PATIENCE)
        self.assertEqual(done.stderr, b'knit: unknown command "caf\\xe9\\x1b"; knit help lists them\n')
        done = subprocess.run([KNIT, '--json', b'caf\xe9'], capture_output=True, timeout=PATIENCE)
        self.assertIn('unknown command "caf\ufffd"', json.loads(done.stderr)['message'])

    def test_a_timeout_bounds_the_connection_too(self):
        """A listener whose queue is full does not answer, as a daemon that is stopped does not."""
        with Daemon() as daemon:
            daemon.send_signal(signal.SIGSTOP)
            try:
                for url in daemon.urls:
                    begin = time.monotonic()
                    self.knit('--timeout', '100', 'call', 'add', '1', '2', url=url, status=TIMEOUT)
                    self.knit('-t100', 'ping', url=url, status=TIMEOUT)
                    self.assertEqual(subprocess.run([KNIT, '-u', url, '-t', '100', 'health'], capture_output=True,
                                                    timeout=PATIENCE).returncode, 2)
                    self.assertLess(time.monotonic() - begin, 3 * PATIENCE / 4)
            finally:
                daemon.send_signal(signal.SIGCONT)

    def test_a_text_without_quotation_marks_is_shown_with_them(self):
        self.assertIn("""in a shell '"hello world"'\n""", self.knit('call', 'echo', 'hello world', status=USAGE).stderr)
        self.assertNotIn('in a shell', self.knit('call', 'echo', 'NaN', status=USAGE).stderr)
        for empty in '', ' ':
            self.assertIn("""argument 1 is empty; an empty text is '""' in""",
                          self.knit('call', 'echo', empty, status=USAGE).stderr)

    def test_a_failure_is_one_line(self):
        for url in self.every_url():
            error = self.knit('call', 'fail', '7', '"two\\nlines"', '{"a":1}', url=url, status=FAILED)
            self.assertEqual(error.stderr, 'knit: TASK_FAILED: two\\nlines (code 7), data {"a":1}\n')
            self.assertEqual(error.stdout, '')
            error = self.knit('--json', 'call', 'fail', '7', '"x"', '{"a":1}', url=url, status=FAILED)
            shown = json.loads(error.stderr)
            self.assertEqual((shown['code'], shown['name'], shown['message'], shown['started'], shown['origin']),
                             (600, 'TASK_FAILED', 'x', 'yes', 'task'))
            self.assertEqual((shown['task_code'], shown['data'], shown['retryable']), (7, {'a': 1}, False))

    def test_a_message_cannot_move_the_cursor(self):
        error = self.knit('call', 'fail', '7', '"\\u001b[2J \\u009b2J \\u0085 \\u00a0\u00e4"', '"\\u0080"', status=FAILED)
        self.assertEqual(error.stderr, 'knit: TASK_FAILED: \\x1b[2J \\u009b2J \\u0085 \u00a0\u00e4 (code 7), data "\\u0080"\n')

    def test_what_a_terminal_obeys_is_printed_as_an_escape(self):
        text = '"\u009b2J\u2028\u202e\u2066\u007f\u200fa\u00e4"'
        shown = '"\\u009b2J\\u2028\\u202e\\u2066\\u007f\\u200fa\u00e4"'
        for url in self.every_url():
            self.assertEqual(self.value('echo', text, url=url), shown)
        self.assertEqual(json.loads(self.value('echo', text)), json.loads(text))
        error = self.knit('--json', 'call', 'fail', '7', text, status=FAILED).stderr
        self.assertIn(shown, error)
        self.assertEqual(json.loads(error)['message'], json.loads(text))
        self.assertEqual(self.knit('--raw', 'call', 'echo', text).stdout, json.loads(text))

    def test_exit_statuses(self):
        for url in self.every_url():
            self.knit('call', 'nosuch', url=url, status=REFUSED)
            self.knit('call', 'add', '1', url=url, status=REFUSED)
            self.knit('--timeout', '50', 'call', 'sleep', '10000', url=url, status=TIMEOUT)
            self.knit('--timeout', '0', 'call', 'sleep', '0', url=url, status=TIMEOUT)
        self.knit('ping', url='unix:///nonexistent/socket', status=DISCONNECTED)
        self.knit('ping', url='shm:///nonexistent/socket', status=DISCONNECTED)
        self.knit('ping', url='knit://127.0.0.1:1', status=DISCONNECTED)

    def test_a_crash(self):
        # A daemon of its own: it counts what crashes.
        with Daemon() as daemon:
            error = self.knit('call', 'crash', '"segv"', url=daemon.urls[2], status=BROKE)
            self.assertIn('SIGSEGV', error.stderr)
            error = self.knit('--json', 'call', 'crash', '"abort"', url=daemon.urls[0], status=BROKE)
            self.assertEqual(json.loads(error.stderr)['signal'], signal.SIGABRT)

    def test_a_quarantined_task_is_shown_and_lifted(self):
        with Daemon('--deaths-per-minute', '1') as daemon:
            self.knit('call', 'crash', '"abort"', url=daemon.urls[1], status=BROKE)
            self.assertIn('Quarantined. Workers that it took down: 1, the last by SIGABRT.',
                          self.knit('tasks', url=daemon.urls[1]).stdout)
            self.assertIn('"quarantined":true', self.knit('--json', 'tasks', url=daemon.urls[2]).stdout)
            refused = self.knit('call', 'crash', '"abort"', url=daemon.urls[2], status=REFUSED).stderr
            self.assertRegex(refused, r'QUARANTINED: .*deaths_per_minute.*knit lift')
            self.assertIn('DENIED', self.knit('lift', 'crash', url=daemon.urls[0], status=REFUSED).stderr)
            self.assertIn("no task 'crush'", self.knit('lift', 'crush', url=daemon.urls[2], status=REFUSED).stderr)
            self.assertEqual(self.knit('lift', 'crash', url=daemon.urls[2]).stdout, 'served again\n')
            self.assertEqual(self.knit('--json', 'lift', 'crash', url=daemon.urls[1]).stdout, '{"lifted":false}\n')
            self.knit('call', 'crash', '"kind"', url=daemon.urls[1], status=FAILED)

    def test_a_token_is_made_and_taken(self):
        with tempfile.TemporaryDirectory() as folder:
            path, tokens = os.path.join(folder, 'token'), os.path.join(folder, 'tokens')
            line = self.knit('token', 'ops/a', path).stdout
            with open(path) as file:
                token = file.read()
            self.assertRegex(token, r'\A[0-9a-f]{64}\n\Z')
            self.assertEqual(line, f'ops/a sha256:{hashlib.sha256(token.strip().encode()).hexdigest()}\n')
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
            self.assertIn('File exists', self.knit('token', 'ops/a', path, status=USAGE).stderr)
            with open(path) as file:
                self.assertEqual(file.read(), token)
            other = json.loads(self.knit('--json', 'token', 'b', path + '2').stdout)
            self.assertEqual(other['name'], 'b')
            self.assertNotEqual(f'ops/a {other["digest"]}\n', line)
            self.assertIn('no name', self.knit('token', 'a b', path + '3', status=USAGE).stderr)
            self.knit('token', 'a', status=USAGE)
            with open(tokens, 'w') as file:
                file.write(line)
            with Daemon(tokens=tokens) as daemon, daemon.tcp() as rpc:
                reply = rpc.call('$/hello', {'name': 'test', 'token': token.strip()})
                self.assertEqual(reply['principal'], 'token:ops/a')
                for url in daemon.urls:
                    self.assertEqual(self.knit('--token-file', path, 'call', 'add', '2', '3', url=url).stdout, '5\n')
                    self.assertEqual(self.knit('call', 'add', '2', '3', url=url,
                                               environment={'KNITTING_TOKEN_FILE': path}).stdout, '5\n')
                    self.assertEqual(self.knit('call', 'add', '2', '3', url=url,
                                               environment={'KNITTING_TOKEN': token.strip()}).stdout, '5\n')
                    refused = self.knit('--token-file', path + '2', 'call', 'add', '2', '3', url=url, status=DISCONNECTED)
                    self.assertIn("UNAUTHENTICATED: the token is nobody's", refused.stderr)
                self.assertEqual(daemon.stats()['loops']['authentications'], 10)
                refused = self.knit('call', 'add', '2', '3', url=daemon.urls[0], status=REFUSED)
                self.assertIn('UNAUTHENTICATED: say who you are first', refused.stderr)
                for wrong, text in (path + '4', 'No such file'), (folder, 'Is a directory'), ('/dev/null', 'holds no token'):
                    refused = self.knit('--token-file', wrong, 'call', 'add', '2', '3', url=daemon.urls[0], status=USAGE)
                    self.assertIn(text, refused.stderr)
                refused = self.knit('call', 'add', '2', '3', url=daemon.urls[0], status=USAGE,
                                    environment={'KNITTING_TOKEN': 'short'})
                self.assertIn('a token has 16 to 1024 bytes', refused.stderr)

    def test_mistakes_on_the_command_line(self):
        for arguments, sentence in (
                ((), 'which command'), (('bogus',), 'unknown command "bogus"'), (('--bogus', 'ping'), '--bogus'),
                (('call',), 'name of a task'), (('call', 'add', 'nan'), 'argument 1'), (('ping', 'x'), 'no arguments'),
                (('--timeout', 'x', 'ping'), 'milliseconds'), (('--timeout', '-1', 'ping'), 'milliseconds'),
                (('--timeout',), 'needs a value'),
                (('call', 'echo', '18446744073709551616'), '64 bits'), (('call', 'echo', '{"$b":1}'), 'unknown form')):
            with self.subTest(arguments):
                self.assertIn(sentence, self.knit(*arguments, status=USAGE).stderr)
        self.assertIn('bad URL "nonsense"', self.knit('ping', url='nonsense', status=USAGE).stderr)
        shown = json.loads(self.knit('--json', 'ping', url='nonsense', status=USAGE).stderr)
        self.assertEqual(shown['origin'], 'client')

    def test_help_and_version(self):
        shown = self.knit('help', url='').stdout
        self.assertEqual(self.knit('--help', url='').stdout, shown)
        table = json.loads(self.knit('--json', 'help', url='').stdout)
        for command in table['commands']:
            name = command['name']
            self.assertRegex(shown, f'(?m)^  {name}\\b.*')
            one = self.knit('help', name, url='').stdout
            self.assertTrue(one.startswith(f'Usage: knit [OPTION...] {name}'), one)
            self.assertEqual(self.knit(*((name, '--help') if name != 'bench' else ('--help', name)), url='').stdout, one)
            self.assertEqual(json.loads(self.knit('--json', 'help', name, url='').stdout), command)
            for option in table['options']:
                if name != 'bench':
                    self.assertEqual(f' --{option["name"]}' in one, option['name'] in command['options'], one)
        self.assertLessEqual(max(len(line) for line in shown.split('\n')), 90)
        self.assertRegex(self.knit('--version', url='').stdout, r'^knit [0-9.]+\n$')
        self.assertRegex(json.loads(self.knit('version', '--json', url='').stdout)['version'], r'^[0-9.]+$')

    def test_bench_is_the_program_beside_it(self):
        """It is given its address, by shared memory unless one is named, and everything behind the word bench."""
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(KNIT, folder)
            alone = subprocess.run([os.path.join(folder, 'knit'), 'bench'], capture_output=True, text=True, timeout=PATIENCE,
                                   env={'LD_LIBRARY_PATH': os.path.dirname(os.path.dirname(KNIT))})
            self.assertEqual(alone.returncode, BROKE)
            self.assertIn(f'cannot run {folder}/knit-bench: ', alone.stderr)
            with open(os.path.join(folder, 'knit-bench'), 'w') as file:
                file.write('#!/bin/sh\nprintf "%s\\n" "$@"\n')
            os.chmod(file.name, 0o755)
            libraries = os.path.dirname(os.path.dirname(KNIT))
            for words, url, shown in ((['bench', '-c', '8', 'echo:64'], '', ['--url=shm:///run/knitting/knitting.sock', '-c', '8', 'echo:64']),
                                      (['-u', 'knit://h', '--json', 'bench', '--help', '--'], '',
                                       ['--url=knit://h', '--format=json', '--help', '--']),
                                      (['bench'], 'unix:///s', ['--url=unix:///s']),
                                      (['--token-file', 't', '--tls-ca', 'c', '--tls-cert', 'e', '--tls-key', 'k', '--tls-pin', 'p',
                                        '--tls-pin-only', 'bench', '-c', '8'], 'knits://h',
                                       ['--url=knits://h', '--tls-pin-only', '--token-file', 't', '--tls-ca', 'c', '--tls-cert', 'e',
                                        '--tls-key', 'k', '--tls-pin', 'p', '-c', '8'])):
                done = subprocess.run([os.path.join(folder, 'knit'), *words], capture_output=True, text=True, timeout=PATIENCE,
                                      env={'LD_LIBRARY_PATH': libraries, 'KNITTING_URL': url})
                self.assertEqual((done.stdout.split('\n')[:-1], done.stderr), (shown, ''))

    @unittest.skipUnless('KNIT_HAS_BENCH' in os.environ, 'built with -Dbench=false')
    def test_bench_runs_where_it_was_built(self):
        self.assertIn('knit-bench', self.knit('bench', '--help').stdout)
        self.assertIn('echo', self.knit('bench', '--count', '10', 'echo:8').stdout)
        for words, why in ((['-c', '0'], '--connections does not take "0"'), (['--seconds=x'], '--seconds does not take "x"'),
                           (['echo:8', 'add'], 'one task, and not "add" behind it'),
                           (['--nope'], "unrecognized option '--nope'")):
            self.assertIn(why, self.knit('bench', *words, status=USAGE).stderr)

    def test_the_man_page_has_all_commands_and_options(self):
        with open(os.path.join(os.environ['KNIT_SOURCE'], 'deploy/man/knit.1.scd')) as file:
            page = file.read()
        table = json.loads(self.knit('--json', 'help', url='').stdout)
        for command in table['commands']:
            self.assertRegex(page, f'(?m)^\\*{command["name"]}\\*')
            self.assertRegex(page, f'(?m)^\\*knit\\*.*\\*{command["name"]}\\*')
        for option in table['options']:
            letter = f'\\*-{option["letter"]}\\*, ' if option['letter'] else ''
            value = f' _{option["value"]}_' if option['value'] else ''
            self.assertRegex(page, f'(?m)^{letter}\\*--{option["name"]}\\*{value}$')

    def test_the_url_comes_from_the_environment(self):
        self.assertEqual(self.knit('call', 'add', '1', '2', url='', environment={'KNITTING_URL': self.url}).stdout, '3\n')

    def test_without_a_url_it_is_the_users_own_daemon_or_the_systems(self):
        """Root has no daemon of its own, so root tries it as somebody else."""
        user = 65534 if os.geteuid() == 0 else None
        system = '/run/knitting/knitting.sock'

        def call(runtime):
            env = {name: value for name, value in os.environ.items() if name != 'KNITTING_URL'}
            return subprocess.run([KNIT, 'call', 'add', '1', '2'], env={**env, 'XDG_RUNTIME_DIR': runtime}, capture_output=True, text=True,
                                  timeout=6 * PATIENCE, user=user)
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            os.mkdir(f'{folder}/knitting', 0o755)
            with Daemon(socket=f'{folder}/knitting/knitting.sock', socket_mode='0666'):
                done = call(folder)
                self.assertEqual((done.returncode, done.stdout), (OK, '3\n'), done.stderr)
            if user is not None:
                with Daemon(socket=f'{folder}/knitting/knitting.sock', socket_mode='0600'):
                    done = call(folder)
                    self.assertEqual(done.returncode, REFUSED)
                    self.assertIn('socket_mode and socket_group of the daemon', done.stderr)
            if os.path.exists(system):
                self.skipTest(f'a daemon of the system serves {system}')
            for runtime in folder, '', 'relative':
                done = call(runtime)
                self.assertEqual(done.returncode, DISCONNECTED)
                self.assertIn(system, done.stderr)

    def test_tasks_ping_stats(self):
        for url in self.every_url():
            self.assertIn('add(a: int, b: int) -> int\n    The sum of two integers.\n', self.knit('tasks', url=url).stdout)
            tasks = {task['name']: task for task in json.loads(self.knit('--json', 'tasks', url=url).stdout)}
            self.assertEqual(tasks['add']['signature'], 'add(a: int, b: int) -> int')
            self.assertRegex(self.knit('ping', url=url).stdout, r'^answered in [0-9.]+ ms\n$')
            self.assertGreater(json.loads(self.knit('--json', 'ping', url=url).stdout)['ms'], 0)
            self.assertIsInstance(json.loads(self.knit('stats', url=url).stdout), dict)
            self.assertEqual(self.knit('--json', 'stats', url=url).stdout.count('\n'), 1)

    def test_a_call_with_a_key_is_made_once(self):
        for number, url in enumerate(self.every_url()):
            key = f'--key=k{number}'
            for _ in '12':
                self.assertEqual(self.knit('call', key, 'add', '2', '3', url=url).stdout, '5\n')
            self.assertIn('DUPLICATE', self.knit('call', key, 'add', '2', '4', url=url, status=REFUSED).stderr)
            self.assertIn('--key takes a text of 1 to 64 bytes',
                          self.knit('call', '--key', 'k' * 65, 'add', '2', '3', url=url, status=USAGE).stderr)
            trace = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
            self.assertEqual(self.knit('call', '--traceparent', trace, 'add', '2', '3', url=url).stdout, '5\n')
            self.assertIn('--traceparent takes a W3C traceparent',
                          self.knit('call', '--traceparent', trace.upper(), 'add', '2', '3', url=url, status=USAGE).stderr)

    def test_one_task_is_described(self):
        for url in self.every_url():
            shown = self.knit('describe', 'add', url=url).stdout
            most = 8 << 20
            self.assertEqual(shown, 'add(a: int, b: int) -> int\n    The sum of two integers.\n    No time limit of its own.\n'
                             f'    Takes up to {most} bytes of arguments.\n    From example.so.\n')
            shown = json.loads(self.knit('--json', 'describe', 'word_count', url=url).stdout)
            self.assertEqual((shown['name'], shown['module'], shown['arguments_max']), ('word_count', 'example.so', most))
            tasks = json.loads(self.knit('--json', 'tasks', url=url).stdout)
            self.assertEqual({task['module'] for task in tasks}, {'example.so'})
            self.assertIn("UNKNOWN_TASK: there is no task 'ad'; the nearest is 'add'",
                          self.knit('describe', 'ad', url=url, status=REFUSED).stderr)
        self.knit('describe', status=USAGE)

    def test_a_probe_tells_three_states_apart(self):
        for url in self.every_url():
            self.assertRegex(self.knit('health', url=url).stdout, '^ready: 2 workers, 2 of them serve, ')
            shown = json.loads(self.knit('--json', 'health', url=url).stdout)
            self.assertEqual((shown['status'], shown['lanes_serving'], shown['is_degraded']), ('ready', 2, False))
        self.knit('health', url='unix:///nonexistent/socket', status=2)
        done = subprocess.run([KNIT, '-u', 'unix:///nonexistent/socket', '--json', 'health'], capture_output=True,
                              text=True, timeout=PATIENCE)
        self.assertEqual((done.returncode, json.loads(done.stdout)['status'], done.stderr), (2, 'unreachable', ''))

    def test_without_a_worker_ping_fails_and_health_is_degraded(self):
        """The pause before a worker is replaced doubles with each that has died early."""
        with Daemon(workers=1) as daemon:
            for _ in range(8):
                lane = wait_until(lambda: next((lane for lane in daemon.stats()['lanes'] if lane['state'] == 'serving'),
                                               None), 'a worker')
                os.kill(lane['pid'], signal.SIGKILL)
                wait_until(lambda: daemon.stats()['lanes'][0]['pid'] != lane['pid'], 'its end')
            for url in daemon.urls[:2]:
                self.assertIn('no worker of it can serve', self.knit('ping', url=url, status=REFUSED).stderr)
                done = subprocess.run([KNIT, '-u', url, '--json', 'health'], capture_output=True, text=True,
                                      timeout=PATIENCE)
                self.assertEqual((done.returncode, json.loads(done.stdout)['status']), (1, 'degraded'), done.stderr)

    def test_running_out_of_descriptors_is_reported(self):
        for url in self.every_url():
            sentences = ''
            for most in range(4, 20):
                limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
                result = subprocess.run([KNIT, '-u', url, 'call', 'add', '1', '2'], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, timeout=PATIENCE, preexec_fn=limit)
                # 127: the libraries could not be opened.
                self.assertIn(result.returncode, (OK, DISCONNECTED, BROKE, 127), result.stderr)
                sentences += result.stderr
            self.assertEqual(result.returncode, OK)
            # Attaching needs more descriptors than waiting.
            if not url.startswith('shm:'):
                self.assertIn('cannot wait for an outcome, so nothing was called: Too many open files', sentences)

    def test_a_full_disk_is_reported(self):
        for words in (['call', 'echo', '1'], ['tasks'], ['describe', 'add'], ['ping'], ['health'], ['stats'], ['--raw', 'stats'],
                      ['help'], ['help', 'call'], ['version'], ['--json', 'help'], ['check', str(self.daemon.pid)],
                      ['lift', 'add'], ['policy', 'why', 'anonymous', 'add']):
            with self.subTest(words), open('/dev/full', 'w') as full:
                result = subprocess.run([KNIT, '-u', self.url, *words], stdout=full, stderr=subprocess.PIPE, text=True,
                                        timeout=PATIENCE)
                self.assertEqual(result.returncode, OUTPUT, result.stderr)
                self.assertIn('cannot write the output', result.stderr)
        with Daemon() as daemon, open('/dev/full', 'w') as full:
            done = subprocess.run([KNIT, '-u', daemon.urls[1], 'drain'], stdout=full, stderr=subprocess.PIPE, text=True,
                                  timeout=PATIENCE)
            self.assertEqual(done.returncode, OUTPUT, done.stderr)
        # The call was made: nobody may conclude that it was not.
        done = subprocess.run(['sh', '-c', f'{KNIT} -u {self.url} --json call add 1 2 >&-'], capture_output=True, text=True,
                              timeout=PATIENCE)
        shown = json.loads(done.stderr)
        self.assertEqual((done.returncode, shown['name'], shown['started']), (OUTPUT, 'OUTPUT', 'unknown'))

    def test_ctrl_c_cancels(self):
        for url in self.every_url():
            process = subprocess.Popen([KNIT, '-u', url, 'call', 'sleep', '60000'], stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True)
            # It blocks SIGINT once the call is in flight; before that the signal ends it.
            wait_until(lambda: self.blocks_interrupt(process.pid), 'the tool to wait')
            begin = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=PATIENCE)
            self.assertEqual(process.returncode, CANCELLED, error)
            self.assertIn('CANCELLED', error)
            self.assertLess(time.monotonic() - begin, PATIENCE / 2)
            self.assertEqual(self.value('add', '1', '1', url=url), '2')

    @staticmethod
    def blocks_interrupt(pid):
        with open(f'/proc/{pid}/status') as file:
            mask = next(line for line in file if line.startswith('SigBlk:')).split()[1]
        return int(mask, 16) >> (signal.SIGINT - 1) & 1


main()
