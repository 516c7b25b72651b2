# SPDX-License-Identifier: Apache-2.0
"""The units of systemd: what its own programs say of them, sockets by socket activation, and in a system that is booted for it a
service as it is installed: its page followed to the letter, a roll under load, a loop that is stuck, a drain that takes its time.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import knit_examples
from knit_booted_root import CALLS, Booted, Unavailable
from knit_harness import PATIENCE, SANITIZED, SLOWDOWN, Daemon, Rpc, wait_until
from knit_load import Load
from knit_tls import Authority
from test_notify import WALL, Manager, stopped, threads

BUILD = os.environ['KNIT_BUILD']
UNITS = ('knittingd.service', 'knittingd@.service', 'knittingd.socket')
PAGE = 'deploy/doc/SYSTEMD.md'
# What systemd-analyze may say at most, in tenths: what a unit leaves open that need not be.
EXPOSURE_MAX = 15
ROLLS = 100 if os.environ.get('KNIT_TEST_LONG') == '1' else 4
USUAL_ADDRESS = '127.0.0.1', 5648


def installed(folder):
    """The files that are installed, by the path at which they stand on a system; and the prefix."""
    subprocess.run(['meson', 'install', '-C', BUILD, '--no-rebuild', '--quiet', '--destdir', folder], check=True,
                   stdout=subprocess.DEVNULL, timeout=PATIENCE * 12)
    paths = {os.path.join(parent, name)[len(folder):]: os.path.join(parent, name)
             for parent, _, names in os.walk(folder) for name in names}
    daemon = next(path for path in paths if path.endswith('/bin/knittingd'))
    return paths, daemon[:-len('/bin/knittingd')]


class Files(unittest.TestCase):
    """As systemd's own programs read them."""

    def setUp(self):
        if shutil.which('systemd-analyze') is None:
            self.skipTest('systemd-analyze is not installed')
        self.dir = tempfile.mkdtemp(prefix='knit-')
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        for name in UNITS:
            folder = BUILD if name != 'knittingd.socket' else os.environ['KNIT_SOURCE']
            with open(os.path.join(folder, 'deploy', name), encoding='utf-8') as file:
                # Not installed: a program that is there.
                text = re.sub(r'(?m)^ExecStart=\S*knittingd$', f'ExecStart={os.environ["KNIT_DAEMON"]}', file.read())
            self.write(name, text)

    def write(self, name, text):
        with open(os.path.join(self.dir, name), 'w', encoding='utf-8') as file:
            file.write(text)

    def append(self, name, text):
        with open(os.path.join(self.dir, name), 'a', encoding='utf-8') as file:
            file.write(text)

    def said(self, *words):
        done = subprocess.run(['systemd-analyze', *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                              cwd=self.dir, timeout=PATIENCE * 6, env={**os.environ, 'SYSTEMD_UNIT_PATH': self.dir + ':'})
        return done.returncode, done.stderr

    def verified(self):
        """Its status is 0 for a key that it does not know, so what counts is what it says."""
        _, text = self.said('verify', '--man=no', *[os.path.join(self.dir, name) for name in UNITS])
        return [line for line in text.splitlines() if 'knittingd' in line]

    def test_nothing_in_them_is_wrong(self):
        self.assertEqual(self.verified(), [])
        for name in UNITS:
            with self.subTest(name):
                with open(os.path.join(self.dir, name), encoding='utf-8') as file:
                    text = file.read()
                self.append(name, '\n[Unit]\nNoSuchKey=1\n')
                self.assertRegex(' '.join(self.verified()), f"/{name}:[0-9]+: Unknown key .*'NoSuchKey'")
                self.write(name, text)

    def test_they_leave_no_more_open_than_they_need(self):
        for name in UNITS[:2]:
            with self.subTest(name):
                words = 'security', '--offline=true', '--no-pager', f'--threshold={EXPOSURE_MAX}', os.path.join(self.dir, name)
                self.assertEqual(self.said(*words)[0], 0)
                self.append(name, '\n[Service]\nNoNewPrivileges=no\n')
                self.assertNotEqual(self.said(*words)[0], 0)


class Activation(unittest.TestCase):
    def test_the_first_connection_starts_it_and_is_served(self):
        if shutil.which('systemd-socket-activate') is None:
            self.skipTest('systemd-socket-activate is not installed')
        with Manager(watchdog_ms=200) as manager, tempfile.TemporaryDirectory(prefix='knit-') as folder:
            path = os.path.join(folder, 'k.sock')
            command = ['setpriv', '--pdeathsig', 'KILL', '--', 'systemd-socket-activate', '-l', path, '--fdname=knit',
                       *[word for name, value in manager.environment.items() for word in ('-E', f'{name}={value}')],
                       os.environ['KNIT_DAEMON'], '--config=/dev/null', '--admin=none', '--workers=1',
                       '--worker-program', os.environ['KNIT_WORKER'], '--module', os.environ['KNIT_MODULE']]
            with open(os.path.join(folder, 'log'), 'w+', encoding='utf-8') as log:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                try:
                    wait_until(lambda: is_listening(path), 'the socket')
                    self.assertEqual(manager.waiting(), [])
                    with Rpc(connected(path)) as rpc:
                        self.assertEqual(rpc.call('add', 1, 2), 3)
                        manager.until('READY')
                        manager.until('WATCHDOG')
                    process.send_signal(signal.SIGTERM)
                    manager.until('STOPPING')
                    self.assertEqual(process.wait(PATIENCE), 0)
                finally:
                    process.kill()
                    process.wait()
                log.seek(0)
                self.assertNotIn('level=error', log.read())
            # It is the manager's.
            self.assertTrue(os.path.exists(path))


def is_listening(path):
    """As the kernel lists it, without connecting to it."""
    with open('/proc/net/unix') as file:
        # Num RefCount Protocol Flags Type St Inode Path: flags of one that listens.
        return any(line.split()[3] == '00010000' and line.split()[-1] == path for line in file)


def connected(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE)
    sock.connect(path)
    return sock


# A program of nobody's, as strictly confined as a service can be.
STRICT = '''[Service]
Type=oneshot
ExecStart=/usr/bin/true
User=nobody
RuntimeDirectory=strict
LimitNOFILE=65536
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateMounts=yes
ProtectProc=invisible
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectHostname=yes
RestrictNamespaces=yes
MemoryDenyWriteExecute=yes
SystemCallFilter=@system-service
'''


class Booting(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        try:
            with Booted() as booted:
                booted.write('/etc/systemd/system/strict.service', STRICT)
                booted.run('systemctl', 'daemon-reload')
                booted.run('systemctl', 'start', 'strict', check=False)
                result = booted.show('strict', 'Result', 'ExecMainStatus')
        except Unavailable as why:
            raise unittest.SkipTest(f'no system is booted here: {why}') from None
        if result != ['success', '0']:
            raise unittest.SkipTest(f'a booted system confines no service here: {" ".join(result)}')


class Service(Booting):
    """As it is installed, in a system of its own."""

    @classmethod
    def setUpClass(cls):
        if SANITIZED:
            raise unittest.SkipTest('the libraries of sanitizers are not in the root that is booted')
        super().setUpClass()
        cls.folder = tempfile.mkdtemp(prefix='knit-')
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        os.chmod(cls.folder, 0o755)  # as the root of a system, which it is laid over
        cls.files, cls.prefix = installed(cls.folder)

    def boot(self, settings='[pool]\nworkers = 2\n', module=os.environ['KNIT_MODULE'], calls=CALLS):
        """Everything is installed but not started."""
        booted = Booted(calls=calls)
        self.addCleanup(booted.end)
        shutil.copytree(self.folder, booted.path('/'), dirs_exist_ok=True, symlinks=True)
        self.modules = self.variable('moduledir')
        os.makedirs(booted.path(self.modules))
        if module is not None:
            shutil.copy(module, booted.path(self.modules))
        self.config = next(path for path in self.files if path.endswith('/knittingd.conf')).replace('/share/', '/etc/')
        if settings is not None:
            booted.write(self.config, settings)
            booted.run('systemd-sysusers')
        booted.run('systemctl', 'daemon-reload')
        return booted

    def variable(self, name):
        path = next(path for path in self.files.values() if path.endswith('/knitting.pc'))
        return subprocess.run(['pkg-config', f'--variable={name}', path], check=True, capture_output=True, text=True).stdout.strip()

    def drop_in(self, booted, unit, text):
        booted.write(f'/etc/systemd/system/{unit}.d/test.conf', text)
        booted.run('systemctl', 'daemon-reload')

    def rpc(self, booted):
        return Rpc(connected(booted.path('/run/knitting/knitting.sock')))

    def host_pid(self, booted, unit):
        """By which this side knows the main process of a unit."""
        inner = booted.show(unit, 'MainPID')
        for pid in booted.pids():
            with contextlib.suppress(OSError), open(f'/proc/{pid}/status') as file:  # it may have ended
                if re.search(rf'(?m)^NSpid:.*\s{inner}$', file.read()):
                    return pid
        raise AssertionError(f'no process is {inner} of {unit}')

    def test_its_page_is_followed(self):
        booted = self.boot(settings=None, module=None)
        page = Page(booted, self.folder, self.prefix, self.variable)
        self.addCleanup(page.close)
        for step in knit_examples.steps(knit_examples.text_of(os.environ['KNIT_SOURCE'], PAGE)):
            with self.subTest(f'{PAGE}:{step.line}'):
                self.assertEqual(page.follow(step), '')

    def test_two_instances_take_turns_and_nobody_is_refused(self):
        booted = self.boot()
        self.drop_in(booted, 'knittingd.socket', '[Socket]\nListenStream=%s:%u\n' % USUAL_ADDRESS)
        # Nobody rolls so often that systemd takes it for a unit that fails.
        self.drop_in(booted, 'knittingd@.service', '[Unit]\nStartLimitIntervalSec=0\n')
        booted.run('systemctl', 'start', 'knittingd.socket')
        booted.run('systemctl', 'start', 'knittingd@a')
        elder, younger = 'knittingd@a', 'knittingd@b'
        with booted.network(), Load(USUAL_ADDRESS[1], booted.path('/run/knitting/knitting.sock')) as load:
            for _ in range(ROLLS):
                before = load.counts['ok']
                wait_until(lambda: load.counts['ok'] > before + 50, 'calls')
                booted.run('systemctl', 'start', younger)
                booted.run('systemctl', 'stop', elder)
                self.assertEqual(booted.show(elder, 'Result', 'ActiveState'), ['success', 'inactive'])
                elder, younger = younger, elder
            before = load.counts['ok']
            wait_until(lambda: load.counts['ok'] > before + 50, 'calls')
        print(f'{ROLLS} rolls: {dict(load.counts)}')
        self.assertEqual(load.failures, [])
        self.assertEqual(set(load.counts) - {'ok', 'sent again'}, set())
        # What starts is an instance that is asked for, not one by a connection while another serves.
        self.assertEqual(booted.show(younger, 'ActiveState', 'NRestarts'), ['inactive', '0'])

    def test_the_socket_unit_and_the_service_give_way_to_each_other(self):
        """Each ends the other one first: where a socket lies that one opens, the other removes nothing afterwards."""
        booted = self.boot()
        for started, ended in ('knittingd.service', 'knittingd.socket'), ('knittingd.socket', 'knittingd.service'), \
                ('knittingd.service', 'knittingd.socket'):
            booted.run('systemctl', 'start', started)
            self.assertEqual(booted.show(ended, 'ActiveState'), 'inactive')
            with self.rpc(booted) as rpc:
                self.assertEqual(rpc.call('add', 1, 2), 3)

    def test_a_socket_for_tls_is_a_unit_of_its_own(self):
        """As the comments in knittingd.socket say: both instances have it, and know what it is for."""
        authority = Authority()
        self.addCleanup(authority.close)
        booted = self.boot('[server]\nlisten_tls = 127.0.0.1:1\ntls_certificate = /etc/tls/server.pem\n'
                           'tls_key = /etc/tls/server.key\n[pool]\nworkers = 1\n')
        for name in 'server.pem', 'server.key':
            with open(authority.path(name), encoding='utf-8') as file:
                booted.write(f'/etc/tls/{name}', file.read())
        booted.run('chown', '-R', 'knitting:', '/etc/tls')
        booted.write('/etc/systemd/system/knittingd-tls.socket',
                     '[Socket]\nListenStream=127.0.0.1:5649\nFileDescriptorName=tls\nService=knittingd@a.service\n')
        self.drop_in(booted, 'knittingd@.service', '[Service]\nSockets=knittingd-tls.socket\n')
        booted.run('systemctl', 'start', 'knittingd.socket', 'knittingd-tls.socket')
        for elder, younger in (None, 'knittingd@a'), ('knittingd@a', 'knittingd@b'):
            if elder is not None:
                booted.run('systemctl', 'start', younger)
                booted.run('systemctl', 'stop', elder)
            with booted.network(), socket.create_connection(('127.0.0.1', 5649), PATIENCE) as plain, \
                    Rpc(authority.client().wrap_socket(plain, server_hostname='localhost')) as rpc:
                self.assertEqual(rpc.call('add', 1, 2), 3)
            with self.rpc(booted) as rpc:
                self.assertEqual(rpc.call('add', 1, 2), 3)
            self.assertEqual(booted.show(younger, 'ActiveState'), 'active')

    def test_a_loop_that_is_stuck_costs_the_daemon(self):
        booted = self.boot()
        self.drop_in(booted, 'knittingd.service', f'[Service]\nWatchdogSec={int(3000 * SLOWDOWN)}ms\n')
        booted.run('systemctl', 'start', 'knittingd')
        daemon = Process(self.host_pid(booted, 'knittingd'))
        loop = threads(daemon)['knit-loop-0']
        with stopped(loop):
            wait_until(lambda: os.waitpid(loop, WALL | os.WNOHANG)[0] == loop, 'systemd to end it', 6 * PATIENCE)
        wait_until(lambda: int(booted.show('knittingd', 'NRestarts')) > 0, 'systemd to start another one', 6 * PATIENCE)
        wait_until(lambda: booted.show('knittingd', 'SubState') == 'running', 'it to run', 6 * PATIENCE)
        for line in 'Watchdog timeout', 'an event loop does not turn':
            wait_until(lambda line=line: line in booted.journal('knittingd'), line)
        with self.rpc(booted) as rpc:
            self.assertEqual(rpc.call('add', 1, 2), 3)

    def test_a_drain_may_take_longer_than_a_stop(self):
        booted = self.boot('[server]\ndrain_ms = 3600000\n[pool]\nworkers = 1\n')
        self.drop_in(booted, 'knittingd.service', '[Service]\nTimeoutStopSec=500ms\n')
        booted.run('systemctl', 'start', 'knittingd')
        with self.rpc(booted) as rpc, self.rpc(booted) as other:
            msgid = rpc.request('sleep', 3600000)
            wait_until(lambda: other.call('$/stats')['loops']['calls_in_flight'] == 1, 'the call')
            other.close()
            booted.run('systemctl', 'stop', '--no-block', 'knittingd')
            wait_until(lambda: booted.show('knittingd', 'StatusText').startswith('draining until '), 'it to drain')
            late = time.monotonic() + 1
            wait_until(lambda: time.monotonic() > late, 'twice the time in which it has to stop')
            rpc.notify('$/cancel', msgid)
            self.assertIn('CANCELLED', rpc.response(msgid)[0])
        wait_until(lambda: booted.show('knittingd', 'ActiveState') == 'inactive', 'its end')
        self.assertEqual(booted.show('knittingd', 'Result'), 'success')

    def test_workers_have_what_they_need(self):
        """They are confined as elsewhere on this machine, and wait for their callers; where futex_waitv is refused, none spins."""
        with Daemon() as daemon:
            confinement = daemon.stats()['pool']['confinement']
        for calls, mode in (CALLS, 'direct'), ((*CALLS[:-1], '~futex_waitv'), 'relayed'):
            with self.subTest(mode):
                booted = self.boot(calls=calls)
                booted.run('systemctl', 'start', 'knittingd')
                with self.rpc(booted) as rpc:
                    pool = rpc.call('$/stats')['pool']
                    self.assertEqual(pool['wake_mode'], mode)
                    self.assertEqual(pool['confinement'], confinement)
                    self.assertEqual(rpc.call('add', 1, 2), 3)
                if mode != 'direct':
                    wait_until(lambda: 'futex_waitv is refused' in booted.journal('knittingd'), 'the warning')
                    self.assert_idle(booted)
                booted.end()

    def assert_idle(self, booted):
        """Nobody uses a processor, for as long as one that spins would use it."""
        pids = booted.pids()

        def used():
            total = 0
            for pid in pids:
                with contextlib.suppress(OSError), open(f'/proc/{pid}/schedstat') as file:
                    total += int(file.read().split()[0])
            return total
        before, end = used(), time.monotonic() + 1
        wait_until(lambda: time.monotonic() > end, 'a second')
        self.assertLess(used() - before, 200 * 1000000 * SLOWDOWN)


class Process:
    def __init__(self, pid):
        self.pid = pid


class Page:
    """The terminal in which it is followed: a shell of the booted system, but for the compiler and a browser, which are of this
    machine."""

    def __init__(self, booted, folder, prefix, variable):
        self.booted, self.prefix = booted, prefix
        self.at, self.here = '/srv/page', tempfile.mkdtemp(prefix='knit-')
        os.makedirs(booted.path(self.at))
        self.flags = f'-I{folder}{prefix}/include'
        self.script('sudo', '#!/bin/sh\nexec "$@"\n')
        self.script('pkg-config', f'#!/bin/sh\n[ "$*" = "--variable=moduledir knitting" ] && echo {variable("moduledir")}\n')

    def close(self):
        shutil.rmtree(self.here, ignore_errors=True)

    def script(self, name, text):
        self.booted.write(f'/usr/bin/{name}', text)
        os.chmod(self.booted.path(f'/usr/bin/{name}'), 0o755)

    def hand_over(self):
        shutil.copytree(self.here, self.booted.path(self.at), dirs_exist_ok=True)

    def follow(self, step):
        """What the step shows and does not do; '': it does it."""
        if step.name:
            with open(os.path.join(self.here, step.name), 'w', encoding='utf-8') as file:
                file.write(step.text)
            self.hand_over()
            return ''
        text, word = step.text.replace('/usr/local', self.prefix), step.text.split()[0]
        if word == 'cc':
            command = ['bash', '-c', text.replace('$(pkg-config --cflags knitting)', self.flags)]
            done = subprocess.run(command, cwd=self.here, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=PATIENCE * 6, check=False)
            self.hand_over()
        elif word == 'curl':
            with self.booted.network():
                done = subprocess.run([sys.executable, '-c', FETCH, shlex.split(text)[-1]], text=True, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, timeout=PATIENCE * 6, check=False)
        else:
            command = self.booted.inside(['bash', '-o', 'pipefail', '-c', f'cd {self.at}; {text}'])
            done = subprocess.run(command, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=PATIENCE * 12, check=False)
        output = step.output.replace('/usr/local', self.prefix)
        if done.stdout != output or (done.returncode != 0 and output == ''):
            return f'$ {step.text}\nstatus {done.returncode}, and it prints\n{done.stdout}in place of\n{output}'
        return ''


FETCH = 'import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1]).read().decode())'


class Root(Booting):
    """The system that is booted here."""

    def test_two_that_run_at_once_do_not_meet(self):
        with Booted() as one, Booted() as other:
            pid = other.show('systemd-journald', 'MainPID')
            one.run('systemctl', 'restart', 'systemd-journald')
            self.assertEqual(other.show('systemd-journald', 'MainPID'), pid)
            one.write('/etc/new', 'text')
            self.assertEqual(one.run('cat', '/etc/new'), 'text')
            self.assertIn('No such file', other.run('cat', '/etc/new', check=False))
            with one.network(), open('/proc/thread-self/net/dev') as file:
                self.assertEqual([line.split(':')[0].strip() for line in file.readlines()[2:]], ['lo'])

    def test_what_cannot_be_booted_says_why(self):
        with self.assertRaisesRegex(Unavailable, 'systemd-nspawn boots nothing: .*no-such-folder'):
            Booted('/no-such-folder:/mnt')


if __name__ == '__main__':
    unittest.main(verbosity=2)
