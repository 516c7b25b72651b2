/* SPDX-License-Identifier: Apache-2.0 */
/* In cache: the same two buffers again and again. Out of it: a walk through far more memory than
 * any cache has, in an order that prefetchers do not expect, by whole messages. */
#include "bench/floor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/machine.h"
#include "bench/ticks.h"
#include "bench/typical.h"

enum { COLD_BYTES = 256 << 20, COLD_BYTES_QUICK = 4 << 20, STEP = 37 };

static void measure(const struct knit_floor_setting *setting, unsigned char *memory, uint64_t slots,
    struct knit_typical *typical)
{
    uint64_t end_ns = knit_ticks_clock_ns() + (uint64_t)setting->ms * 1000000, at = 0;
    unsigned char *from = memory, *to = memory + slots * setting->bytes;
    knit_typical_init(typical);
    do {
        for (int i = 0; i < 16; i++) {
            uint64_t begin = knit_ticks_now();
            memcpy(to + at * setting->bytes, from + at * setting->bytes, setting->bytes);
            /* Without it the compiler may drop the copy, which is not read. */
            __asm__ volatile("" : : "r"(to) : "memory");
            knit_typical_record(typical, knit_ticks_now() - begin);
            at = (at + STEP) % slots;
        }
    } while (knit_ticks_clock_ns() < end_ns);
}

int knit_floor_copy(const struct knit_floor_setting *setting, struct knit_floor_figure *ret)
{
    static struct knit_typical typical;
    uint64_t cold_bytes = setting->is_quick ? COLD_BYTES_QUICK : COLD_BYTES;
    uint64_t slots = setting->is_cold ? cold_bytes / 2 / setting->bytes : 1;
    unsigned char *memory = malloc(2 * slots * setting->bytes);
    if (memory == NULL)
        return -ENOMEM;
    (void)knit_machine_pin(setting->cpu);
    memset(memory, 1, 2 * slots * setting->bytes);
    measure(setting, memory, slots, &typical);
    ret->typical_ns = knit_typical_ns(&typical);
    ret->p99_ns = knit_typical_percentile_ns(&typical, 99);
    ret->per_second = 1e9 / knit_typical_mean_ns(&typical);
    free(memory);
    return 0;
}
