/* SPDX-License-Identifier: Apache-2.0 */
/* Reading files and asking name services may take long, and what a loop has only that one knows. So
 * no loop does either by itself: the request waits here. */
#include "server/rpc/asked.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/head.h"
#include "proto/sentence.h"
#include "proto/text.h"
#include "proto/writer.h"
#include "server/rpc/router.h"

enum { WAITING_MAX = 64 };

void knit_asked_init(struct knit_asked *asked)
{
    *asked = (struct knit_asked){0};
    TAILQ_INIT(&asked->waiting);
}

static void drop(struct knit_asked *asked, struct knit_asked_wait *wait)
{
    TAILQ_REMOVE(&asked->waiting, wait, in_waiting);
    asked->count--;
    free(wait);
}

static void refuse(struct knit_caller *caller, const struct knit_message *message)
{
    char text[80];

    (void)snprintf(text, sizeof(text), "%.*s: as many as may wait do already",
        (int)message->method.name.len, (const char *)message->method.name.bytes);
    knit_caller_refuse(caller, message->msgid, KNIT_QUOTA, text);
}

static void begin(
    struct knit_caller *caller, const struct knit_message *message, enum knit_asked_kind kind)
{
    const struct knit_router_backend *backend = caller->router->backend;
    struct knit_asked *asked = &caller->router->asked;
    struct knit_asked_wait *wait;

    if (message->kind != KNIT_MESSAGE_REQUEST) {
        KNIT_COUNT(caller->turn, notifications_dropped);
        return;
    }
    if (asked->count == WAITING_MAX || backend->ask == NULL ||
        !backend->ask(backend->arg, kind, caller->turn->loop, asked->ticket + 1)) {
        refuse(caller, message);
        return;
    }
    asked->ticket++;
    wait = malloc(sizeof(*wait));
    if (wait == NULL) {
        caller->ops->close_without_memory(caller);
        return;
    }
    *wait = (struct knit_asked_wait){
        .caller = caller, .msgid = message->msgid, .ticket = asked->ticket, .kind = kind};
    TAILQ_INSERT_TAIL(&asked->waiting, wait, in_waiting);
    asked->count++;
}

void knit_asked_reload(struct knit_caller *caller, const struct knit_message *message)
{
    begin(caller, message, KNIT_ASKED_RELOAD);
}

void knit_asked_calls(struct knit_caller *caller, const struct knit_message *message)
{
    begin(caller, message, KNIT_ASKED_CALLS);
}

void knit_asked_sessions(struct knit_caller *caller, const struct knit_message *message)
{
    begin(caller, message, KNIT_ASKED_SESSIONS);
}

/* The next one of a reload, or of a list, up to the ticket. Tickets go on from the last number to
 * 0. */
static bool take(
    struct knit_asked *asked, bool is_reload, uint32_t ticket, struct knit_asked_wait *ret_wait)
{
    struct knit_asked_wait *wait;

    TAILQ_FOREACH(wait, &asked->waiting, in_waiting)
    {
        if ((wait->kind == KNIT_ASKED_RELOAD) != is_reload || (int32_t)(wait->ticket - ticket) > 0)
            continue;
        *ret_wait = *wait;
        drop(asked, wait);
        return true;
    }
    return false;
}

void knit_asked_reloaded(
    struct knit_router *router, uint32_t ticket, bool has_failed, const char *text)
{
    static const uint8_t nil = 0xc0;
    uint8_t bytes[KNIT_SENTENCE_MAX + KNIT_HEAD_BYTES_MAX];
    struct knit_span result = knit_span(&nil, 1);
    struct knit_asked_wait wait;
    struct knit_buffer note;
    struct knit_writer writer;

    knit_buffer_init_fixed(&note, bytes, sizeof(bytes));
    knit_writer_init(&writer, &note);
    knit_writer_text(&writer, text);
    if (text[0] != '\0' && knit_text_is_utf8(text, strlen(text)) && knit_writer_end(&writer) == 0)
        result = knit_buffer_span(&note);
    while (take(&router->asked, true, ticket, &wait)) {
        if (has_failed)
            knit_caller_refuse(wait.caller, wait.msgid, KNIT_BAD_ARGUMENT, text);
        else
            wait.caller->ops->reply(wait.caller, wait.msgid, result);
    }
}

void knit_asked_listed(
    struct knit_router *router, uint32_t ticket, const struct knit_span lists[KNIT_ASKED_LISTS])
{
    struct knit_asked_wait wait;

    while (take(&router->asked, false, ticket, &wait)) {
        if (lists[wait.kind].bytes == NULL)
            knit_caller_refuse(
                wait.caller, wait.msgid, KNIT_INTERNAL, "the list could not be encoded");
        else
            wait.caller->ops->reply(wait.caller, wait.msgid, lists[wait.kind]);
    }
}

void knit_asked_forget(struct knit_caller *caller)
{
    struct knit_asked *asked = &caller->router->asked;
    struct knit_asked_wait *wait, *next;

    for (wait = TAILQ_FIRST(&asked->waiting); wait != NULL; wait = next) {
        next = TAILQ_NEXT(wait, in_waiting);
        if (wait->caller == caller)
            drop(asked, wait);
    }
}
