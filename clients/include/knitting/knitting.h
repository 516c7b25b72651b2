/* SPDX-License-Identifier: Apache-2.0 */
/* Calling tasks: the client library.
 *
 *     const char *url = "shm:///run/knitting/knitting.sock", *types = "(int, int) -> int";
 *     struct knit *k;
 *     struct knit_error error;
 *     int64_t sum;
 *
 *     if (knit_open(url, NULL, &k, &error) != KNIT_OK ||
 *         knit_call(k, &error, "add", types, (int64_t)2, (int64_t)3, &sum) != KNIT_OK)
 *         fprintf(stderr, "%s: %s\n", error.name, error.message);
 *     else
 *         printf("%lld\n", (long long)sum);
 *     knit_close(k);
 *
 * URLs:
 *     knit://HOST[:PORT]   TCP; the port is 5648 unless given; an IPv6 address stands in brackets,
 *                          several have commas between them (see <knitting/state.h>)
 *     knits://HOST[:PORT]  the same with TLS; the port is 5649 unless given
 *     unix:///PATH         the daemon's unix stream socket
 *     shm:///PATH          the same socket, but calls travel through memory shared with the workers
 * Calling code is the same for all. A transport that cannot be had is an error; no other is taken.
 *
 * Returns: KNIT_OK (0), or KNIT_PENDING or KNIT_WOULD_BLOCK where a function names it, or the code
 * of the error (see <knitting/code.h>), which `ret_error` then describes. `ret_error` may be NULL.
 * Other out-parameters are written only on KNIT_OK, but for knit_open(), whose session is NULL
 * otherwise. Functions whose caller would go on with an unset variable or handle are marked
 * KNIT_MUST_CHECK, and no others. What the library itself finds wrong has KNIT_ORIGIN_CLIENT.
 *
 * Threads: a session belongs to one thread at a time. The library keeps no global state but the
 * list of its sessions, installs no signal handler, raises no SIGPIPE and logs nothing. It starts
 * one thread for each name of a host while it looks that up, with all signals blocked, which ends
 * by itself if nobody waits any more; numeric addresses, unix:// and shm:// start none. After
 * fork() a session is the parent's: in the child every function on it fails with KNIT_DISCONNECTED,
 * and knit_close() there only frees the child's memory. The child's copy of a connection is closed
 * by fork(), so a child that lives on does not keep the session of a parent that is gone.
 *
 * Batches: starting a call queues it. knit_flush() and every function that waits or dispatches send
 * all that is queued together: start many, flush once.
 *
 * Callbacks run inside knit_dispatch(), knit_await(), knit_call*(), knit_set_wait(),
 * knit_set_next(), knit_ping(), knit_tasks(), knit_lift(), knit_drain(), knit_stats() and
 * knit_close(), never elsewhere, and never inside one another. They may start, cancel, free and
 * read calls; they must not wait, dispatch or close. What waits or dispatches fails with
 * KNIT_BAD_ARGUMENT there, and knit_close() does nothing and returns the session. A C++ exception
 * may leave a callback, and so may the end of its thread: the session is as after the callback's
 * return, those that are still due run at the next dispatch, and what knit_tasks() was reading is
 * freed by knit_close(). longjmp() must not: the session would be inside the callback for good.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/admin.h>
#include <knitting/call_options.h>
#include <knitting/code.h>
#include <knitting/error.h>
#include <knitting/progress.h>
#include <knitting/retry.h>
#include <knitting/spread_options.h>
#include <knitting/state.h>
#include <knitting/tls_options.h>
#include <knitting/token_options.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

struct knit;          /* a session with a pool */
struct knit_handle;   /* one call that was started */
struct knit_prepared; /* a task and a signature, for many calls */

/* States that are no errors; codes of errors begin at 100. */
enum {
    KNIT_PENDING = 1,     /* the call has no outcome yet */
    KNIT_WOULD_BLOCK = 2, /* no room for one more call until another one is collected */
};

/* Returns the library's version, "0.2.0". Does not block. */
const char *knit_version(void);

/* Returns nanoseconds of CLOCK_MONOTONIC, by which timeouts are counted: the clock of knit_now_ns()
 * and knit_deadline_ns() in tasks. Does not block. */
uint64_t knit_now(void);

/* A zeroed structure, or NULL in its place, means every default. */
struct knit_open_options {
    uint32_t slots;       /* calls in flight on a connection, or fewer if so granted; 0 = 1008 */
    uint32_t arena_bytes; /* shm: for arguments above 1024 bytes; 0 = 64 MiB, touched as needed */
    uint32_t spin_us;     /* shm: a waiting call spins at most so long; 0 = 50, adapts downwards */
    bool no_spin;         /* shm: sleep at once */
    bool would_block;     /* knit_start*() returns KNIT_WOULD_BLOCK where it would wait for room */
    bool stays_lost;      /* once its connection is lost: see <knitting/state.h> */
    uint32_t connect_ms;  /* for the whole of knit_open(); 0 = 10 s */
    uint32_t reply_max_bytes; /* of a daemon's message; 0 = 64 MiB; more ends the connection */
    const char *name;         /* sent to the daemon, for its logs; NULL = the library's name */
    const struct knit_tls_options *tls;     /* of knits://; NULL = every default. With knit:// it is
                                           refused, other URLs do not look at it */
    const struct knit_token_options *token; /* by which the caller says who it is; NULL = none */
    const struct knit_retry_options *retry; /* of calls, by themselves; NULL = none is made again */
    const struct knit_spread_options *spread; /* over several daemons; NULL = every default */
    uint64_t reserved[4];
};

/* Connect, and agree on versions and limits. Blocks, for at most connect_ms, in which a host's name
 * is looked up and its addresses are tried, side by side where one is slow; one that says nothing
 * has its share. On failure *ret is NULL, so that knit_close() needs no condition. Fails with
 * KNIT_BAD_ARGUMENT (the URL, a file of `tls` or `token`, a token without TLS over a network),
 * KNIT_DISCONNECTED (no server listens there, or what listens does not speak this version of the
 * protocol, or not TLS), KNIT_UNAUTHENTICATED (the server did not show whom it has to be, or does
 * not accept who the caller is), KNIT_DENIED, KNIT_QUOTA, KNIT_TIMEOUT, KNIT_INTERNAL (memory). */
KNIT_MUST_CHECK int knit_open(const char *url, const struct knit_open_options *options,
    struct knit **ret, struct knit_error *ret_error);

/* End the session. Calls in flight are cancelled and their callbacks run with KNIT_DISCONNECTED;
 * then every handle is freed, and pointers into results dangle. Notifications go on,
 * see there: it waits for these alone. NULL is allowed; returns NULL, except in a callback. */
struct knit *knit_close(struct knit *k);

/* ---- Calls ----
 *
 * A signature string defines how C values become the task's arguments, and its result C values:
 * "(int, str, bin) -> int". Names of parameters may be given, "(a: int)", and are ignored; several
 * results stand in parentheses, "-> (int, str)"; without an arrow the result is dropped unchecked.
 * The grammar is that of calls in PROTOCOL.md: at most 64 parameters and 16 results, blanks and
 * tabs between the parts. Behind it stand first the arguments, then one pointer for each result,
 * any of which may be NULL (the result is checked and dropped):
 *
 *     type          argument                                  result
 *     nil           (none)                                    (none)
 *     bool          int                                       bool *
 *     int           int64_t                                   int64_t *
 *     uint          uint64_t                                  uint64_t *
 *     float         double                                    double *
 *     str           const char * (NUL-terminated)             const char **, size_t *
 *     bin           const void *, size_t                      const void **, size_t *
 *     time          const struct knit_time *                  struct knit_time *
 *     i8[]..f64[]   const element *, size_t (elements)        const element **, size_t *
 *     array, map, any, typed, other ext types by name
 *                   const void *, size_t (one msgpack value)  const void **, size_t *
 *
 * A str that comes as a result is not NUL-terminated: its length is the size_t.
 *
 * `type?` as an argument is a pointer to the scalar, or the same pointer and size as without `?`;
 * NULL sends nil. Without `?` NULL is an empty str, and nil for a time. `type?` as a result has one
 * more pointer, bool *, before the others, which are not written if it becomes false. `nil?` is
 * nil. A result of another type than the signature names is KNIT_BAD_RESULT. Mind the widths: a
 * plain 2 is an int, not an int64_t. What was passed in has been read when the function returns.
 */
struct knit_time {
    int64_t seconds; /* since 1970-01-01 00:00 UTC */
    uint32_t nanoseconds;
};

/* Call and wait. Pointers in results stay valid until the next knit_call*() on this session or
 * knit_close(). Fails with what the call ends with, and before it is sent as knit_start(). */
int knit_call(
    struct knit *k, struct knit_error *ret_error, const char *task, const char *signature, ...);
int knit_call_with(struct knit *k, const struct knit_call_options *options,
    struct knit_error *ret_error, const char *task, const char *signature, ...);

/* The same with msgpack: `params` is one array, the result one value. */
KNIT_MUST_CHECK int knit_call_raw(struct knit *k, const struct knit_call_options *options,
    struct knit_error *ret_error, const char *task, const void *params, size_t params_len,
    const void **ret_result, size_t *ret_len);

/* ---- Calls that are not waited for at once ---- */

/* Queue a call. Where there is no room for another call, waits for some, or returns
 * KNIT_WOULD_BLOCK if `would_block` was set, and in a callback always. A call that is refused on
 * the spot (too large, an unknown task) fails here and has no handle; one whose msgpack is
 * malformed here or later. */
KNIT_MUST_CHECK int knit_start(struct knit *k, const struct knit_call_options *options,
    struct knit_handle **ret, struct knit_error *ret_error, const char *task, const char *signature,
    ...);
KNIT_MUST_CHECK int knit_start_raw(struct knit *k, const struct knit_call_options *options,
    struct knit_handle **ret, struct knit_error *ret_error, const char *task, const void *params,
    size_t params_len);

/* ---- Prepared calls ----
 *
 * For a task that is called again and again: what its calls have in common is worked out once. They
 * do and fail as knit_call_with() and knit_start() with that task and signature. */

/* Copies both texts. With the signature NULL, arguments are one msgpack array (const void *,
 * size_t), and the result is one msgpack value (const void **, size_t *). Asks nobody, also in a
 * callback: a task that does not exist fails each call with KNIT_UNKNOWN_TASK, until it does. When
 * the pool's tasks change, a call under way may fail with KNIT_STALE_EPOCH, and later ones find
 * their task by themselves. Fails with KNIT_BAD_ARGUMENT (a text), KNIT_DISCONNECTED,
 * KNIT_INTERNAL (out of memory). */
KNIT_MUST_CHECK int knit_prepare(struct knit *k, struct knit_error *ret_error, const char *task,
    const char *signature, struct knit_prepared **ret);

/* In the session that prepared it. options: NULL = none. They wait as those do. */
int knit_call_prepared(struct knit_prepared *prepared, const struct knit_call_options *options,
    struct knit_error *ret_error, ...);
KNIT_MUST_CHECK int knit_start_prepared(struct knit_prepared *prepared,
    const struct knit_call_options *options, struct knit_handle **ret, struct knit_error *ret_error,
    ...);

/* Free it, also before the handles of its calls, which keep what they need. knit_close() frees
 * those that are left; afterwards none may be used or freed. NULL is allowed; returns NULL. Does
 * not block. */
struct knit_prepared *knit_prepared_free(struct knit_prepared *prepared);

/* ---- Notifications ----
 *
 * Calls of which nobody hears again: no handle, no outcome, and no error once they are sent, not
 * even of a task that does not exist. They take the connection to the daemon, with shm:// too,
 * which goes on with them when the session is over: they are not cancelled by knit_close(), which
 * waits until the daemon has them, for one second at most. Its `$/stats` counts them. A pool of
 * this process has them at once, as calls like others, and goes on with them until it is closed:
 * see <knitting/pool.h>. */

/* Queue one; with shm:// it is sent at once. Arguments are those of knit_start(), and what stands
 * behind the arrow of a signature is ignored. Where there is no room, as knit_start(). */
KNIT_MUST_CHECK int knit_notify(
    struct knit *k, struct knit_error *ret_error, const char *task, const char *signature, ...);
KNIT_MUST_CHECK int knit_notify_raw(struct knit *k, struct knit_error *ret_error, const char *task,
    const void *params, size_t params_len);
KNIT_MUST_CHECK int knit_notify_prepared(
    struct knit_prepared *prepared, struct knit_error *ret_error, ...);

/* ---- Outcomes ---- */

/* Send what was started. Does not wait. Fails with KNIT_DISCONNECTED alone. */
int knit_flush(struct knit *k, struct knit_error *ret_error);

/* Wait for the outcome, for at most wait_ms (0 = only look; negative = as long as it takes).
 * KNIT_PENDING: not yet, and the call goes on. May be asked again; the outcome stays the same.
 * Fails with it, and with KNIT_BAD_ARGUMENT where a callback waits. */
int knit_await(struct knit_handle *handle, double wait_ms, struct knit_error *ret_error);

/* The results of a call that ended with KNIT_OK, by the signature it was started with, or as one
 * msgpack value. Both are borrowed from the handle. Do not wait: KNIT_PENDING before the outcome is
 * there. Fail with what the call ended with, KNIT_BAD_RESULT (it does not fit the signature),
 * KNIT_BAD_ARGUMENT (it was started without one). */
KNIT_MUST_CHECK int knit_results(struct knit_handle *handle, struct knit_error *ret_error, ...);
KNIT_MUST_CHECK int knit_result_raw(struct knit_handle *handle, struct knit_error *ret_error,
    const void **ret_result, size_t *ret_len);

/* What the task printed, to stdout and stderr, up to its end: the first 32 KiB of it, and whether
 * that was cut. Borrowed from the handle; any bytes. Does not wait. It is in the daemon's log too.
 * False: the option `output` was not set, or the call has no outcome yet, or its error says nothing
 * of what was printed: the task was not started, or its worker died. */
KNIT_MUST_CHECK bool knit_output(
    struct knit_handle *handle, const void **ret_text, size_t *ret_len, bool *ret_is_cut);

/* Have `on_done` called once when the outcome is there; if it is there already, at the next
 * dispatch. The callback reads it with knit_await(handle, 0, ...), and may free the handle. Does
 * not wait. */
void knit_on_done(struct knit_handle *handle,
    void (*on_done)(struct knit_handle *handle, void *user), void *user);

/* Ask that the task stop: one that is queued will not start, one that runs sees knit_aborted(). The
 * call still ends in its one outcome, for which this does not wait: KNIT_CANCELLED, or its result.
 * A second time changes nothing. */
void knit_cancel(struct knit_handle *handle);

/* The same with a reason, and without waiting: the call ends now, in KNIT_CANCELLED with the reason
 * as its message and, as a msgpack str, its data; what the task still gives is dropped. An outcome
 * that is there stays. Of a reason 4,096 bytes are kept, and 112 for the task, knit_abort_reason().
 * NULL: knit_cancel(). */
void knit_abort(struct knit_handle *handle, const char *reason);

/* Free a handle and its result. A call still in flight is cancelled and its outcome dropped,
 * without a callback. Does not wait. NULL is allowed; returns NULL. */
struct knit_handle *knit_free(struct knit_handle *handle);

/* Returns the session that started it, for callbacks. Does not block. */
struct knit *knit_handle_session(struct knit_handle *handle);

/* ---- Event loops ---- */

/* Returns one descriptor that becomes readable whenever knit_dispatch() has something to do: an
 * answer, a deadline, room to send; and while calls through shared memory are in flight every
 * 50 ms, in a pool of this process every max_backoff_ms. It belongs to the session; watch it for
 * reading, level-triggered, and do nothing else with it. -1: the session has failed, or the system
 * refused a descriptor: errno says which (ENOTCONN for the first), and it may be asked again. After
 * starting calls outside of a callback, knit_flush(). Does not block. */
int knit_fd(struct knit *k);

/* Have `on_drain` called once by knit_dispatch() when, after a call that found as many in flight as
 * its option queue_max allows, fewer than half of that are. on_drain NULL = none. Does not wait. */
void knit_on_drain(struct knit *k, void (*on_drain)(struct knit *k, void *user), void *user);

/* Without waiting, send, receive, settle calls and run callbacks; and the next step to another
 * connection, where one was lost. Fails with KNIT_DISCONNECTED, once the connection is gone, stays
 * so, and every call in flight has been settled with it; with KNIT_BAD_ARGUMENT in a callback. */
int knit_dispatch(struct knit *k, struct knit_error *ret_error);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
