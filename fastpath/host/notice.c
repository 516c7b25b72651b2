/* SPDX-License-Identifier: Apache-2.0 */
/* One list for lines of output and for events, in the order in which they happened: the host learns
 * a worker's last lines before its death.
 */
#include "fastpath/host/notice.h"

#include <stdlib.h>
#include <string.h>

struct knit_notice {
    struct knit_notice *next;
    struct knit_host_event event; /* of a line: lane, pid, task and call */
    bool is_line;
    bool is_truncated;
    size_t len;
    char text[]; /* and a NUL */
};

void knit_notices_init(struct knit_notices *notices)
{
    *notices = (struct knit_notices){.end = &notices->first};
}

void knit_notices_fini(struct knit_notices *notices)
{
    while (notices->first != NULL) {
        struct knit_notice *notice = notices->first;

        notices->first = notice->next;
        free(notice);
    }
    knit_notices_init(notices);
}

static struct knit_notice *add(
    struct knit_notices *notices, const struct knit_host_event *event, const char *text, size_t len)
{
    struct knit_notice *notice = calloc(1, sizeof(*notice) + len + 1);

    if (notice == NULL)
        return NULL;
    notice->event = *event;
    memcpy(notice->text, text, len);
    notice->len = len;
    *notices->end = notice;
    notices->end = &notice->next;
    return notice;
}

void knit_notices_add_event(struct knit_notices *notices, const struct knit_host_event *event)
{
    const char *text = event->text != NULL ? event->text : "";

    (void)add(notices, event, text, strlen(text));
}

void knit_notices_add_line(struct knit_notices *notices, const struct knit_host_event *from,
    const char *line, size_t len, size_t cut)
{
    struct knit_notice *notice = NULL;

    notices->dropped_bytes += cut;
    if (notices->lines < KNIT_NOTICES_MAX)
        notice = add(notices, from, line, len);
    if (notice == NULL) {
        notices->dropped++;
        notices->dropped_bytes += len + 1;
        return;
    }
    notice->is_line = true;
    notice->is_truncated = cut != 0;
    notices->lines++;
}

void knit_notices_take(struct knit_notices *notices, struct knit_notices *ret_pending)
{
    uint64_t dropped = notices->dropped, dropped_bytes = notices->dropped_bytes;

    ret_pending->first = notices->first;
    knit_notices_init(notices);
    notices->dropped = dropped;
    notices->dropped_bytes = dropped_bytes;
}

void knit_notices_deliver(struct knit_notices *notices, const struct knit_host_callbacks *callbacks)
{
    while (notices->first != NULL) {
        struct knit_notice *notice = notices->first;

        notices->first = notice->next;
        if (notice->is_line) {
            if (callbacks->on_output != NULL)
                callbacks->on_output(callbacks->arg, &notice->event, notice->text, notice->len,
                    notice->is_truncated);
        } else if (callbacks->on_event != NULL) {
            notice->event.text = notice->text;
            callbacks->on_event(callbacks->arg, &notice->event);
        }
        free(notice);
    }
    notices->end = &notices->first;
}
