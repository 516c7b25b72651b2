/* SPDX-License-Identifier: Apache-2.0 */
/* The window of idempotency keys: which calls with a key run or have ended lately, and how.
 *
 * A key is one principal's. The first request that has it begins a call; one that has it again
 * waits for that call's outcome, or gets it if it is there, for KNIT_KEYS_S after it. One that has
 * it with another task, other arguments or another `output` is refused. A call that has certainly
 * not started gives its key free.
 *
 *     absent -> RUNNING    knit_keys_begin() says NEW: its caller runs the call
 *     RUNNING -> DONE      knit_keys_end(), with the outcome
 *     RUNNING -> absent    knit_keys_end(), not started
 *     DONE -> absent       KNIT_KEYS_S later
 *
 * Full it refuses and forgets nothing: who was told that a key is taken may rely on it. The limits
 * are of entries and of bytes of outcomes, of each principal and of all; an outcome for which there
 * is no room is remembered without its bytes.
 *
 * Loops: who waits may be another loop's than the one that runs the call. An outcome moves those
 * that wait into a list of their loop's, from which that takes them by knit_keys_take(), woken if
 * it is another.
 *
 * One mutex for all of it, which calls without keys never take. Rejected: parts with a mutex each,
 * which would take the limits of all apart, for calls that cost some microseconds in a worker.
 *
 * Threads: any loop.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <knitting/code.h>

#include "proto/span.h"

struct knit_key;
struct knit_keys;

enum {
    KNIT_KEYS_S = 60, /* how long an outcome is kept */
    KNIT_KEYS_MAX = 65536,
    KNIT_KEYS_BYTES = 16 * 1024 * 1024,
    KNIT_KEYS_OF_ONE_MAX = 4096, /* of one principal */
    KNIT_KEYS_OF_ONE_BYTES = 1024 * 1024,
    KNIT_KEYS_ROOM = 64 * 1024, /* with less room than this for outcomes no call begins */
    KNIT_KEYS_LOOPS_MAX = 64,
};

/* How a call has ended. Shared by those who get it; it does not change. */
struct knit_keys_outcome {
    uint32_t references; /* under the mutex */
    bool is_error;       /* in compact form */
    size_t len;
    uint8_t bytes[];
};

/* One request that waits for an outcome. */
struct knit_key_waiter {
    TAILQ_ENTRY(knit_key_waiter) entry;
    struct knit_key *key; /* NULL: it waits no more */
    uint32_t loop;
    bool is_done;
    struct knit_keys_outcome *outcome; /* is_done; NULL: there was no memory for it */
};

/* What a request says. */
struct knit_keys_call {
    const char *principal;
    struct knit_span key;
    struct knit_span task; /* its name */
    struct knit_span params;
    bool output;
    bool may_not_begin; /* it waits for a call that there is, or has its outcome, or is ABSENT */
};

enum knit_keys_verdict {
    KNIT_KEYS_NEW,     /* the key is this call's: knit_keys_end() follows */
    KNIT_KEYS_RUNNING, /* the waiter gets the outcome */
    KNIT_KEYS_DONE,    /* *ret_outcome, to be released */
    KNIT_KEYS_LOST,    /* done, but the outcome is too large to be kept */
    KNIT_KEYS_OTHER,   /* the key is that of another call */
    KNIT_KEYS_FULL,    /* *ret_retry_ms: when there is room again at the latest, unless calls run */
    KNIT_KEYS_ABSENT,  /* it would be a new one, which it may not be */
    KNIT_KEYS_NO_MEMORY,
};

/* NULL: out of memory, or of random numbers. */
struct knit_keys *knit_keys_new(void);

/* No loop uses it any more. NULL is allowed; returns NULL. */
struct knit_keys *knit_keys_free(struct knit_keys *keys);

/* wake: called from any thread when there is something for knit_keys_take(); it must not block. */
void knit_keys_enter(struct knit_keys *keys, uint32_t loop, void (*wake)(void *arg), void *arg);
/* It has no waiters any more, and is not woken. */
void knit_keys_leave(struct knit_keys *keys, uint32_t loop);

/* What comes of a request. waiter: with `loop`. */
struct knit_keys_answer {
    struct knit_key *key;              /* NEW */
    struct knit_keys_outcome *outcome; /* DONE */
    uint64_t retry_ms;                 /* FULL */
};

KNIT_MUST_CHECK enum knit_keys_verdict knit_keys_begin(struct knit_keys *keys,
    const struct knit_keys_call *call, struct knit_key_waiter *waiter, uint64_t now_ns,
    struct knit_keys_answer *ret_answer);

/* How a call has ended. */
struct knit_keys_ending {
    struct knit_keys_outcome *outcome; /* taken over; NULL: there was no memory for it */
    bool is_kept;                      /* it had started, or may have */
    uint32_t loop;                     /* where it ended, which is not woken */
    uint64_t now_ns;
};

void knit_keys_end(
    struct knit_keys *keys, struct knit_key *key, const struct knit_keys_ending *ending);

/* Whether anybody waits for a call that runs. */
bool knit_keys_is_awaited(struct knit_keys *keys, const struct knit_key *key);

/* One of the loop's waiters that is done, the one that waited longest first; NULL: there is none.
 * Its outcome is to be released. */
struct knit_key_waiter *knit_keys_take(struct knit_keys *keys, uint32_t loop);

/* The waiter waits no more, whether it is done or not. */
void knit_keys_drop(struct knit_keys *keys, struct knit_key_waiter *waiter);

/* NULL: out of memory. */
struct knit_keys_outcome *knit_keys_outcome_new(bool is_error, struct knit_span bytes);

/* NULL is allowed. */
void knit_keys_release(struct knit_keys *keys, struct knit_keys_outcome *outcome);

/* Drops what is over, and says how many entries are left. */
uint32_t knit_keys_expire(struct knit_keys *keys, uint64_t now_ns);

struct knit_keys_stats {
    uint32_t entries;
    size_t bytes;
};

struct knit_keys_stats knit_keys_stats(struct knit_keys *keys);
