/* SPDX-License-Identifier: Apache-2.0 */
/* Lists are looked through from the front: few callers keep much, and these pay for it. */
#include "server/rpc/kept.h"

#include <stdlib.h>
#include <string.h>

#include "proto/limits.h"
#include "proto/printed.h"
#include "server/config/setting.h"
#include "server/rpc/router_private.h"

enum {
    ERROR_WHOLE_MAX = 16 * 1024, /* of a longer one code and message are kept */
    PASSED_MAX = 16,             /* as in net/lookahead.c */
};

/* ---- what is kept -------------------------------------------------------------------------- */

struct knit_references *knit_kept_begin(struct knit_caller *caller)
{
    struct knit_references *references = caller->references;

    if (references != NULL)
        return references;
    references = calloc(1, sizeof(*references));
    if (references == NULL)
        return NULL;
    references->caller = caller;
    TAILQ_INIT(&references->waiting);
    TAILQ_INIT(&references->ready);
    TAILQ_INSERT_TAIL(&caller->router->references, references, in_router);
    caller->references = references;
    return references;
}

static void take(struct knit_references *references, size_t bytes)
{
    references->bytes += bytes;
    knit_kept_count(references->caller, bytes);
}

static bool is_room(size_t used, size_t bytes, size_t most)
{
    return used <= most && bytes <= most - used;
}

/* False: that would be too much. */
static bool charge(struct knit_references *references, size_t bytes)
{
    const struct knit_caller *caller = references->caller;
    const struct knit_settings *settings = caller->turn->settings;
    const size_t most = settings->input_max_bytes;

    if (!is_room(references->bytes, bytes, KNIT_REFERENCES_FACTOR * settings->call_max_bytes) ||
        !is_room(caller->router->referenced_bytes, bytes, most) ||
        (caller->kept_by_tenant != NULL &&
            !is_room(*caller->kept_by_tenant, bytes, most / KNIT_REFERENCES_TENANT_PART)))
        return false;
    take(references, bytes);
    return true;
}

void knit_kept_uncharge(struct knit_references *references, size_t bytes)
{
    take(references, -bytes);
}

struct knit_kept *knit_kept_find(
    const struct knit_references *references, uint32_t msgid, bool is_done)
{
    struct knit_kept *kept;

    if (references == NULL)
        return NULL;
    LIST_FOREACH(kept, &references->kept, entry)
    {
        if (kept->msgid == msgid && kept->is_done == is_done)
            return kept;
    }
    return NULL;
}

void knit_kept_free(struct knit_references *references, struct knit_kept *kept)
{
    LIST_REMOVE(kept, entry);
    if (kept->until_ns != 0)
        TAILQ_REMOVE(&references->caller->router->kept_until, kept, in_until);
    references->kept_count--;
    knit_kept_uncharge(references, kept->bytes.len);
    knit_buffer_fini(&kept->bytes);
    free(kept);
}

void knit_kept_free_if_unused(struct knit_references *references, struct knit_kept *kept)
{
    if (kept->holes == 0 && kept->uses == 0)
        knit_kept_free(references, kept);
}

void knit_kept_end_uses(struct knit_kept *kept)
{
    TAILQ_REMOVE(&kept->references->caller->router->kept_until, kept, in_until);
    kept->until_ns = 0;
    kept->uses = 0;
    knit_kept_free_if_unused(kept->references, kept);
}

/* What is kept for nobody yet makes room, the oldest first. False: there is none. */
static bool forget_oldest(struct knit_references *references)
{
    struct knit_kept *kept, *oldest = NULL;

    LIST_FOREACH(kept, &references->kept, entry)
    {
        if (kept->is_done && kept->holes == 0)
            oldest = kept;
    }
    if (oldest != NULL)
        knit_kept_free(references, oldest);
    return oldest != NULL;
}

bool knit_kept_charge(struct knit_references *references, size_t bytes)
{
    bool is_charged;

    while (!(is_charged = charge(references, bytes)) && forget_oldest(references))
        ;
    return is_charged;
}

/* NULL: there are too many, or there is no memory. */
struct knit_kept *knit_kept_expect(struct knit_references *references, uint32_t msgid)
{
    struct knit_kept *kept = knit_kept_find(references, msgid, false);

    if (kept != NULL)
        return kept;
    if (references->kept_count == KNIT_REFERENCES_ENTRIES && !forget_oldest(references))
        return NULL;
    kept = calloc(1, sizeof(*kept));
    if (kept == NULL)
        return NULL;
    kept->references = references;
    kept->msgid = msgid;
    knit_buffer_init(&kept->bytes, KNIT_MESSAGE_BYTES_MAX);
    LIST_INSERT_HEAD(&references->kept, kept, entry);
    references->kept_count++;
    return kept;
}

bool knit_references_want(const struct knit_caller *caller, uint32_t msgid)
{
    return knit_kept_find(caller->references, msgid, false) != NULL;
}

void knit_references_keep(struct knit_caller *caller, uint32_t msgid, uint64_t uses)
{
    struct knit_references *references = knit_kept_begin(caller);
    struct knit_kept *kept, *before;

    /* What cannot be kept is not there when it is asked for. */
    if (references == NULL)
        return;
    before = knit_kept_find(references, msgid, true);
    if (before != NULL) {
        before->uses = 0;
        knit_kept_free_if_unused(references, before);
    }
    kept = knit_kept_expect(references, msgid);
    if (kept != NULL)
        kept->uses = uses;
}

/* Before those of later priorities, each of which lets so many pass. */
static void enter_ready(struct knit_references *references, struct knit_bound *bound)
{
    struct knit_bound *before = TAILQ_LAST(&references->ready, knit_bound_list);

    while (before != NULL && before->priority > bound->priority && before->passed < PASSED_MAX) {
        before->passed++;
        before = TAILQ_PREV(before, knit_bound_list, entry);
    }
    if (before != NULL)
        TAILQ_INSERT_AFTER(&references->ready, before, bound, entry);
    else
        TAILQ_INSERT_HEAD(&references->ready, bound, entry);
}

void knit_bound_make_ready(struct knit_references *references, struct knit_bound *bound)
{
    if (bound->is_ready)
        return;
    knit_bound_leave_list(references, bound);
    bound->is_ready = true;
    enter_ready(references, bound);
    knit_references_make_due(references);
}

void knit_references_make_due(struct knit_references *references)
{
    if (references->is_due)
        return;
    references->is_due = true;
    TAILQ_INSERT_TAIL(&references->caller->router->due_references, references, in_due);
}

/* ---- outcomes that come -------------------------------------------------------------------- */

/* All are kept equally long, so their order is that in which they end. */
static void keep_until(struct knit_kept *kept)
{
    struct knit_router *router = kept->references->caller->router;

    kept->until_ns =
        knit_router_after(router->turn->now_ns, KNIT_REFERENCES_KEPT_S * UINT64_C(1000000000));
    TAILQ_INSERT_TAIL(&router->kept_until, kept, in_until);
    if (kept->until_ns < router->next_ns)
        router->next_ns = kept->until_ns;
}

/* Those that wait for it go on. */
static void fulfil(struct knit_references *references, struct knit_kept *kept, bool is_error)
{
    struct knit_bound *bound, *next;

    kept->is_done = true;
    kept->is_error = is_error;
    if (kept->uses > 0)
        keep_until(kept);
    for (bound = TAILQ_FIRST(&references->waiting); bound != NULL; bound = next) {
        next = TAILQ_NEXT(bound, entry);
        for (uint32_t i = 0; i < bound->count; i++)
            bound->missing -= bound->hole[i].kept == kept;
        if (bound->missing == 0 || is_error)
            for (uint32_t i = 0; i < bound->count && !bound->is_ready; i++)
                if (bound->hole[i].kept == kept)
                    knit_bound_make_ready(references, bound);
    }
    knit_kept_free_if_unused(references, kept);
}

/* The outcome is there and cannot be kept. */
static void lose(struct knit_references *references, struct knit_kept *kept)
{
    struct knit_failure failure = knit_failure(
        KNIT_QUOTA, "there is no room to keep the result for the calls that refer to it");

    knit_buffer_fini(&kept->bytes);
    knit_buffer_init(&kept->bytes, KNIT_MESSAGE_BYTES_MAX);
    (void)knit_failure_put(&kept->bytes, &failure, KNIT_FAILURE_FULL);
    /* A few bytes, whatever the limits are. */
    take(references, kept->bytes.len);
    fulfil(references, kept, true);
}

void knit_references_note_result(
    struct knit_caller *caller, uint32_t msgid, struct knit_span result)
{
    struct knit_references *references = caller->references;
    struct knit_kept *kept = knit_kept_find(references, msgid, false);

    if (kept == NULL)
        return;
    /* It takes what it is charged for. */
    knit_buffer_init(&kept->bytes, result.len);
    if (knit_buffer_append(&kept->bytes, result.bytes, result.len) == 0 &&
        knit_kept_charge(references, result.len))
        fulfil(references, kept, false);
    else
        lose(references, kept);
}

void knit_references_note_failure(
    struct knit_caller *caller, uint32_t msgid, const struct knit_failure *failure)
{
    struct knit_references *references = caller->references;
    struct knit_kept *kept = knit_kept_find(references, msgid, false);

    if (kept == NULL)
        return;
    if (knit_failure_put(&kept->bytes, failure, KNIT_FAILURE_FULL) == 0 &&
        knit_kept_charge(references, kept->bytes.len))
        fulfil(references, kept, true);
    else
        lose(references, kept);
}

/* Errors multiply with those that have them for their cause, so what is long of one is left out. */
void knit_references_note_error(struct knit_caller *caller, uint32_t msgid, struct knit_span error)
{
    struct knit_failure failure;

    if (!knit_references_want(caller, msgid))
        return;
    if (knit_failure_decode(error, &failure) != 0)
        failure = knit_failure(KNIT_INTERNAL, "the worker's error cannot be read");
    if (error.len > ERROR_WHOLE_MAX)
        failure.data = failure.cause = failure.output = failure.stack = knit_span(NULL, 0);
    knit_references_note_failure(caller, msgid, &failure);
}

/* NULL: out of memory. */
static void *copy_of(const struct knit_session_outcome *outcome)
{
    void *copy = malloc(outcome->len + 1);

    if (copy != NULL)
        memcpy(copy, outcome->payload, outcome->len);
    return copy;
}

void knit_references_note_outcome(struct knit_caller *caller, uint32_t msgid,
    const struct knit_session_outcome *outcome, bool prints)
{
    struct knit_span payload = knit_span(outcome->payload, outcome->len), printed;
    void *copy = NULL;

    if (!knit_references_want(caller, msgid))
        return;
    if (outcome->held) {
        copy = copy_of(outcome);
        if (copy == NULL) {
            caller->ops->close_without_memory(caller);
            return;
        }
        payload.bytes = copy;
    }
    if (outcome->status != KNIT_STATUS_RESULT ||
        (prints && knit_printed_split(payload, &payload, &printed) != 0))
        knit_references_note_error(caller, msgid, payload);
    else
        knit_references_note_result(caller, msgid, payload);
    free(copy);
}
