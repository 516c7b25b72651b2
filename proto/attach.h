/* SPDX-License-Identifier: Apache-2.0 */
/* `$/attach`: params and result, both ways; and the result of `$/attached`.
 *
 * The numbers describe shared memory and are bounded by the fast path, not here: their readers
 * compare them with the limits of the layout before they use them.
 *
 * Security: both directions are hostile. Unknown keys are ignored, of a key that stands twice the
 * first counts.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/buffer.h"
#include "proto/span.h"

enum {
    KNIT_ATTACH_E_BAD = 1, /* wrong types: ret_reason is what was expected */
};

/* Room for the result of `$/attached`. */
#define KNIT_ATTACHED_REPLY_BYTES_MAX 16

/* A number of an answer that is missing or no unsigned integer; larger than any limit. */
#define KNIT_ATTACH_UNUSABLE UINT64_MAX

/* `$/attach` -> */
struct knit_attach_request {
    uint64_t version;     /* of the layout that the caller knows; 0 = not given */
    uint64_t slots;       /* 0 = as many as the server gives */
    uint64_t arena_bytes; /* 0 = as many as the server gives */
    uint64_t features; /* bits that it may use (fastpath/LAYOUT.md); what the server lacks is cut */
    uint64_t classes;  /* rings of a lane; 0 = one */
};

/* -> `$/attach` */
struct knit_attach_reply {
    uint64_t layout; /* its version; another one may have other members */
    uint64_t id;     /* of the session, for logs */
    uint64_t lanes;
    uint64_t slots;
    uint64_t cells; /* of a lane's ring */
    uint64_t request_arena_bytes;
    uint64_t reply_arena_bytes;
    uint64_t call_max_bytes; /* the most that one call's arguments may take */
    uint64_t features;       /* that were granted */
    uint64_t classes;        /* the same */
    uint64_t
        clock;  /* fastpath/lane/clock.h: the host's difference; KNIT_ATTACH_UNUSABLE = not said */
    bool steal; /* idle workers take calls from other lanes */
    bool asks_host;            /* parked workers are woken through one more descriptor */
    struct knit_span balancer; /* by its name, borrowed; empty = not said */
};

/* The params array. Returns the buffer's error. */
int knit_attach_request_put(struct knit_buffer *buffer, const struct knit_attach_request *request);

/* Returns 0, or KNIT_ATTACH_E_BAD with a static text. */
KNIT_MUST_CHECK int knit_attach_request_decode(
    struct knit_span params, struct knit_attach_request *ret_request, const char **ret_reason);

/* The result. Returns the buffer's error. */
int knit_attach_reply_put(struct knit_buffer *buffer, const struct knit_attach_reply *reply);

/* Never fails, because an answer of another layout must be recognised before its other members are
 * judged: a number that cannot be used is KNIT_ATTACH_UNUSABLE, and a flag is false then. */
void knit_attach_reply_decode(struct knit_span result, struct knit_attach_reply *ret_reply);

/* `$/attached`, sent as a request: the result, which says `clock` once more. Returns the buffer's
 * error. */
int knit_attached_reply_put(struct knit_buffer *buffer, uint64_t clock);

/* What an answer to either method says of it; KNIT_ATTACH_UNUSABLE = nothing. */
uint64_t knit_attach_clock(struct knit_span result);
