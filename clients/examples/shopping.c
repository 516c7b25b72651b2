/* SPDX-License-Identifier: Apache-2.0 */
/* Calls by the declarations of shop.h, which the compiler checks: one that waits, and some that are
 * started together.
 *
 *     shopping URL ARTICLE PIECES
 *
 * cc -o shopping shopping.c $(pkg-config --cflags --libs knitting)
 */
#include "shop.h"

#include <stdio.h>
#include <stdlib.h>

static int shop(struct knit *k, const char *article, long pieces, struct knit_error *error)
{
    static const int percents[] = {0, 10, 100};
    struct knit_handle *handles[3];
    double total, rest;
    bool is_in_stock;
    int code = KNIT_CALL(price, k, error, (article, pieces), (&total, &is_in_stock));

    if (code != KNIT_OK)
        return code;
    printf("%ld x %s: %.2f%s\n", pieces, article, total, is_in_stock ? "" : ", not in stock");
    code = KNIT_CALL(discount, k, error, (total), (&rest));
    if (code == KNIT_OK)
        printf("paid at once: %.2f\n", rest);
    for (int i = 0; i < 3 && code == KNIT_OK; i++)
        code = KNIT_START(discount, k, &handles[i], error, (total, percents[i]));
    for (int i = 0; i < 3 && code == KNIT_OK; i++) {
        code = KNIT_AWAIT(discount, handles[i], error, (&rest));
        if (code == KNIT_OK)
            printf("%d percent off: %.2f\n", percents[i], rest);
        knit_free(handles[i]);
    }
    return code;
}

int main(int argc, char **argv)
{
    struct knit *k;
    struct knit_error error;
    int code;

    if (argc != 4) {
        fprintf(stderr, "usage: shopping URL ARTICLE PIECES\n");
        return 2;
    }
    code = knit_open(argv[1], NULL, &k, &error);
    if (code == KNIT_OK)
        code = shop(k, argv[2], strtol(argv[3], NULL, 10), &error);
    if (code != KNIT_OK)
        fprintf(stderr, "%s: %s\n", error.name, error.message);
    knit_close(k);
    return code == KNIT_OK ? 0 : 1;
}
