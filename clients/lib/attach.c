/* SPDX-License-Identifier: Apache-2.0 */
/* Attaching goes by questions: for the segments, for the host's clock if it differs from ours, for
 * the tasks. Each answer leads to the next one, so nobody waits here.
 *
 * Nothing that comes with `$/attach` is trusted: the number of descriptors, the geometry, the seals
 * and sizes of the segments are checked before anything is mapped. Forked children do not inherit
 * the mappings, so a child that goes on using the session can only be told so.
 *
 * The daemon trusts this side no more: it serves the session once the request segment is sealed
 * (fastpath/lane/segment.h) and `$/attached` says so, which is sent ahead of the query for the
 * registry.
 */
#include "clients/lib/attach.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clients/lib/admin_calls.h"
#include "clients/lib/client.h"
#include "clients/lib/error.h"
#include "config.h"
#include "fastpath/control/registry.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/clock.h"
#include "fastpath/lane/fd.h"
#include "fastpath/lane/segment.h"
#include "proto/attach.h"

/* In the order in which the daemon sends them. */
enum { BOARD_FD, REQUEST_FD, REPLY_FD, BELL_FD, HOST_FD, FDS };

enum {
    SPIN_US_DEFAULT = 50,
    CLOCK_ASKS_MAX = 8, /* until the clock of the day has to stand still for one of them */
};

/* What lanes of this source lie in, and how far attaching is. */
struct knit_attachment {
    struct knit *k;
    struct knit_open_options options;
    struct knit_question *question; /* NULL once the lanes are there */
    enum { ATTACH_GRANT, ATTACH_CLOCK, ATTACH_TASKS } asked;
    uint64_t asked_at; /* the difference of our clocks then */
    int clock_asks;
    struct knit_lanes *lanes;       /* until they are given away */
    struct knit_admin_page page;    /* of the tasks that are asked for, */
    struct knit_registry *registry; /* and those that came */
    struct knit_geometry geometry;
    struct knit_mapping board, request, reply;
    uint64_t argument_max;
    bool steal;
    enum knit_balancer balancer;
    bool asks_host;   /* HOST_FD comes too */
    bool knows_clock; /* as of the last answer, and then: */
    int64_t clock_shift;
};

/* An answer's `clock`, with what ours was before the question. Without one there is one clock. */
static void note_clock(struct knit_attachment *attachment, uint64_t before, struct knit_span result)
{
    uint64_t host = knit_attach_clock(result);

    attachment->clock_shift = 0;
    attachment->knows_clock =
        host == KNIT_ATTACH_UNUSABLE ||
        knit_clock_shift(before, knit_clock_difference(), host, &attachment->clock_shift);
}

/* One that this library does not know chooses as the usual one does. */
static enum knit_balancer balancer_of(struct knit_span name)
{
    enum knit_balancer balancer = KNIT_BALANCER_ROUND_ROBIN;
    char text[32];

    if (name.len == 0 || name.len >= sizeof(text))
        return balancer;
    memcpy(text, name.bytes, name.len);
    text[name.len] = '\0';
    return knit_balancer_parse(text, &balancer) ? balancer : KNIT_BALANCER_ROUND_ROBIN;
}

/* What the daemon answered: the geometry, the most one argument may be, whether workers steal. */
static int read_grant(
    struct knit_span result, struct knit_attachment *attachment, struct knit_error *ret_error)
{
    struct knit_geometry *geometry = &attachment->geometry;
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
        {"features", &reply.features, UINT32_MAX},
        {"classes", &reply.classes, KNIT_CLASSES_MAX},
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
                (unsigned long long)reply.layout, KNIT_VERSION, KNIT_LAYOUT_VERSION);
    }
    geometry->version = (uint32_t)reply.layout;
    geometry->lanes = (uint32_t)reply.lanes;
    geometry->slots = (uint32_t)reply.slots;
    geometry->cells = (uint32_t)reply.cells;
    geometry->request_arena_bytes = reply.request_arena_bytes;
    geometry->reply_arena_bytes = reply.reply_arena_bytes;
    geometry->features = (uint32_t)reply.features;
    geometry->classes = (uint32_t)reply.classes;
    wrong = knit_geometry_check(geometry);
    if (wrong != NULL)
        return knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "the daemon's answer to $/attach: %s", wrong);
    /* Calls set any of their flags, and one that was not granted ends the session. */
    if (geometry->features != KNIT_FEATURES)
        return knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "the daemon grants features 0x%x of the 0x%x that this library (%s) needs; use unix:// "
            "or install the same version of both",
            geometry->features, KNIT_FEATURES, KNIT_VERSION);
    attachment->argument_max = reply.call_max_bytes;
    attachment->steal = reply.steal;
    attachment->balancer = balancer_of(reply.balancer);
    attachment->asks_host = reply.asks_host;
    return KNIT_OK;
}

static int map_segments(
    struct knit_attachment *attachment, const int *fds, struct knit_error *ret_error)
{
    const struct knit_geometry *geometry = &attachment->geometry;
    const struct {
        const char *name;
        int fd;
        uint64_t bytes;
        bool writable;
        struct knit_mapping *to;
    } segments[] = {
        {"board", fds[BOARD_FD], knit_layout_board_bytes(geometry->lanes), false,
            &attachment->board},
        {"request", fds[REQUEST_FD], knit_layout_request_bytes(geometry), true,
            &attachment->request},
        {"reply", fds[REPLY_FD], knit_layout_reply_bytes(geometry), false, &attachment->reply},
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

static const uint8_t no_params = 0x90;

/* What the pool waits for before it looks at our requests. */
static int seal(struct knit_attachment *attachment, int request_fd, struct knit_error *ret_error)
{
    int r = knit_segment_seal(request_fd);

    if (r != 0)
        return knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "the daemon's request segment cannot be used: it takes no further seal (%s); use "
            "unix:// or install the same version of both",
            strerror(-r));
    if (knit_stream_notify(attachment->question->stream, "$/attached", knit_span(&no_params, 1)) !=
        KNIT_OK)
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for a session");
    return KNIT_OK;
}

/* Of a socket of another kind the last close could wait. */
static bool is_unix_socket(int fd)
{
    int domain = 0;
    socklen_t size = sizeof(domain);

    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

/* An eventfd lies in the file system that has no files but such. A write to any of these ends at
 * once, while O_NONBLOCK is set or the counter has room; only the daemon could change both. */
static bool is_eventfd(int fd)
{
    struct stat given, own;
    int like = eventfd(0, EFD_CLOEXEC);
    bool is_one = like >= 0 && fstat(like, &own) == 0 && fstat(fd, &given) == 0 &&
                  given.st_dev == own.st_dev && (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;

    if (like >= 0)
        (void)close(like);
    return is_one;
}

static int open_session(const struct knit_attachment *attachment,
    const struct knit_open_options *options, const struct knit_lanes_options *lanes,
    struct knit_session **ret, struct knit_error *ret_error)
{
    const struct knit_geometry *geometry = &attachment->geometry;
    struct knit_session_options session = {
        .steal = attachment->steal,
        .balancer = attachment->balancer,
        .argument_max_bytes = attachment->argument_max,
        .spin_us = options->no_spin        ? 0
                   : options->spin_us != 0 ? options->spin_us
                                           : SPIN_US_DEFAULT,
        .bell_fd = lanes->bell_fd,
        .bell_is_socket = true,
        .asks_host = attachment->asks_host,
        .host_fd = lanes->host_fd,
    };
    struct knit_request_view request;
    struct knit_reply_view reply;
    struct knit_board_view board;

    session.random_seed = knit_clock_ns() ^ (uint64_t)getpid() << 32;
    knit_layout_request(geometry, attachment->request.base, &request);
    knit_layout_reply(geometry, attachment->reply.base, &reply);
    knit_layout_board(geometry->lanes, attachment->board.base, &board);
    if (knit_session_new(geometry, &request, &reply, &board, &session, ret) != 0)
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for a session");
    return KNIT_OK;
}

/* ---- as a source of lanes ---- */

static int fetch_registry(
    void *arg, uint64_t until_ns, struct knit_registry **ret, struct knit_error *ret_error)
{
    const struct knit_attachment *attachment = arg;

    return knit_admin_fetch_registry(attachment->k, until_ns, ret, ret_error);
}

/* A forked child does not have the mappings, and may have others in their place. */
static void free_attachment(struct knit_attachment *attachment, bool is_ours)
{
    if (is_ours) {
        knit_segment_unmap(&attachment->board);
        knit_segment_unmap(&attachment->request);
        knit_segment_unmap(&attachment->reply);
    }
    (void)knit_registry_free(attachment->registry);
    free(attachment);
}

static void free_lanes(const struct knit_lanes_options *lanes, bool is_ours)
{
    int bell_fd = lanes->bell_fd, host_fd = lanes->host_fd;

    (void)knit_session_free(lanes->session);
    knit_fd_close(&bell_fd);
    knit_fd_close(&host_fd);
    free_attachment(lanes->arg, is_ours);
}

static const struct knit_lanes_source attach_source = {
    .fetch_registry = fetch_registry,
    .free = free_lanes,
};

/* ---- attaching ---- */

/* The descriptors that came, for what the daemon granted. */
static int take_grant(struct knit_attachment *attachment, struct knit_error *ret_error)
{
    struct knit_transport *transport = &attachment->question->stream->transport;
    uint32_t wanted = attachment->asks_host ? FDS : FDS - 1;
    int code;

    if (transport->fds_count != wanted)
        return knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "the daemon sent %u descriptors instead of %u", transport->fds_count, wanted);
    code = map_segments(attachment, transport->fds, ret_error);
    if (code == KNIT_OK && !is_unix_socket(transport->fds[BELL_FD]))
        code = knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "the daemon's bell cannot be used: it is no unix socket");
    if (code == KNIT_OK && attachment->asks_host && !is_eventfd(transport->fds[HOST_FD]))
        code = knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "the daemon's descriptor for wake-ups cannot be used: it is no eventfd");
    return code;
}

static int take_fd(struct knit_transport *transport, int index)
{
    int fd = transport->fds[index];

    transport->fds[index] = -1;
    return fd;
}

/* The lanes own the attachment from now on. */
static int make_lanes(struct knit_attachment *attachment, struct knit_error *ret_error)
{
    struct knit_transport *transport = &attachment->question->stream->transport;
    struct knit_lanes_options lanes = {
        .source = &attach_source,
        .arg = attachment,
        .bell_fd = take_fd(transport, BELL_FD),
        .host_fd = attachment->asks_host ? take_fd(transport, HOST_FD) : -1,
        .slots = attachment->geometry.slots,
        .reply_arena_bytes = attachment->geometry.reply_arena_bytes,
        .argument_max = attachment->argument_max,
    };
    int code = open_session(attachment, &attachment->options, &lanes, &lanes.session, ret_error);

    if (code == KNIT_OK) {
        attachment->lanes = knit_lanes_new(&lanes);
        if (attachment->lanes != NULL)
            return KNIT_OK;
        code = knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for a session");
    }
    (void)knit_session_free(lanes.session);
    knit_fd_close(&lanes.bell_fd);
    knit_fd_close(&lanes.host_fd);
    return code;
}

/* `$/attach` was answered. */
static int take_answer(
    struct knit_attachment *attachment, struct knit_span result, struct knit_error *ret_error)
{
    struct knit_transport *transport = &attachment->question->stream->transport;
    int code;

    knit_transport_want_fds(transport, false);
    note_clock(attachment, attachment->asked_at, result);
    code = read_grant(result, attachment, ret_error);
    if (code == KNIT_OK)
        code = take_grant(attachment, ret_error);
    /* A daemon that grants what cannot be used will do so again. */
    if (code == KNIT_DISCONNECTED)
        knit_error_set_lasting(ret_error);
    if (code == KNIT_OK)
        code = make_lanes(attachment, ret_error);
    if (code == KNIT_OK)
        code = seal(attachment, transport->fds[REQUEST_FD], ret_error);
    knit_transport_close_fds(transport);
    return code;
}

static int ask_for_tasks(struct knit_attachment *attachment, struct knit_error *ret_error)
{
    uint8_t bytes[KNIT_ADMIN_QUERY_BYTES];
    const struct knit_span params = knit_admin_put_query(&attachment->page, bytes);

    attachment->asked = ATTACH_TASKS;
    return knit_question_ask(attachment->question, "$/tasks", params, ret_error);
}

/* A shift counts when two answers in a row tell of it: had the clock of the day been set forth and
 * back while the daemon answered, one alone would be wrong. */
static int ask_for_clock(
    struct knit_attachment *attachment, bool is_sure, struct knit_error *ret_error)
{
    if (is_sure || (attachment->knows_clock && attachment->clock_shift == 0)) {
        knit_lanes_set_clock_shift(attachment->lanes, attachment->clock_shift);
        return ask_for_tasks(attachment, ret_error);
    }
    if (attachment->clock_asks++ == CLOCK_ASKS_MAX)
        return knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "the clock of this machine is set again and again, so this process's clock cannot be "
            "compared with the daemon's; try again");
    attachment->asked = ATTACH_CLOCK;
    attachment->asked_at = knit_clock_difference();
    return knit_question_ask(
        attachment->question, "$/attached", knit_span(&no_params, 1), ret_error);
}

static int take_clock(
    struct knit_attachment *attachment, struct knit_span result, struct knit_error *ret_error)
{
    const bool knew_clock = attachment->knows_clock;
    const int64_t known = attachment->clock_shift;

    note_clock(attachment, attachment->asked_at, result);
    return ask_for_clock(attachment,
        knew_clock && attachment->knows_clock && knit_clock_is_near(known, attachment->clock_shift),
        ret_error);
}

/* KNIT_OK: there are no more. */
static int take_tasks(
    struct knit_attachment *attachment, struct knit_span result, struct knit_error *ret_error)
{
    int code = knit_admin_read_tasks(result, &attachment->page, &attachment->registry, ret_error);

    if (code != KNIT_OK)
        return code;
    if (!attachment->page.more)
        return KNIT_OK;
    code = ask_for_tasks(attachment, ret_error);
    return code == KNIT_OK ? KNIT_PENDING : code;
}

int knit_attach_begin(struct knit *k, struct knit_question *question,
    const struct knit_open_options *options, struct knit_attachment **ret,
    struct knit_error *ret_error)
{
    const struct knit_attach_request request = {
        .version = KNIT_LAYOUT_VERSION,
        .slots = options->slots,
        .arena_bytes = options->arena_bytes,
        .features = KNIT_FEATURES,
        .classes = KNIT_CLASSES_MAX,
    };
    struct knit_attachment *attachment = calloc(1, sizeof(*attachment));
    uint8_t bytes[128];
    struct knit_buffer params;
    int code;

    if (attachment == NULL)
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for a session");
    attachment->k = k;
    attachment->options = *options;
    attachment->question = question;
    attachment->page = knit_admin_first_page();
    knit_buffer_init_fixed(&params, bytes, sizeof(bytes));
    (void)knit_attach_request_put(&params, &request);
    knit_transport_want_fds(&question->stream->transport, true);
    attachment->asked_at = knit_clock_difference();
    code = knit_question_ask(question, "$/attach", knit_buffer_span(&params), ret_error);
    if (code == KNIT_OK)
        *ret = attachment;
    else
        free(attachment);
    return code;
}

int knit_attach_step(struct knit_attachment *attachment, struct knit_buffer *copy,
    struct knit_lanes **ret, struct knit_error *ret_error)
{
    struct knit_span result;
    int code = knit_question_step(attachment->question, copy, &result, ret_error);

    if (code == KNIT_OK && attachment->asked == ATTACH_GRANT) {
        code = take_answer(attachment, result, ret_error);
        if (code == KNIT_OK)
            code = ask_for_clock(attachment, false, ret_error);
    } else if (code == KNIT_OK && attachment->asked == ATTACH_CLOCK) {
        code = take_clock(attachment, result, ret_error);
    } else if (code == KNIT_OK) {
        code = take_tasks(attachment, result, ret_error);
        if (code != KNIT_OK)
            return code;
        knit_lanes_take_registry(attachment->lanes, attachment->registry);
        *ret = attachment->lanes;
        attachment->registry = NULL;
        attachment->lanes = NULL;
        attachment->question = NULL;
        return KNIT_OK;
    }
    return code == KNIT_OK ? KNIT_PENDING : code;
}

struct knit_attachment *knit_attach_free(struct knit_attachment *attachment, bool is_ours)
{
    if (attachment == NULL)
        return NULL;
    if (is_ours && attachment->lanes == NULL)
        knit_transport_close_fds(&attachment->question->stream->transport);
    if (attachment->lanes != NULL)
        (void)knit_lanes_free(attachment->lanes, is_ours);
    else
        free_attachment(attachment, is_ours);
    return NULL;
}
