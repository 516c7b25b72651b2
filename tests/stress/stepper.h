/* SPDX-License-Identifier: Apache-2.0 */
/* Steps another process through its own code, one instruction at a time, or runs it to the n-th
 * visit of one instruction.
 *
 * Own code is that of the given files; every call out of them (the C library, the loader) runs to
 * its return at full speed. So a step is always an instruction of the project, and what the kernel
 * or the C library do in between is one step with the call.
 *
 * A struct stepper_place says where a process is: which file, and the offset in it, so that a place
 * of one process can be found in another run of the program.
 *
 * The process is a child of this one. The code that started it reaps it; the stepper does not.
 * Threads: all calls for one process come from one thread, its tracer. Only its main thread is
 * traced.
 * Limits: x86-64. Elsewhere stepper_is_possible() says no.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define STEPPER_FILES_MAX 2u

enum stepper_end {
    STEPPER_HERE,   /* it is stopped, and step() or place() may follow */
    STEPPER_ENDED,  /* it is dead, or will be; to be reaped by its parent */
    STEPPER_ASLEEP, /* it runs, and stepper.may_stop said that there is nothing more to wait for */
};

struct stepper_place {
    uint32_t file;
    uint64_t offset;
};

struct stepper {
    pid_t pid;
    struct {
        uint64_t begin, end;
    } own[STEPPER_FILES_MAX];
    /* Called repeatedly while the process runs, if not NULL: work that must go on meanwhile. True:
     * stop waiting. */
    bool (*while_running)(void *arg);
    void *arg;
    uint64_t resume_at; /* return address of the call that it is in, or 0 */
};

bool stepper_is_possible(void);

/* From now on the process is traced; it goes on running. files: NULL-ended paths of its own code,
 * which it has mapped. False: the process is gone. */
bool stepper_seize(struct stepper *stepper, pid_t pid, const char *const *files);

/* Waits until it stops by itself, at a stepper_mark(). */
enum stepper_end stepper_wait(struct stepper *stepper);

/* Interrupts it in a system call that own code made through the C library, and lets it run to the
 * return from there. `meanwhile`: called before it goes on. False: it was not in such a call. */
bool stepper_interrupt(struct stepper *stepper);
enum stepper_end stepper_go_on(struct stepper *stepper);

/* One instruction of own code, and calls out of it to their end. */
enum stepper_end stepper_step(struct stepper *stepper);

/* Where it stands. False: not in own code, it is about to end. */
bool stepper_place(const struct stepper *stepper, struct stepper_place *ret_place);

/* Runs until it stands at the place for the n-th time, beginning with 1; where it stands now
 * counts. */
enum stepper_end stepper_run_to(
    struct stepper *stepper, const struct stepper_place *place, uint32_t visit);

/* After this the process executes nothing more. It still has to be reaped. */
void stepper_kill(struct stepper *stepper);

/* In the traced program: stop here. */
static inline void stepper_mark(void)
{
#ifdef __x86_64__
    __asm__ volatile("int3" ::: "memory");
#endif
}
