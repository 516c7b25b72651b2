/* SPDX-License-Identifier: Apache-2.0 */
/* Every decision is made when a head has been read. A body (of a str, bin, ext) only adds to
 * `skip`, the bytes to skip before the next head, and positions are computed as if it had been
 * skipped already. So there are few states: collecting a head, skipping, whole, lost.
 *
 * `pending`, the values announced and not yet begun, is the least number of bytes the message still
 * needs. Position plus pending never decreases, and once it exceeds a limit the message cannot end
 * within that limit: so `dd ff ff ff ff` fails at its fifth byte. `pending` also finds the end of a
 * message without a stack, which is how a refused message is followed at any depth.
 *
 * The stack of frames tracks nesting and the msgpack inside ext types. Inside an ext, its announced
 * end bounds everything. If the content exceeds it, or is not what this ext must hold, the scanner
 * drops the frames of that ext and continues behind it: the stream still has its boundaries.
 */
#include "proto/scan.h"

#include <string.h>

#include <knitting/code.h>

#include "proto/check.h"

enum state { READING, WHOLE, LOST };

/* Kinds of frames: a container; the one container that fills an ext; the header in front of an
 * envelope's body. */
enum frame_kind { PLAIN, FILLING, HEADER };

#define NO_END UINT32_MAX

void knit_scan_set_limits(struct knit_scan *scan, const struct knit_scan_limits *limits)
{
    struct knit_scan_limits use = {0};

    if (limits != NULL)
        use = *limits;
    if (use.message_bytes == 0)
        use.message_bytes = KNIT_MESSAGE_BYTES_DEFAULT;
    if (use.message_bytes > KNIT_MESSAGE_BYTES_MAX)
        use.message_bytes = KNIT_MESSAGE_BYTES_MAX;
    if (use.skip_bytes == 0)
        use.skip_bytes = use.message_bytes * KNIT_MESSAGE_SKIP_FACTOR;
    if (use.skip_bytes < use.message_bytes)
        use.skip_bytes = use.message_bytes;
    if (use.skip_bytes == UINT32_MAX)
        use.skip_bytes--;
    if (use.depth == 0 || use.depth > KNIT_DEPTH_MAX)
        use.depth = KNIT_DEPTH_MAX;
    scan->limits = use;
}

void knit_scan_init(struct knit_scan *scan, const struct knit_scan_limits *limits)
{
    memset(scan, 0, sizeof(*scan));
    knit_scan_set_limits(scan, limits);
}

void knit_scan_reset(struct knit_scan *scan)
{
    struct knit_scan_limits limits = scan->limits;

    memset(scan, 0, offsetof(struct knit_scan, frame));
    scan->limits = limits;
}

static int lose(struct knit_scan *scan, enum knit_code code, const char *reason)
{
    scan->state = LOST;
    scan->refused = code;
    scan->reason = reason;
    return KNIT_SCAN_E_BAD;
}

/* Bytes of body behind a head, and values within it. */
static uint64_t body_of(const struct knit_head *head)
{
    return knit_head_has_body(head) ? head->value : 0;
}

static uint64_t values_of(const struct knit_head *head)
{
    if (head->type == KNIT_HEAD_ARRAY)
        return head->value;
    return head->type == KNIT_HEAD_MAP ? head->value * 2 : 0;
}

/* Of requests and notifications. */
static unsigned params_index(unsigned kind)
{
    return kind == 2 ? 2 : 3;
}

/* Continue without nesting: the next head begins at `position`; `at` is the present position. */
static int follow(struct knit_scan *scan, uint64_t at, uint64_t position)
{
    if (position + scan->pending > scan->limits.skip_bytes)
        return lose(scan, KNIT_TOO_LARGE, "the message is too large even to be skipped");
    scan->skip = (uint32_t)(position - at);
    if (scan->pending == 0)
        scan->state = WHOLE;
    return 0;
}

static int refuse(struct knit_scan *scan, enum knit_code code, uint32_t limit, const char *reason,
    uint64_t at, uint64_t position)
{
    scan->refused = code;
    scan->exceeded = limit;
    scan->reason = reason;
    return follow(scan, at, position);
}

/* A value has ended at `position`: close every frame that is full, and every ext that is used up.
 */
static void settle(struct knit_scan *scan, uint64_t at, uint64_t position)
{
    struct knit_scan_frame *frame = &scan->frame[scan->top];

    while (scan->top > 0) {
        bool is_used_up = frame->end != NO_END && position == frame->end;

        if (frame->left > 0 && !is_used_up)
            break;
        if (frame->kind != PLAIN)
            position = frame->end;
        scan->top--;
        frame--;
    }
    if (scan->top == 0 && frame->left == 0)
        scan->state = WHOLE;
    scan->skip = (uint32_t)(position - at);
}

/* The content of the ext being read breaks the ext's rules: continue behind the ext. */
static void abandon_ext(struct knit_scan *scan, uint64_t at)
{
    uint32_t end = scan->expect_end;

    if (scan->expect) {
        scan->expect = 0;
    } else {
        end = scan->frame[scan->top].end;
        while (scan->frame[scan->top].kind == PLAIN)
            scan->top--;
        scan->top--;
    }
    settle(scan, at, end);
}

/* Values to follow within a container, or the header within an envelope. The caller has seen that
 * they fit. */
static int open_frame(
    struct knit_scan *scan, uint64_t at, uint64_t left, uint32_t end, enum frame_kind kind)
{
    if (scan->top >= scan->limits.depth)
        return refuse(scan, KNIT_TOO_DEEP, scan->limits.depth, "containers are nested too deep", at,
            end == NO_END ? at : scan->outer_end);
    scan->top++;
    scan->frame[scan->top] =
        (struct knit_scan_frame){.left = (uint32_t)left, .end = end, .kind = (uint8_t)kind};
    settle(scan, at, at);
    return 0;
}

/* The container that an ext of code scan->expect must consist of. */
static int fill_ext(struct knit_scan *scan, const struct knit_head *head, uint64_t at)
{
    uint8_t wanted = scan->expect == KNIT_EXT_ERROR ? KNIT_HEAD_MAP : KNIT_HEAD_ARRAY;
    uint32_t end = scan->expect_end;
    int r;

    if (head->type != wanted || values_of(head) > end - at) {
        abandon_ext(scan, at);
        return 0;
    }
    r = open_frame(scan, at, values_of(head), end, FILLING);
    scan->expect = 0;
    return r;
}

static int open_ext(struct knit_scan *scan, const struct knit_head *head, uint64_t at)
{
    uint32_t end = (uint32_t)(at + head->value);

    if (head->value == 0) {
        settle(scan, at, at);
        return 0;
    }
    if (scan->frame[scan->top].end == NO_END)
        scan->outer_end = end;
    if (head->ext == KNIT_EXT_ENVELOPE)
        return open_frame(scan, at, 1, end, HEADER);
    scan->expect = (uint8_t)head->ext;
    scan->expect_end = end;
    return 0;
}

/* The value that begins here exceeds scan->most. */
static int refuse_large(struct knit_scan *scan, uint64_t at, uint64_t position)
{
    unsigned index = scan->count - scan->frame[0].left - (scan->top > 0);

    if (scan->most == scan->limits.message_bytes)
        return refuse(scan, KNIT_TOO_LARGE, scan->limits.message_bytes,
            "the message is larger than the limit", at, position);
    if (index == params_index(scan->kind))
        return refuse(scan, KNIT_TOO_LARGE, KNIT_METHOD_PARAMS_BYTES_MAX,
            "the params of this method are too large", at, position);
    if (scan->most == scan->element[index])
        return refuse(scan, KNIT_TOO_LARGE, KNIT_OPTIONS_PAIRS_MAX,
            "the options hold too many pairs", at, position);
    return refuse(
        scan, KNIT_TOO_LARGE, KNIT_OPTIONS_BYTES_MAX, "the options are too large", at, position);
}

/* Any value within the message. */
static int on_value(struct knit_scan *scan, const struct knit_head *head, uint64_t at)
{
    struct knit_scan_frame *frame = &scan->frame[scan->top];
    uint64_t body = body_of(head), values = values_of(head);

    if (frame->end == NO_END) {
        scan->pending += values - 1;
        if (at + body + scan->pending > scan->most)
            return refuse_large(scan, at, at + body);
    } else if (body > frame->end - at || values > frame->end - at) {
        abandon_ext(scan, at);
        return 0;
    }
    frame->left--;
    if (knit_head_is_container(head))
        return open_frame(scan, at, values, frame->end, PLAIN);
    if (head->type == KNIT_HEAD_EXT && knit_head_ext_holds_msgpack(head->ext))
        return open_ext(scan, head, at);
    if (head->type == KNIT_HEAD_EXT)
        scan->has_reference |= head->ext == KNIT_EXT_RESULT;
    settle(scan, at, at + body);
    return 0;
}

/* The array that is the message. */
static int on_message(struct knit_scan *scan, const struct knit_head *head)
{
    if (head->type != KNIT_HEAD_ARRAY)
        return lose(scan, KNIT_BAD_MESSAGE, "a message must be an array");
    if (head->value < 3 || head->value > KNIT_SCAN_ELEMENTS_MAX)
        return lose(scan, KNIT_BAD_MESSAGE, "a message has three to five elements");
    scan->count = (uint8_t)head->value;
    scan->pending = scan->count;
    scan->most = scan->limits.message_bytes;
    scan->frame[0] = (struct knit_scan_frame){.left = scan->count, .end = NO_END, .kind = PLAIN};
    return 0;
}

/* How far the element that begins at `start` may reach, with a byte for each element behind it. */
static void bound_part(
    struct knit_scan *scan, const struct knit_head *head, uint32_t start, unsigned index)
{
    unsigned params = params_index(scan->kind);
    uint64_t most = start + (uint64_t)scan->count - index - 1;

    scan->most = scan->limits.message_bytes;
    if (!scan->limits.bounds_parts || scan->kind == 1 || index + 1 < params)
        return;
    if (index + 1 == params) {
        if ((head->type == KNIT_HEAD_STR || head->type == KNIT_HEAD_BIN) && head->value >= 2)
            scan->prefix_left = 2;
        return;
    }
    if (index == params && scan->prefix < 2)
        return;
    if (index > params && head->type == KNIT_HEAD_MAP && head->value > KNIT_OPTIONS_PAIRS_MAX)
        most = start;
    else
        most += index == params ? KNIT_METHOD_PARAMS_BYTES_MAX : KNIT_OPTIONS_BYTES_MAX;
    if (most < scan->most)
        scan->most = (uint32_t)most;
}

/* The scanner's rules for an element of the message itself. */
static int on_element(struct knit_scan *scan, const struct knit_head *head, uint32_t start)
{
    uint32_t index = scan->count - scan->frame[0].left;

    scan->element[index] = start;
    if (index == 0) {
        if (head->type != KNIT_HEAD_UINT || head->value > 2)
            return lose(scan, KNIT_BAD_MESSAGE, "a message begins with 0, 1 or 2");
        if (head->value == 2 ? scan->count != 3 : scan->count < 4)
            return lose(scan, KNIT_BAD_MESSAGE, "wrong number of elements for this kind");
        if (head->value == 1 && scan->count != 4)
            return lose(scan, KNIT_BAD_MESSAGE, "wrong number of elements for this kind");
        scan->kind = (uint8_t)head->value;
    } else if (index == 1 && scan->kind != 2) {
        if (head->type != KNIT_HEAD_UINT || head->value > UINT32_MAX)
            return lose(scan, KNIT_BAD_MESSAGE, "msgid must be an unsigned number of 32 bits");
        scan->msgid = (uint32_t)head->value;
        scan->has_msgid = true;
    }
    bound_part(scan, head, start, index);
    return 0;
}

/* `start` is where the head begins; scan->used stands behind it. */
static int on_head(struct knit_scan *scan, const struct knit_head *head, uint32_t start)
{
    int r;

    if (scan->refused) {
        scan->pending += values_of(head) - 1;
        return follow(scan, scan->used, scan->used + body_of(head));
    }
    if (scan->count == 0)
        return on_message(scan, head);
    if (scan->expect)
        return fill_ext(scan, head, scan->used);
    if (scan->top == 0) {
        r = on_element(scan, head, start);
        if (r)
            return r;
    }
    return on_value(scan, head, scan->used);
}

/* Whether the ext around this position ends before a head with this first byte would. */
static bool exceeds_ext(const struct knit_scan *scan, uint8_t first)
{
    uint32_t end = scan->expect ? scan->expect_end : scan->frame[scan->top].end;

    if (scan->count == 0 || scan->refused || end == NO_END)
        return false;
    return first == 0xc1 || knit_head_size(first) > end - scan->used;
}

/* Read a head from the front of the bytes, or the next piece of one. Returns 0, KNIT_HEAD_E_SHORT
 * (all bytes are used up), KNIT_HEAD_E_RESERVED. */
static int take_head(struct knit_scan *scan, const uint8_t *bytes, size_t len, size_t *ret_used,
    struct knit_head *ret_head)
{
    size_t missing;
    int r;

    if (scan->partial_len == 0) {
        r = knit_head_read(bytes, len, ret_head);
        if (r != KNIT_HEAD_E_SHORT) {
            *ret_used = r ? 0 : ret_head->size;
            return r;
        }
        missing = len;
    } else {
        missing = knit_head_size(scan->partial[0]) - scan->partial_len;
        if (missing > len)
            missing = len;
    }
    memcpy(scan->partial + scan->partial_len, bytes, missing);
    scan->partial_len = (uint8_t)(scan->partial_len + missing);
    *ret_used = missing;
    r = knit_head_read(scan->partial, scan->partial_len, ret_head);
    if (r == 0)
        scan->partial_len = 0;
    return r;
}

/* Skip bytes of a body; returns how many. */
static size_t pass_over(struct knit_scan *scan, const uint8_t *bytes, size_t len)
{
    static const uint8_t prefix[] = {'$', '/'};
    uint32_t count = scan->skip;

    if (count > len)
        count = (uint32_t)len;
    for (uint32_t i = 0; i < count && scan->prefix_left > 0; i++, scan->prefix_left--)
        if (bytes[i] == prefix[sizeof(prefix) - scan->prefix_left])
            scan->prefix++;
    scan->skip -= count;
    scan->used += count;
    return count;
}

int knit_scan_feed(struct knit_scan *scan, const void *bytes, size_t len, size_t *ret_used)
{
    const uint8_t *from = bytes;
    struct knit_head head;
    size_t at = 0, head_bytes;
    int r = 0;

    while (r == 0 && scan->state != LOST) {
        if (scan->skip > 0)
            at += pass_over(scan, from + at, len - at);
        if (scan->skip == 0 && scan->state == WHOLE)
            break;
        if (at == len)
            break;
        if (scan->partial_len == 0 && exceeds_ext(scan, from[at])) {
            abandon_ext(scan, scan->used);
            continue;
        }
        r = take_head(scan, from + at, len - at, &head_bytes, &head);
        if (r == KNIT_HEAD_E_RESERVED) {
            lose(scan, KNIT_BAD_MESSAGE, "the byte 0xc1 is not msgpack");
            break;
        }
        at += head_bytes;
        scan->used += (uint32_t)head_bytes;
        if (r == 0)
            r = on_head(scan, &head, scan->used - head.size);
    }
    *ret_used = at;
    if (scan->state == LOST)
        return KNIT_SCAN_E_BAD;
    if (scan->state == WHOLE && scan->skip == 0)
        return scan->refused ? KNIT_SCAN_E_REFUSED : KNIT_SCAN_E_DONE;
    return 0;
}
