/* SPDX-License-Identifier: Apache-2.0 */
/* Every bound of the protocol in one place: what cannot be exceeded, and the defaults of what can
 * be configured.
 *
 * Names that end in _MAX are part of the protocol; names that end in _DEFAULT are where a
 * configuration starts from, and what a server really uses is announced in the answer to `$/hello`.
 */
#pragma once

enum {
    /* Containers within each other, the params array being the first. msgpack-c's decoder is built
       for as many. */
    KNIT_DEPTH_MAX = 32,

    /* One whole message. A message that is too large is skipped up to SKIP_FACTOR times the limit,
       and that must fit 32 bits. */
    KNIT_MESSAGE_BYTES_DEFAULT = 8 * 1024 * 1024 + 64 * 1024,
    KNIT_MESSAGE_BYTES_MAX = 1024 * 1024 * 1024 - 1,
    KNIT_MESSAGE_SKIP_FACTOR = 4,

    /* What a server decodes itself, in the thread that serves all its connections. */
    KNIT_METHOD_PARAMS_BYTES_MAX = 64 * 1024, /* params of a method that begins with "$/" */
    KNIT_OPTIONS_BYTES_MAX = 4 * 1024,
    KNIT_OPTIONS_PAIRS_MAX = 32,

    KNIT_NAME_BYTES_MAX = 128,           /* of a task, and of a method */
    KNIT_ERROR_MESSAGE_BYTES_MAX = 4096, /* longer ones are cut, with a mark */
    KNIT_SIGNATURE_BYTES_MAX = 4096,
    KNIT_SIGNATURE_PARAMS_MAX = 64,
    KNIT_SIGNATURE_RESULTS_MAX = 16,
    KNIT_PARAM_NAME_BYTES_MAX = 64,
    KNIT_KEY_BYTES_MAX = 64,  /* option `key` */
    KNIT_PRIORITY_NORMAL = 1, /* option `priority`, where it is not given */
    KNIT_PRIORITY_MAX = 2,
    KNIT_OUTPUT_KEPT_MAX = 32 * 1024, /* bytes that option `output` gives back */
    KNIT_TASKS_MAX = 65536,
    KNIT_TASKS_PAGE_DEFAULT = 256,
    KNIT_TASKS_PAGE_MAX = 1024,
};

/* Version of the protocol, as the answer to `$/hello` gives it. */
#define KNIT_PROTOCOL_VERSION 1u
