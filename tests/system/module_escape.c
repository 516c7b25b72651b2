/* SPDX-License-Identifier: Apache-2.0 */
/* A task that tries what a confined worker must not do. attempt(what, text, number) gives 0 when it
 * worked, else the errno: so a test sees that something is denied in one profile and allowed in
 * another. What would do damage if it worked is tried with arguments that no kernel accepts:
 * where it is allowed, it fails with another error than where it is denied.
 *
 * The constructor tries to read a file too: a module's code runs before any of its tasks.
 */
#include <knitting/task.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

KNIT_MODULE("1.0");

#define NO_SUCH_THING 999 /* attempt() does not know it */
#define DIED          998 /* the child that tried was killed */

static int early = -1;

static int done(long result)
{
    return result < 0 ? errno : 0;
}

/* Of a descriptor, which is closed. */
static int opened(int fd)
{
    int error = done(fd);

    if (fd >= 0)
        close(fd);
    return error;
}

__attribute__((constructor)) static void read_at_once(void)
{
    early = opened(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
}

/* ---- files ---- */

static int try_read(const char *path, int64_t number)
{
    (void)number;
    return opened(open(path, O_RDONLY | O_CLOEXEC));
}

static int try_list(const char *path, int64_t number)
{
    (void)number;
    return opened(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int try_write(const char *path, int64_t number)
{
    (void)number;
    return opened(open(path, O_WRONLY | O_CLOEXEC));
}

static int try_create(const char *path, int64_t number)
{
    (void)number;
    return opened(open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
}

static int try_truncate(const char *path, int64_t number)
{
    return done(truncate(path, number));
}

static int try_truncate_by_reading(const char *path, int64_t number)
{
    (void)number;
    return opened(open(path, O_RDONLY | O_TRUNC | O_CLOEXEC));
}

static int try_remove(const char *path, int64_t number)
{
    (void)number;
    return done(unlink(path));
}

static int try_mkdir(const char *path, int64_t number)
{
    (void)number;
    return done(mkdir(path, 0700));
}

static int try_link(const char *path, int64_t number)
{
    char other[4096];

    (void)number;
    snprintf(other, sizeof(other), "%s.link", path);
    return done(link(path, other));
}

static int try_device(const char *path, int64_t number)
{
    (void)number;
    return done(mknod(path, S_IFCHR | 0600, 0x103));
}

static int try_chmod(const char *path, int64_t number)
{
    (void)number;
    return done(chmod(path, 0600));
}

static int try_chown(const char *path, int64_t number)
{
    (void)number;
    return done(chown(path, getuid(), getgid()));
}

static int try_touch(const char *path, int64_t number)
{
    (void)number;
    return done(utimensat(AT_FDCWD, path, NULL, 0));
}

static int try_attribute(const char *path, int64_t number)
{
    (void)number;
    return done(setxattr(path, "user.knit", "x", 1, 0));
}

/* Landlock knows no right for reading attributes, */
static int try_read_attribute(const char *path, int64_t number)
{
    char value[64];
    int error = done(getxattr(path, "security.capability", value, sizeof(value)));

    (void)number;
    return error == ENODATA ? 0 : error;
}

/* nor one for opening a file neither to read nor to write. */
static int try_open_for_nothing(const char *path, int64_t number)
{
    (void)number;
    return opened(open(path, O_ACCMODE | O_CLOEXEC));
}

static int try_watch(const char *path, int64_t number)
{
    (void)path, (void)number;
    return done(syscall(SYS_inotify_init1, 0));
}

/* ---- sockets ---- */

static int connect_to(int family, int type, int protocol, int64_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(family, type | SOCK_CLOEXEC, protocol);
    int error = done(fd);

    if (fd < 0)
        return error;
    error = done(connect(fd, (struct sockaddr *)&address, sizeof(address)));
    close(fd);
    return error;
}

static int try_connect(const char *text, int64_t port)
{
    (void)text;
    return connect_to(AF_INET, SOCK_STREAM, 0, port);
}

static int try_multipath(const char *text, int64_t port)
{
    (void)text;
    return connect_to(AF_INET, SOCK_STREAM, 262 /* IPPROTO_MPTCP */, port);
}

static int try_udp(const char *text, int64_t port)
{
    (void)text;
    return connect_to(AF_INET, SOCK_DGRAM, 0, port);
}

/* A SYN with data, without a connect(). */
static int try_fast_open(const char *text, int64_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error = done(fd);

    (void)text;
    if (fd < 0)
        return error;
    error = done(sendto(
        fd, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL, (struct sockaddr *)&address, sizeof(address)));
    close(fd);
    return error;
}

static int try_bind(const char *text, int64_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error = done(fd);

    (void)text;
    if (fd < 0)
        return error;
    error = done(bind(fd, (struct sockaddr *)&address, sizeof(address)));
    if (error == 0)
        error = done(listen(fd, 1));
    close(fd);
    return error;
}

/* Without bind() the kernel takes a port by itself. */
static int try_listen(const char *text, int64_t number)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error = done(fd);

    (void)text, (void)number;
    if (fd < 0)
        return error;
    error = done(listen(fd, 1));
    close(fd);
    return error;
}

static socklen_t unix_address(const char *path, bool is_abstract, struct sockaddr_un *ret_address)
{
    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(ret_address->sun_path + is_abstract, sizeof(ret_address->sun_path) - is_abstract, "%s",
        path);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + is_abstract + strlen(path));
}

static int connect_unix(const char *path, bool is_abstract)
{
    struct sockaddr_un address;
    socklen_t len = unix_address(path, is_abstract, &address);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error = done(fd);

    if (fd < 0)
        return error;
    error = done(connect(fd, (struct sockaddr *)&address, len));
    close(fd);
    return error;
}

static int try_unix(const char *path, int64_t number)
{
    (void)number;
    return connect_unix(path, false);
}

static int try_abstract(const char *name, int64_t number)
{
    (void)number;
    return connect_unix(name, true);
}

/* An end of a pair of datagram sockets can be pointed elsewhere. */
static int try_pair(const char *path, int64_t number)
{
    struct sockaddr_un address;
    socklen_t len = unix_address(path, false, &address);
    int fds[2], error;

    (void)number;
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds) != 0)
        return errno;
    error = done(sendto(fds[0], "x", 1, 0, (struct sockaddr *)&address, len));
    close(fds[0]);
    close(fds[1]);
    return error;
}

/* Of one end of a pair; a caller adds what the kernel does not look at. */
static int set_option(int option, const void *value, socklen_t size, int64_t number)
{
    int fds[2], error;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        return errno;
    error =
        done(syscall(SYS_setsockopt, fds[0], SOL_SOCKET + number, option + number, value, size));
    close(fds[0]);
    close(fds[1]);
    return error;
}

/* The process that closes such a socket last may wait for its peer, and may be another one. */
static int try_linger(const char *text, int64_t number)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 600};

    (void)text;
    return set_option(SO_LINGER, &linger, sizeof(linger), number);
}

static int try_option(const char *text, int64_t option)
{
    int value = 1;

    (void)text;
    return set_option((int)option, &value, sizeof(value), 0);
}

static int try_family(const char *text, int64_t family)
{
    (void)text;
    return opened(socket((int)family, SOCK_RAW | SOCK_CLOEXEC, 0));
}

/* ---- programs ---- */

/* In a child, whose errno is its exit status. */
static int run_child(int (*body)(const char *, int64_t), const char *text, int64_t number)
{
    int status;
    pid_t pid = fork();

    if (pid < 0)
        return errno;
    if (pid == 0)
        _exit(body(text, number));
    if (waitpid(pid, &status, 0) != pid)
        return errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : DIED;
}

static int exec_path(const char *path, int64_t number)
{
    char *const argv[] = {(char *)path, NULL};

    (void)number;
    execve(path, argv, argv + 1);
    return errno;
}

static int try_exec(const char *path, int64_t number)
{
    return run_child(exec_path, path, number);
}

static int exec_memory(const char *path, int64_t number)
{
    int from = open(path, O_RDONLY | O_CLOEXEC);
    int fd = memfd_create("program", MFD_CLOEXEC);
    char name[] = "program";
    char *const argv[] = {name, NULL};
    char bytes[65536];
    ssize_t got;

    (void)number;
    while (from >= 0 && (got = read(from, bytes, sizeof(bytes))) > 0)
        if (write(fd, bytes, (size_t)got) != got)
            return EIO;
    syscall(SYS_execveat, fd, "", argv, argv + 1, AT_EMPTY_PATH);
    return errno;
}

static int try_exec_memory(const char *path, int64_t number)
{
    return run_child(exec_memory, path, number);
}

/* ---- other processes ---- */

static int try_kill(const char *text, int64_t pid)
{
    (void)text;
    return done(kill((pid_t)pid, 0));
}

static int try_tgkill(const char *text, int64_t pid)
{
    (void)text;
    return done(syscall(SYS_tgkill, pid, pid, 0));
}

static int try_pidfd(const char *text, int64_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    int error = done(fd);

    (void)text;
    if (fd < 0)
        return error;
    error = done(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
    close(fd);
    return error;
}

static int try_signal_by_descriptor(const char *text, int64_t pid)
{
    int fds[2], error;

    (void)text;
    if (pipe2(fds, O_CLOEXEC) != 0)
        return errno;
    error = done(fcntl(fds[0], F_SETOWN, (int)pid));
    close(fds[0]);
    close(fds[1]);
    return error;
}

static int leave_group(const char *text, int64_t number)
{
    (void)text, (void)number;
    return done(setsid());
}

static int try_session(const char *text, int64_t number)
{
    return run_child(leave_group, text, number);
}

/* In a child: a tracer detaches when it ends. */
static int seize(const char *text, int64_t pid)
{
    (void)text;
    return done(ptrace(PTRACE_SEIZE, (pid_t)pid, NULL, NULL));
}

static int try_ptrace(const char *text, int64_t pid)
{
    return run_child(seize, text, pid);
}

static int try_peek(const char *text, int64_t pid)
{
    char byte;
    struct iovec mine = {&byte, 1}, theirs = {(void *)(uintptr_t)read_at_once, 1};
    int error;

    (void)text;
    error = done(process_vm_readv((pid_t)pid, &mine, 1, &theirs, 1, 0));
    return error == EFAULT ? 0 : error;
}

static int try_open_memory(const char *text, int64_t pid)
{
    char path[64];

    (void)text;
    snprintf(path, sizeof(path), "/proc/%lld/mem", (long long)pid);
    return opened(open(path, O_RDONLY | O_CLOEXEC));
}

static int try_environment_of(const char *text, int64_t pid)
{
    char path[64];

    (void)text;
    snprintf(path, sizeof(path), "/proc/%lld/environ", (long long)pid);
    return opened(open(path, O_RDONLY | O_CLOEXEC));
}

static int try_limit(const char *text, int64_t pid)
{
    struct rlimit limit;

    (void)text;
    return done(prlimit((pid_t)pid, RLIMIT_NOFILE, NULL, &limit));
}

static int try_nice(const char *text, int64_t pid)
{
    (void)text;
    return done(setpriority(PRIO_PROCESS, (id_t)pid, 0));
}

static int try_affinity(const char *text, int64_t pid)
{
    struct sched_param ordinary = {0};
    cpu_set_t set;

    (void)text;
    if (sched_getaffinity(0, sizeof(set), &set) != 0 ||
        sched_setscheduler((pid_t)pid, SCHED_OTHER, &ordinary) != 0)
        return errno;
    return done(sched_setaffinity((pid_t)pid, sizeof(set), &set));
}

static int try_share(const char *text, int64_t number)
{
    int id = shmget(IPC_PRIVATE, 4096, 0600);

    (void)text, (void)number;
    if (id >= 0)
        shmctl(id, IPC_RMID, NULL);
    return done(id);
}

/* ---- the kernel ---- */

static int try_mount(const char *path, int64_t number)
{
    (void)number;
    return done(mount("none", path, "no-such-file-system", 0, NULL));
}

static int unshare_all(const char *text, int64_t number)
{
    (void)text;
    return done(unshare((int)number));
}

static int try_unshare(const char *text, int64_t number)
{
    (void)number;
    return run_child(unshare_all, text, CLONE_NEWUSER);
}

static int try_clone_namespace(const char *text, int64_t number)
{
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);

    (void)text, (void)number;
    if (pid == 0)
        _exit(0);
    if (pid > 0)
        waitpid((pid_t)pid, NULL, 0);
    return done(pid);
}

static int try_clone_beside(const char *text, int64_t number)
{
    long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);

    (void)text, (void)number;
    if (pid == 0)
        _exit(0);
    return done(pid);
}

static int try_ring(const char *text, int64_t number)
{
    unsigned char params[256] = {0};

    (void)text, (void)number;
    return opened((int)syscall(SYS_io_uring_setup, 1, params));
}

/* Any call, with arguments that it cannot take. */
static int try_call(const char *text, int64_t number)
{
    (void)text;
    return done(syscall(number, -1, -1, -1, -1, -1, -1));
}

static int try_setuid(const char *text, int64_t number)
{
    (void)text;
    return done(setreuid((uid_t)-1, (uid_t)number));
}

#ifdef __x86_64__
static int call_in_32_bits(const char *text, int64_t number)
{
    int result;

    (void)text, (void)number;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20 /* getpid */) : "memory");
    return result < 0 ? -result : 0;
}

static int call_x32(const char *text, int64_t number)
{
    (void)text, (void)number;
    return done(syscall(0x40000000 | 39 /* getpid */));
}
#endif

static int try_32_bits(const char *text, int64_t number)
{
#ifdef __x86_64__
    return run_child(call_in_32_bits, text, number);
#else
    return (void)text, (void)number, ENOSYS;
#endif
}

static int try_x32(const char *text, int64_t number)
{
#ifdef __x86_64__
    return run_child(call_x32, text, number);
#else
    return (void)text, (void)number, ENOSYS;
#endif
}

/* ---- what must work ---- */

static int try_fork(const char *text, int64_t number)
{
    (void)number;
    return run_child(try_read, text, 0);
}

static const struct {
    const char *what;
    int (*try)(const char *text, int64_t number);
} attempts[] = {
    {"read", try_read},
    {"list", try_list},
    {"write", try_write},
    {"create", try_create},
    {"truncate", try_truncate},
    {"truncate by reading", try_truncate_by_reading},
    {"remove", try_remove},
    {"mkdir", try_mkdir},
    {"link", try_link},
    {"device", try_device},
    {"chmod", try_chmod},
    {"chown", try_chown},
    {"touch", try_touch},
    {"attribute", try_attribute},
    {"read attribute", try_read_attribute},
    {"open for nothing", try_open_for_nothing},
    {"watch", try_watch},
    {"connect", try_connect},
    {"multipath", try_multipath},
    {"udp", try_udp},
    {"fast open", try_fast_open},
    {"bind", try_bind},
    {"listen", try_listen},
    {"unix", try_unix},
    {"abstract", try_abstract},
    {"pair", try_pair},
    {"linger", try_linger},
    {"option", try_option},
    {"family", try_family},
    {"exec", try_exec},
    {"exec memory", try_exec_memory},
    {"kill", try_kill},
    {"tgkill", try_tgkill},
    {"pidfd", try_pidfd},
    {"signal by descriptor", try_signal_by_descriptor},
    {"session", try_session},
    {"ptrace", try_ptrace},
    {"peek", try_peek},
    {"open memory", try_open_memory},
    {"environment of", try_environment_of},
    {"limit", try_limit},
    {"nice", try_nice},
    {"affinity", try_affinity},
    {"share", try_share},
    {"mount", try_mount},
    {"unshare", try_unshare},
    {"clone namespace", try_clone_namespace},
    {"clone beside", try_clone_beside},
    {"ring", try_ring},
    {"call", try_call},
    {"setuid", try_setuid},
    {"32 bits", try_32_bits},
    {"x32", try_x32},
    {"fork", try_fork},
};

KNIT_TASK(attempt, "attempt(what: str, text: str?, number: int?) -> int",
    .doc = "Tries it; 0 or the errno.")
{
    char what[64], text[4096];
    const char *said;
    size_t len;

    said = knit_arg_bytes(call, 0, &len);
    snprintf(what, sizeof(what), "%.*s", (int)len, said);
    said = knit_arg_bytes(call, 1, &len);
    snprintf(text, sizeof(text), "%.*s", said != NULL ? (int)len : 0, said != NULL ? said : "");
    for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
        if (strcmp(attempts[i].what, what) == 0)
            return knit_return_int(call, attempts[i].try(text, knit_arg_int(call, 2)));
    }
    return knit_return_int(call, NO_SUCH_THING);
}

KNIT_TASK(
    constructor, "constructor() -> int", .doc = "The result of reading when the module was opened.")
{
    return knit_return_int(call, early);
}

KNIT_TASK(environment, "environment() -> str", .doc = "All of it, a line each.")
{
    char text[8192] = "";
    size_t used = 0;

    for (char **one = environ; *one != NULL && used < sizeof(text); one++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s\n", *one);
    return knit_return_str(call, text, strlen(text));
}

KNIT_TASK(descriptors, "descriptors() -> str", .doc = "Number and target, a line each.")
{
    char text[8192] = "";
    size_t used = 0;

    for (int fd = 0; fd < 1024 && used < sizeof(text); fd++) {
        char path[64], target[256];
        ssize_t len;

        if (fcntl(fd, F_GETFD) < 0)
            continue;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        len = readlink(path, target, sizeof(target) - 1);
        target[len > 0 ? len : 0] = '\0';
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%d %s\n", fd, target);
    }
    return knit_return_str(call, text, strlen(text));
}

/* 253 at a time of one descriptor, which is as many as a message takes. */
static bool send_many(int socket_fd, int fd)
{
    int fds[253];
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(fds))] = {0};
    char byte = 0;
    struct iovec bytes = {&byte, 1};
    struct msghdr message = {.msg_iov = &bytes,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof(control)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);

    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        fds[i] = fd;
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(fds));
    memcpy(CMSG_DATA(head), fds, sizeof(fds));
    return sendmsg(socket_fd, &message, MSG_DONTWAIT) == 1;
}

KNIT_TASK(in_flight, "in_flight() -> int",
    .doc = "Sends descriptors that are never received, until the limit; the errno.")
{
    int fds[2];

    do {
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0)
            return knit_return_int(call, errno);
        while (send_many(fds[0], fds[1]))
            ;
    } while (errno == EAGAIN);
    return knit_return_int(call, errno);
}

KNIT_TASK(limit_of, "limit_of(resource: int) -> int", .doc = "The hard limit; -1 = none.")
{
    struct rlimit limit;

    if (getrlimit((unsigned)knit_arg_int(call, 0), &limit) != 0)
        return knit_fail(call, 1, strerror(errno));
    return knit_return_int(call, limit.rlim_max == RLIM_INFINITY ? -1 : (int64_t)limit.rlim_max);
}

KNIT_TASK(allocate, "allocate(bytes: int) -> int", .doc = "Maps private memory; 0 or the errno.")
{
    size_t bytes = (size_t)knit_arg_int(call, 0);
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (base == MAP_FAILED)
        return knit_return_int(call, errno);
    munmap(base, bytes);
    return knit_return_int(call, 0);
}
