# SPDX-License-Identifier: Apache-2.0
"""A cluster of one node, as much of it as the real kubectl meets where a page is followed: its API, in memory, and what its
controllers do. knit_node.py is the node.

Real: kubectl, the manifests as they stand, images, containers with their users, rights and volumes, an address for each Pod, probes,
preStop, SIGTERM, rolls with surge. Stood in for: the API, which knows the kinds and selectors below, answers everything else with an
error, and leaves the checking of fields to test_manifests.py; there is one namespace, everybody may do everything, ReplicaSets are
left out; PodDisruptionBudgets and NetworkPolicies are kept and not enforced.
"""

import base64
import copy
import hashlib
import http.server
import json
import re
import threading
import time
import urllib.parse
import uuid

KINDS = {
    'configmaps': ('v1', 'ConfigMap'),
    'pods': ('v1', 'Pod'),
    'secrets': ('v1', 'Secret'),
    'services': ('v1', 'Service'),
    'daemonsets': ('apps/v1', 'DaemonSet'),
    'deployments': ('apps/v1', 'Deployment'),
    'networkpolicies': ('networking.k8s.io/v1', 'NetworkPolicy'),
    'poddisruptionbudgets': ('policy/v1', 'PodDisruptionBudget'),
}
SINGULARS = {'networkpolicies': 'networkpolicy'}
GROUPS = sorted({version for version, _ in KINDS.values()})
HASH = 'pod-template-hash'


class Refused(Exception):
    def __init__(self, code, reason, message):
        super().__init__(message)
        self.code, self.reason = code, reason


class Objects:
    """What there is. An object is never changed in place, so that whoever has one may read it without the lock."""

    def __init__(self):
        self.changed = threading.Condition()
        self.version = 0
        self.by_key = {}  # by resource and name
        self.events = []  # (version, kind of event, resource, object)

    def all(self, resource):
        with self.changed:
            return [o for (of, _), o in sorted(self.by_key.items()) if of == resource]

    def get(self, resource, name):
        with self.changed:
            return self.by_key.get((resource, name))

    def put(self, resource, new):
        with self.changed:
            key = resource, new['metadata']['name']
            old = self.by_key.get(key)
            new = copy.deepcopy(new)
            metadata, before = new['metadata'], old['metadata'] if old else {}
            self.version += 1
            metadata.update(namespace='default', uid=before.get('uid', str(uuid.uuid4())), resourceVersion=str(self.version),
                            creationTimestamp=before.get('creationTimestamp', now()))
            metadata['generation'] = before.get('generation', 0) + (old is None or new.get('spec') != old.get('spec'))
            new['apiVersion'], new['kind'] = KINDS[resource]
            self.keep(key, new, 'MODIFIED' if old else 'ADDED')
            return new

    def keep(self, key, new, event):
        self.by_key[key] = new
        self.events.append((self.version, event, key[0], new))
        self.changed.notify_all()

    def update(self, resource, name, change):
        """The object as `change` makes it, if it is there."""
        with self.changed:
            old = self.by_key.get((resource, name))
            if old is None:
                return None
            new = copy.deepcopy(old)
            change(new)
            return self.put(resource, new) if new != old else old

    def remove(self, resource, name):
        with self.changed:
            old = self.by_key.pop((resource, name), None)
            if old is not None:
                self.version += 1
                self.events.append((self.version, 'DELETED', resource, old))
                self.changed.notify_all()
            return old


def now():
    return time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())


def labels_match(wanted, o):
    return all(o['metadata'].get('labels', {}).get(key) == value for key, value in wanted.items())


def is_ready(pod):
    conditions = pod.get('status', {}).get('conditions', [])
    return 'deletionTimestamp' not in pod['metadata'] and {'type': 'Ready', 'status': 'True'} in conditions


def merged(old, patch):
    """What a strategic merge makes of it, where lists are not merged: a patch with one is refused."""
    if isinstance(patch, list) or '$patch' in patch or any(key.startswith('$') for key in patch):
        raise Refused(501, 'NotImplemented', 'lists are not merged here')
    new = dict(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, (dict, list)):
            new[key] = merged(new.get(key, {}), value)
        else:
            new[key] = value
    return new


# ---- Controllers -----------------------------------------------------------------------------------------------------


class Controllers(threading.Thread):
    """Pods for Deployments and DaemonSets, names for Services."""

    def __init__(self, objects, say_addresses):
        super().__init__(daemon=True)
        self.objects, self.say_addresses = objects, say_addresses
        self.numbers = iter(range(1, 1 << 30))

    def run(self):
        while True:
            with self.objects.changed:
                version = self.objects.version
            for o in self.objects.all('deployments'):
                self.roll_deployment(o)
            for o in self.objects.all('daemonsets'):
                self.roll_daemonset(o)
            self.end_orphans()
            self.name_services()
            with self.objects.changed:
                self.objects.changed.wait_for(lambda version=version: self.objects.version != version)

    def pods_of(self, owner):
        return [pod for pod in self.objects.all('pods')
                if any(ref['uid'] == owner['metadata']['uid'] for ref in pod['metadata'].get('ownerReferences', []))]

    def sorted_pods(self, owner):
        """Those of today's template, and all others; the ones that end left out."""
        version = hashlib.sha256(json.dumps(owner['spec']['template'], sort_keys=True).encode()).hexdigest()[:10]
        there = [pod for pod in self.pods_of(owner) if 'deletionTimestamp' not in pod['metadata']]
        new = [pod for pod in there if pod['metadata']['labels'][HASH] == version]
        return version, new, [pod for pod in there if pod not in new]

    def make_pod(self, owner, version):
        template, metadata = owner['spec']['template'], owner['metadata']
        self.objects.put('pods', {'spec': template['spec'], 'metadata': {
            **template['metadata'], 'name': f'{metadata["name"]}-{version}-{next(self.numbers)}',
            'labels': {**template['metadata']['labels'], HASH: version},
            'ownerReferences': [{'apiVersion': owner['apiVersion'], 'kind': owner['kind'], 'name': metadata['name'],
                                 'uid': metadata['uid'], 'controller': True}]}})

    def end_pod(self, pod):
        self.objects.update('pods', pod['metadata']['name'], lambda o: o['metadata'].setdefault('deletionTimestamp', now()))

    def roll_deployment(self, owner):
        wanted, how = owner['spec']['replicas'], owner['spec']['strategy']['rollingUpdate']
        version, new, old = self.sorted_pods(owner)
        ready = sum(map(is_ready, new + old))
        while len(new) < wanted and len(new) + len(old) < wanted + how['maxSurge']:
            self.make_pod(owner, version)
            version, new, old = self.sorted_pods(owner)
        for pod in old:
            if not is_ready(pod) or ready > wanted - how['maxUnavailable']:
                ready -= is_ready(pod)
                self.end_pod(pod)
        version, new, old = self.sorted_pods(owner)
        ready = sum(map(is_ready, new + old))
        self.say_status('deployments', owner, replicas=len(new + old), updatedReplicas=len(new), readyReplicas=ready,
                        availableReplicas=ready, unavailableReplicas=max(0, wanted - ready))

    def roll_daemonset(self, owner):
        """On the one node. Its folder is one Pod's at a time, so an old one is gone before the new one is made."""
        if owner['spec']['updateStrategy']['rollingUpdate'] != {'maxSurge': 0, 'maxUnavailable': 1}:
            raise NotImplementedError('rolls of a DaemonSet with surge')
        version, new, old = self.sorted_pods(owner)
        for pod in old:
            self.end_pod(pod)
        if not self.pods_of(owner):
            self.make_pod(owner, version)
            version, new, old = self.sorted_pods(owner)
        ready = sum(map(is_ready, new))
        self.say_status('daemonsets', owner, desiredNumberScheduled=1, currentNumberScheduled=1, updatedNumberScheduled=len(new),
                        numberReady=ready, numberAvailable=ready, numberUnavailable=1 - ready)

    def say_status(self, resource, owner, **status):
        self.objects.update(resource, owner['metadata']['name'],
                            lambda o: o.update(status={**status, 'observedGeneration': owner['metadata']['generation']}))

    def end_orphans(self):
        uids = {o['metadata']['uid'] for of in ('deployments', 'daemonsets') for o in self.objects.all(of)}
        for pod in self.objects.all('pods'):
            if any(ref['uid'] not in uids for ref in pod['metadata'].get('ownerReferences', [])):
                self.end_pod(pod)

    def name_services(self):
        """A Service without an address of its own is all of its Pods, each other one, for each who looks, the first of them."""
        found = []
        for service in self.objects.all('services'):
            pods = [pod for pod in self.objects.all('pods') if labels_match(service['spec']['selector'], pod) and is_ready(pod)]
            found += [(pod['status']['podIP'], service['metadata']['name'])
                      for pod in (pods if service['spec'].get('clusterIP') == 'None' else pods[:1])]
        self.say_addresses(found)


# ---- The API ---------------------------------------------------------------------------------------------------------


def discovery(path):
    """What there is, as it is asked for before anything else; None: it is no question of this kind."""
    if path == '/version':
        return {'major': '1', 'minor': '33', 'gitVersion': 'v1.33.0'}
    if path == '/api':
        return {'kind': 'APIVersions', 'versions': ['v1']}
    if path == '/apis':
        groups = [(group, group.split('/')[0], group.split('/')[1]) for group in GROUPS if '/' in group]
        return {'kind': 'APIGroupList', 'apiVersion': 'v1', 'groups': [
            {'name': name, 'versions': [{'groupVersion': group, 'version': version}],
             'preferredVersion': {'groupVersion': group, 'version': version}} for group, name, version in groups]}
    if path == '/openapi/v3':
        return {'paths': {address(group): {'serverRelativeURL': f'/openapi/v3/{address(group)}'} for group in GROUPS}}
    for group in GROUPS:
        kinds = {resource: kind for resource, (version, kind) in KINDS.items() if version == group}
        if path == f'/{address(group)}':
            return {'kind': 'APIResourceList', 'apiVersion': 'v1', 'groupVersion': group, 'resources': [
                {'name': resource, 'singularName': SINGULARS.get(resource, resource[:-1]), 'namespaced': True, 'kind': kind,
                 'verbs': ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch']} for resource, kind in kinds.items()]}
        if path == f'/openapi/v3/{address(group)}':
            # That fields are checked on this side is all that kubectl looks for.
            name, _, version = group.rpartition('/')
            return {'openapi': '3.0.0', 'info': {'title': '', 'version': ''}, 'paths': {
                f'/{address(group)}/namespaces/{{namespace}}/{resource}/{{name}}': {'patch': {
                    'parameters': [{'name': 'fieldValidation', 'in': 'query'}], 'responses': {},
                    'x-kubernetes-group-version-kind': {'group': name, 'version': version, 'kind': kind}}}
                for resource, kind in kinds.items()}}
    return None


def address(group):
    return f'apis/{group}' if '/' in group else f'api/{group}'


def is_selected(query):
    """A function: whether an object is meant."""
    labels = dict(part.split('=', 1) for part in query.get('labelSelector', '').split(',') if part)
    fields = dict(part.split('=', 1) for part in query.get('fieldSelector', '').split(',') if part)
    if set(fields) - {'metadata.name'} or not all(re.fullmatch(r'[\w./-]+', key) for key in labels):
        raise Refused(501, 'NotImplemented', f'selectors {labels} {fields}')
    return lambda o: labels_match(labels, o) and fields.get('metadata.name', o['metadata']['name']) == o['metadata']['name']


def protobuf(data):
    """The fields of a message that are bytes, by their numbers; of each number a list."""
    found, at = {}, 0

    def number():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte, at = data[at], at + 1
            value, shift = value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value
    while at < len(data):
        key = number()
        value = number()
        if key & 7 == 2:
            found.setdefault(key >> 3, []).append(data[at:at + value])
            at += value
        elif key & 7 != 0:
            raise Refused(415, 'UnsupportedMediaType', 'a kind of field that is not known here')
    return found


def read(body):
    """JSON, or what `kubectl create` writes for Secrets and ConfigMaps."""
    if body.startswith(b'{'):
        return json.loads(body)
    if not body.startswith(b'k8s\0'):
        raise Refused(415, 'UnsupportedMediaType', 'neither JSON nor protobuf')
    envelope = protobuf(body[4:])
    kind = protobuf(envelope[1][0])[2][0].decode()
    if kind not in ('Secret', 'ConfigMap'):
        raise Refused(415, 'UnsupportedMediaType', f'a {kind} in protobuf')
    o = protobuf(envelope[2][0])
    data = {entry[1][0].decode(): entry.get(2, [b''])[0] for entry in map(protobuf, o.get(2, []))}
    return {'metadata': {'name': protobuf(o[1][0])[1][0].decode()},
            'data': {key: base64.b64encode(value).decode() if kind == 'Secret' else value.decode() for key, value in data.items()},
            **({'type': o[3][0].decode()} if kind == 'Secret' and 3 in o else {})}


class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        pass

    def answer(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        try:
            said = self.found(url.path, query, read(body) if body else None)
        except Refused as refused:
            said = {'kind': 'Status', 'apiVersion': 'v1', 'status': 'Failure', 'code': refused.code, 'reason': refused.reason,
                    'message': str(refused)}
        if said is None:
            return
        is_text = isinstance(said, str)
        data = said.encode() if is_text else json.dumps(said).encode()
        self.send_response(said.get('code', 200) if not is_text else 200)
        self.send_header('Content-Type', 'text/plain' if is_text else 'application/json')
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def handle(self):
        try:
            super().handle()
        except ConnectionError:
            pass  # who watched has gone

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def found(self, path, query, body):
        if self.server.cluster.node.failures:  # nobody waits for what will not be
            raise Refused(500, 'InternalError', '\n'.join(self.server.cluster.node.failures))
        said = discovery(path) if self.command == 'GET' else None
        if said is not None:
            return said
        match = re.fullmatch(r'/(?:api|apis)/([\w./]+)/namespaces/default/(\w+)(?:/([\w.-]+))?(/log)?', path)
        if match is None or KINDS.get(match[2], ('',))[0] != match[1]:
            raise Refused(404, 'NotFound', 'the server could not find the requested resource')
        resource, name = match[2], match[3]
        if match[4]:
            return self.server.cluster.log_of(name)
        if name is None and self.command == 'GET':
            return self.watch(resource, query) if query.get('watch') in ('true', '1') else self.listed(resource, is_selected(query))
        return self.one(resource, name, body)

    def listed(self, resource, is_meant):
        objects = self.server.cluster.objects
        with objects.changed:
            return {'kind': KINDS[resource][1] + 'List', 'apiVersion': KINDS[resource][0],
                    'metadata': {'resourceVersion': str(objects.version)}, 'items': list(filter(is_meant, objects.all(resource)))}

    def one(self, resource, name, body):
        objects = self.server.cluster.objects
        with objects.changed:
            old = objects.get(resource, name)
            if self.command == 'POST':
                for key in {'strategy', 'updateStrategy'} & set(body.get('spec', {})):
                    body['spec'][key].setdefault('type', 'RollingUpdate')  # as where it is left out
                if name is not None or objects.get(resource, body['metadata']['name']) is not None:
                    raise Refused(409, 'AlreadyExists', f'{resource} "{body["metadata"]["name"]}" already exists')
                return objects.put(resource, body)
            if old is None:
                raise Refused(404, 'NotFound', f'{resource} "{name}" not found')
            if self.command == 'PUT':
                return objects.put(resource, {**old, **body})
            if self.command == 'PATCH':
                return objects.put(resource, merged(old, body))
            if self.command == 'DELETE' and resource == 'pods':
                return objects.update('pods', name, lambda o: o['metadata'].setdefault('deletionTimestamp', now()))
            return objects.remove(resource, name) if self.command == 'DELETE' else old

    def watch(self, resource, query):
        """Until whoever asked has gone, or does not want to wait longer."""
        objects, is_meant = self.server.cluster.objects, is_selected(query)
        seen, deadline = int(query.get('resourceVersion') or 0), time.monotonic() + int(query.get('timeoutSeconds', 600))
        self.send_response(200)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Connection', 'close')
        self.end_headers()
        self.close_connection = True
        while time.monotonic() < deadline and not self.server.cluster.node.failures:
            with objects.changed:
                objects.changed.wait_for(lambda seen=seen: objects.version > seen, 1)
                events = [event for event in objects.events if event[0] > seen]
                seen = objects.version
            for _, kind, of, o in events:
                if of == resource and is_meant(o):
                    self.wfile.write(json.dumps({'type': kind, 'object': o}).encode() + b'\n')
            self.wfile.flush()


class Cluster:
    """Runs until the process ends. `config` is for kubectl, `node` see knit_node.py."""

    def __init__(self, node):
        self.objects, self.node = Objects(), node
        Controllers(self.objects, node.say_addresses).start()
        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Api)
        server.daemon_threads, server.cluster = True, self
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f'http://127.0.0.1:{server.server_address[1]}'
        node.serve(self.objects)

    def config(self):
        """The text of a kubeconfig; JSON is YAML."""
        return json.dumps({'apiVersion': 'v1', 'kind': 'Config', 'current-context': 'test',
                           'clusters': [{'name': 'test', 'cluster': {'server': self.url}}], 'users': [],
                           'contexts': [{'name': 'test', 'context': {'cluster': 'test', 'namespace': 'default', 'user': ''}}]})

    def log_of(self, name):
        pod = self.objects.get('pods', name)
        if pod is None:
            raise Refused(404, 'NotFound', f'pods "{name}" not found')
        return self.node.log_of(pod)
