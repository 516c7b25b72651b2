/* SPDX-License-Identifier: Apache-2.0 */
/* What workers and host read of a request segment whose caller writes any value into it at any
 * time: between their turns, when they read the clock, while they sleep, while a task runs, and
 * between any two of their loads, where another worker may have a turn as well. The input is a
 * schedule of steps: calls, words written, cells forged, turns, deaths of workers, recoveries, runs
 * of the inspector.
 *
 * Oracle: tasks are given bytes that they can read and that the liar, unless it is trusted, cannot
 * write; a call runs when it is claimed, under its claim, and once; what the pool itself wrote is
 * in order, as the inspector sees it beside the memory of an honest caller; only the session that
 * wrote invalid values is evicted; and a second session, which follows the protocol, has each of
 * its calls run once and answered correctly.
 */
#include <setjmp.h>
#include <string.h>

#include <knitting/code.h>

#include "fastpath/lane/inspect.h"
#include "fastpath/lane/lane.h"
#include "fastpath/lane/recovery.h"
#include "fastpath/lane/session.h"
#include "tests/fuzz/pool.h"
#include "tests/fuzz/target.h"

enum {
    STEPS_MAX = 400,
    LIAR = 1, /* session ids */
    HONEST = 2,
    OWNER_FIRST = KNIT_OWNER_HOST + 1,
    RESULT_MAX = KNIT_PAGE,
    CALLS_MAX = 256, /* of the honest session, in one input */
    TURNS_MAX = 100, /* in which an honest call is answered */
};

/* What a task does, by the lower bits of its number. */
enum { TASK_ECHO, TASK_ROOM, TASK_LARGE, TASK_WRITTEN_TO, TASK_DIES, TASK_LONG, TASKS };

struct honest_call {
    uint32_t len, task, runs, outcomes;
    bool may_be_refused;
};

struct scene {
    struct input input;
    struct pool *pool;
    struct knit_lane *worker[POOL_LANES]; /* NULL = dead */
    uint32_t owner[POOL_LANES], owners;
    bool steal, is_trusted, has_lied, is_over; /* the liar: evicted or closed */
    bool is_served[POOL_LANES];                /* the liar, by that lane */
    struct knit_session *session[POOL_SESSIONS];
    uint32_t held[POOL_SESSIONS][POOL_SLOTS], held_count[POOL_SESSIONS];
    struct honest_call call[CALLS_MAX];
    uint32_t calls;
    uint32_t running; /* lane whose turn it is */
    uint64_t head[POOL_SESSIONS][POOL_LANES];
    uint8_t step_in;    /* reads of the clock until the liar writes; 0 = it does not */
    uint8_t access_in;  /* loads of a turn until access_who steps in; 0 = none does */
    uint8_t access_who; /* a lane that has a turn then; from POOL_LANES on: the liar writes */
    bool is_in_turn;
    jmp_buf death;
};

static struct scene scene;
static unsigned char pattern[RESULT_MAX + 256];

/* ---- the liar writes ---- */

/* A well-formed cell at or behind the position that workers read next, for the slot's next call or
 * one near it; the numbers in it come from the input. */
static void forge_cell(const struct pool_session *liar)
{
    struct input *input = &scene.input;
    uint32_t lane = input_below(input, POOL_LANES), slot = input_below(input, POOL_SLOTS + 1);
    uint64_t head = atomic_load_explicit(&liar->reply.head[lane].value[0], memory_order_relaxed);
    uint64_t position = head + input_below(input, 20);
    struct knit_request_cell *cell =
        &liar->request.ring[lane * POOL_CELLS + (position & (POOL_CELLS - 1))];
    uint64_t gen = knit_word_gen(
        atomic_load_explicit(&liar->reply.reply[slot % POOL_SLOTS].word, memory_order_relaxed));
    uint8_t kind = input_u8(input);
    uint32_t len = kind & 1 ? (uint32_t)input_word(input, POOL_REQUEST_ARENA)
                            : input_u8(input) * (kind & 2 ? 40u : 1u);

    gen = (gen + 1 + (kind & 4 ? input_u8(input) : 0)) & KNIT_GEN_MASK;
    atomic_store_explicit(&cell->meta,
        knit_meta(input_u8(input), 1, kind & 8 ? KNIT_CELL_IN_ARENA : kind >> 6, len),
        memory_order_relaxed);
    atomic_store_explicit(&cell->deadline, kind & 16 ? machine.now_ns + 1000u * input_u8(input) : 0,
        memory_order_relaxed);
    input_write64(input, &cell->body[0]);
    atomic_store_explicit(liar->request.occupied, UINT64_MAX, memory_order_relaxed);
    atomic_store_explicit(
        &cell->ctrl, knit_ctrl(gen, slot, knit_tag(position, POOL_CELLS)), memory_order_release);
}

static void lie(void)
{
    const struct pool_session *liar = &scene.pool->session[0];
    struct input *input = &scene.input;
    uint32_t lane = input_below(input, POOL_LANES), slot = input_below(input, POOL_SLOTS);
    struct knit_request_cell *cell;

    scene.has_lied = true;
    switch (input_below(input, 8)) {
    case 0:
        input_write32(input, liar->request.waiting);
        break;
    case 1:
        input_write32(input, &liar->request.bell[lane]);
        break;
    case 2:
        input_write64(input, &liar->request.abort[slot]);
        break;
    case 3:
        input_write64(input, &liar->request.released[slot]);
        break;
    case 4:
        cell = &liar->request.ring[lane * POOL_CELLS + input_below(input, POOL_CELLS)];
        input_write64(input, &cell->ctrl + input_below(input, 4));
        break;
    case 5:
        forge_cell(liar);
        break;
    case 6:
        liar->request.arena[input_u64(input) % POOL_REQUEST_ARENA] = input_u8(input);
        break;
    default:
        input_write_within(input, liar->request_base, liar->request_bytes);
        break;
    }
}

/* From the machine: at a read of the clock, or before a sleep. */
static void on_step(void *arg)
{
    (void)arg;
    if (scene.step_in != 0 && --scene.step_in == 0)
        lie();
}

/* ---- tasks ---- */

static void expect_honest(const struct knit_job *job)
{
    struct honest_call *call;
    uint32_t number = 0;

    KNIT_FUZZ_CHECK(knit_job_len(job) >= sizeof(number) && job->refusal == 0);
    memcpy(&number, job->payload, sizeof(number));
    KNIT_FUZZ_CHECK(number < scene.calls);
    call = &scene.call[number];
    KNIT_FUZZ_CHECK(++call->runs == 1);
    KNIT_FUZZ_CHECK(knit_job_len(job) == call->len && knit_job_task(job) == call->task);
    KNIT_FUZZ_CHECK(memcmp((const char *)job->payload + sizeof(number), pattern + sizeof(number),
                        knit_job_len(job) - sizeof(number)) == 0);
}

/* The liar could change bytes in its own memory after they were checked. */
static void expect_private(const struct knit_job *job)
{
    const struct pool_session *liar = &scene.pool->session[0];
    const unsigned char *bytes = job->payload;

    KNIT_FUZZ_CHECK(scene.is_trusted || bytes + knit_job_len(job) <= liar->request_base ||
                    bytes >= liar->request_base + liar->request_bytes);
}

/* The claim is this call's, made by this worker, and not answered. */
static void expect_claim(const struct knit_job *job)
{
    const struct knit_reply_view *reply = &scene.pool->session[job->session - 1].reply;
    uint64_t claim, word;

    KNIT_FUZZ_CHECK(job->session == LIAR || job->session == HONEST);
    KNIT_FUZZ_CHECK(knit_job_slot(job) < POOL_SLOTS && knit_job_len(job) <= POOL_REQUEST_ARENA);
    claim = atomic_load_explicit(&reply->claim[knit_job_slot(job)], memory_order_relaxed);
    word = atomic_load_explicit(&reply->reply[knit_job_slot(job)].word, memory_order_relaxed);
    KNIT_FUZZ_CHECK(claim == knit_claim(knit_job_gen(job), scene.owner[scene.running]));
    KNIT_FUZZ_CHECK(knit_gen_next(knit_word_gen(word)) == knit_job_gen(job));
}

static void run(void *arg, struct knit_job *job)
{
    uint32_t sum = 0;
    unsigned char *room;

    (void)arg;
    expect_claim(job);
    if (job->session == HONEST)
        expect_honest(job);
    if (job->refusal != 0) {
        job->status = KNIT_STATUS_ERROR;
        job->result = pattern;
        job->result_len = 10;
        return;
    }
    if (job->session == LIAR)
        expect_private(job);
    for (size_t i = 0; i < knit_job_len(job); i++)
        sum += ((const unsigned char *)job->payload)[i];
    job->body[0] = (unsigned char)sum;
    job->result = job->payload;
    job->result_len =
        knit_job_len(job) < job->result_max ? knit_job_len(job) : (uint32_t)job->result_max;
    switch (knit_job_task(job) % TASKS) {
    case TASK_ROOM:
        room = knit_lane_room(scene.worker[scene.running], job, job->result_len + 100);
        if (room != NULL) {
            memcpy(room + 7, job->payload, job->result_len);
            job->result = room + 7;
        }
        break;
    case TASK_LARGE:
        job->result = pattern;
        job->result_len = (uint32_t)job->result_max;
        break;
    case TASK_WRITTEN_TO:
        if (job->session == LIAR)
            lie();
        (void)knit_lane_aborted(scene.worker[scene.running], job);
        break;
    case TASK_DIES:
        if (job->session == LIAR)
            longjmp(scene.death, 1);
        break;
    case TASK_LONG:
        machine.now_ns += 100000;
        break;
    default:
        break;
    }
}

static void on_evict(void *arg, uint64_t session, const char *reason)
{
    (void)arg;
    KNIT_FUZZ_CHECK(session == LIAR && scene.has_lied && reason != NULL);
    scene.is_over = true;
}

/* ---- workers and host ---- */

static struct knit_host_session_view recovery_view(uint32_t index)
{
    const struct pool_session *session = &scene.pool->session[index];

    return (struct knit_host_session_view){.geometry = session->geometry,
        .request = session->request,
        .reply = session->reply,
        .bell_fd = -1};
}

static void start_worker(uint32_t lane)
{
    struct knit_lane_options options = {.index = lane,
        .lanes = POOL_LANES,
        .owner = scene.owner[lane] = OWNER_FIRST + scene.owners++,
        .board = scene.pool->board,
        .pool = scene.pool->pool,
        .steal = scene.steal,
        .park_ms = 1,
        .result_max_bytes = RESULT_MAX,
        .run = run,
        .on_evict = on_evict};

    KNIT_FUZZ_CHECK(knit_lane_new(&options, &scene.worker[lane]) == 0);
    for (uint32_t i = 0; i < POOL_SESSIONS; i++) {
        const struct pool_session *session = &scene.pool->session[i];
        struct knit_lane_session in = {.id = i + 1,
            .geometry = session->geometry,
            .request = session->request,
            .reply = session->reply,
            .bell_fd = -1,
            .trusted = i == 0 && scene.is_trusted,
            .reply_budget_bytes = i == 0 ? 5 * KNIT_PAGE : 0};

        if (i == 0 && scene.is_over)
            continue;
        KNIT_FUZZ_CHECK(knit_lane_attach(scene.worker[lane], &in) == 0);
        scene.is_served[lane] = i == 0 || scene.is_served[lane];
    }
}

static uint32_t count_held(const struct knit_host_session_view *view, uint32_t owner)
{
    uint32_t count = 0;
    uint64_t gen;

    for (uint32_t slot = 0; slot < view->geometry.slots; slot++)
        count += knit_recovery_holds(view, slot, owner, &gen);
    return count;
}

static void recover(uint32_t lane)
{
    struct knit_recovery_error error;
    struct knit_recovery_death death = {.lane = lane,
        .owner = scene.owner[lane],
        .special_slot = input_below(&scene.input, 8),
        .error = &error,
        .special = &error};

    scene.worker[lane] = knit_lane_free(scene.worker[lane]);
    scene.is_served[lane] = false;
    knit_recovery_make_error(&error, KNIT_WORKER_DIED, KNIT_STARTED_YES, "gone", 9, 0);
    knit_recovery_vacate(&scene.pool->board, &scene.pool->pool, POOL_LANES, lane);
    for (uint32_t i = 0; i < POOL_SESSIONS; i++) {
        struct knit_host_session_view view = recovery_view(i);
        uint32_t count = count_held(&view, death.owner);

        KNIT_FUZZ_CHECK(knit_recovery_answer(&view, &death) == count);
        KNIT_FUZZ_CHECK(knit_recovery_answer(&view, &death) == 0);
        /* When it died it ran a call of the liar or none. */
        KNIT_FUZZ_CHECK(i == 0 || count == 0);
    }
}

/* What the host does when a worker reports that a session broke the protocol. */
static void evict(void)
{
    _Atomic uint32_t *state = &scene.pool->session[0].reply.state->state;

    if (scene.is_over && atomic_load_explicit(state, memory_order_relaxed) == KNIT_STATE_OPEN)
        atomic_store_explicit(state, KNIT_STATE_EVICTED, memory_order_release);
}

static void turn(uint32_t lane)
{
    if (scene.worker[lane] == NULL)
        return;
    scene.running = lane;
    scene.is_in_turn = true;
    if (setjmp(scene.death) == 0)
        KNIT_FUZZ_CHECK(knit_lane_turn(scene.worker[lane]) == KNIT_LANE_RUNNING);
    else
        recover(lane);
    scene.is_in_turn = false;
    evict();
}

/* Before a load of the worker whose turn it is. */
static void on_access(void *arg)
{
    uint32_t running = scene.running;
    jmp_buf death;

    (void)arg;
    if (!scene.is_in_turn || scene.access_in == 0 || --scene.access_in != 0)
        return;
    if (scene.access_who >= POOL_LANES) {
        lie();
    } else if (scene.access_who != running) {
        memcpy(&death, &scene.death, sizeof(death));
        turn(scene.access_who);
        memcpy(&scene.death, &death, sizeof(death));
        scene.running = running;
        scene.is_in_turn = true;
    }
}

static void refuse_all(void)
{
    struct knit_host_session_view view = recovery_view(0), honest = recovery_view(1);
    struct knit_recovery_error error;

    knit_recovery_make_error(&error, KNIT_NO_WORKER, KNIT_STARTED_NO, "no worker", 0, 0);
    (void)knit_recovery_refuse(&view, &error);
    (void)knit_recovery_is_idle(&view);
    for (uint32_t lane = 0; lane < POOL_LANES; lane++) {
        if (scene.worker[lane] != NULL)
            return;
    }
    for (uint32_t i = 0; i < scene.calls; i++)
        scene.call[i].may_be_refused = true;
    (void)knit_recovery_refuse(&honest, &error);
}

/* ---- inspection ---- */

static void print_finding(void *arg, const char *sentence)
{
    (void)arg;
    fprintf(stderr, "inspector: %s\n", sentence);
}

/* Memory of an honest caller without calls that agrees with what the pool wrote: each slot
 * released, each ring published up to its head. */
static struct knit_request_view honest_request(const struct pool_session *session)
{
    static unsigned char *base;
    struct knit_request_view view;
    uint64_t claimed =
        knit_claim_gen(atomic_load_explicit(&session->reply.claim[0], memory_order_relaxed));

    if (base == NULL)
        base = aligned_alloc(KNIT_PAGE, session->request_bytes);
    KNIT_FUZZ_CHECK(base != NULL);
    memset(base, 0, session->request_bytes);
    knit_layout_request(&session->geometry, base, &view);
    for (uint32_t slot = 0; slot < POOL_SLOTS; slot++) {
        uint64_t gen = knit_word_gen(
            atomic_load_explicit(&session->reply.reply[slot].word, memory_order_relaxed));

        atomic_store_explicit(&view.abort[slot], gen, memory_order_relaxed);
        atomic_store_explicit(&view.released[slot], gen, memory_order_relaxed);
    }
    for (uint32_t lane = 0; lane < POOL_LANES; lane++) {
        uint64_t head =
            atomic_load_explicit(&session->reply.head[lane].value[0], memory_order_relaxed);

        for (uint64_t q = head - POOL_CELLS; q != head; q++)
            atomic_store_explicit(&view.ring[lane * POOL_CELLS + (q & (POOL_CELLS - 1))].ctrl,
                knit_ctrl(claimed, 0, knit_tag(q, POOL_CELLS)), memory_order_relaxed);
    }
    return view;
}

static void check_blocks(const struct pool_session *session)
{
    for (uint32_t slot = 0; slot < POOL_SLOTS; slot++) {
        const struct knit_reply_cell *cell = &session->reply.reply[slot];
        uint64_t block = atomic_load_explicit(&cell->block, memory_order_relaxed);
        uint64_t len = knit_meta_len(atomic_load_explicit(&cell->meta, memory_order_relaxed));

        if ((knit_word_flags(atomic_load_explicit(&cell->word, memory_order_relaxed)) &
                KNIT_CELL_IN_ARENA) != 0)
            KNIT_FUZZ_CHECK(block <= POOL_REPLY_ARENA && len <= POOL_REPLY_ARENA - block);
    }
}

static void inspect(void)
{
    const struct knit_inspect_report quiet = {0}, loud = {print_finding, NULL};
    struct knit_inspect_counts counts;

    for (uint32_t i = 0; i < POOL_SESSIONS; i++) {
        const struct pool_session *session = &scene.pool->session[i];
        struct knit_inspect_session in = {.id = i + 1,
            .geometry = session->geometry,
            .request = session->request,
            .reply = session->reply,
            .board = scene.pool->board};

        for (uint32_t lane = 0; lane < POOL_LANES; lane++) {
            uint64_t head =
                atomic_load_explicit(&session->reply.head[lane].value[0], memory_order_relaxed);

            KNIT_FUZZ_CHECK((int64_t)(head - scene.head[i][lane]) >= 0);
            scene.head[i][lane] = head;
        }
        check_blocks(session);
        KNIT_FUZZ_CHECK(knit_inspect_session(&in, i == 0 ? &quiet : &loud, &counts) == 0);
        KNIT_FUZZ_CHECK(i == 0 || counts.findings == 0);
        in.request = honest_request(session);
        KNIT_FUZZ_CHECK(knit_inspect_session(&in, &loud, &counts) == 0);
        KNIT_FUZZ_CHECK(counts.findings == 0);
    }
    KNIT_FUZZ_CHECK(knit_inspect_board(&scene.pool->board, POOL_LANES, &loud) == 0);
}

/* ---- callers ---- */

static void check_outcome(uint32_t index, const struct knit_session_outcome *outcome)
{
    const unsigned char *bytes = outcome->payload;
    struct honest_call *call = outcome->user;
    size_t from = sizeof(uint32_t);

    if (outcome->held)
        scene.held[index][scene.held_count[index]++] = outcome->slot;
    if (index == 0)
        return;
    KNIT_FUZZ_CHECK(++call->outcomes == 1);
    if (outcome->status != KNIT_STATUS_RESULT) {
        KNIT_FUZZ_CHECK(outcome->status == KNIT_STATUS_ERROR && call->may_be_refused);
        KNIT_FUZZ_CHECK(call->runs == 0);
        return;
    }
    KNIT_FUZZ_CHECK(call->runs == 1);
    if (call->task % TASKS == TASK_LARGE) {
        from = 0;
        KNIT_FUZZ_CHECK(outcome->len == RESULT_MAX);
    } else {
        KNIT_FUZZ_CHECK(outcome->len == call->len);
    }
    KNIT_FUZZ_CHECK(memcmp(bytes + from, pattern + from, outcome->len - from) == 0);
}

static void collect(uint32_t index)
{
    struct knit_session_outcome outcomes[POOL_SLOTS];
    size_t count = knit_session_collect(scene.session[index], outcomes, POOL_SLOTS);

    for (size_t i = 0; i < count; i++)
        check_outcome(index, &outcomes[i]);
}

static void release(uint32_t index)
{
    while (scene.held_count[index] > 0)
        knit_session_release(scene.session[index], scene.held[index][--scene.held_count[index]]);
}

/* Calls of the honest session are of tasks that answer. */
static void publish(uint32_t index)
{
    static const uint32_t lens[] = {4, 40, 104, 105, 300, 1000};
    struct input *input = &scene.input;
    uint32_t task = input_below(input, index == 0 ? TASKS : TASK_WRITTEN_TO), slot;
    struct honest_call *honest = &scene.call[scene.calls % CALLS_MAX];
    struct knit_session_call call = {.task = task,
        .epoch = 1,
        .lane = input_below(input, POOL_LANES + 1),
        .payload = pattern,
        .len = lens[input_below(input, sizeof(lens) / sizeof(lens[0]))],
        .user = honest};
    unsigned char bytes[1000];

    if (call.lane == POOL_LANES)
        call.lane = KNIT_LANE_ANY;
    if (index == 0)
        call.deadline_ns = input_below(input, 4) == 0 ? machine.now_ns + 20000 : 0;
    if (index == 1 && scene.calls == CALLS_MAX)
        return;
    memcpy(bytes, pattern, call.len);
    if (index == 1)
        memcpy(bytes, &scene.calls, sizeof(scene.calls));
    call.payload = bytes;
    if (knit_session_publish(scene.session[index], &call, &slot) != 0)
        return;
    if (index == 1)
        scene.calls++;
    if (index == 1)
        *honest = (struct honest_call){.len = (uint32_t)call.len, .task = task};
    knit_session_flush(scene.session[index]);
}

/* ---- the schedule ---- */

static void step_caller(uint8_t what)
{
    uint32_t slot = input_below(&scene.input, POOL_SLOTS);
    int started;

    switch (what) {
    case 0:
        publish(0);
        break;
    case 1:
        collect(0);
        break;
    case 2:
        release(0);
        break;
    case 3:
        knit_session_abort(scene.session[0], slot);
        break;
    default:
        (void)!knit_session_settle(scene.session[0], slot, &started);
        break;
    }
}

static void step_worker(uint32_t lane, uint8_t what)
{
    if (scene.worker[lane] == NULL)
        start_worker(lane);
    else if (what == 0)
        recover(lane);
    else if (what == 1)
        (void)!knit_lane_detach(scene.worker[lane], LIAR);
    else
        knit_lane_wake(scene.worker[lane]);
    if (what == 1 && scene.has_lied)
        scene.is_over = true;
    evict();
}

static void step(void)
{
    struct input *input = &scene.input;
    uint8_t what = input_u8(input);

    switch (what & 15) {
    case 0:
    case 1:
    case 2:
        lie();
        break;
    case 3:
        scene.step_in = (uint8_t)(1 + (what >> 4));
        break;
    case 4:
    case 5:
    case 6:
        turn((what >> 4) % POOL_LANES);
        break;
    case 7:
    case 8:
        step_caller((uint8_t)((what >> 4) % 5));
        break;
    case 9:
        publish(1);
        break;
    case 10:
        collect(1);
        release(1);
        break;
    case 11:
        step_worker((what >> 4) % POOL_LANES, input_u8(input) % 3);
        break;
    case 12:
        refuse_all();
        break;
    case 13:
        machine.now_ns += 1000ull << (what >> 4);
        break;
    case 14:
        scene.access_who = (uint8_t)(what >> 4);
        scene.access_in = input_u8(input);
        break;
    default:
        inspect();
        break;
    }
}

static bool honest_is_done(void)
{
    collect(1);
    release(1);
    return knit_session_in_flight(scene.session[1]) == 0;
}

/* After any schedule, all calls of the honest session are answered, and calls in each lane too. */
static void finish(void)
{
    uint32_t turns = 0;

    for (uint32_t lane = 0; lane < POOL_LANES; lane++) {
        if (scene.worker[lane] == NULL)
            start_worker(lane);
        (void)honest_is_done();
        publish(1);
    }
    for (; !honest_is_done(); turns++) {
        KNIT_FUZZ_CHECK(turns < TURNS_MAX);
        for (uint32_t lane = 0; lane < POOL_LANES; lane++) {
            if (scene.worker[lane] == NULL)
                start_worker(lane);
            turn(lane);
        }
    }
    for (uint32_t i = 0; i < scene.calls; i++)
        KNIT_FUZZ_CHECK(scene.call[i].outcomes == 1);
    inspect();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct input input = {bytes, len, 0};
    uint8_t options = input_u8(&input);
    uint64_t start = pool_start(options >> 4);

    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (unsigned char)(i * 7);
    memset(&scene, 0, sizeof(scene));
    scene.input = input;
    scene.pool = pool_begin(start);
    scene.steal = (options & 1) != 0;
    scene.is_trusted = (options & 2) != 0;
    machine.on_step = on_step;
    machine.on_access = on_access;
    for (uint32_t i = 0; i < POOL_SESSIONS; i++) {
        const struct pool_session *session = &scene.pool->session[i];
        struct knit_session_options how = {
            .steal = scene.steal, .argument_max_bytes = 1000, .random_seed = 1, .bell_fd = -1};

        for (uint32_t lane = 0; lane < POOL_LANES; lane++)
            scene.head[i][lane] = start;
        KNIT_FUZZ_CHECK(knit_session_new(&session->geometry, &session->request, &session->reply,
                            &scene.pool->board, &how, &scene.session[i]) == 0);
    }
    for (uint32_t lane = 0; lane < POOL_LANES; lane++)
        start_worker(lane);
    for (int i = 0; i < STEPS_MAX && !input_is_over(&scene.input); i++)
        step();
    finish();
    for (uint32_t lane = 0; lane < POOL_LANES; lane++)
        scene.worker[lane] = knit_lane_free(scene.worker[lane]);
    for (uint32_t i = 0; i < POOL_SESSIONS; i++)
        scene.session[i] = knit_session_free(scene.session[i]);
    return 0;
}
