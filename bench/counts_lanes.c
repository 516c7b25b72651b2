/* SPDX-License-Identifier: Apache-2.0 */
/* The lanes' part of knit-counts: publish, claim and run and answer, collect; in batches, and one
 * call at a time. */
#include "bench/counts.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fastpath/lane/lane_private.h"
#include "fastpath/worker/float_state.h"
#include "fastpath/worker/module.h"

enum { SLOTS = KNIT_SLOTS_DEFAULT, ARENA_BYTES = 16 << 20, SESSION_ID = 1, OWNER = 2 };
enum { IDLE_SLOTS = 16, IDLE_ARENA_BYTES = 64 << 10 };

/* ---- the lanes ------------------------------------------------------------------------------- */

static void *map(uint64_t bytes)
{
    void *base = mmap(
        NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (base == MAP_FAILED)
        knit_counts_fail("no memory for the segments");
    return base;
}

static void load(struct knit_counts_lanes *lanes, const char *const *modules, uint32_t count)
{
    struct knit_module_loading loading = {.paths = modules,
        .count = count,
        .epoch = KNIT_REGISTRY_EPOCH_FIRST,
        .api = knit_task_api()};
    struct knit_sentence why = {""};

    if (knit_modules_load(&loading, &lanes->modules, &why) != 0)
        knit_counts_fail(why.text);
}

/* As a process has it, or a thread: that has no output of its own, and sleeps on one bell. */
static void start_lane(struct knit_counts_lanes *lanes, bool is_thread)
{
    struct knit_runner_options runner = {.modules = lanes->modules,
        .result_max_bytes = ARENA_BYTES / 8,
        .busy = lanes->board.busy,
        .output = is_thread ? NULL : stderr /* has nothing pending */};
    struct knit_lane_options options = {.lanes = lanes->geometry.lanes,
        .owner = OWNER,
        .board = lanes->board,
        .steal = true,
        .park_ms = 1,
        .has_one_bell = is_thread,
        .result_max_bytes = ARENA_BYTES / 8,
        .run = knit_runner_run,
        .serve = knit_runner_serve};
    struct knit_lane_session session = {.id = SESSION_ID,
        .geometry = lanes->geometry,
        .request = lanes->request,
        .reply = lanes->reply,
        .bell_fd = -1};

    knit_layout_pool(options.lanes, map(knit_layout_pool_bytes(options.lanes)), &options.pool);
    if (knit_runner_new(&runner, &lanes->runner) != 0)
        knit_counts_fail("no runner");
    options.run_arg = lanes->runner;
    if (knit_lane_new(&options, &lanes->lane) != 0 || knit_lane_attach(lanes->lane, &session) != 0)
        knit_counts_fail("no lane");
    knit_runner_set_lane(lanes->runner, lanes->lane);
}

void knit_counts_lanes_init(struct knit_counts_lanes *lanes, const char *const *modules,
    uint32_t count, uint32_t lanes_count)
{
    struct knit_session_options options = {.bell_fd = -1};

    *lanes = (struct knit_counts_lanes){.geometry = {.version = KNIT_LAYOUT_VERSION,
                                            .lanes = lanes_count,
                                            .slots = SLOTS,
                                            .cells = knit_geometry_cells(SLOTS),
                                            .features = KNIT_FEATURES,
                                            .classes = KNIT_CLASSES_MAX,
                                            .request_arena_bytes = ARENA_BYTES,
                                            .reply_arena_bytes = ARENA_BYTES}};
    load(lanes, modules, count);
    knit_layout_request(
        &lanes->geometry, map(knit_layout_request_bytes(&lanes->geometry)), &lanes->request);
    knit_layout_reply(
        &lanes->geometry, map(knit_layout_reply_bytes(&lanes->geometry)), &lanes->reply);
    knit_layout_board(lanes_count, map(knit_layout_board_bytes(lanes_count)), &lanes->board);
    start_lane(lanes, false);
    if (knit_session_new(&lanes->geometry, &lanes->request, &lanes->reply, &lanes->board, &options,
            &lanes->session) != 0)
        knit_counts_fail("no session");
    lanes->sessions = 1;
}

/* Sessions whose callers do nothing; the lane adds them in its next turn. */
static void attach_idle(struct knit_counts_lanes *lanes, uint32_t count)
{
    struct knit_lane_session session = {.geometry = {.version = KNIT_LAYOUT_VERSION,
                                            .lanes = lanes->geometry.lanes,
                                            .slots = IDLE_SLOTS,
                                            .cells = knit_geometry_cells(IDLE_SLOTS),
                                            .features = KNIT_FEATURES,
                                            .classes = KNIT_CLASSES_MAX,
                                            .request_arena_bytes = IDLE_ARENA_BYTES,
                                            .reply_arena_bytes = IDLE_ARENA_BYTES},
        .bell_fd = -1};

    for (; lanes->sessions < count; lanes->sessions++) {
        session.id = SESSION_ID + lanes->sessions;
        knit_layout_request(
            &session.geometry, map(knit_layout_request_bytes(&session.geometry)), &session.request);
        knit_layout_reply(
            &session.geometry, map(knit_layout_reply_bytes(&session.geometry)), &session.reply);
        if (knit_lane_attach(lanes->lane, &session) != 0)
            knit_counts_fail("an idle session is refused");
    }
}

/* One more that calls, of another flow. */
static struct knit_session *attach_flow(struct knit_counts_lanes *lanes)
{
    const struct knit_session_options options = {.bell_fd = -1};
    struct knit_lane_session in = {.id = SESSION_ID + lanes->sessions++,
        .flow = 1,
        .geometry = lanes->geometry,
        .bell_fd = -1};
    struct knit_session *session;

    knit_layout_request(&in.geometry, map(knit_layout_request_bytes(&in.geometry)), &in.request);
    knit_layout_reply(&in.geometry, map(knit_layout_reply_bytes(&in.geometry)), &in.reply);
    if (knit_session_new(&in.geometry, &in.request, &in.reply, &lanes->board, &options, &session) !=
            0 ||
        knit_lane_attach(lanes->lane, &in) != 0)
        knit_counts_fail("no session of another flow");
    return session;
}

/* The mappings end with the process. */
void knit_counts_lanes_fini(struct knit_counts_lanes *lanes)
{
    lanes->session = knit_session_free(lanes->session);
    lanes->lane = knit_lane_free(lanes->lane);
    lanes->runner = knit_runner_free(lanes->runner);
    lanes->modules = knit_modules_free(lanes->modules);
}

/* One turn more would park. */
void knit_counts_lanes_turn(struct knit_counts_lanes *lanes, uint32_t calls)
{
    for (uint32_t done = 0; done < calls; done += KNIT_COUNTS_TURN)
        (void)knit_lane_turn(lanes->lane);
}

uint32_t knit_counts_task(const struct knit_counts_lanes *lanes, const char *name)
{
    const struct knit_registry_task *task =
        knit_registry_find(knit_modules_registry(lanes->modules), name, strlen(name));

    if (task == NULL)
        knit_counts_fail("the modules have no task of that name");
    /* cppcheck-suppress nullPointerRedundantCheck ; knit_counts_fail() does not return */
    return task->id;
}

/* ---- calls ----------------------------------------------------------------------------------- */

struct calls {
    struct knit_counts_lanes *lanes;
    uint32_t task;
    uint32_t singles; /* calls of a phase that makes one at a time */
    struct knit_span params;
};

KNIT_ALWAYS_INLINE void publish_one(struct calls *calls, uint32_t *ret_slot)
{
    struct knit_session_call call = {.task = calls->task,
        .epoch = KNIT_REGISTRY_EPOCH_FIRST,
        .lane = calls->lanes->geometry.lanes == 1 ? KNIT_LANE_ANY : 0,
        .payload = calls->params.bytes,
        .len = calls->params.len,
        .user = calls};

    if (knit_session_publish(calls->lanes->session, &call, ret_slot) != 0)
        knit_counts_fail("a call was refused");
}

static void check(const struct calls *calls, const struct knit_session_outcome *outcome)
{
    if (outcome->status != KNIT_STATUS_RESULT || outcome->user != calls)
        knit_counts_fail("a call failed");
    if (outcome->held)
        knit_session_release(calls->lanes->session, outcome->slot);
}

static void publish(void *arg)
{
    struct calls *calls = arg;
    uint32_t slot;

    for (uint32_t i = 0; i < KNIT_COUNTS_BATCH; i++)
        publish_one(calls, &slot);
    knit_session_flush(calls->lanes->session);
}

static void run(void *arg)
{
    struct calls *calls = arg;

    knit_counts_lanes_turn(calls->lanes, KNIT_COUNTS_BATCH);
}

static void collect(void *arg)
{
    struct calls *calls = arg;
    struct knit_session_outcome outcomes[64];
    size_t done = 0, count;

    do {
        count = knit_session_collect(calls->lanes->session, outcomes, 64);
        for (size_t i = 0; i < count; i++)
            check(calls, &outcomes[i]);
        done += count;
    } while (count > 0);
    if (done != KNIT_COUNTS_BATCH)
        knit_counts_fail("outcomes are missing");
}

/* By turns of two flows: calls[0] and calls[1]. */
static void publish_flows(void *arg)
{
    struct calls *calls = arg;
    uint32_t slot;

    for (uint32_t i = 0; i < KNIT_COUNTS_BATCH; i++)
        publish_one(&calls[i % 2], &slot);
    knit_session_flush(calls[0].lanes->session);
    knit_session_flush(calls[1].lanes->session);
}

static void collect_flows(void *arg)
{
    struct calls *calls = arg;
    struct knit_session_outcome outcomes[64];
    size_t done = 0;

    for (size_t i = 0; i < 2; i++) {
        size_t count;

        while ((count = knit_session_collect(calls[i].lanes->session, outcomes, 64)) > 0) {
            for (size_t at = 0; at < count; at++)
                check(&calls[i], &outcomes[at]);
            done += count;
        }
    }
    if (done != KNIT_COUNTS_BATCH)
        knit_counts_fail("outcomes are missing");
}

/* A caller that waits for each call: published, served in a turn of its own, read by its slot. */
static void single(void *arg)
{
    struct calls *calls = arg;
    struct knit_session_outcome outcome;
    uint32_t slot;

    for (uint32_t i = 0; i < calls->singles; i++) {
        publish_one(calls, &slot);
        knit_session_flush(calls->lanes->session);
        (void)knit_lane_turn(calls->lanes->lane);
        if (!knit_session_collect_slot(calls->lanes->session, slot, &outcome))
            knit_counts_fail("a call has no outcome");
        check(calls, &outcome);
    }
}

/* An event loop that arms for each call. The first time it finds the completions of calls that were
 * collected by slot. */
static void loop(void *arg)
{
    struct calls *calls = arg;
    struct knit_session *session = calls->lanes->session;
    struct knit_session_outcome outcomes[2];
    uint32_t slot;

    for (uint32_t i = 0; i < calls->singles; i++) {
        publish_one(calls, &slot);
        (void)knit_session_arm(session);
        (void)knit_lane_turn(calls->lanes->lane);
        knit_session_disarm(session);
        if (knit_session_collect(session, outcomes, 2) != 1)
            knit_counts_fail("a call has no outcome");
        check(calls, outcomes);
    }
}

/* What a worker does before a long task with calls behind it, while no sibling is parked. */
static void sibling(void *arg)
{
    const struct calls *calls = arg;

    for (uint32_t i = 0; i < KNIT_COUNTS_BATCH; i++)
        knit_lane_wake_sibling(calls->lanes->lane);
}

#define LOAD(name)                                                                                 \
    KNIT_COUNTED(publish_##name, publish)                                                          \
    KNIT_COUNTED(run_##name, run)                                                                  \
    KNIT_COUNTED(collect_##name, collect)                                                          \
    KNIT_COUNTED(single_##name, single)                                                            \
    static const struct knit_counts_phase phases_##name[] = {                                      \
        KNIT_COUNTS_PHASE(publish_##name, publish, KNIT_COUNTS_BATCH),                             \
        KNIT_COUNTS_PHASE(run_##name, run, KNIT_COUNTS_BATCH),                                     \
        KNIT_COUNTS_PHASE(collect_##name, collect, KNIT_COUNTS_BATCH),                             \
        KNIT_COUNTS_PHASE(single_##name, single, KNIT_COUNTS_BATCH),                               \
    };

LOAD(empty)
LOAD(echo_37)
LOAD(echo_64)
LOAD(echo_1000)
LOAD(add)

/* A task that emits values, and a caller that does not look at them. */
KNIT_COUNTED(run_unwatched, run)
static const struct knit_counts_phase phases_unwatched[] = {
    KNIT_COUNTS_BETWEEN(publish),
    KNIT_COUNTS_PHASE(run_unwatched, run, KNIT_COUNTS_BATCH),
    KNIT_COUNTS_BETWEEN(collect),
};

/* One large argument and result at a time: a str, and a bin of as many bytes. */
enum { LARGE = 65000, LARGE_CALLS = 16 };

KNIT_COUNTED(single_text_65000, single)
KNIT_COUNTED(single_bin_65000, single)

static const struct knit_counts_phase single_text[] = {
    KNIT_COUNTS_PHASE(single_text_65000, single, LARGE_CALLS),
};
static const struct knit_counts_phase single_bin[] = {
    KNIT_COUNTS_PHASE(single_bin_65000, single, LARGE_CALLS),
};

/* The same with sessions beside it that do not call. */
#define SESSIONS(count)                                                                            \
    KNIT_COUNTED(run_sessions_##count, run)                                                        \
    KNIT_COUNTED(single_sessions_##count, single)                                                  \
    static const struct knit_counts_phase sessions_##count[] = {                                   \
        KNIT_COUNTS_BETWEEN(publish),                                                              \
        KNIT_COUNTS_PHASE(run_sessions_##count, run, KNIT_COUNTS_BATCH),                           \
        KNIT_COUNTS_BETWEEN(collect),                                                              \
        KNIT_COUNTS_PHASE(single_sessions_##count, single, KNIT_COUNTS_BATCH),                     \
    };

SESSIONS(8)
SESSIONS(64)

/* The same with two flows: both have calls, or one of them makes one after the other. */
KNIT_COUNTED(run_flows_2, run)
KNIT_COUNTED(single_flows_2, single)
static const struct knit_counts_phase flows_2[] = {
    KNIT_COUNTS_BETWEEN(publish_flows),
    KNIT_COUNTS_PHASE(run_flows_2, run, KNIT_COUNTS_BATCH),
    KNIT_COUNTS_BETWEEN(collect_flows),
    KNIT_COUNTS_PHASE(single_flows_2, single, KNIT_COUNTS_BATCH),
};

/* The same through the first of so many lanes; the others have nothing to do. */
#define LANES(count)                                                                               \
    KNIT_COUNTED(publish_lanes_##count, publish)                                                   \
    KNIT_COUNTED(run_lanes_##count, run)                                                           \
    KNIT_COUNTED(collect_lanes_##count, collect)                                                   \
    KNIT_COUNTED(single_lanes_##count, single)                                                     \
    KNIT_COUNTED(loop_lanes_##count, loop)                                                         \
    KNIT_COUNTED(sibling_lanes_##count, sibling)                                                   \
    static const struct knit_counts_phase lanes_##count[] = {                                      \
        KNIT_COUNTS_PHASE(publish_lanes_##count, publish, KNIT_COUNTS_BATCH),                      \
        KNIT_COUNTS_PHASE(run_lanes_##count, run, KNIT_COUNTS_BATCH),                              \
        KNIT_COUNTS_PHASE(collect_lanes_##count, collect, KNIT_COUNTS_BATCH),                      \
        KNIT_COUNTS_PHASE(single_lanes_##count, single, KNIT_COUNTS_BATCH),                        \
        KNIT_COUNTS_PHASE(loop_lanes_##count, loop, KNIT_COUNTS_BATCH),                            \
        KNIT_COUNTS_PHASE(sibling_lanes_##count, sibling, KNIT_COUNTS_BATCH),                      \
    };

/* The same by a worker that is a thread. */
KNIT_COUNTED(run_thread, run)
KNIT_COUNTED(single_thread, single)
static const struct knit_counts_phase phases_thread[] = {
    KNIT_COUNTS_BETWEEN(publish),
    KNIT_COUNTS_PHASE(run_thread, run, KNIT_COUNTS_BATCH),
    KNIT_COUNTS_BETWEEN(collect),
    KNIT_COUNTS_PHASE(single_thread, single, KNIT_COUNTS_BATCH),
};

LANES(2)
LANES(16)
LANES(64)

/* What the worker does after each task. Unrolled, so that the loop itself hardly counts. */
static void restore_float(void *arg)
{
    (void)arg;
    for (uint32_t i = 0; i < KNIT_COUNTS_BATCH; i += 16) {
#define FOUR knit_float_restore(), knit_float_restore(), knit_float_restore(), knit_float_restore()
        FOUR, FOUR, FOUR, FOUR;
#undef FOUR
    }
}

KNIT_COUNTED(restore_float, restore_float)

static const struct knit_counts_phase phases_float[] = {
    KNIT_COUNTS_PHASE(restore_float, restore_float, KNIT_COUNTS_BATCH),
};

enum { PHASES = 4, LANES_PHASES = 6 };

void knit_counts_calls(struct knit_counts_lanes *lanes)
{
    static const struct {
        const struct knit_counts_phase *phases;
        const char *task;
        uint32_t len;
    } echoes[] = {
        {phases_echo_37, "echo", 37},
        {phases_echo_64, "echo", 64},
        {phases_echo_1000, "echo", 1000},
    };
    unsigned char room[1024];
    struct calls calls = {.lanes = lanes, .singles = KNIT_COUNTS_BATCH};

    calls.task = knit_counts_task(lanes, "empty");
    calls.params = knit_span("\x90", 1);
    knit_counts_measure(phases_empty, PHASES, 1, &calls);
    knit_counts_measure(phases_float, 1, 1, NULL);
    calls.task = knit_counts_task(lanes, "emit");
    knit_counts_measure(phases_unwatched, 3, 1, &calls);
    calls.task = knit_counts_task(lanes, "add");
    calls.params = knit_span("\x92\x07\xcd\x01\x00", 5);
    knit_counts_measure(phases_add, PHASES, 1, &calls);
    for (size_t i = 0; i < sizeof(echoes) / sizeof(echoes[0]); i++) {
        calls.task = knit_counts_task(lanes, echoes[i].task);
        calls.params = knit_counts_params(room, echoes[i].len);
        knit_counts_measure(echoes[i].phases, PHASES, 1, &calls);
    }
}

void knit_counts_large(struct knit_counts_lanes *lanes)
{
    static unsigned char room[LARGE + 8];
    struct calls calls = {.lanes = lanes, .singles = LARGE_CALLS};

    calls.task = knit_counts_task(lanes, "echo");
    calls.params = knit_counts_params(room, LARGE);
    knit_counts_measure(single_bin, 1, 1, &calls);
    room[1] = 0xda; /* of a str */
    knit_counts_measure(single_text, 1, 1, &calls);
}

void knit_counts_sessions(struct knit_counts_lanes *lanes)
{
    struct calls calls = {
        .lanes = lanes, .singles = KNIT_COUNTS_BATCH, .params = knit_span("\x90", 1)};

    calls.task = knit_counts_task(lanes, "empty");
    attach_idle(lanes, 8);
    knit_counts_measure(sessions_8, PHASES, 1, &calls);
    attach_idle(lanes, 64);
    knit_counts_measure(sessions_64, PHASES, 1, &calls);
}

void knit_counts_flows(struct knit_counts_lanes *lanes)
{
    struct knit_counts_lanes other = *lanes;
    struct calls calls[2] = {
        {.lanes = lanes, .singles = KNIT_COUNTS_BATCH, .params = knit_span("\x90", 1)}};

    calls[0].task = knit_counts_task(lanes, "empty");
    calls[1] = calls[0];
    calls[1].lanes = &other;
    other.session = attach_flow(lanes);
    knit_counts_measure(flows_2, PHASES, 1, calls);
    (void)knit_session_free(other.session);
}

void knit_counts_thread(struct knit_counts_lanes *lanes)
{
    struct calls calls = {
        .lanes = lanes, .singles = KNIT_COUNTS_BATCH, .params = knit_span("\x90", 1)};

    lanes->lane = knit_lane_free(lanes->lane);
    lanes->runner = knit_runner_free(lanes->runner);
    start_lane(lanes, true);
    calls.task = knit_counts_task(lanes, "empty");
    knit_counts_measure(phases_thread, PHASES, 1, &calls);
}

void knit_counts_more_lanes(struct knit_counts_lanes *lanes)
{
    const uint32_t count = lanes->geometry.lanes;
    struct calls calls = {
        .lanes = lanes, .singles = KNIT_COUNTS_BATCH, .params = knit_span("\x90", 1)};

    calls.task = knit_counts_task(lanes, "empty");
    knit_counts_measure(count == 2    ? lanes_2
                        : count == 16 ? lanes_16
                                      : lanes_64,
        LANES_PHASES, 1, &calls);
}

/* ---- parks ----------------------------------------------------------------------------------- */

enum { PARKS = 16 };

/* A turn without calls and without a spin. It does not sleep, because the clock of this program is
 * far behind that of the kernel. */
static void park(void *arg)
{
    struct knit_counts_lanes *lanes = arg;

    for (uint32_t i = 0; i < PARKS; i++)
        (void)knit_lane_turn(lanes->lane);
}

KNIT_COUNTED(park_1x1, park)
KNIT_COUNTED(park_64x64, park)

void knit_counts_parks(struct knit_counts_lanes *lanes)
{
    static const struct knit_counts_phase one[] = {KNIT_COUNTS_PHASE(park_1x1, park, PARKS)};
    static const struct knit_counts_phase many[] = {KNIT_COUNTS_PHASE(park_64x64, park, PARKS)};
    const uint32_t count = lanes->geometry.lanes;

    attach_idle(lanes, count);
    knit_counts_measure(count == 1 ? one : many, 1, 1, lanes);
}
