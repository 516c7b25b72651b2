#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The load that peer.c describes, for a pool of Python's multiprocessing: -t SECONDS DEPTH:BYTES..., or bCALLS:BYTES for
batches. One call is apply(), many in flight are apply_async(), a batch is map(), which sends its calls in a few messages.

Arguments and results are pickled and not checked. A worker that is killed is replaced, and its call never ends.
"""

import argparse
import json
import multiprocessing
import queue
import struct
import time

NUMBER = struct.Struct('<Q')


def echo(value):
    return value


def value_of(number, count):
    return NUMBER.pack(number) + bytes(count - NUMBER.size)


def check(answer, number, count):
    if len(answer) != count or NUMBER.unpack_from(answer)[0] != number:
        raise SystemExit('multiprocessing: an answer that is not the argument')


def run_single(pool, _, count, end, spans):
    number = 0
    while (began := time.perf_counter_ns()) < end or number == 0:
        check(pool.apply(echo, (value_of(number, count),)), number, count)
        spans.append(time.perf_counter_ns() - began)
        number += 1


def run_in_flight(pool, depth, count, end, spans):
    """Answers come on a thread of the pool's; the calls are started here."""
    answers, number, in_flight = queue.SimpleQueue(), 0, 0
    while True:
        while in_flight < depth and (number == 0 or time.perf_counter_ns() < end):
            call = number, time.perf_counter_ns()
            pool.apply_async(echo, (value_of(number, count),), callback=lambda answer, call=call: answers.put((call, answer)),
                             error_callback=lambda error, call=call: answers.put((call, b'')))
            number += 1
            in_flight += 1
        if in_flight == 0:
            return
        (of, began), answer = answers.get()
        check(answer, of, count)
        spans.append(time.perf_counter_ns() - began)
        in_flight -= 1


def run_batches(pool, depth, count, end, spans):
    number = 0
    while (began := time.perf_counter_ns()) < end or number == 0:
        answers = pool.map(echo, [value_of(number + i, count) for i in range(depth)])
        for i, answer in enumerate(answers):
            check(answer, number + i, count)
        number += depth
        spans.extend([time.perf_counter_ns() - began] * depth)


def measure(pool, text, seconds):
    batch = text.startswith('b')
    depth, count = map(int, text[batch:].split(':'))
    run = run_batches if batch else run_single if depth == 1 else run_in_flight
    run(pool, depth, count, time.perf_counter_ns() + int(seconds * 2e8), [])
    spans, began = [], time.perf_counter_ns()
    run(pool, depth, count, began + int(seconds * 1e9), spans)
    took = (time.perf_counter_ns() - began) / 1e9
    spans.sort()
    print(json.dumps({'depth': depth, 'batch': batch, 'bytes': count, 'rate': len(spans) / took,
                      'p50_ns': spans[len(spans) // 2], 'p99_ns': spans[len(spans) * 99 // 100]}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('-t', dest='seconds', type=float, default=0.2)
    parser.add_argument('cases', nargs='+')
    args = parser.parse_args()
    with multiprocessing.get_context('fork').Pool(1) as pool:
        for text in args.cases:
            measure(pool, text, args.seconds)


if __name__ == '__main__':
    main()
