/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures of tasks: `resize(image: bin, width: int, quality: float?) -> bin`.
 *
 * The text is parsed once, when a task is registered, into one compact heap object. Each call's
 * params are then walked once: the walk checks that they are well-formed (everything proto/check.h
 * checks) and have the right types and number, and notes where each argument lies, so that its
 * getter is O(1). The grammar is in PROTOCOL.md.
 *
 * Threads: a parsed signature never changes; any number of threads may use it.
 * Security: params and result are hostile bytes that must not change during the walk.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/head.h"
#include "proto/limits.h"
#include "proto/span.h"
#include "proto/types.h"

enum {
    KNIT_SIGNATURE_E_SYNTAX = 1,   /* of parse: the flaw holds the reason and the place */
    KNIT_SIGNATURE_E_MISMATCH = 2, /* of check: BAD_ARGUMENT, or BAD_RESULT */
    KNIT_SIGNATURE_E_TOO_DEEP = 3, /* of check: TOO_DEEP */
};

struct knit_signature; /* opaque, heap */

struct knit_signature_flaw {
    size_t offset;      /* of the wrong byte, from the text's first */
    const char *reason; /* static text: "unknown type" */
};

/* Where the arguments lie in the params array's bytes, and their heads as they were checked. */
struct knit_signature_args {
    uint32_t count; /* elements of the params array; those beyond KNIT_SIGNATURE_PARAMS_MAX are not
                       recorded */
    struct {
        uint32_t off;
        uint32_t len;
        struct knit_head head;
    } arg[KNIT_SIGNATURE_PARAMS_MAX];
};

/* Why something does not fit: `reason` where the bytes are malformed, those of one value or, with
 * is_whole, around all; else expected and actual where one value has the wrong type or is missing;
 * else there are too many. Pointers are static
 * text or belong to the signature. */
struct knit_signature_mismatch {
    const char *param; /* its name; NULL when no single one is wrong */
    uint32_t index;    /* of the argument or result, from 0 */
    uint32_t given;    /* how many came, and how many may come; max UINT32_MAX = any number */
    uint32_t min;
    uint32_t max;
    const char *expected; /* the type as the signature writes it: "float?" */
    const char *actual;   /* the type that came */
    const char *reason;   /* what is malformed, where that is what is wrong; else NULL */
    bool is_whole;        /* no single value is malformed, but what they lie in */
    size_t offset;        /* of the flaw in the bytes */
    int ext;              /* code of the ext that is malformed, 0 = none is */
};

/* Parse `text` of len bytes. ret_flaw may be NULL; written only with E_SYNTAX.
 * Returns 0, KNIT_SIGNATURE_E_SYNTAX, -ENOMEM. */
KNIT_MUST_CHECK int knit_signature_parse(const char *text, size_t len,
    struct knit_signature **ret_signature, struct knit_signature_flaw *ret_flaw);

/* The signature that a caller writes down for one call: the same grammar, but the task's name, the
 * parameters' names and the results with their arrow may be left out, and there is no `...`. */
KNIT_MUST_CHECK int knit_signature_parse_call(const char *text, size_t len,
    struct knit_signature **ret_signature, struct knit_signature_flaw *ret_flaw);

struct knit_signature *knit_signature_free(struct knit_signature *signature);

/* The task's name, NUL-terminated; "" where a call's signature leaves it out. */
const char *knit_signature_name(const struct knit_signature *signature);

/* The canonical text: single spaces, nothing else changed. NUL-terminated. */
const char *knit_signature_text(const struct knit_signature *signature);

uint32_t knit_signature_param_count(const struct knit_signature *signature);
uint32_t knit_signature_result_count(const struct knit_signature *signature);

/* The type of a parameter or, behind them, of a result, and whether nil may stand for it. NULL, and
 * nothing written, past the last. */
const struct knit_type_row *knit_signature_type(
    const struct knit_signature *signature, uint32_t index, bool *ret_is_optional);

/* Name and type of a parameter as written ("float?", "any..."); NULL past the last. */
const char *knit_signature_param_name(const struct knit_signature *signature, uint32_t index);
const char *knit_signature_param_type(const struct knit_signature *signature, uint32_t index);

/* Whether `name` of len bytes could be a task's: letters, digits, `_`, `.`, `-`, 1..128 bytes. */
bool knit_signature_is_name(const char *name, size_t len);

/* Check a params array. signature NULL = any arguments: then only form and depth are checked.
 * ret_args and ret_why may be NULL; ret_why is written only when the answer is not 0.
 * Returns 0, KNIT_SIGNATURE_E_MISMATCH, KNIT_SIGNATURE_E_TOO_DEEP; never < 0. */
KNIT_MUST_CHECK int knit_signature_check(const struct knit_signature *signature, const void *params,
    size_t len, struct knit_signature_args *ret_args, struct knit_signature_mismatch *ret_why);

/* Check a result: one value, or for several results an array of exactly them. As above. */
KNIT_MUST_CHECK int knit_signature_check_result(const struct knit_signature *signature,
    const void *result, size_t len, struct knit_signature_mismatch *ret_why);

/* One sentence: "argument 2 (width): expected int, got str". Cut to size, always terminated.
 * Returns its length. */
size_t knit_signature_explain(
    const struct knit_signature_mismatch *why, bool is_result, char *ret_text, size_t size);
