/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a value that is read, and as a row of puts that build one. Oracle: nothing outside
 * of the bytes is read; what passes the full check is read as msgpack-c's decoder reads it, also
 * after it was put anew; what is built without a mistake passes the full check, and every typed
 * array in it lies aligned.
 */
#include <string.h>

#include <knitting/values.h>

#include "proto/check.h"
#include "proto/limits.h"
#include "tests/clients/builder_program.h"
#include "tests/fuzz/target.h"
#include "tests/proto/agree.h"

static void check_built(struct knit_builder *builder)
{
    const void *bytes;
    size_t len;

    if (knit_built(builder, &bytes, &len) != KNIT_OK) {
        KNIT_FUZZ_CHECK(strcmp(knit_builder_reason(builder), "no error") != 0);
        return;
    }
    KNIT_FUZZ_CHECK(knit_check_value(bytes, len, KNIT_DEPTH_MAX, NULL) == 0);
    KNIT_FUZZ_CHECK(knit_value_is_aligned(knit_read(NULL, bytes, len)));
}

/* Every value that can be reached, by every getter. */
static uint64_t read_all(struct knit_value value)
{
    struct knit_tour tour;
    struct knit_value next;
    uint64_t seen = 0;
    size_t len;

    knit_tour_begin(&tour, value);
    while (knit_tour_next(&tour, &next)) {
        const unsigned char *body = next.body;

        for (; next.type > KNIT_TYPE_FLOAT && next.type != KNIT_TYPE_ARRAY &&
               next.type != KNIT_TYPE_MAP && body < next.end;
             body++)
            seen += *body;
        (void)knit_value_raw(next, &len);
        seen += len + knit_value_count(next) + (uint64_t)knit_value_bool(next);
        seen += (uint64_t)knit_value_type(knit_value_get(next, "name"));
        seen += (uint64_t)knit_value_type(knit_value_at(next, 1));
        (void)knit_value_body(next, &len);
        seen += len + (uint64_t)knit_value_type(knit_value_header(next));
        (void)knit_value_f64s(next, &len);
        seen += len;
    }
    return seen;
}

static void agree(const uint8_t *bytes, size_t len, struct knit_value value)
{
    struct knit_decoder *decoder = knit_decoder_new();
    const struct knit_decoded *decoded = NULL;

    if (decoder != NULL)
        decoded = knit_decoder_read(decoder, bytes, len);
    KNIT_FUZZ_CHECK(decoded == NULL || knit_agree(decoder, decoded, value));
    knit_decoder_free(decoder);
}

static void read_one(const uint8_t *bytes, size_t len)
{
    struct knit_reader reader = KNIT_READER_INIT;
    struct knit_value value = knit_read(&reader, bytes, len);
    struct knit_builder again = {0};
    const void *built = NULL;
    size_t front, built_len = 0;
    char text[200];

    (void)read_all(value);
    knit_reader_explain(&reader, text, sizeof(text));
    KNIT_FUZZ_CHECK(strlen(text) > 0);
    knit_put_value(&again, value);
    check_built(&again);
    if (knit_check_front(bytes, len, KNIT_DEPTH_MAX, &front, NULL) == 0) {
        agree(bytes, front, value);
        KNIT_FUZZ_CHECK(knit_built(&again, &built, &built_len) == KNIT_OK);
        agree(bytes, front, knit_read(NULL, built, built_len));
    }
    knit_builder_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct knit_builder builder = {0};
    uint8_t *exact = malloc(len > 0 ? len : 1);

    if (exact == NULL)
        return 0;
    if (len > 0)
        memcpy(exact, bytes, len);
    read_one(exact, len);
    free(exact);
    builder_program_run(&builder, bytes, len);
    check_built(&builder);
    knit_builder_free(&builder);
    return 0;
}
