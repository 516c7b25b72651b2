/* SPDX-License-Identifier: Apache-2.0 */
/* The special forms, known to the reader and to the writer. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "proto/types.h"

/* Element types of typed arrays by their code in the protocol; [0] is none. */
struct knit_json_element {
    const char *key;
    uint8_t size;
    uint8_t kind; /* enum knit_json_kind */
};

enum knit_json_kind { KNIT_JSON_SIGNED, KNIT_JSON_UNSIGNED, KNIT_JSON_FLOAT };

extern const struct knit_json_element knit_json_elements[KNIT_ELEMENT_CODES];
