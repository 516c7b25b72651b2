/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors: what the kernel lets their holder do beyond reading and writing, what it must
 * refuse, and descriptors that are sent where none are expected.
 */
#include "tests/system/hostile/attack.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/deadline.h"

enum { SLOTS = 64, ARENA = 1 << 20, PATIENCE_MS = 10000, SESSIONS_OF_A_UID = 8, QUOTA = 201 };

/* ---- pages ---- */

static bool punch(const struct knit_attached *attached, off_t from, off_t bytes)
{
    return fallocate(attached->fd[REQUEST_FD], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from,
               bytes) == 0;
}

/* Frees all pages of the segment before the pool maps it, and tries to free pages after that, by
 * the descriptor and by the mapping, while calls go on. */
bool knit_attack_holes(const struct knit_target *target, struct knit_random *random)
{
    static const unsigned char params[3000] = {0x91, 0xc5, 2996 >> 8, 2996 & 0xff};
    struct knit_attached attached;
    uint32_t holes = 0, tries = 0, ended = 0, calls = 0;
    bool fine = true;

    for (int session = 0; session < 10; session++) {
        uint64_t until_ns = knit_deadline_now_ns() + 150000000u;

        knit_attached_open_unsealed(&attached, target, SLOTS, ARENA);
        fine = punch(&attached, 0, (off_t)attached.request.bytes) && fine;
        fine = knit_segment_seal(attached.fd[REQUEST_FD]) == 0 && fine;
        knit_attached_send_attached(&attached);
        while (knit_deadline_now_ns() < until_ns && !knit_attached_is_over(&attached)) {
            off_t pages = (off_t)(attached.request.bytes / KNIT_PAGE);
            off_t from = (off_t)knit_random_below(random, (uint64_t)pages) * KNIT_PAGE;
            off_t len = knit_random_chance(random, 8) ? pages * KNIT_PAGE - from : KNIT_PAGE;

            calls += knit_attached_call(&attached, params, sizeof(params),
                knit_random_below(random, ARENA - sizeof(params)));
            knit_attached_notify(&attached);
            holes += punch(&attached, from, len) || errno != EPERM;
            holes += madvise((char *)attached.request.base + from, (size_t)len, MADV_REMOVE) == 0 ||
                     errno != EPERM;
            tries += 2;
        }
        fine = knit_attached_is_answered(&attached, PATIENCE_MS) && fine;
        ended += knit_attached_is_over(&attached);
        knit_attached_close(&attached);
    }
    printf("%u holes in %u tries under %u calls%s, %u of 10 sessions ended\n", holes, tries, calls,
        fine ? "" : ", not all answered", ended);
    return fine && tries > 0 && holes == 0 && ended == 0 && calls > 0;
}

/* Fills and empties the whole segment repeatedly for a second. A process that has a page fault
 * there sleeps until the round is over. */
static uint32_t fill_and_empty(const struct knit_attached *attached)
{
    uint64_t until_ns = knit_deadline_now_ns() + 1000000000u;
    off_t bytes = (off_t)attached->request.bytes;
    uint32_t rounds = 0;

    while (knit_deadline_now_ns() < until_ns) {
        rounds +=
            fallocate(attached->fd[REQUEST_FD], 0, 0, bytes) == 0 && punch(attached, 0, bytes);
    }
    return rounds;
}

/* Does not send $/attached; in the second session it does, without F_SEAL_FUTURE_WRITE. Its calls
 * are never claimed. */
bool knit_attack_punch(const struct knit_target *target, struct knit_random *random)
{
    static const unsigned char params[] = {0x91, 0x07};
    struct knit_attached attached;
    uint32_t rounds = 0;
    bool fine = true;

    (void)random;
    for (int session = 0; session < 2; session++) {
        knit_attached_open_unsealed(&attached, target, 0, 0);
        fine = knit_attached_call(&attached, params, sizeof(params), 0) && fine;
        knit_attached_notify(&attached);
        rounds += fill_and_empty(&attached);
        fine = fine && !knit_attached_is_over(&attached);
        if (session == 1) {
            fine = fcntl(attached.fd[REQUEST_FD], F_ADD_SEALS, F_SEAL_SEAL) == 0 && fine;
            knit_attached_send_attached(&attached);
            rounds += fill_and_empty(&attached);
            fine = knit_attached_ends(&attached, PATIENCE_MS) && fine;
        }
        fine = fine && !knit_attached_is_answered(&attached, 0);
        knit_attached_close(&attached);
    }
    printf("%u times filled and emptied\n", rounds);
    return fine && rounds > 0;
}

/* ---- access ---- */

/* Refused for lack of permission, or because the descriptor is read-only. Any other error means
 * that the attempt was not made. For a read-only descriptor ftruncate() fails with EINVAL. */
static bool refused(const char *what, bool worked)
{
    bool is_right = errno == EPERM || errno == EACCES || errno == EBADF || errno == EINVAL;

    printf("%s: %s%s\n", what, worked ? "GRANTED" : strerror(errno),
        worked || is_right ? "" : ", which is no refusal");
    errno = 0;
    return !worked && is_right;
}

static int reopen(int fd, int flags)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, flags | O_CLOEXEC);
}

static bool try_segment(const char *name, int fd, size_t bytes)
{
    const int added = F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;
    bool fine = true;
    char byte = 0;
    void *base;

    printf("%s\n", name);
    fine = refused("  shrink", ftruncate(fd, 0) == 0) && fine;
    fine = refused("  grow", ftruncate(fd, (off_t)bytes + KNIT_PAGE) == 0) && fine;
    fine =
        refused("  allocate beyond the end", fallocate(fd, 0, 0, (off_t)bytes + KNIT_PAGE) == 0) &&
        fine;
    fine = refused("  write beyond the end", pwrite(fd, &byte, 1, (off_t)bytes) == 1) && fine;
    fine = refused("  further seals", fcntl(fd, F_ADD_SEALS, added) == 0) && fine;
    fine = refused("  change its mode", fchmod(fd, 0666) == 0) && fine;
    base = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    fine = base != MAP_FAILED && fine;
    fine = refused("  write", pwrite(fd, &byte, 1, 0) == 1) && fine;
    fine = refused("  punch a hole",
               fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, KNIT_PAGE) == 0) &&
           fine;
    fine = refused("  map it writable",
               mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED) &&
           fine;
    fine =
        refused("  make a mapping writable", mprotect(base, bytes, PROT_READ | PROT_WRITE) == 0) &&
        fine;
    fine = refused("  take its pages away", madvise(base, bytes, MADV_REMOVE) == 0) && fine;
    munmap(base, bytes);
    fine = refused("  re-open it for writing", reopen(fd, O_RDWR) >= 0) && fine;
    fine = refused("  re-open it for writing only", reopen(fd, O_WRONLY) >= 0) && fine;
    fine = refused("  re-open and truncate it", reopen(fd, O_WRONLY | O_TRUNC) >= 0) && fine;
    return fine;
}

/* Processes of another uid. */
static bool try_process(const char *name, pid_t pid)
{
    char path[64];
    bool fine;

    printf("%s\n", name);
    fine = refused("  signal", kill(pid, 0) == 0);
    fine = refused("  trace", ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0) && fine;
    snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
    fine = refused("  its memory", open(path, O_RDWR | O_CLOEXEC) >= 0) && fine;
    snprintf(path, sizeof(path), "/proc/%d/fd/0", (int)pid);
    return refused("  its descriptors", open(path, O_RDONLY | O_CLOEXEC) >= 0) && fine;
}

bool knit_attack_rights(const struct knit_target *target, struct knit_random *random)
{
    struct knit_attached attached;
    struct ucred daemon;
    socklen_t len = sizeof(daemon);
    bool fine;

    (void)random;
    knit_attached_open(&attached, target, SLOTS, ARENA);
    fine = try_segment("board", attached.fd[BOARD_FD], attached.board.bytes);
    fine = try_segment("request segment", attached.fd[REQUEST_FD], attached.request.bytes) && fine;
    fine = try_segment("reply segment", attached.fd[REPLY_FD], attached.reply.bytes) && fine;
    fine = getsockopt(attached.socket, SOL_SOCKET, SO_PEERCRED, &daemon, &len) == 0 &&
           try_process("daemon", daemon.pid) && fine;
    fine = knit_attached_is_served(&attached) && fine;
    knit_attached_close(&attached);
    return fine;
}

/* ---- unexpected descriptors ---- */

static bool send_fds(int socket, const void *bytes, size_t len, int fd, size_t count)
{
    enum { MOST = 253 };
    union {
        char bytes[CMSG_SPACE(sizeof(int[MOST]))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec part = {(void *)bytes, len};
    struct msghdr message = {.msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    int fds[MOST];

    for (size_t i = 0; i < count; i++)
        fds[i] = fd;
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(head), fds, count * sizeof(int));
    return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len;
}

/* The byte with that many descriptors, or alone where the daemon takes none (Linux 6.16). */
static bool send_byte(struct knit_attached *attached, const void *byte, size_t count)
{
    return send_fds(attached->socket, byte, 1, attached->fd[REQUEST_FD], count) ||
           (errno == EPERM && send(attached->socket, byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1);
}

/* False: not sent in time. Without EPERM the daemon has to receive waiting descriptors before the
 * kernel allows more in flight. */
static bool push(struct knit_attached *attached, const void *byte, size_t count)
{
    return KNIT_WAIT_UNTIL(send_byte(attached, byte, count), PATIENCE_MS);
}

/* The result of msgid 7 has come. */
static bool is_answered(const struct knit_attached *attached)
{
    static const unsigned char pong[] = {0x94, 1, 7, 0xc0, 0xc0};
    unsigned char bytes[256];

    return recv(attached->socket, bytes, sizeof(bytes), MSG_DONTWAIT) == sizeof(pong) &&
           memcmp(bytes, pong, sizeof(pong)) == 0;
}

/* Sends descriptors with each byte of a request: one, as many as an attach has, one more, and the
 * most that the kernel allows; and on the bell, which takes none. The request must be answered. */
bool knit_attack_surplus(const struct knit_target *target, struct knit_random *random)
{
    static const unsigned char ping[] = {0x94, 0, 7, 0xa6, '$', '/', 'p', 'i', 'n', 'g', 0x90};
    static const size_t counts[] = {1, ATTACHED_FDS, ATTACHED_FDS + 1, 253};
    struct knit_attached attached;
    uint32_t answered = 0, on_bell = 0;
    bool fine = true;

    (void)random;
    knit_attached_open(&attached, target, SLOTS, ARENA);
    for (size_t round = 0; round < 100 && fine; round++) {
        for (size_t i = 0; i < sizeof(ping) && fine; i++)
            fine = push(&attached, &ping[i], counts[round % 4]);
        fine = fine && KNIT_WAIT_UNTIL(is_answered(&attached), PATIENCE_MS);
        answered += fine;
        on_bell += round < 8 && send_fds(attached.fd[BELL_FD], ping, 1, STDIN_FILENO, 1);
    }
    fine = fine && knit_attached_is_served(&attached) && !knit_attached_is_over(&attached);
    printf("%u requests with descriptors were answered, %u sent on the bell%s\n", answered, on_bell,
        fine ? "" : ", and then no more");
    knit_attached_close(&attached);
    return fine && on_bell == 0;
}

/* ---- quota ---- */

bool knit_attack_quota(const struct knit_target *target, struct knit_random *random)
{
    struct knit_attached attached[SESSIONS_OF_A_UID];
    uint32_t code;
    bool is_served;

    (void)random;
    for (int i = 0; i < SESSIONS_OF_A_UID; i++)
        knit_attached_open(&attached[i], target, 0, 0);
    code = knit_attached_refusal(target);
    /* A session that ended makes room for another. */
    knit_attached_close(&attached[0]);
    knit_attached_open(&attached[0], target, 0, 0);
    is_served = knit_attached_is_served(&attached[0]);
    printf("one session more than a user may have: %u; one in the place of another is%s served\n",
        code, is_served ? "" : " not");
    for (int i = 0; i < SESSIONS_OF_A_UID; i++)
        knit_attached_close(&attached[i]);
    return code == QUOTA && is_served;
}
