/* SPDX-License-Identifier: Apache-2.0 */
/* The shortest caller: open, call, close.
 *
 *     blocking URL A B        prints A + B
 *
 * cc -o blocking blocking.c $(pkg-config --cflags --libs knitting)
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <knitting/knitting.h>

int main(int argc, char **argv)
{
    struct knit *k;
    struct knit_error error;
    int64_t sum;

    if (argc != 4) {
        fprintf(stderr, "usage: blocking URL A B\n");
        return 2;
    }
    if (knit_open(argv[1], NULL, &k, &error) != KNIT_OK) {
        fprintf(stderr, "%s: %s\n", error.name, error.message);
        return 1;
    }
    if (knit_call(k, &error, "add", "(int, int) -> int", (int64_t)strtoll(argv[2], NULL, 10),
            (int64_t)strtoll(argv[3], NULL, 10), &sum) != KNIT_OK) {
        fprintf(stderr, "%s: %s (started: %s)\n", error.name, error.message,
            knit_error_started_name(error.started));
        knit_close(k);
        return 1;
    }
    printf("%" PRId64 "\n", sum);
    knit_close(k);
    return 0;
}
