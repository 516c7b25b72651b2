/* SPDX-License-Identifier: Apache-2.0 */
/* What stands behind the reason is ignored, as unknown keys are in the other methods. */
#include "proto/cancel.h"

#include <string.h>

#include "proto/head.h"
#include "proto/limits.h"
#include "proto/text.h"
#include "proto/walk.h"
#include "proto/writer.h"

int knit_cancel_put(struct knit_buffer *buffer, uint32_t msgid, struct knit_span reason)
{
    struct knit_writer writer;

    knit_writer_init(&writer, buffer);
    knit_writer_array(&writer, reason.bytes != NULL ? 2 : 1);
    knit_writer_uint(&writer, msgid);
    if (reason.bytes != NULL)
        knit_writer_raw(&writer, reason.bytes, reason.len);
    return knit_writer_commit(&writer);
}

int knit_cancel_put_reason(struct knit_buffer *buffer, const char *text)
{
    size_t len = knit_text_cut(text, strlen(text), KNIT_ERROR_MESSAGE_BYTES_MAX);
    char copy[KNIT_ERROR_MESSAGE_BYTES_MAX];
    struct knit_writer writer;

    memcpy(copy, text, len);
    for (size_t at = 0; (at += knit_text_valid(copy + at, len - at)) < len; at++)
        copy[at] = '?';
    knit_writer_init(&writer, buffer);
    knit_writer_str(&writer, copy, len);
    return knit_writer_commit(&writer);
}

bool knit_cancel_decode(struct knit_span params, uint32_t *ret_msgid, struct knit_span *ret_reason)
{
    struct knit_walk walk;
    struct knit_item item;
    uint64_t msgid;

    if (knit_walk_array(&walk, params) || knit_walk_next(&walk, &item) ||
        !knit_item_uint(&item, &msgid) || msgid > UINT32_MAX)
        return false;
    *ret_msgid = (uint32_t)msgid;
    *ret_reason = knit_span(NULL, 0);
    if (knit_walk_next(&walk, &item) == 0 && item.head.type != KNIT_HEAD_NIL)
        *ret_reason = item.raw;
    return true;
}

struct knit_span knit_cancel_text(struct knit_span reason)
{
    struct knit_head head;

    if (reason.bytes != NULL && knit_head_read(reason.bytes, reason.len, &head) == 0 &&
        head.type == KNIT_HEAD_STR)
        return knit_span(reason.bytes + head.size, reason.len - head.size);
    return knit_span(NULL, 0);
}

struct knit_failure knit_cancel_failure(struct knit_span reason)
{
    struct knit_failure failure =
        knit_failure(KNIT_CANCELLED, "the call was cancelled by its caller");
    const struct knit_span text = knit_cancel_text(reason);

    if (reason.bytes == NULL)
        return failure;
    failure.data = reason;
    if (text.bytes != NULL)
        failure.message = text;
    return failure;
}
