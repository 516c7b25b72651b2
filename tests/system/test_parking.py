# SPDX-License-Identifier: Apache-2.0
"""futex_waitv is refused, with EPERM or ENOSYS, as by filters of containers and by Linux before 5.16: to the daemon and
its workers, or to the workers alone. They are idle when there is nothing to do, all callers are served, and who asks the
daemon for wake-ups without end ends its own session. old_kernel.c refuses the call.
"""

import os
import signal
import subprocess
import tempfile
import threading
import time
from unittest import mock

from knit_attach import attach
from knit_harness import Case, main, wait_until
from knit_witness import Caller, LedgerDaemon

REFUSALS = ('EPERM', 'ENOSYS')
GOAL = 0.001  # of a core, for an idle worker
MEASURED = 0.3  # seconds
HOST = 4  # place of the eventfd among the descriptors


def script(path, program, refusal):
    """Writes a program that runs the given one, which is refused the call; None: which is not."""
    with open(path, 'w') as file:
        file.write(f'#!/bin/sh\nexec $(cat {path}.words) {program} "$@"\n')
    os.chmod(path, 0o755)
    refuse(path, refusal)
    return path


def refuse(path, refusal):
    """From its next run on."""
    with open(path + '.words.new', 'w') as file:
        file.write(f'{os.environ["KNIT_OLD_KERNEL"]} futex_waitv={refusal}' if refusal else '')
    os.rename(path + '.words.new', path + '.words')


def cpu_seconds(pid):
    """As clock_getcpuclockid(3) counts."""
    return time.clock_gettime((~pid << 3) | 2)


class Parking(Case):
    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory(prefix='knit-'))

    def whole(self, refusal, **options):
        """A daemon that is refused the call, and with it its workers."""
        program = script(os.path.join(self.folder, 'daemon'), os.environ['KNIT_DAEMON'], refusal)
        with mock.patch.dict(os.environ, KNIT_DAEMON=program):
            return LedgerDaemon(**options)

    def workers_alone(self, refusal, **options):
        program = script(os.path.join(self.folder, 'worker'), os.environ['KNIT_WORKER'], refusal)
        return LedgerDaemon(worker=program, **options)

    def each(self, **options):
        for refusal in REFUSALS:
            for how in self.whole, self.workers_alone:
                with self.subTest(f'{how.__name__} {refusal}'), how(refusal, **options) as daemon:
                    yield refusal, daemon

    def wait_for_rest(self, daemon):
        wait_until(lambda: all(lane['is_parked'] for lane in daemon.stats()['lanes']), 'all workers to park')

    def test_idle_workers_take_no_time(self):
        for _, daemon in self.each(workers=2):
            with Caller(daemon.url('shm'), 'tally', 0, 100) as caller:
                self.assertEqual(caller.wait_ready().tally(), ([], 100))
                self.wait_for_rest(daemon)
                before = [cpu_seconds(pid) for pid in daemon.workers()]
                end = time.monotonic() + MEASURED
                wait_until(lambda: time.monotonic() >= end, 'the interval to pass')
                used = [cpu_seconds(pid) - at for pid, at in zip(daemon.workers(), before)]
            self.assertLess(max(used), 10 * GOAL * MEASURED, used)

    def test_it_is_said(self):
        for refusal, daemon in self.each():
            pool = daemon.stats()['pool']
            self.assertEqual((pool['wake_mode'], pool['futex_waitv']), ('relayed', refusal))
            self.assertEqual(daemon.log().count('futex_waitv is refused to workers'), 1)
            shown = subprocess.run([os.environ['KNIT_TOOL'], '-u', daemon.url('unix'), 'stats'], text=True,
                                   capture_output=True, check=True).stdout
            self.assertIn('relayed', shown)

    def test_all_transports_are_served(self):
        for _, daemon in self.each(workers=2):
            for number, transport in enumerate(('tcp', 'unix', 'shm', 'shm')):
                self.wait_for_rest(daemon)
                with Caller(daemon.url(transport), 'tally', 1000 * number, 500) as caller:
                    self.assertEqual(caller.wait_ready().tally(), ([], 500))
                self.assertEqual(set(daemon.ledger.times(1000 * number, 500)), {1})

    def test_each_call_by_shared_memory_wakes_a_worker(self):
        """Each is a program of its own, so the workers are parked before it."""
        for _, daemon in self.each(workers=2):
            before = daemon.stats()['pool']['wakes_relayed']
            for number in range(10):
                self.wait_for_rest(daemon)
                done = subprocess.run([os.environ['KNIT_TOOL'], '-u', daemon.url('shm'), 'call', 'ledger', str(number)],
                                      capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(set(daemon.ledger.times(0, 10)), {1})
            self.assertGreater(daemon.stats()['pool']['wakes_relayed'], before)

    def test_a_caller_that_asks_without_end(self):
        """Its session ends, and quiet callers are served beside it."""
        for _, daemon in self.each(workers=2):
            with daemon.unix() as rude:
                _, fds = attach(rude)
                self.assertEqual(len(fds), HOST + 1)
                is_over = threading.Event()

                def flood():
                    while not is_over.is_set():
                        os.eventfd_write(fds[HOST], 1)
                flooder = threading.Thread(target=flood)
                flooder.start()
                try:
                    with Caller(daemon.url('shm'), 'tally', 0, 500) as quiet:
                        self.assertEqual(quiet.wait_ready().tally(), ([], 500))
                    self.assertTrue(rude.is_closed_by_peer())
                finally:
                    is_over.set()
                    flooder.join()
                    for fd in fds:
                        os.close(fd)
            self.assertIn('asks for more wake-ups than workers have parked', daemon.log())
            self.assertEqual(daemon.stats()['pool']['condemned'], 1)

    def test_a_replacement_that_is_refused_what_its_pool_relies_on(self):
        """It could not be woken by the sessions that there are. The pool says so and tries again."""
        with self.workers_alone(None, workers=1) as daemon:
            worker = os.path.join(self.folder, 'worker')
            if daemon.stats()['pool']['wake_mode'] == 'relayed':
                self.skipTest('this machine refuses futex_waitv')
            refuse(worker, 'EPERM')
            os.kill(daemon.workers()[0], signal.SIGKILL)
            wait_until(lambda: 'futex_waitv is refused to it' in daemon.log(), 'the pool to refuse the worker')
            refuse(worker, None)
            daemon.wait_for_workers(1)
            with daemon.tcp() as rpc:
                rpc.call('ledger', 1)


if __name__ == '__main__':
    main()
