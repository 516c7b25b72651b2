/* SPDX-License-Identifier: Apache-2.0 */
/* What is rare in plain messages, out of the loops that take them. */
#include "proto/plain.h"

const uint8_t *knit_plain_long_method(
    const uint8_t *at, const uint8_t *end, struct knit_method *ret_method)
{
    struct knit_head head;

    if (knit_head_read(at, (size_t)(end - at), &head) != 0)
        return NULL;
    at += head.size;
    *ret_method = (struct knit_method){.id = head.value};
    if (head.type == KNIT_HEAD_UINT)
        return at != end ? at : NULL;
    if ((head.type != KNIT_HEAD_STR && head.type != KNIT_HEAD_BIN) ||
        head.value >= (uint64_t)(end - at) || at[0] == '$')
        return NULL;
    *ret_method = (struct knit_method){.name = knit_span(at, (size_t)head.value)};
    return at + head.value;
}
