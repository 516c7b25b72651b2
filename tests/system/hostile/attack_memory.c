/* SPDX-License-Identifier: Apache-2.0 */
/* Values. The structured attacks know what each word means and put in one mistake at a time;
 * scribbling knows little and puts in many. Both run while correct calls are made, which would
 * find a check that is made once and not again.
 */
#include "tests/system/hostile/attack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/check.h"
#include "proto/limits.h"
#include "tests/support/deadline.h"

enum {
    MUTATIONS = 100000, /* and a hundred times as many with $KNIT_TEST_LONG */
    ROUNDS_STUCK = 200,
    SLOTS = 64,
    ARENA = 1 << 20,
    PATIENCE_MS = 10000,
};

/* [value], a params array of one bin of `len` bytes; at most 65,000 of them. */
static size_t put_params(unsigned char *to, size_t len)
{
    to[0] = 0x91;
    to[1] = 0xc5;
    to[2] = (unsigned char)(len >> 8);
    to[3] = (unsigned char)len;
    return 4 + len;
}

static bool call(struct knit_attached *attached, struct knit_random *random)
{
    static unsigned char bytes[70000];
    size_t len = put_params(bytes, knit_random_chance(random, 4) ? knit_random_below(random, 60000)
                                                                 : knit_random_below(random, 60));
    uint64_t offset = knit_random_below(random, attached->geometry.request_arena_bytes - len);

    return knit_attached_call(attached, bytes, len, offset);
}

/* ---- scribble ---- */

/* Likely bad values: the ends of the range, the present value, and one bit or one step from it. */
static uint64_t bad_value(struct knit_random *random, uint64_t now)
{
    switch (knit_random_below(random, 8)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return now ^ 1ull << knit_random_below(random, 64);
    case 3:
        return now + 1;
    case 4:
        return now - 1;
    case 5:
        return now + (1ull << 24); /* the next generation */
    case 6:
        return UINT64_C(1) << knit_random_below(random, 64);
    default:
        return knit_random_u64(random);
    }
}

/* Three times in four a word before the arena, else any word; sometimes one of the cell that was
 * published last. */
static void scribble_word(struct knit_attached *attached, struct knit_random *random)
{
    size_t control = (size_t)(attached->in.arena - (unsigned char *)attached->request.base);
    size_t bytes = knit_random_chance(random, 4) ? attached->request.bytes : control;
    _Atomic uint64_t *word =
        (_Atomic uint64_t *)attached->request.base + knit_random_below(random, bytes / 8);

    if (knit_random_chance(random, 200)) {
        uint32_t cells = attached->geometry.cells;
        uint32_t lane = (uint32_t)knit_random_below(random, attached->geometry.lanes);
        struct knit_request_cell *cell =
            &attached->in.ring[(size_t)lane * cells + ((attached->tail[lane] - 1) & (cells - 1))];

        word = &cell->ctrl + knit_random_below(random, 4);
    }

    atomic_store_explicit(word, bad_value(random, atomic_load_explicit(word, memory_order_relaxed)),
        memory_order_relaxed);
}

bool knit_attack_scribble(const struct knit_target *target, struct knit_random *random)
{
    struct knit_attached attached;
    uint32_t wanted = getenv("KNIT_TEST_LONG") != NULL ? 100 * MUTATIONS : MUTATIONS;
    uint32_t done = 0, sessions = 0, ended = 0;

    while (done < wanted) {
        knit_attached_open(&attached, target, SLOTS, ARENA);
        sessions++;
        /* A ring whose next cell lost its tag looks empty forever: nothing more can happen. */
        for (uint32_t stuck = 0; stuck < ROUNDS_STUCK && !knit_attached_is_over(&attached);) {
            stuck = call(&attached, random) ? 0 : stuck + 1;
            for (uint64_t burst = knit_random_below(random, 16); burst > 0; burst--, done++)
                scribble_word(&attached, random);
            if (knit_random_chance(random, 4))
                knit_attached_notify(&attached);
        }
        ended += knit_attached_is_over(&attached);
        knit_attached_close(&attached);
    }
    printf("%u words in %u sessions, %u of them ended\n", done, sessions, ended);
    return ended > 0;
}

/* ---- cells ---- */

/* The words of one wrong cell. */
struct wrong {
    const char *what;
    uint64_t ctrl, meta, body;
};

/* Correct calls, after which the words differ from those of a new segment. In a new one the memory
 * behind the slots looks like an unused slot, so that only its number is wrong. */
static bool make_right_calls(struct knit_attached *attached, struct knit_random *random)
{
    for (int i = 0; i < 20; i++)
        (void)call(attached, random);
    knit_attached_notify(attached);
    return knit_attached_is_answered(attached, PATIENCE_MS);
}

/* The wrong cell of that number, which is at most that of the last one. */
static struct wrong wrong_of(const struct knit_target *target, const struct knit_attached *attached,
    uint32_t number, bool *ret_last)
{
    const uint32_t slot = knit_attached_free_slot(attached);
    const uint64_t ctrl = knit_attached_ctrl(attached, 0, slot), gen = knit_ctrl_gen(ctrl);
    const uint32_t tag = knit_ctrl_tag(ctrl), in_arena = KNIT_CELL_IN_ARENA;
    const uint32_t task = target->task, epoch = target->epoch;
    const uint64_t arena = attached->geometry.request_arena_bytes;
    const struct wrong wrongs[] = {
        {"a slot that does not exist", knit_ctrl(gen, attached->geometry.slots, tag), 0, 0},
        {"the largest slot", knit_ctrl(gen, 0x3fff, tag), 0, 0},
        {"an argument over the limit", ctrl,
            knit_meta(task, epoch, in_arena, (uint32_t)(arena / 8) + 1), 0},
        {"a generation skipped", knit_ctrl(gen + 1, slot, tag), 0, 0},
        {"a generation far ahead", knit_ctrl(gen + (1ull << 38), slot, tag), 0, 0},
        {"a length over the slab's", ctrl, knit_meta(task, epoch, 0, KNIT_SLAB_BYTES + 1), 0},
        {"the largest length", ctrl, knit_meta(task, epoch, 0, UINT32_MAX), 0},
        {"unknown flags", ctrl, knit_meta(task, epoch, 0xfe, 8), 0},
        {"an offset behind the arena", ctrl, knit_meta(task, epoch, in_arena, 200), arena},
        {"an end behind the arena", ctrl, knit_meta(task, epoch, in_arena, 200), arena - 199},
        {"an offset that wraps", ctrl, knit_meta(task, epoch, in_arena, 200), UINT64_MAX - 100},
        {"all of the address space", ctrl, knit_meta(task, epoch, in_arena, UINT32_MAX), 0},
    };

    *ret_last = number + 1 == sizeof(wrongs) / sizeof(wrongs[0]);
    return wrongs[number];
}

static bool try_wrong(
    const struct knit_target *target, struct knit_random *random, uint32_t number, bool *ret_last)
{
    enum { UNUSED = 2 }; /* the first ones are tried on new segments */
    struct knit_attached attached;
    struct wrong wrong;
    bool ended;

    knit_attached_open(&attached, target, SLOTS, 0);
    if (number >= UNUSED && !make_right_calls(&attached, random)) {
        printf("calls before the wrong one were not answered\n");
        return false;
    }
    wrong = wrong_of(target, &attached, number, ret_last);
    knit_attached_put(&attached, 0, wrong.ctrl, wrong.meta, wrong.body);
    knit_attached_notify(&attached);
    ended = knit_attached_ends(&attached, PATIENCE_MS);
    if (!ended)
        printf("%s: the session is still served\n", wrong.what);
    knit_attached_close(&attached);
    return ended;
}

bool knit_attack_cells(const struct knit_target *target, struct knit_random *random)
{
    bool is_last = false, all_ended = true;
    uint32_t number = 0;

    while (!is_last)
        all_ended = try_wrong(target, random, number++, &is_last) && all_ended;
    printf("%u wrong cells\n", number);
    return all_ended;
}

/* ---- payloads ---- */

/* The payload of each slot, and counts of outcomes. */
struct sent {
    unsigned char bytes[SLOTS][4096];
    size_t len[SLOTS];
    uint64_t seen[SLOTS]; /* generation that was checked last */
    uint32_t results, errors;
};

/* A valid argument must come back as it was sent; for any other an error must come. */
static bool check_result(const struct knit_attached *attached, struct sent *sent, uint32_t slot)
{
    const unsigned char *bytes = sent->bytes[slot];
    size_t len = sent->len[slot];
    struct knit_attached_outcome outcome;

    sent->seen[slot] = attached->gen[slot];
    if (!knit_attached_outcome(attached, slot, &outcome))
        return false;
    sent->results += outcome.is_result;
    sent->errors += !outcome.is_result;
    if (!outcome.is_result)
        return true;
    if (len > 1 && bytes[0] == 0x91 &&
        knit_check_value(bytes + 1, len - 1, KNIT_DEPTH_MAX, NULL) == 0 && outcome.len == len - 1 &&
        memcmp(outcome.bytes, bytes + 1, len - 1) == 0)
        return true;
    printf("a result of %zu bytes for %zu bytes that begin with %02x %02x\n", outcome.len, len,
        bytes[0], bytes[1]);
    return false;
}

static void make_payload(struct knit_random *random, struct sent *sent, uint32_t slot)
{
    size_t len = knit_random_below(random, knit_random_chance(random, 8) ? 4096 : 120);
    unsigned char *bytes = sent->bytes[slot];

    sent->len[slot] = len;
    knit_random_bytes(random, bytes, len);
    if (len > 0 && !knit_random_chance(random, 4))
        bytes[0] = 0x91; /* an array of one value, of the bytes that follow */
    if (len > 1 && knit_random_chance(random, 4))
        memset(bytes + 1, 0x91, len - 1); /* deep */
}

/* Payloads that are no arguments, in correct cells: each is answered and the session is not
 * evicted, because the user of an honest caller may send such bytes too. */
bool knit_attack_payloads(const struct knit_target *target, struct knit_random *random)
{
    static struct sent sent;
    struct knit_attached attached;
    uint32_t calls = 0;
    bool fine = true;
    bool is_answered, is_over;

    knit_attached_open(&attached, target, SLOTS, ARENA);
    while (calls < 20000 && fine && !knit_attached_is_over(&attached)) {
        uint32_t slot = knit_attached_free_slot(&attached);

        if (slot != UINT32_MAX) {
            fine = sent.seen[slot] == attached.gen[slot] || check_result(&attached, &sent, slot);
            make_payload(random, &sent, slot);
            knit_attached_call_in(&attached, slot, sent.bytes[slot], sent.len[slot],
                knit_random_below(random, ARENA - 4096));
            calls++;
        } else if (knit_random_chance(random, 8)) {
            knit_attached_notify(&attached);
        }
    }
    knit_attached_notify(&attached);
    is_answered = knit_attached_is_answered(&attached, PATIENCE_MS);
    is_over = knit_attached_is_over(&attached);
    for (uint32_t slot = 0; slot < SLOTS && fine && is_answered; slot++)
        fine = sent.seen[slot] == attached.gen[slot] || check_result(&attached, &sent, slot);
    printf("%u payloads: %u results, %u errors%s%s\n", calls, sent.results, sent.errors,
        is_answered ? "" : ", not all answered", is_over ? ", the session was ended" : "");
    knit_attached_close(&attached);
    return fine && is_answered && !is_over && sent.results > 0 && sent.errors > 0;
}

/* ---- memory that changes while it is read ---- */

/* The slot's result differs from what was sent: the bytes were changed in time. */
static bool was_changed(
    const struct knit_attached *attached, uint32_t slot, const unsigned char *sent, size_t len)
{
    struct knit_attached_outcome outcome;

    return attached->gen[slot] != 0 && knit_attached_outcome(attached, slot, &outcome) &&
           outcome.is_result && (outcome.len != len || memcmp(outcome.bytes, sent, len) != 0);
}

/* Changes the bytes of arguments, of one in the arena and one in a slab. The task kills its worker
 * when two reads of them differ. */
bool knit_attack_changing(const struct knit_target *target, struct knit_random *random)
{
    enum { LEN = 3000, SLAB_LEN = 900, AT = 4096 };
    unsigned char bytes[2][LEN + 4] = {{0}};
    const uint32_t lens[2] = {LEN, SLAB_LEN};
    struct knit_attached attached;
    uint64_t until_ns = knit_deadline_now_ns() + 2000000000u;
    uint64_t flips = 0, changed[2] = {0};
    size_t len[2];
    bool is_over;

    knit_attached_open(&attached, target, 2, ARENA);
    for (int i = 0; i < 2; i++)
        len[i] = put_params(bytes[i], lens[i]);
    while (knit_deadline_now_ns() < until_ns && !knit_attached_is_over(&attached)) {
        uint32_t slot = knit_attached_free_slot(&attached);

        if (slot != UINT32_MAX) {
            changed[slot] += was_changed(&attached, slot, bytes[slot] + 1, len[slot] - 1);
            knit_attached_call_in(&attached, slot, bytes[slot], len[slot], AT);
            knit_attached_notify(&attached);
        }
        /* The head is changed seldom, because bytes that are no argument do not reach the task. */
        for (int i = 0; i < 1000; i++, flips++) {
            const int which = i % 2;
            size_t at = knit_random_chance(random, 1000)
                            ? knit_random_below(random, 4)
                            : 4 + knit_random_below(random, lens[which]);

            (which == 0 ? attached.in.arena + AT : knit_slab(attached.in.slab, 1))[at] =
                (unsigned char)knit_random_u64(random);
        }
    }
    is_over = knit_attached_is_over(&attached);
    printf("%llu bytes changed under %llu calls, %llu and %llu of them got others than were sent\n",
        (unsigned long long)flips, (unsigned long long)(attached.gen[0] + attached.gen[1]),
        (unsigned long long)changed[0], (unsigned long long)changed[1]);
    knit_attached_close(&attached);
    return !is_over && changed[0] > 0 && changed[1] > 0;
}

/* Two arguments that do not change, of different lengths and bytes. */
enum { FLIP_SLOTS = 2, FLIP_GAP = 65536 };
static const size_t flip_len[] = {900, 3000};
static const unsigned char flip_byte[] = {0x5a, 0xa5};

struct flips {
    uint64_t cells, results, errors, sessions, ended;
};

/* One slot is answered or both are, and no call runs. */
static bool is_settled(const struct knit_attached *attached, const uint64_t *before)
{
    bool is_any = false;

    for (uint32_t slot = 0; slot < FLIP_SLOTS; slot++) {
        uint64_t word = atomic_load_explicit(&attached->out.reply[slot].word, memory_order_acquire);
        uint64_t claim = atomic_load_explicit(&attached->out.claim[slot], memory_order_acquire);

        if (knit_claim_gen(claim) != knit_word_gen(word))
            return false;
        is_any = is_any || knit_word_gen(word) != before[slot];
    }
    return is_any;
}

/* The result must be one of the two arguments, whole, or an error for the length of the other. */
static bool is_legal(const struct knit_attached *attached, uint32_t slot, struct flips *flips)
{
    struct knit_attached_outcome outcome;
    unsigned char raw[4 + 3000];

    if (!knit_attached_outcome(attached, slot, &outcome))
        return false;
    flips->results += outcome.is_result;
    flips->errors += !outcome.is_result;
    if (!outcome.is_result)
        return true;
    for (int i = 0; i < 2; i++) {
        size_t head = put_params(raw, flip_len[i]) - flip_len[i];

        memset(raw + head, flip_byte[i], flip_len[i]);
        /* A result is the value without the array around it. */
        if (outcome.in_arena == (i != 0) && outcome.len == flip_len[i] + head - 1 &&
            memcmp(outcome.bytes, raw + 1, outcome.len) == 0)
            return true;
    }
    printf("a result that is neither argument, of %zu bytes\n", outcome.len);
    return false;
}

/* Changes one cell all the time, until its call is answered or the session ends. */
static bool flip_cell(
    struct knit_attached *attached, struct knit_random *random, struct flips *flips)
{
    const uint32_t task = attached->target->task, epoch = attached->target->epoch;
    const struct knit_geometry *geometry = &attached->geometry;
    uint32_t lane = (uint32_t)knit_random_below(random, geometry->lanes);
    struct knit_request_cell *cell =
        &attached->in
             .ring[(size_t)lane * geometry->cells + (attached->tail[lane] & (geometry->cells - 1))];
    uint64_t before[FLIP_SLOTS] = {attached->gen[0], attached->gen[1]};
    const uint64_t ctrls[] = {knit_attached_ctrl(attached, lane, 0),
        knit_attached_ctrl(attached, lane, 1),
        knit_ctrl(knit_gen_next(before[0]), geometry->slots,
            knit_tag(attached->tail[lane], geometry->cells))};
    const uint64_t metas[] = {knit_meta(task, epoch, KNIT_CELL_IN_ARENA, (uint32_t)flip_len[0] + 4),
        knit_meta(task, epoch, KNIT_CELL_IN_ARENA, (uint32_t)flip_len[1] + 4),
        knit_meta(task, epoch, KNIT_CELL_IN_ARENA, UINT32_MAX)};
    /* The illegal offset lies outside of every address space. */
    const uint64_t bodies[] = {0, FLIP_GAP, UINT64_C(1) << 62};
    uint64_t until_ns = knit_deadline_now_ns() + PATIENCE_MS * UINT64_C(1000000);
    bool is_fine = true;

    knit_attached_put(attached, lane, ctrls[0], metas[0], bodies[0]);
    knit_attached_notify(attached);
    while (!is_settled(attached, before) && !knit_attached_is_over(attached)) {
        for (int i = 0; i < 64; i++) {
            /* An illegal value stays until the next store, in one word at a time. */
            uint32_t which = (uint32_t)knit_random_below(random, 3);
            _Atomic uint64_t *word = which == 0   ? &cell->ctrl
                                     : which == 1 ? &cell->meta
                                                  : &cell->body[0];
            const uint64_t *values = which == 0 ? ctrls : which == 1 ? metas : bodies;

            if (knit_random_chance(random, 4))
                atomic_store_explicit(word, values[2], memory_order_relaxed);
            atomic_store_explicit(word, values[knit_random_below(random, 2)], memory_order_release);
        }
        if (knit_deadline_now_ns() > until_ns) {
            printf("a cell that changes is not claimed\n");
            return false;
        }
    }
    for (uint32_t slot = 0; slot < FLIP_SLOTS; slot++) {
        uint64_t word = atomic_load_explicit(&attached->out.reply[slot].word, memory_order_acquire);

        attached->gen[slot] = knit_word_gen(word);
        if (attached->gen[slot] != before[slot])
            is_fine = is_legal(attached, slot, flips) && is_fine;
        atomic_store_explicit(
            &attached->in.released[slot], attached->gen[slot], memory_order_release);
    }
    flips->cells++;
    return is_fine;
}

/* The words of cells change between two legal values and, for a moment, an illegal one. The values
 * that are used must be those that were checked. */
bool knit_attack_flipping(const struct knit_target *target, struct knit_random *random)
{
    struct knit_attached attached;
    uint64_t until_ns = knit_deadline_now_ns() + 3000000000u;
    struct flips flips = {0};
    bool is_fine = true;

    while (is_fine && knit_deadline_now_ns() < until_ns) {
        knit_attached_open(&attached, target, FLIP_SLOTS, ARENA);
        flips.sessions++;
        for (int i = 0; i < 2; i++) {
            unsigned char *params = attached.in.arena + (size_t)i * FLIP_GAP;
            size_t len = put_params(params, flip_len[i]);

            memset(params + len - flip_len[i], flip_byte[i], flip_len[i]);
        }
        while (is_fine && knit_deadline_now_ns() < until_ns && !knit_attached_is_over(&attached))
            is_fine = flip_cell(&attached, random, &flips);
        flips.ended += knit_attached_is_over(&attached);
        knit_attached_close(&attached);
    }
    printf("%llu cells changed: %llu results, %llu errors; %llu of %llu sessions ended\n",
        (unsigned long long)flips.cells, (unsigned long long)flips.results,
        (unsigned long long)flips.errors, (unsigned long long)flips.ended,
        (unsigned long long)flips.sessions);
    return is_fine && flips.results > 0 && flips.errors > 0 && flips.ended > 0;
}

/* ---- greed ---- */

enum { GREEDY_LEN = 200000 };

/* Each slot once, since a second call releases the block of the first: together three times the
 * bytes that all lanes may hold for a session. */
static void fill_arenas(struct knit_attached *attached)
{
    static const unsigned char head[] = {
        0x91, 0xc6, 0, GREEDY_LEN >> 16 & 0xff, GREEDY_LEN >> 8 & 0xff, GREEDY_LEN & 0xff};
    const struct knit_target *target = attached->target;
    uint64_t meta = knit_meta(
        target->task, target->epoch, KNIT_CELL_IN_ARENA, (uint32_t)sizeof(head) + GREEDY_LEN);

    memcpy(attached->in.arena, head, sizeof(head));
    for (uint32_t slot = 0; slot < attached->geometry.slots; slot++) {
        uint32_t lane = slot % attached->geometry.lanes;

        knit_attached_put(attached, lane, knit_attached_ctrl(attached, lane, slot), meta, 0);
        attached->gen[slot]++;
        if (slot % 16 == 0)
            knit_attached_notify(attached);
    }
    knit_attached_notify(attached);
}

/* The worker of each lane has a deferred reply. */
static bool is_blocked_on_arena(const struct knit_attached *attached)
{
    for (uint32_t lane = 0; lane < attached->geometry.lanes; lane++) {
        if (atomic_load_explicit(
                &attached->out.lane[lane].blocked_on_arena, memory_order_relaxed) == 0)
            return false;
    }
    return true;
}

/* Bytes of results in the arenas, released ones too. */
static uint64_t held(const struct knit_attached *attached, uint32_t *ret_results)
{
    struct knit_attached_outcome outcome;
    uint64_t sum = 0;

    *ret_results = 0;
    for (uint32_t slot = 0; slot < attached->geometry.slots; slot++) {
        uint64_t word = atomic_load_explicit(&attached->out.reply[slot].word, memory_order_acquire);

        if (knit_word_gen(word) != attached->gen[slot] ||
            !knit_attached_outcome(attached, slot, &outcome) || !outcome.is_result)
            continue;
        *ret_results += 1;
        sum += outcome.len;
    }
    return sum;
}

/* Releases all that is answered. True: all calls are answered. */
static bool release_all(struct knit_attached *attached)
{
    for (uint32_t slot = 0; slot < attached->geometry.slots; slot++) {
        uint64_t word = atomic_load_explicit(&attached->out.reply[slot].word, memory_order_acquire);

        atomic_store_explicit(
            &attached->in.released[slot], knit_word_gen(word), memory_order_release);
    }
    knit_attached_notify(attached);
    return knit_attached_pending(attached) == 0;
}

/* Gets large results and releases none, so that the arenas are full. Meanwhile the same workers
 * serve another session of the same user. In the first round it then releases all, and the
 * deferred replies and the calls behind them are answered; in the second it leaves. */
bool knit_attack_greed(const struct knit_target *target, struct knit_random *random)
{
    struct knit_attached attached, modest;
    bool fine = true;

    (void)random;
    knit_attached_open(&modest, target, SLOTS, ARENA);
    for (int round = 0; round < 2 && fine; round++) {
        uint32_t lanes, slots, results;
        bool was_blocked_on_arena, is_served;
        uint64_t arena, most, bytes;

        knit_attached_open(&attached, target, 0, ARENA);
        lanes = attached.geometry.lanes;
        slots = attached.geometry.slots;
        /* A session's budget is an arena, and each lane may hold one largest result more. */
        arena = attached.geometry.reply_arena_bytes;
        most = arena + lanes * (arena / 8 + KNIT_PAGE);

        fill_arenas(&attached);
        was_blocked_on_arena = KNIT_WAIT_UNTIL(is_blocked_on_arena(&attached), PATIENCE_MS);
        is_served = knit_attached_is_served(&modest);
        bytes = held(&attached, &results);
        printf("%u of %u results held, %llu MiB; %s, %s\n", results, slots,
            (unsigned long long)bytes >> 20, was_blocked_on_arena ? "no room" : "room for more",
            is_served ? "others are served" : "others are not served");
        fine = was_blocked_on_arena && is_served && results < slots && bytes <= most;
        if (round == 0 && !KNIT_WAIT_UNTIL(release_all(&attached), PATIENCE_MS)) {
            printf("%u calls are not answered\n", knit_attached_pending(&attached));
            fine = false;
        }
        fine = fine && !knit_attached_is_over(&attached);
        knit_attached_close(&attached);
    }
    knit_attached_close(&modest);
    return fine;
}

/* ---- leaving ---- */

/* Calls in all slots, and new ones as fast as they are answered. True: the session was closed
 * meanwhile. */
static bool call_until_closed(struct knit_attached *attached, struct knit_random *random)
{
    uint64_t until_ns = knit_deadline_in_ms(PATIENCE_MS);

    while (atomic_load_explicit(&attached->out.state->state, memory_order_acquire) !=
               KNIT_STATE_CLOSED &&
           knit_deadline_now_ns() < until_ns) {
        (void)call(attached, random);
        knit_attached_notify(attached);
    }
    return knit_deadline_now_ns() < until_ns;
}

/* Ends its connection, keeps everything mapped and goes on calling. Its calls must not be claimed
 * after that, except one for each worker, which may have found it before. Another session, of which
 * each worker serves calls that no other one may steal, shows that all have done with that. */
bool knit_attack_leave(const struct knit_target *target, struct knit_random *random)
{
    struct knit_attached attached, modest;
    uint32_t stayed = 0, claimed_most = 0;
    bool fine = true;

    knit_attached_open(&modest, target, SLOTS, ARENA);
    modest.ring = KNIT_RING_PINNED;
    for (int session = 0; session < 20 && fine; session++) {
        uint32_t pending, later;

        knit_attached_open(&attached, target, SLOTS, ARENA);
        for (uint64_t i = knit_random_below(random, 40); i > 0; i--)
            (void)call(&attached, random);
        shutdown(attached.socket, SHUT_RDWR);
        fine = call_until_closed(&attached, random);
        pending = knit_attached_pending(&attached);
        while (pending < SLOTS && call(&attached, random))
            pending++;
        knit_attached_notify(&attached);
        fine = knit_attached_is_served(&modest) && fine;
        later = knit_attached_pending(&attached);
        for (int i = 0; i < 1000; i++) {
            scribble_word(&attached, random);
            knit_attached_notify(&attached);
        }
        fine = knit_attached_is_served(&modest) && fine;
        /* Scribbled words must not be claimed either. */
        stayed += later;
        if (pending - later > claimed_most)
            claimed_most = pending - later;
        fine = fine && claimed_most <= attached.geometry.lanes &&
               knit_attached_pending(&attached) == later;
        knit_attached_close(&attached);
    }
    knit_attached_close(&modest);
    printf("20 sessions left%s; %u calls stayed, at most %u of a session were claimed\n",
        fine ? "" : ", not all of them closed at once", stayed, claimed_most);
    return fine && stayed > 0;
}
