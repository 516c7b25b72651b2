/* SPDX-License-Identifier: Apache-2.0 */
/* A module that is linked with -ffast-math. It does the same as a constructor too, since not each
 * compiler has such a start file, and by its hook. */
#include <knitting/task.h>

static void flush_to_zero(void);

static int hook(const struct knit_bootstrap *info, char *ret_message, size_t message_size)
{
    (void)info;
    (void)ret_message;
    (void)message_size;
    flush_to_zero();
    return 0;
}

KNIT_MODULE_BOOTSTRAP("1.0", hook);

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
