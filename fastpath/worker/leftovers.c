/* SPDX-License-Identifier: Apache-2.0 */
/* The loader looks for a module's symbols in the program first, then in the C library; so a
 * function that this program exports stands before that of the C library for all modules. The
 * linker exports those names that a shared library on its line has too; these are the only ones (a
 * test looks). The functions are called by modules' constructors already, and from handlers of
 * signals; so those that a handler may call allocate and lock nothing, and the C library's
 * functions are looked up before main(). */
#undef _FILE_OFFSET_BITS /* setrlimit() and setrlimit64() are both defined here */
#include "fastpath/worker/leftovers.h"

#include "fastpath/worker/fatal.h"

#ifdef KNIT_LEFTOVERS

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <locale.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define EXPORTED   __attribute__((visibility("default")))
#define TIMERS_MAX 64u

enum {
    TIMERS = 1,
    MASK = 2,
    ACTIONS = 4,
    LOCALE = 8,
    FOLDER = 16,
    AFFINITY = 32,
    UMASK = 64,
    LIMITS = 128
};

/* Relaxed accesses everywhere: what another thread of a module changes at this moment is undone
 * after this call or the next one. */
static _Atomic uint32_t touched;

/* What the worker relies on: that these end it, or do not. */
static const int relied[] = {SIGHUP, SIGINT, SIGTERM, SIGPIPE, SIGSEGV, SIGBUS, SIGILL, SIGFPE,
    SIGABRT, SIGSYS, SIGTRAP, SIGXFSZ, SIGUSR1, SIGUSR2};
enum { RELIED = sizeof(relied) / sizeof(relied[0]), ITIMERS = 3 };

static struct {
    bool is_serving;
    pid_t thread;
    sigset_t mask;
    struct sigaction actions[RELIED];
    stack_t stack;              /* on which handlers of signals run */
    bool is_running[ITIMERS];   /* a hook's own timer stays */
    timer_t timers[TIMERS_MAX]; /* made by tasks */
    uint32_t timers_count;
    char *locale;
    locale_t thread_locale;
    char folder[PATH_MAX];
    cpu_set_t processors;
    mode_t umask;
    struct rlimit limits[RLIM_NLIMITS];
} before;

static void note(uint32_t what)
{
    atomic_fetch_or_explicit(&touched, what, memory_order_relaxed);
}

/* True for the thread that runs tasks, and for nothing that it forked. */
static bool is_tasks_thread(void)
{
    return before.is_serving && gettid() == before.thread;
}

/* ---- the C library's functions ---- */

/* Declared for programs of an old standard alone, which import it. */
sighandler_t bsd_signal(int number, sighandler_t handler);

#define FUNCTIONS(X)                                                                               \
    X(alarm)                                                                                       \
    X(ualarm)                                                                                      \
    X(setitimer)                                                                                   \
    X(timer_create)                                                                                \
    X(timer_delete)                                                                                \
    X(sigprocmask)                                                                                 \
    X(pthread_sigmask)                                                                             \
    X(sigaction)                                                                                   \
    X(signal)                                                                                      \
    X(sigset)                                                                                      \
    X(sighold)                                                                                     \
    X(sigrelse)                                                                                    \
    X(sigignore)                                                                                   \
    X(sysv_signal)                                                                                 \
    X(__sysv_signal)                                                                               \
    X(bsd_signal)                                                                                  \
    X(ssignal)                                                                                     \
    X(sigblock)                                                                                    \
    X(sigsetmask)                                                                                  \
    X(sigaltstack)                                                                                 \
    X(pthread_create)                                                                              \
    X(thrd_create)                                                                                 \
    X(setlocale)                                                                                   \
    X(uselocale)                                                                                   \
    X(chdir)                                                                                       \
    X(fchdir)                                                                                      \
    X(umask)                                                                                       \
    X(setrlimit)                                                                                   \
    X(setrlimit64)                                                                                 \
    X(prlimit)                                                                                     \
    X(prlimit64)                                                                                   \
    X(sched_setaffinity)                                                                           \
    X(pthread_setaffinity_np)                                                                      \
    X(nice)                                                                                        \
    X(setpriority)                                                                                 \
    X(sched_setscheduler)                                                                          \
    X(sched_setparam)                                                                              \
    X(pthread_setschedparam)                                                                       \
    X(pthread_setschedprio)

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* of the System V signals */

#define POINTER(name) __typeof__(name) *name;
static struct {
    FUNCTIONS(POINTER)
} system_has;

static void find(const char *name, void *ret_function)
{
    void *symbol = dlsym(RTLD_NEXT, name);

    if (symbol == NULL) {
        static const char text[] = "knitting-worker: the C library lacks ";

        (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
        (void)!write(STDERR_FILENO, name, strlen(name));
        _exit(EXIT_FAILURE);
    }
    memcpy(ret_function, &symbol, sizeof(symbol));
}

#define FIND(name) find(#name, &system_has.name);
__attribute__((constructor)) static void find_all(void)
{
    FUNCTIONS(FIND)
}

#pragma GCC diagnostic pop

/* ---- timers ---- */

EXPORTED unsigned alarm(unsigned seconds)
{
    note(TIMERS);
    return system_has.alarm(seconds);
}

EXPORTED useconds_t ualarm(useconds_t value, useconds_t interval)
{
    note(TIMERS);
    return system_has.ualarm(value, interval);
}

EXPORTED int setitimer(
    __itimer_which_t which, const struct itimerval *value, struct itimerval *ret_old)
{
    note(TIMERS);
    return system_has.setitimer(which, value, ret_old);
}

EXPORTED int timer_create(clockid_t clock, struct sigevent *event, timer_t *ret_timer)
{
    bool is_tasks = is_tasks_thread();
    int error;

    if (is_tasks && before.timers_count == TIMERS_MAX) {
        errno = EAGAIN;
        return -1;
    }
    error = system_has.timer_create(clock, event, ret_timer);
    if (error == 0 && is_tasks) {
        before.timers[before.timers_count++] = *ret_timer;
        note(TIMERS);
    }
    return error;
}

EXPORTED int timer_delete(timer_t timer)
{
    if (is_tasks_thread()) {
        for (uint32_t i = 0; i < before.timers_count; i++) {
            if (before.timers[i] == timer)
                before.timers[i--] = before.timers[--before.timers_count];
        }
    }
    return system_has.timer_delete(timer);
}

static void undo_timers(void)
{
    static const int signals[] = {SIGALRM, SIGVTALRM, SIGPROF};
    const struct itimerval none = {{0, 0}, {0, 0}};
    const struct timespec at_once = {0, 0};
    sigset_t left;

    (void)sigemptyset(&left);
    for (int i = 0; i < ITIMERS; i++) {
        if (before.is_running[i])
            continue;
        (void)system_has.setitimer((__itimer_which_t)i, &none, NULL);
        (void)sigaddset(&left, signals[i]);
    }
    while (before.timers_count > 0)
        (void)system_has.timer_delete(before.timers[--before.timers_count]);
    /* One that is pending, because the task blocked it, would end the worker with the mask. */
    while (sigtimedwait(&left, NULL, &at_once) > 0)
        ;
}

/* ---- signals ---- */

/* The set without the signals by which a fault is noted: blocking them does not keep a fault from
 * ending the process. */
static const sigset_t *noting_mask(const sigset_t *set, int how, sigset_t *room)
{
    if (set == NULL || how == SIG_UNBLOCK)
        return set;
    *room = *set;
    knit_fatal_unblock(room);
    return room;
}

EXPORTED int sigprocmask(int how, const sigset_t *set, sigset_t *ret_old)
{
    sigset_t room;

    if (set != NULL)
        note(MASK);
    return system_has.sigprocmask(how, noting_mask(set, how, &room), ret_old);
}

EXPORTED int pthread_sigmask(int how, const sigset_t *set, sigset_t *ret_old)
{
    sigset_t room;

    if (set != NULL)
        note(MASK);
    return system_has.pthread_sigmask(how, noting_mask(set, how, &room), ret_old);
}

EXPORTED int sigaction(int number, const struct sigaction *action, struct sigaction *ret_old)
{
    const struct sigaction *noting = NULL;
    int error;

    if (action != NULL)
        note(ACTIONS | MASK);
    if (action != NULL && (action->sa_flags & SA_SIGINFO) == 0 && action->sa_handler == SIG_DFL)
        noting = knit_fatal_default(number);
    error = system_has.sigaction(number, noting != NULL ? noting : action, ret_old);
    if (error == 0 && ret_old != NULL && knit_fatal_is_handler(ret_old))
        *ret_old = (struct sigaction){.sa_handler = SIG_DFL};
    return error;
}

EXPORTED sighandler_t signal(int number, sighandler_t handler)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;

    /* As the C library does it; by the function above, for what is noted of fatal signals. */
    (void)sigemptyset(&action.sa_mask);
    (void)sigaddset(&action.sa_mask, number);
    return sigaction(number, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

EXPORTED sighandler_t bsd_signal(int number, sighandler_t handler)
{
    return signal(number, handler);
}

EXPORTED sighandler_t ssignal(int number, sighandler_t handler)
{
    return signal(number, handler);
}

/* What signal() is in programs that ask for an old standard alone. */
EXPORTED sighandler_t __sysv_signal(int number, sighandler_t handler)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = (int)SA_RESETHAND | SA_NODEFER},
                     old;

    (void)sigemptyset(&action.sa_mask);
    return sigaction(number, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

EXPORTED sighandler_t sysv_signal(int number, sighandler_t handler)
{
    return __sysv_signal(number, handler);
}

/* BSD's masks have the first 32 signals. Returns the one before. */
static int change_old_mask(int how, int mask)
{
    sigset_t set, old;
    unsigned before_it = 0;

    (void)sigemptyset(&set);
    (void)sigemptyset(&old);
    for (int number = 1; number <= 32; number++) {
        if (((unsigned)mask >> (number - 1) & 1) != 0)
            (void)sigaddset(&set, number);
    }
    (void)sigprocmask(how, &set, &old);
    for (int number = 1; number <= 32; number++)
        before_it |= (unsigned)(sigismember(&old, number) == 1) << (number - 1);
    return (int)before_it;
}

EXPORTED int sigblock(int mask)
{
    return change_old_mask(SIG_BLOCK, mask);
}

EXPORTED int sigsetmask(int mask)
{
    return change_old_mask(SIG_SETMASK, mask);
}

EXPORTED sighandler_t sigset(int number, sighandler_t handler)
{
    note(ACTIONS | MASK);
    return system_has.sigset(number, handler);
}

EXPORTED int sighold(int number)
{
    note(MASK);
    return system_has.sighold(number);
}

EXPORTED int sigrelse(int number)
{
    note(MASK);
    return system_has.sigrelse(number);
}

EXPORTED int sigignore(int number)
{
    note(ACTIONS);
    return system_has.sigignore(number);
}

EXPORTED int sigaltstack(const stack_t *stack, stack_t *ret_old)
{
    if (stack != NULL)
        note(ACTIONS);
    return system_has.sigaltstack(stack, ret_old);
}

static void undo_actions(void)
{
    (void)system_has.sigaltstack(&before.stack, NULL);
    for (int i = 0; i < RELIED; i++)
        (void)system_has.sigaction(relied[i], &before.actions[i], NULL);
}

/* ---- threads ---- */

struct birth {
    void *(*run)(void *arg);
    thrd_start_t run_c11;
    void *arg;
    uint32_t task;
};

/* In the new thread. */
static struct birth take_birth(void *arg)
{
    struct birth birth = *(struct birth *)arg;

    free(arg);
    knit_fatal_set_task(birth.task);
    return birth;
}

static void *begin_thread(void *arg)
{
    struct birth birth = take_birth(arg);

    return birth.run(birth.arg);
}

static int begin_c11_thread(void *arg)
{
    struct birth birth = take_birth(arg);

    return birth.run_c11(birth.arg);
}

/* So that what the thread does is not another task's fault if it stays. */
EXPORTED int pthread_create(
    pthread_t *ret_thread, const pthread_attr_t *attributes, void *(*run)(void *), void *arg)
{
    struct birth *birth;
    int error;

    if (!before.is_serving)
        return system_has.pthread_create(ret_thread, attributes, run, arg);
    birth = malloc(sizeof(*birth));
    if (birth == NULL)
        return EAGAIN;
    *birth = (struct birth){.run = run, .arg = arg, .task = knit_fatal_task()};
    error = system_has.pthread_create(ret_thread, attributes, begin_thread, birth);
    if (error != 0)
        free(birth);
    return error;
}

EXPORTED int thrd_create(thrd_t *ret_thread, thrd_start_t run, void *arg)
{
    struct birth *birth;
    int error;

    if (!before.is_serving)
        return system_has.thrd_create(ret_thread, run, arg);
    birth = malloc(sizeof(*birth));
    if (birth == NULL)
        return thrd_nomem;
    *birth = (struct birth){.run_c11 = run, .arg = arg, .task = knit_fatal_task()};
    error = system_has.thrd_create(ret_thread, begin_c11_thread, birth);
    if (error != thrd_success)
        free(birth);
    return error;
}

/* ---- locale, folder, umask, affinity ---- */

EXPORTED char *setlocale(int category, const char *locale)
{
    if (locale != NULL)
        note(LOCALE);
    return system_has.setlocale(category, locale);
}

EXPORTED locale_t uselocale(locale_t locale)
{
    if (locale != (locale_t)0)
        note(LOCALE);
    return system_has.uselocale(locale);
}

EXPORTED int chdir(const char *path)
{
    note(FOLDER);
    return system_has.chdir(path);
}

EXPORTED int fchdir(int fd)
{
    note(FOLDER);
    return system_has.fchdir(fd);
}

EXPORTED mode_t umask(mode_t mask)
{
    note(UMASK);
    return system_has.umask(mask);
}

EXPORTED int sched_setaffinity(pid_t thread, size_t size, const cpu_set_t *processors)
{
    note(AFFINITY);
    return system_has.sched_setaffinity(thread, size, processors);
}

EXPORTED int pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *processors)
{
    note(AFFINITY);
    return system_has.pthread_setaffinity_np(thread, size, processors);
}

static void undo_folder(void)
{
    /* It may have gone. Then there is one that is the same for each task to come. */
    if (before.folder[0] == '\0' || system_has.chdir(before.folder) != 0)
        (void)!system_has.chdir("/");
}

static int refuse(void)
{
    errno = EPERM;
    return -1;
}

/* ---- limits ---- */

/* The most that a process may allow itself cannot be made less: without privileges it could not be
 * put back. */
static bool may_limit(pid_t process, __rlimit_resource_t resource, const struct rlimit *limit)
{
    struct rlimit now;
    pid_t own = getpid();

    /* A process that a task forked has a number of its own. */
    if (limit == NULL || !before.is_serving || own != before.thread ||
        (process != 0 && process != own))
        return true;
    note(LIMITS);
    return getrlimit(resource, &now) != 0 || limit->rlim_max >= now.rlim_max;
}

EXPORTED int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
    return may_limit(0, resource, limit) ? system_has.setrlimit(resource, limit) : refuse();
}

EXPORTED int prlimit(
    pid_t process, __rlimit_resource_t resource, const struct rlimit *limit, struct rlimit *ret_old)
{
    return may_limit(process, resource, limit)
               ? system_has.prlimit(process, resource, limit, ret_old)
               : refuse();
}

/* The same where the two have the same structure. */
static_assert(sizeof(struct rlimit64) == sizeof(struct rlimit), "limits have 64 bits");

EXPORTED int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit)
{
    return setrlimit(resource, (const struct rlimit *)limit);
}

EXPORTED int prlimit64(pid_t process, __rlimit_resource_t resource, const struct rlimit64 *limit,
    struct rlimit64 *ret_old)
{
    return prlimit(process, resource, (const struct rlimit *)limit, (struct rlimit *)ret_old);
}

static void undo_limits(void)
{
    for (int i = 0; i < RLIM_NLIMITS; i++)
        (void)system_has.setrlimit((__rlimit_resource_t)i, &before.limits[i]);
}

/* ---- priority ---- */

/* Whether a number of a thread names the one that runs tasks. */
static bool names_tasks_thread(pid_t thread)
{
    return thread == 0 ? is_tasks_thread() : before.is_serving && thread == before.thread;
}

/* Whether the thread that runs tasks would be scheduled otherwise than now. */
static bool is_change(int policy, const struct sched_param *parameters)
{
    struct sched_param now = {0};

    return policy != sched_getscheduler(0) || (parameters != NULL && sched_getparam(0, &now) == 0 &&
                                                  parameters->sched_priority != now.sched_priority);
}

EXPORTED int nice(int more)
{
    return more != 0 && is_tasks_thread() ? refuse() : system_has.nice(more);
}

EXPORTED int setpriority(__priority_which_t which, id_t who, int priority)
{
    bool is_own = which == PRIO_PGRP ? names_tasks_thread(who == 0 ? getpgrp() : (pid_t)who)
                                     : which == PRIO_PROCESS && names_tasks_thread((pid_t)who);

    return is_own && priority != getpriority(PRIO_PROCESS, 0)
               ? refuse()
               : system_has.setpriority(which, who, priority);
}

EXPORTED int sched_setscheduler(pid_t thread, int policy, const struct sched_param *parameters)
{
    return names_tasks_thread(thread) && is_change(policy, parameters)
               ? refuse()
               : system_has.sched_setscheduler(thread, policy, parameters);
}

EXPORTED int sched_setparam(pid_t thread, const struct sched_param *parameters)
{
    return names_tasks_thread(thread) && is_change(sched_getscheduler(0), parameters)
               ? refuse()
               : system_has.sched_setparam(thread, parameters);
}

EXPORTED int pthread_setschedparam(
    pthread_t thread, int policy, const struct sched_param *parameters)
{
    return is_tasks_thread() && pthread_equal(thread, pthread_self()) &&
                   is_change(policy, parameters)
               ? EPERM
               : system_has.pthread_setschedparam(thread, policy, parameters);
}

EXPORTED int pthread_setschedprio(pthread_t thread, int priority)
{
    struct sched_param parameters = {.sched_priority = priority};

    return is_tasks_thread() && pthread_equal(thread, pthread_self()) &&
                   is_change(sched_getscheduler(0), &parameters)
               ? EPERM
               : system_has.pthread_setschedprio(thread, priority);
}

/* ---- the worker's side ---- */

void knit_leftovers_begin(void)
{
    const char *locale = setlocale(LC_ALL, NULL);

    before.thread = gettid();
    (void)system_has.pthread_sigmask(SIG_SETMASK, NULL, &before.mask);
    for (int i = 0; i < RELIED; i++)
        (void)system_has.sigaction(relied[i], NULL, &before.actions[i]);
    (void)system_has.sigaltstack(NULL, &before.stack);
    for (int i = 0; i < ITIMERS; i++) {
        struct itimerval value = {0};

        (void)getitimer((__itimer_which_t)i, &value);
        before.is_running[i] = value.it_value.tv_sec != 0 || value.it_value.tv_usec != 0;
    }
    before.locale = locale != NULL ? strdup(locale) : NULL;
    before.thread_locale = system_has.uselocale((locale_t)0);
    if (getcwd(before.folder, sizeof(before.folder)) == NULL)
        before.folder[0] = '\0';
    (void)sched_getaffinity(0, sizeof(before.processors), &before.processors);
    for (int i = 0; i < RLIM_NLIMITS; i++)
        (void)getrlimit((__rlimit_resource_t)i, &before.limits[i]);
    before.umask = system_has.umask(077);
    (void)system_has.umask(before.umask);
    before.is_serving = true;
    atomic_store_explicit(&touched, 0, memory_order_relaxed);
}

const _Atomic uint32_t *knit_leftovers_touched(void)
{
    return &touched;
}

void knit_leftovers_undo(void)
{
    uint32_t what = atomic_exchange_explicit(&touched, 0, memory_order_relaxed);

    if ((what & TIMERS) != 0)
        undo_timers();
    if ((what & ACTIONS) != 0)
        undo_actions();
    if ((what & MASK) != 0)
        (void)system_has.pthread_sigmask(SIG_SETMASK, &before.mask, NULL);
    if ((what & LOCALE) != 0) {
        (void)system_has.uselocale(before.thread_locale);
        (void)system_has.setlocale(LC_ALL, before.locale != NULL ? before.locale : "C");
    }
    if ((what & FOLDER) != 0)
        undo_folder();
    if ((what & LIMITS) != 0)
        undo_limits();
    if ((what & UMASK) != 0)
        (void)system_has.umask(before.umask);
    if ((what & AFFINITY) != 0)
        (void)system_has.sched_setaffinity(0, sizeof(before.processors), &before.processors);
}

#else

static const _Atomic uint32_t touched;

void knit_leftovers_begin(void)
{
}

const _Atomic uint32_t *knit_leftovers_touched(void)
{
    return &touched;
}

void knit_leftovers_undo(void)
{
}

#endif
