/* SPDX-License-Identifier: Apache-2.0 */
/* What a wait for a call over a stream costs. Method: a transport that counts its calls stands
 * before the real one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <knitting/knitting.h>

#include "clients/lib/client.h"
#include "tests/clients/fake_server.h"
#include "tests/support/deadline.h"

enum { CALLS = 100 };

static struct knit *k;
static struct knit_error error;
static const struct knit_transport_kind *plain;
static struct knit_transport_kind counted;
static uint32_t receives;
static uint64_t begin_ns; /* before the stream received anything */

static enum knit_transport_result counted_receive(
    struct knit_transport *transport, void *room, size_t max, size_t *ret_len)
{
    receives++;
    return plain->receive(transport, room, max, ret_len);
}

static int start(void **state)
{
    (void)knit_fake_start(state);
    begin_ns = knit_deadline_now_ns();
    k = knit_fake_open(NULL);
    plain = k->handles.stream->transport.kind;
    counted = *plain;
    counted.receive = counted_receive;
    k->handles.stream->transport.kind = &counted;
    receives = 0;
    return 0;
}

static int stop(void **state)
{
    k = knit_close(k);
    return knit_fake_stop(state);
}

/* But for one more where the stream was idle for 20 ms by a coarse clock, as on a machine that
 * stands still. */
static void a_call_reads_once(void **state)
{
    uint64_t idle;
    int64_t result;

    (void)state;
    for (int64_t i = 0; i < CALLS; i++) {
        assert_int_equal(knit_call(k, &error, "echo", "(int) -> int", i, &result), KNIT_OK);
        assert_int_equal(result, i);
    }
    idle = (knit_deadline_now_ns() - begin_ns) / 15000000;
    assert_in_range(receives, CALLS, CALLS + idle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_call_reads_once, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
