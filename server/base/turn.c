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

bool knit_turn_may_say(struct knit_turn *turn, enum knit_turn_refusal refusal)
{
    turn->needs_sweep = true;
    return turn->refusals[refusal]++ == 0;
}

void knit_turn_end_second(struct knit_turn *turn)
{
    if (turn->warnings > WARNINGS_A_SECOND)
        knit_log(turn->log, KNIT_LOG_WARNING, "more such lines were left out",
            KNIT_LOG_NUMBER("lines", turn->warnings - WARNINGS_A_SECOND));
    turn->warnings = 0;
    for (int i = 0; i < KNIT_TURN_REFUSALS; i++) {
        if (turn->refusals[i] > 1)
            knit_log(turn->log, KNIT_LOG_WARNING, "more calls were refused so",
                KNIT_LOG_TEXT("code", i == KNIT_TURN_QUOTA ? "QUOTA" : "OVERLOADED"),
                KNIT_LOG_NUMBER("calls", turn->refusals[i] - 1));
        turn->refusals[i] = 0;
    }
}
