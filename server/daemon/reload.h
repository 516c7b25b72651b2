/* SPDX-License-Identifier: Apache-2.0 */
/* What is read anew while the daemon runs, after SIGHUP: files that settings name, and not the
 * settings.
 *
 * All parts read and check first, beside what holds; then all change at once. If one refuses,
 * nothing has changed, and the log says what was wrong.
 *
 * Threads: the main thread's.
 */
#pragma once

#include <stddef.h>

#include <knitting/code.h>

#include "proto/sentence.h"

struct knit_reload_part {
    const char *name; /* of its setting, for the log; NULL: it is not given, and the part is not */
    /* Reads and checks. Returns 0; else a code of its own, or -errno, always with the sentence. */
    int (*prepare)(void *arg, struct knit_sentence *why);
    /* What was prepared holds from now on. */
    void (*commit)(void *arg);
    /* It is forgotten, as far as it was prepared; also after prepare() has refused. */
    void (*abandon)(void *arg);
    void *arg;
};

/* Returns 0, or what the first part that refused returned, with its sentence. */
KNIT_MUST_CHECK int knit_reload(
    const struct knit_reload_part *parts, size_t count, struct knit_sentence *why);
