/* SPDX-License-Identifier: Apache-2.0 */
/* What is rare in plain messages, out of the loops that take them. */
#include "proto/plain.h"

bool knit_plain_long_method(struct knit_plain_rest *rest, struct knit_method *ret_method)
{
    const uint8_t *at = rest->at;
    struct knit_head head;

    if (knit_head_read(at, (size_t)(rest->end - at), &head) != 0)
        return false;
    at += head.size;
    rest->at = at;
    *ret_method = (struct knit_method){.id = head.value};
    if (head.type == KNIT_HEAD_UINT)
        return at != rest->end;
    if ((head.type != KNIT_HEAD_STR && head.type != KNIT_HEAD_BIN) ||
        head.value >= (uint64_t)(rest->end - at) || at[0] == '$')
        return false;
    *ret_method = (struct knit_method){.name = knit_span(at, (size_t)head.value)};
    rest->at += head.value;
    return true;
}
