/* SPDX-License-Identifier: Apache-2.0 */
/* Reads values as lines of hex, writes each back as it comes out of decoder and writer, or
 * "refused". differential.py writes the lines and compares.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/proto/notation.h"
#include "tests/proto/recode.h"

enum { BUFFER_MAX = 64 << 20 };

int main(void)
{
    struct knit_buffer bytes, made;
    char *line = NULL;
    const char *at;
    size_t size = 0;

    knit_buffer_init(&bytes, BUFFER_MAX);
    knit_buffer_init(&made, BUFFER_MAX);
    while (getline(&line, &size, stdin) > 0) {
        knit_buffer_reset(&bytes);
        knit_buffer_reset(&made);
        at = line;
        knit_notation_hex(&at, &bytes);
        if (knit_recode(knit_buffer_span(&bytes), &made))
            fputs("refused", stdout);
        for (size_t i = 0; i < made.len; i++)
            printf("%02x", made.bytes[i]);
        putchar('\n');
    }
    free(line);
    knit_buffer_fini(&bytes);
    knit_buffer_fini(&made);
    return 0;
}
