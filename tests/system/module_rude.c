/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks that behave as badly as code in a worker can without being malicious: each one is a bug
 * that real modules have. None of them returns unless it says so.
 */
#include <knitting/task.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

KNIT_MODULE("1.0");

/* Runs forever and ignores all signals but SIGKILL. Tries to leave the worker's process group,
 * which the pool kills; a strict worker may not leave it. */
static int hang_forever(void)
{
    sigset_t all;

    (void)setsid();
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    while (pause() != 0)
        ;
    return 0;
}

KNIT_TASK(same, "same(value: any) -> any")
{
    size_t len;
    const void *value = knit_arg_raw(call, 0, &len);

    return knit_return_raw(call, value, len);
}

KNIT_TASK(close_all, "close_all() -> nil", .doc = "Closes every descriptor; ends well.")
{
    closefrom(0);
    return knit_return_nil(call);
}

KNIT_TASK(leak, "leak() -> int", .doc = "Opens descriptors until there are none; how many.")
{
    int64_t count = 0;

    while (open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0)
        count++;
    return knit_return_int(call, count);
}

/* A socket whose close takes eight seconds while nobody reads from its peer, which is left open. */
static int open_lingering(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    static const struct linger linger = {1, 8};
    static const char bytes[65536];
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (bind(server, (struct sockaddr *)&address, len) != 0 || listen(server, 1) != 0 ||
        getsockname(server, (struct sockaddr *)&address, &len) != 0 ||
        connect(fd, (struct sockaddr *)&address, len) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) != 0)
        return -1;
    while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        ;
    return fd;
}

static bool send_descriptor(int to, int fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } ancillary = {.bytes = {0}};
    char byte = 0;
    struct iovec body = {&byte, 1};
    struct msghdr message = {.msg_iov = &body,
        .msg_iovlen = 1,
        .msg_control = ancillary.bytes,
        .msg_controllen = sizeof(ancillary.bytes)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);

    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &fd, sizeof(fd));
    return sendmsg(to, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
}

/* Only then is what was sent to it closed by its sender first. */
static void stop_parent(void)
{
    char path[32], state[512];

    (void)kill(getppid(), SIGSTOP);
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)getppid());
    do {
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        memset(state, 0, sizeof(state));
        (void)!read(fd, state, sizeof(state) - 1);
        (void)close(fd);
    } while (strstr(state, ") T ") == NULL);
}

KNIT_TASK(give, "give() -> int",
    .doc = "Sends a socket whose close takes long over each descriptor that the worker had at its "
           "start; how many were taken.")
{
    bool is_open[16];
    int64_t taken = 0;

    for (int to = 0; to < 16; to++)
        is_open[to] = fcntl(to, F_GETFD) >= 0;
    stop_parent();
    for (int to = 0; to < 16; to++) {
        int fd = is_open[to] ? open_lingering() : -1;

        if (fd >= 0 && send_descriptor(to, fd)) {
            taken++;
            (void)close(fd);
        }
    }
    (void)kill(getppid(), SIGCONT);
    return knit_return_int(call, taken);
}

KNIT_TASK(orphan, "orphan(die: bool) -> int",
    .doc = "Leaves a child that holds all it inherited; its process id, or dies at once.")
{
    pid_t pid = fork();

    if (pid == 0)
        return hang_forever();
    if (knit_arg_bool(call, 0))
        _exit(3);
    return knit_return_int(call, pid);
}

/* A process in a session of its own, then one that it starts in the same way, and so on; the last
 * writes its number. Never returns. */
static int walk_away(int64_t depth, bool is_bare, int fd)
{
    char *const environment[] = {NULL};
    pid_t pid = getpid();

    (void)setsid();
    if (depth > 1 && fork() == 0)
        return walk_away(depth - 1, is_bare, fd);
    if (depth == 1)
        (void)!write(fd, &pid, sizeof(pid));
    if (is_bare)
        (void)execle("/bin/sleep", "sleep", "1000", (char *)NULL, environment);
    return hang_forever();
}

KNIT_TASK(scatter, "scatter(depth: int, bare: bool) -> str",
    .doc = "Leaves that many processes, each with the next one as its child, all in sessions of "
           "their own, with the worker's output; those that are bare are programs without any "
           "environment. The process id of the last, and the worker's.")
{
    pid_t pid, last = 0;
    char text[64];
    int fds[2];

    if (pipe(fds) != 0)
        return knit_fail(call, 1, "no pipe");
    pid = fork();
    if (pid == 0) {
        /* Their first parent ends at once. */
        if (fork() == 0)
            return walk_away(knit_arg_int(call, 0), knit_arg_bool(call, 1), fds[1]);
        _exit(0);
    }
    (void)waitpid(pid, NULL, 0);
    (void)!read(fds[0], &last, sizeof(last));
    (void)close(fds[0]);
    (void)close(fds[1]);
    (void)snprintf(text, sizeof(text), "%d %d", (int)last, (int)getpid());
    return knit_return_str(call, text, strlen(text));
}

KNIT_TASK(breed, "breed() -> nil",
    .doc = "Leaves processes that end once they have started the next one, for 30 seconds.")
{
    uint64_t until_ns = knit_now_ns(call) + UINT64_C(30000000000);

    for (int i = 0; i < 4; i++) {
        if (fork() == 0) {
            while (knit_now_ns(call) < until_ns) {
                (void)setsid();
                if (fork() != 0)
                    _exit(0);
            }
            _exit(0);
        }
    }
    return knit_return_nil(call);
}

KNIT_TASK(
    hang, "hang() -> nil", .doc = "Hangs with children; ignores signals.", .hard_timeout_ms = 200)
{
    for (int i = 0; i < 3; i++) {
        if (fork() == 0)
            return hang_forever();
    }
    return hang_forever();
}

KNIT_TASK(hold_out, "hold_out() -> nil", .doc = "Hangs without a hard timeout; ignores signals.")
{
    return hang_forever();
}

KNIT_TASK(stand_still, "stand_still() -> nil", .doc = "Stops itself.", .hard_timeout_ms = 200)
{
    raise(SIGSTOP);
    return hang_forever();
}

KNIT_TASK(obey, "obey() -> nil", .doc = "Goes on until it is told to stop.", .timeout_ms = 200)
{
    const struct timespec pause = {.tv_nsec = 1000000};

    while (!knit_aborted(call))
        (void)nanosleep(&pause, NULL);
    return knit_return_aborted(call);
}

static int fill_stack(int depth)
{
    char room[4096];

    memset(room, depth, sizeof(room));
    return depth < 0 ? room[17] : fill_stack(depth + 1) + room[18];
}

KNIT_TASK(wait_for_child, "wait_for_child() -> nil",
    .doc = "Waits in the kernel for a vforked child, which only SIGKILL ends.",
    .hard_timeout_ms = 200)
{
    /* NOLINTNEXTLINE(clang-analyzer-security.insecureAPI.vfork): that state is intended. */
    if (vfork() == 0) {
        while (pause() != 0)
            ;
    }
    return knit_return_nil(call);
}

KNIT_TASK(nap, "nap(ms: int) -> int", .doc = "Waits so long; its process.")
{
    int64_t ms = knit_arg_int(call, 0);
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    while (nanosleep(&left, &left) != 0)
        ;
    return knit_return_int(call, getpid());
}

KNIT_TASK(fill, "fill(bytes: int) -> bin", .doc = "So many bytes, none of them 0.")
{
    size_t size = (size_t)knit_arg_int(call, 0);
    char *bytes = malloc(size);
    int r;

    if (bytes == NULL)
        return knit_fail(call, 1, "no memory");
    memset(bytes, 7, size);
    r = knit_return_bin(call, bytes, size);
    free(bytes);
    return r;
}

KNIT_TASK(hoard, "hoard() -> int", .doc = "Allocates memory until there is none; how much.")
{
    int64_t bytes = 0;

    for (size_t size = (size_t)1 << 24; size >= 16; size /= 2) {
        char *block;

        while ((block = malloc(size)) != NULL) {
            *(volatile char *)block = 1;
            bytes += (int64_t)size;
        }
    }
    return knit_return_int(call, bytes);
}

KNIT_TASK(let_block, "let_block() -> int", .doc = "Makes every descriptor blocking; how many.")
{
    int64_t count = 0;

    for (int fd = 0; fd < 1024; fd++) {
        int flags = fcntl(fd, F_GETFL);

        count +=
            flags >= 0 && (flags & O_NONBLOCK) != 0 && fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0;
    }
    return knit_return_int(call, count);
}

KNIT_TASK(overflow, "overflow() -> int", .doc = "Recurses until its stack is full.")
{
    return fill_stack(0);
}

KNIT_TASK(leave, "leave(how: int) -> nil", .doc = "0 exit, 1 _exit, 2 pthread_exit, 3 abort.",
    .flags = KNIT_TASK_INLINE_SAFE)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    switch (knit_arg_int(call, 0)) {
    case 0:
        exit(0);
    case 1:
        _exit(0);
    case 2:
        pthread_exit(NULL);
    default:
        abort();
    }
}

KNIT_TASK(chatter, "chatter(lines: int, wide: bool?) -> int",
    .doc = "Prints lines, or one that never ends; how many.")
{
    int64_t lines = knit_arg_int(call, 0);

    for (int64_t i = 0; i < lines; i++)
        printf("%s%lld%s", "line ", (long long)i, knit_arg_bool(call, 1) ? " " : "\n");
    fprintf(stderr, "\001\033[31m not text: \377\n");
    fflush(stdout);
    return knit_return_int(call, lines);
}

KNIT_TASK(wild_signals, "wild_signals() -> int", .doc = "Ignores all signals and sets an alarm.")
{
    for (int number = 1; number < 32; number++)
        signal(number, SIG_IGN);
    alarm(1);
    return knit_return_int(call, getpid());
}

static void *do_nothing(void *unused)
{
    (void)unused;
    return NULL;
}

KNIT_TASK(threads, "threads(count: int) -> int", .doc = "Starts threads and never joins them.")
{
    int64_t started = 0;
    pthread_t thread;

    for (int64_t i = 0; i < knit_arg_int(call, 0); i++)
        started += pthread_create(&thread, NULL, do_nothing, NULL) == 0;
    return knit_return_int(call, started);
}
