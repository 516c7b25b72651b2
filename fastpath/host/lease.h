/* SPDX-License-Identifier: Apache-2.0 */
/* What the holder of a session gets: a thread of the host, or another process.
 *
 * Threads: a knit_host_own_session is its thread's; the rest are values.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fastpath/lane/layout.h"
#include "fastpath/lane/rights.h"
#include "fastpath/lane/session.h"

/* For a thread of the host. */
struct knit_host_own_session {
    uint64_t id;
    struct knit_session *session; /* the caller's side, of the thread that opened it */
    int bell_fd;                  /* readable when outcomes have come; the session has it too */
    struct knit_reply_view reply; /* where outcomes lie; readable until close */
    struct knit_geometry geometry;
    /* Of its flow, which is its own, for its thread to change; NULL where workers are threads. */
    struct knit_weight *weight;
};

/* The process at the other end of a connection. */
struct knit_host_peer {
    uid_t uid;
    gid_t gid;
    pid_t pid;                      /* for statistics only */
    const struct knit_right *right; /* stays until it is detached; NULL = of every task */
    /* Whose it is: sessions of one number share what workers give one principal (lane_flows.h).
     * Below 2^63. */
    uint64_t principal;
    const _Atomic uint64_t *weight; /* of the principal; stays as long; NULL = 1 */
};

/* What a caller asks for. */
struct knit_host_ask {
    uint32_t slots;       /* 0 = as many as the pool offers */
    uint64_t arena_bytes; /* the same */
    uint64_t features;    /* bits of KNIT_FEATURES; others are not granted */
    uint64_t classes;     /* rings of a lane; 0 = one */
};

/* The same with all that there is. */
static inline struct knit_host_ask knit_host_ask_all(uint32_t slots, uint64_t arena_bytes)
{
    return (struct knit_host_ask){slots, arena_bytes, KNIT_FEATURES, KNIT_CLASSES_MAX};
}

/* What `$/attach` returns. The descriptors belong to the caller of knit_host_attach(): it sends
 * them, in the order of the fields, and calls knit_host_grant_close(). */
struct knit_host_grant {
    uint64_t id;
    struct knit_geometry geometry;
    uint64_t call_max_bytes; /* of one argument */
    bool steal;
    bool asks_host; /* workers are parked where callers cannot wake them */
    int board_fd;   /* read-only */
    int request_fd; /* read-write; to be sealed, see segment.h */
    int reply_fd;   /* read-only */
    int bell_fd;    /* the caller's end of a stream socketpair */
    int host_fd;    /* with asks_host: an eventfd, see relay.h; else -1 and not sent */
};

enum { KNIT_HOST_GRANT_FDS = 5 }; /* at most */
