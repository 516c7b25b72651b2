/* SPDX-License-Identifier: Apache-2.0 */
/* Named points at which a test can make the host die: KNIT_FAULT("recovery.before_vacant").
 *
 * Without the build option fault_points nothing of this is left in the program. With it, a process
 * whose environment has KNIT_FAULT=recovery.before_vacant kills itself when it comes to that point.
 */
#pragma once

#ifdef KNIT_FAULT_POINTS

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline void knit_fault(const char *name)
{
    const char *wanted = getenv("KNIT_FAULT");

    if (wanted != NULL && strcmp(wanted, name) == 0)
        (void)kill(getpid(), SIGKILL);
}

#define KNIT_FAULT(name) knit_fault(name)

#else

#define KNIT_FAULT(name) ((void)0)

#endif
