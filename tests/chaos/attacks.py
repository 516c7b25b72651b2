#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What strangers can do to a daemon, as three tables: how long a quiet caller waits beside each attack, what idle workers
take of a processor where a system call is refused to them, and how much memory one stranger, or many, make the daemon take.

    ninja -C build attacks                          all of it, some minutes
    meson test -C build chaos-attacks               each row for a moment: that it works
    meson test -C build chaos-attacks --verbose --test-args="--only trickle"        the rows whose names contain that

A row is one daemon with default settings but for one worker (two where workers are attacked) and one event loop, unless its
name says otherwise. Times are milliseconds; `cpu` is the daemon's and its workers' share of a core meanwhile. Figures of a
busy machine say little: the first rows, beside no attack, are the measure. Rows of hoarded segments need the privilege to
open what another process has mapped, and are left out without.
"""

import argparse
import contextlib
import functools
import hashlib
import os
import tempfile
import time
from unittest import mock

from knit_attach import grant
from knit_attacks import (SETTINGS, TRICKLES, ask_face, beside, call_much, costly, crash, echo, expire, expire_bound, floods,
                          give_over_bell, give_sockets, hoard, keep_descriptors, knock, may_hoard, newcomer, ping, press, refer,
                          request, segment_bytes, trickle, waits, wake)
from knit_harness import Daemon, RpcError, wait_until
from knit_tls import Authority, TlsDaemon, client_hello
from knit_witness import LedgerDaemon
from test_descriptors import before_passrights
from test_parking import REFUSALS, script
from test_peers import children, cpu_ns, pass_time

REFUSED_WORKER = 'EPERM'
STRANGERS_SAY = request(1, '$/ping', [bytes(60000)])[:50000]


def nothing(_, begun):
    begun()
    while True:
        time.sleep(0.05)


def greet(daemon, begun, length):
    """Begins handshakes that do not go on."""
    knock(daemon, begun, client_hello(daemon.authority)[:length])


def rows():
    """name, how a daemon starts, attack and its arguments, what is asked"""
    one = functools.partial(Daemon, **SETTINGS)
    two = functools.partial(one, workers=2)
    for name, ask in ('ping', ping), ('echo', echo), ('new connection', newcomer):
        yield f'none: {name}', one, (nothing,), ask
    by_unix = functools.partial(echo, transport='unix')
    yield 'none: echo by unix', one, (nothing,), by_unix
    yield '2000 strangers with 50 kB of a message: echo by unix', known, (knock, STRANGERS_SAY), by_unix
    for begin in 100, None:
        yield f'2000 strangers with {begin or "all"} of the bytes of a ClientHello: echo by unix', encrypted, (greet, begin), by_unix
    yield '200 floods of $/ping: ping', one, (press, floods(200)), ping
    for name, blob in costly():
        yield f'{name}, 4 times: ping', one, (press, [blob] * 4), ping
    for rate in 66, 600:
        for size in 1, 40, 1024:
            yield f'{TRICKLES} trickles, {rate} KiB/s: echo of {size} KiB by unix', one, (trickle, rate << 10), \
                functools.partial(echo, size=size << 10, transport='unix')
        yield f'{TRICKLES} trickles, {rate} KiB/s: echo of 1024 KiB from there', one, (trickle, rate << 10), \
            functools.partial(echo, size=1 << 20)
    yield '800 connections of 3000 calls that expire: ping', functools.partial(one, in_flight_max=1), (expire,), ping
    yield '1000 calls that wait for 7 MiB: ping', one, (refer,), ping
    yield '200000 calls that wait, some time out: ping', functools.partial(one, lane_depth_us=0), (expire_bound,), ping
    for name, ask in ('ping', ping), ('new connection', newcomer):
        yield f'descriptors with linger, socket: {name}', one, (give_sockets,), ask
        yield f'descriptors with linger, bell: {name}', one, (give_over_bell,), ask
        yield f'descriptors with linger, no SO_PASSRIGHTS: {name}', functools.partial(old, one), (give_sockets,), ask
    faced = functools.partial(one, admin='127.0.0.1:0')
    for what, requests in ('wrong', ('GET /nowhere', 'POST /stats')), ('right', ('GET /metrics', 'GET /', 'GET /calls')):
        yield f'64 connections with {what} requests to the admin face: echo by unix', faced, (ask_face, *requests), by_unix
    if may_hoard():
        yield 'segments hoarded: ping', functools.partial(LedgerDaemon, **SETTINGS), (hoard,), ping
    yield 'descriptors of sessions kept: echo', one, (keep_descriptors,), echo
    yield 'crashes and good calls in turn: echo', two, (crash,), echo
    for name, ask in ('ping', ping), ('echo', echo):
        yield f'futex_waitv refused, wakes asked for: {name}', functools.partial(refused, two), (wake,), ask
    yield '600 calls of 5 ms by one connection: echo', one, (call_much,), echo


@contextlib.contextmanager
def old(start):
    with before_passrights(), start() as daemon:
        yield daemon


@contextlib.contextmanager
def known():
    """Where callers have to say who they are; those on the unix socket are known."""
    with tempfile.NamedTemporaryFile('w', prefix='knit-') as tokens:
        tokens.write(f'nightly sha256:{hashlib.sha256(b"nightly-0123456789abcdef").hexdigest()}\n')
        tokens.flush()
        with Daemon(tokens=tokens.name, **SETTINGS) as daemon:
            yield daemon


@contextlib.contextmanager
def encrypted():
    with contextlib.closing(Authority()) as authority, TlsDaemon(authority, **SETTINGS) as daemon:
        yield daemon


@contextlib.contextmanager
def refused(start):
    with tempfile.TemporaryDirectory(prefix='knit-') as folder:
        program = script(os.path.join(folder, 'worker'), os.environ['KNIT_WORKER'], REFUSED_WORKER)
        with start(worker=program) as daemon:
            yield daemon


def share(pids, function):
    """What the function returns, and what the processes took meanwhile of a core, in percent."""
    def used():
        with contextlib.suppress(OSError):
            return cpu_ns([pid for pid in pids() if os.path.exists(f'/proc/{pid}')])
        return 0
    before, begun = used(), time.monotonic()
    result = function()
    return result, max(0, used() - before) / 1e7 / (time.monotonic() - begun)


def of(daemon):
    return lambda: [daemon.pid, *children(daemon.pid)]


def quiet_callers(seconds, wanted):
    print('| beside | p50 | p99 | worst | asked | cpu % |\n| --- | ---: | ---: | ---: | ---: | ---: |')
    for name, start, (attack, *arguments), ask in rows():
        if wanted not in name:
            continue
        with start() as daemon, ask(daemon) as function:
            function()
            with beside(attack, daemon, *arguments) as attacker:
                values, cpu = share(of(daemon), lambda: waits(function, seconds))
                assert attacker.is_alive(), f'{name}: the attack has ended'
        at = [values[len(values) * percent // 100] for percent in (50, 99)]
        print(f'| {name} | {at[0]:.2f} | {at[1]:.2f} | {values[-1]:.2f} | {len(values)} | {cpu:.0f} |', flush=True)


def idle_workers(seconds, wanted):
    """Of two workers, the one that takes more; and the daemon."""
    print('\n| idle, futex_waitv refused | worker, % of a core | daemon |\n| --- | ---: | ---: |')
    for refusal in REFUSALS:
        for whom in 'daemon and workers', 'workers':
            name = f'{refusal} to {whom}'
            if wanted not in name:
                continue
            with tempfile.TemporaryDirectory(prefix='knit-') as folder, contextlib.ExitStack() as stack:
                if whom == 'workers':
                    options = {'worker': script(os.path.join(folder, 'worker'), os.environ['KNIT_WORKER'], refusal)}
                else:
                    program = script(os.path.join(folder, 'daemon'), os.environ['KNIT_DAEMON'], refusal)
                    stack.enter_context(mock.patch.dict(os.environ, KNIT_DAEMON=program))
                    options = {}
                daemon = stack.enter_context(Daemon(workers=2, **options))
                with daemon.tcp() as rpc:
                    rpc.call('echo', 1)
                wait_until(lambda: all(lane['is_parked'] for lane in daemon.stats()['lanes']), 'all workers to park')
                pids = [daemon.pid, *(lane['pid'] for lane in daemon.stats()['lanes'])]
                before = [cpu_ns([pid]) for pid in pids]
                pass_time(seconds)
                used = [(cpu_ns([pid]) - at) / 1e7 / seconds for pid, at in zip(pids, before)]
            print(f'| {name} | {max(used[1:]):.4f} | {used[0]:.4f} |', flush=True)


# ---- memory ----

def unfinished(daemon, rpc, _):
    rpc.sock.setblocking(False)
    send_what_goes(daemon, rpc.sock, b'\x94\x00\x01\xa4echo\x91\xc6' + ((8 << 20) - 64).to_bytes(4, 'big') + bytes((8 << 20) - 128))


def unread(daemon, rpc, _):
    rpc.sock.setblocking(False)
    send_what_goes(daemon, rpc.sock, request(1, '$/ping', ['x' * 30000]) * 1000)


def waiting(daemon, rpc, _):
    """As many as fit, which have deadlines. Needs in_flight_max=1."""
    rpc.sock.setblocking(False)
    blob = request(0, 'sleep', [3600000]) + b''.join(request(i, 'echo', [1], {'timeout': 3600000}) for i in range(1, 5000))
    send_what_goes(daemon, rpc.sock, blob)


def attached(_, rpc, kept):
    with contextlib.suppress(RpcError):
        kept += grant(rpc)[1]


def send_what_goes(daemon, sock, data):
    """Until the daemon has taken nothing for a while."""
    at, idle_since = 0, time.monotonic()
    while at < len(data) and time.monotonic() - idle_since < 0.2:
        try:
            at += sock.send(data[at:at + (1 << 18)])
            idle_since = time.monotonic()
        except BlockingIOError:
            time.sleep(0.001)
        except OSError:
            return


def strangers(count, wanted):
    """What RssAnon of the daemon grows by at most, and the size of the segments that callers got."""
    print('\n| memory of the daemon | connections | more, MiB | segments, MiB |\n| --- | ---: | ---: | ---: |')
    attacks = (('messages that are not whole', unfinished, 'tcp', {}), ('replies that are not read', unread, 'tcp', {}),
               ('calls that wait', waiting, 'tcp', {'in_flight_max': 1}),
               ('sessions', attached, 'unix', {}))
    for name, attack, transport, options in attacks:
        for number in 1, count:
            if wanted not in name:
                continue
            with contextlib.ExitStack() as stack:
                daemon = stack.enter_context(Daemon(**SETTINGS, max_connections=count + 200, **options))
                with daemon.tcp() as rpc:
                    rpc.call('echo', 1)
                before, most, kept = daemon.memory_kb(), 0, []
                for _ in range(number):
                    attack(daemon, stack.enter_context(getattr(daemon, transport)()), kept)
                    most = max(most, daemon.memory_kb() - before)
                segments = sum(os.stat(f'/proc/self/fd/{fd}').st_size for fd in kept)
                for fd in kept:
                    os.close(fd)
            print(f'| {name} | {number} | {most / 1024:.1f} | {segments / (1 << 20):.0f} |', flush=True)


def kept_results(seconds, wanted):
    """Pages that there are in the segments of callers that have ended, which another process keeps."""
    name = f'results kept of callers that end, for {seconds} s'
    if wanted not in name or not may_hoard():
        return
    with LedgerDaemon(**SETTINGS) as daemon:
        before = daemon.memory_kb()
        with beside(hoard, daemon) as attacker:
            pass_time(seconds)
            segments, most = segment_bytes(attacker.pid), daemon.memory_kb() - before
    print(f'| {name} | 1 | {most / 1024:.1f} | {segments / (1 << 20):.0f} |', flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='each row for a moment')
    parser.add_argument('--only', default='', metavar='TEXT', help='rows whose names contain it')
    parser.add_argument('--connections', type=int, metavar='COUNT', help='as many as there may be (200)')
    arguments = parser.parse_args()
    quiet_callers(0.2 if arguments.quick else 5, arguments.only)
    idle_workers(0.2 if arguments.quick else 5, arguments.only)
    strangers(arguments.connections or (20 if arguments.quick else 200), arguments.only)
    kept_results(2 if arguments.quick else 20, arguments.only)


if __name__ == '__main__':
    main()
