/* SPDX-License-Identifier: Apache-2.0 */
/* Random values and messages, made with msgpack-c alone, so that the code under test has no part in
 * its own input.
 */
#pragma once

#include <stdint.h>

#include "proto/buffer.h"
#include "tests/support/random.h"

/* Append one value of the protocol, all types and widths; its containers nest at most `depth` deep,
 * and it has some `size` values in it at most. */
void knit_sample_value(
    struct knit_random *random, uint32_t depth, uint32_t size, struct knit_buffer *buffer);

/* Append one whole message of any kind. */
void knit_sample_message(struct knit_random *random, struct knit_buffer *buffer);

/* Change a few bytes, drop some, or put some in. */
void knit_sample_mutate(struct knit_random *random, struct knit_buffer *buffer);
