# SPDX-License-Identifier: Apache-2.0
"""A whole systemd of Debian's, booted by systemd-nspawn on a root of its own: for what only a service manager shows.

    with Booted(f'{installed}:/usr/local') as booted:
        booted.run('systemctl', 'start', 'knittingd')

The root has systemd, dpkg and the libraries that the programs need, and nothing of the project. mmdebstrap makes it once, in the
build folder ($KNIT_BUILD), of packages from Debian's mirror. What is written while it runs lies in memory and ends with it. Its
network is a loopback of its own.

Unavailable says why this machine cannot boot it: what is missing, no mirror, no right to. Nothing of the project runs before the
boot is over, so what fails after that is the project's. As a program it prints the folder of the root:

    KNIT_BUILD=build tests/system/knit_booted_root.py
"""

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zlib

SLOWDOWN = float(os.environ.get('KNIT_TEST_SLOWDOWN', '1'))
MAKE_SECONDS = 600 * SLOWDOWN
BOOT_SECONDS = 120 * SLOWDOWN
RUN_SECONDS = 120 * SLOWDOWN

SUITE = 'bookworm'
PACKAGES = ('libevent-core-2.1-7', 'libjson-c5', 'libmsgpackc2', 'libseccomp2', 'libssl3', 'systemd')
# What workers ask of the kernel beyond what the filter of systemd-nspawn allows.
CALLS = ('landlock_create_ruleset', 'landlock_add_rule', 'landlock_restrict_self', 'futex_waitv')
CLONE_NEWNET = 0x40000000


class Unavailable(Exception):
    """This machine cannot: the reason."""


def root():
    """The folder of the root, which is made where it is missing, or where it has other packages."""
    folder = os.path.join(os.environ['KNIT_BUILD'], f'booted-root-{zlib.crc32(repr(PACKAGES).encode()):08x}')
    if os.geteuid() != 0:
        raise Unavailable('only root may boot one')
    for program in 'mmdebstrap', 'systemd-nspawn', 'nsenter', 'setpriv':
        if shutil.which(program) is None:
            raise Unavailable(f'{program} is not installed')
    # Another test may be making it just now.
    with open(folder + '.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(folder):
            make(folder)
    return folder


def make(folder):
    new = folder + '.new'
    shutil.rmtree(new, ignore_errors=True)
    command = ['setpriv', '--pdeathsig', 'TERM', '--', 'mmdebstrap', '--mode=root', '--variant=essential',
               '--dpkgopt=force-unsafe-io', '--include=' + ','.join(PACKAGES), SUITE, new]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=MAKE_SECONDS, check=False)
    if done.returncode != 0:
        shutil.rmtree(new, ignore_errors=True)
        raise Unavailable(f'mmdebstrap made no root: {last_lines(done.stdout)}')
    os.rename(new, folder)


def control_groups(name):
    """New ones for this boot, in each hierarchy where a systemd keeps its own: two that share them end each other's units."""
    with open('/proc/self/cgroup') as file:
        own = {names: path for _, names, path in (line.rstrip('\n').split(':', 2) for line in file)}
    with open('/proc/self/mountinfo') as file:
        mounts = [(line.split()[4], line.split(' - ')[1].split()) for line in file]
    made = []
    for place, (kind, _, options) in mounts:
        names = 'name=systemd' if kind == 'cgroup' and 'name=systemd' in options.split(',') else '' if kind == 'cgroup2' else None
        if names in own:
            made.append(os.path.join(place, own[names].lstrip('/'), name))
    try:
        for folder in made:
            os.makedirs(folder, exist_ok=True)
    except OSError as why:
        raise Unavailable(f'no control group can be made: {why}') from None
    return made


def remove_control_groups(folders):
    """Which are empty as soon as the kernel has done with what was killed."""
    deadline = time.monotonic() + 10 * SLOWDOWN
    for top in folders:
        while os.path.exists(top) and time.monotonic() < deadline:
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)


def last_lines(text):
    return '; '.join(line.strip() for line in text.strip().splitlines()[-3:]) or 'it says nothing'


class Booted:
    """binds: SOURCE:TARGET, which the booted system sees but cannot write, as bind_rw, which it can. calls: what is allowed
    beside what the filter of systemd-nspawn allows, or with ~ is not."""

    def __init__(self, *binds, bind_rw=(), calls=CALLS):
        folder = root()
        self.dir = tempfile.mkdtemp(prefix='knit-')
        self.process, self.leader, self.groups = None, None, []  # leader: the process id of the booted systemd
        self.console, notify = os.path.join(self.dir, 'console'), os.path.join(self.dir, 'notify')
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(notify)
        self.name = name = 'knit-' + os.urandom(6).hex()
        words = ['--quiet', f'--directory={folder}', f'--machine={name}', '--volatile=overlay', '--register=no', '--keep-unit',
                 '--private-network', '--settings=no', '--link-journal=no', '--resolv-conf=off', '--timezone=off',
                 '--notify-ready=yes', *[f'--system-call-filter={call}' for call in calls],
                 *[f'--bind-ro={bind}' for bind in binds], *[f'--bind={bind}' for bind in bind_rw], '--boot']
        try:
            self.groups = control_groups(name)
            with open(self.console, 'wb') as console:
                self.process = subprocess.Popen(
                    ['sh', '-c', 'for group in $0; do echo $$ >"$group/cgroup.procs" || exit; done; exec "$@"',
                     ' '.join(self.groups), 'setpriv', '--pdeathsig', 'KILL', '--', 'systemd-nspawn', *words],
                    stdin=subprocess.DEVNULL, stdout=console, stderr=console, env={**os.environ, 'NOTIFY_SOCKET': notify})
            self.wait_booted()
        except BaseException:
            self.end()
            raise

    def wait_booted(self):
        """Until its systemd says READY=1, which systemd-nspawn hands on, as it says who that is."""
        deadline = time.monotonic() + BOOT_SECONDS
        self.manager.settimeout(0.2)
        is_ready = False
        while self.leader is None or not is_ready:
            if self.process.poll() is not None:
                raise Unavailable(f'systemd-nspawn boots nothing: {last_lines(self.printed())}')
            if time.monotonic() > deadline:
                raise Unavailable(f'nothing was booted in {BOOT_SECONDS} s: {last_lines(self.printed())}')
            try:
                lines = self.manager.recv(4096).decode(errors='replace').splitlines()
            except TimeoutError:
                continue
            for line in lines:
                if line.startswith('X_NSPAWN_LEADER_PID='):
                    self.leader = int(line.partition('=')[2])
                is_ready |= line == 'READY=1'

    def printed(self):
        with open(self.console, errors='replace') as file:
            return file.read()

    def path(self, path):
        """By which this side reaches a file of the booted system, or a socket."""
        return f'/proc/{self.leader}/root{path}'

    def write(self, path, text):
        os.makedirs(os.path.dirname(self.path(path)), exist_ok=True)
        with open(self.path(path), 'w', encoding='utf-8') as file:
            file.write(text)

    def start(self, *command, **options):
        """Of a program in the booted system, as its root; as subprocess.Popen."""
        return subprocess.Popen(self.inside(command), stdin=subprocess.DEVNULL, **options)

    def inside(self, command):
        return ['nsenter', f'--target={self.leader}', '--all', '--', '/usr/bin/env', '-i',
                'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'HOME=/root', 'LANG=C.UTF-8', *command]

    def run(self, *command, check=True, timeout=RUN_SECONDS):
        """What it prints, its errors too. Without check also of one that fails."""
        done = subprocess.run(self.inside(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors='replace', timeout=timeout, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f'{" ".join(command)}: status {done.returncode}\n{done.stdout}')
        return done.stdout

    def show(self, unit, *names):
        """Properties of a unit, one value for each name."""
        found = dict(line.split('=', 1) for line in self.run('systemctl', 'show', unit, *[f'--property={name}' for name in names])
                     .splitlines())
        return found[names[0]] if len(names) == 1 else [found[name] for name in names]

    def pids(self):
        """The process ids of everything that runs in it, as this side knows them."""
        namespace, found = os.readlink(f'/proc/{self.leader}/ns/pid'), []
        for pid in filter(str.isdigit, os.listdir('/proc')):
            with contextlib.suppress(OSError):  # it may have ended
                if os.readlink(f'/proc/{pid}/ns/pid') == namespace:
                    found.append(int(pid))
        return found

    def journal(self, unit):
        return self.run('journalctl', '--no-pager', '--output=cat', f'--unit={unit}')

    @contextlib.contextmanager
    def network(self):
        """In it this thread, and those that it starts, use the network of the booted system."""
        libc = ctypes.CDLL(None, use_errno=True)

        def enter(fd):
            if libc.setns(fd, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), 'setns')
        with open('/proc/thread-self/ns/net') as own, open(f'/proc/{self.leader}/ns/net') as other:
            enter(other.fileno())
            try:
                yield
            finally:
                enter(own.fileno())

    def end(self):
        """As when the power fails."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.leader or self.process.pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
        self.manager.close()
        remove_control_groups(self.groups)
        # Left by systemd-nspawn where /run is not in memory.
        shutil.rmtree(f'/run/systemd/nspawn/propagate/{self.name}', ignore_errors=True)
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


if __name__ == '__main__':
    try:
        print(root())
    except Unavailable as why:
        sys.exit(f'{sys.argv[0]}: {why}')
