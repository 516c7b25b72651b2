/* SPDX-License-Identifier: Apache-2.0 */
/* What a parsed signature looks like inside; shared by its parser and its checks alone. */
#pragma once

#include "proto/signature.h"

enum knit_signature_kind {
    KNIT_SIGNATURE_ANY,
    KNIT_SIGNATURE_NIL,
    KNIT_SIGNATURE_BOOL,
    KNIT_SIGNATURE_INT,
    KNIT_SIGNATURE_UINT,
    KNIT_SIGNATURE_FLOAT,
    KNIT_SIGNATURE_STR,
    KNIT_SIGNATURE_BIN,
    KNIT_SIGNATURE_ARRAY,
    KNIT_SIGNATURE_MAP,
    KNIT_SIGNATURE_EXT,   /* detail = ext code */
    KNIT_SIGNATURE_TYPED, /* detail = element code, 0 = any */
};

struct knit_signature_type {
    uint8_t kind;
    uint8_t detail;
    bool is_optional;
    const char *name; /* of the parameter; NULL for results */
    const char *text; /* as written */
};

/* One allocation: the types (parameters, then results), then the texts they point to. */
struct knit_signature {
    uint32_t param_count;
    uint32_t required; /* arguments that cannot be left out */
    uint32_t result_count;
    bool has_rest; /* the last parameter takes any number */
    const char *name;
    const char *text;
    struct knit_signature_type type[];
};
