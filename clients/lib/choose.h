/* SPDX-License-Identifier: Apache-2.0 */
/* Of several connections of a session the one that the next call takes: `stream` of its handles.
 *
 * Two of them are drawn by chance, and the one with the smaller (calls in flight + 1) / workers
 * takes the call. Looking at two is enough for calls to be shared in proportion to the workers, and
 * many callers do not all go to the one that seems the least loaded to each. How many workers it
 * has is a server's own word, so of two servers no one counts as more than KNIT_WORKERS_RATIO of
 * the other.
 *
 * All of it is for handles whose `several` is not NULL: a session with one connection does not come
 * here, and asks once a call whether that is so. For what else is done with a call there is still
 * one stream, the one found in `stream`, or the one that its handle remembers.
 *
 * Rejected: a whole session for each endpoint, below one that shares calls out. Promises, retries,
 * sets, waiting and callbacks go across connections, so each would be there twice, with a way
 * between. Rejected too: an array of links, each with a machine of states, descriptors and timers
 * of its own, for what one machine does when it opens the connections one after the other. The
 * price of that: an endpoint that does not answer delays the next attempt by 2 s, while calls go
 * on.
 *
 * Threads: as the session: one at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/span.h"

struct knit_handle;
struct knit_handles;
struct knit_promise;
struct knit_stream;

enum { KNIT_WORKERS_RATIO = 16 };

/* avoided: taken only if it is the only one; NULL = none. Where no connection takes calls by right,
 * one that is out takes them; without that, nothing changes. */
void knit_handles_choose(struct knit_handles *handles, const struct knit_stream *avoided);

/* Where a key was sent last, by numbers that stand for both. */
struct knit_key_place {
    uint64_t key, instance;
};

/* Of a session with several endpoints. A key that another one takes the place of is found by chance
 * anew, which gives the same server as long as the session has the same connections. */
enum { KNIT_KEY_PLACES = 1024 };

/* The same for a call with a key: one key has one server for as long as the session has a
 * connection to it, since no other knows the key. */
void knit_handles_choose_by_key(struct knit_handles *handles, struct knit_span key);

/* A call with that key was sent over `stream`. */
void knit_handles_note_key(struct knit_handles *handles, struct knit_span key);

/* The one to that run of a server. False: there is none. */
KNIT_MUST_CHECK bool knit_handles_choose_instance(struct knit_handles *handles, uint64_t instance);

/* The one where the sources of those arguments are in flight. False: it takes no calls, or nothing
 * waits. */
KNIT_MUST_CHECK bool knit_handles_choose_for(
    struct knit_handles *handles, const struct knit_promise *promise);

/* For a call that has waited, or is made again: not where it was, unless it has a key. */
void knit_handles_choose_again(struct knit_handle *handle);
