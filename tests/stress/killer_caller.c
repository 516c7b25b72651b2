/* SPDX-License-Identifier: Apache-2.0 */
/* A caller that dies after any of its instructions does no damage to others.
 *
 * Method: one victim is stepped through its life, and its place after each instruction is recorded.
 * Then, for each instruction of that trace (in a short run for every n-th), another victim runs to
 * the same instruction and is killed there. A victim that takes another path, which happens when a
 * worker is faster than before, is stepped as many instructions instead. After each death the pool
 * must have freed the session within a second, each call of the dead caller has ended or never
 * started, the inspector finds nothing broken, nothing has leaked, and all calls of another session
 * are answered correctly.
 *
 * With --all-steps, or KNIT_TEST_LONG=1, a victim dies at every instruction.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/host/departed.h"
#include "fastpath/host/host.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/inspect.h"
#include "tests/stress/scene.h"
#include "tests/stress/stepper.h"
#include "tests/stress/victim.h"
#include "tests/support/deadline.h"

#define SHORT_DEATHS 120u
#define TRACE_MAX    200000u
#define BOUND_MS     1000u

extern char **environ;

struct hunt {
    struct scene scene;
    struct scene_steps steps;
    bool is_contended;
    struct stepper_place *trace;
    uint32_t count;
    /* The victim. */
    struct stepper stepper;
    uint64_t id;
    int lease;
    struct knit_geometry geometry;
    struct knit_mapping request, reply;
    /* For the report. */
    uint32_t deaths, stepped;
    uint64_t worst_ns, sum_ns;
};

static bool all_steps;

static bool load_others(void *arg)
{
    struct hunt *hunt = arg;

    scene_load(&hunt->scene);
    return false;
}

/* ---- starting the victim ---- */

static pid_t spawn(const struct knit_host_grant *grant, int lease)
{
    char name[] = "victim", *argv[] = {name, NULL};
    const int fds[] = {grant->board_fd, grant->request_fd, grant->reply_fd, grant->bell_fd, lease};
    posix_spawn_file_actions_t actions;
    pid_t pid;

    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(posix_spawn_file_actions_adddup2(&actions, fds[i], VICTIM_BOARD + i), 0);
    assert_int_equal(posix_spawn(&pid, TEST_VICTIM, &actions, NULL, argv, environ), 0);
    (void)posix_spawn_file_actions_destroy(&actions);
    return pid;
}

static uint32_t task_id(const struct hunt *hunt, const char *name)
{
    const struct knit_registry_task *task =
        knit_registry_find(knit_host_registry(hunt->scene.pools.pool), name, strlen(name));

    assert_non_null(task);
    return task->id;
}

static void send_start(struct hunt *hunt, const struct knit_host_grant *grant)
{
    struct victim_start start = {.geometry = grant->geometry,
        .argument_max_bytes = grant->call_max_bytes,
        .steal = grant->steal,
        .epoch = knit_registry_epoch(knit_host_registry(hunt->scene.pools.pool)),
        .task_count = task_id(hunt, "count"),
        .task_echo = task_id(hunt, "echo"),
        .task_wait_abort = task_id(hunt, "wait_abort")};

    assert_int_equal(send(hunt->lease, &start, sizeof(start), MSG_NOSIGNAL), sizeof(start));
}

static bool has_reported(const struct hunt *hunt)
{
    char byte;

    return recv(hunt->lease, &byte, 1, MSG_DONTWAIT) == 1;
}

/* It stops before its first instruction. */
static void start_victim(struct hunt *hunt)
{
    static const char *const files[] = {TEST_VICTIM, NULL};
    struct knit_host_peer peer = {.uid = getuid(), .gid = getgid(), .pid = getpid()};
    struct knit_host_grant grant;
    int pair[2];
    pid_t pid;

    for (uint32_t i = 0; i < VICTIM_IDS; i++)
        atomic_store_explicit(
            &hunt->scene.pools.ledger[VICTIM_FIRST_ID + i], 0, memory_order_relaxed);
    assert_int_equal(
        knit_host_attach(hunt->scene.pools.pool, &peer,
            &(struct knit_host_ask){VICTIM_SLOTS, 65536, KNIT_FEATURES, KNIT_CLASSES_MAX}, &grant),
        0);
    hunt->id = grant.id;
    hunt->geometry = grant.geometry;
    assert_int_equal(knit_segment_map(grant.reply_fd, knit_layout_reply_bytes(&grant.geometry),
                         false, &hunt->reply),
        0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    hunt->lease = pair[0];
    pid = spawn(&grant, pair[1]);
    (void)close(pair[1]);
    send_start(hunt, &grant);
    assert_true(KNIT_WAIT_UNTIL(pools_turn(&hunt->scene.pools) && has_reported(hunt), 20000));
    assert_int_equal(knit_host_attached(hunt->scene.pools.pool, hunt->id), 0);
    assert_int_equal(knit_segment_map(grant.request_fd, knit_layout_request_bytes(&grant.geometry),
                         false, &hunt->request),
        0);
    knit_host_grant_close(&grant);
    assert_true(KNIT_WAIT_UNTIL(pools_turn(&hunt->scene.pools) && has_reported(hunt), 20000));
    hunt->stepper =
        (struct stepper){.arg = hunt, .while_running = hunt->is_contended ? load_others : NULL};
    assert_true(stepper_seize(&hunt->stepper, pid, files));
    assert_int_equal(send(hunt->lease, "g", 1, MSG_NOSIGNAL), 1);
    assert_int_equal(stepper_wait(&hunt->stepper), STEPPER_HERE);
}

/* ---- after its death ---- */

static bool is_freed(struct hunt *hunt)
{
    struct knit_host_stats stats;
    char byte;

    if (hunt->is_contended)
        scene_load(&hunt->scene);
    else
        (void)pools_turn(&hunt->scene.pools);
    if (hunt->lease >= 0 && recv(hunt->lease, &byte, 1, MSG_DONTWAIT) == 0) {
        (void)close(hunt->lease);
        hunt->lease = -1;
        knit_host_detach(hunt->scene.pools.pool, hunt->id);
    }
    knit_host_stats(hunt->scene.pools.pool, &stats);
    /* This test keeps the mappings of the dead, so the pool goes on counting what they hold. */
    return hunt->lease < 0 &&
           stats.sessions + stats.closing_sessions ==
               hunt->scene.size.sessions + hunt->scene.pools.pool->departed_count;
}

/* Calls that were never claimed have not run; none has run twice. */
static void check_ledger(struct hunt *hunt, const struct knit_inspect_session *dead)
{
    const uint32_t cells = dead->geometry.lanes * dead->geometry.cells;
    const _Atomic uint64_t *ledger = hunt->scene.pools.ledger;

    for (uint32_t i = 0; i < VICTIM_IDS; i++)
        assert_true(atomic_load_explicit(&ledger[VICTIM_FIRST_ID + i], memory_order_seq_cst) <= 1);
    for (uint32_t i = 0; i < cells; i++) {
        struct knit_request_cell *cell = &dead->request.ring[i];
        uint64_t ctrl = atomic_load_explicit(&cell->ctrl, memory_order_relaxed);
        uint64_t body = atomic_load_explicit(&cell->body[0], memory_order_relaxed);
        uint32_t id = (uint32_t)(body >> 8) & 0xff, slot = knit_ctrl_slot(ctrl);

        if (ctrl == 0 || (body & 0xff) != 0x91 || id - VICTIM_FIRST_ID >= VICTIM_IDS ||
            knit_claim_gen(atomic_load_explicit(&dead->reply.claim[slot], memory_order_relaxed)) >=
                knit_ctrl_gen(ctrl))
            continue;
        assert_int_equal(atomic_load_explicit(&ledger[id], memory_order_seq_cst), 0);
    }
}

static void note(void *arg, const char *sentence)
{
    struct hunt *hunt = arg;

    fail_msg("the dead session: %s, after death %u", sentence, hunt->deaths);
}

static void check_dead(struct hunt *hunt)
{
    struct knit_inspect_session dead = {
        .id = hunt->id, .geometry = hunt->geometry, .board = hunt->scene.pools.pool->board};
    struct knit_inspect_report report = {note, hunt};
    struct knit_inspect_counts counts;

    knit_layout_request(&hunt->geometry, hunt->request.base, &dead.request);
    knit_layout_reply(&hunt->geometry, hunt->reply.base, &dead.reply);
    assert_int_equal(knit_inspect_session(&dead, &report, &counts), 0);
    assert_int_equal(counts.running, 0);
    assert_int_equal(counts.state, KNIT_STATE_CLOSED);
    check_ledger(hunt, &dead);
}

static void kill_and_check(struct hunt *hunt)
{
    uint64_t begin_ns = knit_deadline_now_ns(), took_ns;

    stepper_kill(&hunt->stepper);
    assert_true(KNIT_WAIT_UNTIL(is_freed(hunt), BOUND_MS));
    took_ns = knit_deadline_now_ns() - begin_ns;
    hunt->sum_ns += took_ns;
    if (took_ns > hunt->worst_ns)
        hunt->worst_ns = took_ns;
    assert_int_equal(waitpid(hunt->stepper.pid, NULL, 0), hunt->stepper.pid);
    hunt->deaths++;
    check_dead(hunt);
    knit_segment_unmap(&hunt->request);
    knit_segment_unmap(&hunt->reply);
    knit_departed_look(hunt->scene.pools.pool, knit_clock_ns());
    scene_calls(&hunt->scene, SCENE_CALLS, KNIT_LANE_ANY);
    if (hunt->is_contended)
        scene_drain(&hunt->scene);
    scene_inspect(&hunt->scene, "after a death");
    scene_check_size(&hunt->scene);
}

/* ---- the hunt ---- */

static enum stepper_end step(struct hunt *hunt, uint32_t number)
{
    if (hunt->is_contended && number % 64 == 0)
        scene_load(&hunt->scene);
    return stepper_step(&hunt->stepper);
}

static void trace(struct hunt *hunt)
{
    start_victim(hunt);
    while (hunt->count < TRACE_MAX && stepper_place(&hunt->stepper, &hunt->trace[hunt->count])) {
        hunt->count++;
        if (step(hunt, hunt->count) != STEPPER_HERE)
            break;
    }
    assert_true(hunt->count < TRACE_MAX);
    kill_and_check(hunt);
}

static void die_at(struct hunt *hunt, uint32_t number)
{
    const struct stepper_place *place = &hunt->trace[number];
    uint32_t visit = 0;

    for (uint32_t i = 0; i <= number; i++)
        visit += hunt->trace[i].offset == place->offset;
    start_victim(hunt);
    if (stepper_run_to(&hunt->stepper, place, visit) != STEPPER_HERE) {
        kill_and_check(hunt);
        start_victim(hunt);
        hunt->stepped++;
        for (uint32_t i = 0; i < number && step(hunt, i) == STEPPER_HERE; i++)
            ;
    }
    kill_and_check(hunt);
}

static void hunt_all(bool is_contended)
{
    static struct hunt hunt;
    uint32_t stride;
    uint64_t begin_ns = knit_deadline_now_ns();

    memset(&hunt, 0, sizeof(hunt));
    hunt.is_contended = is_contended;
    hunt.steps = (struct scene_steps){.all = all_steps, .wanted = SHORT_DEATHS};
    hunt.trace = calloc(TRACE_MAX, sizeof(*hunt.trace));
    assert_non_null(hunt.trace);
    knit_random_init(&hunt.steps.random);
    scene_init(&hunt.scene, 2);
    scene_open(&hunt.scene);
    trace(&hunt);
    for (uint32_t i = scene_steps_begin(&hunt.steps, hunt.count, &stride); i < hunt.count;
         i += stride)
        die_at(&hunt, i);
    print_message("%s: %u instructions, %u deaths (%u by stepping), freed after %.1f ms, worst "
                  "%.1f ms; %.1f s\n",
        is_contended ? "contended" : "idle", hunt.count, hunt.deaths, hunt.stepped,
        (double)hunt.sum_ns / 1e6 / hunt.deaths, (double)hunt.worst_ns / 1e6,
        (double)(knit_deadline_now_ns() - begin_ns) / 1e9);
    scene_fini(&hunt.scene);
    free(hunt.trace);
}

static void a_caller_may_die_anywhere(void **state)
{
    (void)state;
    hunt_all(false);
}

static void a_caller_may_die_anywhere_while_others_call(void **state)
{
    (void)state;
    hunt_all(true);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_caller_may_die_anywhere),
        cmocka_unit_test(a_caller_may_die_anywhere_while_others_call),
    };

    if (!stepper_is_possible()) {
        print_message("skipped: no process can be stepped here (x86-64 and ptrace are needed)\n");
        return 77;
    }
    all_steps = scene_wants_all(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
