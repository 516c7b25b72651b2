/* SPDX-License-Identifier: Apache-2.0 */
/* {version, uptime_ms, pid, connections, log_dropped, log_left_out, admin: {requests, pauses,
 *  busy_ns}, loops: {counters, summed}, pool: {...}, tasks: [{task, deaths, signal, quarantined}],
 *  lanes: [{...}], worker: {...}, modules: [{...}]}.
 * Names of counters are those of counters.h.
 */
#include "server/admin/stats.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "fastpath/lane/bell.h"
#include "proto/writer.h"
#include "server/base/log.h"

static void put_loops(
    struct knit_writer *writer, uint32_t count, const struct knit_counter_values *counters)
{
#define KNIT_COUNTER_ONE(name) +1
    enum { COUNTERS = 0 KNIT_COUNTERS(KNIT_COUNTER_ONE) };
#undef KNIT_COUNTER_ONE

    knit_writer_text(writer, "loops");
    knit_writer_map(writer, COUNTERS + 1);
    knit_writer_member_uint(writer, "count", count);
#define KNIT_COUNTER_PUT(name) knit_writer_member_uint(writer, #name, counters->name);
    KNIT_COUNTERS(KNIT_COUNTER_PUT)
#undef KNIT_COUNTER_PUT
}

void knit_stats_collect(const struct knit_stats_sources *sources, struct knit_stats *ret_stats)
{
    struct knit_stats *stats = ret_stats;

    *stats = (struct knit_stats){.version = KNIT_VERSION,
        .pid = getpid(),
        .uptime_ms = (knit_clock_ns() - sources->started_ns) / 1000000,
        .log_dropped = knit_log_dropped(sources->log),
        .log_left_out = knit_log_left_out(sources->log),
        .face_requests = knit_counter_read(&sources->face->requests),
        .face_pauses = knit_counter_read(&sources->face->pauses),
        .face_busy_ns = knit_counter_read(&sources->face->busy_ns),
        .loops = sources->loops};
    for (uint32_t i = 0; i < sources->loops; i++)
        knit_counters_sum(&stats->counters, sources->counters[i]);
    for (size_t i = 0; i < sizeof(sources->reporting) / sizeof(sources->reporting[0]); i++)
        if (sources->reporting[i] != NULL)
            knit_counters_sum(&stats->counters, sources->reporting[i]);
    stats->connections = knit_counters_open_connections(&stats->counters);
    knit_host_snapshot(sources->pool, &stats->host);
}

int knit_stats_put(struct knit_buffer *buffer, const struct knit_stats *stats)
{
    struct knit_writer writer;

    knit_writer_init(&writer, buffer);
    knit_writer_map(&writer, 8 + KNIT_HOST_SNAPSHOT_MEMBERS);
    knit_writer_text(&writer, "version");
    knit_writer_text(&writer, stats->version);
    knit_writer_member_uint(&writer, "pid", (uint64_t)stats->pid);
    knit_writer_member_uint(&writer, "uptime_ms", stats->uptime_ms);
    knit_writer_member_uint(&writer, "connections", stats->connections);
    knit_writer_member_uint(&writer, "log_dropped", stats->log_dropped);
    knit_writer_member_uint(&writer, "log_left_out", stats->log_left_out);
    knit_writer_text(&writer, "admin");
    knit_writer_map(&writer, 3);
    knit_writer_member_uint(&writer, "requests", stats->face_requests);
    knit_writer_member_uint(&writer, "pauses", stats->face_pauses);
    knit_writer_member_uint(&writer, "busy_ns", stats->face_busy_ns);
    put_loops(&writer, stats->loops, &stats->counters);
    knit_host_snapshot_put(&writer, &stats->host);
    return knit_writer_end(&writer);
}
