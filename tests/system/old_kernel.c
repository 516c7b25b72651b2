/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a command as an older kernel would.
 *
 *     old_kernel landlock=ABI COMMAND...     Landlock reports that version
 *     old_kernel landlock=none COMMAND...    there is no Landlock
 *     old_kernel seccomp=none COMMAND...     no filter can be installed any more
 *     old_kernel futex_waitv=NAME COMMAND... futex_waitv fails with EPERM or ENOSYS
 *     old_kernel close_range=NAME COMMAND... so does close_range
 *     old_kernel passrights=none COMMAND...  sockets have no option SO_PASSRIGHTS
 *     old_kernel memfd_exec=EACCES COMMAND... no memory may be run, as with vm.memfd_noexec=2
 *     old_kernel memfd_exec=EINVAL COMMAND... memfd_create knows no flags about it, before 6.3
 *
 * A seccomp filter answers in place of the kernel. To answer with a number it needs a listener: a
 * child that waits for the calls and ends with the command.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CREATE_RULESET = 444, SET_SECCOMP = 22, NOT_POSSIBLE = 77 };

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

#define FIELD(name) offsetof(struct seccomp_data, name)

#define LOAD(field)               BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FIELD(field))
#define SKIP_UNLESS(value, count) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, count)
#define ANSWER(action)            BPF_STMT(BPF_RET | BPF_K, action)

static int install(struct sock_filter *lines, size_t count, unsigned flags)
{
    struct sock_fprog program = {(unsigned short)count, lines};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static int install_for_landlock(uint32_t action, unsigned flags)
{
    struct sock_filter lines[] = {LOAD(nr), SKIP_UNLESS(CREATE_RULESET, 3), LOAD(args[2]),
        SKIP_UNLESS(1 /* asks for the version */, 1), ANSWER(action), ANSWER(SECCOMP_RET_ALLOW)};

    return install(lines, sizeof(lines) / sizeof(lines[0]), flags);
}

static int install_for_seccomp(void)
{
    struct sock_filter lines[] = {LOAD(nr), SKIP_UNLESS(SYS_seccomp, 1),
        ANSWER(SECCOMP_RET_ERRNO | ENOSYS), SKIP_UNLESS(SYS_prctl, 3), LOAD(args[0]),
        SKIP_UNLESS(SET_SECCOMP, 1), ANSWER(SECCOMP_RET_ERRNO | EINVAL), ANSWER(SECCOMP_RET_ALLOW)};

    return install(lines, sizeof(lines) / sizeof(lines[0]), 0);
}

/* Linux before 5.16 has no futex_waitv, before 5.9 no close_range; filters of containers that do
 * not know a call refuse it either way. */
static int install_refusal(unsigned call, const char *name)
{
    unsigned error = strcmp(name, "EPERM") == 0 ? EPERM : ENOSYS;
    struct sock_filter lines[] = {LOAD(nr), SKIP_UNLESS(call, 1), ANSWER(SECCOMP_RET_ERRNO | error),
        ANSWER(SECCOMP_RET_ALLOW)};

    return install(lines, sizeof(lines) / sizeof(lines[0]), 0);
}

/* Linux before 6.16 has no SO_PASSRIGHTS. */
static int install_for_passrights(void)
{
    struct sock_filter lines[] = {LOAD(nr), SKIP_UNLESS(SYS_setsockopt, 3), LOAD(args[2]),
        SKIP_UNLESS(SO_PASSRIGHTS, 1), ANSWER(SECCOMP_RET_ERRNO | ENOPROTOOPT),
        ANSWER(SECCOMP_RET_ALLOW)};

    return install(lines, sizeof(lines) / sizeof(lines[0]), 0);
}

static int install_for_memfd(const char *name)
{
    bool is_unknown = strcmp(name, "EINVAL") == 0;
    struct sock_filter lines[] = {LOAD(nr), SKIP_UNLESS(SYS_memfd_create, 3), LOAD(args[1]),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, is_unknown ? 0x18 : 0x10, 0, 1),
        ANSWER(SECCOMP_RET_ERRNO | (is_unknown ? EINVAL : EACCES)), ANSWER(SECCOMP_RET_ALLOW)};

    return install(lines, sizeof(lines) / sizeof(lines[0]), 0);
}

static void answer(int listener, long version)
{
    struct seccomp_notif question;
    struct seccomp_notif_resp reply = {0};
    struct pollfd poll_fd = {.fd = listener, .events = POLLIN};

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (poll(&poll_fd, 1, -1) == 1 && (poll_fd.revents & POLLIN) != 0) {
        memset(&question, 0, sizeof(question));
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &question) != 0)
            continue;
        reply.id = question.id;
        reply.val = version;
        (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &reply);
    }
    _exit(0);
}

static int install_version(long version)
{
    int listener = install_for_landlock(SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
    pid_t pid = listener >= 0 ? fork() : -1;

    if (pid == 0)
        answer(listener, version);
    if (listener >= 0)
        (void)close(listener);
    return pid > 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
    int error = -1;

    if (argc < 3)
        return 2;
    if (strcmp(argv[1], "landlock=none") == 0)
        error = install_for_landlock(SECCOMP_RET_ERRNO | ENOSYS, 0);
    else if (strcmp(argv[1], "seccomp=none") == 0)
        error = install_for_seccomp();
    else if (strncmp(argv[1], "futex_waitv=", 12) == 0)
        error = install_refusal(SYS_futex_waitv, argv[1] + 12);
    else if (strncmp(argv[1], "close_range=", 12) == 0)
        error = install_refusal(SYS_close_range, argv[1] + 12);
    else if (strcmp(argv[1], "passrights=none") == 0)
        error = install_for_passrights();
    else if (strncmp(argv[1], "memfd_exec=", 11) == 0)
        error = install_for_memfd(argv[1] + 11);
    else if (strncmp(argv[1], "landlock=", 9) == 0)
        error = install_version(strtol(argv[1] + 9, NULL, 10));
    if (error != 0) {
        perror("old_kernel");
        return NOT_POSSIBLE;
    }
    execv(argv[2], argv + 2);
    perror(argv[2]);
    return 2;
}
