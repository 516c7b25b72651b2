/* SPDX-License-Identifier: Apache-2.0 */
/* What <knitting/typed.h> does with lists in parentheses: counting, and a macro for each element.
 *
 * A list has 0 to 16 elements. Whether it is empty is found without the extensions that would make
 * it easy, so that all of this is C11 and C++17 as they are: an element is followed by (), and
 * preceded by a macro that needs (); only where there is nothing do the two meet and become a
 * comma.
 *
 * Nothing here is for programs. */
#pragma once

#define KNIT_PASTE(a, b)  KNIT_PASTE_(a, b)
#define KNIT_PASTE_(a, b) a##b
#define KNIT_QUOTE(text)  KNIT_QUOTE_(text)
#define KNIT_QUOTE_(text) #text
/* KNIT_BARE list: the same without its parentheses. */
#define KNIT_BARE(...) __VA_ARGS__

/* The 33rd of its arguments. */
#define KNIT_33RD(a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, \
    a19, a20, a21, a22, a23, a24, a25, a26, a27, a28, a29, a30, a31, a32, n, ...)                  \
    n

/* KNIT_HAS_COMMA list, KNIT_IS_EMPTY list: 1 or 0. */
#define KNIT_HAS_COMMA(...)                                                                        \
    KNIT_33RD(__VA_ARGS__, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, \
        1, 1, 1, 1, 1, 1, 1, 0, 0)
#define KNIT_COMMA_OF(...) ,
#define KNIT_IS_EMPTY(...)                                                                         \
    KNIT_IS_EMPTY_(KNIT_HAS_COMMA(__VA_ARGS__), KNIT_HAS_COMMA(KNIT_COMMA_OF __VA_ARGS__),         \
        KNIT_HAS_COMMA(__VA_ARGS__()), KNIT_HAS_COMMA(KNIT_COMMA_OF __VA_ARGS__()))
#define KNIT_IS_EMPTY_(a, b, c, d)  KNIT_IS_EMPTY__(a, b, c, d)
#define KNIT_IS_EMPTY__(a, b, c, d) KNIT_HAS_COMMA(KNIT_IS_EMPTY_##a##b##c##d)
#define KNIT_IS_EMPTY_0001          ,

/* KNIT_COUNT(list): 0 to 16 */
#define KNIT_COUNT(list)   KNIT_PASTE(KNIT_COUNT_, KNIT_IS_EMPTY list)(list)
#define KNIT_COUNT_1(list) 0
#define KNIT_COUNT_0(list) KNIT_COUNT_ALL list
#define KNIT_COUNT_ALL(...)                                                                        \
    KNIT_33RD(__VA_ARGS__, of_more_than_16, of_more_than_16, of_more_than_16, of_more_than_16,     \
        of_more_than_16, of_more_than_16, of_more_than_16, of_more_than_16, of_more_than_16,       \
        of_more_than_16, of_more_than_16, of_more_than_16, of_more_than_16, of_more_than_16,       \
        of_more_than_16, of_more_than_16, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1,   \
        0)

/* The number before and behind one. */
#define KNIT_BEFORE_1  0
#define KNIT_BEFORE_2  1
#define KNIT_BEFORE_3  2
#define KNIT_BEFORE_4  3
#define KNIT_BEFORE_5  4
#define KNIT_BEFORE_6  5
#define KNIT_BEFORE_7  6
#define KNIT_BEFORE_8  7
#define KNIT_BEFORE_9  8
#define KNIT_BEFORE_10 9
#define KNIT_BEFORE_11 10
#define KNIT_BEFORE_12 11
#define KNIT_BEFORE_13 12
#define KNIT_BEFORE_14 13
#define KNIT_BEFORE_15 14
#define KNIT_BEFORE_16 15
#define KNIT_AFTER_0   1
#define KNIT_AFTER_1   2
#define KNIT_AFTER_2   3
#define KNIT_AFTER_3   4
#define KNIT_AFTER_4   5
#define KNIT_AFTER_5   6
#define KNIT_AFTER_6   7
#define KNIT_AFTER_7   8
#define KNIT_AFTER_8   9
#define KNIT_AFTER_9   10
#define KNIT_AFTER_10  11
#define KNIT_AFTER_11  12
#define KNIT_AFTER_12  13
#define KNIT_AFTER_13  14
#define KNIT_AFTER_14  15
#define KNIT_AFTER_15  16
#define KNIT_AFTER_16  17

/* What separates an element from the one before it, as text. */
#define KNIT_SEPARATOR_1
#define KNIT_SEPARATOR_2  ", "
#define KNIT_SEPARATOR_3  ", "
#define KNIT_SEPARATOR_4  ", "
#define KNIT_SEPARATOR_5  ", "
#define KNIT_SEPARATOR_6  ", "
#define KNIT_SEPARATOR_7  ", "
#define KNIT_SEPARATOR_8  ", "
#define KNIT_SEPARATOR_9  ", "
#define KNIT_SEPARATOR_10 ", "
#define KNIT_SEPARATOR_11 ", "
#define KNIT_SEPARATOR_12 ", "
#define KNIT_SEPARATOR_13 ", "
#define KNIT_SEPARATOR_14 ", "
#define KNIT_SEPARATOR_15 ", "
#define KNIT_SEPARATOR_16 ", "

/* KNIT_EACH(macro, context, list): macro(context, 1, first) macro(context, 2, second) ... */
#define KNIT_EACH(macro, context, list)                                                            \
    KNIT_EACH_OF(KNIT_PASTE(KNIT_EACH_, KNIT_COUNT(list)), macro, context, KNIT_BARE list)
#define KNIT_EACH_OF(each, ...) each(__VA_ARGS__)
#define KNIT_EACH_0(m, c, none)
#define KNIT_EACH_1(m, c, a1)                     m(c, 1, a1)
#define KNIT_EACH_2(m, c, a1, a2)                 KNIT_EACH_1(m, c, a1) m(c, 2, a2)
#define KNIT_EACH_3(m, c, a1, a2, a3)             KNIT_EACH_2(m, c, a1, a2) m(c, 3, a3)
#define KNIT_EACH_4(m, c, a1, a2, a3, a4)         KNIT_EACH_3(m, c, a1, a2, a3) m(c, 4, a4)
#define KNIT_EACH_5(m, c, a1, a2, a3, a4, a5)     KNIT_EACH_4(m, c, a1, a2, a3, a4) m(c, 5, a5)
#define KNIT_EACH_6(m, c, a1, a2, a3, a4, a5, a6) KNIT_EACH_5(m, c, a1, a2, a3, a4, a5) m(c, 6, a6)
#define KNIT_EACH_7(m, c, a1, a2, a3, a4, a5, a6, a7)                                              \
    KNIT_EACH_6(m, c, a1, a2, a3, a4, a5, a6) m(c, 7, a7)
#define KNIT_EACH_8(m, c, a1, a2, a3, a4, a5, a6, a7, a8)                                          \
    KNIT_EACH_7(m, c, a1, a2, a3, a4, a5, a6, a7) m(c, 8, a8)
#define KNIT_EACH_9(m, c, a1, a2, a3, a4, a5, a6, a7, a8, a9)                                      \
    KNIT_EACH_8(m, c, a1, a2, a3, a4, a5, a6, a7, a8) m(c, 9, a9)
#define KNIT_EACH_10(m, c, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10)                                \
    KNIT_EACH_9(m, c, a1, a2, a3, a4, a5, a6, a7, a8, a9) m(c, 10, a10)
#define KNIT_EACH_11(m, c, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11)                           \
    KNIT_EACH_10(m, c, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10) m(c, 11, a11)
#define KNIT_EACH_12(m, c, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12)                      \
    KNIT_EACH_11(m, c, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11) m(c, 12, a12)
#define KNIT_EACH_13(m, c, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13)                 \
    KNIT_EACH_12(m, c, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12) m(c, 13, a13)
#define KNIT_EACH_14(m, c, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14)            \
    KNIT_EACH_13(m, c, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13) m(c, 14, a14)
#define KNIT_EACH_15(m, c, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15)       \
    KNIT_EACH_14(m, c, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14) m(c, 15, a15)
#define KNIT_EACH_16(m, c, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16)  \
    KNIT_EACH_15(m, c, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15)           \
    m(c, 16, a16)

/* KNIT_BEHIND(macro, context, count): macro(context, count + 1) ... macro(context, 16) */
#define KNIT_BEHIND(macro, context, count) KNIT_PASTE(KNIT_BEHIND_, count)(macro, context)
#define KNIT_BEHIND_0(m, c)                m(c, 1) KNIT_BEHIND_1(m, c)
#define KNIT_BEHIND_1(m, c)                m(c, 2) KNIT_BEHIND_2(m, c)
#define KNIT_BEHIND_2(m, c)                m(c, 3) KNIT_BEHIND_3(m, c)
#define KNIT_BEHIND_3(m, c)                m(c, 4) KNIT_BEHIND_4(m, c)
#define KNIT_BEHIND_4(m, c)                m(c, 5) KNIT_BEHIND_5(m, c)
#define KNIT_BEHIND_5(m, c)                m(c, 6) KNIT_BEHIND_6(m, c)
#define KNIT_BEHIND_6(m, c)                m(c, 7) KNIT_BEHIND_7(m, c)
#define KNIT_BEHIND_7(m, c)                m(c, 8) KNIT_BEHIND_8(m, c)
#define KNIT_BEHIND_8(m, c)                m(c, 9) KNIT_BEHIND_9(m, c)
#define KNIT_BEHIND_9(m, c)                m(c, 10) KNIT_BEHIND_10(m, c)
#define KNIT_BEHIND_10(m, c)               m(c, 11) KNIT_BEHIND_11(m, c)
#define KNIT_BEHIND_11(m, c)               m(c, 12) KNIT_BEHIND_12(m, c)
#define KNIT_BEHIND_12(m, c)               m(c, 13) KNIT_BEHIND_13(m, c)
#define KNIT_BEHIND_13(m, c)               m(c, 14) KNIT_BEHIND_14(m, c)
#define KNIT_BEHIND_14(m, c)               m(c, 15) KNIT_BEHIND_15(m, c)
#define KNIT_BEHIND_15(m, c)               m(c, 16) KNIT_BEHIND_16(m, c)
#define KNIT_BEHIND_16(m, c)
