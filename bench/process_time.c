/* SPDX-License-Identifier: Apache-2.0 */
/* Every process has a clock that counts its time on all cores; its number is made of the pid. */
#include "bench/process_time.h"

#include <time.h>

uint64_t knit_process_time_ns(pid_t pid)
{
    struct timespec time;
    clockid_t clock;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0)
        return 0;
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t knit_process_times_ns(const pid_t *pids, uint32_t count)
{
    uint64_t sum = knit_process_time_ns(0);
    for (uint32_t i = 0; i < count; i++)
        sum += knit_process_time_ns(pids[i]);
    return sum;
}
