# SPDX-License-Identifier: Apache-2.0
"""The dashboard and the alert rules: each of their expressions has an answer where a real Prometheus asks a real daemon, and each
alert fires in a test of its own."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import urllib.parse
import urllib.request

from knit_harness import PATIENCE, Case, main, wait_until
from knit_tls import Authority, TlsDaemon
from test_admin import PROMETHEUS, PROMTOOL, free_port, get

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../deploy/metrics')


def read(name):
    with open(os.path.join(FOLDER, name), encoding='utf-8') as file:
        return file.read()


def panels(dashboard):
    return [panel for panel in dashboard['panels'] if panel['type'] != 'row']


class Files(Case):
    def setUp(self):
        if not os.path.exists(PROMTOOL):
            self.skipTest('promtool is not there (Debian: prometheus)')

    def promtool(self, *arguments):
        return subprocess.run([PROMTOOL, *arguments], cwd=FOLDER, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=6 * PATIENCE, check=False)

    def test_each_alert_is_quiet_and_then_fires(self):
        for arguments in ('check', 'rules', 'alerts.yaml'), ('test', 'rules', 'alerts-test.yaml'):
            done = self.promtool(*arguments)
            self.assertEqual(done.returncode, 0, done.stdout)
        alerts = re.findall(r'- alert: (\w+)', read('alerts.yaml'))
        self.assertEqual(len(set(alerts)), len(alerts))
        quiet = re.findall(r'\{eval_time: \w+, alertname: (\w+)\}', read('alerts-test.yaml'))
        fires = re.findall(r'alertname: (\w+)\n +exp_alerts:\n +- exp_labels: \{', read('alerts-test.yaml'))
        self.assertEqual((quiet, fires), (alerts, alerts))

    def test_each_alert_asks_for_something(self):
        rows = ' '.join(re.findall(r'(?m)^\| (`Knitting[^|]*) \|', read('../doc/RUNNING.md')))
        self.assertEqual(sorted(re.findall(r'Knitting\w+', rows)), sorted(re.findall(r'- alert: (\w+)', read('alerts.yaml'))))

    def test_the_configuration_is_one(self):
        done = self.promtool('check', 'config', 'prometheus.yaml')
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertRegex(done.stdout, r'1[0-9] rules found')

    def test_the_dashboard_asks_for_its_prometheus(self):
        dashboard = json.loads(read('grafana.json'))
        ids = [panel['id'] for panel in dashboard['panels']]
        self.assertEqual(len(set(ids)), len(ids))
        places = set()
        for panel in dashboard['panels']:
            at = panel['gridPos']
            for place in ((x, y) for x in range(at['x'], at['x'] + at['w']) for y in range(at['y'], at['y'] + at['h'])):
                self.assertLess(place[0], 24)
                self.assertNotIn(place, places, panel['title'])
                places.add(place)
        for panel in panels(dashboard):
            for part in panel, *panel['targets']:
                self.assertEqual(part['datasource'], {'type': 'prometheus', 'uid': '${datasource}'})
        self.assertEqual([variable['name'] for variable in dashboard['templating']['list']], ['datasource', 'instance', 'task'])


class Expressions(Case):
    def setUp(self):
        if not os.path.exists(PROMETHEUS):
            self.skipTest('prometheus is not there (Debian: prometheus)')
        self.folder = tempfile.mkdtemp(prefix='knit-')
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def ask(self, path):
        with urllib.request.urlopen(f'http://127.0.0.1:{self.port}/api/v1/{path}', timeout=PATIENCE) as answer:
            return json.load(answer)['data']

    def has_answer(self, expression):
        """Wrong expressions are answered with an error, which urlopen() raises."""
        return len(self.ask('query?query=' + urllib.parse.quote(expression))['result']) > 0

    def ready(self):
        with contextlib.suppress(OSError):
            return self.has_answer('count_over_time(up[1m]) >= 3')
        return False

    def start(self, target):
        self.port = free_port()
        shutil.copy(os.path.join(FOLDER, 'alerts.yaml'), self.folder)
        with open(f'{self.folder}/p.yml', 'w', encoding='utf-8') as file:
            file.write(read('prometheus.yaml').replace('15s', '1s').replace('127.0.0.1:5650', target))
        with open(f'{self.folder}/log', 'w', encoding='utf-8') as log:
            process = subprocess.Popen(
                [PROMETHEUS, f'--config.file={self.folder}/p.yml', f'--storage.tsdb.path={self.folder}/tsdb',
                 f'--web.listen-address=127.0.0.1:{self.port}'], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)

    def test_each_has_an_answer(self):
        authority = Authority()
        self.addCleanup(authority.close)
        with TlsDaemon(authority, admin='127.0.0.1:0') as daemon:
            target = daemon.admin[7:-1]
            self.start(target)
            wait_until(self.ready, 'three looks at the daemon', 12 * PATIENCE)
            shown = {name for name in re.findall(r'(?m)^# TYPE (\w+) ', get(daemon, '/metrics')[2].decode())}
            dashboard = json.loads(read('grafana.json'))
            asked = [target['expr'] for panel in panels(dashboard) for target in panel['targets']]
            self.assertGreater(len(asked), 35)
            asked = [expression.replace('$__rate_interval', '1m').replace('$instance', '.*').replace('$task', '.*')
                     for expression in asked]
            rules = [rule for group in self.ask('rules')['groups'] for rule in group['rules']]
            self.assertGreater(len(rules), 15)
            # An alert that does not fire has no answer, but what it compares has one.
            asked += [re.sub(r' (==|>|<) [0-9. *]+$', '', rule['query']) for rule in rules]
            for expression in asked:
                names = {re.sub('_(bucket|sum|count)$', '', name) for name in re.findall(r'knitting_\w+', expression)}
                self.assertLessEqual(names, shown, expression)
                self.assertTrue(self.has_answer(expression), expression)

            def are_healthy():
                return {rule['health'] for group in self.ask('rules')['groups'] for rule in group['rules']} == {'ok'}
            wait_until(are_healthy, 'the rules to be looked at', 12 * PATIENCE)
            # This daemon does nothing, which alarms nobody.
            firing = [alert['labels'] for alert in self.ask('alerts')['alerts'] if alert['state'] == 'firing']
            self.assertEqual(firing, [])


if __name__ == '__main__':
    main()
