/* SPDX-License-Identifier: Apache-2.0 */
/* Decimal digits are taken from the left: the magnitude is multiplied by ten and the digit added.
 * Hexadecimal digits are placed directly, from the right. */
#include "clients/tool/bigint.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (isxdigit((unsigned char)c))
        return tolower((unsigned char)c) - 'a' + 10;
    return -1;
}

static bool read_hex(const char *text, size_t len, uint8_t *magnitude, size_t *ret_len)
{
    memset(magnitude, 0, (len + 1) / 2);
    for (size_t i = 0; i < len; i++) {
        int value = digit(text[len - 1 - i]);

        if (value < 0)
            return false;
        magnitude[i / 2] |= (uint8_t)(i % 2 == 0 ? value : value << 4);
    }
    *ret_len = (len + 1) / 2;
    return len > 0;
}

static bool read_decimal(const char *text, size_t len, uint8_t *magnitude, size_t *ret_len)
{
    size_t used = 0;

    if (len == 0 || len > KNIT_BIGINT_DECIMAL_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        int value = digit(text[i]);
        unsigned carry;

        if (value < 0 || value > 9)
            return false;
        carry = (unsigned)value;
        for (size_t k = 0; k < used; k++) {
            carry += magnitude[k] * 10u;
            magnitude[k] = (uint8_t)carry;
            carry >>= 8;
        }
        if (carry != 0)
            magnitude[used++] = (uint8_t)carry;
    }
    *ret_len = used;
    return true;
}

bool knit_bigint_read(const char *text, size_t len, uint8_t *ret_body, size_t *ret_len)
{
    size_t sign_len = len > 0 && text[0] == '-' ? 1 : 0, magnitude_len = 0;
    bool is_hex = len - sign_len > 2 && text[sign_len] == '0' && text[sign_len + 1] == 'x';

    text += sign_len;
    len -= sign_len;
    if (!(is_hex ? read_hex(text + 2, len - 2, ret_body + 1, &magnitude_len)
                 : read_decimal(text, len, ret_body + 1, &magnitude_len)))
        return false;
    while (magnitude_len > 0 && ret_body[magnitude_len] == 0)
        magnitude_len--;
    ret_body[0] = magnitude_len > 0 ? (uint8_t)sign_len : 0;
    *ret_len = magnitude_len + 1;
    return true;
}

char *knit_bigint_write(const uint8_t *body, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    char *text = malloc(2 * len + 4), *to = text;

    if (text == NULL)
        return NULL;
    if (len > 0 && body[0] == 1)
        *to++ = '-';
    *to++ = '0';
    *to++ = 'x';
    for (size_t i = len; i > 1; i--) {
        if (i < len || body[i - 1] > 15)
            *to++ = digits[body[i - 1] >> 4];
        *to++ = digits[body[i - 1] & 15];
    }
    if (len <= 1)
        *to++ = '0';
    *to = '\0';
    return text;
}
