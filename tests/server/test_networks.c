/* SPDX-License-Identifier: Apache-2.0 */
/* Which addresses a network holds. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/config/networks.h"

static struct sockaddr_storage address_of(const char *text)
{
    struct sockaddr_storage address = {.ss_family = AF_INET};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address;

    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1)
        return address;
    address.ss_family = AF_INET6;
    assert_int_equal(inet_pton(AF_INET6, text, &v6->sin6_addr), 1);
    return address;
}

static void a_network_holds_what_begins_with_its_bits(void **state)
{
    static const struct {
        const char *network, *address;
        bool holds;
    } cases[] = {{"10.0.0.0/8", "10.255.0.1", true}, {"10.0.0.0/8", "11.0.0.1", false},
        {"10.0.0.0/8", "::ffff:10.1.2.3", true}, {"10.0.0.0/8", "::a00:1", false},
        {"192.0.2.7", "192.0.2.7", true}, {"192.0.2.7", "192.0.2.6", false},
        {"192.0.2.4/31", "192.0.2.5", true}, {"192.0.2.4/31", "192.0.2.6", false},
        {"0.0.0.0/0", "203.0.113.1", true}, {"0.0.0.0/0", "::1", false}, {"::/0", "::1", true},
        {"::/0", "203.0.113.1", true}, {"fd00::/8", "fd12::1", true},
        {"fd00::/8", "fe80::1", false}, {"::1", "::1", true},
        {"::ffff:192.0.2.7", "192.0.2.7", true}};
    struct knit_network network;
    struct knit_sentence why;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sockaddr_storage address = address_of(cases[i].address);

        assert_int_equal(knit_networks_parse("a", cases[i].network, &network, &why), 0);
        assert_int_equal(knit_networks_hold(&network, &address), cases[i].holds);
    }
}

static void one_of_another_family_is_in_none(void **state)
{
    struct sockaddr_storage address = {.ss_family = AF_UNIX};
    struct knit_network network;
    struct knit_sentence why;

    (void)state;
    assert_int_equal(knit_networks_parse("a", "::/0", &network, &why), 0);
    assert_false(knit_networks_hold(&network, &address));
}

static void what_is_no_network_is_refused_with_its_text(void **state)
{
    static const char *const bad[] = {"", "10", "10.0.0.0/", "10.0.0.0/33", "10.0.0.1/8", "::1/127",
        "fd00::/129", "10.0.0.0/8x", "10.0.0.0/-1", "10.0.0.0/0008", "/8", "localhost", "[::1]",
        "10.0.0.0/8/8", "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc"};
    struct knit_network network;
    struct knit_sentence why;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(
            knit_networks_parse("a.b", bad[i], &network, &why), KNIT_NETWORKS_E_REFUSED);
        assert_non_null(strstr(why.text, bad[i]));
        assert_non_null(strstr(why.text, "a.b: "));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_network_holds_what_begins_with_its_bits),
        cmocka_unit_test(one_of_another_family_is_in_none),
        cmocka_unit_test(what_is_no_network_is_refused_with_its_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
