/* SPDX-License-Identifier: Apache-2.0 */
/* The file of tokens: what it says, what it may not say, and who may not write it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/sha256.h"
#include "server/policy/authentication.h"

static char path[] = "/tmp/knit-tokens-XXXXXX";

static void write_file(const char *text, size_t len)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

/* A line of the file for the token. */
static void print_line(char *ret_text, size_t size, const char *name, const char *token)
{
    uint8_t digest[KNIT_SHA256_BYTES];
    int at = snprintf(ret_text, size, "%s sha256:", name);

    knit_sha256(knit_span_text(token), digest);
    for (size_t i = 0; i < KNIT_SHA256_BYTES; i++)
        at += snprintf(ret_text + at, size - (size_t)at, "%02x", digest[i]);
    (void)snprintf(ret_text + at, size - (size_t)at, "\n");
}

#define FIRST  "0123456789abcdef"
#define SECOND "fedcba9876543210fedcba9876543210"

static struct knit_tokens *read_two(void)
{
    char lines[3][160], text[1024];
    struct knit_tokens *tokens = NULL;
    struct knit_sentence why = {""};

    print_line(lines[0], sizeof(lines[0]), "nightly", FIRST);
    print_line(lines[1], sizeof(lines[1]), "ops/a@b.c", SECOND);
    print_line(lines[2], sizeof(lines[2]), "nightly", "the token that comes after");
    (void)snprintf(text, sizeof(text), "# names\n\n  \t%s%s%.*s", lines[0], lines[1],
        (int)strlen(lines[2]) - 1, lines[2]);
    write_file(text, strlen(text));
    assert_int_equal(knit_tokens_read(path, &tokens, &why), 0);
    return tokens;
}

static void a_token_has_a_name(void **state)
{
    struct knit_tokens *tokens = read_two();
    uint64_t first = 0, second = 0, third = 0, none = 7;
    char close[] = FIRST;

    (void)state;
    assert_int_equal(knit_tokens_count(tokens), 3);
    assert_string_equal(knit_tokens_find(tokens, knit_span_text(FIRST), &first), "token:nightly");
    assert_string_equal(
        knit_tokens_find(tokens, knit_span_text(SECOND), &second), "token:ops/a@b.c");
    assert_string_equal(
        knit_tokens_find(tokens, knit_span_text("the token that comes after"), &third),
        "token:nightly");
    assert_true(knit_tokens_has(tokens, first));
    assert_true(knit_tokens_has(tokens, third));
    assert_false(knit_tokens_has(tokens, first + 1));
    assert_true(first != second && first != third);
    for (size_t i = 0; i < sizeof(FIRST) - 1; i++) {
        close[i] ^= 1;
        assert_null(knit_tokens_find(tokens, knit_span_text(close), &none));
        close[i] ^= 1;
    }
    assert_null(knit_tokens_find(tokens, knit_span_text(""), &none));
    assert_null(knit_tokens_find(tokens, knit_span(NULL, 0), &none));
    assert_int_equal(none, 7);
    assert_null(knit_tokens_free(tokens));
    assert_null(knit_tokens_free(NULL));
}

/* Whatever stands in the file: what has fewer bits than a token must have is none. */
static void a_short_token_is_nobodys(void **state)
{
    static const char *const refused[] = {"secret", "0123456789abcde"};
    char lines[2][160], text[512];
    struct knit_tokens *tokens;
    struct knit_sentence why;
    uint64_t key;

    (void)state;
    print_line(lines[0], sizeof(lines[0]), "a", refused[0]);
    print_line(lines[1], sizeof(lines[1]), "b", refused[1]);
    (void)snprintf(text, sizeof(text), "%s%s", lines[0], lines[1]);
    write_file(text, strlen(text));
    assert_int_equal(knit_tokens_read(path, &tokens, &why), 0);
    assert_null(knit_tokens_find(tokens, knit_span_text(refused[0]), &key));
    assert_null(knit_tokens_find(tokens, knit_span_text(refused[1]), &key));
    knit_tokens_free(tokens);
}

#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void a_bad_line_is_refused_with_its_number(void **state)
{
    static const struct {
        const char *text, *what;
    } cases[] = {
        {"a\n", ":1: expected NAME sha256:DIGEST"},
        {"#\na sha256:" DIGEST " more\n", ":2: expected NAME"},
        {"a " DIGEST "\n", ":1: expected NAME sha256:DIGEST, with 64 digits"},
        {"a sha256:0123\n", ":1: expected NAME sha256:DIGEST, with 64 digits"},
        {"a sha256:" DIGEST "0\n", ":1: expected NAME sha256:DIGEST, with 64 digits"},
        {"a sha256:G123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n",
            ":1: expected NAME sha256:DIGEST, with 64 digits"},
        {"a* sha256:" DIGEST "\n", ":1: a name has"},
        {"a\303\244 sha256:" DIGEST "\n", ":1: a name has"},
        {"a sha256:" DIGEST "\nb sha256:" DIGEST "\n", ":2: the same token stands in line 1"},
    };
    static char long_line[600];
    struct knit_tokens *tokens = NULL;
    struct knit_sentence why;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        write_file(cases[i].text, strlen(cases[i].text));
        assert_int_equal(knit_tokens_read(path, &tokens, &why), KNIT_TOKENS_E_REFUSED);
        assert_non_null(strstr(why.text, cases[i].what));
        assert_non_null(strstr(why.text, "server.tokens: "));
    }
    memset(long_line, '#', sizeof(long_line));
    write_file(long_line, sizeof(long_line));
    assert_int_equal(knit_tokens_read(path, &tokens, &why), KNIT_TOKENS_E_REFUSED);
    assert_non_null(strstr(why.text, ":1: the line is too long"));
    write_file("a\0b sha256:" DIGEST "\n", 13 + 64);
    assert_int_equal(knit_tokens_read(path, &tokens, &why), KNIT_TOKENS_E_REFUSED);
    assert_null(tokens);
}

static void a_file_that_others_may_write_is_refused(void **state)
{
    static const mode_t modes[] = {0620, 0602, 0666};
    struct knit_tokens *tokens = NULL;
    struct knit_sentence why;

    (void)state;
    write_file("", 0);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        assert_int_equal(chmod(path, modes[i]), 0);
        assert_int_equal(knit_tokens_read(path, &tokens, &why), KNIT_TOKENS_E_REFUSED);
        assert_non_null(strstr(why.text, "may write"));
    }
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(knit_tokens_read(path, &tokens, &why), 0);
    assert_int_equal(knit_tokens_count(tokens), 0);
    knit_tokens_free(tokens);
    assert_int_equal(knit_tokens_read("/tmp", &tokens, &why), KNIT_TOKENS_E_REFUSED);
    assert_int_equal(knit_tokens_read("/nowhere/x", &tokens, &why), KNIT_TOKENS_E_REFUSED);
    assert_non_null(strstr(why.text, "cannot open /nowhere/x: No such file"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(knit_tokens_read(path, &tokens, &why), KNIT_TOKENS_E_REFUSED);
    assert_non_null(strstr(why.text, "is no regular file"));
    assert_int_equal(unlink(path), 0);
}

static void tokens_are_replaced_as_a_whole(void **state)
{
    struct knit_authentication authentication;
    struct knit_principals principals;
    struct knit_principal *principal = NULL, *again = NULL;
    uint64_t key = 0;

    (void)state;
    assert_int_equal(knit_principals_init(&principals), 0);
    knit_authentication_init(&authentication, &principals);
    assert_int_equal(
        knit_authentication_by_token(&authentication, knit_span_text(FIRST), &principal, &key),
        KNIT_AUTHENTICATION_E_NONE);
    knit_authentication_set_tokens(&authentication, read_two());
    assert_int_equal(
        knit_authentication_by_token(&authentication, knit_span_text("x" FIRST), &principal, &key),
        KNIT_AUTHENTICATION_E_UNKNOWN);
    assert_int_equal(
        knit_authentication_by_token(&authentication, knit_span_text(FIRST), &principal, &key), 0);
    assert_string_equal(principal->name, "token:nightly");
    assert_int_equal(principal->kind, KNIT_PRINCIPAL_TOKEN);
    assert_true(knit_authentication_has(&authentication, key));
    knit_authentication_set_tokens(&authentication, read_two());
    assert_true(knit_authentication_has(&authentication, key));
    assert_int_equal(
        knit_authentication_by_token(&authentication, knit_span_text(FIRST), &again, &key), 0);
    assert_ptr_equal(principal, again);
    knit_authentication_set_tokens(&authentication, NULL);
    assert_false(knit_authentication_has(&authentication, key));
    knit_principals_drop(&principals, principal);
    knit_principals_drop(&principals, again);
    knit_authentication_fini(&authentication);
    knit_authentication_fini(&authentication);
    knit_principals_fini(&principals);
}

#define SECOND_NS UINT64_C(1000000000)

static void failures_get_few_answers_and_fewer_lines(void **state)
{
    struct knit_failures failures = {0};
    struct knit_failures_verdict verdict;
    uint64_t now_ns = SECOND_NS;

    (void)state;
    for (int i = 0; i < 100; i++) {
        verdict = knit_failures_note(&failures, 1, now_ns + (uint64_t)i);
        assert_int_equal(verdict.may_log, i == 0);
        assert_int_equal(verdict.may_answer, i < KNIT_FAILURES_ANSWERS);
    }
    assert_int_equal(verdict.count, 99);
    /* Another has its own. */
    verdict = knit_failures_note(&failures, 2, now_ns);
    assert_true(verdict.may_log && verdict.may_answer);
    assert_int_equal(verdict.count, 1);
    verdict = knit_failures_note(&failures, 1, now_ns + SECOND_NS);
    assert_true(verdict.may_answer && !verdict.may_log);
    verdict = knit_failures_note(&failures, 1, now_ns + KNIT_FAILURES_LINE_S * SECOND_NS);
    assert_true(verdict.may_log);
    assert_int_equal(verdict.count, 101);
    knit_failures_fini(&failures);
    knit_failures_fini(&failures);
}

static void the_address_that_failed_least_lately_is_forgotten(void **state)
{
    struct knit_failures failures = {0};
    uint64_t now_ns = SECOND_NS;

    (void)state;
    for (uint64_t i = 0; i < KNIT_FAILURES_ADDRESSES; i++)
        assert_true(knit_failures_note(&failures, i << 32, now_ns).may_log);
    /* The first is the latest now, so that the second gives its place up. */
    assert_false(knit_failures_note(&failures, 0, now_ns).may_log);
    assert_true(knit_failures_note(&failures, 12345, now_ns).may_log);
    assert_false(knit_failures_note(&failures, 0, now_ns).may_log);
    assert_false(knit_failures_note(&failures, UINT64_C(2) << 32, now_ns).may_log);
    assert_true(knit_failures_note(&failures, UINT64_C(1) << 32, now_ns).may_log);
    knit_failures_fini(&failures);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_has_a_name),
        cmocka_unit_test(a_short_token_is_nobodys),
        cmocka_unit_test(a_bad_line_is_refused_with_its_number),
        cmocka_unit_test(a_file_that_others_may_write_is_refused),
        cmocka_unit_test(tokens_are_replaced_as_a_whole),
        cmocka_unit_test(failures_get_few_answers_and_fewer_lines),
        cmocka_unit_test(the_address_that_failed_least_lately_is_forgotten),
    };
    int fd = mkstemp(path), failed;

    if (fd < 0)
        return 1;
    close(fd);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)unlink(path);
    return failed;
}
