#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What TLS costs, beside what it costs a bare echo: bench/tls.py [--build DIR] [--rounds N] [--ms N] [--quick]

Four servers echo to one client: libevent alone, libevent with OpenSSL, and the daemon with and without TLS. The share is the
daemon's figure with TLS in terms of what it would be if TLS cost the daemon what it costs the bare echo: TLS / (plain * bare TLS /
bare plain). Then handshakes a second, beside those of `openssl s_server`. Everything is measured in turns, a round each.

A second table has the same for the processor time of the servers, workers left out: on a machine that does other things beside, it
says more than the first."""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
AIM, MS_MAX = 0.8, 10000
LOADS = [(50, 1, 64), (50, 16, 64), (1, 1, 65536), (50, 1, 65536)]
SERVERS = ['bare', 'bare-tls', 'daemon', 'daemon-tls']


def free_port():
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


def wait_for_port(port):
    until = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(('127.0.0.1', port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > until:
                sys.exit(f'nothing listens on port {port}')
            time.sleep(0.02)


class Servers:
    """All of them, each on a port of its own."""

    def __init__(self, build, folder):
        self.bench = os.path.join(build, 'bench', 'knit-tls-bench')
        self.ports = {name: free_port() for name in SERVERS + ['openssl']}
        self.processes, self.pids = [], {}
        pair = [os.path.join(folder, 'server.pem'), os.path.join(folder, 'server.key')]
        self.start('bare', [self.bench, 'serve', str(self.ports['bare'])])
        self.start('bare-tls', [self.bench, 'serve', str(self.ports['bare-tls']), *pair])
        self.start('daemon', [os.path.join(build, 'server', 'knittingd'), '--config', '/dev/null',
                    '--socket', os.path.join(folder, 'k.sock'),
                    '--listen', f'127.0.0.1:{self.ports["daemon"]}', '--admin', 'none',
                    '--listen-tls', f'127.0.0.1:{self.ports["daemon-tls"]}',
                    '--tls-certificate', pair[0], '--tls-key', pair[1], '--workers', '2',
                    '--worker-program', os.path.join(build, 'fastpath', 'knitting-worker'),
                    '--module', os.path.join(build, 'clients', 'examples', 'example.so')])
        self.pids['daemon-tls'] = self.pids['daemon']
        self.start('openssl', ['openssl', 's_server', '-accept', f'127.0.0.1:{self.ports["openssl"]}', '-cert', pair[0],
                               '-key', pair[1], '-rev', '-quiet'])
        for port in self.ports.values():
            wait_for_port(port)

    def start(self, name, command):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.processes.append(process)
        self.pids[name] = process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
            process.wait()

    def used_ns(self, name):
        """Of the processor, by all threads of a server."""
        folder, used = f'/proc/{self.pids[name]}/task', 0
        for thread in os.listdir(folder):
            with open(f'{folder}/{thread}/schedstat') as file:
                used += int(file.read().split()[0])
        return used

    def measure(self, name, *words, ms):
        """How many a second, and the server's microseconds for each, about: it has those of the warm-up as well."""
        before, begin = self.used_ns(name), time.monotonic()
        done = subprocess.run([self.bench, *map(str, words), str(ms)], stdout=subprocess.PIPE, text=True)
        if done.returncode == 0 and float(done.stdout) == 0 and ms < MS_MAX:
            # A busy machine, and a short time.
            return self.measure(name, *words, ms=2 * ms)
        if done.returncode != 0 or float(done.stdout) == 0:
            sys.exit(f'failed: {words}')
        rate = float(done.stdout)
        return rate, (self.used_ns(name) - before) / 1e3 / (rate * (time.monotonic() - begin))

    def load(self, name, connections, depth, size, ms):
        return self.measure(name, 'load', 'tls' if name.endswith('tls') else 'plain', 'call' if name.startswith('daemon') else 'echo',
                            self.ports[name], connections, depth, size, ms=ms)


def spread(values):
    """Half the distance of the quartiles, in percent of the median."""
    if len(values) < 3:
        return 0
    low, middle, high = statistics.quantiles(values, n=4)
    return 50 * (high - low) / middle


def table(head, rows, share, form):
    """rows: (what, rounds), where a round has a figure of each server."""
    print(f'| {head} | share | aim | spread_% |  |')
    print('| --- |' + ' ---: |' * (head.count('|') + 3) + ' --- |')
    for what, rounds in rows:
        shares = [share(*figures) for figures in rounds]
        middle = statistics.median(shares)
        print(f'| {what} | ' + ' | '.join(format(statistics.median(values), form) for values in zip(*rounds)) +
              f' | {middle:.2f} | {AIM:.2f} | {spread(shares):.0f} | {"met" if middle >= AIM else "missed"} |')
    print(flush=True)


def tables(what, servers, rows, share):
    """How many a second, and the processor time for one, of which less is better."""
    rates = [(name, [[rate for rate, _ in each] for each in rounds]) for name, rounds in rows]
    times = [(name, [[used for _, used in each] for each in rounds]) for name, rounds in rows]
    table(' | '.join([f'{what}s a second', *servers]), rates, share, ',.0f')
    table(' | '.join([f'processor time of a {what}, us', *servers]), times, lambda *used: 1 / share(*used), '.2f')


def loads(servers, options):
    rows = [(f'{connections} connections, {depth} deep, {size} B',
             [[servers.load(name, connections, depth, size, options.ms) for name in SERVERS] for _ in range(options.rounds)])
            for connections, depth, size in LOADS]
    tables('message', ['bare', 'bare, TLS', 'daemon', 'daemon, TLS'], rows,
           lambda bare, bare_tls, ours, ours_tls: ours_tls / (ours * bare_tls / bare))


def handshakes(servers, options):
    rows = [(f'{kind}, {threads} at once',
             [[servers.measure(name, 'shake', kind, servers.ports[name], threads, ms=options.ms) for name in ('openssl', 'daemon-tls')]
              for _ in range(options.rounds)])
            for kind in ('full', 'resumed') for threads in (1, 2)]
    tables('handshake', ['openssl s_server', 'daemon'], rows, lambda theirs, ours: ours / theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--build', default=os.path.join(ROOT, 'build'))
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--ms', type=int, default=1000)
    parser.add_argument('--quick', action='store_true', help='whether it works; the figures mean nothing')
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.ms = 1, 20
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([os.path.join(ROOT, 'tests', 'support', 'authority.sh'), folder], check=True)
        with Servers(options.build, folder) as servers:
            machine = subprocess.run([servers.bench, 'machine'], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
            print(textwrap.fill(
                f'TLS: messages and handshakes, beside those of a bare echo and of `openssl s_server`. {machine}. {options.rounds} '
                f'rounds of {options.ms} ms each, in turns. Where the machine does other things too, the tables of processor time '
                'say more than those beside them.', 128), end='\n\n')
            loads(servers, options)
            handshakes(servers, options)


if __name__ == '__main__':
    main()
