/* SPDX-License-Identifier: Apache-2.0 */
/* Why something was refused, as one sentence for a person.
 *
 * Start-up can fail in many ways and each ends in one line on stderr, so functions that may refuse
 * take a sentence to fill instead of a set of codes: nobody but the reader acts on the difference.
 * A sentence that does not fit is cut.
 */
#pragma once

#include <stdarg.h>

#define KNIT_SENTENCE_MAX 1024

struct knit_sentence {
    char text[KNIT_SENTENCE_MAX];
};

/* Fill the sentence; returns `code`, so that refusing is one statement. */
__attribute__((format(printf, 3, 4))) int knit_sentence_say(
    struct knit_sentence *sentence, int code, const char *format, ...);

/* Put "prefix: " before what the sentence says already. */
void knit_sentence_prefix(struct knit_sentence *sentence, const char *prefix);
