/* SPDX-License-Identifier: Apache-2.0 */
/* Parties of the lane protocol on one thread, each of which can be stalled before any of its atomic
 * accesses while the others go on: an order that threads reach by chance happens here every time.
 *
 * A test counts through the accesses of one act, as world_play() of steps_world.h does:
 *
 *     do {
 *         ... begin anew ...
 *         steps_stall(at, the_others, world);
 *         (void)steps_as(0, an_act, world);
 *         (void)steps_as(1, the_others, world);   // they act at the end too
 *         ... check ...
 *     } while (steps_was_stalled() && at++ < LIMIT);
 *
 * A sleep on a futex ends an act at that place: the party counts as asleep until another one wakes
 * one of the words that it sleeps on. Nothing here takes time.
 *
 * With steps_be_lazy() stores become visible to others as late as x86 allows: at the party's next
 * fence, locked operation or system call, or when its act is over. A fence that is missing between
 * a store and a load shows that way; other orders than a compiler's and x86's do not.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STEPS_PARTIES = 4 };

typedef void steps_act(void *arg);

/* Forgets everything but whether there was a stall. on_step, if any, is called before every access
 * of every party. */
void steps_init(steps_act *on_step, void *arg);
void steps_be_lazy(bool lazy);

/* Before its access number `at`, counted from 0, the party whose act begins next is stalled, and
 * `meanwhile` is called. The last place to be stalled at is asleep, or at the act's end while its
 * last stores are still in the store buffer. */
void steps_stall(uint64_t at, steps_act *meanwhile, void *arg);
/* From within `meanwhile`: stall the same party once more, `more` accesses later. */
void steps_stall_again(uint64_t more, steps_act *meanwhile, void *arg);
bool steps_was_stalled(void);

/* Runs the act as that party. False: it fell asleep in it. */
bool steps_as(unsigned party, steps_act *act, void *arg);
bool steps_is_asleep(unsigned party);

/* Wakes of a word that has not changed since the wake before: a party that is about to sleep on it
 * sleeps, and is not woken any more. */
uint32_t steps_vain_wakes(void);

/* What stepped.h calls: before each access; for a load, which the party's own store buffer may
 * answer; for a store, which may stay there; and for an operation that empties the buffer. */
void steps_pass(void);
bool steps_forward(const void *at, void *ret_value, size_t size);
bool steps_buffer(void *at, const void *value, size_t size);
void steps_drain(void);
long steps_syscall(long number, ...);
