/* SPDX-License-Identifier: Apache-2.0 */
/* The namespaces of what a pool says only when it is asked to, by name: a daemon in its log, a
 * program's pool to its callback. `debug` names them, and $KNITTING_DEBUG adds to it.
 */
#pragma once

#include <knitting/code.h>

#include "proto/sentence.h"

enum knit_debug {
    KNIT_DEBUG_HOST = 1,       /* who comes and goes: connections, sessions */
    KNIT_DEBUG_LANE = 2,       /* what each lane has done, when a worker ends and at the end */
    KNIT_DEBUG_SIGNALS = 4,    /* signals that the daemon got; a program's are its own */
    KNIT_DEBUG_IMPORTS = 8,    /* modules and the tasks that came with them */
    KNIT_DEBUG_LIFECYCLE = 16, /* what starts and stops in the ordinary way */
    KNIT_DEBUG_ALL = 31,
};

/* Adds the namespaces of a text, apart by blanks or commas; NULL: none. Returns 0, or 1 with the
 * sentence, which begins with `where`. */
KNIT_MUST_CHECK int knit_debug_add(
    unsigned *bits, const char *text, const char *where, struct knit_sentence *ret_why);

/* Of one namespace. */
const char *knit_debug_name(enum knit_debug bit);
