/* SPDX-License-Identifier: Apache-2.0 */
/* Example tasks, and what each one shows:
 *
 *     echo          any value, passed on as the bytes it came in
 *     add           arguments by type, and a failure of the task's own
 *     sha256        bytes in, text out, with a library of the system
 *     word_count    a container built piece by piece
 *     primes_below  a computation that checks its abort flag regularly
 *     sleep         waiting without missing that flag
 *     fail          a failure with a code, a message and data
 *     crash         what callers see when a task takes its worker down
 *
 * cc -shared -fPIC -o example.so tasks.c word_table.c $(pkg-config --cflags knitting) -lcrypto
 */
#include <knitting/task.h>

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <openssl/evp.h>

#include "word_table.h"

/* Codes of these tasks' own failures. */
enum {
    OVERFLOWED = 1,
    BAD_VALUE = 2,
    NO_MEMORY = 3,
};

KNIT_MODULE("1.0");

KNIT_TASK(echo, "echo(value: any) -> any", .doc = "The value itself.")
{
    size_t len;
    const void *value = knit_arg_raw(call, 0, &len);

    return knit_return_raw(call, value, len);
}

KNIT_TASK(add, "add(a: int, b: int) -> int", .doc = "The sum of two integers.")
{
    int64_t sum;

    if (__builtin_add_overflow(knit_arg_int(call, 0), knit_arg_int(call, 1), &sum))
        return knit_fail(call, OVERFLOWED, "the sum does not fit 64 bits");
    return knit_return_int(call, sum);
}

KNIT_TASK(sha256, "sha256(data: bin) -> str", .doc = "The SHA-256 of bytes, in hexadecimal.")
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    char text[2 * EVP_MAX_MD_SIZE + 1];
    unsigned digest_len;
    size_t len;
    const void *data = knit_arg_bytes(call, 0, &len);

    if (EVP_Digest(data, len, digest, &digest_len, EVP_sha256(), NULL) != 1)
        return knit_fail(call, NO_MEMORY, "the digest could not be computed");
    for (unsigned i = 0; i < digest_len; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    return knit_return_str(call, text, 2 * (size_t)digest_len);
}

/* A word is a run of ASCII letters and digits and of bytes above 127, its ASCII letters in
 * lower case. `LC_ALL=C tr -cs 'A-Za-z0-9\200-\377' '\n' | LC_ALL=C tr A-Z a-z | sort | uniq -c |
 * sort -k1,1nr -k2,2` prints the same. */
KNIT_TASK(word_count, "word_count(text: any, top: int?) -> map",
    .doc = "The most frequent words of a text (str or bin) and how often each occurs; 10 of them.")
{
    struct knit_value value = knit_arg_value(call, 0, NULL);
    int64_t top = knit_arg_is_nil(call, 1) ? 10 : knit_arg_int(call, 1);
    struct word_table table;
    KNIT_BUILDER(answer);
    const char *text;
    size_t len, count;

    if (knit_value_type(value) != KNIT_TYPE_STR && knit_value_type(value) != KNIT_TYPE_BIN)
        return knit_fail(call, BAD_VALUE, "the text must be str or bin");
    if (top < 0)
        return knit_fail(call, BAD_VALUE, "top must not be negative");
    text = (const char *)knit_arg_bytes(call, 0, &len);
    if (word_table_init(&table, text, len) != 0)
        return knit_fail(call, NO_MEMORY, "not enough memory to count");

    count = (uint64_t)top < table.words_count ? (size_t)top : table.words_count;
    knit_put_map(answer, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        knit_put_str(answer, table.words[i].text, table.words[i].len);
        knit_put_uint(answer, table.words[i].count);
    }
    word_table_fini(&table);
    return knit_return_built(call, answer);
}

/* The sieve works in segments that fit a core's cache and checks the abort flag between them. */
enum { SEGMENT = 64 * 1024, LIMIT = 1000 * 1000 * 1000, ROOT = 31623 };

KNIT_TASK(primes_below, "primes_below(n: int) -> int", .doc = "How many primes lie below n.")
{
    int64_t n = knit_arg_int(call, 0), primes = 0;
    unsigned char composite_root[ROOT + 1] = {0}, segment[SEGMENT];

    if (n > LIMIT)
        return knit_fail(call, BAD_VALUE, "n must not exceed 1000000000");
    for (int64_t i = 2; i * i <= ROOT; i++) {
        for (int64_t k = i * i; composite_root[i] == 0 && k <= ROOT; k += i)
            composite_root[k] = 1;
    }
    for (int64_t low = 2; low < n; low += SEGMENT) {
        int64_t high = low + SEGMENT < n ? low + SEGMENT : n;

        if (knit_aborted(call))
            return knit_return_aborted(call);
        memset(segment, 0, sizeof(segment));
        for (int64_t p = 2; p * p < high; p++) {
            int64_t first = p * p > low ? p * p : (low + p - 1) / p * p;

            for (int64_t k = first; composite_root[p] == 0 && k < high; k += p)
                segment[k - low] = 1;
        }
        for (int64_t k = low; k < high; k++)
            primes += segment[k - low] == 0;
    }
    return knit_return_int(call, primes);
}

KNIT_TASK(sleep, "sleep(ms: int) -> nil", .doc = "Waits that many milliseconds.")
{
    uint64_t ms = knit_arg_int(call, 0) > 0 ? (uint64_t)knit_arg_int(call, 0) : 0;
    uint64_t begin_ns = knit_now_ns(call);
    uint64_t end_ns = ms < (UINT64_MAX - begin_ns) / 1000000 ? begin_ns + ms * 1000000 : UINT64_MAX;

    while (knit_now_ns(call) < end_ns) {
        uint64_t left_ns = end_ns - knit_now_ns(call);
        struct timespec nap = {.tv_nsec = left_ns < 1000000 ? (long)left_ns : 1000000};

        if (knit_aborted(call))
            return knit_return_aborted(call);
        nanosleep(&nap, NULL);
    }
    return knit_return_nil(call);
}

KNIT_TASK(fail, "fail(code: int?, message: str?, data: any?) -> nil",
    .doc = "Fails with the given code (42), message and data.")
{
    size_t message_len = 0, data_len = 0;
    const char *message = (const char *)knit_arg_bytes(call, 1, &message_len);
    const void *data = knit_arg_raw(call, 2, &data_len);
    int64_t code = knit_arg_is_nil(call, 0) ? 42 : knit_arg_int(call, 0);
    char text[256];

    if (message == NULL)
        message = "this task always fails", message_len = strlen(message);
    snprintf(
        text, sizeof(text), "%.*s", message_len < INT_MAX ? (int)message_len : INT_MAX, message);
    return knit_fail_data(call, code, text, data, data_len);
}

KNIT_TASK(crash, "crash(kind: str?) -> nil", .doc = "Takes its worker down: segv, abort or exit.")
{
    const struct rlimit no_core = {0, 0};
    size_t len = 0;
    const char *kind = (const char *)knit_arg_bytes(call, 0, &len);

    if (kind == NULL)
        kind = "segv", len = 4;
    setrlimit(RLIMIT_CORE, &no_core);
    if (len == 5 && memcmp(kind, "abort", 5) == 0)
        abort();
    if (len == 4 && memcmp(kind, "exit", 4) == 0)
        exit(1);
    if (len == 4 && memcmp(kind, "segv", 4) == 0) {
        /* Sanitizers would turn the signal into an exit. */
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
    }
    return knit_fail(call, BAD_VALUE, "kind must be segv, abort or exit");
}
