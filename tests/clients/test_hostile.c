/* SPDX-License-Identifier: Apache-2.0 */
/* What a server that means no good can have a session hold, or wait for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <knitting/knitting.h>

#include "clients/lib/choose.h"
#include "clients/lib/client.h"
#include "proto/limits.h"
#include "tests/clients/fake_server.h"
#include "tests/support/deadline.h"

enum { PATIENCE_MS = 10000, KIB = 1024, MIB = 1024 * KIB };

static struct knit_error error;

/* ---- messages that are too long ---- */

static void an_answer_to_hello_has_64_kib(void **state)
{
    static const struct {
        uint32_t bytes;
        bool is_refused;
    } cases[] = {{60 * KIB, false}, {64 * KIB, true}, {8 * MIB, true}, {UINT32_MAX, true}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct knit_open_options options = {
            .connect_ms = cases[i].is_refused ? PATIENCE_MS : 50, .stays_lost = true};
        struct knit *k;
        int code;

        fake.hello_bytes = cases[i].bytes;
        code = knit_open(fake.url, &options, &k, &error);
        assert_int_equal(code, cases[i].is_refused ? KNIT_DISCONNECTED : KNIT_TIMEOUT);
        if (cases[i].is_refused)
            assert_string_equal(error.message,
                "$/hello was not answered: the server sent a message of more than 65536 bytes "
                "before it was known");
    }
}

static void a_message_has_what_the_session_lets_it_have(void **state)
{
    static const struct {
        uint32_t most, bytes;
        const char *reason;
    } cases[] = {
        {0, 60 * MIB, NULL},
        {0, 64 * MIB, "the server sent a message of more than 67108864 bytes"},
        {0, UINT32_MAX, "the server sent a message of more than 67108864 bytes"},
        {100 * KIB, 99 * KIB, NULL},
        {100 * KIB, 100 * KIB, "the server sent a message of more than 102400 bytes"},
        {100 * KIB, UINT32_MAX, "the server sent a message of more than 102400 bytes"},
        {64 * KIB, 63 * KIB, NULL},
        {64 * KIB, 64 * KIB, "the server sent a message of more than 65536 bytes"},
        {KNIT_MESSAGE_BYTES_MAX, 1000 * MIB, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct knit_open_options options = {
            .reply_max_bytes = cases[i].most, .stays_lost = true};
        struct knit *k = knit_fake_open(&options);
        struct knit_handle *handle;

        assert_int_equal(
            knit_start(k, NULL, &handle, &error, "announce", "(int)", (int64_t)cases[i].bytes),
            KNIT_OK);
        if (cases[i].reason == NULL) {
            assert_int_equal(knit_flush(k, &error), KNIT_OK);
            assert_true(KNIT_WAIT_UNTIL(
                (knit_client_progress(k), k->handles.stream->in_len > 0), PATIENCE_MS));
            assert_int_equal(knit_state(k), KNIT_IS_OPEN);
        } else {
            assert_int_equal(knit_await(handle, PATIENCE_MS, &error), KNIT_DISCONNECTED);
            assert_memory_equal(error.message, cases[i].reason, strlen(cases[i].reason));
            assert_non_null(strstr(error.message, "(option reply_max_bytes)"));
        }
        assert_true(k->handles.stream->in_max <= 256 * KIB);
        assert_null(knit_close(k));
    }
}

static void a_limit_that_cannot_be_is_refused(void **state)
{
    static const uint32_t limits[] = {1, 64 * KIB - 1, KNIT_MESSAGE_BYTES_MAX + 1, UINT32_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        const struct knit_open_options options = {.reply_max_bytes = limits[i]};
        struct knit *k;

        assert_int_equal(knit_open(fake.url, &options, &k, &error), KNIT_BAD_ARGUMENT);
        assert_non_null(strstr(error.message, "reply_max_bytes"));
    }
}

/* ---- what is believed ---- */

/* Whoever makes one call after the other, each until its timeout. */
static void who_lies_about_its_workers_keeps_few_calls(void **state)
{
    static const uint64_t lies[] = {1 << 16, 17, 16, 4};

    (void)state;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        static struct knit_handles handles;
        struct knit_stream liar = {.transport.fd = 0, .workers = lies[i], .places_limit = 1000};
        struct knit_stream honest = {.transport.fd = 0, .workers = 1, .places_limit = 1000};
        uint32_t to_honest = 0;

        handles = (struct knit_handles){.several = &liar, .promises.retries.random = 1};
        liar.next = &honest;
        for (int n = 0; n < 1000; n++) {
            knit_handles_choose(&handles, NULL);
            if (handles.stream == &liar)
                liar.places_taken++;
            else
                to_honest++;
        }
        assert_in_range(liar.places_taken, 1, KNIT_WORKERS_RATIO);
        assert_int_equal(liar.places_taken + to_honest, 1000);
    }
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, knit_fake_start, knit_fake_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(an_answer_to_hello_has_64_kib),
        WITH_SERVER(a_message_has_what_the_session_lets_it_have),
        WITH_SERVER(a_limit_that_cannot_be_is_refused),
        cmocka_unit_test(who_lies_about_its_workers_keeps_few_calls),
    };

    return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
