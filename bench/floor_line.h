/* SPDX-License-Identifier: Apache-2.0 */
/* The floor under every call through memory: one cache line to another process and back.
 *
 * Two processes on two cores take turns in writing a word and spin until the other's value shows
 * up. No answer from another core can come faster on that machine, so other figures are given as
 * multiples of this one, measured in the same run and in turns with them.
 *
 * Between measurements the partner sleeps in read() and uses no core.
 *
 * Threads: one at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "bench/typical.h"

struct knit_floor_line {
    _Atomic uint64_t *page; /* shared */
    uint64_t turns;         /* that were taken so far, on both sides */
    int order_fd;
    pid_t pid;
};

/* Forks the partner, which runs on partner_cpu; before threads are started. The measuring thread
 * pins itself. Returns 0 or -errno. */
int knit_floor_line_init(struct knit_floor_line *line, int partner_cpu);
void knit_floor_line_fini(struct knit_floor_line *line);

/* So many round trips, each recorded in ticks. */
void knit_floor_line_measure(
    struct knit_floor_line *line, uint32_t trips, struct knit_typical *typical);
