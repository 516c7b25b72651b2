/* SPDX-License-Identifier: Apache-2.0 */
/* A signature that a test knows to be right. After cmocka.h. */
#pragma once

#include <string.h>

#include "proto/signature.h"

/* To be freed. Fails the test, and says where the text is wrong. */
static inline struct knit_signature *knit_parsed(const char *text)
{
    struct knit_signature_flaw flaw = {0};
    struct knit_signature *signature;

    if (knit_signature_parse(text, strlen(text), &signature, &flaw))
        fail_msg("%s: %s at %zu", text, flaw.reason, flaw.offset);
    return signature;
}
