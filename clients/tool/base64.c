/* SPDX-License-Identifier: Apache-2.0 */
/* Three bytes become four letters. The last group may be padded; its unused bits must be 0, so that
 * no two texts stand for the same bytes. */
#include "clients/tool/base64.h"

#include <stdlib.h>
#include <string.h>

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *knit_base64_encode(const void *bytes, size_t len)
{
    const uint8_t *from = bytes;
    char *text = malloc((len + 2) / 3 * 4 + 1), *to = text;

    if (text == NULL)
        return NULL;
    for (size_t i = 0; i < len; i += 3) {
        size_t count = len - i < 3 ? len - i : 3;
        uint32_t group = (uint32_t)from[i] << 16;

        if (count > 1)
            group |= (uint32_t)from[i + 1] << 8;
        if (count > 2)
            group |= from[i + 2];
        *to++ = letters[group >> 18];
        *to++ = letters[group >> 12 & 63];
        *to++ = count > 1 ? letters[group >> 6 & 63] : '=';
        *to++ = count > 2 ? letters[group & 63] : '=';
    }
    *to = '\0';
    return text;
}

bool knit_base64_decode(const char *text, size_t len, uint8_t *ret_bytes, size_t *ret_len)
{
    size_t padding = 0, out = 0;

    if (len % 4 != 0)
        return false;
    while (padding < 2 && padding < len && text[len - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < len; i += 4) {
        size_t pad = i + 4 == len ? padding : 0;
        uint32_t group = 0;

        for (size_t k = 0; k < 4; k++) {
            const char *letter =
                k < 4 - pad && text[i + k] != '\0' ? strchr(letters, text[i + k]) : NULL;

            if (letter == NULL && k < 4 - pad)
                return false;
            group = group << 6 | (letter != NULL ? (uint32_t)(letter - letters) : 0);
        }
        if ((pad == 1 && (group & 0xff) != 0) || (pad == 2 && (group & 0xffff) != 0))
            return false;
        ret_bytes[out++] = (uint8_t)(group >> 16);
        if (pad < 2)
            ret_bytes[out++] = (uint8_t)(group >> 8);
        if (pad < 1)
            ret_bytes[out++] = (uint8_t)group;
    }
    *ret_len = out;
    return true;
}
