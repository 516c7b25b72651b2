/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks for lists of calls and sessions, and when they are there: callers by `$/calls` and
 * `$/sessions`, on their loops, and the admin face.
 *
 * All loops are asked at once (calls_page.h), and their answers are joined when the last one has
 * come, or after a second, without a loop that is stuck. Who asks meanwhile is answered by the next
 * round, so what was there when somebody asked is in the list that he gets.
 *
 * Threads: the main thread's, but for knit_listed_answer().
 */
#pragma once

#include <event2/event.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/buffer.h"
#include "server/admin/stats.h"
#include "server/daemon/calls_page.h"
#include "server/rpc/asked.h"

/* The lists that were made last, for the loops. */
struct knit_listed {
    pthread_mutex_t mutex;
    struct knit_buffer lists[KNIT_ASKED_LISTS]; /* one value each, or an error */
};

void knit_listed_init(struct knit_listed *listed);
void knit_listed_fini(struct knit_listed *listed);

/* On a loop's thread: gives those of its callers what they wait for that have a ticket up to this
 * one. */
void knit_listed_answer(struct knit_listed *listed, struct knit_router *router, uint32_t ticket);

/* Somebody who asks: a loop by its last ticket, or the face. */
struct knit_lists_asker {
    bool is_wanted; /* the next round is for it */
    bool is_asked;  /* the one that is under way is */
    uint32_t wanted, asked;
};

struct knit_lists {
    struct knit_calls_page page;
    struct event *late_event;
    bool is_under_way;
    struct knit_lists_asker loops[KNIT_STATS_LOOPS_MAX];
    struct knit_lists_asker face;
    void (*on_face)(void *arg);
    void *face_arg;
};

/* Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_lists_start(
    struct knit_lists *lists, struct event_base *base, struct knit_loops *loops);

/* Before the loops end. Accepts one that was not started. */
void knit_lists_stop(struct knit_lists *lists);

/* For a loop, by its ticket: KNIT_MAILBOX_LISTED follows. */
void knit_lists_ask_for(struct knit_lists *lists, uint32_t loop, uint32_t ticket);

/* For the face: on_face follows, and then the list of calls may be had. False: it may be at
 * once, since no loop can be asked. */
KNIT_MUST_CHECK bool knit_lists_ask(
    struct knit_lists *lists, void (*on_face)(void *arg), void *arg);
KNIT_MUST_CHECK int knit_lists_put(const struct knit_lists *lists, struct knit_buffer *buffer);

/* A loop has listed what it has, as it was asked by that ticket. */
void knit_lists_note(struct knit_lists *lists, uint64_t ticket);
