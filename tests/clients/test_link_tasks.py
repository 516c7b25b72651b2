# SPDX-License-Identifier: Apache-2.0
"""No task of a program is lost when it is linked: by each compiler and linker there is, with and without the collection of
sections that nothing refers to, from objects and from a static library.

Usage: test_link_tasks.py INCLUDE_DIR COMPILER...
"""
import os
import shutil
import subprocess
import sys
import tempfile

TASK = """
#include <knitting/task.h>
KNIT_TASK(%s, "%s() -> nil")
{
    return knit_return_nil(call);
}
"""
MAIN = """
#include <stdio.h>
#include <knitting/task.h>
%s
int print_library(void);
int main(void)
{
    const struct knit_module *own = knit_own_tasks();
    for (const struct knit_task *const *task = own->tasks; task != own->tasks_end; task++)
        puts((*task)->name);
    return knit_api != NULL || own->api != &knit_api;
}
"""
LIBRARY = MAIN.replace("int main(void)", "int print_library(void)")


class Linking:
    def __init__(self, folder, include_dir, compiler):
        self.folder, self.include_dir, self.compiler = folder, include_dir, compiler

    def run(self, *words):
        return subprocess.run(words, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def make(self, *words):
        done = self.run(*words)
        if done.returncode != 0:
            sys.exit(f"{' '.join(words)}: {done.stdout}")
        return done.stdout

    def compile(self, name, text, *flags):
        with open(os.path.join(self.folder, name + ".c"), "w", encoding="utf-8") as file:
            file.write(text)
        self.make(self.compiler, "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-ffunction-sections", "-fdata-sections",
                  "-I" + self.include_dir, *flags, "-c", name + ".c", "-o", name + ".o")
        return name + ".o"

    def tasks(self, *words):
        self.make(self.compiler, *words, "-o", "program")
        return sorted(self.make("./program").split())

    def expect(self, what, got, names):
        if got != sorted(names):
            sys.exit(f"{os.path.basename(self.compiler)}, {what}: the program has {got}, not {sorted(names)}")
        print(f"{os.path.basename(self.compiler)}, {what}: {len(got)} tasks")


def link_all(linking, linker):
    names = ["one", "two", "three"]
    main, needing = "main.o", "needing.o"
    objects = [name + ".o" for name in names]
    for flags in [], ["-Wl,--gc-sections"], ["-Wl,--gc-sections", "-no-pie"]:
        how = " ".join([os.path.basename(linker or "default linker"), *flags])
        chosen = ["-fuse-ld=" + linker] if linker else []
        linking.expect(f"objects, {how}", linking.tasks(main, *objects, *chosen, *flags), names)
        linking.expect(f"library whose tasks are named, {how}", linking.tasks(needing, "tasks.a", *chosen, *flags), names)
        linking.expect(f"whole library, {how}", linking.tasks(
            main, "-Wl,--whole-archive", "tasks.a", "-Wl,--no-whole-archive", *chosen, *flags), names)
        linking.expect(f"no tasks, {how}", linking.tasks(main, *chosen, *flags), [])


def try_compiler(folder, include_dir, compiler):
    linking = Linking(folder, include_dir, compiler)
    for name in "one", "two", "three":
        linking.compile(name, TASK % (name, name))
    linking.make("ar", "rcs", "tasks.a", "one.o", "two.o", "three.o")
    linking.compile("main", MAIN % "")
    linking.compile("needing", MAIN % "KNIT_LINK_TASK(one);\nKNIT_LINK_TASK(two);\nKNIT_LINK_TASK(three);")
    for linker in [None] + [name for name in ("bfd", "gold", "lld") if shutil.which("ld." + name)]:
        link_all(linking, linker)
    linking.compile("wanting", MAIN % "KNIT_LINK_TASK(four);")
    if linking.run(compiler, "wanting.o", "tasks.a", "-o", "program").returncode == 0:
        sys.exit("a task that no file has is linked")
    # A program and a library that it loads: each has its own.
    linking.compile("four", TASK % ("four", "four"), "-fPIC")
    linking.compile("library", LIBRARY % "", "-fPIC")
    linking.make(compiler, "-shared", "four.o", "library.o", "-o", "libfour.so")
    linking.compile("loading", (MAIN % "").replace("return ", "return print_library() || "))
    got = linking.tasks("loading.o", "one.o", "two.o", "-L.", "-lfour", "-Wl,-rpath," + folder)
    linking.expect("program and library", got, ["four", "one", "two"])


def main():
    include_dir, *compilers = sys.argv[1:]
    for compiler in compilers:
        with tempfile.TemporaryDirectory() as folder:
            try_compiler(folder, include_dir, compiler)


main()
