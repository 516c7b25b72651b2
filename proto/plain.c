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

const uint8_t *knit_plain_nested_values(const uint8_t *at, const uint8_t *end, unsigned count)
{
    unsigned containers = 0;
    size_t len;

    for (; count > 0; count--) {
        if (at == end)
            return NULL;
        len = knit_head_plain_len(at, (size_t)(end - at));
        if (len == 0) {
            /* Its values follow. Their number stands in its first byte, or it is not plain. */
            if ((at[0] & 0xe0) != 0x80 || containers++ == KNIT_PLAIN_CONTAINERS_MAX)
                return NULL;
            count += (at[0] & 0x0f) * ((at[0] & 0xf0) == 0x80 ? 2u : 1u);
            len = 1;
        }
        at += len;
    }
    return at;
}
