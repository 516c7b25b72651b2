/* SPDX-License-Identifier: Apache-2.0 */
/* How much of the machine this process may use: a container or a service manager may give it less
 * than there is.
 *
 * Each function takes where /proc and /sys lie: "" for the real ones. Both versions of control
 * groups are looked at.
 */
#pragma once

#include <stdint.h>

#include <knitting/code.h>

#include "proto/sentence.h"

/* Processors that it may run on at the same time, by its affinity and the quotas of its control
 * group and all groups above; a part of one counts as one. At least 1. */
uint64_t knit_machine_processors(const char *root);

/* Bytes of memory to which its control group and all groups above are limited; UINT64_MAX = none.
 */
uint64_t knit_machine_memory_max(const char *root);

/* Whether there is what no start can do without. Returns 0, or -errno with the sentence. */
KNIT_MUST_CHECK int knit_machine_check(struct knit_sentence *why);
