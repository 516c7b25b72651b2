/* SPDX-License-Identifier: Apache-2.0 */
/* msgpack-c's packer is a template over where its bytes go. msgpack.h's own instance sends each of
 * them through a function pointer; here they go to memory, so a head is a few stores.
 */
#include "proto/pack.h"

#include <string.h>

#include <msgpack/pack_define.h>
#include <msgpack/timestamp.h>

static inline int append(uint8_t **at, const void *bytes, size_t len)
{
    memcpy(*at, bytes, len);
    *at += len;
    return 0;
}

#define msgpack_pack_inline_func(name)             static inline int msgpack_pack##name
#define msgpack_pack_user                          uint8_t **
#define msgpack_pack_append_buffer(at, bytes, len) return append(at, bytes, len)
#include <msgpack/pack_template.h>

size_t knit_pack_nil(uint8_t *to, uint64_t value)
{
    uint8_t *at = to;

    (void)value;
    (void)msgpack_pack_nil(&at);
    return (size_t)(at - to);
}

size_t knit_pack_bool(uint8_t *to, uint64_t value)
{
    uint8_t *at = to;

    (void)(value != 0 ? msgpack_pack_true(&at) : msgpack_pack_false(&at));
    return (size_t)(at - to);
}

size_t knit_pack_int(uint8_t *to, uint64_t value)
{
    uint8_t *at = to;

    (void)msgpack_pack_int64(&at, (int64_t)value);
    return (size_t)(at - to);
}

size_t knit_pack_uint(uint8_t *to, uint64_t value)
{
    uint8_t *at = to;

    (void)msgpack_pack_uint64(&at, value);
    return (size_t)(at - to);
}

size_t knit_pack_float(uint8_t *to, uint64_t value)
{
    uint8_t *at = to;
    double number;

    memcpy(&number, &value, sizeof(number));
    (void)msgpack_pack_double(&at, number);
    return (size_t)(at - to);
}

knit_pack *const knit_pack_scalars[] = {
    [KNIT_KIND_NIL] = knit_pack_nil,
    [KNIT_KIND_BOOL] = knit_pack_bool,
    [KNIT_KIND_INT] = knit_pack_int,
    [KNIT_KIND_UINT] = knit_pack_uint,
    [KNIT_KIND_FLOAT] = knit_pack_float,
};

size_t knit_pack_str(uint8_t *to, uint64_t value)
{
    uint8_t *at = to;

    (void)msgpack_pack_str(&at, value);
    return (size_t)(at - to);
}

size_t knit_pack_bin(uint8_t *to, uint64_t value)
{
    uint8_t *at = to;

    (void)msgpack_pack_bin(&at, value);
    return (size_t)(at - to);
}

size_t knit_pack_array(uint8_t *to, uint64_t value)
{
    uint8_t *at = to;

    (void)msgpack_pack_array(&at, value);
    return (size_t)(at - to);
}

size_t knit_pack_map(uint8_t *to, uint64_t value)
{
    uint8_t *at = to;

    (void)msgpack_pack_map(&at, value);
    return (size_t)(at - to);
}

size_t knit_pack_ext(uint8_t *to, uint32_t len, int8_t code)
{
    uint8_t *at = to;

    (void)msgpack_pack_ext(&at, len, code);
    return (size_t)(at - to);
}

size_t knit_pack_time(uint8_t *to, int64_t seconds, uint32_t nanoseconds)
{
    const msgpack_timestamp time = {.tv_sec = seconds, .tv_nsec = nanoseconds};
    uint8_t *at = to;

    (void)msgpack_pack_timestamp(&at, &time);
    return (size_t)(at - to);
}
