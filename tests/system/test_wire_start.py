# SPDX-License-Identifier: Apache-2.0
"""Starting: a daemon that refuses to start says why in one sentence and has an exit status other than 0."""

import grp
import os
import shutil
import socket
import stat
import subprocess
import tempfile

from knit_harness import Case, Daemon, main

START, SETTINGS = 1, 2
NOBODY = 65534
PROGRAMS = '--worker-program', os.environ.get('KNIT_WORKER'), '--module', os.environ.get('KNIT_MODULE')


def run(*arguments, user=None, **environment):
    """As that user and in no group but its own."""
    env = {**os.environ, **environment}
    as_user = {} if user is None else {'user': user, 'group': user, 'extra_groups': []}
    return subprocess.run([os.environ['KNIT_DAEMON'], *arguments], env=env, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=30, **as_user)


class Words(Case):
    def test_help_version_and_sample_go_to_stdout(self):
        for option, part in (('--help', '--listen ADDRESS:PORT'), ('-h', '--check-config'),
                             ('--version', 'knittingd 0.'), ('--sample-config', '#workers = auto')):
            with self.subTest(option):
                done = run(option)
                self.assertEqual((done.returncode, done.stderr), (0, ''))
                self.assertIn(part, done.stdout)

    def test_a_full_disk_is_reported(self):
        with open('/dev/full', 'w') as full:
            done = subprocess.run([os.environ['KNIT_DAEMON'], '--help'], stdout=full, timeout=30)
        self.assertNotEqual(done.returncode, 0)

    def test_the_sample_in_the_tree_is_what_the_table_says(self):
        path = os.path.join(os.path.dirname(__file__), '..', '..', 'deploy', 'knittingd.conf')
        with open(path) as file:
            self.assertEqual(file.read(), run('--sample-config').stdout,
                             'write it anew: knittingd --sample-config > deploy/knittingd.conf')

    def test_the_sample_is_a_configuration(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'k.conf')
            with open(path, 'w') as file:
                file.write(run('--sample-config').stdout)
            done = run('--config', path, '--check-config', *PROGRAMS, '--socket=none')
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, '', ''))


class Refused(Case):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='knit-')
        self.socket = os.path.join(self.dir, 'k.sock')

    def tearDown(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    def assert_refused(self, status, parts, *arguments, **environment):
        done = run(*arguments, **environment)
        self.assertEqual(done.returncode, status, done.stderr)
        lines = [line for line in done.stderr.splitlines() if line.startswith('knittingd: ')]
        self.assertEqual(len(lines), 1, done.stderr)
        for part in parts:
            self.assertIn(part, lines[0])

    def words(self, arguments):
        usual = {'worker-program': os.environ['KNIT_WORKER'], 'module': os.environ['KNIT_MODULE'],
                 'workers': '1', 'socket': self.socket, 'listen': '127.0.0.1:0'}
        return [f'--{name}={value}' for name, value in usual.items()
                if not any(word.startswith(f'--{name}=') for word in arguments)] + list(arguments)

    def start(self, status, parts, *arguments, user=None):
        self.assert_refused(status, parts, *self.words(arguments), user=user)
        self.assertEqual([n for n in os.listdir(self.dir) if n.startswith('k.sock')], [])

    def both(self, parts, *arguments, status=SETTINGS, user=None):
        """The start and --check-config refuse it with the same status and the same sentence."""
        self.start(status, parts, *arguments, user=user)
        self.start(status, parts, *arguments, '--check-config', user=user)

    def test_settings(self):
        path = os.path.join(self.dir, 'k.conf')
        for text, part in (('[pool]\nworkers = 0\n', f'{path}:2: pool.workers: expected a number from 1 to 256'),
                           ('[pool]\nworkerz = 1\n', 'the nearest is workers'),
                           ('[pool]\nmodules = ' + 'x' * 300 + '\n', f'{path}:2: the line is longer than')):
            with open(path, 'w') as file:
                file.write(text)
            for check in ((), ('--check-config',)):
                self.assert_refused(SETTINGS, [part], '--config', path, *check)
        self.assert_refused(SETTINGS, ['cannot open', '/nowhere'], '--config', '/nowhere')
        self.assert_refused(SETTINGS, ['--lisen', '--listen'], '--lisen=x')
        self.assert_refused(SETTINGS, ['$KNITTING_DEBUG', 'lifecycle'], '--check-config', KNITTING_DEBUG='everything')

    def test_what_is_right_passes_the_check(self):
        done = run(*self.words(('--check-config',)))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, '', ''))

    def test_addresses(self):
        self.both(['expected ADDRESS:PORT', "'localhost'"], '--listen=localhost')
        self.both(['number of an address', "'localhost:1'"], '--listen=localhost:1')
        self.both(["'127.0.0.1:65536'"], '--listen=127.0.0.1:65536')
        self.both(['0.0.0.0:0', '--allow-remote-without-authentication'], '--listen=0.0.0.0:0')
        self.both(['[::]:0', '--allow-remote-without-authentication'], '--listen=[::]:0')
        self.both(['nothing to listen on'], '--listen=none', '--socket=none')
        self.both(['the path of a socket from / on', "'run/admin.sock'"], '--admin=run/admin.sock')

    def test_an_address_that_this_machine_does_not_have(self):
        """The system refuses it, so the exit status is not that of wrong settings."""
        self.both(['192.0.2.1:1', 'annot assign'], '--listen=192.0.2.1:1', '--allow-remote-without-authentication',
                  status=START)

    def test_a_port_in_use(self):
        """A check says nothing of it: the daemon that is to be restarted holds it."""
        with socket.create_server(('127.0.0.1', 0)) as server:
            port = server.getsockname()[1]
            self.start(START, [f'127.0.0.1:{port}', 'in use'], f'--listen=127.0.0.1:{port}')
            done = run(*self.words((f'--listen=127.0.0.1:{port}', '--check-config')))
            self.assertEqual((done.returncode, done.stderr), (0, ''))

    def test_modules_and_workers(self):
        self.both(['/nowhere.so'], '--module=/nowhere.so')
        self.both([self.dir, 'no regular file'], f'--module={self.dir}')
        self.both(['pool.modules', 'none'], '--module=none')
        self.both(['/nowhere', 'worker program'], '--worker-program=/nowhere')
        self.both([self.dir, 'worker program'], f'--worker-program={self.dir}')
        text = os.path.join(self.dir, 'text.so')
        with open(text, 'w') as file:
            file.write('not a shared object')
        self.both([text, 'not executable'], f'--worker-program={text}')
        self.start(START, ['worker startup failed', text], f'--module={text}')
        self.start(START, ['worker'], '--worker-program=/bin/true')

    def test_users_and_groups(self):
        self.both(['attach_users', 'no user', 'nobody-of-that-name'], '--attach-users=nobody-of-that-name')
        self.both(['attach_groups', 'no group'], '--attach-groups=nobody-of-that-name')
        self.both(['socket_group', 'no group'], '--socket-group=nobody-of-that-name')

    def test_a_group_that_the_daemon_is_no_member_of(self):
        """Root may give files to every group, so it tries it as somebody else."""
        user = NOBODY if os.geteuid() == 0 else None
        groups = {gid for gid in (0, 1, 2, 3) if gid not in os.getgroups() or user is not None}
        os.chmod(self.dir, 0o777)
        self.both(['socket_group', 'has to be a member'], f'--socket-group={grp.getgrgid(max(groups)).gr_name}', user=user)

    def test_paths(self):
        self.both(['at most 107 bytes', '125'], '--socket=/tmp/' + 'x' * 120)
        self.both(['/nowhere', 'No such file'], '--socket=/nowhere/k.sock')
        self.both(['/nowhere', 'read_paths'], '--read-paths=/nowhere')
        self.both(['/nowhere', 'No such file'], '--ready-file=/nowhere/ready')
        self.both(['expected a path'], '--ready-file=')
        with open(os.path.join(self.dir, 'file'), 'w'):
            pass
        self.both(['not a socket'], f'--socket={self.dir}/file')
        self.both([f'{self.dir}/file', 'Not a directory'], f'--socket={self.dir}/file/k.sock')
        self.assertTrue(os.path.exists(os.path.join(self.dir, 'file')))

    def test_quotation_marks_and_tildes_are_refused_in_paths(self):
        for option in ('socket', 'module', 'worker-program', 'read-paths'):
            for value in ('"/tmp/x"', "'/tmp/x'"):
                self.both(['quotation mark', value], f'--{option}={value}')
            self.both(['~', './~/x'], f'--{option}=~/x')

    def test_without_a_default_path_the_error_names_the_socket_setting(self):
        if os.geteuid() == 0:
            self.skipTest('root has /run')
        for check in ((), ('--check-config',)):
            self.assert_refused(SETTINGS, ['--socket'], '--listen=127.0.0.1:0', XDG_RUNTIME_DIR='', *check)


class Twice(Case):
    def test_the_second_daemon_on_a_socket_is_refused_and_harms_nothing(self):
        with Daemon() as first:
            done = run(*PROGRAMS, '--listen=none', f'--socket={first.socket}',
                       f'--ready-file={first.ready_file}')
            self.assertEqual(done.returncode, START)
            self.assertIn('served by another knittingd', done.stderr)
            self.assertTrue(os.path.exists(first.ready_file))
            with first.unix() as rpc:
                self.assertEqual(rpc.call('$/ping', 1), 1)

    def test_the_second_daemon_on_a_port_is_refused(self):
        with Daemon() as first:
            done = run(*PROGRAMS, '--socket=none',
                       f'--listen=127.0.0.1:{first.port}')
            self.assertEqual(done.returncode, START)
            self.assertIn('in use', done.stderr)

    def test_a_stale_socket_is_replaced(self):
        with Daemon() as first:
            first.expected_status = -9
            first.process.kill()
            first.wait()
            self.assertTrue(stat.S_ISSOCK(os.stat(first.socket).st_mode))
            with Daemon(socket=first.socket) as second:
                second.socket = first.socket
                with second.unix() as rpc:
                    self.assertEqual(rpc.call('$/ping', 1), 1)

    def test_a_live_socket_of_another_program_is_refused(self):
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
            path = os.path.join(folder, 'k.sock')
            server.bind(path)
            server.listen()
            done = run(*PROGRAMS, '--listen=none', f'--socket={path}')
            self.assertEqual(done.returncode, START)
            self.assertIn('served by another program', done.stderr)
            self.assertTrue(os.path.exists(path))


class Placed(Case):
    def test_mode_and_ready_file(self):
        with Daemon(socket_mode='0600') as daemon:
            self.assertEqual(stat.S_IMODE(os.stat(daemon.socket).st_mode), 0o600)
            with open(daemon.ready_file) as file:
                lines = file.read().splitlines()
            self.assertEqual(lines, [f'url=knit://127.0.0.1:{daemon.port}', f'url=unix://{daemon.socket}',
                                     f'url=shm://{daemon.socket}', f'pid={daemon.pid}'])
            self.assertEqual([n for n in os.listdir(daemon.dir) if n.startswith('ready')], ['ready'])

    def test_ipv6_and_several_addresses(self):
        if not socket.has_ipv6 or not os.path.exists('/proc/net/if_inet6'):
            self.skipTest('no IPv6 here')
        try:
            socket.create_server(('::1', 0), family=socket.AF_INET6).close()
        except OSError:
            self.skipTest('no ::1 here')
        with Daemon('--listen=[::1]:0') as daemon:
            self.assertEqual(sum(url.startswith('knit://') for url in daemon.urls), 2)
            port = int(next(u for u in daemon.urls if '[::1]' in u).rsplit(':', 1)[1])
            socket.create_connection(('::1', port)).close()

    def test_an_unusable_log_stops_nothing(self):
        with open('/dev/full', 'w') as full, Daemon(socket='none', workers=1, log_fd=full.fileno()):
            pass


if __name__ == '__main__':
    main()
