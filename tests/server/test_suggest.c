/* SPDX-License-Identifier: Apache-2.0 */
/* Suggestions for misspelt names: given for single mistakes, not for a flood of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "server/rpc/suggest.h"
#include "tests/support/deadline.h"

enum { TASKS = 4000 };

static const char asked[] = "accounts.open_1234x";
static const char meant[] = "accounts.open_1234";

static struct knit_registry *make_registry(void)
{
    struct knit_registry *registry = knit_registry_new(KNIT_REGISTRY_EPOCH_FIRST);

    for (int i = 0; i < TASKS; i++) {
        struct knit_registry_task task = {.doc = ""};
        struct knit_signature *signature = NULL;
        char text[64];

        (void)snprintf(text, sizeof(text), "accounts.open_%04d() -> nil", i);
        assert_int_equal(knit_signature_parse(text, strlen(text), &signature, NULL), 0);
        assert_int_equal(knit_registry_add(registry, &task, signature), 0);
    }
    return registry;
}

static const struct knit_registry_task *find(
    struct knit_suggest *suggest, const struct knit_registry *registry, uint64_t now_ns)
{
    return knit_suggest_task(suggest, registry, asked, strlen(asked), now_ns);
}

static void a_flood_is_told_no_names_and_later_callers_are(void **state)
{
    struct knit_registry *registry = make_registry();
    const struct knit_registry_task *task;
    uint64_t now_ns = UINT64_C(5000000000);
    struct knit_suggest suggest = {0};

    (void)state;
    task = find(&suggest, registry, now_ns);
    assert_non_null(task);
    assert_string_equal(task->name, meant);
    /* Time stands still for the budget, so what it may spend does not come back. */
    assert_true(KNIT_WAIT_UNTIL(find(&suggest, registry, now_ns) == NULL, 10000));
    assert_null(find(&suggest, registry, now_ns + 1));
    assert_non_null(find(&suggest, registry, now_ns + UINT64_C(3600000000000)));
    knit_registry_free(registry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flood_is_told_no_names_and_later_callers_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
