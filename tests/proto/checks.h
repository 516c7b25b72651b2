/* SPDX-License-Identifier: Apache-2.0 */
/* The check by heads (precheck.h) beside the full one, which is right by definition: what fits the
 * first passes the second, with the same places of the arguments; and bytes behind the end change
 * nothing.
 */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "proto/precheck.h"
#include "proto/signature.h"

struct knit_checks {
    const char *flaw; /* how they differ; NULL = they do not */
    bool fits;        /* params, or a result, by their heads */
};

static inline bool knit_checks_same_args(
    const struct knit_signature_args *one, const struct knit_signature_args *other)
{
    if (one->count != other->count)
        return false;
    for (uint32_t i = 0; i < one->count; i++) {
        const struct knit_head *head = &one->arg[i].head, *same = &other->arg[i].head;

        if (one->arg[i].off != other->arg[i].off || one->arg[i].len != other->arg[i].len ||
            head->type != same->type || head->size != same->size || head->ext != same->ext ||
            head->value != same->value)
            return false;
    }
    return true;
}

/* The bytes behind a first one, in memory that ends with `spare` more of them, each `filled`: the
 * first byte of a longest head, or a head of its own. */
static inline uint8_t *knit_checks_copy(const void *bytes, size_t len, size_t spare, uint8_t filled)
{
    uint8_t *copy = malloc(len + spare + 1);

    if (copy == NULL)
        abort();
    if (len > 0)
        memcpy(copy + 1, bytes, len);
    memset(copy + 1 + len, filled, spare);
    return copy;
}

static inline struct knit_checks knit_checks_params(
    const struct knit_signature *signature, const void *bytes, size_t len)
{
    struct knit_checks checks = {0};
    struct knit_signature_args full = {0};
    struct knit_precheck precheck;
    int error = knit_signature_check(signature, bytes, len, &full, NULL);

    knit_precheck_init(&precheck, signature);
    for (unsigned i = 0; i < 2 && checks.flaw == NULL; i++) {
        uint8_t *copy = knit_checks_copy(bytes, len, KNIT_HEAD_SPARE, i == 0 ? 0xcf : 0);
        struct knit_signature_args args = {0};
        bool fits = knit_precheck_params(&precheck, copy + 1, len, &args);

        if (i == 0)
            checks.fits = fits;
        if (fits != checks.fits)
            checks.flaw = "bytes behind the params change whether they fit";
        else if (fits && error != 0)
            checks.flaw = "wrong params fit";
        else if (fits && !knit_checks_same_args(&args, &full))
            checks.flaw = "arguments are found in two places";
        free(copy);
    }
    return checks;
}

static inline struct knit_checks knit_checks_result(
    const struct knit_signature *signature, const void *bytes, size_t len)
{
    struct knit_checks checks = {0};
    struct knit_precheck precheck;
    int error = knit_signature_check_result(signature, bytes, len, NULL);

    knit_precheck_init(&precheck, signature);
    for (unsigned i = 0; i < 3 && checks.flaw == NULL; i++) {
        const size_t spare = i < 2 ? KNIT_HEAD_SPARE : 0;
        uint8_t *copy = knit_checks_copy(bytes, len, spare, i == 0 ? 0xcf : 0);
        bool fits = spare > 0 ? knit_precheck_result(&precheck, copy + 1, len, KNIT_HEAD_SPARE)
                              : knit_precheck_result(&precheck, copy + 1, len, 0);

        if (i == 0)
            checks.fits = fits;
        if (i == 1 && fits != checks.fits)
            checks.flaw = "bytes behind the result change whether it fits";
        else if (fits && error != 0)
            checks.flaw = "a wrong result fits";
        else if (i == 2 && fits && !checks.fits)
            checks.flaw = "a result fits only where nothing is to spare";
        free(copy);
    }
    return checks;
}
