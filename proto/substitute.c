/* SPDX-License-Identifier: Apache-2.0 */
/* All members of the map are read before one of them counts, so that each is checked, wherever it
 * stands. */
#include "proto/substitute.h"

#include "proto/check.h"
#include "proto/limits.h"
#include "proto/options.h"
#include "proto/walk.h"
#include "proto/writer.h"

static const uint8_t nil[] = {0xc0};

/* What the map says, before it is known which of it counts. */
struct said {
    uint64_t time_ns;
    struct knit_span result; /* `default` */
    bool maybe;
    bool has_error;
    struct knit_span message, data;
};

/* As a result it may stand in two arrays (printed.h), and as data in those of an error. */
static bool is_value(struct knit_span bytes)
{
    return knit_check_value(bytes.bytes, bytes.len, KNIT_DEPTH_MAX - 2, NULL) == 0;
}

/* A text, or a map of message and data. */
static bool read_error(const struct knit_item *item, struct said *said)
{
    struct knit_walk walk;
    struct knit_item member;
    int r;

    said->has_error = true;
    if (item->head.type == KNIT_HEAD_STR)
        return knit_item_utf8(item, &said->message);
    r = knit_walk_map(&walk, item->raw);
    while (r == 0 && (r = knit_walk_next(&walk, &member)) == 0) {
        if (knit_span_is(member.key, "data"))
            said->data = member.raw;
        else if (member.head.type != KNIT_HEAD_NIL && knit_span_is(member.key, "message") &&
                 !knit_item_utf8(&member, &said->message))
            return false;
    }
    return r == KNIT_WALK_E_END && (said->data.bytes == NULL || is_value(said->data));
}

/* What is wrong with this member, or NULL. */
static const char *read_member(const struct knit_item *item, struct said *said)
{
    double ms;

    if (knit_span_is(item->key, "default")) {
        said->result = item->raw;
        return is_value(item->raw) ? NULL : "option timeout: default must be a well-formed value";
    }
    if (item->head.type == KNIT_HEAD_NIL)
        return NULL;
    if (knit_span_is(item->key, "time")) {
        if (!knit_head_as_float(&item->head, &ms))
            return "option timeout: time must be a number of milliseconds";
        said->time_ns = knit_options_ns(ms);
    }
    if (knit_span_is(item->key, "maybe") && !knit_item_bool(item, &said->maybe))
        return "option timeout: maybe must be a bool";
    if (knit_span_is(item->key, "error") && !read_error(item, said))
        return "option timeout: error must be a str, or a map of message and data";
    return NULL;
}

int knit_substitute_decode(struct knit_span map, struct knit_substitute *ret_substitute,
    uint64_t *ret_time_ns, const char **ret_reason)
{
    struct said said = {.time_ns = KNIT_OPTION_NONE};
    const char *flaw = NULL;
    struct knit_walk walk;
    struct knit_item item;
    int r = knit_walk_map(&walk, map);

    while (flaw == NULL && r == 0 && (r = knit_walk_next(&walk, &item)) == 0)
        flaw = read_member(&item, &said);
    if (flaw == NULL && r != KNIT_WALK_E_END)
        flaw = "option timeout must be a number of milliseconds, or a map";
    if (flaw != NULL) {
        *ret_reason = flaw;
        return KNIT_SUBSTITUTE_E_BAD;
    }
    *ret_substitute = (struct knit_substitute){.kind = KNIT_SUBSTITUTE_NONE};
    if (said.result.bytes != NULL || said.maybe) {
        ret_substitute->kind = KNIT_SUBSTITUTE_RESULT;
        ret_substitute->result =
            said.result.bytes != NULL ? said.result : knit_span(nil, sizeof(nil));
    } else if (said.has_error) {
        *ret_substitute = (struct knit_substitute){
            .kind = KNIT_SUBSTITUTE_ERROR, .message = said.message, .data = said.data};
    }
    if (ret_time_ns != NULL)
        *ret_time_ns = said.time_ns;
    return 0;
}

static const char *find_flaw(const struct knit_substitute *substitute)
{
    const struct knit_span message = substitute->message;

    if (substitute->result.bytes != NULL && !is_value(substitute->result))
        return "the value is not one well-formed value";
    if (substitute->data.bytes != NULL && !is_value(substitute->data))
        return "error_data is not one well-formed value";
    if (message.bytes != NULL && !knit_text_is_utf8(message.bytes, message.len))
        return "the error is not UTF-8";
    return NULL;
}

int knit_substitute_from(const struct knit_on_timeout *on_timeout,
    struct knit_substitute *ret_substitute, const char **ret_reason)
{
    struct knit_substitute substitute = {.kind = KNIT_SUBSTITUTE_NONE};
    const char *flaw;

    if (on_timeout != NULL && (on_timeout->value != NULL || on_timeout->maybe)) {
        substitute.kind = KNIT_SUBSTITUTE_RESULT;
        substitute.result = on_timeout->value != NULL
                                ? knit_span(on_timeout->value, on_timeout->value_len)
                                : knit_span(nil, sizeof(nil));
    } else if (on_timeout != NULL &&
               (on_timeout->error != NULL || on_timeout->error_data != NULL)) {
        substitute.kind = KNIT_SUBSTITUTE_ERROR;
        substitute.message = knit_span_text(on_timeout->error);
        if (on_timeout->error_data != NULL)
            substitute.data = knit_span(on_timeout->error_data, on_timeout->error_data_len);
    }
    if (substitute.result.len + substitute.message.len + substitute.data.len >
        KNIT_ON_TIMEOUT_BYTES_MAX) {
        *ret_reason = "it takes more than 2048 bytes";
        return KNIT_SUBSTITUTE_E_LARGE;
    }
    flaw = find_flaw(&substitute);
    if (flaw != NULL) {
        *ret_reason = flaw;
        return KNIT_SUBSTITUTE_E_BAD;
    }
    *ret_substitute = substitute;
    return 0;
}

void knit_substitute_write(
    struct knit_writer *writer, const struct knit_substitute *substitute, uint64_t time_ns)
{
    uint32_t members = substitute->kind != KNIT_SUBSTITUTE_NONE;

    knit_writer_map(writer, members + (time_ns != KNIT_OPTION_NONE));
    if (time_ns != KNIT_OPTION_NONE) {
        knit_writer_text(writer, "time");
        knit_options_put_time(writer, time_ns);
    }
    if (substitute->kind == KNIT_SUBSTITUTE_RESULT) {
        knit_writer_text(writer, "default");
        knit_writer_raw(writer, substitute->result.bytes, substitute->result.len);
    } else if (substitute->kind == KNIT_SUBSTITUTE_ERROR) {
        members = (substitute->message.bytes != NULL) + (substitute->data.bytes != NULL ? 1u : 0);
        knit_writer_text(writer, "error");
        knit_writer_map(writer, members);
        knit_writer_member_str(writer, "message", substitute->message);
        if (substitute->data.bytes != NULL) {
            knit_writer_text(writer, "data");
            knit_writer_raw(writer, substitute->data.bytes, substitute->data.len);
        }
    }
}

int knit_substitute_put(struct knit_buffer *buffer, const struct knit_substitute *substitute)
{
    struct knit_writer writer;

    knit_writer_init(&writer, buffer);
    knit_substitute_write(&writer, substitute, KNIT_OPTION_NONE);
    return knit_writer_commit(&writer);
}

void knit_substitute_fail(const struct knit_substitute *substitute, struct knit_failure *timeout)
{
    if (substitute->kind != KNIT_SUBSTITUTE_ERROR)
        return;
    if (substitute->message.bytes != NULL)
        timeout->message = substitute->message;
    if (substitute->data.bytes != NULL)
        timeout->data = substitute->data;
}
