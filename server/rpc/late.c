/* SPDX-License-Identifier: Apache-2.0 */
/* The map is kept as it came and read again at the deadline: most calls end before that. */
#include "server/rpc/late.h"

#include <stdlib.h>
#include <string.h>

#include "fastpath/control/registry.h"
#include "proto/limits.h"
#include "proto/printed.h"
#include "server/rpc/references.h"
#include "server/rpc/reports.h"

/* The task's timeout is the one that is over first, and the task has said what comes then. */
static bool is_of_task(const struct knit_options *options, const struct knit_registry_task *task)
{
    return task->on_timeout.bytes != NULL && task->timeout_ms != 0 &&
           task->timeout_ms * UINT64_C(1000000) <= options->timeout_ns;
}

static struct knit_late *copy(struct knit_span map, bool output)
{
    struct knit_late *late = malloc(sizeof(*late) + map.len);

    if (late == NULL)
        return NULL;
    late->output = output;
    late->len = (uint32_t)map.len;
    memcpy(late->bytes, map.bytes, map.len);
    return late;
}

bool knit_late_has(const struct knit_options *options, const struct knit_registry_task *task)
{
    return options->substitute.kind != KNIT_SUBSTITUTE_NONE || is_of_task(options, task);
}

struct knit_late *knit_late_new(
    const struct knit_options *options, const struct knit_registry_task *task)
{
    struct knit_late *late = NULL;
    struct knit_buffer map;

    if (options->substitute.kind == KNIT_SUBSTITUTE_NONE)
        return copy(task->on_timeout, options->output);
    knit_buffer_init(&map, KNIT_OPTIONS_BYTES_MAX);
    if (knit_substitute_put(&map, &options->substitute) == 0)
        late = copy(knit_buffer_span(&map), options->output);
    knit_buffer_fini(&map);
    return late;
}

/* With option `output` a result has its place beside what the task printed, which is nothing. */
static void reply(struct knit_caller *caller, uint32_t msgid, const struct knit_late *late,
    struct knit_span result)
{
    struct knit_buffer *scratch = &caller->turn->scratch;

    if (caller->references != NULL)
        knit_references_note_result(caller, msgid, result);
    if (!late->output) {
        caller->ops->reply(caller, msgid, result);
        return;
    }
    knit_buffer_reset(scratch);
    if (knit_printed_put_result(scratch, result, knit_span("", 0), false) != 0)
        caller->ops->close_without_memory(caller);
    else
        caller->ops->reply(caller, msgid, knit_buffer_span(scratch));
}

static void refuse(struct knit_caller *caller, uint32_t msgid, const struct knit_failure *failure)
{
    if (caller->references != NULL)
        knit_references_note_failure(caller, msgid, failure);
    caller->ops->refuse(caller, msgid, failure);
}

void knit_late_answer(struct knit_caller *caller, uint32_t msgid, const struct knit_late *late,
    const struct knit_failure *failure)
{
    struct knit_failure own = *failure;
    struct knit_substitute substitute;
    const char *reason;

    if (knit_reports_are_on(caller->router))
        knit_reports_note_failure(caller, msgid, failure);
    if (late == NULL || knit_substitute_decode(
                            knit_span(late->bytes, late->len), &substitute, NULL, &reason) != 0) {
        refuse(caller, msgid, failure);
    } else if (substitute.kind == KNIT_SUBSTITUTE_RESULT) {
        reply(caller, msgid, late, substitute.result);
    } else {
        knit_substitute_fail(&substitute, &own);
        refuse(caller, msgid, &own);
    }
}
