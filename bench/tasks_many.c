/* SPDX-License-Identifier: Apache-2.0 */
/* Ten thousand tasks that are not called: they show what a registry of that size costs other calls.
 * The preprocessor counts, since names have to be literals. */
#include <knitting/task.h>

KNIT_MODULE("1.0");

static int fill(struct knit_call *call)
{
    return knit_return_int(call, knit_arg_int(call, 0));
}

/* Like KNIT_TASK(), with one function for all: ten thousand functions compile slowly. */
#define ONE(n)                                                                                     \
    static const struct knit_task task_##n = {.name = "filler_" #n,                                \
        .signature = "filler_" #n "(number: int, text: str?) -> int",                              \
        .run = fill};                                                                              \
    static const struct knit_task *const entry_##n                                                 \
        __attribute__((used, section("knit_task_entries"))) = &task_##n;
#define TEN(n)                                                                                     \
    ONE(n##0)                                                                                      \
    ONE(n##1)                                                                                      \
    ONE(n##2)                                                                                      \
    ONE(n##3)                                                                                      \
    ONE(n##4)                                                                                      \
    ONE(n##5)                                                                                      \
    ONE(n##6)                                                                                      \
    ONE(n##7)                                                                                      \
    ONE(n##8)                                                                                      \
    ONE(n##9)
#define HUNDRED(n)                                                                                 \
    TEN(n##0)                                                                                      \
    TEN(n##1) TEN(n##2) TEN(n##3) TEN(n##4) TEN(n##5) TEN(n##6) TEN(n##7) TEN(n##8) TEN(n##9)
#define THOUSAND(n)                                                                                \
    HUNDRED(n##0)                                                                                  \
    HUNDRED(n##1)                                                                                  \
    HUNDRED(n##2)                                                                                  \
    HUNDRED(n##3)                                                                                  \
    HUNDRED(n##4) HUNDRED(n##5) HUNDRED(n##6) HUNDRED(n##7) HUNDRED(n##8) HUNDRED(n##9)

THOUSAND(0)
THOUSAND(1)
THOUSAND(2)
THOUSAND(3)
THOUSAND(4)
THOUSAND(5)
THOUSAND(6)
THOUSAND(7)
THOUSAND(8)
THOUSAND(9)
