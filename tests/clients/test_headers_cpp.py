# SPDX-License-Identifier: Apache-2.0
"""The installed headers work from C++: compile a program by several standards, run it.

Usage: test_headers_cpp.py COMPILER INCLUDE_DIR SOURCE LIBRARY [FLAG...]
"""
import os
import subprocess
import sys
import tempfile


def main():
    compiler, include_dir, source, library, *flags = sys.argv[1:]
    folder = os.path.dirname(library)
    with tempfile.TemporaryDirectory() as scratch:
        for standard in "gnu++11", "gnu++17", "gnu++20":
            program = os.path.join(scratch, standard)
            subprocess.run([compiler, "-std=" + standard, "-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion",
                            "-Werror", *flags, "-I" + include_dir, source, library,
                            "-Wl,-rpath," + folder, "-o", program], check=True)
            subprocess.run([program], check=True)
            print(standard)


main()
