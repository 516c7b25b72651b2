/* SPDX-License-Identifier: Apache-2.0 */
/* A table gives, for each first byte, the type and how many bytes follow within the head. What is
 * then left to do depends on that number alone: load that many bytes, big-endian. The exceptions
 * are small: a fixed form carries its number in the first byte, a signed integer is widened, and an
 * ext's last head byte is its code.
 */
#include "proto/head.h"

#define T(type, more) ((uint8_t)(KNIT_HEAD_##type | (more) << 4))
#define X8(entry)     entry, entry, entry, entry, entry, entry, entry, entry
#define X16(entry)    X8(entry), X8(entry)

const uint8_t knit_head_table[256] = {
    /* 00 */ X16(T(UINT, 0)), X16(T(UINT, 0)), X16(T(UINT, 0)), X16(T(UINT, 0)),
    /* 40 */ X16(T(UINT, 0)), X16(T(UINT, 0)), X16(T(UINT, 0)), X16(T(UINT, 0)),
    /* 80 */ X16(T(MAP, 0)), X16(T(ARRAY, 0)), X16(T(STR, 0)), X16(T(STR, 0)),
    /* c0 */ T(NIL, 0), T(RESERVED, 0), T(BOOL, 0), T(BOOL, 0),
    /* c4 */ T(BIN, 1), T(BIN, 2), T(BIN, 4), T(EXT, 2), T(EXT, 3), T(EXT, 5),
    /* ca */ T(FLOAT32, 4), T(FLOAT64, 8), T(UINT, 1), T(UINT, 2), T(UINT, 4), T(UINT, 8),
    /* d0: signed integers may hold numbers that are not negative; read_wide() mends the type */
    T(INT, 1), T(INT, 2), T(INT, 4), T(INT, 8),
    /* d4 */ T(EXT, 1), T(EXT, 1), T(EXT, 1), T(EXT, 1), T(EXT, 1),
    /* d9 */ T(STR, 1), T(STR, 2), T(STR, 4), T(ARRAY, 2), T(ARRAY, 4), T(MAP, 2), T(MAP, 4),
    /* e0 */ X16(T(INT, 0)), X16(T(INT, 0))};

#undef T
#undef X8
#undef X16

static uint64_t load_big_endian(const uint8_t *bytes, unsigned count)
{
    uint64_t word = 0;
    unsigned i;

    for (i = 0; i < count; i++)
        word = word << 8 | bytes[i];
    return word;
}

static uint64_t load_signed(const uint8_t *bytes, unsigned count)
{
    uint64_t word = load_big_endian(bytes, count);
    unsigned shift = 64 - 8 * count;

    return (uint64_t)((int64_t)(word << shift) >> shift);
}

/* The number that a one-byte head carries. */
static uint64_t fixed_value(uint8_t first)
{
    if (first >= 0xe0)
        return (uint64_t)(int64_t)(int8_t)first;
    if (first >= 0xc0)
        return first == 0xc3;
    return first >= 0xa0 ? first & 0x1f : first & 0x0f;
}

int knit_head_read_wide(const uint8_t *bytes, size_t len, struct knit_head *ret_head)
{
    uint8_t first = bytes[0], entry = knit_head_table[first];
    unsigned more = entry >> 4;
    struct knit_head head = {.type = entry & 0x0f, .size = (uint8_t)(1 + more)};

    if (head.type == KNIT_HEAD_RESERVED)
        return KNIT_HEAD_E_RESERVED;
    if (more > len - 1)
        return KNIT_HEAD_E_SHORT;
    if (head.type == KNIT_HEAD_EXT) {
        head.ext = (int8_t)bytes[more];
        /* fixext 1, 2, 4, 8, 16: the length lies in the first byte. */
        head.value = more == 1 ? 1u << (first - 0xd4) : load_big_endian(bytes + 1, more - 1);
    } else if (more == 0) {
        head.value = first <= 0x7f ? first : fixed_value(first);
    } else if (head.type == KNIT_HEAD_INT) {
        head.value = load_signed(bytes + 1, more);
        if ((int64_t)head.value >= 0)
            head.type = KNIT_HEAD_UINT;
    } else {
        head.value = load_big_endian(bytes + 1, more);
    }
    *ret_head = head;
    return 0;
}

bool knit_head_as_float(const struct knit_head *head, double *ret)
{
    uint32_t bits = (uint32_t)head->value;
    float narrow;

    if (head->type == KNIT_HEAD_FLOAT64) {
        memcpy(ret, &head->value, sizeof(*ret));
    } else if (head->type == KNIT_HEAD_FLOAT32) {
        memcpy(&narrow, &bits, sizeof(narrow));
        *ret = (double)narrow;
    } else if (head->type == KNIT_HEAD_UINT) {
        *ret = (double)head->value;
    } else if (head->type == KNIT_HEAD_INT) {
        *ret = (double)(int64_t)head->value;
    } else {
        return false;
    }
    return true;
}

static const char *ext_name(int8_t code)
{
    static const char *const names[] = {"undefined", "bigint", "set", "pairs", "typed array",
        "view", "error", "symbol", "result reference", "envelope", "shared buffer"};

    if (code == KNIT_EXT_TIME)
        return "time";
    return code >= 32 && code <= 42 ? names[code - 32] : "ext";
}

const char *knit_head_name(const struct knit_head *head)
{
    static const char *const names[] = {"nil", "bool", "int", "int", "float", "float", "str", "bin",
        "array", "map", "ext", "reserved byte"};

    if (head->type == KNIT_HEAD_EXT)
        return ext_name(head->ext);
    if (head->type == KNIT_HEAD_UINT && head->value > INT64_MAX)
        return "uint";
    return names[head->type];
}
