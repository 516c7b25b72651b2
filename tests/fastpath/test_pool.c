/* SPDX-License-Identifier: Apache-2.0 */
/* Pools with real worker processes: start and refusal, calls, output, sessions of other processes,
 * shutdown.
 *
 * Method: a ledger in shared memory counts the runs of each call, so "once" and "never" are numbers
 * to compare. Events are compared as text. Bounds of time are ten times the expected time.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/segment.h"
#include "tests/fastpath/guests.h"
#include "tests/fastpath/pools.h"
#include "tests/support/deadline.h"

/* ---- starting ---- */

static const struct knit_host_ask most, few = {.slots = 10, .arena_bytes = 100000};

static void a_pool_starts_calls_and_stops(void **state)
{
    struct pools pools;
    struct pools_outcome bytes = {0};

    (void)state;
    pools_init(&pools, 2);
    assert_int_equal(pools_open(&pools), 0);
    pools_add(&pools);
    pools_start_number(&pools, "large", 5000, &bytes);
    pools_wait(&pools, &bytes);
    assert_int_equal(bytes.code, 0);
    assert_int_equal(bytes.len, 5003);
    assert_int_equal(bytes.bytes[3 + 4999], 4999 % 256);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_WORKER_STARTED), 2);
    pools_fini(&pools);
}

static void expect_refusal(const char *module, const char *sentence)
{
    struct pools pools;

    pools_init(&pools, 2);
    pools.modules[1] = module;
    pools.options.module_count = 2;
    assert_int_equal(pools_open(&pools), KNIT_HOST_E_STARTUP);
    if (strstr(pools.why.text, sentence) == NULL ||
        strncmp(pools.why.text, "worker startup failed: ", 23) != 0 ||
        strstr(pools.why.text, module) == NULL)
        fail_msg("\"%s\" should have \"%s\"", pools.why.text, sentence);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_WORKER_DIED), 0);
    pools_fini(&pools);
}

static void a_bad_module_is_refused_with_one_sentence(void **state)
{
    (void)state;
    expect_refusal(
        TEST_MODULES "/module_bad_1.so", "was built for module ABI 8, this worker has 1");
    expect_refusal(TEST_MODULES "/module_bad_2.so", "has no tasks");
    expect_refusal(
        TEST_MODULES "/module_bad_3.so", "task wrong: signature \"wrong(a: itn) -> int\"");
    expect_refusal(TEST_MODULES "/module_bad_4.so", "task wrong: its signature names it right");
    expect_refusal(
        TEST_MODULES "/module_bad_5.so", "task wrong: flags 0x100000 are of a later version");
    expect_refusal(TEST_MODULES "/module_bad_6.so", "has a task of that name already");
    expect_refusal(
        TEST_MODULES "/module_bad_7.so", "undefined symbol: knit_test_no_library_has_this");
    expect_refusal(
        TEST_MODULES "/module_bad_8.so", "its bootstrap hook failed with 5: no database today");
    expect_refusal(TEST_MODULES "/module_bad_9.so", "is no module: it has no KNIT_MODULE()");
    expect_refusal(TEST_MODULES "/module_bad_10.so",
        "the worker was killed by signal 6 (SIGABRT) while loading");
    expect_refusal(
        TEST_MODULES "/module_bad_11.so", "module_tasks.so has a task of that name already");
    expect_refusal(TEST_MODULES "/module_bad_12.so", "task \"wrong name\": a name is 1 to 128");
    expect_refusal("/nowhere/x.so", "cannot open shared object file: No such file or directory");
    expect_refusal(TEST_WORKER, TEST_WORKER);
}

static void open_fails_when_workers_keep_dying(void **state)
{
    struct pools pools;
    uint64_t until_ns = knit_deadline_in_ms(20000);

    (void)state;
    pools_init(&pools, 2);
    pools.modules[0] = TEST_MODULES "/module_bad_13.so";
    pools.options.startup_ms = 1500;
    assert_int_equal(pools_open(&pools), KNIT_HOST_E_STARTUP);
    if (strstr(pools.why.text, "not all serve at once; the last death: exited with status 7") ==
        NULL)
        fail_msg("\"%s\"", pools.why.text);
    assert_true(knit_deadline_now_ns() < until_ns);
    pools_fini(&pools);
}

static void open_that_takes_too_long_says_why(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct pools pools;

        pools_init(&pools, 1);
        pools.modules[0] = TEST_MODULES "/module_bad_15.so";
        pools.options.startup_ms = 1;
        assert_int_equal(pools_open(&pools), KNIT_HOST_E_STARTUP);
        assert_int_not_equal(pools.why.text[strlen(pools.why.text) - 1], ' ');
        pools_fini(&pools);
    }
}

/* A forked child keeps copies of the pool's descriptors open; the dead worker's are no events. */
static void descriptors_in_a_forked_child_cause_no_events(void **state)
{
    struct pools pools;
    struct knit_host_lane_stats stats;
    struct pollfd item;
    int hold[2];
    pid_t child;

    (void)state;
    pools_init(&pools, 1);
    assert_int_equal(pools_open(&pools), 0);
    assert_int_equal(pipe(hold), 0);
    child = fork();
    if (child == 0) {
        close(hold[1]);
        (void)!read(hold[0], &stats, 1);
        _exit(0);
    }
    close(hold[0]);
    knit_host_lane_stats(pools.pool, 0, &stats);
    assert_int_equal(kill(stats.pid, SIGKILL), 0);
    pools_wait_events(&pools, KNIT_HOST_WORKER_STARTED, 2);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_WORKER_STARTED), 2);
    item = (struct pollfd){.fd = knit_host_fd(pools.pool), .events = POLLIN};
    assert_true(KNIT_WAIT_UNTIL(pools_turn(&pools) && poll(&item, 1, 0) == 0, 2000));
    close(hold[1]);
    assert_int_equal(waitpid(child, NULL, 0), child);
    pools_fini(&pools);
}

static void a_deadline_in_the_past_stops_the_pool_at_once(void **state)
{
    struct pools pools;
    struct pools_outcome outcome = {0};
    struct knit_host_lane_stats stats;
    uint64_t until_ns;

    (void)state;
    pools_init(&pools, 1);
    pools.options.stop_ms = 60000;
    assert_int_equal(pools_open(&pools), 0);
    pools_start_number(&pools, "hold", 1, &outcome);
    assert_true(KNIT_WAIT_UNTIL(
        pools_turn(&pools) && (knit_host_lane_stats(pools.pool, 0, &stats), stats.is_running),
        10000));
    until_ns = knit_deadline_in_ms(10000);
    knit_host_shutdown(pools.pool, true, UINT64_MAX);
    (void)pools_turn(&pools);
    knit_host_shutdown(pools.pool, false, 0);
    knit_host_wait_stopped(pools.pool);
    assert_true(knit_deadline_now_ns() < until_ns);
    pools_fini(&pools);
}

static void a_wrong_option_is_named(void **state)
{
    struct pools pools;

    (void)state;
    pools_init(&pools, 0);
    pools_expect_refusal(&pools, "no workers");
    pools_init(&pools, 257);
    pools_expect_refusal(&pools, "workers is 257: 1 to 256 are possible");
    pools_init(&pools, 1);
    pools.options.module_count = 0;
    pools_expect_refusal(&pools, "no modules are named");
    pools_init(&pools, 1);
    pools.modules[0] = "relative.so";
    pools_expect_refusal(&pools, "module \"relative.so\": must be an absolute path");
    pools_init(&pools, 1);
    pools.options.call_max_bytes = pools.options.arena_bytes / 8 + 1;
    pools_expect_refusal(&pools, "an eighth of arena_bytes");
    pools_init(&pools, 1);
    pools.options.call_max_bytes = 0;
    pools_expect_refusal(&pools, "call_max_bytes is 0");
    pools_init(&pools, 1);
    pools.options.slots = 0;
    pools_expect_refusal(&pools, "slots is 0: 16 to 16368 are possible");
    pools_init(&pools, 1);
    pools.options.worker_path = "/nowhere/knitting-worker";
    pools_expect_refusal(
        &pools, "/nowhere/knitting-worker: cannot be run: No such file or directory");
    pools_init(&pools, 1);
    pools.options.worker_path = "/bin/true";
    pools_expect_refusal(&pools, "exited with status 0 while starting /bin/true");
    pools_init(&pools, 1);
    pools.options.bootstrap = "/nowhere/ledger";
    pools_expect_refusal(&pools, "/nowhere/ledger: No such file or directory");
}

/* On a machine that stands still the time of all workers may be over as soon: then it is longer. */
static void a_worker_that_does_not_start_in_time_fails_the_open(void **state)
{
    static const char *const sleeper[] = {"sh", "-c", "exec sleep 600", NULL};
    struct pools pools = {.why = {"not all serve at once"}};

    (void)state;
    for (uint32_t ms = 100; strstr(pools.why.text, "took longer than ") == NULL; ms *= 2) {
        assert_true(ms < 20000 && strstr(pools.why.text, "not all serve at once") != NULL);
        pools_init(&pools, 1);
        pools.options.prefix = sleeper;
        pools.options.startup_ms = ms;
        assert_int_equal(pools_open(&pools), KNIT_HOST_E_STARTUP);
        pools_fini(&pools);
    }
}

/* How long a worker needs to come to the hook is not known: it gets twice as long each time. */
static void a_hook_that_hangs_is_named_with_its_module(void **state)
{
    static const char named[] = "running the bootstrap hook of " TEST_MODULES "/module_bad_15.so";
    bool is_named = false;

    (void)state;
    for (uint32_t ms = 200; !is_named; ms *= 2) {
        struct pools pools;

        assert_true(ms < 20000);
        pools_init(&pools, 1);
        pools.modules[0] = TEST_MODULES "/module_bad_15.so";
        pools.options.startup_ms = ms;
        assert_int_equal(pools_open(&pools), KNIT_HOST_E_STARTUP);
        assert_non_null(strstr(pools.why.text, "it took longer than "));
        is_named = strstr(pools.why.text, named) != NULL;
        pools_fini(&pools);
    }
}

static void open_ends_when_stop_fd_is_readable(void **state)
{
    struct pools pools;
    int pipe_fds[2];

    (void)state;
    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_equal(write(pipe_fds[1], "x", 1), 1);
    pools_init(&pools, 2);
    pools.options.stop_fd = pipe_fds[0];
    assert_int_equal(pools_open(&pools), KNIT_HOST_E_CLOSED);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    pools_fini(&pools);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void a_command_prefix_wraps_the_worker(void **state)
{
    struct pools pools;
    static const char *const nice_five[] = {"nice", "-n", "5", NULL};

    (void)state;
    pools_init(&pools, 1);
    pools.options.prefix = nice_five;
    assert_int_equal(pools_open(&pools), 0);
    pools_add(&pools);
    pools_fini(&pools);
}

static void workers_inherit_no_environment_and_no_descriptors(void **state)
{
    struct pools pools;
    struct pools_outcome count = {0}, host = {0}, given = {0}, where = {0};
    int spare[8];

    (void)state;
    assert_int_equal(setenv("KNIT_TEST_SECRET", "x", 1), 0);
    for (int i = 0; i < 8; i++)
        spare[i] = dup(1);
    pools_init(&pools, 1);
    assert_int_equal(pools_open(&pools), 0);
    pools_start_empty(&pools, "descriptors", &count);
    pools_start_text(&pools, "environment", "KNIT_TEST_SECRET", &host);
    pools_start_text(&pools, "environment", "KNIT_TEST", &given);
    pools_start_empty(&pools, "where", &where);
    pools_wait(&pools, &count);
    pools_wait(&pools, &host);
    pools_wait(&pools, &given);
    pools_wait(&pools, &where);
    /* stdin, stdout, stderr, control, the pipe to the host, the two ends by which output is kept
     * for a call and where it goes otherwise, the pidfd of the host, and the bell of the one
     * session. */
    assert_int_equal(count.number, 10);
    assert_int_equal(host.bytes[0], 0xc0);
    assert_memory_equal(given.bytes, "\xa3yes", 4);
    assert_memory_equal(where.bytes, "\x92\x00\x01", 3);
    for (int i = 0; i < 8; i++)
        close(spare[i]);
    pools_fini(&pools);
}

/* ---- output of tasks ---- */

static void output_of_tasks_is_reported_by_lines(void **state)
{
    struct pools pools;
    struct pools_outcome first = {0}, second = {0};

    (void)state;
    pools_init(&pools, 1);
    assert_int_equal(pools_open(&pools), 0);
    pools_start_text(&pools, "print", "one\ntwo", &first);
    pools_start_text(&pools, "print", "three", &second);
    assert_true(KNIT_WAIT_UNTIL(
        pools_turn(&pools) && strcmp(pools.output, "one\ntwo\nthree\n") == 0, 10000));
    pools_wait(&pools, &second);
    pools_fini(&pools);
}

/* ---- sessions of other processes ---- */

static void limits_of_sessions_hold_until_they_are_freed(void **state)
{
    struct pools pools;
    struct knit_host_peer peer = {.uid = 12345}, other = {.uid = 54321};
    struct knit_host_grant grants[4];

    (void)state;
    pools_init(&pools, 2);
    pools.options.uid_sessions_max = 2;
    pools.options.sessions_max = 3;
    assert_int_equal(pools_open(&pools), 0);
    assert_int_equal(knit_host_attach(pools.pool, &peer, &most, &grants[0]), 0);
    assert_int_equal(grants[0].geometry.slots, KNIT_SLOTS_DEFAULT);
    assert_int_equal(grants[0].geometry.request_arena_bytes, 8u << 20);
    assert_int_equal(knit_host_attach(pools.pool, &peer, &few, &grants[1]), 0);
    assert_int_equal(grants[1].geometry.slots, 10);
    assert_int_equal(grants[1].geometry.request_arena_bytes, 98304);
    assert_int_equal(
        knit_host_attach(pools.pool, &peer, &most, &grants[2]), KNIT_HOST_E_UID_SESSIONS);
    assert_int_equal(knit_host_attach(pools.pool, &other, &most, &grants[2]), 0);
    assert_int_equal(knit_host_attach(pools.pool, &other, &most, &grants[3]), KNIT_HOST_E_SESSIONS);
    for (int i = 0; i < 3; i++) {
        knit_host_grant_close(&grants[i]);
        knit_host_detach(pools.pool, grants[i].id);
    }
    knit_host_detach(pools.pool, 999);
    pools_wait_sessions(&pools, 1);
    assert_int_equal(knit_host_attach(pools.pool, &peer, &most, &grants[0]), 0);
    knit_host_grant_close(&grants[0]);
    pools_fini(&pools);
}

static void the_last_sessions_are_kept_for_those_who_have_none(void **state)
{
    struct pools pools;
    struct knit_host_peer peer = {.uid = 12345}, other = {.uid = 54321};
    struct knit_host_grant grants[8];

    (void)state;
    pools_init(&pools, 2);
    pools.options.sessions_max = 8;
    pools.options.sessions_kept = 2;
    assert_int_equal(pools_open(&pools), 0);
    for (int i = 0; i < 6; i++)
        assert_int_equal(knit_host_attach(pools.pool, &peer, &few, &grants[i]), 0);
    assert_int_equal(
        knit_host_attach(pools.pool, &peer, &few, &grants[6]), KNIT_HOST_E_SESSIONS_KEPT);
    assert_int_equal(knit_host_attach(pools.pool, &other, &few, &grants[6]), 0);
    assert_int_equal(
        knit_host_attach(pools.pool, &other, &few, &grants[7]), KNIT_HOST_E_SESSIONS_KEPT);
    for (int i = 0; i < 7; i++) {
        knit_host_grant_close(&grants[i]);
        knit_host_detach(pools.pool, grants[i].id);
    }
    pools_fini(&pools);
}

static void a_granted_session_calls_over_its_own_mappings(void **state)
{
    struct pools pools;
    struct guest guest = {.session = NULL};
    struct knit_session_outcome outcome;
    struct knit_session_call call = {.lane = KNIT_LANE_ANY};
    const struct knit_registry *registry;
    uint32_t slot;
    unsigned char params[20000] = {0x91, 0xc5, 19000 >> 8, 19000 & 0xff};

    (void)state;
    pools_init(&pools, 2);
    assert_int_equal(pools_open(&pools), 0);
    guests_open(&pools, 7, &guest);
    registry = knit_host_registry(pools.pool);
    call.task = knit_registry_find(registry, "echo", 4)->id;
    call.epoch = knit_registry_epoch(registry);
    call.payload = params;
    call.len = 19004;
    for (int i = 0; i < 300; i++) {
        params[4 + i] = (unsigned char)i;
        assert_int_equal(knit_session_publish(guest.session, &call, &slot), 0);
        assert_int_equal(knit_session_wait(guest.session, slot, knit_clock_ns() + 10000000000u), 0);
        assert_true(knit_session_collect_slot(guest.session, slot, &outcome));
        assert_int_equal(outcome.status, KNIT_STATUS_RESULT);
        assert_true(outcome.held);
        assert_int_equal(outcome.len, 19003);
        assert_memory_equal(outcome.payload, params + 1, 19003);
        knit_session_release(guest.session, slot);
    }
    guests_close(&pools, &guest);
    pools_fini(&pools);
}

static void invalid_values_evict_only_the_session_that_wrote_them(void **state)
{
    struct pools pools;
    struct guest guest = {.session = NULL};
    struct knit_request_view request;

    (void)state;
    pools_init(&pools, 1);
    assert_int_equal(pools_open(&pools), 0);
    guests_open(&pools, 7, &guest);
    knit_layout_request(&guest.grant.geometry, guest.request.base, &request);
    atomic_store_explicit(&request.ring[0].ctrl, knit_ctrl(1, 5000, 1), memory_order_release);
    /* Another call wakes the worker, which then reads all rings. */
    assert_true(KNIT_WAIT_UNTIL(
        (pools_add(&pools), pools_count_events(&pools, KNIT_HOST_SESSION_EVICTED) == 1), 10000));
    assert_true(knit_session_is_closed(guest.session));
    guests_close(&pools, &guest);
    pools_fini(&pools);
}

/* Sessions come and go on one thread while the host dispatches on another and workers die. */
struct visitors {
    struct pools *pools;
    _Atomic bool is_over;
    uint32_t visits;
    uid_t uid;
};

static void *visit(void *arg)
{
    struct visitors *visitors = arg;

    while (!atomic_load_explicit(&visitors->is_over, memory_order_relaxed)) {
        struct knit_host_peer peer = {.uid = visitors->uid};
        struct knit_host_grant grant;

        if (knit_host_attach(
                visitors->pools->pool, &peer, &(struct knit_host_ask){.slots = 64}, &grant) != 0)
            continue;
        /* Every other session is detached before it is served. */
        if (visitors->visits % 2 == 0 &&
            (knit_segment_seal(grant.request_fd) != 0 ||
                knit_host_attached(visitors->pools->pool, grant.id) != 0))
            break;
        knit_host_grant_close(&grant);
        knit_host_detach(visitors->pools->pool, grant.id);
        visitors->visits++;
    }
    return NULL;
}

static void sessions_come_and_go_while_workers_die(void **state)
{
    struct pools pools;
    struct visitors visitors[2] = {{.pools = &pools, .uid = 1}, {.pools = &pools, .uid = 2}};
    pthread_t threads[2];

    (void)state;
    pools_init(&pools, 2);
    assert_int_equal(pools_open(&pools), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, visit, &visitors[i]), 0);
    for (uint32_t i = 0; i < 20; i++) {
        struct knit_host_lane_stats lane;

        /* The call would be refused after a second in which no lane has a worker. */
        assert_true(
            KNIT_WAIT_UNTIL(pools_turn(&pools) && (knit_host_lane_stats(pools.pool, i % 2, &lane),
                                                      lane.state == KNIT_HOST_LANE_SERVING),
                20000));
        pools_add(&pools);
        assert_int_equal(kill(lane.pid, SIGKILL), 0);
        pools_wait_events(&pools, KNIT_HOST_WORKER_DIED, i + 1);
    }
    for (int i = 0; i < 2; i++) {
        atomic_store_explicit(&visitors[i].is_over, true, memory_order_relaxed);
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(visitors[i].visits > 1);
    }
    pools_wait_sessions(&pools, 1);
    pools_fini(&pools);
}

static void memory_is_limited(void **state)
{
    struct pools pools;
    struct knit_host_peer peer = {.uid = 12345};
    struct knit_host_grant grants[2];

    (void)state;
    pools_init(&pools, 1);
    pools.options.memory_max_bytes = 40u << 20; /* one session and the host's */
    pools.options.reply_budget_bytes = 8u << 20;
    assert_int_equal(pools_open(&pools), 0);
    assert_int_equal(knit_host_attach(pools.pool, &peer, &most, &grants[0]), 0);
    assert_int_equal(knit_host_attach(pools.pool, &peer, &most, &grants[1]), KNIT_HOST_E_MEMORY);
    knit_host_grant_close(&grants[0]);
    pools_fini(&pools);
}

static uint64_t memory_of(struct pools *pools)
{
    struct knit_host_stats stats;

    knit_host_stats(pools->pool, &stats);
    return stats.memory_bytes;
}

static uint64_t blocks_bytes(int fd)
{
    struct stat status;

    assert_int_equal(fstat(fd, &status), 0);
    return (uint64_t)status.st_blocks * 512;
}

/* Has a worker write so many results of half a MiB, none of which is released. */
static void have_results_written(struct pools *pools, struct guest *guest, int count)
{
    static unsigned char params[(512 << 10) + 6] = {0x91, 0xc6, 0, 8, 0, 0};
    const struct knit_registry *registry = knit_host_registry(pools->pool);
    struct knit_session_call call = {.lane = KNIT_LANE_ANY,
        .task = knit_registry_find(registry, "echo", 4)->id,
        .epoch = knit_registry_epoch(registry),
        .payload = params,
        .len = sizeof(params)};

    for (int i = 0; i < count; i++) {
        struct knit_session_outcome outcome;
        uint32_t slot;

        assert_int_equal(knit_session_publish(guest->session, &call, &slot), 0);
        assert_int_equal(
            knit_session_wait(guest->session, slot, knit_clock_ns() + 10000000000u), 0);
        assert_true(knit_session_collect_slot(guest->session, slot, &outcome));
        assert_int_equal(outcome.status, KNIT_STATUS_RESULT);
    }
}

/* The attack: attach, have results written, close, keep everything, attach again. */
static void memory_counts_until_its_caller_has_let_go_of_it(void **state)
{
    struct pools pools;
    struct guest guests[2] = {{.session = NULL}};
    struct knit_host_peer peer = {.uid = 7}, other = {.uid = 8};
    struct knit_host_grant grant;
    const volatile unsigned char *reply;
    uint64_t before, held, again = 0;

    (void)state;
    pools_init(&pools, 1);
    pools.options.uid_sessions_max = 2;
    assert_int_equal(pools_open(&pools), 0);
    before = memory_of(&pools);
    for (int i = 0; i < 2; i++) {
        guests_open(&pools, 7, &guests[i]);
        have_results_written(&pools, &guests[i], 10);
        assert_true(blocks_bytes(guests[i].grant.reply_fd) > 5u << 20);
        knit_host_detach(pools.pool, guests[i].grant.id);
        pools_wait_sessions(&pools, 1);
        assert_true(memory_of(&pools) - before > 5u << 20);
        /* What workers wrote is taken back, although its caller keeps all it has. */
        assert_true(KNIT_WAIT_UNTIL(
            pools_turn(&pools) && blocks_bytes(guests[i].grant.reply_fd) < 1u << 20, 10000));
    }
    held = memory_of(&pools) - before;
    assert_true(held > 0 && held < 30u << 20);
    assert_int_equal(knit_host_attach(pools.pool, &peer, &most, &grant), KNIT_HOST_E_UID_SESSIONS);
    assert_int_equal(knit_host_attach(pools.pool, &other, &most, &grant), 0);
    knit_host_grant_close(&grant);
    knit_host_detach(pools.pool, grant.id);
    pools_wait_sessions(&pools, 1);
    /* A kept mapping that is read gets pages again, and they are counted. */
    reply = guests[0].reply.base;
    for (size_t i = 0; i < guests[0].reply.bytes; i += KNIT_PAGE)
        (void)reply[i];
    assert_true(blocks_bytes(guests[0].grant.reply_fd) > 5u << 20);
    assert_true(KNIT_WAIT_UNTIL(
        pools_turn(&pools) && (again = memory_of(&pools) - before) > held + (5u << 20), 10000));
    print_message("departed twice: %.1f MiB held, %.1f MiB when one reads its mapping\n",
        (double)held / 1048576, (double)again / 1048576);
    /* A mapping alone holds it as well. */
    knit_host_grant_close(&guests[0].grant);
    assert_int_equal(knit_host_attach(pools.pool, &peer, &most, &grant), KNIT_HOST_E_UID_SESSIONS);
    for (int i = 0; i < 2; i++)
        guests_close(&pools, &guests[i]);
    assert_int_equal(knit_host_attach(pools.pool, &peer, &most, &grant), 0);
    knit_host_grant_close(&grant);
    knit_host_detach(pools.pool, grant.id);
    pools_wait_sessions(&pools, 1);
    assert_true(KNIT_WAIT_UNTIL(pools_turn(&pools) && memory_of(&pools) == before, 10000));
    pools_fini(&pools);
}

/* Each lane may keep one outcome of the largest size, even beyond the reply budget, and its worker
 * one more while there is no room for that. */
static void the_least_memory_of_each_lane_is_counted(void **state)
{
    struct pools pools;
    struct knit_host_stats stats;

    (void)state;
    pools_init(&pools, 4);
    pools.options.reply_budget_bytes = 1u << 20;
    assert_int_equal(pools_open(&pools), 0);
    knit_host_stats(pools.pool, &stats);
    assert_true(stats.memory_bytes >= pools.options.arena_bytes + 8 * pools.options.call_max_bytes);
    pools_fini(&pools);
}

static void a_task_of_a_closed_session_sees_the_abort_and_is_then_killed(void **state)
{
    struct pools pools;
    struct pools_outcome ignored = {0}, sum = {0};
    struct knit_host_own_session *first, *second;
    struct knit_session_options options = {.spin_us = 0};
    struct knit_host_stats stats;

    (void)state;
    pools_init(&pools, 1);
    pools.options.abandoned_ms = 100;
    assert_int_equal(pools_open(&pools), 0);
    assert_int_equal(knit_host_own_session_open(pools.pool, 16, &options, &second), 0);
    /* This task returns when it sees the abort. */
    first = pools.session;
    pools.session = second;
    pools_start_empty(&pools, "wait_abort", &ignored);
    pools.session = first;
    pools_start(&pools, "add", "\x92\x02\x03", 3, &sum);
    knit_host_own_session_close(pools.pool, second);
    pools_wait(&pools, &sum);
    pools_wait_sessions(&pools, 1);
    knit_host_stats(pools.pool, &stats);
    assert_int_equal(stats.deaths, 0);
    /* This one ignores it. */
    assert_int_equal(knit_host_own_session_open(pools.pool, 16, &options, &second), 0);
    pools.session = second;
    pools_start_number(&pools, "hold", 7, &ignored);
    assert_true(
        KNIT_WAIT_UNTIL(atomic_load_explicit(&pools.ledger[7], memory_order_seq_cst) == 1, 10000));
    pools.session = first;
    knit_host_own_session_close(pools.pool, second);
    assert_true(KNIT_WAIT_UNTIL(
        pools_turn(&pools) && (knit_host_stats(pools.pool, &stats), stats.deaths == 1), 10000));
    assert_int_equal(stats.sessions, 1);
    pools_fini(&pools);
}

/* ---- shutdown ---- */

static void a_drain_runs_all_calls_to_their_end(void **state)
{
    struct pools pools;
    struct pools_outcome outcomes[32] = {0};
    struct knit_host_peer peer = {.uid = 1};
    struct knit_host_grant grant;

    (void)state;
    pools_init(&pools, 2);
    assert_int_equal(pools_open(&pools), 0);
    pools_start_number(&pools, "hold", 1, &outcomes[0]);
    for (int i = 1; i < 32; i++)
        pools_start_number(&pools, "count", i + 1, &outcomes[i]);
    knit_host_shutdown(pools.pool, true, knit_clock_ns() + 60000000000u);
    assert_int_equal(knit_host_attach(pools.pool, &peer, &most, &grant), KNIT_HOST_E_CLOSED);
    assert_false(knit_host_is_stopped(pools.pool));
    atomic_store_explicit(&pools.ledger[0], 1, memory_order_seq_cst);
    for (int i = 0; i < 32; i++) {
        pools_wait(&pools, &outcomes[i]);
        assert_int_equal(outcomes[i].code, 0);
        assert_int_equal(pools.ledger[i + 1], 1);
    }
    assert_true(KNIT_WAIT_UNTIL(pools_turn(&pools) && knit_host_is_stopped(pools.pool), 10000));
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_STOPPED), 1);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_WORKER_STOPPED), 2);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_WORKER_DIED), 0);
    pools_fini(&pools);
}

static void a_shutdown_without_drain_fails_queued_calls(void **state)
{
    struct pools pools;
    struct pools_outcome running = {0}, queued[8] = {0};

    (void)state;
    pools_init(&pools, 1);
    assert_int_equal(pools_open(&pools), 0);
    pools_start_number(&pools, "hold", 1, &running);
    assert_true(
        KNIT_WAIT_UNTIL(atomic_load_explicit(&pools.ledger[1], memory_order_seq_cst) == 1, 10000));
    for (int i = 0; i < 8; i++)
        pools_start_number(&pools, "count", i + 2, &queued[i]);
    knit_host_shutdown(pools.pool, false, knit_clock_ns() + 50000000u);
    knit_host_shutdown(pools.pool, false, knit_clock_ns() + 50000000u);
    knit_host_wait_stopped(pools.pool);
    knit_host_wait_stopped(pools.pool);
    pools_wait(&pools, &running);
    assert_int_equal(running.code, KNIT_SHUTDOWN);
    assert_int_equal(running.failure.started, KNIT_STARTED_YES);
    for (int i = 0; i < 8; i++) {
        pools_wait(&pools, &queued[i]);
        assert_int_equal(queued[i].code, KNIT_SHUTDOWN);
        assert_int_equal(queued[i].failure.started, KNIT_STARTED_NO);
        assert_int_equal(pools.ledger[i + 2], 0);
    }
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_STOPPED), 1);
    pools_fini(&pools);
}

static bool is_running(struct pools *pools)
{
    struct knit_host_lane_stats stats;

    knit_host_lane_stats(pools->pool, 0, &stats);
    return pools_turn(pools) && stats.is_running;
}

static void a_task_that_polls_the_abort_ends_before_the_deadline(void **state)
{
    struct pools pools;
    struct pools_outcome running = {0};
    uint64_t start_ns;

    (void)state;
    pools_init(&pools, 1);
    assert_int_equal(pools_open(&pools), 0);
    pools_start_empty(&pools, "wait_and_stop", &running);
    start_ns = knit_clock_ns();
    assert_true(KNIT_WAIT_UNTIL(is_running(&pools), 10000));
    knit_host_shutdown(pools.pool, false, start_ns + 30000000000u);
    knit_host_wait_stopped(pools.pool);
    assert_true(knit_clock_ns() - start_ns < 10000000000u);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_WORKER_STOPPED), 1);
    /* Nobody has cancelled it. */
    pools_wait(&pools, &running);
    assert_int_equal(running.code, KNIT_SHUTDOWN);
    assert_int_equal(running.failure.started, KNIT_STARTED_YES);
    pools_fini(&pools);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_starts_calls_and_stops),
        cmocka_unit_test(a_bad_module_is_refused_with_one_sentence),
        cmocka_unit_test(open_fails_when_workers_keep_dying),
        cmocka_unit_test(open_that_takes_too_long_says_why),
        cmocka_unit_test(descriptors_in_a_forked_child_cause_no_events),
        cmocka_unit_test(a_deadline_in_the_past_stops_the_pool_at_once),
        cmocka_unit_test(a_wrong_option_is_named),
        cmocka_unit_test(a_worker_that_does_not_start_in_time_fails_the_open),
        cmocka_unit_test(a_hook_that_hangs_is_named_with_its_module),
        cmocka_unit_test(open_ends_when_stop_fd_is_readable),
        cmocka_unit_test(a_command_prefix_wraps_the_worker),
        cmocka_unit_test(workers_inherit_no_environment_and_no_descriptors),
        cmocka_unit_test(output_of_tasks_is_reported_by_lines),
        cmocka_unit_test(limits_of_sessions_hold_until_they_are_freed),
        cmocka_unit_test(the_last_sessions_are_kept_for_those_who_have_none),
        cmocka_unit_test(a_granted_session_calls_over_its_own_mappings),
        cmocka_unit_test(invalid_values_evict_only_the_session_that_wrote_them),
        cmocka_unit_test(sessions_come_and_go_while_workers_die),
        cmocka_unit_test(memory_is_limited),
        cmocka_unit_test(memory_counts_until_its_caller_has_let_go_of_it),
        cmocka_unit_test(the_least_memory_of_each_lane_is_counted),
        cmocka_unit_test(a_task_of_a_closed_session_sees_the_abort_and_is_then_killed),
        cmocka_unit_test(a_drain_runs_all_calls_to_their_end),
        cmocka_unit_test(a_shutdown_without_drain_fails_queued_calls),
        cmocka_unit_test(a_task_that_polls_the_abort_ends_before_the_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
