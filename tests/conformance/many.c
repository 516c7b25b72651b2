/* SPDX-License-Identifier: Apache-2.0 */
/* Many values at once, each compared byte by byte: by what else is under way, by chance. */
#include "tests/conformance/conformance.h"

#include "proto/buffer.h"
#include "proto/writer.h"

static void texts_through_four_workers(struct conformance *c)
{
    static const struct place_wish wish = {.workers = 4};
    enum { COUNT = 120, BYTES = 4096 };
    struct knit_handle *handles[COUNT];
    char *texts = malloc(COUNT * (BYTES + 1));

    assert_non_null(texts);
    conformance_open_place(c, &wish);
    for (int i = 0; i < COUNT; i++) {
        char *text = texts + i * (BYTES + 1);

        for (int k = 0; k < BYTES; k++)
            text[k] = (char)('!' + knit_random_below(&c->random, 90));
        text[BYTES] = '\0';
        conformance_succeeds(
            c, knit_start(c->k, NULL, &handles[i], &c->error, "echo", "(str) -> str", text));
    }
    for (int i = 0; i < COUNT; i++) {
        assert_memory_equal(
            conformance_bytes(c, handles[i], BYTES), texts + i * (BYTES + 1), BYTES);
        (void)knit_free(handles[i]);
    }
    free(texts);
}

static void put_random(struct knit_random *random, struct knit_writer *writer, int depth)
{
    uint8_t bytes[300];
    size_t len = knit_random_chance(random, 20) ? knit_random_below(random, sizeof(bytes))
                                                : knit_random_below(random, 12);
    uint32_t count = (uint32_t)knit_random_below(random, 5);

    knit_random_bytes(random, bytes, sizeof(bytes));
    switch (knit_random_below(random, depth > 0 ? 11 : 8)) {
    case 0:
        knit_writer_nil(writer);
        break;
    case 1:
        knit_writer_bool(writer, knit_random_chance(random, 2));
        break;
    case 2:
        knit_writer_int(
            writer, (int64_t)(knit_random_u64(random) >> knit_random_below(random, 64)));
        break;
    case 3:
        knit_writer_uint(writer, knit_random_u64(random) >> knit_random_below(random, 64));
        break;
    case 4:
        knit_writer_float(writer, (double)knit_random_u64(random) / 3);
        break;
    case 5:
        for (size_t i = 0; i < len; i++)
            bytes[i] &= 0x7f;
        knit_writer_str(writer, (const char *)bytes, len);
        break;
    case 6:
        knit_writer_bin(writer, bytes, len);
        break;
    case 7:
        knit_writer_time(writer, (int64_t)(knit_random_u64(random) >> 20), 5);
        break;
    case 8:
    case 9:
        knit_writer_array(writer, count);
        for (uint32_t i = 0; i < count; i++)
            put_random(random, writer, depth - 1);
        break;
    default:
        knit_writer_map(writer, count);
        for (uint32_t i = 0; i < 2 * count; i++)
            put_random(random, writer, depth - 1);
    }
}

static void random_values(struct conformance *c)
{
    enum { ROUNDS = 100, CALLS = 50, VALUES = 20 }; /* 100,000 */
    struct knit_handle *handles[CALLS];
    struct {
        struct knit_buffer buffer;
        struct knit_writer writer;
    } values[CALLS];

    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < CALLS; i++) {
            struct knit_span params;

            knit_buffer_init(&values[i].buffer, 1 << 20);
            knit_writer_init(&values[i].writer, &values[i].buffer);
            knit_writer_array(&values[i].writer, 1);
            knit_writer_array(&values[i].writer, VALUES);
            for (int k = 0; k < VALUES; k++)
                put_random(&c->random, &values[i].writer, 4);
            assert_int_equal(knit_writer_end(&values[i].writer), 0);
            params = knit_buffer_span(&values[i].buffer);
            conformance_succeeds(c, knit_start_raw(c->k, NULL, &handles[i], &c->error, "echo",
                                        params.bytes, params.len));
        }
        for (int i = 0; i < CALLS; i++) {
            const struct knit_buffer *sent = &values[i].buffer;
            const void *got;
            size_t len;

            conformance_succeeds(c, knit_await(handles[i], conformance_patience_ms(), &c->error));
            conformance_succeeds(c, knit_result_raw(handles[i], &c->error, &got, &len));
            assert_int_equal(len, sent->len - 1);
            assert_memory_equal(got, sent->bytes + 1, len);
            (void)knit_free(handles[i]);
            knit_buffer_fini(&values[i].buffer);
        }
    }
}

static const struct conformance_case cases[] = {
    {"A16", "120 texts of 4 KiB through four workers are all exact", texts_through_four_workers, 0,
        0, 0},
    {"A17", "100,000 random values come back exactly", random_values, 0, 0, 0},
};

const struct conformance_section conformance_many = CONFORMANCE_SECTION("many values", cases);
