# SPDX-License-Identifier: Apache-2.0
"""The units of systemd, in a system that is booted for them."""

import unittest

from knit_booted_root import Booted, Unavailable, root


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        try:
            root()
            with Booted():
                pass
        except Unavailable as why:
            raise unittest.SkipTest(f'no system is booted here: {why}') from None


class Root(Case):
    def test_two_that_run_at_once_do_not_meet(self):
        with Booted() as one, Booted() as other:
            for booted in one, other:
                self.assertEqual(booted.run('systemctl', 'is-system-running'), 'running\n')
            pid = other.show('systemd-journald', 'MainPID')
            one.run('systemctl', 'restart', 'systemd-journald')
            self.assertEqual(other.show('systemd-journald', 'MainPID'), pid)
            one.write('/etc/new', 'text')
            self.assertEqual(one.run('cat', '/etc/new'), 'text')
            self.assertIn('No such file', other.run('cat', '/etc/new', check=False))
            with one.network(), open('/proc/thread-self/net/dev') as file:
                self.assertEqual([line.split(':')[0].strip() for line in file.readlines()[2:]], ['lo'])

    def test_what_cannot_be_booted_says_why(self):
        with self.assertRaisesRegex(Unavailable, 'systemd-nspawn boots nothing: .*no-such-folder'):
            Booted('/no-such-folder:/mnt')


if __name__ == '__main__':
    unittest.main(verbosity=2)
