/* SPDX-License-Identifier: Apache-2.0 */
/* Errors of calls, and their three forms.
 *
 *     compact  in a lane             msgpack [code, message, details], details only what the code
 * does not imply full     to who said $/hello   the same, with name, started, retryable and origin
 * always there plain    to all others         msgpack str "600 TASK_FAILED: message"
 *
 * `struct knit_failure` is a view: its spans point into the bytes it was decoded from, or at what
 * the caller gave.
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
    struct knit_span
        message; /* UTF-8; encoding cuts it to KNIT_ERROR_MESSAGE_BYTES_MAX with a mark */

    /* Details; absent spans, KNIT_FAILURE_NONE and signal 0 are not written. */
    struct knit_span name;  /* decoded full form only: what the peer calls the code */
    struct knit_span task;  /* text */
    struct knit_span stack; /* text */
    struct knit_span cause; /* raw msgpack: an error in full form, or any value */
    struct knit_span data;  /* raw msgpack: what the task attached */
    uint64_t lane;
    uint64_t retry_after_ms;
    uint64_t limit;
    uint64_t actual;
    uint32_t signal;
};

/* What a code alone says. Unknown codes: "UNKNOWN", not retryable, started unknown, origin server.
 */
const char *knit_failure_name(uint32_t code);
bool knit_failure_is_retryable(uint32_t code);
enum knit_started knit_failure_started(uint32_t code);
enum knit_origin knit_failure_origin(uint32_t code);

/* The words of the wire: "no" "yes" "unknown"; "server" "worker" "task" "client". */
const char *knit_failure_started_word(enum knit_started started);
const char *knit_failure_origin_word(enum knit_origin origin);

/* A failure with this code's defaults and no details. */
struct knit_failure knit_failure(uint32_t code, const char *message);

/* Append the one value. An error must not be lost for what hangs on it: text that is not UTF-8 is
 * written with '?' in place of what is wrong, texts are cut to KNIT_ERROR_MESSAGE_BYTES_MAX with a
 * mark, and `cause` and `data` are dropped when they are malformed or nested too deep to be put.
 * Returns the buffer's error. */
int knit_failure_put(
    struct knit_buffer *buffer, const struct knit_failure *failure, enum knit_failure_form form);

/* Any of the three forms, or any other str or bin (TASK_FAILED with that text: some plain servers
 * send such). Wrong types among the details are passed over. Returns 0, KNIT_FAILURE_E_BAD. */
KNIT_MUST_CHECK int knit_failure_decode(struct knit_span error, struct knit_failure *ret_failure);

/* From one form into another. Bytes that are no error become INTERNAL. Returns the buffer's error.
 */
int knit_failure_convert(
    struct knit_buffer *buffer, struct knit_span error, enum knit_failure_form form);

/* What a task's own failure looks like: TASK_FAILED in compact form whose `data` is {code, value?}.
 * `value` is one msgpack value or absent; dropped as above. Returns the buffer's error. */
int knit_failure_put_task(struct knit_buffer *buffer, int64_t task_code, struct knit_span message,
    struct knit_span value);

/* The reverse, from a failure's `data`: the task's own code and value (absent when there was none).
 * false: `data` is of another shape. */
bool knit_failure_task_data(
    const struct knit_failure *failure, int64_t *ret_code, struct knit_span *ret_value);
