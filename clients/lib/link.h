/* SPDX-License-Identifier: Apache-2.0 */
/* A session's way to its daemon: where that is, and how far the next connection to it is.
 *
 * One machine opens the first connection and every later one. Its states:
 *
 *     BACKOFF     until due_ns, then
 *     RESOLVING   a thread looks up the host's name
 *     CONNECTING  its addresses are tried
 *     HELLO       `$/hello` was sent, behind the handshake of TLS where the URL asks for it
 *     ATTACH      shm:// alone: the questions of attach.c
 *     SERVING     nothing is being opened, for calls take the stream, or its lanes; after
 *                 `$/goaway` it goes to BACKOFF at once, and the stream stays beside for as long as
 *                 calls that it has go on. One with lanes serves until they are over, and is left
 *                 as if it were lost
 *     CLOSED      there will be no other connection
 *
 * From each of the middle ones it goes back to BACKOFF when the attempt fails, or from HELLO to
 * CONNECTING when the host has other addresses. Of several places the next one is tried then, at
 * once until none is left. knit_open() takes its steps until it serves; later the turn does, in
 * whatever function waits or dispatches, when the connection is lost (reconnect.c). Who waits
 * sleeps on `fd`, at most until due_ns. A pool of this process has none of it: `step` is NULL
 * there.
 *
 * A session with several endpoints (endpoints.h) has several streams at once. The machine opens
 * them one after the other: while one serves it goes round once more for each that is still wanted,
 * for `tried_endpoint`, and comes back to SERVING also when that was in vain.
 *
 * Threads: as the session: one at a time. Nothing blocks.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/knitting.h>

#include "clients/lib/connect.h"
#include "clients/lib/question.h"
#include "clients/lib/stream.h"
#include "clients/lib/url.h"

enum knit_link_state {
    KNIT_LINK_CLOSED,
    KNIT_LINK_BACKOFF,
    KNIT_LINK_RESOLVING,
    KNIT_LINK_CONNECTING,
    KNIT_LINK_HELLO,
    KNIT_LINK_ATTACH,
    KNIT_LINK_SERVING,
};

/* Of a session with one endpoint: that one, and one whose server said `$/goaway`. */
enum { KNIT_LINK_STREAMS_ONE = 2 };

struct knit_attachment;
struct knit_endpoint;
struct knit_endpoints;
struct knit_lookup;

struct knit_link {
    void (*step)(struct knit *k);
    void (*leave)(struct knit *k);   /* the stream that serves, and has no other beside it */
    void (*tend)(struct knit *k);    /* of a session with several endpoints */
    void (*regroup)(struct knit *k); /* one of several streams has ended, or is to be left */
    enum knit_link_state state;
    int fd; /* what a step waits for; -1: for the time alone */
    bool wants_write;
    uint64_t due_ns; /* when it has something to do whatever the descriptor says */

    bool is_due;                          /* tend() has something to do, */
    uint64_t tend_ns;                     /* or will have then; UINT64_MAX = never */
    uint64_t look_ns;                     /* likewise, while there are several streams */
    struct knit_endpoints *endpoints;     /* NULL: there is one */
    struct knit_endpoint *tried_endpoint; /* for which a stream is being opened; NULL = for any */

    struct knit_url *urls;        /* the places, */
    struct knit_lookup **lookups; /* for each: one that goes on, or NULL; */
    uint32_t url_count;
    uint32_t at;    /* the one of this connection, */
    uint32_t tried; /* and how many others have failed since one served */
    struct knit_open_options options;
    char *name; /* of the options */
    uint32_t slots;

    uint64_t until_ns; /* how long this attempt may take, or what is connected may be silent */
    struct knit_connecting *connecting; /* as long as it may come to another address */
    struct knit_stream streams[KNIT_STREAMS_MAX];
    struct knit_stream *stream; /* of these the one that is opened, or was last */
    struct knit_question question;
    struct knit_attachment *attachment;

    uint64_t served_ns;  /* since when it serves, or served last */
    uint32_t served;     /* how many connections did */
    uint64_t patient_ns; /* until when calls wait for another connection */
    uint64_t backoff_ns;
    uint64_t random;
    uint32_t age; /* of the last lanes */
};

/* Whether there is a connection, or will be another one. */
static inline bool knit_link_is_open(const struct knit_link *link)
{
    return link->step != NULL && link->state != KNIT_LINK_CLOSED;
}

/* Whether the next step waits for something. */
static inline bool knit_link_is_opening(const struct knit_link *link)
{
    return knit_link_is_open(link) && link->state != KNIT_LINK_SERVING;
}

/* Whether the stream that serves can be left, and another one be opened. */
static inline bool knit_link_has_room(const struct knit_link *link)
{
    const uint32_t count = link->endpoints != NULL ? KNIT_STREAMS_MAX : KNIT_LINK_STREAMS_ONE;

    for (uint32_t i = 0; i < count; i++)
        if (!knit_stream_is_open(&link->streams[i]))
            return true;
    return false;
}

/* The time is that now. */
static inline void knit_link_note_time(struct knit_link *link, uint64_t now_ns)
{
    link->is_due = link->is_due || now_ns >= link->tend_ns;
}
