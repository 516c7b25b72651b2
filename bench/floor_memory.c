/* SPDX-License-Identifier: Apache-2.0 */
/* A bare echo through shared memory: arguments are copied in, copied by the other process, and
 * copied out, which is the least for a call by value. Beside the bytes there are two counters, one
 * for each direction; both sides spin. */
#include "bench/floor.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/machine.h"
#include "bench/ticks.h"
#include "bench/typical.h"

enum { LINE = 64 };

struct counters {
    _Alignas(LINE) _Atomic uint64_t there;
    _Alignas(LINE) _Atomic uint64_t back;
};

/* A place for each message in flight, of whole lines, in each direction. */
struct memory {
    struct counters *counters;
    unsigned char *requests, *replies;
    uint64_t place_bytes, map_bytes;
    uint32_t bytes, depth;
};

static void answer(const struct memory *memory, int cpu)
{
    uint64_t at = 0, end = 0;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)knit_machine_pin(cpu);
    for (;;) {
        uint64_t place;

        while (at == end)
            end = atomic_load_explicit(&memory->counters->there, memory_order_acquire);
        place = at % memory->depth * memory->place_bytes;
        memcpy(memory->replies + place, memory->requests + place, memory->bytes);
        at++;
        atomic_store_explicit(&memory->counters->back, at, memory_order_release);
    }
}

/* False: an answer differs from its argument. */
static bool take(const struct memory *memory, unsigned char *result, const unsigned char *argument,
    uint64_t number, bool is_quick)
{
    memcpy(result, memory->replies + number % memory->depth * memory->place_bytes, memory->bytes);
    return memcmp(result, &number, sizeof(number)) == 0 &&
           (!is_quick || memcmp(result + sizeof(number), argument + sizeof(number),
                             memory->bytes - sizeof(number)) == 0);
}

/* As many messages as fit are written and published at once, then all are awaited. */
static bool turn(const struct memory *memory, unsigned char *argument, uint64_t first, bool quick)
{
    unsigned char *result = argument + memory->bytes;
    uint64_t back = first, number;
    for (number = first; number < first + memory->depth; number++) {
        memcpy(argument, &number, sizeof(number));
        memcpy(memory->requests + number % memory->depth * memory->place_bytes, argument,
            memory->bytes);
    }
    atomic_store_explicit(&memory->counters->there, number, memory_order_release);
    for (number = first; number < first + memory->depth; number++) {
        while (back <= number)
            back = atomic_load_explicit(&memory->counters->back, memory_order_acquire);
        if (!take(memory, result, argument, number, quick))
            return false;
    }
    return true;
}

/* At least one turn; -EBADMSG after a wrong answer. */
static int turns_for(const struct memory *memory, unsigned char *argument, uint64_t ns,
    bool is_quick, struct knit_typical *typical)
{
    uint64_t first = atomic_load_explicit(&memory->counters->there, memory_order_relaxed);
    uint64_t end_ns = knit_ticks_clock_ns() + ns;
    knit_typical_init(typical);
    do {
        uint64_t begin = knit_ticks_now();
        if (!turn(memory, argument, first, is_quick))
            return -EBADMSG;
        knit_typical_record(typical, knit_ticks_now() - begin);
        first += memory->depth;
    } while (knit_ticks_clock_ns() < end_ns);
    return 0;
}

static int measure(const struct knit_floor_setting *setting, const struct memory *memory,
    unsigned char *argument, struct knit_floor_figure *ret)
{
    static struct knit_typical typical;
    uint64_t ns = (uint64_t)setting->ms * 1000000;
    int error = turns_for(memory, argument, ns / 5, setting->is_quick, &typical);
    if (error == 0)
        error = turns_for(memory, argument, ns, setting->is_quick, &typical);
    ret->typical_ns = knit_typical_ns(&typical) / memory->depth;
    ret->p99_ns = knit_typical_percentile_ns(&typical, 99);
    ret->per_second = memory->depth * 1e9 / knit_typical_mean_ns(&typical);
    return error;
}

static int map(const struct knit_floor_setting *setting, struct memory *ret)
{
    uint64_t place = ((uint64_t)setting->bytes + LINE - 1) / LINE * LINE;
    uint64_t all = sizeof(struct counters) + 2 * place * setting->depth;
    unsigned char *base =
        mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return -errno;
    *ret = (struct memory){
        .counters = (struct counters *)(void *)base,
        .requests = base + sizeof(struct counters),
        .replies = base + sizeof(struct counters) + place * setting->depth,
        .place_bytes = place,
        .map_bytes = all,
        .bytes = setting->bytes,
        .depth = setting->depth,
    };
    return 0;
}

int knit_floor_memory(const struct knit_floor_setting *setting, struct knit_floor_figure *ret)
{
    struct memory memory = {0};
    unsigned char *argument = calloc(2, setting->bytes);
    int error = argument == NULL || setting->bytes < sizeof(uint64_t) ? -EINVAL : 0;
    pid_t pid = -1;
    if (error == 0)
        error = map(setting, &memory);
    if (error != 0) {
        free(argument);
        return error;
    }
    for (uint32_t i = 0; i < setting->bytes; i++)
        argument[i] = (unsigned char)(i * 7 + i / 251);
    pid = fork();
    if (pid == 0)
        answer(&memory, setting->partner_cpu);
    error = pid < 0 ? -errno : 0;
    if (pid > 0) {
        (void)knit_machine_pin(setting->cpu);
        error = measure(setting, &memory, argument, ret);
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
    munmap(memory.counters, memory.map_bytes);
    free(argument);
    return error;
}
