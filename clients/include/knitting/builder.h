/* SPDX-License-Identifier: Apache-2.0 */
/* How a value is built: the structure behind <knitting/build.h>, and what its functions share.
 * Programs use those. Threads: one at a time for each builder. Nothing here blocks.
 *
 * Heads take their shortest form. The length of an ext that consists of values is known only at its
 * end: room is left for the longest head, and what follows moves down then, unless elements in it
 * would lose their alignment. The pad of a typed array aligns its elements within the value, which
 * begins at a multiple of 8 wherever it is put.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <knitting/code.h>
#include <knitting/encode.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Containers within each other, at most. */
enum { KNIT_BUILDER_DEPTH_MAX = 32 };

/* The numbers of those that are exts. */
enum knit_builder_kind {
    KNIT_BUILDER_PLAIN = 0,
    KNIT_BUILDER_SET = 34,
    KNIT_BUILDER_PAIRS = 35,
    KNIT_BUILDER_ERROR = 38,
    KNIT_BUILDER_ENVELOPE = 41,
};

/* One open container. */
struct knit_builder_frame {
    uint64_t left;         /* values still due */
    size_t start;          /* of an ext, where its head begins */
    unsigned char kind;    /* enum knit_builder_kind */
    unsigned char seen;    /* of an error: 1 its name, 2 its message */
    unsigned char awaited; /* which of them is the next value */
};

/* All zero: empty. */
struct knit_builder {
    unsigned char *bytes;
    size_t len, capacity;
    const char *reason; /* of the first mistake, if code says that there is one */
    int code;
    uint32_t depth;
    size_t aligned_end; /* behind the last elements that must stay where they are */
    size_t phase;       /* where the value will begin, from a multiple of 8; the library's */
    struct knit_builder_frame frame[KNIT_BUILDER_DEPTH_MAX + 1]; /* [0] stands for no container */
};

/* For programs: frees its memory, and leaves it empty. */
static inline void knit_builder_free(struct knit_builder *builder)
{
    free(builder->bytes);
    memset(builder, 0, sizeof(*builder));
}

static inline void knit_builder_leave(struct knit_builder (*builder)[1])
{
    knit_builder_free(*builder);
}

/* A builder that is freed at the end of its block: KNIT_BUILDER(map); knit_put_map(map, 2); */
#ifdef __cplusplus
#define KNIT_BUILDER(name)                                                                         \
    struct knit_builder name[1] __attribute__((cleanup(knit_builder_leave))) = {}
#else
#define KNIT_BUILDER(name)                                                                         \
    struct knit_builder name[1] __attribute__((cleanup(knit_builder_leave))) = {{0}}
#endif

static inline void knit_builder_fail(struct knit_builder *builder, int code, const char *reason)
{
    if (builder->code != KNIT_OK)
        return;
    builder->code = code;
    builder->reason = reason;
}

/* Room for len more bytes, which are not counted yet; NULL after a mistake. */
static inline unsigned char *knit_builder_room(struct knit_builder *builder, size_t len)
{
    size_t capacity = builder->capacity;
    unsigned char *grown;

    if (builder->code != KNIT_OK)
        return NULL;
    if (len <= capacity - builder->len)
        return builder->bytes + builder->len;
    capacity = capacity < 128 ? 256 : capacity <= SIZE_MAX / 2 ? capacity * 2 : capacity;
    if (len > capacity - builder->len)
        capacity = len <= SIZE_MAX - builder->len ? builder->len + len : 0;
    grown = capacity != 0 ? (unsigned char *)realloc(builder->bytes, capacity) : NULL;
    if (grown == NULL) {
        knit_builder_fail(builder, KNIT_INTERNAL, "out of memory");
        return NULL;
    }
    builder->bytes = grown;
    builder->capacity = capacity;
    return grown + builder->len;
}

/* Before each value: whether one is due. text: of a str, else NULL. */
static inline bool knit_builder_begin(struct knit_builder *builder, const char *text, size_t len)
{
    struct knit_builder_frame *frame = &builder->frame[builder->depth];
    bool is_key = frame->left % 2 == 0;

    if (builder->code != KNIT_OK)
        return false;
    if (builder->depth == 0) {
        if (builder->len != 0)
            knit_builder_fail(builder, KNIT_BAD_ARGUMENT, "more values were put than announced");
        return builder->code == KNIT_OK;
    }
    if (frame->kind == KNIT_BUILDER_ENVELOPE && frame->left == 1)
        knit_builder_fail(
            builder, KNIT_BAD_ARGUMENT, "behind the header of an envelope its body is due");
    if (frame->kind == KNIT_BUILDER_ERROR && (is_key || frame->awaited != 0) && text == NULL)
        knit_builder_fail(builder, KNIT_BAD_ARGUMENT,
            is_key ? "the keys of an error are texts" : "name and message of an error are texts");
    if (frame->kind == KNIT_BUILDER_ERROR && builder->code == KNIT_OK) {
        frame->seen |= is_key ? 0 : frame->awaited;
        frame->awaited = !is_key                                       ? 0
                         : len == 4 && memcmp(text, "name", 4) == 0    ? 1
                         : len == 7 && memcmp(text, "message", 7) == 0 ? 2
                                                                       : 0;
    }
    frame->left--;
    return builder->code == KNIT_OK;
}

/* An ext that consists of values is complete. */
static inline void knit_builder_close_ext(
    struct knit_builder *builder, const struct knit_builder_frame *frame)
{
    unsigned char head[KNIT_ENCODE_EXT_MAX], *start = builder->bytes + frame->start;
    size_t len = builder->len - frame->start - sizeof(head), size;

    if (frame->kind == KNIT_BUILDER_ERROR && frame->seen != 3)
        knit_builder_fail(builder, KNIT_BAD_ARGUMENT, "an error has a name and a message");
    if (len > UINT32_MAX)
        knit_builder_fail(builder, KNIT_TOO_LARGE, "a value is larger than MessagePack can say");
    if (builder->code != KNIT_OK)
        return;
    if (builder->aligned_end > frame->start) {
        start[0] = 0xc9;
        (void)knit_encode_number(start + 1, 4, len);
        start[5] = frame->kind;
        return;
    }
    size = knit_encode_ext(head, len, frame->kind);
    memcpy(start, head, size);
    memmove(start + size, start + sizeof(head), len);
    builder->len -= sizeof(head) - size;
}

/* After each value: closes the containers that are complete. */
static inline void knit_builder_end(struct knit_builder *builder)
{
    while (builder->code == KNIT_OK && builder->depth > 0 &&
           builder->frame[builder->depth].left == 0) {
        const struct knit_builder_frame *frame = &builder->frame[builder->depth--];

        if (frame->kind != KNIT_BUILDER_PLAIN)
            knit_builder_close_ext(builder, frame);
    }
}

/* A value that is nothing but its first byte and a number of so many bytes behind it. */
static inline void knit_builder_put(
    struct knit_builder *builder, unsigned first, unsigned bytes, uint64_t value)
{
    unsigned char *to;

    if (!knit_builder_begin(builder, NULL, 0))
        return;
    to = knit_builder_room(builder, 1 + sizeof(value));
    if (to != NULL) {
        to[0] = (unsigned char)first;
        builder->len += 1 + knit_encode_number(to + 1, bytes, value);
    }
    knit_builder_end(builder);
}

/* A head of `size` bytes, which is too long with 0, and a body. */
static inline void knit_builder_body(struct knit_builder *builder, const unsigned char *head,
    size_t size, const void *body, size_t len)
{
    unsigned char *to;

    if ((head != NULL && size == 0) || len > UINT32_MAX) {
        knit_builder_fail(builder, KNIT_TOO_LARGE, "a value is larger than MessagePack can say");
        return;
    }
    to = knit_builder_room(builder, size + len);
    if (to == NULL)
        return;
    if (size > 0)
        memcpy(to, head, size);
    if (len > 0)
        memcpy(to + size, body, len);
    builder->len += size + len;
}

/* A container with its head; begin has been called. */
static inline void knit_builder_open(struct knit_builder *builder, enum knit_builder_kind kind,
    const unsigned char *head, size_t size, uint64_t values)
{
    size_t skip = kind != KNIT_BUILDER_PLAIN ? KNIT_ENCODE_EXT_MAX : 0, start = builder->len;
    unsigned char *to = knit_builder_room(builder, skip + size);
    struct knit_builder_frame *frame;

    if (head != NULL && size == 0)
        knit_builder_fail(builder, KNIT_TOO_LARGE, "a value is larger than MessagePack can say");
    if (builder->depth == KNIT_BUILDER_DEPTH_MAX)
        knit_builder_fail(builder, KNIT_TOO_DEEP, "containers are nested too deep");
    if (to == NULL || builder->code != KNIT_OK)
        return;
    if (skip > 0)
        memset(to, 0, skip);
    if (size > 0)
        memcpy(to + skip, head, size);
    builder->len += skip + size;
    frame = &builder->frame[++builder->depth];
    frame->left = values;
    frame->start = start;
    frame->kind = (unsigned char)kind;
    frame->seen = frame->awaited = 0;
    knit_builder_end(builder);
}

static inline void knit_builder_open_ext(struct knit_builder *builder, enum knit_builder_kind kind,
    const unsigned char *head, size_t size, uint64_t values)
{
    if (knit_builder_begin(builder, NULL, 0))
        knit_builder_open(builder, kind, head, size, values);
}

/* An ext that holds no values, of two pieces. */
static inline void knit_builder_ext(struct knit_builder *builder, int code, const void *piece,
    size_t piece_len, const void *body, size_t len)
{
    unsigned char head[KNIT_ENCODE_EXT_MAX + 16];
    size_t size;

    if (!knit_builder_begin(builder, NULL, 0))
        return;
    if (len > UINT32_MAX - piece_len) {
        knit_builder_fail(builder, KNIT_TOO_LARGE, "a value is larger than MessagePack can say");
        return;
    }
    size = knit_encode_ext(head, piece_len + len, code);
    if (piece_len > 0)
        memcpy(head + size, piece, piece_len);
    knit_builder_body(builder, head, size + piece_len, body, len);
    knit_builder_end(builder);
}

/* elements: NULL = zeros. Returns where they lie; NULL after a mistake. */
static inline void *knit_builder_typed(
    struct knit_builder *builder, enum knit_element element, const void *elements, size_t count)
{
    const size_t size = knit_element_size(element);
    unsigned char *to = NULL;
    size_t head, len;

    if (size == 0)
        knit_builder_fail(builder, KNIT_BAD_ARGUMENT,
            "a typed array is an element code, a pad count and whole elements");
    if (!knit_builder_begin(builder, NULL, 0))
        return NULL;
    len = knit_encode_elements(element, count);
    to = len < UINT32_MAX ? knit_builder_room(builder, KNIT_ENCODE_TYPED_MAX + len) : NULL;
    head = to != NULL ? knit_encode_typed(to, builder->phase + builder->len, element, len) : 0;
    if (head == 0) {
        knit_builder_fail(builder, KNIT_TOO_LARGE, "a value is larger than MessagePack can say");
        return NULL;
    }
    if (elements != NULL && len > 0)
        memcpy(to + head, elements, len);
    else
        memset(to + head, 0, len);
    builder->len += head + len;
    builder->aligned_end = builder->len;
    len = builder->len - len;
    knit_builder_end(builder);
    return builder->code == KNIT_OK ? builder->bytes + len : NULL;
}

#ifdef __cplusplus
}
#endif
