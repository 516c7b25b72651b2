/* SPDX-License-Identifier: Apache-2.0 */
/* Memory doubles from 256 bytes on, so n appends cost O(n); the cap is compared by subtraction, so
 * no length that a caller hands in can wrap around.
 */
#include "proto/buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_BYTES = 256 };

void knit_buffer_init(struct knit_buffer *buffer, size_t max_bytes)
{
    *buffer = (struct knit_buffer){.max = max_bytes};
}

void knit_buffer_init_fixed(struct knit_buffer *buffer, void *memory, size_t size)
{
    *buffer = (struct knit_buffer){
        .bytes = (uint8_t *)memory, .capacity = size, .max = size, .is_fixed = true};
}

void knit_buffer_fini(struct knit_buffer *buffer)
{
    if (!buffer->is_fixed)
        free(buffer->bytes);
    *buffer = (struct knit_buffer){0};
}

void knit_buffer_reset(struct knit_buffer *buffer)
{
    buffer->len = 0;
    buffer->error = 0;
}

void knit_buffer_trim(struct knit_buffer *buffer, size_t keep_bytes)
{
    if (buffer->is_fixed || buffer->len != 0 || buffer->capacity <= keep_bytes)
        return;
    free(buffer->bytes);
    buffer->bytes = NULL;
    buffer->capacity = 0;
}

static int grow(struct knit_buffer *buffer, size_t len)
{
    size_t capacity = buffer->capacity ? buffer->capacity : FIRST_BYTES;
    uint8_t *bytes;

    if (len > buffer->max - buffer->len)
        return KNIT_BUFFER_E_FULL;
    while (capacity - buffer->len < len)
        capacity = capacity > SIZE_MAX / 2 ? SIZE_MAX : capacity * 2;
    if (capacity > buffer->max)
        capacity = buffer->max;
    bytes = realloc(buffer->bytes, capacity);
    if (bytes == NULL)
        return -ENOMEM;
    buffer->bytes = bytes;
    buffer->capacity = capacity;
    return 0;
}

uint8_t *knit_buffer_reserve_growing(struct knit_buffer *buffer, size_t len)
{
    if (buffer->error)
        return NULL;
    if (len > buffer->capacity - buffer->len || buffer->bytes == NULL) {
        buffer->error = buffer->is_fixed ? KNIT_BUFFER_E_FULL : grow(buffer, len);
        if (buffer->error)
            return NULL;
    }
    return buffer->bytes + buffer->len;
}

int knit_buffer_append_growing(struct knit_buffer *buffer, const void *bytes, size_t len)
{
    uint8_t *to;

    if (len == 0)
        return buffer->error;
    to = knit_buffer_reserve(buffer, len);
    if (to != NULL) {
        memcpy(to, bytes, len);
        buffer->len += len;
    }
    return buffer->error;
}
