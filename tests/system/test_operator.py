# SPDX-License-Identifier: Apache-2.0
"""What an operator is told: sentences that name the cause, and log lines that say who, in which task, how long."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile

from knit_harness import PATIENCE, Case, Daemon, main, wait_until

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
                    self.assertEqual(manager.recv(100), b'READY=1')
                    self.assertTrue(os.path.exists(daemon.ready_file))
                    daemon.send_signal(signal.SIGTERM)
                    self.assertEqual(manager.recv(100), b'STOPPING=1')
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

    def test_the_first_lines_say_who_may_call_through_what(self):
        with Daemon(socket_mode='0666') as daemon:
            lines = daemon.log().splitlines()
        self.assertIn('callers="every user of this machine"', lines[0])
        self.assertIn('socket_mode=0666 socket_group="the daemon\'s own" attaching="all of them"', lines[1])
        with Daemon(attach_users='root') as daemon:
            self.assertIn('attaching="attach_users and attach_groups"', daemon.log().splitlines()[1])

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


main()
