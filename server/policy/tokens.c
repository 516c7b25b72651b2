/* SPDX-License-Identifier: Apache-2.0 */
/* Digests and names stand in arrays of their own, so that a search goes over 32 bytes a token. */
#include "server/policy/tokens.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/sha256.h"

#define BLANKS " \t\r"

enum { LINE_MAX_BYTES = 512 };

struct knit_tokens {
    size_t count;
    uint8_t digests[KNIT_TOKENS_MAX][KNIT_SHA256_BYTES];
    char names[KNIT_TOKENS_MAX][KNIT_TOKENS_PRINCIPAL_MAX];
};

struct reading {
    struct knit_tokens *tokens;
    struct knit_sentence *why;
    const char *path;
    FILE *file;
    unsigned line;
    unsigned lines[KNIT_TOKENS_MAX]; /* of each token */
};

static int refuse(struct reading *reading, const char *what)
{
    return knit_sentence_set(reading->why, KNIT_TOKENS_E_REFUSED, "server.tokens: %s:%u: %s",
        reading->path, reading->line, what);
}

static int read_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;

    return at != NULL ? (int)(at - digits) : -1;
}

static bool read_digest(const char *text, uint8_t ret_digest[KNIT_SHA256_BYTES])
{
    static const char prefix[] = "sha256:";

    if (strncmp(text, prefix, sizeof(prefix) - 1) != 0 ||
        strlen(text) != sizeof(prefix) - 1 + 2 * KNIT_SHA256_BYTES)
        return false;
    text += sizeof(prefix) - 1;
    for (size_t i = 0; i < KNIT_SHA256_BYTES; i++) {
        int high = read_digit(text[2 * i]), low = read_digit(text[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        ret_digest[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static int take_token(struct reading *reading, const char *name, const char *digest)
{
    struct knit_tokens *tokens = reading->tokens;
    size_t at = tokens->count;

    if (at == KNIT_TOKENS_MAX)
        return refuse(reading, "there are more than 4096 tokens");
    if (!knit_token_is_name(name))
        return refuse(reading, KNIT_TOKEN_NAME_RULE);
    if (!read_digest(digest, tokens->digests[at]))
        return refuse(reading, "expected NAME sha256:DIGEST, with 64 digits of 0-9 and a-f, as "
                               "'knit token' prints it");
    for (size_t i = 0; i < at; i++)
        if (memcmp(tokens->digests[i], tokens->digests[at], KNIT_SHA256_BYTES) == 0)
            return knit_sentence_set(reading->why, KNIT_TOKENS_E_REFUSED,
                "server.tokens: %s:%u: the same token stands in line %u", reading->path,
                reading->line, reading->lines[i]);
    (void)snprintf(tokens->names[at], sizeof(tokens->names[at]), "token:%s", name);
    reading->lines[at] = reading->line;
    tokens->count++;
    return 0;
}

static int take_line(struct reading *reading, char *text)
{
    char *rest, *name = strtok_r(text, BLANKS, &rest), *digest;

    if (name == NULL || *name == '#')
        return 0;
    digest = strtok_r(NULL, BLANKS, &rest);
    if (digest == NULL || strtok_r(NULL, BLANKS, &rest) != NULL)
        return refuse(reading, "expected NAME sha256:DIGEST");
    return take_token(reading, name, digest);
}

static int read_lines(struct reading *reading)
{
    char text[LINE_MAX_BYTES];
    int r = 0;

    while (r == 0 && fgets(text, sizeof(text), reading->file) != NULL) {
        size_t len = strlen(text);

        reading->line++;
        if (len > 0 && text[len - 1] == '\n')
            text[len - 1] = '\0';
        else if (!feof(reading->file))
            return refuse(reading, "the line is too long, or has a NUL byte");
        r = take_line(reading, text);
    }
    return r == 0 && ferror(reading->file) ? refuse(reading, "cannot read further") : r;
}

/* Whoever can write the file can be anybody. */
static int check_owner(struct reading *reading)
{
    struct stat status;

    if (fstat(fileno(reading->file), &status) < 0 || !S_ISREG(status.st_mode))
        return knit_sentence_set(reading->why, KNIT_TOKENS_E_REFUSED,
            "server.tokens: %s is no regular file", reading->path);
    if ((status.st_uid != 0 && status.st_uid != geteuid()) ||
        (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return knit_sentence_set(reading->why, KNIT_TOKENS_E_REFUSED,
            "server.tokens: others than root and the daemon's user may write %s", reading->path);
    return 0;
}

/* Opening a FIFO would wait for somebody who writes it, and all callers with it. */
static FILE *open_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;

    if (file == NULL && fd >= 0)
        (void)close(fd);
    return file;
}

int knit_tokens_read(const char *path, struct knit_tokens **ret_tokens, struct knit_sentence *why)
{
    struct reading *reading = calloc(1, sizeof(*reading));
    struct knit_tokens *tokens = calloc(1, sizeof(*tokens));
    int r = 0;

    if (reading == NULL || tokens == NULL) {
        r = knit_sentence_set(why, -ENOMEM, "out of memory");
    } else {
        *reading =
            (struct reading){.tokens = tokens, .why = why, .path = path, .file = open_file(path)};
        if (reading->file == NULL)
            r = knit_sentence_set(why, KNIT_TOKENS_E_REFUSED, "server.tokens: cannot open %s: %s",
                path, strerror(errno));
        if (r == 0)
            r = check_owner(reading);
        if (r == 0)
            r = read_lines(reading);
        if (reading->file != NULL)
            (void)fclose(reading->file);
    }
    free(reading);
    if (r == 0)
        *ret_tokens = tokens;
    else
        free(tokens);
    return r;
}

struct knit_tokens *knit_tokens_free(struct knit_tokens *tokens)
{
    free(tokens);
    return NULL;
}

size_t knit_tokens_count(const struct knit_tokens *tokens)
{
    return tokens->count;
}

/* 1 if they are the same, else 0; without a branch by what is in them. The compiler does not see
 * that it could stop at the first difference. */
static size_t is_same(const uint8_t *a, const uint8_t *b)
{
    uint32_t differences = 0;

    for (size_t i = 0; i < KNIT_SHA256_BYTES; i++) {
        differences |= a[i] ^ b[i];
        __asm__("" : "+r"(differences));
    }
    return ((size_t)differences - 1) >> 8 & 1;
}

static uint64_t key_of(const uint8_t *digest)
{
    uint64_t key;

    memcpy(&key, digest, sizeof(key));
    return key;
}

const char *knit_tokens_find(
    const struct knit_tokens *tokens, struct knit_span token, uint64_t *ret_key)
{
    uint8_t digest[KNIT_SHA256_BYTES];
    size_t found = 0; /* its place plus one */

    if (token.len < KNIT_TOKEN_BYTES_MIN || token.len > KNIT_TOKEN_BYTES_MAX)
        return NULL;
    knit_sha256(token, digest);
    for (size_t i = 0; i < tokens->count; i++)
        found |= (0 - is_same(tokens->digests[i], digest)) & (i + 1);
    if (found == 0)
        return NULL;
    *ret_key = key_of(digest);
    return tokens->names[found - 1];
}

bool knit_tokens_knows(const struct knit_tokens *tokens, const char *principal)
{
    for (size_t i = 0; i < tokens->count; i++)
        if (strcmp(tokens->names[i], principal) == 0)
            return true;
    return false;
}

bool knit_tokens_has(const struct knit_tokens *tokens, uint64_t key)
{
    for (size_t i = 0; i < tokens->count; i++)
        if (key_of(tokens->digests[i]) == key)
            return true;
    return false;
}
