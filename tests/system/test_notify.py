# SPDX-License-Identifier: Apache-2.0
"""What a service manager is told (sd_notify(3)): when calls are served, how it goes, and that the supervisor and each event
loop live. A loop that is stuck is a thread that the kernel stops alone, by ptrace(2)."""

import contextlib
import ctypes
import os
import re
import signal
import socket
import tempfile
import time

from knit_harness import PATIENCE, SLOWDOWN, Case, Daemon, main, wait_until

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000


class Manager:
    """Where the daemon's messages come to."""

    def __init__(self, watchdog_ms=None, watchdog_pid=None):
        self.folder = tempfile.TemporaryDirectory()
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(os.path.join(self.folder.name, 'notify'))
        self.sock.settimeout(PATIENCE)
        self.environment = {'NOTIFY_SOCKET': self.sock.getsockname()}
        if watchdog_ms is not None:
            self.environment['WATCHDOG_USEC'] = str(int(watchdog_ms * SLOWDOWN * 1000))
        if watchdog_pid is not None:
            self.environment['WATCHDOG_PID'] = str(watchdog_pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()
        self.folder.cleanup()

    def receive(self):
        """One message, by names."""
        return dict(line.split('=', 1) for line in self.sock.recv(4096).decode().split('\n'))

    def waiting(self):
        """Those that have come."""
        found = []
        self.sock.setblocking(False)
        try:
            while True:
                found.append(self.receive())
        except BlockingIOError:
            return found
        finally:
            self.sock.settimeout(PATIENCE)

    def until(self, name):
        """The first with this name. Those of the watchdog may come before it, and that it is ready."""
        while True:
            message = self.receive()
            if name in message:
                return message
            if not {'WATCHDOG', 'READY'} & set(message):
                raise AssertionError(f'{message} came before {name}')


def threads(daemon):
    """The ids of its threads by their names."""
    found = {}
    for task in os.listdir(f'/proc/{daemon.pid}/task'):
        with open(f'/proc/{daemon.pid}/task/{task}/comm') as file:
            found[file.read().strip()] = int(task)
    return found


def sleeps(daemon, task):
    with open(f'/proc/{daemon.pid}/task/{task}/status') as file:
        return int(re.search(r'(?m)^voluntary_ctxt_switches:\s+(\d+)', file.read())[1])


@contextlib.contextmanager
def running_call(daemon):
    """A call that runs as long as the block."""
    with daemon.tcp() as rpc:
        msgid = rpc.request('sleep', 3600000)
        wait_until(lambda: daemon.stats()['loops']['calls_in_flight'] == 1, 'the call')
        yield
        rpc.notify('$/cancel', msgid)
        rpc.response(msgid)


@contextlib.contextmanager
def stopped(task):
    """This thread runs no further, and the others of its process do."""
    libc = ctypes.CDLL(None, use_errno=True)

    def ptrace(request):
        if libc.ptrace(request, task, None, None) != 0:
            raise OSError(ctypes.get_errno(), f'ptrace {request:#x}')
    ptrace(PTRACE_SEIZE)
    try:
        ptrace(PTRACE_INTERRUPT)
        os.waitpid(task, WALL)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it was ended, and the caller has waited for it
            ptrace(PTRACE_DETACH)


class States(Case):
    def test_it_says_how_it_goes(self):
        with Manager() as manager, Daemon(drain_ms=40000, environment=manager.environment) as daemon, daemon.tcp() as rpc:
            self.assertEqual(manager.receive(), {'READY': '1', 'STATUS': 'serving with 2 of 2 workers, 0 connections'})
            rpc.call('add', 1, 2)
            before = time.time()
            daemon.send_signal(signal.SIGTERM)
            message = manager.receive()
            self.assertEqual(message['STOPPING'], '1')
            # The daemon ends by itself when the time for its calls is over, and some seconds.
            self.assertEqual(message['EXTEND_TIMEOUT_USEC'], '50000000')
            until = re.fullmatch(r'draining until (\S+)Z at the latest: 0 calls of connections in flight, 1 connections',
                                 message['STATUS'])[1]
            self.assertGreaterEqual(time.mktime(time.strptime(until + ' UTC', '%Y-%m-%dT%H:%M:%S %Z')) - time.timezone,
                                    int(before) + 40)
            rpc.close()
            self.assertEqual(daemon.wait(), 0)
            self.assertEqual(manager.waiting(), [])

    def test_it_says_that_it_reloads(self):
        with Manager() as manager, tempfile.TemporaryDirectory() as folder:
            policy = os.path.join(folder, 'policy')
            good = '[group all]\nmembers = unix-group:root user:root anonymous\nallow = *\n'

            def write(text):
                with open(policy, 'w', encoding='utf-8') as file:
                    file.write(text)
            write(good)
            with Daemon(policy=policy, drain_ms=600000, environment=manager.environment) as daemon:
                serving = manager.receive()['STATUS']
                for text, status in (good, None), ('[group é]\nalow = x\n', 'refused'), (good, serving):
                    write(text)
                    before = time.monotonic()
                    daemon.send_signal(signal.SIGHUP)
                    message = manager.receive()
                    self.assertEqual(message['RELOADING'], '1')
                    self.assertLessEqual(before, int(message['MONOTONIC_USEC']) / 1e6 + 1e-6)
                    self.assertLessEqual(int(message['MONOTONIC_USEC']) / 1e6, time.monotonic())
                    message = manager.receive()
                    self.assertEqual(message['READY'], '1')
                    if status == 'refused':
                        self.assertRegex(message['STATUS'], f'^{serving}; the last reload was refused: .*policy:[12]: ')
                    else:
                        self.assertEqual(message.get('STATUS'), status)
                # While it drains nothing says that it is ready.
                with running_call(daemon):
                    daemon.send_signal(signal.SIGTERM)
                    self.assertEqual(manager.receive()['STOPPING'], '1')
                    daemon.send_signal(signal.SIGHUP)
                    wait_until(lambda: 'msg=reloaded' in daemon.log().partition('msg=draining')[2], 'it to reload')
                self.assertEqual(daemon.wait(), 0)
                self.assertEqual(manager.waiting(), [])

    def test_a_sentence_is_one_line_of_utf8_and_not_too_long(self):
        with Manager() as manager, tempfile.TemporaryDirectory() as folder:
            policy = os.path.join(folder, 'policy')
            with open(policy, 'w', encoding='utf-8') as file:
                file.write('[principal anonymous]\nallow = *\n')
            with Daemon(policy=policy, environment=manager.environment) as daemon:
                manager.receive()
                for name in 'é' * 200, 'a' + 'é' * 200, 'aa' + 'é' * 200:
                    with open(policy, 'w', encoding='utf-8') as file:
                        file.write(f'[principal anonymous]\n{name} = x\n')
                    daemon.send_signal(signal.SIGHUP)
                    self.assertEqual(manager.receive()['RELOADING'], '1')
                    self.assertLess(len(manager.receive()['STATUS'].encode()), 600)

    def test_workers_do_not_speak_for_it(self):
        with Manager(watchdog_ms=60000) as manager, Daemon(environment=manager.environment) as daemon:
            manager.receive()
            for lane in daemon.stats()['lanes']:
                with open(f'/proc/{lane["pid"]}/environ', 'rb') as file:
                    self.assertNotRegex(file.read(), b'NOTIFY_SOCKET|WATCHDOG')


class Watchdog(Case):
    def test_it_comes_while_everything_turns_and_says_how_it_goes(self):
        with Manager(watchdog_ms=200) as manager, Daemon(threads_io=2, environment=manager.environment) as daemon, \
                daemon.tcp() as rpc:
            self.assertEqual(manager.receive()['READY'], '1')
            rates = []
            for i in range(5):
                for _ in range(20):
                    rpc.call('add', i, 2)
                message = manager.receive()
                self.assertEqual(message['WATCHDOG'], '1')
                rates.append(message.get('STATUS', ''))
            self.assertRegex(' '.join(rates), r'serving with 2 of 2 workers, 1 connections, [1-9]\d* calls/s')

    def test_one_loop_that_is_stuck_ends_it(self):
        with Manager(watchdog_ms=160) as manager, Daemon(threads_io=3, environment=manager.environment) as daemon:
            for number in range(3):
                manager.until('WATCHDOG')
                line = f'level=warning msg="an event loop does not turn" loop={number} '
                before = daemon.log().count(line)
                with stopped(threads(daemon)[f'knit-loop-{number}']):
                    wait_until(lambda: daemon.log().count(line) > before, 'it to be missed')
                    manager.waiting()
                    # The supervisor looks on, and does what it is asked to.
                    looks = sleeps(daemon, daemon.pid)
                    wait_until(lambda: sleeps(daemon, daemon.pid) > looks + 20, 'it to look again')
                    daemon.send_signal(signal.SIGHUP)
                    self.assertEqual(manager.receive()['RELOADING'], '1')
                    self.assertEqual(manager.receive()['READY'], '1')
                    self.assertEqual(manager.waiting(), [])
                    self.assertEqual(daemon.log().count(line), before + 1)
                manager.until('WATCHDOG')

    def test_a_supervisor_that_is_stuck_ends_it(self):
        with Manager(watchdog_ms=100) as manager, Daemon(environment=manager.environment) as daemon, daemon.tcp() as rpc:
            manager.until('WATCHDOG')
            with stopped(daemon.pid):
                manager.waiting()
                end = time.monotonic() + 0.3 * SLOWDOWN
                while time.monotonic() < end:
                    self.assertEqual(rpc.call('add', 1, 2), 3)
                self.assertEqual(manager.waiting(), [])
            manager.until('WATCHDOG')

    def test_it_comes_while_the_daemon_drains(self):
        with Manager(watchdog_ms=100) as manager, Daemon(drain_ms=600000, environment=manager.environment) as daemon:
            with running_call(daemon):
                daemon.send_signal(signal.SIGTERM)
                manager.until('STOPPING')
                for _ in range(3):
                    self.assertEqual(manager.receive()['WATCHDOG'], '1')
            daemon.wait()

    def test_a_daemon_with_nothing_to_do_wakes_for_it_alone(self):
        with Manager(watchdog_ms=1000) as manager, Daemon(threads_io=2, environment=manager.environment) as daemon:
            loops = [task for name, task in threads(daemon).items() if name.startswith('knit-loop-')]
            self.assertEqual(len(loops), 2)
            manager.until('WATCHDOG')
            manager.until('WATCHDOG')
            before = [sleeps(daemon, task) for task in (daemon.pid, *loops)]
            messages = 5
            for _ in range(messages):
                manager.until('WATCHDOG')
            for task, count in zip((daemon.pid, *loops), before):
                self.assertLessEqual(sleeps(daemon, task) - count, 3 * messages)

    def test_who_is_not_asked_says_nothing(self):
        for options in {}, {'watchdog_ms': 1, 'watchdog_pid': 1}:
            with self.subTest(options), Manager(**options) as manager, Daemon(environment=manager.environment) as daemon, \
                    daemon.tcp() as rpc:
                self.assertEqual(manager.receive()['READY'], '1')
                for i in range(100):
                    rpc.call('add', i, 1)
                self.assertEqual(manager.waiting(), [])


if __name__ == '__main__':
    main()
