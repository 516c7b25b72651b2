/* SPDX-License-Identifier: Apache-2.0 */
/* One batch at a time is on its way, all that one loop had handed over. */
#include "server/report/exporter.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/fd.h"
#include "server/base/quiet_thread.h"
#include "server/report/collector.h"
#include "server/report/outbox.h"

enum {
    ROOM_BYTES = 4 << 20, /* of one loop: some thousand spans */
    GATHER_MS = 500,      /* or until one loop has handed over half of its room, */
    LOOK_MS = 50,         /* which is looked at so often */
    ASK_MS = 10000,       /* for one request */
    FIRST_PAUSE_MS = 500,
    PAUSE_MAX_MS = 15000,
    GIVE_UP_MS = 60000, /* for one batch */
    END_MS = 2000,
    LEAVE_MS = 1000, /* and then for the thread, which may wait for a name */
    SAY_EVERY_MS = 10000,
    HEAD_MAX = 2048,
};

struct knit_exporter {
    struct knit_exporter_options options;
    struct knit_outboxes outboxes;
    pthread_t thread;
    int end_fd; /* readable: it is to end */
    pthread_mutex_t mutex;
    bool is_left; /* under it: the log is no more */
    /* The thread's. */
    struct knit_counters counters;
    struct knit_buffer head;
    bool is_ending;
    uint64_t end_ns; /* then: until when */
    uint64_t to_say, said_ns;
    char reason[96];
};

const struct knit_counters *knit_exporter_counters(const struct knit_exporter *exporter)
{
    return &exporter->counters;
}

bool knit_exporter_put(
    struct knit_exporter *exporter, uint32_t loop, const struct knit_ended_call *call)
{
    uint8_t memory[KNIT_OTLP_SPAN_MAX];
    struct knit_buffer span;
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    knit_buffer_init_fixed(&span, memory, sizeof(memory));
    knit_otlp_put_call(
        &span, call, (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec);
    return span.error == 0 &&
           knit_outbox_put(&exporter->outboxes.items[loop], span.bytes, span.len);
}

uint64_t knit_exporter_hand_over(struct knit_exporter *exporter, uint32_t loop)
{
    return knit_outbox_hand_over(&exporter->outboxes.items[loop]);
}

/* ---- the thread ------------------------------------------------------------------------------ */

static struct knit_collector_post post_of(
    const struct knit_exporter *exporter, const struct knit_load *load, uint64_t until_ms)
{
    const struct knit_collector_post post = {.url = &exporter->options.url,
        .parts = {knit_buffer_span(&exporter->head),
            knit_span(load->bytes.bytes, load->bytes.len > 0 ? load->bytes.len - 1 : 0),
            knit_span_text(knit_otlp_tail)},
        .deadline_ns = knit_clock_ns() + until_ms * UINT64_C(1000000),
        .end_fd = exporter->end_fd,
        .end_ms = END_MS};

    return post;
}

/* What a wait has found out. */
static void note_end(struct knit_exporter *exporter, const struct knit_collector_post *post)
{
    if (post->ended_ns == 0)
        return;
    exporter->is_ending = true;
    exporter->end_ns = post->ended_ns + END_MS * UINT64_C(1000000);
}

/* When it ends, nothing goes on for longer. */
static void limit(const struct knit_exporter *exporter, struct knit_collector_post *post)
{
    if (!exporter->is_ending)
        return;
    post->end_fd = -1;
    if (exporter->end_ns < post->deadline_ns)
        post->deadline_ns = exporter->end_ns;
}

/* For so long, or until it is to end. */
static void pause_for(struct knit_exporter *exporter, uint64_t ms)
{
    const struct knit_load none = {.pieces = 0};
    struct knit_collector_post post = post_of(exporter, &none, ms);

    post.end_ms = 0;
    limit(exporter, &post);
    (void)knit_collector_wait(&post, -1, 0);
    note_end(exporter, &post);
}

static enum knit_collector_result ask(struct knit_exporter *exporter, const struct knit_load *load,
    struct knit_collector_answer *ret_answer)
{
    struct knit_collector_post post = post_of(exporter, load, ASK_MS);
    enum knit_collector_result result;

    limit(exporter, &post);
    result = knit_collector_ask(&post, ret_answer);
    note_end(exporter, &post);
    return result;
}

static bool is_over(const struct knit_exporter *exporter, uint64_t until_ns)
{
    const uint64_t now_ns = knit_clock_ns();

    return now_ns >= until_ns || (exporter->is_ending && now_ns >= exporter->end_ns);
}

static void drop(struct knit_exporter *exporter, uint64_t spans, const char *reason)
{
    knit_counter_add(&exporter->counters.spans_dropped, spans);
    exporter->to_say += spans;
    (void)snprintf(exporter->reason, sizeof(exporter->reason), "%s", reason);
}

static void send_load(struct knit_exporter *exporter, const struct knit_load *load)
{
    const uint64_t until_ns = knit_clock_ns() + GIVE_UP_MS * UINT64_C(1000000);
    struct knit_collector_answer answer = {.reason = "the daemon ends"};
    enum knit_collector_result result = KNIT_COLLECTOR_LATER;
    uint64_t pause_ms = FIRST_PAUSE_MS, asked_ms;

    while (result == KNIT_COLLECTOR_LATER && !is_over(exporter, until_ns)) {
        result = ask(exporter, load, &answer);
        if (result != KNIT_COLLECTOR_LATER)
            break;
        asked_ms = answer.retry_after_s * UINT64_C(1000);
        if (asked_ms > PAUSE_MAX_MS)
            asked_ms = PAUSE_MAX_MS;
        if (exporter->is_ending)
            asked_ms = pause_ms = FIRST_PAUSE_MS;
        pause_for(exporter, asked_ms > pause_ms ? asked_ms : pause_ms);
        pause_ms = pause_ms * 2 < PAUSE_MAX_MS ? pause_ms * 2 : PAUSE_MAX_MS;
    }
    if (result == KNIT_COLLECTOR_TAKEN)
        knit_counter_add(&exporter->counters.spans_sent, load->pieces);
    else
        drop(exporter, load->pieces, answer.reason);
}

static void say_dropped(struct knit_exporter *exporter, bool is_last)
{
    const uint64_t now_ns = knit_clock_ns();
    const uint64_t by_loops = knit_outboxes_dropped(&exporter->outboxes);

    if (by_loops > 0 && exporter->to_say == 0)
        (void)snprintf(exporter->reason, sizeof(exporter->reason), "too many at once");
    exporter->to_say += by_loops;
    if (exporter->to_say == 0 || (!is_last && exporter->said_ns != 0 &&
                                     now_ns - exporter->said_ns < SAY_EVERY_MS * UINT64_C(1000000)))
        return;
    (void)pthread_mutex_lock(&exporter->mutex);
    if (!exporter->is_left)
        knit_log(exporter->options.log, KNIT_LOG_WARNING, "spans were dropped",
            KNIT_LOG_NUMBER("spans", exporter->to_say),
            KNIT_LOG_TEXT("collector", exporter->options.url.authority),
            KNIT_LOG_TEXT("reason", exporter->reason));
    (void)pthread_mutex_unlock(&exporter->mutex);
    exporter->to_say = 0;
    exporter->said_ns = now_ns;
}

/* Until a loop has handed over something, or it is to end, or there is something to say. */
static void wait_for_more(struct knit_exporter *exporter)
{
    struct pollfd fds[] = {{exporter->outboxes.wake_fd, POLLIN, 0}, {exporter->end_fd, POLLIN, 0}};

    (void)poll(fds, 2, exporter->to_say != 0 ? SAY_EVERY_MS : -1);
    for (int ms = 0; ms < GATHER_MS && !exporter->is_ending &&
                     knit_outboxes_most(&exporter->outboxes) < ROOM_BYTES / 2;
         ms += LOOK_MS)
        pause_for(exporter, LOOK_MS);
}

static void *run(void *arg)
{
    struct knit_exporter *exporter = arg;
    struct knit_load load = {.pieces = 0};
    bool is_closed = false;

    while (!is_closed) {
        while (knit_outboxes_take(&exporter->outboxes, &load, &is_closed)) {
            send_load(exporter, &load);
            say_dropped(exporter, false);
        }
        say_dropped(exporter, is_closed);
        if (!is_closed)
            wait_for_more(exporter);
    }
    knit_buffer_fini(&load.bytes);
    return NULL;
}

/* ---- start and end --------------------------------------------------------------------------- */

static int start_all(struct knit_exporter *exporter)
{
    int r = knit_outboxes_open(&exporter->outboxes, exporter->options.loops, ROOM_BYTES);

    if (r != 0)
        return r;
    exporter->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (exporter->end_fd < 0)
        return -errno;
    knit_otlp_put_head(&exporter->head, &exporter->options.origin);
    return exporter->head.error != 0
               ? -ENOMEM
               : knit_quiet_thread_start("knit-spans", run, exporter, &exporter->thread);
}

static struct knit_exporter *free_all(struct knit_exporter *exporter)
{
    knit_outboxes_fini(&exporter->outboxes);
    knit_buffer_fini(&exporter->head);
    knit_fd_close(&exporter->end_fd);
    (void)pthread_mutex_destroy(&exporter->mutex);
    free(exporter);
    return NULL;
}

int knit_exporter_start(const struct knit_exporter_options *options,
    struct knit_exporter **ret_exporter, struct knit_sentence *why)
{
    struct knit_exporter *exporter = calloc(1, sizeof(*exporter));
    int r;

    if (exporter == NULL)
        return knit_sentence_set(why, -ENOMEM, "out of memory");
    exporter->options = *options;
    exporter->end_fd = -1;
    (void)pthread_mutex_init(&exporter->mutex, NULL);
    knit_buffer_init(&exporter->head, HEAD_MAX);
    r = start_all(exporter);
    if (r != 0) {
        (void)free_all(exporter);
        return knit_sentence_set(why, r, "cannot begin to send spans: %s", strerror(-r));
    }
    *ret_exporter = exporter;
    return 0;
}

/* A thread that waits for a name has no deadline: it is left, with what it uses. */
struct knit_exporter *knit_exporter_stop(struct knit_exporter *exporter)
{
    const uint64_t one = 1;
    struct timespec until;

    if (exporter == NULL)
        return NULL;
    (void)!write(exporter->end_fd, &one, sizeof(one));
    knit_outboxes_close(&exporter->outboxes);
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (END_MS + LEAVE_MS) / 1000;
    if (pthread_timedjoin_np(exporter->thread, NULL, &until) == 0)
        return free_all(exporter);
    (void)pthread_mutex_lock(&exporter->mutex);
    exporter->is_left = true;
    (void)pthread_mutex_unlock(&exporter->mutex);
    return NULL;
}
