# SPDX-License-Identifier: Apache-2.0
"""Attacks on a daemon, each in a process of its own, and what a quiet caller asks meanwhile.

    with beside(attack, daemon, *arguments) as attacker:    from when it has begun
        waits(ask(daemon), seconds)

An attack is a function of the daemon, of begun(), which it calls once it is under way, and of arguments; it never returns.
"""

import collections
import contextlib
import mmap
import multiprocessing
import os
import select
import selectors
import signal
import socket
import struct
import subprocess
import time

import msgpack

from knit_attach import attach
from knit_flood import Flood
from knit_harness import PATIENCE, Child, RpcError
from test_descriptors import give_all_the_time, give_away, lingering
from test_parking import HOST
from test_peers import loop_delay_ns, pass_time

MILLIONS = 4000000
INTS = b'\xdd' + struct.pack('>I', 2 * MILLIONS) + bytes(2 * MILLIONS)
PAIRS = b'\xdf' + struct.pack('>I', MILLIONS) + bytes(2 * MILLIONS)
TRICKLES = 60

# Of a daemon.
SETTINGS = {'workers': 1, 'threads_io': 1}


def request(msgid, method, params, *options):
    return msgpack.packb([0, msgid, method, params, *options])


def messages_that_wait():
    """For room, each at the front of its connection: they are tried again whenever the loop has a turn."""
    options = {f'k{i}': [0] * 100 for i in range(32)}
    body = b'\xa4fail\x93\x01\xa1x\xdd' + struct.pack('>I', 2000000) + bytes(2000000) + msgpack.packb(options)
    return request(0, 'sleep', [60000]) + b''.join(bytes((0x95, 0, i)) + body for i in range(1, 100))


def costly():
    """Names and messages."""
    yield 'options of 4 M pairs', b'\x95\x00\x01\xa4echo\x90' + PAIRS
    yield '$/hello with 4 M pairs', b'\x94\x00\x01\xa7$/hello\x91' + PAIRS
    for method in b'$/tasks', b'$/ping':
        yield f'{method.decode()} with 8 M integers', b'\x94\x00\x01' + msgpack.packb(method, use_bin_type=False) + INTS
    yield 'echo of 8 M integers', b'\x94\x00\x01\xa4echo\x91' + INTS
    # They have their data for who said $/hello.
    yield 'error data of 8 M integers', \
        request(0, '$/hello', [{'name': 'attack'}]) + b'\x94\x00\x01\xa4fail\x93\x01\xa1x' + INTS
    yield 'messages that wait for room', messages_that_wait()


def floods(count):
    return [request(1, '$/ping', []) * 20000] * count


@contextlib.contextmanager
def beside(attack, daemon, *arguments):
    context = multiprocessing.get_context('fork')
    has_begun = context.Event()
    attacker = context.Process(target=attack, args=(daemon, has_begun.set, *arguments))
    attacker.start()
    try:
        assert has_begun.wait(18 * PATIENCE), f'{attack.__name__}() does not begin'
        yield attacker
    finally:
        # Those that have children end them.
        attacker.terminate()
        attacker.join(PATIENCE)
        attacker.kill()
        attacker.join()


# ---- what a quiet caller asks: a function that asks once, from a daemon ----

@contextlib.contextmanager
def ping(daemon):
    """The loop alone answers."""
    with daemon.tcp() as rpc:
        yield lambda: rpc.call('$/ping', 1)


@contextlib.contextmanager
def echo(daemon, size=1, transport='tcp'):
    """A worker answers."""
    body = bytes(size)
    with getattr(daemon, transport)() as rpc:
        yield lambda: rpc.call('echo', body)


@contextlib.contextmanager
def newcomer(daemon):
    """The main thread accepts."""
    def ask():
        with daemon.unix() as rpc:
            rpc.call('$/ping', 1)
    yield ask


def waits(ask, seconds, most=100000, pid=None):
    """Milliseconds, sorted. pid: of the daemon; times in which its event loop could run and had no core, which others used,
    are no part of them. No longer waits are hidden by that: the loop does not wait for a core while it works."""
    values, end = [], time.monotonic() + seconds
    while time.monotonic() < end and len(values) < most:
        delayed = loop_delay_ns(pid) if pid else 0
        begun = time.monotonic()
        ask()
        waited = time.monotonic() - begun
        delayed = (loop_delay_ns(pid) if pid else 0) - delayed
        values.append(max(0, waited * 1000 - delayed / 1e6))
    return sorted(values)


# ---- attacks ----

def press(daemon, begun, blobs, enough=1 << 20):
    """Sends its blob on each connection again and again, and reads what comes."""
    sent = 0
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        def connect(blob):
            sock = stack.enter_context(socket.create_connection(('127.0.0.1', daemon.port)))
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, [blob, 0])

        for blob in blobs:
            connect(blob)
        while True:
            for key, events in selector.select():
                try:
                    if events & selectors.EVENT_READ and not key.fileobj.recv(1 << 20):
                        raise ConnectionError
                    if events & selectors.EVENT_WRITE:
                        blob, at = key.data
                        count = key.fileobj.send(memoryview(blob)[at:at + (1 << 18)])
                        key.data[1] = (at + count) % len(blob)
                        sent += count
                except BlockingIOError:
                    pass
                except OSError:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    connect(key.data[0])
            if sent >= enough:
                begun()


def knock(daemon, begun, data, count=2000):
    """So many strangers, who send this alone. Each comes again a second after it was closed, for which the daemon takes more
    of them than it keeps."""
    due, sockets, epoll = collections.deque(time.monotonic() + i / count for i in range(count)), {}, select.epoll()
    came = 0
    while True:
        while due and due[0] <= time.monotonic():
            due.popleft()
            sock = socket.create_connection(('127.0.0.1', daemon.port))
            sock.setblocking(False)
            with contextlib.suppress(OSError):
                sock.send(data)
            sockets[sock.fileno()] = sock
            epoll.register(sock, select.EPOLLIN)
            came += 1
            if came == count:
                begun()
        for fd, _ in epoll.poll(max(0, min(0.1, due[0] - time.monotonic())) if due else 0.1):
            with contextlib.suppress(OSError):
                if sockets[fd].recv(65536):
                    continue
            sockets.pop(fd).close()
            due.append(time.monotonic() + 1)


def ask_face(daemon, begun, *requests):
    """By 64 connections to the admin face. From when it has used its rest."""
    flood = Flood(daemon, *requests)
    with flood:
        while daemon.stats()['admin']['pauses'] == 0:
            time.sleep(0.01)
        begun()
        flood.thread.join()


def refer(daemon, begun, count=1000):
    """Many short calls that wait for one long result, and are too large with it."""
    result = [msgpack.ExtType(40, b'\x01')] * 2
    blob = request(0, 'sleep', [100]) + request(1, 'echo', [bytes(7 << 20)]) + \
        b''.join(request(i, 'echo', result) for i in range(2, count + 2))
    while True:
        with daemon.tcp() as rpc:
            rpc.sock.settimeout(None)
            begun()
            rpc.send(blob)
            for i in range(count + 2):
                rpc.response(i)


def expire_bound(daemon, begun, connections=200, count=1000):
    """Calls that wait for a result, on many connections; on another one such calls time out all the time.
    Needs lane_depth_us=0."""
    ref = msgpack.ExtType(40, b'\x00')
    source = request(0, 'sleep', [3600000])
    with contextlib.ExitStack() as stack:
        rpcs = [stack.enter_context(daemon.tcp()) for _ in range(connections + 1)]
        for rpc in rpcs[:-1]:
            rpc.send(source + b''.join(request(i, 'echo', [ref], {'timeout': 3600000}) for i in range(1, count)))
        rpcs[-1].send(source)
        while True:
            rpcs[-1].send(b''.join(request(i, 'echo', [ref], {'timeout': i / 2}) for i in range(1, count)))
            for i in range(1, count):
                rpcs[-1].response(i)
            begun()


def trickle(daemon, begun, bytes_a_second):
    """Long messages that are never whole, on each of many connections; one that is closed is opened again."""
    begin = b'\x94\x00\x01\xa4echo\x91\xc6' + struct.pack('>I', 8 << 20)
    part, socks, due, rounds = bytes(bytes_a_second // 10), [None] * TRICKLES, time.monotonic(), 0
    while True:
        for i, sock in enumerate(socks):
            try:
                if sock is None:
                    socks[i] = sock = socket.create_connection(('127.0.0.1', daemon.port))
                    sock.setblocking(False)
                    sock.send(begin)
                sock.send(part)
            except BlockingIOError:
                pass
            except OSError:
                socks[i] = sock.close()
        rounds += 1
        if rounds == 5:
            begun()
        due += 0.1
        time.sleep(max(0, due - time.monotonic()))


def expire(daemon, begun, connections=800, seconds=4):
    """Calls that wait behind one that sleeps, as many as are looked at, and whose times end one after the other. Needs
    in_flight_max=1. A connection whose calls have all ended is opened again."""
    with daemon.tcp() as rpc:
        echo_id = next(task['id'] for task in rpc.call('$/tasks')['tasks'] if task['name'] == 'echo')
    blob, i = request(0, 'sleep', [3600000]), 0
    while len(blob) < 60 << 10:
        i += 1
        blob += request(i, echo_id, [0], {'timeout': 1 + i % (1000 * seconds)})

    def connect():
        sock = socket.create_connection(('127.0.0.1', daemon.port))
        sock.sendall(blob)
        sock.setblocking(False)
        return sock, time.monotonic() + seconds

    socks = [connect() for _ in range(connections)]
    begun()
    while True:
        for i, (sock, end) in enumerate(socks):
            with contextlib.suppress(BlockingIOError):
                sock.recv(1 << 18)
            if time.monotonic() > end:
                sock.close()
                socks[i] = connect()
        time.sleep(0.01)


def give_sockets(daemon, begun):
    begun()
    give_all_the_time(daemon.socket)


def give_over_bell(daemon, begun):
    while True:
        with contextlib.ExitStack() as stack, daemon.unix() as rpc:
            fds = attach(rpc)[1]
            bell = stack.enter_context(socket.socket(fileno=fds.pop(3)))
            for fd in fds:
                stack.callback(os.close, fd)
            give_away(bell, b'x', lingering(stack))
        begun()


def keep_descriptors(daemon, begun):
    """Of as many sessions as it gets, whose connections it closes."""
    kept = []
    while True:
        with contextlib.suppress(RpcError), daemon.unix() as rpc:
            kept += attach(rpc)[1]
        begun()


def segments_of(pid):
    """Files by which a process has them mapped, each once; opening them needs a privilege."""
    found = {}
    with contextlib.suppress(OSError):
        for name in os.listdir(f'/proc/{pid}/map_files'):
            path = f'/proc/{pid}/map_files/{name}'
            if 'memfd:' in os.readlink(path):
                found[os.stat(path).st_ino] = path
    return found.values()


def may_hoard():
    """Files that a process has mapped may be opened."""
    folder = '/proc/self/map_files'
    try:
        os.close(os.open(f'{folder}/{os.listdir(folder)[0]}', os.O_RDONLY))
    except OSError:
        return False
    return True


def hoard(daemon, begun):
    """Callers whose segments another process keeps mapped when they have ended."""
    signal.signal(signal.SIGTERM, lambda *_: exit())
    kept = []
    while True:
        with Child([os.environ['KNIT_CALLER'], daemon.url('shm'), 'loop', '1'], stdin=subprocess.PIPE,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as caller:
            pass_time(0.5)
            for path in segments_of(caller.pid):
                fd = os.open(path, os.O_RDONLY)
                kept.append(mmap.mmap(fd, 0, prot=mmap.PROT_READ))
                os.close(fd)
        begun()


def segment_bytes(pid):
    """Of the segments that the process has mapped: the pages that there are."""
    return sum(512 * os.stat(path).st_blocks for path in segments_of(pid))


def crash(daemon, begun):
    """A call that kills its worker, then a good one, and so on."""
    with daemon.tcp() as rpc:
        while True:
            for method in ('crash', []), ('echo', [1]):
                with contextlib.suppress(RpcError):
                    rpc.call(method[0], *method[1])
            begun()


def wake(daemon, begun):
    """Where the daemon wakes workers in place of callers: asks for that without end; attaches again when it is out."""
    while True:
        # It may be out before it is in.
        with contextlib.suppress(RpcError, EOFError, ConnectionError), daemon.unix() as rpc, contextlib.ExitStack() as stack:
            fds = attach(rpc)[1]
            for fd in fds:
                stack.callback(os.close, fd)
            begun()
            for _ in range(100):
                for _ in range(1000):
                    os.eventfd_write(fds[HOST], 1)
                if select_closed(rpc.sock):
                    break


def select_closed(sock):
    sock.setblocking(False)
    try:
        return sock.recv(1) == b''
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        sock.setblocking(True)


def call_much(daemon, begun, count=600, ms=5):
    """So many calls of so long in flight by one connection, always."""
    with daemon.tcp() as rpc:
        ids = [rpc.request('sleep', ms) for _ in range(count)]
        for number in range(1 << 40):
            rpc.response(ids[number % count])
            ids[number % count] = rpc.request('sleep', ms)
            begun()
