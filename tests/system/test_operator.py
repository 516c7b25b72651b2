# SPDX-License-Identifier: Apache-2.0
"""What an operator is told: sentences that name the cause, and log lines that say who, in which task, how long."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest.mock

from knit_harness import PATIENCE, SANITIZED, Case, Daemon, main, wait_until

REFUSED = 1, 2
NOBODY = 65534 if os.geteuid() == 0 else None


class Sentences(Case):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='knit-')
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def refused(self, part, *arguments, has_socket=True, user=None, **environment):
        place = [f'--socket={self.dir}/k.sock'] if has_socket else []
        done = subprocess.run(
            [os.environ['KNIT_DAEMON'], '--worker-program', os.environ['KNIT_WORKER'], '--module', os.environ['KNIT_MODULE'],
             '--workers=1', *place, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=3 * PATIENCE, user=user, env={**os.environ, **environment})
        self.assertIn(done.returncode, REFUSED, done.stderr)
        sentences = [line for line in done.stderr.splitlines() if line.startswith('knittingd: ')]
        self.assertEqual(len(sentences), 1, done.stderr)
        self.assertIn(part, sentences[0])

    def test_a_port_out_of_range(self):
        self.refused("expected a port from 0 to 65535, not '127.0.0.1:70000'", '--listen=127.0.0.1:70000')

    def test_an_address_given_twice(self):
        with Daemon() as daemon:
            port = daemon.port
        self.refused('is given twice', f'--listen=127.0.0.1:{port}', f'--listen=127.0.0.1:{port}')

    def test_port_0_given_twice_is_two_ports(self):
        with Daemon('--listen=127.0.0.1:0') as daemon:
            self.assertEqual(len({url for url in daemon.urls if url.startswith('knit://')}), 2)

    def test_a_unit_that_is_none(self):
        self.refused('with KiB, MiB or GiB right behind it', '--arena-bytes=1G')

    def test_a_relative_runtime_folder(self):
        """Root's usual place is another one, so root tries it as somebody else."""
        self.refused("$XDG_RUNTIME_DIR is 'run/me', which is no absolute path", '--listen=127.0.0.1:0', has_socket=False, user=NOBODY,
                     XDG_RUNTIME_DIR='run/me')


    def test_a_mistake_that_is_seen_late_has_its_line(self):
        """What the text of one line alone does not show: an address, a user, a path, one figure beside another."""
        path = f'{self.dir}/knittingd.conf'
        for section, line in (('server', 'listen = 127.0.0.1:70000'), ('server', 'attach_users = root no-such-user'),
                              ('server', 'socket_group = no-such-group'), ('worker', 'read_paths = /no/such/path'),
                              ('pool', 'call_max_bytes = 9MiB'), ('log', 'debug = host nonsense')):
            with self.subTest(line):
                with open(path, 'w') as file:
                    file.write(f'# first\n[{section}]\n{line}\n')
                self.refused(f'knittingd: {path}:3: {section}.{line.split()[0]}: ', f'--config={path}')
        with open(path, 'w') as file:
            file.write('[worker]\nread_paths = /usr\nread_paths = /no/such/path\n')
        self.refused(f'knittingd: {path}: worker.read_paths: ', f'--config={path}')
        self.refused('knittingd: command line: worker.read_paths: ', '--read-paths=/no/such/path')

    def test_a_worker_that_its_limits_do_not_let_start(self):
        for option, value in ('files_max', 3), ('memory_max_bytes', 4096), ('file_max_bytes', 1):
            with self.subTest(option):
                if option == 'memory_max_bytes' and SANITIZED:
                    self.skipTest('a sanitizer takes memory without asking for it')
                self.refused(f'its worker.{option} is {value}', f'--{option.replace("_", "-")}={value}', '--check-config')

    def test_what_cannot_be_printed(self):
        for command in '--help', '--version', '--sample-config', '--print-config':
            with self.subTest(command), open('/dev/full', 'wb') as full:
                done = subprocess.run([os.environ['KNIT_DAEMON'], f'--socket={self.dir}/k.sock', command], stdin=subprocess.DEVNULL,
                                      stdout=full, stderr=subprocess.PIPE, text=True, timeout=3 * PATIENCE)
                self.assertEqual((done.returncode, done.stderr),
                                 (1, 'knittingd: cannot write the output: No space left on device\n'))

    def test_a_switch_with_its_value_behind_a_space(self):
        self.refused("worker.udp_sockets: expected on or off, not 'yes'", '--udp-sockets', 'yes')
        self.refused('worker.udp_sockets: opens what worker.permission strict closes', '--udp-sockets', 'on')


class Settings(Case):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='knit-')
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def printed(self, *arguments, **environment):
        done = subprocess.run([os.environ['KNIT_DAEMON'], '--print-config', *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=3 * PATIENCE, cwd=self.dir, env={**os.environ, **environment})
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        return done.stdout

    def values(self, text):
        """Of each key its values, and of each value where it comes from."""
        pairs = [re.fullmatch(r'(#?\w+) =(?: (.*?))? +; (.*)', line) for line in text.splitlines() if ' ; ' in line]
        self.assertNotIn(None, pairs, text)
        found = {}
        for pair in pairs:
            found.setdefault(pair[1], []).append((pair[2] or '', pair[3]))
        return found

    def write(self, text):
        path = os.path.join(self.dir, 'k.conf')
        with open(path, 'w') as file:
            file.write(text)
        return path

    def test_each_value_with_its_origin(self):
        path = self.write('[pool]\nworkers = 3\nmodules = a.so\nmodules = b.so\n[worker]\nfiles_max = auto\n[pool]\nmodules_root = mods\n')
        text = self.printed('--config', path, '--slots=32', '--worker-program=here', RUNTIME_DIRECTORY=self.dir, KNITTING_DEBUG='host')
        found = self.values(text)
        self.assertIn(f'# Settings file: {path}\n', text)
        self.assertEqual(found['workers'], [('3', f'{path}:2')])
        self.assertEqual(found['modules'], [(f'{self.dir}/a.so', f'{path}:3'), (f'{self.dir}/b.so', f'{path}:4')])
        self.assertEqual(found['modules_root'], [(f'{self.dir}/mods', f'{path}:8')])
        self.assertEqual(found['slots'], [('32', 'command line')])
        self.assertEqual(found['worker_program'], [(f'{self.dir}/here', 'command line')])
        self.assertEqual(found['listen'], [('none', 'environment, RUNTIME_DIRECTORY')])
        self.assertEqual(found['socket'], [(f'{self.dir}/knitting.sock', 'default, by $RUNTIME_DIRECTORY')])
        self.assertEqual(found['debug'], [('host', 'environment, KNITTING_DEBUG')])
        self.assertEqual(found['arena_bytes'], [('64MiB', 'default')])
        self.assertEqual(found['call_max_bytes'], [('8MiB', 'default, auto')])
        self.assertEqual(found['socket_mode'], [('0660', 'default')])
        self.assertEqual(found['#bootstrap'], [('', 'default, not set')])
        self.assertRegex(found['files_max'][0][0], r'^\d+$')
        self.assertEqual(found['files_max'][0][1], f'{path}:6, auto')
        listed = subprocess.run([os.environ['KNIT_DAEMON'], '--sample-config'], capture_output=True, text=True, check=True, timeout=30)
        self.assertEqual({key.lstrip('#') for key in found}, set(re.findall(r'^#(\w+) = ', listed.stdout, re.M)))

    def test_what_is_printed_is_a_settings_file_that_sets_the_same(self):
        path = self.write(self.printed('--workers=2', '--attach-users=root', '--drain-ms=7', '--socket=k.sock', '--listen=127.0.0.1:0'))
        again = self.values(self.printed('--config', path))
        for key, value in (('workers', '2'), ('attach_users', 'root'), ('drain_ms', '7'), ('socket', f'{self.dir}/k.sock'),
                           ('listen', '127.0.0.1:0'), ('balancer', 'roundRobin')):
            self.assertEqual([pair[0] for pair in again[key]], [value])
            self.assertTrue(again[key][0][1].startswith(path), again[key])

    def test_the_file_that_is_read_without_being_named(self):
        """Everybody who names it names the same one."""
        usual = re.search(r'from\s+(/\S+/knittingd.conf)', subprocess.run(
            [os.environ['KNIT_DAEMON'], '--help'], capture_output=True, text=True, check=True, timeout=30).stdout)[1]
        if os.path.exists(usual):
            self.assertIn(f'# Settings file: {usual}\n', self.printed())
        else:
            self.assertIn(f'# Settings file: none; {usual} is not there.\n', self.printed())

    def test_the_log_names_the_file(self):
        with Daemon(config='[pool]\nworkers = 1\n') as daemon:
            self.assertRegex(daemon.log(), r'msg=settings file=/\S+\n')
        with Daemon('--config=/dev/null', workers=1) as daemon:
            self.assertIn('msg=settings file=/dev/null\n', daemon.log())


class Memory(Case):
    def test_the_first_lines_say_how_much_the_settings_allow(self):
        with Daemon(workers=1, threads_io=1, arena_bytes='1MiB', input_max_bytes='16MiB', output_total_max_bytes='16MiB',
                    memory_max_bytes='1GiB', max_connections=1024) as daemon:
            line, = (line for line in daemon.log().splitlines() if 'settings allow' in line)
        self.assertIn(' loops="80.0 MiB" connections="36.0 MiB" workers="1.0 GiB" sum="1.', line)
        self.assertRegex(line, 'sessions="[1-9][0-9]*.[0-9] MiB"')
        self.assertEqual('level=warning' in line, 'more memory than the control group' in line)

    @staticmethod
    def new_group():
        """Its folder and the file of its limit, in either version."""
        with open('/proc/self/cgroup') as file:
            own = {names: group for _, names, group in (line.rstrip('\n').split(':', 2) for line in file)}
        if 'memory' in own:
            return f'/sys/fs/cgroup/memory{own["memory"]}/knit-{os.getpid()}', 'memory.limit_in_bytes'
        return f'/sys/fs/cgroup{own.get("", "/nowhere")}/knit-{os.getpid()}', 'memory.max'

    def test_a_control_group_that_allows_less_is_warned_of(self):
        folder, limit = self.new_group()
        try:
            os.mkdir(folder)
            self.addCleanup(os.rmdir, folder)
            with open(f'{folder}/{limit}', 'w') as file:
                file.write(str(600 << 20))
        except OSError as why:
            self.skipTest(f'no control group with a limit of memory can be made here: {why}')
        script = f'echo $$ >{folder}/cgroup.procs && exec "$0" --print-config --module "$1"'
        done = subprocess.run(['sh', '-c', script, os.environ['KNIT_DAEMON'], os.environ['KNIT_MODULE']], capture_output=True, text=True, check=True, timeout=30)
        self.assertIn('the control group allows: 600.0 MiB', done.stdout)
        popen = subprocess.Popen

        def inside(command, **options):
            return popen(['sh', '-c', f'echo $$ >{folder}/cgroup.procs && exec "$0" "$@"', *command], **options)
        with unittest.mock.patch.object(subprocess, 'Popen', inside), Daemon(workers=1) as daemon:
            line, = (line for line in daemon.log().splitlines() if 'the settings allow more memory than the control group' in line)
            self.assertIn('level=warning', line)
            self.assertIn('control_group="600.0 MiB"', line)


class Service(Case):
    """As a service manager starts it."""

    def test_it_says_when_it_serves_and_when_it_drains(self):
        for abstract in False, True:
            with self.subTest(abstract), tempfile.TemporaryDirectory() as folder, \
                    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                path = os.path.join(folder, 'notify')
                manager.bind('\0' + path if abstract else path)
                manager.settimeout(PATIENCE)
                with Daemon(environment={'NOTIFY_SOCKET': ('@' if abstract else '') + path}) as daemon:
                    self.assertRegex(manager.recv(1000), b'^READY=1\n')
                    self.assertTrue(os.path.exists(daemon.ready_file))
                    daemon.send_signal(signal.SIGTERM)
                    self.assertRegex(manager.recv(1000), b'^STOPPING=1\n')
                    daemon.wait()

    def test_the_socket_is_in_the_folder_of_the_service(self):
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other, \
                Daemon(omit_socket=True, environment={'RUNTIME_DIRECTORY': f'{folder}:{other}'}) as daemon:
            self.assertIn(f'unix://{folder}/knitting.sock', daemon.urls)

    def test_a_service_has_its_socket_alone_unless_told_otherwise(self):
        with tempfile.TemporaryDirectory() as folder:
            service = {'RUNTIME_DIRECTORY': folder}
            with Daemon(omit_socket=True, listen=None, environment=service) as daemon:
                self.assertEqual([url.split(':')[0] for url in daemon.urls], ['unix', 'shm'])
            with Daemon(omit_socket=True, environment=service) as daemon:
                self.assertEqual([url.split(':')[0] for url in daemon.urls], ['knit', 'unix', 'shm'])

    def test_who_may_call_a_service_may_look_at_it(self):
        """By TCP, or by a socket of the same mode; not where callers are told apart, which is not done there."""
        with tempfile.TemporaryDirectory() as folder:
            service = {'RUNTIME_DIRECTORY': folder + ':/other'}
            tokens = os.path.join(folder, 'tokens')
            with open(tokens, 'w', encoding='utf-8'):
                pass
            for words, place in ([], f'{folder}/admin.sock'), ([f'--tokens={tokens}'], 'none'), (['--admin=none'], 'none'), \
                    (['--listen=127.0.0.1:0'], '127.0.0.1:5650'):
                with self.subTest(words):
                    printed = subprocess.run([os.environ['KNIT_DAEMON'], '--config=/dev/null', '--print-config', *words], check=True,
                                             capture_output=True, text=True, timeout=3 * PATIENCE, env={**os.environ, **service})
                    self.assertEqual(re.search(r'(?m)^admin = (\S+) ', printed.stdout)[1], place)
            with Daemon(omit_socket=True, listen=None, admin=None, environment=service) as daemon:
                self.assertEqual(daemon.admin, f'unix://{folder}/admin.sock')

    def test_the_first_lines_say_who_may_call_through_what(self):
        def first_lines(daemon):
            """But for those about files that are not copied, as none is with a sanitizer."""
            return [line for line in daemon.log().splitlines() if 'used by its path' not in line]

        with Daemon(socket_mode='0666') as daemon:
            lines = first_lines(daemon)
        self.assertIn('callers="every user of this machine"', lines[0])
        self.assertIn('socket_mode=0666 socket_group="the daemon\'s own" attaching="all of them"', lines[1])
        with Daemon(attach_users='root') as daemon:
            self.assertIn('attaching="attach_users and attach_groups"', first_lines(daemon)[1])

    def test_lines_carry_their_priority_in_the_journal_alone(self):
        for names_it in True, False:
            reader, writer = os.pipe()
            status = os.fstat(writer)
            stream = f'{status.st_dev}:{status.st_ino + (not names_it)}'
            with self.subTest(names_it), open(reader, 'rb') as lines:
                with Daemon(workers=1, log_fd=writer, environment={'JOURNAL_STREAM': stream}) as daemon:
                    os.close(writer)
                    with daemon.tcp() as rpc:
                        self.assert_fails(400, rpc.call, 'crash', 'abort')
                text = lines.read().decode()
                self.assertEqual(all(line[:3] in ('<3>', '<4>', '<6>') for line in text.splitlines()), names_it, text)
                self.assertEqual('<4>ts=' in text, names_it, text)
                if names_it:
                    died, = (line for line in text.splitlines() if 'worker died' in line)
                    self.assertEqual(died[:3], '<4>')


class Log(Case):
    def line_with(self, daemon, text):
        return wait_until(lambda: next((line for line in daemon.log().splitlines() if text in line), None), text)

    def test_a_line_about_a_connection_says_whose_it_is(self):
        with Daemon(workers=1) as daemon:
            with daemon.tcp() as rpc:
                port = rpc.sock.getsockname()[1]
                rpc.call('$/hello', {'name': 'a \u202e caller whose name is longer than it should be', 'version': '0'})
                rpc.send(b'\xc1')
                rpc.is_closed_by_peer()
            line = self.line_with(daemon, 'closed for a bad message')
            self.assertIn(f' peer=127.0.0.1:{port} name="a \\u202e caller', line)
            with daemon.unix() as rpc:
                rpc.send(b'\xc1')
                rpc.is_closed_by_peer()
            self.line_with(daemon, f' peer=uid:{os.getuid()},pid:{os.getpid()} name=none')

    def test_a_refused_attach_is_logged(self):
        with Daemon(workers=1) as daemon, daemon.tcp() as rpc:
            self.assert_fails(301, rpc.call, '$/attach', {'layout': 1})
            line = self.line_with(daemon, 'attach refused')
            self.assertIn('level=warning', line)
            self.assertIn('reason="$/attach works on a unix socket alone', line)
            self.assertIn(' peer=127.0.0.1:', line)

    def test_a_replaced_worker_has_no_empty_reason(self):
        with Daemon(workers=1) as daemon, daemon.tcp() as rpc:
            self.assert_fails(400, rpc.call, 'crash', 'abort')
            wait_until(lambda: 'worker replaced' in daemon.log(), 'the replacement')
            self.assertNotIn('reason=""', daemon.log())

    def test_a_hard_timeout_says_task_and_milliseconds(self):
        with Daemon(workers=1, hard_timeout_ms=100) as daemon, daemon.tcp() as rpc:
            failed = self.assert_fails(401, rpc.call, 'sleep', 60000)
            self.assertIn('the task sleep ran longer than its hard timeout of 100 ms', failed.text)
            line, = (line for line in daemon.log().splitlines() if 'hard timeout' in line)
            self.assertIn('task=sleep hard_timeout_ms=100', line)

    def test_a_call_that_runs_for_long_is_logged_once(self):
        with Daemon(workers=1, slow_call_ms=50) as daemon, daemon.tcp() as rpc:
            msgid = rpc.request('sleep', 3600000)
            self.line_with(daemon, 'task runs for long')
            lane, = daemon.stats()['lanes']
            # It runs on for several times as long as it takes to be seen.
            over = time.monotonic() + 0.3
            wait_until(lambda: time.monotonic() > over, 'the time to pass')
            rpc.notify('$/cancel', msgid)
            self.assert_fails(304, rpc.result, msgid)
            line, = (line for line in daemon.log().splitlines() if 'task runs for long' in line)
            self.assertRegex(line, rf'level=warning .* lane=0 pid={lane["pid"]} task=sleep age_ms=\d+ session=\d+ slot=\d+ generation=\d+$')


main()
