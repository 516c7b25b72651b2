/* SPDX-License-Identifier: Apache-2.0 */
/* What a session knows of its endpoints, without any: addresses and failures are told. */
#include <arpa/inet.h>
#include <netdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "clients/lib/endpoints.h"

static void a_name_without_addresses_of_the_family_changes_nothing(void **state)
{
    static struct knit_endpoints all;
    struct sockaddr_in v4[3];
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct addrinfo list[3] = {{0}};
    const struct addrinfo other = {
        .ai_family = AF_INET6, .ai_addr = (struct sockaddr *)&v6, .ai_addrlen = sizeof(v6)};

    (void)state;
    knit_endpoints_init(&all, 1);
    for (uint32_t i = 0; i < 3; i++) {
        v4[i] = (struct sockaddr_in){
            .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + i)};
        list[i] = (struct addrinfo){.ai_family = AF_INET,
            .ai_addr = (struct sockaddr *)&v4[i],
            .ai_addrlen = sizeof(v4[i]),
            .ai_next = i < 2 ? &list[i + 1] : NULL};
    }
    knit_endpoints_learn(&all, 0, list, AF_INET);
    assert_int_equal(knit_endpoints_count(&all), 3);
    knit_endpoints_learn(&all, 0, &other, AF_UNSPEC);
    assert_int_equal(knit_endpoints_count(&all), 3);
    knit_endpoints_learn(&all, 0, &list[1], AF_UNSPEC);
    assert_int_equal(knit_endpoints_count(&all), 2);
}

static void no_more_than_half_are_ejected(void **state)
{
    static struct knit_endpoints all;
    const uint64_t second = 1000000000;
    uint32_t ejected = 0;

    (void)state;
    knit_endpoints_init(&all, 5);
    for (uint32_t i = 0; i < 5; i++) {
        for (int n = 0; n < 3; n++) {
            assert_false(all.at[i].is_ejected);
            knit_endpoint_fail(&all, &all.at[i], second, i);
        }
        ejected += all.at[i].is_ejected;
        assert_true(all.at[i].due_ns > second && all.at[i].due_ns <= 2 * second);
    }
    assert_int_equal(ejected, 2);
    for (uint64_t n = 1; n < 12; n++) {
        const uint64_t wait = n < 6 ? (uint64_t)1 << n : 60;

        knit_endpoint_fail(&all, &all.at[0], second, 0);
        assert_int_equal(all.at[0].due_ns, second + wait * second);
    }
    knit_endpoint_return(&all.at[0], 100 * second);
    assert_false(all.at[0].is_ejected);
    /* It has served for a minute. */
    knit_endpoint_fail(&all, &all.at[0], 160 * second, 0);
    assert_int_equal(all.at[0].due_ns, 161 * second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_without_addresses_of_the_family_changes_nothing),
        cmocka_unit_test(no_more_than_half_are_ejected),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
