/* SPDX-License-Identifier: Apache-2.0 */
/* One table of names, for whoever reads them and for whoever writes them. */
#include "fastpath/host/debug.h"

#include <stddef.h>
#include <string.h>

#define BETWEEN " ,"

static const struct {
    const char *name;
    enum knit_debug bit;
} names[] = {
    {"host", KNIT_DEBUG_HOST},
    {"lane", KNIT_DEBUG_LANE},
    {"signals", KNIT_DEBUG_SIGNALS},
    {"imports", KNIT_DEBUG_IMPORTS},
    {"lifecycle", KNIT_DEBUG_LIFECYCLE},
};

/* 0: there is no such namespace. */
static unsigned find(const char *word, size_t len)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strlen(names[i].name) == len && memcmp(names[i].name, word, len) == 0)
            return names[i].bit;
    }
    return 0;
}

int knit_debug_add(
    unsigned *bits, const char *text, const char *where, struct knit_sentence *ret_why)
{
    const char *word = text != NULL ? text : "";
    size_t len;

    for (; *(word += strspn(word, BETWEEN)) != '\0'; word += len) {
        unsigned bit;

        len = strcspn(word, BETWEEN);
        bit = find(word, len);
        if (bit == 0)
            return knit_sentence_set(ret_why, 1,
                "%s: expected host, lane, signals, imports or lifecycle, not '%.*s'", where,
                (int)len, word);
        *bits |= bit;
    }
    return 0;
}

const char *knit_debug_name(enum knit_debug bit)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (names[i].bit == bit)
            return names[i].name;
    }
    return "";
}
