/* SPDX-License-Identifier: Apache-2.0 */
/* What runs and waits at this moment, and whose sessions there are. The board says what runs, each
 * loop lists what it has in the lanes and who waits (server/rpc/calls.h), and the two are joined by
 * session, slot and generation. Loops answer between two turns; one that does not in time is left
 * out.
 *
 * Threads: the main thread's, but for knit_calls_page_fill().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/host/running.h"
#include "proto/buffer.h"
#include "server/rpc/calls.h"

struct knit_loop;
struct knit_loops;

struct knit_calls_page {
    struct knit_loops *loops;
    struct knit_host *pool;
    uint64_t ticket; /* of the last question */
    uint32_t asked, answered;
    struct knit_host_running before[KNIT_LANES_MAX]; /* what ran when they were asked */
    uint32_t before_count;
};

/* Asks all loops. False: none was asked, and there is no answer to be waited for. */
bool knit_calls_page_ask(struct knit_calls_page *page);

/* A loop has answered the question of that ticket. True: it was the last one. */
KNIT_MUST_CHECK bool knit_calls_page_note(struct knit_calls_page *page, uint64_t ticket);

/* As a loop, on its thread: lists what it has, and says so. */
void knit_calls_page_fill(struct knit_loop *loop, uint64_t ticket);

/* What `$/calls` and `$/sessions` answer, of what the loops have listed. An error stays in the
 * buffer. */
void knit_calls_page_put(const struct knit_calls_page *page, struct knit_buffer *buffer);
void knit_calls_page_put_sessions(const struct knit_calls_page *page, struct knit_buffer *buffer);
