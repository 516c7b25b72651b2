/* SPDX-License-Identifier: Apache-2.0 */
/* Digests that FIPS 180-4's examples give, and those of each length about the ends of a block,
 * which a digest of all of them together stands for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/sha256.h"

static void text_of(struct knit_span bytes, char ret_text[2 * KNIT_SHA256_BYTES + 1])
{
    uint8_t digest[KNIT_SHA256_BYTES];

    knit_sha256(bytes, digest);
    for (size_t i = 0; i < KNIT_SHA256_BYTES; i++)
        (void)snprintf(ret_text + 2 * i, 3, "%02x", digest[i]);
}

static void digests_are_those_of_the_standard(void **state)
{
    static const struct {
        const char *text, *digest;
    } cases[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqr"
         "lmnopqrsmnopqrstnopqrstu",
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    };
    char text[2 * KNIT_SHA256_BYTES + 1];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        text_of(knit_span_text(cases[i].text), text);
        assert_string_equal(text, cases[i].digest);
    }
    text_of(knit_span(NULL, 0), text);
    assert_string_equal(text, cases[0].digest);
}

/* The digests of 0 to 299 times the letter a, one behind the other. */
static void each_length_has_its_digest(void **state)
{
    static uint8_t digests[300][KNIT_SHA256_BYTES];
    char text[2 * KNIT_SHA256_BYTES + 1];
    uint8_t letters[300];

    (void)state;
    memset(letters, 'a', sizeof(letters));
    for (size_t i = 0; i < sizeof(letters); i++)
        knit_sha256(knit_span(letters, i), digests[i]);
    text_of(knit_span(digests, sizeof(digests)), text);
    assert_string_equal(text, "80e953e3b006c4bab43fd5d792f8bd29c122f6cf1497318365fe66bf2d61398d");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_are_those_of_the_standard),
        cmocka_unit_test(each_length_has_its_digest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
