/* SPDX-License-Identifier: Apache-2.0 */
/* What is read anew while the daemon runs, after SIGHUP or `$/reload`: files that settings name,
 * not the settings.
 *
 * All parts read and check first, beside what holds; then all change at once. If one refuses,
 * nothing has changed, and the log says what was wrong.
 *
 * Threads: the main thread's, but for knit_reload_outcome_get().
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
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

/* How the last one ended, for those on other threads who wait for it. */
struct knit_reload_outcome {
    pthread_mutex_t mutex;
    bool has_failed;
    struct knit_sentence why;
};

void knit_reload_outcome_init(struct knit_reload_outcome *outcome);
void knit_reload_outcome_set(struct knit_reload_outcome *outcome, int r, const char *why);
/* Whether it has failed, and why. From any thread. */
KNIT_MUST_CHECK bool knit_reload_outcome_get(
    struct knit_reload_outcome *outcome, struct knit_sentence *ret_why);
