// SPDX-License-Identifier: Apache-2.0
// The installed headers compile as C++ without a warning, a module can be written in it, and the
// macros give what they give in C.
#include <knitting/knitting.h>
#include <knitting/pool.h>
#include <knitting/task.h>
#include <knitting/values.h>

KNIT_MODULE("1.0");

KNIT_TASK(twice, "twice(value: int) -> int")
{
    return knit_return_int(call, 2 * knit_arg_int(call, 0));
}

KNIT_TASK_AS(dotted, "a.dotted.name", "a.dotted.name(value: map) -> map",
    .doc = "Writes a map.", .timeout_ms = 5, .hard_timeout_ms = 10, .flags = KNIT_TASK_INLINE_SAFE)
{
    KNIT_BUILDER(answer);
    struct knit_reader reader = KNIT_READER_INIT;

    knit_put_map(answer, 1);
    knit_put_text(answer, "count");
    knit_put_uint(answer, knit_value_count(knit_arg_value(call, 0, &reader)));
    if (knit_reader_code(&reader) != KNIT_OK)
        return knit_fail_reader(call, 1, &reader);
    return knit_return_built(call, answer);
}

int main()
{
    struct knit_error error;
    struct knit *k = NULL;
    struct knit_open_options options = {};
    struct knit_call_options call_options = KNIT_CALL_OPTIONS_INIT;
    struct knit_prepared *prepared = NULL;
    struct knit_pool_options pool_options = {};
    KNIT_POOL_AUTO struct knit_pool *pool = NULL;
    int64_t number = 0;

    options.slots = 5;
    pool_options.workers = 1000;
    if (!knit_is_host() || knit_pool_open(&pool_options, &pool, &error) != KNIT_BAD_ARGUMENT)
        return 9;
    if (knit_module.tasks_end - knit_module.tasks != 2 || knit_module.abi != KNIT_MODULE_ABI)
        return 1;
    if (call_options.timeout_ms >= 0 || knit_version()[0] == '\0')
        return 2;
    if (knit_prepared_free(prepared) != NULL)
        return 3;
    if (knit_open("nonsense", &options, &k, &error) == KNIT_BAD_ARGUMENT)
        return 0;
    if (knit_prepare(k, &error, "twice", "(int) -> int", &prepared) != KNIT_OK)
        return 4;
    return knit_call_prepared(prepared, &call_options, &error, int64_t{2}, &number);
}
