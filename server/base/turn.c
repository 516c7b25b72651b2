/* SPDX-License-Identifier: Apache-2.0 */
/* Warnings are counted for a second that ends with the loop's next sweep, so counting one asks for
 * a sweep. */
#include "server/base/turn.h"

#include "server/base/log.h"

enum { WARNINGS_A_SECOND = 10 };

bool knit_turn_may_warn(struct knit_turn *turn)
{
    turn->needs_sweep = true;
    return turn->warnings++ < WARNINGS_A_SECOND;
}

void knit_turn_end_second(struct knit_turn *turn)
{
    if (turn->warnings > WARNINGS_A_SECOND)
        knit_log(turn->log, KNIT_LOG_WARNING, "more such lines were left out",
            KNIT_LOG_NUMBER("lines", turn->warnings - WARNINGS_A_SECOND));
    turn->warnings = 0;
}
