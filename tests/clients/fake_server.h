/* SPDX-License-Identifier: Apache-2.0 */
/* A server in the test's own process that does as the test says: it answers late, in another order,
 * in pieces, wrongly, or not at all.
 *
 * It serves one connection on a thread of its own. What calls do is decided by the method's name:
 *
 *     echo      its first argument              params    all of them, as an array
 *     hold      no answer until `release`       release   answers the held ones, the last first
 *     never     no answer at all                fail      TASK_FAILED with code 42 and data
 *     garbage   bytes that are no message       close     closes the connection
 *     twice     answers two times               stats     how many notifications came
 *     code      an error of the code it is given
 *
 * `$/cancel` answers a held call with CANCELLED. `$/hello`, `$/ping`, `$/tasks` and `$/stats`
 * are as in the protocol.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fastpath/lane/layout.h"
#include "fastpath/lane/segment.h"
#include "proto/buffer.h"
#include "proto/message.h"

enum { KNIT_FAKE_HELD_MAX = 64, KNIT_FAKE_FDS_MAX = 8 };

/* What is wrong with its answer to `$/attach`. */
enum knit_fake_attach {
    KNIT_FAKE_SILENT, /* there is none */
    KNIT_FAKE_ATTACH_GOOD,
    KNIT_FAKE_ATTACH_NO_FDS,
    KNIT_FAKE_ATTACH_FEW_FDS,
    KNIT_FAKE_ATTACH_MANY_FDS,
    KNIT_FAKE_ATTACH_UNSEALED,
    KNIT_FAKE_ATTACH_CLOSED, /* the request segment takes no further seal */
    KNIT_FAKE_ATTACH_LOOSE,  /* the reply segment takes some */
    KNIT_FAKE_ATTACH_SHORT,  /* a segment smaller than the geometry asks for */
    KNIT_FAKE_ATTACH_PIPES,  /* descriptors of another kind */
    KNIT_FAKE_ATTACH_BELL,   /* the last of them is no socket */
    KNIT_FAKE_ATTACH_LAYOUT,
    KNIT_FAKE_ATTACH_GEOMETRY,
    KNIT_FAKE_ATTACH_KEYS, /* half of what must be said is missing */
};

struct knit_fake {
    char url[140];
    uint64_t protocol;    /* said in hello; 0 = the real one. Set before knit_open() */
    bool drips;           /* sends one byte at a time */
    _Atomic bool is_deaf; /* reads nothing; the test sets it while the thread runs */
    uint64_t in_flight;   /* said in hello; 0 = 1024 */
    enum knit_fake_attach attach;

    int listen_fd;
    int fd;
    int stop_fd;
    pthread_t thread;
    char *dir;
    struct knit_buffer out;
    uint32_t held[KNIT_FAKE_HELD_MAX];
    uint32_t held_count;
    uint64_t notifications;
    int fds[KNIT_FAKE_FDS_MAX]; /* that go with the next byte */
    int fds_count;
    int bell_fd;                   /* the pool's end */
    int request_fd;                /* likewise, of the request segment */
    bool is_attached;              /* the caller has said so, and the segment is sealed */
    struct knit_geometry geometry; /* of the segments it made last */
    struct knit_mapping reply;     /* where the test can answer, after KNIT_FAKE_ATTACH_GOOD */
};

/* Listens on a unix socket of its own folder. */
void knit_fake_start(struct knit_fake *fake);
void knit_fake_stop(struct knit_fake *fake);
