/* SPDX-License-Identifier: Apache-2.0 */
/* Whether two readers see the same value: msgpack-c's decoder and <knitting/read.h>. */
#pragma once

#include <stdbool.h>

#include <knitting/read.h>

#include "proto/decoder.h"

/* decoded: of bytes that passed the full check. */
bool knit_agree(
    struct knit_decoder *decoder, const struct knit_decoded *decoded, struct knit_value value);
