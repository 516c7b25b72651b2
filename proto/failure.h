/* SPDX-License-Identifier: Apache-2.0 */
/* Errors of calls, and their three forms.
 *
 *     compact    In a lane: msgpack [code, message, details], and in the details only what the code
 *                does not imply.
 *     full       To a peer that has sent `$/hello`: the same, with name, started, retryable and
 *                origin always there.
 *     plain      To every other peer: msgpack str "600 TASK_FAILED: message".
 *
 * `struct knit_failure` is a view: its spans point into the bytes it was decoded from, or into the
 * caller's memory.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/buffer.h"
#include "proto/span.h"

enum {
    KNIT_FAILURE_E_BAD = 1, /* not an error of the protocol in any form */
};

enum knit_failure_form {
    KNIT_FAILURE_COMPACT,
    KNIT_FAILURE_FULL,
    KNIT_FAILURE_PLAIN,
};

#define KNIT_FAILURE_NONE UINT64_MAX /* of the optional numbers */

struct knit_failure {
    uint32_t code; /* enum knit_code, or a number of a later version */
    enum knit_started started;
    bool is_retryable;
    enum knit_origin origin;
    struct knit_span message; /* UTF-8; encoded, at most KNIT_ERROR_MESSAGE_BYTES_MAX long */

    /* Details; absent spans, KNIT_FAILURE_NONE and signal 0 are not written. */
    struct knit_span name;   /* decoded full form only: what the peer calls the code */
    struct knit_span task;   /* text */
    struct knit_span stack;  /* text */
    struct knit_span cause;  /* raw msgpack: an error in full form, or any value */
    struct knit_span data;   /* raw msgpack: what the task attached */
    struct knit_span output; /* raw msgpack: what it printed (printed.h) */
    uint64_t lane;
    uint64_t retry_after_ms;
    uint64_t limit;
    uint64_t actual;
    uint64_t unknown; /* the msgid of a request that an argument refers to, and there is none */
    uint32_t signal;
};

/* What a code implies. Unknown codes: "UNKNOWN", not retryable, started unknown, origin server. */
const char *knit_failure_name(uint32_t code);
bool knit_failure_is_retryable(uint32_t code);
enum knit_started knit_failure_started(uint32_t code);
enum knit_origin knit_failure_origin(uint32_t code);

/* As they are written on the wire: "no" "yes" "unknown"; "server" "worker" "task" "client". */
const char *knit_failure_started_name(enum knit_started started);
const char *knit_failure_origin_name(enum knit_origin origin);

/* A failure with this code's defaults and no details. */
struct knit_failure knit_failure(uint32_t code, const char *message);

/* Append the one value. Bad details do not prevent that an error is sent: bytes of a text that are
 * not UTF-8 become '?', texts are cut to KNIT_ERROR_MESSAGE_BYTES_MAX with a mark, and `cause`,
 * `data` and `output` are dropped when they are malformed or nested too deep. Returns the buffer's
 * error. */
int knit_failure_put(
    struct knit_buffer *buffer, const struct knit_failure *failure, enum knit_failure_form form);

/* Any of the three forms, or any other str or bin, which is TASK_FAILED with that text: some plain
 * MessagePack-RPC servers send such. Details of a wrong type are ignored. Returns 0,
 * KNIT_FAILURE_E_BAD. */
KNIT_MUST_CHECK int knit_failure_decode(struct knit_span error, struct knit_failure *ret_failure);

/* The code of an error in compact or full form, by its first bytes alone: so it may lie in memory
 * that others write. 0: it cannot be told. */
uint32_t knit_failure_code(struct knit_span error);

/* From one form into another. Bytes that are no error become INTERNAL. Returns the buffer's error.
 */
int knit_failure_convert(
    struct knit_buffer *buffer, struct knit_span error, enum knit_failure_form form);

/* The same for a long error, of which `front` is the beginning with all but the value of the last
 * detail, `data` or `output`. The value is neither walked over nor checked: the caller appends it.
 * Returns where it begins in the error, or 0 when nothing is to be appended. */
size_t knit_failure_convert_front(
    struct knit_buffer *buffer, struct knit_span front, enum knit_failure_form form);

/* Append a task's own failure: TASK_FAILED in compact form whose `data` is {code, value?}.
 * `value` is one msgpack value or absent; dropped as above. Returns the buffer's error. */
int knit_failure_put_task(struct knit_buffer *buffer, int64_t task_code, struct knit_span message,
    struct knit_span value);

/* The reverse, from a failure's `data`: the task's own code and value (absent when there was none).
 * false: `data` has another form. */
bool knit_failure_task_data(
    const struct knit_failure *failure, int64_t *ret_code, struct knit_span *ret_value);
