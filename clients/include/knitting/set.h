/* SPDX-License-Identifier: Apache-2.0 */
/* Many calls as one: start them, put them into a set, take them as they finish.
 *
 *     #include <knitting/set.h>
 *
 *     struct knit *k;
 *     struct knit_set *set;
 *     struct knit_handle *handle;
 *     struct knit_error error;
 *     int64_t sum, total = 0;
 *     int code = knit_open("shm:///run/knitting/knitting.sock", NULL, &k, &error);
 *
 *     if (code == KNIT_OK)
 *         code = knit_set_new(k, &error, &set);
 *     for (int64_t i = 0; i < 1000 && code == KNIT_OK; i++) {
 *         code = knit_start(k, NULL, &handle, &error, "add", "(int, int) -> int", i, i);
 *         if (code == KNIT_OK)
 *             code = knit_set_add(set, handle, NULL, &error);
 *     }
 *     while (code == KNIT_OK && knit_set_count(set) > 0) {
 *         code = knit_set_next(set, -1, &error, &handle, NULL);
 *         if (code == KNIT_OK)
 *             code = knit_results(handle, &error, &sum);
 *         if (code == KNIT_OK)
 *             total += sum;
 *         knit_free(handle);
 *     }
 *     if (code != KNIT_OK)
 *         fprintf(stderr, "%s: %s\n", error.name, error.message);
 *     else
 *         printf("%lld\n", (long long)total);
 *     knit_close(k);
 *
 * Threads: a set belongs to its session and to the thread that has that.
 *
 * It holds handles and knows which of them are done, so that nobody asks each; it has no limit of
 * its own: where the session has no room for another call, knit_start() waits or says so, as ever.
 *
 * A call in a set is a call like any other: it may be awaited, cancelled and freed, which takes it
 * out. It has no callback: knit_on_done() takes it out of its set too.
 */
#pragma once

#include <stddef.h>

#include <knitting/knitting.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

struct knit_set;

/* In place of a number of calls: all that are in the set. */
#define KNIT_SET_ALL ((size_t)-1)

/* An empty one. Does not block. Fails with KNIT_DISCONNECTED, KNIT_INTERNAL (out of memory). */
KNIT_MUST_CHECK int knit_set_new(
    struct knit *k, struct knit_error *ret_error, struct knit_set **ret);

/* Put a call of the same session into it, done or not; `user` comes back with it. Fails with
 * KNIT_BAD_ARGUMENT (it is in a set, has a callback, or is another session's), KNIT_INTERNAL (out
 * of memory), and then the handle is as before. Does not block. */
KNIT_MUST_CHECK int knit_set_add(
    struct knit_set *set, struct knit_handle *handle, void *user, struct knit_error *ret_error);

/* How many calls are in it, done or not. Does not block. */
size_t knit_set_count(const struct knit_set *set);

/* Send what was started, as knit_flush() does. Functions that wait do it by themselves. */
int knit_set_flush(struct knit_set *set, struct knit_error *ret_error);

/* Wait until `count` of its calls are done, 1 for any, KNIT_SET_ALL or a number beyond what is in
 * it for all, for at most wait_ms, as knit_await() does. KNIT_PENDING: not yet. KNIT_OK says that
 * they are done, not how: each has its own outcome. Fails with KNIT_BAD_ARGUMENT in a callback,
 * unless wait_ms is 0, and with KNIT_DISCONNECTED in a forked child. When the connection is gone
 * all calls are done. */
int knit_set_wait(struct knit_set *set, size_t count, double wait_ms, struct knit_error *ret_error);

/* Wait for any and take it out: its outcome is there, and it is the caller's to read and to free.
 * *ret_user (NULL is allowed) is what it was added with. Of calls that are done, in the order in
 * which that was seen. KNIT_PENDING: none is done yet, or the set is empty. Fails as
 * knit_set_wait(). With an event loop, take all that are done, with wait_ms 0, after each
 * knit_dispatch(). */
KNIT_MUST_CHECK int knit_set_next(struct knit_set *set, double wait_ms,
    struct knit_error *ret_error, struct knit_handle **ret, void **ret_user);

/* Free it and the calls that are in it; those in flight are cancelled. knit_close() does it for
 * those that are left. NULL is allowed; returns NULL. In a callback, while knit_set_wait() or
 * knit_set_next() waits for this set, it does nothing and returns the set. */
struct knit_set *knit_set_free(struct knit_set *set);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
