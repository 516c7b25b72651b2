/* SPDX-License-Identifier: Apache-2.0 */
/* The state of the floating-point unit as the ABI has it where a program begins: rounding to
 * nearest, no traps, denormals kept, no exception noted.
 *
 * A task that leaves another one would change the numbers of the calls after it, so the state is
 * compared after each task and put back where it differs. Comparing costs 9 instructions on x86-64;
 * writing the words always would cost more time than that. The noted exceptions are compared too:
 * a task that looks for one must not find that of an earlier call.
 *
 * Threads: each has a state of its own; these functions are about the calling thread's.
 */
#pragma once

#include <stdint.h>

#if defined(__x86_64__)

#define KNIT_FLOAT_SSE     0x1f80u /* of MXCSR */
#define KNIT_FLOAT_CONTROL 0x037fu /* of the x87 unit */
#define KNIT_FLOAT_NOTED   0x387fu /* of its status: exceptions, and registers that are in use */

static __attribute__((cold, noinline)) void knit_float_reset(void)
{
    uint32_t sse = KNIT_FLOAT_SSE;

    /* fninit sets KNIT_FLOAT_CONTROL and empties the registers. */
    __asm__ volatile("fninit\n\tldmxcsr %0" : : "m"(sse));
}

static inline void knit_float_restore(void)
{
    uint32_t sse;
    uint16_t control, status;

    __asm__ volatile("stmxcsr %0" : "=m"(sse));
    __asm__ volatile("fnstcw %0" : "=m"(control));
    __asm__ volatile("fnstsw %0" : "=a"(status));
    if (__builtin_expect(sse != KNIT_FLOAT_SSE, 0) ||
        __builtin_expect(control != KNIT_FLOAT_CONTROL, 0) ||
        __builtin_expect((status & KNIT_FLOAT_NOTED) != 0, 0))
        knit_float_reset();
}

/* A thread's own state, where a task runs on a thread that is no worker. */
struct knit_float_state {
    unsigned char environment[28]; /* of the x87 unit */
    uint32_t sse;
};

static inline void knit_float_save(struct knit_float_state *ret_state)
{
    __asm__ volatile("fnstenv %0" : "=m"(ret_state->environment));
    __asm__ volatile("stmxcsr %0" : "=m"(ret_state->sse));
}

static inline void knit_float_put_back(const struct knit_float_state *state)
{
    __asm__ volatile("fldenv %0" : : "m"(state->environment));
    __asm__ volatile("ldmxcsr %0" : : "m"(state->sse));
}

#elif defined(__aarch64__)

static __attribute__((cold, noinline)) void knit_float_reset(void)
{
    __asm__ volatile("msr fpcr, xzr\n\tmsr fpsr, xzr");
}

static inline void knit_float_restore(void)
{
    uint64_t control, status;

    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    __asm__ volatile("mrs %0, fpsr" : "=r"(status));
    if (__builtin_expect((control | status) != 0, 0))
        knit_float_reset();
}

struct knit_float_state {
    uint64_t control, status;
};

static inline void knit_float_save(struct knit_float_state *ret_state)
{
    __asm__ volatile("mrs %0, fpcr" : "=r"(ret_state->control));
    __asm__ volatile("mrs %0, fpsr" : "=r"(ret_state->status));
}

static inline void knit_float_put_back(const struct knit_float_state *state)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(state->control));
    __asm__ volatile("msr fpsr, %0" : : "r"(state->status));
}

#else
#error "which words hold the state of the floating-point unit here?"
#endif
