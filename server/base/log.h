/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's log: logfmt lines to stderr that never stop the daemon.
 *
 *     ts=2026-05-04T10:11:12.345Z level=info msg="listening" address=127.0.0.1:5648
 *
 * Writing never blocks. A line that cannot be written (the reader is slow or gone, the disk is
 * full) is dropped and counted. When lines get through again, one line tells the count.
 *
 * Where stderr is the journal's own stream each line begins with its priority, <3> to <7>, which
 * the journal takes off: a worker that died is a warning there.
 *
 * Threads: any; a mutex is held for the length of one non-blocking write.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum knit_log_level {
    KNIT_LOG_ERROR,
    KNIT_LOG_WARNING,
    KNIT_LOG_INFO,
    KNIT_LOG_DEBUG,
};

/* A line is cut here, so that a pipe takes it whole or not at all. */
#define KNIT_LOG_LINE_MAX 4096

struct knit_log {
    int fd;
    bool owns_fd;
    bool is_socket;
    bool must_poll;  /* the descriptor may block: ask before writing */
    bool is_journal; /* each line begins with its priority */
    bool is_torn;    /* the last line was written in part */
    enum knit_log_level level;
    _Atomic uint64_t dropped; /* lines, since the start */
    uint64_t dropped_unreported;
    pthread_mutex_t mutex;
};

/* One key and its value in text; KNIT_LOG_NUMBER() wraps a number. */
struct knit_log_field {
    const char *key;
    const char *text; /* NULL = number */
    size_t text_len;  /* SIZE_MAX = up to its NUL */
    uint64_t number;
};

#define KNIT_LOG_TEXT(key, text)                                                                   \
    {                                                                                              \
        (key), (text), SIZE_MAX, 0                                                                 \
    }
#define KNIT_LOG_BYTES(key, bytes, len)                                                            \
    {                                                                                              \
        (key), (bytes), (len), 0                                                                   \
    }
#define KNIT_LOG_NUMBER(key, value)                                                                \
    {                                                                                              \
        (key), NULL, 0, (uint64_t)(value)                                                          \
    }

/* fd is borrowed for the log's life and never closed. Where possible its file is opened once more,
 * because O_NONBLOCK on a shared descriptor would change it for the shell too. */
void knit_log_init(struct knit_log *log, int fd, enum knit_log_level level);
void knit_log_fini(struct knit_log *log);

/* Whether the file is the stream that the journal gave this process ($JOURNAL_STREAM), and not one
 * to which the descriptor was directed since. */
bool knit_log_is_journal(int fd);

/* Lines that could not be written. Any thread. */
static inline uint64_t knit_log_dropped(const struct knit_log *log)
{
    /* relaxed: a number for people. */
    return atomic_load_explicit(&log->dropped, memory_order_relaxed);
}

static inline bool knit_log_is_on(const struct knit_log *log, enum knit_log_level level)
{
    return level <= log->level;
}

/* Fields given as compound literals: knit_log(log, KNIT_LOG_INFO, "text", KNIT_LOG_NUMBER("pid",
 * 1), ...). */
#define knit_log(log, level, message, ...)                                                         \
    knit_log_write((log), (level), (message),                                                      \
        (const struct knit_log_field[]){{NULL}, ##__VA_ARGS__},                                    \
        sizeof((const struct knit_log_field[]){{NULL}, ##__VA_ARGS__}) /                           \
                sizeof(struct knit_log_field) -                                                    \
            1)

/* fields[0] is ignored; `count` more follow it. */
void knit_log_write(struct knit_log *log, enum knit_log_level level, const char *message,
    const struct knit_log_field *fields, size_t count);
