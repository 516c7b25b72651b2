/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses: what is one, which of them others can reach, and that a port has one listener. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/net/endpoint.h"

static void addresses_are_numbers_with_a_port(void **state)
{
    static const char *const good[] = {
        "127.0.0.1:0", "0.0.0.0:65535", "[::1]:5648", "[::]:1", "[fe80::1:2]:00001"};
    static const char *const bad[] = {"", ":", ":1", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536",
        "127.0.0.1:-1", "127.0.0.1:1x", "127.0.0.1:000001", "localhost:1", "::1:1", "[::1]",
        "[127.0.0.1]:1", "[]:1", "1.2.3:1", "*:1",
        "[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb]:1"};
    struct knit_endpoint endpoint;
    struct knit_sentence why;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_int_equal(knit_endpoint_parse(good[i], "server.listen", &endpoint, &why), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(
            knit_endpoint_parse(bad[i], "server.listen", &endpoint, &why), KNIT_ENDPOINT_E_REFUSED);
        assert_non_null(strstr(why.text, bad[i]));
    }
}

static void a_port_out_of_range_is_named_as_such(void **state)
{
    static const char *const far[] = {
        "127.0.0.1:65536", "[::1]:70000", "127.0.0.1:99999999999999999999"};
    struct knit_endpoint endpoint;
    struct knit_sentence why;

    (void)state;
    for (size_t i = 0; i < sizeof(far) / sizeof(far[0]); i++) {
        assert_int_equal(
            knit_endpoint_parse(far[i], "server.listen", &endpoint, &why), KNIT_ENDPOINT_E_REFUSED);
        assert_non_null(strstr(why.text, "expected a port from 0 to 65535"));
    }
}

static void the_same_address_twice_is_seen_whatever_its_spelling(void **state)
{
    static const struct {
        const char *a, *b;
        bool is_same, answers;
    } cases[] = {{"127.0.0.1:5", "127.0.0.1:05", true, true}, {"[::1]:5", "[0:0::1]:5", true, true},
        {"127.0.0.1:5", "127.0.0.2:5", false, false}, {"127.0.0.1:5", "127.0.0.1:6", false, false},
        {"127.0.0.1:0", "127.0.0.1:0", false, true}, {"0.0.0.0:5", "[::]:5", false, false},
        {"127.0.0.1:5", "127.0.0.1:0", false, true}, {"[::1]:5", "[::1]:0", false, true},
        {"[::1]:5", "[::1]:6", false, false}, {"[::1]:5", "[::2]:0", false, false},
        {"127.0.0.1:0", "127.0.0.1:5", false, false}};
    struct knit_endpoint a, b;
    struct knit_sentence why;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(knit_endpoint_parse(cases[i].a, "server.listen", &a, &why), 0);
        assert_int_equal(knit_endpoint_parse(cases[i].b, "server.listen", &b, &why), 0);
        assert_int_equal(knit_endpoint_is_same(&a, &b), cases[i].is_same);
        assert_int_equal(knit_endpoint_answers(&a, &b), cases[i].answers);
    }
}

static void loopback_is_what_stays_on_this_machine(void **state)
{
    static const struct {
        const char *text;
        bool is_loopback;
    } cases[] = {
        {"127.0.0.1:1", true},
        {"127.255.0.9:1", true},
        {"128.0.0.1:1", false},
        {"0.0.0.0:1", false},
        {"[::1]:1", true},
        {"[::]:1", false},
        {"[::ffff:127.0.0.1]:1", true},
        {"[::ffff:10.0.0.1]:1", false},
        {"[fe80::1]:1", false},
    };
    struct knit_endpoint endpoint;
    struct knit_sentence why;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(knit_endpoint_parse(cases[i].text, "server.listen", &endpoint, &why), 0);
        assert_int_equal(knit_endpoint_is_loopback(&endpoint), cases[i].is_loopback);
    }
}

static void a_port_has_one_listener(void **state)
{
    char name[KNIT_ENDPOINT_TEXT_MAX];
    struct knit_endpoint endpoint;
    struct knit_sentence why;
    int fd, other = -1;

    (void)state;
    assert_int_equal(knit_endpoint_parse("127.0.0.1:0", "server.listen", &endpoint, &why), 0);
    assert_int_equal(knit_endpoint_listen(&endpoint, &fd, &why), 0);
    assert_int_equal(knit_endpoint_name(fd, name), 0);
    assert_memory_equal(name, "127.0.0.1:", 10);
    assert_string_not_equal(name, "127.0.0.1:0");
    assert_int_equal(knit_endpoint_parse(name, "server.listen", &endpoint, &why), 0);
    assert_int_equal(knit_endpoint_listen(&endpoint, &other, &why), KNIT_ENDPOINT_E_REFUSED);
    assert_non_null(strstr(why.text, name));
    close(fd);
    assert_int_equal(knit_endpoint_listen(&endpoint, &other, &why), 0);
    close(other);
}

static uint64_t tenant(const char *text)
{
    struct knit_endpoint endpoint;
    struct knit_sentence why;

    assert_int_equal(knit_endpoint_parse(text, "server.listen", &endpoint, &why), 0);
    return knit_endpoint_tenant(&endpoint);
}

static void who_has_an_address_has_those_beside_it(void **state)
{
    static const char *const tenants[][3] = {
        {"127.0.0.1:1", "127.9.9.9:2", "[::1]:3"},
        {"10.0.0.1:1", "10.0.0.1:2", "[::ffff:10.0.0.1]:3"},
        {"10.0.0.2:1", "10.0.0.2:2", "[::ffff:10.0.0.2]:3"},
        {"[2001:db8::1]:1", "[2001:db8::2]:2", "[2001:db8::ffff:ffff:ffff:ffff]:3"},
        {"[2001:db8:0:1::1]:1", "[2001:db8:0:1::2]:1", "[2001:db8:0:1::]:1"},
    };
    enum { COUNT = sizeof(tenants) / sizeof(tenants[0]) };

    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(tenant(tenants[i][0]) == tenant(tenants[i][1]));
        assert_true(tenant(tenants[i][0]) == tenant(tenants[i][2]));
        for (size_t j = 0; j < i; j++)
            assert_true(tenant(tenants[i][0]) != tenant(tenants[j][0]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_numbers_with_a_port),
        cmocka_unit_test(a_port_out_of_range_is_named_as_such),
        cmocka_unit_test(the_same_address_twice_is_seen_whatever_its_spelling),
        cmocka_unit_test(loopback_is_what_stays_on_this_machine),
        cmocka_unit_test(a_port_has_one_listener),
        cmocka_unit_test(who_has_an_address_has_those_beside_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
