/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that are made more than once, over a stream, by a server that does as the test says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <knitting/knitting.h>

#include "tests/clients/fake_server.h"

static struct knit *k;
static struct knit_error error;

static int start(void **state)
{
    (void)knit_fake_start(state);
    k = knit_fake_open(NULL);
    return 0;
}

static int stop(void **state)
{
    k = knit_close(k);
    return knit_fake_stop(state);
}

/* It would run the call each time. */
static void a_server_that_knows_no_keys_gets_none(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;

    (void)state;
    options.key = "k";
    assert_int_equal(
        knit_call_with(k, &options, &error, "echo", "(int)", (int64_t)1), KNIT_BAD_ARGUMENT);
    assert_string_equal(error.message, "option key: the server does not know keys");
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_int_equal(knit_call(k, &error, "echo", "(int)", (int64_t)1), KNIT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_server_that_knows_no_keys_gets_none, start, stop),
    };

    return cmocka_run_group_tests_name("again", tests, NULL, NULL);
}
