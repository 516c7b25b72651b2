/* SPDX-License-Identifier: Apache-2.0 */
/* What is shown by HTTP, as text: JSON of the daemon's values, and metrics. Names and labels of
 * metrics are a promise to those who read them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/writer.h"
#include "server/admin/json.h"
#include "server/admin/metrics.h"

static struct knit_stats stats = {.version = "1.2.3",
    .uptime_ms = 12034,
    .connections = 13,
    .face_requests = 74,
    .face_pauses = 73,
    .face_busy_ns = 72000000071,
    .counters = {.calls_answered = 21,
        .calls_failed = 22,
        .calls_overloaded = 23,
        .calls_in_flight = 24,
        .argument_bytes = 25,
        .calls_waiting = 26,
        .calls_unknown = 27,
        .connections_unix = 7,
        .connections_tls = 2,
        .bytes_in = UINT64_MAX,
        .work_waiting_us = 1000002},
    .host = {.pool = {.lanes = 2,
                 .sessions = 5,
                 .foreign_sessions = 3,
                 .memory_bytes = 31,
                 .memory_max_bytes = 32,
                 .deaths_by = {[KNIT_HOST_DEATH_SIGNAL] = 41, [KNIT_HOST_DEATH_HARD_TIMEOUT] = 42},
                 .is_degraded = true},
        .deaths = {{.task = "crash", .deaths = 51}},
        .deaths_count = 1,
        .lanes = {{.state = KNIT_HOST_LANE_SERVING, .calls = 61, .busy_ns = 2000000003},
            {.state = KNIT_HOST_LANE_VACANT, .calls = 62}}}};

static void metrics_have_a_help_and_a_type_each(void **state)
{
    static const struct knit_metrics_main more = {.accepted = {71, 72, 73},
        .connections_max = 75,
        .slots = 76,
        .argument_bytes = 77,
        .expiries = {{"\"b\"\\c\nd", 1234567890}, {"/e", -1}},
        .expiries_count = 2};
    static const char *const lines[] = {"knitting_build_info{version=\"1.2.3\"} 1",
        "knitting_uptime_seconds 12.034", "knitting_connections{transport=\"tcp\"} 4",
        "knitting_connections{transport=\"unix\"} 7", "knitting_connections{transport=\"tls\"} 2",
        "knitting_connections_limit 75", "knitting_calls_in_flight_limit 76",
        "knitting_request_arena_limit_bytes 77", "knitting_request_arena_bytes 25",
        "knitting_calls_waiting 26", "knitting_calls_refused_total{reason=\"unknown_task\"} 27",
        "knitting_connections_accepted_total{transport=\"tcp\"} 71",
        "knitting_connections_accepted_total{transport=\"unix\"} 72",
        "knitting_connections_accepted_total{transport=\"tls\"} 73",
        "knitting_admin_requests_total 74", "knitting_admin_pauses_total 73",
        "knitting_admin_busy_seconds_total 72.000000071",
        "knitting_socket_calls_total{outcome=\"result\"} 21",
        "knitting_socket_calls_total{outcome=\"error\"} 22",
        "knitting_calls_refused_total{reason=\"overloaded\"} 23", "knitting_calls_in_flight 24",
        "knitting_received_bytes_total 18446744073709551615",
        "knitting_waiting_work_seconds 1.000002", "knitting_sessions{kind=\"loop\"} 2",
        "knitting_sessions{kind=\"shm\"} 3", "knitting_memory_bytes 31",
        "knitting_memory_limit_bytes 32", "knitting_worker_deaths_total{reason=\"signal\"} 41",
        "knitting_worker_deaths_total{reason=\"hard_timeout\"} 42",
        "knitting_worker_deaths_total{reason=\"exit\"} 0", "knitting_degraded 1",
        "knitting_task_worker_deaths_total{task=\"crash\"} 51",
        "knitting_workers{state=\"serving\"} 1", "knitting_workers{state=\"vacant\"} 1",
        "knitting_lane_calls_total{lane=\"0\"} 61", "knitting_lane_calls_total{lane=\"1\"} 62",
        "knitting_lane_busy_seconds_total{lane=\"0\"} 2.000000003",
        "knitting_certificate_expiry_timestamp_seconds{file=\"\\\"b\\\"\\\\c\\nd\"} 1234567890",
        "knitting_certificate_expiry_timestamp_seconds{file=\"/e\"} 0"};
    struct knit_buffer buffer;
    char *text, *line, *rest, name[128] = "";

    (void)state;
    knit_buffer_init(&buffer, 1 << 20);
    assert_int_equal(knit_buffer_append(&buffer, "\n", 1), 0);
    assert_int_equal(knit_metrics_put(&buffer, &stats, &more, NULL), 0);
    assert_int_equal(knit_buffer_append(&buffer, "", 1), 0);
    text = (char *)buffer.bytes;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        char whole[256];

        (void)snprintf(whole, sizeof(whole), "\n%s\n", lines[i]);
        if (strstr(text, whole) == NULL)
            fail_msg("%s is missing", lines[i]);
    }
    /* Samples stand below the help and type of their name, which come once. */
    for (line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        size_t len;

        if (strncmp(line, "# HELP ", 7) == 0) {
            len = strcspn(line + 7, " ");
            memcpy(name, line + 7, len);
            name[len] = '\0';
            assert_int_not_equal(line[7 + len + 1], '\0');
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            assert_int_equal(strncmp(line + 7, name, strlen(name)), 0);
        } else {
            assert_int_equal(strcspn(line, "{ "), strlen(name));
            assert_int_equal(strncmp(line, name, strlen(name)), 0);
        }
    }
    knit_buffer_fini(&buffer);
}

static void metrics_that_find_no_room_are_an_error(void **state)
{
    static const struct knit_metrics_main more = {.turned_away = 0};
    struct knit_buffer buffer;

    (void)state;
    knit_buffer_init(&buffer, 1000);
    assert_int_equal(knit_metrics_put(&buffer, &stats, &more, NULL), KNIT_BUFFER_E_FULL);
    knit_buffer_fini(&buffer);
}

static void expect_json(struct knit_buffer *value, const char *expected)
{
    struct knit_buffer text;

    knit_buffer_init(&text, 1 << 16);
    assert_int_equal(knit_json_put(&text, knit_buffer_span(value)), 0);
    assert_int_equal(text.len, strlen(expected));
    assert_memory_equal(text.bytes, expected, text.len);
    knit_buffer_fini(&text);
    knit_buffer_reset(value);
}

static void values_are_written_as_json(void **state)
{
    struct knit_buffer value;
    struct knit_writer writer;

    (void)state;
    knit_buffer_init(&value, 1 << 16);
    knit_writer_init(&writer, &value);
    knit_writer_map(&writer, 6);
    knit_writer_member_uint(&writer, "n", UINT64_MAX);
    knit_writer_text(&writer, "m");
    knit_writer_int(&writer, INT64_MIN);
    knit_writer_member_bool(&writer, "b", true);
    knit_writer_text(&writer, "l");
    knit_writer_array(&writer, 3);
    knit_writer_nil(&writer);
    knit_writer_bool(&writer, false);
    knit_writer_map(&writer, 0);
    knit_writer_text(&writer, "\"\\");
    knit_writer_str(&writer, "a\n\x01\"\xc3\xa4/", 7);
    knit_writer_text(&writer, "");
    knit_writer_array(&writer, 0);
    assert_int_equal(knit_writer_end(&writer), 0);
    expect_json(&value, "{\"n\":18446744073709551615,\"m\":-9223372036854775808,\"b\":true,\"l\":["
                        "null,false,{}],\"\\\"\\\\\":\"a\\u000a\\u0001\\\"\xc3\xa4/\",\"\":[]}");
    knit_writer_init(&writer, &value);
    knit_writer_text(&writer, "alone");
    assert_int_equal(knit_writer_end(&writer), 0);
    expect_json(&value, "\"alone\"");
    knit_buffer_fini(&value);
}

static void what_is_none_of_the_daemon_s_values_is_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {{"", 0}, {"\xc1", 1}, {"\xc4\x01x", 3}, {"\xcb\x3f\xf0\0\0\0\0\0\0", 9},
        {"\x91\xc4\x01x", 4}, {"\x92\x01", 2}, {"\xa2x", 2}, {"\x81\xa1k", 3}};
    uint8_t deep[64];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct knit_buffer text;

        knit_buffer_init(&text, 1 << 16);
        assert_int_equal(knit_json_put(&text, knit_span(cases[i].bytes, cases[i].len)), -EINVAL);
        knit_buffer_fini(&text);
    }
    memset(deep, 0x91, sizeof(deep));
    deep[sizeof(deep) - 1] = 0xc0;
    {
        struct knit_buffer text;

        knit_buffer_init(&text, 1 << 16);
        assert_int_equal(knit_json_put(&text, knit_span(deep, sizeof(deep))), -EINVAL);
        knit_buffer_fini(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics_have_a_help_and_a_type_each),
        cmocka_unit_test(metrics_that_find_no_room_are_an_error),
        cmocka_unit_test(values_are_written_as_json),
        cmocka_unit_test(what_is_none_of_the_daemon_s_values_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
