/* SPDX-License-Identifier: Apache-2.0 */
/* Views of both ways point into the same bytes, so they are compared by address. What is not taken
 * in one walk needs no comparison: the scanner alone has a say there.
 */
#include "tests/proto/two_ways.h"

#include "proto/message.h"
#include "proto/plain.h"

static bool is_span(struct knit_span a, struct knit_span b)
{
    return a.bytes == b.bytes && a.len == b.len;
}

static bool is_same(const struct knit_message *a, const struct knit_message *b)
{
    if (a->kind != b->kind || (a->kind != KNIT_MESSAGE_NOTIFICATION && a->msgid != b->msgid))
        return false;
    if (a->kind == KNIT_MESSAGE_RESPONSE)
        return is_span(a->error, b->error) && is_span(a->result, b->result);
    return is_span(a->method.name, b->method.name) && a->method.id == b->method.id &&
           is_span(a->params, b->params) && is_span(a->options, b->options);
}

bool two_ways_agree(struct knit_scan *scan, const uint8_t *bytes, size_t len, size_t *ret_taken,
    int *ret_scanned, size_t *ret_used)
{
    struct knit_message plain, parsed;
    const char *reason;

    *ret_taken = knit_plain_take(bytes, len, scan->limits.message_bytes, &plain);
    *ret_scanned = knit_scan_feed(scan, bytes, len, ret_used);
    return *ret_taken == 0 ||
           (*ret_scanned == KNIT_SCAN_E_DONE && *ret_taken == *ret_used &&
               knit_message_parse(bytes, *ret_used, scan, &parsed, &reason) == 0 &&
               is_same(&plain, &parsed));
}
