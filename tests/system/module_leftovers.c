/* SPDX-License-Identifier: Apache-2.0 */
/* A module with functions of its own that bear the names of a library's, as one has that was built
 * with a copy of a library; and tasks that leave the process other than they found it. */
#include <knitting/task.h>

#include <fenv.h>
#include <float.h>
#include <locale.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* What a constructor and a hook compute for all calls to come. */
static double tables[2];

static double half_of_least(void)
{
    volatile double least = DBL_MIN;

    return least / 2;
}

__attribute__((constructor)) static void compute_early(void)
{
    tables[0] = half_of_least();
}

static int compute(const struct knit_bootstrap *info, char *ret_message, size_t message_size)
{
    (void)info;
    (void)ret_message;
    (void)message_size;
    tables[1] = half_of_least();
    return 0;
}

KNIT_MODULE_BOOTSTRAP("1.0", compute);

/* Exported, so the loader may bind a call of it to whatever else bears that name. */
#define OWN(name)                                                                                  \
    __attribute__((visibility("default"))) const char *name(void);                                 \
    const char *name(void)                                                                         \
    {                                                                                              \
        return "own";                                                                              \
    }

OWN(msgpack_version)
OWN(seccomp_version)
OWN(knit_clock_ns)
OWN(knit_lane_turn)

KNIT_TASK(owns, "owns() -> bool", .doc = "Whether its calls reach its own functions.")
{
    return knit_return_bool(
        call, strcmp(msgpack_version(), "own") == 0 && strcmp(seccomp_version(), "own") == 0 &&
                  strcmp(knit_clock_ns(), "own") == 0 && strcmp(knit_lane_turn(), "own") == 0);
}

/* ---- what it leaves behind ---- */

#define IS(text) (len == sizeof(text) - 1 && memcmp(what, text, sizeof(text) - 1) == 0)

static void leave_timer(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    struct itimerspec soon = {.it_value.tv_nsec = 20000000};
    timer_t timer;

    if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0)
        (void)timer_settime(timer, 0, &soon, NULL);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* of the old functions */

/* By functions that other standards have for it. */
static bool spoil_signals(const char *what, size_t len)
{
    if (IS("pipe"))
        (void)signal(SIGPIPE, SIG_DFL);
    else if (IS("pipe, System V"))
        (void)sysv_signal(SIGPIPE, SIG_DFL);
    else if (IS("pipe, BSD"))
        (void)ssignal(SIGPIPE, SIG_DFL);
    else if (IS("hangup"))
        (void)sigaction(SIGHUP, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
    else if (IS("faults"))
        (void)signal(SIGSEGV, SIG_IGN);
    else if (IS("blocked, BSD"))
        (void)sigblock(1 << (SIGUSR1 - 1));
    else if (IS("mask, BSD"))
        (void)sigsetmask(1 << (SIGUSR1 - 1));
    else if (IS("mask, System V"))
        (void)sighold(SIGUSR1);
    else
        return false;
    return true;
}

#pragma GCC diagnostic pop

static bool spoil_limits(const char *what, size_t len)
{
    struct rlimit limit;

    if (IS("limit")) {
        (void)getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = 20;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    } else if (IS("limit for good")) {
        limit = (struct rlimit){20, 20};
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    } else if (IS("limit of that process")) {
        limit = (struct rlimit){20, 20};
        (void)prlimit(getpid(), RLIMIT_NOFILE, &limit, NULL);
        limit = (struct rlimit){0, RLIM_INFINITY};
        (void)prlimit(0, RLIMIT_CORE, &limit, NULL);
    } else {
        return false;
    }
    return true;
}

static bool spoil_process(const char *what, size_t len)
{
    struct itimerval soon = {.it_value.tv_usec = 20000};
    cpu_set_t one;
    sigset_t all;

    if (IS("alarm")) {
        (void)setitimer(ITIMER_REAL, &soon, NULL);
    } else if (IS("pending alarm")) {
        (void)sigfillset(&all);
        (void)sigprocmask(SIG_BLOCK, &all, NULL);
        (void)raise(SIGALRM);
        (void)alarm(100);
    } else if (IS("timer")) {
        leave_timer();
    } else if (IS("mask")) {
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_BLOCK, &all, NULL);
    } else if (IS("stack")) {
        static char room[1 << 16];
        stack_t stack = {.ss_sp = room, .ss_size = sizeof(room)};

        (void)sigaltstack(&stack, NULL);
    } else if (IS("timers of its time")) {
        (void)setitimer(ITIMER_VIRTUAL, &soon, NULL);
        (void)setitimer(ITIMER_PROF, &soon, NULL);
    } else if (IS("locale")) {
        (void)setlocale(LC_ALL, "C.UTF-8");
    } else if (IS("thread locale")) {
        (void)uselocale(newlocale(LC_ALL_MASK, "C.UTF-8", (locale_t)0));
    } else if (IS("folder")) {
        (void)!chdir("/usr");
    } else if (IS("umask")) {
        (void)umask(0);
    } else if (IS("affinity")) {
        CPU_ZERO(&one);
        CPU_SET(sched_getcpu(), &one);
        (void)sched_setaffinity(0, sizeof(one), &one);
    } else if (IS("nice")) {
        (void)!nice(5);
    } else if (IS("priority")) {
        (void)setpriority(PRIO_PROCESS, 0, 5);
    } else if (IS("scheduler")) {
        (void)sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
    } else {
        return false;
    }
    return true;
}

KNIT_TASK(spoil, "spoil(what: str) -> nil", .doc = "Leaves the process other than it found it.")
{
    size_t len;
    const char *what = knit_arg_bytes(call, 0, &len);

    if (IS("rounding"))
        (void)fesetround(FE_UPWARD);
    else if (IS("traps"))
        (void)feenableexcept(FE_DIVBYZERO);
    else if (IS("exceptions"))
        (void)feraiseexcept(FE_ALL_EXCEPT);
#ifdef __x86_64__
    else if (IS("flush"))
        __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040);
    else if (IS("precision"))
        __asm__ volatile("fldcw %0" : : "m"((unsigned short){0x027f}));
    else if (IS("registers"))
        __asm__ volatile("fld1\n\tfld1");
#endif
    else if (!spoil_process(what, len) && !spoil_signals(what, len) && !spoil_limits(what, len))
        return knit_fail(call, 1, "no such thing to spoil");
    return knit_return_nil(call);
}

/* Also what it finds a while later. */
KNIT_TASK(process, "process(nap_ms: int) -> array")
{
    struct timespec nap = {.tv_nsec = knit_arg_int(call, 0) * 1000000};
    static const int signals[] = {SIGPIPE, SIGHUP, SIGSEGV, SIGTERM};
    KNIT_BUILDER(builder);
    char folder[4096] = "", *locale = setlocale(LC_ALL, NULL);
    struct sigaction action;
    struct rlimit files, core;
    clock_t begun = clock();
    cpu_set_t processors;
    mode_t mask = umask(077);
    sigset_t blocked;
    stack_t stack = {0};

    /* On the processor and off it. */
    while (clock() < (clock_t)(begun + nap.tv_nsec * CLOCKS_PER_SEC / 1000000000))
        ;
    (void)nanosleep(&nap, NULL);
    (void)getrlimit(RLIMIT_NOFILE, &files);
    (void)getrlimit(RLIMIT_CORE, &core);
    (void)sigprocmask(SIG_SETMASK, NULL, &blocked);
    (void)!getcwd(folder, sizeof(folder));
    (void)sched_getaffinity(0, sizeof(processors), &processors);
    (void)sigaltstack(NULL, &stack);
    knit_put_array(builder, 17);
    knit_put_uint(builder, files.rlim_cur);
    knit_put_uint(builder, files.rlim_max);
    knit_put_uint(builder, core.rlim_cur);
    knit_put_int(builder, getpid());
    knit_put_int(builder, (int64_t)(uintptr_t)stack.ss_sp);
    knit_put_str(builder, folder, strlen(folder));
    knit_put_str(builder, locale, strlen(locale));
    knit_put_bool(builder, uselocale((locale_t)0) == LC_GLOBAL_LOCALE);
    knit_put_int(builder, mask);
    knit_put_int(builder, CPU_COUNT(&processors));
    knit_put_int(builder, getpriority(PRIO_PROCESS, 0));
    knit_put_int(builder, sched_getscheduler(0));
    knit_put_bool(builder, sigismember(&blocked, SIGUSR1) == 1);
    for (int i = 0; i < 4; i++) {
        (void)sigaction(signals[i], NULL, &action);
        knit_put_bool(builder, action.sa_handler == SIG_DFL);
    }
    return knit_return_built(call, builder);
}

KNIT_TASK(computed, "computed() -> array", .doc = "By the module's constructor, and by its hook.")
{
    KNIT_BUILDER(builder);

    knit_put_array(builder, 2);
    knit_put_float(builder, tables[0]);
    knit_put_float(builder, tables[1]);
    return knit_return_built(call, builder);
}

/* What a task finds of the floating-point unit. */
KNIT_TASK(state, "state() -> array")
{
    volatile double least = DBL_MIN, one = 1, three = 3, zero = 0;
    volatile long double wide = 1;
    int noted = fetestexcept(FE_ALL_EXCEPT);
    KNIT_BUILDER(builder);

    knit_put_array(builder, 7);
    knit_put_int(builder, getpid());
    knit_put_int(builder, noted);
    knit_put_int(builder, fegetround());
    knit_put_float(builder, least / 2);
    knit_put_float(builder, one / three);
    knit_put_float(builder, one / zero);
    knit_put_float(builder, (double)(wide / 3 * 3 - 1));
    return knit_return_built(call, builder);
}
