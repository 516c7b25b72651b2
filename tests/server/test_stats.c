/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics as they are written: the keys, all of them and in their order, and the value of each.
 * The keys are a promise to those who read `$/stats`.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fastpath/control/image.h"
#include "proto/buffer.h"
#include "proto/walk.h"
#include "server/admin/stats.h"

static struct knit_span value_of(struct knit_span map, const char *key)
{
    struct knit_item item;

    assert_int_equal(knit_walk_find(map, key, &item), 0);
    return item.raw;
}

static uint64_t number_of(struct knit_span map, const char *key)
{
    struct knit_item item;
    uint64_t value = 0;

    assert_int_equal(knit_walk_find(map, key, &item), 0);
    assert_true(knit_item_uint(&item, &value));
    return value;
}

/* The map has these keys, separated by a blank, and no others. */
static void expect_keys(struct knit_span map, const char *keys)
{
    struct knit_walk walk;
    struct knit_item item;

    assert_int_equal(knit_walk_map(&walk, map), 0);
    while (*keys != '\0') {
        size_t len = strcspn(keys, " ");

        assert_int_equal(knit_walk_next(&walk, &item), 0);
        assert_int_equal(item.key.len, len);
        assert_memory_equal(item.key.bytes, keys, len);
        keys += len + (keys[len] == ' ');
    }
    assert_int_equal(knit_walk_next(&walk, &item), KNIT_WALK_E_END);
}

static void expect_text(struct knit_span map, const char *key, const char *text)
{
    struct knit_span raw = value_of(map, key);

    assert_int_equal(raw.len, 1 + strlen(text));
    assert_int_equal(raw.bytes[0], 0xa0 | strlen(text));
    assert_memory_equal(raw.bytes + 1, text, strlen(text));
}

static void expect_deaths(struct knit_span all)
{
    struct knit_walk walk;
    struct knit_item item;

    assert_int_equal(knit_walk_array(&walk, value_of(all, "tasks")), 0);
    assert_int_equal(knit_walk_next(&walk, &item), 0);
    expect_keys(item.raw, "task deaths signal quarantined");
    assert_int_equal(number_of(item.raw, "deaths"), 51);
    assert_int_equal(number_of(item.raw, "signal"), 11);
    assert_int_equal(knit_walk_next(&walk, &item), KNIT_WALK_E_END);
}

static void expect_lane(struct knit_span all)
{
    struct knit_span lane;
    struct knit_walk walk;
    struct knit_item item;

    assert_int_equal(knit_walk_array(&walk, value_of(all, "lanes")), 0);
    assert_int_equal(knit_walk_next(&walk, &item), 0);
    lane = item.raw;
    expect_keys(
        lane, "state pid is_parked is_running calls stolen late denied parks busy_ns deaths");
    assert_int_equal(number_of(lane, "pid"), 41);
    assert_int_equal(number_of(lane, "calls"), 42);
    assert_int_equal(number_of(lane, "busy_ns"), 43);
    assert_int_equal(knit_walk_next(&walk, &item), KNIT_WALK_E_END);
}

static void expect_pool(struct knit_span pool)
{
    expect_keys(pool,
        "lanes lanes_serving is_degraded sessions foreign_sessions closing_sessions memory_bytes "
        "deaths hard_timeouts condemned recovered quarantined output_dropped "
        "output_dropped_bytes wake_mode futex_waitv wakes_relayed confinement");
    expect_text(pool, "wake_mode", "relayed");
    expect_text(pool, "futex_waitv", "EPERM");
    assert_int_equal(number_of(pool, "wakes_relayed"), 33);
    assert_int_equal(number_of(pool, "sessions"), 31);
    assert_int_equal(number_of(pool, "condemned"), 32);
    assert_int_equal(*(const uint8_t *)value_of(pool, "is_degraded").bytes, 0xc3);
    expect_keys(value_of(pool, "confinement"),
        "permission landlock_abi privileges files ports scopes calls");
    assert_int_equal(number_of(value_of(pool, "confinement"), "landlock_abi"), 0);
}

static void every_number_stands_under_its_key(void **state)
{
    static const struct knit_image worker = {.path = "/w"};
    static struct knit_stats stats = {.version = "1.2.3",
        .pid = 11,
        .uptime_ms = 12,
        .connections = 13,
        .log_dropped = 14,
        .log_left_out = 15,
        .face_requests = 16,
        .face_pauses = 17,
        .face_busy_ns = 18,
        .loops = 2,
        .counters = {.connections_accepted = 21, .calls_published = 22, .sleeps = 23},
        .host = {.pool = {.lanes = 1,
                     .lanes_serving = 1,
                     .is_degraded = true,
                     .sessions = 31,
                     .evicted = 32,
                     .wait_error = EPERM,
                     .relayed = 33,
                     .confinement = {.landlock_abi = -1}},
            .deaths = {{.task = "crash", .deaths = 51, .signal = 11, .is_quarantined = true}},
            .deaths_count = 1,
            .lanes = {{.state = KNIT_HOST_LANE_SERVING, .pid = 41, .calls = 42, .busy_ns = 43}},
            .images = &worker,
            .images_count = 1}};
    struct knit_buffer buffer;
    struct knit_span all, loops;

    (void)state;
    knit_buffer_init(&buffer, 1 << 16);
    assert_int_equal(knit_stats_put(&buffer, &stats), 0);
    all = knit_buffer_span(&buffer);
    expect_keys(all,
        "version pid uptime_ms connections log_dropped log_left_out admin loops pool tasks "
        "lanes worker modules");
    assert_int_equal(number_of(all, "pid"), 11);
    assert_int_equal(number_of(all, "uptime_ms"), 12);
    assert_int_equal(number_of(all, "connections"), 13);
    assert_int_equal(number_of(all, "log_dropped"), 14);
    assert_int_equal(number_of(all, "log_left_out"), 15);
    expect_keys(value_of(all, "admin"), "requests pauses busy_ns");
    assert_int_equal(number_of(value_of(all, "admin"), "requests"), 16);
    assert_int_equal(number_of(value_of(all, "admin"), "pauses"), 17);
    assert_int_equal(number_of(value_of(all, "admin"), "busy_ns"), 18);

    loops = value_of(all, "loops");
    expect_keys(loops,
        "count connections_accepted connections_closed connections_unix connections_tls "
        "handshakes_done handshakes_failed handshakes_resumed authentications "
        "authentications_failed strangers_refused strangers_dropped bytes_in bytes_out requests "
        "notifications notifications_dropped "
        "messages_bad calls_in_flight calls_published calls_answered calls_failed calls_timed_out "
        "calls_cancelled calls_overloaded calls_denied calls_over_quota calls_unknown "
        "calls_too_large calls_malformed calls_draining calls_waiting argument_bytes "
        "references_bound "
        "references_over keys_joined keys_repeated keys_refused waits_for_slot waits_for_limit "
        "waits_for_reader waits_for_room work_waiting_us readers_dropped inputs_dropped "
        "access_dropped spans_sent spans_dropped turns "
        "sleeps");
    assert_int_equal(number_of(loops, "count"), 2);
    assert_int_equal(number_of(loops, "connections_accepted"), 21);
    assert_int_equal(number_of(loops, "calls_published"), 22);

    expect_pool(value_of(all, "pool"));
    expect_deaths(all);
    expect_lane(all);
    knit_buffer_fini(&buffer);
}

static void what_workers_are_made_of_is_told_without_its_folder(void **state)
{
    static const struct knit_image images[] = {
        {.path = "/a/w", .build_id = "0a0b", .is_frozen = true}, {.path = "/b/\xff.so"},
        {.path = "/c/m.so"}};
    static struct knit_stats stats = {
        .version = "1.2.3", .host = {.images = images, .images_count = 3}};
    struct knit_buffer buffer;
    struct knit_span all;
    struct knit_walk walk;
    struct knit_item item;

    (void)state;
    knit_buffer_init(&buffer, 1 << 16);
    assert_int_equal(knit_stats_put(&buffer, &stats), 0);
    all = knit_buffer_span(&buffer);
    expect_keys(value_of(all, "worker"), "file build_id is_frozen");
    expect_text(value_of(all, "worker"), "file", "w");
    expect_text(value_of(all, "worker"), "build_id", "0a0b");
    assert_int_equal(*(const uint8_t *)value_of(value_of(all, "worker"), "is_frozen").bytes, 0xc3);
    assert_int_equal(knit_walk_array(&walk, value_of(all, "modules")), 0);
    assert_int_equal(knit_walk_next(&walk, &item), 0);
    expect_text(item.raw, "file", "?");
    assert_int_equal(knit_walk_next(&walk, &item), 0);
    expect_text(item.raw, "file", "m.so");
    expect_text(item.raw, "build_id", "");
    assert_int_equal(*(const uint8_t *)value_of(item.raw, "is_frozen").bytes, 0xc2);
    assert_int_equal(knit_walk_next(&walk, &item), KNIT_WALK_E_END);
    knit_buffer_fini(&buffer);
}

static void counters_of_loops_are_added_up(void **state)
{
    static struct knit_counters first, second;
    struct knit_counter_values sum = {0};

    (void)state;
    knit_counter_add(&first.connections_accepted, 5);
    knit_counter_add(&second.connections_accepted, 7);
    knit_counter_add(&second.connections_closed, 4);
    knit_counter_add(&first.sleeps, 1);
    knit_counters_sum(&sum, &first);
    knit_counters_sum(&sum, &second);
    assert_int_equal(sum.connections_accepted, 12);
    assert_int_equal(sum.sleeps, 1);
    assert_int_equal(knit_counters_open_connections(&sum), 8);
    /* Another thread may have counted the end of one between the two readings. */
    sum.connections_closed = 13;
    assert_int_equal(knit_counters_open_connections(&sum), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_stands_under_its_key),
        cmocka_unit_test(what_workers_are_made_of_is_told_without_its_folder),
        cmocka_unit_test(counters_of_loops_are_added_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
