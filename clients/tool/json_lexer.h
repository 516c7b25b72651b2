/* SPDX-License-Identifier: Apache-2.0 */
/* Finds in a text what json-c accepts although JSON does not, or changes.
 *
 * json-c turns integers beyond 64 bits silently into the nearest one, accepts NaN and Infinity,
 * and takes `TRUE` for true. This walk over the tokens refuses those; whether the tokens make up
 * JSON is left to json-c.
 */
#pragma once

#include <stddef.h>

/* NULL: nothing is wrong. Otherwise static text, and the place. */
const char *knit_json_lexer_check(const char *text, size_t len, size_t *ret_offset);

/* How many members the objects of a text have together; the text is JSON. */
size_t knit_json_lexer_members(const char *text, size_t len);
