/* SPDX-License-Identifier: Apache-2.0 */
/* What goes out on a connection.
 *
 * Replies gather in a stage during a turn (stage.h) and leave in one write at its end, and before
 * that whenever small results have filled it. What does not fit otherwise, and what the socket did
 * not take, gathers in an evbuffer, of which 256 KiB leave in a turn, and a MiB of all connections
 * at most; the rest leaves in later turns. A large result is not copied: the evbuffer refers to its
 * block in the reply arena, and the block is released when the last of its bytes has been written.
 * Blocks that a slow reader pins cannot be used by other connections of the loop. So a connection
 * may pin an eighth of an arena, and all together half of one; beyond that results are copied, up
 * to COPIED_MAX for a connection; beyond that they are pinned again. A reader that takes nothing
 * for output_stall_s is disconnected.
 *
 * What is copied for all connections together has a limit as well, output_total_max_bytes. When it
 * is reached, every result that lies in the arena is pinned. Errors, small results and answers of
 * the daemon itself do not lie there and cannot be pinned; so from half of the limit on, requests
 * of a connection are no longer read when a little of its output waits already.
 *
 * A worker whose result finds no room in the arena is blocked for all calls of the loop. To keep
 * that from happening, slow readers are disconnected, those that pin most first, while more than
 * half of an arena is pinned or a worker is blocked: each that took less than MOVED_MIN bytes for a
 * second. The same happens while more than half of output_total_max_bytes is copied.
 *
 * Nothing here fails towards the caller: without memory for a reply the connection is closed, since
 * leaving out a reply would leave a call without its outcome.
 */
#pragma once

#include <stdint.h>

#include <knitting/code.h>

#include "proto/failure.h"
#include "proto/span.h"

struct knit_connection;
struct knit_net;
struct knit_session_outcome;
struct knit_stage;

enum knit_output_result {
    KNIT_OUTPUT_EMPTY,
    KNIT_OUTPUT_WAITS, /* for the socket to take more; an event follows */
    KNIT_OUTPUT_ENDED,
};

void knit_output_result(
    struct knit_connection *connection, uint32_t msgid, struct knit_span result);
void knit_output_failure(
    struct knit_connection *connection, uint32_t msgid, const struct knit_failure *failure);

/* An outcome as it came from the lane; takes care of its release. */
void knit_output_outcome(
    struct knit_connection *connection, uint32_t msgid, const struct knit_session_outcome *outcome);

/* A whole message that was encoded elsewhere. */
void knit_output_message(struct knit_connection *connection, struct knit_span message);

/* For the first of its replies in a turn. NULL: there is none, or what waits must go first. */
struct knit_stage *knit_output_begin_stage(struct knit_connection *connection);

/* Bytes that wait. */
size_t knit_output_waiting(const struct knit_connection *connection);

/* When more wait, no request is read. */
size_t knit_output_limit(const struct knit_connection *connection);

/* Once a second: see above. */
void knit_output_make_room(struct knit_net *net);

/* Ends a connection whose peer does not read, and logs that. */
void knit_output_drop_reader(struct knit_connection *connection);

/* The connection is closed, and its copied bytes do not count any more. Those in the evbuffer stay
 * until it is freed. */
void knit_output_drop(struct knit_connection *connection);

/* Writes as much as the peer takes in one go. Ended: the connection is closed now. */
KNIT_MUST_CHECK enum knit_output_result knit_output_flush(struct knit_connection *connection);
