/* SPDX-License-Identifier: Apache-2.0 */
/* Why something is refused, as one sentence for a person.
 *
 * Start-up of a daemon, a pool or a worker can fail in many ways, and each ends in one line on
 * stderr or in one log record. Functions that may refuse fill a sentence instead of returning one
 * of many codes: no caller acts on the difference. A sentence that does not fit is cut.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>

#define KNIT_SENTENCE_MAX 1024

struct knit_sentence {
    char text[KNIT_SENTENCE_MAX];
};

static inline bool knit_sentence_is_empty(const struct knit_sentence *sentence)
{
    return sentence->text[0] == '\0';
}

/* Fill the sentence; returns `code`, so that refusing is one statement. */
__attribute__((format(printf, 3, 4))) int knit_sentence_set(
    struct knit_sentence *sentence, int code, const char *format, ...);

/* The same behind what the sentence says already, with "; " between the two. */
__attribute__((format(printf, 3, 4))) int knit_sentence_append(
    struct knit_sentence *sentence, int code, const char *format, ...);

/* Put "prefix: " before what the sentence says already. */
void knit_sentence_prefix(struct knit_sentence *sentence, const char *prefix);
