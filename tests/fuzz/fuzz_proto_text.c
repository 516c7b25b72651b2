/* SPDX-License-Identifier: Apache-2.0 */
/* Text, the whole of the input. Oracle: a second definition of UTF-8 that looks at one byte after
 * the other, also behind as many bytes of text in front as bring each of them to another place of a
 * block or, of ASCII, a stride.
 */
#include <string.h>

#include "proto/text.h"
#include "tests/fuzz/target.h"
#include "tests/proto/plain_text.h"

static void compare(const uint8_t *text, size_t len)
{
    size_t expected = knit_plain_valid(text, len);
    uint8_t *copy = malloc(len + 1);

    if (copy == NULL)
        exit(2);
    KNIT_FUZZ_CHECK(knit_text_copy(copy, text, len) == (expected == len));
    KNIT_FUZZ_CHECK(len == 0 || memcmp(copy, text, len) == 0);
    free(copy);

    KNIT_FUZZ_CHECK(knit_text_valid(text, len) == expected);
    KNIT_FUZZ_CHECK(knit_text_is_utf8(text, len) == (expected == len));
    KNIT_FUZZ_CHECK(knit_text_cut(text, expected, expected / 2) <= expected / 2);
    KNIT_FUZZ_CHECK(knit_plain_valid(text, knit_text_cut(text, expected, expected / 2)) ==
                    knit_text_cut(text, expected, expected / 2));
}

/* Behind so many bytes of pieces. */
static void compare_behind(const char *piece, size_t front, const uint8_t *bytes, size_t len)
{
    const size_t step = strlen(piece);
    uint8_t *text = malloc(front + len);

    if (text == NULL)
        exit(2);
    for (size_t at = 0; at < front; at += step)
        memcpy(text + at, piece, step);
    if (len > 0)
        memcpy(text + front, bytes, len);
    compare(text, front + len);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static const char *const fronts[] = {"a", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};

    compare(bytes, len);
    for (size_t kind = 0; kind < sizeof(fronts) / sizeof(fronts[0]); kind++) {
        const size_t step = strlen(fronts[kind]);

        for (size_t front = step; front < KNIT_TEXT_BLOCK + step; front += step) {
            compare_behind(fronts[kind], front, bytes, len);
            if (kind == 0)
                compare_behind(fronts[kind], KNIT_TEXT_STRIDE + front, bytes, len);
        }
    }
    return 0;
}
