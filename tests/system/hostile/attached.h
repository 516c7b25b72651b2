/* SPDX-License-Identifier: Apache-2.0 */
/* A session in shared memory without the client library: it attaches by the raw protocol, exposes
 * all four descriptors and all three mappings, and writes calls into cells itself. So no check of
 * the library stands in the way of an attack.
 *
 * A failure that no attack caused ends the program with a line on stderr.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fastpath/lane/layout.h"
#include "fastpath/lane/segment.h"

enum { BOARD_FD, REQUEST_FD, REPLY_FD, BELL_FD, ATTACHED_FDS };

/* The daemon to attach to, and a harmless task to call. */
struct knit_target {
    const char *path; /* of the daemon's unix socket */
    uint32_t epoch;
    uint32_t task; /* (value: any) -> any */
};

struct knit_attached {
    const struct knit_target *target;
    int socket;
    int fd[ATTACHED_FDS];
    struct knit_geometry geometry;
    struct knit_mapping board, request, reply;
    struct knit_request_view in;
    struct knit_reply_view out;
    struct knit_board_view lanes;
    enum knit_ring ring; /* of all its calls */
    uint64_t *tail;      /* of each lane, in that ring */
    uint64_t *gen;       /* of each slot, as published last */
};

/* Ends the program when the daemon refuses. slots and arena_bytes: 0 = the most there are. */
void knit_attached_open(struct knit_attached *attached, const struct knit_target *target,
    uint32_t slots, uint64_t arena_bytes);
/* The same, without sealing the segment and without sending $/attached. */
void knit_attached_open_unsealed(struct knit_attached *attached, const struct knit_target *target,
    uint32_t slots, uint64_t arena_bytes);
/* Sends $/attached, sealed or not. */
void knit_attached_send_attached(const struct knit_attached *attached);
void knit_attached_close(struct knit_attached *attached);

/* The daemon's error code for one more session, 0 if it gave one, which is closed again. */
uint32_t knit_attached_refusal(const struct knit_target *target);

/* The session was evicted, or its connection closed. */
bool knit_attached_is_over(const struct knit_attached *attached);
/* Waits for that. */
bool knit_attached_ends(const struct knit_attached *attached, uint32_t timeout_ms);

/* A free slot, or UINT32_MAX. */
uint32_t knit_attached_free_slot(const struct knit_attached *attached);

/* A call as an honest caller publishes it; only the payload may be wrong. Up to KNIT_INLINE_MAX
 * bytes go into the cell, more to `offset` of the arena. False: no slot is free. */
bool knit_attached_call(
    struct knit_attached *attached, const void *payload, size_t len, uint64_t offset);
/* The same, of a slot that is free. */
void knit_attached_call_in(struct knit_attached *attached, uint32_t slot, const void *payload,
    size_t len, uint64_t offset);

/* A cell at the ring's tail, of any words. */
void knit_attached_put(
    struct knit_attached *attached, uint32_t lane, uint64_t ctrl, uint64_t meta, uint64_t body);

/* The control word that belongs at the ring's tail for the next call of that slot. */
uint64_t knit_attached_ctrl(const struct knit_attached *attached, uint32_t lane, uint32_t slot);

/* Notifies every lane, parked or not. */
void knit_attached_notify(struct knit_attached *attached);

/* Waits until every call made by knit_attached_call() is answered. */
bool knit_attached_is_answered(const struct knit_attached *attached, uint32_t timeout_ms);

/* How many are not answered. */
uint32_t knit_attached_pending(const struct knit_attached *attached);

/* The outcome of a slot's last call. */
struct knit_attached_outcome {
    bool is_result; /* else an error */
    bool in_arena;
    const unsigned char *bytes; /* in the reply segment */
    size_t len;
};

/* False, with a line on stdout: the reply names bytes outside of the segment. */
bool knit_attached_outcome(
    const struct knit_attached *attached, uint32_t slot, struct knit_attached_outcome *ret);

/* Makes some calls in each lane as an honest caller does, while none of its calls is in flight.
 * False: they were not answered. */
bool knit_attached_is_served(struct knit_attached *attached);
