/* SPDX-License-Identifier: Apache-2.0 */
/* JSON <-> msgpack without loss in either direction. knit.1 has the table.
 *
 * A value that JSON cannot express becomes an object with one member whose key begins with "$":
 * {"$bin": "AAEC"}. A map that would look like one of these is written {"$map": [[key, value]]}.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <knitting/code.h>

#include "proto/buffer.h"
#include "proto/span.h"
#include "proto/writer.h"

enum {
    KNIT_JSON_E_BAD = 1, /* ret_reason describes what is wrong with the text */
};

enum { KNIT_JSON_REASON_BYTES = 160 };

/* Append the one value that `text` holds; a NUL stands behind it. Returns 0, KNIT_JSON_E_BAD,
 * -ENOMEM. */
int knit_json_read(const char *text, size_t len, struct knit_writer *writer,
    char ret_reason[KNIT_JSON_REASON_BYTES]);

/* One msgpack value as text on one line, or indented; for free(). The bytes are checked first.
 * Returns 0, KNIT_JSON_E_BAD (no value of the protocol), -ENOMEM. */
KNIT_MUST_CHECK int knit_json_write(struct knit_span value, bool is_indented, char **ret_text);
