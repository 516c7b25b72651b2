/* SPDX-License-Identifier: Apache-2.0 */
/* The start message to a victim: a program that calls through a session it was granted, and is
 * killed while it does. The killer sends it through the lease, before everything else. */
#pragma once

#include "fastpath/lane/layout.h"

/* Descriptors that the victim inherits. */
enum { VICTIM_BOARD = 100, VICTIM_REQUEST, VICTIM_REPLY, VICTIM_BELL, VICTIM_LEASE };

#define VICTIM_SLOTS 6u
/* Ids of its calls of `count`: each a byte in the argument, each a word in the ledger. */
#define VICTIM_FIRST_ID 64u
#define VICTIM_IDS      32u

struct victim_start {
    struct knit_geometry geometry;
    uint64_t argument_max_bytes;
    uint32_t steal;
    uint32_t epoch;
    uint32_t task_count, task_echo, task_wait_abort;
};
