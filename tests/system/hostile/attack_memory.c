/* SPDX-License-Identifier: Apache-2.0 */
/* Values. The structured attacks know what each word means and are wrong in one thing at a time;
 * scribbling knows little and is wrong in many. Both go on under calls that are right, because a
 * check that is passed once and then not made again would stand up to anything less.
 */
#include "tests/system/hostile/attack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

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

/* Values that mean something somewhere: the ends, what stands there and a bit or step beside it. */
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

/* A word somewhere before the arena three times in four, else anywhere; now and then one of the
 * cell that was published last. */
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
        /* A ring whose next cell lost its tag looks empty for ever: nothing more to see then. */
        for (uint32_t stuck = 0; stuck < ROUNDS_STUCK && !knit_attached_is_over(&attached);) {
            stuck = call(&attached, random) ? 0 : stuck + 1;
            for (uint64_t burst = knit_random_below(random, 16); burst > 0; burst--, done++)
                scribble_word(&attached, random);
            if (knit_random_chance(random, 4))
                knit_attached_ring(&attached);
        }
        ended += knit_attached_is_over(&attached);
        knit_attached_close(&attached);
    }
    printf("%u words in %u sessions, %u of them ended\n", done, sessions, ended);
    return ended > 0;
}

/* ---- cells ---- */

/* What one wrong cell is made of. */
struct wrong {
    const char *what;
    uint64_t ctrl, meta, body;
};

static bool try_wrong(
    const struct knit_target *target, struct knit_random *random, uint32_t number, bool *ret_last)
{
    struct knit_attached attached;
    uint32_t task = target->task, epoch = target->epoch, slot;
    uint64_t ctrl, gen;

    knit_attached_open(&attached, target, SLOTS, ARENA);
    for (int i = 0; i < 20; i++)
        (void)call(&attached, random);
    knit_attached_ring(&attached);
    if (!knit_attached_is_answered(&attached, PATIENCE_MS)) {
        printf("calls before the wrong one were not answered\n");
        return false;
    }
    slot = knit_attached_free_slot(&attached);
    ctrl = knit_attached_ctrl(&attached, 0, slot);
    gen = knit_ctrl_gen(ctrl);
    const uint32_t tag = knit_ctrl_tag(ctrl), in_arena = KNIT_CELL_IN_ARENA;
    const uint64_t arena = attached.geometry.request_arena_bytes;
    const struct wrong wrongs[] = {
        {"a slot that does not exist", knit_ctrl(gen, attached.geometry.slots, tag), 0, 0},
        {"the largest slot", knit_ctrl(gen, 0x3fff, tag), 0, 0},
        {"a generation skipped", knit_ctrl(gen + 1, slot, tag), 0, 0},
        {"a generation far ahead", knit_ctrl(gen + (1ull << 38), slot, tag), 0, 0},
        {"a length over the cell's", ctrl, knit_meta(task, epoch, 0, KNIT_INLINE_MAX + 1), 0},
        {"the largest length", ctrl, knit_meta(task, epoch, 0, UINT32_MAX), 0},
        {"unknown flags", ctrl, knit_meta(task, epoch, 0xfe, 8), 0},
        {"an offset behind the arena", ctrl, knit_meta(task, epoch, in_arena, 200), arena},
        {"an end behind the arena", ctrl, knit_meta(task, epoch, in_arena, 200), arena - 199},
        {"an offset that wraps", ctrl, knit_meta(task, epoch, in_arena, 200), UINT64_MAX - 100},
        {"all of the address space", ctrl, knit_meta(task, epoch, in_arena, UINT32_MAX), 0},
    };
    const struct wrong *wrong = &wrongs[number];
    bool ended;

    knit_attached_put(&attached, 0, wrong->ctrl, wrong->meta, wrong->body);
    knit_attached_ring(&attached);
    ended = knit_attached_ends(&attached, PATIENCE_MS);
    if (!ended)
        printf("%s: the session is served on\n", wrong->what);
    knit_attached_close(&attached);
    *ret_last = number + 1 == sizeof(wrongs) / sizeof(wrongs[0]);
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

/* Bytes that are no arguments, in cells that are in order: each is answered, and nobody is
 * condemned, because an honest caller's user may send nonsense too. */
bool knit_attack_payloads(const struct knit_target *target, struct knit_random *random)
{
    static unsigned char bytes[4096];
    struct knit_attached attached;
    uint32_t calls = 0;

    knit_attached_open(&attached, target, SLOTS, ARENA);
    while (calls < 20000 && !knit_attached_is_over(&attached)) {
        size_t len = knit_random_below(random, knit_random_chance(random, 8) ? 4096 : 120);

        knit_random_bytes(random, bytes, len);
        if (len > 0 && !knit_random_chance(random, 4))
            bytes[0] = 0x91; /* an array of one, of whatever follows */
        if (len > 1 && knit_random_chance(random, 4))
            memset(bytes + 1, 0x91, len - 1); /* deep */
        if (knit_attached_call(&attached, bytes, len, knit_random_below(random, ARENA - 4096)))
            calls++;
        else if (knit_random_chance(random, 8))
            knit_attached_ring(&attached);
    }
    knit_attached_ring(&attached);
    bool is_answered = knit_attached_is_answered(&attached, PATIENCE_MS);
    bool is_over = knit_attached_is_over(&attached);
    printf("%u payloads%s%s\n", calls, is_answered ? "" : ", not all answered",
        is_over ? ", the session was ended" : "");
    knit_attached_close(&attached);
    return is_answered && !is_over;
}

/* ---- what changes while it is read ---- */

/* The arguments' bytes. The task ends its worker when they differ from one reading to the next. */
bool knit_attack_changing(const struct knit_target *target, struct knit_random *random)
{
    enum { LEN = 3000, AT = 4096 };
    unsigned char bytes[LEN + 4];
    struct knit_attached attached;
    uint64_t until_ns = knit_deadline_now_ns() + 2000000000u;
    uint64_t flips = 0;

    knit_attached_open(&attached, target, 2, ARENA);
    size_t len = put_params(bytes, LEN);
    while (knit_deadline_now_ns() < until_ns && !knit_attached_is_over(&attached)) {
        if (knit_attached_call(&attached, bytes, len, AT))
            knit_attached_ring(&attached);
        /* The head seldom, because what is no argument any more reaches no task. */
        for (int i = 0; i < 1000; i++, flips++) {
            size_t at = knit_random_chance(random, 1000) ? knit_random_below(random, 4)
                                                         : 4 + knit_random_below(random, LEN);

            attached.in.arena[AT + at] = (unsigned char)knit_random_u64(random);
        }
    }
    bool is_over = knit_attached_is_over(&attached);
    printf("%llu bytes changed under %llu calls\n", (unsigned long long)flips,
        (unsigned long long)(attached.gen[0] + attached.gen[1]));
    knit_attached_close(&attached);
    return !is_over;
}

/* Two arguments that stay as they are, of different lengths and bytes. */
enum { FLIP_SLOTS = 2, FLIP_GAP = 65536 };
static const size_t flip_len[] = {900, 3000};
static const unsigned char flip_byte[] = {0x5a, 0xa5};

struct flips {
    uint64_t cells, results, errors, sessions, ended;
};

/* One slot or both answered, and nobody at work for the other. */
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

/* One of the two arguments, whole, or an error for a length that goes with the other. */
static bool is_legal(const struct knit_attached *attached, uint32_t slot, struct flips *flips)
{
    const struct knit_reply_cell *cell = &attached->out.reply[slot];
    uint64_t word = atomic_load_explicit(&cell->word, memory_order_acquire);
    uint64_t meta = atomic_load_explicit(&cell->meta, memory_order_relaxed);
    uint64_t block = atomic_load_explicit(&cell->block, memory_order_relaxed);
    uint64_t len = knit_meta_len(meta);
    const unsigned char *bytes =
        attached->out.arena + knit_meta_task(meta) * attached->geometry.reply_arena_bytes + block;
    unsigned char raw[4 + 3000];

    if (knit_word_status(word) != KNIT_STATUS_RESULT) {
        flips->errors++;
        return true;
    }
    flips->results++;
    for (int i = 0; i < 2; i++) {
        size_t head = put_params(raw, flip_len[i]) - flip_len[i];

        memset(raw + head, flip_byte[i], flip_len[i]);
        /* A result is the value without the array around it. */
        if ((knit_word_flags(word) & KNIT_CELL_IN_ARENA) != 0 && len == flip_len[i] + head - 1 &&
            memcmp(bytes, raw + 1, len) == 0)
            return true;
    }
    printf("a result that is neither argument, of %llu bytes\n", (unsigned long long)len);
    return false;
}

/* One cell that is never the same for long, until it was taken or the session ended. */
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
    /* The illegal offset lies in nobody's address space. */
    const uint64_t bodies[] = {0, FLIP_GAP, UINT64_C(1) << 62};
    uint64_t until_ns = knit_deadline_now_ns() + PATIENCE_MS * UINT64_C(1000000);
    bool is_fine = true;

    knit_attached_put(attached, lane, ctrls[0], metas[0], bodies[0]);
    knit_attached_ring(attached);
    while (!is_settled(attached, before) && !knit_attached_is_over(attached)) {
        for (int i = 0; i < 64; i++) {
            /* What is illegal stands there until the next store, one word at a time. */
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
            printf("a cell that changes is not taken\n");
            return false;
        }
    }
    for (uint32_t slot = 0; slot < FLIP_SLOTS; slot++) {
        uint64_t word = atomic_load_explicit(&attached->out.reply[slot].word, memory_order_acquire);

        attached->gen[slot] = knit_word_gen(word);
        if (attached->gen[slot] != before[slot])
            is_fine = is_legal(attached, slot, flips) && is_fine;
        atomic_store_explicit(&attached->in.rel[slot], attached->gen[slot], memory_order_release);
    }
    flips->cells++;
    return is_fine;
}

/* The cells' words: legal, legal too, and for a moment not. What is taken is what was checked. */
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
    return is_fine && flips.results > 0;
}

/* ---- greed ---- */

/* Takes large results and lets go of none, so that workers have no room for more; then stays. */
bool knit_attack_greed(const struct knit_target *target, struct knit_random *random)
{
    static unsigned char bytes[65000];
    struct knit_attached attached;
    size_t len = put_params(bytes, sizeof(bytes) - 4);

    knit_attached_open(&attached, target, 0, ARENA);
    /* Each slot once: a slot that is used again releases what it held. */
    for (uint32_t slot = 0; slot < attached.geometry.slots; slot++) {
        uint32_t lane = slot % attached.geometry.lanes;
        uint64_t offset = knit_random_below(random, ARENA - len);

        memcpy(attached.in.arena + offset, bytes, len);
        knit_attached_put(&attached, lane, knit_attached_ctrl(&attached, lane, slot),
            knit_meta(target->task, target->epoch, KNIT_CELL_IN_ARENA, (uint32_t)len), offset);
        if (slot % 16 == 0)
            knit_attached_ring(&attached);
    }
    knit_attached_ring(&attached);
    bool is_over = knit_attached_ends(&attached, 1500);
    uint32_t kept = 0;
    for (uint32_t slot = 0; slot < attached.geometry.slots; slot++)
        kept += atomic_load_explicit(&attached.out.reply[slot].word, memory_order_acquire) != 0;
    printf("%u of %u results kept%s\n", kept, attached.geometry.slots,
        is_over ? ", the session was ended" : "");
    knit_attached_close(&attached);
    return true;
}

/* ---- leaving ---- */

/* Ends the connection that is its lease, keeps everything that is mapped and goes on as before. Its
 * slots must stay as they are then: nobody takes its calls. */
bool knit_attack_leave(const struct knit_target *target, struct knit_random *random)
{
    struct knit_attached attached;
    bool fine = true;

    for (int session = 0; session < 20 && fine; session++) {
        uint32_t calls = 0, answered = 0;

        knit_attached_open(&attached, target, SLOTS, ARENA);
        for (uint64_t i = knit_random_below(random, 40); i > 0; i--)
            (void)call(&attached, random);
        shutdown(attached.socket, SHUT_RDWR);
        fine = KNIT_WAIT_UNTIL(atomic_load_explicit(&attached.out.state->state,
                                   memory_order_acquire) == KNIT_STATE_CLOSED,
            PATIENCE_MS);
        /* One that a worker had looked at before may still be taken. */
        while (call(&attached, random) && calls < 32)
            calls++;
        for (int i = 0; i < 1000; i++) {
            scribble_word(&attached, random);
            knit_attached_ring(&attached);
        }
        for (uint32_t slot = 0; slot < attached.geometry.slots; slot++)
            answered += knit_word_gen(atomic_load_explicit(&attached.out.reply[slot].word,
                            memory_order_acquire)) == attached.gen[slot];
        if (answered == attached.geometry.slots && calls > 8) {
            printf("calls are answered after the session has ended\n");
            fine = false;
        }
        knit_attached_close(&attached);
    }
    printf("20 sessions left%s\n", fine ? "" : ", not all of them closed");
    return fine;
}
