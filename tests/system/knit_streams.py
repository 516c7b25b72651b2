# SPDX-License-Identifier: Apache-2.0
"""What the API of knit_cluster.py does not have, since its protocol is large: `kubectl port-forward` and `kubectl exec`. A form that
is not known here is refused, though kubectl may know it.

    port-forward KIND/NAME LOCAL:REMOTE    a connection to each, from the node into the Pod's network, to its 127.0.0.1
    exec KIND/NAME -- COMMAND...
"""

import ctypes
import json
import os
import re
import socket
import sys
import threading
import urllib.request

CLONE_NEWNET = 0x40000000
RESOURCES = {'deployment': 'apis/apps/v1/namespaces/default/deployments', 'daemonset': 'apis/apps/v1/namespaces/default/daemonsets'}
PODS = 'api/v1/namespaces/default/pods'


def get(path):
    with urllib.request.urlopen(f'{os.environ["KNIT_CLUSTER"]}/{path}', timeout=60) as response:
        return json.load(response)


def pod_of(what):
    """The first that is ready."""
    match = re.fullmatch(r'(pod|deployment|daemonset)/([\w-]+)', what)
    if match is None:
        sys.exit(f'error: {what} is none that is known here')
    if match[1] == 'pod':
        return get(f'{PODS}/{match[2]}')
    labels = get(f'{RESOURCES[match[1]]}/{match[2]}')['spec']['selector']['matchLabels']
    pods = get(f'{PODS}?labelSelector=' + ','.join(f'{key}={value}' for key, value in labels.items()))['items']
    ready = [pod for pod in pods if 'deletionTimestamp' not in pod['metadata'] and
             {'type': 'Ready', 'status': 'True'} in pod.get('status', {}).get('conditions', [])]
    if not ready:
        sys.exit(f'error: no Pod of {what} is ready')
    return ready[0]


def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(near, port):
    with near, socket.create_connection(('127.0.0.1', port)) as far:
        back = threading.Thread(target=copy, args=(far, near))
        back.start()
        copy(near, far)
        back.join()


def port_forward(what, ports):
    local, _, remote = ports.partition(':')
    pod = pod_of(what)
    listener = socket.create_server(('127.0.0.1', int(local)))
    # Sockets that are made from here on are in the Pod's network; the listener stays where it is.
    with open(f'/run/netns/{pod["metadata"]["name"]}') as network:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(network.fileno(), CLONE_NEWNET) != 0:
            sys.exit(f'setns: {os.strerror(ctypes.get_errno())}')
    print(f'Forwarding from 127.0.0.1:{local} -> {remote}', flush=True)
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0], int(remote)), daemon=True).start()


def main(words):
    if len(words) == 3 and words[0] == 'port-forward' and re.fullmatch(r'\d+:\d+', words[2]):
        port_forward(*words[1:])
    elif len(words) > 3 and words[0] == 'exec' and words[2] == '--':
        pod = pod_of(words[1])
        os.execvp('podman', ['podman', 'exec', f'{pod["metadata"]["name"]}-{pod["spec"]["containers"][0]["name"]}', *words[3:]])
    else:
        sys.exit(f'error: kubectl {" ".join(words)} is none that is known here')


if __name__ == '__main__':
    main(sys.argv[1:])
