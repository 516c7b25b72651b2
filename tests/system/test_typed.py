# SPDX-License-Identifier: Apache-2.0
"""Declarations of <knitting/typed.h> against the real daemon, over every transport, in C and in C++."""

import os
import subprocess
import tempfile

from knit_harness import PATIENCE, Case, Daemon, main

CALLS = os.environ['KNIT_TYPED_CALLS']
MODULE = os.environ['KNIT_TYPED_MODULE']
SOURCE = os.environ['KNIT_SOURCE']
LIBRARY = os.environ['KNIT_LIBRARY']
COMPILERS = [path for path in os.environ['KNIT_CXX'].split(':') if path]
HERE = os.path.dirname(os.path.abspath(__file__))


class Typed(Case):
    def succeed(self, *command):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=12 * PATIENCE)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def call_everywhere(self, module, caller):
        with Daemon(module=module) as daemon:
            for url in daemon.urls:
                with self.subTest(url.split(':')[0]):
                    self.succeed(caller, url)

    def test_all_calls_over_every_transport(self):
        self.call_everywhere(MODULE, CALLS)

    def test_the_signatures_are_published(self):
        with Daemon(module=MODULE) as daemon, daemon.unix() as rpc:
            served = {entry['name']: entry['signature'] for entry in rpc.call('$/tasks')['tasks']}
        self.assertEqual(served['divide'], 'divide(a: int, b: int) -> (int, int)')
        self.assertEqual(served['nothing'], 'nothing() -> nil')
        self.assertEqual(served['its.own-name'], 'its.own-name(a: int) -> int')
        self.assertEqual(served['mixed'],
                         'mixed(text: str, numbers: f64[], factor: int?) -> (str?, float, i32[], bool)')

    def compile(self, compiler, output, *words):
        self.succeed(compiler, '-std=c++17', '-Wall', '-Wextra', '-Wconversion', '-Wsign-conversion', '-Werror',
                     '-Wno-missing-field-initializers',
                     f'-I{SOURCE}/clients/include', f'-I{SOURCE}', *words, '-o', output)
        return output

    def test_the_same_in_cpp(self):
        if not COMPILERS:
            self.skipTest('there is no compiler of C++')
        for compiler in COMPILERS:
            with self.subTest(compiler), tempfile.TemporaryDirectory() as folder:
                module = self.compile(compiler, os.path.join(folder, 'typed_cpp.so'), '-shared', '-fPIC',
                                      os.path.join(HERE, 'module_typed.cpp'))
                caller = self.compile(compiler, os.path.join(folder, 'typed_calls'),
                                      os.path.join(HERE, 'typed_calls.cpp'), LIBRARY,
                                      '-Wl,-rpath,' + os.path.dirname(LIBRARY))
                self.call_everywhere(module, caller)
                # What is in C calls what is in C++, and the other way round.
                self.call_everywhere(MODULE, caller)


main()
