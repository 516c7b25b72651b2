# SPDX-License-Identifier: Apache-2.0
"""Daemons in control groups. The groups are made below this test's own and removed again.

What the machine cannot do is skipped with its reason, and so is the whole test then (exit status 77).
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import unittest

from knit_attach import REPLY, REQUEST
from knit_harness import SANITIZED, Case, Child, Daemon, Rpc, RpcError, wait_until
from knit_lanes import Lanes
from knit_witness import is_alive


def mounts(kind, option=''):
    """Where file systems of that kind are mounted, with that option."""
    found = []
    with open('/proc/self/mountinfo') as file:
        for line in file:
            front, behind = line.split(' - ')
            fields, (fstype, _, options) = front.split(), behind.split()
            if fstype == kind and (not option or option in options.split(',')):
                found.append(fields[4])
    return found


def own_folder(kind, controller=''):
    """The folder of this process's own group in that hierarchy. Raises SkipTest."""
    places = mounts(kind, controller)
    if not places:
        raise unittest.SkipTest(f'no {kind} file system {controller} is mounted')
    with open('/proc/self/cgroup') as file:
        for line in file:
            _, controllers, path = line.rstrip('\n').split(':', 2)
            if controllers == controller or controller and controller in controllers.split(','):
                return places[0] + path.rstrip('/')
    raise unittest.SkipTest(f'this process is in no group of {kind} {controller}')


class Group:
    """A group of its own, which processes are started in; home: that of this process."""

    def __init__(self, home, name, parent=None):
        parent = parent or home
        self.home, self.path = home, f'{parent}/knit-test-{os.getpid()}-{name}'
        try:
            os.mkdir(self.path)
        except OSError as error:
            raise unittest.SkipTest(f'no group can be made in {parent}: {error.strerror}') from error

    def write(self, name, text):
        with open(f'{self.path}/{name}', 'w') as file:
            file.write(text)

    def read(self, name):
        with open(f'{self.path}/{name}') as file:
            return file.read()

    @contextlib.contextmanager
    def inside(self):
        """What is started meanwhile is in the group. The group goes once it is empty."""
        try:
            self.write('cgroup.procs', str(os.getpid()))
        except OSError as error:
            raise unittest.SkipTest(f'no process can be moved to {self.path}: {error.strerror}') from error
        try:
            yield
        finally:
            with open(f'{self.home}/cgroup.procs', 'w') as file:
                file.write(str(os.getpid()))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        wait_until(lambda: not self.read('cgroup.procs').split(), f'{self.path} to be empty')
        os.rmdir(self.path)


def group_of(pid):
    """The path of its group in the hierarchy of version 2."""
    with open(f'/proc/{pid}/cgroup') as file:
        return next(line.rstrip('\n')[3:] for line in file if line.startswith('0::'))


class Leaves(Case):
    """A daemon that was given its group has each unsafe worker in a group below it."""

    def setUp(self):
        self.group = self.enterContext(Group(own_folder('cgroup2'), 'leaves'))
        if not os.path.exists(f'{self.group.path}/cgroup.kill'):
            raise unittest.SkipTest('this kernel has no cgroup.kill (Linux before 5.14)')

    def delegate(self):
        try:
            os.setxattr(self.group.path, 'user.delegate', b'1')
        except OSError as error:
            raise unittest.SkipTest(f'groups have no attributes here: {error.strerror}') from error

    def start(self, **options):
        with self.group.inside():
            return Daemon(module=os.environ['KNIT_RUDE'], **options)

    def workers(self, daemon):
        return [lane['pid'] for lane in daemon.stats()['lanes']]

    def groups(self):
        return {name for name in os.listdir(self.group.path) if os.path.isdir(f'{self.group.path}/{name}')}

    def replaced(self, daemon, pid):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pid not in self.workers(daemon) and
                   all(lane['state'] == 'serving' for lane in daemon.stats()['lanes']), 'a replacement')

    def test_each_worker_has_a_group_and_what_is_in_it_dies_with_it_and_with_no_other(self):
        self.delegate()
        with self.start(permission='unsafe', workers=2) as daemon, daemon.tcp() as rpc:
            self.assertEqual(len({group_of(pid) for pid in self.workers(daemon)} | {group_of(daemon.pid)}), 3)
            # A program in a session of its own without any environment: nothing but its group names its worker.
            last, worker = map(int, rpc.call('scatter', 1, True).split())
            self.assertEqual(group_of(last), group_of(worker))
            other, = set(self.workers(daemon)) - {worker}
            self.replaced(daemon, other)
            self.assertTrue(is_alive(last))
            self.replaced(daemon, worker)
            self.assertFalse(is_alive(last))
            last, worker = map(int, rpc.call('scatter', 3, True).split())
        self.assertFalse(is_alive(last))
        self.assertEqual(self.groups(), set())

    def test_processes_that_multiply_die_with_their_worker(self):
        """No sweep catches up with processes that end as soon as they have started the next one."""
        self.delegate()
        with self.start(permission='unsafe', workers=1) as daemon, daemon.tcp() as rpc:
            for _ in range(3):
                worker, = self.workers(daemon)
                group = self.group.path + group_of(worker).removeprefix(group_of(daemon.pid))
                rpc.call('breed')
                with open(f'{group}/cgroup.procs') as file:
                    self.assertGreater(len(file.read().split()), 1)
                os.kill(worker, signal.SIGKILL)
                worker = rpc.call('nap', 0)
                with open(f'{group}/cgroup.procs') as file:
                    self.assertEqual(file.read().split(), [str(worker)])

    def test_groups_of_a_host_that_was_killed_go_when_the_next_one_starts(self):
        self.delegate()
        with self.start(permission='unsafe', workers=2) as daemon:
            left = self.groups()
            daemon.expected_status = -signal.SIGKILL
            daemon.process.kill()
            daemon.process.wait()
            wait_until(lambda: not any(self.group.read(f'{name}/cgroup.procs') for name in left), 'its workers to end')
        self.assertEqual((len(left), self.groups()), (2, left))
        with self.start(permission='unsafe', workers=2):
            self.assertEqual(len(self.groups() - left), 2)
            self.assertEqual(self.groups() & left, set())

    def test_a_group_that_was_not_given_to_the_daemon_stays_as_it_is(self):
        with self.start(permission='unsafe', workers=2) as daemon:
            self.assertEqual({group_of(pid) for pid in self.workers(daemon)}, {group_of(daemon.pid)})


MIB, QUOTA = 1 << 20, 201
RESULT, RESULTS = 8 * MIB - 4096, 7


class MemoryGroup(Group):
    """With its memory counted and limited."""

    def __init__(self, name, limit=None):
        self.version = 1 if mounts('cgroup', 'memory') else 2
        home = parent = own_folder('cgroup', 'memory') if self.version == 1 else own_folder('cgroup2')
        # In version 2 a group that has processes has none below it with controllers.
        while self.version == 2 and 'memory' not in self.controllers(parent) and parent not in mounts('cgroup2'):
            parent = os.path.dirname(parent)
        super().__init__(home, name, parent)
        if not os.path.exists(f'{self.path}/{self.file("current")}'):
            os.rmdir(self.path)
            raise unittest.SkipTest('the memory controller is not enabled for new groups here')
        if limit is not None:
            self.write(self.file('max'), str(limit))

    @staticmethod
    def controllers(folder):
        with open(f'{folder}/cgroup.subtree_control') as file:
            return file.read().split()

    def file(self, what):
        return {'max': 'memory.limit_in_bytes', 'current': 'memory.usage_in_bytes',
                'peak': 'memory.max_usage_in_bytes'}[what] if self.version == 1 else f'memory.{what}'

    def bytes(self, what):
        return int(self.read(self.file(what)))


def argue(lanes, call):
    """Gives that call of lane 0 an argument of RESULT bytes, which nobody has written."""
    arena = os.fstat(lanes.fds[REQUEST]).st_size - lanes.shape['request_arena']
    at, cell = call * 8 * MIB, lanes.cell(0, call)
    lanes.request[(arena + at) // 8] = int.from_bytes(b'\x91\xc6' + RESULT.to_bytes(4, 'big'), 'little')
    lanes.request[cell + 2] = lanes.request[cell + 2] >> 40 << 40 | 1 << 32 | RESULT + 6
    lanes.request[cell + 3] = at


class Keeper:
    """The caller that keeps what it was given; its sessions one by one."""

    def __init__(self, path):
        self.path, self.kept = path, []

    def attach(self, calls, arguments):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.path)
        with Rpc(sock) as rpc:
            rpc.hello()
            lanes = Lanes(rpc, [calls], arena=64 * MIB)
            self.kept.append(lanes)
            for call in range(arguments):
                argue(lanes, call)
            lanes.publish(0)
            # Each one wakes the worker.
            while not lanes.is_answered():
                rpc.call('same', 1)
        return [512 * os.fstat(lanes.fds[which]).st_blocks for which in (REQUEST, REPLY)]

    def results(self):
        """Has a worker write as much as the reply arena takes."""
        return self.attach([('fill', RESULT)] * RESULTS, 0)

    def arguments(self):
        """Has a worker read what was not written, which allocates it."""
        return self.attach([('same', 1)] * RESULTS, RESULTS)

    def read(self):
        """All mappings."""
        return sum(lanes.reply[at] & 1 for lanes in self.kept for at in range(0, len(lanes.reply), 512))

    def drop(self):
        for lanes in self.kept:
            lanes.__exit__()
        self.kept.clear()

    def serve(self):
        """A line of JSON for each line that it reads."""
        for line in sys.stdin:
            try:
                answer = {'is': getattr(self, line.strip())()}
            except RpcError as error:
                answer = {'code': error.code, 'text': error.text}
            print(json.dumps(answer), flush=True)


@unittest.skipIf(SANITIZED, 'a sanitizer takes memory without asking for it')
class Memory(Case):
    """A caller in another group keeps descriptors and mappings of sessions that have ended, and attaches again and again.
    What workers have written and read for it was charged to the daemon's group."""

    def setUp(self):
        self.theirs = self.enterContext(MemoryGroup('callers'))
        self.ours = self.enterContext(MemoryGroup('daemon', 600 * MIB))
        with self.ours.inside():
            self.daemon = self.enterContext(Daemon(module=os.environ['KNIT_RUDE'], workers=1))
        with self.theirs.inside():
            self.keeper = self.enterContext(Child([sys.executable, '-B', __file__, 'keep', self.daemon.socket],
                                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        self.worker, self.before = self.daemon.stats()['lanes'][0]['pid'], self.counted()

    def ask(self, what):
        self.keeper.process.stdin.write(what + '\n')
        self.keeper.process.stdin.flush()
        return json.loads(self.keeper.process.stdout.readline())

    def counted(self):
        """What the daemon counts."""
        return self.daemon.stats()['pool']['memory_bytes']

    def is_refused(self, answer):
        return answer.get('code') == QUOTA and "this user's processes keep the memory" in answer['text']

    def lives(self):
        """Nothing was killed for memory; and when it lets go of it the caller is served as before."""
        with self.daemon.tcp() as rpc:
            self.assertEqual(rpc.call('nap', 0), self.worker)
        self.ask('drop')
        self.assertGreater(self.ask('results')['is'][1], 50 * MIB)
        self.ask('drop')
        wait_until(lambda: self.counted() == self.before, 'all to be gone')
        self.assertEqual(self.daemon.stats()['pool']['deaths'], 0)

    def test_results_that_are_kept_are_taken_back(self):
        for _ in range(24):
            request, reply = self.ask('results')['is']
            self.assertGreater(reply, 50 * MIB)
        print(f'24 times 56 MiB of results kept: at most {self.ours.bytes("peak") / MIB:.0f} MiB in the daemon\'s group')
        wait_until(lambda: self.counted() - self.before < 50 * MIB, 'the last ones to be taken back')
        self.assertGreater(self.counted(), self.before)
        self.lives()

    def test_arguments_that_are_kept_are_counted_and_end_in_a_refusal(self):
        answers = [self.ask('arguments') for _ in range(24)]
        served = sum('is' in answer for answer in answers)
        self.assertTrue(all('is' in answer or self.is_refused(answer) for answer in answers), answers)
        self.assertIn(served, range(1, 6))
        self.assertGreater(self.counted() - self.before, served * 50 * MIB)
        print(f'24 times 56 MiB of arguments kept: {served} served, at most {self.ours.bytes("peak") / MIB:.0f} MiB in the '
              f'daemon\'s group')
        self.lives()

    def test_what_a_caller_reads_again_is_its_own_groups_and_is_counted(self):
        for _ in range(3):
            self.ask('results')
        wait_until(lambda: self.counted() - self.before < 50 * MIB, 'the last ones to be taken back')
        ours, theirs = self.ours.bytes('current'), self.theirs.bytes('current')
        self.ask('read')
        self.assertLess(self.ours.bytes('current') - ours, 10 * MIB)
        self.assertGreater(self.theirs.bytes('current') - theirs, 180 * MIB)
        wait_until(lambda: self.counted() - self.before > 180 * MIB, 'them to be counted')
        self.assertTrue(self.is_refused(self.ask('results')))
        self.lives()


if __name__ == '__main__':
    if sys.argv[1:2] == ['keep']:
        sys.exit(Keeper(sys.argv[2]).serve())
    result = unittest.main(verbosity=2, exit=False).result
    sys.exit(1 if not result.wasSuccessful() else 77 if result.skipped else 0)
