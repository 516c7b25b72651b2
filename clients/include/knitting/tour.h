/* SPDX-License-Identifier: Apache-2.0 */
/* A walk over a value and all that is in it, for <knitting/values.h>: without recursion, since the
 * depth is a stranger's. Nothing here is for programs.
 */
#pragma once

#include <knitting/build.h>
#include <knitting/read.h>

#ifdef __cplusplus
extern "C" {
#endif

struct knit_tour_frame {
    uint64_t left;
    const unsigned char *end;
    bool is_ext, is_envelope;
};

struct knit_tour {
    struct knit_reader *reader;
    const unsigned char *at;
    const char *reason;
    int code;
    uint32_t depth;
    struct knit_tour_frame frame[KNIT_BUILDER_DEPTH_MAX + 1];
};

/* A piece that is no value of its own: the bytes behind the header of an envelope. */
enum { KNIT_TOUR_BODY = 255 };

static inline void knit_tour_begin(struct knit_tour *tour, struct knit_value value)
{
    tour->reader = value.reader;
    tour->at = value.at;
    tour->reason = NULL;
    tour->code = KNIT_OK;
    tour->depth = 0;
    tour->frame[0].left = 1;
    tour->frame[0].end = value.end;
    tour->frame[0].is_ext = tour->frame[0].is_envelope = false;
}

static inline bool knit_tour_fail(struct knit_tour *tour, int code, const char *reason)
{
    tour->code = code;
    tour->reason = reason;
    return false;
}

/* Goes into a container. */
static inline bool knit_tour_enter(struct knit_tour *tour, const struct knit_value *value)
{
    const unsigned char *end = tour->frame[tour->depth].end;
    struct knit_tour_frame *frame;
    uint64_t each = value->type == KNIT_TYPE_ARRAY || value->type == KNIT_TYPE_SET ? 1 : 2;

    if (tour->depth == KNIT_BUILDER_DEPTH_MAX)
        return knit_tour_fail(tour, KNIT_TOO_DEEP, "containers are nested too deep");
    frame = &tour->frame[++tour->depth];
    frame->is_ext = value->type != KNIT_TYPE_ARRAY && value->type != KNIT_TYPE_MAP;
    frame->is_envelope = value->type == KNIT_TYPE_ENVELOPE;
    frame->left = frame->is_envelope ? 2 : value->number * each;
    frame->end = frame->is_ext ? value->end : end;
    tour->at = value->body;
    return true;
}

/* The next value; those of a container follow it. False: it was the last, or tour->code says what
 * is wrong. */
static inline bool knit_tour_next(struct knit_tour *tour, struct knit_value *ret_value)
{
    struct knit_tour_frame *frame = &tour->frame[tour->depth];

    for (; frame->left == 0; frame = &tour->frame[--tour->depth]) {
        if (frame->is_ext && tour->at != frame->end)
            return knit_tour_fail(tour, KNIT_BAD_ARGUMENT,
                "there are bytes behind the value that an ext consists of");
        if (tour->depth == 0)
            return false;
    }
    frame->left--;
    if (frame->is_envelope && frame->left == 0) {
        *ret_value = knit_value_none(tour->reader, tour->at);
        ret_value->type = KNIT_TOUR_BODY;
        ret_value->end = tour->at = frame->end;
        return true;
    }
    *ret_value = knit_value_read(tour->reader, tour->at, frame->end);
    switch (ret_value->type) {
    case KNIT_TYPE_NONE:
        return knit_tour_fail(tour, KNIT_BAD_ARGUMENT, "bytes that are no value of the protocol");
    case KNIT_TYPE_ARRAY:
    case KNIT_TYPE_MAP:
    case KNIT_TYPE_SET:
    case KNIT_TYPE_PAIRS:
    case KNIT_TYPE_ERROR:
    case KNIT_TYPE_ENVELOPE:
        return knit_tour_enter(tour, ret_value);
    default:
        tour->at = ret_value->end;
        return true;
    }
}

/* Of a value that is no container: its bytes as they lie, anew. */
static inline void knit_tour_put_leaf(struct knit_builder *builder, const struct knit_value *value)
{
    const size_t len = (size_t)(value->end - value->body);

    switch (value->type) {
    case KNIT_TYPE_BOOL:
        knit_put_bool(builder, value->number != 0);
        break;
    case KNIT_TYPE_INT:
    case KNIT_TYPE_UINT:
        if (value->type == KNIT_TYPE_INT)
            knit_put_int(builder, (int64_t)value->number);
        else
            knit_put_uint(builder, value->number);
        break;
    case KNIT_TYPE_FLOAT:
        knit_put_float(builder, knit_value_float(*value));
        break;
    case KNIT_TYPE_STR:
        knit_put_str(builder, (const char *)value->body, len);
        break;
    case KNIT_TYPE_BIN:
        knit_put_bin(builder, value->body, len);
        break;
    case KNIT_TYPE_TIME:
        knit_put_time(builder, (int64_t)value->number, value->nanoseconds);
        break;
    case KNIT_TYPE_UNDEFINED:
        knit_put_undefined(builder);
        break;
    case KNIT_TYPE_BIGINT:
        knit_put_bigint(builder, value->body[0] != 0, value->body + 1, len - 1);
        break;
    case KNIT_TYPE_TYPED:
        knit_put_typed(
            builder, (enum knit_element)value->element, value->body, (size_t)value->number);
        break;
    case KNIT_TYPE_VIEW:
        knit_put_view(builder, value->body, len);
        break;
    case KNIT_TYPE_SYMBOL:
        knit_put_symbol(builder, (const char *)value->body, len);
        break;
    default:
        knit_put_nil(builder);
    }
}

#ifdef __cplusplus
}
#endif
