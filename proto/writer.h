/* SPDX-License-Identifier: Apache-2.0 */
/* Encodes one value piece by piece into a buffer, and reports at the end whether it is one.
 *
 * It uses msgpack-c's packer, so integers and lengths take their shortest form. The writer counts:
 * a container announced with n elements must get exactly n. Errors are sticky, as the buffer's are:
 * the functions that put values return nothing (they are behind the put_* of <knitting/module.h>),
 * and knit_writer_end() returns the first error.
 *
 * Threads: none; one owner.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>
#include <knitting/module.h>

#include "proto/buffer.h"
#include "proto/limits.h"
#include "proto/pack.h"
#include "proto/span.h"

enum {
    KNIT_WRITER_E_FULL = 1,       /* the buffer's cap */
    KNIT_WRITER_E_INCOMPLETE = 2, /* a container lacks elements, or nothing was put */
    KNIT_WRITER_E_SURPLUS = 3,    /* more values than announced */
    KNIT_WRITER_E_TOO_DEEP = 4,
    KNIT_WRITER_E_TEXT = 5, /* a str that is not UTF-8 */
    KNIT_WRITER_E_EXT = 6,  /* an ext type that is not carried, or a body against its rules */
    KNIT_WRITER_E_RAW = 7,  /* not one well-formed value */
};

struct knit_writer {
    struct knit_buffer *buffer;
    size_t start;   /* where in the buffer the value begins */
    int inherited;  /* the buffer's error at knit_writer_init(); nothing is written then */
    int error;      /* 0, KNIT_WRITER_E_*, -ENOMEM */
    uint32_t depth; /* containers open */
    uint64_t left[KNIT_DEPTH_MAX + 1]; /* values still due; left[0] is the one value there is */
};

/* The value is appended to what the buffer holds. */
void knit_writer_init(struct knit_writer *writer, struct knit_buffer *buffer);

void knit_writer_nil(struct knit_writer *writer);
void knit_writer_bool(struct knit_writer *writer, bool value);
void knit_writer_int(struct knit_writer *writer, int64_t value);
void knit_writer_uint(struct knit_writer *writer, uint64_t value);
void knit_writer_float(struct knit_writer *writer, double value);
void knit_writer_str(struct knit_writer *writer, const char *text, size_t len);
void knit_writer_bin(struct knit_writer *writer, const void *bytes, size_t len);
void knit_writer_array(struct knit_writer *writer, uint32_t count);
void knit_writer_map(struct knit_writer *writer, uint32_t count);
void knit_writer_ext(struct knit_writer *writer, int code, const void *body, size_t len);
/* In place of an argument: the result of the request of that msgid. */
void knit_writer_reference(struct knit_writer *writer, uint32_t msgid);
/* Elements of this code, `count` of them, aligned to their size where the value is. */
void knit_writer_typed(
    struct knit_writer *writer, unsigned element, const void *elements, size_t count);
void knit_writer_time(struct knit_writer *writer, int64_t seconds, uint32_t nanoseconds);
void knit_writer_raw(struct knit_writer *writer, const void *msgpack, size_t len); /* checked */

/* The same, with the pads of the typed arrays in it that align their elements where it is put. */
void knit_writer_value(struct knit_writer *writer, const void *msgpack, size_t len);

/* A value that is nothing but a head, packed by a function of pack.h. */
void knit_writer_head(struct knit_writer *writer, knit_pack *pack, uint64_t value);

/* A bin of len bytes whose body the caller fills in itself. Good until the next put; NULL: error is
 * set. */
void *knit_writer_bin_place(struct knit_writer *writer, size_t len);

/* A NUL-terminated text, for keys. */
void knit_writer_text(struct knit_writer *writer, const char *text);

/* A member of a map: key and value. An absent span writes neither. */
void knit_writer_member_bool(struct knit_writer *writer, const char *key, bool value);
void knit_writer_member_uint(struct knit_writer *writer, const char *key, uint64_t value);
void knit_writer_member_str(struct knit_writer *writer, const char *key, struct knit_span text);

/* Whether exactly one whole value was written. If not, the buffer is as it was before
 * knit_writer_init(). Returns 0, KNIT_WRITER_E_*, -ENOMEM. */
KNIT_MUST_CHECK int knit_writer_end(struct knit_writer *writer);

/* knit_writer_end() for encoders: the error becomes the buffer's sticky error (-EINVAL if the
 * values were wrong) and is returned. */
int knit_writer_commit(struct knit_writer *writer);

/* One sentence for an error of this module, static text. */
const char *knit_writer_reason(int error);

enum { KNIT_WRITER_BIN_HEAD_MAX = 5 };

/* The head of a bin alone, for a body that is not written through a writer. Returns its size, 2, 3
 * or 5; len fits 32 bits. */
size_t knit_writer_bin_head(uint8_t ret_head[KNIT_WRITER_BIN_HEAD_MAX], uint32_t len);
