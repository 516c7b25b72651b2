/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that wait for their arguments, since some of these are results of other calls: handles.
 *
 * A call that waits so is in the session alone: it has no slot, no block of an arena, no place in
 * the stream. Its params are kept with a hole for each such argument. The call whose result that
 * will be, its source, has a list of the holes that it fills, and lives for as long as there are
 * any, also when its caller has freed it: then it is disowned, and ends with the last of them.
 *
 * When a source ends its holes are counted off (knit_promises_note()); nothing else is done there,
 * in the middle of a turn. knit_promises_run(), at the turn's end, goes through the calls that have
 * become due: it puts the results in place, gives the sources back and starts the calls, or ends
 * them in DEPENDENCY, by which further ones become due. It is a list and no recursion, so a chain
 * may be as long as memory allows.
 *
 * Results are put by the writer and not by copying bytes, for the pads of typed arrays depend on
 * where they lie. A result that arrives for a source is copied out of its lane at once: calls that
 * hold blocks of the reply arena while they wait for room could wait for each other.
 *
 * Over a stream the server can wait in the library's place: a call whose sources are all in flight
 * there is sent with references to them, so that a chain takes one round trip. It keeps its holes,
 * and by them its sources, for as long as it is under way. If it comes back unstarted since it
 * depends on others, for whatever reason, it waits here and gets the results from the library, as
 * it would have without references: of a source that ended before the reference was read the
 * library has the outcome by then, and how a failure is told is the same. Calls that wait at the
 * server take places of their own in the stream, up to KNIT_STREAM_PLACES_WAITING and to what the
 * server announces as `in_flight`; beyond that, places of calls while half of these are free.
 *
 * A call for which there is no connection just now waits in the same way: it is shelved, without
 * holes, until another one is there.
 *
 * Functions on handles are in handle_promise.c and handle_shelve.c. Threads: as the session: one at
 * a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <knitting/code.h>

#include "clients/lib/retry.h"
#include "proto/buffer.h"
#include "proto/limits.h"
#include "proto/options.h"
#include "proto/span.h"

struct knit_handle;
struct knit_handles;
struct knit_key_place;
struct knit_promise;

struct knit_hole {
    LIST_ENTRY(knit_hole) entry; /* of the source's */
    struct knit_promise *promise;
    struct knit_handle *source; /* NULL: its result is in place */
    uint32_t index;             /* of the argument */
};

LIST_HEAD(knit_hole_list, knit_hole);
TAILQ_HEAD(knit_promise_list, knit_promise);

struct knit_promise {
    TAILQ_ENTRY(knit_promise) entry;
    struct knit_promise_list *in; /* where `entry` stands; NULL: nowhere */
    struct knit_handle *handle;   /* whose arguments; NULL: not yet */
    struct knit_buffer params;    /* with nil in the holes, until they are filled */
    struct knit_options options;  /* of the call, over a stream, */
    struct knit_buffer texts;     /* and what they point to */
    uint64_t start_by_ns;         /* of one that was sent: its handle's, if it is sent again */
    uint64_t due_ns;              /* it is not started before; 0 = at once */
    bool has_place;               /* one that the stream has added for it */
    bool is_shelved;              /* it counts in `shelved` and `shelved_bytes` */
    uint32_t missing;             /* holes whose source has no outcome */
    bool has_failed;              /* a source has: the others are not waited for */
    uint32_t count;               /* holes, in the order of the arguments */
    struct knit_hole holes[];
};

struct knit_promises {
    struct knit_promise_list due;     /* nothing is missing any more, or they have failed */
    struct knit_promise_list delayed; /* those whose time has not come */
    /* They are filled, and there was no room to start them: one list for all connections, in the
     * order in which they came. The first one that has no room holds up the others. A list for each
     * connection was rejected: what stands there may change its connection each time that it is
     * tried. But calls with a key, of a session with several endpoints, have a list of their own:
     * each has one server, and while that is full others take calls. They hold up each other. */
    struct knit_promise_list blocked, keyed;
    struct knit_retries retries;  /* which of them are calls that are made again */
    uint32_t count;               /* calls that wait, these included */
    uint32_t referring;           /* calls that were sent with references */
    uint32_t shelved;             /* of those that wait: for a connection, */
    uint64_t shelved_bytes;       /* and their arguments */
    struct knit_handle *unwanted; /* disowned sources without holes, by next_spare */
    struct knit_key_place *keys;  /* choose.h; NULL: of a session with one endpoint */
};

/* Arguments of a call: params with nil for each of `count` handles, which are the session's own.
 * NULL: out of memory. */
struct knit_promise *knit_promise_new(struct knit_span params, struct knit_handle *const *sources,
    const uint32_t *indexes, uint32_t count);

/* Gives its sources back. NULL is allowed. */
void knit_promise_free(struct knit_promise *promise);

/* Whether it has to wait. */
static inline bool knit_promise_is_open(const struct knit_promise *promise)
{
    return promise->missing != 0 && !promise->has_failed;
}

/* The handle's call waits for these arguments, whose owner it is from now on. */
void knit_promise_wait(struct knit_promise *promise, struct knit_handle *handle);

/* Send it with references to its sources, if these are in flight on a stream whose server takes
 * them: true, and the handle's call owns these arguments from now on. */
KNIT_MUST_CHECK bool knit_promise_refer(struct knit_promise *promise, struct knit_handle *handle);

/* Of a call that was sent so and has its outcome: whether that is a refusal of what it refers to.
 * Then it waits here. */
KNIT_MUST_CHECK bool knit_promise_is_refused(const struct knit_handle *handle);
void knit_promise_wait_again(struct knit_handle *handle);

/* What the call is sent with over a stream. False: out of memory. */
KNIT_MUST_CHECK bool knit_promise_take_options(
    struct knit_promise *promise, const struct knit_options *options);

/* The handle's call, which went no way or was certainly not started on the one that is lost, waits
 * for another connection. options: of its message; that of its timeout's end is the handle's.
 * False: too much waits already, or memory is lacking. */
KNIT_MUST_CHECK bool knit_promise_shelve(
    struct knit_handle *handle, struct knit_span params, const struct knit_options *options);

/* What a request consists of that can be made again. False: it is none. */
KNIT_MUST_CHECK bool knit_request_read(
    struct knit_span request, struct knit_span *ret_params, struct knit_options *ret_options);

/* Put results in place of the holes: true, and they are `params`. False: the handle's call has got
 * the error that it ends in. One that is not open. */
KNIT_MUST_CHECK bool knit_promise_fill(struct knit_promise *promise, struct knit_handle *handle);

/* Of a source: it has its outcome. Of a promised or referring call: it is over, or starts. Of a
 * source that its caller frees: it stays for as long as others need it. */
void knit_promises_note(struct knit_handle *source);
void knit_promise_end(struct knit_handle *handle);
void knit_handle_disown(struct knit_handle *source);

static inline void knit_promises_init(struct knit_promises *promises)
{
    TAILQ_INIT(&promises->due);
    TAILQ_INIT(&promises->delayed);
    TAILQ_INIT(&promises->blocked);
    TAILQ_INIT(&promises->keyed);
}

static inline bool knit_promises_has_any(const struct knit_promises *promises)
{
    return promises->count != 0 || promises->referring != 0;
}

/* Whether knit_promises_run() has something to do. */
static inline bool knit_promises_are_due(const struct knit_promises *promises)
{
    return !TAILQ_EMPTY(&promises->due) || !TAILQ_EMPTY(&promises->blocked) ||
           !TAILQ_EMPTY(&promises->keyed) || promises->unwanted != NULL;
}

/* What has waited until its time is due now. Returns the next such time; UINT64_MAX = none. */
uint64_t knit_promises_expire(struct knit_promises *promises, uint64_t now_ns);

/* Start the calls that are due. */
void knit_promises_run(struct knit_handles *handles);
