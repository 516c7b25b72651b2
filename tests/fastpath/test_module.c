/* SPDX-License-Identifier: Apache-2.0 */
/* Loading modules in this process: ids by module and name, docs and limits, hooks, refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fastpath/worker/module.h"
#include "fastpath/worker/runner.h"
#include "fastpath/worker/task_api.h"

#define GOOD TEST_MODULES "/module_tasks.so"

static char steps[4096];

static void on_step(void *arg, const char *text)
{
    size_t used = strlen(steps);

    (void)arg;
    (void)snprintf(steps + used, sizeof(steps) - used, "%s\n", text);
}

static int load(
    const char *first, const char *second, struct knit_modules **ret, struct knit_sentence *ret_why)
{
    const char *paths[] = {first, second};
    struct knit_module_loading loading = {.paths = paths,
        .count = (first != NULL) + (second != NULL),
        .epoch = 4,
        .api = knit_task_api(),
        .on_step = on_step};

    steps[0] = '\0';
    return knit_modules_load(&loading, ret, ret_why);
}

static void ids_follow_names_not_the_linker(void **state)
{
    struct knit_modules *modules;
    const struct knit_registry *registry;
    struct knit_sentence why;

    (void)state;
    assert_int_equal(load(GOOD, NULL, &modules, &why), 0);
    assert_string_equal(steps, "loading " GOOD "\n");
    registry = knit_modules_registry(modules);
    assert_int_equal(knit_registry_epoch(registry), 4);
    assert_true(knit_registry_count(registry) > 10);
    for (uint32_t id = 1; id < knit_registry_count(registry); id++)
        assert_true(strcmp(knit_registry_at(registry, id - 1)->name,
                        knit_registry_at(registry, id)->name) < 0);
    assert_string_equal(knit_registry_find(registry, "echo", 4)->doc, "Gives back what it got.");
    assert_int_equal(knit_registry_find(registry, "hang", 4)->hard_timeout_ms, 200);
    for (uint32_t id = 0; id < knit_registry_count(registry); id++)
        assert_non_null(knit_modules_run(modules, id));
    knit_modules_free(modules);
    assert_null(knit_modules_free(NULL));
}

static void a_hook_sees_the_text_and_may_refuse(void **state)
{
    struct knit_modules *modules;
    struct knit_bootstrap info = {.text = "", .index = 2, .total = 5};
    const struct knit_module_loading loading = {.on_step = on_step};
    struct knit_sentence why;

    (void)state;
    assert_int_equal(load(GOOD, NULL, &modules, &why), 0);
    assert_int_equal(knit_modules_bootstrap(modules, &info, &loading, &why), 0);
    assert_string_equal(steps, "loading " GOOD "\nrunning the bootstrap hook of " GOOD "\n");
    info.text = "/nowhere/at/all";
    assert_int_equal(knit_modules_bootstrap(modules, &info, &loading, &why), KNIT_MODULE_E_REFUSED);
    assert_string_equal(why.text,
        GOOD ": its bootstrap hook failed with 1: /nowhere/at/all: No such "
             "file or directory");
    knit_modules_free(modules);
}

static void expect_refusal(const char *first, const char *second, const char *sentence)
{
    struct knit_modules *modules;
    struct knit_sentence why;

    assert_int_equal(load(first, second, &modules, &why), KNIT_MODULE_E_REFUSED);
    assert_string_equal(why.text, sentence);
}

static void each_mistake_has_its_sentence(void **state)
{
    (void)state;
    expect_refusal(NULL, NULL, "no modules are named");
    expect_refusal(TEST_MODULES "/module_bad_1.so", NULL,
        TEST_MODULES "/module_bad_1.so: was built for module ABI 8, this worker has 1");
    expect_refusal(
        TEST_MODULES "/module_bad_2.so", NULL, TEST_MODULES "/module_bad_2.so: has no tasks");
    expect_refusal(TEST_MODULES "/module_bad_4.so", NULL,
        TEST_MODULES "/module_bad_4.so: task wrong: its signature names it right");
    expect_refusal(TEST_MODULES "/module_bad_6.so", NULL,
        TEST_MODULES "/module_bad_6.so: task wrong: " TEST_MODULES
                     "/module_bad_6.so has a task of that name already");
    expect_refusal(TEST_MODULES "/module_bad_9.so", NULL,
        TEST_MODULES "/module_bad_9.so: is no module: it has no KNIT_MODULE()");
    expect_refusal(TEST_MODULES "/module_bad_16.so", NULL,
        TEST_MODULES "/module_bad_16.so: is no module: it has no KNIT_MODULE()");
    expect_refusal(GOOD, TEST_MODULES "/module_bad_11.so",
        TEST_MODULES "/module_bad_11.so: task echo: " GOOD " has a task of that name already");
    expect_refusal(GOOD, GOOD, GOOD ": task add: " GOOD " has a task of that name already");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_follow_names_not_the_linker),
        cmocka_unit_test(a_hook_sees_the_text_and_may_refuse),
        cmocka_unit_test(each_mistake_has_its_sentence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
