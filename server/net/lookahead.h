/* SPDX-License-Identifier: Apache-2.0 */
/* What stands in the input of a connection that waits for a slot.
 *
 * Requests are dispatched in the order in which they came, so those behind one that waits wait
 * too; of those that wait, urgent ones come before normal ones and these before background ones,
 * but none before a message of the protocol that came before it, and none that refers to results
 * of others before its turn.
 * Some things do not wait. A `$/cancel` is carried out at once, for calls in flight and for those
 * that stand before it. Methods that only ask, such as `$/ping`, are answered at once. Timeouts
 * run: a request whose time is over is answered where it stands. So are calls for which the router
 * is full.
 * What got its outcome this way is skipped when it comes to the front. So that a `$/cancel` is
 * seen, a connection that waits is read until it has KNIT_LOOKAHEAD_BYTES.
 *
 * The lookahead is a queue beside the input, an entry for each whole message from the front on. It
 * is filled when the wait begins and when more input comes. It exists while its connection waits,
 * and costs other connections nothing.
 *
 * Of the message at the head nothing is kept but the places that the scanner found. Trying it again
 * reads options, 4 KiB at most, and looks up a name, which server-turn_budget holds below 100 us;
 * so there are no decoded copies that would have to be charged and freed. The arguments of one with
 * a key are read when there is room for it.
 *
 * Threads: its loop's.
 * Limits: a thousand messages of a connection, and what the budget of input (input.h) leaves for
 * them; those behind them enter when they come nearer, and are never started late either, for their
 * time counts from when they were read.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define KNIT_LOOKAHEAD_BYTES (64u * 1024)

struct knit_connection;
struct knit_lookaheads;
struct knit_message;
struct knit_net;

void knit_lookaheads_init(struct knit_lookaheads *lookaheads);
/* Accepts a zeroed one. */
void knit_lookaheads_fini(struct knit_lookaheads *lookaheads);

/* The message at the front begins to wait, or more input has come behind it: scanned at the end of
 * the turn. */
void knit_lookahead_begin(struct knit_connection *connection);

/* Of a connection that has a lookahead: whether the message at the front has its outcome
 * already. */
bool knit_lookahead_is_settled(const struct knit_connection *connection);

/* Whether the message at the front is a call that the router counts as waiting. */
bool knit_lookahead_has_counted(const struct knit_connection *connection);

/* Whether notifications wait in it. Scans what is new. */
bool knit_lookahead_has_notifications(struct knit_connection *connection);

/* The peer wants no answers any more: the calls that wait are skipped. */
void knit_lookahead_drop_calls(struct knit_connection *connection);

/* Of a connection that has a lookahead: the message at the front is done with. */
void knit_lookahead_pop(struct knit_connection *connection);

/* Of a connection that has a lookahead: whether a call or notification behind the message at the
 * front comes before it, by the priorities of those that wait. */
bool knit_lookahead_chooses_later(struct knit_connection *connection);

/* That message, and when it was read, where the one at the front begins at `begin`. False: it
 * cannot be read any more. */
bool knit_lookahead_read_later(const struct knit_connection *connection, const uint8_t *begin,
    struct knit_message *ret_message, uint64_t *ret_since_ns);

/* It was begun or refused, and is skipped when it comes to the front. */
void knit_lookahead_end_later(struct knit_connection *connection);

/* When the message at the front was read. */
uint64_t knit_lookahead_since_ns(const struct knit_connection *connection);

/* It is not looked at any more; the memory stays until knit_lookahead_free(). */
void knit_lookahead_forget(struct knit_connection *connection);
void knit_lookahead_free(struct knit_connection *connection);

/* Answers what is overdue. In a turn, before callers that wait are resumed. */
void knit_lookahead_expire(struct knit_net *net);

/* Scans what is new, for as long as the turn has time for input. In a turn, after callers that wait
 * are resumed. */
void knit_lookahead_scan(struct knit_net *net);
