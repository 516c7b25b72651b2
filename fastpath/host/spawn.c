/* SPDX-License-Identifier: Apache-2.0 */
/* clone() and exec(), because posix_spawn() can neither set the parent-death signal nor close all
 * other descriptors, and fork() copies the page tables of a large program for tens of milliseconds.
 * As with vfork(), the child has the host's memory until exec(), and the calling thread waits for
 * that; but it has a stack of its own. Between the two it makes async-signal-safe calls only: the
 * host has threads, and one of them may hold a lock. It writes no memory but its stack and errno,
 * and all signals are blocked meanwhile, so that no handler of the host's runs in it.
 *
 * When exec fails, the child sends its errno to the host like any message.
 */
#include "fastpath/host/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fastpath/control/control.h"
#include "fastpath/lane/fd.h"

/* Of the child: what it is given, by their old numbers, is the largest part of it. */
#define STACK_BYTES (128u << 10)

/* At or above this number nothing is overwritten while descriptors are moved to theirs. */
#define SAFE_FD 16

enum { HOST_END = 0, WORKER_END = 1 };

struct plumbing {
    int control[2];
    int report[2]; /* read, write */
    int output[2];
    int capture[2];
    int null;
};

static void fini_plumbing(struct plumbing *plumbing)
{
    knit_fd_close(&plumbing->control[HOST_END]);
    knit_fd_close(&plumbing->control[WORKER_END]);
    knit_fd_close(&plumbing->report[HOST_END]);
    knit_fd_close(&plumbing->report[WORKER_END]);
    knit_fd_close(&plumbing->output[HOST_END]);
    knit_fd_close(&plumbing->output[WORKER_END]);
    knit_fd_close(&plumbing->capture[HOST_END]);
    knit_fd_close(&plumbing->capture[WORKER_END]);
    knit_fd_close(&plumbing->null);
}

static int init_plumbing(struct plumbing *plumbing)
{
    *plumbing = (struct plumbing){{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}, -1};
    plumbing->null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    /* The worker's end blocks: a task that prints faster than the host reads waits, where with
     * O_NONBLOCK its lines would be lost without anybody's knowing how many. */
    if (plumbing->null < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, plumbing->control) != 0 ||
        /* Before there is a child that could have sent something. It cannot undo this. */
        shutdown(plumbing->control[HOST_END], SHUT_RD) != 0 ||
        pipe2(plumbing->report, O_CLOEXEC) != 0 ||
        fcntl(plumbing->report[HOST_END], F_SETFL, O_NONBLOCK) != 0 ||
        pipe2(plumbing->output, O_CLOEXEC) != 0 ||
        fcntl(plumbing->output[HOST_END], F_SETFL, O_NONBLOCK) != 0 ||
        pipe2(plumbing->capture, O_CLOEXEC) != 0 ||
        fcntl(plumbing->capture[HOST_END], F_SETFL, O_NONBLOCK) != 0) {
        int error = -errno;

        fini_plumbing(plumbing);
        return error;
    }
    return 0;
}

/* In the child. What asks the host to end may be sent to all processes of a service at once. It
 * stays blocked until the worker has handlers that disregard it: workers leave when the host says
 * so. */
static void reset_signals(void)
{
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigset_t asks_to_end;

    for (int i = 1; i < NSIG; i++)
        (void)sigaction(i, &standard, NULL);
    (void)sigemptyset(&asks_to_end);
    (void)sigaddset(&asks_to_end, SIGTERM);
    (void)sigaddset(&asks_to_end, SIGINT);
    (void)sigprocmask(SIG_SETMASK, &asks_to_end, NULL);
}

/* In the child. When memory is short the kernel shall end a worker, which is replaced, and not the
 * host. A host that goes as easily itself is left as it is. */
static void offer_to_oom_killer(void)
{
    static const char likely[] = "500";
    char own[16] = "";
    int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return;
    /* "-1000" to "1000", compared as text: what has four digits or begins with 5 to 9 and has three
     * is no less. */
    if (read(fd, own, sizeof(own) - 1) > 0) {
        size_t digits = strspn(own, "0123456789");

        if (digits < 3 || (digits == 3 && own[0] < likely[0]))
            (void)!write(fd, likely, sizeof(likely) - 1);
    }
    (void)close(fd);
}

/* Moves what the child is given to the numbers from `first` on. */
static int place_given(const struct knit_spawn_options *options, int first, int safe)
{
    const int last = first + (int)options->fd_count - 1;
    int moved[KNIT_SPAWN_FDS_MAX];

    for (uint32_t i = 0; i < options->fd_count; i++) {
        moved[i] = fcntl(options->fds[i], F_DUPFD, safe);
        if (moved[i] < 0)
            return -1;
    }
    for (uint32_t i = 0; i < options->fd_count; i++) {
        if (dup2(moved[i], first + (int)i) < 0)
            return -1;
    }
    return fcntl(last, F_SETFD, FD_CLOEXEC);
}

/* Moves the child's descriptors to their numbers and closes all others. *ret_report is the pipe to
 * the host, on failure too: KNIT_CONTROL_REPORT_FD may be another file until all are moved. */
static int place_fds(
    const struct knit_spawn_options *options, const struct plumbing *plumbing, int *ret_report)
{
    const int first = KNIT_CONTROL_GIVEN_FD, end = first + (int)options->fd_count;
    const int safe = end > SAFE_FD ? end : SAFE_FD;
    int control = fcntl(plumbing->control[WORKER_END], F_DUPFD, safe);
    int report = fcntl(plumbing->report[WORKER_END], F_DUPFD, safe);
    int output = fcntl(plumbing->output[WORKER_END], F_DUPFD, safe);
    int captured = fcntl(plumbing->capture[HOST_END], F_DUPFD, safe);
    int capture = fcntl(plumbing->capture[WORKER_END], F_DUPFD, safe);
    int null = fcntl(plumbing->null, F_DUPFD, safe);

    *ret_report = report >= 0 ? report : plumbing->report[WORKER_END];
    if (control < 0 || report < 0 || output < 0 || captured < 0 || capture < 0 || null < 0 ||
        place_given(options, first, safe) < 0 || dup2(null, 0) < 0 || dup2(output, 1) < 0 ||
        dup2(output, 2) < 0 || dup2(captured, KNIT_CONTROL_CAPTURE_READ_FD) < 0 ||
        dup2(capture, KNIT_CONTROL_CAPTURE_WRITE_FD) < 0 || dup2(control, KNIT_CONTROL_FD) < 0 ||
        dup2(report, KNIT_CONTROL_REPORT_FD) < 0)
        return -1;
    *ret_report = KNIT_CONTROL_REPORT_FD;
    return close_range((unsigned)end, ~0u, 0);
}

struct child {
    const struct knit_spawn_options *options;
    const struct plumbing *plumbing;
    pid_t parent;
};

static int run_child(void *arg)
{
    const struct child *child = arg;
    const struct knit_spawn_options *options = child->options;
    const char *program = options->program[0] != '\0' ? options->program : options->argv[0];
    struct knit_control_message message;
    int report;

    (void)setpgid(0, 0);
    if (options->group_fd >= 0)
        (void)!write(options->group_fd, "0", 1);
    reset_signals();
    offer_to_oom_killer();
    if (place_fds(options, child->plumbing, &report) == 0 &&
        prctl(PR_SET_PDEATHSIG, SIGKILL) == 0) {
        /* A parent that died before prctl() sends no signal. */
        if (getppid() != child->parent)
            _exit(127);
        /* execvpe() starts a shell for a file that is no program, so it only gets names without a
         * slash, which are looked up in PATH. */
        if (strchr(program, '/') != NULL)
            (void)execve(
                program, (char *const *)options->argv, (char *const *)options->environment);
        else
            (void)execvpe(options->argv[0], (char *const *)options->argv,
                (char *const *)options->environment);
    }
    knit_control_init(&message, KNIT_CONTROL_HELLO);
    message.hello.error = errno;
    (void)knit_control_report(report, &message);
    _exit(127);
}

/* What watches memory or locks for a process does not know a child that has its memory. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SHARED_MEMORY 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define SHARED_MEMORY 0
#endif
#endif
#ifndef SHARED_MEMORY
#define SHARED_MEMORY 1
#endif

/* Returns the child's number, or -errno. The pidfd comes with the child: of one that a host which
 * ignores SIGCHLD has lost already, the number alone might be another process's by then. */
static pid_t start_child(struct child *child, int *ret_pid_fd)
{
    unsigned char *stack;
    pid_t pid;
    int error;

    if (!SHARED_MEMORY) {
        pid = fork();
        if (pid == 0)
            run_child(child);
        if (pid < 0)
            return -errno;
        *ret_pid_fd = pidfd_open(pid, 0);
        if (*ret_pid_fd >= 0)
            return pid;
        error = -errno;
        (void)kill(pid, SIGKILL);
        (void)waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED);
        return error;
    }
    stack = mmap(
        NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return -errno;
    pid = clone(run_child, stack + STACK_BYTES, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD,
        child, ret_pid_fd);
    error = -errno;
    (void)munmap(stack, STACK_BYTES);
    return pid < 0 ? error : pid;
}

int knit_spawn(const struct knit_spawn_options *options, struct knit_spawned *ret_spawned)
{
    struct plumbing plumbing;
    struct child child = {.options = options, .plumbing = &plumbing, .parent = getpid()};
    sigset_t all, before;
    int pid_fd = -1;
    pid_t pid;
    int error = init_plumbing(&plumbing);

    if (error != 0)
        return error;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    pid = start_child(&child, &pid_fd);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0) {
        fini_plumbing(&plumbing);
        return pid;
    }
    /* Parent and child both do this, so the group exists before either of them goes on. */
    (void)setpgid(pid, pid);
    *ret_spawned = (struct knit_spawned){.pid = pid,
        .pid_fd = pid_fd,
        .control_fd = plumbing.control[HOST_END],
        .report_fd = plumbing.report[HOST_END],
        .output_fd = plumbing.output[HOST_END],
        .capture_fd = plumbing.capture[HOST_END]};
    plumbing.control[HOST_END] = plumbing.report[HOST_END] = -1;
    plumbing.output[HOST_END] = plumbing.capture[HOST_END] = -1;
    fini_plumbing(&plumbing);
    return 0;
}
