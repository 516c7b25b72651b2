/* SPDX-License-Identifier: Apache-2.0 */
/* The words of a text with their counts, the most frequent first, equal ones in the order of
 * their bytes. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct word {
    char *text; /* in the table's own copy, with small letters; not NUL-terminated */
    size_t len;
    uint64_t count;
};

struct word_table {
    char *copy;
    struct word *words; /* a hash table while counting, then sorted from the front */
    size_t words_count;
    size_t words_max; /* a power of two */
};

/* Returns 0, or -ENOMEM. */
int word_table_init(struct word_table *table, const char *text, size_t len);
void word_table_fini(struct word_table *table);
