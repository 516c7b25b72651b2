/* SPDX-License-Identifier: Apache-2.0 */
/* A library to preload into a program: the one allocation or system call that the book names fails,
 * and all others do what they always do.
 *
 * The dynamic linker binds every call of malloc(), socket() and so on to the first library that
 * defines the name, which is this one, for calls of our code, of libevent, of msgpack-c and of the
 * C library's own strdup(). So nothing has to be linked for the test, and the programs are those
 * that are installed. Wrapping by the linker would reach our own objects alone.
 *
 * What cannot fail in a correct program is left out: close(), munmap(), taking a descriptor out of
 * an epoll, reading and writing eventfds, timers and pipes.
 */
#undef _FILE_OFFSET_BITS /* both open() and open64() are defined here, and so on */
#undef _FORTIFY_SOURCE
#include "tests/ground/book.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <grp.h>
#include <link.h>
#include <linux/futex.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#define VISIBLE __attribute__((visibility("default")))

/* The function that this one stands in front of. */
#define REAL(name)                                                                                 \
    static __typeof__(&name) real;                                                                 \
    if (real == NULL)                                                                              \
    *(void **)&real = dlsym(RTLD_NEXT, #name)

static struct knit_ground_book *book;
static __thread bool is_inside __attribute__((tls_model("initial-exec")));

/* ---- which call fails ---- */

static const char *file_of(const void *address, uintptr_t *ret_offset)
{
    struct dl_find_object found;

    *ret_offset = 0;
    if (_dl_find_object((void *)address, &found) != 0)
        return "?";
    *ret_offset = (uintptr_t)address - (uintptr_t)found.dlfo_link_map->l_addr;
    /* The program itself has no name there. */
    return found.dlfo_link_map->l_name[0] != '\0' ? found.dlfo_link_map->l_name
                                                  : program_invocation_short_name;
}

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t len)
{
    const unsigned char *byte = bytes;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ byte[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t place_of(const char *name, void *const *stack, int frames)
{
    uint64_t hash = hash_bytes(UINT64_C(0xcbf29ce484222325), name, strlen(name));

    for (int i = 0; i < frames && (uint32_t)i < book->depth; i++) {
        uintptr_t offset;
        const char *file = file_of(stack[i], &offset);

        hash = hash_bytes(hash, file, strlen(file));
        hash = hash_bytes(hash, &offset, sizeof(offset));
    }
    return hash;
}

static void record_failure(const char *name, int error, void *const *stack, int frames)
{
    (void)snprintf(book->name, sizeof(book->name), "%s", name);
    book->error = error;
    for (int i = 0; i < frames; i++) {
        uintptr_t offset;
        const char *path = file_of(stack[i], &offset);
        const char *file = strrchr(path, '/');

        (void)snprintf(book->stack[i], sizeof(book->stack[0]), "%s+0x%zx",
            file != NULL ? file + 1 : path, (size_t)offset);
    }
    book->frames = (uint32_t)frames;
    book->pid = (uint32_t)getpid();
}

/* The frames above this file's own, which are as many as the compiler likes. */
static int look_up(void **ret_stack)
{
    void *all[KNIT_GROUND_FRAMES + 8];
    int frames = backtrace(all, KNIT_GROUND_FRAMES + 8), own = 0;
    uintptr_t offset;
    const char *here = file_of(__builtin_return_address(0), &offset);

    for (int i = 0; i < frames && i < 8; i++) {
        if (file_of(all[i], &offset) == here)
            own = i + 1;
    }
    frames = frames - own < KNIT_GROUND_FRAMES ? frames - own : KNIT_GROUND_FRAMES;
    memcpy(ret_stack, &all[own], (size_t)frames * sizeof(*all));
    return frames;
}

/* Where the program has libseccomp in itself: offsets from its start, the second one behind it. */
static uintptr_t left_out_from, left_out_to;

/* Whether the call is not counted: one that the C library or a sanitizer makes for itself, as when
 * a thread begins, where they give up the process; and those of libseccomp, which (2.5.4) crashes
 * or never ends when it cannot have memory for the program it writes. */
static bool is_left_out(void *const *stack, int frames)
{
    bool is_ours = false;
    uintptr_t offset;

    for (int i = 0; i < frames; i++) {
        const char *path = file_of(stack[i], &offset);
        const char *slash = strrchr(path, '/');
        const char *file = slash != NULL ? slash + 1 : path;

        if (strncmp(file, "libseccomp.", 11) == 0 ||
            (path == program_invocation_short_name && offset >= left_out_from &&
                offset < left_out_to))
            return true;
        is_ours = is_ours || (strncmp(file, "libc.", 5) != 0 && strncmp(file, "libasan.", 8) != 0 &&
                                 strncmp(file, "ld-linux", 8) != 0);
    }
    return !is_ours;
}

/* Relaxed throughout: the counters order nothing, and the test reads when all is over. */
__attribute__((noinline)) static bool gives_way(uint32_t kind, const char *name, int error)
{
    int before = errno, frames;
    void *stack[KNIT_GROUND_FRAMES];
    struct knit_ground_entry *entry;
    bool fails = false;
    uint32_t n;

    if (error == 0 || book == NULL || is_inside || (book->kinds & kind) == 0 ||
        atomic_load_explicit(&book->is_armed, memory_order_relaxed) == 0)
        return false;
    is_inside = true;
    frames = look_up(stack);
    if (is_left_out(stack, frames)) {
        is_inside = false;
        errno = before;
        return false;
    }
    n = atomic_fetch_add_explicit(&book->count, 1, memory_order_relaxed);
    entry = &book->entries[n % KNIT_GROUND_ENTRIES];
    (void)snprintf(entry->name, sizeof(entry->name), "%s", name);
    entry->place = place_of(name, stack, frames);
    if (book->nth != 0 && entry->place == book->place)
        fails = atomic_fetch_add_explicit(&book->passed, 1, memory_order_relaxed) + 1 == book->nth;
    if (fails)
        record_failure(name, error, stack, frames);
    is_inside = false;
    errno = fails ? error : before;
    return fails;
}

#define GIVES_WAY(kind, error) gives_way(KNIT_GROUND_##kind, __func__, error)
#define RETURN_IF_GIVES_WAY(kind, error, result)                                                   \
    do {                                                                                           \
        if (GIVES_WAY(kind, error))                                                                \
            return result;                                                                         \
    } while (0)

/* A function that fails with that errno, or not at all where it is 0, and then returns `result`. */
#define WRAPPER(type, name, parameters, arguments, kind, error, result)                            \
    VISIBLE type name parameters                                                                   \
    {                                                                                              \
        REAL(name);                                                                                \
        RETURN_IF_GIVES_WAY(kind, error, result);                                                  \
        return real arguments;                                                                     \
    }

__attribute__((constructor)) static void open_book(void)
{
    const char *path = getenv("KNIT_GROUND"), *program = getenv("KNIT_GROUND_PROGRAM");
    const char *left_out = getenv("KNIT_GROUND_LEFT_OUT");
    void *stack[1], *memory;
    char *end;
    int fd;

    /* The first one loads libgcc_s. */
    (void)backtrace(stack, 1);
    if (path == NULL || (program != NULL && strcmp(program, program_invocation_short_name) != 0))
        return;
    if (left_out != NULL) {
        left_out_from = (uintptr_t)strtoull(left_out, &end, 16);
        left_out_to = *end == '-' ? (uintptr_t)strtoull(end + 1, NULL, 16) : 0;
    }
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    memory = mmap(NULL, sizeof(*book), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (memory != MAP_FAILED)
        book = memory;
}

/* ---- memory ---- */

WRAPPER(void *, malloc, (size_t size), (size), MEMORY, ENOMEM, NULL)
WRAPPER(void *, calloc, (size_t members, size_t size), (members, size), MEMORY, ENOMEM, NULL)
WRAPPER(void *, realloc, (void *memory, size_t size), (memory, size), MEMORY, ENOMEM, NULL)
WRAPPER(int, posix_memalign, (void **ret_memory, size_t alignment, size_t size),
    (ret_memory, alignment, size), MEMORY, ENOMEM, ENOMEM)
WRAPPER(
    void *, aligned_alloc, (size_t alignment, size_t size), (alignment, size), MEMORY, ENOMEM, NULL)

#ifdef __SANITIZE_ADDRESS__
#error "the library stands before the sanitizer's, it is not part of it"
#endif

/* ---- mappings and files ---- */

WRAPPER(void *, mmap, (void *address, size_t len, int protection, int flags, int fd, off_t offset),
    (address, len, protection, flags, fd, offset), CALLS, ENOMEM, MAP_FAILED)
WRAPPER(void *, mmap64,
    (void *address, size_t len, int protection, int flags, int fd, off64_t offset),
    (address, len, protection, flags, fd, offset), CALLS, ENOMEM, MAP_FAILED)
WRAPPER(int, madvise, (void *address, size_t len, int advice), (address, len, advice), CALLS,
    ENOMEM, -1)
WRAPPER(int, memfd_create, (const char *name, unsigned flags), (name, flags), CALLS, ENFILE, -1)
WRAPPER(int, ftruncate, (int fd, off_t len), (fd, len), CALLS, ENOMEM, -1)
WRAPPER(int, ftruncate64, (int fd, off64_t len), (fd, len), CALLS, ENOMEM, -1)
WRAPPER(int, fallocate64, (int fd, int mode, off64_t offset, off64_t len), (fd, mode, offset, len),
    CALLS, ENOSPC, -1)
WRAPPER(int, fchmod, (int fd, mode_t mode), (fd, mode), CALLS, EPERM, -1)
WRAPPER(int, chmod, (const char *path, mode_t mode), (path, mode), CALLS, EROFS, -1)
WRAPPER(int, chown, (const char *path, uid_t uid, gid_t gid), (path, uid, gid), CALLS, EPERM, -1)
WRAPPER(int, mkdir, (const char *path, mode_t mode), (path, mode), CALLS, ENOSPC, -1)
WRAPPER(int, rename, (const char *from, const char *to), (from, to), CALLS, ENOSPC, -1)
WRAPPER(int, unlink, (const char *path), (path), CALLS, EROFS, -1)
WRAPPER(int, flock, (int fd, int operation), (fd, operation), CALLS, ENOLCK, -1)

static mode_t mode_of(int flags, va_list args)
{
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
}

#define WRAPPER_OF_OPEN(name)                                                                      \
    VISIBLE int name(const char *path, int flags, ...)                                             \
    {                                                                                              \
        va_list args;                                                                              \
        mode_t mode;                                                                               \
        REAL(name);                                                                                \
                                                                                                   \
        va_start(args, flags);                                                                     \
        mode = mode_of(flags, args);                                                               \
        va_end(args);                                                                              \
        RETURN_IF_GIVES_WAY(CALLS, EMFILE, -1);                                                    \
        return real(path, flags, mode);                                                            \
    }
WRAPPER_OF_OPEN(open)
WRAPPER_OF_OPEN(open64)

WRAPPER(FILE *, fopen64, (const char *path, const char *mode), (path, mode), CALLS, EMFILE, NULL)
WRAPPER(int, fflush, (FILE * file), (file), CALLS, ENOSPC, EOF)

static int fail_to_duplicate(int command)
{
    switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
        return EMFILE;
    case F_ADD_SEALS:
        return EBUSY;
    default:
        return 0;
    }
}

VISIBLE int fcntl64(int fd, int command, ...)
{
    int error = fail_to_duplicate(command);
    va_list args;
    void *arg;
    REAL(fcntl64);

    va_start(args, command);
    arg = va_arg(args, void *);
    va_end(args);
    RETURN_IF_GIVES_WAY(CALLS, error, -1);
    return real(fd, command, arg);
}

WRAPPER(int, dup2, (int from, int to), (from, to), CALLS, EBUSY, -1)

/* ---- reading and writing ---- */

/* What a read or write of this descriptor can fail with; 0 = nothing. */
static int error_of(int fd, bool is_write)
{
    struct stat status;

    if (book == NULL || fstat(fd, &status) != 0)
        return 0;
    if (S_ISSOCK(status.st_mode))
        return ENOMEM;
    if (S_ISREG(status.st_mode))
        return is_write ? ENOSPC : EIO;
    return 0;
}

WRAPPER(ssize_t, read, (int fd, void *bytes, size_t size), (fd, bytes, size), CALLS,
    error_of(fd, false), -1)
WRAPPER(ssize_t, readv, (int fd, const struct iovec *parts, int count), (fd, parts, count), CALLS,
    error_of(fd, false), -1)
WRAPPER(ssize_t, pread64, (int fd, void *bytes, size_t size, off64_t offset),
    (fd, bytes, size, offset), CALLS, EIO, -1)
WRAPPER(ssize_t, write, (int fd, const void *bytes, size_t size), (fd, bytes, size), CALLS,
    error_of(fd, true), -1)
WRAPPER(ssize_t, writev, (int fd, const struct iovec *parts, int count), (fd, parts, count), CALLS,
    error_of(fd, true), -1)
WRAPPER(ssize_t, pwrite64, (int fd, const void *bytes, size_t size, off64_t offset),
    (fd, bytes, size, offset), CALLS, ENOSPC, -1)

/* ---- sockets ---- */

WRAPPER(
    int, socket, (int domain, int type, int protocol), (domain, type, protocol), CALLS, EMFILE, -1)
WRAPPER(int, socketpair, (int domain, int type, int protocol, int ret_fds[2]),
    (domain, type, protocol, ret_fds), CALLS, EMFILE, -1)
WRAPPER(int, bind, (int fd, __CONST_SOCKADDR_ARG address, socklen_t len), (fd, address, len), CALLS,
    EADDRINUSE, -1)
WRAPPER(int, listen, (int fd, int backlog), (fd, backlog), CALLS, EADDRINUSE, -1)
WRAPPER(int, accept4, (int fd, __SOCKADDR_ARG address, socklen_t *len, int flags),
    (fd, address, len, flags), CALLS, EMFILE, -1)
WRAPPER(int, connect, (int fd, __CONST_SOCKADDR_ARG address, socklen_t len), (fd, address, len),
    CALLS, ECONNREFUSED, -1)
WRAPPER(int, getsockname, (int fd, __SOCKADDR_ARG address, socklen_t *len), (fd, address, len),
    CALLS, ENOBUFS, -1)
WRAPPER(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t len),
    (fd, level, name, value, len), CALLS, ENOMEM, -1)
WRAPPER(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *len),
    (fd, level, name, value, len), CALLS, ENOBUFS, -1)
WRAPPER(ssize_t, send, (int fd, const void *bytes, size_t size, int flags),
    (fd, bytes, size, flags), CALLS, ENOMEM, -1)
WRAPPER(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags),
    CALLS, ENOMEM, -1)
WRAPPER(ssize_t, recv, (int fd, void *bytes, size_t size, int flags), (fd, bytes, size, flags),
    CALLS, ENOMEM, -1)

/* What the kernel does with descriptors that came when there is no room for them. */
static void drop_descriptors(struct msghdr *message)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL;
         part = CMSG_NXTHDR(message, part)) {
        for (size_t at = CMSG_LEN(0); at + sizeof(int) <= part->cmsg_len; at += sizeof(int)) {
            int fd;

            memcpy(&fd, (char *)part + at, sizeof(fd));
            (void)close(fd);
        }
    }
    message->msg_controllen = 0;
    message->msg_flags |= MSG_CTRUNC;
}

VISIBLE ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    ssize_t got;
    REAL(recvmsg);

    RETURN_IF_GIVES_WAY(CALLS, ENOMEM, -1);
    got = real(fd, message, flags);
    if (got >= 0 && message->msg_controllen != 0 &&
        gives_way(KNIT_GROUND_CALLS, "recvmsg descriptors", EMFILE))
        drop_descriptors(message);
    return got;
}

WRAPPER(int, getaddrinfo,
    (const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **ret_list),
    (host, port, hints, ret_list), CALLS, EAGAIN, EAI_AGAIN)

/* ---- events ---- */

WRAPPER(int, epoll_create1, (int flags), (flags), CALLS, EMFILE, -1)
WRAPPER(int, epoll_ctl, (int epoll_fd, int operation, int fd, struct epoll_event *event),
    (epoll_fd, operation, fd, event), CALLS, operation == EPOLL_CTL_ADD ? ENOSPC : 0, -1)
WRAPPER(int, eventfd, (unsigned value, int flags), (value, flags), CALLS, EMFILE, -1)
WRAPPER(int, timerfd_create, (clockid_t clock, int flags), (clock, flags), CALLS, EMFILE, -1)
WRAPPER(int, pipe2, (int fds[2], int flags), (fds, flags), CALLS, EMFILE, -1)
WRAPPER(int, pidfd_open, (pid_t pid, unsigned flags), (pid, flags), CALLS, EMFILE, -1)

/* ---- processes and threads ---- */

WRAPPER(pid_t, fork, (void), (), CALLS, EAGAIN, -1)

VISIBLE int clone(int (*run)(void *), void *stack, int flags, void *arg, ...)
{
    void *parent, *storage, *child;
    va_list args;
    REAL(clone);

    va_start(args, arg);
    parent = va_arg(args, void *);
    storage = va_arg(args, void *);
    child = va_arg(args, void *);
    va_end(args);
    RETURN_IF_GIVES_WAY(CALLS, EAGAIN, -1);
    return real(run, stack, flags, arg, parent, storage, child);
}

WRAPPER(int, execve, (const char *path, char *const argv[], char *const environment[]),
    (path, argv, environment), CALLS, ENOMEM, -1)
WRAPPER(int, pthread_create,
    (pthread_t * ret_thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg),
    (ret_thread, attributes, start, arg), CALLS, EAGAIN, EAGAIN)
WRAPPER(struct passwd *, getpwnam, (const char *name), (name), CALLS, EMFILE, NULL)
WRAPPER(struct group *, getgrnam, (const char *name), (name), CALLS, EMFILE, NULL)

/* ---- waiting ---- */

WRAPPER(int, poll, (struct pollfd * items, nfds_t count, int timeout_ms),
    (items, count, timeout_ms), INTERRUPTS, EINTR, -1)
WRAPPER(int, epoll_wait, (int epoll_fd, struct epoll_event *events, int size, int timeout_ms),
    (epoll_fd, events, size, timeout_ms), INTERRUPTS, EINTR, -1)

/* Futexes come through here. */
VISIBLE long syscall(long number, ...)
{
    long args[6];
    va_list list;
    REAL(syscall);

    va_start(list, number);
    for (int i = 0; i < 6; i++)
        args[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_futex_waitv ||
        (number == SYS_futex && ((int)args[1] & FUTEX_CMD_MASK) == FUTEX_WAIT))
        RETURN_IF_GIVES_WAY(INTERRUPTS, EINTR, -1);
    return real(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}
