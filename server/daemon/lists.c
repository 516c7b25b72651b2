/* SPDX-License-Identifier: Apache-2.0 */
/* A round asks the loops and joins what they say. One is under way at a time; who asks meanwhile is
 * noted for the next. Loops copy the lists, which are made once, on their own threads. */
#include "server/daemon/lists.h"

#include <errno.h>

#include "server/daemon/loop.h"
#include "server/daemon/mailbox.h"

enum { LIST_MAX_BYTES = 16 * 1024 * 1024 };

static const struct timeval late_time = {1, 0};

/* ---- for the loops -------------------------------------------------------------------------- */

void knit_listed_init(struct knit_listed *listed)
{
    (void)pthread_mutex_init(&listed->mutex, NULL);
    for (size_t i = 0; i < KNIT_ASKED_LISTS; i++)
        knit_buffer_init(&listed->lists[i], LIST_MAX_BYTES);
}

void knit_listed_fini(struct knit_listed *listed)
{
    for (size_t i = 0; i < KNIT_ASKED_LISTS; i++)
        knit_buffer_fini(&listed->lists[i]);
}

void knit_listed_answer(struct knit_listed *listed, struct knit_router *router, uint32_t ticket)
{
    struct knit_span lists[KNIT_ASKED_LISTS] = {{NULL, 0}};

    (void)pthread_mutex_lock(&listed->mutex);
    for (size_t i = 0; i < KNIT_ASKED_LISTS; i++)
        if (listed->lists[i].error == 0)
            lists[i] = knit_buffer_span(&listed->lists[i]);
    knit_asked_listed(router, ticket, lists);
    (void)pthread_mutex_unlock(&listed->mutex);
}

/* ---- rounds --------------------------------------------------------------------------------- */

static void make(struct knit_lists *lists)
{
    struct knit_listed *listed = lists->page.loops->listed;

    (void)pthread_mutex_lock(&listed->mutex);
    for (size_t i = 0; i < KNIT_ASKED_LISTS; i++)
        knit_buffer_reset(&listed->lists[i]);
    knit_calls_page_put(&lists->page, &listed->lists[KNIT_ASKED_CALLS]);
    knit_calls_page_put_sessions(&lists->page, &listed->lists[KNIT_ASKED_SESSIONS]);
    (void)pthread_mutex_unlock(&listed->mutex);
}

/* Returns whether it was asked in the round that is over. */
static bool answers(struct knit_lists_asker *asker)
{
    bool was_asked = asker->is_asked;

    asker->is_asked = false;
    return was_asked;
}

static bool begin_one(struct knit_lists_asker *asker)
{
    bool is_wanted = asker->is_wanted;

    if (is_wanted) {
        asker->is_asked = true;
        asker->asked = asker->wanted;
        asker->is_wanted = false;
    }
    return is_wanted;
}

/* Whatever the loops have listed is what there is. */
static void end_round(struct knit_lists *lists)
{
    struct knit_loops *loops = lists->page.loops;
    bool is_made = false;

    lists->is_under_way = false;
    (void)event_del(lists->late_event);
    for (uint32_t i = 0; i < loops->count; i++) {
        if (!answers(&lists->loops[i]))
            continue;
        if (!is_made)
            make(lists);
        is_made = true;
        knit_mailbox_send_surely(&loops->items[i].inbox,
            (struct knit_mailbox_message){KNIT_MAILBOX_LISTED, -1, lists->loops[i].asked});
    }
    if (answers(&lists->face))
        lists->on_face(lists->face_arg);
}

/* Of those that want to know. False: no loop can be asked; then nothing is under way. */
static bool begin_round(struct knit_lists *lists)
{
    bool is_wanted = begin_one(&lists->face);

    for (uint32_t i = 0; i < lists->page.loops->count; i++)
        is_wanted = begin_one(&lists->loops[i]) || is_wanted;
    if (!is_wanted)
        return true;
    lists->is_under_way =
        knit_calls_page_ask(&lists->page) && event_add(lists->late_event, &late_time) == 0;
    return lists->is_under_way;
}

static void go_on(struct knit_lists *lists)
{
    while (!lists->is_under_way && !begin_round(lists))
        end_round(lists);
}

static void on_late(evutil_socket_t fd, short events, void *arg)
{
    (void)fd, (void)events;
    end_round(arg);
    go_on(arg);
}

int knit_lists_start(struct knit_lists *lists, struct event_base *base, struct knit_loops *loops)
{
    *lists = (struct knit_lists){.page = {.loops = loops, .pool = loops->backend.pool}};
    lists->late_event = evtimer_new(base, on_late, lists);
    return lists->late_event != NULL ? 0 : -ENOMEM;
}

void knit_lists_stop(struct knit_lists *lists)
{
    if (lists->late_event != NULL)
        event_free(lists->late_event);
    lists->late_event = NULL;
}

void knit_lists_ask_for(struct knit_lists *lists, uint32_t loop, uint32_t ticket)
{
    lists->loops[loop].is_wanted = true;
    lists->loops[loop].wanted = ticket;
    go_on(lists);
}

bool knit_lists_ask(struct knit_lists *lists, void (*on_face)(void *arg), void *arg)
{
    lists->on_face = on_face;
    lists->face_arg = arg;
    lists->face.is_wanted = true;
    if (lists->is_under_way || begin_round(lists))
        return true;
    lists->face.is_asked = false;
    end_round(lists);
    return false;
}

int knit_lists_put(const struct knit_lists *lists, struct knit_buffer *buffer)
{
    knit_calls_page_put(&lists->page, buffer);
    return buffer->error;
}

void knit_lists_note(struct knit_lists *lists, uint64_t ticket)
{
    if (!lists->is_under_way || !knit_calls_page_note(&lists->page, ticket))
        return;
    end_round(lists);
    go_on(lists);
}
