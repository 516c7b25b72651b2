/* SPDX-License-Identifier: Apache-2.0 */
/* The tasks of shop.h, as C functions.
 *
 * cc -shared -fPIC -o shop.so shop.c $(pkg-config --cflags knitting)
 */
#include "shop.h"

#include <string.h>

KNIT_MODULE("1.0");

static const struct {
    const char *name;
    double price;
    unsigned in_stock;
} articles[] = {{"bolt", 0.5, 1000}, {"wrench", 12.25, 3}};

KNIT_IMPLEMENT(price, .doc = "What so many pieces of an article cost.")
static int price_impl(struct knit_call *call, struct knit_text article, uint16_t pieces,
    double *ret_total, bool *ret_is_in_stock)
{
    for (size_t i = 0; i < sizeof(articles) / sizeof(articles[0]); i++) {
        if (strlen(articles[i].name) != article.size ||
            memcmp(articles[i].name, article.at, article.size) != 0)
            continue;
        *ret_total = articles[i].price * pieces;
        *ret_is_in_stock = pieces <= articles[i].in_stock;
        return 0;
    }
    return knit_fail(call, 1, "there is no such article");
}

KNIT_IMPLEMENT(discount, .doc = "What is left to pay; 3 percent unless told otherwise.")
static int discount_impl(
    struct knit_call *call, double total, struct knit_optional_u8 percent, double *ret_rest)
{
    if (percent.has && percent.value > 100)
        return knit_refuse(call, "argument 2 (percent): at most 100");
    *ret_rest = total * (100 - (percent.has ? percent.value : 3)) / 100;
    return 0;
}
