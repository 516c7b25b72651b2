/* SPDX-License-Identifier: Apache-2.0 */
/* What stands behind the count is ignored, as unknown keys are in the other methods. */
#include "proto/progress.h"

#include "proto/check.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "proto/walk.h"
#include "proto/writer.h"

bool knit_progress_check(struct knit_span value)
{
    /* In the message it lies in two arrays. */
    return value.len != 0 && value.len <= KNIT_PROGRESS_BYTES_MAX &&
           knit_check_value(value.bytes, value.len, KNIT_DEPTH_MAX - 2, NULL) == 0;
}

int knit_progress_put(struct knit_buffer *buffer, const struct knit_progress *progress)
{
    const struct knit_method method = {.name = knit_span_text("$/progress")};
    uint8_t memory[KNIT_PROGRESS_MESSAGE_MAX];
    struct knit_buffer params;
    struct knit_writer writer;
    int error;

    knit_buffer_init_fixed(&params, memory, sizeof(memory));
    knit_writer_init(&writer, &params);
    knit_writer_array(&writer, 3);
    knit_writer_uint(&writer, progress->msgid);
    knit_writer_raw(&writer, progress->value.bytes, progress->value.len);
    knit_writer_uint(&writer, progress->count);
    error = knit_writer_commit(&writer);
    return error != 0 ? error
                      : knit_message_put_notification(buffer, &method, knit_buffer_span(&params));
}

bool knit_progress_decode(struct knit_span params, struct knit_progress *ret_progress)
{
    struct knit_walk walk;
    struct knit_item msgid_item, value, count_item;
    uint64_t msgid, count;

    if (knit_walk_array(&walk, params) || knit_walk_next(&walk, &msgid_item) ||
        !knit_item_uint(&msgid_item, &msgid) || msgid > UINT32_MAX ||
        knit_walk_next(&walk, &value) || knit_walk_next(&walk, &count_item) ||
        !knit_item_uint(&count_item, &count) || !knit_progress_check(value.raw))
        return false;
    *ret_progress =
        (struct knit_progress){.msgid = (uint32_t)msgid, .value = value.raw, .count = count};
    return true;
}
