/* SPDX-License-Identifier: Apache-2.0 */
/* Suggests the task whose name is nearest to one that does not exist.
 *
 * A search compares thousands of names and costs up to some milliseconds, while a call with a
 * misspelt name costs its sender twenty bytes. So an event loop spends at most an eighth of its
 * time on searches, beyond a short burst: a typing mistake gets a suggestion, a flood of them does
 * not.
 *
 * Threads: its loop's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fastpath/control/registry.h"
#include "proto/message.h"

enum { KNIT_SUGGEST_TEXT_MAX = 2 * 64 + KNIT_NAME_BYTES_MAX + 64 };

/* All zeros is a fresh one. */
struct knit_suggest {
    uint64_t owed_ns; /* spent on searches beyond the share so far, ... */
    uint64_t then_ns; /* ... when it was last computed */
};

/* NULL when nothing is near, or when it would cost too much just now. now_ns: CLOCK_MONOTONIC. */
const struct knit_registry_task *knit_suggest_task(struct knit_suggest *suggest,
    const struct knit_registry *registry, const char *name, size_t len, uint64_t now_ns);

/* What a caller is told who named no task. may_search: a near name is looked for. */
void knit_suggest_explain(struct knit_suggest *suggest, const struct knit_registry *registry,
    const struct knit_method *method, bool may_search, char ret_text[KNIT_SUGGEST_TEXT_MAX]);
