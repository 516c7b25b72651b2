/* SPDX-License-Identifier: Apache-2.0 */
/* A module with functions of its own that bear the names of a library's, as one has that was built
 * with a copy of a library; and tasks that leave the process other than they found it. */
#include <knitting/values.h>

#include <fenv.h>
#include <float.h>
#include <string.h>
#include <unistd.h>

KNIT_MODULE("1.0");

/* Exported, so the loader may bind a call of it to whatever else bears that name. */
#define OWN(name)                                                                                  \
    __attribute__((visibility("default"))) const char *name(void);                                 \
    const char *name(void)                                                                         \
    {                                                                                              \
        return "own";                                                                              \
    }

OWN(msgpack_version)
OWN(seccomp_version)
OWN(knit_clock_ns)
OWN(knit_lane_turn)

KNIT_TASK(owns, "owns() -> bool", .doc = "Whether its calls reach its own functions.")
{
    return knit_return_bool(
        call, strcmp(msgpack_version(), "own") == 0 && strcmp(seccomp_version(), "own") == 0 &&
                  strcmp(knit_clock_ns(), "own") == 0 && strcmp(knit_lane_turn(), "own") == 0);
}

/* ---- what it leaves behind ---- */

KNIT_TASK(spoil, "spoil(what: str) -> nil", .doc = "Leaves the process other than it found it.")
{
    size_t len;
    const char *what = knit_arg_bytes(call, 0, &len);

#define IS(text) (len == sizeof(text) - 1 && memcmp(what, text, sizeof(text) - 1) == 0)
    if (IS("rounding"))
        (void)fesetround(FE_UPWARD);
    else if (IS("traps"))
        (void)feenableexcept(FE_DIVBYZERO);
    else if (IS("exceptions"))
        (void)feraiseexcept(FE_ALL_EXCEPT);
#ifdef __x86_64__
    else if (IS("flush"))
        __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040);
    else if (IS("precision"))
        __asm__ volatile("fldcw %0" : : "m"((unsigned short){0x027f}));
    else if (IS("registers"))
        __asm__ volatile("fld1\n\tfld1");
#endif
    else
        return knit_fail(call, 1, "no such thing to spoil");
    return knit_return_nil(call);
}

/* What a task finds of the process. */
KNIT_TASK(state, "state() -> array")
{
    volatile double least = DBL_MIN, one = 1, three = 3, zero = 0;
    volatile long double wide = 1;
    int noted = fetestexcept(FE_ALL_EXCEPT);
    struct knit_writer *writer = knit_writer(call);

    knit_put_array(writer, 7);
    knit_put_int(writer, getpid());
    knit_put_int(writer, noted);
    knit_put_int(writer, fegetround());
    knit_put_float(writer, least / 2);
    knit_put_float(writer, one / three);
    knit_put_float(writer, one / zero);
    knit_put_float(writer, (double)(wide / 3 * 3 - 1));
    return knit_return_built(call, writer);
}
