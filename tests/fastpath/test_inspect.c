/* SPDX-License-Identifier: Apache-2.0 */
/* The inspector names what is broken. Method: a session with calls in every state, of which the
 * inspector says nothing; then one word of it is damaged, and the inspector must say that. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/board.h"
#include "fastpath/lane/inspect.h"
#include "fastpath/lane/rings.h"
#include "tests/fastpath/lanes.h"
#include "tests/support/deadline.h"
#include "tests/support/random.h"

#define OWNER 5u

/* Slots of the fixture, by what became of their calls; lane 0 has taken 4 positions, lane 1
 * none. */
enum { INLINE, HELD, HELD_TOO, ABORTED, QUEUED, QUEUED_TOO, CLAIMED, FREE, SLOTS };

struct fixture {
    struct lanes lanes;
    struct lanes_session *session;
    struct knit_request_view *request;
    struct knit_reply_view *reply;
    uint32_t slot[SLOTS];
    char said[8192];
};

static void note(void *arg, const char *sentence)
{
    struct fixture *fixture = arg;
    size_t used = strlen(fixture->said);

    (void)snprintf(fixture->said + used, sizeof(fixture->said) - used, "%s\n", sentence);
}

static struct knit_inspect_counts inspect(struct fixture *fixture)
{
    struct knit_inspect_session session = {.id = 1,
        .geometry = fixture->session->geometry,
        .request = fixture->session->request,
        .reply = fixture->session->reply,
        .board = fixture->lanes.board};
    struct knit_inspect_report report = {note, fixture};
    struct knit_inspect_counts counts;

    fixture->said[0] = '\0';
    assert_int_equal(knit_inspect_session(&session, &report, &counts), 0);
    counts.findings += knit_inspect_board(&fixture->lanes.board, fixture->lanes.lanes, &report);
    return counts;
}

static uint32_t publish(struct fixture *fixture, uint32_t lane, size_t len)
{
    static const unsigned char bytes[1500];
    struct knit_session_call call = {
        .task = LANES_ECHO, .lane = lane, .payload = bytes, .len = len};
    uint32_t slot;

    assert_int_equal(knit_session_publish(fixture->session->session, &call, &slot), 0);
    return slot;
}

static void setup(struct fixture *fixture, uint64_t start)
{
    struct knit_session_outcome outcome;
    struct knit_inspect_counts counts;
    uint32_t slot;

    lanes_init(&fixture->lanes, 2, false, 0);
    fixture->session = lanes_add_session(&fixture->lanes, 10, 65536, start);
    fixture->request = &fixture->session->request;
    fixture->reply = &fixture->session->reply;
    lanes_add_worker(&fixture->lanes, 0, OWNER);
    fixture->slot[INLINE] = publish(fixture, 0, 10);
    fixture->slot[HELD] = publish(fixture, 0, 1200);
    fixture->slot[HELD_TOO] = publish(fixture, 0, 1300);
    fixture->slot[ABORTED] = publish(fixture, 0, 1200);
    knit_session_abort(fixture->session->session, fixture->slot[ABORTED]);
    for (int i = INLINE; i <= ABORTED; i++)
        while (!knit_session_collect_slot(fixture->session->session, fixture->slot[i], &outcome))
            (void)knit_lane_turn(fixture->lanes.worker[0]);
    fixture->slot[CLAIMED] = publish(fixture, 1, 1200);
    fixture->slot[QUEUED] = publish(fixture, 1, 1200);
    assert_true(knit_session_withdraw(fixture->session->session, fixture->slot[QUEUED]));
    fixture->slot[QUEUED_TOO] = publish(fixture, 1, 20);
    for (slot = 0; slot < 10; slot++) {
        if (slot != fixture->slot[CLAIMED] && slot != fixture->slot[QUEUED] &&
            slot != fixture->slot[QUEUED_TOO] && slot != fixture->slot[INLINE] &&
            slot != fixture->slot[HELD] && slot != fixture->slot[HELD_TOO] &&
            slot != fixture->slot[ABORTED])
            fixture->slot[FREE] = slot;
    }
    slot = fixture->slot[CLAIMED];
    atomic_store_explicit(&fixture->reply->claim[slot],
        knit_claim((start + 1) & KNIT_GEN_MASK, OWNER), memory_order_relaxed);
    counts = inspect(fixture);
    if (counts.findings != 0)
        fail_msg("an honest session: %s", fixture->said);
    assert_int_equal(counts.queued, 2);
    assert_int_equal(counts.running, 1);
    assert_int_equal(counts.held, 2);
    assert_int_equal(counts.held_bytes, 2500);
    assert_int_equal(counts.blocked_on_arena, 0);
    assert_int_equal(counts.state, KNIT_STATE_OPEN);
}

/* ---- damages ---- */

#define STORE(place, value) atomic_store_explicit(place, value, memory_order_relaxed)
#define LOAD(place)         atomic_load_explicit(place, memory_order_relaxed)

#define DAMAGE(name) static void name(struct fixture *f)

static struct knit_request_cell *cell_of(struct fixture *f, uint32_t lane, uint32_t position)
{
    return &f->request->ring[lane * f->session->geometry.cells + position];
}

DAMAGE(a_claim_two_ahead)
{
    STORE(&f->reply->claim[f->slot[INLINE]], knit_claim(3, OWNER));
}
DAMAGE(a_claim_behind)
{
    STORE(&f->reply->claim[f->slot[INLINE]], knit_claim(0, OWNER));
}
DAMAGE(an_unknown_owner)
{
    STORE(&f->reply->claim[f->slot[CLAIMED]], knit_claim(1, 77));
}
DAMAGE(no_owner)
{
    STORE(&f->reply->claim[f->slot[CLAIMED]], knit_claim(1, KNIT_OWNER_NONE));
}
DAMAGE(a_host_that_never_answered)
{
    STORE(&f->reply->claim[f->slot[CLAIMED]], knit_claim(1, KNIT_OWNER_HOST));
}
DAMAGE(an_owner_that_is_gone)
{
    STORE(&f->lanes.board.park[0].value, 4 << 2 | KNIT_PARK_VACANT);
}
DAMAGE(an_answer_without_owner)
{
    STORE(&f->reply->claim[f->slot[INLINE]], knit_claim(1, KNIT_OWNER_NONE));
}
DAMAGE(a_status_that_is_none)
{
    STORE(&f->reply->reply[f->slot[INLINE]].word, knit_word(1, 2, 0));
}
DAMAGE(flags_that_are_none)
{
    STORE(&f->reply->reply[f->slot[INLINE]].word, knit_word(1, 0, 2));
}
DAMAGE(a_lane_that_is_none)
{
    STORE(&f->reply->reply[f->slot[HELD]].meta, knit_meta(2, 0, 0, 1200));
}
DAMAGE(a_long_answer_in_a_slab)
{
    STORE(&f->reply->reply[f->slot[INLINE]].meta, knit_meta(0, 0, 0, KNIT_SLAB_BYTES + 1));
}
DAMAGE(an_emitted_value_that_is_too_long)
{
    STORE(&f->reply->progress[f->slot[CLAIMED]].seq, 1ull << KNIT_GEN_SHIFT | 2);
    STORE(&f->reply->progress[f->slot[CLAIMED]].meta, 1ull << 32 | 113);
}
DAMAGE(a_block_outside)
{
    STORE(&f->reply->reply[f->slot[HELD]].block, 65536 - 1199);
}
DAMAGE(a_block_far_outside)
{
    STORE(&f->reply->reply[f->slot[HELD]].block, UINT64_MAX - 100);
}
DAMAGE(blocks_that_overlap)
{
    STORE(&f->reply->reply[f->slot[HELD]].block,
        LOAD(&f->reply->reply[f->slot[HELD_TOO]].block) + 1299);
    STORE(&f->reply->lane[0].touched, 65536);
}
DAMAGE(a_block_that_was_not_allocated)
{
    STORE(&f->reply->lane[0].touched, 64);
}
DAMAGE(a_release_ahead)
{
    STORE(&f->request->released[f->slot[FREE]], 2);
}
DAMAGE(a_release_that_is_no_generation)
{
    STORE(&f->request->released[f->slot[FREE]], 1ull << 40);
}
DAMAGE(an_abort_ahead)
{
    STORE(&f->request->abort[f->slot[INLINE]], 3);
}
DAMAGE(an_abort_if_queued_ahead)
{
    STORE(&f->request->abort[f->slot[INLINE]], 3 | KNIT_ABORT_IF_QUEUED);
}
DAMAGE(an_abort_of_no_kind)
{
    STORE(&f->request->abort[f->slot[INLINE]], 1 | 1ull << 62);
}
DAMAGE(a_slot_that_is_none)
{
    STORE(&cell_of(f, 1, 2)->ctrl, knit_ctrl(1, 10, 1));
}
DAMAGE(a_generation_that_skips)
{
    STORE(&cell_of(f, 1, 2)->ctrl, knit_ctrl(2, f->slot[QUEUED_TOO], 1));
}
DAMAGE(a_slot_queued_twice)
{
    STORE(&cell_of(f, 1, 2)->ctrl, knit_ctrl(1, f->slot[QUEUED], 1));
}
DAMAGE(flags_of_a_request)
{
    STORE(&cell_of(f, 1, 2)->meta, knit_meta(0, 0, 128, 20));
}
DAMAGE(a_long_argument_in_a_slab)
{
    STORE(&cell_of(f, 1, 2)->meta, knit_meta(0, 0, 0, KNIT_SLAB_BYTES + 1));
}
DAMAGE(an_argument_outside)
{
    STORE(&cell_of(f, 1, 1)->body[0], 65536 - 1199);
}
DAMAGE(a_call_in_no_lane)
{
    STORE(&f->request->occupied[0], 0);
}
DAMAGE(a_lane_beyond_the_last)
{
    STORE(&f->request->occupied[3], 1ull << 63);
}
DAMAGE(a_gap)
{
    STORE(&cell_of(f, 1, 4)->ctrl, knit_ctrl(1, f->slot[FREE], 1));
}
/* The other rings are looked at as well, once they are used. */
DAMAGE(a_slot_that_is_none_among_urgent_calls)
{
    struct knit_session_call call = {.task = LANES_ECHO, .lane = 1, .ring = KNIT_RING_URGENT};
    uint32_t slot;

    assert_int_equal(knit_session_publish(f->session->session, &call, &slot), 0);
    STORE(&knit_layout_ring(&f->session->geometry, f->request, 1, KNIT_RING_URGENT)->ctrl,
        knit_ctrl(1, 10, 1));
}
DAMAGE(a_lap_that_never_was)
{
    STORE(&cell_of(f, 1, 9)->ctrl, knit_ctrl(1, f->slot[INLINE], 500));
}
DAMAGE(a_call_passed_over)
{
    STORE(&f->reply->head[1].value[0], 3);
}
DAMAGE(head_ahead)
{
    STORE(&f->reply->head[1].value[0], 4);
}
DAMAGE(head_behind)
{
    /* As if 20 calls of lane 0 had been claimed and none of them counted. */
    for (uint32_t i = 0; i < 20; i++)
        STORE(&cell_of(f, 0, i)->ctrl, knit_ctrl(1, f->slot[INLINE], 1));
    STORE(&f->reply->head[0].value[0], 0);
}
DAMAGE(a_claim_out_of_order)
{
    STORE(&f->reply->claim[f->slot[QUEUED_TOO]], knit_claim(1, OWNER));
}
DAMAGE(a_completion_of_another_lap)
{
    STORE(
        &f->reply->completions[2], knit_completion(f->slot[HELD], 200, f->session->geometry.cells));
}
DAMAGE(a_completion_of_no_slot)
{
    STORE(&f->reply->completions[2], knit_completion(10, 2, f->session->geometry.cells));
}
DAMAGE(a_completion_tail_ahead)
{
    STORE(&f->reply->lane[0].completion_tail, 6);
}
DAMAGE(blocked_for_nothing)
{
    STORE(&f->reply->claim[f->slot[CLAIMED]], 0);
    STORE(&f->reply->lane[0].blocked_on_arena, 1);
}
DAMAGE(blocked_twice)
{
    STORE(&f->reply->lane[0].blocked_on_arena, 2);
}
DAMAGE(a_bell_ahead)
{
    STORE(&f->request->bell[0], 100 << 2 | KNIT_PARK_PARKED);
}
DAMAGE(a_bell_for_an_awake_worker)
{
    STORE(&f->request->bell[0], LOAD(&f->lanes.board.park[0].value));
}
DAMAGE(a_state_that_is_none)
{
    STORE(&f->reply->state->state, 4);
}
DAMAGE(a_wake_ahead)
{
    STORE(f->request->waiting, 5);
    STORE(f->reply->notified, 7);
}
DAMAGE(waiting_for_nothing)
{
    STORE(f->request->waiting, 1);
}
DAMAGE(a_park_word_that_is_none)
{
    STORE(&f->lanes.board.park[0].value, 4 << 2 | 3);
}
DAMAGE(a_parked_worker_that_runs)
{
    knit_board_say_parked(&f->lanes.board, 0, true);
    STORE(&f->lanes.board.park[0].value, 4 << 2 | KNIT_PARK_PARKED);
    STORE(&f->lanes.board.busy[0].running, 1 << 16 | 1);
}
DAMAGE(a_parked_worker_that_is_not_found)
{
    STORE(&f->lanes.board.park[0].value, 4 << 2 | KNIT_PARK_PARKED);
    STORE(&f->lanes.board.busy[0].running, 0);
}
DAMAGE(an_awake_worker_that_is_said_to_be_parked)
{
    STORE(&f->lanes.board.parked[0], 1);
}
DAMAGE(a_lane_beyond_the_last_that_is_said_to_be_parked)
{
    STORE(&f->lanes.board.parked[3], 1ull << 63);
}
DAMAGE(a_lane_without_owner)
{
    STORE(&f->lanes.board.busy[0].owner, KNIT_OWNER_HOST);
}
DAMAGE(an_owner_of_two_lanes)
{
    STORE(&f->lanes.board.park[1].value, 4 << 2 | KNIT_PARK_AWAKE);
    STORE(&f->lanes.board.busy[1].owner, OWNER);
}

static const struct {
    void (*apply)(struct fixture *fixture);
    const char *sentence; /* %u: slot */
    int slot;
} damages[] = {
    {a_claim_two_ahead, "slot %u: generation 3 is claimed and 1 is answered", INLINE},
    {a_claim_behind, "slot %u: generation 0 is claimed and 1 is answered", INLINE},
    {an_unknown_owner, "slot %u: generation 1 is claimed by a worker that serves no lane (owner 77",
        CLAIMED},
    {no_owner, "slot %u: generation 1 is claimed by no owner", CLAIMED},
    {a_host_that_never_answered, "slot %u: generation 1 is claimed by the host", CLAIMED},
    {an_owner_that_is_gone, "slot %u: generation 1 is claimed by a worker that is gone", CLAIMED},
    {an_answer_without_owner, "slot %u: generation 1 was claimed by no owner", INLINE},
    {a_status_that_is_none, "slot %u: its answer has status 2", INLINE},
    {flags_that_are_none, "slot %u: its answer has flags 0x2", INLINE},
    {a_lane_that_is_none, "slot %u: its answer is of lane 2 of 2", HELD},
    {a_long_answer_in_a_slab, "slot %u: its answer has 1025 bytes in a slab", INLINE},
    {an_emitted_value_that_is_too_long, "slot %u: a value of 113 bytes was emitted", CLAIMED},
    {a_block_outside, "slot %u: its answer's block, 1200 bytes at 64337, is outside", HELD},
    {a_block_far_outside, "slot %u: its answer's block, 1200 bytes at 184467440737", HELD},
    {blocks_that_overlap, "their answers' blocks overlap in the arena of lane 0", HELD},
    {a_block_that_was_not_allocated, "slot %u: its answer's block ends at 1200, lane 0 used 64",
        HELD},
    {a_release_ahead, "slot %u: generation 2 is released and 0 is answered", FREE},
    {a_release_that_is_no_generation, "slot %u: generation 1099511627776 is released", FREE},
    {an_abort_ahead, "slot %u: generation 3 is aborted and 1 is answered", INLINE},
    {an_abort_if_queued_ahead, "slot %u: generation 3 is aborted and 1 is answered", INLINE},
    {an_abort_of_no_kind, "slot %u: generation 4611686018427387905 is aborted", INLINE},
    {a_slot_that_is_none, "lane 1, position 2: slot 10 of 10", 0},
    {a_generation_that_skips, "lane 1, position 2: generation 2 of slot %u, which has skipped",
        QUEUED_TOO},
    {a_slot_queued_twice, "lane 1, position 2: slot %u is queued twice", QUEUED},
    {flags_of_a_request, "lane 1, position 2: flags 0x80", 0},
    {a_long_argument_in_a_slab, "lane 1, position 2: 1025 bytes in a slab", 0},
    {an_argument_outside, "lane 1, position 1: its argument, 1200 bytes at 64337, is outside", 0},
    {a_call_in_no_lane, "lane 1, position 1: queued, but the caller says it has no calls there", 0},
    {a_lane_beyond_the_last, "the caller has calls in lane 255 of 2", 0},
    {a_gap, "lane 1, position 4: published, but position 3 is not", 0},
    {a_slot_that_is_none_among_urgent_calls, "lane 1 (urgent), position 0: slot 10 of 10", 0},
    {a_lap_that_never_was, "lane 1, position 9: bears lap 500", 0},
    {a_call_passed_over, "lane 1, position 1: passed over, its call is not claimed", 0},
    {head_ahead, "lane 1: 4 positions are consumed, the last was never published", 0},
    {head_behind, "lane 0, position 15: claimed though only 0 are consumed", 0},
    {a_claim_out_of_order, "lane 1, position 2: claimed before position 1", 0},
    {a_completion_of_another_lap, "lane 0, completion 2: bears lap 7 instead of 1", 0},
    {a_completion_of_no_slot, "lane 0, completion 2: slot 10 of 10", 0},
    {a_completion_tail_ahead, "lane 0, completion 4: bears lap 0 instead of 1", 0},
    {blocked_for_nothing, "lane 0: blocked on its arena, though its worker defers no reply", 0},
    {blocked_twice, "lane 0: blocked_on_arena is 2", 0},
    {a_bell_ahead, "lane 0: the bell names a park to come", 0},
    {a_bell_for_an_awake_worker, "lane 0: the bell names a park of a worker that is not parked", 0},
    {a_state_that_is_none, "the session's state is 4", 0},
    {a_wake_ahead, "the caller was woken from a sleep to come", 0},
    {waiting_for_nothing, "the caller waits without saying for what", 0},
    {a_park_word_that_is_none, "lane 0: its park word is 0x13", 0},
    {a_parked_worker_that_runs, "lane 0: runs a call of session 1 while parked", 0},
    {a_parked_worker_that_is_not_found, "lane 0: parked unsaid", 0},
    {an_awake_worker_that_is_said_to_be_parked, "lane 0: is said to be parked, and is not", 0},
    {a_lane_beyond_the_last_that_is_said_to_be_parked, "lane 255 of 2 is said to be parked", 0},
    {a_lane_without_owner, "lane 0: is served by owner 1, which is no worker", 0},
    {an_owner_of_two_lanes, "lanes 0 and 1: are served by one owner, 5", 0},
};

static void each_damage_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        struct fixture fixture;
        char sentence[256];
        const char *place = strstr(damages[i].sentence, "%u");

        setup(&fixture, 0);
        damages[i].apply(&fixture);
        if (place == NULL)
            (void)snprintf(sentence, sizeof(sentence), "%s", damages[i].sentence);
        else
            (void)snprintf(sentence, sizeof(sentence), "%.*s%u%s",
                (int)(place - damages[i].sentence), damages[i].sentence,
                fixture.slot[damages[i].slot], place + 2);
        assert_true(inspect(&fixture).findings > 0);
        if (strstr(fixture.said, sentence) == NULL)
            fail_msg("\"%s\" is not in what was said:\n%s", sentence, fixture.said);
        lanes_fini(&fixture.lanes);
    }
}

static void wrapped_numbers_are_no_damage(void **state)
{
    static const uint64_t starts[] = {
        1023 * 32 - 2, (1ull << 32) - 2, (1ull << 40) - 1, UINT64_MAX - 1, UINT64_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        struct fixture fixture;

        setup(&fixture, starts[i]);
        lanes_fini(&fixture.lanes);
    }
}

/* Whatever stands there, the look ends and reads nothing that is not the segment's. */
static void random_memory_is_inspected_without_a_crash(void **state)
{
    struct fixture fixture;
    struct knit_random random;

    (void)state;
    knit_random_init(&random);
    setup(&fixture, 0);
    for (int i = 0; i < 200; i++) {
        size_t request = (size_t)(fixture.request->arena -
                                  (unsigned char *)fixture.session->request_mapping.base);
        size_t reply =
            (size_t)(fixture.reply->arena - (unsigned char *)fixture.session->reply_mapping.base);

        for (int j = 0; j < 50; j++) {
            unsigned char *base = i % 2 == 0 ? fixture.session->request_mapping.base
                                             : fixture.session->reply_mapping.base;

            knit_random_bytes(&random,
                base + knit_random_below(&random, (i % 2 == 0 ? request : reply) / 8) * 8, 8);
        }
        (void)inspect(&fixture);
    }
    assert_true(inspect(&fixture).findings > KNIT_INSPECT_FINDINGS_MAX);
    /* The worker would stumble over the noise. */
    fixture.lanes.worker[0] = knit_lane_free(fixture.lanes.worker[0]);
    lanes_fini(&fixture.lanes);
}

/* While calls run, nothing is said twice. */
static void a_running_pool_has_no_findings(void **state)
{
    struct fixture fixture = {0};
    struct lanes *lanes = &fixture.lanes;
    struct knit_session_outcome outcomes[16];
    uint32_t done = 0;
    uint64_t until = knit_deadline_in_ms(60000);

    (void)state;
    lanes_init(lanes, 2, true, 20);
    fixture.session = lanes_add_session(lanes, 10, 65536, 0);
    lanes_start_worker(lanes, 0, OWNER);
    lanes_start_worker(lanes, 1, OWNER + 1);
    while (done < 3000) {
        struct knit_session *session = fixture.session->session;
        size_t count;

        assert_true(knit_clock_ns() < until);
        while (knit_session_slots_free(session) > 0)
            (void)publish(&fixture, KNIT_LANE_ANY, done % 7 == 0 ? 1500 : 30);
        if (done % 10 == 0 && inspect(&fixture).findings > 0) {
            char *before = strdup(fixture.said), *rest = NULL;

            (void)inspect(&fixture);
            for (char *line = strtok_r(before, "\n", &rest); line != NULL;
                 line = strtok_r(NULL, "\n", &rest)) {
                if (strstr(fixture.said, line) != NULL)
                    fail_msg("twice: %s", line);
            }
            free(before);
        }
        count = knit_session_collect(session, outcomes, 16);
        for (size_t i = 0; i < count; i++) {
            if (outcomes[i].held)
                knit_session_release(session, outcomes[i].slot);
        }
        done += (uint32_t)count;
        if (count == 0)
            (void)knit_session_wait(session, KNIT_SLOT_ANY, until);
    }
    for (uint32_t i = 0; i < 2; i++)
        lanes_stop_worker(lanes, i);
    if (inspect(&fixture).findings != 0)
        fail_msg("at rest: %s", fixture.said);
    lanes_fini(lanes);
}

static void a_lane_says_what_it_does(void **state)
{
    static struct fixture fixture;
    struct knit_inspect_lane now;

    (void)state;
    setup(&fixture, 0);
    now = knit_inspect_lane(&fixture.lanes.board, 1);
    assert_string_equal(now.state, "vacant");
    assert_int_equal(now.session, 0);
    STORE(&fixture.lanes.board.busy[0].running, UINT64_C(9) << 16 | 4);
    STORE(&fixture.lanes.board.busy[0].task, 5);
    now = knit_inspect_lane(&fixture.lanes.board, 0);
    assert_string_equal(now.state, "awake");
    assert_int_equal(now.session, 9);
    assert_int_equal(now.slot, 3);
    assert_int_equal(now.task, 5);
    lanes_fini(&fixture.lanes);
}

static void a_segment_header_is_checked(void **state)
{
    struct knit_segment_header head = {.magic = KNIT_LAYOUT_MAGIC,
        .version = KNIT_LAYOUT_VERSION,
        .kind = KNIT_SEGMENT_REPLY,
        .geometry = {
            .version = KNIT_LAYOUT_VERSION, .lanes = 2, .slots = 10, .cells = 32, .classes = 1}};
    uint64_t bytes = knit_layout_reply_bytes(&head.geometry);

    (void)state;
    head.total_bytes = bytes;
    assert_null(knit_inspect_head(&head, KNIT_SEGMENT_REPLY, bytes));
    assert_string_equal(knit_inspect_head(&head, KNIT_SEGMENT_REPLY, bytes + 4096),
        "it has another size than it says");
    assert_string_equal(
        knit_inspect_head(&head, KNIT_SEGMENT_REQUEST, bytes), "it is a segment of another kind");
    head.geometry.cells = 33;
    assert_non_null(strstr(knit_inspect_head(&head, KNIT_SEGMENT_REPLY, bytes), "power of two"));
    head.version++;
    assert_non_null(strstr(knit_inspect_head(&head, KNIT_SEGMENT_REPLY, bytes), "version"));
    head.magic++;
    assert_non_null(strstr(knit_inspect_head(&head, KNIT_SEGMENT_REPLY, bytes), "begin"));
    head = (struct knit_segment_header){.magic = KNIT_LAYOUT_MAGIC,
        .version = KNIT_LAYOUT_VERSION,
        .kind = KNIT_SEGMENT_BOARD,
        .total_bytes = knit_layout_board_bytes(257),
        .geometry = {.version = KNIT_LAYOUT_VERSION, .lanes = 257}};
    assert_non_null(
        strstr(knit_inspect_head(&head, KNIT_SEGMENT_BOARD, head.total_bytes), "lanes"));
    head.geometry.lanes = 3;
    head.total_bytes = knit_layout_board_bytes(3);
    assert_null(knit_inspect_head(&head, KNIT_SEGMENT_BOARD, head.total_bytes));
    head.kind = KNIT_SEGMENT_POOL;
    head.total_bytes = knit_layout_pool_bytes(3);
    assert_null(knit_inspect_head(&head, KNIT_SEGMENT_POOL, head.total_bytes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_damage_is_named),
        cmocka_unit_test(wrapped_numbers_are_no_damage),
        cmocka_unit_test(random_memory_is_inspected_without_a_crash),
        cmocka_unit_test(a_running_pool_has_no_findings),
        cmocka_unit_test(a_lane_says_what_it_does),
        cmocka_unit_test(a_segment_header_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
