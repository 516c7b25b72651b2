#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A model of lanes, wake-ups, parking and stealing for more workers than this machine has cores: discrete events, one core for
each worker and each caller. SIMULATION.md says what came out.

What costs time is in COSTS, most of it as instructions of counts.txt. --check BUILD takes nanoseconds an instruction, a cache line
and a wake-up from this machine, then runs real calls with one worker and with two and the same in the model, and prints the
ratios. The seed is printed; the same seed gives the same figures.

The model has a worker's turns (home ring, spin, scan of others once in 5 us, park), a caller's batches (choose a lane, publish,
flush, collect), wake-ups by callers at the flush and by workers that begin a long call with others behind it. It has no cores
that are shared, no sessions' shares of time, no result that does not fit its cell.
"""

import argparse
import heapq
import os
import random
import statistics
import sys
from collections import deque

import counts
import measure

# Nanoseconds: of this project's machine when nothing else runs. Where counts.txt has the part, the instructions count.
COSTS = {
    'instruction': 0.17,
    'line': 250,      # a cache line to another core and back
    'wake_call': 1500,  # the system call of who wakes
    'wake': 5000,     # from there until who was woken looks; 50,000 on a virtual machine whose cores sleep
    'look_ring': 98,    # instructions: a look at a ring of another lane
    'look_session': 60,  # instructions: at a session's word of lanes with calls
    'look_lane': 6,     # instructions: at a lane's line of the board
    'spin': 50000,    # setting spin_us
    'steal_after': 5000, 'short': 2000, 'steal_rings': 64,  # KNIT_STEAL_AFTER_NS, KNIT_SHORT_NS, KNIT_STEAL_RINGS
    'lane_for': 20000,  # work for which another lane is worth its line, in policy wanted
}


def costs_of(path, **measured):
    _, part = counts.read(path)
    costs = dict(COSTS, **measured)
    for name, parts in (('publish', ('publish_empty',)), ('run', ('run_empty',)), ('collect', ('collect_empty',)),
                        ('caller', ('library_empty',))):
        costs[name] = sum(part[p][0] for p in parts) * costs['instruction']
    # The library's part from start to finish contains the session's: what is left is around the two.
    costs['around'] = max(0, costs['caller'] - costs['publish'] - costs['collect']) / 2
    for name in ('look_ring', 'look_session', 'look_lane'):
        costs[name] *= costs['instruction']
    return costs


# ---- Events ----------------------------------------------------------------------------------------------------------

class World:
    """Processes are generators: they yield a number of nanoseconds to spend, or (place, nanoseconds) to wait at a place until
    somebody rings there, at most so long. What they are sent is whether somebody rang."""

    def __init__(self, seed):
        self.now, self.random, self._events, self._count = 0.0, random.Random(seed), [], 0

    def at(self, when, process, value=None, token=None):
        self._count += 1
        heapq.heappush(self._events, (when, self._count, process, value, token))

    def ring(self, place, after):
        """True: somebody waits there."""
        if place.waits is None:
            return False
        process, place.waits = place.waits, None
        self.at(self.now + after, process, True)
        return True

    def run(self, until):
        while self._events and self._events[0][0] <= until:
            self.now, _, process, value, token = heapq.heappop(self._events)
            if token is not None:
                place, of = token
                if place.turn != of or place.waits is None:
                    continue  # somebody rang before
                place.waits = None
            try:
                wish = process.send(value)
            except StopIteration:
                continue
            if isinstance(wish, tuple):
                place, most = wish
                place.waits, place.turn = process, place.turn + 1
                if most is not None:
                    self.at(self.now + most, process, False, (place, place.turn))
            else:
                self.at(self.now + wish, process)


class Place:
    waits, turn = None, 0


class Call:
    __slots__ = ('caller', 'task_ns', 'sent', 'seen')

    def __init__(self, caller, task_ns, sent):
        self.caller, self.task_ns, self.sent, self.seen = caller, task_ns, sent, {}


# ---- Workers ---------------------------------------------------------------------------------------------------------

class Pool:
    def __init__(self, world, costs, workers, sessions, park):
        self.world, self.costs, self.park, self.sessions = world, costs, park, sessions
        self.lanes = [Lane(self, index) for index in range(workers)]
        self.looker, self.ready = None, 0
        self.wakes = self.looks_ns = self.slept_ns = self.counts_from = 0
        for lane in self.lanes:
            world.at(0, lane.work())

    def wake(self, lane):
        """By who then spends wake_call. A lane that looks before it sleeps wakes at once when it has looked."""
        self.wakes += 1
        lane.rung = True
        self.world.ring(lane.bed, self.costs['wake'])

    def wake_sibling(self, but):
        """True: one slept. The nearest, as everybody finds the same."""
        for i in range(1, len(self.lanes)):
            lane = self.lanes[(but.index + i) % len(self.lanes)]
            if lane.is_parked and not lane.rung:
                self.wake(lane)
                return True
        return False


class Lane:
    def __init__(self, pool, index):
        self.pool, self.index, self.ring, self.has_backlog = pool, index, deque(), False
        self.bell, self.bed = Place(), Place()  # of the spin, of the sleep
        self.is_parked = self.is_long = self.rung = False
        self.scan_from, self.slept = index + 1, None
        self.was_elsewhere = False  # woken for another ring: one full look before the next park

    def put(self, call):
        self.pool.ready += 1
        self.ring.append(call)
        self.pool.world.ring(self.bell, self.pool.costs['line'] / 2)

    def take(self):
        self.pool.ready -= 1
        return self.ring.popleft()

    def run(self, call):
        costs, pool = self.pool.costs, self.pool
        self.is_long = call.task_ns > costs['short']
        if self.is_long and self.ring:
            self.has_backlog = True
            if pool.wake_sibling(self):
                yield costs['wake_call']
        yield costs['run'] + call.task_ns
        self.is_long = self.has_backlog = False
        call.caller.answer(call, self.index)

    def others(self, take):
        """A scan. A call that stood for long enough is taken and returned; else whether there is any."""
        lanes, now = self.pool.lanes, self.pool.world.now
        found = None
        for _ in range(len(lanes) - 1 if self.pool.ready > len(self.ring) else 0):
            lane = lanes[self.scan_from % len(lanes)]
            self.scan_from += 1
            if lane is self or not lane.ring:
                continue
            found = True
            if take and now - lane.ring[0].seen.setdefault(self.index, now) >= self.pool.costs['steal_after']:
                return lane.take()
        return found

    def look_ns(self, by, rings=None):
        """Of a look at the rings of other lanes. by bits: at those in which callers say there are calls."""
        costs, pool = self.pool.costs, self.pool
        if by == 'bits':
            filled = sum(1 for lane in pool.lanes if lane is not self and lane.ring)
            return pool.sessions * costs['look_session'] + filled * costs['look_ring']
        all_rings = (len(pool.lanes) - 1) * pool.sessions
        return min(all_rings, rings or all_rings) * costs['look_ring']

    def spin(self):
        """Until there is a call at home, which stays there, or a stolen one, which is run. False: for long there was neither."""
        costs, world = self.pool.costs, self.pool.world
        end = world.now + costs['spin']
        while world.now < end:
            if self.ring:
                return True
            yield self.look_ns(self.pool.park, costs['steal_rings'])
            stolen = self.others(take=True)
            if isinstance(stolen, Call):
                yield costs['line']
                yield from self.run(stolen)
                return True
            if not self.ring:
                yield (self.bell, min(costs['steal_after'], end - world.now + 1))
        return bool(self.ring)

    def last_look_ns(self):
        """Of the look before sleep, and whether it sees all rings."""
        costs, pool = self.pool.costs, self.pool
        full = pool.park != 'looker' or self.was_elsewhere or pool.looker is None
        if pool.looker is None:
            pool.looker = self
        self.was_elsewhere = False
        if full:
            return self.look_ns(pool.park), True
        return (pool.sessions + len(pool.lanes)) * costs['look_lane'], False

    def sleep(self):
        costs, pool = self.pool.costs, self.pool
        self.is_parked, self.rung = True, False
        took, sees_all = self.last_look_ns()
        pool.looks_ns += took
        yield took
        later = self.others(take=False)
        if not sees_all:
            later = any(lane.has_backlog and lane.ring for lane in pool.lanes)
        if not (self.ring or self.rung or later):
            self.slept = pool.world.now
            yield (self.bed, None)
            pool.slept_ns += pool.world.now - max(self.slept, pool.counts_from)
            self.slept = None
            self.was_elsewhere = not self.ring
        elif later:
            yield costs['steal_after']
        if pool.looker is self:
            pool.looker = None
        self.is_parked = False

    def work(self):
        while True:
            while self.ring:
                yield from self.run(self.take())
            if not (yield from self.spin()):
                yield from self.sleep()


# ---- Callers ---------------------------------------------------------------------------------------------------------

class Caller:
    """Batches of `size` calls, all started, flushed, and collected; then a pause."""

    def __init__(self, pool, spread, size, task_ns, pause_ns):
        self.pool, self.spread, self.size, self.task_ns, self.pause_ns = pool, spread, size, task_ns, pause_ns
        self.answers, self.bell, self.home = deque(), Place(), pool.world.random.randrange(len(pool.lanes))
        self.next = self.warm = self.home
        self.delays, self.batches, self.done = [], [], 0

    def answer(self, call, by):
        self.answers.append(call)
        self.warm = by
        self.pool.world.ring(self.bell, self.pool.costs['line'] / 2)

    def choose(self, queued, mean_ns):
        """one: the warm lane, if it is awake. spread: round robin after its first call. wanted: as many lanes as work is for."""
        lanes = self.pool.lanes
        if self.spread == 'one' or (self.spread == 'spread' and queued == 0):
            if not lanes[self.warm].is_parked:
                return lanes[self.warm]
        if self.spread == 'wanted':
            most = min(len(lanes), 1 + int(queued * mean_ns / self.pool.costs['lane_for']))
            return lanes[(self.home + queued % most) % len(lanes)]
        self.next += 1
        return lanes[self.next % len(lanes)]

    def draw(self):
        return self.task_ns(self.pool.world.random) if callable(self.task_ns) else self.task_ns

    def calls(self):
        costs, world, pool = self.pool.costs, self.pool.world, self.pool
        mean_ns = costs['run'] + (0 if callable(self.task_ns) else self.task_ns)
        while True:
            began, touched = world.now, []
            for queued in range(self.size):
                yield costs['publish'] + costs['around']
                lane = self.choose(queued, mean_ns)
                lane.put(Call(self, self.draw(), began))
                if lane not in touched:
                    touched.append(lane)
            for lane in touched:
                yield costs['line'] / 2  # park word and bell of the lane
                if lane.is_parked and not lane.rung:
                    pool.wake(lane)
                    yield costs['wake_call']
                elif lane.is_long and pool.wake_sibling(lane):
                    yield costs['wake_call']
            for _ in range(self.size):
                if not self.answers:
                    yield (self.bell, None)
                call = self.answers.popleft()
                yield costs['collect'] + costs['around']
                self.delays.append(world.now - call.sent - call.task_ns)
            self.done += self.size
            self.batches.append(world.now - began)
            if self.pause_ns:
                yield world.random.expovariate(1 / self.pause_ns)


class Result:
    """Of `ns` after a fifth as long."""

    def __init__(self, costs, seed, ns, workers, callers, park='full', **caller):
        world = World(seed)
        pool = Pool(world, costs, workers, callers, park)
        who = [Caller(pool, **caller) for _ in range(callers)]
        for one in who:
            world.at(world.random.random() * 1000, one.calls())
        world.run(ns / 5)
        before, wakes, looks = sum(one.done for one in who), pool.wakes, pool.looks_ns
        pool.slept_ns, pool.counts_from = 0, world.now
        for one in who:
            one.delays.clear()
            one.batches.clear()
        world.run(ns * 6 / 5)
        delays = sorted(delay for one in who for delay in one.delays)
        done = sum(one.done for one in who) - before
        batches = max(1, done / caller['size'])
        self.per_second = done / ns * 1e9
        # Of a call, without what its task took; and of a batch.
        self.p50, self.p99 = (delays[int(len(delays) * share)] if delays else float('nan') for share in (0.5, 0.99))
        spans = [span for one in who for span in one.batches]
        self.batch = statistics.median(spans) if spans else float('nan')
        self.wakes = (pool.wakes - wakes) / batches
        asleep = pool.slept_ns + sum(ns * 6 / 5 - max(lane.slept, ns / 5) for lane in pool.lanes if lane.slept is not None)
        self.cores = workers - asleep / ns
        self.looks = (pool.looks_ns - looks) / max(1, done)


# ---- What is asked ---------------------------------------------------------------------------------------------------

WORKERS = (2, 4, 8, 16, 32, 64)


def short_or_long(chance):
    """Nine in ten calls take 2 us, the others 100."""
    return 2000 if chance.random() < 0.9 else 100000


def parks(costs, args):
    """as many callers as workers, one call at a time, pauses of 60 us, after which a worker is about to sleep"""
    for workers in WORKERS:
        for park in ('full', 'looker', 'bits'):
            got = Result(costs, args.seed, args.ms * 1e6 / workers ** 0.5, workers, workers, park=park, spread='one', size=1,
                         task_ns=short_or_long, pause_ns=60000)
            yield {'workers and callers': str(workers), 'look': park, 'calls/s': got.per_second, 'p50_us': got.p50 / 1000,
                   'p99_us': got.p99 / 1000, 'look_ns a call': got.looks, 'wakes a call': got.wakes, 'awake': got.cores}


def spreads(costs, args):
    """microseconds a batch of one caller in one lane, in all, in as many as the work is for at 20 us or 5 us a lane; workers awake"""
    for size, task_ns in ((64, 0), (1000, 0), (64, 1000), (1000, 1000), (64, 20000)):
        for pause in (0, 5e5):
            for workers in (4, 16, 64):
                row = {'batch': str(size), 'task_us': f'{task_ns / 1000:g}', 'pause_us': f'{pause / 1000:g}',
                       'workers': str(workers)}
                for name, spread, lane_for in (('one', 'one', 0), ('all', 'spread', 0), ('20 us', 'wanted', 20000),
                                               ('5 us', 'wanted', 5000)):
                    ns = max(args.ms * 1e6, 20 * (pause + size * max(task_ns, 100) / workers))
                    got = Result(dict(costs, lane_for=lane_for), args.seed, ns, workers, 1, park='bits', spread=spread, size=size,
                                 task_ns=task_ns, pause_ns=pause)
                    row[name], row['awake' + ' ' * len(row)] = got.batch / 1000, got.cores
                yield row


# ---- The real thing --------------------------------------------------------------------------------------------------

CHECKED = (('empty', 1), ('empty', 16), ('empty', 64), ('empty', 1000), ('task', 1), ('task', 16), ('task', 64))
TASK = 'primes_below(2000)'


def line_of(url, task, size):
    return f'--url {url} {f"--batch {size} " if size > 1 else ""}{TASK if task == "task" else "empty"}'


def beside_model(line_ns, futex_ns, real, seed):
    """The costs and the time of the task that follow from the nanoseconds of the cases, for one worker and then for two; and a row
    for each case."""
    at = dict(zip(CHECKED, real))
    costs = costs_of(counts.KEPT)
    # By the case that is nothing but instructions: whoever has more of them is never waited for.
    slower = max(costs['run'], costs['publish'] + costs['collect'] + 2 * costs['around']) / costs['instruction']
    costs = costs_of(counts.KEPT, instruction=at['empty', 1000] / 1000 / slower, line=line_ns,
                     wake=max(0, futex_ns - COSTS['wake_call']))
    task_ns = max(0, at['task', 1] - at['empty', 1])
    rows = []
    for index, took in enumerate(real):
        workers, (task, size) = 1 + index // len(CHECKED), CHECKED[index % len(CHECKED)]
        got = Result(costs, seed, 2e7, workers, 1, park='bits', spread='one', size=size,
                     task_ns=task_ns if task == 'task' else 0, pause_ns=0)
        rows.append({'workers': str(workers), 'task': task, 'batch': str(size), 'real_us': took / 1000,
                     'model_us': got.batch / 1000, 'real/model': took / got.batch})
    return costs, task_ns, rows


def check(args):
    """One worker, then two: on two cores a caller's calls stay with one lane, and the other worker steals."""
    with measure.Bench(args) as bench:
        cpus = sorted(os.sched_getaffinity(0))
        urls = [bench.daemon(f'of-{workers}', workers=workers).url('shm') for workers in (1, 2)]
        lines = ['--url floor:line empty', '--url floor:futex --pause 2 empty']
        lines += [line_of(url, task, size) for url in urls for task, size in CHECKED]
        (line, futex, *found), machine = bench.cases(lines)
    costs, task_ns, rows = beside_model(line['p50_us'] * 1000, futex['p50_us'] * 500, [row['p50_us'] * 1000 for row in found], args.seed)
    print(f'{1000 * costs["instruction"]:.0f} ps an instruction, a line {costs["line"]:.0f} ns, a wake-up {costs["wake"]:.0f} ns, '
          f'the task {task_ns:.0f} ns, {len(cpus)} cores\n')
    measure.show('check: the span of a batch, real and in the model', machine, rows, args.format)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--ms', type=float, default=5, help='of simulated time, or more where batches are long in a case')
    parser.add_argument('--wake', type=float, default=COSTS['wake'], help='nanoseconds from a wake-up until who was woken looks')
    parser.add_argument('--format', choices=('table', 'json', 'csv', 'markdown'), default='table')
    parser.add_argument('--only', choices=('parks', 'spreads'))
    parser.add_argument('--check', dest='build', metavar='BUILD', help='build folder, built: the real thing beside the model')
    parser.add_argument('--rounds', type=int, default=5, help='of the real thing')
    parser.add_argument('--seconds', type=float, default=0.1, help='of each case in a round')
    parser.add_argument('--quick', action='store_true', help='a short run; its figures mean nothing')
    args = parser.parse_args()
    if args.build:
        check(args)
        return 0
    costs = costs_of(counts.KEPT, wake=args.wake)
    for name, what in (('parks', parks), ('spreads', spreads)):
        if args.only in (None, name):
            measure.show(f'{name}: {what.__doc__}', f'seed {args.seed}', list(what(costs, args)), args.format)
            print()
    return 0


if __name__ == '__main__':
    sys.exit(main())
