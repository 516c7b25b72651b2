/* SPDX-License-Identifier: Apache-2.0 */
/* What tasks change of their process and leave behind: timers, signals, locale, folder, limits,
 * affinity.
 *
 * The worker exports functions of the C library by their names, so that calls of modules, and of
 * what they link, come here first. Each notes what it changes and passes the call on. After a task
 * one word says whether there is anything to undo, so a call that changes nothing costs one load,
 * and no system call. What a process may not put back itself is refused: to change the priority of
 * the thread which runs tasks, and to lower a hard limit.
 *
 * Not seen: system calls that a module makes itself, and what the C library changes on its own.
 * Builds with sanitizers have functions of these names already, and undo nothing.
 *
 * Threads: the exported functions any; the others the worker's main thread.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

/* From here on the process is as it is to stay. After the modules' hooks, before the first task. */
void knit_leftovers_begin(void);

/* Not 0: there is something to undo. */
const _Atomic uint32_t *knit_leftovers_touched(void);

void knit_leftovers_undo(void);
