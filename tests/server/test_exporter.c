/* SPDX-License-Identifier: Apache-2.0 */
/* Spans on their way to a collector that does not take them at once: the same are sent again, after
 * the time that it asked for, and none is lost or counted twice. */
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/report/exporter.h"
#include "tests/server/log_pipe.h"
#include "tests/support/deadline.h"

enum { PATIENCE_MS = 60000, REQUESTS_MAX = 4, REQUEST_MAX = 8192 };

#define OK    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
#define CLOSE ""

/* Gives one answer after the other. */
static struct {
    int listener;
    const char *const *answers; /* ended by NULL */
    pthread_t thread;
    _Atomic uint32_t count; /* of requests that have come, which are there then */
    char requests[REQUESTS_MAX][REQUEST_MAX];
    uint64_t came_ns[REQUESTS_MAX];
} collector;

static struct knit_exporter *exporter;
static struct log_pipe said;

/* ---- the collector ------------------------------------------------------------------------- */

static bool is_whole(const char *request)
{
    const char *body = strstr(request, "\r\n\r\n"), *field = strstr(request, "Content-Length: ");

    return body != NULL && field != NULL &&
           strlen(body + 4) == strtoul(field + strlen("Content-Length: "), NULL, 10);
}

static void *serve(void *arg)
{
    (void)arg;
    for (uint32_t i = 0; collector.answers[i] != NULL; i++) {
        const int fd = accept(collector.listener, NULL, NULL);
        char *request = collector.requests[i];
        size_t len = 0;
        ssize_t n = 1;

        if (fd < 0)
            break;
        while (n > 0 && !is_whole(request)) {
            n = recv(fd, request + len, REQUEST_MAX - 1 - len, 0);
            len += n > 0 ? (size_t)n : 0;
        }
        collector.came_ns[i] = knit_deadline_now_ns();
        atomic_store_explicit(&collector.count, i + 1, memory_order_release);
        if (collector.answers[i][0] != '\0')
            (void)!send(fd, collector.answers[i], strlen(collector.answers[i]), MSG_NOSIGNAL);
        (void)close(fd);
    }
    return NULL;
}

static uint32_t requests(void)
{
    return atomic_load_explicit(&collector.count, memory_order_acquire);
}

static const char *body_of(uint32_t request)
{
    const char *body = strstr(collector.requests[request], "\r\n\r\n");

    assert_non_null(body);
    return body + 4;
}

/* ---- the exporter -------------------------------------------------------------------------- */

static void begin(const char *const *answers)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    struct knit_exporter_options options = {
        .origin = {"knittingd", "0", "0"}, .log = &said.log, .loops = 1};
    struct knit_sentence why;
    char text[64];

    memset(&collector, 0, sizeof(collector));
    collector.answers = answers;
    collector.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(collector.listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(collector.listener, 1), 0);
    assert_int_equal(getsockname(collector.listener, (struct sockaddr *)&address, &len), 0);
    (void)snprintf(text, sizeof(text), "http://127.0.0.1:%u", ntohs(address.sin_port));
    assert_int_equal(knit_collector_url_parse("test", text, &options.url, &why), 0);
    assert_int_equal(pthread_create(&collector.thread, NULL, serve, NULL), 0);
    log_pipe_open(&said);
    assert_int_equal(knit_exporter_start(&options, &exporter, &why), 0);
}

static int teardown(void **state)
{
    (void)state;
    exporter = knit_exporter_stop(exporter);
    (void)shutdown(collector.listener, SHUT_RDWR);
    (void)pthread_join(collector.thread, NULL);
    (void)close(collector.listener);
    log_pipe_close(&said);
    return 0;
}

static void put(uint32_t calls)
{
    static const struct knit_trace trace = {.id = {1}, .span = {2}, .flags = KNIT_TRACE_SAMPLED};
    static const uint8_t parent[8] = {3};
    const struct knit_ended_call call = {.principal = "anonymous",
        .peer = "192.0.2.7:1",
        .task = knit_span_text("resize"),
        .trace = &trace,
        .parent = parent};

    for (uint32_t i = 0; i < calls; i++)
        assert_true(knit_exporter_put(exporter, 0, &call));
    assert_int_equal(knit_exporter_hand_over(exporter, 0), 0);
}

static uint64_t sent(void)
{
    return knit_counter_read(&knit_exporter_counters(exporter)->spans_sent);
}

static uint64_t dropped(void)
{
    return knit_counter_read(&knit_exporter_counters(exporter)->spans_dropped);
}

static void what_is_not_taken_is_sent_again_when_it_may_be(void **state)
{
    static const char *const answers[] = {
        "HTTP/1.1 429 Slow\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n", CLOSE, OK, NULL};

    (void)state;
    begin(answers);
    put(3);
    assert_true(KNIT_WAIT_UNTIL(sent() == 3, PATIENCE_MS));
    assert_int_equal(requests(), 3);
    assert_int_equal(dropped(), 0);
    assert_string_equal(body_of(1), body_of(0));
    assert_string_equal(body_of(2), body_of(0));
    assert_true(collector.came_ns[1] - collector.came_ns[0] >= UINT64_C(1000000000));
}

static void what_is_refused_for_good_is_counted_and_said(void **state)
{
    static const char *const answers[] = {"HTTP/1.1 400 No\r\n\r\n", OK, NULL};

    (void)state;
    begin(answers);
    put(2);
    assert_true(KNIT_WAIT_UNTIL(dropped() == 2, PATIENCE_MS));
    log_pipe_expect(&said, "reason=\"it answered 400\"");
    put(1);
    assert_true(KNIT_WAIT_UNTIL(sent() == 1, PATIENCE_MS));
    assert_int_equal(dropped(), 2);
    assert_int_equal(requests(), 2);
}

/* However long the collector wants to be left alone. */
static void what_waits_at_the_end_is_tried_once_more(void **state)
{
    static const char *const answers[] = {
        "HTTP/1.1 503 Busy\r\nRetry-After: 3600\r\n\r\n", OK, NULL};
    uint64_t began_ns;

    (void)state;
    begin(answers);
    put(2);
    assert_true(KNIT_WAIT_UNTIL(requests() == 1, PATIENCE_MS));
    began_ns = knit_deadline_now_ns();
    exporter = knit_exporter_stop(exporter);
    assert_int_equal(requests(), 2);
    assert_string_equal(body_of(1), body_of(0));
    assert_true(
        knit_deadline_now_ns() - began_ns < knit_deadline_stretched_ns(UINT64_C(10) * 1000000000));
}

static void any_name_of_the_service_will_do(void **state)
{
    struct knit_exporter_options options = {.log = &said.log, .loops = 1};
    struct knit_sentence why;
    char name[600];

    (void)state;
    memset(name, '\x01', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    options.origin = (struct knit_otlp_origin){name, "0123456789abcdef", "1.2.3"};
    assert_int_equal(
        knit_collector_url_parse("test", KNIT_COLLECTOR_EXAMPLE, &options.url, &why), 0);
    assert_int_equal(knit_exporter_start(&options, &exporter, &why), 0);
    exporter = knit_exporter_stop(exporter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(what_is_not_taken_is_sent_again_when_it_may_be, teardown),
        cmocka_unit_test_teardown(what_is_refused_for_good_is_counted_and_said, teardown),
        cmocka_unit_test_teardown(what_waits_at_the_end_is_tried_once_more, teardown),
        cmocka_unit_test(any_name_of_the_service_will_do),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
