/* SPDX-License-Identifier: Apache-2.0 */
/* A module that is linked with -ffast-math. It does the same as a constructor too, since not each
 * compiler has such a start file. */
#include <knitting/task.h>

KNIT_MODULE("1.0");

__attribute__((constructor)) static void flush_to_zero(void)
{
#ifdef __x86_64__
    __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040);
#else
    __asm__ volatile("msr fpcr, %0" : : "r"(1ul << 24));
#endif
}

KNIT_TASK(fast, "fast() -> nil")
{
    return knit_return_nil(call);
}
