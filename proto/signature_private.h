/* SPDX-License-Identifier: Apache-2.0 */
/* What a parsed signature looks like inside; shared by its parser and its checks alone. */
#pragma once

#include "proto/signature.h"

struct knit_signature_type {
    uint8_t kind; /* enum knit_kind */
    int8_t code;  /* as in knit_types */
    bool is_optional;
    uint8_t row;      /* of knit_types */
    const char *name; /* of the parameter; NULL for results */
    const char *text; /* as written */
};

/* Which heads a value of the type may have, as bits. What else must hold: of an int, that it fits;
 * of an ext, its code. */
uint16_t knit_signature_heads(const struct knit_signature_type *type);

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
