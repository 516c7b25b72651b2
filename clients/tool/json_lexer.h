/* SPDX-License-Identifier: Apache-2.0 */
/* What json-c lets through and JSON does not, or not exactly: looked for in the text itself.
 *
 * json-c turns integers beyond 64 bits silently into the nearest one, accepts NaN and Infinity,
 * and takes `TRUE` for true. This walk over the tokens refuses those; whether the tokens make up
 * JSON is left to json-c.
 */
#pragma once

#include <stddef.h>

/* NULL: nothing wrong. Else static text, and where in the text. */
const char *knit_json_lexer_check(const char *text, size_t len, size_t *ret_offset);

/* How many members all the objects of a text have that is JSON. */
size_t knit_json_lexer_members(const char *text, size_t len);
