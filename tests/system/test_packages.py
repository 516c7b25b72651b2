# SPDX-License-Identifier: Apache-2.0
"""The Debian packages: built, and looked at by lintian."""

import glob
import os
import shutil
import subprocess
import tempfile
import unittest

SOURCE = os.environ['KNIT_SOURCE']
BUILD_SECONDS = 1800
NAMES = {'knittingd', 'knitting-tools', 'libknitting0', 'libknitting-dev', 'knitting-doc'}


def run(*command, **options):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=BUILD_SECONDS, check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f'{" ".join(command)}: status {done.returncode}\n{done.stdout}')
    return done.stdout


class Packages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for program in 'dh', 'lintian', 'mandoc', 'cmark-gfm', 'scdoc':
            if shutil.which(program) is None:
                raise unittest.SkipTest(f'{program} is not installed')
        cls.dir = tempfile.mkdtemp(prefix='knit-')
        cls.addClassCleanup(shutil.rmtree, cls.dir, ignore_errors=True)
        # Without what would be stripped again.
        run(os.path.join(SOURCE, 'deploy/packages/build.sh'), '--out', cls.dir,
            env={**os.environ, 'DEB_BUILD_OPTIONS': 'noautodbgsym', 'DEB_CFLAGS_STRIP': '-g'})
        cls.debs = {os.path.basename(path).split('_')[0]: path for path in glob.glob(cls.dir + '/*.deb')}

    def test_they_are_all_there(self):
        self.assertEqual(set(self.debs), NAMES)

    def test_lintian_has_nothing_to_say(self):
        said = run('lintian', '--allow-root', '--display-info', '--fail-on=error,warning,info', *glob.glob(self.dir + '/*.changes'))
        self.assertEqual(said, '')

    def test_programs_are_hardened(self):
        tree = os.path.join(self.dir, 'hardened')
        for name in 'knittingd', 'knitting-tools', 'libknitting0':
            run('dpkg-deb', '--extract', self.debs[name], tree)
        files = [path for pattern in ('usr/bin/*', 'usr/libexec/*', 'usr/lib/*/*.so.*.*') for path in glob.glob(f'{tree}/{pattern}')]
        self.assertEqual(len(files), 5, files)
        run(os.path.join(SOURCE, 'deploy/check-hardening.sh'), *files)


if __name__ == '__main__':
    unittest.main(verbosity=2)
