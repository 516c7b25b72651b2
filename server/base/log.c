/* SPDX-License-Identifier: Apache-2.0 */
/* How a write is kept from blocking depends on what stderr is. A socket has MSG_DONTWAIT. A pipe or
 * terminal is opened once more through /proc with O_NONBLOCK, which gives the log an open file
 * description of its own. Where that is refused (a terminal that belongs to another user) poll() is
 * asked before each write; then a write can block only if another program writes to the same pipe
 * in between. A regular file never blocks in this sense and is used as it is.
 */
#include "server/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"error", "warning", "info", "debug"};

/* What the journal takes off the front of a line and keeps as its priority (sd-daemon(3)). */
static const char *const level_prefixes[] = {"<3>", "<4>", "<6>", "<7>"};

bool knit_log_is_journal(int fd)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat status;
    char rest;

    return stream != NULL && sscanf(stream, "%llu:%llu%c", &device, &inode, &rest) == 2 &&
           fstat(fd, &status) == 0 && status.st_dev == device && status.st_ino == inode;
}

void knit_log_init(struct knit_log *log, int fd, enum knit_log_level level)
{
    struct stat status;
    char path[32];

    *log = (struct knit_log){.fd = fd, .level = level, .is_journal = knit_log_is_journal(fd)};
    (void)pthread_mutex_init(&log->mutex, NULL);
    if (fstat(fd, &status) < 0 || S_ISREG(status.st_mode))
        return;
    if (S_ISSOCK(status.st_mode)) {
        log->is_socket = true;
        return;
    }
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd >= 0) {
        log->fd = fd;
        log->owns_fd = true;
    } else {
        log->must_poll = true;
    }
}

void knit_log_fini(struct knit_log *log)
{
    if (log->owns_fd)
        (void)close(log->fd);
    (void)pthread_mutex_destroy(&log->mutex);
    *log = (struct knit_log){.fd = -1};
}

void knit_log_begin_line(struct knit_log_line *line, const struct knit_log *log,
    enum knit_log_level level, const char *message)
{
    struct timespec now;

    knit_log_line_begin(line, log->is_json, log->is_journal ? level_prefixes[level] : "");
    (void)clock_gettime(CLOCK_REALTIME, &now);
    knit_log_line_time(line, "ts", &now);
    knit_log_line_text(line, "level", level_names[level], strlen(level_names[level]));
    knit_log_line_text(line, "msg", message, strlen(message));
}

static ssize_t write_some(struct knit_log *log, const char *bytes, size_t len)
{
    struct pollfd poll_fd = {log->fd, POLLOUT, 0};
    ssize_t n;

    do {
        if (log->is_socket) {
            n = send(log->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        } else if (log->must_poll && (poll(&poll_fd, 1, 0) != 1 || !(poll_fd.revents & POLLOUT))) {
            errno = EAGAIN;
            n = -1;
        } else {
            n = write(log->fd, bytes, len);
        }
    } while (n < 0 && errno == EINTR);
    return n;
}

/* Whether the whole line was written. */
static bool write_line(struct knit_log *log, const char *line, size_t len)
{
    ssize_t n;

    if (log->is_torn) {
        if (write_some(log, "\n", 1) != 1)
            return false;
        log->is_torn = false;
    }
    n = write_some(log, line, len);
    if (n > 0 && (size_t)n < len)
        log->is_torn = true;
    return n >= 0 && (size_t)n == len;
}

static bool report_dropped(struct knit_log *log)
{
    struct knit_log_line line;

    knit_log_begin_line(&line, log, KNIT_LOG_WARNING, "log lines were dropped");
    knit_log_line_number(&line, "lines", log->dropped_unreported);
    knit_log_line_end(&line);
    if (!write_line(log, line.bytes, line.len))
        return false;
    log->dropped_unreported = 0;
    return true;
}

/* Or drops it. */
static void put_line(struct knit_log *log, const char *line, size_t len)
{
    (void)pthread_mutex_lock(&log->mutex);
    if ((log->dropped_unreported > 0 && !report_dropped(log)) || !write_line(log, line, len)) {
        log->dropped_unreported++;
        (void)atomic_fetch_add_explicit(&log->dropped, 1, memory_order_relaxed);
    }
    (void)pthread_mutex_unlock(&log->mutex);
}

void knit_log_put_lines(struct knit_log *log, const char *lines, size_t len)
{
    const char *const end = lines + len;

    while (lines < end) {
        const char *line_end = memchr(lines, '\n', (size_t)(end - lines));
        const size_t line_len =
            line_end != NULL ? (size_t)(line_end + 1 - lines) : (size_t)(end - lines);

        put_line(log, lines, line_len);
        lines += line_len;
    }
}

void knit_log_write(struct knit_log *log, enum knit_log_level level, const char *message,
    const struct knit_log_field *fields, size_t count)
{
    struct knit_log_line line;

    if (!knit_log_is_on(log, level))
        return;
    knit_log_begin_line(&line, log, level, message);
    for (size_t i = 1; i <= count; i++) {
        const struct knit_log_field *field = &fields[i];

        if (field->key == NULL)
            continue;
        if (field->text == NULL)
            knit_log_line_number(&line, field->key, field->number);
        else
            knit_log_line_text(&line, field->key, field->text,
                field->text_len == SIZE_MAX ? strlen(field->text) : field->text_len);
    }
    knit_log_line_end(&line);
    put_line(log, line.bytes, line.len);
}

/* ---- lines that others can bring about ------------------------------------------------------- */

static const struct {
    const char *name;
    uint32_t most;
} kinds[KNIT_LOG_KINDS] = {
#define KNIT_LOG_KIND_ROW(name, text, most) [KNIT_LOG_##name] = {(text), (most)},
    KNIT_LOG_EACH_KIND(KNIT_LOG_KIND_ROW)
#undef KNIT_LOG_KIND_ROW
};

bool knit_log_may(struct knit_log *log, enum knit_log_kind kind)
{
    /* relaxed, as all of these: numbers that order nothing. */
    const uint32_t before =
        atomic_fetch_add_explicit(&log->in_second[kind], 1, memory_order_relaxed);

    atomic_store_explicit(&log->is_counting, true, memory_order_relaxed);
    if (before < kinds[kind].most)
        return true;
    (void)atomic_fetch_add_explicit(&log->left_out, 1, memory_order_relaxed);
    return false;
}

static void say_left_out(struct knit_log *log, enum knit_log_kind kind, uint64_t lines)
{
    knit_log(log, KNIT_LOG_WARNING, "lines were left out", KNIT_LOG_TEXT("kind", kinds[kind].name),
        KNIT_LOG_NUMBER("lines", lines));
}

void knit_log_leave_out(struct knit_log *log, enum knit_log_kind kind, uint64_t lines)
{
    (void)atomic_fetch_add_explicit(&log->left_out, lines, memory_order_relaxed);
    say_left_out(log, kind, lines);
}

void knit_log_end_second(struct knit_log *log)
{
    if (!atomic_exchange_explicit(&log->is_counting, false, memory_order_relaxed))
        return;
    for (int i = 0; i < KNIT_LOG_KINDS; i++) {
        const uint32_t lines =
            atomic_exchange_explicit(&log->in_second[i], 0, memory_order_relaxed);

        if (lines > kinds[i].most)
            say_left_out(log, (enum knit_log_kind)i, lines - kinds[i].most);
    }
}
