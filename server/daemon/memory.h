/* SPDX-License-Identifier: Apache-2.0 */
/* The most memory that the daemon takes if callers use all that its settings allow, and what its
 * control group lets it have. What modules take in the workers counts where a limit bounds it; what
 * the kernel keeps for sockets does not.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "server/config/setting.h"
#include "server/daemon/descriptors.h"

struct knit_memory {
    uint64_t sessions_bytes;    /* shared with callers */
    uint64_t loops_bytes;       /* what waits, as far as it is charged, and what is kept of calls */
    uint64_t connections_bytes; /* what each may hold besides */
    uint64_t workers_bytes;     /* 0 = each may take what it likes */
    uint64_t sum_bytes;
    uint64_t limit_bytes; /* of the control group; UINT64_MAX = none */
};

void knit_memory_add_up(const struct knit_settings *settings,
    const struct knit_descriptors *descriptors, struct knit_memory *ret_memory);

/* A number of bytes for people, "64.0 GiB" or "no limit" where it is UINT64_MAX. */
enum { KNIT_MEMORY_TEXT_MAX = 32 };
void knit_memory_text(uint64_t bytes, char ret_text[KNIT_MEMORY_TEXT_MAX]);
