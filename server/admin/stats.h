/* SPDX-License-Identifier: Apache-2.0 */
/* `$/stats`: the daemon in one map. Numbers are read while others count on, so two of them may
 * disagree by what happened in between. */
#pragma once

#include "proto/buffer.h"

struct knit_loops;

/* Appends the map. Returns 0, KNIT_WRITER_E_*, -ENOMEM. */
int knit_stats_put(struct knit_buffer *buffer, const struct knit_loops *loops);
