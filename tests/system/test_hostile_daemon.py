# SPDX-License-Identifier: Apache-2.0
"""What the library makes of a daemon that hands over the wrong things, and of a pool that lies.

A man in the middle stands between knit and a real daemon, and changes one thing: a value in the answer to $/attach, the
descriptors that ride on it, or what they hold. knit has to end with a status of its own and one line on stderr, soon,
whatever it gets; with the right things it must work, which shows that the middle itself is sound.
"""

import fcntl
import os
import random
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest

import msgpack

from knit_harness import PATIENCE, main
from knit_witness import LedgerDaemon, seed

SIZE_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
SEALS = SIZE_SEALS | fcntl.F_SEAL_SEAL
BOARD, REQUEST, REPLY, BELL = range(4)
OK, DISCONNECTED = 0, 3


class Middle:
    """Passes everything on, the answer to $/attach through `change(result, fds)`, which returns both anew. `then` is
    called when the library has its session and has asked for something else, before that is answered."""

    def __init__(self, daemon, change, then):
        self.change, self.then = change, then
        self.daemon = daemon
        self.dir = tempfile.mkdtemp(prefix='knit-')
        self.path = os.path.join(self.dir, 's')
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.listener.settimeout(3 * PATIENCE)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.thread.join()
        self.listener.close()
        os.unlink(self.path)
        os.rmdir(self.dir)

    def run(self):
        near, _ = self.listener.accept()
        with near, socket.socket(socket.AF_UNIX) as far:
            far.connect(self.daemon.socket)
            up = threading.Thread(target=self.pass_on, args=(near, far))
            up.start()
            try:
                self.answer(near, far)
            except (ConnectionError, BrokenPipeError):
                pass
            # Closing alone would leave the other thread in its read.
            for side in (near, far):
                try:
                    side.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            up.join()

    @staticmethod
    def pass_on(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def answer(self, near, far):
        attached = False
        while True:
            data, fds, _, _ = socket.recv_fds(far, 1 << 20, 8)
            if not data:
                return
            if attached:
                self.then()
            if fds:
                attached = True
                kind, msgid, error, result = msgpack.unpackb(data, strict_map_key=False)
                changed, given = self.change(dict(result), list(fds))
                data = msgpack.packb([kind, msgid, error, changed])
                socket.send_fds(near, [data[:1]], given)
                data = data[1:]
                for fd in {*fds, *given}:
                    os.close(fd)
            near.sendall(data)


def sealed(size, content=b'', seals=SEALS):
    fd = os.memfd_create('middle', os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    os.pwrite(fd, content, 0)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def size_of(fd):
    return os.fstat(fd).st_size


class HostileDaemon(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = LedgerDaemon()

    @classmethod
    def tearDownClass(cls):
        with cls.daemon:
            pass

    def knit(self, change, value='[1, "two"]', then=lambda: None, ms='10000'):
        """Again while the sessions of the runs before are still being taken apart: a user has only so many."""
        until = time.monotonic() + PATIENCE
        while True:
            done = self.knit_once(change, value, then, ms)
            if 'QUOTA' not in done.stderr or time.monotonic() > until:
                return done

    def knit_once(self, change, value, then, ms):
        with Middle(self.daemon, change, then) as middle:
            done = subprocess.run([os.environ['KNIT_TOOL'], '-u', f'shm://{middle.path}', '-t', ms, 'call', 'same',
                                   value], capture_output=True, text=True, timeout=2 * PATIENCE)
        self.assertGreaterEqual(done.returncode, 0, f'killed by signal {-done.returncode}')
        self.assertEqual(done.stderr.count('\n'), done.returncode != OK, done.stderr)
        return done

    def refused(self, name, change, part=''):
        with self.subTest(name):
            done = self.knit(change)
            self.assertEqual(done.returncode, DISCONNECTED, done.stderr)
            self.assertIn(part, done.stderr)

    def test_what_is_right_passes(self):
        done = self.knit(lambda result, fds: (result, fds))
        self.assertEqual((done.returncode, done.stdout), (OK, '[1,"two"]\n'))

    def test_descriptors(self):
        def with_fd(index, make):
            return lambda result, fds: (result, [make(fd) if i == index else fd for i, fd in enumerate(fds)])
        self.refused('three', lambda result, fds: (result, fds[:3]))
        self.refused('none', lambda result, fds: (result, []))
        self.refused('five', lambda result, fds: (result, fds + [os.dup(fds[0])]))
        self.refused('eight', lambda result, fds: (result, fds * 2))
        for index in (BOARD, REQUEST, REPLY):
            self.refused(f'{index} not sealed', with_fd(index, lambda fd: sealed(size_of(fd), seals=0)), 'sealed')
            self.refused(f'{index} may shrink',
                         with_fd(index, lambda fd: sealed(size_of(fd), seals=fcntl.F_SEAL_GROW)), 'sealed')
            self.refused(f'{index} takes further seals or none',
                         with_fd(index, lambda fd: sealed(size_of(fd), seals=SEALS if index == REQUEST else SIZE_SEALS)),
                         'seal')
            self.refused(f'{index} a page short', with_fd(index, lambda fd: sealed(size_of(fd) - 4096)), 'size')
            self.refused(f'{index} a page long', with_fd(index, lambda fd: sealed(size_of(fd) + 4096)), 'size')
            self.refused(f'{index} empty', with_fd(index, lambda fd: sealed(0)))
            self.refused(f'{index} a pipe', with_fd(index, lambda fd: os.pipe()[0]))
            self.refused(f'{index} a device', with_fd(index, lambda fd: os.open('/dev/zero', os.O_RDWR)))
        self.refused('in another order', lambda result, fds: (result, fds[::-1]))

    def test_shapes(self):
        def with_value(key, value):
            return lambda result, fds: ({**result, key: value}, fds)
        for key in ('layout', 'lanes', 'slots', 'cells', 'request_arena', 'reply_arena', 'payload_max'):
            for value in (None, -1, 'text', 2**64 - 1, 2**63, [], 0 if key != 'payload_max' else 2**60):
                if (key, value) != ('payload_max', None):
                    self.refused(f'{key} = {value}', with_value(key, value))
            self.refused(f'no {key}', lambda result, fds, key=key:
                         ({k: v for k, v in result.items() if k != key}, fds))
        self.refused('another layout', with_value('layout', 2), 'same version')
        self.refused('one lane more', lambda result, fds: ({**result, 'lanes': result['lanes'] + 1}, fds))
        self.refused('one slot more', lambda result, fds: ({**result, 'slots': result['slots'] + 1}, fds))
        self.refused('cells that are no power of two', lambda result, fds: ({**result, 'cells': 1025}, fds))
        self.refused('no map', lambda result, fds: ([1, 2], fds))

    def test_replies_of_random_words(self):
        number = random.Random(seed())

        def change(result, fds):
            board = number.choice((fds[BOARD], sealed(size_of(fds[BOARD]), number.randbytes(size_of(fds[BOARD])))))
            reply = sealed(size_of(fds[REPLY]))
            end = size_of(reply) - result['lanes'] * result['reply_arena']
            # Else the session is closed before it begins, most of the time.
            os.pwrite(reply, number.randbytes(end - 4160), 4160)
            return result, [board, fds[REQUEST], reply, fds[BELL]]
        self.tally(lambda: self.knit(change, value=f'"{"x" * number.choice((1, 100, 3000))}"', ms='100'), 30)

    def test_answers_that_name_memory_far_away(self):
        number = random.Random(seed())
        self.tally(lambda: self.lie(number), 60)

    def lie(self, number):
        lies = {}

        def change(result, fds):
            lies['fd'], lies['result'] = sealed(size_of(fds[REPLY])), result
            return result, [fds[BOARD], fds[REQUEST], os.dup(lies['fd']), fds[BELL]]

        def then():
            """Every slot is answered at once, with a length and a place that nobody has."""
            result = lies['result']
            slots = result['slots']
            # A page, two lines, a claim for each slot, padding, then the reply cells.
            cells = (4096 + 128 + 8 * slots + 127) // 128 * 128
            body = number.choice((b'\0' * 104, b'\xff' * 104, number.randbytes(104)))
            for slot in range(slots):
                word = 1 << 24 | number.choice((0, 1, 255)) << 16 | number.choice((0, 1, 0xffff))
                meta = number.choice((0, 1, 0xffff)) << 48 | number.choice((0, 1, 104, 105, 4096, 0xffffffff))
                block = number.choice((0, 8, result['reply_arena'] - 1, 1 << 40, (1 << 64) - 8))
                os.pwrite(lies['fd'], struct.pack('=QQQ', word, meta, block) + body, cells + 128 * slot)
        try:
            return self.knit(change, then=then, ms='100')
        finally:
            # On a busy machine the time may be over before anything was handed out.
            if 'fd' in lies:
                os.close(lies['fd'])

    def tally(self, run, times):
        ended = {}
        for _ in range(times):
            done = run()
            key = f'{done.returncode}: {done.stderr.strip()[:90]}'
            ended[key] = ended.get(key, 0) + 1
        for key, count in sorted(ended.items()):
            print(f'{count} times {key}')


if __name__ == '__main__':
    main()
