# SPDX-License-Identifier: Apache-2.0
"""Podman with a storage of its own, in namespaces that end with the test.

What a machine lets podman do differs. So the smallest thing that could work is tried first: a program of one line, in an image of
its own, by the options with which the daemon's image runs. Where no way of doing so works the test is skipped, and says podman's
reason; what fails after that is a failure.

alone() puts the test into namespaces of its own: processes, so that no container outlives it, however it ends; network, which has
its own 127.0.0.1 and nothing else, so that fixed ports are free; mounts, with an empty /run, where runtimes keep their state and podman
would find a systemd.
"""

import fcntl
import json
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile

from knit_harness import PATIENCE

# Ten times what a slow machine needs for what podman does at once.
LONG = 12 * PATIENCE
CLOSED = ('--read-only', '--cap-drop=ALL', '--security-opt', 'no-new-privileges')
SKIPPED = 77
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
INSIDE = 'KNIT_TEST_ALONE'


def skip(why):
    print(f'skipped: {why}')
    sys.exit(SKIPPED)


def first_line(text):
    """Of what a program said, without what podman says of a missing systemd, which does no harm."""
    lines = [line for line in text.splitlines() if line.strip() and 'systemd connection' not in line]
    return lines[-1] if lines else 'it says nothing'


def alone(programs=('podman', 'buildah'), kinds=('--net', '--mount', '--pid')):
    """Returns inside of the namespaces; skips the test where there are none, or a program is missing."""
    for name in programs:
        if shutil.which(name) is None:
            skip(f'{name} is not installed')
    command = ['unshare', *kinds, '--fork', '--kill-child', '--mount-proc']
    if os.environ.get(INSIDE) is None:
        tried = subprocess.run([*command, 'true'], capture_output=True, text=True)
        if tried.returncode != 0:
            skip(f'no namespaces can be made here: {first_line(tried.stderr)}')
        os.environ[INSIDE] = '1'
        os.execvp('unshare', [*command, sys.executable, '-B', *sys.argv])
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'mode=0755', 'none', '/run'], check=True)
    if '--net' in kinds:
        with socket.socket() as sock:  # ip link set lo up
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack('16sh14x', b'lo', IFF_UP))


class Failure(AssertionError):
    """A command that failed, with what it said."""


class Podman:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix='knit-podman-')
        self.why_not = 'no runtime is installed'
        self.environ = {**os.environ, 'CONTAINERS_CONF': f'{self.dir}/containers.conf', 'CONTAINERS_STORAGE_CONF': f'{self.dir}/storage.conf',
                        'TMPDIR': self.dir}
        # Nothing of the machine's own storage is seen or locked.
        with open(f'{self.dir}/storage.conf', 'w') as file:
            file.write(f'[storage]\ndriver = "vfs"\ngraphroot = "{self.dir}/graph"\nrunroot = "{self.dir}/run"\n')

    def close(self):
        """Processes and mounts that are left would end with the namespaces; the folder would not."""
        self.run('rm', '--all', '--force', '--depend', '--time', '0', check=False)
        with open('/proc/self/mounts') as file:
            mounted = [line.split()[1] for line in file]
        for path in reversed(mounted):
            if path.startswith(self.dir):
                subprocess.run(['umount', '--lazy', path], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)

    def configure(self, runtime, cgroups):
        # Limits that the daemon of containers would raise, which not everybody may.
        limits = [f'"{name}={":".join(map(str, resource.getrlimit(number)))}"'
                  for name, number in (('nofile', resource.RLIMIT_NOFILE), ('nproc', resource.RLIMIT_NPROC))
                  if resource.RLIM_INFINITY not in resource.getrlimit(number)]
        with open(f'{self.dir}/containers.conf', 'w') as file:
            file.write(f'[containers]\ndefault_ulimits = [{", ".join(limits)}]\ncgroups = "{cgroups}"\nlog_driver = "k8s-file"\n'
                       f'[engine]\nruntime = "{runtime}"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nlock_type = "file"\n'
                       f'tmp_dir = "{self.dir}/tmp"\n')

    def find_runtime(self):
        """Whether a container of nothing runs here; with why_not otherwise."""
        with open(f'{self.dir}/nothing.c', 'w') as file:
            file.write('int main(void) { return 0; }\n')
        subprocess.run(['cc', '-static', '-o', f'{self.dir}/nothing', f'{self.dir}/nothing.c'], check=True)
        with tarfile.open(f'{self.dir}/nothing.tar', 'w') as tar:
            tar.add(f'{self.dir}/nothing', 'nothing')
        for runtime in 'crun', 'runc':
            for cgroups in 'enabled', 'disabled':
                if shutil.which(runtime) is None:
                    continue
                self.configure(runtime, cgroups)
                for words in (('import', '--quiet', f'{self.dir}/nothing.tar', 'localhost/nothing'),
                              ('run', '--rm', '--network=none', *CLOSED, '--user', '10001:10001', 'localhost/nothing', '/nothing')):
                    done = self.done(*words)
                    if done.returncode != 0:
                        self.why_not = f'{runtime}: {first_line(done.stderr)}'
                        break
                else:
                    print(f'containers run by {runtime}, control groups {cgroups}')
                    return True
        return False

    def start_or_skip(self):
        if not self.find_runtime():
            self.close()
            skip(f'podman cannot run a container of one line here: {self.why_not}')

    def program(self, name, *words, seconds=LONG, **options):
        return subprocess.run([name, *words], env=self.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=seconds, **options)

    def done(self, *words, **options):
        return self.program('podman', *words, **options)

    def run(self, *words, check=True, **options):
        """What it prints."""
        done = self.done(*words, **options)
        if check and done.returncode != 0:
            raise Failure(f'podman {" ".join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}')
        return done.stdout.strip()

    def popen(self, *words, stdin=subprocess.DEVNULL):
        return subprocess.Popen(['podman', *words], env=self.environ, stdin=stdin, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def inspect(self, what, *path):
        value = json.loads(self.run('inspect', what))[0]
        for key in path:
            value = value[key]
        return value

    def volume(self, name):
        """Where it lies."""
        return json.loads(self.run('volume', 'inspect', name))[0]['Mountpoint']

    def logs(self, name):
        done = self.done('logs', name)
        return done.stdout + done.stderr
