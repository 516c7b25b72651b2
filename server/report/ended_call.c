/* SPDX-License-Identifier: Apache-2.0 */
/* The words in which a call is told of, wherever it is. */
#include "server/report/ended_call.h"

#include "proto/failure.h"

const char *knit_ended_call_outcome(const struct knit_ended_call *call)
{
    if (call->is_gone)
        return "caller_gone";
    return call->code == 0 ? "ok" : knit_failure_name(call->code);
}

const char *knit_ended_call_ran_by(const struct knit_ended_call *call)
{
    static const char *const names[] = {[KNIT_RAN_NOWHERE] = "none",
        [KNIT_RAN_BY_WORKER] = "worker",
        [KNIT_RAN_BY_INLINER] = "inliner",
        [KNIT_RAN_BY_KEY] = "key"};

    return names[call->ran_by];
}
