/* SPDX-License-Identifier: Apache-2.0 */
/* Strings are skipped with their escapes. Two kinds of escapes are refused because json-c would
 * change the text: it replaces half of a surrogate pair by another character, and ends a key at a
 * NUL. Every other run of letters, digits, signs and points must be true, false, null or a number
 * that a 64-bit type holds. */
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
        return strcmp(word, "-Infinity") == 0
                   ? "JSON has no such number; write {\"$float\": \"-Infinity\"}"
                   : "this is no number of JSON";
    }
    if (strcmp(word, "true") == 0 || strcmp(word, "false") == 0 || strcmp(word, "null") == 0)
        return NULL;
    if (strcmp(word, "NaN") == 0 || strcmp(word, "Infinity") == 0)
        return "JSON has no such number; write {\"$float\": \"NaN\"} or {\"$float\": "
               "\"Infinity\"}";
    return "this is no JSON; a text needs quotation marks";
}

/* The number behind `\\u` at text[at], or -1. */
static long escaped(const char *text, size_t len, size_t at)
{
    char digits[5] = "";

    if (len - at < 6 || text[at] != '\\' || text[at + 1] != 'u')
        return -1;
    memcpy(digits, text + at + 2, 4);
    return strspn(digits, "0123456789abcdefABCDEF") == 4 ? strtol(digits, NULL, 16) : -1;
}

static bool is_key(const char *text, size_t len, size_t at)
{
    while (at < len && text[at] != '\0' && strchr(" \t\r\n", text[at]) != NULL)
        at++;
    return at < len && text[at] == ':';
}

/* *at stands on the first quotation mark and is left behind the last one. */
static const char *check_string(const char *text, size_t len, size_t *at)
{
    bool has_nul = false;
    size_t i = *at + 1;

    while (i < len && text[i] != '"') {
        long first = escaped(text, len, i), second;

        has_nul = has_nul || first == 0;
        if (first < 0xd800 || first > 0xdfff) {
            i += text[i] == '\\' ? 2 : 1;
            continue;
        }
        second = escaped(text, len, i + 6);
        if (first > 0xdbff || second < 0xdc00 || second > 0xdfff)
            return "half a surrogate pair is no character";
        i += 12;
    }
    *at = i + 1;
    return has_nul && is_key(text, len, *at)
               ? "a key with \\u0000; write {\"$map\": [[key, value]]} instead"
               : NULL;
}

const char *knit_json_lexer_check(const char *text, size_t len, size_t *ret_offset)
{
    size_t at = 0;

    while (at < len) {
        size_t begin = at;
        const char *reason;

        if (text[at] == '"') {
            reason = check_string(text, len, &at);
        } else {
            while (at < len && is_word_byte(text[at]))
                at++;
            reason = at > begin ? check_word(text + begin, at - begin) : NULL;
        }
        if (reason != NULL) {
            *ret_offset = begin;
            return reason;
        }
        at += at == begin;
    }
    return NULL;
}

size_t knit_json_lexer_members(const char *text, size_t len)
{
    size_t at = 0, count = 0;

    while (at < len) {
        if (text[at] == '"') {
            (void)check_string(text, len, &at);
        } else {
            count += text[at] == ':';
            at++;
        }
    }
    return count;
}
