/* SPDX-License-Identifier: Apache-2.0 */
/* What a form prepares lives for that one call, or for two: so each is also the first call of a
 * prepared call. Errors are compared as a whole, by their sentences too.
 */
#include "tests/clients/forms.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static int call(struct knit *k, const char *task, const char *signature, const int64_t numbers[2],
    int64_t *ret_number, struct knit_error *ret_error)
{
    return knit_call(k, ret_error, task, signature, numbers[0], numbers[1], ret_number);
}

static int call_with(struct knit *k, const char *task, const char *signature,
    const int64_t numbers[2], int64_t *ret_number, struct knit_error *ret_error)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;

    options.timeout_ms = 60000;
    return knit_call_with(
        k, &options, ret_error, task, signature, numbers[0], numbers[1], ret_number);
}

static int finish(struct knit_handle *handle, int64_t *ret_number, struct knit_error *ret_error)
{
    int code = knit_await(handle, -1, ret_error);

    if (code == KNIT_OK)
        code = knit_results(handle, ret_error, ret_number);
    knit_free(handle);
    return code;
}

static int start(struct knit *k, const char *task, const char *signature, const int64_t numbers[2],
    int64_t *ret_number, struct knit_error *ret_error)
{
    struct knit_handle *handle;
    int code = knit_start(k, NULL, &handle, ret_error, task, signature, numbers[0], numbers[1]);

    return code == KNIT_OK ? finish(handle, ret_number, ret_error) : code;
}

static int call_prepared(struct knit *k, const char *task, const char *signature,
    const int64_t numbers[2], int64_t *ret_number, struct knit_error *ret_error)
{
    struct knit_prepared *prepared = NULL;
    int code = knit_prepare(k, ret_error, task, signature, &prepared);

    for (int i = 0; i < 2 && code == KNIT_OK; i++)
        code = knit_call_prepared(prepared, NULL, ret_error, numbers[0], numbers[1], ret_number);
    knit_prepared_free(prepared);
    return code;
}

static int call_prepared_with(struct knit *k, const char *task, const char *signature,
    const int64_t numbers[2], int64_t *ret_number, struct knit_error *ret_error)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_prepared *prepared = NULL;
    int code = knit_prepare(k, ret_error, task, signature, &prepared);

    options.timeout_ms = 60000;
    if (code == KNIT_OK)
        code =
            knit_call_prepared(prepared, &options, ret_error, numbers[0], numbers[1], ret_number);
    knit_prepared_free(prepared);
    return code;
}

static int start_prepared(struct knit *k, const char *task, const char *signature,
    const int64_t numbers[2], int64_t *ret_number, struct knit_error *ret_error)
{
    struct knit_prepared *prepared = NULL;
    struct knit_handle *handle;
    int code = knit_prepare(k, ret_error, task, signature, &prepared);

    if (code == KNIT_OK)
        code = knit_start_prepared(prepared, NULL, &handle, ret_error, numbers[0], numbers[1]);
    /* The handle does not need it. */
    knit_prepared_free(prepared);
    return code == KNIT_OK ? finish(handle, ret_number, ret_error) : code;
}

const struct knit_form knit_forms[] = {
    {"knit_call", call},
    {"knit_call_with", call_with},
    {"knit_start", start},
    {"knit_call_prepared", call_prepared},
    {"knit_call_prepared with options", call_prepared_with},
    {"knit_start_prepared", start_prepared},
};
const size_t knit_forms_count = sizeof(knit_forms) / sizeof(knit_forms[0]);

static void say_the_same(
    const struct knit_form *form, const struct knit_error *first, const struct knit_error *error)
{
    if (error->started != first->started || error->retryable != first->retryable ||
        error->origin != first->origin || strcmp(error->name, first->name) != 0 ||
        strcmp(error->message, first->message) != 0)
        fail_msg("%s: %s, started %d, \"%s\" instead of %s, started %d, \"%s\"", form->name,
            error->name, error->started, error->message, first->name, first->started,
            first->message);
}

int64_t knit_forms_all(struct knit *k, const char *task, const char *signature,
    const int64_t numbers[2], int code, struct knit_error *ret_error)
{
    struct knit_error first = {0}, error = {0};
    int64_t number = 0;

    for (size_t i = 0; i < knit_forms_count; i++) {
        const struct knit_form *form = &knit_forms[i];
        int64_t got = 0;
        int r = form->call(k, task, signature, numbers, &got, i == 0 ? &first : &error);

        if (r != code)
            fail_msg("%s of %s%s: %d %s instead of %d", form->name, task, signature, r,
                (i == 0 ? &first : &error)->message, code);
        if (i == 0)
            number = got;
        else if (code != KNIT_OK)
            say_the_same(form, &first, &error);
        assert_true(got == number);
    }
    if (ret_error != NULL)
        *ret_error = first;
    return number;
}
