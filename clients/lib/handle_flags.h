/* SPDX-License-Identifier: Apache-2.0 */
/* What the one word of flags of a handle says: where in its life it is, which way its call went,
 * and which of its other members count.
 */
#pragma once

/* Neither WAITING nor DONE: it is free. */
enum knit_handle_flag {
    KNIT_HANDLE_WAITING = 1,
    KNIT_HANDLE_DONE = 2,
    KNIT_HANDLE_BY_STREAM = 4, /* which way the call went: knit_handle_via() */
    KNIT_HANDLE_BY_LANES = 8,
    KNIT_HANDLE_TIMED = 16,    /* it stands in that list */
    KNIT_HANDLE_READY = 32,    /* in that one */
    KNIT_HANDLE_CALLBACK = 64, /* on_done and user */
    KNIT_HANDLE_HELD = 128,    /* the outcome lies in slab or block of `slot`, to be released */
    KNIT_HANDLE_HEAP = 256,    /* the outcome lies in `heap`, to be freed */
    KNIT_HANDLE_ERROR = 512,   /* the outcome is one: code and, unless that is 0, started, reason */
    KNIT_HANDLE_CANCELLED = 1024,
    KNIT_HANDLE_OUTPUT = 2048,      /* what the task prints comes with the outcome */
    KNIT_HANDLE_WATCHED = 4096,     /* `watcher` */
    KNIT_HANDLE_IN_SET = 8192,      /* set and user */
    KNIT_HANDLE_LATE = 16384,       /* `late` says what comes in the place of TIMEOUT */
    KNIT_HANDLE_QUEUE = 32768,      /* through lanes: its deadline there is the end of `queue` */
    KNIT_HANDLE_SOURCE = 1 << 16,   /* `holes`: arguments of other calls wait for its result */
    KNIT_HANDLE_PROMISED = 1 << 17, /* `promise`: it waits for its arguments, and went no way yet */
    KNIT_HANDLE_DISOWNED = 1 << 18, /* freed by its caller; those arguments have it still */
    KNIT_HANDLE_URGENT = 1 << 19,
    KNIT_HANDLE_BACKGROUND = 1 << 20,
    KNIT_HANDLE_PINNED = 1 << 21,     /* `affinity` */
    KNIT_HANDLE_BY_INLINER = 1 << 22, /* the third way */
    KNIT_HANDLE_COUNTED = 1 << 23,    /* it counts among its task's calls in the inliner */
    KNIT_HANDLE_REFERRING = 1 << 24,  /* `promise`: it was sent, and refers to calls in flight */
    KNIT_HANDLE_RETRIED = 1 << 25,    /* `retry`: it may be made again */
    KNIT_HANDLE_TRACED = 1 << 26,     /* `trace` */
};

enum knit_handle_via {
    KNIT_VIA_NOTHING = 0,
    KNIT_VIA_STREAM = KNIT_HANDLE_BY_STREAM,
    KNIT_VIA_LANES = KNIT_HANDLE_BY_LANES,
    KNIT_VIA_INLINER = KNIT_HANDLE_BY_INLINER,
};

/* All flags of a usual call that waits, and of one that has its result. */
enum {
    KNIT_HANDLE_USUAL_WAITING = KNIT_HANDLE_WAITING | KNIT_HANDLE_BY_LANES,
    KNIT_HANDLE_USUAL_DONE = KNIT_HANDLE_DONE | KNIT_HANDLE_BY_LANES,
};
