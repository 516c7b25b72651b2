/* SPDX-License-Identifier: Apache-2.0 */
/* One request to a collector, and its answer, on a connection of its own. It blocks, and has one
 * deadline for all of it: the name, the connection, what is sent and what comes back.
 *
 * Of the answer its status and Retry-After are of interest; what is longer than some KiB, or never
 * ends, is left there. One that comes before all was sent is heard as well, since it may say that
 * the request is too large; but what a collector has not read it has not taken. A collector beside
 * the daemon is asked twice a second at most, so a connection for each request costs nothing that
 * counts.
 *
 * Rejected: evhttp, of a library that the daemon does not link with otherwise. It would be run by
 * callbacks what reads here from top to bottom, and what its time limits are of is each read.
 *
 * Threads: one that may wait, but getaddrinfo() alone, which has no deadline.
 * Security: the answer is hostile.
 */
#pragma once

#include <stdint.h>

#include <knitting/code.h>

#include "proto/span.h"
#include "server/config/collector_url.h"

enum knit_collector_result {
    KNIT_COLLECTOR_TAKEN,
    KNIT_COLLECTOR_LATER,   /* it may be asked again: it was not reached, or says so itself */
    KNIT_COLLECTOR_REFUSED, /* the same would be refused again */
};

/* A request. */
struct knit_collector_post {
    const struct knit_collector_url *url;
    struct knit_span parts[3]; /* of the body */
    uint64_t deadline_ns;      /* CLOCK_MONOTONIC */
    int end_fd;      /* readable: the deadline is end_ns, if that is earlier; -1 = it is no more */
    uint64_t end_ms; /* from when it was seen to be readable, */
    uint64_t ended_ns; /* which is then said here; 0 = it was not */
};

struct knit_collector_answer {
    int status;             /* 0 = none came */
    uint32_t retry_after_s; /* 0 = it says none */
    char reason[96];        /* why there is none, or what the status is, for the log */
};

enum knit_collector_result knit_collector_ask(
    struct knit_collector_post *post, struct knit_collector_answer *ret_answer);

/* Waits until then, or until the fd is readable; events: of poll(); fd: -1 = none. Returns whether
 * the fd has them. */
bool knit_collector_wait(struct knit_collector_post *post, int fd, short events);
