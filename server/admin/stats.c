/* SPDX-License-Identifier: Apache-2.0 */
/* {version, uptime_ms, pid, connections, log_dropped, loops: {counters, summed}, pool: {...},
 *  tasks: [{task, deaths, signal, quarantined}], lanes: [{...}], worker: {...}, modules: [{...}]}.
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

/* What the workers have in force. Where Landlock does not know ports, all sockets are closed
 * instead, unless the start was refused. */
static void put_confinement(struct knit_writer *writer, const struct knit_confine_status *force)
{
    const char *name = knit_confine_name(force->profile);

    knit_writer_text(writer, "confinement");
    knit_writer_map(writer, 7);
    knit_writer_text(writer, "permission");
    knit_writer_text(writer, name != NULL ? name : "");
    knit_writer_member_uint(
        writer, "landlock_abi", (uint64_t)(force->landlock_abi > 0 ? force->landlock_abi : 0));
    knit_writer_member_bool(writer, "privileges", force->parts & KNIT_CONFINE_PRIVILEGES);
    knit_writer_member_bool(writer, "files", force->parts & KNIT_CONFINE_FILES);
    knit_writer_member_bool(writer, "ports", force->parts & KNIT_CONFINE_PORTS);
    knit_writer_member_bool(writer, "scopes", force->parts & KNIT_CONFINE_SCOPES);
    knit_writer_member_bool(writer, "calls", force->parts & KNIT_CONFINE_CALLS);
}

static void put_pool(struct knit_writer *writer, const struct knit_host_stats *stats)
{
    const char *wait = stats->wait_error != 0 ? strerrorname_np(stats->wait_error) : "ok";

    knit_writer_text(writer, "pool");
    knit_writer_map(writer, 18);
    knit_writer_member_uint(writer, "lanes", stats->lanes);
    knit_writer_member_uint(writer, "lanes_serving", stats->lanes_serving);
    knit_writer_member_bool(writer, "is_degraded", stats->is_degraded);
    knit_writer_member_uint(writer, "sessions", stats->sessions);
    knit_writer_member_uint(writer, "foreign_sessions", stats->foreign_sessions);
    knit_writer_member_uint(writer, "closing_sessions", stats->closing_sessions);
    knit_writer_member_uint(writer, "memory_bytes", stats->memory_bytes);
    knit_writer_member_uint(writer, "deaths", stats->deaths);
    knit_writer_member_uint(writer, "hard_timeouts", stats->hard_timeouts);
    knit_writer_member_uint(writer, "condemned", stats->evicted);
    knit_writer_member_uint(writer, "recovered", stats->recovered);
    knit_writer_member_uint(writer, "quarantined", stats->quarantined);
    knit_writer_member_uint(writer, "output_dropped", stats->output_dropped);
    knit_writer_member_uint(writer, "output_dropped_bytes", stats->output_dropped_bytes);
    knit_writer_text(writer, "wake_mode");
    knit_writer_text(writer, stats->wait_error != 0 ? "relayed" : "direct");
    knit_writer_text(writer, "futex_waitv");
    knit_writer_text(writer, wait);
    knit_writer_member_uint(writer, "wakes_relayed", stats->relayed);
    put_confinement(writer, &stats->confinement);
}

static void put_lane(struct knit_writer *writer, const struct knit_host_lane_stats *stats)
{
    static const char *const states[] = {[KNIT_HOST_LANE_VACANT] = "vacant",
        [KNIT_HOST_LANE_STARTING] = "starting",
        [KNIT_HOST_LANE_SERVING] = "serving",
        [KNIT_HOST_LANE_STOPPING] = "stopping"};

    knit_writer_map(writer, 9);
    knit_writer_text(writer, "state");
    knit_writer_text(writer, states[stats->state]);
    knit_writer_member_uint(writer, "pid", (uint64_t)stats->pid);
    knit_writer_member_bool(writer, "is_parked", stats->is_parked);
    knit_writer_member_bool(writer, "is_running", stats->is_running);
    knit_writer_member_uint(writer, "calls", stats->calls);
    knit_writer_member_uint(writer, "stolen", stats->stolen);
    knit_writer_member_uint(writer, "parks", stats->parks);
    knit_writer_member_uint(writer, "busy_ns", stats->busy_ns);
    knit_writer_member_uint(writer, "deaths", stats->deaths);
}

static void put_image(struct knit_writer *writer, const struct knit_image *image)
{
    knit_writer_map(writer, 3);
    knit_writer_text(writer, "file");
    knit_writer_text(writer, knit_image_file(image));
    knit_writer_text(writer, "build_id");
    knit_writer_text(writer, image->build_id);
    knit_writer_member_bool(writer, "is_frozen", image->is_frozen);
}

void knit_stats_collect(const struct knit_stats_sources *sources, struct knit_stats *ret_stats)
{
    struct knit_stats *stats = ret_stats;

    *stats = (struct knit_stats){.version = KNIT_VERSION,
        .pid = getpid(),
        .uptime_ms = (knit_clock_ns() - sources->started_ns) / 1000000,
        .log_dropped = knit_log_dropped(sources->log),
        .loops = sources->loops};
    for (uint32_t i = 0; i < sources->loops; i++)
        knit_counters_sum(&stats->counters, sources->counters[i]);
    stats->connections = knit_counters_open_connections(&stats->counters);
    knit_host_stats(sources->pool, &stats->pool);
    stats->deaths_count = knit_host_deaths(sources->pool, stats->deaths, KNIT_STATS_DEATHS_MAX);
    for (uint32_t lane = 0; lane < stats->pool.lanes; lane++)
        knit_host_lane_stats(sources->pool, lane, &stats->lanes[lane]);
    stats->images = knit_host_images(sources->pool, &stats->images_count);
}

/* Tasks that took workers down, the first so many of them. */
static void put_deaths(struct knit_writer *writer, const struct knit_stats *stats)
{
    knit_writer_text(writer, "tasks");
    knit_writer_array(writer, stats->deaths_count);
    for (uint32_t i = 0; i < stats->deaths_count; i++) {
        knit_writer_map(writer, 4);
        knit_writer_text(writer, "task");
        knit_writer_text(writer, stats->deaths[i].task);
        knit_writer_member_uint(writer, "deaths", stats->deaths[i].deaths);
        knit_writer_member_uint(writer, "signal", (uint64_t)stats->deaths[i].signal);
        knit_writer_member_bool(writer, "quarantined", stats->deaths[i].is_quarantined);
    }
}

int knit_stats_put(struct knit_buffer *buffer, const struct knit_stats *stats)
{
    struct knit_writer writer;

    knit_writer_init(&writer, buffer);
    knit_writer_map(&writer, 11);
    knit_writer_text(&writer, "version");
    knit_writer_text(&writer, stats->version);
    knit_writer_member_uint(&writer, "pid", (uint64_t)stats->pid);
    knit_writer_member_uint(&writer, "uptime_ms", stats->uptime_ms);
    knit_writer_member_uint(&writer, "connections", stats->connections);
    knit_writer_member_uint(&writer, "log_dropped", stats->log_dropped);
    put_loops(&writer, stats->loops, &stats->counters);
    put_pool(&writer, &stats->pool);
    put_deaths(&writer, stats);
    knit_writer_text(&writer, "lanes");
    knit_writer_array(&writer, stats->pool.lanes);
    for (uint32_t lane = 0; lane < stats->pool.lanes; lane++)
        put_lane(&writer, &stats->lanes[lane]);
    knit_writer_text(&writer, "worker");
    put_image(&writer, &stats->images[0]);
    knit_writer_text(&writer, "modules");
    knit_writer_array(&writer, stats->images_count - 1);
    for (uint32_t i = 1; i < stats->images_count; i++)
        put_image(&writer, &stats->images[i]);
    return knit_writer_end(&writer);
}
