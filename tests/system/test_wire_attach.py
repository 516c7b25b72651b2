# SPDX-License-Identifier: Apache-2.0
"""`$/attach` as bytes and descriptors: which callers get a session, what comes with it, and that it ends with its
connection. The use of the memory is tested with the client library."""

import contextlib
import fcntl
import mmap
import multiprocessing
import os
import pwd
import resource
import signal
import socket
import stat
import time
import unittest

import msgpack

from knit_attach import (F_GET_SEALS, F_SEAL_FUTURE_WRITE, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, LAYOUT, REQUEST,
                         attach, seal, grant, send_attached)
from knit_harness import Case, Daemon, DaemonCase, Rpc, RpcError, main, wait_until

OVERLOADED, QUOTA, DENIED, INTERNAL = 200, 201, 301, 500
SIZE = F_SEAL_SHRINK | F_SEAL_GROW
ALL = SIZE | F_SEAL_SEAL | F_SEAL_FUTURE_WRITE


class Attach(DaemonCase):
    def sessions(self):
        with self.daemon.tcp() as rpc:
            return rpc.call('$/stats')['pool']['foreign_sessions']

    def test_four_sealed_descriptors_and_the_shape(self):
        with self.daemon.unix() as rpc:
            result, fds = grant(rpc, slots=64, arena=1 << 20)
            self.assertEqual(len(fds), 4)
            self.assertEqual(result['layout'], LAYOUT)
            self.assertEqual(result['lanes'], 2)
            self.assertEqual(result['slots'], 64)
            self.assertGreaterEqual(result['cells'], 64 + 16)
            board, request, reply, bell = fds
            # A worker gets the request segment read-only; with mode 0600 it could open it for writing through /proc.
            for fd, mode in ((board, 0o600), (request, 0o400), (reply, 0o600)):
                status = os.fstat(fd)
                self.assertTrue(stat.S_ISREG(status.st_mode))
                self.assertEqual(stat.S_IMODE(status.st_mode), mode)
                self.assertEqual(fcntl.fcntl(fd, F_GET_SEALS) & ALL, SIZE if fd == request else SIZE | F_SEAL_SEAL)
            self.assertEqual([fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE for fd in (board, request, reply)],
                             [os.O_RDONLY, os.O_RDWR, os.O_RDONLY])
            self.assertTrue(stat.S_ISSOCK(os.fstat(bell).st_mode))
            for fd in fds:
                os.close(fd)
            self.assertEqual(rpc.call('add', 1, 2), 3)

    def request_segment(self, session):
        """The segment that workers get, opened again."""
        folder, name = f'/proc/{self.daemon.pid}/fd/', f'/memfd:knit-request-{session} (deleted)'
        fd, = [fd for fd in os.listdir(folder) if os.readlink(folder + fd) == name]
        return os.open(folder + fd, os.O_RDONLY)

    def mapped_by(self, session):
        """How many of the daemon and its workers have the request segment mapped, and whether any may write."""
        count, writable = 0, False
        for pid in [self.daemon.pid, *(lane['pid'] for lane in self.daemon.stats()['lanes'])]:
            # A worker that was killed is listed until its death is finalized.
            with contextlib.suppress(OSError), open(f'/proc/{pid}/maps', encoding='utf-8') as file:
                found = [line.split()[1] for line in file if f'memfd:knit-request-{session} ' in line]
                count += len(found) > 0
                writable = writable or any('w' in flags for flags in found)
        return count, writable

    def test_a_session_is_not_mapped_before_its_caller_has_attached(self):
        with self.daemon.unix() as rpc:
            result, fds = grant(rpc)
            memory = mmap.mmap(fds[REQUEST], 0)
            self.assertEqual([rpc.call('add', i, 1) for i in range(100)], list(range(1, 101)))
            self.assertEqual(self.mapped_by(result['id']), (0, False))
            seal(fds)
            self.assertEqual(self.mapped_by(result['id']), (0, False))
            send_attached(rpc)
            wait_until(lambda: self.mapped_by(result['id']) == (3, False), 'daemon and workers to map it for reading')
            memory[4096] = 7
            held = self.request_segment(result['id'])
            self.assertEqual(fcntl.fcntl(held, F_GET_SEALS) & ALL, ALL)
            self.assertEqual(os.pread(held, 1, 4096), b'\7')
            self.assertRaises(PermissionError, os.pwrite, fds[REQUEST], b'x', 0)
            self.assertRaises(PermissionError, mmap.mmap, fds[REQUEST], 0)
            # Sent again, it changes nothing.
            send_attached(rpc)
            for fd in [*fds, held]:
                os.close(fd)
            memory.close()

    def test_a_later_worker_gets_only_the_sessions_that_are_attached(self):
        with self.daemon.unix() as rpc, self.daemon.unix() as quiet:
            result, fds = attach(rpc)
            silent, others = grant(quiet)
            wait_until(lambda: self.mapped_by(result['id'])[0] == 3, 'it to be mapped')
            for lane in self.daemon.stats()['lanes']:
                os.kill(lane['pid'], signal.SIGKILL)
            wait_until(lambda: self.mapped_by(result['id']) == (3, False), 'replacements to map it')
            self.assertEqual(self.mapped_by(silent['id']), (0, False))
            seal(others)
            send_attached(quiet)
            wait_until(lambda: self.mapped_by(silent['id']) == (3, False), 'them to map the other')
            for fd in fds + others:
                os.close(fd)

    def test_an_unsealed_segment_ends_the_session_with_a_reason(self):
        for seal in (None, F_SEAL_FUTURE_WRITE, F_SEAL_SEAL):
            with self.daemon.unix() as rpc, self.subTest(seal):
                result, fds = grant(rpc)
                if seal is not None:
                    fcntl.fcntl(fds[REQUEST], fcntl.F_ADD_SEALS, seal)
                # As a request, so that there is an answer.
                error = self.assert_fails(DENIED, rpc.call, '$/attached')
                self.assertIn('lacks the seals', error.text)
                self.assertTrue(rpc.is_closed_by_peer())
                self.assertRegex(self.daemon.log(), rf'broke the protocol.* session={result["id"]} .*lacks the seals.* peer=uid:{os.getuid()},pid:{os.getpid()}\n')
                self.assertEqual(self.mapped_by(result['id']), (0, False))
                for fd in fds:
                    os.close(fd)
        wait_until(lambda: self.sessions() == 0, 'the sessions to end')

    def test_attach_is_a_request_and_attached_may_be_one(self):
        with self.daemon.unix() as rpc:
            rpc.notify('$/attach', {'version': LAYOUT})
            self.assertEqual(rpc.call('add', 1, 2), 3)
            self.assertEqual(self.sessions(), 0)
            _, fds = grant(rpc)
            seal(fds)
            for _ in range(2):
                clock = rpc.call('$/attached')['clock']
                self.assertLess(abs(time.time_ns() - time.monotonic_ns() - clock), 1e9)
            for fd in fds:
                os.close(fd)
        wait_until(lambda: self.sessions() == 0, 'the session to end')

    def test_attached_without_a_session_is_refused_or_ignored(self):
        with self.daemon.unix() as rpc:
            self.assert_fails(DENIED, rpc.call, '$/attached')
            send_attached(rpc)

    def test_the_session_ends_with_its_connection(self):
        rpc = self.daemon.unix()
        _, fds = attach(rpc)
        self.assertEqual(self.sessions(), 1)
        rpc.close()
        wait_until(lambda: self.sessions() == 0, 'the session to end')
        for fd in fds:
            os.close(fd)

    def test_one_session_a_connection(self):
        with self.daemon.unix() as rpc:
            _, fds = attach(rpc)
            self.assertRaises(RpcError, grant, rpc)
            self.assert_fails(DENIED, rpc.call, '$/attach', {'version': LAYOUT})
            for fd in fds:
                os.close(fd)
        wait_until(lambda: self.sessions() == 0, 'the session to end')

    def test_a_limit_for_each_user(self):
        connections, fds = [], []
        try:
            with self.assertRaises(RpcError) as caught:
                for _ in range(65):
                    connections.append(self.daemon.unix())
                    fds += attach(connections[-1], slots=16, arena=1 << 16)[1]
            self.assertEqual(caught.exception.code, QUOTA)
            self.assertEqual(len(connections), 65)
        finally:
            for rpc in connections:
                rpc.close()
            for fd in fds:
                os.close(fd)
        wait_until(lambda: self.sessions() == 0, 'the sessions to end')

    def test_a_session_is_freed_while_another_callers_task_runs(self):
        """More callers than a user may have at once come and go, one after the other, while every worker is busy."""
        with self.daemon.tcp() as other:
            calls = [other.request('sleep', 60000) for _ in range(2)]
            wait_until(lambda: all(lane['is_running'] for lane in self.daemon.stats()['lanes']), 'both to run')
            for _ in range(20):
                with self.daemon.unix() as rpc:
                    _, fds = attach(rpc)
                    for fd in fds:
                        os.close(fd)
                wait_until(lambda: self.sessions() == 0, 'the session to go')
            self.assertEqual([call for call in calls if call in other.responses], [])

    def test_attach_waits_until_the_output_is_empty(self):
        with self.daemon.unix() as rpc:
            data = b'x' * 3000000
            before = [rpc.request('echo', data)]
            wait_until(lambda: self.daemon.stats()['loops']['calls_answered'] > 0, 'the answer')
            pings = [rpc.request('$/ping', data[:60000]) for _ in range(10)]
            _, fds = grant(rpc)
            self.assertEqual(len(fds), 4)
            for msgid in before:
                self.assertEqual(rpc.result(msgid), data)
            for msgid in pings:
                self.assertEqual(rpc.result(msgid), data[:60000])
            self.assertEqual(rpc.call('add', 1, 2), 3)
            for fd in fds:
                os.close(fd)

    def test_a_caller_that_leaves_before_the_answer_leaves_nothing(self):
        for i in range(20):
            rpc = self.daemon.unix()
            if i % 2:
                for _ in range(50):
                    rpc.request('$/ping', b'x' * 60000)
            rpc.send(msgpack.packb([0, 9, '$/attach', [{'version': LAYOUT}]]))
            rpc.close()
        wait_until(lambda: self.sessions() == 0, 'the sessions to end')
        wait_until(lambda: self.daemon.stats()['pool']['closing_sessions'] == 0, 'the memory to go')

    def test_a_daemon_that_has_no_descriptors_left(self):
        with Daemon(workers=1) as daemon, daemon.unix() as rpc:
            self.assertEqual(rpc.call('add', 1, 2), 3)
            before = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (1, before[1]))
            self.assertIn('open files', self.assert_fails(INTERNAL, grant, rpc).text)
            self.assertEqual(rpc.call('add', 1, 2), 3)
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, before)
            for fd in attach(rpc)[1]:
                os.close(fd)

    def test_too_many_descriptors_in_flight(self):
        """They count for the whole user, against the limit of the sending process: so the limit leaves room for the
        descriptors of tests that run in parallel."""
        with Daemon(workers=1) as daemon, daemon.unix() as rpc:
            here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with here, there:
                resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (800, 800))
                for _ in range(5):
                    socket.send_fds(here, [b'x'], 200 * [here.fileno()])
                error = self.assert_fails(OVERLOADED, grant, rpc)
                self.assertIn('on their way', error.text)
                self.assertEqual(daemon.stats()['pool']['foreign_sessions'], 0)
                self.assertEqual(rpc.call('add', 1, 2), 3)
            for fd in attach(rpc)[1]:
                os.close(fd)
            self.assertEqual(daemon.stats()['pool']['foreign_sessions'], 1)

    def test_the_end_of_the_daemon_ends_the_connection(self):
        with Daemon(workers=1) as daemon, daemon.unix() as rpc:
            rpc.hello()
            _, fds = attach(rpc)
            daemon.send_signal(signal.SIGTERM)
            self.assertTrue(rpc.is_closed_by_peer())
            self.assertEqual(daemon.wait(), 0)
            for fd in fds:
                os.close(fd)


def attach_as_nobody(path, gids, queue):
    """In a child process: the code and the sentence that an attach of another user gets, or 0."""
    os.setgroups(gids)
    os.setgid(pwd.getpwnam('nobody').pw_gid)
    os.setuid(pwd.getpwnam('nobody').pw_uid)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(path)
    with sock:
        try:
            attach(Rpc(sock))
            queue.put((0, ''))
        except RpcError as error:
            queue.put((error.code, error.text))


@unittest.skipUnless(os.geteuid() == 0, 'needs root, to become another user')
class Strangers(Case):
    def code_for_nobody(self, *gids, **options):
        with Daemon(workers=1, socket_mode='0666', **options) as daemon:
            os.chmod(daemon.dir, 0o755)
            queue = multiprocessing.Queue()
            child = multiprocessing.Process(target=attach_as_nobody, args=(daemon.socket, list(gids), queue))
            child.start()
            code, text = queue.get(timeout=30)
            child.join()
            # Who is refused is told which settings decided.
            self.assertEqual('attach_users and server.attach_groups' in text, code == DENIED, text)
            return code

    def test_other_users_may_attach_unless_others_are_listed(self):
        self.assertEqual(self.code_for_nobody(), 0)
        self.assertEqual(self.code_for_nobody(attach_users='daemon'), DENIED)
        self.assertEqual(self.code_for_nobody(attach_users='nobody'), 0)

    def test_members_of_listed_groups_are_let_in(self):
        self.assertEqual(self.code_for_nobody(attach_groups='4242'), DENIED)
        self.assertEqual(self.code_for_nobody(4242, attach_groups='4242'), 0)


if __name__ == '__main__':
    main()
