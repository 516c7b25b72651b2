# SPDX-License-Identifier: Apache-2.0
"""The client library and the examples against the real daemon, over every transport."""

import os
import signal
import subprocess
import sys

from knit_harness import PATIENCE, Case, Daemon, main, wait_until

CALLS = os.environ['KNIT_CLIENT_CALLS']
EXAMPLES = os.environ['KNIT_EXAMPLES']


def run(*command, timeout=12 * PATIENCE):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout)


class Shared(Case):
    def urls(self, daemon):
        self.assertEqual([url.split(':')[0] for url in daemon.urls], ['knit', 'unix', 'shm'])
        for url in daemon.urls:
            with self.subTest(url.split(':')[0]):
                yield url

    def succeed(self, *command):
        result = run(*command)
        self.assertEqual(result.returncode, 0, result.stdout)
        return result.stdout


class Client(Shared):
    def test_all_calls_over_every_transport(self):
        for scheme in 0, 1, 2:
            with Daemon() as daemon, self.subTest(daemon.urls[scheme]):
                self.succeed(CALLS, daemon.urls[scheme])

    def test_workers_that_do_not_spin_serve_just_as_well(self):
        with Daemon(spin_us=0) as daemon:
            self.succeed(CALLS, daemon.urls[2])

    def test_a_dead_daemon_is_noticed(self):
        for scheme in 0, 1, 2:
            daemon = Daemon()
            daemon.expected_status = -signal.SIGKILL
            with daemon, self.subTest(daemon.urls[scheme]):
                self.succeed(CALLS, daemon.urls[scheme], '--die', str(daemon.pid))
                daemon.wait()

    def test_a_drain_refuses_new_calls_and_ends_the_others(self):
        for scheme in 0, 1, 2:
            with Daemon() as daemon, self.subTest(daemon.urls[scheme]):
                self.succeed(CALLS, daemon.urls[scheme], '--drain', str(daemon.pid))
                daemon.wait()

    def test_nothing_is_left_when_callers_have_gone(self):
        with Daemon() as daemon:
            self.succeed(os.path.join(EXAMPLES, 'blocking'), daemon.urls[2], '1', '2')
            fds = len(os.listdir(f'/proc/{daemon.pid}/fd'))
            for _ in range(30):
                self.succeed(os.path.join(EXAMPLES, 'blocking'), daemon.urls[2], '1', '2')
            # What the last ones may still have is looked at once a second.
            wait_until(lambda: len(os.listdir(f'/proc/{daemon.pid}/fd')) <= fds + 5, 'descriptors to be closed')


class Examples(Shared):
    def test_blocking(self):
        with Daemon() as daemon:
            for url in self.urls(daemon):
                self.assertEqual(self.succeed(os.path.join(EXAMPLES, 'blocking'), url, '40', '2'), '42\n')

    def test_values(self):
        with Daemon() as daemon:
            for url in self.urls(daemon):
                self.assertEqual(self.succeed(os.path.join(EXAMPLES, 'values'), url),
                                 '4 of 0.25 kg\n4 of 1.5 kg\n4 of 3 kg\nfragile\nheavy\nnobody was there (7)\n')

    def test_batched(self):
        with Daemon() as daemon:
            for url in self.urls(daemon):
                output = self.succeed(os.path.join(EXAMPLES, 'batched'), url, 'add', '5000', '100', '1', '2')
                self.assertRegex(output, r'5000 calls of add, 100 at a time: [0-9.]+ s, [0-9]+ calls/s')

    def test_event_loop(self):
        with Daemon(workers=5) as daemon:
            for url in self.urls(daemon):
                output = self.succeed(os.path.join(EXAMPLES, 'event_loop'), url).splitlines()
                self.assertEqual(sorted(output[:5], key=int), ['50', '100', '150', '200', '250'])
                self.assertIn('the loop turned', output[5])

    def test_shopping(self):
        with Daemon(module=os.path.join(EXAMPLES, 'shop.so')) as daemon:
            for url in self.urls(daemon):
                self.assertEqual(self.succeed(os.path.join(EXAMPLES, 'shopping'), url, 'wrench', '4'),
                                 '4 x wrench: 49.00, not in stock\npaid at once: 47.53\n0 percent off: 49.00\n'
                                 '10 percent off: 44.10\n100 percent off: 0.00\n')
                self.assertIn('there is no such article', run(os.path.join(EXAMPLES, 'shopping'), url, 'x', '1').stdout)
                self.assertIn('BAD_ARGUMENT: argument 2 (pieces): expected uint (0 to 65535), got -1',
                              run(os.path.join(EXAMPLES, 'shopping'), url, 'bolt', '-1').stdout)

    def test_plain_python(self):
        path = os.path.join(os.environ['KNIT_SOURCE'], 'clients', 'examples', 'caller.py')
        with open(path, encoding='utf-8') as file:
            self.assertLessEqual(len(file.readlines()), 40)
        with Daemon() as daemon:
            for url in self.urls(daemon):
                if url.startswith('shm:'):
                    continue
                output = self.succeed(sys.executable, path, url)
                self.assertIn('add = 5', output)
                self.assertIn('sha256 = ba7816bf', output)
                self.assertIn('fail failed: 600 TASK_FAILED: this task always fails', output)


main()
