/* SPDX-License-Identifier: Apache-2.0 */
/* Queries, pages and entries: put and read again, of other shapes, and cut short. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/limits.h"
#include "proto/tasks.h"
#include "proto/walk.h"
#include "tests/proto/notation.h"

enum { BUFFER_MAX = 1 << 20 };

static void encode(const char *text, struct knit_buffer *buffer)
{
    knit_buffer_init(buffer, BUFFER_MAX);
    knit_notation_encode_all(text, buffer);
}

static int decode_query(const char *text, struct knit_tasks_query *ret_query)
{
    struct knit_buffer bytes;
    const char *reason = NULL;
    int r;

    encode(text, &bytes);
    r = knit_tasks_query_decode(knit_buffer_span(&bytes), ret_query, &reason);
    assert_int_equal(r == 0, reason == NULL);
    knit_buffer_fini(&bytes);
    return r;
}

static void queries_have_defaults_for_all_that_is_left_out(void **state)
{
    static const char *const texts[] = {
        "[]", "[{}]", "[{\"after\": nil, \"limit\": nil}]", "[{\"limit\": 0}]"};
    struct knit_tasks_query query;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(decode_query(texts[i], &query), 0);
        assert_true(query.after == KNIT_TASKS_FIRST);
        assert_int_equal(query.limit, KNIT_TASKS_PAGE_DEFAULT);
    }
    assert_int_equal(decode_query("[{\"after\": 7, \"limit\": 2}]", &query), 0);
    assert_int_equal(query.after, 7);
    assert_int_equal(query.limit, 2);
    assert_int_equal(decode_query("[{\"limit\": 257}]", &query), 0);
    assert_int_equal(query.limit, 257);
    assert_int_equal(decode_query("[{\"limit\": 18446744073709551615}]", &query), 0);
    assert_int_equal(query.limit, KNIT_TASKS_PAGE_MAX);
}

static void queries_of_another_shape_are_refused(void **state)
{
    static const char *const texts[] = {
        "[1]", "{}", "[{}, 1]", "[{\"after\": \"x\"}]", "[{\"limit\": -1}]", "nil"};
    struct knit_tasks_query query;
    const char *reason;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_int_equal(decode_query(texts[i], &query), KNIT_TASKS_E_BAD);
    assert_int_equal(
        knit_tasks_query_decode(knit_span("\x91\x81", 2), &query, &reason), KNIT_TASKS_E_BAD);
}

static void queries_come_back_as_they_were_put(void **state)
{
    const struct knit_tasks_query queries[] = {
        {KNIT_TASKS_FIRST, 0}, {0, 0}, {KNIT_TASKS_FIRST, 9}, {300, 9}};

    (void)state;
    for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
        struct knit_tasks_query query;
        struct knit_buffer buffer;
        const char *reason;

        knit_buffer_init(&buffer, BUFFER_MAX);
        assert_int_equal(knit_tasks_query_put(&buffer, &queries[i]), 0);
        assert_int_equal(knit_tasks_query_decode(knit_buffer_span(&buffer), &query, &reason), 0);
        assert_true(query.after == queries[i].after);
        assert_true(query.limit == (queries[i].limit ? queries[i].limit : KNIT_TASKS_PAGE_DEFAULT));
        knit_buffer_fini(&buffer);
    }
}

static void pages_come_back_as_they_were_put(void **state)
{
    const struct knit_task_entry entries[] = {
        {.id = 0, .name = knit_span_text("a"), .signature = knit_span_text("a() -> nil")},
        {.id = 300,
            .name = knit_span_text("b"),
            .signature = knit_span_text("b() -> nil"),
            .doc = knit_span_text("About b."),
            .timeout_ms = 50,
            .flags = 1,
            .module = knit_span_text("b.so")},
    };
    struct knit_tasks_page page;
    struct knit_task_entry entry;
    struct knit_buffer buffer;
    struct knit_walk walk;
    struct knit_item item;
    const char *reason;

    (void)state;
    knit_buffer_init(&buffer, BUFFER_MAX);
    assert_int_equal(knit_tasks_page_put_head(&buffer, 9, true, 2), 0);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(knit_tasks_page_put_entry(&buffer, &entries[i]), 0);
    assert_int_equal(knit_tasks_page_decode(knit_buffer_span(&buffer), &page, &reason), 0);
    assert_int_equal(page.epoch, 9);
    assert_true(page.more);
    assert_int_equal(knit_walk_array(&walk, page.tasks), 0);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(knit_walk_next(&walk, &item), 0);
        assert_int_equal(knit_task_entry_decode(item.raw, &entry, &reason), 0);
        assert_true(entry.id == entries[i].id && entry.timeout_ms == entries[i].timeout_ms);
        assert_true(entry.flags == entries[i].flags);
        assert_int_equal(entry.name.len, 1);
        assert_int_equal(entry.signature.len, 10);
        assert_int_equal(entry.doc.len, entries[i].doc.len);
        assert_int_equal(entry.module.len, entries[i].module.len);
    }
    assert_int_equal(knit_walk_next(&walk, &item), KNIT_WALK_E_END);
    for (size_t len = 0; len < buffer.len; len++)
        assert_int_equal(
            knit_tasks_page_decode(knit_span(buffer.bytes, len), &page, &reason), KNIT_TASKS_E_BAD);
    knit_buffer_reset(&buffer);
    assert_int_equal(knit_tasks_page_put_head(&buffer, 9, false, 0), 0);
    assert_int_equal(knit_tasks_page_decode(knit_buffer_span(&buffer), &page, &reason), 0);
    assert_false(page.more);
    knit_buffer_fini(&buffer);
}

static void pages_of_another_shape_are_refused(void **state)
{
    static const char *const texts[] = {"[]", "{}", "{\"tasks\": 1}",
        "{\"tasks\": [], \"epoch\": \"x\"}", "{\"tasks\": [], \"more\": 1}"};
    struct knit_tasks_page page;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct knit_buffer bytes;
        const char *reason;

        encode(texts[i], &bytes);
        assert_int_equal(
            knit_tasks_page_decode(knit_buffer_span(&bytes), &page, &reason), KNIT_TASKS_E_BAD);
        knit_buffer_fini(&bytes);
    }
}

static void entries_of_another_shape_are_refused(void **state)
{
    static const char *const texts[] = {"[]", "{}", "{\"id\": 1, \"name\": \"a\"}",
        "{\"id\": 1, \"signature\": \"a\"}", "{\"name\": \"a\", \"signature\": \"a\"}",
        "{\"id\": -1, \"name\": \"a\", \"signature\": \"a\"}",
        "{\"id\": 1, \"name\": 1, \"signature\": \"a\"}",
        "{\"id\": 1, \"name\": \"a\", \"signature\": nil}",
        "{\"id\": 1, \"name\": \"a\", \"signature\": \"a\", \"doc\": 1}",
        "{\"id\": 1, \"name\": \"a\", \"signature\": \"a\", \"timeout\": \"x\"}",
        "{\"id\": 1, \"name\": \"a\", \"signature\": \"a\", \"flags\": []}",
        "{\"id\": 1, \"name\": \"a\", \"signature\": \"a\", \"module\": 1}"};
    struct knit_task_entry entry;
    struct knit_buffer bytes;
    const char *reason;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        encode(texts[i], &bytes);
        assert_int_equal(
            knit_task_entry_decode(knit_buffer_span(&bytes), &entry, &reason), KNIT_TASKS_E_BAD);
        knit_buffer_fini(&bytes);
    }
    encode("{\"id\": 1, \"name\": \"a\", \"signature\": \"s\", \"doc\": nil, \"new\": 1, 7: 8}",
        &bytes);
    assert_int_equal(knit_task_entry_decode(knit_buffer_span(&bytes), &entry, &reason), 0);
    assert_null(entry.doc.bytes);
    knit_buffer_fini(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queries_have_defaults_for_all_that_is_left_out),
        cmocka_unit_test(queries_of_another_shape_are_refused),
        cmocka_unit_test(queries_come_back_as_they_were_put),
        cmocka_unit_test(pages_come_back_as_they_were_put),
        cmocka_unit_test(pages_of_another_shape_are_refused),
        cmocka_unit_test(entries_of_another_shape_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
