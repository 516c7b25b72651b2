# SPDX-License-Identifier: Apache-2.0
"""A daemon is replaced by another one while callers call: nobody is refused, no call that was not started fails.

R13 as a program of its own, 100 restarts of each kind, prints what it found:

    KNIT_TEST_LONG=1 meson test -C build system-restart --test-args Rolling --verbose
"""

import contextlib
import os
import signal
import socket
import tempfile
import time

from knit_harness import Case, Daemon, RpcError, main, wait_until
from knit_load import Load

DENIED = 301
RESTARTS = 100 if os.environ.get('KNIT_TEST_LONG') == '1' else 4


def listening(family, address):
    sock = socket.socket(family)
    sock.bind(address)
    sock.listen(100)
    return sock


def after(elder, *arguments, **options):
    """A daemon that takes over from this one."""
    port = elder.urls[0].rsplit(':', 1)[1]
    daemon = Daemon('--take-over', *arguments, listen=f'127.0.0.1:{port}', socket=elder.socket, **options)
    daemon.socket = elder.socket
    return daemon


class Taken(Case):
    def test_the_sockets_live_on(self):
        with Daemon(drain_ms=3600000) as elder:
            with elder.tcp() as plain, elder.unix() as known:
                known.hello()
                self.assertEqual(plain.call('add', 1, 2), 3)
                inode = os.stat(elder.socket).st_ino
                with after(elder) as daemon:
                    self.assertEqual(daemon.urls, elder.urls)
                    # Whose connection it is, is served there until it ends; the other one hears where to go.
                    self.assertEqual(plain.call('add', 1, 2), 3)
                    wait_until(lambda: known.notifications or not known.receive(), 'goaway')
                    plain.close()
                    self.assertEqual(elder.wait(), 0)
                    self.assertFalse(os.path.exists(elder.ready_file))
                    self.assertEqual(os.stat(elder.socket).st_ino, inode)
                    self.assertTrue(os.path.exists(elder.socket + '.lock'))
                    for _, connect in daemon.transports():
                        with connect() as rpc:
                            self.assertEqual(rpc.call('add', 2, 2), 4)
                    # A daemon that asks nobody is the second one, as before.
                    second = Daemon(listen='none', socket=daemon.socket, wait=False)
                    second.expected_status = second.wait()
                    self.assertNotEqual(second.expected_status, 0)
                    self.assertIn('is served by another knittingd', second.log())
                    second.__exit__(None)
                self.assertFalse(os.path.exists(elder.socket))
                self.assertFalse(os.path.exists(elder.socket + '.lock'))

    def test_a_start_that_fails_costs_nothing(self):
        with Daemon() as elder:
            for words in (['--bootstrap', 'x', '--module', '/nowhere.so'], ['--socket-group', 'no such group']):
                failed = after(elder, *words, wait=False)
                failed.expected_status = failed.wait()
                self.assertNotEqual(failed.expected_status, 0)
                failed.__exit__(None)
                self.assertNotIn('draining', elder.log())
                for _, connect in elder.transports():
                    with connect() as rpc:
                        self.assertEqual(rpc.call('add', 1, 2), 3)
            self.assertTrue(os.path.exists(elder.socket + '.lock'))

    def test_one_that_dies_halfway_leaves_the_elder_serving_and_one_at_a_time_may(self):
        with Daemon() as elder:
            worker = elder.write('stuck', '#!/bin/sh\nexec sleep 1000\n')
            os.chmod(worker, 0o755)
            stuck = after(elder, wait=False, worker=worker)
            wait_until(lambda: 'sockets handed over' in elder.log(), 'it to have the sockets')
            second = after(elder, wait=False)
            second.expected_status = second.wait()
            self.assertEqual(second.expected_status, 1)
            self.assertIn('another daemon takes over just now', second.log())
            second.__exit__(None)
            stuck.process.kill()
            stuck.expected_status = stuck.wait()
            stuck.__exit__(None)
            for _, connect in elder.transports():
                with connect() as rpc:
                    self.assertEqual(rpc.call('add', 1, 2), 3)
            with after(elder) as daemon:
                self.assertEqual(elder.wait(), 0)
                with daemon.unix() as rpc:
                    self.assertEqual(rpc.call('add', 1, 2), 3)

    def test_an_elder_that_is_told_to_end_meanwhile_leaves_the_socket(self):
        with Daemon() as elder:
            worker = elder.write('late', f'#!/bin/sh\nuntil [ -e {elder.dir}/go ]; do sleep 0.05; done\n'
                                         f'exec {os.environ["KNIT_WORKER"]} "$@"\n')
            os.chmod(worker, 0o755)
            daemon = after(elder, wait=False, worker=worker)
            wait_until(lambda: 'sockets handed over' in elder.log(), 'it to have the sockets')
            elder.process.terminate()
            wait_until(lambda: 'draining' in elder.log(), 'the elder to drain')
            elder.write('go', '')
            self.assertEqual(elder.wait(), 0)
            daemon.wait_ready()
            with daemon:
                for _, connect in daemon.transports():
                    with connect() as rpc:
                        self.assertEqual(rpc.call('add', 1, 2), 3)
            self.assertFalse(os.path.exists(daemon.socket))
            self.assertFalse(os.path.exists(daemon.socket + '.lock'))

    def test_it_may_add_and_leave_addresses(self):
        with Daemon() as elder:
            daemon = Daemon('--take-over', listen='127.0.0.1:0', socket=elder.socket)
            with daemon:
                self.assertEqual(elder.wait(), 0)
                # Any port is the one that is there.
                self.assertEqual(daemon.urls, elder.urls)
                last = Daemon('--take-over', listen='[::1]:0', socket=elder.socket)
                with last:
                    self.assertEqual(daemon.wait(), 0)
                    self.assertRegex(last.urls[0], r'^knit://\[::1\]:')
                    with self.assertRaises(ConnectionRefusedError):
                        daemon.tcp()

    def test_without_a_daemon_it_is_a_start(self):
        with Daemon('--take-over') as daemon, daemon.unix() as rpc:
            self.assertEqual(rpc.call('add', 1, 2), 3)
            with self.assertRaises(RpcError) as caught, daemon.tcp() as stranger:
                stranger.call('$/takeover')
            self.assertEqual(caught.exception.code, DENIED)

    def test_one_whose_queue_is_full_is_not_waited_for_without_end(self):
        """A daemon that is stopped leaves such a queue to the one that is to replace it."""
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as held:
            path = f'{folder}/socket'
            held.enter_context(listening(socket.AF_UNIX, path)).listen(0)
            with contextlib.suppress(BlockingIOError):
                while True:
                    other = held.enter_context(socket.socket(socket.AF_UNIX))
                    other.setblocking(False)
                    other.connect(path)
            with Daemon('--take-over', listen='none', socket=path, wait=False) as daemon:
                daemon.expected_status = daemon.wait()
                self.assertEqual(daemon.expected_status, 1)
                self.assertIn('cannot take over: the daemon that serves does not answer', daemon.log())

    def test_without_a_socket_nobody_can_be_asked(self):
        daemon = Daemon('--take-over', socket='none', wait=False)
        daemon.expected_status = daemon.wait()
        self.assertEqual(daemon.expected_status, 1)
        self.assertIn('server.socket is none', daemon.log())
        daemon.__exit__(None)


class Passed(Case):
    """By systemd, or whoever does as it does."""

    def sockets(self, daemon_dir):
        return (listening(socket.AF_INET, ('127.0.0.1', 0)), listening(socket.AF_UNIX, f'{daemon_dir}/s.sock'))

    def test_they_stand_in_the_place_of_the_settings(self):
        with Daemon(listen='none') as other:
            tcp, unix = self.sockets(other.dir)
            self.assertTrue(tcp.getblocking())
            with Daemon(passed=(tcp, unix)) as daemon:
                path = unix.getsockname()
                self.assertEqual(daemon.urls, [f'knit://127.0.0.1:{tcp.getsockname()[1]}', f'unix://{path}',
                                               f'shm://{path}'])
                self.assertFalse(os.path.exists(daemon.socket))
                daemon.socket = path
                for _, connect in daemon.transports():
                    with connect() as rpc:
                        self.assertEqual(rpc.call('add', 1, 2), 3)
                workers = [lane['pid'] for lane in daemon.stats()['lanes']]
                inodes = {os.fstat(sock.fileno()).st_ino for sock in (tcp, unix)}
                for pid in workers:
                    held = {os.readlink(f'/proc/{pid}/fd/{fd}') for fd in os.listdir(f'/proc/{pid}/fd')}
                    self.assertFalse(held & {f'socket:[{inode}]' for inode in inodes})
            self.assertTrue(os.path.exists(path))
            tcp.close()
            unix.close()

    def test_one_that_another_process_makes_block_stops_nobody(self):
        """The flag is of the open file, which is the test's too. A worker is replaced by the thread that accepts."""
        with Daemon(listen='none') as other:
            tcp, unix = self.sockets(other.dir)
            with Daemon(passed=(tcp, unix), workers=1) as daemon, daemon.tcp() as rpc:
                daemon.socket = unix.getsockname()
                for sock, (name, connect) in zip((tcp, unix), daemon.transports()):
                    with self.subTest(name):
                        [lane] = rpc.call('$/stats')['lanes']
                        os.set_blocking(sock.fileno(), True)
                        with connect() as second:
                            self.assertEqual(second.call('add', 1, 2), 3)
                            os.kill(lane['pid'], signal.SIGKILL)
                            self.assertEqual(rpc.call('add', 1, 2), 3)
                        wait_until(lambda fd=sock.fileno(): not os.get_blocking(fd), 'the flag to be set again')
            tcp.close()
            unix.close()

    def test_what_the_settings_name_in_their_place_is_not_tried(self):
        """A folder that is not there, nothing at all; as an address that only the service manager may open (system-units)."""
        with Daemon(listen='none') as other:
            tcp, unix = self.sockets(other.dir)
            for options in {'socket': '/no/such/folder/k.sock'}, {'listen': 'none', 'socket': 'none'}:
                with self.subTest(options), Daemon(passed=(tcp, unix), **options) as daemon, daemon.tcp() as rpc:
                    self.assertEqual(rpc.call('add', 1, 2), 3)
            tcp.close()
            unix.close()

    def test_what_is_no_listening_socket_is_refused(self):
        plain = socket.socket()
        daemon = Daemon(passed=[plain], wait=False)
        daemon.expected_status = daemon.wait()
        self.assertEqual(daemon.expected_status, 1)
        self.assertIn('which was handed over, is no listening socket', daemon.log())
        daemon.__exit__(None)
        plain.close()

    def test_more_than_there_are_places_for_are_refused(self):
        many = [listening(socket.AF_INET, ('127.0.0.1', 0)) for _ in range(33)]
        with Daemon(passed=many[:32]) as daemon, daemon.tcp() as rpc:
            self.assertEqual(len(daemon.urls), 32)
            self.assertEqual(rpc.call('add', 1, 2), 3)
        daemon = Daemon(passed=many, wait=False)
        daemon.expected_status = daemon.wait()
        self.assertEqual(daemon.expected_status, 1)
        self.assertIn('of TCP sockets there may be 32', daemon.log())
        daemon.__exit__(None)
        for sock in many:
            sock.close()

    def test_those_of_another_process_are_not_taken(self):
        with Daemon(environment={'LISTEN_PID': '1', 'LISTEN_FDS': '1'}) as daemon, daemon.tcp() as rpc:
            self.assertEqual(rpc.call('add', 1, 2), 3)


class Rolling(Case):
    def roll(self, first, follow):
        """Replaces daemon after daemon; follow(elder) starts the next one, and ends the elder."""
        daemon, times = first, []
        try:
            with Load(first.port, first.socket) as load:
                for _ in range(RESTARTS):
                    before = load.counts['ok']
                    wait_until(lambda: load.counts['ok'] > before + 50, 'calls')
                    began = time.monotonic()
                    elder, daemon = daemon, follow(daemon)
                    self.assertEqual(elder.wait(), 0)
                    times.append(time.monotonic() - began)
                    elder.__exit__(None)
                before = load.counts['ok']
                wait_until(lambda: load.counts['ok'] > before + 50, 'calls')
        finally:
            daemon.__exit__(None)
        print(f'{RESTARTS} restarts, each within {max(times):.1f} s: {dict(load.counts)}')
        self.assertEqual(load.failures, [])
        self.assertGreater(load.counts['ok'], 50 * RESTARTS)
        self.assertEqual(set(load.counts) - {'ok', 'sent again'}, set())

    def test_by_taking_over(self):
        with Daemon(listen='none') as place:
            first = Daemon(socket=f'{place.dir}/s.sock')
            first.socket = f'{place.dir}/s.sock'
            self.roll(first, after)

    def test_by_two_instances_on_one_socket(self):
        with Daemon(listen='none') as other:
            tcp, unix = (listening(socket.AF_INET, ('127.0.0.1', 0)), listening(socket.AF_UNIX, f'{other.dir}/s.sock'))

            def start():
                daemon = Daemon(passed=(tcp, unix))
                daemon.socket = unix.getsockname()
                return daemon

            def follow(elder):
                daemon = start()
                elder.send_signal(signal.SIGTERM)
                return daemon
            self.roll(start(), follow)
            tcp.close()
            unix.close()


if __name__ == '__main__':
    main()
