/* SPDX-License-Identifier: Apache-2.0 */
/* The lanes' session inside a client's, and what is around it: attaching, the registry, the lease.
 *
 * Tasks have numbers in the lanes, so the registry is fetched once, at attach, and again when a
 * name is missing from it or the pool says that the numbers are those of another epoch.
 *
 * Nothing that comes with `$/attach` is believed: the number of descriptors, the geometry, the
 * seals and sizes of the segments are checked before anything is mapped. The mappings are not
 * inherited by forked children, so a child that goes on using the session can at worst be told
 * so. The daemon believes us no more: it serves the session once we have sealed the request
 * segment (fastpath/lane/segment.h) and said so, on the stream ahead of the question for the
 * registry.
 */
#include "clients/lib/lanes.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clients/lib/admin_calls.h"
#include "clients/lib/client.h"
#include "fastpath/control/registry.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/segment.h"
#include "fastpath/lane/session.h"
#include "proto/attach.h"
#include "proto/tasks.h"

/* In the order in which the daemon sends them. */
enum { BOARD_FD, REQUEST_FD, REPLY_FD, BELL_FD, FDS };

enum {
    SPIN_US_DEFAULT = 50,
    COLLECT_MAX = 16,
    CLOSED_LOOK_MS = 5,
    /* Results stay in place up to this part of the slots and of a lane's arena; what comes then is
       copied. So a caller that keeps its results for long has slots for further calls, and mostly
       room for their results. Mostly: once the lanes together have used up their budget, a lane
       may have no more room than one largest result needs, and there any result that is kept makes
       the next one of that size wait until it is let go. */
    HELD_PART = 4,
    KNOWN_TASKS = 64,
};

struct knit_lanes {
    struct knit *k;
    struct knit_session *session;
    struct knit_registry *registry;
    bool is_stale; /* the registry is of an epoch that has passed */
    /* Tasks of the registry that were asked for, by the address of the name that did: it is most
       often a literal. The address only says where to look, the name decides. */
    const struct knit_registry_task *known[KNOWN_TASKS];
    int bell_fd;
    uint64_t payload_max;
    struct knit_geometry geometry;
    struct knit_mapping board, request, reply;
    uint32_t held; /* results that are read in place, and their bytes */
    uint64_t held_bytes;
};

/* ---- attaching ---- */

/* What the daemon answered: the geometry, the most one argument may be, whether workers steal. */
static int read_grant(struct knit_span result, struct knit_lanes *lanes, bool *ret_steal,
    struct knit_error *ret_error)
{
    struct knit_geometry *geometry = &lanes->geometry;
    struct knit_attach_reply reply;
    const struct {
        const char *key;
        const uint64_t *value;
        uint64_t max;
    } limits[] = {
        {"layout", &reply.layout, UINT32_MAX},
        {"lanes", &reply.lanes, KNIT_LANES_MAX},
        {"slots", &reply.slots, KNIT_SLOTS_MAX},
        {"cells", &reply.cells, UINT32_MAX},
        {"request_arena", &reply.request_arena_bytes, KNIT_ARENA_MAX},
        {"reply_arena", &reply.reply_arena_bytes, KNIT_ARENA_MAX},
        {"payload_max", &reply.call_max_bytes, KNIT_ARENA_MAX},
    };
    const char *wrong;

    knit_attach_reply_decode(result, &reply);
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        if (*limits[i].value > limits[i].max)
            return knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
                "the daemon's answer to $/attach lacks a usable %s", limits[i].key);
        if (i == 0 && reply.layout != KNIT_LAYOUT_VERSION)
            return knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
                "the daemon's memory has layout %llu, this library (%s) knows layout %u; use "
                "unix:// or install the same version of both",
                (unsigned long long)reply.layout, knit_version(), KNIT_LAYOUT_VERSION);
    }
    geometry->version = (uint32_t)reply.layout;
    geometry->lanes = (uint32_t)reply.lanes;
    geometry->slots = (uint32_t)reply.slots;
    geometry->cells = (uint32_t)reply.cells;
    geometry->request_arena_bytes = reply.request_arena_bytes;
    geometry->reply_arena_bytes = reply.reply_arena_bytes;
    wrong = knit_geometry_check(geometry);
    if (wrong != NULL)
        return knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "the daemon's answer to $/attach: %s", wrong);
    lanes->payload_max = reply.call_max_bytes;
    *ret_steal = reply.steal;
    return KNIT_OK;
}

static int map_segments(struct knit_lanes *lanes, const int *fds, struct knit_error *ret_error)
{
    const struct knit_geometry *geometry = &lanes->geometry;
    const struct {
        const char *name;
        int fd;
        uint64_t bytes;
        bool writable;
        struct knit_mapping *to;
    } segments[] = {
        {"board", fds[BOARD_FD], knit_layout_board_bytes(geometry->lanes), false, &lanes->board},
        {"request", fds[REQUEST_FD], knit_layout_request_bytes(geometry), true, &lanes->request},
        {"reply", fds[REPLY_FD], knit_layout_reply_bytes(geometry), false, &lanes->reply},
    };

    for (size_t i = 0; i < sizeof(segments) / sizeof(segments[0]); i++) {
        int r = knit_segment_map(
            segments[i].fd, segments[i].bytes, segments[i].writable, segments[i].to);

        if (r != 0)
            return knit_error_make(ret_error, r < 0 ? KNIT_INTERNAL : KNIT_DISCONNECTED,
                KNIT_STARTED_NO, "the daemon's %s segment cannot be used: %s", segments[i].name,
                r == KNIT_SEGMENT_E_UNSEALED ? "it is not sealed"
                : r == KNIT_SEGMENT_E_SIZE   ? "it has another size than was said"
                                             : "mapping it failed");
    }
    return KNIT_OK;
}

/* What the pool waits for before it looks at our requests. */
static int seal(struct knit_lanes *lanes, int request_fd, struct knit_error *ret_error)
{
    static const uint8_t no_params = 0x90;
    int r = knit_segment_seal(request_fd);

    if (r != 0)
        return knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "the daemon's request segment cannot be used: it takes no further seal (%s); use "
            "unix:// or install the same version of both",
            strerror(-r));
    if (knit_stream_notify(&lanes->k->stream, "$/attached", knit_span(&no_params, 1)) != KNIT_OK)
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for a session");
    return KNIT_OK;
}

static bool is_socket(int fd)
{
    int type;
    socklen_t size = sizeof(type);

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0;
}

static int open_session(struct knit_lanes *lanes, const struct knit_open_options *options,
    bool steal, struct knit_error *ret_error)
{
    struct knit_session_options session = {
        .steal = steal,
        .argument_max_bytes = lanes->payload_max,
        .spin_us = options->no_spin        ? 0
                   : options->spin_us != 0 ? options->spin_us
                                           : SPIN_US_DEFAULT,
        .bell_fd = lanes->bell_fd,
        .bell_is_socket = true,
    };
    struct knit_request_view request;
    struct knit_reply_view reply;
    struct knit_board_view board;

    session.random_seed = knit_clock_ns() ^ (uint64_t)getpid() << 32;
    knit_layout_request(&lanes->geometry, lanes->request.base, &request);
    knit_layout_reply(&lanes->geometry, lanes->reply.base, &reply);
    knit_layout_board(lanes->geometry.lanes, lanes->board.base, &board);
    if (knit_session_new(&lanes->geometry, &request, &reply, &board, &session, &lanes->session) !=
        0)
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for a session");
    return KNIT_OK;
}

static int fetch_registry(
    struct knit_lanes *lanes, uint64_t until_ns, struct knit_error *ret_error);

static int attach(struct knit_lanes *lanes, const struct knit_open_options *options,
    uint64_t until_ns, struct knit_error *ret_error)
{
    const struct knit_attach_request request = {
        .version = KNIT_LAYOUT_VERSION,
        .slots = options->slots,
        .arena_bytes = options->arena_bytes,
    };
    struct knit_transport *transport = &lanes->k->stream.transport;
    uint8_t bytes[64];
    struct knit_buffer params;
    struct knit_handle *handle;
    struct knit_span result;
    bool steal = false;
    int code;

    knit_buffer_init_fixed(&params, bytes, sizeof(bytes));
    (void)knit_attach_request_put(&params, &request);
    transport->wants_fds = true;
    code = knit_client_admin_call(
        lanes->k, "$/attach", knit_buffer_span(&params), until_ns, &handle, &result, ret_error);
    transport->wants_fds = false;
    if (code != KNIT_OK)
        return code;
    if (transport->fds_count != FDS)
        code = knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "the daemon sent %u descriptors instead of %d", transport->fds_count, FDS);
    else
        code = read_grant(result, lanes, &steal, ret_error);
    knit_handle_drop(handle);
    if (code == KNIT_OK)
        code = map_segments(lanes, transport->fds, ret_error);
    if (code == KNIT_OK && !is_socket(transport->fds[BELL_FD]))
        code = knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "the daemon's bell cannot be used: it is no socket");
    if (code == KNIT_OK) {
        lanes->bell_fd = transport->fds[BELL_FD];
        transport->fds[BELL_FD] = -1;
        code = open_session(lanes, options, steal, ret_error);
    }
    if (code == KNIT_OK)
        code = seal(lanes, transport->fds[REQUEST_FD], ret_error);
    knit_transport_close_fds(transport);
    return code == KNIT_OK ? fetch_registry(lanes, until_ns, ret_error) : code;
}

int knit_lanes_attach(struct knit *k, const struct knit_open_options *options, uint64_t until_ns,
    struct knit_error *ret_error)
{
    struct knit_lanes *lanes = calloc(1, sizeof(*lanes));
    int code;

    if (lanes == NULL)
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for a session");
    lanes->k = k;
    lanes->bell_fd = -1;
    code = attach(lanes, options, until_ns, ret_error);
    if (code == KNIT_OK)
        k->lanes = lanes;
    else
        (void)knit_lanes_free(lanes, true);
    return code;
}

struct knit_lanes *knit_lanes_free(struct knit_lanes *lanes, bool is_ours)
{
    if (lanes == NULL)
        return NULL;
    (void)knit_session_free(lanes->session);
    (void)knit_registry_free(lanes->registry);
    /* A child does not have these mappings, and may have others in their place by now. */
    if (is_ours) {
        knit_segment_unmap(&lanes->board);
        knit_segment_unmap(&lanes->request);
        knit_segment_unmap(&lanes->reply);
    }
    if (lanes->bell_fd >= 0)
        close(lanes->bell_fd);
    free(lanes);
    return NULL;
}

/* ---- the registry ---- */

static int add_entry(
    const struct knit_task_entry *entry, uint64_t epoch, void *user, struct knit_error *ret_error)
{
    struct knit_registry **registry = user;
    struct knit_registry_task task = {
        .timeout_ms = entry->timeout_ms < UINT32_MAX ? (uint32_t)entry->timeout_ms : 0,
        .flags = (uint32_t)entry->flags,
    };
    struct knit_signature *signature = NULL;
    int r;

    if (*registry == NULL)
        *registry = knit_registry_new((uint32_t)epoch);
    if (*registry == NULL)
        return knit_error_make(ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory");
    if (knit_registry_epoch(*registry) != (uint32_t)epoch ||
        knit_registry_count(*registry) != entry->id)
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

static int fetch_registry(struct knit_lanes *lanes, uint64_t until_ns, struct knit_error *ret_error)
{
    struct knit_registry *registry = NULL;
    int code = knit_admin_each_task(lanes->k, until_ns, add_entry, &registry, ret_error);

    if (code != KNIT_OK) {
        (void)knit_registry_free(registry);
        return code;
    }
    (void)knit_registry_free(lanes->registry);
    lanes->registry = registry;
    lanes->is_stale = false;
    memset(lanes->known, 0, sizeof(lanes->known));
    return KNIT_OK;
}

static const struct knit_registry_task **known_place(struct knit_lanes *lanes, const char *task)
{
    uint64_t hash = (uint64_t)(uintptr_t)task * 0x9e3779b97f4a7c15u;

    return &lanes->known[hash >> 32 & (KNOWN_TASKS - 1)];
}

static int look_up(struct knit *k, const char *task, const struct knit_registry_task **ret_task,
    struct knit_error *ret_error)
{
    struct knit_lanes *lanes = k->lanes;
    size_t len = strlen(task);
    const struct knit_registry_task *found = NULL;
    int code;

    if (lanes->registry != NULL && !lanes->is_stale)
        found = knit_registry_find(lanes->registry, task, len);
    if (found == NULL) {
        code = fetch_registry(lanes, knit_clock_ns() + (uint64_t)k->admin_ms * 1000000, ret_error);
        if (code != KNIT_OK)
            return code;
        if (lanes->registry != NULL)
            found = knit_registry_find(lanes->registry, task, len);
    }
    if (found == NULL) {
        const struct knit_registry_task *near =
            lanes->registry != NULL ? knit_registry_nearest(lanes->registry, task, len) : NULL;

        return knit_error_make(ret_error, KNIT_UNKNOWN_TASK, KNIT_STARTED_NO,
            near != NULL ? "there is no task '%s'; the nearest is '%s'" : "there is no task '%s'",
            task, near != NULL ? near->name : "");
    }
    *known_place(lanes, task) = found;
    *ret_task = found;
    return KNIT_OK;
}

int knit_lanes_find(struct knit *k, const char *task, const struct knit_registry_task **ret_task,
    struct knit_error *ret_error)
{
    const struct knit_registry_task *known = *known_place(k->lanes, task);

    if (known == NULL || k->lanes->is_stale || strcmp(known->name, task) != 0)
        return look_up(k, task, ret_task, ret_error);
    *ret_task = known;
    return KNIT_OK;
}

/* ---- calls ---- */

uint64_t knit_lanes_payload_max(const struct knit_lanes *lanes)
{
    return lanes->payload_max;
}

int knit_lanes_start(struct knit_lanes *lanes, struct knit_handle *handle, uint32_t task,
    struct knit_span params, uint64_t start_by_ns)
{
    const struct knit_session_call call = {
        .task = task,
        .epoch = knit_registry_epoch(lanes->registry),
        .deadline_ns = start_by_ns,
        .lane = KNIT_LANE_ANY,
        .payload = params.bytes,
        .len = params.len,
        .user = handle,
    };

    switch (knit_session_publish(lanes->session, &call, &handle->slot)) {
    case 0:
        handle->via = KNIT_VIA_LANES;
        return KNIT_OK;
    case KNIT_SESSION_E_TOO_LARGE:
        return KNIT_TOO_LARGE;
    case KNIT_SESSION_E_CLOSED:
        return KNIT_DISCONNECTED;
    default:
        return KNIT_WOULD_BLOCK;
    }
}

void knit_lanes_flush(struct knit_lanes *lanes)
{
    knit_session_flush(lanes->session);
}

static bool may_hold(const struct knit_lanes *lanes, size_t len)
{
    return lanes->held < lanes->geometry.slots / HELD_PART &&
           len <= lanes->geometry.reply_arena_bytes / HELD_PART - lanes->held_bytes;
}

/* An error that says that the registry is old. */
static __attribute__((noinline)) void look_for_staleness(
    struct knit_lanes *lanes, const struct knit_handle *handle)
{
    struct knit_failure failure;

    if (knit_failure_decode(handle->outcome, &failure) == 0 && failure.code == KNIT_STALE_EPOCH)
        lanes->is_stale = true;
}

/* `outcome` is the handle's own answer, or is copied into it. */
static void finish(struct knit_lanes *lanes, struct knit_handle *handle,
    const struct knit_session_outcome *outcome)
{
    bool is_error = outcome->status != KNIT_STATUS_RESULT;
    struct knit_span payload = knit_span(outcome->payload, outcome->len);

    if (!outcome->held) {
        if (outcome != &handle->answer)
            memcpy(handle->answer.body, payload.bytes, payload.len);
        payload.bytes = (const uint8_t *)handle->answer.body;
        knit_handle_finish_in_place(handle, is_error, payload, false);
    } else if (may_hold(lanes, outcome->len)) {
        lanes->held++;
        lanes->held_bytes += outcome->len;
        knit_handle_finish_in_place(handle, is_error, payload, true);
    } else {
        knit_handle_finish(handle, is_error, payload.bytes, payload.len);
        knit_session_release(lanes->session, outcome->slot);
    }
    if (is_error)
        look_for_staleness(lanes, handle);
}

void knit_lanes_collect(struct knit_lanes *lanes)
{
    struct knit_session_outcome outcomes[COLLECT_MAX];
    size_t count;

    do {
        count = knit_session_collect(lanes->session, outcomes, COLLECT_MAX);
        for (size_t i = 0; i < count; i++)
            finish(lanes, outcomes[i].user, &outcomes[i]);
    } while (count == COLLECT_MAX);
}

bool knit_lanes_collect_one(struct knit_lanes *lanes, struct knit_handle *handle)
{
    if (!knit_session_collect_slot(lanes->session, handle->slot, &handle->answer))
        return false;
    finish(lanes, handle, &handle->answer);
    return true;
}

bool knit_lanes_is_closed(const struct knit_lanes *lanes)
{
    return knit_session_is_closed(lanes->session);
}

bool knit_lanes_wait(struct knit_lanes *lanes, struct knit_handle *handle, uint64_t until_ns)
{
    uint32_t slot = handle != NULL ? handle->slot : KNIT_SLOT_ANY;
    int r = knit_session_wait(lanes->session, slot, until_ns);

    if (r == KNIT_SESSION_E_CLOSED)
        knit_stream_sleep(&lanes->k->stream, CLOSED_LOOK_MS);
    return r == 0;
}

void knit_lanes_cancel(struct knit_lanes *lanes, struct knit_handle *handle)
{
    knit_session_abort(lanes->session, handle->slot);
}

bool knit_lanes_has_started(const struct knit_lanes *lanes, const struct knit_handle *handle)
{
    return knit_session_has_started(lanes->session, handle->slot);
}

bool knit_lanes_settle(
    struct knit_lanes *lanes, struct knit_handle *handle, enum knit_started *ret_started)
{
    int started;

    if (!knit_session_settle(lanes->session, handle->slot, &started))
        return false;
    *ret_started = (enum knit_started)started;
    return true;
}

/* An answer that came first is collected and let go with the handle. */
void knit_lanes_forget(struct knit_lanes *lanes, struct knit_handle *handle)
{
    int started;

    if (!knit_session_settle(lanes->session, handle->slot, &started))
        (void)knit_lanes_collect_one(lanes, handle);
}

void knit_lanes_release(struct knit_lanes *lanes, struct knit_handle *handle)
{
    lanes->held--;
    lanes->held_bytes -= handle->outcome.len;
    knit_session_release(lanes->session, handle->slot);
}

void knit_lanes_disconnect(struct knit *k)
{
    struct knit_handle_chunk *chunk;
    enum knit_started started;

    knit_lanes_collect(k->lanes);
    for (chunk = k->chunks; chunk != NULL; chunk = chunk->next) {
        for (int i = 0; i < KNIT_HANDLES_CHUNK; i++) {
            struct knit_handle *handle = &chunk->handle[i];

            if (handle->state != KNIT_HANDLE_WAITING || handle->via != KNIT_VIA_LANES)
                continue;
            if (knit_lanes_settle(k->lanes, handle, &started))
                knit_handle_fail(handle, KNIT_DISCONNECTED, started, k->stream.reason);
            else
                (void)knit_lanes_collect_one(k->lanes, handle);
        }
    }
}

uint32_t knit_lanes_in_flight(const struct knit_lanes *lanes)
{
    return knit_session_in_flight(lanes->session);
}

/* ---- the bell ---- */

int knit_lanes_bell_fd(const struct knit_lanes *lanes)
{
    return lanes->bell_fd;
}

bool knit_lanes_arm(struct knit_lanes *lanes)
{
    return knit_session_arm(lanes->session);
}

void knit_lanes_disarm(struct knit_lanes *lanes)
{
    knit_session_disarm(lanes->session);
}
