/* SPDX-License-Identifier: Apache-2.0 */
/* Checking values against a parsed signature. The parser is in signature_parse.c.
 *
 * The walk over the params is one loop; knit_check_front() returns length and verdict of a value
 * from the same pass. So of well-formed params no byte is read twice, except for heads and the
 * element codes of typed arrays. What is usual need not come here: precheck.h.
 */
#include "proto/signature.h"

#include <stdio.h>
#include <string.h>

#include "proto/check.h"
#include "proto/head.h"
#include "proto/signature_private.h"

/* One value of a walk. */
struct place {
    const uint8_t *at;
    size_t len;     /* to the end of all bytes */
    uint32_t depth; /* containers it may have */
    struct knit_head head;
};

static const char bytes_behind[] = "there are bytes behind the last value";

static void set_malformed(
    struct knit_signature_mismatch *why, const struct knit_check_flaw *flaw, size_t base)
{
    why->reason = flaw->reason;
    why->offset = base + flaw->offset;
    why->ext = flaw->ext;
}

/* The array of arguments, or what stands for the results. */
static int refuse_whole(struct knit_signature_mismatch *why, const char *reason, size_t offset)
{
    why->reason = reason;
    why->offset = offset;
    why->is_whole = true;
    return KNIT_SIGNATURE_E_MISMATCH;
}

/* Which heads a kind may have, as bits. fits() checks what the head does not decide. */
static const uint16_t heads_of[] = {
    [KNIT_KIND_ANY] = UINT16_MAX,
    [KNIT_KIND_NIL] = 1 << KNIT_HEAD_NIL,
    [KNIT_KIND_BOOL] = 1 << KNIT_HEAD_BOOL,
    [KNIT_KIND_INT] = 1 << KNIT_HEAD_INT | 1 << KNIT_HEAD_UINT,
    [KNIT_KIND_UINT] = 1 << KNIT_HEAD_UINT,
    [KNIT_KIND_FLOAT] =
        1 << KNIT_HEAD_UINT | 1 << KNIT_HEAD_INT | 1 << KNIT_HEAD_FLOAT32 | 1 << KNIT_HEAD_FLOAT64,
    [KNIT_KIND_STR] = 1 << KNIT_HEAD_STR,
    [KNIT_KIND_BIN] = 1 << KNIT_HEAD_BIN,
    [KNIT_KIND_ARRAY] = 1 << KNIT_HEAD_ARRAY,
    [KNIT_KIND_MAP] = 1 << KNIT_HEAD_MAP,
    [KNIT_KIND_TIME] = 1 << KNIT_HEAD_EXT,
    [KNIT_KIND_EXT] = 1 << KNIT_HEAD_EXT,
    [KNIT_KIND_TYPED] = 1 << KNIT_HEAD_EXT,
};

uint16_t knit_signature_heads(const struct knit_signature_type *type)
{
    return heads_of[type->kind] | (type->is_optional ? 1 << KNIT_HEAD_NIL : 0);
}

static bool fits_head(const struct knit_signature_type *type, const struct knit_head *head)
{
    return (knit_signature_heads(type) >> head->type & 1) != 0 &&
           (type->kind != KNIT_KIND_INT || head->type != KNIT_HEAD_UINT ||
               head->value <= INT64_MAX);
}

/* Whether a value of `size` bytes, well-formed, has the type. */
static bool fits(const struct knit_signature_type *type, const struct place *place, size_t size)
{
    const struct knit_head *head = &place->head;

    if (!fits_head(type, head))
        return false;
    if (head->type != KNIT_HEAD_EXT)
        return true;
    if (type->kind == KNIT_KIND_EXT || type->kind == KNIT_KIND_TIME)
        return head->ext == type->code;
    if (type->kind == KNIT_KIND_TYPED)
        return head->ext == KNIT_EXT_TYPED &&
               (type->code == 0 || (size > head->size && place->at[head->size] == type->code));
    return true;
}

static const char *actual_name(const struct knit_signature_type *type, const struct place *place)
{
    const struct knit_head *head = &place->head;

    if (type->kind == KNIT_KIND_UINT && head->type == KNIT_HEAD_INT)
        return "negative int";
    if (head->type == KNIT_HEAD_EXT && head->ext == KNIT_EXT_TYPED)
        return knit_types_element_name(place->at[head->size]);
    return knit_head_name(head);
}

/* One value against one type, NULL = any. */
static int check_value(const struct knit_signature_type *type, struct place *place, size_t base,
    size_t *ret_size, struct knit_signature_mismatch *why)
{
    struct knit_check_flaw flaw;
    int r = knit_check_front(place->at, place->len, place->depth, ret_size, &flaw);

    if (r) {
        set_malformed(why, &flaw, base);
        return r == KNIT_CHECK_E_TOO_DEEP ? KNIT_SIGNATURE_E_TOO_DEEP : KNIT_SIGNATURE_E_MISMATCH;
    }
    /* If a caller breaks the rule and changes the bytes meanwhile, the head may be gone. */
    if (knit_head_read(place->at, place->len, &place->head) != 0 ||
        (knit_head_has_body(&place->head) && place->head.value != *ret_size - place->head.size))
        place->head = (struct knit_head){.size = 1};
    if (type == NULL || fits(type, place, *ret_size))
        return 0;
    why->expected = type->text;
    why->actual = actual_name(type, place);
    why->offset = base;
    return KNIT_SIGNATURE_E_MISMATCH;
}

/* Whether the array has a right number of elements. */
static int check_count(const struct knit_signature *signature, const struct knit_head *head,
    struct knit_signature_mismatch *why)
{
    uint32_t given = (uint32_t)head->value, min, max;

    if (signature == NULL)
        return 0;
    min = signature->required;
    max = signature->has_rest ? UINT32_MAX : signature->param_count;
    if (given >= min && given <= max)
        return 0;
    why->given = given;
    why->min = min;
    why->max = max;
    if (given < min) {
        why->index = given;
        why->param = signature->type[given].name;
        why->expected = signature->type[given].text;
        why->actual = "nothing";
    }
    return KNIT_SIGNATURE_E_MISMATCH;
}

static const struct knit_signature_type *type_of(
    const struct knit_signature *signature, uint32_t index)
{
    if (signature == NULL)
        return NULL;
    return &signature->type[index < signature->param_count ? index : signature->param_count - 1];
}

static int check_elements(const struct knit_signature *signature, struct knit_span params,
    const struct knit_head *head, struct knit_signature_args *args,
    struct knit_signature_mismatch *why)
{
    uint32_t i, count = (uint32_t)head->value;
    size_t at = head->size, size;
    struct place place;
    int r;

    for (i = 0; i < count; i++) {
        const struct knit_signature_type *type = type_of(signature, i);

        place.at = params.bytes + at;
        place.len = params.len - at;
        place.depth = KNIT_DEPTH_MAX - 1;
        r = check_value(type, &place, at, &size, why);
        if (r) {
            why->index = i;
            why->param = type != NULL ? type->name : NULL;
            return r;
        }
        if (args != NULL && i < KNIT_SIGNATURE_PARAMS_MAX) {
            args->arg[i].off = (uint32_t)at;
            args->arg[i].len = (uint32_t)size;
            args->arg[i].head = place.head;
        }
        at += size;
    }
    if (at == params.len)
        return 0;
    return refuse_whole(why, bytes_behind, at);
}

int knit_signature_check(const struct knit_signature *signature, const void *params, size_t len,
    struct knit_signature_args *ret_args, struct knit_signature_mismatch *ret_why)
{
    struct knit_signature_mismatch own;
    /* cppcheck-suppress uninitvar ; its address alone is taken */
    struct knit_signature_mismatch *why = ret_why != NULL ? ret_why : &own;
    struct knit_head head;
    int r;

    *why = (struct knit_signature_mismatch){0};
    if (len > UINT32_MAX || knit_head_read(params, len, &head) || head.type != KNIT_HEAD_ARRAY)
        return refuse_whole(why, "they are not an array", 0);
    /* What knit_check_value() says of it. */
    if (head.value > len - head.size)
        return refuse_whole(why, "a container announces more than there is", 0);
    r = check_count(signature, &head, why);
    if (r)
        return r;
    if (ret_args != NULL)
        ret_args->count = (uint32_t)head.value;
    return check_elements(signature, knit_span(params, len), &head, ret_args, why);
}

int knit_signature_check_result(const struct knit_signature *signature, const void *result,
    size_t len, struct knit_signature_mismatch *ret_why)
{
    const struct knit_signature_type *types = signature->type + signature->param_count;
    struct place place = {.at = result, .len = len, .depth = KNIT_DEPTH_MAX};
    struct knit_signature_mismatch own;
    /* cppcheck-suppress uninitvar ; its address alone is taken */
    struct knit_signature_mismatch *why = ret_why != NULL ? ret_why : &own;
    uint32_t i, count = signature->result_count;
    size_t at = 0, size;
    int r;

    *why = (struct knit_signature_mismatch){0};
    if (count > 1) {
        if (knit_head_read(result, len, &place.head) || place.head.type != KNIT_HEAD_ARRAY ||
            place.head.value != count)
            return refuse_whole(why, "several results are an array of as many values", 0);
        at = place.head.size;
        place.depth--;
    }
    for (i = 0; i < count; i++) {
        place.at = (const uint8_t *)result + at;
        place.len = len - at;
        r = check_value(&types[i], &place, at, &size, why);
        if (r) {
            why->index = i;
            return r;
        }
        at += size;
    }
    if (at == len)
        return 0;
    return refuse_whole(why, bytes_behind, at);
}

/* How many arguments there may be, as text. */
static void explain_count(const struct knit_signature_mismatch *why, char *ret_text, size_t size)
{
    const char *plural = why->max == 1 ? "" : "s";

    if (why->max == UINT32_MAX)
        snprintf(ret_text, size, "at least %u argument%s", why->min, why->min == 1 ? "" : "s");
    else if (why->min == why->max)
        snprintf(ret_text, size, "%u argument%s", why->max, plural);
    else
        snprintf(ret_text, size, "%u to %u arguments", why->min, why->max);
}

size_t knit_signature_explain(
    const struct knit_signature_mismatch *why, bool is_result, char *ret_text, size_t size)
{
    char place[KNIT_PARAM_NAME_BYTES_MAX + 64], count[64], ext[32] = "";
    const char *what = is_result ? "result" : "argument";
    int len;

    if (why->is_whole)
        snprintf(place, sizeof(place), "the %s%s", what, is_result ? "" : "s");
    else if (why->param != NULL)
        snprintf(place, sizeof(place), "%s %u (%s)", what, why->index + 1, why->param);
    else
        snprintf(place, sizeof(place), "%s %u", what, why->index + 1);
    explain_count(why, count, sizeof(count));
    if (why->ext)
        snprintf(ext, sizeof(ext), " (ext %d)", why->ext);
    if (why->reason != NULL)
        len =
            snprintf(ret_text, size, "%s: %s%s, at byte %zu", place, why->reason, ext, why->offset);
    else if (why->expected != NULL && why->max)
        len = snprintf(ret_text, size, "%s is missing: expected %s; the task takes %s, got %u",
            place, why->expected, count, why->given);
    else if (why->expected != NULL)
        len =
            snprintf(ret_text, size, "%s: expected %s, got %s", place, why->expected, why->actual);
    else
        len = snprintf(
            ret_text, size, "too many arguments: the task takes %s, got %u", count, why->given);
    if (size == 0 || len < 0)
        return 0;
    return (size_t)len < size ? (size_t)len : size - 1;
}
