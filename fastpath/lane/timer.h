/* SPDX-License-Identifier: Apache-2.0 */
/* Timers on the clock of the lanes (bell.h), as descriptors to be polled: of a pool, of an event
 * loop, of a client.
 *
 * Threads: any; one uses a timer at a time. Nothing blocks: reading an expired timer clears it.
 */
#pragma once

#include <stdint.h>
#include <sys/timerfd.h>
#include <time.h>

/* A timer that is not armed; -1 and errno when it cannot be made. */
static inline int knit_timer_open(void)
{
    return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
}

/* Readable from at_ns on; at once if that has passed. 0 disarms. */
static inline void knit_timer_arm(int fd, uint64_t at_ns)
{
    const struct itimerspec when = {.it_value = {.tv_sec = (time_t)(at_ns / 1000000000u),
                                        .tv_nsec = (long)(at_ns % 1000000000u)}};

    (void)timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL);
}
