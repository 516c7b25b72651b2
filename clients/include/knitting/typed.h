/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks with types: one declaration, in a header that the module and its callers share, gives the
 * task's signature, the wrapper that makes a C function of it, and calls that the compiler checks.
 *
 * The declaration, which stands in a header in C or in C++ (from C++17 on), and a module:
 *
 *     #include <knitting/typed.h>
 *
 *     KNIT_TYPED(divide, ((int, a), (int, b)), ((int, quotient), (int, remainder)));
 *     KNIT_TYPED(scale, ((f32, x), (u8, times, optional)), ((f32, y)));
 *
 *     KNIT_MODULE("1.0");
 *
 *     KNIT_IMPLEMENT(divide, .doc = "Quotient and remainder.")
 *     static int divide_impl(struct knit_call *call, int64_t a, int64_t b, int64_t *quotient,
 *         int64_t *remainder)
 *     {
 *         if (b == 0)
 *             return knit_fail(call, 1, "division by zero");
 *         *quotient = a / b;
 *         *remainder = a % b;
 *         return 0;
 *     }
 *
 *     KNIT_IMPLEMENT(scale)
 *     static int scale_impl(
 *         struct knit_call *call, float x, struct knit_optional_u8 times, float *y)
 *     {
 *         (void)call;
 *         *y = times.has ? x * times.value : x;
 *         return 0;
 *     }
 *
 * The function returns 0 when it has filled in its results, or what knit_fail() and its like
 * returned. Behind the task stand further members of struct knit_task, as in KNIT_TASK().
 *
 * A caller:
 *
 *     #include <knitting/typed.h>
 *
 *     KNIT_TYPED(add, ((int, a), (int, b)), ((int, sum)));
 *
 *     int main(void)
 *     {
 *         struct knit *k;
 *         struct knit_error error;
 *         int64_t sum;
 *
 *         if (knit_open("shm:///run/knitting/knitting.sock", NULL, &k, &error) != KNIT_OK ||
 *             KNIT_CALL(add, k, &error, (2, 3), (&sum)) != KNIT_OK)
 *             fprintf(stderr, "%s: %s\n", error.name, error.message);
 *         else
 *             printf("%lld\n", (long long)sum);
 *         knit_close(k);
 *         return 0;
 *     }
 *
 * Calls are expressions whose value is KNIT_OK or the code of the error:
 *
 *     KNIT_CALL(task, session, &error, (arguments), (places of results))
 *     KNIT_START(task, session, &handle, &error, (arguments))
 *     KNIT_AWAIT(task, handle, &error, (places of results))
 *     KNIT_THEN(task, session, &error, (arguments), on_done, user)
 *
 * KNIT_CALL waits, KNIT_START does not; KNIT_AWAIT waits for what was started. KNIT_THEN starts a
 * call that nobody waits for: on_done(handle, user) is called as knit_on_done() has it, reads with
 * KNIT_RESULTS, and frees the handle. KNIT_CALL_WITH, KNIT_START_WITH and KNIT_THEN_WITH take
 * options (const struct knit_call_options *) behind the session.
 *
 * A wrong number of arguments or results does not compile, nor does a type that cannot fit; the
 * message names the task and the position. An integer is taken for each integer type, and whether
 * it fits is looked at when the call is made: KNIT_BAD_ARGUMENT names the parameter, the number and
 * what is allowed, and nothing is sent. KNIT_BAD_RESULT says the same of a result.
 *
 * Types, by their names in a declaration:
 *
 *     name               in C                                what else is taken for an argument
 *     int, uint          int64_t, uint64_t                   every integer type
 *     i8..i64, u8..u64   int8_t..int64_t, uint8_t..uint64_t  every integer type
 *     float, double, f64 double                              float, integers up to 32 bits
 *     f32                float                               double, integers up to 32 bits
 *     bool               bool                                int: 0 or 1
 *     str                struct knit_text                    char *, NUL-terminated
 *     bin                struct knit_bytes
 *     time               struct knit_time
 *     i8s..f64s, u8cs    struct knit_i8s..struct knit_f64s
 *     any                struct knit_any                     all of these, KNIT_NONE
 *
 * With `optional` behind the name, (int, a, optional), nil may stand for it. In C that is a struct
 * knit_optional_i64 and so on, by the type's short name (_i8, _f32, _bool, _str, _f64s, _any). For
 * an argument such a structure is taken, a plain value, knit_some(value), and KNIT_NONE. Optional
 * arguments at the end may be left out.
 *
 * For an argument of each type a handle is taken, of another call of the session: its result, for
 * which the call waits (knit_pass_handle()). Whether that is of the type the worker finds out.
 *
 * A result is given a pointer of just its type, or KNIT_IGNORE. What results borrow is valid as
 * with knit_call() and knit_results().
 *
 * The first use of a declaration in a session compares it with what the pool publishes, and so does
 * the first one after the pool's tasks changed. They fit if the types are the same position by
 * position, names aside. The published task may have further parameters at its end if they are
 * optional; it may have made one optional that was not; its `any` takes each type. All else is
 * KNIT_BAD_ARGUMENT, whose message has both signatures, and no call is made. Over knit:// and
 * unix:// the pool's tasks are asked for once, in which the first use may wait for connect_ms; they
 * are asked for again after an answer that a changed task may have caused.
 *
 * At most 16 parameters and 16 results. KNIT_TYPED_AS(id, "its.name", ...) is for tasks whose names
 * are no identifiers. */
#pragma once

#include <knitting/args.h>
#include <knitting/typed_task.h>
#include <knitting/typed_types.h>

#ifdef __cplusplus
#include <knitting/typed_cpp.h>
#else
#include <knitting/typed_c.h>
#endif

#define KNIT_NONE    (knit_make_none())
#define knit_some(x) (x)
#define KNIT_IGNORE  ((struct knit_ignored *)0)

/* ---- Declaring ---- */

#define KNIT_TYPED(task, params, results) KNIT_TYPED_AS(task, #task, params, results)
#define KNIT_TYPED_AS(task, text, params, results)                                                 \
    enum {                                                                                         \
        task##_arguments = KNIT_COUNT(params),                                                     \
        task##_results = KNIT_COUNT(results),                                                      \
        task##_needs_0 = 0,                                                                        \
        KNIT_EACH(KNIT_TYPED_TAKES, task, params) KNIT_BEHIND(KNIT_TYPED_TAKES_NONE, task,         \
            KNIT_COUNT(params)) task##_required = KNIT_PASTE(task##_needs_, KNIT_COUNT(params)),   \
    };                                                                                             \
    KNIT_EACH(KNIT_TYPED_PLACE, task, results)                                                     \
    KNIT_BEHIND(KNIT_TYPED_NO_PLACE, task, KNIT_COUNT(results))                                    \
    KNIT_CONST char task##_name[] __attribute__((unused)) = text;                                  \
    KNIT_CONST char task##_signature[] __attribute__((unused)) = text "(" KNIT_EACH(               \
        KNIT_TYPED_PARAM, , params) ") -> " KNIT_PASTE(KNIT_TYPED_NIL_, KNIT_IS_EMPTY results)     \
        KNIT_PASTE(KNIT_TYPED_LEFT_, KNIT_HAS_COMMA results)                                       \
            KNIT_EACH(KNIT_TYPED_RESULT, , results)                                                \
                KNIT_PASTE(KNIT_TYPED_RIGHT_, KNIT_HAS_COMMA results);                             \
    KNIT_CONST struct knit_typed_part task##_parts[] __attribute__((unused)) = {                   \
        KNIT_EACH(KNIT_TYPED_PART, , params) KNIT_EACH(KNIT_TYPED_PART, , results){NULL, 0}};      \
    KNIT_CONST struct knit_typed task##_typed                                                      \
        __attribute__((unused)) = {sizeof(struct knit_typed), task##_arguments, task##_results,    \
            task##_name, task##_signature, task##_parts};                                          \
    KNIT_TYPED_WRAPPER(task, params, results)

#define KNIT_TYPED_TAKES(task, i, part)                                                            \
    task##_takes_##i = (int)KNIT_PASTE(knit_takes_, KNIT_TYPE_OF(part)) |                          \
                       (KNIT_IS_OPTIONAL_OF(part) * (int)KNIT_IS_OPTIONAL) | (int)KNIT_IS_HANDLE,  \
    task##_needs_##i =                                                                             \
        KNIT_IS_OPTIONAL_OF(part) ? (int)KNIT_PASTE(task##_needs_, KNIT_BEFORE_##i) : i,
#define KNIT_TYPED_TAKES_NONE(task, i)  task##_takes_##i = 0,
#define KNIT_TYPED_PLACE(task, i, part) typedef KNIT_C_OF(part) * task##_place_##i;
#define KNIT_TYPED_NO_PLACE(task, i)    typedef struct knit_surplus *task##_place_##i;
#define KNIT_TYPED_PARAM(c, i, part)                                                               \
    KNIT_SEPARATOR_##i KNIT_PART(KNIT_PART_NAME, part) ": " KNIT_SIGN_OF(part)
#define KNIT_TYPED_RESULT(c, i, part) KNIT_SEPARATOR_##i KNIT_SIGN_OF(part)
#define KNIT_TYPED_PART(c, i, part)                                                                \
    {KNIT_PART(KNIT_PART_NAME, part), sizeof(KNIT_C_OF_0(KNIT_TYPE_OF(part)))},
#define KNIT_TYPED_NIL_0   ""
#define KNIT_TYPED_NIL_1   "nil"
#define KNIT_TYPED_LEFT_0  ""
#define KNIT_TYPED_LEFT_1  "("
#define KNIT_TYPED_RIGHT_0 ""
#define KNIT_TYPED_RIGHT_1 ")"

/* ---- Implementing ---- */

/* The task's own code of an error that was an exception of C++. */
#define KNIT_TYPED_THROWN (-1)

#define KNIT_TYPED_WRAPPER(task, params, results)                                                  \
    typedef int task##_function(struct knit_call *call KNIT_EACH(KNIT_TYPED_GIVEN, , params)       \
            KNIT_EACH(KNIT_TYPED_FILLED, , results));                                              \
    __attribute__((unused)) static inline int task##_wrap(                                         \
        struct knit_call *call, task##_function *function)                                         \
    {                                                                                              \
        struct knit_typed_reading reading = {0, 0, 0, false};                                      \
        int r = 0;                                                                                 \
        KNIT_EACH(KNIT_TYPED_READ, , params)                                                       \
        KNIT_EACH(KNIT_TYPED_ROOM, , results)                                                      \
        if (reading.bad != 0)                                                                      \
            return knit_typed_refuse(call, &task##_typed, &reading);                               \
        KNIT_TYPED_TRY(r = function(call KNIT_EACH(KNIT_TYPED_PASS, , params)                      \
                               KNIT_EACH(KNIT_TYPED_ADDRESS, , results));)                         \
        if (r != 0)                                                                                \
            return r;                                                                              \
        KNIT_PASTE(KNIT_TYPED_GIVE_, KNIT_HAS_COMMA results)(results)                              \
    }                                                                                              \
    typedef int task##_function(struct knit_call *call KNIT_EACH(KNIT_TYPED_GIVEN, , params)       \
            KNIT_EACH(KNIT_TYPED_FILLED, , results))

/* Its name in the functions that read and give it: i64, optional_i64. */
#define KNIT_TYPED_OF(part)        KNIT_TYPED_OF_(KNIT_IS_OPTIONAL_OF(part), KNIT_TYPE_OF(part))
#define KNIT_TYPED_OF_(flag, type) KNIT_PASTE(KNIT_TYPED_OF_, flag)(type)
#define KNIT_TYPED_OF_0(type)      type
#define KNIT_TYPED_OF_1(type)      KNIT_PASTE(optional_, type)

#define KNIT_TYPED_GIVEN(c, i, part)  , KNIT_C_OF(part)
#define KNIT_TYPED_FILLED(c, i, part) , KNIT_C_OF(part) *
#define KNIT_TYPED_READ(c, i, part)                                                                \
    KNIT_C_OF(part)                                                                                \
    argument_##i =                                                                                 \
        KNIT_PASTE(knit_typed_get_, KNIT_TYPED_OF(part))(call, KNIT_BEFORE_##i, &reading);
#define KNIT_TYPED_ROOM(c, i, part)    KNIT_C_OF(part) result_##i = KNIT_TYPED_EMPTY;
#define KNIT_TYPED_PASS(c, i, part)    , argument_##i
#define KNIT_TYPED_ADDRESS(c, i, part) , &result_##i
#define KNIT_TYPED_PUT(c, i, part)                                                                 \
    KNIT_PASTE(knit_typed_put_, KNIT_TYPED_OF(part))(builder, result_##i);
#define KNIT_TYPED_GIVE(c, i, part)                                                                \
    return KNIT_PASTE(knit_typed_give_, KNIT_TYPED_OF(part))(call, result_##i);
#define KNIT_TYPED_GIVE_0(results)                                                                 \
    KNIT_EACH(KNIT_TYPED_GIVE, , results) KNIT_PASTE(KNIT_TYPED_GIVE_NIL_, KNIT_IS_EMPTY results)
#define KNIT_TYPED_GIVE_NIL_0
#define KNIT_TYPED_GIVE_NIL_1 return knit_return_nil(call);
#define KNIT_TYPED_GIVE_1(results)                                                                 \
    {                                                                                              \
        KNIT_BUILDER(builder);                                                                     \
        knit_put_array(builder, KNIT_COUNT(results));                                              \
        KNIT_EACH(KNIT_TYPED_PUT, , results)                                                       \
        return knit_return_built(call, builder);                                                   \
    }

#define KNIT_IMPLEMENT(...) KNIT_IMPLEMENT_(__VA_ARGS__, )
#define KNIT_IMPLEMENT_(task, ...)                                                                 \
    static task##_function task##_impl;                                                            \
    KNIT_TASK_AS_(task, task##_name, task##_signature, __VA_ARGS__)                                \
    {                                                                                              \
        return task##_wrap(call, task##_impl);                                                     \
    }

/* ---- Calling ---- */

#define KNIT_CALL(task, k, ret_error, args, results)                                               \
    KNIT_CALL_WITH(task, k, NULL, ret_error, args, results)
#define KNIT_CALL_WITH(task, k, options, ret_error, args, results)                                 \
    KNIT_CHECKED(KNIT_CHECK_ARGS(task, args) KNIT_CHECK_RESULTS(task, results),                    \
        knit_call_typed(k, &task##_typed, options, ret_error, KNIT_ARGS(task, args),               \
            KNIT_PLACES(task, results)))

#define KNIT_START(task, k, ret_handle, ret_error, args)                                           \
    KNIT_START_WITH(task, k, NULL, ret_handle, ret_error, args)
#define KNIT_START_WITH(task, k, options, ret_handle, ret_error, args)                             \
    KNIT_CHECKED(KNIT_CHECK_ARGS(task, args),                                                      \
        knit_start_typed(k, &task##_typed, options, ret_handle, ret_error, KNIT_ARGS(task, args)))

#define KNIT_THEN(task, k, ret_error, args, on_done, user)                                         \
    KNIT_THEN_WITH(task, k, NULL, ret_error, args, on_done, user)
#define KNIT_THEN_WITH(task, k, options, ret_error, args, on_done, user)                           \
    KNIT_CHECKED(                                                                                  \
        KNIT_CHECK_ARGS(task, args), knit_then_typed(k, &task##_typed, options, ret_error,         \
                                         KNIT_ARGS(task, args), on_done, user))

/* Of a call that KNIT_START or KNIT_THEN started: waiting for it, or KNIT_PENDING if it goes on. */
#define KNIT_AWAIT(task, handle, ret_error, results)                                               \
    KNIT_CHECKED(KNIT_CHECK_RESULTS(task, results),                                                \
        knit_await_typed(handle, &task##_typed, -1, ret_error, KNIT_PLACES(task, results)))
#define KNIT_RESULTS(task, handle, ret_error, results)                                             \
    KNIT_CHECKED(KNIT_CHECK_RESULTS(task, results),                                                \
        knit_await_typed(handle, &task##_typed, 0, ret_error, KNIT_PLACES(task, results)))

/* ---- What the compiler checks ---- */

#define KNIT_CHECK_ARGS(task, args)                                                                \
    KNIT_ASSERT(KNIT_COUNT(args) >= (int)task##_required,                                          \
        #task ": argument " KNIT_QUOTE(KNIT_PASTE(KNIT_AFTER_, KNIT_COUNT(args))) " is missing");  \
    KNIT_EACH(KNIT_CHECK_ARG, task, args)
#define KNIT_CHECK_ARG(task, i, x)                                                                 \
    KNIT_ASSERT(task##_takes_##i != 0, #task ": argument " #i " is one too many");                 \
    KNIT_ASSERT(task##_takes_##i == 0 || (KNIT_CLASS(x) & ~(int)task##_takes_##i) == 0,            \
        #task ": argument " #i " is of a type that the task does not take: " #x);

#define KNIT_CHECK_RESULTS(task, results)                                                          \
    KNIT_ASSERT(KNIT_COUNT(results) >= (int)task##_results,                                        \
        #task ": result " KNIT_QUOTE(KNIT_PASTE(KNIT_AFTER_, KNIT_COUNT(results))) " is missing"); \
    KNIT_EACH(KNIT_CHECK_RESULT, task, results)
#define KNIT_CHECK_RESULT(task, i, x)                                                              \
    KNIT_ASSERT(!KNIT_IS_SURPLUS(task##_place_##i), #task ": result " #i " is one too many");      \
    KNIT_ASSERT(KNIT_IS_SURPLUS(task##_place_##i) || KNIT_TAKES_RESULT(task##_place_##i, x),       \
        #task ": result " #i " needs a pointer to another type: " #x);
