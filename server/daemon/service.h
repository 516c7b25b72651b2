/* SPDX-License-Identifier: Apache-2.0 */
/* The running daemon: starts its parts in order, stops them in reverse.
 *
 *     start   access lists, listening sockets, pool (workers load modules), loops, accepting
 *     stop    accepting; loops refuse new calls; pool drains; loops deliver and end; pool, sockets
 *
 * The listening sockets come before the workers, so that a second daemon is refused in a moment and
 * connections made during a long start wait in the backlog instead of failing.
 *
 * The main thread accepts, supervises the workers and gets the signals; it never touches a
 * connection's bytes.
 */
#pragma once

#include <stdbool.h>

#include <knitting/code.h>

#include "proto/sentence.h"
#include "server/config/setting.h"

struct knit_log;

/* Looks at everything that can be wrong with settings and what they name, starts nothing. What a
 * daemon that runs holds meanwhile, its ports and its socket, is not wrong here.
 * ready_file: NULL = none. log: gets what a start warns of; NULL: nobody does. Returns 0; above 0
 * the settings are wrong, below 0 the system refuses; both with the sentence. */
KNIT_MUST_CHECK int knit_service_check(const struct knit_settings *settings, const char *ready_file,
    struct knit_log *log, struct knit_sentence *why);

struct knit_service_options {
    const char *ready_file; /* NULL = none */
    bool takes_over;        /* from the daemon that serves the unix socket, if there is one */
};

/* Serves until SIGTERM or SIGINT has been obeyed, which ends a start as well. A second one of them
 * ends what the first left running.
 *
 * Returns 0; or not 0 with the sentence that says why it did not start, or ended by itself. */
KNIT_MUST_CHECK int knit_service_run(const struct knit_settings *settings,
    const struct knit_service_options *options, struct knit_sentence *why);
