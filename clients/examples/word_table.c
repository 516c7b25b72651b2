/* SPDX-License-Identifier: Apache-2.0 */
/* An open hash table over a lower-case copy of the text: words are found by FNV-1a and linear
 * probing. The table doubles when half full, so that a probe stays short and always meets an empty
 * place. Sorting first compacts the words to the front of the table. */
#include "word_table.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS_MIN = 1024 };

static bool is_word_byte(unsigned char byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') || byte >= 128;
}

static struct word *find(struct word *words, size_t max, const char *text, size_t len)
{
    uint64_t hash = 0xcbf29ce484222325u;
    size_t at;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
    at = (size_t)(hash ^ (hash >> 32)) & (max - 1);
    while (
        words[at].text != NULL && (words[at].len != len || memcmp(words[at].text, text, len) != 0))
        at = (at + 1) & (max - 1);
    return &words[at];
}

static int grow(struct word_table *table)
{
    size_t max = table->words_max == 0 ? WORDS_MIN : table->words_max * 2;
    struct word *words = calloc(max, sizeof(*words));

    if (words == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < table->words_max; i++) {
        const struct word *old = &table->words[i];

        if (old->text != NULL)
            *find(words, max, old->text, old->len) = *old;
    }
    free(table->words);
    table->words = words;
    table->words_max = max;
    return 0;
}

static int count_word(struct word_table *table, char *text, size_t len)
{
    struct word *word;

    if (table->words_count >= table->words_max / 2) {
        int r = grow(table);

        if (r < 0)
            return r;
    }
    word = find(table->words, table->words_max, text, len);
    if (word->text == NULL) {
        *word = (struct word){.text = text, .len = len};
        table->words_count++;
    }
    word->count++;
    return 0;
}

static int compare(const void *left, const void *right)
{
    const struct word *a = left, *b = right;
    int order;

    if (a->count != b->count)
        return a->count > b->count ? -1 : 1;
    order = memcmp(a->text, b->text, a->len < b->len ? a->len : b->len);
    return order != 0 ? order : (a->len > b->len) - (a->len < b->len);
}

int word_table_init(struct word_table *table, const char *text, size_t len)
{
    size_t kept = 0;
    int r = 0;

    *table = (struct word_table){.copy = malloc(len + 1)};
    if (table->copy == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < len; i++)
        table->copy[i] = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] + 32) : text[i];

    for (size_t i = 0, begin; i < len && r == 0; i++) {
        for (begin = i; i < len && is_word_byte((unsigned char)table->copy[i]); i++)
            ;
        if (i > begin)
            r = count_word(table, table->copy + begin, i - begin);
    }
    if (r < 0) {
        word_table_fini(table);
        return r;
    }

    for (size_t i = 0; i < table->words_max; i++) {
        if (table->words[i].text != NULL)
            table->words[kept++] = table->words[i];
    }
    if (kept > 0)
        qsort(table->words, kept, sizeof(*table->words), compare);
    return 0;
}

void word_table_fini(struct word_table *table)
{
    free(table->words);
    free(table->copy);
    *table = (struct word_table){0};
}
