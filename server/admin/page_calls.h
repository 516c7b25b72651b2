/* SPDX-License-Identifier: Apache-2.0 */
/* What of the page comes from the list of calls: who calls, and what runs and waits, in the rows
 * that the script of page.html makes of the same list. calls: what `$/calls` answers; absent: there
 * are no rows. Errors stay in the buffer.
 *
 * Threads: any.
 */
#pragma once

#include "proto/buffer.h"
#include "proto/span.h"

void knit_page_put_callers(struct knit_buffer *buffer, struct knit_span calls);
void knit_page_put_waiting(struct knit_buffer *buffer, struct knit_span calls); /* a sentence */
void knit_page_put_calls(struct knit_buffer *buffer, struct knit_span calls);
void knit_page_put_left(struct knit_buffer *buffer, struct knit_span calls); /* a sentence */
