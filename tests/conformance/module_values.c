/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks that read what they get by <knitting/read.h>, and build what they give. */
#include <knitting/task.h>

#include <string.h>

KNIT_MODULE("1.0");

enum { WRONG = 1 };

KNIT_TASK(rebuild, "rebuild(value: any) -> any", .doc = "The value, taken apart and built anew.")
{
    struct knit_reader reader = KNIT_READER_INIT;
    struct knit_value value = knit_arg_value(call, 0, &reader);
    KNIT_BUILDER(answer);

    if (!knit_value_is_aligned(value))
        return knit_fail(call, WRONG, "a typed array in the argument is not aligned");
    knit_put_value(answer, value);
    if (knit_reader_code(&reader) != KNIT_OK)
        return knit_fail_reader(call, WRONG, &reader);
    return knit_return_built(call, answer);
}

KNIT_TASK(sums, "sums(floats: f64[], ints: i64[]) -> (f64[], i64[])",
    .doc = "Each array with its sum behind it; fails unless both lie aligned.")
{
    struct knit_reader reader = KNIT_READER_INIT;
    size_t float_count, int_count;
    const double *floats = knit_value_f64s(knit_arg_value(call, 0, &reader), &float_count);
    const int64_t *ints = knit_value_i64s(knit_arg_value(call, 1, &reader), &int_count);
    double *float_place;
    int64_t *int_place;
    KNIT_BUILDER(answer);

    if (knit_reader_code(&reader) != KNIT_OK)
        return knit_fail_reader(call, WRONG, &reader);
    if ((uintptr_t)floats % 8 != 0 || (uintptr_t)ints % 8 != 0)
        return knit_fail(call, WRONG, "not aligned");
    knit_put_array(answer, 2);
    float_place = knit_put_typed_place(answer, KNIT_F64, float_count + 1);
    for (size_t i = 0; float_place != NULL && i < float_count; i++)
        float_place[float_count] += float_place[i] = floats[i];
    int_place = knit_put_typed_place(answer, KNIT_I64, int_count + 1);
    for (size_t i = 0; int_place != NULL && i < int_count; i++)
        int_place[int_count] += int_place[i] = ints[i];
    return knit_return_built(call, answer);
}

KNIT_TASK(place, "place(address: bool?) -> bool",
    .doc = "Whether the params begin where the daemon or the library has put them, aligned.")
{
    size_t len;

    return knit_return_bool(call, (uintptr_t)knit_arg_raw(call, UINT32_MAX, &len) % 8 == 0);
}

KNIT_TASK(untouched, "untouched(value: any, more: any...) -> bool",
    .doc = "Whether the f64[], or the one under `weights`, lies aligned in the argument itself.")
{
    size_t raw_len, count;
    const unsigned char *raw = knit_arg_raw(call, 0, &raw_len);
    struct knit_value value = knit_arg_value(call, 0, NULL);
    const unsigned char *floats;

    if (knit_value_type(value) == KNIT_TYPE_MAP)
        value = knit_value_get(value, "weights");
    floats = (const unsigned char *)knit_value_f64s(value, &count);
    return knit_return_bool(call, floats >= raw && floats <= raw + raw_len);
}

KNIT_TASK(halves, "halves(count: int) -> f64[]", .doc = "So many numbers, written in place.")
{
    size_t count = (size_t)knit_arg_int(call, 0);
    double *place = knit_return_typed_place(call, KNIT_F64, count);

    for (size_t i = 0; place != NULL && i < count; i++)
        place[i] = (double)i / 2;
    return 0;
}

KNIT_TASK(squares, "squares(count: int) -> i64[]", .doc = "So many numbers, copied.")
{
    int64_t numbers[4096] = {0};
    size_t count = (size_t)knit_arg_int(call, 0);

    if (count > 4096)
        return knit_fail(call, WRONG, "too many");
    for (size_t i = 0; i < count; i++)
        numbers[i] = (int64_t)(i * i);
    return knit_return_typed(call, KNIT_I64, numbers, count);
}

KNIT_TASK(weigh, "weigh(parcel: map) -> map")
{
    KNIT_BUILDER(answer);
    struct knit_reader reader = KNIT_READER_INIT;
    struct knit_value parcel = knit_arg_value(call, 0, &reader);
    int64_t pieces = knit_value_int(knit_value_get(parcel, "pieces"));
    size_t count;
    const double *weights = knit_value_f64s(knit_value_get(parcel, "weights"), &count);
    double sum = 0;

    for (size_t i = 0; i < count; i++)
        sum += weights[i] * (double)pieces;
    if (knit_reader_code(&reader) != KNIT_OK)
        return knit_fail_reader(call, WRONG, &reader);
    knit_put_map(answer, 2);
    knit_put_text(answer, "kg");
    knit_put_float(answer, sum);
    knit_put_text(answer, "each");
    knit_put_typed(answer, KNIT_F64, weights, count);
    return knit_return_built(call, answer);
}

KNIT_TASK(fail_why, "fail_why() -> nil", .doc = "A failure with an error as its data.")
{
    KNIT_BUILDER(why);

    knit_put_error(why, "RangeError", "too far", 2);
    knit_put_text(why, "cause");
    knit_put_error(why, "Error", "it went on", 0);
    knit_put_text(why, "data");
    knit_put_int(why, 7);
    return knit_fail_built(call, 3, "the task went too far", why);
}

KNIT_TASK(mistake, "mistake(kind: str) -> any", .doc = "A result that cannot be built.")
{
    size_t len;
    const char *kind = knit_arg_bytes(call, 0, &len);
    KNIT_BUILDER(answer);

    knit_put_array(answer, 2);
    if (len == 4 && memcmp(kind, "utf8", 4) == 0)
        knit_put_str(answer, "\xff", 1);
    for (int i = 0; len == 4 && memcmp(kind, "deep", 4) == 0 && i < 40; i++)
        knit_put_array(answer, 1);
    return knit_return_built(call, answer);
}
