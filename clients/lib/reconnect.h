/* SPDX-License-Identifier: Apache-2.0 */
/* From one connection of a session to the next, and to the first one (link.h).
 *
 * Threads: one at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/knitting.h>

#include "clients/lib/url.h"

/* Connect it to one of these places, agree by `$/hello`, attach for shm://. Blocks for at most
 * connect_ms. From now on its turns open another connection when one is lost. Returns KNIT_OK, or
 * the code of an error. */
KNIT_MUST_CHECK int knit_reconnect_first(struct knit *k, const struct knit_url *urls,
    uint32_t count, const struct knit_open_options *options, struct knit_error *ret_error);

/* Of a session that never had one, too. is_ours false: in a forked child. */
void knit_reconnect_fini(struct knit *k, bool is_ours);
