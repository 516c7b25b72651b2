/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of a loop that wait for the main thread: `$/reload`, for which it reads files again, and
 * `$/calls` and `$/sessions`, for which it asks all loops what they have.
 *
 * Each has a ticket; what the main thread has done answers all tickets of its kind that it was
 * asked for when it began.
 *
 * Threads: the loop's.
 * Limits: 64 that wait; more are refused.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "proto/span.h"

struct knit_caller;
struct knit_message;
struct knit_router;

enum knit_asked_kind {
    KNIT_ASKED_CALLS,
    KNIT_ASKED_SESSIONS,
    KNIT_ASKED_LISTS, /* the number of those */
    KNIT_ASKED_RELOAD = KNIT_ASKED_LISTS,
};

struct knit_asked_wait {
    struct knit_caller *caller;
    uint32_t msgid;
    uint32_t ticket;
    enum knit_asked_kind kind;
    TAILQ_ENTRY(knit_asked_wait) in_waiting;
};

struct knit_asked {
    TAILQ_HEAD(, knit_asked_wait) waiting;
    uint32_t count;
    uint32_t ticket; /* the last one */
};

void knit_asked_init(struct knit_asked *asked);

/* Requests of these methods. */
void knit_asked_reload(struct knit_caller *caller, const struct knit_message *message);
void knit_asked_calls(struct knit_caller *caller, const struct knit_message *message);
void knit_asked_sessions(struct knit_caller *caller, const struct knit_message *message);

/* A reload is over: answers those up to the ticket. text: why nothing was changed, if it has
 * failed; else what is to be known of what was read, or "". */
void knit_asked_reloaded(
    struct knit_router *router, uint32_t ticket, bool has_failed, const char *text);

/* The lists were made: answers those up to the ticket, by kind, with one value each; an absent one
 * could not be made. */
void knit_asked_listed(
    struct knit_router *router, uint32_t ticket, const struct knit_span lists[KNIT_ASKED_LISTS]);

/* The caller goes. */
void knit_asked_forget(struct knit_caller *caller);
