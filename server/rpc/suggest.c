/* SPDX-License-Identifier: Apache-2.0 */
/* Costs are counted in processor time, which does not grow while the thread is kept waiting. */
#include "server/rpc/suggest.h"

#include <stdio.h>
#include <time.h>

#include "fastpath/lane/bell.h"
#include "proto/text.h"

enum {
    SHARE = 8, /* one part of so many */
    NAME_SHOWN_MAX = 64,
    BURST_NS = 10 * 1000 * 1000,
};

static uint64_t spent_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

const struct knit_registry_task *knit_suggest_task(struct knit_suggest *suggest,
    const struct knit_registry *registry, const char *name, size_t len, uint64_t now_ns)
{
    uint64_t earned_ns = (now_ns - suggest->then_ns) / SHARE, began_ns;
    const struct knit_registry_task *task;

    suggest->owed_ns -= suggest->owed_ns < earned_ns ? suggest->owed_ns : earned_ns;
    suggest->then_ns = now_ns;
    if (suggest->owed_ns > BURST_NS)
        return NULL;
    began_ns = spent_ns();
    task = knit_registry_nearest(registry, name, len);
    suggest->owed_ns += spent_ns() - began_ns;
    return task;
}

void knit_suggest_explain(struct knit_suggest *suggest, const struct knit_registry *registry,
    const struct knit_method *method, bool may_search, char ret_text[KNIT_SUGGEST_TEXT_MAX])
{
    const struct knit_registry_task *nearest = NULL;
    struct knit_span name = method->name;
    int shown = (int)knit_text_cut(name.bytes, name.len, NAME_SHOWN_MAX);

    if (name.bytes == NULL) {
        (void)snprintf(ret_text, KNIT_SUGGEST_TEXT_MAX, "there is no task of the number %llu",
            (unsigned long long)method->id);
        return;
    }
    if (name.len <= KNIT_NAME_BYTES_MAX && may_search)
        nearest = knit_suggest_task(
            suggest, registry, (const char *)name.bytes, name.len, knit_clock_ns());
    if (nearest != NULL)
        (void)snprintf(ret_text, KNIT_SUGGEST_TEXT_MAX,
            "there is no task '%.*s'; the nearest is '%s'", shown, (const char *)name.bytes,
            nearest->name);
    else
        (void)snprintf(ret_text, KNIT_SUGGEST_TEXT_MAX, "there is no task '%.*s'", shown,
            (const char *)name.bytes);
}
