/* SPDX-License-Identifier: Apache-2.0 */
/* One line of a log, as logfmt or as a JSON object, in memory of its own.
 *
 *     ts=2026-05-04T10:11:12.345Z level=info msg="listening" address=127.0.0.1:5648
 *     {"ts":"2026-05-04T10:11:12.345Z","level":"info","msg":"listening","address":"127.0.0.1:5648"}
 *
 * Values are whatever a peer or a task chose. What ends a line or a value, moves a terminal's
 * cursor or hides text is escaped, and so is what is not UTF-8: in logfmt as \xNN, in JSON as the
 * text \\xNN, since JSON knows characters alone. A line has no more than KNIT_LOG_LINE_MAX bytes: a
 * value is cut, and a field for which no room is left is not there; what is there is well-formed.
 *
 * server/admin/json.h writes values of any length into memory that grows, for which a log has
 * neither the time nor the certainty.
 *
 * Threads: the line's. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* A line is cut here, so that a pipe takes it whole or not at all. */
#define KNIT_LOG_LINE_MAX 4096

struct knit_log_line {
    size_t len;
    bool is_json;
    bool has_fields;
    char bytes[KNIT_LOG_LINE_MAX];
};

/* prefix: stands in front of the line, as it is. */
void knit_log_line_begin(struct knit_log_line *line, bool is_json, const char *prefix);
/* Keys are the program's own: letters and underscores. */
void knit_log_line_text(struct knit_log_line *line, const char *key, const char *text, size_t len);
void knit_log_line_number(struct knit_log_line *line, const char *key, uint64_t number);
/* Of CLOCK_REALTIME, to the millisecond. */
void knit_log_line_time(struct knit_log_line *line, const char *key, const struct timespec *time);
/* With its line feed; not NUL-terminated. */
void knit_log_line_end(struct knit_log_line *line);
