/* SPDX-License-Identifier: Apache-2.0 */
/* `$/reload` requests of a loop that wait for the main thread, which reads the files again.
 *
 * Each has a ticket; a reload that begins answers all tickets that it was asked for by then, when
 * every loop has what it brought.
 *
 * Threads: the loop's.
 * Limits: 64 that wait; more are refused.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct knit_caller;
struct knit_message;
struct knit_router;

struct knit_reload_wait {
    struct knit_caller *caller;
    uint32_t msgid;
    uint32_t ticket;
    TAILQ_ENTRY(knit_reload_wait) in_waiting;
};

struct knit_reloads {
    TAILQ_HEAD(, knit_reload_wait) waiting;
    uint32_t count;
    uint32_t ticket; /* the last one */
};

void knit_reloads_init(struct knit_reloads *reloads);

/* A request `$/reload`. */
void knit_reloads_handle(struct knit_caller *caller, const struct knit_message *message);

/* A reload is over: answers those up to the ticket. reason: why nothing was changed; NULL: done. */
void knit_reloads_answer(struct knit_router *router, uint32_t ticket, const char *reason);

/* The caller goes. */
void knit_reloads_forget(struct knit_caller *caller);
