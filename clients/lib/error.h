/* SPDX-License-Identifier: Apache-2.0 */
/* Errors as callers see them: made by the library, or read from what came by stream or lane. */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/error.h>

#include "proto/buffer.h"
#include "proto/span.h"

/* Fill *ret_error (NULL: nothing is filled) with an error of the library's own. Returns code. */
int knit_error_make(struct knit_error *ret_error, int code, enum knit_started started,
    const char *format, ...) __attribute__((format(printf, 4, 5)));
int knit_error_vmake(struct knit_error *ret_error, int code, enum knit_started started,
    const char *format, va_list args) __attribute__((format(printf, 4, 0)));

/* NULL is allowed. The task whose call it is of, unless it says so itself. */
void knit_error_set_task(struct knit_error *error, const char *task);

/* What is wrong stays wrong: the same call fails again. NULL is allowed. */
void knit_error_set_lasting(struct knit_error *error);

/* Of a structure of options: its words `reserved` must be 0, or it holds what this library does not
 * know, or was not set up. Returns KNIT_OK or KNIT_BAD_ARGUMENT. */
int knit_error_check_reserved(
    const char *structure, const uint64_t *words, size_t count, struct knit_error *ret_error);

/* Read an error that came. `copy` receives its bytes; what ret_error->data and ->details point to
 * lies there until the next error is read into it. Returns the error's code. */
int knit_error_read(struct knit_buffer *copy, struct knit_span error, struct knit_error *ret_error);
