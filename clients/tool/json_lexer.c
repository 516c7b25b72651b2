/* SPDX-License-Identifier: Apache-2.0 */
/* Strings are stepped over with their escapes; all other runs of letters, digits, signs and points
 * are words, and a word must be true, false, null or a number that some 64-bit type holds. */
#include "clients/tool/json_lexer.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_MAX = 400 };

static bool is_word_byte(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' ||
           c == '-' || c == '.';
}

static const char *check_number(const char *word)
{
    errno = 0;
    if (strpbrk(word, ".eE") != NULL) {
        if (!isfinite(strtod(word, NULL)))
            return "the number is too large for a float";
        return NULL;
    }
    if (word[0] == '-')
        (void)strtoll(word, NULL, 10);
    else
        (void)strtoull(word, NULL, 10);
    return errno == ERANGE
               ? "the integer does not fit 64 bits; write {\"$bigint\": \"...\"} instead"
               : NULL;
}

static const char *check_word(const char *at, size_t len)
{
    char word[NUMBER_MAX + 1];

    if (len > NUMBER_MAX)
        return "the number is too long";
    memcpy(word, at, len);
    word[len] = '\0';
    if ((word[0] >= '0' && word[0] <= '9') || word[0] == '-') {
        if (strspn(word, "0123456789+-.eE") == len)
            return check_number(word);
        return "this is no number of JSON (write {\"$float\": \"-Infinity\"} for that)";
    }
    if (strcmp(word, "true") == 0 || strcmp(word, "false") == 0 || strcmp(word, "null") == 0)
        return NULL;
    if (strcmp(word, "NaN") == 0 || strcmp(word, "Infinity") == 0)
        return "JSON has no such number; write {\"$float\": \"NaN\"} or {\"$float\": "
               "\"Infinity\"}";
    return "this is no JSON; a text needs quotation marks";
}

const char *knit_json_lexer_check(const char *text, size_t len, size_t *ret_offset)
{
    size_t at = 0;

    while (at < len) {
        size_t begin = at;
        const char *reason;

        if (text[at] == '"') {
            for (at++; at < len && text[at] != '"'; at++)
                at += text[at] == '\\';
            at++;
            continue;
        }
        while (at < len && is_word_byte(text[at]))
            at++;
        reason = at > begin ? check_word(text + begin, at - begin) : NULL;
        if (reason != NULL) {
            *ret_offset = begin;
            return reason;
        }
        at += at == begin;
    }
    return NULL;
}
