/* SPDX-License-Identifier: Apache-2.0 */
/* The tasks of declared_tasks.h, as C functions. */
#include <string.h>

#include <knitting/task.h>

#include "tests/conformance/declared_tasks.h"

KNIT_MODULE("1.0");

#define KIND_PARAM(type, name) , KNIT_C_OF((type, name)) name
#define KIND_PLACE(type, name) , KNIT_C_OF((type, name)) * ret_##name
#define KIND_COPY(type, name)  *ret_##name = name;

KNIT_IMPLEMENT(kinds, .doc = "What it is given.", .flags = KNIT_TASK_IDEMPOTENT)
static int kinds_impl(struct knit_call *call DECLARED_KINDS(KIND_PARAM) DECLARED_KINDS(KIND_PLACE))
{
    (void)call;
    DECLARED_KINDS(KIND_COPY)
    return 0;
}

KNIT_IMPLEMENT(divided)
static int divided_impl(
    struct knit_call *call, int64_t a, int64_t b, int64_t *quotient, int64_t *remainder)
{
    if (b == 0)
        return knit_fail(call, 7, "division by zero");
    *quotient = a / b;
    *remainder = a % b;
    return 0;
}

KNIT_IMPLEMENT(presence, .doc = "What it is given, and how many arguments came.")
static int presence_impl(struct knit_call *call, struct knit_optional_u8 first,
    struct knit_optional_str second, struct knit_optional_u8 *ret_first,
    struct knit_optional_str *ret_second, int32_t *arguments)
{
    *ret_first = first;
    *ret_second = second;
    *arguments = (int32_t)knit_arg_count(call);
    return 0;
}

KNIT_TASK(wide, "wide(a: int) -> int")
{
    return knit_return_int(call, knit_arg_int(call, 0));
}

/* One function for two tasks, which looks up which of them it is. */
static int give_name(struct knit_call *call)
{
    const char *name = knit_task_user(call);

    return knit_return_str(call, name, strlen(name));
}

static char first_name[] = "the first", second_name[] = "the second";
static const struct knit_task first = {
    .name = "first_twin", .signature = "first_twin() -> str", .run = give_name, .user = first_name};
static const struct knit_task second = {.name = "second_twin",
    .signature = "second_twin() -> str",
    .run = give_name,
    .user = second_name};
KNIT_TASK_ENTRY static const struct knit_task *const first_entry = &first;
KNIT_TASK_ENTRY static const struct knit_task *const second_entry = &second;
