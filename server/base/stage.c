/* SPDX-License-Identifier: Apache-2.0 */
/* Last given back, first taken: the one whose lines are in the cache. */
#include "server/base/stage.h"

#include <stdlib.h>

struct knit_stage *knit_stages_take(struct knit_stages *stages)
{
    struct knit_stage *stage = stages->spare;

    if (stage != NULL) {
        stages->spare = stage->next;
    } else {
        if (stages->count == KNIT_STAGES_MAX)
            return NULL;
        stage = malloc(sizeof(*stage));
        if (stage == NULL)
            return NULL;
        stages->count++;
    }
    stage->len = 0;
    return stage;
}

void knit_stages_fini(struct knit_stages *stages)
{
    struct knit_stage *stage;

    while ((stage = stages->spare) != NULL) {
        stages->spare = stage->next;
        free(stage);
    }
    stages->count = 0;
}
