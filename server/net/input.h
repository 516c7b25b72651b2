/* SPDX-License-Identifier: Apache-2.0 */
/* What was read from a connection and is not consumed, and how much of that a loop may hold.
 *
 * Up to KNIT_INPUT_FREE_BYTES a connection has for itself. What it takes beyond is charged to its
 * loop, which has input_max_bytes for all of them: else some hundred connections that begin a large
 * message and never end it would hold gigabytes. Whoever finds no room is not read until there is
 * some. For its sake those are closed which take room and have sent next to nothing for a second,
 * the longest silent first; not those which wait until it is their turn.
 *
 * Threads: its loop's.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct knit_connection;
struct knit_net;

enum {
    KNIT_INPUT_E_LATER = 1, /* no room just now; the connection is paused */
};

/* Input of one's own up to COPIED_MAX is copied in front of what is read next, which keeps small
 * messages in the loop's buffer; beyond it the message is long and read where it is. */
#define KNIT_INPUT_COPIED_MAX (16u * 1024)
#define KNIT_INPUT_FREE_BYTES (2 * KNIT_INPUT_COPIED_MAX)

struct knit_input {
    uint8_t *bytes; /* NULL when len is 0 */
    size_t len;
    size_t capacity;
    size_t charged_bytes;
    uint64_t heard_ns;  /* while charged: when enough of it last came, ... */
    size_t heard_bytes; /* ... and what came since then */
};

struct knit_inputs {
    size_t charged_bytes;
    TAILQ_HEAD(, knit_connection) large;              /* those charged, the longest silent first */
    TAILQ_HEAD(, knit_connection) waiting_for_budget; /* those that wait for room */
};

void knit_inputs_init(struct knit_inputs *inputs);

/* Once a second while anybody waits for room: some try again, since others may be silent now. */
void knit_inputs_sweep(struct knit_net *net);

/* How much may be read for knit_input_keep(), which cannot refuse: less when room is short. */
size_t knit_input_room(const struct knit_connection *connection, size_t wanted);

/* Room for at least one byte more; input is read in place from now on. Returns 0, -ENOMEM,
 * KNIT_INPUT_E_LATER. */
int knit_input_grow(struct knit_connection *connection);

/* What is left over of the loop's buffer becomes the connection's own. Returns 0 or -ENOMEM. */
int knit_input_keep(struct knit_connection *connection, const uint8_t *bytes, size_t len);

void knit_input_drop_front(struct knit_connection *connection, size_t len);

/* So many bytes came. */
void knit_input_touch(struct knit_connection *connection, size_t len);

/* The connection is closed: others may have the room. Its bytes, which may be looked at just now,
 * stay until knit_input_free(). */
void knit_input_let_go(struct knit_connection *connection);
void knit_input_free(struct knit_connection *connection);
