# SPDX-License-Identifier: Apache-2.0
"""Random values against Python's msgpack. What it packs must come back from the codec byte for byte; a value in a form that it
does not write must come back in a form that it unpacks to the same value; damaged bytes must never be accepted as another value
than it unpacks.

usage: differential.py RECODE_PROGRAM. The seed is printed; KNIT_TEST_SEED repeats a run.
"""

import math
import os
import random
import struct
import subprocess
import sys

try:
    import msgpack
except ImportError:
    print('python3-msgpack is not installed')
    sys.exit(77)

ROUNDS = 3000
TEXTS = ['', 'a', 'häus', '€𝄞', '\0', 'x' * 31, 'x' * 32, 'y' * 255, 'y' * 256, 'z' * 65536]


def number(rng):
    bits = rng.randrange(65)
    value = rng.getrandbits(bits) if bits else 0
    return -value if rng.random() < 0.5 and value <= 2 ** 63 else value


def real(rng):
    return rng.choice([0.0, -0.0, math.inf, -math.inf, 5e-324, 1.7976931348623157e308,
                       struct.unpack('<d', rng.getrandbits(64).to_bytes(8, 'little'))[0]])


def bigint(rng):
    magnitude = rng.getrandbits(rng.choice([0, 1, 8, 64, 65, 200]))
    sign = rng.randrange(2) if magnitude else 0
    return msgpack.ExtType(33, bytes([sign]) + magnitude.to_bytes((magnitude.bit_length() + 7) // 8, 'little')
                           if magnitude else b'\0')


def typed_array(rng):
    code, size = rng.choice([(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 4), (7, 4), (8, 4), (9, 8), (10, 8), (11, 8)])
    pad = rng.choice([0, 0, rng.randrange(8)])
    return msgpack.ExtType(36, bytes([code, pad]) + bytes(pad) + rng.randbytes(size * rng.randrange(4)))


def error(rng):
    fields = {'name': rng.choice(TEXTS[:5]), 'message': rng.choice(TEXTS[:5])}
    if rng.random() < 0.3:
        fields['code'] = number(rng)
    if rng.random() < 0.3:
        fields['stack'] = rng.choice(TEXTS[:5])
    if rng.random() < 0.2:
        fields['data'] = number(rng)
    return msgpack.ExtType(38, msgpack.packb(fields))


def leaf(rng):
    kind = rng.randrange(15)
    if kind == 0:
        return None
    if kind == 1:
        return rng.random() < 0.5
    if kind in (2, 3):
        return number(rng)
    if kind == 4:
        return real(rng)
    if kind == 5:
        return rng.choice(TEXTS[:9] if rng.random() < 0.1 else TEXTS[:5]) if rng.random() < 0.999 else TEXTS[9]
    if kind == 6:
        return rng.randbytes(rng.choice([0, 1, 15, 255, 256, 300] if rng.random() < 0.1 else [0, 1, 2]))
    if kind == 7:
        return msgpack.Timestamp(rng.choice([0, 1, -1, 2 ** 32, 2 ** 34, -2 ** 40, 253402300799]),
                                 rng.choice([0, 1, 999999999]))
    if kind == 8:
        return msgpack.ExtType(32, b'')
    if kind == 9:
        return bigint(rng)
    if kind == 10:
        return typed_array(rng)
    if kind == 11:
        return error(rng)
    if kind == 12:
        return msgpack.ExtType(39, rng.choice(TEXTS[:5]).encode())
    if kind == 13:
        return msgpack.ExtType(41, msgpack.packb(number(rng)) + rng.randbytes(rng.randrange(4)))
    return msgpack.ExtType(37, rng.randbytes(rng.choice([0, 1, 2, 4, 8, 16, 17])))


def hashable(rng):
    while True:
        key = leaf(rng)
        if key == key:
            return key


def value(rng, depth):
    if depth == 0 or rng.random() < 0.4:
        return leaf(rng)
    count = rng.choice([15, 16, 17]) if rng.random() < 0.05 else rng.randrange(5)
    kind = rng.randrange(4)
    if kind == 0:
        return [value(rng, depth - 1) for _ in range(count)]
    if kind == 1:
        return {hashable(rng): value(rng, depth - 1) for _ in range(count)}
    if kind == 2:
        return msgpack.ExtType(34, msgpack.packb([value(rng, depth - 1) for _ in range(count)]))
    return msgpack.ExtType(35, msgpack.packb([value(rng, depth - 1) for _ in range(2 * count)]))


def other_form(rng):
    """A value as no writer of the shortest forms packs it, floats of 32 bits among them; it comes back in another form."""
    kind = rng.randrange(5)
    if kind == 0:
        return b'\xca' + rng.randbytes(4)
    if kind == 1:
        size = rng.randrange(4)
        least = -128 if rng.random() < 0.5 else 0
        code = (0xd0 if least else 0xcc) + size
        return bytes([code]) + rng.randrange(least, 128).to_bytes(1 << size, 'big', signed=True)
    size = rng.randrange(3)
    text = rng.choice(TEXTS[:6]).encode()
    if kind == 2:
        return bytes([0xd9 + size]) + len(text).to_bytes(1 << size, 'big') + text
    if kind == 3:
        ext = typed_array(rng)
        return bytes([0xc7 + size]) + len(ext.data).to_bytes(1 << size, 'big') + bytes([ext.code]) + ext.data
    items = [value(rng, 2) for _ in range(rng.randrange(4))]
    size = rng.randrange(1, 3)
    return bytes([0xdb + size]) + len(items).to_bytes(1 << size, 'big') + b''.join(map(msgpack.packb, items))


def open_ext(code, body):
    """The msgpack inside counts by its meaning as well."""
    if code in (34, 35, 38):
        return code, meaning(body)
    if code == 41:
        unpacker = msgpack.Unpacker(strict_map_key=False)
        unpacker.feed(body)
        unpacker.skip()
        header = unpacker.tell()
        return code, meaning(body[:header]), body[header:]
    return code, body


def meaning(packed):
    """A text that is the same for two forms of one value, and for nothing else."""
    return repr(msgpack.unpackb(packed, strict_map_key=False, use_list=False, ext_hook=open_ext,
                                object_pairs_hook=lambda pairs: ('map', tuple(pairs))))


def main():
    seed = int(os.environ.get('KNIT_TEST_SEED') or random.SystemRandom().getrandbits(63))
    print(f'seed {seed}, repeat with KNIT_TEST_SEED={seed}')
    rng = random.Random(seed)
    packed = [msgpack.packb(value(rng, 4)) for _ in range(ROUNDS)]
    other = [other_form(rng) for _ in range(ROUNDS)]
    damaged = []
    for original in packed:
        copy = bytearray(original)
        copy[rng.randrange(len(copy))] = rng.choice([0x00, 0x81, 0x92, 0xa1, 0xc1, 0xc4, 0xd9, 0xff, rng.randrange(256)])
        damaged.append(bytes(copy))
    lines = ''.join(line.hex() + '\n' for line in packed + damaged + other)
    answers = subprocess.run([sys.argv[1]], input=lines, stdout=subprocess.PIPE, check=True, text=True).stdout.split('\n')
    failures = 0
    for original, answer in zip(packed, answers):
        if answer == 'refused' or bytes.fromhex(answer) != original:
            print(f'sent {original.hex()}\n got {answer}')
            failures += 1
    for original, answer in zip(other, answers[2 * ROUNDS:]):
        if answer == 'refused' or meaning(bytes.fromhex(answer)) != meaning(original):
            print(f'other form sent {original.hex()}\n got {answer}')
            failures += 1
    accepted = 0
    for original, answer in zip(damaged, answers[ROUNDS:]):
        if answer == 'refused':
            continue
        accepted += 1
        if meaning(original) != meaning(bytes.fromhex(answer)):
            print(f'damaged {original.hex()}\n    got {answer}')
            failures += 1
    print(f'{len(packed)} values, {accepted} of {len(damaged)} damaged ones accepted, {failures} failures')
    return 1 if failures or accepted == 0 or len(answers) != 3 * ROUNDS + 1 else 0


if __name__ == '__main__':
    sys.exit(main())
