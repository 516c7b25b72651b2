/* SPDX-License-Identifier: Apache-2.0 */
/* What was read from a connection and is not consumed, and how much of that a loop may hold.
 *
 * A connection may hold up to KNIT_INPUT_FREE_BYTES for itself. What it holds beyond is charged to
 * the budget of its loop, input_max_bytes for all connections: without it some hundred connections
 * that begin a large message and never end it would hold gigabytes. A connection that finds no
 * budget left is not read until there is some. To make room, connections are closed that are
 * charged and have sent little for a second, 64 KiB or a sixteenth of their charge, the longest
 * silent first; those that the daemon itself does not read, because they wait for their turn, are
 * not closed. A message that is not whole after message_max_s ends its connection in any case, so a
 * trickle that is just fast enough holds its charge that long.
 *
 * Connections of one tenant (tenant.h) hold a quarter of the budget at most, all together. Those
 * beyond wait for each other while others find room, and when the budget itself is short tenants go
 * by turns.
 *
 * Threads: its loop's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

struct knit_connection;
struct knit_inputs;
struct knit_net;

enum {
    KNIT_INPUT_E_LATER = 1, /* no budget just now; the connection is paused */
};

/* Up to COPIED_MAX, input that a connection holds is copied in front of what is read next, which
 * keeps small messages in the shared buffer; beyond it the message is long and read in place. */
#define KNIT_INPUT_COPIED_MAX (16u * 1024)
#define KNIT_INPUT_FREE_BYTES (2 * KNIT_INPUT_COPIED_MAX)

void knit_inputs_init(struct knit_inputs *inputs);

/* Once a second while connections wait for budget: some try again, for which silent ones are
 * closed.
 */
void knit_inputs_sweep(struct knit_net *net);

/* How much may be read for knit_input_keep(), which cannot refuse: less when budget is short, or
 * time, since what a connection has no time for is kept. */
size_t knit_input_room(const struct knit_connection *connection, size_t wanted);

/* Makes room for at least one byte more; input is read in place from now on. Returns 0, -ENOMEM,
 * KNIT_INPUT_E_LATER. */
KNIT_MUST_CHECK int knit_input_grow(struct knit_connection *connection);

/* What is left over in the shared buffer is copied to the connection. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_input_keep(
    struct knit_connection *connection, const uint8_t *bytes, size_t len);

/* The entries of the lookahead will take so many bytes. False: there is no budget for more. */
KNIT_MUST_CHECK bool knit_input_look_ahead(struct knit_connection *connection, size_t bytes);

void knit_input_drop_front(struct knit_connection *connection, size_t len);

/* So many bytes came. */
void knit_input_touch(struct knit_connection *connection, size_t len);

/* The connection is closed and uses no budget any more. Its bytes, which a function up the stack
 * may be reading, stay until knit_input_free(). */
void knit_input_uncharge(struct knit_connection *connection);
void knit_input_free(struct knit_connection *connection);
