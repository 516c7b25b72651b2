/* SPDX-License-Identifier: Apache-2.0 */
/* The thread writes what it finds and looks again a moment later, so that at a high rate many turns
 * are one write(). */
#include "server/report/access_log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/fd.h"
#include "server/base/log_line.h"
#include "server/base/quiet_thread.h"
#include "server/report/outbox.h"

enum {
    ROOM_BYTES = 4 << 20, /* of one loop: of 200,000 calls a second those of 0.1 s */
    GATHER_MS = 2,
    SAY_EVERY_MS = 1000,
    ID_DIGITS = 32,
};

struct knit_access_log {
    struct knit_access_log_options options;
    char *path;
    struct knit_outboxes outboxes;
    pthread_t thread;
    bool has_thread;
    int prepared_fd; /* the main thread's */
    pthread_mutex_t mutex;
    int next_fd; /* under it; -1 = the file stays */
    /* The thread's. */
    struct knit_counters counters;
    int fd;
    bool is_torn;    /* the last line was written in part */
    uint64_t to_say; /* lines that were dropped and not told of */
    uint64_t said_ns;
    int error; /* of a write of these; 0 = none failed */
};

/* ---- lines --------------------------------------------------------------------------------- */

static void put_trace(struct knit_log_line *line, const struct knit_trace *trace)
{
    char digits[ID_DIGITS];

    knit_trace_put_hex(digits, trace->id, sizeof(trace->id));
    knit_log_line_text(line, "trace", digits, 2 * sizeof(trace->id));
    knit_trace_put_hex(digits, trace->span, sizeof(trace->span));
    knit_log_line_text(line, "span", digits, 2 * sizeof(trace->span));
}

static void put_text(struct knit_log_line *line, const char *key, const char *text)
{
    knit_log_line_text(line, key, text, strlen(text));
}

static void put_call(struct knit_log_line *line, const struct knit_ended_call *call)
{
    put_text(line, "principal", call->principal);
    knit_log_line_text(line, "task", (const char *)call->task.bytes, call->task.len);
    put_text(line, "kind", call->is_notification ? "notification" : "request");
    put_text(line, "outcome", knit_ended_call_outcome(call));
    knit_log_line_number(line, "took_us", call->took_ns / 1000);
    if (call->knows_run) {
        knit_log_line_number(line, "wait_us", (call->took_ns - call->run_ns) / 1000);
        knit_log_line_number(line, "run_us", call->run_ns / 1000);
    }
    knit_log_line_number(line, "in_bytes", call->argument_bytes);
    knit_log_line_number(line, "out_bytes", call->result_bytes);
    put_text(line, "by", knit_ended_call_ran_by(call));
    put_text(line, "peer", call->peer);
    if (call->trace != NULL)
        put_trace(line, call->trace);
}

void knit_access_log_put(
    struct knit_access_log *access, uint32_t loop, const struct knit_ended_call *call)
{
    const struct knit_log *log = access->options.log;
    struct knit_log_line line;
    struct timespec now;

    if (access->path == NULL) {
        if (!knit_log_is_on(log, KNIT_LOG_INFO))
            return;
        knit_log_begin_line(&line, log, KNIT_LOG_INFO, "call");
    } else {
        knit_log_line_begin(&line, log->is_json, "");
        (void)clock_gettime(CLOCK_REALTIME, &now);
        knit_log_line_time(&line, "ts", &now);
    }
    put_call(&line, call);
    knit_log_line_end(&line);
    (void)knit_outbox_put(&access->outboxes.items[loop], line.bytes, line.len);
}

const struct knit_counters *knit_access_log_counters(const struct knit_access_log *access)
{
    return &access->counters;
}

uint64_t knit_access_log_hand_over(struct knit_access_log *access, uint32_t loop)
{
    return knit_outbox_hand_over(&access->outboxes.items[loop]);
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void exchange_file(struct knit_access_log *access)
{
    int next_fd;

    (void)pthread_mutex_lock(&access->mutex);
    next_fd = access->next_fd;
    access->next_fd = -1;
    (void)pthread_mutex_unlock(&access->mutex);
    if (next_fd < 0)
        return;
    knit_fd_close(&access->fd);
    access->fd = next_fd;
    access->is_torn = false;
}

/* How much of it was written. */
static size_t write_all(struct knit_access_log *access, const char *bytes, size_t len)
{
    size_t done = 0;

    while (done < len) {
        const ssize_t n = write(access->fd, bytes + done, len - done);

        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            break;
    }
    if (done < len)
        access->error = errno;
    return done;
}

static uint64_t count_lines(const char *bytes, size_t len)
{
    uint64_t lines = 0;

    for (size_t i = 0; i < len; i++)
        lines += bytes[i] == '\n';
    return lines;
}

static void write_load(struct knit_access_log *access, const struct knit_load *load)
{
    const char *bytes = (const char *)load->bytes.bytes;
    size_t len = load->bytes.len, done = 0;
    uint64_t lost;

    if (access->path == NULL) {
        knit_log_put_lines(access->options.log, bytes, len);
        return;
    }
    if (!access->is_torn || write_all(access, "\n", 1) == 1) {
        done = write_all(access, bytes, len);
        access->is_torn = done > 0 && bytes[done - 1] != '\n';
    }
    lost = count_lines(bytes + done, len - done);
    if (lost == 0)
        return;
    knit_counter_add(&access->counters.access_dropped, lost);
    access->to_say += lost;
}

static void say_dropped(struct knit_access_log *access, bool is_last)
{
    const uint64_t now_ns = knit_clock_ns();

    access->to_say += knit_outboxes_dropped(&access->outboxes);
    if (access->to_say == 0 ||
        (!is_last && now_ns - access->said_ns < SAY_EVERY_MS * UINT64_C(1000000)))
        return;
    knit_log(access->options.log, KNIT_LOG_WARNING, "lines of the access log were dropped",
        KNIT_LOG_NUMBER("lines", access->to_say),
        KNIT_LOG_TEXT("reason", access->error != 0 ? strerror(access->error) : "too many at once"));
    access->to_say = 0;
    access->error = 0;
    access->said_ns = now_ns;
}

static void *run(void *arg)
{
    struct knit_access_log *access = arg;
    struct knit_load load = {.pieces = 0};
    struct pollfd wake = {access->outboxes.wake_fd, POLLIN, 0};
    bool is_closed = false, has_some;

    while (!is_closed) {
        has_some = false;
        while (knit_outboxes_take(&access->outboxes, &load, &is_closed)) {
            has_some = true;
            exchange_file(access);
            write_load(access, &load);
        }
        exchange_file(access);
        say_dropped(access, is_closed);
        if (has_some)
            (void)poll(NULL, 0, GATHER_MS);
        else if (!is_closed)
            (void)poll(&wake, 1, access->to_say != 0 ? SAY_EVERY_MS : -1);
    }
    knit_buffer_fini(&load.bytes);
    return NULL;
}

/* ---- files --------------------------------------------------------------------------------- */

/* A pipe that nobody reads is refused, and does not hold up the start. */
static int open_file(const char *path, int *ret_fd, struct knit_sentence *why)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);

    if (fd < 0)
        return knit_sentence_set(
            why, -errno, "cannot open the access log %s: %s", path, strerror(errno));
    *ret_fd = fd;
    return 0;
}

bool knit_access_log_has_file(const struct knit_access_log *access)
{
    return access->path != NULL;
}

int knit_access_log_prepare(void *arg, struct knit_sentence *why)
{
    struct knit_access_log *access = arg;

    return open_file(access->path, &access->prepared_fd, why);
}

void knit_access_log_commit(void *arg, struct knit_log *log, struct knit_sentence *note)
{
    struct knit_access_log *access = arg;
    int before;

    (void)log, (void)note;
    (void)pthread_mutex_lock(&access->mutex);
    before = access->next_fd;
    access->next_fd = access->prepared_fd;
    (void)pthread_mutex_unlock(&access->mutex);
    access->prepared_fd = -1;
    knit_fd_close(&before);
    knit_outboxes_wake(&access->outboxes);
}

void knit_access_log_abandon(void *arg)
{
    struct knit_access_log *access = arg;

    knit_fd_close(&access->prepared_fd);
}

/* ---- start and end --------------------------------------------------------------------------- */

static int open_all(struct knit_access_log *access, struct knit_sentence *why)
{
    int r = knit_outboxes_open(&access->outboxes, access->options.loops, ROOM_BYTES);

    if (r == 0 && access->options.path != NULL) {
        access->path = strdup(access->options.path);
        r = access->path != NULL ? open_file(access->path, &access->fd, why) : -ENOMEM;
        if (r != 0 && access->path != NULL)
            return r;
    }
    if (r == 0)
        r = knit_quiet_thread_start("knit-access", run, access, &access->thread);
    access->has_thread = r == 0;
    return r != 0 ? knit_sentence_set(why, r, "cannot begin the access log: %s", strerror(-r)) : 0;
}

int knit_access_log_open(const struct knit_access_log_options *options,
    struct knit_access_log **ret_access, struct knit_sentence *why)
{
    struct knit_access_log *access = calloc(1, sizeof(*access));
    int r;

    if (access == NULL)
        return knit_sentence_set(why, -ENOMEM, "out of memory");
    access->options = *options;
    access->fd = access->prepared_fd = access->next_fd = -1;
    (void)pthread_mutex_init(&access->mutex, NULL);
    r = open_all(access, why);
    if (r != 0)
        (void)knit_access_log_close(access);
    else
        *ret_access = access;
    return r;
}

struct knit_access_log *knit_access_log_close(struct knit_access_log *access)
{
    if (access == NULL)
        return NULL;
    if (access->has_thread) {
        knit_outboxes_close(&access->outboxes);
        (void)pthread_join(access->thread, NULL);
    }
    knit_outboxes_fini(&access->outboxes);
    knit_fd_close(&access->fd);
    knit_fd_close(&access->next_fd);
    knit_fd_close(&access->prepared_fd);
    (void)pthread_mutex_destroy(&access->mutex);
    free(access->path);
    free(access);
    return NULL;
}
