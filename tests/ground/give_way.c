/* SPDX-License-Identifier: Apache-2.0 */
/* A library to preload into a program: one of its allocations or system calls fails, the one that
 * the book says, and all others do what they always do.
 *
 * The dynamic linker binds every call of malloc(), socket() and so on to the first library that has
 * the name, which is this one, whoever calls: our code, libevent, msgpack-c or the C library's own
 * strdup(). So nothing has to be linked for the test, and what runs is what is installed. Wrapping
 * by the linker would reach our own objects alone.
 *
 * What cannot fail in a program that is right is left out: close(), munmap(), taking something out
 * of an epoll, reading and writing eventfds, timers and pipes.
 */
#undef _FILE_OFFSET_BITS /* both forms of open() and its kin are wanted */
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

static void tell(const char *name, int error, void *const *stack, int frames)
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

        if (strncmp(file, "libseccomp.", 11) == 0)
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

    if (book == NULL || is_inside || (book->kinds & kind) == 0 ||
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
        tell(name, error, stack, frames);
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

__attribute__((constructor)) static void open_book(void)
{
    const char *path = getenv("KNIT_GROUND"), *program = getenv("KNIT_GROUND_PROGRAM");
    void *stack[1], *memory;
    int fd;

    /* The first one loads libgcc_s. */
    (void)backtrace(stack, 1);
    if (path == NULL || (program != NULL && strcmp(program, program_invocation_short_name) != 0))
        return;
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    memory = mmap(NULL, sizeof(*book), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (memory != MAP_FAILED)
        book = memory;
}

/* ---- memory ---- */

VISIBLE void *malloc(size_t size)
{
    REAL(malloc);
    RETURN_IF_GIVES_WAY(MEMORY, ENOMEM, NULL);
    return real(size);
}

VISIBLE void *calloc(size_t members, size_t size)
{
    REAL(calloc);
    RETURN_IF_GIVES_WAY(MEMORY, ENOMEM, NULL);
    return real(members, size);
}

VISIBLE void *realloc(void *memory, size_t size)
{
    REAL(realloc);
    RETURN_IF_GIVES_WAY(MEMORY, ENOMEM, NULL);
    return real(memory, size);
}

VISIBLE int posix_memalign(void **ret_memory, size_t alignment, size_t size)
{
    REAL(posix_memalign);
    RETURN_IF_GIVES_WAY(MEMORY, ENOMEM, ENOMEM);
    return real(ret_memory, alignment, size);
}

VISIBLE void *aligned_alloc(size_t alignment, size_t size)
{
    REAL(aligned_alloc);
    RETURN_IF_GIVES_WAY(MEMORY, ENOMEM, NULL);
    return real(alignment, size);
}

#ifdef __SANITIZE_ADDRESS__
#error "the library stands before the sanitizer's, it is not part of it"
#endif

/* ---- mappings and files ---- */

VISIBLE void *mmap(void *address, size_t len, int protection, int flags, int fd, off_t offset)
{
    REAL(mmap);
    RETURN_IF_GIVES_WAY(CALLS, ENOMEM, MAP_FAILED);
    return real(address, len, protection, flags, fd, offset);
}

VISIBLE void *mmap64(void *address, size_t len, int protection, int flags, int fd, off64_t offset)
{
    REAL(mmap64);
    RETURN_IF_GIVES_WAY(CALLS, ENOMEM, MAP_FAILED);
    return real(address, len, protection, flags, fd, offset);
}

VISIBLE int madvise(void *address, size_t len, int advice)
{
    REAL(madvise);
    RETURN_IF_GIVES_WAY(CALLS, ENOMEM, -1);
    return real(address, len, advice);
}

VISIBLE int memfd_create(const char *name, unsigned flags)
{
    REAL(memfd_create);
    RETURN_IF_GIVES_WAY(CALLS, ENFILE, -1);
    return real(name, flags);
}

VISIBLE int ftruncate(int fd, off_t len)
{
    REAL(ftruncate);
    RETURN_IF_GIVES_WAY(CALLS, ENOMEM, -1);
    return real(fd, len);
}

VISIBLE int ftruncate64(int fd, off64_t len)
{
    REAL(ftruncate64);
    RETURN_IF_GIVES_WAY(CALLS, ENOMEM, -1);
    return real(fd, len);
}

VISIBLE int fallocate64(int fd, int mode, off64_t offset, off64_t len)
{
    REAL(fallocate64);
    RETURN_IF_GIVES_WAY(CALLS, ENOSPC, -1);
    return real(fd, mode, offset, len);
}

VISIBLE int fchmod(int fd, mode_t mode)
{
    REAL(fchmod);
    RETURN_IF_GIVES_WAY(CALLS, EPERM, -1);
    return real(fd, mode);
}

VISIBLE int chmod(const char *path, mode_t mode)
{
    REAL(chmod);
    RETURN_IF_GIVES_WAY(CALLS, EROFS, -1);
    return real(path, mode);
}

VISIBLE int chown(const char *path, uid_t uid, gid_t gid)
{
    REAL(chown);
    RETURN_IF_GIVES_WAY(CALLS, EPERM, -1);
    return real(path, uid, gid);
}

VISIBLE int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    RETURN_IF_GIVES_WAY(CALLS, ENOSPC, -1);
    return real(path, mode);
}

VISIBLE int rename(const char *from, const char *to)
{
    REAL(rename);
    RETURN_IF_GIVES_WAY(CALLS, ENOSPC, -1);
    return real(from, to);
}

VISIBLE int unlink(const char *path)
{
    REAL(unlink);
    RETURN_IF_GIVES_WAY(CALLS, EROFS, -1);
    return real(path);
}

VISIBLE int flock(int fd, int operation)
{
    REAL(flock);
    RETURN_IF_GIVES_WAY(CALLS, ENOLCK, -1);
    return real(fd, operation);
}

static mode_t mode_of(int flags, va_list args)
{
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
}

VISIBLE int open(const char *path, int flags, ...)
{
    va_list args;
    mode_t mode;
    REAL(open);

    va_start(args, flags);
    mode = mode_of(flags, args);
    va_end(args);
    RETURN_IF_GIVES_WAY(CALLS, EMFILE, -1);
    return real(path, flags, mode);
}

VISIBLE int open64(const char *path, int flags, ...)
{
    va_list args;
    mode_t mode;
    REAL(open64);

    va_start(args, flags);
    mode = mode_of(flags, args);
    va_end(args);
    RETURN_IF_GIVES_WAY(CALLS, EMFILE, -1);
    return real(path, flags, mode);
}

VISIBLE FILE *fopen64(const char *path, const char *mode)
{
    REAL(fopen64);
    RETURN_IF_GIVES_WAY(CALLS, EMFILE, NULL);
    return real(path, mode);
}

VISIBLE int fflush(FILE *file)
{
    REAL(fflush);
    RETURN_IF_GIVES_WAY(CALLS, ENOSPC, EOF);
    return real(file);
}

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
    if (error != 0)
        RETURN_IF_GIVES_WAY(CALLS, error, -1);
    return real(fd, command, arg);
}

VISIBLE int dup2(int from, int to)
{
    REAL(dup2);
    RETURN_IF_GIVES_WAY(CALLS, EBUSY, -1);
    return real(from, to);
}

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

VISIBLE ssize_t read(int fd, void *bytes, size_t size)
{
    int error = error_of(fd, false);
    REAL(read);

    if (error != 0)
        RETURN_IF_GIVES_WAY(CALLS, error, -1);
    return real(fd, bytes, size);
}

VISIBLE ssize_t readv(int fd, const struct iovec *parts, int count)
{
    int error = error_of(fd, false);
    REAL(readv);

    if (error != 0)
        RETURN_IF_GIVES_WAY(CALLS, error, -1);
    return real(fd, parts, count);
}

VISIBLE ssize_t pread64(int fd, void *bytes, size_t size, off64_t offset)
{
    REAL(pread64);
    RETURN_IF_GIVES_WAY(CALLS, EIO, -1);
    return real(fd, bytes, size, offset);
}

VISIBLE ssize_t write(int fd, const void *bytes, size_t size)
{
    int error = error_of(fd, true);
    REAL(write);

    if (error != 0)
        RETURN_IF_GIVES_WAY(CALLS, error, -1);
    return real(fd, bytes, size);
}

VISIBLE ssize_t writev(int fd, const struct iovec *parts, int count)
{
    int error = error_of(fd, true);
    REAL(writev);

    if (error != 0)
        RETURN_IF_GIVES_WAY(CALLS, error, -1);
    return real(fd, parts, count);
}

VISIBLE ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset)
{
    REAL(pwrite64);
    RETURN_IF_GIVES_WAY(CALLS, ENOSPC, -1);
    return real(fd, bytes, size, offset);
}

/* ---- sockets ---- */

VISIBLE int socket(int domain, int type, int protocol)
{
    REAL(socket);
    RETURN_IF_GIVES_WAY(CALLS, EMFILE, -1);
    return real(domain, type, protocol);
}

VISIBLE int socketpair(int domain, int type, int protocol, int ret_fds[2])
{
    REAL(socketpair);
    RETURN_IF_GIVES_WAY(CALLS, EMFILE, -1);
    return real(domain, type, protocol, ret_fds);
}

VISIBLE int bind(int fd, __CONST_SOCKADDR_ARG address, socklen_t len)
{
    REAL(bind);
    RETURN_IF_GIVES_WAY(CALLS, EADDRINUSE, -1);
    return real(fd, address, len);
}

VISIBLE int listen(int fd, int backlog)
{
    REAL(listen);
    RETURN_IF_GIVES_WAY(CALLS, EADDRINUSE, -1);
    return real(fd, backlog);
}

VISIBLE int accept4(int fd, __SOCKADDR_ARG address, socklen_t *len, int flags)
{
    REAL(accept4);
    RETURN_IF_GIVES_WAY(CALLS, EMFILE, -1);
    return real(fd, address, len, flags);
}

VISIBLE int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t len)
{
    REAL(connect);
    RETURN_IF_GIVES_WAY(CALLS, ECONNREFUSED, -1);
    return real(fd, address, len);
}

VISIBLE int getsockname(int fd, __SOCKADDR_ARG address, socklen_t *len)
{
    REAL(getsockname);
    RETURN_IF_GIVES_WAY(CALLS, ENOBUFS, -1);
    return real(fd, address, len);
}

VISIBLE int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    REAL(setsockopt);
    RETURN_IF_GIVES_WAY(CALLS, ENOMEM, -1);
    return real(fd, level, name, value, len);
}

VISIBLE int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    REAL(getsockopt);
    RETURN_IF_GIVES_WAY(CALLS, ENOBUFS, -1);
    return real(fd, level, name, value, len);
}

VISIBLE ssize_t send(int fd, const void *bytes, size_t size, int flags)
{
    REAL(send);
    RETURN_IF_GIVES_WAY(CALLS, ENOMEM, -1);
    return real(fd, bytes, size, flags);
}

VISIBLE ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    REAL(sendmsg);
    RETURN_IF_GIVES_WAY(CALLS, ENOMEM, -1);
    return real(fd, message, flags);
}

VISIBLE ssize_t recv(int fd, void *bytes, size_t size, int flags)
{
    REAL(recv);
    RETURN_IF_GIVES_WAY(CALLS, ENOMEM, -1);
    return real(fd, bytes, size, flags);
}

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

VISIBLE int getaddrinfo(
    const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **ret_list)
{
    REAL(getaddrinfo);
    RETURN_IF_GIVES_WAY(CALLS, EAGAIN, EAI_AGAIN);
    return real(host, port, hints, ret_list);
}

/* ---- descriptors that tell of things ---- */

VISIBLE int epoll_create1(int flags)
{
    REAL(epoll_create1);
    RETURN_IF_GIVES_WAY(CALLS, EMFILE, -1);
    return real(flags);
}

VISIBLE int epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
    REAL(epoll_ctl);
    if (operation == EPOLL_CTL_ADD)
        RETURN_IF_GIVES_WAY(CALLS, ENOSPC, -1);
    return real(epoll_fd, operation, fd, event);
}

VISIBLE int eventfd(unsigned value, int flags)
{
    REAL(eventfd);
    RETURN_IF_GIVES_WAY(CALLS, EMFILE, -1);
    return real(value, flags);
}

VISIBLE int timerfd_create(clockid_t clock, int flags)
{
    REAL(timerfd_create);
    RETURN_IF_GIVES_WAY(CALLS, EMFILE, -1);
    return real(clock, flags);
}

VISIBLE int pipe2(int fds[2], int flags)
{
    REAL(pipe2);
    RETURN_IF_GIVES_WAY(CALLS, EMFILE, -1);
    return real(fds, flags);
}

VISIBLE int pidfd_open(pid_t pid, unsigned flags)
{
    REAL(pidfd_open);
    RETURN_IF_GIVES_WAY(CALLS, EMFILE, -1);
    return real(pid, flags);
}

/* ---- processes and threads ---- */

VISIBLE pid_t fork(void)
{
    REAL(fork);
    RETURN_IF_GIVES_WAY(CALLS, EAGAIN, -1);
    return real();
}

VISIBLE int execve(const char *path, char *const argv[], char *const environment[])
{
    REAL(execve);
    RETURN_IF_GIVES_WAY(CALLS, ENOMEM, -1);
    return real(path, argv, environment);
}

VISIBLE int pthread_create(
    pthread_t *ret_thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg)
{
    REAL(pthread_create);
    RETURN_IF_GIVES_WAY(CALLS, EAGAIN, EAGAIN);
    return real(ret_thread, attributes, start, arg);
}

VISIBLE struct passwd *getpwnam(const char *name)
{
    REAL(getpwnam);
    RETURN_IF_GIVES_WAY(CALLS, EMFILE, NULL);
    return real(name);
}

VISIBLE struct group *getgrnam(const char *name)
{
    REAL(getgrnam);
    RETURN_IF_GIVES_WAY(CALLS, EMFILE, NULL);
    return real(name);
}

/* ---- waiting ---- */

VISIBLE int poll(struct pollfd *items, nfds_t count, int timeout_ms)
{
    REAL(poll);
    RETURN_IF_GIVES_WAY(INTERRUPTS, EINTR, -1);
    return real(items, count, timeout_ms);
}

VISIBLE int epoll_wait(int epoll_fd, struct epoll_event *events, int size, int timeout_ms)
{
    REAL(epoll_wait);
    RETURN_IF_GIVES_WAY(INTERRUPTS, EINTR, -1);
    return real(epoll_fd, events, size, timeout_ms);
}

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
