/* SPDX-License-Identifier: Apache-2.0 */
/* A session with several daemons, of which one reads nothing, has ended its connection or is full:
 * what the kernel does not take for it, or was not sent yet, goes to another one. What else becomes
 * of those that are silent: test_spread.c. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <knitting/args.h>
#include <knitting/knitting.h>

#include "clients/lib/client.h"
#include "clients/lib/endpoints.h"
#include "tests/clients/fake_several.h"
#include "tests/support/deadline.h"

enum { PATIENCE_MS = 20000, BYTES = 48 * 1024, CALLS = 1000 };

static struct knit *k;
static struct knit_error error;
static struct knit_handle *handles[CALLS], *unsent[CALLS];
static uint32_t count, unsent_count;

static bool turn(void)
{
    (void)knit_dispatch(k, &error);
    return true;
}

/* That take calls. */
static uint32_t connections(void)
{
    uint32_t serving = 0;

    for (const struct knit_stream *at = k->handles.several; at != NULL; at = at->next)
        serving += knit_stream_takes_calls(at);
    return serving;
}

static void set_deaf(uint32_t number, bool is_deaf)
{
    atomic_store_explicit(&several[number].is_deaf, is_deaf, memory_order_relaxed);
    knit_several_tell(number, KNIT_SEVERAL_RELEASE);
}

static bool goes_to(const struct knit_handle *handle, uint32_t number)
{
    const struct knit_endpoint *endpoint = k->link.endpoints->at;

    if ((handle->flags & KNIT_HANDLE_WAITING) == 0 || handle->stream == NULL)
        return false;
    while (endpoint->stream != handle->stream)
        assert_true(++endpoint < k->link.endpoints->at + KNIT_ENDPOINTS_MAX);
    return ntohl(endpoint->address.v4.sin_addr.s_addr) == INADDR_LOOPBACK + number;
}

static bool is_unsent_at(const struct knit_handle *handle, uint32_t number)
{
    return goes_to(handle, number) &&
           handle->stream->places[handle->slot].begin_position >= handle->stream->position_sent;
}

/* Of those that were: some more the kernel has taken meanwhile. */
static bool has_unsent(void)
{
    for (uint32_t i = 0; i < unsent_count; i++)
        if ((unsent[i]->flags & KNIT_HANDLE_PROMISED) != 0 || is_unsent_at(unsent[i], 1) ||
            goes_to(unsent[i], 0))
            return true;
    return false;
}

static void what_was_not_sent_leaves_who_is_silent(void **state)
{
    const struct knit_open_options options = {.would_block = true};
    static uint8_t bytes[BYTES];
    uint32_t moved = 0;

    (void)state;
    knit_several_start(2, NULL);
    assert_int_equal(knit_open(knit_several_url(2), &options, &k, &error), KNIT_OK);
    assert_true(KNIT_WAIT_UNTIL(turn() && k->handles.several != NULL, PATIENCE_MS));
    set_deaf(0, true);
    set_deaf(1, true);
    while (count < CALLS && knit_start(k, NULL, &handles[count], &error, "where", "(bin) -> int",
                                bytes, (size_t)BYTES) == KNIT_OK) {
        count++;
        (void)turn();
    }
    for (uint32_t i = 0; i < count; i++)
        if (is_unsent_at(handles[i], 1))
            unsent[unsent_count++] = handles[i];
    assert_in_range(unsent_count, 10, count);
    set_deaf(0, false);
    assert_true(KNIT_WAIT_UNTIL(turn() && !has_unsent(), PATIENCE_MS));
    for (uint32_t i = 0; i < unsent_count; i++)
        moved += (unsent[i]->flags & KNIT_HANDLE_DONE) != 0;
    assert_in_range(moved, unsent_count / 2, unsent_count);
    set_deaf(1, false);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(knit_await(handles[i], PATIENCE_MS, &error), KNIT_OK);
    k = knit_close(k);
    knit_several_stop();
}

/* Which the session has not seen yet. */
static void what_waits_for_nothing_goes_to_who_serves(void **state)
{
    static const uint64_t workers[] = {4, 1};
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;

    (void)state;
    options.queue_ms = 0;
    knit_several_start(2, workers);
    for (int round = 0; round < 3; round++) {
        int64_t number = -1;

        assert_int_equal(knit_open(knit_several_url(2), NULL, &k, &error), KNIT_OK);
        assert_true(KNIT_WAIT_UNTIL(turn() && k->handles.several != NULL, PATIENCE_MS));
        knit_several_tell(0, KNIT_SEVERAL_DROP);
        for (struct knit_stream *at = k->handles.several; at != NULL; at = at->next)
            at->looked_ns = 0;
        assert_int_equal(
            knit_call_with(k, &options, &error, "where", "() -> int", &number), KNIT_OK);
        assert_int_equal(number, 1);
        k = knit_close(k);
    }
    knit_several_stop();
}

/* ---- notifications, which nothing answers ---- */

/* A socket that takes all that there is, as one with a fast reader may. */
static enum knit_transport_result send_all(
    struct knit_transport *transport, const void *from, size_t len, size_t *ret_len)
{
    *ret_len = 0;
    while (*ret_len < len) {
        struct pollfd item = {.fd = transport->fd, .events = POLLOUT};
        ssize_t n = send(transport->fd, (const char *)from + *ret_len, len - *ret_len,
            MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n > 0)
            *ret_len += (size_t)n;
        else
            assert_true(errno == EAGAIN && poll(&item, 1, PATIENCE_MS) == 1);
    }
    return KNIT_TRANSPORT_OK;
}

static int notify(void)
{
    static uint8_t bytes[BYTES];

    return knit_notify(k, &error, "where", "(bin) -> int", bytes, (size_t)BYTES);
}

/* Returns how many it took until there was no room, and none was sent. */
static uint32_t fill(void)
{
    uint32_t sent = 0;

    k->would_block = true;
    while (notify() == KNIT_OK)
        assert_in_range(++sent, 1, CALLS);
    k->would_block = false;
    return sent;
}

static uint32_t calls(uint32_t number)
{
    return atomic_load_explicit(&several[number].calls, memory_order_relaxed);
}

/* What waits forever is ended by a signal. */
static void set_alarm(void)
{
    (void)alarm(
        (unsigned)(knit_deadline_stretched_ns(PATIENCE_MS * UINT64_C(1000000)) / 1000000000));
}

static void begin_with_one(struct knit_transport_kind *ret_kind)
{
    set_alarm();
    knit_several_start(1, NULL);
    assert_int_equal(knit_open(knit_several_url(1), NULL, &k, &error), KNIT_OK);
    *ret_kind = *k->handles.stream->transport.kind;
    ret_kind->send = send_all;
    k->handles.stream->transport.kind = ret_kind;
}

static void end(void)
{
    k = knit_close(k);
    knit_several_stop();
    (void)alarm(0);
}

static void a_notification_waits_no_longer_than_those_before_it(void **state)
{
    struct knit_transport_kind kind;
    uint32_t sent;

    (void)state;
    begin_with_one(&kind);
    sent = fill();
    assert_int_equal(notify(), KNIT_OK);
    assert_int_equal(knit_flush(k, &error), KNIT_OK);
    assert_true(KNIT_WAIT_UNTIL(calls(0) == sent + 1, PATIENCE_MS));
    end();
}

static void a_ping_waits_no_longer_than_notifications_before_it(void **state)
{
    struct knit_transport_kind kind;
    uint64_t began_ns;

    (void)state;
    begin_with_one(&kind);
    k->admin_ms = PATIENCE_MS / 2;
    (void)fill();
    began_ns = knit_now();
    assert_int_equal(knit_ping(k, &error, NULL), KNIT_OK);
    assert_in_range(knit_now() - began_ns, 0, k->admin_ms * 1000000 / 2);
    end();
}

/* Of two that were full the one that it would have taken reads nothing more. */
static void a_notification_goes_to_who_has_room_again(void **state)
{
    static const uint64_t workers[] = {4, 1};

    (void)state;
    set_alarm();
    knit_several_start(2, workers);
    assert_int_equal(knit_open(knit_several_url(2), NULL, &k, &error), KNIT_OK);
    assert_true(KNIT_WAIT_UNTIL(turn() && k->handles.several != NULL, PATIENCE_MS));
    set_deaf(0, true);
    set_deaf(1, true);
    do
        (void)turn();
    while (fill() > 0);
    set_deaf(1, false);
    for (uint32_t before = calls(1); calls(1) < before + CALLS / 2;)
        assert_int_equal(notify(), KNIT_OK);
    set_deaf(0, false);
    end();
}

/* ---- keys ---- */

static struct knit_call_options with_key(const char *key)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;

    options.key = key;
    return options;
}

/* A key of that server. */
static void find_key(uint32_t number, char key[16])
{
    int64_t at = -1;

    for (int i = 0; at != number; i++) {
        struct knit_call_options options;

        (void)snprintf(key, 16, "key %d", i);
        options = with_key(key);
        assert_int_equal(knit_call_with(k, &options, &error, "where", "() -> int", &at), KNIT_OK);
    }
}

/* One that is held by that server. */
static struct knit_handle *hold_at(uint32_t number)
{
    struct knit_call_options options;
    struct knit_handle *handle;
    char key[16];

    find_key(number, key);
    options = with_key(key);
    assert_int_equal(knit_start(k, &options, &handle, &error, "hold", "() -> int"), KNIT_OK);
    assert_int_equal(knit_flush(k, &error), KNIT_OK);
    assert_true(goes_to(handle, number));
    return handle;
}

/* It takes its key nowhere else; what waits behind it has none. */
static void a_full_server_holds_up_none_but_keys(void **state)
{
    enum { SLOTS = 2 };
    const struct knit_open_options opened = {.slots = SLOTS};
    struct knit_handle *sources[2], *full[SLOTS], *keyed, *others[2];
    struct knit_prepared *prepared;
    struct knit_call_options options;
    struct knit_arg args[2];
    char key[16];

    (void)state;
    knit_several_start(3, NULL);
    assert_int_equal(knit_open(knit_several_url(3), &opened, &k, &error), KNIT_OK);
    assert_true(KNIT_WAIT_UNTIL(turn() && connections() == 3, PATIENCE_MS));
    assert_int_equal(knit_prepare(k, &error, "echo", "(int, int) -> int", &prepared), KNIT_OK);
    find_key(0, key);
    options = with_key(key);
    for (int i = 0; i < 2; i++) {
        sources[i] = hold_at(1 + (uint32_t)i);
        args[i] = knit_pass_handle(sources[i]);
    }
    for (int i = 0; i < SLOTS; i++)
        full[i] = hold_at(0);
    assert_int_equal(knit_start_args(prepared, NULL, &others[0], &error, args, 2), KNIT_OK);
    assert_int_equal(knit_start_args(prepared, &options, &keyed, &error, args, 2), KNIT_OK);
    assert_int_equal(knit_start_args(prepared, NULL, &others[1], &error, args, 2), KNIT_OK);
    knit_several_tell(1, KNIT_SEVERAL_RELEASE);
    knit_several_tell(2, KNIT_SEVERAL_RELEASE);
    for (int i = 0; i < 2; i++)
        assert_int_equal(knit_await(others[i], PATIENCE_MS, &error), KNIT_OK);
    assert_int_equal(knit_await(keyed, 0, &error), KNIT_PENDING);
    knit_several_tell(0, KNIT_SEVERAL_RELEASE);
    assert_int_equal(knit_await(keyed, PATIENCE_MS, &error), KNIT_OK);
    for (int i = 0; i < SLOTS; i++)
        (void)knit_free(full[i]);
    for (int i = 0; i < 2; i++) {
        (void)knit_free(sources[i]);
        (void)knit_free(others[i]);
    }
    (void)knit_free(keyed);
    (void)knit_prepared_free(prepared);
    k = knit_close(k);
    knit_several_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_notification_waits_no_longer_than_those_before_it),
        cmocka_unit_test(a_ping_waits_no_longer_than_notifications_before_it),
        cmocka_unit_test(a_notification_goes_to_who_has_room_again),
        cmocka_unit_test(what_was_not_sent_leaves_who_is_silent),
        cmocka_unit_test(what_waits_for_nothing_goes_to_who_serves),
        cmocka_unit_test(a_full_server_holds_up_none_but_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
