#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The documentation as pages for a browser, out of the texts that are read in other ways too.

Usage: deploy/site/build.py OUT

Each text of the tree becomes a page in the folder OUT: those in Markdown by cmark-gfm, the manual pages by scdoc and mandoc,
headers and examples as they stand. Links between texts become links between pages; one to a file that has no page becomes its
name. The pages load nothing but style.css and pictures, which stand beside them, and have no script.

Not by a generator of sites: each has a form of its own for texts that have to be read in the tree as well.
"""

import html
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '..', '..'))

# The parts of the site, and of each what it says of itself and its texts in their order; a pattern stands for all that it
# matches and that nothing before it named.
PARTS = (
    ('start', 'Getting started', 'What it is, and the first calls.',
     ['README.md', 'deploy/doc/TUTORIAL.md']),
    ('operating', 'Operating', 'A daemon for others: installed, sized, limited, watched, replaced.',
     ['deploy/doc/SYSTEMD.md', 'deploy/doc/DEBIAN.md', 'deploy/doc/OPERATING.md', 'deploy/doc/RUNNING.md', r'deploy/doc/[\w-]+\.md',
      'deploy/container/README.md', 'deploy/kubernetes/README.md', 'deploy/metrics/README.md', 'SECURITY.md', 'CHANGELOG.md']),
    ('protocol', 'Protocol', 'For clients in other languages, and for those who want to know.',
     ['proto/PROTOCOL.md', 'fastpath/LAYOUT.md', 'GLOSSARY.md']),
    ('manual', 'Manual pages', 'The reference of the tool, the daemon, its settings and the library.',
     [r'deploy/man/.*\.1\.scd', r'deploy/man/.*\.8\.scd', r'deploy/man/.*\.5\.scd', r'deploy/man/.*\.7\.scd', r'deploy/man/.*\.3\.scd']),
    ('headers', 'Headers', 'What programs and modules include; each function is described where it is declared.',
     [r'clients/include/knitting/\w+\.h']),
    ('examples', 'Examples', 'Whole modules and callers.',
     [r'clients/examples/\w+\.(?:c|h|py)']),
)
# What a page is called whose text has a name that says nothing outside of its folder.
NAMES = {'README.md': 'overview', 'deploy/container/README.md': 'container', 'deploy/kubernetes/README.md': 'manifests',
         'deploy/metrics/README.md': 'metrics', 'CHANGELOG.md': 'changes'}
# Folders that are linked to as such, and the part that has what is in them.
FOLDERS = {'clients/include/knitting': 'headers', 'clients/examples': 'examples', 'deploy/doc': 'start', 'deploy/man': 'manual'}

PAGE = '''<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="style.css">
</head>
<body>
<header><a href="index.html">Knitting</a>{bar}</header>
<div class="columns">
<main>
{body}
</main>
<nav aria-label="Pages">
{pages}
</nav>
</div>
</body>
</html>
'''


@dataclass
class Page:
    path: str  # of the text
    part: str
    file: str
    title: str = ''
    body: str = ''
    anchors: dict = field(default_factory=dict)


def run(*command, text=''):
    return subprocess.run(command, input=text, text=True, check=True, capture_output=True).stdout


def read(path):
    with open(os.path.join(ROOT, path), encoding='utf-8') as file:
        return file.read()


def texts():
    """Pages without bodies, by the path of their text."""
    there = sorted(os.path.relpath(os.path.join(parent, name), ROOT)
                   for folder in ('.', *FOLDERS, 'proto', 'fastpath', 'deploy/container', 'deploy/kubernetes', 'deploy/metrics')
                   for parent, _, names in [next(os.walk(os.path.join(ROOT, folder)))] for name in names)
    found = {}
    for part, _, _, patterns in PARTS:
        for pattern in patterns:
            for path in there:
                if path not in found and (path == pattern or re.fullmatch(pattern, path)):
                    stem, extension = os.path.splitext(os.path.basename(path))
                    name = NAMES.get(path, stem.lower() if extension == '.md' else stem if extension == '.scd' else stem + extension)
                    found[path] = Page(path, part, name + '.html')
    return found


# ---- Texts into HTML -------------------------------------------------------------------------------------------------


def plain(markup):
    return html.unescape(re.sub(r'<[^>]*>', '', markup)).strip()


def with_anchors(body):
    """Headings get the names by which links refer to them, as where the texts are read otherwise."""
    taken = {}

    def name(match):
        if ' id=' in match[2]:
            return match[0]
        slug = re.sub(r'[^\w\- ]', '', plain(match[3]).lower()).replace(' ', '-')
        taken[slug] = taken.get(slug, -1) + 1
        slug += f'-{taken[slug]}' if taken[slug] else ''
        return f'<h{match[1]} id="{slug}">{match[3]}</h{match[1]}>'
    return re.sub(r'<h([1-6])([^>]*)>(.*?)</h\1>', name, body, flags=re.S)


def from_markdown(text):
    # A fence may say which file it is.
    text = re.sub(r'^```(\w+) (\S+)$', r'*\2*:\n\n```\1', text, flags=re.M)
    body = run('cmark-gfm', '-e', 'table', '-e', 'autolink', '-t', 'html', text=text)
    body = re.sub(r'<!-- raw HTML omitted -->\n?', '', body)
    body = re.sub(r'(<table>.*?</table>)', r'<div class="wide">\1</div>', body, flags=re.S)
    title = re.search(r'<h1>(.*?)</h1>', body, re.S)
    return plain(title[1]), with_anchors(body)


def from_manual(path, text, pages):
    page = run('scdoc', text=text)
    body = run('mandoc', '-T', 'html', '-O', 'fragment', text=page)
    # What has no meaning outside of a terminal: the line at the top and the one at the bottom.
    body = re.sub(r'<table class="(?:head|foot)">.*?</table>', '', body, flags=re.S)
    manuals = {os.path.basename(other.path).removesuffix('.scd'): other.file for other in pages.values() if other.part == 'manual'}

    def link(match):
        target = manuals.get(f'{plain(match[1])}.{match[2]}')
        return f'<a href="{target}">{match[0]}</a>' if target and target != pages[path].file else match[0]
    body = re.sub(r'<b>([\w.-]+)</b>\((\d)\)', link, body)
    name = os.path.basename(path).removesuffix('.scd')
    stem, _, section = name.rpartition('.')
    return f'{stem}({section})', f'<h1>{stem}({section})</h1>\n{with_anchors(body)}'


def from_source(path, text, pages):
    def include(match):
        target = pages.get('clients/include/' + match[1])
        return match[0] if target is None else f'&lt;<a href="{target.file}">{match[1]}</a>&gt;'
    listing = re.sub(r'&lt;(knitting/\w+\.h)&gt;', include, html.escape(text, quote=False))
    name = path.removeprefix('clients/include/').removeprefix('clients/')
    return name, f'<h1>{name}</h1>\n<pre><code>{listing}</code></pre>'


def fill(pages):
    for path, page in pages.items():
        text = read(path)
        if path.endswith('.md'):
            page.title, page.body = from_markdown(text)
        elif path.endswith('.scd'):
            page.title, page.body = from_manual(path, text, pages)
        else:
            page.title, page.body = from_source(path, text, pages)


def relink(page, pages, pictures):
    """Links of a text, which are relative to it, as those of its page."""
    beside = os.path.dirname(page.path)

    def link(match):
        target, _, anchor = html.unescape(match[1]).partition('#')
        if re.match(r'\w+:', target) or target == '':
            return match[0]
        path = os.path.normpath(os.path.join(beside, target))
        if path in pages:
            return f'<a href="{pages[path].file}{"#" + anchor if anchor else ""}">{match[2]}</a>'
        if path in FOLDERS:
            return f'<a href="index.html#{FOLDERS[path]}">{match[2]}</a>'
        return match[2]

    def picture(match):
        path = os.path.normpath(os.path.join(beside, html.unescape(match[1])))
        name = path.replace('/', '-')
        pictures[path] = name
        return f'<img src="{name}"'
    if page.path.endswith('.md'):
        page.body = re.sub(r'<a href="([^"]*)">(.*?)</a>', link, page.body, flags=re.S)
        page.body = re.sub(r'<img src="([^"]*)"', picture, page.body)


# ---- The site --------------------------------------------------------------------------------------------------------


def page_list(pages, part, here=None):
    rows = ''.join(f'<li>{html.escape(page.title)}</li>\n' if page is here else
                   f'<li><a href="{page.file}">{html.escape(page.title)}</a></li>\n'
                   for page in pages.values() if page.part == part)
    return f'<ul>\n{rows}</ul>'


def whole(title, body, pages, here):
    bar = ''.join(f' <a href="index.html#{part}">{name}</a>' for part, name, _, _ in PARTS)
    part = here.part if here else PARTS[0][0]
    name = next(name for known, name, _, _ in PARTS if known == part)
    return PAGE.format(title=html.escape(title), bar=bar, body=body, pages=f'<h2>{name}</h2>\n{page_list(pages, part, here)}')


def front(pages):
    introduction = re.search(r'^# .*?\n\n(.*?)\n\n', read('README.md'), re.S)[1]
    parts = ''.join(f'<h2 id="{part}">{name}</h2>\n<p>{about}</p>\n{page_list(pages, part)}\n' for part, name, about, _ in PARTS)
    body = '<h1>Knitting</h1>\n' + run('cmark-gfm', '-t', 'html', text=introduction) + parts
    return whole('Knitting', body, pages, None)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = sys.argv[1]
    pages, pictures = texts(), {}
    fill(pages)
    if os.path.exists(out) and not os.path.exists(os.path.join(out, 'index.html')):
        sys.exit(f'{out} is there, and is no site that would be made anew')
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    for page in pages.values():
        relink(page, pages, pictures)
        with open(os.path.join(out, page.file), 'w', encoding='utf-8') as file:
            file.write(whole(f'{page.title} - Knitting', page.body, pages, page))
    with open(os.path.join(out, 'index.html'), 'w', encoding='utf-8') as file:
        file.write(front(pages))
    for path, name in pictures.items():
        shutil.copyfile(os.path.join(ROOT, path), os.path.join(out, name))
    shutil.copyfile(os.path.join(ROOT, 'deploy/site/style.css'), os.path.join(out, 'style.css'))
    print(f'{out}/index.html: {len(pages) + 1} pages')


if __name__ == '__main__':
    main()
