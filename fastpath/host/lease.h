/* SPDX-License-Identifier: Apache-2.0 */
/* What the holder of a session has: a thread of the host, or another process. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fastpath/lane/layout.h"
#include "fastpath/lane/session.h"

struct knit_pool_session {
    uint64_t id;
    struct knit_session *session; /* the caller's side, of the thread that opened it */
    int bell_fd;                  /* to be polled; the session's bell_fd already */
    struct knit_reply_view reply; /* outcomes held in arenas stay readable until close */
    struct knit_geometry geometry;
};

struct knit_pool_peer {
    uid_t uid;
    gid_t gid;
    pid_t pid; /* for stats alone */
};

/* What `$/attach` hands over. The descriptors are the receiver's: send them, then
 * knit_pool_grant_close(). Their order on the wire is the one here. */
struct knit_pool_grant {
    uint64_t id;
    struct knit_geometry geometry;
    uint64_t call_max_bytes; /* of one argument */
    bool steal;
    int board_fd;   /* read-only */
    int request_fd; /* read-write; to be sealed, see segment.h */
    int reply_fd;   /* read-only */
    int bell_fd;    /* the caller's end of a stream socketpair */
};

enum { KNIT_POOL_GRANT_FDS = 4 };
