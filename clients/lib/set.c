/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of calls. What a handle does when it leaves or ends is in handle.c.
 *
 * A set looks first at the call that was added first: workers take calls in their order, so most
 * often that one is done next, and a look at it is one load, as knit_await() of one handle after
 * the other does it. Only if it is not done are the answers of all others collected.
 */
#include <knitting/set.h>

#include <stdlib.h>
#include <string.h>

#include "clients/lib/client.h"
#include "clients/lib/error.h"
#include "clients/lib/members.h"

enum { ROOM_FIRST = 64 };

int knit_set_new(struct knit *k, struct knit_error *ret_error, struct knit_set **ret)
{
    int code = knit_client_check(k, ret_error);
    struct knit_set *set;

    if (code != KNIT_OK)
        return code;
    set = calloc(1, sizeof(*set));
    if (set == NULL)
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for a set");
    set->handles = &k->handles;
    TAILQ_INSERT_TAIL(&k->handles.sets, set, entry);
    *ret = set;
    return KNIT_OK;
}

/* One more place behind the last; the places of those that have left are used again. */
static int make_room(struct knit_set *set)
{
    size_t kept = 0, room = set->room != 0 ? set->room : ROOM_FIRST;
    struct knit_handle **waiting;

    if (set->end < set->room)
        return 0;
    for (size_t i = set->first; i < set->end; i++) {
        if (set->waiting[i] == NULL)
            continue;
        set->waiting[kept] = set->waiting[i];
        set->waiting[kept]->place_in_set = kept;
        kept++;
    }
    set->first = 0;
    set->end = kept;
    /* Half of it must have been free, or moving costs more than a few steps for each call. */
    if (set->room != 0 && kept <= set->room / 2)
        return 0;
    if (set->room != 0)
        room = 2 * set->room;
    waiting = realloc(set->waiting, room * sizeof(struct knit_handle *));
    if (waiting == NULL)
        return -1;
    set->waiting = waiting;
    set->room = room;
    return 0;
}

/* Why a set cannot have the call; NULL: it can. */
static const char *refusal(const struct knit_set *set, const struct knit_handle *handle)
{
    if (handle->handles != set->handles)
        return "the call is of another session than the set";
    if ((handle->flags & KNIT_HANDLE_IN_SET) != 0)
        return "the call is in a set already";
    if ((handle->flags & KNIT_HANDLE_CALLBACK) != 0)
        return "the call has a callback, and one in a set has none";
    return NULL;
}

int knit_set_add(
    struct knit_set *set, struct knit_handle *handle, void *user, struct knit_error *ret_error)
{
    const char *why = refusal(set, handle);

    if (why != NULL)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_UNKNOWN, "%s", why);
    if (make_room(set) != 0)
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_UNKNOWN, "not enough memory for the set");
    handle->flags |= KNIT_HANDLE_IN_SET;
    handle->set = set;
    handle->user = user;
    handle->place_in_set = set->end;
    set->waiting[set->end++] = handle;
    set->count++;
    if ((handle->flags & KNIT_HANDLE_WAITING) == 0)
        knit_handle_finish_in_set(handle);
    return KNIT_OK;
}

size_t knit_set_count(const struct knit_set *set)
{
    return set->count + set->done_count;
}

int knit_set_flush(struct knit_set *set, struct knit_error *ret_error)
{
    return knit_flush(set->handles->session, ret_error);
}

/* The call that was added first of those that wait; NULL: none waits. */
static struct knit_handle *oldest(struct knit_set *set)
{
    while (set->first < set->end && set->waiting[set->first] == NULL)
        set->first++;
    return set->first < set->end ? set->waiting[set->first] : NULL;
}

/* Usual calls whose small results have come, the oldest first, until one has not. */
static void take_in_order(struct knit_set *set)
{
    const uint32_t usual = KNIT_HANDLE_USUAL_WAITING | KNIT_HANDLE_IN_SET;
    struct knit_lanes *lanes = set->handles->lanes;
    struct knit_handle *handle;

    if (lanes == NULL || lanes->session->dirty != 0)
        return;
    while ((handle = oldest(set)) != NULL && handle->flags == usual &&
           knit_handle_try_take(handle, lanes)) {
        handle->flags |= KNIT_HANDLE_IN_SET;
        knit_handle_finish_in_set(handle);
    }
}

static bool are_done(const struct knit_set *set, size_t count)
{
    return set->done_count >= count || set->count == 0;
}

/* For all of them it is enough to sleep for one after the other. */
static int wait(struct knit_set *set, size_t count, uint64_t until_ns)
{
    const bool is_for_all = count >= set->done_count + set->count;
    struct knit *k = set->handles->session;

    take_in_order(set);
    if (!are_done(set, count))
        knit_client_send_first(oldest(set), until_ns);
    while (!are_done(set, count)) {
        struct knit_handle *handle = oldest(set);

        knit_client_turn(handle);
        if (!are_done(set, count) && !TAILQ_EMPTY(&k->handles.fresh))
            knit_client_give_values(k);
        take_in_order(set);
        if (are_done(set, count))
            return KNIT_OK;
        handle = oldest(set);
        if (knit_client_is_late(handle, until_ns))
            return are_done(set, count) ? KNIT_OK : KNIT_PENDING;
        knit_client_wait(k, knit_client_way(handle), is_for_all ? handle : NULL, until_ns);
        take_in_order(set);
    }
    return KNIT_OK;
}

/* Also when an exception or the end of its thread leaves a callback; NULL = it was not begun. */
static void end_waiting(struct knit_set **awaited)
{
    if (*awaited != NULL)
        (*awaited)->is_awaited = false;
}

static __attribute__((noinline)) int wait_and_turn(
    struct knit_set *set, size_t count, double wait_ms, struct knit_error *ret_error)
{
    struct knit *k = set->handles->session;
    uint64_t until_ns;
    __attribute__((cleanup(end_waiting))) struct knit_set *awaited = NULL;
    int code;

    if (!knit_client_is_ours(k))
        return knit_client_refuse(k, ret_error);
    if (set->done_count >= count || set->count == 0)
        return KNIT_OK;
    code = knit_client_begin_wait(k, wait_ms, &until_ns, ret_error);
    if (code != KNIT_OK)
        return code;
    awaited = set;
    set->is_awaited = true;
    code = wait(set, count, until_ns);
    knit_client_end_turn(k);
    return code;
}

int knit_set_wait(struct knit_set *set, size_t count, double wait_ms, struct knit_error *ret_error)
{
    return wait_and_turn(set, count, wait_ms, ret_error);
}

int knit_set_next(struct knit_set *set, double wait_ms, struct knit_error *ret_error,
    struct knit_handle **ret, void **ret_user)
{
    struct knit_handle *handle;
    int code;

    if (set->done == NULL || !knit_client_is_ours(set->handles->session)) {
        code = wait_and_turn(set, 1, wait_ms, ret_error);
        if (code != KNIT_OK)
            return code;
        /* None was in it, or a callback has taken the one that was done. */
        if (set->done == NULL)
            return KNIT_PENDING;
    }
    handle = set->done;
    *ret = handle;
    if (ret_user != NULL)
        *ret_user = handle->user;
    knit_handle_leave_set(handle);
    return KNIT_OK;
}

struct knit_set *knit_set_free(struct knit_set *set)
{
    struct knit_handle *handle;

    if (set == NULL || set->is_awaited)
        return set;
    while ((handle = set->done) != NULL || (handle = oldest(set)) != NULL)
        (void)knit_free(handle);
    knit_handle_set_free(set);
    return NULL;
}
