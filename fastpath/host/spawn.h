/* SPDX-License-Identifier: Apache-2.0 */
/* Starts one worker process.
 *
 * It leads a process group of its own: a Ctrl-C at the host's terminal does not reach it, and its
 * children can be killed with it. It has the given environment and no descriptor of the host's:
 * stdin is /dev/null, stdout and stderr are one pipe whose writer waits while it is full (so the
 * host must read it), KNIT_CONTROL_FD is its end of the control socket, KNIT_CONTROL_REPORT_FD that
 * of the pipe to the host, both ends of one more pipe follow, and then what it is given.
 *
 * Threads: the kernel kills the worker when the thread that called knit_spawn() ends.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include <knitting/code.h>

struct knit_spawn_options {
    const char *const *argv; /* NULL-ended; argv[0] is a path, or a name to look up in PATH */
    const char *const *environment;
    const char *program; /* what is run under the name argv[0]; "" = argv[0] itself */
    const int *fds;    /* [fd_count]; in the worker their numbers begin at KNIT_CONTROL_GIVEN_FD */
    uint32_t fd_count; /* 1 at least; the last is closed by exec */
    int group_fd;      /* cgroup.procs of a control group that it enters; -1 = none */
};

#define KNIT_SPAWN_FDS_MAX 1025u

struct knit_spawned {
    pid_t pid;
    int pid_fd;     /* readable when it has ended */
    int control_fd; /* the host's end, which receives nothing */
    int report_fd;  /* the same of the pipe to the host, non-blocking */
    int output_fd;  /* read end, non-blocking */
    int capture_fd; /* the same, of what it prints for callers; it reads there itself */
};

/* Returns 0 or -errno. When the program cannot be run, that is reported later, by
 * KNIT_CONTROL_HELLO with an error. */
KNIT_MUST_CHECK int knit_spawn(
    const struct knit_spawn_options *options, struct knit_spawned *ret_spawned);
