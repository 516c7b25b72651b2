# SPDX-License-Identifier: Apache-2.0
"""The image, as it is run: by a user without rights, in a root that is read-only, without network. Its callers are in containers of
their own. See knit_podman.py for where this is skipped."""

import copy
import http.client
import importlib.util
import io
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import threading
import unittest

import knit_base_image
import knit_podman
from knit_harness import PATIENCE, SANITIZED, main, wait_until
from knit_podman import CLOSED, LONG

SOURCE = os.environ['KNIT_SOURCE']
CONTAINER = os.path.join(SOURCE, 'deploy/container')
MODULES = '/usr/lib/knitting/modules'
IMAGE = 'localhost/knitting'
RUN = '/run/knitting'
KNIT = ('--entrypoint', '/usr/bin/knit', IMAGE)
# A user of its own, in the group that may connect to the socket.
CALLER = ('--user', '10002:10001')
IS_LONG = os.environ.get('KNIT_TEST_LONG') == '1'

podman = None


def setUpModule():
    global podman
    podman = knit_podman.Podman()
    unittest.addModuleCleanup(podman.close)
    podman.start_or_skip()
    done = podman.program(f'{CONTAINER}/build.sh', '--build', os.environ['KNIT_IMAGE_BUILD'], IMAGE, seconds=8 * LONG)
    assert done.returncode == 0, done.stdout + done.stderr
    os.mkdir(f'{podman.dir}/modules')
    shutil.copy(os.environ['KNIT_MODULE'], f'{podman.dir}/modules/')


def members_of(image):
    """The files of it, by their paths."""
    podman.run('create', '--name', 'files', image)
    exported = subprocess.run(['podman', 'export', 'files'], env=podman.environ, capture_output=True, check=True).stdout
    podman.run('rm', 'files')
    with tarfile.open(fileobj=io.BytesIO(exported)) as tar:
        return {member.name: member for member in tar.getmembers()}


def over_socket(path, page):
    """Status and body of a page of the admin face."""
    class Connection(http.client.HTTPConnection):
        def connect(self):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(PATIENCE)
            self.sock.connect(path)
    connection = Connection('localhost')
    connection.request('GET', page)
    response = connection.getresponse()
    return response.status, response.read().decode()


class Box:
    """A daemon in a container, with a volume of its own."""

    def __init__(self, name, *words, options=(), image=IMAGE, modules=True, volume=None):
        self.name, self.volume = name, volume or f'{name}-run'
        mounted = ['-v', f'{podman.dir}/modules:{MODULES}:ro'] if modules else []
        podman.run('run', '-d', '--name', name, '--network=none', *CLOSED, '-v', f'{self.volume}:{RUN}', *mounted, *options, image,
                   *words)
        self.wait_ready()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            print(podman.logs(self.name))
        podman.run('rm', '--force', '--time', '0', self.name)

    def is_ready(self):
        if podman.inspect(self.name, 'State', 'Running'):
            return 'msg=ready' in podman.logs(self.name)
        raise AssertionError(f'{self.name} has ended:\n{podman.logs(self.name)}')

    def wait_ready(self):
        try:
            wait_until(self.is_ready, f'{self.name} to serve', LONG)
        except AssertionError:
            print(podman.logs(self.name))
            podman.run('rm', '--force', '--time', '0', self.name, check=False)
            raise

    def caller(self, *words, scheme='shm', options=CALLER):
        """The words of podman for a caller in a container of its own, who shares the volume alone."""
        return ['run', '--rm', '--network=none', *CLOSED, *options, '-v', f'{self.volume}:{RUN}:ro', *KNIT,
                '-u', f'{scheme}://{RUN}/knitting.sock', *words]

    def call(self, *words, **options):
        return podman.run(*self.caller('call', *words, **options))

    def stats(self):
        return json.loads(podman.run('exec', self.name, '/usr/bin/knit', 'stats'))

    def stop(self):
        """How it ended."""
        podman.run('stop', '--time', '60', self.name)
        return podman.inspect(self.name, 'State', 'ExitCode')

    def status(self):
        with open(f'/proc/{podman.inspect(self.name, "State", "Pid")}/status') as file:
            return dict(line.rstrip('\n').split(':\t', 1) for line in file if ':\t' in line)


class Image(unittest.TestCase):
    def test_there_is_nothing_in_it_but_what_it_needs(self):
        members = members_of(IMAGE)
        size = sum(member.size for member in members.values())
        print(f'{len(members)} files, {size / 1e6:.1f} MB')
        self.assertLess(size, 40e6)
        programs = [name for name, member in members.items()
                    if member.isfile() and member.mode & 0o111 and not re.search(r'\.so(\.|$)', name)]
        self.assertEqual(sorted(programs), ['usr/bin/knit', 'usr/bin/knittingd', 'usr/libexec/knitting-worker'])
        for name, member in members.items():
            self.assertEqual(member.mode & 0o6000, 0, name)
            if not member.issym() and name != 'tmp':
                self.assertEqual(member.mode & 0o002, 0, name)
            self.assertEqual((member.uid, member.gid), (10001, 10001) if name == 'run/knitting' else (0, 0), name)
        for name in 'usr/lib/knitting/modules', 'etc/knitting/knittingd.conf', 'usr/share/doc/libssl3/copyright':
            self.assertIn(name, members)

    def test_the_containerfile_makes_the_same(self):
        """Its last stage, out of the files that build.sh puts together."""
        folder = f'{podman.dir}/stage'
        done = podman.program(f'{CONTAINER}/root.sh', os.environ['KNIT_IMAGE_BUILD'], f'{folder}/image', seconds=8 * LONG)
        self.assertEqual(done.returncode, 0, done.stderr)
        os.makedirs(f'{folder}/own/knitting')
        with open(f'{CONTAINER}/Containerfile') as file:
            text = file.read()
        stage = text[text.index('FROM scratch'):]
        self.assertEqual(stage.count('--from=build '), 2)
        with open(f'{folder}/Containerfile', 'w') as file:
            file.write(re.sub(r'--from=build (--chown=\S+ )?/', r'\1', stage))
        done = podman.program('buildah', 'bud', '--quiet', '--isolation', 'chroot', '--format', 'docker', '--tag', 'localhost/by-file', folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        ours, theirs = (podman.inspect(name) for name in (IMAGE, 'localhost/by-file'))
        for image in ours, theirs:
            image['Config']['Labels'].pop('io.buildah.version', None)
            image['Config'].pop('Env', None)  # a PATH, that of any container
        self.assertEqual(ours['Config'], theirs['Config'])
        self.assertEqual(ours['HealthCheck'] if 'HealthCheck' in ours else ours['Healthcheck'],
                         theirs['HealthCheck'] if 'HealthCheck' in theirs else theirs['Healthcheck'])
        with Box('by-file', image='localhost/by-file') as box:
            self.assertEqual(box.call('add', '2', '3'), '5')

    def test_it_runs_without_any_right(self):
        with Box('closed') as box:
            self.assertEqual(podman.run('exec', box.name, '/usr/bin/knit', 'call', 'add', '2', '3'), '5')
            status = box.status()
            self.assertEqual(status['Uid'].split(), ['10001'] * 4)
            for name in 'CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb':
                self.assertEqual(int(status[name], 16), 0, name)
            self.assertEqual((status['NoNewPrivs'], status['Seccomp'], status['NSpid'].split()[-1]), ('1', '2', '1'))
            pool = box.stats()['pool']
            self.assertEqual(pool['confinement']['permission'], 'strict')
            done = podman.done('exec', box.name, '/bin/sh', '-c', 'true')
            self.assertNotEqual(done.returncode, 0)

    def test_its_health_is_asked_without_a_shell(self):
        with Box('healthy') as box:
            done = podman.done('healthcheck', 'run', box.name)
            self.assertEqual((done.returncode, done.stdout), (0, ''), done.stderr)
        # It asks by the usual socket, where nobody is now.
        with Box('elsewhere', '--socket', f'{RUN}/other.sock') as box:
            self.assertNotEqual(podman.done('healthcheck', 'run', box.name).returncode, 0)

    def test_the_admin_face_is_beside_the_socket(self):
        with Box('face') as box:
            path = f'{podman.volume(box.volume)}/admin.sock'
            for page in '/livez', '/readyz':
                self.assertEqual(over_socket(path, page), (200, 'ok\n'))
            self.assertIn('knitting_workers{state="serving"}', over_socket(path, '/metrics')[1])
            # With a TCP address alone it is still the socket: nobody outside would see 127.0.0.1.
        with Box('tcp', '--listen', '127.0.0.1:5648') as box:
            self.assertEqual(over_socket(f'{podman.volume(box.volume)}/admin.sock', '/livez'), (200, 'ok\n'))

    def test_by_itself_it_does_not_serve_strangers(self):
        done = podman.done('run', '--rm', '--network=none', *CLOSED, '-v', f'{podman.dir}/modules:{MODULES}:ro', IMAGE,
                           '--listen', '0.0.0.0:5648')
        self.assertEqual(done.returncode, 2)
        self.assertIn('other machines can reach 0.0.0.0:5648 and there is no authentication', done.stderr)
        done = podman.done('run', '--rm', '--network=none', *CLOSED, IMAGE)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(MODULES, done.stderr)

    def test_a_module_by_from(self):
        folder = f'{podman.dir}/from'
        os.mkdir(folder)
        shutil.copy(os.environ['KNIT_MODULE'], f'{folder}/example.so')
        with open(f'{folder}/Containerfile', 'w') as file:
            file.write(f'FROM {IMAGE}\nCOPY example.so {MODULES}/\n')
        done = podman.program('podman', 'build', '--quiet', '--isolation', 'chroot', '--format', 'docker', '--tag', 'localhost/with-module', folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        with Box('from', image='localhost/with-module', modules=False) as box:
            self.assertEqual(box.call('add', '2', '3', scheme='unix'), '5')


@unittest.skipUnless(IS_LONG, 'it installs a compiler and builds everything: KNIT_TEST_LONG=1')
class Containerfile(unittest.TestCase):
    def test_it_builds_the_image_as_it_is_written(self):
        """By the command of the page, on a base that is made here: knit_base_image.py."""
        if 'KNIT_TEST_BASE' not in os.environ:
            self.skipTest(os.environ['KNIT_TEST_NO_BASE'])
        podman.run('import', '--quiet', os.environ['KNIT_TEST_BASE'], 'localhost/base', seconds=8 * LONG)
        done = podman.program('podman', 'build', '--isolation', 'chroot', '--format', 'docker', '--build-arg', 'BASE=localhost/base', '--tag',
                              'localhost/by-containerfile', '--file', f'{CONTAINER}/Containerfile', SOURCE, seconds=100 * LONG)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        with Box('by-containerfile', image='localhost/by-containerfile') as box:
            self.assertEqual(box.call('add', '2', '3'), '5')
            self.assertEqual(box.stop(), 0)
        self.assertEqual(sorted(members_of('localhost/by-containerfile')), sorted(members_of(IMAGE)))


class Script(unittest.TestCase):
    def test_what_is_missing_is_named_before_anything_is_built(self):
        folder = f'{podman.dir}/few'
        os.mkdir(folder)
        for name in 'bash', 'buildah', 'cat', 'cc', 'dirname', 'meson', 'mktemp', 'ninja', 'realpath', 'rm':
            os.symlink(shutil.which(name), f'{folder}/{name}')
        for name in 'buildah', 'meson', 'cc':
            os.rename(f'{folder}/{name}', f'{folder}/no-{name}')
            done = subprocess.run([f'{folder}/bash', f'{CONTAINER}/build.sh', '--build', f'{podman.dir}/none', 'localhost/none'],
                                  env={**podman.environ, 'PATH': folder}, capture_output=True, text=True, timeout=LONG)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, rf'\Adeploy/container/\w+\.sh: {name} is not installed[^\n]*\n\Z')
            self.assertFalse(os.path.exists(f'{podman.dir}/none'))
            os.rename(f'{folder}/no-{name}', f'{folder}/{name}')


class Callers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.box = Box('shared', '--listen', '127.0.0.1:5648')
        cls.addClassCleanup(cls.box.__exit__, None)

    def test_those_who_share_the_folder_alone(self):
        for scheme in 'shm', 'unix':
            self.assertEqual(self.box.call('add', '2', '3', scheme=scheme), '5')
            self.assertEqual(len(self.box.call('echo', json.dumps('x' * 100000), scheme=scheme)), 100002)

    def test_those_who_share_the_network_alone(self):
        said = podman.run('run', '--rm', f'--network=container:{self.box.name}', *CLOSED, '--user', '10003:10003', *KNIT,
                          '-u', 'knit://127.0.0.1:5648', 'call', 'add', '2', '3')
        self.assertEqual(said, '5')

    def test_those_in_another_group_are_refused(self):
        for scheme in 'shm', 'unix':
            done = podman.done(*self.box.caller('call', 'add', '2', '3', scheme=scheme, options=('--user', '10002:10002')))
            self.assertEqual((done.returncode, done.stdout), (4, ''), done.stderr)
            self.assertIn('DENIED', done.stderr)

    def test_a_crash_leaves_nothing_behind(self):
        done = podman.done(*self.box.caller('call', 'crash'))
        self.assertIn('WORKER_DIED', done.stderr)
        host = str(podman.inspect(self.box.name, 'State', 'Pid'))

        def stand_still():
            states = []
            for pid in filter(str.isdigit, os.listdir('/proc')):
                try:
                    with open(f'/proc/{pid}/stat') as file:
                        fields = file.read().rsplit(')', 1)[1].split()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if fields[1] == host:
                    states.append(fields[0])
            return 'Z' not in states and len(states) >= 2
        wait_until(stand_still, 'all dead children of process 1 to be reaped', LONG)


class Ends(unittest.TestCase):
    def test_sigterm_lets_calls_end(self):
        with Box('drains', '--drain-ms', '120000') as box:
            ms = 1000
            while True:
                with podman.popen(*box.caller('call', 'sleep', str(ms))) as calling:
                    def is_seen():
                        return calling.poll() is not None or any(lane['is_running'] for lane in box.stats()['lanes'])
                    wait_until(is_seen, 'the call to run', LONG)
                    if calling.poll() is not None:
                        ms *= 2  # it was over before anybody looked
                        continue
                    self.assertEqual(box.stop(), 0)
                    out, err = calling.communicate(timeout=LONG)
                    self.assertEqual((calling.returncode, out), (0, 'null\n'), err)
                    break
            self.assertRegex(podman.logs(box.name), r'msg=draining[^\n]*\n(?:[^\n]*\n)*[^\n]*msg=stopped')

    def test_another_container_takes_over(self):
        """A restart that refuses nobody: the new one asks the old one by the socket in their volume."""
        with Box('elder') as elder:
            path = f'{podman.volume(elder.volume)}/knitting.sock'

            over, failures, numbers = threading.Event(), [], itertools.count()

            def call():
                for number in numbers:
                    done = podman.program(os.environ['KNIT_TOOL'], '-u', f'unix://{path}', '--retries', '50', 'call', 'add', str(number), '1')
                    if (done.returncode, done.stdout) != (0, f'{number + 1}\n'):
                        failures.append(f'{number}: {done.returncode} {done.stdout}{done.stderr}')
                    if over.is_set():
                        return
            calling = threading.Thread(target=call)
            calling.start()
            self.addCleanup(calling.join)
            self.addCleanup(over.set)
            with Box('younger', '--take-over', volume=elder.volume) as younger:
                self.assertEqual(podman.run('wait', elder.name), '0')
                over.set()
                calling.join()
                self.assertEqual(failures, [])
                print(f'{next(numbers)} calls, one after the other, while another container took over')
                self.assertEqual(younger.call('add', '2', '3'), '5')
                self.assertEqual(younger.stop(), 0)


def has_futex_waitv():
    """Whether the kernel has it, whatever a filter says of it elsewhere."""
    done = subprocess.run(['python3', '-c', 'import ctypes; libc = ctypes.CDLL(None, use_errno=True); '
                           'libc.syscall(449, 0, 0, 0, 0, 0); print(ctypes.get_errno())'], capture_output=True, text=True)
    return done.stdout.strip() == '22'  # EINVAL: none to wait for


def seccomp_script():
    spec = importlib.util.spec_from_file_location('seccomp', f'{CONTAINER}/seccomp.py')
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


class Seccomp(unittest.TestCase):
    def made(self):
        done = podman.program(f'{CONTAINER}/seccomp.py')
        self.assertEqual(done.returncode, 0, done.stderr)
        path = f'{podman.dir}/seccomp.json'
        with open(path, 'w') as file:
            file.write(done.stdout)
        return path, done.stderr

    def test_workers_sleep_by_themselves_with_it(self):
        if not has_futex_waitv():
            self.skipTest('the kernel has no futex_waitv, or refuses it to this test')
        path, said = self.made()
        with Box('profiled', options=('--security-opt', f'seccomp={path}')) as box:
            self.assertEqual(box.stats()['pool']['wake_mode'], 'direct')
            self.assertEqual(box.call('add', '2', '3'), '5')
        if 'futex_waitv' in said:
            with Box('usual') as box:
                self.assertEqual(box.stats()['pool']['wake_mode'], 'relayed')
                self.assertEqual(box.call('add', '2', '3'), '5')
        else:
            print("the host's own profile allows futex_waitv")

    def test_it_allows_what_is_needed_and_nothing_else(self):
        script = seccomp_script()
        allow = {'action': script.ALLOW}
        profile = {'defaultAction': 'SCMP_ACT_ERRNO', 'architectures': ['x'], 'syscalls': [
            {'names': ['read', 'memfd_create', 'close_range'], **allow, 'args': []},
            {'names': ['clone', 'futex_waitv'], 'action': 'SCMP_ACT_ERRNO', 'args': []},
            {'names': ['landlock_add_rule'], **allow, 'includes': {'caps': ['CAP_SYS_ADMIN']}},
            {'name': 'pidfd_open', **allow}]}
        before = copy.deepcopy(profile)
        made, added = script.made_from(profile)
        self.assertEqual(profile, before)
        self.assertEqual(set(added), set(script.NEEDED) - {'memfd_create', 'close_range', 'pidfd_open'})
        self.assertEqual(script.missing(made), [])
        self.assertEqual(made['syscalls'], [
            {'names': ['read', 'memfd_create', 'close_range'], **allow, 'args': []},
            {'names': ['clone'], 'action': 'SCMP_ACT_ERRNO', 'args': []},
            {'names': ['pidfd_open'], **allow},
            {'names': added, **allow, 'args': []}])
        self.assertEqual(made['architectures'], ['x'])
        self.assertEqual(script.made_from(made), (made, []))
        self.assertEqual(script.made_from({'defaultAction': script.ALLOW, 'syscalls': []})[1], [])

    def test_what_is_no_profile_is_refused(self):
        path = f'{podman.dir}/no-profile'
        for text in None, '', '[]', '{"syscalls": []}', '{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": 1}':
            if text is not None:
                with open(path, 'w') as file:
                    file.write(text)
            done = podman.program(f'{CONTAINER}/seccomp.py', path)
            self.assertEqual((done.returncode, done.stdout), (1, ''), text)
            self.assertRegex(done.stderr, r'\Aseccomp\.py: [^\n]+\n\Z')


class Compose(unittest.TestCase):
    """By docker's own program, to which podman speaks as docker does."""

    def test_both_callers_call(self):
        if shutil.which('docker-compose') is None:
            self.skipTest('docker-compose is not installed')
        folder = f'{podman.dir}/composed'
        os.makedirs(folder)
        shutil.copy(f'{CONTAINER}/compose.yaml', folder)
        shutil.copytree(f'{podman.dir}/modules', f'{folder}/modules')
        with podman.popen('system', 'service', '--time', '0', f'unix://{folder}/api.sock') as service:
            self.addCleanup(service.wait)
            self.addCleanup(service.kill)
            wait_until(lambda: os.path.exists(f'{folder}/api.sock'), 'the service', LONG)
            done = subprocess.run(['docker-compose', '--file', f'{folder}/compose.yaml', '--project-name', 'composed', 'up', '--detach'],
                                  env={**podman.environ, 'DOCKER_HOST': f'unix://{folder}/api.sock'}, stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=LONG)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            service.kill()
        for caller in 'by-tcp', 'by-shared-memory':
            name = f'composed_{caller}_1'
            wait_until(lambda: podman.inspect(name, 'State', 'Status') == 'exited' and podman.inspect(name, 'State', 'ExitCode') == 0,
                       f'{caller} to have called', LONG)
            self.assertEqual(podman.run('logs', name).splitlines()[-1], '5')
        # Neither has more of the daemon than its way to call needs.
        self.assertEqual(podman.inspect('composed_by-tcp_1', 'HostConfig', 'NetworkMode'),
                         f'container:{podman.inspect("composed_knittingd_1", "Id")}')
        self.assertEqual(podman.inspect('composed_by-shared-memory_1', 'HostConfig', 'NetworkMode'), 'none')
        self.assertEqual([mount['Destination'] for mount in podman.inspect('composed_by-shared-memory_1', 'Mounts')], [RUN])


def find_base():
    """With packages from Debian's mirror, so before the test has no network any more."""
    words = subprocess.run(['bash', '-ec', '. "$0"; echo "${PACKAGES_BUILD[@]}"', f'{SOURCE}/deploy/packages.sh'], check=True,
                           capture_output=True, text=True).stdout.split()
    try:
        os.environ['KNIT_TEST_BASE'] = knit_base_image.base_image(words)
    except knit_base_image.Unavailable as why:
        os.environ['KNIT_TEST_NO_BASE'] = str(why)


if __name__ == '__main__':
    if SANITIZED:
        knit_podman.skip('modules built with a sanitizer load in no worker of an image')
    if IS_LONG and knit_podman.INSIDE not in os.environ:
        find_base()
    knit_podman.alone()
    main()
