/* SPDX-License-Identifier: Apache-2.0 */
/* The notation in which PROTOCOL.md writes values, read and printed.
 *
 * Reading goes through knit_writer, printing through knit_decoder, so a vector that survives both
 * ways has been through both halves of the codec. A mistake in the notation fails the test.
 */
#pragma once

#include <stddef.h>

#include "proto/buffer.h"
#include "proto/span.h"

/* Append the one value that begins at *at; *at then stands behind it and behind blanks. */
void knit_notation_encode(const char **at, struct knit_buffer *buffer);

/* The whole text, one value. */
void knit_notation_encode_all(const char *text, struct knit_buffer *buffer);

/* Of one checked value; to be freed with free(). */
char *knit_notation_print(struct knit_span value);

/* Bytes from hex digits, blanks between them allowed; ends at the first other character, where *at
 * stands then. */
void knit_notation_hex(const char **at, struct knit_buffer *buffer);

/* The whole text, into a buffer that is made for it. */
void knit_notation_hex_new(const char *hex, struct knit_buffer *ret);
