# SPDX-License-Identifier: Apache-2.0
"""Every worker of a running daemon is made of the files that it started with: modules and worker program may be
replaced, written over or removed, and only a restart brings what lies there then. Files that cannot be used from memory
are used by their paths while they have the same bytes."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import unittest
from unittest import mock

from knit_harness import PATIENCE, SANITIZED, Case, Daemon, main, wait_until
from knit_witness import descriptors

VERSIONS = os.environ['KNIT_VERSIONS']
WEIGHT_KB = 4096


def build_id(path):
    text = subprocess.run(['readelf', '-n', path], text=True, stdout=subprocess.PIPE, check=True).stdout
    found = re.search(r'Build ID: ([0-9a-f]+)', text)
    return found.group(1) if found else ''


def rename(new, path):
    shutil.copy(new, path + '.new')
    os.rename(path + '.new', path)


def write_over(new, path):
    """As cp does, and the file is cut short in between."""
    with open(new, 'rb') as source, open(path, 'r+b') as target:
        target.truncate(0)
        shutil.copyfileobj(source, target)


def write_half(new, path):
    """As cp does whose disk is full."""
    os.truncate(path, os.path.getsize(new) // 2)


def remove(_, path):
    os.unlink(path)


WAYS = rename, write_over, write_half, remove


class SameBytes(Case):
    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory(prefix='knit-'))
        self.module = self.put('version_1.so', 'version.so')

    def put(self, name, path):
        return shutil.copy(os.path.join(VERSIONS, name), os.path.join(self.folder, path))

    def version(self, number):
        return os.path.join(VERSIONS, f'version_{number}.so')

    def pids(self, daemon):
        return [lane['pid'] for lane in daemon.stats()['lanes'] if lane['state'] == 'serving']

    def replace_workers(self, daemon):
        """Kills all of them; their replacements'."""
        before = self.pids(daemon)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        return wait_until(lambda: (lambda now: len(now) == len(before) and not set(now) & set(before) and now)(
            self.pids(daemon)), 'other workers')

    def modules(self, daemon):
        return daemon.stats()['modules']

    def serves(self, daemon, version):
        with daemon.unix() as rpc:
            self.assertEqual({rpc.call('version') for _ in range(20)}, {version})


@unittest.skipIf(SANITIZED, 'a sanitizer reads symbols by path')
class Frozen(SameBytes):
    def test_a_module_that_changes(self):
        for permission in 'strict', 'custom', 'unsafe':
            for change in WAYS:
                with self.subTest(change.__name__, permission=permission):
                    self.put('version_1.so', 'version.so.new')
                    os.rename(self.module + '.new', self.module)
                    with Daemon(module=self.module, permission=permission) as daemon:
                        expected = [{'file': 'version.so', 'build_id': build_id(self.version(1)), 'is_frozen': True}]
                        self.serves(daemon, 1)
                        change(self.version(2), self.module)
                        self.serves(daemon, 1)
                        self.replace_workers(daemon)
                        self.serves(daemon, 1)
                        self.assertEqual(self.modules(daemon), expected)
                        self.assertNotIn('used by its path', daemon.log())
                    if change in (rename, write_over):
                        with Daemon(module=self.module, permission=permission) as daemon:
                            self.serves(daemon, 2)
                            self.assertEqual(self.modules(daemon)[0]['build_id'], build_id(self.version(2)))
        self.assertNotEqual(build_id(self.version(1)), build_id(self.version(2)))

    def test_a_worker_program_that_changes(self):
        other = os.path.join(os.environ['KNIT_OTHER_WORKERS'], 'other_worker_1')
        worker = os.path.join(self.folder, 'knitting-worker')
        for change in WAYS:
            with self.subTest(change.__name__):
                shutil.copy(os.environ['KNIT_WORKER'], worker + '.new')
                os.rename(worker + '.new', worker)
                with Daemon(module=self.module, worker=worker) as daemon:
                    change(other, worker)
                    pids = self.replace_workers(daemon)
                    self.serves(daemon, 1)
                    self.assertEqual(daemon.stats()['worker'], {
                        'file': 'knitting-worker', 'build_id': build_id(os.environ['KNIT_WORKER']), 'is_frozen': True})
                    self.assertNotIn('level=error', daemon.log())
                    with open(f'/proc/{pids[0]}/comm') as file:
                        self.assertEqual(file.read(), 'knitting-worker\n')
                    with open(f'/proc/{pids[0]}/cmdline') as file:
                        self.assertEqual(file.read().split('\0')[0], worker)

    def test_many_modules(self):
        """More than there are numbers below those that descriptors are moved to, and each is itself."""
        with tempfile.TemporaryDirectory(prefix='knit-') as folder:
            modules = [shutil.copy(os.path.join(VERSIONS, f'counted_{number}.so'), folder) for number in range(1, 25)]
            with Daemon(*[f'--module={path}' for path in modules], module=self.module) as daemon:
                shutil.rmtree(folder)
                self.replace_workers(daemon)
                with daemon.unix() as rpc:
                    for number in range(1, 25):
                        self.assertEqual(rpc.call(f'counted_{number}'), number)
                self.assertEqual([row['file'] for row in self.modules(daemon)],
                                 ['version.so'] + [f'counted_{number}.so' for number in range(1, 25)])
                os.mkdir(folder)

    def test_workers_keep_no_descriptors_of_it(self):
        with Daemon(module=self.module) as daemon:
            for pid in self.pids(daemon):
                targets = [os.readlink(f'/proc/{pid}/fd/{name}') for name in os.listdir(f'/proc/{pid}/fd')]
                self.assertEqual([target for target in targets if 'version' in target or 'worker' in target], [])
            before = descriptors(daemon.pid)
            for _ in range(3):
                self.replace_workers(daemon)
            # The connection that asked last is closed when the daemon has seen its end.
            wait_until(lambda: descriptors(daemon.pid) <= before, f'{before} descriptors')

    def test_workers_share_its_pages(self):
        with Daemon(module=self.module, workers=4) as daemon, daemon.unix() as rpc:
            pids = self.pids(daemon)
            affine = {}
            for key in range(200):
                rpc.call('weigh', options={'affinity': key})
            for pid in pids:
                affine[pid] = self.weight(pid)
            print(f'4 workers: kB of the module in memory {[row["Rss"] for row in affine.values()]}, '
                  f'its share {[row["Pss"] for row in affine.values()]}')
            for row in affine.values():
                self.assertGreaterEqual(row['Rss'], WEIGHT_KB)
                self.assertLess(row['Private_Clean'] + row['Private_Dirty'], 256)

    def weight(self, pid):
        """What /proc says about the mappings of the module in that worker, summed up."""
        total, inside = {}, False
        with open(f'/proc/{pid}/smaps') as file:
            for line in file:
                words = line.split()
                if re.match(r'[0-9a-f]+-[0-9a-f]+ ', line):
                    inside = '/memfd:version.so' in line
                elif inside and len(words) == 3 and words[2] == 'kB':
                    total[words[0].rstrip(':')] = total.get(words[0].rstrip(':'), 0) + int(words[1])
        return total


class Names(SameBytes):
    def test_the_loader_and_the_hook_name_the_file(self):
        with Daemon(module=self.module) as daemon, daemon.unix() as rpc:
            real = os.path.realpath(self.module)
            self.assertEqual(rpc.call('own_path'), real)
            self.assertEqual(rpc.call('told_path'), real)
            if not SANITIZED:
                rename(self.version(2), self.module)
            self.assertIs(rpc.call('opens_itself'), True)


class ByPath(SameBytes):
    """Files that cannot be used from memory."""

    def refused_until_it_is_back(self, daemon, path, version):
        """No worker is made of another file, and the pool tries again."""
        kept = path + '.kept'
        self.assertIn(f'msg="used by its path: no worker starts when it has changed" file={path}', daemon.log())
        shutil.copy(path, kept)
        for change, sentence in (rename, 'was changed since'), (remove, 'No such file or directory'):
            change(self.version(2), path)
            os.kill(self.pids(daemon)[0], signal.SIGKILL)
            wait_until(lambda: re.search(f'{path}: .*{sentence}', daemon.log()), 'the refusal', 3 * PATIENCE)
            self.assertEqual(self.pids(daemon), [])
            shutil.copy(kept, path + '.new')
            os.rename(path + '.new', path)
            wait_until(lambda: self.pids(daemon), 'a worker', 3 * PATIENCE)
            self.serves(daemon, version)

    def test_a_module_that_finds_a_library_in_its_own_folder(self):
        module = self.put('version_beside.so', 'beside.so')
        self.put('libbeside.so', 'libbeside.so')
        with Daemon(module=module, workers=1) as daemon:
            self.serves(daemon, 101)
            self.assertEqual(self.modules(daemon),
                             [{'file': 'beside.so', 'build_id': build_id(module), 'is_frozen': False}])
            self.refused_until_it_is_back(daemon, module, 101)

    def test_a_script_for_the_worker_program(self):
        worker = os.path.join(self.folder, 'worker')
        with open(worker, 'w') as file:
            file.write(f'#!/bin/sh\nexec {os.environ["KNIT_WORKER"]} "$@"\n')
        os.chmod(worker, 0o755)
        with Daemon(module=self.module, worker=worker, workers=1) as daemon:
            self.assertIs(daemon.stats()['worker']['is_frozen'], False)
            self.assertEqual(daemon.stats()['worker']['build_id'], '')
            self.refused_until_it_is_back(daemon, worker, 1)

    @unittest.skipIf(SANITIZED, 'a sanitizer reads symbols by path')
    def test_a_system_that_forbids_to_run_memory(self):
        """vm.memfd_noexec=2: the worker program is run by its path, modules are still loaded from memory. Linux before 6.3 knows no such
        setting, nor the flags that name it."""
        for refusal, is_frozen in ('EACCES', False), ('EINVAL', True):
            with self.subTest(refusal):
                program = os.path.join(self.folder, 'daemon')
                with open(program, 'w') as file:
                    file.write(f'#!/bin/sh\nexec {os.environ["KNIT_OLD_KERNEL"]} memfd_exec={refusal} '
                               f'{os.environ["KNIT_DAEMON"]} "$@"\n')
                os.chmod(program, 0o755)
                worker = shutil.copy(os.environ['KNIT_WORKER'], os.path.join(self.folder, 'knitting-worker'))
                with mock.patch.dict(os.environ, KNIT_DAEMON=program):
                    daemon = Daemon(module=self.module, worker=worker, workers=1)
                with daemon:
                    self.assertIs(daemon.stats()['worker']['is_frozen'], is_frozen)
                    self.assertEqual([row['is_frozen'] for row in self.modules(daemon)], [True])
                    os.unlink(self.module)
                    if is_frozen:
                        os.unlink(worker)
                        self.replace_workers(daemon)
                    else:
                        self.refused_until_it_is_back(daemon, worker, 1)
                    self.serves(daemon, 1)
                self.put('version_1.so', 'version.so')


if __name__ == '__main__':
    main()
