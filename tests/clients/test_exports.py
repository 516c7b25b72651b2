# SPDX-License-Identifier: Apache-2.0
"""What libknitting.so exports, and what libknitting.a has for other objects, is what the version script, the list of symbols of
the Debian package and the installed headers name.

Usage: test_exports.py NM LIBRARY ARCHIVE VERSION_SCRIPT SYMBOLS HEADER...
"""
import re
import subprocess
import sys


def defined(*command):
    out = subprocess.run([*command, "--defined-only"], check=True, text=True, stdout=subprocess.PIPE).stdout
    return {line.split()[-1].split("@")[0] for line in out.splitlines()
            if len(line.split()) > 2 and line.split()[-2] not in "Aa"}


def main():
    nm, library, archive, script, symbols, *headers = sys.argv[1:]
    exported = defined(nm, "-D", library)
    with open(script, encoding="utf-8") as file:
        scripted = set(re.findall(r"^ +(knit_\w+);", file.read(), re.M))
    with open(symbols, encoding="utf-8") as file:
        packaged = set(re.findall(r"^ (knit_\w+)@KNITTING_0 \d", file.read(), re.M))
    declared = set()
    for header in headers:
        with open(header, encoding="utf-8") as file:
            text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
        declared |= set(re.findall(r"^(?:KNIT_MUST_CHECK )?(?!static )[a-z][\w \*]*?\b(knit_\w+)\(", text, re.M))
    for name, there, missing in (("version script", exported, scripted), ("symbols", exported, packaged), ("headers", exported, declared), ("archive", exported, defined(nm, "-g", archive))):
        if there != missing:
            print(f"exported, but not in the {name}: {sorted(there - missing)}")
            print(f"in the {name}, but not exported: {sorted(missing - there)}")
            return 1
    print(f"{len(exported)} functions")
    return 0


sys.exit(main())
