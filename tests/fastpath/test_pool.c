/* SPDX-License-Identifier: Apache-2.0 */
/* Pools with real worker processes: starting and refusing, calls, death in every manner, limits of time, closing.
 *
 * Method: the ledger counts each run of each call, so "once" and "not at all" are numbers; what the host was told is
 * read off the events. Bounds in time are ten times what is meant.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/bell.h"
#include "tests/fastpath/pools.h"
#include "tests/support/deadline.h"

/* ---- starting ---- */

static void a_pool_starts_calls_and_stops(void **state)
{
    struct pools pools;
    struct pools_outcome sum = {0}, bytes = {0};

    (void)state;
    pools_init(&pools, 2);
    assert_int_equal(pools_open(&pools), 0);
    pools_start(&pools, "add", "\x92\x02\x03", 3, &sum);
    pools_wait(&pools, &sum);
    assert_int_equal(sum.code, 0);
    assert_int_equal(sum.number, 5);
    pools_start_number(&pools, "large", 5000, &bytes);
    pools_wait(&pools, &bytes);
    assert_int_equal(bytes.code, 0);
    assert_int_equal(bytes.len, 5003);
    assert_int_equal(bytes.bytes[3 + 4999], 4999 % 256);
    assert_int_equal(pools_count_events(&pools, KNIT_POOL_WORKER_STARTED), 2);
    pools_fini(&pools);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_starts_calls_and_stops),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
