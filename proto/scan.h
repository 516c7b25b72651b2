/* SPDX-License-Identifier: Apache-2.0 */
/* Finds where messages end in a stream of bytes that arrive in any pieces, without decoding and
 * without allocating.
 *
 * The scanner is fed each byte once, in order, and stores numbers only; the caller stores the bytes
 * if it needs them. Bodies of str and bin are skipped unread. The scanner checks what must hold
 * before a message is stored: the outline of a message ([0|1|2, ...]), nesting, counts and sizes.
 * The content of a str or ext (UTF-8, the rules of each ext type) is checked later, by
 * proto/check.h.
 *
 * A server decodes options, and the params of its own methods, in its loop. So they have limits of
 * their own, and what they announce must keep those as it must keep that of the message. To know
 * such a method the scanner looks at the first two bytes of its name.
 *
 * A message that is too large or too deep is still followed to its end, up to `skip_bytes`, so that
 * it can be refused by its msgid while the connection lives. Its nesting is not tracked: a count of
 * the values still to come is enough to find the end. What knit_scan_feed() returns:
 *
 *     0            More bytes are needed. Once scan->refused is not 0, they need not be stored.
 *     E_DONE       One message is whole: parse it with knit_message_parse(), then reset.
 *     E_REFUSED    One message is whole, and scan->refused (TOO_LARGE, TOO_DEEP) is its answer;
 *                  then reset.
 *     E_BAD        The end of the message cannot be found. If has_msgid, scan->refused is its
 *                  answer, with scan->reason; close the connection. Every later call returns E_BAD.
 *
 * Ext 34, 35, 38 and 41 contain msgpack, which counts for nesting. If that inner msgpack is broken,
 * the ext's own length still gives the boundary: the scanner skips the ext, and proto/check.h
 * refuses the argument with the ext's name.
 *
 * Security: everything fed is hostile. Memory is sizeof(struct knit_scan), time is linear, an
 * announced count or length that cannot fit is refused before its first byte.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/head.h"
#include "proto/limits.h"

enum {
    KNIT_SCAN_E_DONE = 1,
    KNIT_SCAN_E_REFUSED = 2,
    KNIT_SCAN_E_BAD = 3,
};

enum { KNIT_SCAN_ELEMENTS_MAX = 5 };

struct knit_scan_limits {
    uint32_t message_bytes; /* 0 = KNIT_MESSAGE_BYTES_DEFAULT; at most KNIT_MESSAGE_BYTES_MAX */
    uint32_t skip_bytes;    /* 0 = KNIT_MESSAGE_SKIP_FACTOR times message_bytes */
    uint32_t depth;         /* 0 = KNIT_DEPTH_MAX */
    bool bounds_parts;      /* options and params have the limits of proto/limits.h */
};

/* One open container, or the header of an envelope. */
struct knit_scan_frame {
    uint32_t left; /* values still to begin in it */
    uint32_t end;  /* where the innermost ext around them ends; UINT32_MAX = in none */
    uint8_t kind;
};

struct knit_scan {
    /* Read by the caller. Offsets count from the message's first byte. */
    uint32_t used; /* bytes of the present message seen so far; its length once it is whole */
    uint32_t element[KNIT_SCAN_ELEMENTS_MAX]; /* where each top-level element begins */
    uint8_t count;                            /* top-level elements announced, 0 until known */
    uint8_t kind;       /* enum knit_message_kind; valid once the first element has been seen */
    uint8_t prefix;     /* bytes of "$/" that the method's name begins with */
    bool has_msgid;     /* msgid is known (requests and responses) */
    bool has_reference; /* there is a reference to a result in it (ext 40), wherever */
    uint32_t msgid;
    uint32_t refused;   /* enum knit_code, or 0 */
    uint32_t exceeded;  /* the limit that it exceeds, if it is refused */
    const char *reason; /* why, static text, or NULL */

    /* Used by the scanner alone. */
    struct knit_scan_limits limits;
    uint64_t pending;    /* values still to begin outside of any ext: each takes a byte at least */
    uint32_t skip;       /* bytes still to skip unread */
    uint32_t outer_end;  /* where the outermost ext that is open ends */
    uint32_t expect_end; /* where the ext whose inner container comes next ends */
    uint32_t most;       /* position plus `pending` must not exceed it in this element */
    uint8_t expect;      /* that ext's code, 0 = none */
    uint8_t state;
    uint8_t top;         /* the innermost frame; 0 is the message itself */
    uint8_t prefix_left; /* bytes of the name still to compare with it */
    uint8_t partial_len;
    uint8_t partial[KNIT_HEAD_BYTES_MAX]; /* a head that arrives in pieces */
    struct knit_scan_frame frame[KNIT_DEPTH_MAX + 1];
};

/* limits NULL = all defaults; numbers above the maxima are lowered to them. */
void knit_scan_init(struct knit_scan *scan, const struct knit_scan_limits *limits);

/* Ready for the next message, with the same limits. Cheap: does not touch the frames. */
void knit_scan_reset(struct knit_scan *scan);

/* The message at which the scanner is has so many bytes at least, by what it has announced. */
static inline uint64_t knit_scan_least_bytes(const struct knit_scan *scan)
{
    uint64_t begun = (uint64_t)scan->used + scan->skip;

    return (begun > scan->outer_end ? begun : scan->outer_end) + scan->pending;
}

/* New limits, from the next message on, for instance after authentication. Call between messages.
 */
void knit_scan_set_limits(struct knit_scan *scan, const struct knit_scan_limits *limits);

/* Scan the next len bytes of the stream. ret_used = how many of them belong to the present message:
 * len when more is needed; after DONE or REFUSED the next message begins behind them. Always
 * written.
 *
 * Returns 0, KNIT_SCAN_E_DONE, KNIT_SCAN_E_REFUSED, KNIT_SCAN_E_BAD; never < 0. */
KNIT_MUST_CHECK int knit_scan_feed(
    struct knit_scan *scan, const void *bytes, size_t len, size_t *ret_used);
