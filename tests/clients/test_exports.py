# SPDX-License-Identifier: Apache-2.0
"""What libknitting.so exports is what its version script and the installed headers name.

Usage: test_exports.py NM LIBRARY VERSION_SCRIPT HEADER...
"""
import re
import subprocess
import sys


def main():
    nm, library, script, *headers = sys.argv[1:]
    out = subprocess.run([nm, "-D", "--defined-only", library], check=True, text=True,
                         stdout=subprocess.PIPE).stdout
    exported = {line.split()[-1].split("@")[0] for line in out.splitlines()
                if line.split()[-2] not in "Aa"}
    with open(script, encoding="utf-8") as file:
        scripted = set(re.findall(r"^ +(knit_\w+);", file.read(), re.M))
    declared = set()
    for header in headers:
        with open(header, encoding="utf-8") as file:
            text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
        declared |= set(re.findall(r"^(?:KNIT_MUST_CHECK )?[a-z][\w \*]*?\b(knit_\w+)\(", text, re.M))
    for name, there, missing in (("version script", exported, scripted), ("headers", exported, declared)):
        if there != missing:
            print(f"exported, but not in the {name}: {sorted(there - missing)}")
            print(f"in the {name}, but not exported: {sorted(missing - there)}")
            return 1
    print(f"{len(exported)} functions")
    return 0


sys.exit(main())
