/* SPDX-License-Identifier: Apache-2.0 */
/* The response to `$/attach` is small and comes with its descriptors in one piece, so one recvmsg()
 * gets it. Anything else that came first would be a mistake of the daemon and ends the program. */
#include "tests/system/hostile/attached.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <knitting/code.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/rings.h"
#include "proto/walk.h"
#include "proto/writer.h"
#include "tests/support/deadline.h"

enum { RESPONSE_MAX = 4096, PATIENCE_MS = 10000 };

static void die(const char *what)
{
    fprintf(stderr, "hostile: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        die(path);
    return fd;
}

static void send_request(int fd, uint32_t slots, uint64_t arena_bytes)
{
    uint8_t bytes[128];
    struct knit_buffer buffer;
    struct knit_writer writer;

    knit_buffer_init_fixed(&buffer, bytes, sizeof(bytes));
    knit_writer_init(&writer, &buffer);
    knit_writer_array(&writer, 4);
    knit_writer_uint(&writer, 0);
    knit_writer_uint(&writer, 1);
    knit_writer_text(&writer, "$/attach");
    knit_writer_array(&writer, 1);
    knit_writer_map(&writer, 5);
    knit_writer_text(&writer, "version");
    knit_writer_uint(&writer, KNIT_LAYOUT_VERSION);
    knit_writer_text(&writer, "slots");
    knit_writer_uint(&writer, slots);
    knit_writer_text(&writer, "arena");
    knit_writer_uint(&writer, arena_bytes);
    knit_writer_text(&writer, "features");
    knit_writer_uint(&writer, KNIT_FEATURES);
    knit_writer_text(&writer, "classes");
    knit_writer_uint(&writer, KNIT_CLASSES_MAX);
    if (knit_writer_end(&writer) != 0 || send(fd, bytes, buffer.len, MSG_NOSIGNAL) < 0)
        die("$/attach");
}

/* The response, and as many descriptors as came with it. */
static size_t take_response(int fd, uint8_t *ret_bytes, int *ret_fds, size_t *ret_fds_count)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int[ATTACHED_FDS]))];
        struct cmsghdr align;
    } control;
    struct iovec part = {ret_bytes, RESPONSE_MAX};
    struct msghdr message = {.msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes)};
    const struct cmsghdr *head;
    ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);

    if (n <= 0)
        die("the response to $/attach");
    head = CMSG_FIRSTHDR(&message);
    *ret_fds_count = 0;
    if (head != NULL && head->cmsg_type == SCM_RIGHTS) {
        *ret_fds_count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(ret_fds, CMSG_DATA(head), *ret_fds_count * sizeof(int));
    }
    return (size_t)n;
}

/* The result, or the error in its place. */
static struct knit_item outcome_of(const uint8_t *bytes, size_t len, bool *ret_is_error)
{
    struct knit_walk walk;
    struct knit_item item;

    if (knit_walk_array(&walk, knit_span(bytes, len)) != 0)
        die("the response is no array");
    for (int i = 0; i < 4; i++) {
        if (knit_walk_next(&walk, &item) != 0)
            die("the response is short");
        if (i == 2 && item.head.type != KNIT_HEAD_NIL) {
            *ret_is_error = true;
            return item;
        }
    }
    *ret_is_error = false;
    return item;
}

/* Callers that did not send `$/hello` get "201 QUOTA: ..." */
static uint32_t code_of(const struct knit_item *error)
{
    struct knit_span text;

    return knit_item_text(error, &text) && text.len > 3
               ? (uint32_t)strtoul((const char *)text.bytes, NULL, 10)
               : 0;
}

static uint64_t number_of(struct knit_span map, const char *key)
{
    struct knit_item item;
    uint64_t value = 0;

    if (knit_walk_find(map, key, &item) != 0 || !knit_item_uint(&item, &value))
        die(key);
    return value;
}

static void map_all(struct knit_attached *attached)
{
    const struct knit_geometry *geometry = &attached->geometry;

    if (knit_segment_map(attached->fd[BOARD_FD], knit_layout_board_bytes(geometry->lanes), false,
            &attached->board) != 0 ||
        knit_segment_map(attached->fd[REQUEST_FD], knit_layout_request_bytes(geometry), true,
            &attached->request) != 0 ||
        knit_segment_map(attached->fd[REPLY_FD], knit_layout_reply_bytes(geometry), false,
            &attached->reply) != 0)
        die("mapping");
    knit_layout_board(geometry->lanes, attached->board.base, &attached->lanes);
    knit_layout_request(geometry, attached->request.base, &attached->in);
    knit_layout_reply(geometry, attached->reply.base, &attached->out);
    /* All workers look at all of its rings, whatever is there. */
    for (uint32_t i = 0; i < KNIT_LANE_WORDS; i++)
        atomic_store_explicit(&attached->in.occupied[i], UINT64_MAX, memory_order_relaxed);
    atomic_store_explicit(attached->in.classes, UINT32_MAX, memory_order_relaxed);
}

/* One try. Sessions that were closed count until all workers have unmapped them, so the quota of a
 * user may be used up for a moment. */
static bool try_open(struct knit_attached *attached, uint32_t slots, uint64_t arena_bytes)
{
    uint8_t bytes[RESPONSE_MAX];
    struct knit_geometry *geometry = &attached->geometry;
    struct knit_item result;
    size_t len, fds;
    bool is_error;

    attached->socket = connect_to(attached->target->path);
    send_request(attached->socket, slots, arena_bytes);
    len = take_response(attached->socket, bytes, attached->fd, &fds);
    result = outcome_of(bytes, len, &is_error);
    if (is_error && code_of(&result) == KNIT_QUOTA) {
        close(attached->socket);
        return false;
    }
    if (is_error || fds != ATTACHED_FDS) {
        fprintf(stderr, "hostile: refused, or %zu descriptors: %.*s\n", fds, (int)len, bytes);
        exit(1);
    }
    geometry->version = KNIT_LAYOUT_VERSION;
    geometry->lanes = (uint32_t)number_of(result.raw, "lanes");
    geometry->slots = (uint32_t)number_of(result.raw, "slots");
    geometry->cells = (uint32_t)number_of(result.raw, "cells");
    geometry->features = (uint32_t)number_of(result.raw, "features");
    geometry->classes = (uint32_t)number_of(result.raw, "classes");
    geometry->request_arena_bytes = number_of(result.raw, "request_arena");
    geometry->reply_arena_bytes = number_of(result.raw, "reply_arena");
    return true;
}

void knit_attached_open_unsealed(struct knit_attached *attached, const struct knit_target *target,
    uint32_t slots, uint64_t arena_bytes)
{
    *attached = (struct knit_attached){.target = target};
    if (!KNIT_WAIT_UNTIL(try_open(attached, slots, arena_bytes), PATIENCE_MS)) {
        fprintf(stderr, "hostile: sessions that were closed are not freed\n");
        exit(1);
    }
    map_all(attached);
    attached->tail = calloc(attached->geometry.lanes, sizeof(*attached->tail));
    attached->gen = calloc(attached->geometry.slots, sizeof(*attached->gen));
    if (attached->tail == NULL || attached->gen == NULL)
        die("memory");
}

void knit_attached_send_attached(const struct knit_attached *attached)
{
    static const char bytes[] = "\x93\x02\xaa$/attached\x90";

    if (send(attached->socket, bytes, sizeof(bytes) - 1, MSG_NOSIGNAL) < 0)
        die("$/attached");
}

void knit_attached_open(struct knit_attached *attached, const struct knit_target *target,
    uint32_t slots, uint64_t arena_bytes)
{
    knit_attached_open_unsealed(attached, target, slots, arena_bytes);
    if (knit_segment_seal(attached->fd[REQUEST_FD]) != 0)
        die("sealing");
    knit_attached_send_attached(attached);
}

void knit_attached_close(struct knit_attached *attached)
{
    knit_segment_unmap(&attached->board);
    knit_segment_unmap(&attached->request);
    knit_segment_unmap(&attached->reply);
    for (int i = 0; i < ATTACHED_FDS; i++)
        close(attached->fd[i]);
    close(attached->socket);
    free(attached->tail);
    free(attached->gen);
}

uint32_t knit_attached_refusal(const struct knit_target *target)
{
    uint8_t bytes[RESPONSE_MAX];
    int socket = connect_to(target->path), given[ATTACHED_FDS];
    struct knit_item error;
    size_t len, fds;
    bool is_error;

    send_request(socket, 0, 0);
    len = take_response(socket, bytes, given, &fds);
    error = outcome_of(bytes, len, &is_error);
    for (size_t i = 0; i < fds; i++)
        close(given[i]);
    close(socket);
    return is_error ? code_of(&error) : 0;
}

bool knit_attached_is_over(const struct knit_attached *attached)
{
    struct pollfd control = {.fd = attached->socket, .events = POLLIN | POLLRDHUP};
    char byte;

    if (atomic_load_explicit(&attached->out.state->state, memory_order_acquire) != KNIT_STATE_OPEN)
        return true;
    return poll(&control, 1, 0) > 0 &&
           recv(attached->socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

bool knit_attached_ends(const struct knit_attached *attached, uint32_t timeout_ms)
{
    return KNIT_WAIT_UNTIL(knit_attached_is_over(attached), timeout_ms);
}

static bool is_free(const struct knit_attached *attached, uint32_t slot)
{
    uint64_t word = atomic_load_explicit(&attached->out.reply[slot].word, memory_order_acquire);

    return knit_word_gen(word) == attached->gen[slot];
}

uint32_t knit_attached_free_slot(const struct knit_attached *attached)
{
    for (uint32_t slot = 0; slot < attached->geometry.slots; slot++) {
        if (is_free(attached, slot))
            return slot;
    }
    return UINT32_MAX;
}

uint64_t knit_attached_ctrl(const struct knit_attached *attached, uint32_t lane, uint32_t slot)
{
    return knit_ctrl(knit_gen_next(attached->gen[slot]), slot,
        knit_tag(attached->tail[lane], attached->geometry.cells));
}

static struct knit_request_cell *cell_at(const struct knit_attached *attached, uint32_t lane)
{
    uint32_t cells = attached->geometry.cells;

    return knit_layout_ring(&attached->geometry, &attached->in, lane, attached->ring) +
           (attached->tail[lane] & (cells - 1));
}

/* As a caller does behind a call of another ring, so that a worker looks there that has found this
 * session idle for long. */
static void stir(struct knit_attached *attached, uint32_t lane)
{
    _Atomic uint64_t *ctrl =
        &knit_layout_ring(&attached->geometry, &attached->in, lane, KNIT_RING_NORMAL)->ctrl;

    if (attached->ring != KNIT_RING_NORMAL)
        (void)atomic_fetch_sub_explicit(ctrl, (uint64_t)1 << KNIT_GEN_SHIFT, memory_order_release);
}

void knit_attached_call_in(
    struct knit_attached *attached, uint32_t slot, const void *payload, size_t len, uint64_t offset)
{
    uint32_t lane = slot % attached->geometry.lanes;
    struct knit_request_cell *cell = cell_at(attached, lane);
    bool in_arena = len > KNIT_SLAB_BYTES;
    uint32_t flags = in_arena ? KNIT_CELL_IN_ARENA : 0;
    uint64_t ctrl = knit_attached_ctrl(attached, lane, slot);

    atomic_store_explicit(&attached->in.released[slot], attached->gen[slot], memory_order_release);
    attached->gen[slot] = knit_gen_next(attached->gen[slot]);
    if (in_arena) {
        memcpy(attached->in.arena + offset, payload, len);
        atomic_store_explicit(&cell->body[0], offset, memory_order_relaxed);
    } else if (len > KNIT_INLINE_MAX) {
        memcpy(knit_slab(attached->in.slab, slot), payload, len);
    } else {
        for (size_t i = 0; i < len; i += 8) {
            uint64_t word = 0;

            memcpy(&word, (const char *)payload + i, len - i < 8 ? len - i : 8);
            atomic_store_explicit(&cell->body[i / 8], word, memory_order_relaxed);
        }
    }
    atomic_store_explicit(&cell->deadline, 0, memory_order_relaxed);
    atomic_store_explicit(&cell->meta,
        knit_meta(attached->target->task, attached->target->epoch, flags, (uint32_t)len),
        memory_order_relaxed);
    atomic_store_explicit(&cell->ctrl, ctrl, memory_order_release);
    attached->tail[lane]++;
    stir(attached, lane);
}

bool knit_attached_call(
    struct knit_attached *attached, const void *payload, size_t len, uint64_t offset)
{
    uint32_t slot = knit_attached_free_slot(attached);

    if (slot == UINT32_MAX)
        return false;
    knit_attached_call_in(attached, slot, payload, len, offset);
    return true;
}

void knit_attached_put(
    struct knit_attached *attached, uint32_t lane, uint64_t ctrl, uint64_t meta, uint64_t body)
{
    struct knit_request_cell *cell = cell_at(attached, lane);

    atomic_store_explicit(&cell->body[0], body, memory_order_relaxed);
    atomic_store_explicit(&cell->deadline, 0, memory_order_relaxed);
    atomic_store_explicit(&cell->meta, meta, memory_order_relaxed);
    atomic_store_explicit(&cell->ctrl, ctrl, memory_order_release);
    attached->tail[lane]++;
}

void knit_attached_notify(struct knit_attached *attached)
{
    knit_bell_fence();
    for (uint32_t lane = 0; lane < attached->geometry.lanes; lane++) {
        atomic_fetch_add_explicit(&attached->in.bell[lane], 1, memory_order_release);
        knit_bell_wake(&attached->in.bell[lane], 1);
    }
}

uint32_t knit_attached_pending(const struct knit_attached *attached)
{
    uint32_t pending = 0;

    for (uint32_t slot = 0; slot < attached->geometry.slots; slot++)
        pending += !is_free(attached, slot);
    return pending;
}

bool knit_attached_is_answered(const struct knit_attached *attached, uint32_t timeout_ms)
{
    return KNIT_WAIT_UNTIL(knit_attached_pending(attached) == 0, timeout_ms);
}

bool knit_attached_outcome(
    const struct knit_attached *attached, uint32_t slot, struct knit_attached_outcome *ret)
{
    const struct knit_reply_cell *cell = &attached->out.reply[slot];
    uint64_t word = atomic_load_explicit(&cell->word, memory_order_acquire);
    uint64_t meta = atomic_load_explicit(&cell->meta, memory_order_relaxed);
    uint64_t block = atomic_load_explicit(&cell->block, memory_order_relaxed);
    uint64_t arena = attached->geometry.reply_arena_bytes;
    uint32_t lane = knit_meta_task(meta);

    ret->is_result = knit_word_status(word) == KNIT_STATUS_RESULT;
    ret->in_arena = (knit_word_flags(word) & KNIT_CELL_IN_ARENA) != 0;
    ret->len = knit_meta_len(meta);
    ret->bytes = (const unsigned char *)cell->body;
    if (ret->in_arena)
        ret->bytes = attached->out.arena + lane * arena + block;
    else if (ret->len > KNIT_INLINE_MAX)
        ret->bytes = knit_slab(attached->out.slab, slot);
    if (lane < attached->geometry.lanes &&
        (ret->in_arena ? block <= arena && ret->len <= arena - block : ret->len <= KNIT_SLAB_BYTES))
        return true;
    printf(
        "an outcome of %zu bytes at %llu of lane %u\n", ret->len, (unsigned long long)block, lane);
    return false;
}

bool knit_attached_is_served(struct knit_attached *attached)
{
    static const unsigned char params[] = {0x91, 0x07};

    /* All slots are free each time. */
    for (uint32_t i = 0; i < 100; i++) {
        knit_attached_call_in(attached, i % attached->geometry.lanes, params, sizeof(params), 0);
        knit_attached_notify(attached);
        if (!knit_attached_is_answered(attached, PATIENCE_MS))
            return false;
    }
    return true;
}
