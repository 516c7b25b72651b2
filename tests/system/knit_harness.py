# SPDX-License-Identifier: Apache-2.0
"""What system tests share: a daemon of their own, and a plain MessagePack-RPC client to talk to it.

    class Echo(Case):
        def test_it(self):
            with Daemon() as daemon, daemon.tcp() as rpc:
                self.assertEqual(rpc.call('echo', 1), 1)

Programs come from the environment, where meson.build puts them: KNIT_DAEMON, KNIT_WORKER, KNIT_MODULE.
A daemon has a fresh folder with a socket and port of its own, is ended by its process id, and its log is shown when
its exit status is not the expected one. Nothing sleeps for a fixed time: wait_until() checks again until a deadline.
"""

import os
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import msgpack

SLOWDOWN = float(os.environ.get('KNIT_TEST_SLOWDOWN', '1'))
SANITIZED = 'KNIT_SANITIZED' in os.environ
PATIENCE = 10 * SLOWDOWN


def wait_until(condition, what, seconds=PATIENCE):
    """The condition's first true value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f'timed out waiting for {what}')
        time.sleep(0.002)


class RpcError(Exception):
    """An error response. `code`, `text` and `details`, from the text form and from the structured one."""

    def __init__(self, error):
        super().__init__(repr(error))
        self.error = error
        if isinstance(error, list):
            self.code, self.text, self.details = error
        else:
            number, _, rest = error.partition(' ')
            self.code, self.text, self.details = int(number), rest, {}


class Rpc:
    """A connection that sends any bytes, valid or not, and keeps responses by their msgid."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(PATIENCE)
        self.unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, use_list=True,
                                         max_buffer_size=1 << 30, unicode_errors='surrogateescape')
        self.responses = {}
        self.notifications = []
        self.next_id = 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def request(self, method, *params, options=None):
        msgid = self.next_id
        self.next_id += 1
        message = [0, msgid, method, list(params)]
        if options is not None:
            message.append(options)
        self.send(msgpack.packb(message, use_bin_type=True, unicode_errors='surrogateescape'))
        return msgid

    def notify(self, method, *params):
        self.send(msgpack.packb([2, method, list(params)], use_bin_type=True))

    def receive(self):
        """Reads one more message. False at the end of the stream."""
        while True:
            for message in self.unpacker:
                if message[0] == 1:
                    if message[1] in self.responses:
                        raise AssertionError(f'a second response for {message[1]}: {message}')
                    self.responses[message[1]] = message[2:]
                else:
                    self.notifications.append(message[1:])
                return True
            data = self.sock.recv(1 << 20)
            if not data:
                return False
            self.unpacker.feed(data)

    def response(self, msgid):
        while msgid not in self.responses:
            if not self.receive():
                raise EOFError(f'the daemon closed the connection before it answered {msgid}')
        return self.responses.pop(msgid)

    def result(self, msgid):
        error, result = self.response(msgid)
        if error is not None:
            raise RpcError(error)
        return result

    def call(self, method, *params, options=None):
        return self.result(self.request(method, *params, options=options))

    def call_all(self, calls):
        """The results of many calls, [method, *params] each, all in flight at once. Sends from a second thread: a
        caller that only sends is not read any more once its replies pile up."""
        first = self.next_id
        self.next_id += len(calls)

        def send():
            for msgid, (method, *params) in enumerate(calls, first):
                self.send(msgpack.packb([0, msgid, method, params], use_bin_type=True))
        sender = threading.Thread(target=send)
        sender.start()
        try:
            return [self.result(msgid) for msgid in range(first, first + len(calls))]
        finally:
            sender.join()

    def hello(self):
        return self.call('$/hello', {'name': 'test', 'version': '0'})

    def is_closed_by_peer(self):
        """Reads to the end; true when there is one."""
        try:
            while self.receive():
                pass
            return True
        except ConnectionResetError:
            return True
        except socket.timeout:
            return False


def worker_with(folder, environment):
    """A program in that folder to give as `worker`: the pool gives workers an environment of its own, so a script
    sets the variables and starts the real one."""
    path = os.path.join(folder, 'worker')
    words = [f'{name}={shlex.quote(value)}' for name, value in environment.items()]
    with open(path, 'w') as file:
        file.write(f'#!/bin/sh\n{" ".join(words)} exec {shlex.quote(os.environ["KNIT_WORKER"])} "$@"\n')
    os.chmod(path, 0o755)
    return path


# Passes descriptors as sd_listen_fds(3) says: from 3 on, with the process id of who is to have them.
PASS_SOCKETS = '''
import fcntl, os, sys
high = [fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 100) for fd in sys.argv[1].split(',')]
for place, fd in enumerate(high):
    os.dup2(fd, 3 + place)
os.execve(sys.argv[2], sys.argv[2:], {**os.environ, 'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': str(len(high))})
'''


class Daemon:
    """A running knittingd. Options as on its command line, without the dashes, '_' for '-'."""

    def __init__(self, *arguments, config=None, config_path=None, workers=2, module=None, wait=True, environment=None,
                 worker=None, listen='127.0.0.1:0', log_fd=None, omit_socket=False, cwd=None, passed=(), **options):
        """admin: none unless it is given, since the usual port is one for all. `config` is the text of its file, or the file stands at config_path; module '': what its settings say, as workers
        None. Its log goes to log_fd where that is given, and log() is what workers print to stdout. passed: listening
        sockets, which it gets as from systemd."""
        self.dir = tempfile.mkdtemp(prefix='knit-')
        self.socket = os.path.join(self.dir, 'k.sock')
        self.ready_file = os.path.join(self.dir, 'ready')
        self.log_path = os.path.join(self.dir, 'log')
        self.urls, self.admin, self.expected_status = [], None, 0
        command = [os.environ['KNIT_DAEMON'], '--config', config_path or self.write('k.conf', config or ''),
                   '--ready-file', self.ready_file, *(['--listen', listen] if listen is not None else []),
                   '--worker-program', worker or os.environ['KNIT_WORKER'],
                   *(['--module', module or os.environ['KNIT_MODULE']] if module != '' else [])]
        if 'socket' not in options and not omit_socket:
            options['socket'] = self.socket
        if workers is not None:
            options['workers'] = workers
        options.setdefault('admin', 'none')  # None: as a daemon has it by itself
        for name, value in options.items():
            if value is None:
                continue
            command.append(f'--{name.replace("_", "-")}={value}')
        command += arguments
        fds = [sock.fileno() for sock in passed]
        if passed:
            command = [sys.executable, '-c', PASS_SOCKETS, ','.join(map(str, fds)), *command]
        env = {**os.environ, **(environment or {})}
        with open(self.log_path, 'ab') as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, env=env, cwd=cwd,
                                            stderr=log if log_fd is None else log_fd, pass_fds=fds)
        self.pid = self.process.pid
        if wait:
            try:
                self.wait_ready()
            except AssertionError:
                self.end()
                raise

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, 'w') as file:
            file.write(text)
        return path

    def wait_ready(self):
        wait_until(lambda: os.path.exists(self.ready_file) or self.process.poll() is not None, 'the ready file')
        if self.process.poll() is not None:
            raise AssertionError(f'knittingd ended with {self.process.returncode}: {self.log()}')
        with open(self.ready_file) as file:
            lines = file.read().splitlines()
        self.urls = [line[4:] for line in lines if line.startswith('url=')]
        self.admin = next((line[6:] for line in lines if line.startswith('admin=')), None)

    def log(self):
        with open(self.log_path, errors='replace') as file:
            return file.read()

    @property
    def port(self):
        url = next(u for u in self.urls if u.startswith('knit://'))
        return int(url.rsplit(':', 1)[1])

    def tcp(self):
        return Rpc(socket.create_connection(('127.0.0.1', self.port), timeout=PATIENCE))

    def unix(self):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(self.socket)
        return Rpc(sock)

    def transports(self):
        return (('tcp', self.tcp), ('unix', self.unix))

    def stats(self):
        with self.unix() as rpc:
            return rpc.call('$/stats')

    def memory_kb(self):
        """Private memory of the daemon itself. A sanitizer keeps what is freed and pads what is not, which no bound of a
        test allows for: 0 with one."""
        if SANITIZED:
            return 0
        with open(f'/proc/{self.pid}/status') as file:
            return next(int(line.split()[1]) for line in file if line.startswith('RssAnon:'))

    def send_signal(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=PATIENCE):
        return self.process.wait(seconds)

    def end(self, number=signal.SIGTERM):
        """Its exit status."""
        if self.process.poll() is None:
            self.send_signal(number)
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.wait()
                sys.stderr.write(self.log())
                raise AssertionError('knittingd did not end')
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            status = self.end()
            if kind is not None or status != self.expected_status:
                sys.stderr.write(self.log())
            if kind is None and status != self.expected_status:
                raise AssertionError(f'knittingd ended with {status}')
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)


class Child:
    """A program of a test, which is killed by its process id where it still runs when the block ends. Its pipes are
    closed then."""

    def __init__(self, command, *, stderr=None, **options):
        self.process = subprocess.Popen(command, stderr=stderr or sys.stderr, **options)
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self.is_over():
            self.process.kill()
        self.process.wait()
        for pipe in self.process.stdin, self.process.stdout:
            if pipe is not None:
                pipe.close()

    def is_over(self):
        return self.process.poll() is not None


class Case(unittest.TestCase):
    """With an assertion about error codes."""

    def assert_fails(self, code, function, *arguments, **options):
        with self.assertRaises(RpcError) as caught:
            function(*arguments, **options)
        self.assertEqual(caught.exception.code, code, caught.exception.error)
        return caught.exception


class DaemonCase(Case):
    """Tests that share a daemon, which begins before the first and must end well after the last."""

    daemon_class, daemon_options = Daemon, {}

    @classmethod
    def setUpClass(cls):
        cls.daemon = cls.daemon_class(**cls.daemon_options)

    @classmethod
    def tearDownClass(cls):
        with cls.daemon:
            pass

    def both(self):
        """A connection over each transport, one after the other."""
        for name, connect in self.daemon.transports():
            with self.subTest(name), connect() as rpc:
                yield rpc


def reset(sock):
    """Close with a reset instead of an orderly end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    sock.close()


def main():
    if any(name not in os.environ for name in ('KNIT_DAEMON', 'KNIT_WORKER', 'KNIT_MODULE')):
        sys.exit('KNIT_DAEMON, KNIT_WORKER and KNIT_MODULE must name the programs')
    unittest.main(verbosity=2)
