/* SPDX-License-Identifier: Apache-2.0 */
/* The host keeps a mapping of each segment, because it gives outcomes when no worker can, and
 * descriptors to send to replacements. Workers get the request segment read-only: they cannot
 * change what a caller has written.
 *
 * The memory of a session is counted when it is made and not when it is used (what a caller keeps
 * after its session has ended is counted by departed.c): the request segment
 * as a whole, since reading a hole of it allocates a page, of the reply arenas what the reply
 * budget lets workers touch, and the reply that each worker may have to defer.
 */
#include "fastpath/host/segments.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "fastpath/host/reason.h"
#include "fastpath/lane/fd.h"

static void write_header(struct knit_segment_header *header, enum knit_segment_kind kind,
    uint64_t bytes, uint64_t session, const struct knit_geometry *geometry)
{
    *header = (struct knit_segment_header){.magic = KNIT_LAYOUT_MAGIC,
        .version = KNIT_LAYOUT_VERSION,
        .kind = kind,
        .total_bytes = bytes,
        .session = session,
        .geometry = *geometry};
}

/* Allocates the first pages of the arenas now, so that calls do not wait for them. */
static int allocate_ahead(const struct knit_host_options *options,
    const struct knit_host_session *session, int request_fd)
{
    const struct knit_geometry *geometry = &session->view.geometry;
    uint64_t ahead = options->arena_initial_bytes;
    off_t request = session->view.request.arena - (unsigned char *)session->request.base;
    off_t reply = session->view.reply.arena - (unsigned char *)session->reply.base;
    uint64_t request_ahead =
        ahead < geometry->request_arena_bytes ? ahead : geometry->request_arena_bytes;
    uint64_t reply_ahead =
        ahead < geometry->reply_arena_bytes ? ahead : geometry->reply_arena_bytes;

    if (request_ahead != 0 && fallocate(request_fd, 0, request, (off_t)request_ahead) != 0)
        return -errno;
    for (uint32_t i = 0; i < geometry->lanes && reply_ahead != 0; i++) {
        if (fallocate(session->reply_fd, 0, reply + (off_t)(i * geometry->reply_arena_bytes),
                (off_t)reply_ahead) != 0)
            return -errno;
    }
    return 0;
}

int knit_segments_make(const struct knit_host_options *options, struct knit_host_session *session,
    const struct knit_geometry *geometry, int *request_fd)
{
    uint64_t request_bytes = knit_layout_request_bytes(geometry);
    uint64_t reply_bytes = knit_layout_reply_bytes(geometry);
    char name[32];
    int error, made = -1;

    /* `knit check` finds segments by their names, since a caller can write over their headers. */
    (void)snprintf(name, sizeof(name), "knit-request-%llu", (unsigned long long)session->id);
    error = knit_segment_create_unsealed(name, request_bytes, &made);
    if (error == 0)
        error = knit_segment_reopen_readonly(made, &session->request_fd);
    if (error == 0)
        error = knit_segment_reopen(made, request_fd);
    knit_fd_close(&made);
    /* Without this a worker could reopen its read-only descriptor for writing, through /proc. */
    if (error == 0 && fchmod(*request_fd, 0400) != 0)
        error = -errno;
    (void)snprintf(name, sizeof(name), "knit-reply-%llu", (unsigned long long)session->id);
    if (error == 0)
        error = knit_segment_create(name, reply_bytes, &session->reply_fd);
    if (error == 0)
        error = knit_segment_map(*request_fd, request_bytes, true, &session->request);
    if (error == 0)
        error = knit_segment_map(session->reply_fd, reply_bytes, true, &session->reply);
    if (error != 0)
        return error < 0 ? error : -EIO;
    session->view.geometry = *geometry;
    knit_layout_request(geometry, session->request.base, &session->view.request);
    knit_layout_reply(geometry, session->reply.base, &session->view.reply);
    write_header(
        session->view.request.header, KNIT_SEGMENT_REQUEST, request_bytes, session->id, geometry);
    write_header(
        session->view.reply.header, KNIT_SEGMENT_REPLY, reply_bytes, session->id, geometry);
    error = allocate_ahead(options, session, *request_fd);
    if (error != 0)
        return error;
    if (!session->is_foreign)
        return knit_segment_seal(*request_fd);
    /* Until its caller has sealed it, host and workers do not map it: see attach.c. */
    knit_segment_unmap(&session->request);
    session->view.request = (struct knit_request_view){0};
    return 0;
}

uint64_t knit_segments_cost(
    const struct knit_host_options *options, const struct knit_geometry *geometry)
{
    uint64_t arenas = geometry->reply_arena_bytes * geometry->lanes;
    uint64_t budget = options->reply_budget_bytes;
    /* Each lane may use so much whatever the budget is. */
    uint64_t least = geometry->lanes * (options->call_max_bytes + KNIT_PAGE);
    uint64_t deferred = geometry->lanes * options->call_max_bytes;

    if (budget != 0 && budget < least)
        budget = least;
    return knit_layout_request_bytes(geometry) + knit_layout_reply_bytes(geometry) - arenas +
           deferred + (budget != 0 && budget < arenas ? budget : arenas);
}

int knit_segments_geometry(const struct knit_host_options *options, const struct knit_host_ask *ask,
    struct knit_geometry *ret_geometry)
{
    const uint32_t slots = ask->slots;
    struct knit_geometry geometry = {.version = KNIT_LAYOUT_VERSION,
        .lanes = options->workers,
        .slots = slots,
        .features = (uint32_t)(ask->features & KNIT_FEATURES),
        .classes = ask->classes == 0                 ? 1
                   : ask->classes > KNIT_CLASSES_MAX ? KNIT_CLASSES_MAX
                                                     : (uint32_t)ask->classes,
        .request_arena_bytes = ask->arena_bytes / KNIT_PAGE * KNIT_PAGE,
        .reply_arena_bytes = options->arena_bytes / KNIT_PAGE * KNIT_PAGE};

    if (slots == 0 || slots > KNIT_SLOTS_MAX)
        return KNIT_HOST_E_SIZE;
    geometry.cells = knit_geometry_cells(slots);
    if (knit_geometry_check(&geometry) != NULL)
        return KNIT_HOST_E_SIZE;
    *ret_geometry = geometry;
    return 0;
}

int knit_segments_map_request(struct knit_host_session *session)
{
    const struct knit_geometry *geometry = &session->view.geometry;
    int error;

    if (!knit_segment_is_sealed(session->request_fd))
        return KNIT_HOST_E_UNSEALED;
    error = knit_segment_map(
        session->request_fd, knit_layout_request_bytes(geometry), false, &session->request);
    if (error != 0)
        return error < 0 ? error : -EIO;
    knit_layout_request(geometry, session->request.base, &session->view.request);
    return 0;
}
