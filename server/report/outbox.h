/* SPDX-License-Identifier: Apache-2.0 */
/* From the event loops to a thread that does what a loop must not wait for, as writing to a disk:
 * bytes in pieces that stay whole.
 *
 * A loop gathers the pieces of a turn in memory of its own, and hands them over at the turn's end,
 * under a mutex that is held for the copy alone. What the thread has not taken yet is bounded; what
 * does not fit is dropped, and counted. So a loop never waits for what the thread waits for.
 *
 * Threads: an outbox is its loop's; the thread has the functions of struct knit_outboxes.
 * Limits: each outbox holds `max_bytes` twice, and the thread once more.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/buffer.h"

struct knit_outboxes;

struct knit_outbox {
    struct knit_outboxes *all;
    struct knit_buffer turn; /* the loop's: of this turn */
    uint64_t turn_pieces;
    uint64_t dropped;          /* the loop's: since it last handed over */
    struct knit_buffer handed; /* under the mutex, as what follows: what the thread has not taken */
    uint64_t handed_pieces;
};

struct knit_outboxes {
    pthread_mutex_t mutex;
    struct knit_outbox *items;
    uint32_t count, next; /* next: the first that the thread looks at */
    int wake_fd;          /* readable when there is something to take, or nothing follows */
    bool is_awake, is_closed;
    uint64_t dropped; /* pieces, by the loops, since the thread last asked */
};

/* Returns 0 or -errno. */
KNIT_MUST_CHECK int knit_outboxes_open(
    struct knit_outboxes *outboxes, uint32_t count, size_t max_bytes);
/* The thread has ended. Accepts a zeroed one, and one that could not be opened. */
void knit_outboxes_fini(struct knit_outboxes *outboxes);

/* False: there is no room, and the piece is dropped. */
bool knit_outbox_put(struct knit_outbox *outbox, const void *piece, size_t len);

/* At the end of a turn. Returns how many pieces were dropped since the last time. */
uint64_t knit_outbox_hand_over(struct knit_outbox *outbox);

/* The thread has to look at something else. Any thread. */
void knit_outboxes_wake(struct knit_outboxes *outboxes);

/* Nothing follows. Any thread. */
void knit_outboxes_close(struct knit_outboxes *outboxes);

/* What the thread takes. */
struct knit_load {
    struct knit_buffer bytes; /* zeroed before the first time; then it is exchanged */
    uint64_t pieces;
    uint32_t from; /* which outbox */
};

/* All that one loop has handed over, the loops by turns. False: there is nothing, and `wake_fd`
 * tells when there is. ret_is_closed: nor will there be. */
KNIT_MUST_CHECK bool knit_outboxes_take(
    struct knit_outboxes *outboxes, struct knit_load *load, bool *ret_is_closed);

/* The bytes that one loop has handed over and that were not taken, of that which has most. */
size_t knit_outboxes_most(struct knit_outboxes *outboxes);

/* How many the loops have dropped since it last asked. */
uint64_t knit_outboxes_dropped(struct knit_outboxes *outboxes);
