/* SPDX-License-Identifier: Apache-2.0 */
/* seccomp, through libseccomp. A worker may make the listed calls; any other fails with EPERM, so
 * that a task gets an error and its worker lives. A list of denied calls was rejected: it lets
 * through what the next kernel brings. Calls with numbers above our list fail with ENOSYS, as on an
 * older kernel, because libraries fall back on other calls then, and not on EPERM.
 *
 * The calls that a worker makes while it serves are allowed whatever their arguments: the kernel
 * answers for them from a bitmap and runs no filter. The 32-bit and x32 entries of the kernel are
 * closed, because their call numbers differ.
 */
#include "fastpath/confine/confine_private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <seccomp.h>

/* From NUMBER_SHARED on all architectures have the same numbers; none known reaches NUMBER_END. */
enum { NUMBER_SHARED = 424, NUMBER_END = 512 };

#define TCP       6
#define UDP       17
#define TYPE_MASK 0xfu /* the rest of a socket's type are flags */
#define FASTOPEN  0x20000000u
#define NAMESPACES                                                                                 \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |  \
        CLONE_NEWNET)

static const char *const always[] = {
    /* memory */
    "brk", "mmap", "mmap2", "munmap", "mremap", "mprotect", "madvise", "mincore", "msync", "mlock",
    "mlock2", "munlock", "mlockall", "munlockall", "mbind", "get_mempolicy", "set_mempolicy",
    "membarrier", "memfd_create", "pkey_alloc", "pkey_free", "pkey_mprotect", "remap_file_pages",
    "memfd_secret", "mseal", "map_shadow_stack", "set_mempolicy_home_node", "cachestat",
    /* threads, processes, waiting */
    "futex", "futex_waitv", "futex_wait", "futex_wake", "futex_requeue", "futex_time64",
    "set_robust_list", "set_tid_address", "set_thread_area", "get_thread_area", "arch_prctl",
    "rseq", "fork", "vfork", "exit", "exit_group", "wait4", "waitid", "waitpid", "getpid",
    "getppid", "gettid", "getpgid", "getpgrp", "getsid", "sched_yield", "sched_getaffinity",
    "sched_getattr", "sched_getparam", "sched_getscheduler", "sched_get_priority_max",
    "sched_get_priority_min", "sched_rr_get_interval", "sched_rr_get_interval_time64",
    "getpriority", "ioprio_get", "getcpu", "restart_syscall", "capget", "getrusage", "times",
    /* signals */
    "rt_sigaction", "rt_sigprocmask", "rt_sigpending", "rt_sigreturn", "rt_sigsuspend",
    "rt_sigtimedwait", "rt_sigtimedwait_time64", "sigaltstack", "sigreturn", "pause", "signalfd",
    "signalfd4",
    /* time */
    "clock_gettime", "clock_gettime64", "clock_getres", "clock_getres_time64", "clock_nanosleep",
    "clock_nanosleep_time64", "nanosleep", "gettimeofday", "time", "alarm", "getitimer",
    "setitimer", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime",
    "timer_gettime64", "timer_settime", "timer_settime64", "timerfd_create", "timerfd_gettime",
    "timerfd_gettime64", "timerfd_settime", "timerfd_settime64",
    /* descriptors */
    "read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev",
    "pwritev2", "close", "close_range", "dup", "dup2", "dup3", "pipe", "pipe2", "lseek", "_llseek",
    "fsync", "fdatasync", "sync_file_range", "fallocate", "fadvise64", "fadvise64_64", "readahead",
    "ftruncate", "ftruncate64", "flock", "sendfile", "sendfile64", "splice", "tee", "vmsplice",
    "copy_file_range", "eventfd", "eventfd2", "epoll_create", "epoll_create1", "epoll_ctl",
    "epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "ppoll_time64", "select",
    "_newselect", "pselect6", "pselect6_time64", "io_setup", "io_submit", "io_cancel",
    "io_getevents", "io_pgetevents", "io_destroy",
    /* files: Landlock decides which */
    "creat", "access", "faccessat", "faccessat2", "stat", "stat64", "lstat", "lstat64", "fstat",
    "fstat64", "newfstatat", "fstatat64", "statx", "statfs", "statfs64", "fstatfs", "fstatfs64",
    "getdents", "getdents64", "readlink", "readlinkat", "getcwd", "chdir", "fchdir", "mkdir",
    "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2", "link", "linkat",
    "symlink", "symlinkat", "umask",
    /* sockets that are there already */
    "recvfrom", "recvmsg", "recvmmsg", "recvmmsg_time64", "getsockopt", "getsockname",
    "getpeername", "shutdown",
    /* the process and the system */
    "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups", "uname",
    "sysinfo", "getrandom", "getrlimit", "ugetrlimit", "setrlimit", "landlock_create_ruleset",
    "landlock_add_rule", "landlock_restrict_self", NULL};

/* Landlock has no right for reading attributes, so they could be read of files outside the policy.
 * EOPNOTSUPP looks like a file system without attributes, which programs expect. */
static const char *const attributes[] = {"getxattr", "lgetxattr", "fgetxattr", "listxattr",
    "llistxattr", "flistxattr", "getxattrat", "listxattrat", NULL};

/* Calls above NUMBER_SHARED that a worker does not need: EPERM instead of ENOSYS. */
static const char *const refused_new[] = {"pidfd_send_signal", "io_uring_setup", "io_uring_enter",
    "io_uring_register", "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick",
    "pidfd_open", "pidfd_getfd", "process_madvise", "process_mrelease", "mount_setattr",
    "quotactl_fd", NULL};

/* Neither a daemon nor its workers make these calls. It can still be traced: that is a call of the
 * tracer. */
static const char *const refused_to_host[] = {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    "ptrace", /* leak detection of sanitizers is a tracer */
#endif
    "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd", "mount",
    "umount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen", "fsconfig",
    "fsmount", "fspick", "mount_setattr", "unshare", "setns", "bpf", "perf_event_open",
    "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "add_key", "keyctl",
    "request_key", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module",
    "create_module", "reboot", "swapon", "swapoff", "settimeofday", "stime", "adjtimex",
    "clock_settime", "clock_settime64", "clock_adjtime", "clock_adjtime64", "acct", "quotactl",
    "quotactl_fd", "iopl", "ioperm", "syslog", "sethostname", "setdomainname", "vhangup",
    "nfsservctl", "lookup_dcookie", "name_to_handle_at", "open_by_handle_at", "fanotify_init",
    "fanotify_mark", "personality", "modify_ldt", "uselib", "migrate_pages", "move_pages", "mknod",
    "mknodat", NULL};

/* Rules are added until the first error, which is kept. */
struct building {
    const struct knit_confine_plan *plan;
    scmp_filter_ctx filter;
    int error;
};

static void add_number(struct building *building, uint32_t action, int number, unsigned count,
    const struct scmp_arg_cmp *compared)
{
    int error;

    if (building->error != 0 || number == __NR_SCMP_ERROR)
        return;
    error = seccomp_rule_add_array(building->filter, action, number, count, compared);
    /* EDOM: a call of another architecture. */
    if (error != 0 && error != -EDOM)
        building->error = error;
}

static void add(struct building *building, uint32_t action, const char *name, unsigned count,
    const struct scmp_arg_cmp *compared)
{
    add_number(building, action, seccomp_syscall_resolve_name(name), count, compared);
}

static void allow(struct building *building, const char *name)
{
    add(building, SCMP_ACT_ALLOW, name, 0, NULL);
}

/* Allows the call if the argument has the value. */
static void allow_if(struct building *building, const char *name, unsigned argument, uint64_t value)
{
    const struct scmp_arg_cmp compared = SCMP_CMP(argument, SCMP_CMP_EQ, value);

    add(building, SCMP_ACT_ALLOW, name, 1, &compared);
}

static void allow_if_masked(
    struct building *building, const char *name, unsigned argument, uint64_t mask, uint64_t value)
{
    const struct scmp_arg_cmp compared = SCMP_CMP(argument, SCMP_CMP_MASKED_EQ, mask, value);

    add(building, SCMP_ACT_ALLOW, name, 1, &compared);
}

/* Allows the call if the argument, an int, has another value. The kernel uses 32 bits of it, and a
 * filter compares 64, so there is one rule for each bit in which the two may differ. */
static void allow_unless(
    struct building *building, const char *name, unsigned argument, uint32_t value)
{
    for (unsigned i = 0; i < 32; i++)
        allow_if_masked(building, name, argument, 1u << i, ~value & 1u << i);
}

static void add_all(struct building *building, uint32_t action, const char *const *names)
{
    for (uint32_t i = 0; names[i] != NULL; i++)
        add(building, action, names[i], 0, NULL);
}

/* ---- calls that are allowed by their arguments ---- */

/* A worker may make threads and children, in its own namespaces. clone3() has its arguments in
 * memory, which a filter cannot read; with ENOSYS the C library uses clone(). */
static void add_processes(struct building *building)
{
    static const char *const self_only[] = {
        "prlimit64", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler"};
    const struct knit_confine_rules *rules = &building->plan->policy->rules;
    const uint64_t selves[] = {0, (uint64_t)getpid()};

    allow_if_masked(building, "clone", 0, NAMESPACES | CLONE_PARENT, 0);
    add(building, SCMP_ACT_ERRNO(ENOSYS), "clone3", 0, NULL);
    if (rules->may_exec && rules->profile == KNIT_CONFINE_CUSTOM) {
        allow(building, "execve");
        allow(building, "execveat");
    }
    /* Only for the caller itself: 0, or the number of the thread that runs tasks. */
    for (size_t i = 0; i < 2; i++) {
        for (size_t k = 0; k < sizeof(self_only) / sizeof(self_only[0]); k++)
            allow_if(building, self_only[k], 0, selves[i]);
        add(building, SCMP_ACT_ALLOW, "setpriority", 2,
            (const struct scmp_arg_cmp[]){
                SCMP_A0(SCMP_CMP_EQ, PRIO_PROCESS), SCMP_A1(SCMP_CMP_EQ, selves[i])});
    }
    allow_if(building, "personality", 0, 0xffffffff);
}

/* With a scope for signals Landlock decides. Without, signals may be sent to the worker and to its
 * process group, which no process can leave or join. */
static void add_signals(struct building *building)
{
    static const char *const names[] = {
        "kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", NULL};
    uint64_t self = (uint64_t)getpid();

    if (building->plan->abi >= KNIT_LANDLOCK_SCOPES) {
        add_all(building, SCMP_ACT_ALLOW, names);
        return;
    }
    for (uint32_t i = 0; names[i] != NULL; i++)
        allow_if(building, names[i], 0, self);
    allow_if(building, "kill", 0, 0);
}

/* Locks, flags and seals. Not: signals to other processes, leases, notifications about files. */
static void add_descriptor_controls(struct building *building)
{
    static const uint64_t commands[] = {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL,
        F_SETFL, F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_GETOWN,
        F_GETSIG, F_SETPIPE_SZ, F_GETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS, F_GET_RW_HINT,
        1027 /* F_DUPFD_QUERY */};
    static const uint64_t requests[] = {
        TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIOCLEX, FIONCLEX, TIOCOUTQ};

    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        allow_if(building, "fcntl", 1, commands[i]);
        allow_if(building, "fcntl64", 1, commands[i]);
    }
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
        allow_if(building, "ioctl", 1, requests[i]);
}

static void add_prctl(struct building *building)
{
    static const uint64_t options[] = {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_SET_DUMPABLE,
        PR_GET_PDEATHSIG, PR_GET_SECCOMP, PR_CAPBSET_READ, PR_GET_SECUREBITS, PR_SET_TIMERSLACK,
        PR_GET_TIMERSLACK, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_GET_TID_ADDRESS,
        PR_SET_THP_DISABLE, PR_GET_THP_DISABLE, PR_GET_SPECULATION_CTRL,
        0x53564d41 /* PR_SET_VMA */};

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        allow_if(building, "prctl", 0, options[i]);
    /* By the worker, when its control thread runs: see worker.c. */
    add(building, SCMP_ACT_ALLOW, "prctl", 2,
        (const struct scmp_arg_cmp[]){
            SCMP_A0(SCMP_CMP_EQ, PR_SET_PDEATHSIG), SCMP_A1(SCMP_CMP_EQ, SIGCONT)});
}

/* Opening to read, to write, or both. The fourth access mode needs no right of Landlock, and gives
 * a descriptor of any file, for ioctl() and the like. A Landlock without truncation needs it closed
 * here: by path, and by O_TRUNC with O_RDONLY. openat2() has its flags in memory; with ENOSYS
 * libraries use openat(). */
static void add_opening(struct building *building)
{
    static const uint64_t modes[] = {O_RDONLY, O_WRONLY, O_RDWR};
    const uint64_t mask = O_TRUNC | O_ACCMODE;
    bool knows_truncation = building->plan->abi >= KNIT_LANDLOCK_TRUNCATE;

    add(building, SCMP_ACT_ERRNO(ENOSYS), "openat2", 0, NULL);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        uint64_t truncating = modes[i] | O_TRUNC;

        allow_if_masked(building, "open", 1, mask, modes[i]);
        allow_if_masked(building, "openat", 2, mask, modes[i]);
        if (modes[i] == O_RDONLY && !knows_truncation)
            continue;
        allow_if_masked(building, "open", 1, mask, truncating);
        allow_if_masked(building, "openat", 2, mask, truncating);
    }
    if (knows_truncation) {
        allow(building, "truncate");
        allow(building, "truncate64");
    }
}

/* ---- sockets ---- */

static void allow_socket(
    struct building *building, uint64_t family, uint64_t type, uint64_t protocol)
{
    add(building, SCMP_ACT_ALLOW, "socket", 3,
        (const struct scmp_arg_cmp[]){SCMP_A0(SCMP_CMP_EQ, family),
            SCMP_A1(SCMP_CMP_MASKED_EQ, TYPE_MASK, type), SCMP_A2(SCMP_CMP_EQ, protocol)});
}

/* Sending with an address and MSG_FASTOPEN connects without connect(), so it is closed if only some
 * ports are open. Without TCP sockets it has no effect. */
static void add_sending(struct building *building)
{
    static const struct {
        const char *name;
        unsigned flags;
    } calls[] = {{"sendto", 3}, {"sendmsg", 2}, {"sendmmsg", 3}};
    bool may_connect_all = !building->plan->may_tcp || building->plan->policy->rules.connect.is_any;

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        if (may_connect_all)
            allow(building, calls[i].name);
        else
            allow_if_masked(building, calls[i].name, calls[i].flags, FASTOPEN, 0);
    }
}

/* Socket pairs stay connected to each other, but for datagram pairs, which are closed. */
static void add_sockets(struct building *building)
{
    static const uint64_t pair_types[] = {SOCK_STREAM, SOCK_SEQPACKET};
    static const uint64_t families[] = {AF_INET, AF_INET6};
    const struct knit_confine_plan *plan = building->plan;
    const struct knit_confine_rules *rules = &plan->policy->rules;
    bool is_custom = rules->profile == KNIT_CONFINE_CUSTOM;

    for (size_t i = 0; i < 2; i++)
        add(building, SCMP_ACT_ALLOW, "socketpair", 2,
            (const struct scmp_arg_cmp[]){SCMP_A0(SCMP_CMP_EQ, AF_UNIX),
                SCMP_A1(SCMP_CMP_MASKED_EQ, TYPE_MASK, pair_types[i])});
    /* close() of a socket with SO_LINGER waits for the peer; the host closes what tasks send it. */
    allow_unless(building, "setsockopt", 1, SOL_SOCKET);
    allow_unless(building, "setsockopt", 2, SO_LINGER);
    add_sending(building);
    /* Protocols are listed: Landlock knows TCP, and no other protocol of streams. */
    for (size_t i = 0; i < 2; i++) {
        if (plan->may_tcp) {
            allow_socket(building, families[i], SOCK_STREAM, 0);
            allow_socket(building, families[i], SOCK_STREAM, TCP);
        }
        if (is_custom && rules->may_udp) {
            allow_socket(building, families[i], SOCK_DGRAM, 0);
            allow_socket(building, families[i], SOCK_DGRAM, UDP);
        }
    }
    if (is_custom && rules->may_unix)
        allow_if(building, "socket", 0, AF_UNIX);
    if (plan->may_connect)
        allow(building, "connect");
    if (plan->may_bind)
        allow(building, "bind");
    if (is_custom && knit_confine_has_ports(&rules->listen)) {
        allow(building, "listen");
        allow(building, "accept");
        allow(building, "accept4");
    }
}

/* ---- the filter ---- */

static bool is_among(const char *name, const char *const *names)
{
    for (uint32_t i = 0; name != NULL && names[i] != NULL; i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

/* libseccomp of Debian 12 has no names for calls after Linux 5.17, so known ones stand here by
 * number. */
static void add_new_calls(struct building *building)
{
    static const int known[] = {451 /* cachestat */, 453 /* map_shadow_stack */,
        454 /* futex_wake */, 455 /* futex_wait */, 456 /* futex_requeue */, 462 /* mseal */};
    static const char *const conditional[] = {
        "clone3", "openat2", "execveat", "getxattrat", "listxattrat", NULL};

    for (int number = NUMBER_SHARED; number < NUMBER_END; number++) {
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);
        bool is_done =
            is_among(name, always) || is_among(name, conditional) || is_among(name, refused_new);
        bool is_known = false;

        free(name);
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
            is_known = is_known || known[i] == number;
        if (!is_done)
            add_number(
                building, is_known ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(ENOSYS), number, 0, NULL);
    }
}

/* Runtimes of sanitizers trace their own process to find leaks. */
static void add_sanitizers(struct building *building)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    allow(building, "ptrace");
    allow_if(building, "prctl", 0, 0x59616d61 /* PR_SET_PTRACER */);
#else
    (void)building;
#endif
}

static int begin(struct building *building, uint32_t otherwise)
{
    int error;

    building->filter = seccomp_init(otherwise);
    if (building->filter == NULL)
        return -ENOMEM;
    /* Entries of another architecture. */
    error = seccomp_attr_set(building->filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(EPERM));
    /* Otherwise kernels before 5.16 turn off speculation in a process with a filter. */
    if (error == 0)
        error = seccomp_attr_set(building->filter, SCMP_FLTATR_CTL_SSB, 1);
    /* A binary search of numbers instead of a linear one. */
    if (error == 0)
        error = seccomp_attr_set(building->filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    return error;
}

static int end(struct building *building)
{
    int error = building->error;

    if (error == 0)
        error = seccomp_load(building->filter);
    seccomp_release(building->filter);
    return error;
}

int knit_confine_calls(const struct knit_confine_plan *plan)
{
    struct building building = {.plan = plan};

    building.error = begin(&building, SCMP_ACT_ERRNO(EPERM));
    if (building.filter == NULL)
        return building.error;
    add_all(&building, SCMP_ACT_ALLOW, always);
    add_all(&building, SCMP_ACT_ERRNO(EOPNOTSUPP), attributes);
    add_processes(&building);
    add_signals(&building);
    add_descriptor_controls(&building);
    add_prctl(&building);
    add_opening(&building);
    add_sockets(&building);
    add_new_calls(&building);
    add_sanitizers(&building);
    return end(&building);
}

int knit_confine_calls_of_host(void)
{
    struct building building = {0};

    building.error = begin(&building, SCMP_ACT_ALLOW);
    if (building.filter == NULL)
        return building.error;
    add_all(&building, SCMP_ACT_ERRNO(EPERM), refused_to_host);
    return end(&building);
}
