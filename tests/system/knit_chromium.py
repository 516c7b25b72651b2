# SPDX-License-Identifier: Apache-2.0
"""A Chromium that is told what to do by its debugging protocol, over two pipes.

    with Chromium() as browser:
        browser.emulate(width=390, is_dark=True, runs_scripts=False)
        browser.open('http://127.0.0.1:5650/')
        browser.evaluate('document.title')
"""

import json
import os
import shutil
import subprocess
import tempfile

from knit_harness import PATIENCE, wait_until

PROGRAM = '/usr/bin/chromium'
OPTIONS = ['--headless=new', '--no-sandbox', '--disable-gpu', '--remote-debugging-pipe', '--no-first-run']


class Chromium:
    def __init__(self):
        self.folder, self.number = tempfile.mkdtemp(prefix='knit-'), 0
        ours, theirs = os.pipe(), os.pipe()
        # It reads from 3 and writes to 4, where a shell puts them: either may be one of ours.
        command = 'exec "$0" "$@" 3<&%d 4>&%d' % (ours[0], theirs[1])
        self.process = subprocess.Popen(['/bin/bash', '-c', command, PROGRAM, *OPTIONS, f'--user-data-dir={self.folder}'],
                                        pass_fds=(ours[0], theirs[1]), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, env={**os.environ, 'HOME': self.folder})
        os.close(ours[0])
        os.close(theirs[1])
        self.out, self.answers = os.fdopen(ours[1], 'wb', 0), os.fdopen(theirs[0], 'rb', 0)
        self.rest, self.session = b'', None
        page = self.ask('Target.createTarget', url='about:blank')['targetId']
        self.session = self.ask('Target.attachToTarget', targetId=page, flatten=True)['sessionId']

    def ask(self, method, **params):
        self.number += 1
        message = {'id': self.number, 'method': method, 'params': params, **({'sessionId': self.session} if self.session else {})}
        self.out.write(json.dumps(message).encode() + b'\0')
        while True:
            while b'\0' not in self.rest:
                piece = self.answers.read(1 << 16)
                if not piece:
                    raise EOFError('Chromium has ended')
                self.rest += piece
            text, _, self.rest = self.rest.partition(b'\0')
            answer = json.loads(text)
            if answer.get('id') == self.number:
                if 'error' in answer:
                    raise ValueError(f'{method}: {answer["error"]}')
                return answer['result']

    def emulate(self, width, is_dark, runs_scripts):
        self.ask('Emulation.setDeviceMetricsOverride', width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
        self.ask('Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': 'dark' if is_dark else 'light'}])
        self.ask('Emulation.setScriptExecutionDisabled', value=not runs_scripts)

    def open(self, url):
        self.ask('Page.navigate', url=url)
        wait_until(lambda: self.evaluate(f'location.href === {json.dumps(url)} && document.readyState === "complete"'), url)

    def evaluate(self, expression):
        return self.ask('Runtime.evaluate', expression=expression, returnByValue=True)['result'].get('value')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.out.close()
        self.answers.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
