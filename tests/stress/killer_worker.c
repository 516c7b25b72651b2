/* SPDX-License-Identifier: Apache-2.0 */
/* A worker that dies after any of its instructions leaves each call exactly one outcome.
 *
 * Method: calls of every kind are published while the worker of lane 0 is stopped where it woke up.
 * One worker is then stepped through all it does with them, until it is parked again, and its place
 * after each instruction is recorded: it finds, claims, runs, answers, wakes, looks for more,
 * parks. Then, for each instruction of that trace (in a short run for every n-th), another worker
 * runs to it and is killed there. After each death every call has one outcome within a second: its
 * own, or WORKER_DIED for the one call that the dead worker had claimed; the ledger says that no
 * call ran twice and that none ran which was aborted or too late; the inspector finds nothing
 * broken, nothing has leaked, and the replacement serves.
 *
 * Four hunts: the worker alone with its ring; one that gets a session while another one ends; one
 * with empty home rings that steals from a sibling in a long call; and one that defers replies,
 * because the arena has no room until its caller releases some.
 *
 * With --all-steps, or KNIT_TEST_LONG=1, a worker dies at every instruction. A pattern behind it
 * selects the hunts whose functions it matches.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <knitting/code.h>

#include "fastpath/host/host.h"
#include "fastpath/host/session.h"
#include "fastpath/lane/bell.h"
#include "tests/stress/scene.h"
#include "tests/stress/stepper.h"
#include "tests/support/deadline.h"

#define SHORT_DEATHS 40u
#define TRACE_MAX    200000u
#define BOUND_MS     1000u
#define ASLEEP_NS    20000000u /* parked for so long with nothing to do: it sleeps */
#define CALLS_MAX    24u
#define HOLD_ID      50u
#define FULL         8000u /* eight such results fill a lane's arena */

enum kind { ALONE, HOST, THIEF, DEFERRED };

struct call {
    struct pools_outcome outcome;
    uint32_t id;         /* of the ledger; 0 = not counted */
    enum knit_code code; /* that it ends with, when no worker dies */
    size_t len;          /* of its result; 0 = it is the id */
};

struct hunt {
    struct scene scene;
    struct scene_steps steps;
    enum kind kind;
    struct stepper_place *trace;
    uint32_t count;
    uint32_t aimed, hit; /* deaths planned at a place, and those that happened there */
    struct knit_host_own_session *other; /* a second session */
    struct pools_outcome theirs;
    struct call calls[CALLS_MAX];
    uint32_t call_count;
    struct knit_host_own_session *guest; /* HOST: it ends, and another one comes */
    struct pools_outcome held;           /* THIEF: the long call, of lane 1 */
    uint32_t full[8], full_count;        /* DEFERRED: slots of results that are not released */
    /* The worker that is to die. */
    struct stepper stepper;
    uint32_t park; /* its park word before it was woken */
    uint64_t quiet_since_ns;
    /* For the report. */
    uint32_t deaths, stepped, died;
    uint64_t *outcomes_ns,
        *serving_ns; /* [deaths]: until all outcomes were there, until the lane was served */
};

static bool all_steps;

static struct knit_session *session_of(const struct hunt *hunt)
{
    return hunt->scene.pools.session->session;
}

/* ---- calls ---- */

static void publish(struct hunt *hunt, const char *task, const void *params, size_t len,
    const struct knit_session_call *as, struct call *expected)
{
    const struct knit_registry *registry = knit_host_registry(hunt->scene.pools.pool);
    const struct knit_registry_task *found = knit_registry_find(registry, task, strlen(task));
    struct knit_session_call call = *as;
    uint32_t slot;

    assert_non_null(found);
    assert_true(hunt->call_count < CALLS_MAX);
    /* In all rings; a thief leaves what is pinned. */
    call.ring = (enum knit_ring)(hunt->call_count % (call.lane == 0 ? 4 : 3));
    hunt->calls[hunt->call_count] = *expected;
    call.task = found->id;
    call.epoch = knit_registry_epoch(registry);
    call.payload = params;
    call.len = len;
    call.user = &hunt->calls[hunt->call_count++].outcome;
    assert_int_equal(knit_session_publish(session_of(hunt), &call, &slot), 0);
    if (expected->code == KNIT_CANCELLED)
        knit_session_abort(session_of(hunt), slot);
}

static void publish_count(struct hunt *hunt, uint32_t lane, enum knit_code code)
{
    struct call expected = {.id = hunt->call_count + 1, .code = code};
    struct knit_session_call as = {.lane = lane, .deadline_ns = code == KNIT_TIMEOUT ? 1 : 0};
    unsigned char bytes[2] = {0x91, (unsigned char)expected.id};

    publish(hunt, "count", bytes, sizeof(bytes), &as, &expected);
}

/* [bin of so many bytes] */
static size_t put_bin(unsigned char *bytes, size_t len)
{
    bytes[0] = 0x91;
    bytes[1] = 0xc5;
    bytes[2] = (unsigned char)(len >> 8);
    bytes[3] = (unsigned char)len;
    return len + 4;
}

static void publish_echo(struct hunt *hunt, uint32_t lane, size_t len)
{
    static unsigned char bytes[FULL + 4];
    struct call expected = {.len = len + 3};
    struct knit_session_call as = {.lane = lane};

    publish(hunt, "echo", bytes, put_bin(bytes, len), &as, &expected);
}

static void publish_large(struct hunt *hunt, uint32_t lane, uint32_t len)
{
    unsigned char bytes[4] = {0x91, 0xcd, (unsigned char)(len >> 8), (unsigned char)len};
    struct call expected = {.len = len + 3};
    struct knit_session_call as = {.lane = lane};

    publish(hunt, "large", bytes, sizeof(bytes), &as, &expected);
}

static void publish_theirs(struct hunt *hunt)
{
    const struct knit_registry *registry = knit_host_registry(hunt->scene.pools.pool);
    struct knit_session_call call = {.task = knit_registry_find(registry, "count", 5)->id,
        .epoch = knit_registry_epoch(registry),
        .lane = 0,
        .payload = "\x91\x28",
        .len = 2,
        .user = &hunt->theirs};
    uint32_t slot;

    hunt->theirs.is_there = false;
    assert_int_equal(knit_session_publish(hunt->other->session, &call, &slot), 0);
    knit_session_flush(hunt->other->session);
}

/* The other session belongs to the same thread; its one outcome is looked at here. */
static void collect_theirs(struct hunt *hunt)
{
    struct knit_session_outcome outcome;

    while (knit_session_collect(hunt->other->session, &outcome, 1) == 1) {
        assert_false(hunt->theirs.is_there);
        hunt->theirs.is_there = true;
        hunt->theirs.code = 0;
        if (outcome.status == KNIT_STATUS_ERROR) {
            memcpy(hunt->theirs.bytes, outcome.body, outcome.len);
            assert_int_equal(knit_failure_decode(
                                 knit_span(hunt->theirs.bytes, outcome.len), &hunt->theirs.failure),
                0);
            hunt->theirs.code = hunt->theirs.failure.code;
        }
    }
}

static bool turn(struct hunt *hunt)
{
    (void)pools_turn(&hunt->scene.pools);
    collect_theirs(hunt);
    return true;
}

static uint64_t ledger(const struct hunt *hunt, uint32_t id)
{
    return atomic_load_explicit(&hunt->scene.pools.ledger[id], memory_order_seq_cst);
}

/* ---- before ---- */

static void open_gate(struct hunt *hunt, bool is_open)
{
    atomic_store_explicit(&hunt->scene.pools.ledger[0], is_open, memory_order_seq_cst);
}

/* Once the new guest is attached the worker has handled both: messages are handled in order. */
static bool has_new_guest(const struct hunt *hunt)
{
    struct knit_host *pool = hunt->scene.pools.pool;

    knit_host_dispatch(pool);
    return pool->workers[0].links[knit_host_session_find(pool, hunt->guest->id)->index] ==
           KNIT_LINK_ATTACHED;
}

static void change_guests(struct hunt *hunt)
{
    struct knit_session_options options = {.spin_us = 0};
    struct knit_host *pool = hunt->scene.pools.pool;

    hunt->guest = knit_host_own_session_close(pool, hunt->guest);
    assert_int_equal(knit_host_own_session_open(pool, 8, &options, &hunt->guest), 0);
    assert_true(KNIT_WAIT_UNTIL(has_new_guest(hunt), 20000));
}

/* Lane 1 gets a long call, and behind it calls for the thief to find. */
static void publish_for_thief(struct hunt *hunt)
{
    open_gate(hunt, false);
    scene_start(&hunt->scene, "hold", HOLD_ID, 1, &hunt->held);
    assert_true(KNIT_WAIT_UNTIL(ledger(hunt, HOLD_ID) == 1, 20000));
    publish_count(hunt, 1, 0);
    publish_echo(hunt, 1, 300);
    publish_count(hunt, 1, KNIT_CANCELLED);
    publish_count(hunt, 0, 0); /* wakes it */
}

/* Results that are not released fill the lane's arena: it has no room for another. */
static void fill_arena(struct hunt *hunt)
{
    static unsigned char bytes[FULL + 4];
    struct knit_session_outcome outcome;
    uint64_t until_ns = knit_deadline_in_ms(20000);

    for (hunt->full_count = 0; hunt->full_count < 8; hunt->full_count++) {
        const struct knit_registry *registry = knit_host_registry(hunt->scene.pools.pool);
        struct knit_session_call call = {.task = knit_registry_find(registry, "echo", 4)->id,
            .epoch = knit_registry_epoch(registry),
            .payload = bytes,
            .len = put_bin(bytes, FULL)};
        uint32_t slot;

        assert_int_equal(knit_session_publish(session_of(hunt), &call, &slot), 0);
        knit_session_flush(session_of(hunt));
        while (!knit_session_collect_slot(session_of(hunt), slot, &outcome)) {
            assert_true(knit_deadline_now_ns() < until_ns);
            (void)knit_session_wait(session_of(hunt), slot, until_ns);
            knit_host_dispatch(hunt->scene.pools.pool);
        }
        assert_true(outcome.held);
        hunt->full[hunt->full_count] = slot;
    }
}

static void release_full(struct hunt *hunt)
{
    while (hunt->full_count > 0)
        knit_session_release(session_of(hunt), hunt->full[--hunt->full_count]);
}

static void publish_all(struct hunt *hunt)
{
    hunt->call_count = 0;
    memset(hunt->calls, 0, sizeof(hunt->calls));
    for (uint32_t i = 1; i <= HOLD_ID; i++)
        atomic_store_explicit(&hunt->scene.pools.ledger[i], 0, memory_order_seq_cst);
    switch (hunt->kind) {
    case ALONE:
        publish_count(hunt, 0, 0);
        publish_echo(hunt, 0, 300);
        publish_large(hunt, 0, 1300);
        publish_count(hunt, 0, KNIT_CANCELLED);
        publish_count(hunt, 0, KNIT_TIMEOUT);
        publish_count(hunt, 0, 0);
        publish_theirs(hunt);
        break;
    case HOST:
        change_guests(hunt);
        publish_count(hunt, 0, 0);
        publish_theirs(hunt);
        break;
    case THIEF:
        publish_for_thief(hunt);
        break;
    case DEFERRED:
        publish_echo(hunt, 0, FULL);
        publish_count(hunt, 0, 0);
        publish_large(hunt, 0, 1300);
        break;
    }
    /* Notifies lane 0, and announces that this caller waits to be woken. */
    (void)knit_session_arm(session_of(hunt));
}

static uint32_t park_word(const struct hunt *hunt)
{
    return atomic_load_explicit(&hunt->scene.pools.pool->board.park[0].value, memory_order_acquire);
}

/* While the worker runs in the C library or the kernel: true when it sleeps for good. */
static bool is_asleep(void *arg)
{
    struct hunt *hunt = arg;
    struct knit_host *pool = hunt->scene.pools.pool;
    uint32_t park = park_word(hunt);
    uint64_t now_ns = knit_deadline_now_ns();

    if (hunt->full_count > 0 &&
        atomic_load_explicit(&hunt->scene.pools.session->reply.lane[0].blocked_on_arena,
            memory_order_acquire) != 0 &&
        knit_park_state(park) == KNIT_PARK_PARKED)
        release_full(hunt);
    if (park == hunt->park || knit_park_state(park) != KNIT_PARK_PARKED)
        hunt->quiet_since_ns = 0;
    else if (hunt->quiet_since_ns == 0)
        hunt->quiet_since_ns = now_ns;
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX && hunt->kind != THIEF; i++) {
        if (pool->sessions[i] != NULL && !knit_recovery_is_idle(&pool->sessions[i]->view))
            hunt->quiet_since_ns = 0;
    }
    return hunt->quiet_since_ns != 0 && now_ns - hunt->quiet_since_ns >= ASLEEP_NS;
}

/* The worker of lane 0 is stopped where it woke up, and there are calls for it. */
static void wake_up(struct hunt *hunt)
{
    static const char *const files[] = {TEST_WORKER, TEST_MODULES "/module_tasks.so", NULL};
    struct knit_host_lane_stats stats;

    scene_settle(&hunt->scene);
    if (hunt->kind == DEFERRED)
        fill_arena(hunt);
    scene_settle(&hunt->scene);
    knit_host_lane_stats(hunt->scene.pools.pool, 0, &stats);
    hunt->stepper = (struct stepper){.while_running = is_asleep, .arg = hunt};
    hunt->park = park_word(hunt);
    hunt->quiet_since_ns = 0;
    assert_true(stepper_seize(&hunt->stepper, stats.pid, files));
    assert_true(stepper_interrupt(&hunt->stepper));
    publish_all(hunt);
    assert_int_equal(stepper_go_on(&hunt->stepper), STEPPER_HERE);
}

/* ---- after ---- */

static bool calls_theirs(const struct hunt *hunt)
{
    return hunt->kind == ALONE || hunt->kind == HOST;
}

static bool is_all_there(struct hunt *hunt)
{
    bool all = !calls_theirs(hunt) || hunt->theirs.is_there;

    (void)turn(hunt);
    for (uint32_t i = 0; i < hunt->call_count; i++)
        all = all && hunt->calls[i].outcome.is_there;
    return all;
}

static bool is_served(struct hunt *hunt, pid_t dead)
{
    struct knit_host_lane_stats stats;

    (void)turn(hunt);
    knit_host_lane_stats(hunt->scene.pools.pool, 0, &stats);
    return stats.state == KNIT_HOST_LANE_SERVING && stats.pid != dead;
}

/* Returns whether it was lost with the worker. */
static bool check_call(const struct hunt *hunt, const struct call *call)
{
    const struct pools_outcome *outcome = &call->outcome;
    uint64_t runs = call->id != 0 ? ledger(hunt, call->id) : 0;

    if (outcome->code == KNIT_WORKER_DIED) {
        assert_true(runs <= (call->code == 0));
        return true;
    }
    assert_int_equal(outcome->code, call->code);
    assert_int_equal(runs, call->code == 0 && call->id != 0);
    if (call->code == 0 && call->len != 0)
        assert_int_equal(outcome->len, call->len);
    else if (call->code == 0)
        assert_int_equal(outcome->number, call->id);
    return false;
}

static void kill_and_check(struct hunt *hunt)
{
    uint64_t begin_ns = knit_deadline_now_ns(), took_ns;
    pid_t dead = hunt->stepper.pid;
    uint32_t lost = 0;

    stepper_kill(&hunt->stepper);
    release_full(hunt);
    assert_true(KNIT_WAIT_UNTIL(is_all_there(hunt), BOUND_MS));
    took_ns = knit_deadline_now_ns() - begin_ns;
    hunt->outcomes_ns[hunt->deaths] = took_ns;
    assert_true(KNIT_WAIT_UNTIL(is_served(hunt, dead), 10 * BOUND_MS));
    took_ns = knit_deadline_now_ns() - begin_ns;
    hunt->serving_ns[hunt->deaths] = took_ns;
    if (hunt->kind == THIEF) {
        open_gate(hunt, true);
        pools_wait(&hunt->scene.pools, &hunt->held);
        assert_int_equal(hunt->held.number, HOLD_ID);
    }
    for (uint32_t i = 0; i < hunt->call_count; i++)
        lost += check_call(hunt, &hunt->calls[i]);
    if (calls_theirs(hunt) && hunt->theirs.code != 0) {
        assert_int_equal(hunt->theirs.code, KNIT_WORKER_DIED);
        lost++;
    }
    assert_true(ledger(hunt, 0x28) <= 1);
    /* A worker runs one call at a time. */
    assert_true(lost <= 1);
    hunt->died += lost;
    hunt->deaths++;
    scene_settle(&hunt->scene);
    scene_inspect(&hunt->scene, "after a death");
    scene_calls(&hunt->scene, SCENE_CALLS, 0);
    if (calls_theirs(hunt)) {
        publish_theirs(hunt);
        assert_true(KNIT_WAIT_UNTIL(turn(hunt) && hunt->theirs.is_there, 20000));
        assert_int_equal(hunt->theirs.code, 0);
    }
    scene_settle(&hunt->scene);
    scene_inspect(&hunt->scene, "after calls");
    scene_check_size(&hunt->scene);
}

/* ---- the hunt ---- */

static void trace(struct hunt *hunt)
{
    wake_up(hunt);
    while (hunt->count < TRACE_MAX && stepper_place(&hunt->stepper, &hunt->trace[hunt->count])) {
        hunt->count++;
        if (stepper_step(&hunt->stepper) != STEPPER_HERE)
            break;
    }
    assert_true(hunt->count < TRACE_MAX);
    kill_and_check(hunt);
}

static void die_at(struct hunt *hunt, uint32_t number)
{
    const struct stepper_place *place = &hunt->trace[number];
    struct stepper_place here;
    uint32_t visit = 0;

    hunt->aimed++;
    for (uint32_t i = 0; i <= number; i++)
        visit += hunt->trace[i].offset == place->offset && hunt->trace[i].file == place->file;
    wake_up(hunt);
    if (stepper_run_to(&hunt->stepper, place, visit) != STEPPER_HERE) {
        kill_and_check(hunt);
        wake_up(hunt);
        hunt->stepped++;
        for (uint32_t i = 0; i < number && stepper_step(&hunt->stepper) == STEPPER_HERE; i++)
            ;
    }
    hunt->hit += stepper_place(&hunt->stepper, &here) && here.offset == place->offset &&
                 here.file == place->file;
    kill_and_check(hunt);
}

static int by_length(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;

    return (*left > *right) - (*left < *right);
}

static void print_spread(const char *what, uint64_t *ns, uint32_t count)
{
    qsort(ns, count, sizeof(*ns), by_length);
    print_message("    %s after %.1f ms, p99 %.1f, worst %.1f\n", what, (double)ns[count / 2] / 1e6,
        (double)ns[count - 1 - count / 100] / 1e6, (double)ns[count - 1] / 1e6);
}

static void hunt_all(enum kind kind, const char *name)
{
    static struct hunt hunt;
    struct knit_session_options options = {.spin_us = 0};
    uint32_t stride;
    uint64_t begin_ns = knit_deadline_now_ns();

    memset(&hunt, 0, sizeof(hunt));
    hunt.kind = kind;
    hunt.steps = (struct scene_steps){.all = all_steps, .wanted = SHORT_DEATHS};
    hunt.trace = calloc(TRACE_MAX, sizeof(*hunt.trace));
    hunt.outcomes_ns = calloc(TRACE_MAX, sizeof(*hunt.outcomes_ns));
    hunt.serving_ns = calloc(TRACE_MAX, sizeof(*hunt.serving_ns));
    assert_true(hunt.trace != NULL && hunt.outcomes_ns != NULL && hunt.serving_ns != NULL);
    knit_random_init(&hunt.steps.random);
    scene_init(&hunt.scene, kind == DEFERRED ? 1 : 2);
    hunt.scene.pools.options.steal = kind == THIEF;
    if (kind == DEFERRED) {
        hunt.scene.pools.options.arena_bytes = 65536;
        hunt.scene.pools.options.call_max_bytes = 8192;
    }
    scene_open(&hunt.scene);
    assert_int_equal(
        knit_host_own_session_open(hunt.scene.pools.pool, 8, &options, &hunt.other), 0);
    if (kind == HOST)
        assert_int_equal(
            knit_host_own_session_open(hunt.scene.pools.pool, 8, &options, &hunt.guest), 0);
    scene_settle(&hunt.scene);
    publish_theirs(&hunt);
    assert_true(KNIT_WAIT_UNTIL(turn(&hunt) && hunt.theirs.is_there, 20000));
    scene_settle(&hunt.scene);
    hunt.scene.size = scene_measure(&hunt.scene);
    trace(&hunt);
    for (uint32_t i = scene_steps_begin(&hunt.steps, hunt.count, &stride); i < hunt.count;
         i += stride)
        die_at(&hunt, i);
    print_message("%s: %u instructions, %u deaths (%u by stepping), %u of %u at the planned place, "
                  "%u calls lost; %.1f s\n",
        name, hunt.count, hunt.deaths, hunt.stepped, hunt.hit, hunt.aimed, hunt.died,
        (double)(knit_deadline_now_ns() - begin_ns) / 1e9);
    print_spread("all outcomes", hunt.outcomes_ns, hunt.deaths);
    print_spread("replaced", hunt.serving_ns, hunt.deaths);
    /* A worker that takes another path than the first, because of other timing, is killed there. */
    assert_true(hunt.hit >= hunt.aimed / 4 * 3);
    hunt.other = knit_host_own_session_close(hunt.scene.pools.pool, hunt.other);
    hunt.guest = knit_host_own_session_close(hunt.scene.pools.pool, hunt.guest);
    scene_fini(&hunt.scene);
    free(hunt.trace);
    free(hunt.outcomes_ns);
    free(hunt.serving_ns);
}

static void a_worker_may_die_anywhere(void **state)
{
    (void)state;
    hunt_all(ALONE, "alone");
}

static void a_worker_may_die_while_sessions_come_and_go(void **state)
{
    (void)state;
    hunt_all(HOST, "host");
}

static void a_thief_may_die_anywhere(void **state)
{
    (void)state;
    hunt_all(THIEF, "thief");
}

static void a_worker_with_a_deferred_reply_may_die_anywhere(void **state)
{
    (void)state;
    hunt_all(DEFERRED, "deferred");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_may_die_anywhere),
        cmocka_unit_test(a_worker_may_die_while_sessions_come_and_go),
        cmocka_unit_test(a_thief_may_die_anywhere),
        cmocka_unit_test(a_worker_with_a_deferred_reply_may_die_anywhere),
    };

    if (!stepper_is_possible()) {
        print_message("skipped: no process can be stepped here (x86-64 and ptrace are needed)\n");
        return 77;
    }
    all_steps = scene_wants_all(argc, argv);
    if (argc > 1 && argv[argc - 1][0] != '-')
        cmocka_set_test_filter(argv[argc - 1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
