# SPDX-License-Identifier: Apache-2.0
"""The node of knit_cluster.py: podman runs its Pods, each by `podman play kube` in a network of its own, with an address that all
others reach; what kubelet does is done here. Pods are run as they stand, but for

- volumes of ConfigMaps and Secrets, folders here, which are exchanged as kubelet does it, at once and not within a minute;
- probes, which are asked here by HTTP at the Pod's address, all the time, since podman would ask them by a shell and curl in the image;
- ports, which podman would take for ports of the host;
- restarts, of which there are none, so that an end can be seen;
- names of Services, which are lines of an /etc/hosts that all share.
"""

import base64
import copy
import http.client
import os
import shutil
import signal
import subprocess
import threading

import knit_podman
from knit_harness import wait_until
from knit_podman import LONG

try:
    import yaml
except ImportError:
    yaml = None

GATEWAY, NETWORK = '10.88.0.1/24', '10.88.0.'
PROBES = ('startupProbe', 'livenessProbe', 'readinessProbe')
PERIOD_S = 0.1
HOSTS_SIZE = 4096
KILLED = 128 + signal.SIGKILL


def ip(*words):
    done = subprocess.run(['ip', *words], capture_output=True, text=True, timeout=LONG)
    if done.returncode != 0:
        raise knit_podman.Failure(f'ip {" ".join(words)}: {done.stderr}')


class Volume:
    """A folder that is changed as kubelet does: names are links into a folder that is a link, which is exchanged."""

    def __init__(self, path, mode, group):
        self.path, self.mode, self.group, self.version, self.files = path, mode, group, 0, None
        os.makedirs(path)

    def put(self, files):
        if files == self.files:
            return
        self.version += 1
        folder = f'{self.path}/..{self.version}'
        os.mkdir(folder)
        for name, content in files.items():
            with open(f'{folder}/{name}', 'wb') as file:
                file.write(content)
            os.chown(f'{folder}/{name}', 0, self.group)
            os.chmod(f'{folder}/{name}', self.mode)
            if not os.path.islink(f'{self.path}/{name}'):
                os.symlink(f'..data/{name}', f'{self.path}/{name}')
        os.symlink(f'..{self.version}', f'{self.path}/..new')
        os.rename(f'{self.path}/..new', f'{self.path}/..data')
        shutil.rmtree(f'{self.path}/..{self.version - 1}', ignore_errors=True)
        self.files = files


class Running(threading.Thread):
    """A Pod, from its beginning to its end."""

    def __init__(self, node, pod, number):
        super().__init__(daemon=True)
        self.node, self.podman, self.objects = node, node.podman, node.objects
        self.name, self.spec = pod['metadata']['name'], pod['spec']
        self.is_owned = 'ownerReferences' in pod['metadata']
        self.address = f'{NETWORK}{number + 1}'
        self.container = f'{self.name}-{self.spec["containers"][0]["name"]}'
        self.folder = f'{self.podman.dir}/pods/{number}'
        self.volumes = {}  # by the kind of their source and its name
        self.link = f'pod{number}'

    def run(self):
        try:
            self.begin()
            self.look_until_it_is_to_end()
            self.end()
        except Exception as why:
            self.node.failures.append(f'{self.name}: {why}')
            self.say('Failed', False)

    def say(self, phase, ready):
        self.objects.update('pods', self.name, lambda o: o.update(status={
            'phase': phase, 'podIP': self.address, 'conditions': [{'type': 'Ready', 'status': 'True' if ready else 'False'}]}))

    # ---- begin ----

    def begin(self):
        spec = {**copy.deepcopy(self.spec), 'restartPolicy': 'Never'}
        spec['volumes'] = [self.mounted(volume) for volume in spec.get('volumes', [])]
        spec['volumes'].append({'name': 'hosts', 'hostPath': {'path': self.node.hosts, 'type': 'File'}})
        for container in spec['containers'] + spec.get('initContainers', []):
            for key in ('ports', *PROBES):
                container.pop(key, None)
            container.setdefault('volumeMounts', []).append({'name': 'hosts', 'mountPath': '/etc/hosts', 'readOnly': True})
        path = f'{self.folder}.yaml'
        with open(path, 'w') as file:
            # always: podman keeps an init container that has ended, and does not try to remove it while it still ends.
            yaml.safe_dump({'apiVersion': 'v1', 'kind': 'Pod', 'spec': spec, 'metadata': {
                'name': self.name, 'annotations': {'io.podman.annotations.init.container.type': 'always'}}}, file)
        self.podman.run('play', 'kube', '--start=false', '--network', 'none', path)
        infra = self.podman.run('pod', 'inspect', '--format', '{{.InfraContainerID}}', self.name)
        self.podman.run('start', infra)
        self.make_network(self.podman.inspect(infra, 'State', 'Pid'))
        self.podman.run('pod', 'start', self.name)

    def mounted(self, volume):
        """As podman has to mount it."""
        kind = next((kind for kind in ('configMap', 'secret') if kind in volume), None)
        if kind is None:
            return volume
        source = volume[kind]
        key = kind, source['name' if kind == 'configMap' else 'secretName']
        self.volumes[key] = Volume(f'{self.folder}/{volume["name"]}', source.get('defaultMode', 0o644),
                                   self.spec.get('securityContext', {}).get('fsGroup', 0))
        with self.objects.changed:
            self.objects.changed.wait_for(lambda: self.fill(key))
        return {'name': volume['name'], 'hostPath': {'path': self.volumes[key].path, 'type': 'Directory'}}

    def fill(self, key):
        kind, name = key
        o = self.objects.get('configmaps' if kind == 'configMap' else 'secrets', name)
        if o is None:
            return False
        data = o.get('data', {}).items()
        self.volumes[key].put({k: v.encode() if kind == 'configMap' else base64.b64decode(v) for k, v in data})
        return True

    def make_network(self, pid):
        ip('netns', 'attach', self.name, str(pid))
        ip('link', 'add', self.link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', self.name)
        ip('link', 'set', self.link, 'master', 'pods', 'up')
        for words in (('link', 'set', 'lo', 'up'), ('link', 'set', 'eth0', 'up'), ('addr', 'add', f'{self.address}/24', 'dev', 'eth0')):
            ip('-netns', self.name, *words)

    # ---- while it runs ----

    def look_until_it_is_to_end(self):
        with self.podman.popen('wait', self.container) as waiting:
            try:
                while not self.is_to_end(PERIOD_S):
                    if waiting.poll() is None:
                        for key in self.volumes:
                            self.fill(key)
                        self.say('Running', self.is_ready())
                    else:
                        status = waiting.stdout.read().strip()
                        if self.is_owned:  # a daemon: where one does not come, the page waits in vain
                            raise knit_podman.Failure(f'it has ended with {status}: {self.podman.logs(self.container)}')
                        self.say('Succeeded' if status == '0' else 'Failed', False)
                        self.is_to_end()
            finally:
                waiting.kill()

    def is_to_end(self, seconds=None):
        """Waits until it is, or for so long."""
        with self.objects.changed:
            return self.objects.changed.wait_for(lambda: 'deletionTimestamp' in self.objects.get('pods', self.name)['metadata'], seconds)

    def is_ready(self):
        """Whether it runs, and each probe says yes."""
        container = self.spec['containers'][0]
        ports = {port['name']: port['containerPort'] for port in container.get('ports', [])}
        return all(self.asked(ports[container[probe]['httpGet']['port']], container[probe]['httpGet']['path'])
                   for probe in PROBES if probe in container)

    def asked(self, port, path):
        connection = http.client.HTTPConnection(self.address, port, timeout=5)
        try:
            connection.request('GET', path)
            return 200 <= connection.getresponse().status < 400
        except OSError:
            return False
        finally:
            connection.close()

    # ---- end ----

    def end(self):
        before = self.spec['containers'][0].get('lifecycle', {}).get('preStop', {})
        if 'sleep' in before:
            threading.Event().wait(before['sleep']['seconds'])
        if 'exec' in before and self.podman.inspect(self.container, 'State', 'Running'):
            done = self.podman.done('exec', self.container, *before['exec']['command'])
            # A daemon that drains may have ended, and its container with all in it, before the command that asked it to.
            if done.returncode not in (0, KILLED):
                raise knit_podman.Failure(f'preStop: status {done.returncode}\n{done.stdout}{done.stderr}')
        self.podman.run('stop', '--time', str(self.spec.get('terminationGracePeriodSeconds', 30)), self.container)
        self.node.ended[self.name] = self.podman.inspect(self.container, 'State', 'ExitCode'), self.podman.logs(self.container)
        with self.node.removing:
            self.podman.run('pod', 'rm', '--force', '--time', '0', self.name)
        ip('netns', 'del', self.name)
        self.objects.remove('pods', self.name)


class Node:
    """`failures` are lines about Pods that did not come so far; `ended` has exit status and log of those that have ended."""

    def __init__(self, podman):
        self.podman, self.objects, self.running = podman, None, {}
        self.failures, self.ended = [], {}
        self.removing = threading.Lock()  # podman 4.3 reads volumes that another one has removed meanwhile, and crashes
        self.hosts = f'{podman.dir}/hosts'
        self.say_addresses([])
        ip('link', 'add', 'pods', 'type', 'bridge')
        ip('addr', 'add', GATEWAY, 'dev', 'pods')
        ip('link', 'set', 'pods', 'up')

    def say_addresses(self, found):
        """In one write of always the same size: the file stays, and whoever reads it meanwhile finds all of it."""
        lines = ['127.0.0.1 localhost', *(f'{address} {name}' for address, name in found)]
        with open(os.open(self.hosts, os.O_WRONLY | os.O_CREAT, 0o644), 'wb', buffering=0) as file:
            file.write('\n'.join([*lines, '']).encode().ljust(HOSTS_SIZE, b'\n'))

    def serve(self, objects):
        self.objects = objects
        threading.Thread(target=self.begin_pods, daemon=True).start()

    def begin_pods(self):
        while True:
            with self.objects.changed:
                version = self.objects.version
            for pod in self.objects.all('pods'):
                uid = pod['metadata']['uid']
                if uid not in self.running:
                    self.running[uid] = Running(self, pod, len(self.running) + 1)
                    self.running[uid].start()
            with self.objects.changed:
                self.objects.changed.wait_for(lambda version=version: self.objects.version != version)

    def wait_empty(self):
        wait_until(lambda: self.failures or not self.objects.all('pods'), 'all Pods to end', LONG)

    def show(self):
        """All that is known, when something is wrong."""
        print('\n'.join(self.failures))
        for name, (status, log) in self.ended.items():
            print(f'{name} has ended: {status}\n{log}')
        for pod in self.objects.all('pods'):
            print(pod['metadata']['name'], pod.get('status'), self.log_of(pod), sep='\n')

    def log_of(self, pod):
        return self.podman.logs(self.running[pod['metadata']['uid']].container)
