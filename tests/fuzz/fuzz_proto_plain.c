/* SPDX-License-Identifier: Apache-2.0 */
/* A stream of messages, each taken in one walk. The first byte chooses the limits. Oracle: scanner
 * and parser, which never see that walk: what it takes is to them one message, of the same length
 * and the same parts.
 */
#include "proto/plain.h"
#include "proto/scan.h"
#include "tests/fuzz/target.h"
#include "tests/proto/two_ways.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct knit_scan_limits limits;
    struct knit_scan scan;
    size_t taken, used;
    int r;

    if (len == 0)
        return 0;
    limits = (struct knit_scan_limits){.message_bytes = bytes[0] & 1 ? 40 : 0,
        .depth = KNIT_PLAIN_CONTAINERS_MAX + 1 + (bytes[0] >> 4),
        .bounds_parts = bytes[0] & 2};
    knit_scan_init(&scan, &limits);
    bytes++;
    len--;
    do {
        KNIT_FUZZ_CHECK(two_ways_agree(&scan, bytes, len, &taken, &r, &used));
        bytes += used;
        len -= used;
        knit_scan_reset(&scan);
    } while (r == KNIT_SCAN_E_DONE || r == KNIT_SCAN_E_REFUSED);
    return 0;
}
