/* SPDX-License-Identifier: Apache-2.0 */
/* A line serves both directions, and each turn moves it once. Trips go through the lines of a page
 * in turn: how far a line is from both cores depends on its address, by half and more on processors
 * whose cache is spread over a mesh, and a call uses many addresses. The spin has no pause: a pause
 * saves power and costs the time that is measured here. */
#include "bench/floor_line.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/machine.h"
#include "bench/ticks.h"

enum { PAGE = 4096, LINE = 64, LINES = PAGE / LINE };

/* The word of the trip that ends with this turn. */
static _Atomic uint64_t *word_of(_Atomic uint64_t *page, uint64_t turn)
{
    return page + turn / 2 % LINES * (LINE / sizeof(*page));
}

/* Odd values are ours, even ones the partner's. */
static void answer(_Atomic uint64_t *page, uint64_t turn, uint32_t trips)
{
    for (uint32_t i = 0; i < trips; i++) {
        _Atomic uint64_t *word;

        turn += 2;
        word = word_of(page, turn);
        while (atomic_load_explicit(word, memory_order_acquire) != turn - 1)
            ;
        atomic_store_explicit(word, turn, memory_order_release);
    }
}

static void partner(_Atomic uint64_t *page, int order_fd, int cpu)
{
    uint64_t turn = 0;
    uint32_t trips;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)knit_machine_pin(cpu);
    while (read(order_fd, &trips, sizeof(trips)) == sizeof(trips)) {
        answer(page, turn, trips);
        turn += 2 * (uint64_t)trips;
    }
    _exit(0);
}

int knit_floor_line_init(struct knit_floor_line *line, int partner_cpu)
{
    int pipe_fd[2];
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    *line = (struct knit_floor_line){.order_fd = -1};
    if (page == MAP_FAILED)
        return -errno;
    if (pipe2(pipe_fd, O_CLOEXEC) < 0) {
        int error = -errno;
        munmap(page, PAGE);
        return error;
    }
    line->page = page;
    line->pid = fork();
    if (line->pid == 0) {
        close(pipe_fd[1]);
        partner(line->page, pipe_fd[0], partner_cpu);
    }
    close(pipe_fd[0]);
    line->order_fd = pipe_fd[1];
    if (line->pid < 0) {
        int error = -errno;
        knit_floor_line_fini(line);
        return error;
    }
    return 0;
}

void knit_floor_line_fini(struct knit_floor_line *line)
{
    if (line->page == NULL)
        return;
    close(line->order_fd);
    if (line->pid > 0) {
        /* Other children may hold a copy of the pipe's end, so closing it may not end this one. */
        (void)kill(line->pid, SIGKILL);
        (void)waitpid(line->pid, NULL, 0);
    }
    munmap(line->page, PAGE);
    *line = (struct knit_floor_line){.order_fd = -1};
}

void knit_floor_line_measure(
    struct knit_floor_line *line, uint32_t trips, struct knit_typical *typical)
{
    /* The first trip wakes the partner and is not recorded. */
    uint32_t order = trips + 1;
    if (write(line->order_fd, &order, sizeof(order)) != sizeof(order))
        return;
    for (uint32_t i = 0; i < order; i++) {
        uint64_t begin = knit_ticks_now();
        _Atomic uint64_t *word;
        line->turns += 2;
        word = word_of(line->page, line->turns);
        atomic_store_explicit(word, line->turns - 1, memory_order_release);
        while (atomic_load_explicit(word, memory_order_acquire) != line->turns)
            ;
        if (i > 0)
            knit_typical_record(typical, knit_ticks_now() - begin);
    }
}
