/* SPDX-License-Identifier: Apache-2.0 */
/* Lines for people: a word of the option, and what they say. */
#include "clients/lib/pool_debug.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "proto/signature.h"

__attribute__((format(printf, 3, 4))) static void tell(
    const struct knit_pool_debug *debug, enum knit_debug which, const char *format, ...)
{
    char text[KNIT_SENTENCE_MAX];
    const struct knit_pool_event event = {.kind = KNIT_POOL_DEBUG, .task = "", .text = text};
    va_list arguments;
    int len;

    if (!knit_pool_debug_has(debug, which))
        return;
    len = snprintf(text, sizeof(text), "%s: ", knit_debug_name(which));
    va_start(arguments, format);
    (void)vsnprintf(text + len, sizeof(text) - (size_t)len, format, arguments);
    va_end(arguments);
    debug->on_event(debug->user, &event);
}

void knit_pool_debug_opened(const struct knit_pool_debug *debug, const struct knit_host *host,
    const struct knit_host_options *options)
{
    const struct knit_registry *registry = knit_host_registry(host);

    for (uint32_t i = 0; i < options->module_count; i++)
        tell(debug, KNIT_DEBUG_IMPORTS, "module %s", options->modules[i]);
    for (uint32_t i = 0; i < knit_registry_count(registry); i++)
        tell(debug, KNIT_DEBUG_IMPORTS, "task %s",
            knit_signature_text(knit_registry_at(registry, i)->signature));
    tell(debug, KNIT_DEBUG_LIFECYCLE, "the pool is open; workers: %u, tasks: %u",
        options->has_no_workers ? 0 : options->workers, knit_registry_count(registry));
}

void knit_pool_debug_lane(
    const struct knit_pool_debug *debug, struct knit_host *host, uint32_t lane)
{
    struct knit_host_lane_stats stats;

    if (host == NULL || !knit_pool_debug_has(debug, KNIT_DEBUG_LANE))
        return;
    knit_host_lane_stats(host, lane, &stats);
    tell(debug, KNIT_DEBUG_LANE,
        "%u: calls=%" PRIu64 " stolen=%" PRIu64 " parks=%" PRIu64 " deaths=%" PRIu64, lane,
        stats.calls, stats.stolen, stats.parks, stats.deaths);
}

void knit_pool_debug_stopped(const struct knit_pool_debug *debug, struct knit_host *host)
{
    for (uint32_t lane = 0; lane < knit_host_lanes(host); lane++)
        knit_pool_debug_lane(debug, host, lane);
    tell(debug, KNIT_DEBUG_LIFECYCLE, "the pool has stopped");
}

void knit_pool_debug_sessions(struct knit_pool_debug *debug, uint32_t sessions)
{
    if (sessions != debug->sessions)
        tell(debug, KNIT_DEBUG_HOST, "sessions open: %u", sessions);
    debug->sessions = sessions;
}
