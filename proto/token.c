/* SPDX-License-Identifier: Apache-2.0 */
/* Names stand in files whose words are split by blanks, and in patterns, where * has a meaning, so
 * they are made of few letters. */
#include "proto/token.h"

#include <string.h>

bool knit_token_is_name(const char *name)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@/-";
    size_t len = strlen(name);

    return len > 0 && len <= KNIT_TOKEN_NAME_MAX && strspn(name, letters) == len;
}
