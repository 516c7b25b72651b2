/* SPDX-License-Identifier: Apache-2.0 */
/* A metric is its help, its type and then its samples in a row; so what has one sample each is a
 * table, and each of the others a function. */
#include "server/admin/metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/control/image.h"
#include "fastpath/host/pool.h"
#include "fastpath/host/running.h"
#include "fastpath/host/runs.h"
#include "fastpath/host/usage.h"
#include "fastpath/lane/runs.h"
#include "server/admin/text.h"

#define NS_A_SECOND UINT64_C(1000000000)

struct metrics {
    struct knit_buffer *buffer;
    const struct knit_stats *stats;
    const struct knit_metrics_main *more;
    struct knit_host *pool; /* NULL: nothing is told of it */
};

static void begin(
    const struct metrics *metrics, const char *name, const char *type, const char *help)
{
    knit_text_put(
        metrics->buffer, "# HELP knitting_%s %s\n# TYPE knitting_%s %s\n", name, help, name, type);
}

/* A name with its first label, whose value may be any text; more may follow. */
static void put_name(
    const struct metrics *metrics, const char *name, const char *label, const char *value)
{
    knit_text_put(metrics->buffer, "knitting_%s{%s=\"", name, label);
    for (; *value != '\0'; value++) {
        if (*value == '\n')
            knit_text_put(metrics->buffer, "\\n");
        else if (*value == '"' || *value == '\\')
            knit_text_put(metrics->buffer, "\\%c", *value);
        else
            (void)knit_buffer_append(metrics->buffer, value, 1);
    }
    knit_text_put(metrics->buffer, "\"");
}

static void put_sample(const struct metrics *metrics, const char *name, const char *label,
    const char *value, uint64_t number)
{
    put_name(metrics, name, label, value);
    knit_text_put(metrics->buffer, "} %" PRIu64 "\n", number);
}

/* The only one of its name. */
static void put_one(const struct metrics *metrics, const char *name, const char *type,
    const char *help, uint64_t number)
{
    begin(metrics, name, type, help);
    knit_text_put(metrics->buffer, "knitting_%s %" PRIu64 "\n", name, number);
}

/* ---- one sample each ----------------------------------------------------------------------- */

#define LOOP(member)  offsetof(struct knit_stats, counters.member)
#define POOL(member)  offsetof(struct knit_stats, host.pool.member)
#define STATS(member) offsetof(struct knit_stats, member)

struct row {
    const char *name, *help;
    size_t at; /* of an uint64_t in struct knit_stats */
};

static const struct row counters[] = {
    {"log_lines_dropped_total", "Lines of the log that could not be written.", STATS(log_dropped)},
    {"log_lines_left_out_total", "Lines of the log that were left out, of kinds that have many.",
        STATS(log_left_out)},
    {"admin_requests_total", "Requests by HTTP, this one included.", STATS(face_requests)},
    {"admin_pauses_total", "Times that the admin face had used its share of a processor.",
        STATS(face_pauses)},
    {"access_log_lines_dropped_total", "Lines of the access log that were dropped.",
        LOOP(access_dropped)},
    {"spans_sent_total", "Spans of calls that a collector has taken.", LOOP(spans_sent)},
    {"spans_dropped_total", "Spans that none has taken.", LOOP(spans_dropped)},
    {"received_bytes_total", "Bytes received from callers by sockets.", LOOP(bytes_in)},
    {"sent_bytes_total", "Bytes sent to callers by sockets.", LOOP(bytes_out)},
    {"tls_handshakes_total", "TLS handshakes that were completed.", LOOP(handshakes_done)},
    {"tls_handshakes_resumed_total", "Of these, by a ticket.", LOOP(handshakes_resumed)},
    {"authentications_total", "Callers by TCP that said who they are.", LOOP(authentications)},
    {"requests_total", "Requests by sockets.", LOOP(requests)},
    {"notifications_total", "Notifications by sockets.", LOOP(notifications)},
    {"notifications_dropped_total", "Of these, those that were refused.",
        LOOP(notifications_dropped)},
    {"calls_published_total", "Calls of sockets that went into the lanes.", LOOP(calls_published)},
    {"references_bound_total", "Arguments that were results of earlier requests.",
        LOOP(references_bound)},
    {"references_refused_total", "References to results that were refused.", LOOP(references_over)},
    {"loop_turns_total", "Turns of the event loops.", LOOP(turns)},
    {"loop_sleeps_total", "Sleeps of the event loops.", LOOP(sleeps)},
    {"sessions_evicted_total", "Sessions over shared memory that broke its rules.", POOL(evicted)},
    {"calls_recovered_total", "Calls that got their outcome in place of a dead worker.",
        POOL(recovered)},
    {"output_dropped_lines_total", "Lines printed by workers that were not logged.",
        POOL(output_dropped)},
    {"output_dropped_bytes_total", "Bytes of these, and those cut from longer ones.",
        POOL(output_dropped_bytes)},
    {"wakes_relayed_total", "Wake-ups of workers by the daemon in place of callers.",
        POOL(relayed)},
};

static const struct row gauges[] = {
    {"calls_in_flight", "Calls of sockets that are in the lanes, with those that are deferred.",
        LOOP(calls_in_flight)},
    {"calls_waiting", "Calls of sockets that wait in their connections.", LOOP(calls_waiting)},
    {"request_arena_bytes", "Arguments of sockets' calls in the request arenas.",
        LOOP(argument_bytes)},
    {"memory_bytes", "Shared memory that sessions take, as it counts for the limit.",
        POOL(memory_bytes)},
    {"memory_limit_bytes", "The most that they may take.", POOL(memory_max_bytes)},
};

static void put_rows(
    const struct metrics *metrics, const char *type, const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value;

        memcpy(&value, (const char *)metrics->stats + rows[i].at, sizeof(value));
        put_one(metrics, rows[i].name, type, rows[i].help, value);
    }
}

/* ---- counters by a word -------------------------------------------------------------------- */

struct word {
    const char *name, *help, *label, *word; /* help: NULL = as before */
    size_t at;
};

static const struct word words[] = {
    {"connections_refused_total", "Connections that were ended as they began.", "reason",
        "handshake", LOOP(handshakes_failed)},
    {"connections_refused_total", NULL, "reason", "authentication", LOOP(authentications_failed)},
    {"connections_refused_total", NULL, "reason", "stranger", LOOP(strangers_refused)},
    {"connections_dropped_total", "Connections that were ended for what they did or left undone.",
        "reason", "stranger", LOOP(strangers_dropped)},
    {"connections_dropped_total", NULL, "reason", "reader", LOOP(readers_dropped)},
    {"connections_dropped_total", NULL, "reason", "input", LOOP(inputs_dropped)},
    {"connections_dropped_total", NULL, "reason", "message", LOOP(messages_bad)},
    {"socket_calls_total", "Calls of sockets by how they ended.", "outcome", "result",
        LOOP(calls_answered)},
    {"socket_calls_total", NULL, "outcome", "error", LOOP(calls_failed)},
    {"socket_calls_unawaited_total", "Calls of sockets for which their callers waited no longer.",
        "reason", "timeout", LOOP(calls_timed_out)},
    {"socket_calls_unawaited_total", NULL, "reason", "cancel", LOOP(calls_cancelled)},
    {"calls_refused_total", "Calls of sockets that were refused before they went into a lane.",
        "reason", "overloaded", LOOP(calls_overloaded)},
    {"calls_refused_total", NULL, "reason", "denied", LOOP(calls_denied)},
    {"calls_refused_total", NULL, "reason", "quota", LOOP(calls_over_quota)},
    {"calls_refused_total", NULL, "reason", "unknown_task", LOOP(calls_unknown)},
    {"calls_refused_total", NULL, "reason", "too_large", LOOP(calls_too_large)},
    {"calls_refused_total", NULL, "reason", "malformed", LOOP(calls_malformed)},
    {"calls_refused_total", NULL, "reason", "draining", LOOP(calls_draining)},
    {"keyed_requests_total", "Requests with an idempotency key that had come before.", "result",
        "joined", LOOP(keys_joined)},
    {"keyed_requests_total", NULL, "result", "repeated", LOOP(keys_repeated)},
    {"keyed_requests_total", NULL, "result", "refused", LOOP(keys_refused)},
    {"waits_total", "Times that a connection waited before its next request was taken.", "reason",
        "slot", LOOP(waits_for_slot)},
    {"waits_total", NULL, "reason", "limit", LOOP(waits_for_limit)},
    {"waits_total", NULL, "reason", "reader", LOOP(waits_for_reader)},
    {"waits_total", NULL, "reason", "room", LOOP(waits_for_room)},
};

static void put_words(const struct metrics *metrics)
{
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        uint64_t value;

        memcpy(&value, (const char *)metrics->stats + words[i].at, sizeof(value));
        if (words[i].help != NULL)
            begin(metrics, words[i].name, "counter", words[i].help);
        put_sample(metrics, words[i].name, words[i].label, words[i].word, value);
    }
}

/* ---- the others ---------------------------------------------------------------------------- */

static void put_connections(const struct metrics *metrics)
{
    static const char *const transports[] = {
        [KNIT_METRICS_TCP] = "tcp", [KNIT_METRICS_UNIX] = "unix", [KNIT_METRICS_TLS] = "tls"};
    const struct knit_counter_values *loops = &metrics->stats->counters;
    const uint64_t others = loops->connections_unix + loops->connections_tls;
    const uint64_t open[] = {[KNIT_METRICS_TCP] = metrics->stats->connections > others
                                                      ? metrics->stats->connections - others
                                                      : 0,
        [KNIT_METRICS_UNIX] = loops->connections_unix,
        [KNIT_METRICS_TLS] = loops->connections_tls};

    begin(metrics, "connections", "gauge",
        "Connections that are open; one that does a TLS handshake counts as tcp.");
    for (size_t i = 0; i < KNIT_METRICS_TRANSPORTS; i++)
        put_sample(metrics, "connections", "transport", transports[i], open[i]);
    put_one(metrics, "connections_limit", "gauge", "As many are open at most.",
        metrics->more->connections_max);
    begin(metrics, "connections_accepted_total", "counter", "Connections that were accepted.");
    for (size_t i = 0; i < KNIT_METRICS_TRANSPORTS; i++)
        put_sample(metrics, "connections_accepted_total", "transport", transports[i],
            metrics->more->accepted[i]);
    put_one(metrics, "connections_turned_away_total", "counter",
        "Connections for which there was no place.", metrics->more->turned_away);
}

static void put_daemon(const struct metrics *metrics)
{
    const struct knit_counter_values *loops = &metrics->stats->counters;

    begin(metrics, "build_info", "gauge", "The version that runs.");
    put_sample(metrics, "build_info", "version", metrics->stats->version, 1);
    begin(metrics, "uptime_seconds", "gauge", "Since the daemon serves.");
    knit_text_put(metrics->buffer, "knitting_uptime_seconds %" PRIu64 ".%03u\n",
        metrics->stats->uptime_ms / 1000, (unsigned)(metrics->stats->uptime_ms % 1000));
    begin(metrics, "waiting_work_seconds", "gauge",
        "Estimated work of the calls that wait in their connections.");
    knit_text_put(metrics->buffer, "knitting_waiting_work_seconds %" PRIu64 ".%06u\n",
        loops->work_waiting_us / 1000000, (unsigned)(loops->work_waiting_us % 1000000));
    put_one(metrics, "calls_in_flight_limit", "gauge",
        "As many calls of sockets are in the lanes at most.", metrics->more->slots);
    put_one(metrics, "request_arena_limit_bytes", "gauge",
        "As much room is there for arguments of sockets' calls.", metrics->more->argument_bytes);
    begin(metrics, "admin_busy_seconds_total", "counter",
        "Time of a processor that requests by HTTP took.");
    knit_text_put(metrics->buffer, "knitting_admin_busy_seconds_total %" PRIu64 ".%09u\n",
        metrics->stats->face_busy_ns / 1000000000,
        (unsigned)(metrics->stats->face_busy_ns % 1000000000));
}

/* What workers are made of. */
static void put_programs(const struct metrics *metrics)
{
    const struct knit_host_snapshot *host = &metrics->stats->host;

    if (host->images_count == 0)
        return;
    begin(metrics, "program_info", "gauge",
        "The worker's program, then the modules, with the build ids that run.");
    for (uint32_t i = 0; i < host->images_count; i++) {
        put_name(metrics, "program_info", "file", knit_image_file(&host->images[i]));
        knit_text_put(
            metrics->buffer, ",number=\"%u\",build_id=\"%s\"} 1\n", i, host->images[i].build_id);
    }
}

static void put_workers(const struct metrics *metrics)
{
    static const char *const states[] = {[KNIT_HOST_LANE_VACANT] = "vacant",
        [KNIT_HOST_LANE_STARTING] = "starting",
        [KNIT_HOST_LANE_SERVING] = "serving",
        [KNIT_HOST_LANE_STOPPING] = "stopping"};
    static const char *const reasons[] = {[KNIT_HOST_DEATH_SIGNAL] = "signal",
        [KNIT_HOST_DEATH_EXIT] = "exit",
        [KNIT_HOST_DEATH_HARD_TIMEOUT] = "hard_timeout",
        [KNIT_HOST_DEATH_NOT_STOPPED] = "not_stopped",
        [KNIT_HOST_DEATH_REFUSED] = "refused"};
    const struct knit_host_snapshot *host = &metrics->stats->host;
    uint64_t in_state[sizeof(states) / sizeof(states[0])] = {0};

    for (uint32_t lane = 0; lane < host->pool.lanes; lane++)
        in_state[host->lanes[lane].state]++;
    begin(metrics, "workers", "gauge", "Lanes by the state of their workers.");
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
        put_sample(metrics, "workers", "state", states[i], in_state[i]);
    begin(metrics, "worker_deaths_total", "counter",
        "Workers that ended while they served, and were replaced.");
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        put_sample(metrics, "worker_deaths_total", "reason", reasons[i], host->pool.deaths_by[i]);
    put_one(metrics, "degraded", "gauge", "1 while workers die before they finish a call.",
        host->pool.is_degraded);
}

static void put_sessions(const struct metrics *metrics)
{
    const struct knit_host_stats *pool = &metrics->stats->host.pool;

    begin(metrics, "sessions", "gauge",
        "Sessions in shared memory: of the event loops, and of callers by shm://.");
    put_sample(metrics, "sessions", "kind", "loop", pool->sessions - pool->foreign_sessions);
    put_sample(metrics, "sessions", "kind", "shm", pool->foreign_sessions);
    put_one(metrics, "sessions_closing", "gauge", "Sessions that have ended and are held still.",
        pool->closing_sessions);
}

static void put_lanes(const struct metrics *metrics)
{
    static const struct {
        const char *name, *help;
        size_t at;
        bool is_ns;
    } rows[] = {
        {"lane_calls_total", "Calls that the lane's workers began.",
            offsetof(struct knit_host_lane_stats, calls), false},
        {"lane_stolen_total", "Of these, from other lanes.",
            offsetof(struct knit_host_lane_stats, stolen), false},
        {"lane_denied_total", "Calls by shm:// that their callers may not run.",
            offsetof(struct knit_host_lane_stats, denied), false},
        {"lane_late_total", "Outcomes of deferred calls that came in vain.",
            offsetof(struct knit_host_lane_stats, late), false},
        {"lane_parks_total", "Times that the lane's worker went to sleep.",
            offsetof(struct knit_host_lane_stats, parks), false},
        {"lane_busy_seconds_total",
            "Time that the lane's workers spent in tasks; of short ones one run in 16 is measured.",
            offsetof(struct knit_host_lane_stats, busy_ns), true},
        {"lane_deaths_total", "Workers of the lane that ended while they served.",
            offsetof(struct knit_host_lane_stats, deaths), false},
    };
    const struct knit_host_snapshot *host = &metrics->stats->host;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        begin(metrics, rows[i].name, "counter", rows[i].help);
        for (uint32_t lane = 0; lane < host->pool.lanes; lane++) {
            uint64_t value;

            memcpy(&value, (const char *)&host->lanes[lane] + rows[i].at, sizeof(value));
            if (rows[i].is_ns)
                knit_text_put(metrics->buffer, "knitting_%s{lane=\"%u\"} %" PRIu64 ".%09u\n",
                    rows[i].name, lane, value / NS_A_SECOND, (unsigned)(value % NS_A_SECOND));
            else
                knit_text_put(metrics->buffer, "knitting_%s{lane=\"%u\"} %" PRIu64 "\n",
                    rows[i].name, lane, value);
        }
    }
}

static void put_deaths(const struct metrics *metrics)
{
    const struct knit_host_snapshot *host = &metrics->stats->host;

    put_one(metrics, "tasks_quarantined", "gauge", "Tasks that are refused at the moment.",
        host->pool.quarantined);
    begin(metrics, "task_worker_deaths_total", "counter",
        "Workers that the task took down by its own fault.");
    for (uint32_t i = 0; i < host->deaths_count; i++)
        put_sample(metrics, "task_worker_deaths_total", "task", host->deaths[i].task,
            host->deaths[i].deaths);
}

/* ---- tasks --------------------------------------------------------------------------------- */

/* All that is told of them, read once. */
struct task_rows {
    const char *names[KNIT_RUN_ROWS]; /* NULL: there is no such row */
    struct knit_host_runs runs[KNIT_RUN_ROWS];
    uint64_t running[KNIT_RUN_ROWS];
    struct knit_host_usage usage;
};

static void read_tasks(struct knit_host *pool, struct task_rows *ret_rows)
{
    const struct knit_registry *registry = knit_host_registry(pool);
    struct knit_host_running running[KNIT_LANES_MAX];
    uint32_t tasks = knit_registry_count(registry), count = knit_host_running(pool, running);

    memset(ret_rows, 0, sizeof(*ret_rows));
    knit_host_usage(pool, &ret_rows->usage);
    for (uint32_t i = 0; i < tasks; i++) {
        const struct knit_registry_task *task = knit_registry_at(registry, i);
        uint32_t row = knit_runs_row(i);

        ret_rows->names[row] = row < KNIT_RUN_TASKS ? task->name : "other";
    }
    for (uint32_t row = 0; row < KNIT_RUN_ROWS; row++)
        if (ret_rows->names[row] != NULL)
            knit_host_runs(pool, row, &ret_rows->runs[row]);
    for (uint32_t i = 0; i < count; i++)
        ret_rows->running[knit_runs_row(running[i].task)]++;
}

static void put_seconds(const struct metrics *metrics, uint64_t ns)
{
    knit_text_put(
        metrics->buffer, "%" PRIu64 ".%09u", ns / NS_A_SECOND, (unsigned)(ns % NS_A_SECOND));
}

/* The labels of a sample, without the brace at their end. queue: NULL = there is no such label. */
static void put_labels(
    const struct metrics *metrics, const char *name, const char *task, const char *queue)
{
    put_name(metrics, name, "task", task);
    if (queue != NULL)
        knit_text_put(metrics->buffer, ",queue=\"%s\"", queue);
}

/* names: of the three kinds of samples. */
static void put_histogram(const struct metrics *metrics, const char *const names[3],
    const char *task, const char *queue, const struct knit_host_times *times)
{
    uint64_t below = 0;

    for (uint32_t i = 0; i < KNIT_RUN_BUCKETS; i++) {
        below += times->bucket[i];
        put_labels(metrics, names[0], task, queue);
        knit_text_put(metrics->buffer, ",le=\"");
        if (i + 1 < KNIT_RUN_BUCKETS)
            put_seconds(metrics, knit_runs_limit_ns(i));
        else
            knit_text_put(metrics->buffer, "+Inf");
        knit_text_put(metrics->buffer, "\"} %" PRIu64 "\n", below);
    }
    put_labels(metrics, names[1], task, queue);
    knit_text_put(metrics->buffer, "} ");
    put_seconds(metrics, times->sum_ns);
    knit_text_put(metrics->buffer, "\n");
    put_labels(metrics, names[2], task, queue);
    knit_text_put(metrics->buffer, "} %" PRIu64 "\n", times->count);
}

static void put_runs(const struct metrics *metrics, const struct task_rows *rows)
{
    static const char *const names[] = {
        "task_run_seconds_bucket", "task_run_seconds_sum", "task_run_seconds_count"};

    begin(metrics, "task_run_seconds", "histogram",
        "How long tasks ran in workers; of short ones one in 16 is measured and stands for those "
        "since the last.");
    for (uint32_t row = 0; row < KNIT_RUN_ROWS; row++)
        if (rows->names[row] != NULL)
            put_histogram(metrics, names, rows->names[row], NULL, &rows->runs[row].run);
}

static void put_waits(const struct metrics *metrics, const struct task_rows *rows)
{
    static const char *const names[] = {
        "task_wait_seconds_bucket", "task_wait_seconds_sum", "task_wait_seconds_count"};

    begin(metrics, "task_wait_seconds", "histogram",
        "How long calls waited: in a lane, of which one call in 64 is measured and stands for 64, "
        "and before that in its connection, of calls that did and came to a lane.");
    for (uint32_t row = 0; row < KNIT_RUN_ROWS; row++) {
        if (rows->names[row] == NULL)
            continue;
        put_histogram(metrics, names, rows->names[row], "lane", &rows->runs[row].wait);
        put_histogram(metrics, names, rows->names[row], "connection", &metrics->more->waits[row]);
    }
}

static void put_in_flight(const struct metrics *metrics, const struct task_rows *rows)
{
    begin(metrics, "task_in_flight", "gauge",
        "Calls of the task that run in workers, or are queued in lanes.");
    for (uint32_t row = 0; row < KNIT_RUN_ROWS; row++) {
        if (rows->names[row] == NULL)
            continue;
        put_name(metrics, "task_in_flight", "task", rows->names[row]);
        knit_text_put(metrics->buffer, ",state=\"running\"} %" PRIu64 "\n", rows->running[row]);
        put_name(metrics, "task_in_flight", "task", rows->names[row]);
        knit_text_put(metrics->buffer, ",state=\"queued\"} %" PRIu64 "\n", rows->usage.queued[row]);
    }
}

static void put_task_calls(const struct metrics *metrics, const struct task_rows *rows)
{
    static const char *const outcomes[KNIT_RUN_OUTCOMES] = {[KNIT_RUN_RESULT] = "result",
        [KNIT_RUN_ERROR] = "error",
        [KNIT_RUN_DEFERRED] = "deferred",
        [KNIT_RUN_REFUSED] = "refused"};

    begin(metrics, "task_calls_total", "counter",
        "Calls that workers have run or refused; of short tasks one in 16 is looked at and stands "
        "for those since the last.");
    for (uint32_t row = 0; row < KNIT_RUN_ROWS; row++) {
        for (uint32_t i = 0; rows->names[row] != NULL && i < KNIT_RUN_OUTCOMES; i++) {
            put_name(metrics, "task_calls_total", "task", rows->names[row]);
            knit_text_put(metrics->buffer, ",outcome=\"%s\"} %" PRIu64 "\n", outcomes[i],
                rows->runs[row].outcome[i]);
        }
    }
}

static int put_tasks(const struct metrics *metrics)
{
    struct task_rows *rows = malloc(sizeof(*rows));

    if (rows == NULL)
        return -ENOMEM;
    read_tasks(metrics->pool, rows);
    put_task_calls(metrics, rows);
    put_runs(metrics, rows);
    put_waits(metrics, rows);
    put_in_flight(metrics, rows);
    put_one(metrics, "reply_arena_bytes", "gauge",
        "Of the sessions' reply arenas, as much as results have ever lain in.",
        rows->usage.reply_bytes);
    put_one(metrics, "reply_arena_limit_bytes", "gauge", "As much room is there for results.",
        rows->usage.reply_max_bytes);
    free(rows);
    return 0;
}

static void put_expiries(const struct metrics *metrics)
{
    const struct knit_metrics_main *more = metrics->more;

    if (more->expiries_count == 0)
        return;
    begin(metrics, "certificate_expiry_timestamp_seconds", "gauge",
        "When the first certificate, or list of revoked ones, of the file is not valid any more.");
    for (size_t i = 0; i < more->expiries_count; i++)
        put_sample(metrics, "certificate_expiry_timestamp_seconds", "file", more->expiries[i].file,
            (uint64_t)(more->expiries[i].at_s > 0 ? more->expiries[i].at_s : 0));
}

int knit_metrics_put(struct knit_buffer *buffer, const struct knit_stats *stats,
    const struct knit_metrics_main *more, struct knit_host *pool)
{
    const struct metrics metrics = {buffer, stats, more, pool};
    int r = 0;

    put_daemon(&metrics);
    put_programs(&metrics);
    put_connections(&metrics);
    put_rows(&metrics, "gauge", gauges, sizeof(gauges) / sizeof(gauges[0]));
    put_rows(&metrics, "counter", counters, sizeof(counters) / sizeof(counters[0]));
    put_words(&metrics);
    put_workers(&metrics);
    put_sessions(&metrics);
    put_lanes(&metrics);
    put_deaths(&metrics);
    if (pool != NULL)
        r = put_tasks(&metrics);
    put_expiries(&metrics);
    return r != 0 ? r : buffer->error;
}
