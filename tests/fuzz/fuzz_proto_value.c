/* SPDX-License-Identifier: Apache-2.0 */
/* One value through check, decoder and writer. Oracle: what passes the check can be decoded; its
 * length by structure is the same; written again it passes again, and a second time changes
 * nothing.
 */
#include <string.h>

#include "proto/check.h"
#include "proto/limits.h"
#include "tests/fuzz/target.h"
#include "tests/proto/recode.h"

enum { BUFFER_MAX = 1 << 26 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct knit_check_flaw flaw = {0};
    struct knit_buffer once, twice;
    size_t front, skipped;
    int r;

    r = knit_check_front(bytes, len, KNIT_DEPTH_MAX, &front, &flaw);
    KNIT_FUZZ_CHECK(r == 0 ? flaw.reason == NULL : flaw.reason != NULL && flaw.offset <= len);
    if (r)
        return 0;
    KNIT_FUZZ_CHECK(knit_check_skip(bytes, len, &skipped) == 0 && skipped == front);
    knit_buffer_init(&once, BUFFER_MAX);
    knit_buffer_init(&twice, BUFFER_MAX);
    KNIT_FUZZ_CHECK(knit_recode(knit_span(bytes, front), &once) == 0);
    KNIT_FUZZ_CHECK(knit_recode(knit_buffer_span(&once), &twice) == 0);
    KNIT_FUZZ_CHECK(once.len == twice.len && memcmp(once.bytes, twice.bytes, once.len) == 0);
    knit_buffer_fini(&once);
    knit_buffer_fini(&twice);
    return 0;
}
