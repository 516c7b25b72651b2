# SPDX-License-Identifier: Apache-2.0
"""The documentation as pages for a browser: built, and read as a browser reads them."""

import collections
import html.parser
import os
import re
import shutil
import subprocess
import tempfile
import unittest

SOURCE = os.environ['KNIT_SOURCE']
BUILD_SECONDS = 300
EMPTY = {'br', 'hr', 'img', 'input', 'link', 'meta', 'col', 'wbr'}
# What may stand open in HTML.
OPEN = {'p', 'li', 'dt', 'dd', 'tr', 'td', 'th', 'thead', 'tbody', 'colgroup'}


class Reader(html.parser.HTMLParser):
    """What a page refers to, and what is wrong with it."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.ids, self.wrong, self.open = [], [], [], [], []
        self.feed(text)
        self.close()
        self.wrong += [f'<{tag}> is not closed' for tag in self.open if tag not in OPEN]
        self.wrong += [f'two are #{name}' for name, count in collections.Counter(self.ids).items() if count > 1]

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag not in EMPTY:
            self.open.append(tag)
        if tag in ('script', 'iframe', 'object', 'embed') or any(name.startswith('on') for name in attributes):
            self.wrong.append(f'<{tag}> runs something')
        if tag == 'a' and 'href' in attributes:
            self.links.append(attributes['href'])
        elif 'href' in attributes:
            self.loads.append(attributes['href'])
        self.loads += [attributes[name] for name in ('src', 'srcset', 'poster', 'data', 'background') if name in attributes]
        if 'style' in attributes and 'url(' in attributes['style']:
            self.wrong.append(f'<{tag}> loads something by its style')
        if 'id' in attributes:
            self.ids.append(attributes['id'])

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in EMPTY:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        while self.open and self.open[-1] != tag and self.open[-1] in OPEN:
            self.open.pop()
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f'</{tag}> at {self.getpos()} closes nothing')


class Site(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for program in 'cmark-gfm', 'mandoc', 'scdoc':
            if shutil.which(program) is None:
                raise unittest.SkipTest(f'{program} is not installed')
        cls.dir = tempfile.mkdtemp(prefix='knit-')
        cls.addClassCleanup(shutil.rmtree, cls.dir, ignore_errors=True)
        cls.site = os.path.join(cls.dir, 'site')
        subprocess.run([os.path.join(SOURCE, 'deploy/site/build.py'), cls.site], check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, timeout=BUILD_SECONDS)
        cls.pages = {}
        for name in sorted(os.listdir(cls.site)):
            if name.endswith('.html'):
                with open(os.path.join(cls.site, name), encoding='utf-8') as file:
                    cls.pages[name] = Reader(file.read())

    def test_what_is_wrong_is_found(self):
        self.assertEqual(Reader('<p>a<ul><li>b</ul><img src="x">').wrong, [])
        for text in '<b>a', '<b>a</i></b>', '<p id="a"></p><p id="a"></p>', '<script></script>', '<p onclick="x()">', '</p>':
            self.assertNotEqual(Reader(text).wrong, [], text)

    def test_pages_are_html(self):
        self.assertGreater(len(self.pages), 60)
        for name, page in self.pages.items():
            with self.subTest(name):
                self.assertEqual(page.wrong, [])

    def test_each_link_leads_somewhere(self):
        for name, page in self.pages.items():
            for link in page.links:
                with self.subTest(f'{name}: {link}'):
                    if re.match(r'https?://', link):
                        continue
                    target, _, anchor = link.partition('#')
                    self.assertIn(target or name, self.pages)
                    if anchor:
                        self.assertIn(anchor, self.pages[target or name].ids)

    def test_nothing_is_loaded_from_elsewhere(self):
        for name, page in self.pages.items():
            for load in page.loads:
                with self.subTest(f'{name}: {load}'):
                    self.assertTrue(re.fullmatch(r'[\w.-]+', load) and os.path.exists(os.path.join(self.site, load)))
        for name in os.listdir(self.site):
            if name.endswith(('.css', '.svg')):
                with open(os.path.join(self.site, name), encoding='utf-8') as file:
                    self.assertIsNone(re.search(r'url\((?!#)|@import|<script|<image|href=["\'][^#]', file.read()), name)

    def test_each_page_is_reached_from_the_first(self):
        reached, left = {'index.html'}, ['index.html']
        while left:
            for link in self.pages[left.pop()].links:
                target = link.partition('#')[0]
                if target in self.pages and target not in reached:
                    reached.add(target)
                    left.append(target)
        self.assertEqual(set(self.pages), reached)


if __name__ == '__main__':
    unittest.main(verbosity=2)
