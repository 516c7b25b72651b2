/* SPDX-License-Identifier: Apache-2.0 */
/* A table gives, for each first byte, the type, how many bytes follow within the head, and the
 * number where none does. So a head of one byte, which most are, is read without a branch. What is
 * left to do for the others depends on the count of bytes alone: load that many, big-endian. The
 * exceptions are small: a signed integer is widened, and an ext's last head byte is its code.
 */
#include "proto/head.h"

#include "proto/types.h"

#define WIDE(type, more)                                                                           \
    {                                                                                              \
        KNIT_HEAD_##type, 1 + (more), 0, 64 - 8 * (more)                                           \
    }
#define ONE(type, number)                                                                          \
    {                                                                                              \
        KNIT_HEAD_##type, 1, (int8_t)(number), 0                                                   \
    }
#define ONE4(type, number)                                                                         \
    ONE(type, number), ONE(type, (number) + 1), ONE(type, (number) + 2), ONE(type, (number) + 3)
#define ONE16(type, number)                                                                        \
    ONE4(type, number), ONE4(type, (number) + 4), ONE4(type, (number) + 8),                        \
        ONE4(type, (number) + 12)

const struct knit_head_first knit_head_table[256] = {
    /* 00 */ ONE16(UINT, 0), ONE16(UINT, 16), ONE16(UINT, 32), ONE16(UINT, 48),
    /* 40 */ ONE16(UINT, 64), ONE16(UINT, 80), ONE16(UINT, 96), ONE16(UINT, 112),
    /* 80 */ ONE16(MAP, 0), ONE16(ARRAY, 0), ONE16(STR, 0), ONE16(STR, 16),
    /* c0 */ ONE(NIL, 0), {KNIT_HEAD_RESERVED, 0, 0, 0}, ONE(BOOL, 0), ONE(BOOL, 1),
    /* c4 */ WIDE(BIN, 1), WIDE(BIN, 2), WIDE(BIN, 4), WIDE(EXT, 2), WIDE(EXT, 3), WIDE(EXT, 5),
    /* ca */ WIDE(FLOAT32, 4), WIDE(FLOAT64, 8),
    /* cc */ WIDE(UINT, 1), WIDE(UINT, 2), WIDE(UINT, 4), WIDE(UINT, 8),
    /* d0: may hold numbers that are not negative; knit_head_read_wide() mends the type */
    WIDE(INT, 1), WIDE(INT, 2), WIDE(INT, 4), WIDE(INT, 8),
    /* d4 */ WIDE(EXT, 1), WIDE(EXT, 1), WIDE(EXT, 1), WIDE(EXT, 1), WIDE(EXT, 1),
    /* d9 */ WIDE(STR, 1), WIDE(STR, 2), WIDE(STR, 4),
    /* dc */ WIDE(ARRAY, 2), WIDE(ARRAY, 4), WIDE(MAP, 2), WIDE(MAP, 4),
    /* e0 */ ONE16(INT, -32), ONE16(INT, -16)};

#undef WIDE
#undef ONE
#undef ONE4
#undef ONE16

/* count: 1, 2, 4 or 8. */
static uint64_t load_big_endian(const uint8_t *bytes, unsigned count)
{
    uint64_t word = 0;
    uint32_t half;

    if (count == 8) {
        memcpy(&word, bytes, sizeof(word));
        return be64toh(word);
    }
    if (count == 4) {
        memcpy(&half, bytes, sizeof(half));
        return be32toh(half);
    }
    return count == 2 ? (uint64_t)bytes[0] << 8 | bytes[1] : bytes[0];
}

/* Sign-extends a number of `count` bytes to 64 bits. */
static uint64_t widen(uint64_t word, unsigned count)
{
    unsigned shift = 64 - 8 * count;

    return (uint64_t)((int64_t)(word << shift) >> shift);
}

/* fixext 1, 2, 4, 8, 16 have their length in the first byte. */
static uint64_t ext_len(const uint8_t *bytes, unsigned more)
{
    return more == 1 ? 1u << (bytes[0] - 0xd4) : load_big_endian(bytes + 1, more - 1);
}

int knit_head_read_wide(const uint8_t *bytes, size_t len, struct knit_head *ret_head)
{
    const struct knit_head_first first = knit_head_table[bytes[0]];
    uint8_t type = first.type;
    unsigned more = first.size - 1u;
    int8_t ext = 0;
    uint64_t value;

    if (type == KNIT_HEAD_RESERVED)
        return KNIT_HEAD_E_RESERVED;
    if (more > len - 1)
        return KNIT_HEAD_E_SHORT;
    if (type == KNIT_HEAD_EXT) {
        ext = (int8_t)bytes[more];
        value = ext_len(bytes, more);
    } else {
        value = load_big_endian(bytes + 1, more);
        if (type == KNIT_HEAD_INT) {
            value = widen(value, more);
            if ((int64_t)value >= 0)
                type = KNIT_HEAD_UINT;
        }
    }
    *ret_head = (struct knit_head){.type = type, .size = first.size, .ext = ext, .value = value};
    return 0;
}

bool knit_head_ext_holds_msgpack(int8_t code)
{
    return code == KNIT_EXT_SET || code == KNIT_EXT_PAIRS || code == KNIT_EXT_ERROR ||
           code == KNIT_EXT_ENVELOPE;
}

size_t knit_head_long_len(const uint8_t *bytes, size_t len)
{
    struct knit_head head;

    if (knit_head_read(bytes, len, &head) != 0 || knit_head_is_container(&head) ||
        (head.type == KNIT_HEAD_EXT &&
            (knit_head_ext_holds_msgpack(head.ext) || head.ext == KNIT_EXT_RESULT)) ||
        head.value > len - head.size)
        return 0;
    return head.size + (size_t)head.value;
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

static const char *ext_name(int8_t ext)
{
    switch (ext) {
#define CASE(name, code, text)                                                                     \
    case code:                                                                                     \
        return text;
        KNIT_EXTS(CASE)
#undef CASE
    default:
        return "ext";
    }
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
