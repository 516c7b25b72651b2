/* SPDX-License-Identifier: Apache-2.0 */
/* knit-counts: runs the phases that counts.h describes and prints what allocates; counts.py runs it
 * under callgrind and compares.
 *
 * malloc, its relatives and the clock are defined here, and replace the system's in libraries too:
 * what libevent allocates for a call is counted as well.
 */
#include "bench/counts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WARM_ROUNDS = 4, CLOCK_STEP_NS = 25, PHASES_MAX = 8 };

#define EXPORTED __attribute__((visibility("default")))

/* ---- memory and time ------------------------------------------------------------------------- */

static uint64_t allocations;

/* The system's names of the replaced functions. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *bytes, size_t size);

EXPORTED void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}

EXPORTED void *calloc(size_t count, size_t size)
{
    allocations++;
    return __libc_calloc(count, size);
}

EXPORTED void *realloc(void *bytes, size_t size)
{
    allocations++;
    return __libc_realloc(bytes, size);
}

EXPORTED int clock_gettime(clockid_t clock, struct timespec *ret)
{
    static uint64_t now_ns = UINT64_C(1000000000);

    (void)clock;
    now_ns += CLOCK_STEP_NS;
    *ret = (struct timespec){
        .tv_sec = (time_t)(now_ns / 1000000000), .tv_nsec = (long)(now_ns % 1000000000)};
    return 0;
}

/* ---- phases ---------------------------------------------------------------------------------- */

_Noreturn void knit_counts_fail(const char *what)
{
    (void)fprintf(stderr, "knit-counts: %s\n", what);
    exit(1);
}

void knit_counts_measure(
    const struct knit_counts_phase *phases, size_t count, uint32_t rounds, void *arg)
{
    uint64_t allocated[PHASES_MAX] = {0};

    for (int round = 0; round < WARM_ROUNDS; round++) {
        for (size_t i = 0; i < count; i++)
            phases[i].body(arg);
    }
    for (uint32_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < count; i++) {
            uint64_t before = allocations;

            (phases[i].counted != NULL ? phases[i].counted : phases[i].body)(arg);
            allocated[i] += allocations - before;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (phases[i].counted == NULL)
            continue;
        (void)printf("%s %u %llu\n", phases[i].name, phases[i].calls * rounds,
            (unsigned long long)allocated[i]);
    }
}

struct knit_span knit_counts_params(unsigned char *room, uint32_t len)
{
    size_t head = 1;

    room[0] = 0x91;
    if (len < 256) {
        room[head++] = 0xc4;
    } else {
        room[head++] = 0xc5;
        room[head++] = (unsigned char)(len >> 8);
    }
    room[head++] = (unsigned char)len;
    memset(room + head, 'k', len);
    return knit_span(room, head + len);
}

/* With a pool of its own, since the number of tasks or lanes is what is measured. */
static void measure_pool(const char *const *modules, uint32_t count, uint32_t lanes_count,
    void (*measure)(struct knit_counts_lanes *lanes))
{
    struct knit_counts_lanes lanes;

    knit_counts_lanes_init(&lanes, modules, count, lanes_count);
    measure(&lanes);
    knit_counts_lanes_fini(&lanes);
}

int main(int argc, char **argv)
{
    const char *const *modules = (const char *const *)argv + 1;
    uint32_t count = (uint32_t)argc - 1;
    struct knit_counts_lanes lanes;

    if (argc < 3) {
        (void)fprintf(stderr, "usage: knit-counts MODULE-OF-MANY-TASKS MODULE...\n");
        return 2;
    }
    knit_counts_lanes_init(&lanes, modules + 1, count - 1, 1);
    knit_counts_calls(&lanes);
    knit_counts_large(&lanes);
    knit_counts_proto();
    knit_counts_server(&lanes);
    knit_counts_sessions(&lanes);
    knit_counts_lanes_fini(&lanes);
    measure_pool(modules, count, 1, knit_counts_server_tasks);
    measure_pool(modules + 1, count - 1, 1, knit_counts_thread);
    measure_pool(modules + 1, count - 1, 1, knit_counts_flows);
    measure_pool(modules + 1, count - 1, 2, knit_counts_more_lanes);
    measure_pool(modules + 1, count - 1, 16, knit_counts_more_lanes);
    measure_pool(modules + 1, count - 1, 64, knit_counts_more_lanes);
    measure_pool(modules + 1, count - 1, 1, knit_counts_parks);
    measure_pool(modules + 1, count - 1, 64, knit_counts_parks);
    measure_pool(modules + 1, count - 1, 1, knit_counts_library);
    return 0;
}
