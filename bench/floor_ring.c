/* SPDX-License-Identifier: Apache-2.0 */
/* A ring with one writer and one reader, each with a private copy of the other's position that it
 * reloads only when it must: the usual fast ring. Cells are a line; the first word is the cell's
 * number, so a reader that sees an old cell notices. */
#include "bench/floor.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/machine.h"
#include "bench/ticks.h"

enum { CELLS = 1024, LINE = 64, CHUNK = 4096 };

struct ring {
    _Alignas(LINE) _Atomic uint64_t written;
    _Alignas(LINE) _Atomic uint64_t read;
    _Alignas(LINE) _Atomic uint64_t wrong;
    _Alignas(LINE) uint64_t cells[CELLS][LINE / 8];
};

/* The reader copies each cell, as a consumer of the bytes has to. */
static void read_all(struct ring *ring, uint32_t batch)
{
    uint64_t at = 0, end = 0, copy[LINE / 8];
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        while (at == end)
            end = atomic_load_explicit(&ring->written, memory_order_acquire);
        while (at != end) {
            memcpy(copy, ring->cells[at % CELLS], LINE);
            __asm__ volatile("" : : "r"(copy) : "memory");
            if (copy[0] != at)
                atomic_fetch_add_explicit(&ring->wrong, 1, memory_order_relaxed);
            at++;
            if (at % batch == 0 || at == end)
                atomic_store_explicit(&ring->read, at, memory_order_release);
        }
    }
}

static void write_some(struct ring *ring, uint64_t *at, uint64_t *read, uint32_t batch)
{
    uint64_t cell[LINE / 8] = {0};
    for (uint64_t end = *at + CHUNK; *at != end;) {
        while (*at - *read > CELLS - batch)
            *read = atomic_load_explicit(&ring->read, memory_order_acquire);
        for (uint32_t i = 0; i < batch; i++) {
            cell[0] = *at;
            memcpy(ring->cells[*at % CELLS], cell, LINE);
            ++*at;
        }
        atomic_store_explicit(&ring->written, *at, memory_order_release);
    }
}

int knit_floor_ring(const struct knit_floor_setting *setting, struct knit_floor_figure *ret)
{
    struct ring *ring =
        mmap(NULL, sizeof(*ring), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid;
    uint64_t at, read, wrong, first, begin_ns, end_ns;
    if (ring == MAP_FAILED)
        return -errno;
    pid = fork();
    if (pid < 0) {
        int error = -errno;
        munmap(ring, sizeof(*ring));
        return error;
    }
    if (pid == 0) {
        (void)knit_machine_pin(setting->partner_cpu);
        read_all(ring, setting->batch);
    }
    (void)knit_machine_pin(setting->cpu);
    at = 0;
    read = 0;
    write_some(ring, &at, &read, setting->batch); /* waits for the fork */
    first = at;
    begin_ns = knit_ticks_clock_ns();
    do {
        write_some(ring, &at, &read, setting->batch);
        end_ns = knit_ticks_clock_ns();
    } while (end_ns - begin_ns < (uint64_t)setting->ms * 1000000);
    while (atomic_load_explicit(&ring->read, memory_order_acquire) != at)
        ;
    wrong = atomic_load_explicit(&ring->wrong, memory_order_relaxed);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    munmap(ring, sizeof(*ring));
    ret->typical_ns = (double)(end_ns - begin_ns) / (double)(at - first);
    ret->p99_ns = 0;
    ret->per_second = 1e9 / ret->typical_ns;
    return wrong == 0 ? 0 : -EBADMSG;
}
