/* SPDX-License-Identifier: Apache-2.0 */
/* One buffer of the longest line, into which bytes are copied up to the next newline. Whole lines
 * are copied too: output is rare compared with calls.
 */
#include "fastpath/host/output.h"

#include <string.h>

void knit_output_init(struct knit_output *output)
{
    output->len = 0;
    output->cut = 0;
}

static void report_line(struct knit_output *output, knit_output_line *on_line, void *arg)
{
    on_line(arg, output->line, output->len, output->cut);
    knit_output_init(output);
}

void knit_output_feed(
    struct knit_output *output, const char *bytes, size_t len, knit_output_line *on_line, void *arg)
{
    while (len > 0) {
        const char *newline = memchr(bytes, '\n', len);
        size_t piece = newline != NULL ? (size_t)(newline - bytes) : len;
        size_t room = sizeof(output->line) - output->len;
        size_t copied = piece < room ? piece : room;

        memcpy(output->line + output->len, bytes, copied);
        output->len += copied;
        output->cut += piece - copied;
        if (newline == NULL)
            return;
        report_line(output, on_line, arg);
        bytes += piece + 1;
        len -= piece + 1;
    }
}

void knit_output_end(struct knit_output *output, knit_output_line *on_line, void *arg)
{
    if (output->len > 0)
        report_line(output, on_line, arg);
}
