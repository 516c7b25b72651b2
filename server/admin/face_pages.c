/* SPDX-License-Identifier: Apache-2.0 */
/* A page is put together once for all who ask for it within a quarter of a second, and lives until
 * it was sent to the last of them. */
#include "server/admin/face_pages.h"

#include <inttypes.h>
#include <stdlib.h>

#include "fastpath/host/pool.h"
#include "fastpath/host/runs.h"
#include "fastpath/lane/bell.h"
#include "proto/tasks.h"
#include "server/admin/json.h"
#include "server/admin/page.h"
#include "server/admin/text.h"

enum {
    FRESH_NS = 250000000,
    BODY_MAX_BYTES = 64 * 1024 * 1024,
    TASK_MAX_BYTES = 1024 * 1024,
};

/* ---- what they say ------------------------------------------------------------------------- */

static int put_stats(struct knit_face *face, struct knit_buffer *text)
{
    struct knit_buffer value;
    struct knit_stats stats;
    int r;

    knit_stats_collect(face->sources.stats, &stats);
    knit_buffer_init(&value, BODY_MAX_BYTES);
    r = knit_stats_put(&value, &stats);
    if (r == 0)
        r = knit_json_put(text, knit_buffer_span(&value));
    knit_buffer_fini(&value);
    return r;
}

static int put_metrics(struct knit_face *face, struct knit_buffer *text)
{
    struct knit_metrics_main more = {.turned_away = 0};
    struct knit_stats stats;

    knit_stats_collect(face->sources.stats, &stats);
    face->sources.collect(face->sources.arg, &more);
    return knit_metrics_put(text, &stats, &more, face->sources.stats->pool);
}

static void put_buckets(
    const char *key, const struct knit_host_times *times, struct knit_buffer *text)
{
    knit_text_put(text, ",\"%s\":[", key);
    for (uint32_t i = 0; i < KNIT_RUN_BUCKETS; i++)
        knit_text_put(text, "%s%" PRIu64, i > 0 ? "," : "", times->bucket[i]);
    knit_text_put(text, "]");
}

static void put_runs(
    struct knit_host *pool, uint32_t row, const char *task, struct knit_buffer *text)
{
    struct knit_host_runs runs;

    knit_host_runs(pool, row, &runs);
    knit_text_put(text, row == 0 ? "{\"task\":" : ",{\"task\":");
    knit_json_put_text(text, knit_span_text(task));
    knit_text_put(text,
        ",\"results\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"deferred\":%" PRIu64
        ",\"refused\":%" PRIu64 ",\"run_us\":%" PRIu64,
        runs.outcome[KNIT_RUN_RESULT], runs.outcome[KNIT_RUN_ERROR],
        runs.outcome[KNIT_RUN_DEFERRED], runs.outcome[KNIT_RUN_REFUSED], runs.run.sum_ns / 1000);
    put_buckets("run_buckets", &runs.run, text);
    put_buckets("wait_buckets", &runs.wait, text);
    knit_text_put(text, "}");
}

/* {tasks: [as in `$/tasks`], runs: [{task, results, errors, deferred, refused, run_us, run_buckets,
 * wait_buckets}]}, of the first tasks and of all others together, as fastpath/lane/runs.h counts
 * them; waits are those in lanes. */
static int put_tasks(struct knit_face *face, struct knit_buffer *text)
{
    struct knit_host *pool = face->sources.stats->pool;
    const struct knit_registry *registry = knit_host_registry(pool);
    struct knit_buffer value;
    int r = 0;

    knit_buffer_init(&value, TASK_MAX_BYTES);
    (void)knit_buffer_append(text, "{\"tasks\":[", 10);
    for (uint32_t i = 0; r == 0 && i < knit_registry_count(registry); i++) {
        struct knit_task_entry entry;

        knit_host_describe_task(pool, knit_registry_at(registry, i), &entry);
        knit_buffer_reset(&value);
        r = knit_tasks_page_put_entry(&value, &entry);
        if (i > 0)
            (void)knit_buffer_append(text, ",", 1);
        if (r == 0)
            r = knit_json_put(text, knit_buffer_span(&value));
    }
    (void)knit_buffer_append(text, "],\"runs\":[", 10);
    for (uint32_t i = 0; i < knit_registry_count(registry) && i < KNIT_RUN_TASKS; i++)
        put_runs(pool, i, knit_registry_at(registry, i)->name, text);
    if (knit_registry_count(registry) > KNIT_RUN_TASKS)
        put_runs(pool, KNIT_RUN_TASKS, "other", text);
    (void)knit_buffer_append(text, "]}", 2);
    knit_buffer_fini(&value);
    return r != 0 ? r : text->error;
}

static int put_page_of_tables(struct knit_face *face, struct knit_buffer *text)
{
    struct knit_buffer calls;
    struct knit_stats stats;
    int r;

    knit_stats_collect(face->sources.stats, &stats);
    knit_buffer_init(&calls, BODY_MAX_BYTES);
    r = face->sources.put_calls(face->sources.arg, &calls);
    if (r == 0)
        r = knit_page_put(text, &stats, face->sources.stats->pool, knit_buffer_span(&calls));
    knit_buffer_fini(&calls);
    return r;
}

static int put_calls(struct knit_face *face, struct knit_buffer *text)
{
    struct knit_buffer calls;
    int r;

    knit_buffer_init(&calls, BODY_MAX_BYTES);
    r = face->sources.put_calls(face->sources.arg, &calls);
    if (r == 0)
        r = knit_json_put(text, knit_buffer_span(&calls));
    knit_buffer_fini(&calls);
    return r;
}

/* ---- which there are ----------------------------------------------------------------------- */

static const char *why_not_ready(const struct knit_face *face)
{
    struct knit_host_stats stats;

    if (face->is_draining)
        return "draining";
    knit_host_stats(face->sources.stats->pool, &stats);
    return stats.lanes_serving > 0 ? NULL : "no worker serves";
}

static const char *always_alive(const struct knit_face *face)
{
    (void)face;
    return NULL;
}

static const struct knit_face_page pages[] = {
    {"/", "text/html; charset=utf-8", put_page_of_tables, NULL, knit_page_policy, true},
    {"/livez", "text/plain; charset=utf-8", NULL, always_alive, NULL, false},
    {"/readyz", "text/plain; charset=utf-8", NULL, why_not_ready, NULL, false},
    {"/stats", "application/json", put_stats, NULL, NULL, false},
    {"/tasks", "application/json", put_tasks, NULL, NULL, false},
    {"/calls", "application/json", put_calls, NULL, NULL, true},
    {"/metrics", "text/plain; version=0.0.4; charset=utf-8", put_metrics, NULL, NULL, false},
};
_Static_assert(sizeof(pages) / sizeof(pages[0]) <= KNIT_FACE_PAGES_MAX, "each has a place");

const struct knit_face_page *knit_face_pages_find(struct knit_span path)
{
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
        if (knit_span_is(path, pages[i].path))
            return &pages[i];
    return NULL;
}

/* ---- as they were made --------------------------------------------------------------------- */

static struct knit_face_body *new_body(void)
{
    struct knit_face_body *body = calloc(1, sizeof(*body));

    if (body != NULL) {
        body->users = 1;
        body->made_ns = knit_clock_ns();
        knit_buffer_init(&body->text, BODY_MAX_BYTES);
    }
    return body;
}

void knit_face_pages_leave(struct knit_face_body *body)
{
    if (body == NULL || --body->users > 0)
        return;
    knit_buffer_fini(&body->text);
    free(body);
}

static struct knit_face_body **place_of(struct knit_face *face, const struct knit_face_page *page)
{
    return &face->bodies[page - pages];
}

static void drop(struct knit_face *face, const struct knit_face_page *page)
{
    knit_face_pages_leave(*place_of(face, page));
    *place_of(face, page) = NULL;
}

bool knit_face_pages_is_fresh(struct knit_face *face, const struct knit_face_page *page)
{
    const struct knit_face_body *made = *place_of(face, page);

    return made != NULL && knit_clock_ns() - made->made_ns < FRESH_NS;
}

struct knit_face_body *knit_face_pages_body(
    struct knit_face *face, const struct knit_face_page *page)
{
    struct knit_face_body **body = place_of(face, page);

    if (!knit_face_pages_is_fresh(face, page)) {
        drop(face, page);
        *body = new_body();
        if (*body != NULL && page->put(face, &(*body)->text) != 0)
            drop(face, page);
    }
    if (*body != NULL)
        (*body)->users++;
    return *body;
}

void knit_face_pages_forget_calls(struct knit_face *face)
{
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
        if (pages[i].lists_calls)
            drop(face, &pages[i]);
}

void knit_face_pages_fini(struct knit_face *face)
{
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
        drop(face, &pages[i]);
}
