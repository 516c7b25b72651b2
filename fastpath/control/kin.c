/* SPDX-License-Identifier: Apache-2.0 */
/* /proc/PID/environ holds the variables that a process was started with, or that its parent was if
 * it has started no program since. System calls alone, without the library's lists and streams: a
 * worker that is to end may hang in malloc().
 *
 * In the midst of execve() a process has neither: the old memory is gone, with all descriptors that
 * are close-on-exec, and the new one has no variables yet. So one that has a program, and nothing
 * to be read of its environment, is looked at again until there is something, or a command line,
 * which comes at the same moment.
 */
#include "fastpath/control/kin.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "fastpath/lane/fd.h"

#define ENVIRONMENT_MAX (16u << 20)
#define SWEEPS_MAX      100
#define LOOKS_MAX       200
#define EMPTY_MAX       4 /* of these, beside a command line */

static const char begin[] = KNIT_KIN_VARIABLE "=";

void knit_kin_make_mark(char *ret_mark, pid_t host, uint32_t serial)
{
    (void)snprintf(ret_mark, KNIT_KIN_MARK_SIZE, "%s%d.%u", begin, (int)host, serial);
}

/* How far the variable that is being read is one that begins so. */
struct reading {
    char *mark;
    uint32_t at;
    bool is_other;
};

/* True: the mark is whole. */
static bool take(struct reading *reading, char byte)
{
    const uint32_t begin_len = sizeof(begin) - 1;

    if (byte == '\0' && !reading->is_other && reading->at > begin_len) {
        reading->mark[reading->at] = '\0';
        return true;
    }
    if (byte == '\0') {
        reading->at = 0;
        reading->is_other = false;
    } else if (reading->is_other || reading->at + 1 >= KNIT_KIN_MARK_SIZE ||
               (reading->at < begin_len && byte != begin[reading->at])) {
        reading->is_other = true;
    } else {
        reading->mark[reading->at++] = byte;
    }
    return false;
}

static int open_of(pid_t pid, const char *name)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

enum look { FOUND, NONE, CUT };

/* CUT: its end was not there, as it always is of an environment that nobody writes. */
static enum look look_at(pid_t pid, char *ret_mark)
{
    struct reading reading = {.mark = ret_mark};
    char bytes[4096];
    enum look look = CUT;
    uint32_t total = 0;
    ssize_t got;
    int fd = open_of(pid, "environ");

    if (fd < 0)
        return NONE;
    while (look != FOUND && total < ENVIRONMENT_MAX && (got = read(fd, bytes, sizeof(bytes))) > 0) {
        look = bytes[got - 1] == '\0' ? NONE : CUT;
        for (ssize_t i = 0; i < got && look != FOUND; i++)
            look = take(&reading, bytes[i]) ? FOUND : look;
        total += (uint32_t)got;
    }
    knit_fd_close(&fd);
    return look;
}

/* A thread of the kernel has none, nor has what has ended. */
static bool has_program(pid_t pid)
{
    char path[64], byte;

    (void)snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
    return readlink(path, &byte, 1) > 0;
}

static bool has_command_line(pid_t pid)
{
    int fd = open_of(pid, "cmdline");
    char byte;
    bool has = fd >= 0 && read(fd, &byte, 1) > 0;

    knit_fd_close(&fd);
    return has;
}

/* One that has a command line may have begun with the next program by the time of the look, though
 * hardly each time. */
bool knit_kin_mark_of(pid_t pid, char *ret_mark)
{
    enum look look = look_at(pid, ret_mark);

    for (int i = 0, empty = 0; look == CUT && i < LOOKS_MAX && empty < EMPTY_MAX; i++) {
        if (!has_program(pid))
            return false;
        if (has_command_line(pid))
            empty++;
        else
            (void)sched_yield();
        look = look_at(pid, ret_mark);
    }
    return look == FOUND;
}

bool knit_kin_visit_all(knit_kin_visit *visit, void *arg)
{
    _Alignas(struct dirent64) char entries[8192];
    int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ssize_t got = 0;

    if (fd < 0)
        return false;
    while ((got = getdents64(fd, entries, sizeof(entries))) > 0) {
        for (ssize_t at = 0; at < got;) {
            const struct dirent64 *entry = (const struct dirent64 *)(const void *)(entries + at);
            long pid = strtol(entry->d_name, NULL, 10);

            if (pid > 1)
                visit(arg, (pid_t)pid);
            at += entry->d_reclen;
        }
    }
    knit_fd_close(&fd);
    return true;
}

struct kill {
    const char *mark;
    uint32_t found;
};

static void kill_one(void *arg, pid_t pid)
{
    struct kill *sweep = arg;
    char mark[KNIT_KIN_MARK_SIZE];
    /* Held while its mark is read, so that the signal goes to no later process of that number. */
    int fd = pid != getpid() ? pidfd_open(pid, 0) : -1;

    if (fd >= 0 && knit_kin_mark_of(pid, mark) && strcmp(mark, sweep->mark) == 0 &&
        pidfd_send_signal(fd, SIGKILL, NULL, 0) == 0)
        sweep->found++;
    knit_fd_close(&fd);
}

void knit_kin_kill(const char *mark)
{
    struct kill sweep = {.mark = mark, .found = 1};

    for (int i = 0; i < SWEEPS_MAX && sweep.found != 0; i++) {
        sweep.found = 0;
        if (!knit_kin_visit_all(kill_one, &sweep))
            return;
    }
}
