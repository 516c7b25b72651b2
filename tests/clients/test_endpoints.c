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
        cmocka_unit_test(no_more_than_half_are_ejected),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
