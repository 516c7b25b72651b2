/* SPDX-License-Identifier: Apache-2.0 */
/* One loop over heads with a stack of at most KNIT_DEPTH_MAX frames.
 *
 * An ext that contains msgpack takes one frame like a container does. For sets, pairs and errors
 * that frame *is* the one container they must consist of, so it also knows where the ext ends and
 * that the container must fill it; for an envelope it is a frame of one value, whose end is
 * followed by raw bytes. That is why one of them costs one level of nesting, and why nesting cannot
 * be hidden in ext types.
 *
 * An error as a value must have a str under `name` and under `message`; its frame notes which of
 * them it has seen.
 *
 * Most values need no frames: plain values, and short arrays of them, are checked before any frame
 * is set up.
 */
#include "proto/check.h"

#include <stdbool.h>
#include <string.h>

#include "proto/limits.h"
#include "proto/text.h"

enum { FIXARRAY = 0x90, FLAT_TEXT_MAX = 256 };

enum frame_kind { PLAIN, FILLING, FILLING_ERROR, HEADER };

/* Which keys of an error as a value have been seen. */
enum { SEEN_NAME = 1, SEEN_MESSAGE = 2 };

struct frame {
    uint64_t left;
    const uint8_t *end; /* of the ext or the bytes around it */
    uint8_t kind;
    uint8_t seen;
    uint8_t awaited; /* SEEN_NAME or SEEN_MESSAGE: the next value is it */
};

struct check {
    const uint8_t *start;
    const uint8_t *at;
    const uint8_t *end; /* of what may be read now: frame's end, or of all bytes */
    const uint8_t *bytes_end;
    uint32_t depth; /* frames in use */
    uint32_t depth_max;
    struct knit_check_flaw *flaw; /* may be NULL */
    bool has_typed;               /* a typed array was in it */
    struct frame frame[KNIT_DEPTH_MAX];
};

static int fail(
    const struct check *check, int error, const uint8_t *where, const char *reason, int ext)
{
    if (check->flaw != NULL)
        *check->flaw = (struct knit_check_flaw){(size_t)(where - check->start), reason, ext};
    return error;
}

/* Bytes are missing: of the whole, or of the ext around this position. */
static int cut_short(const struct check *check, const uint8_t *where)
{
    uint32_t i;

    for (i = 0; i < check->depth; i++) {
        if (check->frame[i].kind != PLAIN)
            return fail(
                check, KNIT_CHECK_E_BAD, where, "an ext ends within the value it contains", 0);
    }
    return fail(check, KNIT_CHECK_E_BAD, where, "the bytes end within a value", 0);
}

bool knit_check_time(const void *body, size_t len, int64_t *ret_seconds, uint32_t *ret_nanoseconds)
{
    uint32_t narrow, nanoseconds = 0;
    uint64_t word = 0;

    if (len == 4) {
        memcpy(&narrow, body, 4);
        word = be32toh(narrow);
    } else if (len == 8) {
        memcpy(&word, body, 8);
        word = be64toh(word);
        nanoseconds = (uint32_t)(word >> 34);
        word &= (UINT64_C(1) << 34) - 1;
    } else if (len == 12) {
        memcpy(&narrow, body, 4);
        nanoseconds = be32toh(narrow);
        memcpy(&word, (const uint8_t *)body + 4, 8);
        word = be64toh(word);
    } else {
        return false;
    }
    if (nanoseconds >= 1000000000u)
        return false;
    *ret_seconds = (int64_t)word;
    *ret_nanoseconds = nanoseconds;
    return true;
}

bool knit_check_typed(const void *body, size_t len, uint8_t *ret_code, uint8_t *ret_size,
    struct knit_span *ret_elements)
{
#define SIZE(code, name, size, number) [code] = (size),
    static const uint8_t sizes[KNIT_ELEMENT_CODES] = {KNIT_ELEMENTS(SIZE)};
#undef SIZE
    const uint8_t *bytes = body;
    uint8_t code, pad;

    if (len < 2)
        return false;
    code = bytes[0];
    pad = bytes[1];
    if (code == 0 || code >= KNIT_ELEMENT_CODES || pad > 7 || pad > len - 2)
        return false;
    if ((len - 2 - pad) % sizes[code] != 0)
        return false;
    *ret_code = code;
    *ret_size = sizes[code];
    *ret_elements = knit_span(bytes + 2 + pad, len - 2 - pad);
    return true;
}

static bool is_bigint(const uint8_t *body, size_t len)
{
    if (len == 0 || body[0] > 1)
        return false;
    return len == 1 ? body[0] == 0 : body[len - 1] != 0;
}

/* What is wrong with the body of an ext that contains no msgpack, or NULL. */
static const char *leaf_flaw(int code, const uint8_t *body, size_t len)
{
    struct knit_span elements;
    int64_t seconds;
    uint32_t nanoseconds;
    uint8_t element, size;

    switch (code) {
    case KNIT_EXT_TIME:
        return knit_check_time(body, len, &seconds, &nanoseconds)
                   ? NULL
                   : "a timestamp has 4, 8 or 12 bytes and less than 1e9 nanoseconds";
    case KNIT_EXT_UNDEFINED:
        return len == 0 ? NULL : "undefined has no body";
    case KNIT_EXT_BIGINT:
        return is_bigint(body, len)
                   ? NULL
                   : "a bigint is a sign byte and a magnitude without leading zero bytes";
    case KNIT_EXT_TYPED:
        return knit_check_typed(body, len, &element, &size, &elements)
                   ? NULL
                   : "a typed array is an element code, a pad count and whole elements";
    case KNIT_EXT_VIEW:
        return NULL;
    case KNIT_EXT_SYMBOL:
        return knit_text_is_utf8(body, len) ? NULL : "a symbol is UTF-8";
    case KNIT_EXT_RESULT:
        return "references to results are not supported";
    case KNIT_EXT_SHARED:
        return "shared buffers are not supported";
    default:
        return "this ext type is not carried";
    }
}

static int push(struct check *check, const uint8_t *where, uint64_t left, const uint8_t *end,
    enum frame_kind kind)
{
    if (check->depth >= check->depth_max)
        return fail(check, KNIT_CHECK_E_TOO_DEEP, where, "containers are nested too deep", 0);
    check->frame[check->depth] = (struct frame){.left = left, .end = end, .kind = (uint8_t)kind};
    check->depth++;
    check->end = end;
    return 0;
}

static int open_container(struct check *check, const struct knit_head *head, const uint8_t *where)
{
    uint64_t values = head->type == KNIT_HEAD_MAP ? head->value * 2 : head->value;

    if (values > (uint64_t)(check->end - check->at))
        return fail(check, KNIT_CHECK_E_BAD, where, "a container announces more than there is", 0);
    return push(check, where, values, check->end, PLAIN);
}

/* An ext whose body, from check->at to `end`, contains msgpack. */
static int open_ext(struct check *check, int code, const uint8_t *where, const uint8_t *end)
{
    uint8_t wanted = code == KNIT_EXT_ERROR ? KNIT_HEAD_MAP : KNIT_HEAD_ARRAY;
    struct knit_head head;
    uint64_t values;

    if (code == KNIT_EXT_ENVELOPE) {
        if (check->at == end)
            return fail(check, KNIT_CHECK_E_EXT, where, "an envelope begins with a header", code);
        return push(check, where, 1, end, HEADER);
    }
    if (knit_head_read(check->at, (size_t)(end - check->at), &head) || head.type != wanted)
        return fail(check, KNIT_CHECK_E_EXT, where,
            wanted == KNIT_HEAD_MAP ? "the body of an error is one map"
                                    : "the body of a set or of pairs is one array",
            code);
    if (code == KNIT_EXT_PAIRS && head.value % 2 != 0)
        return fail(
            check, KNIT_CHECK_E_EXT, where, "pairs need as many values as they have keys", code);
    check->at += head.size;
    values = code == KNIT_EXT_ERROR ? head.value * 2 : head.value;
    if (values > (uint64_t)(end - check->at))
        return fail(check, KNIT_CHECK_E_BAD, where, "a container announces more than there is", 0);
    return push(check, where, values, end, code == KNIT_EXT_ERROR ? FILLING_ERROR : FILLING);
}

/* check->at stands on the body. */
static int on_ext(struct check *check, int code, size_t len, const uint8_t *where)
{
    const char *flaw;

    if (code == KNIT_EXT_SET || code == KNIT_EXT_PAIRS || code == KNIT_EXT_ERROR ||
        code == KNIT_EXT_ENVELOPE)
        return open_ext(check, code, where, check->at + len);
    flaw = leaf_flaw(code, check->at, len);
    if (flaw != NULL)
        return fail(check, KNIT_CHECK_E_EXT, where, flaw, code);
    check->has_typed |= code == KNIT_EXT_TYPED;
    check->at += len;
    return 0;
}

/* A key or value directly in an error's map. */
static int on_error_member(struct check *check, const struct knit_head *head, const uint8_t *where)
{
    struct frame *frame = &check->frame[check->depth - 1];
    bool is_text = head->type == KNIT_HEAD_STR;
    struct knit_span key = {check->at, is_text ? head->value : 0};

    if (frame->left % 2 == 0) {
        if (!is_text)
            return fail(
                check, KNIT_CHECK_E_EXT, where, "the keys of an error are texts", KNIT_EXT_ERROR);
        frame->awaited = knit_span_is(key, "name")      ? SEEN_NAME
                         : knit_span_is(key, "message") ? SEEN_MESSAGE
                                                        : 0;
        return 0;
    }
    if (frame->awaited && !is_text)
        return fail(check, KNIT_CHECK_E_EXT, where, "name and message of an error are texts",
            KNIT_EXT_ERROR);
    frame->seen |= frame->awaited;
    return 0;
}

static int on_value(struct check *check)
{
    const uint8_t *where = check->at;
    struct knit_head head;
    size_t len;
    int r;

    r = knit_head_read(where, (size_t)(check->end - where), &head);
    if (r == KNIT_HEAD_E_RESERVED)
        return fail(check, KNIT_CHECK_E_BAD, where, "the byte 0xc1 is not msgpack", 0);
    if (r)
        return cut_short(check, where);
    check->at += head.size;
    if (knit_head_has_body(&head) && head.value > (uint64_t)(check->end - check->at))
        return cut_short(check, where);
    if (check->depth > 0 && check->frame[check->depth - 1].kind == FILLING_ERROR) {
        r = on_error_member(check, &head, where);
        if (r)
            return r;
    }
    if (check->depth > 0)
        check->frame[check->depth - 1].left--;
    if (!knit_head_has_body(&head))
        return knit_head_is_container(&head) ? open_container(check, &head, where) : 0;
    len = (size_t)head.value;
    if (head.type == KNIT_HEAD_EXT)
        return on_ext(check, head.ext, len, where);
    if (head.type == KNIT_HEAD_STR && !knit_text_is_utf8(check->at, len))
        return fail(check, KNIT_CHECK_E_TEXT, where, "a str is not UTF-8", 0);
    check->at += len;
    return 0;
}

/* Close the frames that are full. */
static int settle(struct check *check)
{
    struct frame *frame;

    while (check->depth > 0) {
        frame = &check->frame[check->depth - 1];
        if (frame->left > 0)
            return 0;
        if (frame->kind == HEADER) {
            check->at = frame->end;
        } else if (frame->kind != PLAIN && check->at != frame->end) {
            return fail(check, KNIT_CHECK_E_EXT, check->at,
                "there are bytes behind the value that an ext consists of", 0);
        }
        if (frame->kind == FILLING_ERROR && frame->seen != (SEEN_NAME | SEEN_MESSAGE))
            return fail(check, KNIT_CHECK_E_EXT, check->at, "an error has a name and a message",
                KNIT_EXT_ERROR);
        check->depth--;
        check->end = check->depth ? check->frame[check->depth - 1].end : check->bytes_end;
    }
    return 0;
}

/* Length of a value that needs no frame: a number, bytes, a str of at most text_max bytes. 0: it is
 * something else or wrong, and on_value() finds out which. */
static inline size_t plain_len(const uint8_t *at, size_t len, size_t text_max)
{
    struct knit_head head;

    if (knit_head_read(at, len, &head) || head.type > KNIT_HEAD_BIN)
        return 0;
    if (head.type < KNIT_HEAD_STR)
        return head.size;
    if (head.value > len - head.size)
        return 0;
    if (head.type == KNIT_HEAD_STR &&
        (head.value > text_max || !knit_text_is_utf8(at + head.size, (size_t)head.value)))
        return 0;
    return head.size + (size_t)head.value;
}

/* Checks the plain values that stand directly in the innermost container. */
static void pass_plain(struct check *check)
{
    struct frame *frame = &check->frame[check->depth - 1];
    const uint8_t *at = check->at, *end = check->end;
    uint64_t left = frame->left;
    size_t len;

    if (frame->kind != PLAIN)
        return;
    while (left > 0 && (len = plain_len(at, (size_t)(end - at), SIZE_MAX)) > 0) {
        at += len;
        left--;
    }
    check->at = at;
    frame->left = left;
}

static void begin(struct check *check, const void *bytes, size_t len, uint32_t depth,
    struct knit_check_flaw *flaw)
{
    check->start = check->at = bytes;
    check->end = check->bytes_end = check->start + len;
    check->depth = 0;
    check->depth_max = depth < KNIT_DEPTH_MAX ? depth : KNIT_DEPTH_MAX;
    check->flaw = flaw;
    check->has_typed = false;
}

/* Checks the value that has been begun, to its end. */
static int finish(struct check *check)
{
    int r = settle(check);

    while (r == 0 && check->depth > 0) {
        pass_plain(check);
        if (check->frame[check->depth - 1].left > 0)
            r = on_value(check);
        if (r == 0)
            r = settle(check);
    }
    return r;
}

/* Not inlined, so that a plain value does not set up the frames. */
static __attribute__((noinline)) int check_nested(const void *bytes, size_t len, uint32_t depth,
    size_t *ret_len, bool *ret_has_typed, struct knit_check_flaw *ret_flaw)
{
    struct check check;
    int r;

    begin(&check, bytes, len, depth, ret_flaw);
    r = on_value(&check);
    if (r == 0)
        r = finish(&check);
    if (r == 0)
        *ret_len = (size_t)(check.at - check.start);
    *ret_has_typed = check.has_typed;
    return r;
}

/* Length of a short array of plain values, which is what params are most often; 0: it is something
 * else or wrong. After 0 the bytes are checked a second time, by check_nested(): the bounds on
 * elements and texts keep that cheap. Not inlined, like check_nested(). */
static __attribute__((noinline)) size_t flat_len(const uint8_t *bytes, size_t len)
{
    size_t at = 1, used;
    unsigned left;

    if (len == 0 || (bytes[0] & 0xf0) != FIXARRAY)
        return 0;
    for (left = bytes[0] & 0x0f; left > 0; left--) {
        used = plain_len(bytes + at, len - at, FLAT_TEXT_MAX);
        if (used == 0)
            return 0;
        at += used;
    }
    return at;
}

int knit_check_front_typed(const void *bytes, size_t len, uint32_t depth, size_t *ret_len,
    bool *ret_has_typed, struct knit_check_flaw *ret_flaw)
{
    size_t used = plain_len(bytes, len, SIZE_MAX);

    if (used == 0 && depth > 0)
        used = flat_len(bytes, len);
    if (used == 0)
        return check_nested(bytes, len, depth, ret_len, ret_has_typed, ret_flaw);
    *ret_len = used;
    *ret_has_typed = false;
    return 0;
}

int knit_check_front(const void *bytes, size_t len, uint32_t depth, size_t *ret_len,
    struct knit_check_flaw *ret_flaw)
{
    bool has_typed;

    return knit_check_front_typed(bytes, len, depth, ret_len, &has_typed, ret_flaw);
}

int knit_check_value(
    const void *bytes, size_t len, uint32_t depth, struct knit_check_flaw *ret_flaw)
{
    size_t used;
    int r = knit_check_front(bytes, len, depth, &used, ret_flaw);

    if (r == 0 && used != len) {
        if (ret_flaw != NULL)
            *ret_flaw = (struct knit_check_flaw){used, "there are bytes behind the value", 0};
        return KNIT_CHECK_E_BAD;
    }
    return r;
}

int knit_check_ext(
    int code, const void *body, size_t len, uint32_t depth, struct knit_check_flaw *ret_flaw)
{
    struct check check;
    int r;

    begin(&check, body, len, depth, ret_flaw);
    r = on_ext(&check, code, len, check.start);
    return r ? r : finish(&check);
}

int knit_check_skip(const void *bytes, size_t len, size_t *ret_len)
{
    const uint8_t *at = bytes, *end = at + len;
    uint64_t pending = 1;
    struct knit_head head;

    while (pending > 0) {
        if (knit_head_read(at, (size_t)(end - at), &head))
            return KNIT_CHECK_E_BAD;
        at += head.size;
        pending--;
        if (knit_head_has_body(&head)) {
            if (head.value > (uint64_t)(end - at))
                return KNIT_CHECK_E_BAD;
            at += head.value;
        } else if (knit_head_is_container(&head)) {
            pending += head.type == KNIT_HEAD_MAP ? head.value * 2 : head.value;
        }
        /* Each value takes a byte at least, so a count that cannot be true is found at once. */
        if (pending > (uint64_t)(end - at))
            return KNIT_CHECK_E_BAD;
    }
    *ret_len = (size_t)(at - (const uint8_t *)bytes);
    return 0;
}
