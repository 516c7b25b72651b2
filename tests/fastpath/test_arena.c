/* SPDX-License-Identifier: Apache-2.0 */
/* The allocator against a model that cannot be wrong: a map with one byte for each unit of the
 * arena, in which every block's bytes are looked at one by one. */
#include "fastpath/lane/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fastpath/lane/layout.h"
#include "tests/support/random.h"

enum { UNIT = KNIT_ARENA_ALIGN };

struct model_block {
    uint64_t at, units;
};

struct model {
    uint64_t units;
    uint32_t count, max;
    struct model_block *blocks;
    unsigned char *used;
};

static void model_init(struct model *model, uint64_t units, uint32_t max)
{
    *model = (struct model){
        .units = units,
        .max = max,
        .blocks = calloc(max, sizeof(*model->blocks)),
        .used = calloc(units, 1),
    };
    assert_non_null(model->blocks);
    assert_non_null(model->used);
}

static void model_fini(struct model *model)
{
    free(model->blocks);
    free(model->used);
}

static bool model_is_free(const struct model *model, uint64_t at, uint64_t units)
{
    if (units == 0 || at > model->units || units > model->units - at)
        return false;
    for (uint64_t i = at; i < at + units; i++) {
        if (model->used[i])
            return false;
    }
    return true;
}

static void model_add(struct model *model, uint64_t at, uint64_t units)
{
    assert_true(model->count < model->max);
    assert_true(model_is_free(model, at, units));
    memset(model->used + at, 1, units);
    model->blocks[model->count++] = (struct model_block){at, units};
}

static void model_remove(struct model *model, uint32_t index)
{
    memset(model->used + model->blocks[index].at, 0, model->blocks[index].units);
    model->blocks[index] = model->blocks[--model->count];
}

static uint64_t model_longest_free(const struct model *model)
{
    uint64_t longest = 0, run = 0;
    for (uint64_t i = 0; i < model->units; i++) {
        run = model->used[i] ? 0 : run + 1;
        longest = run > longest ? run : longest;
    }
    return longest;
}

/* Sizes as calls have them: mostly small, sometimes a good part of the arena, at times absurd. */
static uint64_t some_len(struct knit_random *random, uint64_t units)
{
    if (knit_random_chance(random, 200))
        return UINT64_MAX - knit_random_below(random, 100);
    if (knit_random_chance(random, 20))
        return 1 + knit_random_below(random, units * UNIT);
    if (knit_random_chance(random, 3))
        return 1 + knit_random_below(random, units * UNIT / 32 + 1);
    return 1 + knit_random_below(random, UINT64_C(16) * UNIT);
}

static uint64_t to_units(uint64_t len)
{
    return len / UNIT + (len % UNIT != 0);
}

static void try_alloc(struct knit_arena *arena, struct model *model, struct knit_random *random)
{
    uint64_t len = some_len(random, model->units), offset = 1;
    int error = knit_arena_alloc(arena, len, &offset);
    if (error == 0) {
        assert_int_equal(offset % UNIT, 0);
        model_add(model, offset / UNIT, to_units(len));
        return;
    }
    assert_int_equal(error, KNIT_ARENA_E_FULL);
    assert_int_equal(offset, 1);
    /* A class holds sizes up to a sixteenth apart, so a run that is longer by more than that must
     * have been found. */
    if (model->count < model->max)
        assert_true(model_longest_free(model) < to_units(len) + to_units(len) / 16 + 1);
}

static void try_adopt(struct knit_arena *arena, struct model *model, struct knit_random *random)
{
    uint64_t len = some_len(random, model->units);
    uint64_t offset = knit_random_chance(random, 10)
                          ? knit_random_u64(random)
                          : knit_random_below(random, model->units + 2) * UNIT;
    bool fits = offset % UNIT == 0 && model_is_free(model, offset / UNIT, to_units(len));
    int error = knit_arena_adopt(arena, offset, len);
    if (!fits) {
        assert_int_equal(error, KNIT_ARENA_E_TAKEN);
    } else if (model->count == model->max) {
        assert_int_equal(error, KNIT_ARENA_E_FULL);
    } else {
        assert_int_equal(error, 0);
        model_add(model, offset / UNIT, to_units(len));
    }
}

static void try_shrink(struct knit_arena *arena, struct model *model, struct knit_random *random)
{
    struct model_block *block = &model->blocks[knit_random_below(random, model->count)];
    uint64_t len = 1 + knit_random_below(random, block->units * UNIT);
    knit_arena_shrink(arena, block->at * UNIT, len);
    memset(model->used + block->at + to_units(len), 0, block->units - to_units(len));
    block->units = to_units(len);
}

static void release_one(struct knit_arena *arena, struct model *model, struct knit_random *random)
{
    uint32_t index = (uint32_t)knit_random_below(random, model->count);
    knit_arena_release(arena, model->blocks[index].at * UNIT);
    model_remove(model, index);
}

/* The only proof that neighbours were joined: everything comes back in one piece, from the start.
 */
static void assert_whole(struct knit_arena *arena, uint64_t units)
{
    uint64_t offset = 1;
    assert_int_equal(knit_arena_alloc(arena, units * UNIT, &offset), 0);
    assert_int_equal(offset, 0);
    assert_int_equal(knit_arena_alloc(arena, 1, &offset), KNIT_ARENA_E_FULL);
    knit_arena_release(arena, 0);
}

static void random_use_agrees_with_the_model(void **state)
{
    struct knit_random random;
    (void)state;
    knit_random_init(&random);
    for (int round = 0; round < 30; round++) {
        uint64_t units = 1 + knit_random_below(&random, round % 3 == 0 ? 64 : 4096);
        uint32_t max = 1 + (uint32_t)knit_random_below(&random, 128);
        struct knit_arena *arena;
        struct model model;
        model_init(&model, units, max);
        assert_int_equal(knit_arena_new(units * UNIT, max, &arena), 0);
        for (int step = 0; step < 3000; step++) {
            uint64_t what = knit_random_below(&random, 10);
            if (what < 5)
                try_alloc(arena, &model, &random);
            else if (what == 5 && step % 4 == 0)
                try_adopt(arena, &model, &random);
            else if (what == 6 && model.count > 0)
                try_shrink(arena, &model, &random);
            else if (model.count > 0)
                release_one(arena, &model, &random);
        }
        while (model.count > 0)
            release_one(arena, &model, &random);
        assert_whole(arena, units);
        knit_arena_free(arena);
        model_fini(&model);
    }
}

/* What a replacement does: it adopts, in any order, what its predecessor had, and goes on. */
static void a_rebuilt_arena_continues_where_the_old_one_was(void **state)
{
    enum { UNITS = 2048, MAX = 200 };
    struct knit_random random;
    struct knit_arena *old, *new;
    struct model model;
    (void)state;
    knit_random_init(&random);
    model_init(&model, UNITS, MAX);
    assert_int_equal(knit_arena_new(UNITS * UNIT, MAX, &old), 0);
    assert_int_equal(knit_arena_new(UNITS * UNIT, MAX, &new), 0);
    for (int step = 0; step < 1000; step++) {
        if (model.count == 0 || !knit_random_chance(&random, 3))
            try_alloc(old, &model, &random);
        else
            release_one(old, &model, &random);
    }
    for (uint32_t i = 0; i < model.count; i++) {
        uint32_t j = i + (uint32_t)knit_random_below(&random, model.count - i);
        struct model_block block = model.blocks[j];
        model.blocks[j] = model.blocks[i];
        model.blocks[i] = block;
        assert_int_equal(knit_arena_adopt(new, block.at * UNIT, block.units * UNIT), 0);
        assert_int_equal(
            knit_arena_adopt(new, block.at * UNIT, block.units * UNIT), KNIT_ARENA_E_TAKEN);
    }
    assert_true(knit_arena_touched(new) <= knit_arena_touched(old));
    for (int step = 0; step < 1000; step++) {
        if (model.count == 0 || knit_random_chance(&random, 2))
            try_alloc(new, &model, &random);
        else
            release_one(new, &model, &random);
    }
    while (model.count > 0)
        release_one(new, &model, &random);
    assert_whole(new, UNITS);
    knit_arena_free(old);
    knit_arena_free(new);
    model_fini(&model);
}

static void adopt_refuses_every_hostile_range(void **state)
{
    const uint64_t bytes = UINT64_C(64) * UNIT;
    const struct {
        uint64_t offset, len;
    } ranges[] = {
        {0, 0},
        {1, 64},
        {63, 1},
        {UNIT / 2, UNIT},
        {bytes, 1},
        {bytes - UNIT, UNIT + 1},
        {0, bytes + 1},
        {0, UINT64_MAX},
        {UINT64_MAX, 1},
        {UINT64_MAX, UINT64_MAX},
        {UINT64_MAX - 63, 64},
        {UINT64_MAX - 63, UINT64_MAX - 62},
        {1ull << 63, 1ull << 63},
        {UINT64_C(10) * UNIT, 1},
        {UINT64_C(11) * UNIT, UINT64_C(2) * UNIT},
        {UINT64_C(9) * UNIT, UNIT + 1},
        {0, bytes},
    };
    struct knit_arena *arena;
    (void)state;
    assert_int_equal(knit_arena_new(bytes, 8, &arena), 0);
    assert_int_equal(knit_arena_adopt(arena, UINT64_C(10) * UNIT, UINT64_C(2) * UNIT), 0);
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
        assert_int_equal(
            knit_arena_adopt(arena, ranges[i].offset, ranges[i].len), KNIT_ARENA_E_TAKEN);
    assert_int_equal(knit_arena_touched(arena), 12 * UNIT);
    assert_int_equal(knit_arena_adopt(arena, UINT64_C(9) * UNIT, UNIT), 0);
    assert_int_equal(knit_arena_adopt(arena, UINT64_C(12) * UNIT, bytes - 12 * UNIT), 0);
    assert_int_equal(knit_arena_adopt(arena, 0, UINT64_C(9) * UNIT), 0);
    assert_int_equal(knit_arena_adopt(arena, 0, 1), KNIT_ARENA_E_TAKEN);
    knit_arena_free(arena);
}

static void an_arena_is_full_at_its_last_byte_and_at_its_last_block(void **state)
{
    struct knit_arena *arena;
    uint64_t offset;
    (void)state;
    assert_int_equal(knit_arena_new(0, 4, &arena), 0);
    assert_int_equal(knit_arena_alloc(arena, 1, &offset), KNIT_ARENA_E_FULL);
    assert_int_equal(knit_arena_adopt(arena, 0, 1), KNIT_ARENA_E_TAKEN);
    knit_arena_free(arena);

    assert_int_equal(knit_arena_new(UNIT + UNIT - 1, 4, &arena), 0);
    assert_int_equal(knit_arena_alloc(arena, UNIT + 1, &offset), KNIT_ARENA_E_FULL);
    assert_int_equal(knit_arena_alloc(arena, UNIT, &offset), 0);
    assert_int_equal(knit_arena_alloc(arena, 1, &offset), KNIT_ARENA_E_FULL);
    knit_arena_free(arena);

    assert_int_equal(knit_arena_new(UINT64_C(100) * UNIT, 0, &arena), 0);
    assert_int_equal(knit_arena_alloc(arena, 1, &offset), KNIT_ARENA_E_FULL);
    assert_int_equal(knit_arena_adopt(arena, 0, 1), KNIT_ARENA_E_FULL);
    knit_arena_free(arena);

    assert_int_equal(knit_arena_new(UINT64_C(100) * UNIT, 2, &arena), 0);
    assert_int_equal(knit_arena_alloc(arena, 1, &offset), 0);
    assert_int_equal(knit_arena_alloc(arena, 1, &offset), 0);
    assert_int_equal(knit_arena_alloc(arena, 1, &offset), KNIT_ARENA_E_FULL);
    assert_int_equal(knit_arena_adopt(arena, UINT64_C(50) * UNIT, 1), KNIT_ARENA_E_FULL);
    knit_arena_release(arena, 0);
    assert_int_equal(knit_arena_alloc(arena, 1, &offset), 0);
    assert_int_equal(offset, 0);
    knit_arena_free(arena);

    assert_null(knit_arena_free(NULL));
}

static void the_largest_arena_can_be_allocated_whole_and_in_halves(void **state)
{
    struct knit_arena *arena;
    uint64_t low, high;
    (void)state;
    assert_int_equal(knit_arena_new(KNIT_ARENA_MAX, 4, &arena), 0);
    assert_whole(arena, KNIT_ARENA_MAX / UNIT);
    assert_int_equal(knit_arena_alloc(arena, KNIT_ARENA_MAX / 2, &low), 0);
    assert_int_equal(knit_arena_alloc(arena, KNIT_ARENA_MAX / 2, &high), 0);
    knit_arena_release(arena, low);
    assert_int_equal(knit_arena_alloc(arena, KNIT_ARENA_MAX / 2 + 1, &low), KNIT_ARENA_E_FULL);
    assert_int_equal(knit_arena_alloc(arena, KNIT_ARENA_MAX / 2, &low), 0);
    assert_int_equal(low, 0);
    knit_arena_free(arena);
}

/* Memory that was used once is used again before memory that would need fresh pages. */
static void touched_memory_is_allocated_first(void **state)
{
    struct knit_arena *arena;
    uint64_t first, second, third, offset;
    (void)state;
    assert_int_equal(knit_arena_new(1 << 20, 64, &arena), 0);
    assert_int_equal(knit_arena_touched(arena), 0);
    assert_int_equal(knit_arena_alloc(arena, 4096, &first), 0);
    assert_int_equal(knit_arena_alloc(arena, 4096, &second), 0);
    assert_int_equal(knit_arena_alloc(arena, 100, &third), 0);
    assert_int_equal(knit_arena_touched(arena), 4096 + 4096 + 128);
    knit_arena_release(arena, first);
    knit_arena_release(arena, second);
    assert_int_equal(knit_arena_alloc(arena, 8192, &offset), 0);
    assert_int_equal(offset, 0);
    knit_arena_shrink(arena, offset, 1);
    assert_int_equal(knit_arena_alloc(arena, 8000, &offset), 0);
    assert_int_equal(offset, 64);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(knit_arena_alloc(arena, 5000, &offset), 0);
        knit_arena_release(arena, offset);
    }
    assert_int_equal(knit_arena_touched(arena), 4096 + 4096 + 128 + 5056);
    knit_arena_free(arena);
}

static void a_limit_keeps_untouched_pages_untouched(void **state)
{
    struct knit_arena *arena;
    uint64_t low, high, offset;
    (void)state;
    assert_int_equal(knit_arena_new(1 << 20, 64, &arena), 0);
    knit_arena_limit(arena, 4096);
    assert_int_equal(knit_arena_alloc(arena, 4097, &low), KNIT_ARENA_E_FULL);
    assert_int_equal(knit_arena_alloc(arena, 4096, &low), 0);
    assert_int_equal(knit_arena_alloc(arena, 1, &high), KNIT_ARENA_E_FULL);
    knit_arena_limit(arena, UINT64_MAX);
    assert_int_equal(knit_arena_alloc(arena, 4096, &high), 0);
    knit_arena_limit(arena, 0);
    knit_arena_release(arena, high);
    knit_arena_release(arena, low);
    assert_int_equal(knit_arena_alloc(arena, 8193, &offset), KNIT_ARENA_E_FULL);
    assert_int_equal(knit_arena_alloc(arena, 8192, &offset), 0);
    assert_int_equal(offset, 0);
    knit_arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_use_agrees_with_the_model),
        cmocka_unit_test(a_rebuilt_arena_continues_where_the_old_one_was),
        cmocka_unit_test(adopt_refuses_every_hostile_range),
        cmocka_unit_test(an_arena_is_full_at_its_last_byte_and_at_its_last_block),
        cmocka_unit_test(the_largest_arena_can_be_allocated_whole_and_in_halves),
        cmocka_unit_test(touched_memory_is_allocated_first),
        cmocka_unit_test(a_limit_keeps_untouched_pages_untouched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
