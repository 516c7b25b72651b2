/* SPDX-License-Identifier: Apache-2.0 */
/* Every form in which a task is called by a signature, with two integers and one for the result: to
 * see that all of them do and say the same. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <knitting/knitting.h>

struct knit_form {
    const char *name;
    int (*call)(struct knit *k, const char *task, const char *signature, const int64_t numbers[2],
        int64_t *ret_number, struct knit_error *ret_error);
};

extern const struct knit_form knit_forms[];
extern const size_t knit_forms_count;

/* Fails the test unless each form ends with that code, and with the same error as the first one,
 * which *ret_error (NULL is allowed) is then. Returns the number that they all gave, or 0. */
int64_t knit_forms_all(struct knit *k, const char *task, const char *signature,
    const int64_t numbers[2], int code, struct knit_error *ret_error);
