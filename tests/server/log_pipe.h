/* SPDX-License-Identifier: Apache-2.0 */
/* A log whose lines a test reads as they come. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/base/log.h"

struct log_pipe {
    struct knit_log log;
    int fds[2];
};

static inline void log_pipe_open(struct log_pipe *pipe_of)
{
    assert_int_equal(pipe(pipe_of->fds), 0);
    knit_log_init(&pipe_of->log, pipe_of->fds[1], KNIT_LOG_INFO);
}

static inline void log_pipe_close(struct log_pipe *pipe_of)
{
    knit_log_fini(&pipe_of->log);
    (void)close(pipe_of->fds[0]);
    (void)close(pipe_of->fds[1]);
}

/* The next line of the log has that text. */
static inline void log_pipe_expect(const struct log_pipe *pipe_of, const char *text)
{
    char line[4096];
    const ssize_t n = read(pipe_of->fds[0], line, sizeof(line) - 1);

    assert_true(n > 0);
    line[n] = '\0';
    if (strstr(line, text) == NULL)
        fail_msg("'%s' is not in: %s", text, line);
}
