/* SPDX-License-Identifier: Apache-2.0 */
/* Processor time of processes, to the nanosecond. getrusage() and /proc/PID/stat count in ticks of
 * ten milliseconds, more than an idle daemon uses in a minute.
 *
 * Threads: any.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* User and system time of all threads of that process, dead ones included; 0 = the calling one. A
 * process that does not exist has 0. */
uint64_t knit_process_time_ns(pid_t pid);

/* All of these, and the calling process. */
uint64_t knit_process_times_ns(const pid_t *pids, uint32_t count);
