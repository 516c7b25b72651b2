/* SPDX-License-Identifier: Apache-2.0 */
/* Both sides of `--take-over`: a daemon that serves gives copies of its listening sockets away, and
 * one that starts asks for them, serves, and only then has the other drain. Until then that one
 * serves as before, so a start that fails costs nothing. No connection is refused, since at each
 * moment one of them accepts from the queue that both have.
 *
 * Threads: the elder's side is asked by event loops; the other one is the main thread's.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/sentence.h"
#include "server/base/log.h"
#include "server/config/setting.h"
#include "server/net/listening.h"

/* ---- the elder: what it can give away */

struct knit_takeover {
    pthread_mutex_t mutex;
    const struct knit_listening *listening; /* NULL: there is nothing any more */
    bool is_taken;                          /* by a connection that is still there */
};

#define KNIT_TAKEOVER_INIT                                                                         \
    {                                                                                              \
        .mutex = PTHREAD_MUTEX_INITIALIZER                                                         \
    }

/* From now on they may be had. */
void knit_takeover_offer(struct knit_takeover *takeover, const struct knit_listening *listening);

/* No more: they are about to be closed. Returns whether another daemon has them, which is about to
 * serve: the unix socket's files are its own then. */
bool knit_takeover_withdraw(struct knit_takeover *takeover);

/* As struct knit_router_backend has them. */
uint32_t knit_takeover_give(struct knit_takeover *takeover, int ret_fds[KNIT_LISTENING_MAX + 1]);
void knit_takeover_give_back(struct knit_takeover *takeover);

/* ---- the one that takes over */

/* Asks whoever serves the unix socket. *ret_fd: the connection, to be kept until the end of the
 * take-over; -1: nobody serves it, and there is nothing to take over.
 * Returns 0; or not 0 with the sentence. */
KNIT_MUST_CHECK int knit_takeover_ask(const struct knit_settings *settings,
    struct knit_inherited *inherited, int *ret_fd, struct knit_sentence *why);

/* This daemon serves: the elder is to drain, and leaves the unix socket's files to this one. */
void knit_takeover_finish(int *fd, struct knit_log *log);
