# SPDX-License-Identifier: Apache-2.0
"""Modules and workers that a daemon must not start with: one sentence that names the cause, exit status 1 or 2, no process
and no file left. The same for a start that a signal ends.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile

from knit_harness import PATIENCE, Case, main, wait_until
from knit_witness import is_alive

START, SETTINGS = 1, 2

# The number of a module in tests/fastpath/module_bad.c, and what the sentence says about it.
BAD = {
    1: 'was built for module ABI 8, this worker has 1',
    2: 'has no tasks',
    3: 'signature "wrong(a: itn) -> int"',
    4: 'its signature names it right',
    5: 'flags 0x100000 are of a later version',
    6: 'has a task of that name already',
    7: 'undefined symbol: knit_test_no_library_has_this',
    8: 'its bootstrap hook failed with 5: no database today',
    9: 'is no module',
    10: 'killed by signal 6',
    11: 'has a task of that name already',
    12: 'a name is 1 to 128',
    14: 'was killed by signal 6 (SIGABRT) while running the bootstrap hook of ',
    17: 'on_timeout: the value does not fit the signature: result 1: expected int, got str',
}


class StartModules(Case):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='knit-')
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def refused(self, part, *arguments, worker=None, status=START):
        """By the start and by --check-config, with the same sentence; but for the process id in it."""
        sentences = [self.refused_once(part, *arguments, *check, worker=worker, status=status) for check in ((), ('--check-config',))]
        self.assertEqual(*(re.sub(r'\b\d{2,}\b', 'N', sentence) for sentence in sentences))
        return sentences[0]

    def refused_once(self, part, *arguments, worker=None, status=START):
        ready = os.path.join(self.dir, 'ready')
        process = subprocess.Popen(
            [os.environ['KNIT_DAEMON'], '--listen=127.0.0.1:0', '--admin=none', f'--socket={self.dir}/k.sock', '--ready-file', ready,
             '--worker-program', worker or os.environ['KNIT_WORKER'], '--module', os.environ['KNIT_MODULE'],
             '--workers=2', *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True)
        try:
            _, stderr = process.communicate(timeout=3 * PATIENCE)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        self.assertEqual(process.returncode, status, stderr)
        sentences = [line for line in stderr.splitlines() if line.startswith('knittingd: ')]
        self.assertEqual(len(sentences), 1, stderr)
        self.assertIn(part, sentences[0])
        print(sentences[0].replace(os.path.dirname(os.environ['KNIT_BAD_MODULES']), '...'))
        self.assertEqual([n for n in os.listdir(self.dir) if n in ('k.sock', 'ready')], [])
        return sentences[0]

    def test_modules(self):
        for number, part in BAD.items():
            with self.subTest(number):
                path = f'{os.environ["KNIT_BAD_MODULES"]}/module_bad_{number}.so'
                self.assertIn(path, self.refused(part, '--module', path))

    def test_a_module_that_may_not_be_read(self):
        path = os.path.join(self.dir, 'secret.so')
        shutil.copy(os.environ['KNIT_MODULE'], path)
        os.chmod(path, 0)
        if os.access(path, os.R_OK):
            os.unlink(path)
            os.mkdir(path)
        self.assertIn(path, self.refused('secret.so', '--module', path, status=SETTINGS))

    def test_workers_of_another_version(self):
        version = subprocess.run([os.environ['KNIT_DAEMON'], '--version'], capture_output=True, text=True,
                                 timeout=PATIENCE).stdout.split()[1]
        for number in (1, 2, 3):
            with self.subTest(number):
                path = f'{os.environ["KNIT_OTHER_WORKERS"]}/other_worker_{number}'
                sentence = self.refused('version', worker=path)
                self.assertIn(path, sentence)
                self.assertIn(version, sentence)
                self.assertIn('999.9' if number == 1 else '', sentence)

    def test_a_worker_that_sends_nothing(self):
        self.refused('worker', worker='/bin/true')
        self.refused('worker', worker='/bin/false')

    def test_a_worker_that_may_not_be_run(self):
        path = os.path.join(self.dir, 'worker')
        with open(path, 'w') as file:
            file.write('no program')
        self.assertIn(path, self.refused('worker', worker=path, status=SETTINGS))
        os.chmod(path, 0o755)
        self.assertIn(path, self.refused('worker', worker=path))

    def test_a_signal_while_workers_load(self):
        """SIGTERM and SIGINT end the start as they would end the daemon; SIGHUP changes nothing."""
        worker = os.path.join(self.dir, 'worker')
        with open(worker, 'w') as file:
            file.write(f'#!/bin/sh\n: >{self.dir}/pid.$$\nexec sleep 1000\n')
        os.chmod(worker, 0o755)
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number):
                process = subprocess.Popen(
                    [os.environ['KNIT_DAEMON'], '--listen=127.0.0.1:0', '--admin=none', f'--socket={self.dir}/k.sock',
                     '--worker-program', worker, '--module', os.environ['KNIT_MODULE'], '--workers=2'],
                    stdin=subprocess.DEVNULL)
                self.addCleanup(process.wait)
                self.addCleanup(process.kill)
                pids = wait_until(lambda: self.loading(2), 'two workers')
                self.assertTrue(os.path.exists(f'{self.dir}/k.sock'))
                process.send_signal(signal.SIGHUP)
                process.send_signal(number)
                self.assertEqual(process.wait(PATIENCE), 0)
                self.assertEqual([pid for pid in pids if is_alive(pid)], [])
                self.assertEqual([name for name in os.listdir(self.dir) if name.endswith('.sock')], [])

    def loading(self, count):
        """The processes of that many workers, once they have started; each process is in it once."""
        names = [name for name in os.listdir(self.dir) if name.startswith('pid.')]
        if len(names) < count:
            return None
        for name in names:
            os.unlink(os.path.join(self.dir, name))
        return [int(name[len('pid.'):]) for name in names]


if __name__ == '__main__':
    main()
