/* SPDX-License-Identifier: Apache-2.0 */
/* Names of members are those of `$/stats` and `$/tasks`, whoever asks and however the answer
 * travels. */
#include "fastpath/host/describe.h"

#include <string.h>

#include "fastpath/control/image.h"
#include "fastpath/host/pool.h"
#include "proto/writer.h"

/* Its module, and what it did to workers. */
static void describe_in_pool(
    struct knit_host *pool, const struct knit_registry_task *task, struct knit_task_entry *entry)
{
    struct knit_host_task_deaths deaths;
    uint32_t count;
    const struct knit_image *images = knit_host_images(pool, &count);

    /* The first one is the worker's program. */
    if (images != NULL && task->module < count - 1)
        entry->module = knit_span_text(knit_image_file(&images[1 + task->module]));
    knit_host_task_deaths(pool, task->id, &deaths);
    entry->deaths = deaths.deaths;
    entry->signal = (uint64_t)deaths.signal;
    entry->is_quarantined = deaths.is_quarantined;
}

void knit_host_describe_task(struct knit_host *pool, const struct knit_registry_task *task,
    struct knit_task_entry *ret_entry)
{
    *ret_entry = (struct knit_task_entry){.id = task->id,
        .name = knit_span(task->name, task->name_len),
        .signature = knit_span_text(knit_signature_text(task->signature)),
        .timeout_ms = task->timeout_ms,
        .on_timeout = task->on_timeout,
        .flags = task->flags};
    if (task->doc[0] != '\0')
        ret_entry->doc = knit_span_text(task->doc);
    if (pool != NULL)
        describe_in_pool(pool, task, ret_entry);
}

void knit_host_snapshot(struct knit_host *pool, struct knit_host_snapshot *ret_snapshot)
{
    struct knit_host_snapshot *snapshot = ret_snapshot;

    knit_host_stats(pool, &snapshot->pool);
    snapshot->deaths_count =
        knit_host_deaths(pool, snapshot->deaths, KNIT_HOST_SNAPSHOT_DEATHS_MAX);
    for (uint32_t lane = 0; lane < snapshot->pool.lanes; lane++)
        knit_host_lane_stats(pool, lane, &snapshot->lanes[lane]);
    snapshot->images = knit_host_images(pool, &snapshot->images_count);
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

    knit_writer_map(writer, 11);
    knit_writer_text(writer, "state");
    knit_writer_text(writer, states[stats->state]);
    knit_writer_member_uint(writer, "pid", (uint64_t)stats->pid);
    knit_writer_member_bool(writer, "is_parked", stats->is_parked);
    knit_writer_member_bool(writer, "is_running", stats->is_running);
    knit_writer_member_uint(writer, "calls", stats->calls);
    knit_writer_member_uint(writer, "stolen", stats->stolen);
    knit_writer_member_uint(writer, "late", stats->late);
    knit_writer_member_uint(writer, "denied", stats->denied);
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

/* Tasks that took workers down, the first so many of them. */
static void put_deaths(struct knit_writer *writer, const struct knit_host_snapshot *snapshot)
{
    knit_writer_text(writer, "tasks");
    knit_writer_array(writer, snapshot->deaths_count);
    for (uint32_t i = 0; i < snapshot->deaths_count; i++) {
        knit_writer_map(writer, 4);
        knit_writer_text(writer, "task");
        knit_writer_text(writer, snapshot->deaths[i].task);
        knit_writer_member_uint(writer, "deaths", snapshot->deaths[i].deaths);
        knit_writer_member_uint(writer, "signal", (uint64_t)snapshot->deaths[i].signal);
        knit_writer_member_bool(writer, "quarantined", snapshot->deaths[i].is_quarantined);
    }
}

void knit_host_snapshot_put(struct knit_writer *writer, const struct knit_host_snapshot *snapshot)
{
    /* Threads are of this program, and load its modules as they are. */
    static const struct knit_image none = {.path = "", .fd = -1};
    const uint32_t modules = snapshot->images_count != 0 ? snapshot->images_count - 1 : 0;

    put_pool(writer, &snapshot->pool);
    put_deaths(writer, snapshot);
    knit_writer_text(writer, "lanes");
    knit_writer_array(writer, snapshot->pool.lanes);
    for (uint32_t lane = 0; lane < snapshot->pool.lanes; lane++)
        put_lane(writer, &snapshot->lanes[lane]);
    knit_writer_text(writer, "worker");
    put_image(writer, snapshot->images != NULL ? &snapshot->images[0] : &none);
    knit_writer_text(writer, "modules");
    knit_writer_array(writer, modules);
    for (uint32_t i = 1; i <= modules; i++)
        put_image(writer, &snapshot->images[i]);
}
