/* SPDX-License-Identifier: Apache-2.0 */
/* The timer begins with the first line that is counted, so an idle daemon has none. */
#include "server/daemon/second.h"

#include <errno.h>
#include <event2/event.h>

#include "server/base/log.h"

static const struct timeval length = {1, 0};

static void on_end(evutil_socket_t fd, short events, void *arg)
{
    const struct knit_second *second = arg;

    (void)fd, (void)events;
    knit_log_end_second(second->log);
    if (second->look != NULL && second->look(second->arg))
        (void)event_add(second->event, &length);
}

int knit_second_init(struct knit_second *second, struct event_base *base, struct knit_log *log)
{
    second->log = log;
    second->event = evtimer_new(base, on_end, second);
    return second->event != NULL ? 0 : -ENOMEM;
}

void knit_second_fini(struct knit_second *second)
{
    if (second->log != NULL)
        knit_log_end_second(second->log);
    if (second->event != NULL)
        event_free(second->event);
    *second = (struct knit_second){0};
}

void knit_second_note(struct knit_second *second)
{
    if (knit_log_is_counting(second->log) && !event_pending(second->event, EV_TIMEOUT, NULL))
        (void)event_add(second->event, &length);
}
