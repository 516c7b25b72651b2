/* SPDX-License-Identifier: Apache-2.0 */
/* Values as trees: for the tool, which turns them into JSON, and as what tests compare with.
 *
 * msgpack-c decodes, into a zone that is used again after a reset; `struct knit_decoded` is its
 * object under another name. Decode only what knit_check_value() has passed: msgpack-c trusts every
 * count it reads. Bodies of str, bin and ext are not copied: they point into the bytes that were
 * decoded, which must outlive the values.
 *
 * Getters never fail: on a value of another type (or NULL) numbers are 0, pointers NULL.
 *
 * Threads: a decoder has one owner; any thread may read its values until the decoder is reset or
 * freed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/span.h"

struct knit_decoder;
struct knit_decoded; /* a value */

enum knit_decoded_type {
    KNIT_DECODED_NIL,
    KNIT_DECODED_BOOL,
    KNIT_DECODED_INT,  /* fits int64_t */
    KNIT_DECODED_UINT, /* above INT64_MAX */
    KNIT_DECODED_FLOAT,
    KNIT_DECODED_STR,
    KNIT_DECODED_BIN,
    KNIT_DECODED_ARRAY,
    KNIT_DECODED_MAP,
    KNIT_DECODED_TIME,
    KNIT_DECODED_EXT, /* ext types 32..41, see PROTOCOL.md */
};

/* NULL when out of memory. */
struct knit_decoder *knit_decoder_new(void);
struct knit_decoder *knit_decoder_free(struct knit_decoder *decoder);

/* Frees everything decoded so far, except for one block of memory that the next values use. */
void knit_decoder_reset(struct knit_decoder *decoder);

/* One value that was checked. Valid until the decoder is reset or freed. NULL when out of memory,
 * or when the bytes are not exactly one value after all. */
const struct knit_decoded *knit_decoder_read(
    struct knit_decoder *decoder, const void *bytes, size_t len);

/* The msgpack inside an ext 34 (an array), 35 (an array of alternating keys and values), 38 (a map)
 * or 41 (the header; the rest is knit_decoder_rest()). NULL for others. */
const struct knit_decoded *knit_decoder_open(
    struct knit_decoder *decoder, const struct knit_decoded *value);

/* The raw bytes behind an envelope's header; absent for others. */
struct knit_span knit_decoder_rest(const struct knit_decoded *value);

enum knit_decoded_type knit_decoder_type(const struct knit_decoded *value);
bool knit_decoder_bool(const struct knit_decoded *value);
int64_t knit_decoder_int(const struct knit_decoded *value);   /* a UINT gives 0 */
uint64_t knit_decoder_uint(const struct knit_decoded *value); /* a negative INT gives 0 */
double knit_decoder_float(const struct knit_decoded *value);  /* integers are converted */

/* Body of a str, bin, ext or time. ret_ext (may be NULL) = the ext's code, 0 for str and bin. */
const void *knit_decoder_bytes(const struct knit_decoded *value, size_t *ret_len, int *ret_ext);

/* Elements of an array, pairs of a map. */
uint32_t knit_decoder_count(const struct knit_decoded *value);
const struct knit_decoded *knit_decoder_at(const struct knit_decoded *value, uint32_t index);
const struct knit_decoded *knit_decoder_key(const struct knit_decoded *value, uint32_t index);

/* Seconds since the epoch, nanoseconds below 1e9. false, and nothing written, for all but a TIME.
 */
bool knit_decoder_time(
    const struct knit_decoded *value, int64_t *ret_seconds, uint32_t *ret_nanoseconds);
