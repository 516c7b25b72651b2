/* SPDX-License-Identifier: Apache-2.0 */
/* What stands in the input of a connection that waits for a slot.
 *
 * Requests are dispatched in the order in which they came, so those behind one that waits wait
 * too.
 * What cannot wait is seen to all the same, by a look at each message when the wait begins or when
 * it comes. A `$/cancel` is carried out at once, for calls in flight and for those that stand
 * before it. Timeouts run: a request whose time is over is answered where it stands. What got its
 * outcome this way is passed over at the front. So that a `$/cancel` is seen, a connection that
 * waits is read until it has KNIT_LOOKAHEAD_BYTES.
 *
 * What was looked at is a queue beside the input, an entry for each whole message from the front
 * on. It exists while its connection waits, and costs nobody else anything.
 *
 * Threads: its loop's.
 * Limits: some thousand messages of a connection; those behind them are looked at when they come
 * nearer, and never started late either, for they count from when they were read.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define KNIT_LOOKAHEAD_BYTES (64u * 1024)

struct knit_lookahead;
struct knit_connection;
struct knit_router;

/* The message at the front begins to wait, or more input has come behind it: it is looked at at the
 * end of the turn. */
void knit_lookahead_begin(struct knit_connection *connection);

/* The message at the front has its outcome already. */
bool knit_lookahead_is_settled(const struct knit_connection *connection);

/* The message at the front is done with. */
void knit_lookahead_pop(struct knit_connection *connection);

/* Since when the message at the front has been here. */
uint64_t knit_lookahead_since_ns(const struct knit_connection *connection);

/* Off the router's list; the memory stays until knit_lookahead_free(). */
void knit_lookahead_forget(struct knit_connection *connection);
void knit_lookahead_free(struct knit_connection *connection);

/* Looks at what is new, and lowers the router's next_ns for it. */
void knit_lookahead_turn(struct knit_router *router);

/* Answers what is overdue, likewise. */
void knit_lookahead_expire(struct knit_router *router);
