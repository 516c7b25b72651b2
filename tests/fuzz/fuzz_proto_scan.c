/* SPDX-License-Identifier: Apache-2.0 */
/* A stream through the scanner, message by message. The first byte chooses limits and the length of
 * pieces. Oracle: the same stream in pieces ends the same way, and what is called one message is
 * one value by structure.
 */
#include <string.h>

#include "proto/check.h"
#include "proto/message.h"
#include "proto/scan.h"
#include "tests/fuzz/target.h"

static int feed_pieces(
    struct knit_scan *scan, const uint8_t *bytes, size_t len, size_t piece, size_t *ret_used)
{
    size_t at = 0, used;
    int r = 0;

    while (r == 0 && at < len) {
        r = knit_scan_feed(scan, bytes + at, len - at < piece ? len - at : piece, &used);
        KNIT_FUZZ_CHECK(used <= piece);
        at += used;
    }
    *ret_used = at;
    return r;
}

static void assert_same(const struct knit_scan *a, const struct knit_scan *b)
{
    KNIT_FUZZ_CHECK(a->used == b->used && a->count == b->count && a->kind == b->kind);
    KNIT_FUZZ_CHECK(a->has_msgid == b->has_msgid && a->msgid == b->msgid);
    KNIT_FUZZ_CHECK(a->refused == b->refused && a->reason == b->reason);
    KNIT_FUZZ_CHECK(memcmp(a->element, b->element, sizeof(a->element)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct knit_scan whole, pieces;
    struct knit_scan_limits limits;
    struct knit_message message;
    const char *reason;
    size_t piece, used, used_in_pieces, skipped;
    int r;

    if (len == 0)
        return 0;
    piece = 1 + (bytes[0] & 7);
    limits = (struct knit_scan_limits){.message_bytes = bytes[0] & 8 ? 40 : 0,
        .depth = 1 + (bytes[0] >> 4),
        .bounds_parts = !(bytes[0] & 8)};
    knit_scan_init(&whole, &limits);
    knit_scan_init(&pieces, &limits);
    bytes++;
    len--;
    do {
        r = knit_scan_feed(&whole, bytes, len, &used);
        KNIT_FUZZ_CHECK(feed_pieces(&pieces, bytes, len, piece, &used_in_pieces) == r);
        KNIT_FUZZ_CHECK(used == used_in_pieces && used <= len);
        assert_same(&whole, &pieces);
        if (r == KNIT_SCAN_E_DONE || r == KNIT_SCAN_E_REFUSED) {
            KNIT_FUZZ_CHECK(knit_check_skip(bytes, len, &skipped) == 0 && skipped == used);
            KNIT_FUZZ_CHECK((r == KNIT_SCAN_E_REFUSED) == (whole.refused != 0));
        }
        reason = NULL;
        if (r == KNIT_SCAN_E_DONE && knit_message_parse(bytes, used, &whole, &message, &reason))
            KNIT_FUZZ_CHECK(reason != NULL);
        bytes += used;
        len -= used;
        knit_scan_reset(&whole);
        knit_scan_reset(&pieces);
    } while (r == KNIT_SCAN_E_DONE || r == KNIT_SCAN_E_REFUSED);
    return 0;
}
