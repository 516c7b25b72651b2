/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: every form of URL the header names is taken apart as it says, and every mistake gets a
 * sentence. Method: tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "clients/lib/url.h"

static void tcp_urls_give_host_and_port(void **state)
{
    static const struct {
        const char *text, *host, *port;
        bool is_encrypted;
    } cases[] = {
        {"knit://localhost", "localhost", "5648"},
        {"knit://localhost/", "localhost", "5648"},
        {"knit://127.0.0.1:1", "127.0.0.1", "1"},
        {"knit://example.org:65535", "example.org", "65535"},
        {"knit://[::1]", "::1", "5648"},
        {"knit://[fe80::1%eth0]:99", "fe80::1%eth0", "99"},
        {"knit://h:00080", "h", "80"},
        {"knits://localhost", "localhost", "5649", true},
        {"knits://[::1]", "::1", "5649", true},
        {"knits://h:5648", "h", "5648", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct knit_url url;
        const char *reason = NULL;

        assert_int_equal(knit_url_parse(cases[i].text, &url, &reason), 0);
        assert_int_equal(url.scheme, KNIT_URL_TCP);
        assert_string_equal(url.host, cases[i].host);
        assert_string_equal(url.port, cases[i].port);
        assert_int_equal(url.is_encrypted, cases[i].is_encrypted);
    }
}

static void several_hosts_stand_with_commas_between_them(void **state)
{
    static const struct {
        const char *text, *reason;
    } wrong[] = {
        {"knit://a,", "no host is named"},
        {"knit://a, b", "a host has no blanks, and none stand beside it"},
        {"knit://a :1", "a host has no blanks, and none stand beside it"},
        {"knit://,a", "no host is named"},
        {"knit://a:0,b", "the port must be a number from 1 to 65535"},
        {"knit://a,b/c", "behind the host only :PORT may stand, and no path"},
        {"knit://a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q", "more than 16 hosts are named"},
    };
    struct knit_url urls[KNIT_URLS_MAX];
    const char *reason;
    uint32_t count;

    (void)state;
    assert_int_equal(knit_url_parse_list("knits://a:1,[::1],b", urls, &count, &reason), 0);
    assert_int_equal(count, 3);
    assert_string_equal(urls[0].host, "a");
    assert_string_equal(urls[0].port, "1");
    assert_string_equal(urls[1].host, "::1");
    assert_string_equal(urls[1].port, "5649");
    assert_true(urls[2].is_encrypted);
    assert_int_equal(knit_url_parse_list("unix:///a,b", urls, &count, &reason), 0);
    assert_int_equal(count, 1);
    assert_string_equal(urls[0].path, "/a,b");
    assert_int_equal(
        knit_url_parse_list("knit://a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p", urls, &count, &reason), 0);
    assert_int_equal(count, KNIT_URLS_MAX);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(knit_url_parse_list(wrong[i].text, urls, &count, &reason), KNIT_URL_E_BAD);
        assert_string_equal(reason, wrong[i].reason);
    }
}

static void paths_are_taken_as_they_stand(void **state)
{
    struct knit_url url;
    const char *reason;

    (void)state;
    assert_int_equal(knit_url_parse("unix:///run/a%20b.sock", &url, &reason), 0);
    assert_int_equal(url.scheme, KNIT_URL_UNIX);
    assert_string_equal(url.path, "/run/a%20b.sock");
    assert_int_equal(knit_url_parse("shm:///s", &url, &reason), 0);
    assert_int_equal(url.scheme, KNIT_URL_SHM);
    assert_string_equal(url.path, "/s");
}

static void a_path_of_107_bytes_fits_and_one_more_does_not(void **state)
{
    char text[7 + 109];
    struct knit_url url;
    const char *reason;

    (void)state;
    memset(text, 'a', sizeof(text));
    memcpy(text, "unix:///", 8);
    text[7 + 107] = '\0';
    assert_int_equal(knit_url_parse(text, &url, &reason), 0);
    assert_int_equal(strlen(url.path), 107);
    text[7 + 107] = 'a';
    text[7 + 108] = '\0';
    assert_int_equal(knit_url_parse(text, &url, &reason), KNIT_URL_E_BAD);
    assert_non_null(strstr(reason, "107"));
}

static void the_scheme_stands_once_before_several_hosts(void **state)
{
    static const char *const texts[] = {
        "knit://a,knit://b", "knit://a:1,knit://b:2", "knits://a,knits://[::1]:5,c"};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct knit_url urls[KNIT_URLS_MAX];
        const char *reason = NULL;
        uint32_t count;

        assert_int_equal(knit_url_parse_list(texts[i], urls, &count, &reason), KNIT_URL_E_BAD);
        assert_non_null(strstr(reason, "stands once, before the first host"));
    }
}

static void mistakes_are_named(void **state)
{
    static const struct {
        const char *text, *reason;
    } cases[] = {
        {"", "begin with"},
        {"localhost", "begin with"},
        {"http://localhost", "begin with"},
        {"knit://", "no host"},
        {"knits://", "no host"},
        {"knits:///run/a", "no host"},
        {"knit://:5", "no host"},
        {"knit://[::1", "bracket"},
        {"knit://[]", "no host"},
        {"knit://::1", "in brackets"},
        {"knit://fe80::1:5648", "in brackets"},
        {"knit://knit://h:5648", "stands once"},
        {"knits://knits://h", "stands once"},
        {"knit://h:", "port"},
        {"knit://h:0", "port"},
        {"knit://h:65536", "port"},
        {"knit://h:99999999999999999999", "port"},
        {"knit://h:5x", "port"},
        {"knit://h:-5", "port"},
        {"knit://h/path", "only :PORT"},
        {"knit://h:1/x", "no path"},
        {"unix://relative", "absolute"},
        {"shm://", "absolute"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct knit_url url;
        const char *reason = NULL;

        assert_int_equal(knit_url_parse(cases[i].text, &url, &reason), KNIT_URL_E_BAD);
        if (strstr(reason, cases[i].reason) == NULL)
            fail_msg("\"%s\": %s", cases[i].text, reason);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tcp_urls_give_host_and_port),
        cmocka_unit_test(several_hosts_stand_with_commas_between_them),
        cmocka_unit_test(paths_are_taken_as_they_stand),
        cmocka_unit_test(a_path_of_107_bytes_fits_and_one_more_does_not),
        cmocka_unit_test(the_scheme_stands_once_before_several_hosts),
        cmocka_unit_test(mistakes_are_named),
    };

    return cmocka_run_group_tests_name("url", tests, NULL, NULL);
}
