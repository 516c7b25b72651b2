/* SPDX-License-Identifier: Apache-2.0 */
/* The table of tasks: ids in the order of addition, names among many, announcements written, read,
 * cut and damaged at each byte, the limit of 65,536, the nearest name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fastpath/control/registry.h"
#include "tests/support/random.h"

static int add(
    struct knit_registry *registry, const char *text, const char *doc, uint32_t timeout_ms)
{
    struct knit_registry_task task = {.doc = doc,
        .timeout_ms = timeout_ms,
        .hard_timeout_ms = timeout_ms * 2,
        .flags = 1,
        .module = timeout_ms + 3};
    struct knit_signature *signature;
    int error;

    assert_int_equal(knit_signature_parse(text, strlen(text), &signature, NULL), 0);
    error = knit_registry_add(registry, &task, signature);
    if (error != 0)
        knit_signature_free(signature);
    return error;
}

static const struct knit_registry_task *find(const struct knit_registry *registry, const char *name)
{
    return knit_registry_find(registry, name, strlen(name));
}

static void tasks_are_found_by_name_and_by_id(void **state)
{
    struct knit_registry *registry = knit_registry_new(7);

    (void)state;
    assert_int_equal(add(registry, "zeta(a: int) -> int", "Doc.", 5), 0);
    assert_int_equal(add(registry, "alpha() -> nil", NULL, 0), 0);
    assert_int_equal(add(registry, "zeta() -> nil", NULL, 0), KNIT_REGISTRY_E_DUPLICATE);
    assert_int_equal(knit_registry_epoch(registry), 7);
    assert_int_equal(knit_registry_count(registry), 2);
    assert_int_equal(find(registry, "zeta")->id, 0);
    assert_int_equal(find(registry, "alpha")->id, 1);
    assert_string_equal(find(registry, "zeta")->doc, "Doc.");
    assert_string_equal(find(registry, "alpha")->doc, "");
    assert_string_equal(
        knit_signature_text(knit_registry_at(registry, 0)->signature), "zeta(a: int) -> int");
    assert_null(find(registry, "zet"));
    assert_null(find(registry, ""));
    assert_null(knit_registry_at(registry, 2));
    knit_registry_free(registry);
    assert_null(knit_registry_free(NULL));
}

static void at_most_65536_tasks_are_added(void **state)
{
    struct knit_registry *registry = knit_registry_new(1);
    char text[64];

    (void)state;
    for (uint32_t i = 0; i < KNIT_REGISTRY_TASKS_MAX; i++) {
        (void)snprintf(text, sizeof(text), "task_%u() -> nil", i);
        assert_int_equal(add(registry, text, NULL, 0), 0);
    }
    assert_int_equal(add(registry, "surplus() -> nil", NULL, 0), KNIT_REGISTRY_E_FULL);
    assert_int_equal(find(registry, "task_0")->id, 0);
    assert_int_equal(find(registry, "task_65535")->id, 65535);
    knit_registry_free(registry);
}

static struct knit_registry *make_three(void)
{
    struct knit_registry *registry = knit_registry_new(3);

    assert_int_equal(
        add(registry, "word_count(text: str, top: int?) -> map", "Counts words.", 10), 0);
    assert_int_equal(add(registry, "add(a: int, b: int) -> int", NULL, 0), 0);
    assert_int_equal(add(registry, "sha256(bytes: bin) -> bin", "A digest \xc3\xa9.", 1000), 0);
    return registry;
}

static void an_announcement_contains_every_task_and_field(void **state)
{
    struct knit_registry *registry = make_three(), *parsed = NULL;
    struct knit_buffer first, second;

    (void)state;
    knit_buffer_init(&first, KNIT_REGISTRY_BYTES_MAX);
    knit_buffer_init(&second, KNIT_REGISTRY_BYTES_MAX);
    assert_int_equal(knit_registry_put(registry, &first), 0);
    assert_int_equal(knit_registry_parse(knit_buffer_span(&first), &parsed), 0);
    assert_int_equal(knit_registry_epoch(parsed), 3);
    assert_int_equal(knit_registry_count(parsed), 3);
    assert_int_equal(find(parsed, "sha256")->timeout_ms, 1000);
    assert_int_equal(find(parsed, "sha256")->hard_timeout_ms, 2000);
    assert_int_equal(find(parsed, "sha256")->flags, 1);
    assert_int_equal(find(parsed, "sha256")->module, 1003);
    assert_int_equal(knit_registry_put(parsed, &second), 0);
    assert_int_equal(first.len, second.len);
    assert_memory_equal(first.bytes, second.bytes, first.len);
    knit_buffer_fini(&first);
    knit_buffer_fini(&second);
    knit_registry_free(registry);
    knit_registry_free(parsed);
}

static void a_damaged_announcement_is_refused(void **state)
{
    struct knit_registry *registry = make_three(), *parsed = NULL;
    struct knit_buffer buffer;
    struct knit_random random;
    uint8_t *copy;

    (void)state;
    knit_random_init(&random);
    knit_buffer_init(&buffer, KNIT_REGISTRY_BYTES_MAX);
    assert_int_equal(knit_registry_put(registry, &buffer), 0);
    for (size_t len = 0; len < buffer.len; len++) {
        /* In memory of exactly its length, so that sanitizers see a read beyond it. */
        copy = malloc(len != 0 ? len : 1);
        assert_non_null(copy);
        memcpy(copy, buffer.bytes, len);
        assert_int_equal(knit_registry_parse(knit_span(copy, len), &parsed), KNIT_REGISTRY_E_BAD);
        free(copy);
    }
    copy = malloc(buffer.len + 1);
    assert_non_null(copy);
    memcpy(copy, buffer.bytes, buffer.len);
    copy[buffer.len] = 0;
    assert_int_equal(
        knit_registry_parse(knit_span(copy, buffer.len + 1), &parsed), KNIT_REGISTRY_E_BAD);
    for (int i = 0; i < 20000; i++) {
        memcpy(copy, buffer.bytes, buffer.len);
        for (uint64_t n = knit_random_below(&random, 4) + 1; n > 0; n--)
            copy[knit_random_below(&random, buffer.len)] = (uint8_t)knit_random_u64(&random);
        if (knit_registry_parse(knit_span(copy, buffer.len), &parsed) == 0)
            knit_registry_free(parsed);
    }
    free(copy);
    knit_buffer_fini(&buffer);
    knit_registry_free(registry);
}

static const char *nearest(const struct knit_registry *registry, const char *name)
{
    const struct knit_registry_task *task = knit_registry_nearest(registry, name, strlen(name));

    return task != NULL ? task->name : "(none)";
}

static void a_near_name_is_suggested(void **state)
{
    struct knit_registry *registry = make_three();

    (void)state;
    assert_string_equal(nearest(registry, "wordcount"), "word_count");
    assert_string_equal(nearest(registry, "sha265"), "sha256");
    assert_string_equal(nearest(registry, "ad"), "add");
    assert_string_equal(nearest(registry, "completely_different"), "(none)");
    assert_string_equal(nearest(registry, ""), "(none)");
    knit_registry_free(registry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_are_found_by_name_and_by_id),
        cmocka_unit_test(at_most_65536_tasks_are_added),
        cmocka_unit_test(an_announcement_contains_every_task_and_field),
        cmocka_unit_test(a_damaged_announcement_is_refused),
        cmocka_unit_test(a_near_name_is_suggested),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
