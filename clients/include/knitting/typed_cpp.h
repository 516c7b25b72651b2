/* SPDX-License-Identifier: Apache-2.0 */
/* The half of <knitting/typed.h> that C++ has for itself; it needs C++17. What C chooses by
 * _Generic is here chosen by templates, and a call is a function object that is called at once, so
 * that its checks are static_assert of the call itself. More is given for a text here: what
 * converts to a std::string_view. */
#pragma once

#if __cplusplus < 201703L
#error "<knitting/typed.h> needs C++17"
#endif

#include <exception>
#include <string_view>
#include <type_traits>
#ifdef __GLIBCXX__
#include <cxxabi.h>
#endif

#include <knitting/typed_types.h>

#define KNIT_ASSERT static_assert
#define KNIT_CONST  static constexpr

namespace knit_typed_cpp
{

template <class T> struct optional_of {
    static constexpr bool is_one = false;
};

#define KNIT_CPP_VALUES(name, type, how)                                                           \
    template <> struct optional_of<knit_optional_##name> {                                         \
        static constexpr bool is_one = true;                                                       \
        static knit_arg pass(const knit_optional_##name &x)                                        \
        {                                                                                          \
            return knit_pass_optional_##name(x);                                                   \
        }                                                                                          \
    };
KNIT_VALUES_IN_C(KNIT_CPP_VALUES)
#undef KNIT_CPP_VALUES

/* Which of the arrays it is; 0 = none. */
template <class T> constexpr int class_of_elements()
{
#define KNIT_CPP_ELEMENTS(name, type, code)                                                        \
    if constexpr (std::is_same_v<T, knit_##name>)                                                  \
        return KNIT_IS_##name;                                                                     \
    else
    KNIT_ELEMENTS_IN_C(KNIT_CPP_ELEMENTS)
#undef KNIT_CPP_ELEMENTS
    return 0;
}

template <class T> constexpr bool is_integer()
{
    return (std::is_integral_v<T> && !std::is_same_v<T, bool>) ||
           (std::is_enum_v<T> && std::is_convertible_v<T, long long>);
}

template <class T> constexpr int class_of_plain()
{
    if constexpr (std::is_same_v<T, bool>)
        return KNIT_IS_BOOL;
    else if constexpr (is_integer<T>())
        return sizeof(T) < sizeof(long long) ? KNIT_IS_SMALL : KNIT_IS_LARGE;
    else if constexpr (std::is_same_v<T, float> || std::is_same_v<T, double>)
        return KNIT_IS_FLOAT;
    else if constexpr (std::is_same_v<T, knit_text> || std::is_convertible_v<T, std::string_view>)
        return KNIT_IS_TEXT;
    else if constexpr (std::is_same_v<T, knit_bytes>)
        return KNIT_IS_BYTES;
    else if constexpr (std::is_same_v<T, knit_time>)
        return KNIT_IS_TIME;
    else if constexpr (std::is_same_v<T, knit_any>)
        return KNIT_IS_ANY;
    else if constexpr (std::is_same_v<T, knit_handle *>)
        return KNIT_IS_HANDLE;
    else if constexpr (class_of_elements<T>() != 0)
        return class_of_elements<T>();
    else
        return KNIT_IS_WRONG;
}

/* The class of an expression of this type. */
template <class Expression> constexpr int class_of()
{
    using T = std::decay_t<Expression>;

    if constexpr (std::is_same_v<T, knit_none>)
        return KNIT_IS_OPTIONAL;
    else if constexpr (optional_of<T>::is_one)
        return KNIT_IS_OPTIONAL | class_of_plain<decltype(T::value)>();
    else
        return class_of_plain<T>();
}

template <class X> knit_arg pass(const X &x)
{
    using T = std::decay_t<X>;

    if constexpr (optional_of<T>::is_one)
        return optional_of<T>::pass(x);
    else if constexpr (std::is_same_v<T, bool>)
        return knit_pass_bool(x);
    else if constexpr (is_integer<T>() && (std::is_enum_v<T> || std::is_signed_v<T>))
        return knit_pass_int(static_cast<int64_t>(x));
    else if constexpr (is_integer<T>())
        return knit_pass_uint(x);
    else if constexpr (std::is_floating_point_v<T>)
        return knit_pass_float(static_cast<double>(x));
    else if constexpr (std::is_same_v<T, const char *> || std::is_same_v<T, char *>)
        return knit_pass_str(x);
    else if constexpr (std::is_convertible_v<T, std::string_view>)
        return knit_pass_at(KNIT_ARG_STR, std::string_view(x).data(), std::string_view(x).size());
    else if constexpr (std::is_same_v<T, knit_text>)
        return knit_pass_text(x);
    else if constexpr (std::is_same_v<T, knit_bytes>)
        return knit_pass_bytes(x);
    else if constexpr (std::is_same_v<T, knit_time>)
        return knit_pass_time(x);
    else if constexpr (std::is_same_v<T, knit_any>)
        return knit_pass_any(x);
    else if constexpr (std::is_same_v<T, knit_handle *>)
        return knit_pass_handle(x);
#define KNIT_CPP_ELEMENTS(name, type, code)                                                        \
    else if constexpr (std::is_same_v<T, knit_##name>) return knit_pass_##name(x);
    KNIT_ELEMENTS_IN_C(KNIT_CPP_ELEMENTS)
#undef KNIT_CPP_ELEMENTS
    else return knit_pass_nil();
}

/* A temporary that lives as long as the call which it is given to. */
template <class T, int count> struct array {
    T at[count > 0 ? static_cast<unsigned>(count) : 1U];
    const T *begin() const
    {
        return at;
    }
};

template <class Place, class Expression> constexpr bool takes_result()
{
    using T = std::decay_t<Expression>;

    return std::is_same_v<T, Place> || std::is_same_v<T, knit_ignored *>;
}

} // namespace knit_typed_cpp

#define KNIT_CLASS(x)               knit_typed_cpp::class_of<decltype((x))>()
#define KNIT_ARG(x)                 knit_typed_cpp::pass(x)
#define KNIT_TAKES_RESULT(place, x) knit_typed_cpp::takes_result<place, decltype((x))>()
#define KNIT_IS_SURPLUS(place)      std::is_same_v<place, knit_surplus *>

#define KNIT_CHECKED(checks, call) ([&]() -> int { checks return (call); }())

#define KNIT_ARGS(task, args)                                                                      \
    knit_typed_cpp::array<knit_arg, task##_arguments>{{KNIT_EACH(KNIT_ARGS_EACH, , args)}}.begin()
#define KNIT_ARGS_EACH(c, i, x) KNIT_ARG(x),
#define KNIT_PLACES(task, results)                                                                 \
    knit_typed_cpp::array<void *, task##_results>{{KNIT_EACH(KNIT_PLACES_EACH, , results)}}.begin()
#define KNIT_PLACES_EACH(c, i, x) static_cast<void *>(x),

/* ---- Of a wrapper ---- */

#define KNIT_TYPED_EMPTY                                                                           \
    {                                                                                              \
    }

/* What is thrown ends the call alone. The end of the thread is thrown too, and goes on. */
#ifdef __GLIBCXX__
#define KNIT_TYPED_END_OF_THREAD                                                                   \
    catch (const abi::__forced_unwind &)                                                           \
    {                                                                                              \
        throw;                                                                                     \
    }
#else
#define KNIT_TYPED_END_OF_THREAD
#endif
#ifdef __cpp_exceptions
#define KNIT_TYPED_TRY(statement)                                                                  \
    try {                                                                                          \
        statement                                                                                  \
    }                                                                                              \
    KNIT_TYPED_END_OF_THREAD                                                                       \
    catch (const std::exception &thrown)                                                           \
    {                                                                                              \
        return knit_fail(call, KNIT_TYPED_THROWN, thrown.what());                                  \
    }                                                                                              \
    catch (...)                                                                                    \
    {                                                                                              \
        return knit_fail(call, KNIT_TYPED_THROWN, "what was thrown is no exception");              \
    }
#else
#define KNIT_TYPED_TRY(statement) statement
#endif
