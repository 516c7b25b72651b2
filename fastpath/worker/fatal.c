/* SPDX-License-Identifier: Apache-2.0 */
/* With SA_RESETHAND the signal's disposition is the default one when the handler runs, and with
 * SA_NODEFER it is not blocked. So a handler that returns to a faulty instruction dies there, with
 * the registers of the fault in the core dump, and one that raises the signal dies in that call. */
#include "fastpath/worker/fatal.h"

#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

/* __builtin_trap() is SIGILL or SIGTRAP, as the processor has it. */
static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};
enum { FATAL = sizeof(fatal) / sizeof(fatal[0]) };

static struct {
    struct knit_note_line *line;
    const struct knit_busy_line *busy;
    uint32_t owner;
    pid_t pid;
} place;

static _Thread_local uint32_t thread_task = KNIT_FATAL_ANY_TASK;

static void on_fatal(int number, siginfo_t *info, void *context);

static const struct sigaction noting = {
    .sa_sigaction = on_fatal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND | SA_NODEFER};

/* The kernel lets no process send a code above 0 to another one. */
static bool is_fault(const siginfo_t *info)
{
    return info->si_code > 0;
}

/* By kill(), raise() or abort(): the codes with which a sender cannot give another's number. */
static bool is_own_sending(const siginfo_t *info)
{
    return (info->si_code == SI_USER || info->si_code == SI_TKILL) && info->si_pid == place.pid;
}

/* Whether the instruction that returning leads to raises the signal again. */
static bool is_repeated(int number, const siginfo_t *info)
{
    return is_fault(info) && (number == SIGSEGV || number == SIGILL || number == SIGFPE ||
                                 (number == SIGBUS && info->si_code != BUS_MCEERR_AO));
}

static uint32_t running_task(void)
{
    /* relaxed: the thread that runs tasks has written it, before it began this one. */
    return atomic_load_explicit(&place.busy->task, memory_order_relaxed);
}

static void on_fatal(int number, siginfo_t *info, void *context)
{
    (void)context;
    /* A child that a task forked has the handler, and is no worker. */
    if (getpid() == place.pid && (is_fault(info) || is_own_sending(info)) &&
        (thread_task == KNIT_FATAL_ANY_TASK || thread_task == running_task())) {
        struct knit_note note = {.signal = number, .code = info->si_code};

        if (is_fault(info))
            note.address = (uint64_t)(uintptr_t)info->si_addr;
        knit_note_write(place.line, place.owner, &note);
    }
    if (!is_repeated(number, info))
        (void)raise(number);
}

void knit_fatal_begin(
    struct knit_note_line *line, const struct knit_busy_line *busy, uint32_t owner)
{
    static _Alignas(16) unsigned char room[64 << 10];
    const stack_t stack = {.ss_sp = room, .ss_size = sizeof(room)};

    place.line = line;
    place.busy = busy;
    place.owner = owner;
    place.pid = getpid();
    (void)sigaltstack(&stack, NULL);
    for (int i = 0; i < FATAL; i++) {
        struct sigaction now;

        if (sigaction(fatal[i], NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) == 0 &&
            now.sa_handler == SIG_DFL)
            (void)sigaction(fatal[i], &noting, NULL);
    }
}

const struct sigaction *knit_fatal_default(int number)
{
    for (int i = 0; i < FATAL && place.pid == getpid(); i++) {
        if (fatal[i] == number)
            return &noting;
    }
    return NULL;
}

int knit_fatal_is_handler(const struct sigaction *action)
{
    return (action->sa_flags & SA_SIGINFO) != 0 && action->sa_sigaction == on_fatal;
}

void knit_fatal_unblock(sigset_t *set)
{
    for (int i = 0; i < FATAL; i++)
        (void)sigdelset(set, fatal[i]);
}

uint32_t knit_fatal_task(void)
{
    return thread_task == KNIT_FATAL_ANY_TASK ? running_task() : thread_task;
}

void knit_fatal_set_task(uint32_t task)
{
    thread_task = task;
}
