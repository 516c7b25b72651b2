# SPDX-License-Identifier: Apache-2.0
"""knit top in a terminal: what it shows, what its keys do, and that it gives the terminal back."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time

import msgpack

from knit_harness import PATIENCE, Case, Child, Daemon, main, wait_until

KNIT, RUDE = os.environ['KNIT_TOOL'], os.environ['KNIT_RUDE']
CANCELLED, QUARANTINED = 304, 204
UP, DOWN = '\x1b[A', '\x1b[B'
LEFT = b'\x1b[?25h\x1b[?1049l'


class Top:
    """knit top, in a terminal of so many lines and columns. term: what $TERM says it is; None: it is not set."""

    def __init__(self, url, *arguments, lines=24, columns=100, term='xterm'):
        environment = {key: value for key, value in os.environ.items() if key != 'TERM'}
        if term is not None:
            environment['TERM'] = term
        self.master, slave = pty.openpty()
        self.resize(lines, columns)
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen([KNIT, '-u', url, *arguments, 'top'], stdin=slave, stdout=slave, stderr=subprocess.PIPE,
                                        start_new_session=True, env=environment,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.slave, self.output = slave, b''

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        os.close(self.master)
        os.close(self.slave)

    def resize(self, lines, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack('HHHH', lines, columns, 0, 0))

    def press(self, keys):
        os.write(self.master, keys.encode())

    def read(self, seconds):
        if select.select([self.master], [], [], seconds)[0]:
            self.output += os.read(self.master, 1 << 16)

    def screen(self):
        """The lines of the last frame that is whole; of none: []."""
        frames = self.output.split(b'\x1b[H')
        whole = [frame for frame in frames[1:] if re.search(rb';1H\x1b\[7m\x1b\[K[^\x1b]*\x1b\[m$', frame)]
        if not whole:
            return []
        text = re.sub(rb'\x1b\[(\d+;1H)', b'\r\n', whole[-1])
        return [line.rstrip() for line in re.sub(rb'\x1b\[[?0-9;]*[A-Za-z]', b'', text).decode().split('\r\n')]

    def until(self, condition, what, looks=False):
        until = time.monotonic() + PATIENCE
        while not (found := condition(self.screen())):
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f'{what}: ' + '\n'.join(self.screen()) + f'\n{self.process.poll()}')
            if looks:
                self.press(' ')
            self.read(0.1)
        return found

    def until_line(self, pattern, looks=False):
        return self.until(lambda lines: next((match for line in lines if (match := re.search(pattern, line))), None), pattern, looks)

    def sees(self, pattern):
        """Of the daemon, which it looks at at once and not when its time has come."""
        return self.until_line(pattern, looks=True)

    def end(self):
        """Its status; everything that it wrote is in output."""
        until = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < until:
            self.read(0.05)
        status = self.process.wait(PATIENCE)
        while select.select([self.master], [], [], 0)[0]:
            self.read(0)
        return status

    def settings(self):
        return termios.tcgetattr(self.slave)


def top_of(daemon, *arguments, **options):
    return Top(f'unix://{daemon.socket}', *arguments, **options)


def once(daemon, *arguments):
    done = subprocess.run([KNIT, '-u', f'unix://{daemon.socket}', 'top', *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=3 * PATIENCE)
    assert (done.returncode, done.stderr) == (0, ''), (done.returncode, done.stderr)
    return done.stdout


class Plain(Case):
    def test_one_look_as_json_has_what_the_methods_answer(self):
        with Daemon(workers=1) as daemon, daemon.unix() as rpc, daemon.unix() as operator:
            rpc.call_all([['add', i, 1] for i in range(500)])
            msgid = rpc.request('sleep', 60000)
            wait_until(lambda: len(operator.call('$/calls')['calls']) == 1, 'the call')
            for arguments in ('--once', '--json'), ('--json',):
                shown = json.loads(once(daemon, *arguments))
                self.assertEqual(list(shown), ['stats', 'calls', 'sessions'])
                self.assertEqual(list(shown['stats']), list(operator.call('$/stats')))
                self.assertEqual(list(shown['calls']), ['calls', 'waiting', 'callers', 'left_out'])
                self.assertEqual([row['task'] for row in shown['calls']['calls']], ['sleep'])
                self.assertEqual(shown['sessions']['sessions'], operator.call('$/sessions')['sessions'])
                self.assertEqual(shown['stats']['lanes'][0]['calls'], operator.call('$/stats')['lanes'][0]['calls'])
            rpc.notify('$/cancel', msgid)
            rpc.response(msgid)

    def test_where_there_is_no_terminal_it_prints_one_look(self):
        with Daemon(workers=2) as daemon, daemon.unix() as rpc:
            rpc.call_all([['add', i, 1] for i in range(300)])
            begun = sum(lane['calls'] for lane in daemon.stats()['lanes'])
            for arguments in ('--once',), ():
                text = once(daemon, *arguments)
                self.assertNotIn('\x1b', text)
                self.assertIn(f'; {begun} calls begun', text)
                self.assertRegex(text, r'(?m)^ +0  serving +\d+ ')

    def test_a_terminal_that_obeys_nothing_gets_one_look_without_escapes(self):
        with Daemon(workers=2) as daemon:
            for term in 'dumb', '', None:
                with self.subTest(term), top_of(daemon, term=term) as top:
                    self.assertEqual((top.end(), top.process.stderr.read()), (0, b''))
                    self.assertNotIn(b'\x1b', top.output)
                    self.assertRegex(top.output.decode(), r'(?m)^ +0  serving +\d+ ')
                    self.assertEqual(top.settings(), top.before)

    def test_an_answer_is_not_obeyed_by_the_terminal(self):
        """Names that no daemon of this project has."""
        evil = 'a\x1b[2J\x07\x9bb\u202ec\nd'
        call = {'task': evil, 'state': evil, 'principal': evil, 'session': 1, 'slot': 2, 'generation': 3}
        answers = {'$/hello': {'server': 'x', 'protocol': 1},
                   '$/stats': {'version': evil, 'pid': 1, 'uptime_ms': 5, 'lanes': [{'state': evil}], 'tasks': [], 'pool': {}},
                   '$/calls': {'calls': [call], 'waiting': [{'principal': evil, 'count': 1, 'age_ms': 1}], 'left_out': 0},
                   '$/sessions': {'sessions': [{'session': 1, 'kind': evil, 'state': evil, 'pid': 1, 'principal': evil, 'slots': 1,
                                         'running': 0, 'queued': 0, 'memory_bytes': 0}]}}

        def serve(listener):
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    unpacker = msgpack.Unpacker(raw=False)
                    while data := sock.recv(1 << 16):
                        unpacker.feed(data)
                        for message in unpacker:
                            if message[0] == 0:
                                sock.sendall(msgpack.packb([1, message[1], None, answers[message[2]]], use_bin_type=True))

        with tempfile.TemporaryDirectory(prefix='knit-') as folder, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f'{folder}/k.sock')
            listener.listen()
            thread = threading.Thread(target=serve, args=(listener,), daemon=True)
            thread.start()
            url = f'unix://{folder}/k.sock'
            for arguments in ['top', '--once'], ['top', '--json'], ['calls'], ['sessions'], ['calls', '--json']:
                done = subprocess.run([KNIT, '-u', url, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=3 * PATIENCE)
                self.assertEqual(done.returncode, 0, done)
                text = done.stdout.decode()
                self.assertIn('b\\u202ec', text)
                self.assertEqual({char for char in text if ord(char) < 32 or 126 < ord(char)} - {'\n'}, set(), arguments)
            with Top(url) as top:
                top.sees(r'1\.2\.3')
                top.press('q')
                self.assertEqual(top.end(), 0)
                self.assertNotIn(b'\x1b[2J', top.output)
                self.assertNotIn(b'\x07', top.output)
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


class Live(Case):
    def test_a_line_as_wide_as_the_terminal_is_whole(self):
        """The cursor stands on its last character then, which a line that is cleared behind it would lose."""
        with Daemon(workers=1) as daemon, top_of(daemon, columns=30) as top:
            lines = top.until(lambda shown: shown, 'a frame')
            self.assertEqual([len(line) for line in lines[:2]], [30, 30])
            frame = top.output[top.output.rindex(b'\x1b[H'):]
            self.assertNotRegex(frame, rb'[^\x1b]{30}\x1b\[K')

    def test_its_figures_are_the_daemon_s(self):
        with Daemon(workers=2) as daemon, daemon.unix() as rpc, top_of(daemon) as top:
            rpc.call_all([['add', i, 1] for i in range(700)])
            begun = sum(lane['calls'] for lane in daemon.stats()['lanes'])
            top.sees(rf'; {begun} calls begun')
            top.sees(r'^0 run, 0 queued')
            top.press('v')
            lanes = daemon.stats()['lanes']
            for i, lane in enumerate(lanes):
                top.sees(rf'^ +{i} +serving +{lane["pid"]} +{lane["calls"]} ')
            msgid = rpc.request('sleep', 60000)
            top.sees(r'^1 run, 0 queued')
            top.press('v')
            top.sees(r'^ *1 +loop +open +\d+ +1 +0 ')
            rpc.notify('$/cancel', msgid)
            rpc.response(msgid)
            top.sees(r'^0 run, 0 queued')

    def test_rows_are_sorted_and_filtered(self):
        with Daemon('--module', RUDE, workers=3) as daemon, daemon.unix() as rpc, top_of(daemon) as top:
            ids = []
            for params in ('sleep', 60000), ('nap', 30000), ('sleep', 60000):
                ids.append(rpc.request(*params))
                top.sees(rf'^{len(ids)} run')

            def tasks(lines):
                return [line.split()[-1] for line in lines if re.match(r'\d+\.\d+\.\d+ ', line)]
            top.press('>>>')
            top.until(lambda lines: tasks(lines) == ['nap', 'sleep', 'sleep'], 'to be sorted by task')
            top.press('r')
            top.until(lambda lines: tasks(lines) == ['sleep', 'sleep', 'nap'], 'to be turned')
            top.press('/NAP\r')
            top.until(lambda lines: tasks(lines) == ['nap'], 'one to be left')
            top.until_line(r'^calls: 1 of 3 with NAP')
            top.press('/\x7f\x7f\x7fsle')
            top.until(lambda lines: tasks(lines) == ['sleep', 'sleep'], 'the others')
            top.press('\x1b?')
            top.until_line(r'^c +ask the call to stop')
            top.press(' ')
            top.until(lambda lines: len(tasks(lines)) == 3, 'all of them')
            daemon.end(signal.SIGKILL)
            daemon.expected_status = -signal.SIGKILL
            self.assertEqual(top.end(), 3)
            self.assertIn(LEFT, top.output)
            self.assertEqual(top.settings(), top.before)

    def test_calls_are_stopped_and_killed(self):
        with Daemon('--module', RUDE, workers=2) as daemon, daemon.unix() as rpc, top_of(daemon, '--grace', '10') as top:
            rpc.call('$/hello', {'name': 'test'})
            ids = [rpc.request('hold_out'), rpc.request('sleep', 60000)]
            top.sees(r'^2 run')
            top.press('/sleep\r')
            top.until_line(r'^calls: 1 of 2')
            top.press('c')
            top.until_line(r'^stop \d+\.\d+\.\d+, sleep of uid:\d+\? y: yes')
            top.press('n')
            top.until_line(r'^calls: 1 of 2')
            top.press('cy')
            error, _ = rpc.response(ids[1])
            self.assertEqual((error[0], error[1]), (CANCELLED, 'stopped by an operator while it ran'))
            top.press('/\x1b')
            top.sees(r'^calls: 1 of 1')
            top.press(DOWN + UP + 'k')
            top.until_line(r'^kill \d+\.\d+\.\d+, hold_out')
            top.press('y')
            error, _ = rpc.response(ids[0])
            self.assertEqual((error[0], error[2]['started']), (CANCELLED, 'yes'))
            top.sees(r'^0 run')

    def test_a_quarantine_is_lifted(self):
        with Daemon(workers=1, deaths_per_minute=1) as daemon, daemon.unix() as rpc, top_of(daemon) as top:
            def crash():
                error, _ = rpc.response(rpc.request('crash', 'exit'))
                return error.split()[0] == str(QUARANTINED)
            wait_until(crash, 'a quarantine')
            top.sees(r'; 1 tasks quarantined;')
            top.press('l')
            top.until_line(r'view of tasks')
            top.press('vvv')
            top.until_line(r'^crash +\d+ +\d+ +yes')
            top.press('l')
            top.until_line(r'^crash is served again')
            top.sees(r'; 0 tasks quarantined;')
            self.assertFalse(crash())

    def test_the_terminal_is_given_back(self):
        with Daemon(workers=1) as daemon:
            for how, status in (('q', 0), (signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP),
                                (signal.SIGQUIT, -signal.SIGQUIT), ('\x03', 130)):
                with self.subTest(how), top_of(daemon) as top:
                    top.sees(r'^0 run')
                    self.assertNotEqual(top.settings(), top.before)
                    if isinstance(how, str):
                        top.press(how)
                    else:
                        top.process.send_signal(how)
                    self.assertEqual(top.end(), status)
                    self.assertTrue(top.output.endswith(LEFT), top.output[-100:])
                    self.assertEqual(top.settings(), top.before)

    def test_it_ends_with_its_terminal(self):
        """Also where that is not its session's, of which a signal would tell."""
        with Daemon(workers=1) as daemon:
            master, slave = pty.openpty()
            process = subprocess.Popen([KNIT, '-u', f'unix://{daemon.socket}', 'top'], stdin=slave, stdout=slave,
                                       stderr=subprocess.DEVNULL, start_new_session=True, env={**os.environ, 'TERM': 'xterm'})
            os.close(slave)
            try:
                wait_until(lambda: b' run, ' in os.read(master, 1 << 16), 'the first look')
                os.close(master)
                process.wait(PATIENCE)
            finally:
                process.kill()
                process.wait()

    def test_it_stands_still_and_goes_on(self):
        with Daemon(workers=1) as daemon, top_of(daemon) as top:
            top.sees(r'^0 run')
            top.press('\x1a')

            def is_stopped():
                top.read(0)
                with open(f'/proc/{top.process.pid}/stat') as file:
                    return file.read().rsplit(')', 1)[1].split()[0] == 'T'
            wait_until(is_stopped, 'it to stop')
            self.assertEqual(top.settings(), top.before)
            top.output = b''
            top.process.send_signal(signal.SIGCONT)
            top.sees(r'^0 run')
            self.assertNotEqual(top.settings(), top.before)
            top.press('q')
            self.assertEqual(top.end(), 0)

    def test_it_fits_the_terminal_as_that_changes(self):
        with Daemon(workers=8) as daemon, daemon.unix() as rpc, top_of(daemon, lines=30, columns=120) as top:
            ids = [rpc.request('sleep', 60000) for _ in range(8)]
            top.sees(r'^8 run')
            for lines, columns in (10, 40), (30, 120), (1, 1):
                top.resize(lines, columns)
                rows = max(lines, 7)
                width = max(columns, 20)
                top.until(lambda shown: shown and max(map(len, shown)) <= width and
                          len([line for line in shown if re.match(r'\d+\.\d+\.\d+ ', line)]) == min(8, rows - 5), f'{lines} x {columns}')
            for msgid in ids:
                rpc.notify('$/cancel', msgid)
            for msgid in ids:
                rpc.response(msgid)


if __name__ == '__main__':
    main()
