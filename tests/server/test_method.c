/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: `$/tasks` gives as many tasks a page as it was asked for, within its bound. Method: a loop
 * whose registry has more tasks than the largest page, and the pages that come over its socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "proto/limits.h"
#include "proto/tasks.h"
#include "proto/walk.h"
#include "tests/server/turns.h"

enum { TASKS = 1100, BYTES_MAX = 1 << 20 };

static int fill(void **state)
{
    (void)turns_setup(state);
    while (knit_registry_count(turns.registry) < TASKS) {
        struct knit_registry_task task = {.doc = ""};
        struct knit_signature *signature = NULL;
        char text[64];

        (void)snprintf(
            text, sizeof(text), "filler_%u() -> nil", knit_registry_count(turns.registry));
        assert_int_equal(knit_signature_parse(text, strlen(text), &signature, NULL), 0);
        assert_int_equal(knit_registry_add(turns.registry, &task, signature), 0);
    }
    return 0;
}

static void ask(struct turns_caller *caller, uint64_t limit)
{
    const struct knit_tasks_query query = {.after = KNIT_TASKS_FIRST, .limit = limit};
    const struct knit_method method = {.name = knit_span_text("$/tasks")};
    struct knit_buffer params, bytes;

    knit_buffer_init(&params, BYTES_MAX);
    knit_buffer_init(&bytes, BYTES_MAX);
    assert_int_equal(knit_tasks_query_put(&params, &query), 0);
    assert_int_equal(
        knit_message_put_request(&bytes, 1, &method, knit_buffer_span(&params), NULL), 0);
    assert_int_equal(send(caller->fd, bytes.bytes, bytes.len, MSG_NOSIGNAL), bytes.len);
    knit_buffer_fini(&params);
    knit_buffer_fini(&bytes);
}

/* Whether the scan has seen the whole answer. */
static bool receive(int fd, struct knit_scan *scan, uint8_t *bytes, size_t *len)
{
    ssize_t got = recv(fd, bytes + *len, BYTES_MAX - *len, MSG_DONTWAIT);
    size_t used;
    int r;

    if (got <= 0)
        return false;
    r = knit_scan_feed(scan, bytes + *len, (size_t)got, &used);
    *len += (size_t)got;
    return r == KNIT_SCAN_E_DONE;
}

static uint32_t count_of_page(uint64_t limit, bool *ret_more)
{
    const struct knit_scan_limits limits = {.message_bytes = BYTES_MAX};
    struct turns_caller *caller = turns_connect();
    uint8_t *bytes = malloc(BYTES_MAX);
    struct knit_message message;
    struct knit_tasks_page page;
    struct knit_scan scan;
    struct knit_walk walk;
    struct knit_item item;
    const char *reason;
    uint32_t count = 0;
    size_t len = 0;

    ask(caller, limit);
    knit_scan_init(&scan, &limits);
    TURNS_UNTIL(receive(caller->fd, &scan, bytes, &len));
    assert_int_equal(knit_message_parse(bytes, len, &scan, &message, &reason), 0);
    assert_int_equal(knit_tasks_page_decode(message.result, &page, &reason), 0);
    assert_int_equal(knit_walk_array(&walk, page.tasks), 0);
    while (knit_walk_next(&walk, &item) == 0)
        count++;
    free(bytes);
    turns_leave(caller);
    *ret_more = page.more;
    return count;
}

static void a_page_has_as_many_tasks_as_it_was_asked_for(void **state)
{
    static const struct {
        uint64_t limit;
        uint32_t count;
    } cases[] = {{0, KNIT_TASKS_PAGE_DEFAULT}, {3, 3}, {257, 257}, {1000, 1000},
        {1024, KNIT_TASKS_PAGE_MAX}, {1025, KNIT_TASKS_PAGE_MAX}, {1000000, KNIT_TASKS_PAGE_MAX}};
    bool more;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(count_of_page(cases[i].limit, &more), cases[i].count);
        assert_true(more);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            a_page_has_as_many_tasks_as_it_was_asked_for, fill, turns_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
