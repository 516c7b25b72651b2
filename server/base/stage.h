/* SPDX-License-Identifier: Apache-2.0 */
/* Where the replies of a turn are gathered, to leave in one send() for each stage that they fill.
 *
 * Whoever has a stage appends to `bytes`, as far as there is room, and adds to `len`. A connection
 * takes one for its first reply of a turn and gives it back when it is written, so a loop needs as
 * many as connections get replies in one turn, and an idle connection has none. A small result
 * that does not fit finds room when the stage has been written; all else that does not fit goes
 * through the connection's evbuffer, and so does everything when all stages are taken.
 *
 * Threads: its loop's.
 * Limits: KNIT_STAGES_MAX stages of KNIT_STAGE_BYTES a loop; memory that was needed once is kept.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
    KNIT_STAGE_BYTES = 16 * 1024,
    KNIT_STAGES_MAX = 64,
};

/* A little more than a power of two, so that the first lines of all stages do not compete for the
 * same sets of a cache. */
struct knit_stage {
    struct knit_stage *next; /* while nobody has it */
    size_t len;
    uint8_t bytes[KNIT_STAGE_BYTES];
};

struct knit_stages {
    struct knit_stage *spare;
    uint32_t count; /* that were made */
};

/* An empty one; NULL: all are taken, or there is no memory. */
struct knit_stage *knit_stages_take(struct knit_stages *stages);

static inline void knit_stages_give(struct knit_stages *stages, struct knit_stage *stage)
{
    stage->next = stages->spare;
    stages->spare = stage;
}

/* All have been given back. Accepts a zeroed one. */
void knit_stages_fini(struct knit_stages *stages);
