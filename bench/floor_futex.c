/* SPDX-License-Identifier: Apache-2.0 */
/* Two words, one for each direction, without a spin: each side changes the other's word, wakes it,
 * and sleeps on its own. */
#include "bench/floor.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "bench/machine.h"
#include "bench/ticks.h"
#include "bench/typical.h"
#include "fastpath/lane/bell.h"

enum { PAGE = 4096, THERE = 0, BACK = 16 }; /* words a cache line apart */

static void await(_Atomic uint32_t *word, uint32_t turn)
{
    uint32_t seen;
    while ((seen = atomic_load_explicit(word, memory_order_acquire)) != turn)
        knit_bell_wait(word, seen, 0);
}

static void ring(_Atomic uint32_t *word, uint32_t turn)
{
    atomic_store_explicit(word, turn, memory_order_release);
    knit_bell_wake(word, 1);
}

static void partner(_Atomic uint32_t *words, int cpu)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)knit_machine_pin(cpu);
    for (uint32_t turn = 1;; turn++) {
        await(&words[THERE], turn);
        ring(&words[BACK], turn);
    }
}

static void measure(
    const struct knit_floor_setting *setting, _Atomic uint32_t *words, struct knit_typical *typical)
{
    uint64_t end_ns = knit_ticks_clock_ns() + (uint64_t)setting->ms * 1000000;
    const struct timespec pause = {.tv_nsec = (long)setting->sleep_ms * 1000000};
    knit_typical_init(typical);
    for (uint32_t turn = 1;
         turn < 5 || (setting->count > 0 ? turn <= setting->count : knit_ticks_clock_ns() < end_ns);
         turn++) {
        uint64_t begin;

        if (setting->sleep_ms > 0)
            (void)nanosleep(&pause, NULL);
        begin = knit_ticks_now();
        ring(&words[THERE], turn);
        await(&words[BACK], turn);
        if (turn > 1) /* the first one waits for the fork */
            knit_typical_record(typical, knit_ticks_now() - begin);
    }
}

int knit_floor_futex(const struct knit_floor_setting *setting, struct knit_floor_figure *ret)
{
    static struct knit_typical typical;
    _Atomic uint32_t *words =
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid;
    if (words == MAP_FAILED)
        return -errno;
    pid = fork();
    if (pid < 0) {
        int error = -errno;
        munmap(words, PAGE);
        return error;
    }
    if (pid == 0)
        partner(words, setting->partner_cpu);
    (void)knit_machine_pin(setting->cpu);
    measure(setting, words, &typical);
    ret->typical_ns = setting->sleep_ms > 0 ? knit_typical_percentile_ns(&typical, 50)
                                            : knit_typical_ns(&typical);
    ret->p99_ns = knit_typical_percentile_ns(&typical, 99);
    ret->per_second = 1e9 / knit_typical_mean_ns(&typical);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    munmap(words, PAGE);
    return 0;
}
