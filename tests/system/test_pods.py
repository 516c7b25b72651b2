# SPDX-License-Identifier: Apache-2.0
"""The Pods of the manifests, run by `podman play kube --network none`: as they stand, but for the image's name and for what a cluster
gives, secrets and folders of the node, which lie in the test's folder. Probes are asked as kubelet asks them. See knit_podman.py for
where this is skipped."""

import copy
import os
import shutil
import subprocess
import sys
import unittest

import knit_podman
from knit_harness import main, wait_until
from knit_podman import LONG

try:
    import yaml
except ImportError:
    yaml = None

SOURCE = os.environ['KNIT_SOURCE']
FOLDER = f'{SOURCE}/deploy/kubernetes'
IMAGE, CHOWN = 'localhost/knitting-tasks:1', 'localhost/chown:1'
PORT, ADMIN = 5649, 5650

podman = None


def build(name, folder, lines):
    with open(f'{folder}/Containerfile', 'w') as file:
        file.write(lines)
    done = podman.program('buildah', 'bud', '--quiet', '--isolation', 'chroot', '--format', 'docker', '--tag', name, folder)
    assert done.returncode == 0, done.stderr


def setUpModule():
    global podman
    podman = knit_podman.Podman()
    unittest.addModuleCleanup(podman.close)
    podman.start_or_skip()
    done = podman.program(f'{SOURCE}/deploy/container/build.sh', '--build', os.environ['KNIT_IMAGE_BUILD'], 'localhost/knitting', seconds=8 * LONG)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = f'{podman.dir}/images'
    os.mkdir(folder)
    shutil.copy(os.environ['KNIT_MODULE'], f'{folder}/example.so')
    build(IMAGE, folder, 'FROM localhost/knitting\nCOPY example.so /usr/lib/knitting/modules/\n')


def documents(name):
    with open(f'{FOLDER}/{name}') as file:
        return list(yaml.safe_load_all(file))


class Volume:
    """A folder that is changed as kubelet does: names are links into a folder that is a link, which is exchanged."""

    def __init__(self, name, files):
        self.path, self.version = f'{podman.dir}/{name}', 0
        os.mkdir(self.path)
        self.put(files)

    def put(self, files):
        self.version += 1
        os.mkdir(f'{self.path}/..{self.version}')
        for name, text in files.items():
            path = f'{self.path}/..{self.version}/{name}'
            with open(path, 'w') as file:
                file.write(text)
            # As defaultMode and fsGroup make it.
            os.chown(path, 0, 10001)
            os.chmod(path, 0o440)
            if self.version == 1:
                os.symlink(f'..data/{name}', f'{self.path}/{name}')
        os.symlink(f'..{self.version}', f'{self.path}/..new')
        os.rename(f'{self.path}/..new', f'{self.path}/..data')
        shutil.rmtree(f'{self.path}/..{self.version - 1}', ignore_errors=True)


class Pod:
    """One of what a manifest's template says."""

    def __init__(self, name, spec, volumes, restarts='Never'):
        # A container that ends is not started again, so that its end can be seen.
        spec = {**copy.deepcopy(spec), 'restartPolicy': restarts}
        for volume in spec['volumes']:
            if volume['name'] in volumes:
                volume.pop('configMap', None), volume.pop('secret', None)
                volume['hostPath'] = {'path': volumes[volume['name']], 'type': 'Directory'}
        for container in spec['containers'] + spec.get('initContainers', []):
            container['image'] = CHOWN if 'busybox' in container['image'] else IMAGE
            container['imagePullPolicy'] = 'Never'
            container.pop('ports', None)  # podman takes them for ports of the host
            for probe in 'startupProbe', 'livenessProbe', 'readinessProbe':
                container.pop(probe, None)  # podman would ask them by a shell and curl in the image
        self.name = name
        path = f'{podman.dir}/{name}.yaml'
        with open(path, 'w') as file:
            # always: podman keeps an init container that has ended, and does not try to remove it while it still ends.
            yaml.safe_dump({'apiVersion': 'v1', 'kind': 'Pod', 'spec': spec, 'metadata': {
                'name': name, 'annotations': {'io.podman.annotations.init.container.type': 'always'}}}, file)
        podman.run('play', 'kube', '--network', 'none', path)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            for container in self.containers():
                print(container, podman.logs(container))
        podman.run('pod', 'rm', '--force', '--time', '0', self.name)

    def containers(self):
        return podman.run('ps', '--all', '--filter', f'pod={self.name}', '--format', '{{.Names}}').splitlines()

    def main_container(self, name='knittingd'):
        return f'{self.name}-{name}'

    def ask(self, page):
        """As kubelet: by HTTP, at the Pod's address. The status."""
        pid = podman.inspect(self.main_container(), 'State', 'Pid')
        done = subprocess.run(['nsenter', '--net', '--target', str(pid), sys.executable, '-c', f'''
import http.client
connection = http.client.HTTPConnection('127.0.0.1', {ADMIN}, timeout=60)
connection.request('GET', {page!r})
print(connection.getresponse().status)
'''], capture_output=True, text=True, timeout=LONG)
        return done.stdout.strip()

    def wait_ready(self):
        def is_ready():
            if not podman.inspect(self.main_container(), 'State', 'Running'):
                raise AssertionError(podman.logs(self.main_container()))
            return self.ask('/readyz') == '200'
        wait_until(is_ready, 'the Pod to be ready', LONG)


class Pods(unittest.TestCase):
    def test_the_deployment(self):
        settings, = documents('settings.yaml')
        deployment, = documents('deployment.yaml')
        made = podman.program(os.environ['KNIT_AUTHORITY'], f'{podman.dir}/authority', seconds=LONG)
        self.assertEqual(made.returncode, 0, made.stderr)
        token = podman.program(os.environ['KNIT_TOOL'], 'token', 'billing', f'{podman.dir}/billing.token')
        self.assertEqual(token.returncode, 0, token.stderr)
        files = {}
        for name, source in (('tls.crt', 'server.pem'), ('tls.key', 'server.key')):
            with open(f'{podman.dir}/authority/{source}') as file:
                files[name] = file.read()
        volumes = {'settings': Volume('settings', settings['data']), 'tls': Volume('tls', files),
                   'tokens': Volume('tokens', {'tokens': token.stdout})}
        paths = {name: volume.path for name, volume in volumes.items()}
        with Pod('deployment', deployment['spec']['template']['spec'], paths) as pod:
            pod.wait_ready()
            self.assertEqual([pod.ask(page) for page in ('/livez', '/metrics')], ['200', '200'])
            # A warning, where the Pod's limit is less than what the settings allow.
            self.assertRegex(podman.logs(pod.main_container()), 'level=info msg="memory that the settings allow"')

            def call(*words, token=f'{podman.dir}/billing.token'):
                """From a program in the Pod's network."""
                return podman.program('nsenter', '--net', '--target', str(podman.inspect(pod.main_container(), 'State', 'Pid')),
                                      os.environ['KNIT_TOOL'], '-u', f'knits://localhost:{PORT}', '--tls-ca', f'{podman.dir}/authority/ca.pem',
                                      *(['--token-file', token] if token else []), *words)
            done = call('call', 'add', '2', '3')
            self.assertEqual((done.returncode, done.stdout), (0, '5\n'), done.stderr)
            self.assertIn('UNAUTHENTICATED', call('call', 'add', '2', '3', token=None).stderr)
            # Another policy, in its volume alone.
            volumes['settings'].put({**settings['data'], 'policy': '[principal token:billing]\nallow = echo\n'})
            wait_until(lambda: 'DENIED' in call('call', 'add', '2', '3').stderr, 'the new policy', LONG)
            self.assertEqual(call('call', 'echo', '7').stdout, '7\n')
            podman.run('stop', '--time', '60', pod.main_container())
            self.assertEqual(podman.inspect(pod.main_container(), 'State', 'ExitCode'), 0)

    def test_the_daemon_of_a_node_and_its_caller(self):
        settings, = documents('node/settings.yaml')
        daemonset, = documents('node/daemonset.yaml')
        caller, = documents('node/caller.yaml')
        # In place of busybox, which would have to be fetched: this machine's chown, with the libraries of the image.
        folder = f'{podman.dir}/chown'
        os.mkdir(folder)
        shutil.copy(shutil.which('chown'), f'{folder}/chown')
        build(CHOWN, folder, 'FROM localhost/knitting\nCOPY chown /usr/bin/\nENV PATH=/usr/bin\nENTRYPOINT []\n')
        run = f'{podman.dir}/node-run'
        os.mkdir(run, 0o755)
        volumes = {'settings': Volume('node-settings', settings['data']).path, 'run': run}
        with Pod('node', daemonset['spec']['template']['spec'], volumes) as pod:
            pod.wait_ready()
            self.assertEqual(os.stat(run).st_uid, 10001)
            with Pod('caller', caller['spec'], {'run': run}, caller['spec']['restartPolicy']) as calling:
                name = calling.main_container('caller')
                wait_until(lambda: podman.inspect(name, 'State', 'Status') == 'exited' and podman.inspect(name, 'State', 'ExitCode') == 0,
                           'the caller to have called', LONG)
                self.assertEqual(podman.run('logs', name).splitlines()[-1], '5')
            # What preStop does.
            command = daemonset['spec']['template']['spec']['containers'][0]['lifecycle']['preStop']['exec']['command']
            self.assertEqual(podman.run('exec', pod.main_container(), *command), 'it drains')
            self.assertEqual(podman.run('wait', pod.main_container()), '0')


if __name__ == '__main__':
    knit_podman.alone(('podman', 'buildah', 'catatonit'))
    if yaml is None:
        knit_podman.skip('python3-yaml is not installed')
    main()
