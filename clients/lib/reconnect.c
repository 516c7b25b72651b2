/* SPDX-License-Identifier: Apache-2.0 */
/* The steps from one connection to the next.
 *
 * A connection that is lost takes what was sent on it along: those calls end in DISCONNECTED, since
 * nobody knows how far they came. What was certainly not started is shelved (promise.h), as are the
 * calls that begin while there is no connection, and goes on when there is one. They wait for
 * connect_ms, from the loss on; when that is over they end, and later ones end at once, while
 * attempts go on.
 *
 * The first attempt comes at once, but for a few milliseconds by chance, for the sessions of many
 * programs are lost together. Further ones are spaced by decorrelated jitter: each waits for a
 * chance time between the least one and three times the last. A connection that was lost as soon as
 * it served counts as an attempt that failed.
 *
 * A URL that names several places is gone through from one to the next, and from a place that was
 * lost to the one behind it, as long as none serves. While one does, further ones are opened for
 * its endpoints (spread.h), each with its own failures and pauses, and calls are shared among them
 * (choose.h).
 *
 * One whose server says `$/goaway` is left beside: the next one is opened at once, while the calls
 * of the old one go on there. When another `$/goaway` comes before these are over, and there is no
 * place for one more, the connection that it concerns stays until its own are, and so does one with
 * lanes: of those there is one set.
 *
 * Numbers of tasks, references and places are one connection's: a handle remembers its stream.
 */
#include "clients/lib/reconnect.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/lib/attach.h"
#include "clients/lib/chance.h"
#include "clients/lib/choose.h"
#include "clients/lib/client.h"
#include "clients/lib/endpoints.h"
#include "clients/lib/error.h"
#include "clients/lib/lost.h"
#include "clients/lib/resolve.h"
#include "clients/lib/spread.h"
#include "clients/lib/tls.h"
#include "clients/lib/token.h"
#include "config.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/fd.h"
#include "proto/hello.h"

enum {
    HELLO_BYTES_MAX = 4096,
    WORKERS_MAX = 1 << 16, /* of a server that are believed */
    FIRST_MS = 10,         /* the first attempt after a loss comes within */
    BACKOFF_MS = 50,       /* the least time between two attempts, */
    BACKOFF_MAX_MS = 5000, /* and the most */
    STEADY_MS = 1000,      /* a connection that serves for so long was no failure */
    BESIDE_MS = 2000,      /* an attempt may take while another connection serves */
    LOOK_MS = 250,         /* so often several connections are looked at */
};

static const uint64_t ms = 1000000;

/* From 0 to below `end`, which is not 0. */
static uint64_t chance(struct knit_link *link, uint64_t end)
{
    return knit_chance_next(&link->random) % end;
}

static const struct knit_url *link_url(const struct knit_link *link)
{
    return &link->urls[link->at];
}

/* The next attempt is at another place. False: all have been tried, and the next one waits. */
static bool try_next(struct knit_link *link)
{
    link->at = (link->at + 1) % link->url_count;
    if (++link->tried < link->url_count)
        return true;
    link->tried = 0;
    return false;
}

/* ---- several streams ---- */

static bool is_being_opened(const struct knit_link *link, const struct knit_stream *stream)
{
    return stream == link->stream && link->state >= KNIT_LINK_BACKOFF &&
           link->state < KNIT_LINK_SERVING;
}

static void gather(struct knit *k)
{
    struct knit_handles *handles = &k->handles;
    struct knit_stream *list = NULL;

    for (uint32_t i = KNIT_STREAMS_MAX; i-- > 0;) {
        struct knit_stream *stream = &k->link.streams[i];

        if (!knit_stream_is_open(stream) || is_being_opened(&k->link, stream))
            continue;
        stream->is_out = stream->is_out || stream->has_goaway;
        stream->next = list;
        list = stream;
    }
    handles->several = list == handles->stream && list->next == NULL ? NULL : list;
}

/* One that takes no calls is followed by another, if there is one. */
static void settle(struct knit *k)
{
    struct knit_handles *handles = &k->handles;

    handles->lacks_any = k->link.endpoints != NULL && knit_spread_lacks_any(k);
    gather(k);
    if (handles->several == NULL || knit_stream_takes_calls(handles->stream))
        return;
    knit_handles_choose(handles, NULL);
    gather(k);
}

static void regroup(struct knit *k)
{
    if (k->link.endpoints != NULL)
        knit_spread_look(k, knit_clock_ns());
    settle(k);
    k->link.is_due = k->link.endpoints != NULL;
}

static struct knit_stream *free_stream(struct knit_link *link)
{
    for (uint32_t i = 0; i < KNIT_STREAMS_MAX; i++)
        if (!knit_stream_is_open(&link->streams[i]))
            return &link->streams[i];
    assert(false);
    return &link->streams[0];
}

/* ---- the end of an attempt ---- */

static void stop_watching(struct knit *k)
{
    knit_poll_fd_set_opening(&k->poll_fd, -1, false);
    k->link.fd = -1;
    k->link.wants_write = false;
}

/* Another thread may fork() meanwhile, whose child closes what the link still has. */
static void drop_connecting(struct knit_link *link)
{
    struct knit_connecting *connecting = link->connecting;

    link->connecting = NULL;
    (void)knit_connect_free(connecting);
}

static void drop_attempt(struct knit *k, bool is_ours)
{
    struct knit_link *link = &k->link;

    drop_connecting(link);
    link->attachment = knit_attach_free(link->attachment, is_ours);
    knit_question_fini(&link->question);
}

static void end_attempt(struct knit *k)
{
    stop_watching(k);
    drop_attempt(k, true);
    knit_stream_break(k->link.stream, "opening failed");
    k->link.state = KNIT_LINK_BACKOFF;
}

static void back_off(struct knit *k, uint64_t now_ns)
{
    struct knit_link *link = &k->link;
    uint64_t most_ns = 3 * link->backoff_ns;

    if (most_ns < 2 * BACKOFF_MS * ms)
        most_ns = 2 * BACKOFF_MS * ms;
    if (most_ns > BACKOFF_MAX_MS * ms)
        most_ns = BACKOFF_MAX_MS * ms;
    link->backoff_ns = BACKOFF_MS * ms + chance(link, most_ns - BACKOFF_MS * ms);
    link->due_ns = now_ns + link->backoff_ns;
}

/* ---- the steps of an attempt ---- */

static int begin(struct knit *k, struct knit_error *ret_error)
{
    struct knit_link *link = &k->link;
    const struct knit_endpoint *tried = link->tried_endpoint;
    uint64_t most_ns = (uint64_t)k->admin_ms * ms / link->url_count;
    int code;

    if (tried != NULL && most_ns > BESIDE_MS * ms)
        most_ns = BESIDE_MS * ms;
    link->until_ns = knit_clock_ns() + most_ns;
    /* The address of a host that has one alone is looked up each time. */
    if (tried != NULL && tried->has_address &&
        knit_endpoints_count_of(link->endpoints, tried->url) > 1)
        code = knit_connect_begin_at(
            link_url(link), &tried->address.any, link->until_ns, &link->connecting, ret_error);
    else
        code = knit_connect_begin(
            link_url(link), link->until_ns, &link->lookups[link->at], &link->connecting, ret_error);
    if (code == KNIT_OK)
        link->state = KNIT_LINK_CONNECTING;
    return code;
}

static int say_hello(struct knit *k, struct knit_error *ret_error)
{
    struct knit_link *link = &k->link;
    struct knit_hello hello = {
        .name = knit_span_text(link->name != NULL ? link->name : "libknitting"),
        .version = knit_span_text(KNIT_VERSION),
    };
    char room[KNIT_TOKEN_BYTES_MAX + 1];
    struct knit_buffer params;
    int code = knit_token_say(
        k->token, link->stream->transport.fd, k->tls != NULL, room, &hello.token, ret_error);

    if (code != KNIT_OK)
        return code;
    knit_buffer_init(&params, HELLO_BYTES_MAX);
    if (knit_hello_put(&params, &hello) != 0)
        code = knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "the name for the daemon's logs is too long, or no UTF-8");
    else
        code = knit_question_ask(&link->question, "$/hello", knit_buffer_span(&params), ret_error);
    explicit_bzero(room, sizeof(room));
    knit_buffer_fini(&params);
    link->state = KNIT_LINK_HELLO;
    return code;
}

static int connect_to(struct knit *k, struct knit_error *ret_error)
{
    struct knit_link *link = &k->link;
    struct knit_transport transport;
    int fd, code = knit_connect_step(link->connecting, &fd, ret_error);

    link->state =
        knit_connect_is_resolving(link->connecting) ? KNIT_LINK_RESOLVING : KNIT_LINK_CONNECTING;
    link->fd = knit_connect_fd(link->connecting);
    link->due_ns = knit_connect_due_ns(link->connecting);
    if (code != KNIT_OK)
        return code;
    stop_watching(k);
    link->until_ns = knit_connect_share_ns(link->connecting);
    knit_transport_init_plain(&transport, fd);
    knit_stream_fini(link->stream);
    if (knit_stream_init(link->stream, &knit_question_callbacks, &transport, link->slots) != 0)
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for a session");
    link->stream->watched_by = &k->poll_fd;
    link->stream->number = (uint32_t)(link->stream - link->streams);
    knit_question_init(&link->question, link->stream);
    if (k->tls != NULL)
        code =
            knit_transport_begin_tls(&link->stream->transport, k->tls, link_url(link), ret_error);
    return code == KNIT_OK ? say_hello(k, ret_error) : code;
}

/* Calls take it from now on. */
static void serve(struct knit *k, struct knit_lanes *lanes)
{
    struct knit_handles *handles = &k->handles;
    struct knit_link *link = &k->link;

    stop_watching(k);
    link->served_ns = knit_clock_ns();
    link->stream->serial = ++link->served;
    if (link->endpoints != NULL)
        knit_spread_serve(
            k, link->tried_endpoint, knit_connect_list(link->connecting), link->served_ns);
    drop_attempt(k, true);
    link->stream->callbacks = &knit_handle_stream_callbacks;
    handles->stream = link->stream;
    handles->lanes = lanes;
    if (lanes != NULL && link->age != 0)
        knit_lanes_follow(lanes, link->age);
    knit_poll_fd_add(&k->poll_fd, link->stream->transport.fd);
    if (lanes != NULL)
        knit_poll_fd_add(&k->poll_fd, knit_lanes_bell_fd(lanes));
    handles->returns = !link->options.stays_lost;
    handles->is_leaving = false;
    link->due_ns = link->patient_ns = UINT64_MAX;
    k->next_lease_check_ns = 0;
    if (++k->tasks_age == 0)
        k->tasks_age = 1;
    link->stream->tasks_age = k->tasks_age;
    link->tried = 0;
    link->tried_endpoint = NULL;
    link->state = KNIT_LINK_SERVING;
    settle(k);
    link->is_due = link->endpoints != NULL;
    if (link->is_due)
        link->tend_ns = 0;
}

/* A number for each text, and 0 for none: to be compared alone (FNV-1a). */
static uint64_t digest(struct knit_span text)
{
    uint64_t number = 0xcbf29ce484222325u;

    for (size_t i = 0; i < text.len; i++)
        number = (number ^ text.bytes[i]) * 0x100000001b3u;
    return text.len > 0 ? number | 1 : 0;
}

static int take_hello(struct knit_link *link, struct knit_span result, struct knit_error *ret_error)
{
    struct knit_hello_reply reply;
    const char *reason;
    int code;

    if (knit_hello_reply_decode(result, &reply, &reason) != 0) {
        code = knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "the server answered $/hello with something else: %s", reason);
        knit_error_set_lasting(ret_error);
        return code;
    }
    if (reply.protocol != KNIT_PROTOCOL_VERSION) {
        code = knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "the server (%.*s %.*s) speaks version %llu of the protocol, this library (%s) "
            "version %u",
            (int)reply.server.len, (const char *)reply.server.bytes, (int)reply.version.len,
            (const char *)reply.version.bytes, (unsigned long long)reply.protocol, KNIT_VERSION,
            KNIT_PROTOCOL_VERSION);
        knit_error_set_lasting(ret_error);
        return code;
    }
    knit_stream_set_limits(link->stream, reply.message_bytes, reply.call_bytes, reply.in_flight);
    knit_stream_set_in_max(link->stream, link->options.reply_max_bytes);
    link->stream->takes_references = knit_hello_reply_has(&reply, "references");
    link->stream->takes_keys = knit_hello_reply_has(&reply, "key");
    link->stream->instance = digest(reply.instance);
    link->stream->workers = reply.workers == 0            ? 1
                            : reply.workers < WORKERS_MAX ? reply.workers
                                                          : WORKERS_MAX;
    return KNIT_OK;
}

/* The connection did not live to bring an answer to the hello: it says why, and whether another one
 * would fare better. */
static int explain_lost(const struct knit_link *link, int code, struct knit_error *ret_error)
{
    const struct knit_transport *transport = &link->stream->transport;
    const struct knit_url *url = link_url(link);
    const char *perhaps = "";
    char where[KNIT_URL_PLACE_MAX];

    if (url->scheme != KNIT_URL_TCP || knit_stream_is_open(link->stream) ||
        code != KNIT_DISCONNECTED)
        return code;
    if (transport->refusal != 0)
        code = transport->refusal;
    else if (!url->is_encrypted)
        perhaps = " (the log of knittingd there says why; if it speaks TLS, its URL begins with "
                  "knits://)";
    knit_url_place(url, where);
    knit_error_make(ret_error, code, KNIT_STARTED_NO, "cannot connect to %s: %s%s", where,
        link->stream->reason, perhaps);
    if (ret_error != NULL)
        ret_error->retryable = transport->refusal == 0;
    return code;
}

static int hear_hello(struct knit *k, struct knit_error *ret_error)
{
    struct knit_link *link = &k->link;
    struct knit_span result;
    int code = knit_question_step(&link->question, &k->handles.error, &result, ret_error);

    if (code == KNIT_OK)
        code = take_hello(link, result, ret_error);
    if (code != KNIT_OK)
        return explain_lost(link, code, ret_error);
    if (link_url(link)->scheme != KNIT_URL_SHM) {
        serve(k, NULL);
        return KNIT_OK;
    }
    link->state = KNIT_LINK_ATTACH;
    return knit_attach_begin(k, &link->question, &link->options, &link->attachment, ret_error);
}

static int attach(struct knit *k, struct knit_error *ret_error)
{
    struct knit_link *link = &k->link;
    struct knit_lanes *lanes;
    int code = knit_attach_step(link->attachment, &k->handles.error, &lanes, ret_error);

    if (code != KNIT_OK)
        return code;
    link->attachment = NULL;
    serve(k, lanes);
    return KNIT_OK;
}

/* An answer is waited for. */
static int wait_for_answer(struct knit *k, struct knit_error *ret_error)
{
    struct knit_link *link = &k->link;

    link->fd = link->stream->transport.fd;
    link->wants_write = knit_stream_wants_write(link->stream);
    link->due_ns = knit_stream_has_pending(link->stream) ? 0 : link->until_ns;
    return knit_clock_ns() < link->until_ns ? KNIT_PENDING
                                            : knit_question_time_out(&link->question, ret_error);
}

/* Another address of its host, when what was connected is silent, ends, or speaks otherwise. That
 * it takes this caller for none of its own the others would say too. */
static bool try_next_address(struct knit *k, int code)
{
    struct knit_link *link = &k->link;

    if (link->state != KNIT_LINK_HELLO || (code != KNIT_TIMEOUT && code != KNIT_DISCONNECTED) ||
        knit_connect_others(link->connecting) == 0)
        return false;
    stop_watching(k);
    knit_question_fini(&link->question);
    knit_stream_break(link->stream, "another address is tried");
    link->state = KNIT_LINK_CONNECTING;
    return true;
}

/* As far as it comes. Returns KNIT_OK (it serves), KNIT_PENDING, or the code of the error with
 * which the attempt ends. */
static int advance(struct knit *k, struct knit_error *ret_error)
{
    struct knit_link *link = &k->link;
    int code = KNIT_OK;

    while (code == KNIT_OK && link->state != KNIT_LINK_SERVING) {
        switch (link->state) {
        case KNIT_LINK_BACKOFF:
            code = knit_clock_ns() < link->due_ns ? KNIT_PENDING : begin(k, ret_error);
            break;
        case KNIT_LINK_RESOLVING:
        case KNIT_LINK_CONNECTING:
            code = connect_to(k, ret_error);
            break;
        case KNIT_LINK_HELLO:
            code = hear_hello(k, ret_error);
            break;
        case KNIT_LINK_ATTACH:
            code = attach(k, ret_error);
            break;
        case KNIT_LINK_CLOSED:
        case KNIT_LINK_SERVING:
            return KNIT_PENDING;
        }
        if (code == KNIT_PENDING && link->state >= KNIT_LINK_HELLO)
            code = wait_for_answer(k, ret_error);
        if (try_next_address(k, code))
            code = KNIT_OK;
    }
    return code;
}

/* ---- the end of a connection ---- */

static void lose(struct knit *k, const char *reason)
{
    struct knit_handles *handles = &k->handles;
    struct knit_link *link = &k->link;
    const struct knit_stream *stream = handles->stream;
    const uint64_t now_ns = knit_clock_ns();

    if (link->options.stays_lost) {
        link->state = KNIT_LINK_CLOSED;
        return;
    }
    if (link->endpoints != NULL)
        knit_spread_look(k, now_ns);
    link->tend_ns = link->look_ns = UINT64_MAX;
    handles->returns = true;
    (void)snprintf(handles->lost.reason, sizeof(handles->lost.reason), "%s", reason);
    handles->lost.takes_keys = stream->takes_keys;
    handles->lost.request_max = stream->request_max;
    handles->lost.arguments_max = stream->arguments_max;
    handles->lost.number = stream->number;
    handles->lost.serial = stream->serial;
    handles->lost.tasks_age = stream->tasks_age;
    handles->stream = &handles->lost;
    if (handles->lanes != NULL) {
        handles->lost.arguments_max = knit_lanes_argument_max(handles->lanes);
        link->age = knit_lanes_age(handles->lanes);
        knit_poll_fd_remove(&k->poll_fd, knit_lanes_bell_fd(handles->lanes));
        knit_handles_leave_lanes(handles, true);
    }
    link->patient_ns = now_ns + (uint64_t)k->admin_ms * ms;
    /* Another one is being opened already. */
    if (link->state != KNIT_LINK_SERVING) {
        gather(k);
        return;
    }
    link->state = KNIT_LINK_BACKOFF;
    link->stream = free_stream(link);
    link->at = (link->at + 1) % link->url_count;
    gather(k);
    if (now_ns - link->served_ns < STEADY_MS * ms) {
        back_off(k, now_ns);
    } else {
        link->backoff_ns = 0;
        link->due_ns = now_ns + chance(link, FIRST_MS * ms);
    }
}

/* To calls that begin from now on it is as lost as one that broke. */
static void leave(struct knit *k)
{
    assert(k->handles.lanes == NULL && knit_link_has_room(&k->link));
    lose(k, "the server is shutting down");
}

/* ---- further connections ---- */

/* The attempt for that endpoint, if there is one, was in vain. */
static void fail_endpoint(struct knit *k)
{
    struct knit_endpoint *tried = k->link.tried_endpoint;

    k->link.tried_endpoint = NULL;
    if (tried != NULL)
        knit_spread_fail(k, tried, knit_clock_ns());
}

static void open_next(struct knit *k, uint64_t now_ns)
{
    struct knit_link *link = &k->link;
    struct knit_endpoint *next = knit_spread_next(k, now_ns);

    if (next == NULL)
        return;
    link->tried_endpoint = next;
    link->at = next->url;
    link->stream = free_stream(link);
    link->due_ns = 0;
    link->state = KNIT_LINK_BACKOFF;
}

static void tend(struct knit *k)
{
    struct knit_link *link = &k->link;
    const uint64_t now_ns = knit_clock_ns();
    struct knit_error error;
    int code;

    link->is_due = false;
    if (!knit_handles_has_lease(&k->handles) || link->state == KNIT_LINK_CLOSED)
        return;
    knit_spread_look(k, now_ns);
    link->look_ns = now_ns + LOOK_MS * ms;
    if (link->state == KNIT_LINK_SERVING) {
        knit_spread_look_up(k, now_ns);
        open_next(k, now_ns);
    }
    code = link->state != KNIT_LINK_SERVING ? advance(k, &error) : KNIT_OK;
    if (code != KNIT_OK && code != KNIT_PENDING) {
        end_attempt(k);
        fail_endpoint(k);
        link->due_ns = UINT64_MAX;
        link->state = KNIT_LINK_SERVING;
    }
    settle(k);
    link->tend_ns = knit_spread_due_ns(k);
    link->is_due = link->state != KNIT_LINK_SERVING;
}

static void step(struct knit *k)
{
    struct knit_link *link = &k->link;
    struct knit_error error;
    int code;

    if (link->state != KNIT_LINK_CLOSED && k->handles.stream != &k->handles.lost)
        lose(k, k->handles.stream->reason);
    if (link->state == KNIT_LINK_CLOSED)
        return;
    code = advance(k, &error);
    if (code == KNIT_OK)
        return;
    if (code != KNIT_PENDING) {
        end_attempt(k);
        fail_endpoint(k);
        if (try_next(link))
            link->due_ns = 0;
        else
            back_off(k, knit_clock_ns());
        (void)snprintf(
            k->handles.lost.reason, sizeof(k->handles.lost.reason), "%.191s", error.message);
    }
    if (!k->handles.returns)
        return;
    if (knit_clock_ns() >= link->patient_ns) {
        k->handles.returns = false;
        link->patient_ns = UINT64_MAX;
    } else if (link->patient_ns < link->due_ns)
        link->due_ns = link->patient_ns;
}

/* ---- for open.c ---- */

int knit_reconnect_first(struct knit *k, const struct knit_url *urls, uint32_t count,
    const struct knit_open_options *options, struct knit_error *ret_error)
{
    struct knit_link *link = &k->link;
    int code;

    link->step = step;
    link->leave = leave;
    link->tend = tend;
    link->regroup = regroup;
    link->urls = malloc(count * sizeof(*urls));
    link->lookups = calloc(count, sizeof(struct knit_lookup *));
    link->url_count = count;
    link->options = *options;
    link->name = options->name != NULL ? strdup(options->name) : NULL;
    link->random = (knit_clock_ns() ^ (uint64_t)(uintptr_t)k) | 1;
    link->patient_ns = UINT64_MAX;
    link->state = KNIT_LINK_BACKOFF;
    if (link->urls == NULL || link->lookups == NULL ||
        (options->name != NULL && link->name == NULL))
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for a session");
    memcpy(link->urls, urls, count * sizeof(*urls));
    if (!knit_spread_init(k, options))
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for a session");
    /* Many programs that name the same places do not begin at the same one. */
    link->at = (uint32_t)chance(link, count);
    for (;;) {
        code = advance(k, ret_error);
        if (code == KNIT_OK)
            return code;
        if (code == KNIT_PENDING) {
            knit_client_wait(k, KNIT_VIA_STREAM, NULL, link->due_ns);
            continue;
        }
        end_attempt(k);
        if (!try_next(link))
            return code;
        link->due_ns = 0;
    }
}

void knit_reconnect_fini(struct knit *k, bool is_ours)
{
    struct knit_link *link = &k->link;

    drop_attempt(k, is_ours);
    for (size_t i = 0; i < KNIT_STREAMS_MAX; i++)
        knit_stream_fini(&link->streams[i]);
    /* In a child a lookup's mutex may be held for good. */
    for (uint32_t i = 0; is_ours && link->lookups != NULL && i < link->url_count; i++)
        link->lookups[i] = knit_lookup_free(link->lookups[i]);
    free(link->lookups);
    free(link->endpoints);
    free(k->handles.promises.keys);
    free(link->name);
    free(link->urls);
}
