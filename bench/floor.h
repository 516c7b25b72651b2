/* SPDX-License-Identifier: Apache-2.0 */
/* Floors: the cost of the machine's own operations that a call is made of.
 *
 * Each measures for about `ms` milliseconds with the caller's side on one core and the other side,
 * a forked child, on another (or the same). They share no code with what is compared to them. All
 * return 0 or -errno; with `is_quick` every byte that came back is checked: -EBADMSG if one is
 * wrong.
 *
 * Threads: none may run besides the caller's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct knit_floor_setting {
    int cpu, partner_cpu; /* below 0: as the scheduler has it */
    uint32_t ms;
    uint64_t count;    /* echo, futex, pipe, threads: round trips instead of ms, without warm-up */
    uint32_t bytes;    /* of a message */
    uint32_t batch;    /* ring: cells published at once */
    uint32_t sleep_ms; /* futex: pause before each round trip */
    uint32_t connections, depth; /* echo: messages in flight on each; others: depth alone */
    bool is_unix;                /* echo: a unix stream socket instead of TCP */
    bool is_cold;                /* copy: memory that no cache holds */
    bool is_quick;
};

struct knit_floor_figure {
    double typical_ns; /* of one operation, with the way back if it has one */
    double p99_ns;     /* 0: not known */
    double per_second;
    double cpu_ns; /* of all cores, both sides, for one operation; 0: not known */
};

/* A cell written, read by the other side: one way, as fast as both can. */
int knit_floor_ring(const struct knit_floor_setting *setting, struct knit_floor_figure *ret);

/* memcpy. */
int knit_floor_copy(const struct knit_floor_setting *setting, struct knit_floor_figure *ret);

/* Wake a process that sleeps on a futex, and be woken by it. */
int knit_floor_futex(const struct knit_floor_setting *setting, struct knit_floor_figure *ret);

/* Bytes to a server that sends them back; epoll on both sides, contents are not read. */
int knit_floor_echo(const struct knit_floor_setting *setting, struct knit_floor_figure *ret);

/* Bytes to a forked worker and back through two pipes, and to a thread with a queue and a mutex:
 * what is written by hand. typical_ns is a message's share of a batch of `depth`. */
int knit_floor_pipe(const struct knit_floor_setting *setting, struct knit_floor_figure *ret);
int knit_floor_threads(const struct knit_floor_setting *setting, struct knit_floor_figure *ret);

/* Bytes to another process and back through shared memory, both spinning. typical_ns is a message's
 * share of a turn, in which `depth` of them are in flight. */
int knit_floor_memory(const struct knit_floor_setting *setting, struct knit_floor_figure *ret);
