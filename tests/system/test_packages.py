# SPDX-License-Identifier: Apache-2.0
"""The Debian packages: built, looked at by lintian, and in a system that is booted for it installed by the page that says how,
called, upgraded while callers call, purged. Two minutes of two cores and 148 packages of Debian's for the tools, so it is not part of the
ordinary run:

    KNIT_TEST_LONG=1 ./tests/run.sh system-packages

The upgrade is to the same files with a higher version: what matters is what dpkg and the scripts of the packages do.
"""

import glob
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

import knit_examples
from knit_booted_root import Booted, Unavailable
from knit_harness import wait_until
from knit_load import Load

SOURCE = os.environ['KNIT_SOURCE']
BUILD_SECONDS = 1800
LONG = os.environ.get('KNIT_TEST_LONG') == '1'
UPGRADES = 20
NAMES = {'knittingd', 'knitting-tools', 'libknitting0', 'libknitting-dev', 'knitting-doc'}
PAGE = 'deploy/doc/DEBIAN.md'
PLACE = '/srv'
SOCKET = '/run/knitting/knitting.sock'

# The compiler is on this side: its results are there already.
STAND_INS = {
    'cc': 'while [ "$1" != -o ]; do shift; done\ncp "/compiled/$2" "$2"\n',
    'pkg-config': 'exit 0\n',
}


def run(*command, **options):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=BUILD_SECONDS, check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f'{" ".join(command)}: status {done.returncode}\n{done.stdout}')
    return done.stdout


def with_version(deb, version, folder):
    """The package once more, with that version."""
    tree = os.path.join(folder, 'tree')
    run('dpkg-deb', '--raw-extract', deb, tree)
    control = os.path.join(tree, 'DEBIAN/control')
    with open(control, encoding='utf-8') as file:
        text = re.sub(r'^Version: .*', f'Version: {version}', file.read(), flags=re.M)
    with open(control, 'w', encoding='utf-8') as file:
        file.write(text)
    new = os.path.join(folder, os.path.basename(deb).split('_')[0] + f'_{version}.deb')
    run('dpkg-deb', '--root-owner-group', '-Znone', '--build', tree, new)
    shutil.rmtree(tree)
    return new


class Packages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix='knit-')
        cls.addClassCleanup(shutil.rmtree, cls.dir, ignore_errors=True)
        # Without what would be stripped again.
        # It keeps all processors busy, beside tests that look at times.
        run('nice', os.path.join(SOURCE, 'deploy/packages/build.sh'), '--out', cls.dir,
            env={**os.environ, 'DEB_BUILD_OPTIONS': 'noautodbgsym', 'DEB_CFLAGS_STRIP': '-g'})
        cls.debs = {os.path.basename(path).split('_')[0]: path for path in glob.glob(cls.dir + '/*.deb')}

    def test_they_are_those_that_the_page_names(self):
        self.assertEqual(set(self.debs), NAMES)
        self.assertEqual(set(re.findall(r'^\| `([\w-]+)` \|', knit_examples.text_of(SOURCE, PAGE), re.M)), NAMES)

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

    def abi(self, source):
        done = subprocess.run(['nice', os.path.join(source, 'deploy/packages/abi.sh')], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=BUILD_SECONDS, check=False)
        return done.returncode, done.stdout, done.stderr

    def test_programs_of_the_last_tag_run_with_this_library(self):
        status, out, err = self.abi(SOURCE)
        self.assertEqual((status, err), (0, ''), out)
        self.assertRegex(out, 'there is no tag yet|run with this library')

    def test_a_changed_function_fails_and_a_new_one_does_not(self):
        clone = os.path.join(self.dir, 'clone')
        run('git', 'clone', '--quiet', '--no-tags', SOURCE, clone)
        # As it stands here, committed or not.
        shutil.copy(os.path.join(SOURCE, 'deploy/packages/abi.sh'), os.path.join(clone, 'deploy/packages/abi.sh'))
        self.assertIn('there is no tag yet', self.abi(clone)[1])
        run('git', '-C', clone, '-c', 'user.name=test', '-c', 'user.email=test@localhost', 'tag', 'v0.0.1')

        def change(path, old, new):
            with open(os.path.join(clone, path), encoding='utf-8') as file:
                text = file.read()
            self.assertEqual(text.count(old), 1, path)
            with open(os.path.join(clone, path), 'w', encoding='utf-8') as file:
                file.write(text.replace(old, new))
        header, code = 'clients/include/knitting/pool.h', 'clients/lib/pool.c'
        change(header, '\nbool knit_is_host(void);', '\nint knit_is_new(void);\nbool knit_is_host(void);')
        change(code, '\nbool knit_is_host(void)\n', '\nint knit_is_new(void)\n{\n    return 1;\n}\n\nbool knit_is_host(void)\n')
        change('clients/lib/libknitting.map', 'knit_is_host;', 'knit_is_host;\n    knit_is_new;')
        status, out, err = self.abi(clone)
        self.assertEqual((status, err), (0, ''), out)
        self.assertIn('programs linked with v0.0.1 run with this library', out)
        change(header, '\nbool knit_is_host(void);', '\nint knit_is_host(void);')
        change(code, '\nbool knit_is_host(void)\n', '\nint knit_is_host(void)\n')
        status, out, err = self.abi(clone)
        self.assertEqual(status, 1, out + err)
        self.assertIn("type name changed from 'bool' to 'int'", out)

    def booted(self, *binds):
        try:
            return Booted(f'{self.dir}:{PLACE}/build-packages', *binds)
        except Unavailable as why:
            self.skipTest(f'no system is booted here: {why}')

    def compiled(self):
        """A folder with what the page compiles, by the package with the headers."""
        tree, out = os.path.join(self.dir, 'headers'), os.path.join(self.dir, 'compiled')
        run('dpkg-deb', '--extract', self.debs['libknitting-dev'], tree)
        os.mkdir(out)
        for step in knit_examples.steps(knit_examples.text_of(SOURCE, PAGE)):
            if step.name.endswith('.c'):
                with open(os.path.join(out, step.name), 'w', encoding='utf-8') as file:
                    file.write(step.text)
            elif step.text.startswith('cc '):
                words = shlex.split(re.sub(r'\$\(.*\)', '', step.text))
                run(*shlex.split(os.environ['KNIT_CC']), *words[1:], f'-I{tree}/usr/include', cwd=out)
        return out

    def follow(self, booted):
        """The page, command by command; what it calls compiling has been done."""
        for name, text in STAND_INS.items():
            booted.write('/usr/local/bin/' + name, '#!/bin/bash\n' + text)
            os.chmod(booted.path('/usr/local/bin/' + name), 0o755)
        for step in knit_examples.steps(knit_examples.text_of(SOURCE, PAGE)):
            if step.name:
                booted.write(os.path.join(PLACE, step.name), step.text)
            else:
                said, _, status = booted.run('bash', '-c', f'cd {PLACE} && {{ {step.text}\n}}; echo "status $?"').rpartition('status ')
                log = '' if said == step.output else booted.run('journalctl', '--no-pager', '--output=cat')
                self.assertEqual(said, step.output, f'{PAGE}:{step.line}: {step.text}\n{log}')
                self.assertTrue(step.output or status == '0\n', f'{PAGE}:{step.line}: {step.text}: status {status}')

    def test_the_page_leads_from_nothing_to_an_upgrade_and_back(self):
        with self.booted(f'{self.compiled()}:/compiled') as booted:
            self.follow(booted)
            left = booted.run('find', '/', '-xdev', '-path', '/proc', '-prune', '-o', '-path', PLACE, '-prune', '-o',
                              '-name', '*knit*', '-print')
            self.assertEqual(left, '/usr/local/lib/knitting\n')
            self.assertIn('knitting', booted.run('getent', 'passwd', 'knitting'))

    def test_an_upgrade_refuses_nobody_and_one_that_does_not_start_costs_nothing(self):
        # The last one has settings that it refuses.
        versions = [with_version(self.debs['knittingd'], f'0.2.0+{number}', self.dir) for number in range(1, UPGRADES + 2)]
        with self.booted(f'{os.environ["KNIT_MODULE"]}:/usr/local/lib/knitting/example.so') as booted:
            booted.run('dpkg', '-i', *[f'{PLACE}/build-packages/{os.path.basename(self.debs[name])}'
                                       for name in ('knittingd', 'libknitting0', 'knitting-tools')])
            self.assertNotIn('knittingd', booted.run('systemctl', 'list-units', '--plain', '--no-legend'))
            settings = '[pool]\nmodules = /usr/local/lib/knitting/example.so\nworkers = 2\n'
            booted.write('/etc/knitting/knittingd.conf', settings)
            booted.write('/etc/systemd/system/knittingd.socket.d/tcp.conf', '[Socket]\nListenStream=127.0.0.1:5648\n')
            booted.run('systemctl', 'daemon-reload')
            booted.run('systemctl', 'start', 'knittingd.socket', 'knittingd@a')
            serves, rests = 'a', 'b'
            with booted.network(), Load(5648, booted.path(SOCKET)) as load:
                for number, deb in enumerate(versions):
                    self.more_calls(load)
                    if number == UPGRADES:
                        booted.write('/etc/knitting/knittingd.conf', settings + 'no_such_setting = 1\n')
                    else:
                        serves, rests = rests, serves
                    said = booted.run('dpkg', '-i', f'{PLACE}/build-packages/{os.path.basename(deb)}')
                    self.assertEqual('does not start' in said, number == UPGRADES, said)
                    self.assertEqual(booted.show(f'knittingd@{serves}', 'ActiveState'), 'active')
                    self.assertIn(booted.show(f'knittingd@{rests}', 'ActiveState'), ('inactive', 'failed'))
                self.more_calls(load)
            print(f'{UPGRADES} upgrades: {dict(load.counts)}')
            self.assertEqual(load.failures, [])
            self.assertEqual(set(load.counts) - {'ok', 'sent again'}, set())

    def more_calls(self, load):
        before = load.counts['ok']
        wait_until(lambda: load.counts['ok'] > before + 100, 'calls')


if __name__ == '__main__':
    MISSING = [program for program in ('abidiff', 'dh', 'lintian', 'mandoc', 'cmark-gfm', 'scdoc') if shutil.which(program) is None]
    if not LONG or MISSING:
        print(f'not installed: {" ".join(MISSING)}' if LONG else 'the packages are built where KNIT_TEST_LONG is 1')
        sys.exit(77)
    unittest.main(verbosity=2)
