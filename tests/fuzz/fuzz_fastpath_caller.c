/* SPDX-License-Identifier: Apache-2.0 */
/* What a caller reads of a pool that writes any value at any time into the reply segment and the
 * board. The input is a schedule: calls, correct answers, forged answers, words written, everything
 * a session can do.
 *
 * Oracle: an outcome's bytes lie in the outcome, in its slot's slab or in the arena, and can be
 * decoded or are refused; each call has one outcome, which bears its user's pointer; waiting ends;
 * the session counts each slot once; and when the pool has closed the session, every call still
 * ends. What the short way of session_inline.h takes is what the layout says of these words, and it
 * leaves nothing of that.
 */
#include <string.h>

#include <knitting/code.h>

#include "fastpath/lane/session_inline.h"
#include "proto/check.h"
#include "proto/decoder.h"
#include "proto/failure.h"
#include "proto/limits.h"
#include "tests/fuzz/pool.h"
#include "tests/fuzz/target.h"

enum { STEPS_MAX = 400, OWNER = 5, PAYLOAD_MAX = 2000, WAITS_MAX = 10000 };

enum call_state { CALL_NONE, CALL_FLYING, CALL_SETTLED, CALL_HELD };

struct call {
    enum call_state state;
    void *user; /* its number */
    uint64_t gen;
};

struct scene {
    struct input input;
    struct pool *pool;
    struct pool_session *segments;
    struct knit_session *session;
    struct call call[POOL_SLOTS];
    uint64_t answered[POOL_LANES]; /* ring position at which correct answers continue */
    uint64_t completions[POOL_LANES];
    uint32_t steps_in; /* reads of the clock, and sleeps, in one wait */
    uint8_t step_in;
    void *room;
    uint32_t calls;
};

static struct scene scene;

/* ---- the pool ---- */

static void complete(uint32_t lane, uint32_t slot)
{
    uint64_t position = scene.completions[lane]++;

    atomic_store_explicit(
        &scene.segments->reply.completions[lane * POOL_CELLS + (position & (POOL_CELLS - 1))],
        knit_completion(slot, position, POOL_CELLS), memory_order_release);
    atomic_store_explicit(
        &scene.segments->reply.lane[lane].completion_tail, position + 1, memory_order_release);
}

/* The next call of that ring, as a worker answers it. */
static void answer(uint32_t lane, uint32_t slot, uint64_t gen)
{
    const struct pool_session *segments = scene.segments;
    struct knit_reply_cell *cell = &segments->reply.reply[slot];
    uint8_t kind = input_u8(&scene.input);
    bool is_block = (kind & 1) != 0;
    uint32_t len = is_block ? kind * 16u : input_below(&scene.input, KNIT_INLINE_MAX + 1);

    atomic_store_explicit(
        &segments->reply.claim[slot], knit_claim(gen, OWNER), memory_order_seq_cst);
    for (uint32_t i = 0; i < 4; i++)
        input_write64(&scene.input, &cell->body[i]);
    atomic_store_explicit(&cell->block, slot * KNIT_PAGE, memory_order_relaxed);
    atomic_store_explicit(&cell->meta, knit_meta(lane, 0, 0, len), memory_order_relaxed);
    atomic_store_explicit(&cell->word,
        knit_word(gen, kind & 2 ? KNIT_STATUS_ERROR : KNIT_STATUS_RESULT,
            is_block ? KNIT_CELL_IN_ARENA : 0),
        memory_order_release);
    if ((kind & 12) != 12)
        complete(lane, slot);
}

static void serve(uint32_t lane)
{
    const struct knit_request_cell *cell =
        &scene.segments->request
             .ring[lane * POOL_CELLS + (scene.answered[lane] & (POOL_CELLS - 1))];
    uint64_t ctrl = atomic_load_explicit(&cell->ctrl, memory_order_acquire);

    if (knit_ctrl_tag(ctrl) != knit_tag(scene.answered[lane], POOL_CELLS))
        return;
    KNIT_FUZZ_CHECK(knit_ctrl_slot(ctrl) < POOL_SLOTS);
    scene.answered[lane]++;
    answer(lane, knit_ctrl_slot(ctrl), knit_ctrl_gen(ctrl));
}

/* An answer of any shape to the slot's current call. */
static void forge(void)
{
    struct input *input = &scene.input;
    uint32_t slot = input_below(input, POOL_SLOTS);
    struct knit_reply_cell *cell = &scene.segments->reply.reply[slot];
    uint8_t kind = input_u8(input);

    atomic_store_explicit(&cell->meta,
        knit_meta(kind & 1 ? input_u8(input) << 8 | kind : kind % POOL_LANES, 0, 0,
            (uint32_t)input_word(input, POOL_REPLY_ARENA)),
        memory_order_relaxed);
    atomic_store_explicit(&cell->block, input_word(input, POOL_REPLY_ARENA), memory_order_relaxed);
    atomic_store_explicit(&cell->word,
        knit_word(scene.call[slot].gen, kind & 8 ? input_u8(input) : 0,
            kind & 2 ? KNIT_CELL_IN_ARENA : kind >> 4),
        memory_order_release);
    if (kind & 4)
        complete(kind % POOL_LANES, slot);
}

static void lie(void)
{
    const struct knit_reply_view *reply = &scene.segments->reply;
    struct input *input = &scene.input;
    uint32_t lane = input_below(input, POOL_LANES), slot = input_below(input, POOL_SLOTS);

    switch (input_below(input, 12)) {
    case 0:
        input_write32(input, &reply->state->rescan);
        break;
    case 1:
        input_write32(input, reply->notified);
        break;
    case 2:
        input_write64(input, &reply->claim[slot]);
        break;
    case 3:
        input_write64(input, &reply->reply[slot].word + input_below(input, 4));
        break;
    case 4:
        input_write64(input, &reply->head[lane].value[0]);
        break;
    case 5:
        input_write64(input, &reply->lane[lane].completion_tail);
        input_write32(input, &reply->lane[lane].blocked_on_arena);
        break;
    case 6:
        input_write32(
            input, &reply->completions[lane * POOL_CELLS + input_below(input, POOL_CELLS)]);
        break;
    case 7:
        input_write32(input, &scene.pool->board.park[lane].value);
        break;
    case 8:
        input_write64(input, &scene.pool->board.busy[lane].running);
        break;
    case 9:
        reply->arena[input_u64(input) % (POOL_LANES * POOL_REPLY_ARENA)] = input_u8(input);
        break;
    case 10:
        input_write_within(input, scene.segments->reply_base, scene.segments->reply_bytes);
        break;
    default:
        forge();
        break;
    }
}

static void on_step(void *arg)
{
    (void)arg;
    KNIT_FUZZ_CHECK(++scene.steps_in < WAITS_MAX);
    if (scene.step_in != 0 && --scene.step_in == 0)
        lie();
}

/* ---- the caller ---- */

static bool is_in_arena(const struct knit_session_outcome *outcome)
{
    const unsigned char *arena = scene.segments->reply.arena;
    const unsigned char *bytes = outcome->payload;

    return bytes >= arena && outcome->len <= POOL_LANES * POOL_REPLY_ARENA &&
           (size_t)(bytes - arena) <= POOL_LANES * POOL_REPLY_ARENA - outcome->len;
}

static bool is_in_slab(const struct knit_session_outcome *outcome)
{
    return outcome->payload == knit_slab(scene.segments->reply.slab, outcome->slot) &&
           outcome->len <= KNIT_SLAB_BYTES;
}

static void decode(const struct knit_session_outcome *outcome)
{
    struct knit_span bytes = knit_span(outcome->payload, outcome->len);
    struct knit_decoder *decoder;
    struct knit_failure failure;

    if (outcome->status != KNIT_STATUS_RESULT) {
        if (knit_failure_decode(bytes, &failure) == 0)
            KNIT_FUZZ_CHECK(failure.origin <= KNIT_ORIGIN_CLIENT);
        return;
    }
    if (knit_check_value(bytes.bytes, bytes.len, KNIT_DEPTH_MAX, NULL) != 0)
        return;
    decoder = knit_decoder_new();
    KNIT_FUZZ_CHECK(decoder != NULL);
    KNIT_FUZZ_CHECK(knit_decoder_read(decoder, bytes.bytes, bytes.len) != NULL);
    knit_decoder_free(decoder);
}

static void check_outcome(const struct knit_session_outcome *outcome)
{
    struct call *call = &scene.call[outcome->slot];
    const struct knit_reply_cell *cell = &scene.segments->reply.reply[outcome->slot];

    KNIT_FUZZ_CHECK(outcome->slot < POOL_SLOTS && outcome->lane < POOL_LANES);
    KNIT_FUZZ_CHECK(call->user == outcome->user && call->state == CALL_FLYING);
    KNIT_FUZZ_CHECK(
        knit_word_gen(atomic_load_explicit(&cell->word, memory_order_relaxed)) == call->gen);
    KNIT_FUZZ_CHECK(outcome->held
                        ? is_in_arena(outcome) || is_in_slab(outcome)
                        : outcome->len <= KNIT_INLINE_MAX && outcome->payload == outcome->body);
    KNIT_FUZZ_CHECK(outcome->status != KNIT_STATUS_BROKEN || outcome->len == 0);
    decode(outcome);
    call->state = outcome->held ? CALL_HELD : CALL_NONE;
}

static void publish(void)
{
    static unsigned char bytes[PAYLOAD_MAX + 10];
    struct input *input = &scene.input;
    uint32_t lane = input_below(input, POOL_LANES + 1), slot;
    struct knit_session_call call = {.task = input_u8(input),
        .lane = lane == POOL_LANES ? KNIT_LANE_ANY : lane,
        .payload = bytes,
        .len = input_u8(input) * 8u,
        .user = (void *)(uintptr_t)++scene.calls};
    int r;

    if (scene.room != NULL) {
        call.payload = scene.room;
        call.len = 10;
        r = knit_session_publish_reserved(scene.session, &call, &slot);
        if (r == 0)
            scene.room = NULL;
    } else {
        r = knit_session_publish(scene.session, &call, &slot);
    }
    KNIT_FUZZ_CHECK((r >= 0 && r <= KNIT_SESSION_E_CLOSED) || r == KNIT_SESSION_E_DRAINING);
    if (r != 0)
        return;
    KNIT_FUZZ_CHECK(slot < POOL_SLOTS && scene.call[slot].state != CALL_FLYING);
    KNIT_FUZZ_CHECK(scene.call[slot].state != CALL_HELD);
    scene.call[slot].state = CALL_FLYING;
    scene.call[slot].user = call.user;
    scene.call[slot].gen = knit_gen_next(scene.call[slot].gen);
}

static void reserve(void)
{
    if (scene.room != NULL) {
        knit_session_unreserve(scene.session, scene.room);
        scene.room = NULL;
    } else if (knit_session_reserve(scene.session, input_u8(&scene.input) * 8u, &scene.room) != 0) {
        scene.room = NULL;
    }
    if (scene.room != NULL)
        memset(scene.room, 0, 1);
}

static void collect(size_t max)
{
    struct knit_session_outcome outcomes[POOL_SLOTS];
    size_t count = knit_session_collect(scene.session, outcomes, max);

    KNIT_FUZZ_CHECK(count <= max);
    for (size_t i = 0; i < count; i++)
        check_outcome(&outcomes[i]);
}

/* A result in its cell, by the words as they are. */
static bool has_small_result(uint32_t slot)
{
    const struct knit_reply_cell *cell = &scene.segments->reply.reply[slot];
    uint64_t word = atomic_load_explicit(&cell->word, memory_order_relaxed);
    uint64_t meta = atomic_load_explicit(&cell->meta, memory_order_relaxed);

    return scene.call[slot].state == CALL_FLYING && knit_word_gen(word) == scene.call[slot].gen &&
           knit_word_status(word) == KNIT_STATUS_RESULT && knit_word_flags(word) == 0 &&
           knit_meta_lane(meta) < POOL_LANES && knit_meta_len(meta) <= KNIT_INLINE_MAX;
}

static void collect_one(uint32_t slot)
{
    bool has_block = scene.session->slots[slot].block != KNIT_NO_BLOCK;
    bool is_small = has_small_result(slot);
    struct knit_session_outcome outcome = {.slot = slot,
        .user = scene.call[slot].user,
        .status = KNIT_STATUS_RESULT,
        .payload = outcome.body};

    if (knit_session_try_collect(scene.session, slot, outcome.body, &outcome.len)) {
        KNIT_FUZZ_CHECK(is_small && !has_block);
        outcome.lane = scene.session->balance.warm;
        check_outcome(&outcome);
        return;
    }
    KNIT_FUZZ_CHECK(!is_small || has_block || scene.session->unread_left == 0);
    if (knit_session_collect_slot(scene.session, slot, &outcome)) {
        KNIT_FUZZ_CHECK(!is_small || outcome.status == KNIT_STATUS_RESULT);
        check_outcome(&outcome);
    }
}

static void settle(uint32_t slot)
{
    bool was_flying = scene.call[slot].state == CALL_FLYING;
    int started = -1;

    if (!knit_session_settle(scene.session, slot, &started))
        return;
    KNIT_FUZZ_CHECK(was_flying);
    KNIT_FUZZ_CHECK(started == KNIT_STARTED_YES || started == KNIT_STARTED_NO);
    scene.call[slot].state = CALL_SETTLED;
}

static void wait_for(uint32_t slot)
{
    int r;

    scene.steps_in = 0;
    r = knit_session_wait(
        scene.session, slot < POOL_SLOTS ? slot : KNIT_SLOT_ANY, machine.now_ns + 1000000);
    KNIT_FUZZ_CHECK(r == 0 || r == KNIT_SESSION_E_TIMEOUT || r == KNIT_SESSION_E_CLOSED);
}

static void check_counts(void)
{
    uint32_t flying = 0, settled = 0, held = 0, unused;

    for (uint32_t slot = 0; slot < POOL_SLOTS; slot++) {
        flying += scene.call[slot].state == CALL_FLYING;
        settled += scene.call[slot].state == CALL_SETTLED;
        held += scene.call[slot].state == CALL_HELD;
    }
    KNIT_FUZZ_CHECK(knit_session_in_flight(scene.session) == flying);
    /* The slot of a settled call becomes free when its answer is dropped, which is not reported. */
    unused = knit_session_slots_free(scene.session);
    KNIT_FUZZ_CHECK(unused + flying + held <= POOL_SLOTS);
    KNIT_FUZZ_CHECK(unused + flying + held + settled >= POOL_SLOTS);
}

static void step(void)
{
    struct input *input = &scene.input;
    uint8_t what = input_u8(input);
    uint32_t slot = (what >> 4) % POOL_SLOTS;

    switch (what & 15) {
    case 0:
    case 1:
        lie();
        break;
    case 2:
        scene.step_in = (uint8_t)(1 + (what >> 4));
        break;
    case 3:
    case 4:
        serve((what >> 4) % POOL_LANES);
        break;
    case 5:
    case 6:
        publish();
        break;
    case 7:
        collect(1 + slot);
        break;
    case 8:
        collect_one(slot);
        break;
    case 9:
        if (scene.call[slot].state == CALL_HELD) {
            knit_session_release(scene.session, slot);
            scene.call[slot].state = CALL_NONE;
        }
        break;
    case 10:
        knit_session_abort(scene.session, slot);
        break;
    case 11:
        settle(slot);
        break;
    case 12:
        wait_for(slot + (what >> 7));
        break;
    case 13:
        if (knit_session_is_armed(scene.session))
            knit_session_disarm(scene.session);
        else
            (void)knit_session_arm(scene.session);
        break;
    case 14:
        reserve();
        break;
    default:
        knit_session_flush(scene.session);
        break;
    }
    check_counts();
}

/* The pool is gone. */
static void finish(void)
{
    atomic_store_explicit(
        &scene.segments->reply.state->state, KNIT_STATE_CLOSED, memory_order_release);
    KNIT_FUZZ_CHECK(knit_session_is_closed(scene.session));
    wait_for(POOL_SLOTS);
    for (uint32_t slot = 0; slot < POOL_SLOTS; slot++) {
        if (scene.call[slot].state == CALL_FLYING)
            settle(slot);
        if (scene.call[slot].state == CALL_FLYING)
            collect_one(slot);
        KNIT_FUZZ_CHECK(scene.call[slot].state != CALL_FLYING);
        if (scene.call[slot].state == CALL_HELD)
            knit_session_release(scene.session, slot);
    }
    KNIT_FUZZ_CHECK(knit_session_in_flight(scene.session) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct input input = {bytes, len, 0};
    uint8_t options = input_u8(&input);
    struct knit_session_options how = {.balancer = (enum knit_balancer)(options & 3),
        .steal = (options & 4) != 0,
        .argument_max_bytes = PAYLOAD_MAX,
        .spin_us = options & 8 ? 5 : 0,
        .random_seed = 1,
        .bell_fd = -1};

    memset(&scene, 0, sizeof(scene));
    scene.input = input;
    scene.pool = pool_begin(pool_start(options >> 4));
    scene.segments = &scene.pool->session[0];
    machine.on_step = on_step;
    for (uint32_t i = input_below(&scene.input, 4); i > 0; i--)
        lie();
    for (uint32_t slot = 0; slot < POOL_SLOTS; slot++)
        scene.call[slot].gen = knit_word_gen(
            atomic_load_explicit(&scene.segments->reply.reply[slot].word, memory_order_relaxed));
    for (uint32_t lane = 0; lane < POOL_LANES; lane++) {
        scene.answered[lane] =
            atomic_load_explicit(&scene.segments->reply.head[lane].value[0], memory_order_relaxed);
        scene.completions[lane] = atomic_load_explicit(
            &scene.segments->reply.lane[lane].completion_tail, memory_order_relaxed);
    }
    KNIT_FUZZ_CHECK(knit_session_new(&scene.segments->geometry, &scene.segments->request,
                        &scene.segments->reply, &scene.pool->board, &how, &scene.session) == 0);
    for (int i = 0; i < STEPS_MAX && !input_is_over(&scene.input); i++) {
        scene.steps_in = 0;
        step();
    }
    finish();
    scene.session = knit_session_free(scene.session);
    return 0;
}
