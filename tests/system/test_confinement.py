# SPDX-License-Identifier: Apache-2.0
"""A task that tries to get out: module_escape.c lists the attempts. What `strict` denies works with `unsafe`, so that a
test cannot pass because the attempt is broken; `custom` allows what is listed and nothing else. old_kernel.c simulates
older kernels.
"""

import ctypes
import errno
import os
import resource
import signal
import socket
import sys
import tempfile
import unittest
import unittest.mock

from knit_attach import LAYOUT
from knit_harness import SANITIZED, Case, Daemon, main, wait_until

DENIED = (errno.EPERM, errno.EACCES, errno.ENOTSUP)
LANDLOCK_ABI = ctypes.CDLL(None, use_errno=True).syscall(444, None, 0, 1)


class World:
    """Targets outside of the policy: files, ports, sockets, a process, all of this test."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix='knit-outside-')
        os.chmod(self.folder.name, 0o777)
        self.file = os.path.join(self.folder.name, 'file')
        with open(self.file, 'w') as file:
            file.write('secret')
        os.chmod(self.file, 0o666)
        self.tcp = socket.create_server(('127.0.0.1', 0))
        self.port = self.tcp.getsockname()[1]
        self.other = socket.create_server(('127.0.0.1', 0))
        self.other_port = self.other.getsockname()[1]
        self.abstract_name = f'knit-test-{os.getpid()}'
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind('\0' + self.abstract_name)
        self.abstract.listen()
        self.datagram_path = os.path.join(self.folder.name, 'datagrams')
        self.datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.datagrams.bind(self.datagram_path)

    def new(self, name):
        return os.path.join(self.folder.name, name)

    def close(self):
        for sock in (self.tcp, self.other, self.abstract, self.datagrams):
            sock.close()
        self.folder.cleanup()


class Outside(Case):
    """Targets outside of the policy, and a daemon whose task tries to reach them."""

    def setUp(self):
        self.world = World()
        self.addCleanup(self.world.close)

    def daemon(self, **options):
        options.setdefault('workers', 1)
        return Daemon(module=os.environ['KNIT_ESCAPE'], **options)

    def daemon_of(self, command, **options):
        """One that a shell starts, behind a command of its own."""
        script = self.world.new('daemon')
        with open(script, 'w') as file:
            file.write(f'#!/bin/sh\n{command} {os.environ["KNIT_DAEMON"]} "$@"\n')
        os.chmod(script, 0o755)
        with unittest.mock.patch.dict(os.environ, KNIT_DAEMON=script):
            return Outside.daemon(self, **options)

    def attempts(self, daemon):
        """The attempts that must fail in `strict`: name, text, number."""
        world, pid = self.world, daemon.pid
        yield from [
            ('read', world.file, 0), ('read', '/etc/passwd', 0), ('list', world.folder.name, 0), ('list', '/proc', 0),
            ('write', world.file, 0), ('create', world.new('made'), 0), ('truncate', world.file, 6),
            ('truncate by reading', world.file, 0), ('mkdir', world.new('folder'), 0), ('link', world.file, 0),
            ('read attribute', world.file, 0), ('open for nothing', world.file, 0),
            ('chmod', world.file, 0), ('chown', world.file, 0), ('touch', world.file, 0), ('watch', '', 0),
            ('remove', world.file, 0),
            ('connect', '', world.port), ('udp', '', world.port), ('fast open', '', world.port),
            ('bind', '', 0), ('listen', '', 0),
            ('linger', '', 0), ('linger', '', 1 << 32), ('linger', '', 1 << 62),
            ('unix', daemon.socket, 0), ('abstract', world.abstract_name, 0), ('pair', world.datagram_path, 0),
            ('exec', '/bin/true', 0), ('exec memory', '/bin/true', 0),
            ('kill', '', pid), ('tgkill', '', pid), ('pidfd', '', pid), ('signal by descriptor', '', pid),
            ('session', '', 0), ('ptrace', '', pid), ('peek', '', pid), ('open memory', '', pid),
            ('environment of', '', pid), ('limit', '', pid), ('nice', '', pid), ('affinity', '', pid), ('share', '', 0),
            ('ring', '', 0),
        ]

    def denied(self, rpc, attempts):
        for what, text, number in attempts:
            if SANITIZED and (what, text) == ('list', '/proc'):
                continue  # sanitizers read their maps there
            with self.subTest(what, text=text, number=number):
                self.assertIn(rpc.call('attempt', what, text, number), DENIED)


class Confinement(Outside):
    def test_strict_denies(self):
        with self.daemon() as daemon, daemon.unix() as rpc:
            module = os.environ['KNIT_ESCAPE']
            self.assertIn(rpc.call('constructor'), DENIED)
            self.denied(rpc, self.attempts(daemon))
            self.denied(rpc, [
                ('attribute', self.world.file, 0), ('read attribute', module, 0), ('open for nothing', '/dev/zero', 0),
                ('mount', '/', 0), ('unshare', '', 0), ('clone namespace', '', 0), ('clone beside', '', 0),
                ('device', self.world.new('device'), 0),
                ('setuid', '', 65534), ('multipath', '', self.world.port), ('kill', '', 1),
                ('family', '', 16), ('family', '', 17), ('family', '', 38), ('family', '', 40),
                ('32 bits', '', 0), ('x32', '', 0)][:None if os.uname().machine == 'x86_64' else -2])
            self.assertEqual(daemon.stats()['pool']['deaths'], 0)
        with open(self.world.file) as file:
            self.assertEqual(file.read(), 'secret')

    @unittest.skipUnless(os.uname().machine == 'x86_64', 'the numbers are those of x86-64')
    def test_strict_denies_calls_of_administrators(self):
        numbers = {'ptrace': 101, 'personality': 135, 'pivot_root': 155, 'chroot': 161, 'acct': 163, 'settimeofday': 164,
                   'mount': 165, 'umount2': 166, 'swapon': 167, 'reboot': 169, 'sethostname': 170, 'iopl': 172,
                   'init_module': 175, 'quotactl': 179, 'clock_settime': 227, 'mq_open': 240, 'kexec_load': 246,
                   'add_key': 248, 'keyctl': 250, 'ioprio_set': 251, 'migrate_pages': 256, 'unshare': 272,
                   'move_pages': 279, 'perf_event_open': 298, 'fanotify_init': 300, 'name_to_handle_at': 303,
                   'open_by_handle_at': 304, 'setns': 308, 'process_vm_readv': 310, 'process_vm_writev': 311, 'kcmp': 312,
                   'finit_module': 313, 'seccomp': 317, 'bpf': 321, 'userfaultfd': 323, 'io_uring_enter': 426,
                   'open_tree': 428, 'fsopen': 430, 'pidfd_getfd': 438, 'mount_setattr': 442, 'shmat': 30,
                   'setuid': 105, 'setgroups': 116, 'capset': 126, 'modify_ldt': 154}
        with self.daemon() as daemon, daemon.unix() as rpc:
            if SANITIZED:
                del numbers['ptrace']  # leaks are looked for with it
            for name, number in numbers.items():
                with self.subTest(name):
                    self.assertEqual(rpc.call('attempt', 'call', '', number), errno.EPERM)
            # A system call that the policy does not know fails as on a kernel without it.
            self.assertEqual(rpc.call('attempt', 'call', '', 511), errno.ENOSYS)

    def test_unsafe_allows(self):
        with self.daemon(permission='unsafe') as daemon, daemon.unix() as rpc:
            self.assertEqual(rpc.call('constructor'), 0)
            for what, text, number in self.attempts(daemon):
                if what == 'ring':
                    continue  # kernels may have switched it off
                with self.subTest(what, text=text):
                    self.assertEqual(rpc.call('attempt', what, text, number), 0)
            self.assertEqual(daemon.stats()['pool']['confinement'], {
                'permission': 'unsafe', 'landlock_abi': 0, 'privileges': False, 'files': False, 'ports': False,
                'scopes': False, 'calls': False})

    def test_strict_allows_what_tasks_need(self):
        module = os.environ['KNIT_ESCAPE']
        with self.daemon() as daemon, daemon.unix() as rpc:
            for what, text in (('read', module), ('list', os.path.dirname(module)), ('read', '/dev/urandom'),
                               ('write', '/dev/null'), ('list', '/usr/lib'), ('read', '/proc/self/maps'), ('fork', module)):
                with self.subTest(what, text=text):
                    self.assertEqual(rpc.call('attempt', what, text, 0), 0)
            # pthread_setaffinity_np() and the like name the thread that calls.
            self.assertEqual(rpc.call('attempt', 'affinity', '', daemon.stats()['lanes'][0]['pid']), 0)
            for option in (socket.SO_SNDBUF, socket.SO_KEEPALIVE, socket.SO_PASSCRED, 1000):
                with self.subTest('option', option=option):
                    self.assertNotIn(rpc.call('attempt', 'option', '', option), DENIED)

    def test_only_its_own_descriptors_and_environment(self):
        os.environ['KNIT_SECRET'] = 'secret'
        kept = os.open(self.world.file, os.O_RDONLY)
        os.set_inheritable(kept, True)
        try:
            with self.daemon() as daemon, daemon.unix() as rpc:
                names = {line.split('=')[0] for line in rpc.call('environment').splitlines()}
                lines = rpc.call('descriptors').splitlines()
        finally:
            del os.environ['KNIT_SECRET']
            os.close(kept)
        self.assertEqual(names - {'PATH', 'LANG', 'KNITTING_WORKER_PID'}, set())
        expected = ('/dev/null', 'pipe:', 'socket:', '/proc/', 'anon_inode:[eventfd]', 'anon_inode:[eventpoll]',
                    'anon_inode:[pidfd]', 'pidfd:')
        for line in lines:
            self.assertTrue(line.split(' ', 1)[1].startswith(expected), line)

    def test_custom_opens_what_is_listed(self):
        with self.daemon(permission='custom', read_paths='/etc/passwd', write_paths=self.world.folder.name,
                         exec_programs='on', unix_sockets='on') as daemon, daemon.unix() as rpc:
            for what, text in (('read', '/etc/passwd'), ('write', self.world.file), ('create', self.world.new('made')),
                               ('mkdir', self.world.new('folder')), ('truncate by reading', self.world.file),
                               ('exec', '/bin/true'), ('exec memory', '/bin/true'), ('unix', daemon.socket)):
                with self.subTest(what, text=text):
                    self.assertEqual(rpc.call('attempt', what, text, 0), 0)
            self.denied(rpc, [('read', '/etc/shadow', 0), ('write', '/etc/passwd', 0), ('connect', '', self.world.port),
                              ('chmod', self.world.file, 0), ('kill', '', daemon.pid), ('ptrace', '', daemon.pid),
                              ('exec', self.program(), 0), ('udp', '', 9), ('session', '', 0), ('unshare', '', 0)])
            if LANDLOCK_ABI >= 6:
                self.denied(rpc, [('abstract', self.world.abstract_name, 0)])

    def program(self):
        """One that may be written, so it may not be run."""
        path = self.world.new('program')
        with open('/bin/true', 'rb') as source, open(path, 'wb') as target:
            target.write(source.read())
        os.chmod(path, 0o755)
        return path

    @unittest.skipUnless(LANDLOCK_ABI >= 4, 'this kernel\'s Landlock does not know ports')
    def test_custom_tells_ports_apart(self):
        with self.daemon(permission='custom', connect_ports=self.world.port) as daemon, daemon.unix() as rpc:
            self.assertEqual(rpc.call('attempt', 'connect', '', self.world.port), 0)
            self.denied(rpc, [('connect', '', self.world.other_port), ('fast open', '', self.world.other_port),
                              ('multipath', '', self.world.other_port), ('bind', '', 0), ('listen', '', 0),
                              ('udp', '', self.world.port), ('unix', daemon.socket, 0)])
        with self.daemon(permission='custom', connect_ports='any', udp_sockets='on') as daemon, daemon.unix() as rpc:
            self.assertEqual([rpc.call('attempt', what, '', self.world.other_port) for what in ('connect', 'udp')], [0, 0])
            self.denied(rpc, [('bind', '', 0), ('listen', '', 0)])
        with self.daemon(permission='custom', listen_ports=self.world.port) as daemon, daemon.unix() as rpc:
            self.denied(rpc, [('bind', '', self.world.other_port), ('bind', '', 0), ('connect', '', self.world.port)])
            # Landlock does not see the port that the kernel picks for a socket that has none.
            self.assertEqual(rpc.call('attempt', 'listen', '', 0), 0)

    def test_limits(self):
        with self.daemon(memory_max_bytes='256MiB', files_max=64, file_max_bytes='1MiB') as daemon, daemon.unix() as rpc:
            self.assertEqual(rpc.call('limit_of', resource.RLIMIT_NOFILE), 64)
            self.assertEqual(rpc.call('limit_of', resource.RLIMIT_CORE), 0)
            self.assertEqual(rpc.call('limit_of', resource.RLIMIT_FSIZE), 1 << 20)
            if not SANITIZED:
                self.assertEqual(rpc.call('limit_of', resource.RLIMIT_DATA), 256 << 20)
                self.assertEqual(rpc.call('allocate', 512 << 20), errno.ENOMEM)
                self.assertEqual(rpc.call('allocate', 16 << 20), 0)

    def test_limit_of_descriptors_unless_it_is_given(self):
        for of_daemon, expected in ((300, 256), (2000, 500), (5000, 1024)):
            for permission in ('strict', 'unsafe'):
                with self.subTest(of_daemon), self.daemon_of(f'ulimit -n {of_daemon}; exec', permission=permission) as daemon, \
                        daemon.unix() as rpc:
                    self.assertEqual(rpc.call('limit_of', resource.RLIMIT_NOFILE), expected)
        with self.daemon_of('ulimit -n 2000; exec', files_max=0) as daemon, daemon.unix() as rpc:
            self.assertEqual(rpc.call('limit_of', resource.RLIMIT_NOFILE), 2000)

    def test_descriptors_in_flight_leave_the_daemon_some(self):
        """They count for the whole uid, against the limit of the process that sends."""
        with self.daemon_of('ulimit -n 2000; exec', workers=2) as daemon, daemon.unix() as rpc:
            self.assertIn(rpc.call('in_flight'), (errno.ETOOMANYREFS, errno.EMFILE))
            pids = {lane['pid'] for lane in daemon.stats()['lanes']}
            quiet = min(pids, key=lambda pid: len(os.listdir(f'/proc/{pid}/fd')))
            os.kill(quiet, signal.SIGKILL)
            wait_until(lambda: all(lane['state'] == 'serving' and lane['pid'] != quiet for lane in daemon.stats()['lanes']),
                       'a worker in its place')
            with daemon.unix() as other:
                self.assertEqual(other.call('$/attach', {'version': LAYOUT})['layout'], LAYOUT)
                for _ in range(20):
                    self.assertEqual(other.call('attempt', 'list', '/usr', 0), 0)

    def test_the_daemon_has_no_privileges_it_does_not_need(self):
        def of(pid):
            with open(f'/proc/{pid}/status') as file:
                fields = dict(line.rstrip('\n').split(':\t', 1) for line in file if ':\t' in line)
            return [fields[name] for name in ('CapPrm', 'CapEff', 'CapInh', 'CapAmb', 'NoNewPrivs', 'Seccomp')]
        none = '0' * 16
        with self.daemon() as daemon:
            worker = daemon.stats()['lanes'][0]['pid']
            for pid in (daemon.pid, worker):
                self.assertEqual(of(pid), [none] * 4 + ['1', '2'])
            for thread in os.listdir(f'/proc/{daemon.pid}/task'):
                self.assertEqual(of(f'{daemon.pid}/task/{thread}'), [none] * 4 + ['1', '2'])
        with self.daemon(permission='unsafe') as daemon:
            self.assertEqual(of(daemon.pid), of('self'))


class Settings(Case):
    def refused(self, parts, *arguments, **options):
        with Daemon(*arguments, module=os.environ['KNIT_ESCAPE'], workers=1, wait=False, **options) as daemon:
            daemon.expected_status = daemon.wait()
            self.assertNotEqual(daemon.expected_status, 0)
            for part in parts:
                self.assertIn(part, daemon.log())

    def test_strict_refuses_settings_that_open_access(self):
        for key, value in (('write_paths', '/tmp'), ('connect_ports', '80'), ('listen_ports', 'any'),
                           ('udp_sockets', 'on'), ('unix_sockets', 'on'), ('exec_programs', 'on')):
            with self.subTest(key):
                self.refused([f'worker.{key}', 'strict'], **{key: value})

    def test_unsafe_refuses_settings_without_effect(self):
        self.refused(['worker.read_paths', 'unsafe'], permission='unsafe', read_paths='/tmp')

    def test_invalid_ports_and_paths(self):
        for port in ('0', '65536', 'http', '-1', '1x'):
            self.refused(['worker.connect_ports', f"'{port}'"], permission='custom', connect_ports=port)
        self.refused(['worker.read_paths', '/nowhere'], read_paths='/nowhere')


@unittest.skipIf(SANITIZED, 'sanitizers read /proc and trace, so their workers may')
class OldKernels(Outside):
    """Under a kernel that lacks a feature: refused when a setting asks for it, a warning when none does."""

    def daemon(self, what, **options):
        return self.daemon_of(f'exec {os.environ["KNIT_OLD_KERNEL"]} {what}', **options)

    def refused(self, what, parts, **options):
        with self.daemon(what, wait=False, **options) as daemon:
            daemon.expected_status = daemon.wait()
            self.assertNotEqual(daemon.expected_status, 0)
            for part in parts:
                self.assertIn(part, daemon.log())

    def test_without_landlock(self):
        for permission in ('strict', 'custom'):
            self.refused('landlock=none', [f'permission {permission} cannot be enforced', 'no Landlock'],
                         permission=permission)
        with self.daemon('landlock=none') as daemon, daemon.unix() as rpc:
            self.assertIn('workers are not confined in full', daemon.log())
            self.assertIn('no Landlock', daemon.log())
            stats = daemon.stats()['pool']['confinement']
            self.assertEqual([stats[name] for name in ('permission', 'files', 'calls')], ['strict', False, True])
            self.assertEqual(rpc.call('attempt', 'read', self.world.file, 0), 0)
            self.denied(rpc, [('exec', '/bin/true', 0), ('connect', '', self.world.port), ('kill', '', daemon.pid),
                              ('ptrace', '', daemon.pid), ('truncate', self.world.file, 0), ('chmod', self.world.file, 0)])

    def test_without_seccomp(self):
        self.refused('seccomp=none', ['permission strict cannot be enforced', 'seccomp'], permission='strict')
        with self.daemon('seccomp=none') as daemon, daemon.unix() as rpc:
            self.assertIn('workers are not confined in full', daemon.log())
            self.assertFalse(daemon.stats()['pool']['confinement']['calls'])
            self.denied(rpc, [('read', self.world.file, 0)])

    def test_each_version_of_landlock(self):
        for abi in range(1, min(LANDLOCK_ABI, 6) + 1):
            with self.subTest(abi=abi), self.daemon(f'landlock={abi}', permission='strict') as daemon, \
                    daemon.unix() as rpc:
                self.assertEqual(daemon.stats()['pool']['confinement']['landlock_abi'], abi)
                self.denied(rpc, self.attempts(daemon))
                self.assertEqual(rpc.call('attempt', 'fork', os.environ['KNIT_ESCAPE'], 0), 0)

    def test_ports_need_a_kernel_that_knows_them(self):
        self.refused('landlock=3', ['permission custom cannot be enforced', 'ports', '6.7'], permission='custom',
                     connect_ports=self.world.port)
        with self.daemon('landlock=3', permission='custom', connect_ports='any') as daemon, daemon.unix() as rpc:
            self.assertEqual(rpc.call('attempt', 'connect', '', self.world.port), 0)
            self.denied(rpc, [('bind', '', 0), ('listen', '', 0), ('udp', '', self.world.port)])
        # Other sockets bind with the same system call as TCP's.
        for key in ('udp_sockets', 'unix_sockets'):
            self.refused('landlock=3', ['permission custom cannot be enforced', 'ports', '6.7'], permission='custom',
                         connect_ports='any', **{key: 'on'})
        with self.daemon('landlock=3', permission='custom', connect_ports='any', listen_ports='any',
                         udp_sockets='on') as daemon, daemon.unix() as rpc:
            self.assertEqual([rpc.call('attempt', what, '', 0) for what in ('bind', 'listen')], [0, 0])


if __name__ == '__main__':
    if LANDLOCK_ABI < 1:
        print('this kernel has no Landlock')
        sys.exit(77)
    main()
