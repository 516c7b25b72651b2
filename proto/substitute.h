/* SPDX-License-Identifier: Apache-2.0 */
/* What a caller gets when the timeout of its call is over: unless it says otherwise the error
 * TIMEOUT; else a value as the result, or TIMEOUT with a message and data of its own.
 *
 * As bytes it is one msgpack map: option `timeout` of a request, `on_timeout` of a task in
 * `$/tasks`. The same map is what callers and the daemon keep until they know whether they need it.
 *
 * Decoded ones are views of the bytes they came from.
 */
#pragma once

#include <stdint.h>

#include <knitting/code.h>
#include <knitting/on_timeout.h>

#include "proto/buffer.h"
#include "proto/failure.h"
#include "proto/span.h"

struct knit_writer;

enum {
    KNIT_SUBSTITUTE_E_BAD = 1,   /* a member of the wrong type, or a malformed value */
    KNIT_SUBSTITUTE_E_LARGE = 2, /* more than KNIT_ON_TIMEOUT_BYTES_MAX */
};

enum knit_substitute_kind {
    KNIT_SUBSTITUTE_NONE, /* TIMEOUT as it is */
    KNIT_SUBSTITUTE_RESULT,
    KNIT_SUBSTITUTE_ERROR,
};

struct knit_substitute {
    enum knit_substitute_kind kind;
    struct knit_span result;  /* RESULT: one msgpack value */
    struct knit_span message; /* ERROR: UTF-8; absent: TIMEOUT's own */
    struct knit_span data;    /* ERROR: one msgpack value, or absent */
};

/* From the map. Of `default`, `maybe` and `error` the first that is there counts; unknown keys are
 * ignored. ret_time_ns (may be NULL): `time`, KNIT_OPTION_NONE if it is not there. ret_reason:
 * static text, written with E_BAD only. Returns 0, KNIT_SUBSTITUTE_E_BAD. */
KNIT_MUST_CHECK int knit_substitute_decode(struct knit_span map,
    struct knit_substitute *ret_substitute, uint64_t *ret_time_ns, const char **ret_reason);

/* From what a caller or a task says; NULL = nothing. *ret points into it. ret_reason: static text.
 * Returns 0, KNIT_SUBSTITUTE_E_BAD, KNIT_SUBSTITUTE_E_LARGE. */
KNIT_MUST_CHECK int knit_substitute_from(const struct knit_on_timeout *on_timeout,
    struct knit_substitute *ret_substitute, const char **ret_reason);

/* The map, as a value of a structure that is being written. time_ns: KNIT_OPTION_NONE = none. */
void knit_substitute_write(
    struct knit_writer *writer, const struct knit_substitute *substitute, uint64_t time_ns);

/* Append the map, without a time. Returns the buffer's error. */
int knit_substitute_put(struct knit_buffer *buffer, const struct knit_substitute *substitute);

/* TIMEOUT becomes the error that is to take its place. */
void knit_substitute_fail(const struct knit_substitute *substitute, struct knit_failure *timeout);
