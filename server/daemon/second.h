/* SPDX-License-Identifier: Apache-2.0 */
/* The second in which lines of a kind are counted (base/log.h), of events that the main thread
 * logs: one timer, set only while something is counted.
 *
 * Threads: the main thread's.
 */
#pragma once

#include <stdbool.h>

#include <knitting/code.h>

struct event;
struct event_base;
struct knit_log;

struct knit_second {
    struct event *event;
    struct knit_log *log;
    bool (*look)(void *arg); /* at its end; true: the next one ends as well. NULL = none */
    void *arg;
};

/* Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_second_init(
    struct knit_second *second, struct event_base *base, struct knit_log *log);
/* Ends what has begun. Accepts a zeroed one. */
void knit_second_fini(struct knit_second *second);

/* After a line that may have been counted: the second ends by itself. */
void knit_second_note(struct knit_second *second);
