/* SPDX-License-Identifier: Apache-2.0 */
/* A server that has calls and says nothing may be busy with a long one, or be gone: a machine that
 * was switched off sends no end. So it is asked after half a second of silence, and its answers,
 * whatever they are, are what counts. A call whose timeout is over tells the same later.
 *
 * The answer of a lookup is looked for at growing intervals, and not by its descriptor: nobody
 * waits for it.
 */
#include "clients/lib/spread.h"

#include <netdb.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "clients/lib/chance.h"
#include "clients/lib/choose.h"
#include "clients/lib/client.h"
#include "clients/lib/endpoints.h"
#include "clients/lib/lost.h"
#include "clients/lib/resolve.h"

enum {
    STEADY_MS = 1000, /* a connection that serves for so long was no failure */
    QUIET_MS = 500,   /* a server that has calls is asked after so long a silence, */
    PING_MS = 250,    /* and has so long for its answer, three times */
    FIRST_MS = 10,    /* the first attempt after a loss comes within */
    CONNECTIONS = 4,
    LOOKUP_MS = 30 * 1000,
};

static const uint64_t ms = 1000000;

static uint64_t chance(struct knit *k)
{
    return knit_chance_next(&k->link.random);
}

bool knit_spread_init(struct knit *k, const struct knit_open_options *options)
{
    struct knit_link *link = &k->link;
    const struct knit_spread_options *spread = options->spread;
    const uint32_t lookup_ms =
        spread != NULL && spread->lookup_ms != 0 ? spread->lookup_ms : LOOKUP_MS;
    bool has_names = false;

    if (link->urls[0].scheme != KNIT_URL_TCP || options->stays_lost)
        return true;
    for (uint32_t i = 0; i < link->url_count; i++)
        has_names = has_names || knit_resolve_is_name(&link->urls[i]);
    if (!has_names && link->url_count == 1)
        return true;
    link->endpoints = calloc(1, sizeof(*link->endpoints));
    k->handles.promises.keys = calloc(KNIT_KEY_PLACES, sizeof(struct knit_key_place));
    if (link->endpoints == NULL || k->handles.promises.keys == NULL)
        return false;
    knit_endpoints_init(link->endpoints, link->url_count);
    link->endpoints->connections =
        spread != NULL && spread->connections != 0 ? spread->connections : CONNECTIONS;
    link->endpoints->has_names = has_names;
    link->endpoints->lookup_ns = lookup_ms * ms;
    return true;
}

/* ---- connections ---- */

static void end_ping(struct knit_endpoint *endpoint)
{
    if (endpoint->ping != NULL)
        knit_handle_drop(endpoint->ping);
    endpoint->ping = NULL;
    endpoint->is_asked = false;
}

/* The peer's address; false: it is none of a network. */
static bool read_peer(const struct knit_stream *stream, union knit_address *ret)
{
    socklen_t size = sizeof(*ret);

    *ret = (union knit_address){0};
    return getpeername(stream->transport.fd, &ret->any, &size) == 0 && size <= sizeof(*ret);
}

void knit_spread_serve(
    struct knit *k, struct knit_endpoint *tried, const struct addrinfo *list, uint64_t now_ns)
{
    struct knit_endpoints *all = k->link.endpoints;
    struct knit_stream *stream = k->link.stream;
    struct knit_endpoint *endpoint = tried;
    union knit_address address;

    if (all->look_up_at_ns == 0)
        all->look_up_at_ns = all->has_names ? now_ns + all->lookup_ns : UINT64_MAX;
    if (list != NULL && read_peer(stream, &address)) {
        knit_endpoints_learn(all, k->link.at, list, address.any.sa_family);
        endpoint = knit_endpoints_find(all, k->link.at, &address);
    }
    if (endpoint == NULL)
        return;
    /* Two of its places are one. */
    if (endpoint->stream != NULL)
        endpoint->stream->has_goaway = true;
    end_ping(endpoint);
    endpoint->stream = stream;
    endpoint->heard = stream->heard;
    endpoint->heard_ns = now_ns;
    knit_endpoint_return(endpoint, now_ns);
}

void knit_spread_fail(struct knit *k, struct knit_endpoint *tried, uint64_t now_ns)
{
    if (tried->is_there)
        knit_endpoint_fail(k->link.endpoints, tried, now_ns, chance(k));
}

/* It has ended, or its server wants no more calls there: then another one is opened at once. */
static void lose(struct knit *k, struct knit_endpoint *endpoint, uint64_t now_ns)
{
    const bool is_open = knit_stream_is_open(endpoint->stream);

    endpoint->stream = NULL;
    end_ping(endpoint);
    if (endpoint->is_ejected)
        return;
    if (is_open || now_ns - endpoint->served_ns >= STEADY_MS * ms) {
        endpoint->failures = 0;
        endpoint->due_ns = now_ns + (is_open ? 0 : chance(k) % (FIRST_MS * ms));
    } else {
        knit_endpoint_fail(k->link.endpoints, endpoint, now_ns, chance(k));
    }
}

/* False: not even that can be sent, for so much waits before it. */
static bool ping(struct knit *k, struct knit_endpoint *endpoint)
{
    static const uint8_t one_nil[] = {0x91, 0xc0};
    struct knit_handles *handles = &k->handles;
    struct knit_stream *chosen = handles->stream;
    struct knit_handle *handle = knit_handle_new(handles);
    int code;

    if (handle == NULL)
        return false;
    handles->stream = endpoint->stream;
    code = knit_handle_start_on_stream(handle, "$/ping", knit_span(one_nil, sizeof(one_nil)), NULL);
    handles->stream = chosen;
    if (code != KNIT_OK) {
        knit_handle_drop(handle);
        return false;
    }
    endpoint->ping = handle;
    knit_stream_flush(endpoint->stream);
    return true;
}

/* Calls go elsewhere from now on, and so do those of which no byte was sent, as many as may wait
 * for that; others when it is ejected again. */
static void leave_out(struct knit_stream *stream)
{
    stream->is_out = true;
    for (uint32_t i = 0; i < stream->places_max; i++) {
        const struct knit_stream_place *place = &stream->places[i];
        struct knit_handle *handle = place->user;

        if (place->is_taken && handle != NULL && place->begin_position >= stream->position_sent &&
            knit_handle_wait_for_another(handle))
            (void)knit_stream_take_back(stream, i);
    }
}

/* How many connections there are; one that is ejected counts as none. */
static uint32_t serving(const struct knit_endpoints *all)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < KNIT_ENDPOINTS_MAX; i++)
        count += all->at[i].is_there && all->at[i].stream != NULL && !all->at[i].is_ejected;
    return count;
}

/* It takes calls again, unless others have taken its place: then it may have a connection later. */
static void take_back(struct knit *k, struct knit_endpoint *endpoint, uint64_t now_ns)
{
    const bool has_place = serving(k->link.endpoints) < k->link.endpoints->connections;

    endpoint->failures = 0;
    knit_endpoint_return(endpoint, now_ns);
    endpoint->stream->is_out = !has_place;
    endpoint->stream->has_goaway = !has_place;
    if (!has_place)
        lose(k, endpoint, now_ns);
}

static void look_at_ejected(struct knit *k, struct knit_endpoint *endpoint, uint64_t now_ns)
{
    if (now_ns < endpoint->due_ns)
        return;
    if (endpoint->heard_ns > endpoint->since_ns) {
        take_back(k, endpoint, now_ns);
    } else if (endpoint->ping == NULL && ping(k, endpoint)) {
        endpoint->due_ns = now_ns + PING_MS * ms;
    } else {
        knit_endpoint_eject_again(endpoint, now_ns);
        leave_out(endpoint->stream);
    }
}

static void look_at(struct knit *k, struct knit_endpoint *endpoint, uint64_t now_ns)
{
    struct knit_stream *stream = endpoint->stream;

    if (!knit_stream_is_open(stream) || stream->has_goaway) {
        lose(k, endpoint, now_ns);
        return;
    }
    if (endpoint->ping != NULL && (endpoint->ping->flags & KNIT_HANDLE_DONE) != 0)
        end_ping(endpoint);
    if (stream->heard != endpoint->heard) {
        endpoint->heard = stream->heard;
        endpoint->heard_ns = now_ns;
        endpoint->is_asked = false;
    }
    if (endpoint->is_ejected) {
        look_at_ejected(k, endpoint, now_ns);
        return;
    }
    if (stream->places_taken == 0)
        endpoint->heard_ns = now_ns;
    if (endpoint->heard_ns == now_ns) {
        endpoint->failures = 0;
        endpoint->due_ns = now_ns + PING_MS * ms;
        return;
    }
    if (!endpoint->is_asked && now_ns - endpoint->heard_ns >= QUIET_MS * ms) {
        if (endpoint->ping == NULL)
            (void)ping(k, endpoint);
        endpoint->is_asked = true;
        endpoint->due_ns = now_ns + PING_MS * ms;
    } else if (endpoint->is_asked && now_ns >= endpoint->due_ns) {
        knit_endpoint_fail(k->link.endpoints, endpoint, now_ns, chance(k));
        if (endpoint->is_ejected)
            leave_out(stream);
        else
            endpoint->due_ns = now_ns + PING_MS * ms;
    }
}

void knit_spread_look(struct knit *k, uint64_t now_ns)
{
    for (uint32_t i = 0; i < KNIT_ENDPOINTS_MAX; i++) {
        struct knit_endpoint *endpoint = &k->link.endpoints->at[i];

        if (!endpoint->is_there)
            end_ping(endpoint);
        else if (endpoint->stream != NULL)
            look_at(k, endpoint, now_ns);
    }
}

/* ---- names ---- */

static void begin_lookups(struct knit *k)
{
    for (uint32_t i = 0; i < k->link.url_count; i++) {
        struct knit_lookup **kept = &k->link.lookups[i], *lookup;
        struct addrinfo *list = NULL;

        if (knit_resolve_begin(&k->link.urls[i], kept, &list, &lookup, NULL) != KNIT_OK)
            continue;
        *kept = lookup;
        if (list != NULL)
            freeaddrinfo(list);
    }
}

/* False: some have no answer yet. */
static bool take_lookups(struct knit *k)
{
    bool are_done = true;

    for (uint32_t i = 0; i < k->link.url_count; i++) {
        struct knit_lookup *lookup = k->link.lookups[i];
        struct addrinfo *list = NULL;

        if (lookup == NULL)
            continue;
        if (!knit_lookup_is_done(lookup)) {
            are_done = false;
            continue;
        }
        if (knit_lookup_take(lookup, &list, NULL) == KNIT_OK && list != NULL) {
            knit_endpoints_learn(k->link.endpoints, i, list, AF_UNSPEC);
            freeaddrinfo(list);
        }
        /* Another thread may fork() meanwhile, whose child closes what the link still has. */
        k->link.lookups[i] = NULL;
        (void)knit_lookup_free(lookup);
    }
    return are_done;
}

void knit_spread_look_up(struct knit *k, uint64_t now_ns)
{
    struct knit_endpoints *all = k->link.endpoints;

    if (now_ns < all->look_up_at_ns)
        return;
    if (all->wait_ns == 0) {
        begin_lookups(k);
        all->wait_ns = ms;
        all->look_up_at_ns = now_ns + all->wait_ns;
        return;
    }
    if (take_lookups(k)) {
        all->wait_ns = 0;
        all->look_up_at_ns = now_ns + all->lookup_ns;
        return;
    }
    all->wait_ns = 2 * all->wait_ns < all->lookup_ns ? 2 * all->wait_ns : all->lookup_ns;
    all->look_up_at_ns = now_ns + all->wait_ns;
}

/* ---- what is to be done ---- */

/* Whether one connection more is wanted. */
static bool wants_more(const struct knit *k)
{
    uint32_t open = 0;

    for (uint32_t i = 0; i < KNIT_STREAMS_MAX; i++)
        open += knit_stream_is_open(&k->link.streams[i]);
    /* One place is left for a connection that follows a `$/goaway`. */
    return serving(k->link.endpoints) < k->link.endpoints->connections &&
           open + 1 < KNIT_STREAMS_MAX;
}

static bool is_free(const struct knit_endpoint *endpoint)
{
    return endpoint->is_there && endpoint->stream == NULL;
}

struct knit_endpoint *knit_spread_next(struct knit *k, uint64_t now_ns)
{
    struct knit_endpoints *all = k->link.endpoints;
    const uint32_t begin = (uint32_t)(chance(k) % KNIT_ENDPOINTS_MAX);

    if (!wants_more(k))
        return NULL;
    for (uint32_t i = 0; i < KNIT_ENDPOINTS_MAX; i++) {
        struct knit_endpoint *endpoint = &all->at[(begin + i) % KNIT_ENDPOINTS_MAX];

        if (is_free(endpoint) && endpoint->due_ns <= now_ns)
            return endpoint;
    }
    return NULL;
}

uint64_t knit_spread_due_ns(struct knit *k)
{
    const struct knit_endpoints *all = k->link.endpoints;
    /* While an attempt is under way it alone says when the next step is. */
    const bool is_steady = k->link.state == KNIT_LINK_SERVING;
    const bool is_wanted = is_steady && wants_more(k);
    uint64_t due_ns = is_steady && all->look_up_at_ns != 0 ? all->look_up_at_ns : UINT64_MAX;

    for (uint32_t i = 0; i < KNIT_ENDPOINTS_MAX; i++) {
        const struct knit_endpoint *endpoint = &all->at[i];
        const bool is_watched =
            endpoint->stream != NULL && (endpoint->is_ejected || endpoint->is_asked);

        if (((is_wanted && is_free(endpoint)) || is_watched) && endpoint->due_ns < due_ns)
            due_ns = endpoint->due_ns;
    }
    return due_ns;
}

bool knit_spread_lacks_any(const struct knit *k)
{
    const struct knit_endpoints *all = k->link.endpoints;

    for (uint32_t i = 0; all != NULL && i < KNIT_ENDPOINTS_MAX; i++)
        if (is_free(&all->at[i]))
            return true;
    return false;
}
