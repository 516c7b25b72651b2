/* SPDX-License-Identifier: Apache-2.0 */
/* Start one worker process.
 *
 * It is the leader of a process group of its own (a Ctrl-C at the host's terminal does not reach
 * it; what it starts can be ended with it), has the given environment and nothing else of the
 * host's: stdin is /dev/null, stdout and stderr are one pipe that never blocks its writer,
 * descriptor KNIT_CONTROL_FD is its end of the control socket, all others are closed.
 *
 * Threads: the kernel ends the worker when the thread that called this ends.
 */
#pragma once

#include <sys/types.h>

struct knit_spawn_options {
    const char *const
        *argv; /* NULL-ended; argv[0] is a path, or a name that is looked up in PATH */
    const char *const *environment;
};

struct knit_spawned {
    pid_t pid;
    int pid_fd;     /* readable when it has ended */
    int control_fd; /* the host's end */
    int output_fd;  /* read end, non-blocking */
};

/* Returns 0 or -errno. That the program cannot be run comes later, as a KNIT_CONTROL_HELLO with an
 * error. */
int knit_spawn(const struct knit_spawn_options *options, struct knit_spawned *ret_spawned);
