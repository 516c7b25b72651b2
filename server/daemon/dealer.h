/* SPDX-License-Identifier: Apache-2.0 */
/* Which event loop gets a connection that was accepted: the one with the fewest.
 *
 * Threads: the main thread's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "server/daemon/descriptors.h"
#include "server/daemon/loop.h"
#include "server/net/listener.h"

struct knit_dealer {
    struct knit_log *log;
    struct knit_second *second;
    struct knit_loops *loops;
    const struct knit_descriptors *descriptors;
    struct knit_closer *closer;             /* of unix connections; NULL: none is needed */
    uint64_t *dealt;                        /* connections handed to each loop */
    uint64_t accepted[KNIT_LISTENER_KINDS]; /* of each kind; those that were dealt */
    uint64_t turned_away;
};

/* dealer: log, loops and descriptors are set, and the loops run. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_dealer_init(struct knit_dealer *dealer);
void knit_dealer_fini(struct knit_dealer *dealer);

/* As struct knit_listener has them; arg: the dealer. */
bool knit_dealer_accept(void *arg, int fd, enum knit_listener_kind kind);
void knit_dealer_exhausted(void *arg, int error);
