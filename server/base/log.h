/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's log: lines to stderr (log_line.h) that never stop the daemon.
 *
 * Writing never blocks. A line that cannot be written (the reader is slow or gone, the disk is
 * full) is dropped and counted. When lines get through again, one line tells the count.
 *
 * Where stderr is the journal's own stream each line begins with its priority, <3> to <7>, which
 * the journal takes off: a worker that died is a warning there.
 *
 * Events that peers or tasks bring about at will have a *kind*, and of each kind so many lines a
 * second are written. A line more says how many were left out.
 *
 * Threads: any; a mutex is held for the length of one non-blocking write.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "server/base/log_line.h"

enum knit_log_level {
    KNIT_LOG_ERROR,
    KNIT_LOG_WARNING,
    KNIT_LOG_INFO,
    KNIT_LOG_DEBUG,
};

enum knit_log_format {
    KNIT_LOG_LOGFMT,
    KNIT_LOG_JSON,
};

/* Lines of a kind, with how many of them are written in a second. Refusals are no misbehaviour, and
 * may be very many. */
#define KNIT_LOG_EACH_KIND(X)                                                                      \
    X(BAD_MESSAGE, "connection closed for a bad message", 10)                                      \
    X(GIFT, "connection closed: its peer sent descriptors", 10)                                    \
    X(NOT_READ, "connection closed: its peer does not read", 10)                                   \
    X(SLOW_INPUT, "connection closed: its message took too long, or room that others need", 10)    \
    X(NO_MEMORY, "connection closed: out of memory", 10)                                           \
    X(TOKEN_GONE, "connection closed: its token is gone", 10)                                      \
    X(HANDSHAKE, "TLS handshake failed, or PROXY header refused", 10)                              \
    X(AUTHENTICATION, "connection closed: authentication failed", 10)                              \
    X(TURNED_AWAY, "connection turned away", 1)                                                    \
    X(ATTACH, "attach refused", 10)                                                                \
    X(DENIED, "denied", 10)                                                                        \
    X(QUOTA, "call refused: QUOTA", 1)                                                             \
    X(OVERLOADED, "call refused: OVERLOADED", 1)                                                   \
    X(STOP, "call is to stop or to be killed, as an operator asked", 100)                          \
    X(RELOAD, "reloaded, or not", 10)                                                              \
    X(EVICTED, "session ended: its memory broke the protocol", 10)                                 \
    X(WORKER, "worker died, refused or replaced", 100)                                             \
    X(TASK, "task runs for long, or ran into its hard timeout", 50)

enum knit_log_kind {
#define KNIT_LOG_KIND_NAME(name, text, most) KNIT_LOG_##name,
    KNIT_LOG_EACH_KIND(KNIT_LOG_KIND_NAME)
#undef KNIT_LOG_KIND_NAME
        KNIT_LOG_KINDS, /* how many there are */
};

struct knit_log {
    int fd;
    bool owns_fd;
    bool is_socket;
    bool must_poll;  /* the descriptor may block: ask before writing */
    bool is_json;    /* not logfmt; its owner sets it before the first line */
    bool is_journal; /* each line begins with its priority */
    bool is_torn;    /* the last line was written in part */
    enum knit_log_level level;
    _Atomic uint64_t dropped; /* lines, since the start */
    uint64_t dropped_unreported;
    _Atomic uint64_t left_out;                  /* lines, since the start */
    _Atomic uint32_t in_second[KNIT_LOG_KINDS]; /* those left out too */
    _Atomic bool is_counting;
    pthread_mutex_t mutex;
};

/* One key and its value in text; KNIT_LOG_NUMBER() wraps a number. */
struct knit_log_field {
    const char *key;  /* NULL = there is no field */
    const char *text; /* NULL = number */
    size_t text_len;  /* SIZE_MAX = up to its NUL */
    uint64_t number;
};

#define KNIT_LOG_TEXT(key, text)                                                                   \
    {                                                                                              \
        (key), (text), SIZE_MAX, 0                                                                 \
    }
/* Left out where the text is "". */
#define KNIT_LOG_MAYBE(key, text)                                                                  \
    {                                                                                              \
        (text)[0] != '\0' ? (key) : NULL, (text), SIZE_MAX, 0                                      \
    }
/* The same where it is 0. */
#define KNIT_LOG_UNLESS_0(key, value)                                                              \
    {                                                                                              \
        (value) != 0 ? (key) : NULL, NULL, 0, (uint64_t)(value)                                    \
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

/* Whether one more line of that kind may be written. It is counted: who asks ends the second. */
KNIT_MUST_CHECK bool knit_log_may(struct knit_log *log, enum knit_log_kind kind);
/* About a second after the first question: says how many were left out of each kind, and begins
 * anew. Where several threads end seconds, theirs are shorter. */
void knit_log_end_second(struct knit_log *log);
/* Says that so many were left out by who has not asked. */
void knit_log_leave_out(struct knit_log *log, enum knit_log_kind kind, uint64_t lines);

/* Whether a second has begun that is to end. */
static inline bool knit_log_is_counting(const struct knit_log *log)
{
    /* relaxed: who began it asks on the same thread. */
    return atomic_load_explicit(&log->is_counting, memory_order_relaxed);
}

/* Lines of all kinds that were left out. Any thread. */
static inline uint64_t knit_log_left_out(const struct knit_log *log)
{
    return atomic_load_explicit(&log->left_out, memory_order_relaxed);
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

/* Of a line with fields of its own: all that stands before them. */
void knit_log_begin_line(struct knit_log_line *line, const struct knit_log *log,
    enum knit_log_level level, const char *message);
/* Lines that are whole, each with its line feed. */
void knit_log_put_lines(struct knit_log *log, const char *lines, size_t len);

/* fields[0] is ignored; `count` more follow it. */
void knit_log_write(struct knit_log *log, enum knit_log_level level, const char *message,
    const struct knit_log_field *fields, size_t count);
