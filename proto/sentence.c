/* SPDX-License-Identifier: Apache-2.0 */
/* vsnprintf() into a fixed buffer; see sentence.h for why. */
#include "proto/sentence.h"

#include <stdio.h>
#include <string.h>

int knit_sentence_set(struct knit_sentence *sentence, int code, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(sentence->text, sizeof(sentence->text), format, arguments);
    va_end(arguments);
    return code;
}

int knit_sentence_append(struct knit_sentence *sentence, int code, const char *format, ...)
{
    size_t used = strlen(sentence->text);
    va_list arguments;

    if (used != 0 && used + 3 < sizeof(sentence->text)) {
        memcpy(sentence->text + used, "; ", 3);
        used += 2;
    }
    va_start(arguments, format);
    (void)vsnprintf(sentence->text + used, sizeof(sentence->text) - used, format, arguments);
    va_end(arguments);
    return code;
}

void knit_sentence_prefix(struct knit_sentence *sentence, const char *prefix)
{
    size_t room = sizeof(sentence->text);
    size_t prefix_len = strlen(prefix);
    size_t text_len = strlen(sentence->text);

    if (prefix_len + 2 >= room)
        return;
    if (text_len > room - 1 - prefix_len - 2)
        text_len = room - 1 - prefix_len - 2;
    memmove(sentence->text + prefix_len + 2, sentence->text, text_len);
    memcpy(sentence->text, prefix, prefix_len);
    memcpy(sentence->text + prefix_len, ": ", 2);
    sentence->text[prefix_len + 2 + text_len] = '\0';
}
