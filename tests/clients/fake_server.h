/* SPDX-License-Identifier: Apache-2.0 */
/* A server in the test's own process that does as the test says: it answers late, in another order,
 * in pieces, wrongly, or not at all.
 *
 * It serves one connection after the other on a thread of its own. The method's name decides what a
 * call does:
 *
 *     echo      its first argument              params    all of them, as an array
 *     hold      no answer until `release`       release   answers the held ones, the last first
 *     never     no answer at all                fail      TASK_FAILED with code 42 and data
 *     garbage   bytes that are no message       close     closes the connection
 *     twice     answers two times               code      an error of the code it is given
 *     goaway    its first argument, and then `$/goaway`; with goes_on nothing is read here any more
 *
 *     sum       no answer until so many of these have come as the test says; then, to all of them,
 *               the sums of their arguments, numbers or references to earlier ones
 *     refused   as `sum`, but the first ones, as many as the test says, are refused as referring to
 *               nothing; those that came before are answered first
 *
 *     announce  begins an answer of as many bytes as it is told, and sends none of these
 *
 *     c         fails as the test says, so many times; then its first argument
 *
 * `$/cancel` answers a held call with CANCELLED, `$/stats` says how many notifications came.
 * `$/tasks` lists the tasks a, which is `echo`, b, which is `code`, and c. `$/hello` and `$/ping`
 * are as in the protocol, `$/attach` is when it is asked to be. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <knitting/knitting.h>

#include "fastpath/lane/layout.h"
#include "fastpath/lane/segment.h"
#include "proto/buffer.h"
#include "proto/failure.h"
#include "proto/message.h"

enum { KNIT_FAKE_HELD_MAX = 64, KNIT_FAKE_FDS_MAX = 8, KNIT_FAKE_SUMS_MAX = 256 };

/* A call of `sum`, and how far it is. */
struct knit_fake_sum {
    uint32_t msgid;
    int64_t sum;
    bool is_answered;
};

/* What a descriptor of the answer to `$/attach` is. */
enum knit_fake_fd {
    KNIT_FAKE_RIGHT, /* what belongs there */
    KNIT_FAKE_SEALED,
    KNIT_FAKE_UNSEALED,  /* its size is sealed, and it takes further seals */
    KNIT_FAKE_RESIZABLE, /* a memfd without a seal */
    KNIT_FAKE_BELL,
    KNIT_FAKE_EVENTFD,
    KNIT_FAKE_HOST, /* an eventfd that does not block */
};

/* What is wrong with the answer to `$/attach`; all zero: nothing. */
struct knit_fake_attach {
    enum knit_fake_fd fds[4]; /* board, requests, replies, bell */
    int more_fds;             /* than four */
    enum knit_fake_fd host;   /* the fifth, where it comes */
    bool asks_host;           /* it says that the fifth comes */
    uint64_t missing_bytes;   /* of each segment */
    uint64_t more_version;    /* than the layout's */
    uint64_t cells;           /* said; 0 = the right ones */
    uint32_t fewer_features;  /* bits that it does not grant */
    bool lacks_keys;          /* it says the layout's version and nothing else */
    const int64_t *clocks;    /* what it adds to its clock in each answer; NULL = says none */
};

struct knit_fake {
    char url[140];
    /* Set by the test before it opens a session. */
    uint64_t protocol;    /* said in hello; 0 = the real one */
    uint32_t hello_bytes; /* as the answer to hello it does as `announce`; 0 = it answers */
    bool drips;           /* sends one byte at a time */
    uint64_t in_flight;   /* said in hello; 0 = 1024 */
    uint32_t timeout_ms;  /* of its second task, the third has twice that; 0 = 20 s */
    bool attaches;        /* `$/attach` is answered, as follows */
    struct knit_fake_attach attach;
    bool takes_references;       /* it says so in hello */
    uint32_t sums_wanted;        /* until they are answered; 0 = 1 */
    uint32_t refusals;           /* of `refused`, still to come */
    uint64_t flags;              /* of each task */
    struct knit_failure failure; /* of `c`, and how often it still comes: */
    uint32_t failures;
    uint32_t closes;      /* so many of these calls close the connection */
    bool takes_keys;      /* it says so in hello */
    const char *instance; /* the same; NULL = it says none */
    /* Set by the test at any time. */
    _Atomic bool is_deaf;         /* reads nothing */
    _Atomic uint32_t epoch_more;  /* than 1 is the tasks' epoch; each moves their names on by one */
    const char *_Atomic types;    /* of each task, behind its name; NULL = "(x: int) -> int" */
    _Atomic uint32_t tasks_asked; /* how often the first page of tasks was */
    _Atomic uint32_t attempts;    /* calls of `c` */

    bool goes_on; /* after goaway the next connection is served */
    int left_fd;  /* that one, which nobody reads; -1 = there is none */

    int listen_fd;
    _Atomic int fd; /* which the test may shut down */
    int stop_fd;
    pthread_t thread;
    char *dir;
    struct knit_buffer out;
    uint32_t held[KNIT_FAKE_HELD_MAX];
    uint32_t held_count;
    uint64_t notifications;
    struct knit_fake_sum sums[KNIT_FAKE_SUMS_MAX];
    uint32_t sums_count;
    /* To be read when the test waits for nothing. */
    _Atomic uint32_t sums_come, references_come; /* calls of `sum` and `refused`, and arguments */
    bool is_over, is_left;                       /* the connection is to be closed, or left */
    uint32_t left_held[KNIT_FAKE_HELD_MAX];
    uint32_t left_held_count;
    int fds[KNIT_FAKE_FDS_MAX]; /* that go with the next byte */
    int fds_count;
    int bell_fd;    /* the pool's end of the bell */
    int request_fd; /* the pool's descriptor of the request segment */
    uint32_t clocks_said;
    bool is_attached;              /* the caller has said so, and the segment is sealed */
    struct knit_geometry geometry; /* of the segments it made last */
    struct knit_mapping reply;     /* where the test can answer, when nothing is wrong */
};

/* The program's one server. */
extern struct knit_fake fake;

/* Setup and teardown of a test: listens on a unix socket in a folder of its own. */
int knit_fake_start(void **state);
int knit_fake_stop(void **state);

/* Give the calls that are held on the connection that was left this one byte as their result, and
 * close it. */
void knit_fake_end_left(const char *result);

/* A session with the server; fails the test if it cannot be opened. */
struct knit *knit_fake_open(const struct knit_open_options *options);
