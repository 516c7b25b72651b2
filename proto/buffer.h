/* SPDX-License-Identifier: Apache-2.0 */
/* A growing run of bytes with a cap and a sticky error, which everything that encodes writes into.
 *
 * A failed append changes nothing but `error`, and every later one fails the same way: so a row of
 * appends needs one check, of `error`, at the end. The same structure can stand on the caller's own
 * memory (a cell, an arena's block), where it never allocates and the size of that memory is the
 * cap.
 *
 * Threads: none; one owner.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/span.h"

enum {
    KNIT_BUFFER_E_FULL = 1, /* the cap would be passed */
};

struct knit_buffer {
    uint8_t *bytes;
    size_t len;
    size_t capacity; /* bytes there are now */
    size_t max;      /* bytes there may be */
    int error; /* 0, KNIT_BUFFER_E_FULL, -ENOMEM, -EINVAL (an encoder's); until knit_buffer_reset()
                */
    bool is_fixed; /* stands on the caller's memory */
};

/* Empty, on the heap, at most max_bytes long. Allocates nothing yet. */
void knit_buffer_init(struct knit_buffer *buffer, size_t max_bytes);

/* Empty, on `memory`, which must outlive it. */
void knit_buffer_init_fixed(struct knit_buffer *buffer, void *memory, size_t size);

/* Frees what it owns. Accepts a zeroed one, and may be called twice. */
void knit_buffer_fini(struct knit_buffer *buffer);

/* Empty again and without error; keeps its memory. */
void knit_buffer_reset(struct knit_buffer *buffer);

/* Gives back memory beyond keep_bytes; only an empty buffer shrinks. */
void knit_buffer_trim(struct knit_buffer *buffer, size_t keep_bytes);

/* The slow path of knit_buffer_reserve(), which is the one caller: the memory must grow. */
uint8_t *knit_buffer_reserve_growing(struct knit_buffer *buffer, size_t len);

/* Room for len more bytes behind the present end: a pointer good until the next call that may grow
 * the buffer, or NULL with `error` set. `buffer->len` does not move; the caller adds what it has
 * written. */
static inline uint8_t *knit_buffer_reserve(struct knit_buffer *buffer, size_t len)
{
    if (buffer->error != 0 || buffer->bytes == NULL || len > buffer->capacity - buffer->len)
        return knit_buffer_reserve_growing(buffer, len);
    return buffer->bytes + buffer->len;
}

/* The slow path of knit_buffer_append(), which is the one caller: the memory must grow. */
int knit_buffer_append_growing(struct knit_buffer *buffer, const void *bytes, size_t len);

/* Returns buffer->error. */
static inline int knit_buffer_append(struct knit_buffer *buffer, const void *bytes, size_t len)
{
    if (buffer->error != 0 || len == 0 || len > buffer->capacity - buffer->len)
        return knit_buffer_append_growing(buffer, bytes, len);
    memcpy(buffer->bytes + buffer->len, bytes, len);
    buffer->len += len;
    return 0;
}

static inline struct knit_span knit_buffer_span(const struct knit_buffer *buffer)
{
    return (struct knit_span){buffer->bytes, buffer->len};
}
