/* SPDX-License-Identifier: Apache-2.0 */
/* ptrace: single steps, and int3 where single steps would take too long.
 *
 * A call out of own code is known by where the step arrived. At the first instruction of a function
 * the return address lies on top of the stack, so a breakpoint there ends the call, however it goes
 * on: through the loader, by tail calls, into the kernel.
 *
 * Stops are fetched with WSTOPPED only, and the end of the process is read without reaping it
 * (WNOWAIT): its parent may be a pool that reaps it.
 */
#include "tests/stress/stepper.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/deadline.h"

#define PATIENCE_MS 30000

#ifdef __x86_64__

#define INT3 0xccul

bool stepper_is_possible(void)
{
    siginfo_t info;
    pid_t child = fork();
    bool can;

    assert_true(child >= 0);
    if (child == 0) {
        for (;;)
            (void)pause();
    }
    can = ptrace(PTRACE_SEIZE, child, NULL, NULL) == 0;
    (void)kill(child, SIGKILL);
    (void)waitid(P_PID, (id_t)child, &info, WEXITED);
    return can;
}

/* ---- registers and memory ---- */

static struct user_regs_struct get_registers(const struct stepper *stepper)
{
    struct user_regs_struct registers = {0};

    (void)ptrace(PTRACE_GETREGS, stepper->pid, NULL, &registers);
    return registers;
}

static uint64_t peek(const struct stepper *stepper, uint64_t address)
{
    return (uint64_t)ptrace(PTRACE_PEEKTEXT, stepper->pid, (void *)address, NULL);
}

static void poke(const struct stepper *stepper, uint64_t address, uint64_t word)
{
    (void)ptrace(PTRACE_POKETEXT, stepper->pid, (void *)address, (void *)word);
}

static bool is_own(const struct stepper *stepper, uint64_t address, uint32_t *ret_file)
{
    for (uint32_t i = 0; i < STEPPER_FILES_MAX; i++) {
        if (address >= stepper->own[i].begin && address < stepper->own[i].end) {
            *ret_file = i;
            return true;
        }
    }
    return false;
}

/* By its path, or as a copy of it in memory is named. */
static void find_own(struct stepper *stepper, uint32_t index, const char *file)
{
    char path[64], copy[300], line[4400];
    FILE *maps;

    (void)snprintf(copy, sizeof(copy), "/memfd:%s (deleted)", strrchr(file, '/') + 1);
    (void)snprintf(path, sizeof(path), "/proc/%d/maps", stepper->pid);
    maps = fopen(path, "re");
    while (maps != NULL && fgets(line, sizeof(line), maps) != NULL) {
        unsigned long long begin, end;
        char access[8];
        int at = 0;

        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, "%llx-%llx %7s %*s %*s %*s %n", &begin, &end, access, &at) == 3 &&
            at != 0 && access[2] == 'x' &&
            (strcmp(line + at, file) == 0 || strcmp(line + at, copy) == 0)) {
            stepper->own[index].begin = begin;
            stepper->own[index].end = end;
        }
    }
    if (maps != NULL)
        (void)fclose(maps);
}

/* ---- stops ---- */

/* A stop of the process: its signal, or 0 for none yet, or -1: it has ended. */
static int fetch_stop(const struct stepper *stepper, int options)
{
    siginfo_t info = {0};

    if (waitid(P_PID, (id_t)stepper->pid, &info, WSTOPPED | WEXITED | WNOWAIT | options) != 0)
        return -1;
    if (info.si_pid == 0)
        return 0;
    if (info.si_code == CLD_EXITED || info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED)
        return -1;
    (void)waitid(P_PID, (id_t)stepper->pid, &info, WSTOPPED | WNOHANG);
    return info.si_status;
}

/* Lets it run, in the given manner, until it stops for us. */
static enum stepper_end run(struct stepper *stepper, int request)
{
    uint64_t until_ns = knit_deadline_in_ms(PATIENCE_MS);
    int passed_on = 0;

    for (;;) {
        int stop;

        if (ptrace(request, stepper->pid, NULL, (void *)(uintptr_t)passed_on) != 0)
            return STEPPER_ENDED;
        do {
            bool waits = request == PTRACE_SINGLESTEP || stepper->while_running == NULL;

            stop = fetch_stop(stepper, waits ? 0 : WNOHANG);
            if (stop == 0) {
                if (stepper->while_running(stepper->arg))
                    return STEPPER_ASLEEP;
                assert_true(knit_deadline_now_ns() < until_ns);
                (void)sched_yield();
            }
        } while (stop == 0);
        if (stop < 0)
            return STEPPER_ENDED;
        if ((stop & 0xff) == SIGTRAP)
            return STEPPER_HERE;
        passed_on = stop & 0xff;
    }
}

/* Runs to an address. The byte that is there is put back. */
static enum stepper_end run_until(struct stepper *stepper, uint64_t address)
{
    uint64_t word = peek(stepper, address);
    struct user_regs_struct registers;
    enum stepper_end end;

    poke(stepper, address, (word & ~0xfful) | INT3);
    end = run(stepper, PTRACE_CONT);
    if (end != STEPPER_HERE)
        return end;
    registers = get_registers(stepper);
    assert_int_equal(registers.rip, address + 1);
    registers.rip = address;
    (void)ptrace(PTRACE_SETREGS, stepper->pid, NULL, &registers);
    poke(stepper, address, word);
    return STEPPER_HERE;
}

/* ---- outside ---- */

bool stepper_seize(struct stepper *stepper, pid_t pid, const char *const *files)
{
    stepper->pid = pid;
    stepper->resume_at = 0;
    memset(stepper->own, 0, sizeof(stepper->own));
    for (uint32_t i = 0; i < STEPPER_FILES_MAX && files[i] != NULL; i++) {
        find_own(stepper, i, files[i]);
        if (stepper->own[i].begin == 0)
            return false;
    }
    return ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0;
}

enum stepper_end stepper_wait(struct stepper *stepper)
{
    int stop;

    do {
        stop = fetch_stop(stepper, 0);
        if (stop > 0 && (stop & 0xff) != SIGTRAP)
            (void)ptrace(PTRACE_CONT, stepper->pid, NULL, (void *)(uintptr_t)(stop & 0xff));
    } while (stop > 0 && (stop & 0xff) != SIGTRAP);
    return stop < 0 ? STEPPER_ENDED : STEPPER_HERE;
}

bool stepper_interrupt(struct stepper *stepper)
{
    struct user_regs_struct registers;
    uint32_t file;

    if (ptrace(PTRACE_INTERRUPT, stepper->pid, NULL, NULL) != 0 ||
        stepper_wait(stepper) != STEPPER_HERE)
        return false;
    registers = get_registers(stepper);
    stepper->resume_at = peek(stepper, registers.rsp);
    if (!is_own(stepper, registers.rip, &file) && is_own(stepper, stepper->resume_at, &file))
        return true;
    stepper->resume_at = 0;
    return false;
}

enum stepper_end stepper_go_on(struct stepper *stepper)
{
    return run_until(stepper, stepper->resume_at);
}

enum stepper_end stepper_step(struct stepper *stepper)
{
    enum stepper_end end = run(stepper, PTRACE_SINGLESTEP);
    struct user_regs_struct registers;
    uint64_t back;
    uint32_t file;

    if (end != STEPPER_HERE)
        return end;
    registers = get_registers(stepper);
    if (is_own(stepper, registers.rip, &file))
        return STEPPER_HERE;
    back = peek(stepper, registers.rsp);
    /* Nothing of ours below: the program returns for good. */
    if (!is_own(stepper, back, &file))
        return run(stepper, PTRACE_CONT);
    return run_until(stepper, back);
}

bool stepper_place(const struct stepper *stepper, struct stepper_place *ret_place)
{
    struct user_regs_struct registers = get_registers(stepper);

    if (!is_own(stepper, registers.rip, &ret_place->file))
        return false;
    ret_place->offset = registers.rip - stepper->own[ret_place->file].begin;
    return true;
}

enum stepper_end stepper_run_to(
    struct stepper *stepper, const struct stepper_place *place, uint32_t visit)
{
    const uint64_t address = stepper->own[place->file].begin + place->offset;
    enum stepper_end end = STEPPER_HERE;

    if (get_registers(stepper).rip == address)
        visit--;
    while (visit > 0 && end == STEPPER_HERE) {
        /* Off the address first, where the breakpoint goes. */
        if (get_registers(stepper).rip == address)
            end = run(stepper, PTRACE_SINGLESTEP);
        if (end == STEPPER_HERE && get_registers(stepper).rip != address)
            end = run_until(stepper, address);
        visit--;
    }
    return end;
}

void stepper_kill(struct stepper *stepper)
{
    siginfo_t info;

    (void)kill(stepper->pid, SIGKILL);
    /* A stop that was not fetched is gone with it. */
    while (waitid(P_PID, (id_t)stepper->pid, &info, WEXITED | WNOWAIT) != 0 && errno == EINTR)
        ;
}

#else

bool stepper_is_possible(void)
{
    return false;
}

bool stepper_seize(struct stepper *stepper, pid_t pid, const char *const *files)
{
    (void)stepper, (void)pid, (void)files;
    return false;
}

enum stepper_end stepper_wait(struct stepper *stepper)
{
    (void)stepper;
    return STEPPER_ENDED;
}

bool stepper_interrupt(struct stepper *stepper)
{
    (void)stepper;
    return false;
}

enum stepper_end stepper_go_on(struct stepper *stepper)
{
    (void)stepper;
    return STEPPER_ENDED;
}

enum stepper_end stepper_step(struct stepper *stepper)
{
    (void)stepper;
    return STEPPER_ENDED;
}

bool stepper_place(const struct stepper *stepper, struct stepper_place *ret_place)
{
    (void)stepper, (void)ret_place;
    return false;
}

enum stepper_end stepper_run_to(
    struct stepper *stepper, const struct stepper_place *place, uint32_t visit)
{
    (void)stepper, (void)place, (void)visit;
    return STEPPER_ENDED;
}

void stepper_kill(struct stepper *stepper)
{
    (void)stepper;
}

#endif
