/* SPDX-License-Identifier: Apache-2.0 */
/* The usual message, found and parsed in one walk over its heads.
 *
 * Most messages arrive whole, are short of every limit, and hold nothing deeper than arguments:
 * those are plain. Of them knit_plain_take() gives what the scanner (scan.h) and
 * knit_message_parse() would give together. All others it leaves to these two, and says nothing
 * about what is wrong with them: it never refuses anything. The scanner alone, which nothing here
 * stands in front of, is what the tests and the fuzz targets compare with.
 *
 * Security: the bytes are hostile. None behind `len` is read, and the time is bounded by the values
 * that the heads of few bytes can announce, not by what these say.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/message.h"

/* The message at the front of the bytes, of at most `most` bytes: its length. 0: it is not plain,
 * or not all there, and *ret_message is undefined. Protocol methods ("$/...") are not plain. Holds
 * for scanners with any limits but for a smaller message_bytes. */
KNIT_MUST_CHECK size_t knit_plain_take(
    const uint8_t *bytes, size_t len, size_t most, struct knit_message *ret_message);
