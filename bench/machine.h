/* SPDX-License-Identifier: Apache-2.0 */
/* Where a measurement runs: its cores, and the name of the machine for the report. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The cores this process may run on, at most max of them; returns how many. */
uint32_t knit_machine_cpus(int *cpus, uint32_t max);

/* Two cores for two sides; the same twice if there is only one. */
void knit_machine_pair(int *ret_first, int *ret_second);

/* Bind the calling thread to one core. False when the system refuses; then it is not bound. */
bool knit_machine_pin(int cpu);

/* Let it run on any of these. */
bool knit_machine_pin_to(const int *cpus, uint32_t count);

/* "AMD EPYC, 2 cores, Linux 6.18.5, gcc 12.2.0, 2026-11-23", for the head of a report. Static text.
 */
const char *knit_machine_describe(void);
