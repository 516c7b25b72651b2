/* SPDX-License-Identifier: Apache-2.0 */
/* Rows have the cells that the script of page.html fills, in its order; a rate is not known here. A
 * cell with a figure of `/stats` names it by data-key, so both show the same. */
#include "server/admin/page.h"

#include <inttypes.h>
#include <string.h>

#include "fastpath/host/pool.h"
#include "fastpath/host/runs.h"
#include "server/admin/page_calls.h"
#include "server/admin/text.h"

#define UNKNOWN "\342\200\223"

#define LOOP(member)  offsetof(struct knit_stats, counters.member)
#define STATS(member) offsetof(struct knit_stats, member)

static void put_part(struct knit_buffer *buffer, size_t part)
{
    (void)knit_buffer_append(buffer, knit_page_parts[part], strlen(knit_page_parts[part]));
}

static void put_daemon(struct knit_buffer *buffer, const struct knit_stats *stats)
{
    static const struct {
        const char *what, *key;
        size_t at;
        bool has_rate;
    } rows[] = {{"uptime, ms", "uptime_ms", STATS(uptime_ms), false},
        {"connections", "connections", STATS(connections), false},
        {"requests", "loops.requests", LOOP(requests), true},
        {"calls in the lanes", "loops.calls_in_flight", LOOP(calls_in_flight), false},
        {"calls with a result", "loops.calls_answered", LOOP(calls_answered), true},
        {"calls with an error", "loops.calls_failed", LOOP(calls_failed), true},
        {"calls timed out", "loops.calls_timed_out", LOOP(calls_timed_out), true},
        {"calls refused: overload", "loops.calls_overloaded", LOOP(calls_overloaded), true},
        {"calls refused: quota", "loops.calls_over_quota", LOOP(calls_over_quota), true},
        {"calls refused: denied", "loops.calls_denied", LOOP(calls_denied), true},
        {"bytes received", "loops.bytes_in", LOOP(bytes_in), true},
        {"bytes sent", "loops.bytes_out", LOOP(bytes_out), true},
        {"ends of workers", "pool.deaths", STATS(host.pool.deaths), true},
        {"shared memory, bytes", "pool.memory_bytes", STATS(host.pool.memory_bytes), false}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t value;

        memcpy(&value, (const char *)stats + rows[i].at, sizeof(value));
        knit_text_put(buffer,
            "<tr><th scope=\"row\">%s</th><td data-key=\"%s\">%" PRIu64 "</td>%s</tr>\n",
            rows[i].what, rows[i].key, value,
            rows[i].has_rate ? "<td data-rate=\"1\">" UNKNOWN "</td>" : "<td></td>");
    }
    knit_text_put(buffer,
        "<tr><th scope=\"row\">sessions by shm://</th><td data-key=\"pool.foreign_sessions\">%u"
        "</td><td></td></tr>\n",
        stats->host.pool.foreign_sessions);
}

static void put_lanes(struct knit_buffer *buffer, const struct knit_host_snapshot *host)
{
    static const char *const states[] = {[KNIT_HOST_LANE_VACANT] = "vacant",
        [KNIT_HOST_LANE_STARTING] = "starting",
        [KNIT_HOST_LANE_SERVING] = "serving",
        [KNIT_HOST_LANE_STOPPING] = "stopping"};

    for (uint32_t i = 0; i < host->pool.lanes; i++) {
        const struct knit_host_lane_stats *lane = &host->lanes[i];

        knit_text_put(buffer,
            "<tr><td>%u</td><td>%s%s</td><td>%d</td><td>%" PRIu64 "</td><td>" UNKNOWN
            "</td><td>%" PRIu64 "</td><td>%" PRIu64 "</td><td>" UNKNOWN "</td><td>%" PRIu64
            "</td></tr>\n",
            i, states[lane->state],
            lane->is_running  ? ", running"
            : lane->is_parked ? ", parked"
                              : "",
            (int)lane->pid, lane->calls, lane->stolen, lane->parks, lane->deaths);
    }
}

/* The end of the bucket in which the last of 99 in 100 lies. */
static void put_within(struct knit_buffer *buffer, const struct knit_host_times *times)
{
    uint64_t left = times->count - times->count / 100;
    uint32_t bucket = 0;
    double us;

    if (times->count == 0) {
        knit_text_put(buffer, "<td>" UNKNOWN "</td>");
        return;
    }
    while (bucket + 1 < KNIT_RUN_BUCKETS && left > times->bucket[bucket])
        left -= times->bucket[bucket++];
    us = (double)knit_runs_limit_ns(bucket + 1 < KNIT_RUN_BUCKETS ? bucket : bucket - 1) / 1000;
    knit_text_put(buffer, "<td>%s%.*f %s</td>", bucket + 1 < KNIT_RUN_BUCKETS ? "" : "more than ",
        us < 1000 || us >= 1e5 ? us >= 1e6 : 1,
        us < 1000  ? us
        : us < 1e6 ? us / 1e3
                   : us / 1e6,
        us < 1000  ? "\302\265s"
        : us < 1e6 ? "ms"
                   : "s");
}

static void put_task(
    struct knit_buffer *buffer, struct knit_host *pool, uint32_t row, const char *name)
{
    struct knit_host_task_deaths deaths = {.deaths = 0};
    struct knit_host_runs runs;
    uint64_t ended;

    knit_host_runs(pool, row, &runs);
    if (row < KNIT_RUN_TASKS)
        knit_host_task_deaths(pool, row, &deaths);
    ended = runs.outcome[KNIT_RUN_RESULT] + runs.outcome[KNIT_RUN_ERROR] +
            runs.outcome[KNIT_RUN_DEFERRED];
    knit_text_put(buffer, "<tr><td>");
    knit_text_put_html(buffer, knit_span_text(name));
    knit_text_put(buffer, "</td><td>%" PRIu64 "</td><td>%" PRIu64 "</td><td>" UNKNOWN "</td>",
        runs.outcome[KNIT_RUN_RESULT], runs.outcome[KNIT_RUN_ERROR]);
    if (ended != 0)
        knit_text_put(buffer, "<td>%.1f</td>", (double)runs.run.sum_ns / 1000 / (double)ended);
    else
        knit_text_put(buffer, "<td>" UNKNOWN "</td>");
    put_within(buffer, &runs.run);
    put_within(buffer, &runs.wait);
    knit_text_put(buffer, "<td>%" PRIu64 "%s</td></tr>\n", deaths.deaths,
        deaths.is_quarantined ? ", quarantined" : "");
}

int knit_page_put(struct knit_buffer *buffer, const struct knit_stats *stats,
    struct knit_host *pool, struct knit_span calls)
{
    const struct knit_registry *registry = knit_host_registry(pool);

    put_part(buffer, 0);
    for (uint32_t i = 0; i < knit_registry_count(registry) && i < KNIT_RUN_TASKS; i++)
        put_task(buffer, pool, i, knit_registry_at(registry, i)->name);
    if (knit_registry_count(registry) > KNIT_RUN_TASKS)
        put_task(buffer, pool, KNIT_RUN_TASKS, "other");
    put_part(buffer, 1);
    put_lanes(buffer, &stats->host);
    put_part(buffer, 2);
    knit_page_put_callers(buffer, calls);
    put_part(buffer, 3);
    knit_page_put_waiting(buffer, calls);
    put_part(buffer, 4);
    knit_page_put_calls(buffer, calls);
    put_part(buffer, 5);
    knit_page_put_left(buffer, calls);
    put_part(buffer, 6);
    put_daemon(buffer, stats);
    put_part(buffer, 7);
    return buffer->error;
}
