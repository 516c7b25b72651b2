# SPDX-License-Identifier: Apache-2.0
"""An image to build on, as debian:12-slim is one, for tests that have no network: it has a repository in it, of what apt-get would fetch
for the packages that are named, and apt knows that one alone. mmdebstrap makes it once, in the build folder ($KNIT_BUILD)."""

import fcntl
import os
import shutil
import subprocess
import zlib

SUITE = 'bookworm'
SECONDS = 900 * float(os.environ.get('KNIT_TEST_SLOWDOWN', '1'))


class Unavailable(Exception):
    """This machine cannot make it: the reason."""


def base_image(packages):
    """The path of a tar of it, to be imported."""
    hooks = ('mkdir -p "$1/repository/partial"',
             'chroot "$1" apt-get install --download-only --yes --no-install-recommends -o Dir::Cache::Archives=/repository ' +
             ' '.join(packages),
             'cd "$1/repository" && dpkg-scanpackages . >Packages',
             'rm -rf "$1"/etc/apt/sources.list* "$1/etc/apt/apt.conf.d/99mmdebstrap"',
             'echo "deb [trusted=yes] file:/repository ./" >"$1/etc/apt/sources.list"')
    path = os.path.join(os.environ['KNIT_BUILD'], f'base-image-{zlib.crc32(repr(hooks).encode()):08x}.tar')
    for program in 'mmdebstrap', 'dpkg-scanpackages', 'setpriv':
        if shutil.which(program) is None:
            raise Unavailable(f'{program} is not installed')
    with open(path + '.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            new = path.replace('.tar', '.new.tar')
            done = subprocess.run(['setpriv', '--pdeathsig', 'TERM', '--', 'mmdebstrap', '--mode=root', '--variant=minbase',
                                   '--dpkgopt=force-unsafe-io', *[f'--customize-hook={hook}' for hook in hooks], SUITE, new],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS)
            if done.returncode != 0:
                raise Unavailable('mmdebstrap made no base: ' + ' '.join(done.stdout.splitlines()[-3:]))
            os.rename(new, path)
    return path
