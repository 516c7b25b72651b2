/* SPDX-License-Identifier: Apache-2.0 */
/* Containers in tasks: looking into a decoded argument, and building a result piece by piece.
 *
 *     const struct knit_value *options = knit_arg_value(call, 0);
 *     struct knit_writer *writer = knit_writer(call);
 *
 *     knit_put_map(writer, 1);
 *     knit_put_text(writer, "count");
 *     knit_put_int(writer, knit_value_count(options));
 *     return knit_return_built(call, writer);
 *
 * Everything here is borrowed from the call and gone when the task returns.
 */
#pragma once

#include <string.h>

#include <knitting/task.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Decoded values ---- */

static inline enum knit_type knit_value_type(const struct knit_value *value)
{
    return knit_api->value_type(value);
}

static inline bool knit_value_bool(const struct knit_value *value)
{
    return knit_api->value_bool(value);
}

static inline int64_t knit_value_int(const struct knit_value *value)
{
    return knit_api->value_int(value);
}

static inline uint64_t knit_value_uint(const struct knit_value *value)
{
    return knit_api->value_uint(value);
}

static inline double knit_value_float(const struct knit_value *value)
{
    return knit_api->value_float(value);
}

/* False, and nothing written, if the value is no timestamp. */
static inline bool knit_value_time(
    const struct knit_value *value, int64_t *ret_seconds, uint32_t *ret_nanoseconds)
{
    return knit_api->value_time(value, ret_seconds, ret_nanoseconds);
}

/* Body of a str, bin or ext value; ret_ext, if not NULL, gets the ext type, 0 for str and bin. */
static inline const void *knit_value_bytes(
    const struct knit_value *value, size_t *ret_len, int *ret_ext)
{
    return knit_api->value_bytes(value, ret_len, ret_ext);
}

/* Elements of an array, pairs of a map. */
static inline uint32_t knit_value_count(const struct knit_value *value)
{
    return knit_api->value_count(value);
}

/* An element, or the value of a pair; NULL past the end. */
static inline const struct knit_value *knit_value_at(const struct knit_value *value, uint32_t index)
{
    return knit_api->value_at(value, index);
}

static inline const struct knit_value *knit_value_key(
    const struct knit_value *value, uint32_t index)
{
    return knit_api->value_key(value, index);
}

/* The value under a text key of a map, or NULL. */
static inline const struct knit_value *knit_value_get(
    const struct knit_value *value, const char *key)
{
    for (uint32_t i = 0; i < knit_value_count(value); i++) {
        const struct knit_value *candidate = knit_value_key(value, i);
        size_t len = 0;
        const void *bytes = NULL;

        if (knit_value_type(candidate) == KNIT_TYPE_STR)
            bytes = knit_value_bytes(candidate, &len, NULL);
        if (bytes != NULL && len == strlen(key) && memcmp(bytes, key, len) == 0)
            return knit_value_at(value, i);
    }
    return NULL;
}

/* ---- Results built piece by piece ---- */

/* Begin; one writer a call. A failure (memory, size) is reported by knit_return_built(). */
static inline struct knit_writer *knit_writer(struct knit_call *call)
{
    return knit_api->writer(call);
}

static inline void knit_put_nil(struct knit_writer *writer)
{
    knit_api->put_nil(writer);
}

static inline void knit_put_bool(struct knit_writer *writer, bool value)
{
    knit_api->put_bool(writer, value);
}

static inline void knit_put_int(struct knit_writer *writer, int64_t value)
{
    knit_api->put_int(writer, value);
}

static inline void knit_put_uint(struct knit_writer *writer, uint64_t value)
{
    knit_api->put_uint(writer, value);
}

static inline void knit_put_float(struct knit_writer *writer, double value)
{
    knit_api->put_float(writer, value);
}

static inline void knit_put_str(struct knit_writer *writer, const char *text, size_t len)
{
    knit_api->put_str(writer, text, len);
}

static inline void knit_put_text(struct knit_writer *writer, const char *text)
{
    knit_api->put_str(writer, text, strlen(text));
}

static inline void knit_put_bin(struct knit_writer *writer, const void *bytes, size_t len)
{
    knit_api->put_bin(writer, bytes, len);
}

static inline void knit_put_time(struct knit_writer *writer, int64_t seconds, uint32_t nanoseconds)
{
    knit_api->put_time(writer, seconds, nanoseconds);
}

/* Then put that many values, or that many keys each followed by its value. */
static inline void knit_put_array(struct knit_writer *writer, uint32_t count)
{
    knit_api->put_array(writer, count);
}

static inline void knit_put_map(struct knit_writer *writer, uint32_t count)
{
    knit_api->put_map(writer, count);
}

static inline void knit_put_ext(struct knit_writer *writer, int type, const void *bytes, size_t len)
{
    knit_api->put_ext(writer, type, bytes, len);
}

static inline void knit_put_raw(struct knit_writer *writer, const void *msgpack, size_t len)
{
    knit_api->put_raw(writer, msgpack, len);
}

static inline int knit_return_built(struct knit_call *call, struct knit_writer *writer)
{
    return knit_api->return_built(call, writer);
}

#ifdef __cplusplus
}
#endif
