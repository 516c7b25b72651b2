/* SPDX-License-Identifier: Apache-2.0 */
/* A value taken apart with the decoder's getters and put together with a writer. */
#pragma once

#include "proto/buffer.h"
#include "proto/span.h"

/* Append what the value becomes. Returns 0, or why it did not pass: KNIT_CHECK_E_*. */
int knit_recode(struct knit_span value, struct knit_buffer *buffer);
