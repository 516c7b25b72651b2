/* SPDX-License-Identifier: Apache-2.0 */
/* The linker's --wrap sends each call of malloc() to __wrap_malloc() here, and calls the C
 * library's own __real_malloc(); so for the others. One counter serves all three.
 */
#include "tests/proto/failing.h"

#include <stddef.h>

static unsigned count;
static unsigned failing;

void *__real_malloc(size_t size);
void *__real_calloc(size_t members, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t members, size_t size);
void *__wrap_realloc(void *memory, size_t size);

unsigned knit_failing_after(unsigned n)
{
    unsigned before = count;

    count = 0;
    failing = n;
    return before;
}

void *__wrap_malloc(size_t size)
{
    return ++count == failing ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t members, size_t size)
{
    return ++count == failing ? NULL : __real_calloc(members, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return ++count == failing ? NULL : __real_realloc(memory, size);
}
