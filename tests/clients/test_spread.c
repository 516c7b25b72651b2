/* SPDX-License-Identifier: Apache-2.0 */
/* A session with several daemons: how calls are shared, and what becomes of those that fail, are
 * silent, leave or come to the name. With daemons: tests/system/test_spread.py.
 *
 * Method: servers of the test's own, each on an address of loopback, and a resolver that says what
 * the test has it say. */
#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <knitting/args.h>
#include <knitting/typed.h>

#include "clients/lib/client.h"
#include "clients/lib/endpoints.h"
#include "tests/clients/fake_several.h"
#include "tests/support/deadline.h"

enum { PATIENCE_MS = 20000 };

KNIT_TYPED_AS(where_typed, "where", (), ((int, number)));

static const char types[] = "() -> int";
static const struct knit_retry_options retry = {.attempts = 2, .wait_ms = 1};
static const struct knit_open_options with_retry = {.retry = &retry};
static struct knit *k;
static struct knit_error error;

/* ---- a resolver ---- */

int __real_getaddrinfo(
    const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **ret);
int __wrap_getaddrinfo(
    const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **ret);

/* "all.invalid" has the addresses of the servers whose bits are set, "silent.invalid" has a thread
 * wait; others are numeric. */
static _Atomic uint32_t addresses, lookups, lookers;
static sem_t may_answer;

static void put_numeric(struct addrinfo **list, uint32_t number, const char *port)
{
    const struct addrinfo hints = {
        .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *one;
    char host[16];

    (void)snprintf(host, sizeof(host), "127.0.0.%u", number + 1);
    assert_int_equal(__real_getaddrinfo(host, port, &hints, &one), 0);
    one->ai_next = *list;
    *list = one;
}

int __wrap_getaddrinfo(
    const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **ret)
{
    struct addrinfo how = *hints;

    how.ai_flags |= AI_NUMERICHOST;
    if ((hints->ai_flags & AI_NUMERICHOST) != 0 || strchr(host, 'v') == NULL)
        return __real_getaddrinfo(host, port, &how, ret);
    if (strcmp(host, "silent.invalid") == 0) {
        atomic_fetch_add_explicit(&lookers, 1, memory_order_relaxed);
        while (sem_wait(&may_answer) != 0)
            ;
        atomic_fetch_sub_explicit(&lookers, 1, memory_order_relaxed);
        return EAI_AGAIN;
    }
    *ret = NULL;
    for (uint32_t i = 0; i < KNIT_SEVERAL_MAX; i++)
        if ((atomic_load_explicit(&addresses, memory_order_relaxed) & 1u << i) != 0)
            put_numeric(ret, i, port);
    atomic_fetch_add_explicit(&lookups, 1, memory_order_relaxed);
    return *ret != NULL ? 0 : EAI_NONAME;
}

/* ---- sessions ---- */

static uint32_t connections(uint32_t number)
{
    return atomic_load_explicit(&several[number].connections, memory_order_relaxed);
}

static uint32_t calls(uint32_t number)
{
    return atomic_load_explicit(&several[number].calls, memory_order_relaxed);
}

static bool turn(void)
{
    (void)knit_dispatch(k, &error);
    return true;
}

static bool all_serve(uint32_t count)
{
    const struct knit_stream *stream;
    uint32_t serving = 0;

    (void)turn();
    for (stream = k->handles.several; stream != NULL; stream = stream->next)
        serving += knit_stream_takes_calls(stream);
    if (k->handles.several == NULL)
        serving = knit_stream_takes_calls(k->handles.stream);
    return serving == count && !knit_link_is_opening(&k->link);
}

static void open_url(const char *url, const struct knit_open_options *options)
{
    if (knit_open(url, options, &k, &error) != KNIT_OK)
        fail_msg("%s", error.message);
}

/* So many servers, and a session with a connection to each. */
static void begin(uint32_t count, const uint64_t *workers, const struct knit_open_options *options)
{
    knit_several_start(count, workers);
    open_url(knit_several_url(count), options);
    assert_true(KNIT_WAIT_UNTIL(all_serve(count), PATIENCE_MS));
}

static int stop(void **state)
{
    (void)state;
    k = knit_close(k);
    knit_several_stop();
    return 0;
}

static int64_t where(const char *task)
{
    int64_t number = -1;

    if (knit_call(k, &error, task, types, &number) != KNIT_OK)
        fail_msg("%s: %s", error.name, error.message);
    return number;
}

static struct knit_handle *hold(void)
{
    struct knit_handle *handle;

    assert_int_equal(knit_start(k, NULL, &handle, &error, "hold", types), KNIT_OK);
    return handle;
}

static int64_t finish(struct knit_handle *handle)
{
    int64_t number = -1;

    if (knit_await(handle, PATIENCE_MS, &error) != KNIT_OK ||
        knit_results(handle, &error, &number) != KNIT_OK)
        fail_msg("%s: %s", error.name, error.message);
    (void)knit_free(handle);
    return number;
}

/* One that is held by that server. */
static struct knit_handle *hold_at(uint32_t number)
{
    for (int i = 0; i < 1000; i++) {
        struct knit_handle *handle = hold();

        if (handle->stream->instance == 0)
            fail_msg("no instance");
        assert_int_equal(knit_flush(k, &error), KNIT_OK);
        for (uint32_t at = 0; at < KNIT_ENDPOINTS_MAX; at++) {
            const struct knit_endpoint *endpoint = &k->link.endpoints->at[at];

            if (endpoint->is_there && endpoint->stream == handle->stream &&
                ntohl(endpoint->address.v4.sin_addr.s_addr) == INADDR_LOOPBACK + number)
                return handle;
        }
        (void)knit_free(handle);
    }
    fail_msg("no call came to server %u", number);
    return NULL;
}

/* ---- sharing ---- */

static void calls_are_shared_by_workers(void **state)
{
    enum { CALLS = 160 };
    static const uint64_t workers[] = {1, 3};
    struct knit_handle *handles[CALLS];
    uint32_t at[2] = {0, 0};

    (void)state;
    begin(2, workers, NULL);
    k->handles.several->next->arguments_max = 1000;
    assert_int_equal(knit_arguments_max(k), 1000);
    for (int i = 0; i < CALLS; i++)
        handles[i] = hold();
    assert_int_equal(knit_flush(k, &error), KNIT_OK);
    assert_true(KNIT_WAIT_UNTIL(calls(0) + calls(1) == CALLS, PATIENCE_MS));
    assert_in_range(calls(0), CALLS / 4 - 2, CALLS / 4 + 2);
    knit_several_tell(0, KNIT_SEVERAL_RELEASE);
    knit_several_tell(1, KNIT_SEVERAL_RELEASE);
    for (int i = 0; i < CALLS; i++)
        at[finish(handles[i])]++;
    assert_int_equal(at[0], calls(0));
    assert_int_equal(at[1], calls(1));
}

static void no_more_connections_than_said(void **state)
{
    const struct knit_spread_options one = {.connections = 1}, five = {.connections = 5};
    struct knit_open_options options = {.spread = &one};

    (void)state;
    knit_several_start(6, NULL);
    open_url(knit_several_url(6), NULL);
    assert_true(KNIT_WAIT_UNTIL(all_serve(4), PATIENCE_MS));
    for (int i = 0; i < 100; i++)
        (void)where("where");
    assert_true(all_serve(4));
    k = knit_close(k);
    open_url(knit_several_url(6), &options);
    for (int i = 0; i < 100; i++)
        (void)where("where");
    assert_true(all_serve(1));
    k = knit_close(k);
    options.spread = &five;
    assert_int_equal(knit_open(knit_several_url(2), &options, &k, &error), KNIT_BAD_ARGUMENT);
}

static void a_call_stays_with_its_source(void **state)
{
    struct knit_prepared *prepared = NULL;

    (void)state;
    begin(2, NULL, NULL);
    assert_int_equal(knit_prepare(k, &error, "hold", "(int) -> int", &prepared), KNIT_OK);
    for (int i = 0; i < 20; i++) {
        struct knit_handle *source = hold(), *next = NULL;

        assert_int_equal(knit_start_args(prepared, NULL, &next, &error,
                             (const struct knit_arg[]){knit_pass_handle(source)}, 1),
            KNIT_OK);
        assert_ptr_equal(next->stream, source->stream);
        assert_int_equal(k->handles.promises.referring, 1);
        assert_int_equal(knit_flush(k, &error), KNIT_OK);
        assert_true(KNIT_WAIT_UNTIL(calls(0) + calls(1) == 2 * (uint32_t)(i + 1), PATIENCE_MS));
        knit_several_tell(0, KNIT_SEVERAL_RELEASE);
        knit_several_tell(1, KNIT_SEVERAL_RELEASE);
        assert_int_equal(finish(next), finish(source));
    }
    assert_int_equal(atomic_load_explicit(&several[0].references, memory_order_relaxed) +
                         atomic_load_explicit(&several[1].references, memory_order_relaxed),
        20);
    assert_true(atomic_load_explicit(&several[0].references, memory_order_relaxed) > 0);
    assert_true(atomic_load_explicit(&several[1].references, memory_order_relaxed) > 0);
    (void)knit_prepared_free(prepared);
}

/* Their sources are at two servers, so no server can wait for both. */
static void a_call_with_sources_at_two_servers_waits_here(void **state)
{
    struct knit_handle *sources[2], *sum = NULL;
    struct knit_prepared *prepared = NULL;

    (void)state;
    begin(2, NULL, NULL);
    assert_int_equal(knit_prepare(k, &error, "echo", "(int, int) -> int", &prepared), KNIT_OK);
    sources[0] = hold_at(0);
    sources[1] = hold_at(1);
    assert_int_equal(
        knit_start_args(prepared, NULL, &sum, &error,
            (const struct knit_arg[]){knit_pass_handle(sources[1]), knit_pass_handle(sources[0])},
            2),
        KNIT_OK);
    assert_int_equal(k->handles.promises.referring, 0);
    knit_several_tell(0, KNIT_SEVERAL_RELEASE);
    knit_several_tell(1, KNIT_SEVERAL_RELEASE);
    assert_int_equal(finish(sum), 1);
    (void)knit_free(sources[0]);
    (void)knit_free(sources[1]);
    (void)knit_prepared_free(prepared);
}

static int call_by_key(int number, const char *task, int64_t *ret_at)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    char key[16];

    (void)snprintf(key, sizeof(key), "key %d", number);
    options.key = key;
    return knit_call_with(k, &options, &error, task, types, ret_at);
}

static int64_t where_by_key(int number)
{
    int64_t at = -1;

    assert_int_equal(call_by_key(number, "where", &at), KNIT_OK);
    return at;
}

static void a_key_has_one_server(void **state)
{
    uint32_t keys_at[3] = {0, 0, 0};

    (void)state;
    begin(3, NULL, NULL);
    for (int i = 0; i < 60; i++) {
        keys_at[where_by_key(i)]++;
        assert_int_equal(where_by_key(i), where_by_key(i));
    }
    for (int i = 0; i < 3; i++)
        assert_in_range(keys_at[i], 5, 40);
}

static void a_key_stays_when_others_connect(void **state)
{
    (void)state;
    begin(2, NULL, NULL);
    knit_several_tell(1, KNIT_SEVERAL_DIE);
    assert_true(KNIT_WAIT_UNTIL(all_serve(1), PATIENCE_MS));
    for (int i = 0; i < 20; i++)
        assert_int_equal(where_by_key(i), 0);
    knit_several_tell(1, KNIT_SEVERAL_LIVE);
    assert_true(KNIT_WAIT_UNTIL(all_serve(2), PATIENCE_MS));
    for (int i = 0; i < 20; i++)
        assert_int_equal(where_by_key(i), 0);
}

static void a_call_is_cancelled_where_it_is(void **state)
{
    (void)state;
    begin(2, NULL, NULL);
    for (uint32_t i = 0; i < 2; i++) {
        const uint32_t before = atomic_load_explicit(&several[i].cancelled, memory_order_relaxed);
        struct knit_handle *handle = hold_at(i);

        knit_cancel(handle);
        assert_int_equal(knit_await(handle, PATIENCE_MS, &error), KNIT_CANCELLED);
        assert_int_equal(error.origin, KNIT_ORIGIN_SERVER);
        assert_true(atomic_load_explicit(&several[i].cancelled, memory_order_relaxed) > before);
        (void)knit_free(handle);
    }
}

static void a_call_is_made_again_elsewhere(void **state)
{
    (void)state;
    begin(2, NULL, &with_retry);
    atomic_store_explicit(&several[0].is_busy, true, memory_order_relaxed);
    for (int i = 0; i < 100 && calls(0) == 0; i++) /* each goes there first by chance */
        assert_int_equal(where("busy"), 1);
    assert_true(calls(0) > 0);
}

static struct knit_handle *hold_with_key(const char *key)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle;

    options.key = key;
    assert_int_equal(knit_start(k, &options, &handle, &error, "hold", types), KNIT_OK);
    assert_int_equal(knit_flush(k, &error), KNIT_OK);
    assert_true(KNIT_WAIT_UNTIL(calls(0) + calls(1) == 1, PATIENCE_MS));
    return handle;
}

/* It may have started, and the server where it is knows its key alone. */
static void a_call_with_a_key_is_made_again_where_it_is_known(void **state)
{
    struct knit_handle *handle;
    uint32_t at;

    (void)state;
    begin(2, NULL, &with_retry);
    handle = hold_with_key("one");
    at = calls(1);
    knit_several_tell(at, KNIT_SEVERAL_DROP);
    assert_true(KNIT_WAIT_UNTIL(
        knit_await(handle, 0, &error) == KNIT_PENDING && turn() && calls(at) == 2, PATIENCE_MS));
    knit_several_tell(at, KNIT_SEVERAL_RELEASE);
    assert_int_equal(finish(handle), at);
    assert_int_equal(calls(1 - at), 0);
}

static void a_key_that_no_server_knows_any_more_ends_its_call(void **state)
{
    struct knit_handle *handle;
    uint32_t at;

    (void)state;
    begin(2, NULL, &with_retry);
    handle = hold_with_key("one");
    at = calls(1);
    knit_several_tell(at, KNIT_SEVERAL_DIE);
    knit_several_tell(at, KNIT_SEVERAL_LIVE);
    assert_int_equal(knit_await(handle, PATIENCE_MS, &error), KNIT_DISCONNECTED);
    assert_int_equal(error.started, KNIT_STARTED_UNKNOWN);
    (void)knit_free(handle);
    assert_int_equal(calls(0) + calls(1), 1);
}

/* Each server has its own tasks: a declaration is compared with those of the one that a call goes
 * to. */
static void a_declaration_is_compared_with_each_server(void **state)
{
    int fits = 0, misfits = 0;

    (void)state;
    begin(2, NULL, NULL);
    atomic_store_explicit(&several[1].types, "(x: int) -> int", memory_order_relaxed);
    for (int i = 0; i < 40; i++) {
        int64_t number = -1;
        int code = KNIT_CALL(where_typed, k, &error, (), (&number));

        if (code == KNIT_OK) {
            assert_int_equal(number, 0);
            fits++;
        } else {
            assert_int_equal(code, KNIT_BAD_ARGUMENT);
            assert_non_null(strstr(error.message, "does not fit the pool's task"));
            misfits++;
        }
    }
    assert_true(fits > 5 && misfits > 5);
    assert_int_equal(calls(1), 0);
}

/* The other one does not know the key: it would run the call once more when that comes again. */
static void a_key_stays_when_its_call_is_made_again(void **state)
{
    int64_t at;
    int i = 0;

    (void)state;
    begin(2, NULL, &with_retry);
    atomic_store_explicit(&several[0].is_busy, true, memory_order_relaxed);
    while (where_by_key(i) != 0)
        i++;
    assert_int_equal(call_by_key(i, "busy", &at), KNIT_OVERLOADED);
}

/* ---- servers that go ---- */

static void what_dies_takes_its_own_calls_alone(void **state)
{
    struct knit_handle *lost, *kept;
    uint32_t before;

    (void)state;
    begin(3, NULL, NULL);
    lost = hold_at(1);
    kept = hold_at(2);
    knit_several_tell(1, KNIT_SEVERAL_DIE);
    assert_int_equal(knit_await(lost, PATIENCE_MS, &error), KNIT_DISCONNECTED);
    assert_int_equal(error.started, KNIT_STARTED_UNKNOWN);
    (void)knit_free(lost);
    assert_int_equal(knit_state(k), KNIT_IS_OPEN);
    for (int i = 0; i < 100; i++)
        assert_int_not_equal(where("where"), 1);
    assert_int_equal(knit_await(kept, 0, &error), KNIT_PENDING);
    knit_several_tell(2, KNIT_SEVERAL_RELEASE);
    assert_int_equal(finish(kept), 2);
    /* It comes back by itself. */
    knit_several_tell(1, KNIT_SEVERAL_LIVE);
    assert_true(KNIT_WAIT_UNTIL(all_serve(3), PATIENCE_MS));
    before = calls(1);
    for (int i = 0; i < 100; i++)
        (void)where("where");
    assert_true(calls(1) > before);
}

/* What was not sent yet goes elsewhere. */
static void what_dies_takes_nothing_that_was_not_sent(void **state)
{
    enum { CALLS = 40 };
    struct knit_handle *handles[CALLS];

    (void)state;
    begin(2, NULL, NULL);
    for (int i = 0; i < CALLS; i++)
        assert_int_equal(knit_start(k, NULL, &handles[i], &error, "where", types), KNIT_OK);
    /* The kernel would take them, not knowing it yet. */
    knit_several_tell(1, KNIT_SEVERAL_DIE);
    for (struct knit_stream *at = k->handles.several; at != NULL; at = at->next)
        knit_stream_receive(at);
    for (int i = 0; i < CALLS; i++)
        assert_int_equal(finish(handles[i]), 0);
}

static void what_is_silent_is_ejected_and_comes_back(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *stuck;
    uint32_t failed = 0, before;
    int64_t number;

    (void)state;
    begin(2, NULL, NULL);
    stuck = hold_at(1);
    atomic_store_explicit(&several[1].is_deaf, true, memory_order_relaxed);
    options.timeout_ms = 100;
    for (int i = 0; i < 200; i++)
        failed += knit_call_with(k, &options, &error, "where", types, &number) != KNIT_OK;
    assert_in_range(failed, 0, 20);
    assert_true(KNIT_WAIT_UNTIL(all_serve(1), PATIENCE_MS));
    for (int i = 0; i < 100; i++)
        assert_int_equal(where("where"), 0);
    assert_int_equal(knit_await(stuck, 0, &error), KNIT_PENDING);
    assert_int_equal(connections(1), 1);
    atomic_store_explicit(&several[1].is_deaf, false, memory_order_relaxed);
    knit_several_tell(1, KNIT_SEVERAL_RELEASE);
    assert_true(KNIT_WAIT_UNTIL(all_serve(2), PATIENCE_MS));
    assert_int_equal(finish(stuck), 1);
    before = calls(1);
    for (int i = 0; i < 100; i++)
        (void)where("where");
    assert_true(calls(1) > before);
    assert_int_equal(atomic_load_explicit(&several[1].accepted, memory_order_relaxed), 1);
}

/* It answers calls, and no ping. */
static void what_says_anything_has_its_time_anew(void **state)
{
    const struct knit_endpoint *endpoint;
    struct knit_handle *held;

    (void)state;
    begin(2, NULL, NULL);
    atomic_store_explicit(&several[1].is_unpinged, true, memory_order_relaxed);
    held = hold_at(1);
    for (endpoint = k->link.endpoints->at; endpoint->stream != held->stream;)
        endpoint++;
    assert_true(KNIT_WAIT_UNTIL(turn() && endpoint->failures == 1, PATIENCE_MS));
    knit_several_tell(1, KNIT_SEVERAL_RELEASE);
    assert_int_equal(finish(held), 1);
    held = hold_at(1);
    assert_true(KNIT_WAIT_UNTIL(turn() && endpoint->failures == 0, PATIENCE_MS));
    assert_true(KNIT_WAIT_UNTIL(turn() && endpoint->failures == 1, PATIENCE_MS));
    /* It is looked at again 250 ms after the failure, which comes as long after the last word. */
    assert_true(endpoint->due_ns - endpoint->heard_ns >= UINT64_C(500000000));
    (void)knit_free(held);
}

static void who_says_goaway_is_left_alone(void **state)
{
    struct knit_handle *held;
    uint32_t before;

    (void)state;
    begin(2, NULL, NULL);
    held = hold_at(1);
    before = atomic_load_explicit(&several[1].accepted, memory_order_relaxed);
    knit_several_tell(1, KNIT_SEVERAL_GOAWAY);
    /* Another connection to it comes in its place. */
    assert_true(KNIT_WAIT_UNTIL(
        turn() && atomic_load_explicit(&several[1].accepted, memory_order_relaxed) == before + 1 &&
            all_serve(2),
        PATIENCE_MS));
    assert_int_equal(knit_state(k), KNIT_IS_OPEN);
    assert_int_equal(knit_await(held, 0, &error), KNIT_PENDING);
    knit_several_tell(1, KNIT_SEVERAL_RELEASE);
    assert_int_equal(finish(held), 1);
    assert_true(KNIT_WAIT_UNTIL(turn() && connections(1) == 1, PATIENCE_MS));
}

static void all_that_die_are_waited_for(void **state)
{
    struct knit_handle *waiting;

    (void)state;
    begin(2, NULL, NULL);
    knit_several_tell(0, KNIT_SEVERAL_DIE);
    knit_several_tell(1, KNIT_SEVERAL_DIE);
    assert_true(KNIT_WAIT_UNTIL(turn() && knit_state(k) == KNIT_IS_CONNECTING, PATIENCE_MS));
    assert_int_equal(knit_start(k, NULL, &waiting, &error, "where", types), KNIT_OK);
    assert_int_equal(knit_await(waiting, 20, &error), KNIT_PENDING);
    knit_several_tell(1, KNIT_SEVERAL_LIVE);
    assert_int_equal(finish(waiting), 1);
    knit_several_tell(0, KNIT_SEVERAL_LIVE);
    assert_true(KNIT_WAIT_UNTIL(all_serve(2), PATIENCE_MS));
}

/* ---- event loops ---- */

static void on_done(struct knit_handle *handle, void *user)
{
    int64_t *at = user;
    int64_t number = -1;

    assert_int_equal(knit_results(handle, &error, &number), KNIT_OK);
    at[number]++;
    (void)knit_free(handle);
}

static void one_descriptor_stands_for_all(void **state)
{
    struct pollfd item = {.events = POLLIN};
    struct knit_handle *handle;
    int64_t at[3] = {0, 0, 0};

    (void)state;
    knit_several_start(3, NULL);
    open_url(knit_several_url(3), NULL);
    item.fd = knit_fd(k);
    while (connections(0) + connections(1) + connections(2) < 3 || knit_link_is_opening(&k->link)) {
        assert_int_equal(poll(&item, 1, PATIENCE_MS), 1);
        (void)turn();
    }
    while (at[0] < 10 || at[1] < 10 || at[2] < 10) {
        for (int i = 0; i < 8; i++) {
            assert_int_equal(knit_start(k, NULL, &handle, &error, "where", types), KNIT_OK);
            knit_on_done(handle, on_done, at);
        }
        assert_int_equal(knit_flush(k, &error), KNIT_OK);
        while (knit_handles_in_flight(&k->handles) > 0) {
            assert_int_equal(poll(&item, 1, PATIENCE_MS), 1);
            (void)turn();
        }
    }
    /* With nothing to do it is silent, once a timer that was set for calls has expired. */
    while (poll(&item, 1, 300) == 1 && at[0] < 20)
        at[0] += turn();
    assert_int_equal(poll(&item, 1, 700), 0);
    /* One that ends is seen, and followed. */
    knit_several_tell(2, KNIT_SEVERAL_DIE);
    knit_several_tell(2, KNIT_SEVERAL_LIVE);
    while (atomic_load_explicit(&several[2].accepted, memory_order_relaxed) < 2 ||
           knit_link_is_opening(&k->link)) {
        assert_int_equal(poll(&item, 1, PATIENCE_MS), 1);
        (void)turn();
    }
}

/* How often the descriptor wakes a loop in that time. */
static uint32_t wakes_within(uint32_t time_ms)
{
    struct pollfd item = {.fd = knit_fd(k), .events = POLLIN};
    const uint64_t end_ns = knit_now() + time_ms * UINT64_C(1000000);
    uint32_t wakes = 0;

    for (uint64_t now_ns; (now_ns = knit_now()) < end_ns; (void)turn())
        wakes += poll(&item, 1, (int)((end_ns - now_ns) / 1000000) + 1) == 1;
    return wakes;
}

static void a_hello_without_answer_is_slept_through(void **state)
{
    (void)state;
    begin(3, NULL, NULL);
    /* They listen, and answer nothing on connections to come. */
    for (uint32_t i = 1; i < 3; i++) {
        knit_several_tell(i, KNIT_SEVERAL_DIE);
        atomic_store_explicit(&several[i].is_deaf, true, memory_order_relaxed);
        knit_several_tell(i, KNIT_SEVERAL_LIVE);
    }
    assert_true(KNIT_WAIT_UNTIL(turn() && k->link.state == KNIT_LINK_HELLO, PATIENCE_MS));
    assert_in_range(wakes_within(700), 0, 50);
    assert_int_equal(where("where"), 0);
}

/* The one connection that is left takes no calls. */
static void the_last_one_that_leaves_is_slept_through(void **state)
{
    struct knit_handle *held;

    (void)state;
    begin(2, NULL, NULL);
    held = hold_at(1);
    knit_several_tell(0, KNIT_SEVERAL_DIE);
    assert_true(KNIT_WAIT_UNTIL(all_serve(1), PATIENCE_MS));
    atomic_store_explicit(&several[1].is_deaf, true, memory_order_relaxed);
    knit_several_tell(1, KNIT_SEVERAL_GOAWAY);
    assert_true(KNIT_WAIT_UNTIL(turn() && knit_state(k) == KNIT_IS_DRAINING, PATIENCE_MS));
    (void)wakes_within(300);
    assert_in_range(wakes_within(700), 0, 50);
    knit_several_tell(1, KNIT_SEVERAL_RELEASE);
    assert_int_equal(finish(held), 1);
}

/* ---- names ---- */

static void open_name(const char *host, uint32_t connect_ms)
{
    const struct knit_spread_options spread = {.lookup_ms = 20};
    const struct knit_open_options options = {.spread = &spread, .connect_ms = connect_ms};
    char url[64];

    (void)snprintf(url, sizeof(url), "knit://%s:%u", host, several_port);
    open_url(url, &options);
}

static void a_name_has_the_servers_of_its_addresses(void **state)
{
    struct knit_handle *held;

    (void)state;
    knit_several_start(3, NULL);
    atomic_store_explicit(&addresses, 3, memory_order_relaxed);
    open_name("all.invalid", 0);
    assert_true(KNIT_WAIT_UNTIL(all_serve(2), PATIENCE_MS));
    assert_int_equal(connections(2), 0);
    held = hold_at(0);
    /* Another one in the place of the first. */
    atomic_store_explicit(&addresses, 6, memory_order_relaxed);
    assert_true(KNIT_WAIT_UNTIL(turn() && connections(2) == 1 && all_serve(2), PATIENCE_MS));
    for (int i = 0; i < 100; i++)
        assert_int_not_equal(where("where"), 0);
    assert_int_equal(knit_await(held, 0, &error), KNIT_PENDING);
    knit_several_tell(0, KNIT_SEVERAL_RELEASE);
    assert_int_equal(finish(held), 0);
    assert_true(KNIT_WAIT_UNTIL(turn() && connections(0) == 0, PATIENCE_MS));
    /* A name that is gone for now changes nothing. */
    atomic_store_explicit(&addresses, 0, memory_order_relaxed);
    atomic_store_explicit(&lookups, 0, memory_order_relaxed);
    assert_true(KNIT_WAIT_UNTIL(
        turn() && atomic_load_explicit(&lookups, memory_order_relaxed) > 2, PATIENCE_MS));
    assert_true(all_serve(2));
}

/* One address alone, and another one later. */
static void a_name_that_moves_is_followed(void **state)
{
    (void)state;
    knit_several_start(2, NULL);
    atomic_store_explicit(&addresses, 1, memory_order_relaxed);
    open_name("all.invalid", 0);
    assert_int_equal(where("where"), 0);
    atomic_store_explicit(&addresses, 2, memory_order_relaxed);
    assert_true(KNIT_WAIT_UNTIL(where("where") == 1, PATIENCE_MS));
    assert_true(KNIT_WAIT_UNTIL(turn() && connections(0) == 0 && all_serve(1), PATIENCE_MS));
}

static void a_resolver_that_hangs_has_one_thread(void **state)
{
    const struct knit_open_options options = {.connect_ms = 1000};
    char url[64];

    (void)state;
    knit_several_start(1, NULL);
    (void)snprintf(
        url, sizeof(url), "knit://127.0.0.1:%u,silent.invalid:%u", several_port, several_port);
    open_url(url, &options);
    knit_several_tell(0, KNIT_SEVERAL_DIE);
    /* Each attempt at that name takes half a second. */
    for (uint64_t begin_ns = knit_now(); knit_now() - begin_ns < UINT64_C(3000000000);) {
        (void)turn();
        assert_in_range(atomic_load_explicit(&lookers, memory_order_relaxed), 0, 1);
        (void)poll(NULL, 0, 5);
    }
    assert_int_equal(atomic_load_explicit(&lookers, memory_order_relaxed), 1);
    k = knit_close(k);
    assert_int_equal(sem_post(&may_answer), 0);
    assert_true(
        KNIT_WAIT_UNTIL(atomic_load_explicit(&lookers, memory_order_relaxed) == 0, PATIENCE_MS));
}

#define WITH_SERVERS(test) cmocka_unit_test_teardown(test, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVERS(calls_are_shared_by_workers),
        WITH_SERVERS(no_more_connections_than_said),
        WITH_SERVERS(a_call_stays_with_its_source),
        WITH_SERVERS(a_call_with_sources_at_two_servers_waits_here),
        WITH_SERVERS(a_key_has_one_server),
        WITH_SERVERS(a_key_stays_when_others_connect),
        WITH_SERVERS(a_call_is_cancelled_where_it_is),
        WITH_SERVERS(a_call_is_made_again_elsewhere),
        WITH_SERVERS(a_call_with_a_key_is_made_again_where_it_is_known),
        WITH_SERVERS(a_key_that_no_server_knows_any_more_ends_its_call),
        WITH_SERVERS(a_declaration_is_compared_with_each_server),
        WITH_SERVERS(a_key_stays_when_its_call_is_made_again),
        WITH_SERVERS(what_dies_takes_its_own_calls_alone),
        WITH_SERVERS(what_dies_takes_nothing_that_was_not_sent),
        WITH_SERVERS(what_is_silent_is_ejected_and_comes_back),
        WITH_SERVERS(what_says_anything_has_its_time_anew),
        WITH_SERVERS(who_says_goaway_is_left_alone),
        WITH_SERVERS(all_that_die_are_waited_for),
        WITH_SERVERS(one_descriptor_stands_for_all),
        WITH_SERVERS(a_hello_without_answer_is_slept_through),
        WITH_SERVERS(the_last_one_that_leaves_is_slept_through),
        WITH_SERVERS(a_name_has_the_servers_of_its_addresses),
        WITH_SERVERS(a_name_that_moves_is_followed),
        WITH_SERVERS(a_resolver_that_hangs_has_one_thread),
    };

    if (sem_init(&may_answer, 0, 0) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
