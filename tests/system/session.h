/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs begin and end with that a test runs once for each URL: each case has a session
 * of its own, and the error of the last call. Include <cmocka.h> and what it needs before.
 */
#pragma once

#include <knitting/knitting.h>

static const char *url;
static struct knit *k;
static struct knit_error error;

static inline struct knit *open_with(const struct knit_open_options *options)
{
    struct knit *session = NULL;

    if (knit_open(url, options, &session, &error) != KNIT_OK)
        fail_msg("%s: %s", error.name, error.message);
    return session;
}

static inline int open_session(void **state)
{
    (void)state;
    k = open_with(NULL);
    return 0;
}

static inline int close_session(void **state)
{
    (void)state;
    k = knit_close(k);
    return 0;
}

#define WITH_SESSION(test) cmocka_unit_test_setup_teardown(test, open_session, close_session)

static inline void succeeds(int code)
{
    if (code != KNIT_OK)
        fail_msg("%d %s: %s", code, error.name, error.message);
}
