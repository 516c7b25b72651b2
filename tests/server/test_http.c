/* SPDX-License-Identifier: Apache-2.0 */
/* Heads of requests: what is taken, and what each mistake is refused with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/admin/http.h"

#define GET "GET / HTTP/1.1\r\nHost: localhost\r\n"

/* In memory that is as long as the text. */
static int parse(const char *text, size_t len, struct knit_http_request *ret_request)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);
    int r;

    assert_non_null(copy);
    memcpy(copy, text, len);
    r = knit_http_parse(copy, len, ret_request);
    if (r == 0) {
        assert_true(ret_request->path.bytes >= copy && ret_request->path.bytes < copy + len);
        ret_request->path.bytes = (const uint8_t *)text + (ret_request->path.bytes - copy);
        if (ret_request->host.bytes != NULL)
            ret_request->host.bytes = (const uint8_t *)text + (ret_request->host.bytes - copy);
    }
    free(copy);
    return r;
}

static void a_request_has_its_path_and_its_host(void **state)
{
    static const struct {
        const char *text, *path, *host;
        bool is_head, is_cross_site;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "/", "localhost", false, false},
        {"HEAD /stats HTTP/1.1\r\nhost:127.0.0.1:5650\r\n\r\n", "/stats", "127.0.0.1:5650", true,
            false},
        {"GET /a?b=c?d HTTP/1.1\r\nHOST: \t x.example \t\r\n\r\n", "/a", "x.example", false, false},
        {"GET /livez HTTP/1.0\r\n\r\n", "/livez", NULL, false, false},
        {GET "Sec-Fetch-Site: cross-site\r\n\r\n", "/", "localhost", false, true},
        {GET "sec-fetch-site:CROSS-SITE \r\nSec-Fetch-Site: none\r\n\r\n", "/", "localhost", false,
            true},
        {GET "Sec-Fetch-Site: same-origin\r\n\r\n", "/", "localhost", false, false},
        {GET "Content-Length: 0\r\nX: \xc3\xa4\r\nEmpty:\r\n\r\n", "/", "localhost", false, false},
        {GET "\r\nGET /behind HTTP/1.1\r\n\r\n", "/", "localhost", false, false},
        {"GET / HTTP/1.1\r\nHost:\r\n\r\n", "/", "", false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct knit_http_request request;

        assert_int_equal(parse(cases[i].text, strlen(cases[i].text), &request), 0);
        assert_true(knit_span_is(request.path, cases[i].path));
        if (cases[i].host == NULL)
            assert_null(request.host.bytes);
        else
            assert_true(knit_span_is(request.host, cases[i].host));
        assert_int_equal(request.is_head, cases[i].is_head);
        assert_int_equal(request.is_cross_site, cases[i].is_cross_site);
    }
}

static void each_mistake_has_its_status(void **state)
{
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"GET /\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n\r\n", 400}, /* no Host */
        {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400},
        {"GET / http/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400},
        {GET "Host: localhost\r\n\r\n", 400},
        {GET "Broken\r\n\r\n", 400},
        {GET "Broken : a\r\n\r\n", 400},
        {GET ": a\r\n\r\n", 400},
        {GET "A: b\r\n folded\r\n\r\n", 400},
        {GET "A: \x01\r\n\r\n", 400},
        {GET "A: \x7f\r\n\r\n", 400},
        {GET "Content-Length: 1\r\n\r\nx", 400},
        {GET "Content-Length: +0\r\n\r\n", 400},
        {GET "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 405},
        {"get / HTTP/1.1\r\nHost: a\r\n\r\n", 405},
        {"OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n", 405},
        {"GETS / HTTP/1.1\r\n\r\n", 405},
    };
    struct knit_http_request request;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(parse(cases[i].text, strlen(cases[i].text), &request), cases[i].status);
    assert_int_equal(parse("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 29, &request), 400);
}

static void a_head_is_awaited_up_to_its_limit(void **state)
{
    static char text[KNIT_HTTP_HEAD_MAX + 16];
    static const char head[] = GET "A: ";
    struct knit_http_request request;

    (void)state;
    memset(text, 'a', sizeof(text));
    memcpy(text, head, sizeof(head) - 1);
    for (size_t i = 0; i < KNIT_HTTP_HEAD_MAX; i++)
        assert_int_equal(parse(text, i, &request), KNIT_HTTP_E_SHORT);
    assert_int_equal(parse(text, KNIT_HTTP_HEAD_MAX, &request), 431);
    memcpy(text + KNIT_HTTP_HEAD_MAX - 4, "\r\n\r\n", 4);
    assert_int_equal(parse(text, KNIT_HTTP_HEAD_MAX - 1, &request), KNIT_HTTP_E_SHORT);
    assert_int_equal(parse(text, KNIT_HTTP_HEAD_MAX, &request), 0);
    memcpy(text + KNIT_HTTP_HEAD_MAX - 4, "a\r\n\r\n", 5);
    assert_int_equal(parse(text, KNIT_HTTP_HEAD_MAX + 1, &request), 431);
}

static void a_host_is_a_number_or_a_name_that_is_known(void **state)
{
    static const char *const names[] = {"daemon.example", "b", NULL};
    static const struct {
        const char *host;
        bool is_known;
    } cases[] = {{"127.0.0.1", true}, {"127.0.0.1:5650", true}, {"192.0.2.7:80", true},
        {"[::1]", true}, {"[::1]:5650", true}, {"[2001:db8::7]:1", true}, {"localhost", true},
        {"LocalHost:5650", true}, {"daemon.example", true}, {"Daemon.Example:8080", true},
        {"b", true}, {"", false}, {":5650", false}, {"a", false}, {"daemon.example.", false},
        {"xdaemon.example", false}, {"localhost.evil.example", false}, {"127.0.0.1.evil", false},
        {"127.1", false}, {"0x7f.0.0.1", false}, {"::1", false}, {"[::1", false}, {"[]", false},
        {"[localhost]", false}, {"[127.0.0.1]", false}, {"[b]", false}, {"localhost:", true},
        {"localhost:x", false}, {"localhost:123456", false}, {"localhost:1:2", false},
        {"[::1]x", false}, {"a@localhost", false}, {"localhost, evil", false}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(
            knit_http_host_is_known(knit_span_text(cases[i].host), names), cases[i].is_known);
    assert_false(knit_http_host_is_known(knit_span_text("b"), NULL));
    assert_false(knit_http_host_is_known(knit_span("b\0", 2), names));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_has_its_path_and_its_host),
        cmocka_unit_test(each_mistake_has_its_status),
        cmocka_unit_test(a_head_is_awaited_up_to_its_limit),
        cmocka_unit_test(a_host_is_a_number_or_a_name_that_is_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
