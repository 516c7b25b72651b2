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
#include <stdint.h>

#include <knitting/code.h>

#include "proto/sentence.h"

struct knit_log;

struct knit_reload_part {
    const char *name; /* of its setting, for the log; NULL: it is not given, and the part is not */
    /* Reads and checks. Returns 0; else a code of its own, or -errno, always with the sentence. */
    int (*prepare)(void *arg, struct knit_sentence *why);
    /* What was prepared holds from now on. log, and note, for who has asked: what is to be said of
     * it; NULL: nothing is. */
    void (*commit)(void *arg, struct knit_log *log, struct knit_sentence *note);
    /* It is forgotten, as far as it was prepared; also after prepare() has refused. */
    void (*abandon)(void *arg);
    void *arg;
};

/* Returns 0, or what the first part that refused returned, with its sentence; on success the
 * sentence is what is to be said, or empty. log: NULL or that of
 * the parts. */
KNIT_MUST_CHECK int knit_reload(const struct knit_reload_part *parts, size_t count,
    struct knit_log *log, struct knit_sentence *why);

/* How the last one ended, for those on other threads who wait for it. */
struct knit_reload_outcome {
    pthread_mutex_t mutex;
    bool has_failed;
    struct knit_sentence why;
};

void knit_reload_outcome_init(struct knit_reload_outcome *outcome);
/* Reloads and says how that ended. Whoever may ask for it can ask in a loop, so a few in a second
 * are in the log. Returns whether something has changed. */
bool knit_reload_say(struct knit_reload_outcome *outcome, const struct knit_reload_part *parts,
    size_t count, struct knit_log *log);

/* Whether it has failed, and why; or what is to be said though it has not. From any thread. */
KNIT_MUST_CHECK bool knit_reload_outcome_get(
    struct knit_reload_outcome *outcome, struct knit_sentence *ret_why);
