// SPDX-License-Identifier: Apache-2.0
// The declarations of typed_tasks.h, called from C++, by modules in C and in C++.
//
//     typed_calls URL
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "tests/system/typed_tasks.h"

static struct knit_error error;

#define DEMAND(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            std::fprintf(stderr, "line %d: %s; %s\n", __LINE__, #condition, error.message);        \
            std::exit(1);                                                                          \
        }                                                                                          \
    } while (false)

enum color { RED = 1, BLUE = -2 };

static void pass_values(struct knit *k)
{
    std::string text = "a string", large(70000, 'x');
    std::vector<double> numbers = {1.5, -2, 4, -0.25};
    knit_f64s array = {numbers.data(), numbers.size()};
    knit_optional_str text_or_nil;
    knit_optional_i16 factor = {true, -2};
    knit_text got;
    knit_i32s indexes;
    int64_t number;
    uint64_t positive;
    int8_t small;
    double real;
    float narrow;
    bool flag;

    DEMAND(KNIT_CALL(echo_int, k, &error, (INT64_MIN), (&number)) == KNIT_OK && number == INT64_MIN);
    DEMAND(KNIT_CALL(echo_int, k, &error, (BLUE), (&number)) == KNIT_OK && number == -2);
    DEMAND(KNIT_CALL(echo_uint, k, &error, (UINT64_MAX), (&positive)) == KNIT_OK &&
           positive == UINT64_MAX);
    DEMAND(KNIT_CALL(echo_i8, k, &error, (-128), (&small)) == KNIT_OK && small == -128);
    DEMAND(KNIT_CALL(echo_i8, k, &error, (128), (&small)) == KNIT_BAD_ARGUMENT);
    DEMAND(std::string_view(error.message) ==
           "argument 1 (value): expected int (-128 to 127), got 128");
    DEMAND(KNIT_CALL(echo_float, k, &error, (7), (&real)) == KNIT_OK && real == 7);
    DEMAND(KNIT_CALL(echo_f32, k, &error, (0.1), (&narrow)) == KNIT_OK && narrow == 0.1f);
    DEMAND(KNIT_CALL(echo_bool, k, &error, (true), (&flag)) == KNIT_OK && flag);
    DEMAND(KNIT_CALL(echo_str, k, &error, (text), (&got)) == KNIT_OK);
    DEMAND(std::string_view(got.at, got.size) == text);
    DEMAND(KNIT_CALL(echo_str, k, &error, (std::string_view(text).substr(2)), (&got)) == KNIT_OK);
    DEMAND(std::string_view(got.at, got.size) == "string");
    DEMAND(KNIT_CALL(echo_str, k, &error, (large), (&got)) == KNIT_OK && got.size == large.size());
    DEMAND(KNIT_CALL(echo_str, k, &error, ("literal"), (&got)) == KNIT_OK && got.size == 7);
    DEMAND(KNIT_CALL(mixed, k, &error, (text, array, factor),
               (&text_or_nil, &real, &indexes, &flag)) == KNIT_OK);
    DEMAND(text_or_nil.has && real == -6.5 && indexes.count == 2 && indexes.at[1] == 3 && flag);
    DEMAND(KNIT_CALL(mixed, k, &error, ("", array), (&text_or_nil, &real, KNIT_IGNORE, &flag)) ==
           KNIT_OK);
    DEMAND(!text_or_nil.has && real == 3.25 && !flag);
    DEMAND(KNIT_CALL(nothing, k, &error, (), ()) == KNIT_OK);
}

static void add(struct knit_handle *handle, void *user)
{
    int64_t quotient = 0;

    DEMAND(KNIT_RESULTS(divide, handle, &error, (&quotient, KNIT_IGNORE)) == KNIT_OK);
    *static_cast<int64_t *>(user) += quotient;
    knit_free(handle);
}

static void start_and_await(struct knit *k)
{
    struct knit_handle *handle;
    int64_t quotient, remainder, sum = 0;

    DEMAND(KNIT_START(divide, k, &handle, &error, (17, 5)) == KNIT_OK);
    DEMAND(KNIT_AWAIT(divide, handle, &error, (&quotient, &remainder)) == KNIT_OK);
    DEMAND(quotient == 3 && remainder == 2);
    knit_free(handle);
    DEMAND(KNIT_CALL(divide, k, &error, (1, 0), (&quotient, &remainder)) == KNIT_TASK_FAILED);
    DEMAND(error.task_code == 7 && std::strcmp(error.message, "division by zero") == 0);
    DEMAND(KNIT_THEN(divide, k, &error, (100, 3), add, &sum) == KNIT_OK);
    while (sum == 0)
        DEMAND(knit_ping(k, &error, nullptr) == KNIT_OK);
    DEMAND(sum == 33);
}

// A module in C gives these errors by knit_fail(), one in C++ throws.
static void read_what_was_thrown(struct knit *k)
{
    DEMAND(KNIT_CALL(throws, k, &error, (0), ()) == KNIT_OK);
    DEMAND(KNIT_CALL(throws, k, &error, (1), ()) == KNIT_TASK_FAILED);
    DEMAND(error.task_code == 1 ||
           (error.task_code == KNIT_TYPED_THROWN && std::strncmp(error.message, "thrown xxx", 10) == 0));
    DEMAND(KNIT_CALL(throws, k, &error, (2), ()) == KNIT_TASK_FAILED);
    DEMAND(error.task_code == 2 ||
           (error.task_code == KNIT_TYPED_THROWN &&
               std::strcmp(error.message, "what was thrown is no exception") == 0));
    DEMAND(KNIT_CALL(throws, k, &error, (0), ()) == KNIT_OK);
}

int main(int argc, char **argv)
{
    struct knit *k = nullptr;

    static_assert(divide_typed.params_count == 2 && divide_typed.results_count == 2);
    DEMAND(argc == 2 && knit_open(argv[1], nullptr, &k, &error) == KNIT_OK);
    pass_values(k);
    start_and_await(k);
    read_what_was_thrown(k);
    knit_close(k);
    return 0;
}
