/* SPDX-License-Identifier: Apache-2.0 */
/* Names are looked up one after the other: signatures are parsed once, when a task is registered or
 * a call's signature is seen for the first time.
 */
#include "proto/types.h"

#include <string.h>

#define TYPE(name, kind, code)                 {name, KNIT_KIND_##kind, code, 0},
#define ELEMENT_TYPE(code, name, size, number) {name "[]", KNIT_KIND_TYPED, code, size},
const struct knit_type_row knit_types[KNIT_TYPE_ROWS] = {
    KNIT_TYPES(TYPE) KNIT_ELEMENTS(ELEMENT_TYPE)};
#undef TYPE
#undef ELEMENT_TYPE

const struct knit_type_row *knit_types_find(const char *name, size_t len, bool is_typed_array)
{
    const char *suffix = is_typed_array ? "[]" : "";

    for (size_t i = 0; i < KNIT_TYPE_ROWS; i++) {
        const char *known = knit_types[i].name;

        if (strlen(known) >= len && memcmp(known, name, len) == 0 &&
            strcmp(known + len, suffix) == 0)
            return &knit_types[i];
    }
    return NULL;
}

const char *knit_types_element_name(unsigned code)
{
#define NAME(code, name, size, number) [code] = name "[]",
    static const char *const names[KNIT_ELEMENT_CODES] = {KNIT_ELEMENTS(NAME)};
#undef NAME

    return code > 0 && code < KNIT_ELEMENT_CODES ? names[code] : "typed array";
}
