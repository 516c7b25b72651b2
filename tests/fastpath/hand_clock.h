/* SPDX-License-Identifier: Apache-2.0 */
/* A monotonic clock that goes on by looks at it, for tests that drive a worker by hand: what a
 * worker makes of time (how long a call has stood, what a session is charged) is the same at each
 * run, though the machine stands still between two of its steps.
 *
 * It is linked with --wrap=clock_gettime and is the machine's own until a test starts it. Threads
 * and sleeps have no part in it.
 */
#pragma once

#include <stdint.h>

#define HAND_CLOCK_LOOK_NS 250u /* what passes by one look */

void hand_clock_start(void);
void hand_clock_stop(void);

/* Time passes at once. */
void hand_clock_pass(uint64_t ns);
