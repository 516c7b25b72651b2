/* SPDX-License-Identifier: Apache-2.0 */
/* Where spans go: what is taken, into which parts, and that nothing is taken which a request's head
 * could not hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "server/config/collector_url.h"

#define KEY "log.otlp_endpoint"

static int parse(const char *text, struct knit_collector_url *ret_url, struct knit_sentence *why)
{
    *why = (struct knit_sentence){""};
    return knit_collector_url_parse(KEY, text, ret_url, why);
}

static void a_url_has_host_port_path_and_authority(void **state)
{
    static const struct {
        const char *text, *host, *port, *path, *authority;
    } cases[] = {
        {KNIT_COLLECTOR_EXAMPLE, "127.0.0.1", "4318", "/v1/traces", "127.0.0.1:4318"},
        {"http://collector", "collector", "80", "/v1/traces", "collector"},
        {"http://collector/", "collector", "80", "/v1/traces", "collector"},
        {"http://a.example:1/x", "a.example", "1", "/x", "a.example:1"},
        {"http://a:65535/x/y?z=1&k=%20", "a", "65535", "/x/y?z=1&k=%20", "a:65535"},
        {"http://a:00080", "a", "00080", "/v1/traces", "a:00080"},
        {"http://a:4318//", "a", "4318", "//", "a:4318"},
        {"http://[::1]:4318/v1/traces", "::1", "4318", "/v1/traces", "[::1]:4318"},
        {"http://[::1]", "::1", "80", "/v1/traces", "[::1]"},
        {"http://[::1]/a:b", "::1", "80", "/a:b", "[::1]"},
        {"http://[fe80::1%25eth0]:1/", "fe80::1%25eth0", "1", "/v1/traces", "[fe80::1%25eth0]:1"},
        {"http://[::ffff:127.0.0.1]:1", "::ffff:127.0.0.1", "1", "/v1/traces",
            "[::ffff:127.0.0.1]:1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct knit_collector_url url;
        struct knit_sentence why;

        assert_int_equal(parse(cases[i].text, &url, &why), 0);
        assert_string_equal(url.host, cases[i].host);
        assert_string_equal(url.port, cases[i].port);
        assert_string_equal(url.path, cases[i].path);
        assert_string_equal(url.authority, cases[i].authority);
    }
}

static void what_is_none_is_refused_with_an_example(void **state)
{
    static const char *const bad[] = {"", "http", "http:", "http:/", "http://", "http:///v1/traces",
        "127.0.0.1:4318", "HTTP://a", "ftp://a", "http//a", " http://a", "http://a ",
        "http://:4318", "http://a:", "http://a:/", "http://a:0", "http://a:-1", "http://a:+1",
        "http://a: 1", "http://a:1x", "http://a:65536", "http://a:99999999999999999999",
        "http://a:000080", "http://a:1:2", "http://::1:4318", "http://[]", "http://[", "http://]",
        "http://[::1", "http://::1]", "http://[::1]x", "http://[::1]4318",
        "http://[::1]:", "http://[::1]:0", "http://[[::1]]", "http://[127.0.0.1]:1", "http://[a]",
        "http://a]b", "http://a[b", "http://user@a", "http://user:word@a", "http://a?x",
        "http://a:1?x", "http://a/#x", "http://a/b c", "http://a\r\nX: y/", "http://a/\r\nX:y",
        "http://a/\n", "http://a/\t", "http://a/\x01", "http://a/\x7f", "http://a/\xc3\xa4",
        "http://\xff", "http://a/\"", "http://a/<", "http://a/\\", "http://a/{x}", "http://a/|",
        "http://a/^", "http://a/`"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct knit_collector_url url;
        struct knit_sentence why;

        if (parse(bad[i], &url, &why) == 0)
            fail_msg("'%s' was taken: '%s', '%s', '%s'", bad[i], url.host, url.port, url.path);
        assert_non_null(strstr(why.text, KEY ": expected http://HOST:PORT/PATH"));
        assert_non_null(strstr(why.text, KNIT_COLLECTOR_EXAMPLE));
    }
}

static void https_is_refused_with_the_reason(void **state)
{
    struct knit_collector_url url;
    struct knit_sentence why;

    (void)state;
    assert_int_not_equal(parse("https://collector.example/v1/traces", &url, &why), 0);
    assert_non_null(strstr(why.text, KEY ": spans go by http alone"));
    assert_non_null(strstr(why.text, KNIT_COLLECTOR_EXAMPLE));
}

/* A text of "http://", so many of one character, and the rest. */
static int parse_long(size_t count, char c, const char *behind, struct knit_collector_url *ret_url)
{
    struct knit_sentence why;
    char text[1024] = "http://", *at = text + strlen(text);

    memset(at, c, count);
    (void)snprintf(at + count, sizeof(text) - (size_t)(at - text) - count, "%s", behind);
    return parse(text, ret_url, &why);
}

static void what_does_not_fit_is_refused_and_not_cut(void **state)
{
    struct knit_collector_url url;
    struct knit_sentence why;
    char text[600] = "http://a/";

    (void)state;
    assert_int_equal(parse_long(sizeof(url.host) - 1, 'a', ":65535", &url), 0);
    assert_int_equal(strlen(url.host), sizeof(url.host) - 1);
    assert_string_equal(url.port, "65535");
    assert_int_not_equal(parse_long(sizeof(url.host), 'a', ":65535", &url), 0);
    assert_int_not_equal(parse_long(sizeof(url.authority), 'a', "", &url), 0);
    memset(text + 9, 'x', sizeof(url.path) - 2);
    assert_int_equal(parse(text, &url, &why), 0);
    assert_int_equal(strlen(url.path), sizeof(url.path) - 1);
    text[9 + sizeof(url.path) - 2] = 'x';
    assert_int_not_equal(parse(text, &url, &why), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_url_has_host_port_path_and_authority),
        cmocka_unit_test(what_is_none_is_refused_with_an_example),
        cmocka_unit_test(https_is_refused_with_the_reason),
        cmocka_unit_test(what_does_not_fit_is_refused_and_not_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
