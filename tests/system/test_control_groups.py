# SPDX-License-Identifier: Apache-2.0
"""Daemons in control groups. The groups are made below this test's own and removed again.

What the machine cannot do is skipped with its reason, and so is the whole test then (exit status 77).
"""

import contextlib
import os
import signal
import sys
import unittest

from knit_harness import Case, Daemon, wait_until
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
    """A group of its own, which processes are started in."""

    def __init__(self, parent, name):
        self.parent, self.path = parent, f'{parent}/knit-test-{os.getpid()}-{name}'
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
            yield
        finally:
            with open(f'{self.parent}/cgroup.procs', 'w') as file:
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
        self.assertEqual([name for name in os.listdir(self.group.path) if os.path.isdir(f'{self.group.path}/{name}')], [])

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

    def test_a_group_that_was_not_given_to_the_daemon_stays_as_it_is(self):
        with self.start(permission='unsafe', workers=2) as daemon:
            self.assertEqual({group_of(pid) for pid in self.workers(daemon)}, {group_of(daemon.pid)})


if __name__ == '__main__':
    result = unittest.main(verbosity=2, exit=False).result
    sys.exit(1 if not result.wasSuccessful() else 77 if result.skipped else 0)
