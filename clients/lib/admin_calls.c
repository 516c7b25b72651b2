/* SPDX-License-Identifier: Apache-2.0 */
/* Each is one request on the stream, or one for each page of the registry, and a wait for the
 * answer. They find room when calls have none (KNIT_STREAM_PLACES_SPARE). A pool of this process
 * is asked directly (knit_lanes_local()). */
#include "clients/lib/admin_calls.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "clients/lib/client.h"
#include "clients/lib/error.h"
#include "fastpath/control/registry.h"
#include "fastpath/lane/bell.h"
#include "proto/limits.h"
#include "proto/tasks.h"
#include "proto/walk.h"
#include "proto/writer.h"

#define FETCHES_MAX    3     /* of a registry that changes while it is read */
#define NAME_BYTES_MAX 4096u /* a name is shorter; the server says what is wrong with it */

static const uint8_t no_params[] = {0x90};
static const uint8_t one_nil[] = {0x91, 0xc0};

static uint64_t admin_until_ns(const struct knit *k)
{
    return knit_clock_ns() + (uint64_t)k->admin_ms * 1000000;
}

/* A pool of this process is not asked over the session, whose end has to be looked for. */
static int check(struct knit *k, struct knit_error *ret_error)
{
    int code = knit_client_check_waiting(k, ret_error);

    if (code == KNIT_OK && !knit_handles_has_lease(&k->handles))
        code = knit_client_wait_for_lease(k, admin_until_ns(k), ret_error);
    if (code != KNIT_OK || knit_lanes_local(k->handles.lanes) == NULL)
        return code;
    knit_client_progress(k);
    return knit_client_check(k, ret_error);
}

int knit_admin_call(struct knit *k, const char *method, struct knit_span params, uint64_t until_ns,
    struct knit_handle **ret_handle, struct knit_span *ret_result, struct knit_error *ret_error)
{
    struct knit_handle *handle = knit_handle_new(&k->handles);
    int code;

    if (handle == NULL)
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for a call");
    if (!knit_handles_has_lease(&k->handles) &&
        (code = knit_client_wait_for_lease(k, until_ns, ret_error)) != KNIT_OK) {
        knit_handle_drop(handle);
        return code;
    }
    while ((code = knit_handle_start_on_stream(handle, method, params, NULL)) == KNIT_WOULD_BLOCK &&
           knit_clock_ns() < until_ns) {
        /* Nothing may be left to wait for once the progress is made. */
        knit_client_wait(k, KNIT_VIA_STREAM, NULL, until_ns);
        knit_client_progress(k);
    }
    if (code == KNIT_OK)
        code = knit_client_await(handle, until_ns);
    if (code == KNIT_OK)
        code = knit_handle_outcome(handle, ret_error, ret_result);
    else if (code == KNIT_PENDING || code == KNIT_WOULD_BLOCK)
        code = knit_error_make(
            ret_error, KNIT_TIMEOUT, KNIT_STARTED_UNKNOWN, "no answer to %s in time", method);
    else
        code = knit_error_make(ret_error, code, KNIT_STARTED_NO, "%s could not be sent%s%s", method,
            !knit_handles_has_lease(&k->handles) ? ": " : "", k->handles.stream->reason);
    if (code == KNIT_OK)
        *ret_handle = handle;
    else
        knit_handle_drop(handle);
    return code;
}

int knit_ping(struct knit *k, struct knit_error *ret_error, uint64_t *ret_ns)
{
    const struct knit_lanes_local *local = knit_lanes_local(k->handles.lanes);
    struct knit_handle *handle;
    struct knit_span result;
    uint64_t begin_ns;
    int code = check(k, ret_error);

    if (code != KNIT_OK)
        return code;
    begin_ns = knit_clock_ns();
    if (local != NULL) {
        (void)local->has_stopped(knit_lanes_local_arg(k->handles.lanes));
        if (ret_ns != NULL)
            *ret_ns = knit_clock_ns() - begin_ns;
        return KNIT_OK;
    }
    code = knit_admin_call(k, "$/ping", knit_span(one_nil, sizeof(one_nil)), admin_until_ns(k),
        &handle, &result, ret_error);
    if (code == KNIT_OK) {
        if (ret_ns != NULL)
            *ret_ns = knit_clock_ns() - begin_ns;
        knit_handle_drop(handle);
    }
    knit_client_end_turn(k);
    return code;
}

static int local_stats(
    struct knit *k, struct knit_error *ret_error, const void **ret_map, size_t *ret_len)
{
    const struct knit_lanes *lanes = k->handles.lanes;

    knit_buffer_reset(&k->local_stats);
    if (knit_lanes_local(lanes)->put_stats(knit_lanes_local_arg(lanes), &k->local_stats) != 0)
        return knit_error_make(ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory");
    *ret_map = k->local_stats.bytes;
    *ret_len = k->local_stats.len;
    return KNIT_OK;
}

int knit_stats(struct knit *k, struct knit_error *ret_error, const void **ret_map, size_t *ret_len)
{
    struct knit_span result;
    int code = check(k, ret_error);

    if (code != KNIT_OK)
        return code;
    if (knit_lanes_local(k->handles.lanes) != NULL)
        return local_stats(k, ret_error, ret_map, ret_len);
    k->stats = knit_free(k->stats);
    code = knit_admin_call(k, "$/stats", knit_span(no_params, sizeof(no_params)), admin_until_ns(k),
        &k->stats, &result, ret_error);
    if (code == KNIT_OK) {
        *ret_map = result.bytes;
        *ret_len = result.len;
    }
    knit_client_end_turn(k);
    return code;
}

static int unknown_task(const char *task, struct knit_error *ret_error)
{
    return knit_error_make(
        ret_error, KNIT_UNKNOWN_TASK, KNIT_STARTED_NO, "there is no task '%s'", task);
}

static bool is_true(struct knit_span result)
{
    return result.len == 1 && result.bytes[0] == 0xc3;
}

int knit_lift(struct knit *k, struct knit_error *ret_error, const char *task, bool *ret_lifted)
{
    const struct knit_lanes_local *local = knit_lanes_local(k->handles.lanes);
    struct knit_handle *handle;
    struct knit_buffer params;
    struct knit_writer writer;
    struct knit_span result;
    int code = check(k, ret_error);

    if (code == KNIT_OK && task == NULL)
        code = knit_error_make(
            ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO, "the name of the task is NULL");
    if (code != KNIT_OK)
        return code;
    if (local != NULL)
        return local->lift(knit_lanes_local_arg(k->handles.lanes), task, ret_lifted)
                   ? KNIT_OK
                   : unknown_task(task, ret_error);
    knit_buffer_init(&params, NAME_BYTES_MAX);
    knit_writer_init(&writer, &params);
    knit_writer_array(&writer, 1);
    knit_writer_text(&writer, task);
    if (knit_writer_end(&writer) != 0)
        code = unknown_task(task, ret_error);
    else if ((code = knit_admin_call(k, "$/lift", knit_buffer_span(&params), admin_until_ns(k),
                  &handle, &result, ret_error)) == KNIT_OK) {
        *ret_lifted = is_true(result);
        knit_handle_drop(handle);
    }
    knit_buffer_fini(&params);
    knit_client_end_turn(k);
    return code;
}

int knit_drain(struct knit *k, struct knit_error *ret_error, bool *ret_began)
{
    struct knit_handle *handle;
    struct knit_span result;
    int code = check(k, ret_error);

    if (code != KNIT_OK)
        return code;
    if (knit_lanes_local(k->handles.lanes) != NULL)
        return knit_error_make(ret_error, KNIT_DENIED, KNIT_STARTED_NO,
            "a pool of this program's own is ended by knit_pool_close()");
    code = knit_admin_call(k, "$/drain", knit_span(no_params, sizeof(no_params)), admin_until_ns(k),
        &handle, &result, ret_error);
    if (code == KNIT_OK) {
        *ret_began = is_true(result);
        knit_handle_drop(handle);
    }
    knit_client_end_turn(k);
    return code;
}

static int bad_page(struct knit_error *ret_error, const char *reason)
{
    return knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_UNKNOWN,
        "the server answered $/tasks with something else: %s", reason);
}

/* Gives every entry of one page to on_entry; page->after becomes the last id. */
static int read_page(struct knit_span result, struct knit_admin_page *page,
    knit_lanes_on_task *on_entry, void *user, struct knit_error *ret_error)
{
    struct knit_tasks_page tasks;
    struct knit_walk walk;
    struct knit_item item;
    const char *reason;
    uint64_t count = 0;
    int code = KNIT_OK;

    if (knit_tasks_page_decode(result, &tasks, &reason) != 0)
        return bad_page(ret_error, reason);
    if (knit_walk_array(&walk, tasks.tasks) != 0)
        return bad_page(ret_error, "tasks is no array");
    page->epoch = tasks.epoch;
    page->more = tasks.more;
    while (code == KNIT_OK && knit_walk_next(&walk, &item) == 0) {
        struct knit_task_entry entry;

        if (knit_task_entry_decode(item.raw, &entry, &reason) != 0)
            return bad_page(ret_error, reason);
        if (page->after != KNIT_TASKS_FIRST && entry.id <= page->after)
            return bad_page(ret_error, "the ids do not rise");
        page->after = entry.id;
        count++;
        code = on_entry(&entry, tasks.epoch, user, ret_error);
    }
    if (code == KNIT_OK && page->more && count == 0)
        return bad_page(ret_error, "an empty page that is not the last");
    return code;
}

struct knit_admin_page knit_admin_first_page(void)
{
    return (struct knit_admin_page){.after = KNIT_TASKS_FIRST, .more = true};
}

struct knit_span knit_admin_put_query(const struct knit_admin_page *page, uint8_t *bytes)
{
    const struct knit_tasks_query query = {.after = page->after};
    struct knit_buffer params;

    knit_buffer_init_fixed(&params, bytes, KNIT_ADMIN_QUERY_BYTES);
    (void)knit_tasks_query_put(&params, &query);
    return knit_buffer_span(&params);
}

/* Whether ids of the connection with that serial number mean something on this one. */
static bool is_same_daemon(const struct knit_stream *stream, uint32_t serial, uint64_t instance)
{
    return stream->serial == serial || (instance != 0 && stream->instance == instance);
}

int knit_admin_each_task(struct knit *k, uint64_t until_ns, knit_lanes_on_task *on_entry,
    void *user, struct knit_error *ret_error)
{
    struct knit_admin_page page = knit_admin_first_page();
    const struct knit_lanes_local *local = knit_lanes_local(k->handles.lanes);
    struct knit_stream *stream = k->handles.stream;
    uint32_t serial = 0;   /* of the first page's connection, */
    uint64_t instance = 0; /* and of its daemon */
    int code = KNIT_OK;

    if (local != NULL)
        return local->each_task(knit_lanes_local_arg(k->handles.lanes), on_entry, user, ret_error);
    while (code == KNIT_OK && page.more) {
        uint8_t bytes[KNIT_ADMIN_QUERY_BYTES];
        struct knit_handle *handle;
        struct knit_span result;

        code = knit_admin_call(k, "$/tasks", knit_admin_put_query(&page, bytes), until_ns, &handle,
            &result, ret_error);
        if (code == KNIT_OK && serial == 0) {
            stream = handle->stream;
            serial = stream->serial;
            instance = stream->instance;
        }
        /* Callbacks may have made calls meanwhile, of which each chooses its connection, and
           another one may serve by now. */
        if (k->handles.several != NULL && knit_stream_takes_calls(stream))
            k->handles.stream = stream;
        if (code != KNIT_OK)
            break;
        if (!is_same_daemon(handle->stream, serial, instance))
            code = knit_error_make(ret_error, KNIT_STALE_EPOCH, KNIT_STARTED_NO,
                "the connection was lost while tasks were read; try again");
        else
            code = read_page(result, &page, on_entry, user, ret_error);
        knit_handle_drop(handle);
    }
    return code;
}

static int add_entry(
    const struct knit_task_entry *entry, uint64_t epoch, void *user, struct knit_error *ret_error)
{
    struct knit_registry **registry = user;
    struct knit_registry_task task = {
        .timeout_ms = entry->timeout_ms < UINT32_MAX ? (uint32_t)entry->timeout_ms : 0,
        .on_timeout = entry->on_timeout,
        .flags = (uint32_t)entry->flags,
    };
    struct knit_signature *signature = NULL;
    int r;

    if (*registry == NULL)
        *registry = knit_registry_new((uint32_t)epoch);
    if (*registry == NULL)
        return knit_error_make(ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory");
    /* Ids between are of tasks that this caller may not run. */
    if (knit_registry_epoch(*registry) != (uint32_t)epoch || entry->id > UINT32_MAX ||
        knit_registry_skip(*registry, (uint32_t)entry->id) != 0)
        return knit_error_make(ret_error, KNIT_STALE_EPOCH, KNIT_STARTED_NO,
            "the registry changed while it was read; try again");
    r = knit_signature_parse(
        (const char *)entry->signature.bytes, entry->signature.len, &signature, NULL);
    if (r == 0)
        r = knit_registry_add(*registry, &task, signature);
    if (r != 0) {
        (void)knit_signature_free(signature);
        return knit_error_make(ret_error, r < 0 ? KNIT_INTERNAL : KNIT_DISCONNECTED,
            KNIT_STARTED_NO, "the daemon lists a task that cannot be: %.*s",
            (int)entry->signature.len, (const char *)entry->signature.bytes);
    }
    return KNIT_OK;
}

int knit_admin_read_tasks(struct knit_span result, struct knit_admin_page *page,
    struct knit_registry **registry, struct knit_error *ret_error)
{
    return read_page(result, page, add_entry, registry, ret_error);
}

int knit_admin_fetch_registry(
    struct knit *k, uint64_t until_ns, struct knit_registry **ret, struct knit_error *ret_error)
{
    struct knit_registry *registry = NULL;
    int code = KNIT_STALE_EPOCH;

    for (int i = 0; i < FETCHES_MAX && code == KNIT_STALE_EPOCH; i++) {
        (void)knit_registry_free(registry);
        registry = NULL;
        code = knit_admin_each_task(k, until_ns, add_entry, &registry, ret_error);
    }
    if (code == KNIT_OK)
        *ret = registry;
    else
        (void)knit_registry_free(registry);
    return code;
}

struct visit {
    struct knit *k;
    void (*on_task)(const struct knit_task_info *info, void *user);
    void *user;
};

static char *copy_text(struct knit_span text)
{
    return strndup(text.bytes != NULL ? (const char *)text.bytes : "", text.len);
}

static void free_text(char **text)
{
    free(*text);
}

/* A callback that unwinds its stack frees the copies on its way. */
static int show_entry(
    const struct knit_task_entry *entry, uint64_t epoch, void *user, struct knit_error *ret_error)
{
    const struct visit *visit = user;
    __attribute__((cleanup(free_text))) char *name = copy_text(entry->name);
    __attribute__((cleanup(free_text))) char *signature = copy_text(entry->signature);
    __attribute__((cleanup(free_text))) char *doc = copy_text(entry->doc);
    __attribute__((cleanup(free_text))) char *module = copy_text(entry->module);
    int code = KNIT_OK;

    (void)epoch;
    if (name == NULL || signature == NULL || doc == NULL || module == NULL)
        code = knit_error_make(ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory");
    if (code == KNIT_OK) {
        const struct knit_task_info info = {
            .id = (uint32_t)entry->id,
            .name = name,
            .signature = signature,
            .doc = doc,
            .timeout_ms = entry->timeout_ms != 0 ? (double)entry->timeout_ms : -1,
            .flags = (uint32_t)entry->flags,
            .module = module,
            .deaths = entry->deaths,
            .last_signal = entry->signal <= INT_MAX ? (int)entry->signal : 0,
            .quarantined = entry->is_quarantined,
        };

        /* As in every callback, waiting and closing are refused here: both would free the page that
           is being read. */
        __attribute__((cleanup(knit_client_end_calling))) struct knit *calling = visit->k;

        calling->is_calling_back = true;
        visit->on_task(&info, visit->user);
    }
    return code;
}

int knit_tasks(struct knit *k, struct knit_error *ret_error,
    void (*on_task)(const struct knit_task_info *info, void *user), void *user)
{
    struct visit visit = {k, on_task, user};
    int code = check(k, ret_error);

    if (code != KNIT_OK)
        return code;
    code = knit_admin_each_task(k, admin_until_ns(k), show_entry, &visit, ret_error);
    knit_client_end_turn(k);
    return code;
}
