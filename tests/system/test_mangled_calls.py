# SPDX-License-Identifier: Apache-2.0
"""Calls of every task, mangled, over both streams: bits flipped, bytes cut out, doubled and put in, lengths inflated,
messages glued together and torn apart, connections reset in the middle.

The oracle: every answer to honest callers beside them must be correct, and afterwards the daemon and its workers are
the same processes, with as many descriptors as before.
"""

import os
import random
import socket

import msgpack

from knit_harness import Case, main, reset, wait_until
from knit_witness import LONG, Caller, LedgerDaemon, descriptors, seed

ROUNDS = 30000 if LONG else 1500

VALUES = (None, True, 0, -1, 2**63 - 1, -2**63, 2**64 - 1, 1.5, float('nan'), float('inf'), '', 'wool', 'x' * 300, b'',
          b'\x00' * 200, [], [1, [2, [3]]], {}, {'a': {'b': [1]}}, {1: 2}, msgpack.ExtType(32, b''),
          msgpack.ExtType(33, b'\x00\x01'), msgpack.ExtType(34, b'\x91\x01'), msgpack.ExtType(36, b'\x09\x00' + b'\1' * 8),
          msgpack.ExtType(40, b'\x01'), msgpack.ExtType(42, b''), msgpack.ExtType(5, b'abc'), msgpack.Timestamp(1, 2))
METHODS = ('same', 'ledger', 'echo', 'add', 'sha256', 'word_count', 'fail', 0, 1, 2, 99, 'nobody', '', '$/ping',
           '$/hello', '$/tasks', '$/stats', '$/cancel', '$/attach', '$/attached')
OPTIONS = (None, {}, {'timeout': 50}, {'timeout': -1}, {'queue': 1, 'timeout': 20.5}, {'affinity': 'x'}, {'output': True}, {'epoch': 0},
           {'timeout': 'soon'}, {'priority': 9, 'unknown': [1]})


class Mangler:
    def __init__(self, number):
        self.number = number

    def message(self, msgid):
        params = [self.value() for _ in range(self.number.randrange(4))]
        method = self.number.choice(METHODS)
        message = [2, method, params] if self.number.random() < 0.1 else [0, msgid, method, params]
        options = self.number.choice(OPTIONS)
        if options is not None and message[0] == 0:
            message.append(options)
        return msgpack.packb(message)

    def value(self):
        value = self.number.choice(VALUES)
        return [value, value] if self.number.random() < 0.1 else value

    def mangle(self, data):
        data = bytearray(data)
        for _ in range(self.number.choice((0, 0, 0, 0, 0, 1, 1, 3))):
            at = self.number.randrange(len(data)) if data else 0
            kind = self.number.randrange(6)
            if kind == 0 and data:
                data[at] ^= 1 << self.number.randrange(8)
            elif kind == 1 and data:
                data[at] = self.number.choice((0, 0x7f, 0x80, 0x90, 0xc1, 0xc6, 0xc9, 0xd9, 0xdb, 0xdd, 0xdf, 0xff))
            elif kind == 2:
                del data[at:at + self.number.randrange(1, 5)]
            elif kind == 3:
                data[at:at] = self.number.randbytes(self.number.randrange(1, 9))
            elif kind == 4:
                data[at:at] = data[at:at + 20]
            else:
                data[at:at + 4] = self.number.choice((b'\xff\xff\xff\xff', b'\x00\x00\x00\x00', b'\x7f\xff\xff\xff'))
        return bytes(data)


class MangledCalls(Case):
    def test_they_do_not_affect_other_callers(self):
        number = random.Random(seed())
        mangler = Mangler(number)
        with LedgerDaemon('--module', os.environ['KNIT_MODULE']) as daemon, \
                Caller(daemon.url('shm'), 'loop', 1) as local, Caller(daemon.url('tcp'), 'loop', 2) as remote:
            local.wait_ready()
            remote.wait_ready()
            # A call that happens to be hold() must not keep a worker.
            for gate in range(daemon.ledger.GATES):
                daemon.ledger.open_gate(gate)
            workers, before = daemon.workers(), descriptors(daemon.pid)
            orderly = sum(self.one_connection(number, mangler, number.choice((daemon.tcp, daemon.unix)))
                          for _ in range(ROUNDS))
            print(f'{ROUNDS} connections, {orderly} ended in order, {daemon.stats()["loops"]["messages_bad"]} by the daemon')
            self.assertEqual(daemon.workers(), workers)
            self.assertGreater(local.count(), 0)
            self.assertGreater(remote.count(), 0)
            wait_until(lambda: descriptors(daemon.pid) <= before, f'at most {before} descriptors')
            self.assertEqual(daemon.stats()['pool']['deaths'], 0)

    def one_connection(self, number, mangler, connect):
        """Whether it ended without a reset."""
        with connect() as rpc:
            try:
                for msgid in range(number.randrange(1, 6)):
                    data = mangler.mangle(mangler.message(msgid))
                    for part in self.torn(number, data):
                        rpc.send(part)
                if number.random() < 0.1:
                    reset(rpc.sock)
                    return False
                rpc.sock.shutdown(socket.SHUT_WR)
                while rpc.sock.recv(65536):
                    pass
                return True
            except socket.timeout:
                raise
            except OSError:
                return False

    @staticmethod
    def torn(number, data):
        while data:
            end = len(data) if number.random() < 0.7 else number.randrange(1, len(data) + 1)
            yield data[:end]
            data = data[end:]


if __name__ == '__main__':
    main()
