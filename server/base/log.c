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

#include "proto/text.h"

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

/* A line under construction. */
struct line {
    char bytes[KNIT_LOG_LINE_MAX];
    size_t len;
};

static size_t room(const struct line *line)
{
    return sizeof(line->bytes) - 1 - line->len; /* one is for the newline */
}

static void put(struct line *line, const char *text, size_t len)
{
    if (len > room(line))
        len = room(line);
    memcpy(line->bytes + line->len, text, len);
    line->len += len;
}

static void put_text(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

/* Bare where logfmt allows it, quoted with escapes otherwise; bytes beyond ASCII stay as they are
 * if all of it is UTF-8, except what a terminal obeys. A value is cut rather than the fields
 * behind it. */
static void put_value(struct line *line, const char *text, size_t len)
{
    enum { VALUE_MAX = 2048 };
    bool is_cut = len > VALUE_MAX, is_bare = len > 0, is_utf8;
    uint32_t code = 0;

    if (is_cut)
        len = knit_text_cut(text, len, VALUE_MAX);
    is_utf8 = knit_text_is_utf8(text, len);
    for (size_t i = 0; i < len && is_bare; i++)
        is_bare = (unsigned char)text[i] > ' ' && (unsigned char)text[i] < 0x7f && text[i] != '"' &&
                  text[i] != '=' && text[i] != '\\';
    if (is_bare && !is_cut) {
        put(line, text, len);
        return;
    }
    put(line, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        size_t hidden = c > 0x7f && is_utf8 ? knit_text_hidden(text + i, len - i, &code) : 0;
        char escape[8];

        if (room(line) <= 10) {
            is_cut = true;
            break;
        }
        if (hidden != 0) {
            (void)snprintf(escape, sizeof(escape), "\\u%04x", code & 0xffff);
            put(line, escape, 6);
            i += hidden - 1;
        } else if (c == '"' || c == '\\') {
            put(line, (const char[]){'\\', (char)c}, 2);
        } else if (c == '\n') {
            put(line, "\\n", 2);
        } else if (c < ' ' || c == 0x7f || (c > 0x7f && !is_utf8)) {
            (void)snprintf(escape, sizeof(escape), "\\x%02x", c);
            put(line, escape, 4);
        } else {
            put(line, (const char *)&text[i], 1);
        }
    }
    put(line, is_cut ? "...\"" : "\"", is_cut ? 4 : 1);
}

static void put_number(struct line *line, uint64_t number)
{
    char digits[24];

    put(line, digits, (size_t)snprintf(digits, sizeof(digits), "%llu", (unsigned long long)number));
}

static void put_head(
    struct line *line, const struct knit_log *log, enum knit_log_level level, const char *message)
{
    struct timespec now;
    struct tm parts;
    char text[64];
    size_t len;

    if (log->is_journal)
        put_text(line, level_prefixes[level]);
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &parts);
    len = strftime(text, sizeof(text), "ts=%Y-%m-%dT%H:%M:%S", &parts);
    put(line, text, len);
    (void)snprintf(text, sizeof(text), ".%03dZ level=", (int)(now.tv_nsec / 1000000));
    put_text(line, text);
    put_text(line, level_names[level]);
    put_text(line, " msg=");
    put_value(line, message, strlen(message));
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
static bool write_line(struct knit_log *log, struct line *line)
{
    ssize_t n;

    line->bytes[line->len++] = '\n';
    if (log->is_torn) {
        if (write_some(log, "\n", 1) != 1)
            return false;
        log->is_torn = false;
    }
    n = write_some(log, line->bytes, line->len);
    if (n > 0 && (size_t)n < line->len)
        log->is_torn = true;
    return n >= 0 && (size_t)n == line->len;
}

static bool report_dropped(struct knit_log *log)
{
    struct line line = {.len = 0};

    put_head(&line, log, KNIT_LOG_WARNING, "log lines were dropped");
    put_text(&line, " lines=");
    put_number(&line, log->dropped_unreported);
    if (!write_line(log, &line))
        return false;
    log->dropped_unreported = 0;
    return true;
}

void knit_log_write(struct knit_log *log, enum knit_log_level level, const char *message,
    const struct knit_log_field *fields, size_t count)
{
    struct line line;

    if (!knit_log_is_on(log, level))
        return;
    line.len = 0;
    put_head(&line, log, level, message);
    for (size_t i = 1; i <= count; i++) {
        put(&line, " ", 1);
        put_text(&line, fields[i].key);
        put(&line, "=", 1);
        if (fields[i].text != NULL)
            put_value(&line, fields[i].text,
                fields[i].text_len == SIZE_MAX ? strlen(fields[i].text) : fields[i].text_len);
        else
            put_number(&line, fields[i].number);
    }
    (void)pthread_mutex_lock(&log->mutex);
    if ((log->dropped_unreported > 0 && !report_dropped(log)) || !write_line(log, &line)) {
        log->dropped_unreported++;
        (void)atomic_fetch_add_explicit(&log->dropped, 1, memory_order_relaxed);
    }
    (void)pthread_mutex_unlock(&log->mutex);
}
