/* SPDX-License-Identifier: Apache-2.0 */
/* What the limit of open files is used for.
 *
 * Every connection takes a descriptor, and so does every worker that has to be replaced. If all
 * went to connections, the next dead worker would stay dead and no session could be made. So what
 * workers, sessions, loops and files need is set apart first, and connections get the rest.
 *
 *     files = reserve (fixed, loops, workers, modules) + sessions + connections
 *
 * Some connections are kept for the unix socket, so that a caller who fills all that TCP may have
 * does not keep out the operator of the machine.
 */
#pragma once

#include <stdint.h>

#include <knitting/code.h>

#include "proto/sentence.h"
#include "server/config/setting.h"

struct knit_descriptors {
    uint64_t files;           /* that the daemon may have open */
    uint64_t connections_max; /* of both kinds */
    uint64_t tcp_max;         /* connections from which on only the unix socket's are taken */
    uint32_t sessions_max;    /* of other processes */
};

/* Raises the limit as far as the daemon may. Before the first thread. */
void knit_descriptors_raise(void);

/* Deals them out. Returns 0; or not 0 with the sentence, -EMFILE when they are too few. */
KNIT_MUST_CHECK int knit_descriptors_deal(const struct knit_settings *settings,
    struct knit_descriptors *ret_descriptors, struct knit_sentence *why);
