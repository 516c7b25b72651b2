/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4) of bytes that are all there: what stands in the file `tokens` in place of a
 * token. Its own, since tokens are there in builds without a library of cryptography too.
 *
 * How long it takes depends on the length alone.
 */
#pragma once

#include <stdint.h>

#include "proto/span.h"

#define KNIT_SHA256_BYTES 32u

void knit_sha256(struct knit_span bytes, uint8_t ret_digest[KNIT_SHA256_BYTES]);
