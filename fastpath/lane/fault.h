/* SPDX-License-Identifier: Apache-2.0 */
/* Named points at which a test can make the host die: KNIT_FAULT(RECOVERY_BEFORE_VACANT).
 *
 * They stand before and after each step that other processes can see when the host handles a death,
 * a hard timeout, a session that comes, goes or is evicted, and a shutdown. All names are in one
 * list: a point that is not in it does not compile, and the test that goes through the list fails
 * at a name that is never reached.
 *
 * The programs contain none of it. Tests build the folder a second time with KNIT_FAULT_POINTS
 * defined; then a process with KNIT_FAULT=RECOVERY_BEFORE_VACANT in its environment kills itself
 * when it reaches that point.
 */
#pragma once

#ifdef KNIT_FAULT_POINTS

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KNIT_FAULT_LIST(X)                                                                         \
    X(DEATH_BEFORE_REAP)                                                                           \
    X(DEATH_AFTER_REAP)                                                                            \
    X(RECOVERY_BEFORE_VACANT)                                                                      \
    X(RECOVERY_AFTER_VACANT)                                                                       \
    X(RECOVERY_AFTER_BELLS)                                                                        \
    X(RECOVERY_BEFORE_ANSWER)                                                                      \
    X(RECOVERY_AFTER_ANSWER)                                                                       \
    X(RECOVERY_AFTER_RESCAN)                                                                       \
    X(RECOVERY_BEFORE_WAKE)                                                                        \
    X(RECOVERY_AFTER_WAKE)                                                                         \
    X(DEATH_AFTER_RECOVERY)                                                                        \
    X(DEATH_AFTER_UNLINK)                                                                          \
    X(DEATH_AFTER_FINALIZE)                                                                        \
    X(WORKER_AFTER_SPAWN)                                                                          \
    X(STARTUP_AFTER_START)                                                                         \
    X(STARTUP_AFTER_SERVE)                                                                         \
    X(STARTUP_AFTER_READY)                                                                         \
    X(WORKER_AFTER_ATTACH)                                                                         \
    X(TIMEOUT_AFTER_HALT)                                                                          \
    X(TIMEOUT_AFTER_HARD_KILL)                                                                     \
    X(TIMEOUT_AFTER_ABANDONED_KILL)                                                                \
    X(SESSION_AFTER_SEGMENTS)                                                                      \
    X(SESSION_AFTER_PUBLISH)                                                                       \
    X(SESSION_AFTER_CLOSED)                                                                        \
    X(SESSION_AFTER_DETACH)                                                                        \
    X(SESSION_BEFORE_FREE)                                                                         \
    X(SESSION_AFTER_EVICT)                                                                         \
    X(SHUTDOWN_AFTER_CLOSED)                                                                       \
    X(SHUTDOWN_AFTER_STOP)                                                                         \
    X(RECOVERY_AFTER_CLAIM)                                                                        \
    X(SHUTDOWN_BEFORE_STOPPED)

#define KNIT_FAULT_ENTRY(name) KNIT_FAULT_##name,
enum knit_fault_point { KNIT_FAULT_LIST(KNIT_FAULT_ENTRY) KNIT_FAULT_COUNT };
#undef KNIT_FAULT_ENTRY

static inline const char *knit_fault_name(enum knit_fault_point point)
{
#define KNIT_FAULT_ENTRY(name) #name,
    static const char *const names[] = {KNIT_FAULT_LIST(KNIT_FAULT_ENTRY)};
#undef KNIT_FAULT_ENTRY

    return names[point];
}

static inline void knit_fault(enum knit_fault_point point)
{
    const char *wanted = getenv("KNIT_FAULT");

    if (wanted != NULL && strcmp(wanted, knit_fault_name(point)) == 0)
        (void)kill(getpid(), SIGKILL);
}

#define KNIT_FAULT(name) knit_fault(KNIT_FAULT_##name)

#else

#define KNIT_FAULT(name) ((void)0)

#endif
