/* SPDX-License-Identifier: Apache-2.0 */
/* A loop that has not turned when it is looked for is looked for more often until it has, so that
 * one which is late for less than the manager waits is not taken for one that is stuck.
 */
#include "server/daemon/status.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fastpath/host/pool.h"
#include "proto/text.h"
#include "server/base/log.h"
#include "server/daemon/loop.h"

enum {
    LOOKS = 2,       /* in the time that the manager waits */
    LATE_LOOKS = 16, /* in it, while a loop is late */
    END_MS = 10000,  /* after the drain: the last replies, and the end of the workers */
};

/* ---- the sentence -------------------------------------------------------------------------- */

/* Adds to a text what fits. */
__attribute__((format(printf, 3, 4))) static void add(
    char *text, size_t size, const char *format, ...)
{
    size_t used = strlen(text);
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text + used, size - used, format, arguments);
    va_end(arguments);
}

/* A message is lines of UTF-8, and a sentence may quote a file. */
static void make_line(char *text)
{
    bool is_utf8 = knit_text_is_utf8(text, strlen(text));

    for (char *at = text; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ')
            *at = ' ';
        else if ((unsigned char)*at >= 0x80 && !is_utf8)
            *at = '?';
    }
}

/* Calls that workers have begun, for whomever. */
static uint64_t calls_begun(struct knit_host *pool)
{
    uint64_t calls = 0;

    for (uint32_t i = 0; i < knit_host_lanes(pool); i++) {
        struct knit_host_lane_stats lane;

        knit_host_lane_stats(pool, i, &lane);
        calls += lane.calls;
    }
    return calls;
}

static void count_calls(struct knit_status *status)
{
    uint64_t calls = calls_begun(status->pool), now_ns = knit_clock_ns();
    uint64_t passed_ms = (now_ns - status->at_ns) / 1000000;

    /* Workers count them, and a task can write there. */
    status->has_rate = status->at_ns != 0 && passed_ms > 0 && calls >= status->calls;
    if (status->has_rate)
        status->calls_a_second = (calls - status->calls) * 1000 / passed_ms;
    status->calls = calls;
    status->at_ns = now_ns;
}

static void write_sentence(struct knit_status *status, char text[KNIT_STATUS_TEXT_MAX])
{
    const size_t size = KNIT_STATUS_TEXT_MAX;
    struct knit_counter_values sum = {0};
    struct knit_host_stats pool;

    for (uint32_t i = 0; i < status->loops->count; i++)
        knit_counters_sum(&sum, &status->loops->items[i].turn.counters);
    knit_host_stats(status->pool, &pool);
    text[0] = '\0';
    if (status->until[0] != '\0') {
        add(text, size, "draining until %s at the latest: ", status->until);
        add(text, size, "%" PRIu64 " calls of connections in flight, ", sum.calls_in_flight);
        add(text, size, "%" PRIu64 " connections", knit_counters_open_connections(&sum));
        return;
    }
    add(text, size, "%s with %u of %u workers", pool.is_degraded ? "degraded:" : "serving",
        pool.lanes_serving, pool.lanes);
    add(text, size, ", %" PRIu64 " connections", knit_counters_open_connections(&sum));
    if (status->has_rate)
        add(text, size, ", %" PRIu64 " calls/s", status->calls_a_second);
    if (status->refusal[0] != '\0')
        add(text, size, "; the last reload was refused: %s", status->refusal);
}

/* Sends these lines, and with them the sentence, unless the manager has it. */
static void say(struct knit_status *status, const char *lines)
{
    char text[KNIT_STATUS_TEXT_MAX], message[KNIT_STATUS_TEXT_MAX + 128] = "";

    if (status->notify.address_len == 0)
        return;
    write_sentence(status, text);
    add(message, sizeof(message), "%s", lines);
    if (strcmp(text, status->said) != 0)
        add(message, sizeof(message), "\nSTATUS=%s", text);
    (void)snprintf(status->said, sizeof(status->said), "%s", text);
    knit_notify_send(&status->notify, message);
}

/* ---- the watchdog -------------------------------------------------------------------------- */

/* All loops have turned since it was last said. Which one has not is logged once. */
static bool all_turn(struct knit_status *status)
{
    for (uint32_t i = 0; i < status->loops->count && !status->is_ending; i++) {
        if (knit_counter_read(&status->loops->items[i].turn.counters.turns) != status->turns[i])
            continue;
        if (status->late != i + 1)
            knit_log(status->log, KNIT_LOG_WARNING, "an event loop does not turn",
                KNIT_LOG_NUMBER("loop", i),
                KNIT_LOG_NUMBER("watchdog_ms", status->notify.watchdog_us / 1000));
        status->late = i + 1;
        return false;
    }
    status->late = 0;
    return true;
}

/* One that is busy turns by itself, and one whose mailbox is full has to. */
static void ask_for_turns(struct knit_status *status)
{
    for (uint32_t i = 0; i < status->loops->count && !status->is_ending; i++) {
        struct knit_loop *loop = &status->loops->items[i];

        status->turns[i] = knit_counter_read(&loop->turn.counters.turns);
        (void)!knit_loop_send(loop, (struct knit_mailbox_message){KNIT_MAILBOX_TURN, -1, 0});
    }
}

/* looks: in the time that the manager waits. */
static int look_again(struct knit_status *status, unsigned looks)
{
    uint64_t us = status->notify.watchdog_us / looks;
    struct timeval later = {(time_t)(us / 1000000), (suseconds_t)(us % 1000000)};

    return event_add(status->event, &later) < 0 ? -ENOMEM : 0;
}

static void on_look(evutil_socket_t fd, short events, void *arg)
{
    struct knit_status *status = arg;
    bool is_alive = all_turn(status);

    (void)fd, (void)events;
    if (is_alive) {
        count_calls(status);
        say(status, "WATCHDOG=1");
        ask_for_turns(status);
    }
    (void)look_again(status, is_alive ? LOOKS : LATE_LOOKS);
}

/* ---- what happens -------------------------------------------------------------------------- */

void knit_status_init(struct knit_status *status)
{
    *status = (struct knit_status){0};
    knit_notify_init(&status->notify);
}

int knit_status_ready(struct knit_status *status, struct event_base *base)
{
    int r = 0;

    if (status->notify.address_len != 0 && status->notify.watchdog_us >= LATE_LOOKS) {
        status->event = evtimer_new(base, on_look, status);
        r = status->event != NULL ? look_again(status, LOOKS) : -ENOMEM;
        if (r == 0)
            ask_for_turns(status);
    }
    status->calls = calls_begun(status->pool);
    status->at_ns = knit_clock_ns();
    if (r == 0)
        say(status, "READY=1");
    return r;
}

void knit_status_reload(struct knit_status *status)
{
    char lines[64];

    if (status->until[0] != '\0')
        return;
    (void)snprintf(
        lines, sizeof(lines), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, knit_clock_ns() / 1000);
    knit_notify_send(&status->notify, lines);
}

void knit_status_reloaded(struct knit_status *status, const char *refusal)
{
    if (status->until[0] != '\0')
        return;
    if (refusal == NULL)
        refusal = "";
    (void)snprintf(status->refusal, sizeof(status->refusal), "%.*s",
        (int)knit_text_cut(refusal, strlen(refusal), sizeof(status->refusal) - 1), refusal);
    make_line(status->refusal);
    say(status, "READY=1");
}

void knit_status_drain(struct knit_status *status, uint64_t drain_ms)
{
    time_t end = time(NULL) + (time_t)((drain_ms + 999) / 1000);
    struct tm parts;
    char lines[96];

    if (gmtime_r(&end, &parts) == NULL ||
        strftime(status->until, sizeof(status->until), "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        (void)snprintf(status->until, sizeof(status->until), "its time is over");
    (void)snprintf(lines, sizeof(lines), "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRIu64,
        (drain_ms + END_MS) * 1000);
    say(status, lines);
}

void knit_status_end(struct knit_status *status)
{
    status->is_ending = true;
}

void knit_status_close(struct knit_status *status)
{
    if (status->event != NULL)
        event_free(status->event);
    status->event = NULL;
}
