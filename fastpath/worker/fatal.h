/* SPDX-License-Identifier: Apache-2.0 */
/* The handler of signals by which a task's own fault ends the worker. It notes signal, si_code and
 * address where the host finds them, and lets the signal do what it would have done: core dumps and
 * what the host reaps stay as they are. Not noted is what another process has sent, and what a
 * thread does that another task has left behind.
 *
 * Threads: the worker's main thread; the handler runs on any, on the main one with a stack of its
 * own, so that a task's overflow of its stack is noted too. Each thread has a task of its own.
 */
#pragma once

#include <signal.h>
#include <stdint.h>

#include "fastpath/lane/note.h"

/* The task of a thread that works for whichever task runs. */
#define KNIT_FATAL_ANY_TASK UINT32_MAX

/* Installs it where a module has no handler of its own. */
void knit_fatal_begin(
    struct knit_note_line *line, const struct knit_busy_line *busy, uint32_t owner);

/* What takes the place of SIG_DFL for this signal in this process; NULL: nothing does. */
const struct sigaction *knit_fatal_default(int number);

/* Whether it is that of knit_fatal_default(). */
int knit_fatal_is_handler(const struct sigaction *action);

/* Takes its signals out of the set. A fault whose signal is blocked ends the process without it. */
void knit_fatal_unblock(sigset_t *set);

/* For which task this thread works; its threads are told when they begin. */
uint32_t knit_fatal_task(void);
void knit_fatal_set_task(uint32_t task);
