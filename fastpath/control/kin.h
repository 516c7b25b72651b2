/* SPDX-License-Identifier: Apache-2.0 */
/* The mark of a worker, a variable of its environment that each process inherits which it starts.
 * By it host and worker know what left the worker's process group.
 *
 * Threads: pure functions. They read /proc, which takes milliseconds where there are many
 * processes, allocate nothing and hold no lock. Whatever bears no mark is nobody's: a program that
 * was started with another environment, one of another uid, a zombie.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define KNIT_KIN_MARK_SIZE 48u
#define KNIT_KIN_VARIABLE  "KNITTING_WORKER"

/* serial: of all processes of the host. */
void knit_kin_make_mark(char *ret_mark, pid_t host, uint32_t serial);

/* The mark that a process bears, also in the midst of execve(), for whose end it yields the
 * processor, though not for ever; false: none. */
bool knit_kin_mark_of(pid_t pid, char *ret_mark);

/* Calls back for each process there is. False: they cannot be listed. */
typedef void knit_kin_visit(void *arg, pid_t pid);
bool knit_kin_visit_all(knit_kin_visit *visit, void *arg);

/* Kills all that bear the mark but the process that calls; repeated until none is found, as they
 * may multiply, though not for ever. */
void knit_kin_kill(const char *mark);
