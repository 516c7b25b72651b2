/* SPDX-License-Identifier: Apache-2.0 */
/* One value that others pass on unread. What was printed stands last, so that a reader who wants
 * the result finds it first. */
#include "proto/printed.h"

#include "proto/failure.h"
#include "proto/head.h"
#include "proto/limits.h"
#include "proto/walk.h"
#include "proto/writer.h"

static void put_output(struct knit_writer *writer, struct knit_span text, bool is_cut)
{
    knit_writer_array(writer, 2);
    knit_writer_bin(writer, text.bytes, text.len);
    knit_writer_bool(writer, is_cut);
}

int knit_printed_put_result(
    struct knit_buffer *buffer, struct knit_span result, struct knit_span text, bool is_cut)
{
    struct knit_writer writer;

    knit_writer_init(&writer, buffer);
    knit_writer_array(&writer, 2);
    knit_writer_raw(&writer, result.bytes, result.len);
    put_output(&writer, text, is_cut);
    return knit_writer_commit(&writer);
}

int knit_printed_put_error(
    struct knit_buffer *buffer, struct knit_span error, struct knit_span text, bool is_cut)
{
    struct knit_buffer output;
    struct knit_failure failure;
    struct knit_writer writer;
    int r;

    knit_buffer_init(&output, text.len + KNIT_PRINTED_HEADS_MAX);
    knit_writer_init(&writer, &output);
    put_output(&writer, text, is_cut);
    r = knit_writer_commit(&writer);
    if (knit_failure_decode(error, &failure) != 0)
        failure = knit_failure(KNIT_INTERNAL, "an error came in a form nobody can read");
    failure.output = knit_buffer_span(&output);
    if (r == 0)
        r = knit_failure_put(buffer, &failure, KNIT_FAILURE_COMPACT);
    knit_buffer_fini(&output);
    return r;
}

int knit_printed_split(
    struct knit_span whole, struct knit_span *ret_result, struct knit_span *ret_output)
{
    struct knit_walk walk;
    struct knit_item result, output;

    if (knit_walk_array(&walk, whole) != 0 || walk.left != 2 ||
        knit_walk_next(&walk, &result) != 0 || knit_walk_next(&walk, &output) != 0)
        return KNIT_PRINTED_E_BAD;
    *ret_result = result.raw;
    *ret_output = output.raw;
    return 0;
}

int knit_printed_read(struct knit_span output, struct knit_span *ret_text, bool *ret_is_cut)
{
    struct knit_walk walk;
    struct knit_item text, cut;

    if (knit_walk_array(&walk, output) != 0 || walk.left != 2 ||
        knit_walk_next(&walk, &text) != 0 || text.head.type != KNIT_HEAD_BIN ||
        knit_walk_next(&walk, &cut) != 0 || !knit_item_bool(&cut, ret_is_cut))
        return KNIT_PRINTED_E_BAD;
    *ret_text = text.body;
    return 0;
}
