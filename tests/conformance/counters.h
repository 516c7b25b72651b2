/* SPDX-License-Identifier: Apache-2.0 */
/* What is in use: by a session, and by a pool and this program.
 *
 * The only file of these tests that looks inside of the library: a leak is what no public function
 * shows.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/knitting.h>

#include "tests/conformance/place.h"

struct counters {
    uint64_t own_descriptors, own_threads;
    uint64_t descriptors, threads;               /* of the daemon */
    uint64_t worker_descriptors, worker_threads; /* of all workers */
    uint64_t sessions, closing, connections, running;
};

/* Fails the test if a call, slot, block or reference of the session is in use after some time. */
void counters_check_session(struct knit *k);

/* Whether an argument or a result of this session lies in an arena. */
bool counters_has_block(struct knit *k);
bool counters_has_held(struct knit *k);

void counters_read(struct place *place, struct counters *ret);

/* Lowers what is lower now, but of workers, which may be others: what is given back late was in use
 * at the first look. */
void counters_lower(struct place *place, struct counters *ret);

/* Fails the test if one of them is still higher than before after some time. */
void counters_check_place(struct place *place, const struct counters *before);
