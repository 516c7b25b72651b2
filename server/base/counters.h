/* SPDX-License-Identifier: Apache-2.0 */
/* What an event loop has done so far, or a thread that reports what loops do; and the admin face.
 *
 * Each counter has one writer, its thread, and any number of readers. So adding is a load
 * and a store without a locked instruction. A reader sees each number as it was at some moment, but
 * not all of them as they were at the same moment.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define KNIT_COUNTERS(X)                                                                           \
    X(connections_accepted)                                                                        \
    X(connections_closed)                                                                          \
    X(connections_unix) /* open now */                                                             \
    X(connections_tls)  /* open now */                                                             \
    X(handshakes_done)                                                                             \
    X(handshakes_failed)                                                                           \
    X(handshakes_resumed)                                                                          \
    X(authentications)                                                                             \
    X(authentications_failed)                                                                      \
    X(strangers_refused)                                                                           \
    X(strangers_dropped)                                                                           \
    X(bytes_in)                                                                                    \
    X(bytes_out)                                                                                   \
    X(requests)                                                                                    \
    X(notifications)                                                                               \
    X(notifications_dropped)                                                                       \
    X(messages_bad)                                                                                \
    X(calls_in_flight) /* of those published: not collected yet */                                 \
    X(calls_published)                                                                             \
    X(calls_answered)                                                                              \
    X(calls_failed)                                                                                \
    X(calls_timed_out)                                                                             \
    X(calls_cancelled)                                                                             \
    X(calls_overloaded)                                                                            \
    X(calls_denied)                                                                                \
    X(calls_over_quota)                                                                            \
    X(calls_unknown)   /* refused: of a task that there is not */                                  \
    X(calls_too_large) /* so, their arguments are */                                               \
    X(calls_malformed) /* so, for what they ask */                                                 \
    X(calls_draining)  /* so, since the daemon drains */                                           \
    X(calls_waiting)   /* now, in their connections */                                             \
    X(argument_bytes)  /* now, in the request arena */                                             \
    X(references_bound)                                                                            \
    X(references_over)                                                                             \
    X(keys_joined)                                                                                 \
    X(keys_repeated)                                                                               \
    X(keys_refused)                                                                                \
    X(waits_for_slot)                                                                              \
    X(waits_for_limit)                                                                             \
    X(waits_for_reader)                                                                            \
    X(waits_for_room)                                                                              \
    X(work_waiting_us) /* of calls that wait now, estimated */                                     \
    X(readers_dropped)                                                                             \
    X(inputs_dropped)                                                                              \
    X(access_dropped) /* lines of the access log */                                                \
    X(spans_sent)                                                                                  \
    X(spans_dropped)                                                                               \
    X(turns)                                                                                       \
    X(sleeps)

struct knit_counters {
#define KNIT_COUNTER_MEMBER(name) _Atomic uint64_t name;
    KNIT_COUNTERS(KNIT_COUNTER_MEMBER)
#undef KNIT_COUNTER_MEMBER
};

/* The same as plain numbers. */
struct knit_counter_values {
#define KNIT_COUNTER_MEMBER(name) uint64_t name;
    KNIT_COUNTERS(KNIT_COUNTER_MEMBER)
#undef KNIT_COUNTER_MEMBER
};

/* What the admin face has done, in the same way, by the main thread. */
struct knit_face_counters {
    _Atomic uint64_t requests;
    _Atomic uint64_t pauses;  /* its time was over for a while */
    _Atomic uint64_t busy_ns; /* of a processor */
};

/* relaxed throughout: counters order nothing. */
static inline void knit_counter_add(_Atomic uint64_t *counter, uint64_t n)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);

    atomic_store_explicit(counter, value + n, memory_order_relaxed);
}

static inline void knit_counter_set(_Atomic uint64_t *counter, uint64_t value)
{
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

static inline uint64_t knit_counter_read(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Adds what a loop has counted to a sum. */
static inline void knit_counters_sum(
    struct knit_counter_values *sum, const struct knit_counters *counters)
{
#define KNIT_COUNTER_SUM(name) sum->name += knit_counter_read(&counters->name);
    KNIT_COUNTERS(KNIT_COUNTER_SUM)
#undef KNIT_COUNTER_SUM
}

/* Connections that are open, by what was counted of them. */
static inline uint64_t knit_counters_open_connections(const struct knit_counter_values *values)
{
    return values->connections_accepted > values->connections_closed
               ? values->connections_accepted - values->connections_closed
               : 0;
}

/* turn: struct knit_turn. */
#define KNIT_COUNT(turn, name) knit_counter_add(&(turn)->counters.name, 1)
