/* SPDX-License-Identifier: Apache-2.0 */
/* The digest against the vectors that its authors publish, and in pieces against whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/base/siphash.h"
#include "tests/support/random.h"

/* The key is the bytes 0 to 15, the input the bytes 0 to len - 1. */
static struct knit_digest digest_of_bytes(size_t len)
{
    static const uint64_t key[2] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
    struct knit_siphash hash;
    uint8_t bytes[64];

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)i;
    knit_siphash_begin(&hash, key);
    knit_siphash_add(&hash, bytes, len);
    return knit_siphash_end(&hash);
}

static void it_is_siphash_2_4_with_128_bits(void **state)
{
    static const uint8_t empty[16] = {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6,
        0x72, 0x14, 0xc7, 0x55, 0x02, 0x93};
    static const uint8_t one[16] = {0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76,
        0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45};
    struct knit_digest digest = digest_of_bytes(0);

    (void)state;
    assert_memory_equal(&digest, empty, sizeof(empty));
    digest = digest_of_bytes(1);
    assert_memory_equal(&digest, one, sizeof(one));
}

static void pieces_give_what_the_whole_gives(void **state)
{
    static const uint64_t key[2] = {1, 2};
    struct knit_siphash whole, pieces;
    struct knit_digest expected, digest;
    struct knit_random random;
    uint8_t bytes[200];

    (void)state;
    knit_random_init(&random);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)knit_random_below(&random, 256);
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        knit_siphash_begin(&whole, key);
        knit_siphash_add(&whole, bytes, len);
        expected = knit_siphash_end(&whole);
        knit_siphash_begin(&pieces, key);
        for (size_t at = 0, piece; at < len; at += piece) {
            piece = 1 + (size_t)knit_random_below(&random, 20);
            if (piece > len - at)
                piece = len - at;
            knit_siphash_add(&pieces, bytes + at, piece);
        }
        digest = knit_siphash_end(&pieces);
        assert_memory_equal(&digest, &expected, sizeof(digest));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_siphash_2_4_with_128_bits),
        cmocka_unit_test(pieces_give_what_the_whole_gives),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
