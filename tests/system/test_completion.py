# SPDX-License-Identifier: Apache-2.0
"""The completions of knit: each shell accepts its own, and offers commands, options, tasks of the pool and files. Of the
three bash is required; the others are asked where they are installed."""

import json
import os
import pty
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from knit_harness import PATIENCE, DaemonCase, main

KNIT = os.environ['KNIT_TOOL']
COMPLETIONS = os.environ['KNIT_COMPLETIONS']
PLACES = {'bash': 'knit', 'zsh': '_knit', 'fish': 'knit.fish'}

BASH = '''
source {script}
while IFS= read -r COMP_LINE; do
  COMP_POINT=${{#COMP_LINE}} COMP_WORDS=() COMP_CWORD=0
  _knit
  echo "${{COMPREPLY[*]}}"
done
'''


class Completion(DaemonCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tempfile.mkdtemp(prefix='knit-')
        for name in 'first.txt', 'second.txt':
            with open(os.path.join(cls.folder, name), 'w'):
                pass
        table = json.loads(subprocess.run([KNIT, '--json', 'help'], check=True, capture_output=True).stdout)
        cls.commands, cls.options = table['commands'], table['options']

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)
        super().tearDownClass()

    @property
    def environment(self):
        return {**os.environ, 'KNITTING_URL': self.daemon.urls[1], 'HOME': self.folder, 'TERM': 'dumb',
                'PATH': os.path.dirname(KNIT) + ':' + os.environ['PATH']}

    @staticmethod
    def script(shell):
        return os.path.join(COMPLETIONS, PLACES[shell])

    def run_shell(self, shell, *arguments, stdin=None):
        if not shutil.which(shell):
            raise unittest.SkipTest(f'{shell} is not installed')
        done = subprocess.run([shell, *arguments], input=stdin, capture_output=True, text=True, timeout=6 * PATIENCE,
                              cwd=self.folder, env=self.environment)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        return done.stdout

    def check_offers(self, offers):
        """offers(line) are the words that a shell offers at the end of that line."""
        names = {command['name'] for command in self.commands}
        self.assertEqual(offers('knit '), names)
        self.assertEqual(offers('knit he'), {'health', 'help'})
        self.assertEqual(offers('knit --url unix:///x -t 5 he'), {'health', 'help'})
        self.assertEqual(offers('knit --url=unix:///x he'), {'health', 'help'})
        self.assertEqual(offers('knit help '), names)
        for option in self.options:
            self.assertIn(f'--{option["name"]}', {word.rstrip('=') for word in offers('knit --')})
            for command in self.commands:
                if command['options']:
                    offered = {word.rstrip('=') for word in offers(f'knit {command["name"]} --')}
                    self.assertEqual(f'--{option["name"]}' in offered, option['name'] in command['options'], offered)
        self.assertEqual(offers('knit bench --'), set())
        for command in 'call', 'batch', 'lift':
            self.assertEqual(offers(f'knit {command} s'), {'sleep', 'sha256'})
        self.assertIn('add', offers(f'knit -u {self.daemon.urls[2]} call '))
        self.assertNotIn('add', offers('knit -u unix:///nonexistent call '))
        self.assertEqual(offers('knit batch add f'), {'first.txt'})

    def test_bash(self):
        self.run_shell('bash', '-n', self.script('bash'))
        program = BASH.format(script=shlex.quote(self.script('bash')))

        def offers(line):
            return set(self.run_shell('bash', '-c', program, stdin=line + '\n').split())
        self.check_offers(offers)
        self.assertEqual(offers('knit call sha256 @f'), {'@first.txt'})
        self.assertEqual(offers('knit call sha256 @text:s'), {'second.txt'})
        self.assertIn(str(self.daemon.pid), offers('knit check '))

    def test_fish(self):
        self.run_shell('fish', '--no-execute', self.script('fish'))

        def offers(line):
            said = self.run_shell('fish', '--no-config', '-c', f'source {self.script("fish")}; complete -C {shlex.quote(line)}')
            return {offer.split('\t')[0] for offer in said.splitlines()}
        self.check_offers(offers)

    def test_zsh(self):
        """Typed at a terminal: its completion system runs nowhere else."""
        self.run_shell('zsh', '-n', self.script('zsh'))
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.folder)
            os.execvpe('zsh', ['zsh', '-i'], self.environment)
        try:
            self.type_at(terminal, f'PROMPT= RPROMPT= PS2=; unsetopt zle_bracketed_paste; fpath=({COMPLETIONS} $fpath); '
                         'autoload -U compinit && compinit -u -D && echo rea""dy\n', 'ready')
            for typed, shown in (('knit hea', 'lth'), ('knit ba', 'tch'), ('knit --ur', 'l='), ('knit call --ra', 'w'),
                                 ('knit batch -', '--jobs'), ('knit call sle', 'ep'), ('knit lift cra', 'sh'),
                                 ('knit batch add fi', 'rst.txt'), ('knit call sha256 @se', 'cond.txt'),
                                 ('knit call sha256 @text:se', 'cond.txt'), ('knit help comp', ''),
                                 ('knit -t 5 -u x hea', 'lth')):
                with self.subTest(typed):
                    self.type_at(terminal, typed + '\t', shown)
                    os.write(terminal, b'\x15')
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(terminal)

    def type_at(self, terminal, text, wanted):
        os.write(terminal, text.encode())
        shown, deadline = '', time.monotonic() + PATIENCE
        while wanted not in shown.partition(text.strip())[2]:
            ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
            self.assertTrue(ready, f'{wanted!r} was not offered: {shown!r}')
            shown += os.read(terminal, 4096).decode(errors='replace')


main()
