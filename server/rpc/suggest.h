/* SPDX-License-Identifier: Apache-2.0 */
/* The task somebody probably meant.
 *
 * A search looks at thousands of names and costs up to some milliseconds, a call with a misspelt
 * name twenty bytes. So an event loop spends an eighth of its time on searches at most, a short
 * burst apart: whoever mistypes gets the hint, a flood gets its errors without one.
 *
 * Threads: its loop's.
 */
#pragma once

#include <stdint.h>

#include "fastpath/control/registry.h"

/* All zeros is a fresh one. */
struct knit_suggest {
    uint64_t owed_ns; /* spent on searches and not yet made up for, ... */
    uint64_t then_ns; /* ... when it was last looked at */
};

/* NULL when nothing is near, or when it would cost too much just now. now_ns: CLOCK_MONOTONIC. */
const struct knit_registry_task *knit_suggest_task(struct knit_suggest *suggest,
    const struct knit_registry *registry, const char *name, size_t len, uint64_t now_ns);
