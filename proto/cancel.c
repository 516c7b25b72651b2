/* SPDX-License-Identifier: Apache-2.0 */
/* What stands behind the msgid is ignored, as unknown keys are in the other methods. */
#include "proto/cancel.h"

#include "proto/walk.h"
#include "proto/writer.h"

int knit_cancel_put(struct knit_buffer *buffer, uint32_t msgid)
{
    struct knit_writer writer;

    knit_writer_init(&writer, buffer);
    knit_writer_array(&writer, 1);
    knit_writer_uint(&writer, msgid);
    return knit_writer_commit(&writer);
}

bool knit_cancel_decode(struct knit_span params, uint32_t *ret_msgid)
{
    struct knit_walk walk;
    struct knit_item item;
    uint64_t msgid;

    if (knit_walk_array(&walk, params) || knit_walk_next(&walk, &item) ||
        !knit_item_uint(&item, &msgid) || msgid > UINT32_MAX)
        return false;
    *ret_msgid = (uint32_t)msgid;
    return true;
}
