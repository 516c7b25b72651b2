/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol's own small structures, from the same bytes: options, `$/hello` and `$/attach` with
 * their answers, `$/cancel`, `$/goaway`, the pages of `$/tasks`, errors. Oracle: each decoder
 * answers with a reason or a result, what was read and written reads the same again, and an error
 * that was read is an error in each of its forms.
 */
#include "proto/attach.h"
#include "proto/cancel.h"
#include "proto/check.h"
#include "proto/failure.h"
#include "proto/goaway.h"
#include "proto/hello.h"
#include "proto/limits.h"
#include "proto/options.h"
#include "proto/tasks.h"
#include "proto/walk.h"
#include "tests/fuzz/target.h"

enum { BUFFER_MAX = 1 << 24 };

static void read_options(struct knit_span bytes)
{
    struct knit_options options, again;
    struct knit_buffer buffer;
    const char *reason = NULL;

    if (knit_options_decode(bytes, &options, &reason)) {
        KNIT_FUZZ_CHECK(reason != NULL);
        return;
    }
    knit_buffer_init(&buffer, BUFFER_MAX);
    KNIT_FUZZ_CHECK(knit_options_put(&buffer, &options) == 0);
    KNIT_FUZZ_CHECK(knit_options_decode(knit_buffer_span(&buffer), &again, &reason) == 0);
    KNIT_FUZZ_CHECK(options.keep == again.keep && options.epoch == again.epoch);
    KNIT_FUZZ_CHECK(options.affinity == again.affinity && options.priority == again.priority);
    KNIT_FUZZ_CHECK(options.key.len == again.key.len && options.trace.len == again.trace.len);
    knit_buffer_fini(&buffer);
}

static void read_hello(struct knit_span bytes)
{
    struct knit_hello_reply reply;
    struct knit_hello hello;
    struct knit_buffer buffer;
    const char *reason = NULL;

    knit_buffer_init(&buffer, BUFFER_MAX);
    if (knit_hello_decode(bytes, &hello, &reason) == 0)
        KNIT_FUZZ_CHECK(knit_hello_put(&buffer, &hello) == 0);
    else
        KNIT_FUZZ_CHECK(reason != NULL);
    reason = NULL;
    if (knit_hello_reply_decode(bytes, &reply, &reason) == 0)
        KNIT_FUZZ_CHECK(reply.feature_count <= KNIT_HELLO_FEATURES_MAX && reply.protocol != 0);
    else
        KNIT_FUZZ_CHECK(reason != NULL);
    knit_buffer_fini(&buffer);
}

static void read_tasks(struct knit_span bytes)
{
    struct knit_tasks_query query;
    struct knit_tasks_page page;
    struct knit_task_entry entry;
    struct knit_walk walk;
    struct knit_item item;
    const char *reason = NULL;

    if (knit_tasks_query_decode(bytes, &query, &reason) == 0)
        KNIT_FUZZ_CHECK(query.limit > 0 && query.limit <= KNIT_TASKS_MAX);
    else
        KNIT_FUZZ_CHECK(reason != NULL);
    if (knit_tasks_page_decode(bytes, &page, &reason))
        return;
    KNIT_FUZZ_CHECK(knit_walk_array(&walk, page.tasks) == 0);
    while (knit_walk_next(&walk, &item) == 0) {
        reason = NULL;
        KNIT_FUZZ_CHECK(knit_task_entry_decode(item.raw, &entry, &reason) == 0 || reason != NULL);
    }
}

static void read_attach(struct knit_span bytes)
{
    struct knit_attach_request request, request_again;
    struct knit_attach_reply reply, reply_again;
    struct knit_buffer buffer;
    const char *reason = NULL;

    knit_buffer_init(&buffer, BUFFER_MAX);
    if (knit_attach_request_decode(bytes, &request, &reason) == 0) {
        KNIT_FUZZ_CHECK(knit_attach_request_put(&buffer, &request) == 0);
        KNIT_FUZZ_CHECK(
            knit_attach_request_decode(knit_buffer_span(&buffer), &request_again, &reason) == 0);
        KNIT_FUZZ_CHECK(request.version == request_again.version &&
                        request.slots == request_again.slots &&
                        request.arena_bytes == request_again.arena_bytes);
    } else {
        KNIT_FUZZ_CHECK(reason != NULL);
    }
    knit_buffer_reset(&buffer);
    knit_attach_reply_decode(bytes, &reply);
    KNIT_FUZZ_CHECK(knit_attach_reply_put(&buffer, &reply) == 0);
    knit_attach_reply_decode(knit_buffer_span(&buffer), &reply_again);
    KNIT_FUZZ_CHECK(reply.layout == reply_again.layout && reply.lanes == reply_again.lanes &&
                    reply.call_max_bytes == reply_again.call_max_bytes &&
                    reply.steal == reply_again.steal);
    knit_buffer_fini(&buffer);
}

static void read_notifications(struct knit_span bytes)
{
    struct knit_goaway goaway, again;
    struct knit_buffer buffer;
    const char *reason = NULL;
    struct knit_span why;
    uint32_t msgid, msgid_again;

    knit_buffer_init(&buffer, BUFFER_MAX);
    if (knit_cancel_decode(bytes, &msgid, &why)) {
        /* A reason is checked only where it is written. */
        if (knit_cancel_put(&buffer, msgid, why) != 0) {
            knit_buffer_reset(&buffer);
            KNIT_FUZZ_CHECK(knit_cancel_put(&buffer, msgid, knit_span(NULL, 0)) == 0);
        }
        KNIT_FUZZ_CHECK(knit_cancel_decode(knit_buffer_span(&buffer), &msgid_again, &why));
        KNIT_FUZZ_CHECK(msgid == msgid_again);
    }
    knit_buffer_reset(&buffer);
    if (knit_goaway_decode(bytes, &goaway, &reason) == 0) {
        KNIT_FUZZ_CHECK(knit_goaway_put(&buffer, &goaway) == 0);
        KNIT_FUZZ_CHECK(knit_goaway_decode(knit_buffer_span(&buffer), &again, &reason) == 0);
        KNIT_FUZZ_CHECK(goaway.drain_ms == again.drain_ms && goaway.reason.len == again.reason.len);
    } else {
        KNIT_FUZZ_CHECK(reason != NULL);
    }
    knit_buffer_fini(&buffer);
}

/* The value that is not looked at is well-formed where the whole is. */
static void read_front(struct knit_span bytes, bool is_error)
{
    struct knit_failure failure;
    struct knit_buffer buffer;
    size_t data_at;

    knit_buffer_init(&buffer, BUFFER_MAX);
    data_at = knit_failure_convert_front(&buffer, bytes, KNIT_FAILURE_FULL);
    KNIT_FUZZ_CHECK(buffer.error == 0);
    if (data_at != 0)
        knit_buffer_append(&buffer, bytes.bytes + data_at, bytes.len - data_at);
    if (is_error || data_at == 0)
        KNIT_FUZZ_CHECK(knit_failure_decode(knit_buffer_span(&buffer), &failure) == 0);
    knit_buffer_fini(&buffer);
}

static void read_error(struct knit_span bytes)
{
    struct knit_failure failure, again;
    struct knit_buffer buffer;
    struct knit_span value;
    int64_t code;

    bool is_error = knit_failure_decode(bytes, &failure) == 0;

    read_front(bytes, is_error);
    if (!is_error)
        return;
    (void)knit_failure_task_data(&failure, &code, &value);
    for (int form = KNIT_FAILURE_COMPACT; form <= KNIT_FAILURE_PLAIN; form++) {
        knit_buffer_init(&buffer, BUFFER_MAX);
        KNIT_FUZZ_CHECK(knit_failure_convert(&buffer, bytes, (enum knit_failure_form)form) == 0);
        KNIT_FUZZ_CHECK(knit_check_value(buffer.bytes, buffer.len, KNIT_DEPTH_MAX, NULL) == 0);
        KNIT_FUZZ_CHECK(knit_failure_decode(knit_buffer_span(&buffer), &again) == 0);
        KNIT_FUZZ_CHECK(form == KNIT_FAILURE_PLAIN || failure.code == again.code);
        knit_buffer_fini(&buffer);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct knit_span span = {bytes, len};

    read_options(span);
    read_hello(span);
    read_tasks(span);
    read_attach(span);
    read_notifications(span);
    read_error(span);
    return 0;
}
