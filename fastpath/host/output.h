/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts the output of a worker into lines.
 *
 * Threads: one owner. Limits: lines of KNIT_OUTPUT_LINE_BYTES; the rest of a longer one is cut.
 * Security: input is any bytes, in pieces of any size.
 */
#pragma once

#include <stddef.h>

#define KNIT_OUTPUT_LINE_BYTES 2048u

struct knit_output {
    size_t len;
    size_t cut; /* bytes of the line that are not kept */
    char line[KNIT_OUTPUT_LINE_BYTES];
};

typedef void knit_output_line(void *arg, const char *line, size_t len, size_t cut);

void knit_output_init(struct knit_output *output);
void knit_output_feed(struct knit_output *output, const char *bytes, size_t len,
    knit_output_line *on_line, void *arg);

/* Reports what has come of a line that has no newline yet. */
void knit_output_end(struct knit_output *output, knit_output_line *on_line, void *arg);
