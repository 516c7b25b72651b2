# SPDX-License-Identifier: Apache-2.0
"""How the library handles a daemon that answers $/attach wrongly, and a pool that writes wrong values.

A proxy between knit and a real daemon changes one thing: a value in the answer to $/attach, the descriptors that come
with it, or what they hold. knit must always end soon, with a status of its own and one line on stderr; with correct
answers it must work, which shows that the proxy itself is correct. The line names what was wrong, so that one check
cannot be mistaken for another.
"""

import collections
import fcntl
import os
import random
import socket
import struct
import subprocess
import tempfile
import threading
import time

import msgpack

from knit_attach import BELL, BOARD, REPLY, REQUEST, grant
from knit_harness import PATIENCE, DaemonCase, main
from knit_witness import LedgerDaemon, seed

SIZE_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
SEALS = SIZE_SEALS | fcntl.F_SEAL_SEAL
OK, DISCONNECTED, BROKE = 0, 3, 6
# The pool broke the protocol.
BROKEN = "none of the protocol's"
INLINE, CELL, SLAB = 104, 128, 1024


class Middle:
    """Passes everything on, the answer to $/attach through `change(result, fds)`, which returns both. `then` is called
    when the library has its session and has sent another request, before that is answered."""

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
            # Closing alone does not end a read that another thread is in.
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


class HostileDaemon(DaemonCase):
    daemon_class = LedgerDaemon

    def knit(self, change, value='[1, "two"]', then=lambda: None):
        """Repeated while the sessions of the runs before are still being freed: their number a user is limited."""
        until = time.monotonic() + PATIENCE
        while True:
            done = self.knit_once(change, value, then)
            if 'QUOTA' not in done.stderr or time.monotonic() > until:
                return done

    def knit_once(self, change, value, then):
        with Middle(self.daemon, change, then) as middle:
            done = subprocess.run([os.environ['KNIT_TOOL'], '-u', f'shm://{middle.path}', '-t', '10000', 'call', 'same',
                                   value], capture_output=True, text=True, timeout=2 * PATIENCE)
        self.assertGreaterEqual(done.returncode, 0, f'killed by signal {-done.returncode}')
        self.assertEqual(done.stderr.count('\n'), done.returncode != OK, done.stderr)
        return done

    def refused(self, name, change, part=''):
        with self.subTest(name):
            done = self.knit(change)
            self.assertEqual(done.returncode, DISCONNECTED, done.stderr)
            self.assertIn(part, done.stderr)

    def test_correct_answers_pass(self):
        done = self.knit(lambda result, fds: (result, fds))
        self.assertEqual((done.returncode, done.stdout), (OK, '[1,"two"]\n'))

    def test_descriptors(self):
        def with_fd(index, make):
            return lambda result, fds: (result, [make(fd) if i == index else fd for i, fd in enumerate(fds)])
        self.refused('three', lambda result, fds: (result, fds[:3]), '3 descriptors instead of 4')
        self.refused('none', lambda result, fds: (result, []), '0 descriptors instead of 4')
        self.refused('five', lambda result, fds: (result, fds + [os.dup(fds[0])]), 'descriptors instead of 4')
        self.refused('eight', lambda result, fds: (result, fds * 2), 'descriptors instead of 4')
        for index, name in ((BOARD, 'board'), (REQUEST, 'request'), (REPLY, 'reply')):
            cannot = f"the daemon's {name} segment cannot be used: "
            self.refused(f'{name} not sealed', with_fd(index, lambda fd: sealed(size_of(fd), seals=0)),
                         cannot + 'it is not sealed')
            for what, seal in (('grow', fcntl.F_SEAL_SHRINK), ('shrink', fcntl.F_SEAL_GROW)):
                seal |= 0 if index == REQUEST else fcntl.F_SEAL_SEAL
                self.refused(f'{name} may {what}', with_fd(index, lambda fd: sealed(size_of(fd), seals=seal)),
                             cannot + 'it is not sealed')
            self.refused(f'{name} takes further seals or none',
                         with_fd(index, lambda fd: sealed(size_of(fd), seals=SEALS if index == REQUEST else SIZE_SEALS)),
                         cannot + ('it takes no further seal' if index == REQUEST else 'it is not sealed'))
            for what, change in (('a page short', -4096), ('a page long', 4096)):
                self.refused(f'{name} {what}', with_fd(index, lambda fd: sealed(size_of(fd) + change)),
                             cannot + 'it has another size than was said')
            self.refused(f'{name} empty', with_fd(index, lambda fd: sealed(0)), cannot + 'it has another size')
            self.refused(f'{name} a pipe', with_fd(index, lambda fd: os.pipe()[0]), cannot)
            self.refused(f'{name} a device', with_fd(index, lambda fd: os.open('/dev/zero', os.O_RDWR)), cannot)
        self.refused('request to be read alone', with_fd(REQUEST, lambda fd: os.open(f'/proc/self/fd/{fd}', os.O_RDONLY)),
                     "the daemon's request segment cannot be used: mapping it failed")
        self.refused('a bell that is a device', with_fd(BELL, lambda fd: os.open('/dev/zero', os.O_RDWR)),
                     "the daemon's bell cannot be used: it is no unix socket")
        self.refused('in another order', lambda result, fds: (result, fds[::-1]), 'segment cannot be used')

    def test_shapes(self):
        def with_value(key, value):
            return lambda result, fds: ({**result, key: value}, fds)
        size, ring = 'another size than was said', 'ring size is not'
        nothing = {'layout': 'has layout 0', 'lanes': 'lanes out of range', 'slots': 'slots out of range', 'cells': ring,
                   'request_arena': size, 'reply_arena': size}
        for key in (*nothing, 'payload_max'):
            lacks = f'lacks a usable {key}'
            for value in (None, -1, 'text', 2**64 - 1, 2**63, 2**40 + 1, []):
                self.refused(f'{key} = {value}', with_value(key, value), lacks)
            self.refused(f'no {key}', lambda result, fds, key=key:
                         ({k: v for k, v in result.items() if k != key}, fds), lacks)
        for key, why in nothing.items():
            self.refused(f'{key} = 0', with_value(key, 0), why)
        self.refused('another layout', with_value('layout', 200), 'same version')
        for key in ('request_arena', 'reply_arena'):
            self.refused(f'part of a page of {key}', lambda result, fds, key=key: ({**result, key: result[key] + 1}, fds),
                         'not in whole pages')
        self.refused('one lane more', lambda result, fds: ({**result, 'lanes': result['lanes'] + 1}, fds), size)
        self.refused('one slot more', lambda result, fds: ({**result, 'slots': result['slots'] + 1}, fds), ring)
        self.refused('cells that are no power of two', lambda result, fds: ({**result, 'cells': 1025}, fds), ring)
        self.refused('more cells than there are', lambda result, fds: ({**result, 'cells': 2048}, fds), size)
        self.refused('no map', lambda result, fds: ([1, 2], fds), 'lacks a usable layout')

    @staticmethod
    def replies(result):
        """Where reply cells begin: a page, two lines, a claim for each slot, padding."""
        return (4096 + 128 + 8 * result['slots'] + CELL - 1) // CELL * CELL

    def lie(self, change, write, value='[1, "two"]'):
        """`write(fd, result)` writes into the reply segment when the session is there and nothing has been called. What
        change() writes is too early for that: a session ignores answers that are there when it begins."""
        given = {}

        def hand_out(result, fds):
            fds = change(result, fds)
            given.update(fd=os.dup(fds[REPLY]), result=result)
            return result, fds
        try:
            return self.knit(hand_out, value, lambda: write(given['fd'], given['result']))
        finally:
            # On a busy machine the time may be over before the session was granted.
            if 'fd' in given:
                os.close(given['fd'])

    @staticmethod
    def with_own_reply(result, fds):
        return [fds[BOARD], fds[REQUEST], sealed(size_of(fds[REPLY])), fds[BELL]]

    def test_answers_that_name_memory_far_away(self):
        """Every slot is answered at once, each time with one impossible number. All other bytes are those of a result,
        so a library that accepted it would print it."""
        with self.daemon.unix() as rpc:
            lanes, arena = attached_shape(rpc)
        lies = [(0, lane, 1, 0) for lane in (lanes, lanes + 1, 0xffff)]
        lies += [(1, lane, 1, 0) for lane in (lanes, 0xffff)]
        lies += [(0, 0, length, 0) for length in (SLAB + 1, 4096, 0xffffffff)]
        lies += [(flags, 0, 1, block) for flags in (1, 0xffff)
                 for block in (arena, arena + 1, arena + 4096, 1 << 40, (1 << 64) - 8, (1 << 64) - 1)]
        lies += [(1, lane, length, block) for lane in (0, lanes - 1)
                 for length, block in ((2, arena - 1), (arena + 1, 0), (0xffffffff, 0), (0xffffffff, arena))]
        truths = [(0, 0, 1, 0), (0, lanes - 1, 1, 1 << 63), (1, 0, 1, 0), (1, lanes - 1, 1, 8), (1, lanes - 1, 1, arena - 1)]
        for flags, lane, length, block in lies + truths:
            def write(fd, result):
                cell = struct.pack('=QQQ', 1 << 24 | flags, lane << 48 | length, block) + bytes(INLINE)
                os.pwrite(fd, cell * result['slots'], self.replies(result))
            with self.subTest(flags=flags, lane=lane, length=length, block=block):
                done = self.lie(self.with_own_reply, write)
                if (flags, lane, length, block) in lies:
                    self.assertEqual(done.returncode, BROKE, done.stderr)
                    self.assertIn(BROKEN, done.stderr)
                else:
                    self.assertEqual((done.returncode, done.stdout), (OK, '0\n'))

    def test_replies_of_random_words(self):
        number = random.Random(seed())

        def change(result, fds):
            board = number.choice((fds[BOARD], sealed(size_of(fds[BOARD]), number.randbytes(size_of(fds[BOARD])))))
            reply = sealed(size_of(fds[REPLY]))
            end = size_of(reply) - result['lanes'] * result['reply_arena']
            # Otherwise the session is mostly closed before it begins.
            os.pwrite(reply, number.randbytes(end - 4160), 4160)
            return [board, fds[REQUEST], reply, fds[BELL]]

        def write(fd, result):
            """Answers each slot, in any state, by a result or error of random words, of which some are valid."""
            at = self.replies(result)
            for slot in range(result['slots']):
                gen = (struct.unpack('=Q', os.pread(fd, 8, at + CELL * slot))[0] >> 24) + 1 & (1 << 40) - 1
                word = gen << 24 | number.choice((0, 0, 1, 255)) << 16 | number.choice((0, 1, 0xffff))
                meta = number.choice((0, 1, number.getrandbits(16))) << 48 | number.choice((0, 1, 3, 104, 105, 1024, 1025, 0xffffffff))
                block = number.choice((0, 8, result['reply_arena'] - 1, number.getrandbits(64)))
                body = number.choice((bytes(INLINE), b'\xff' * INLINE, number.randbytes(INLINE)))
                # The word that makes it an answer comes last.
                os.pwrite(fd, struct.pack('=QQ', meta, block) + body, at + CELL * slot + 8)
                os.pwrite(fd, struct.pack('=Q', word), at + CELL * slot)
        ended = self.tally(lambda: self.lie(change, write, f'"{"x" * number.choice((1, 100, 3000))}"'), 40)
        # The library read them: it did not wait for other answers.
        self.assertEqual(ended[OK] + ended[BROKE], 40)

    def tally(self, run, times):
        """How often knit ended with which status."""
        ended, lines = collections.Counter(), collections.Counter()
        for _ in range(times):
            done = run()
            ended[done.returncode] += 1
            lines[f'{done.returncode}: {done.stderr.strip()[:90]}'] += 1
        for line, count in sorted(lines.items()):
            print(f'{count} times {line}')
        return ended


def attached_shape(rpc):
    result, fds = grant(rpc)
    for fd in fds:
        os.close(fd)
    return result['lanes'], result['reply_arena']


if __name__ == '__main__':
    main()
