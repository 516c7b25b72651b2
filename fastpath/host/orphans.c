/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's process group dies with it, but an unsafe task may have children that left the group.
 * The host is their subreaper: when their parent ends they become its children, by which they are
 * known. Each one that is killed hands its own children over, so the caller sweeps until a sweep
 * finds none. A list of descendants that is made while the worker lives was rejected: it is out of
 * date at the next fork().
 *
 * What a living worker has left behind stays until that worker ends: it bears the mark of its
 * worker, a variable of the environment that each process inherits. A program that was started with
 * another environment bears none and is taken for a dead worker's. Where each lane has a control
 * group (leaf.h) that says whose a process is, and what is in a dead one's is killed at once.
 * Workers that are subreapers themselves were rejected: they cannot tell children that a task waits
 * for from those that they would have to reap.
 */
#include "fastpath/host/orphans.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fastpath/control/kin.h"
#include "fastpath/host/leaf.h"
#include "fastpath/lane/fd.h"

/* The parent of a process; 0 when it cannot be read. */
static pid_t parent_of(pid_t pid)
{
    char path[64], text[512];
    const char *behind;
    int fd, parent = 0;
    ssize_t got;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    got = read(fd, text, sizeof(text) - 1);
    knit_fd_close(&fd);
    text[got > 0 ? got : 0] = '\0';
    /* The name, in parentheses, may hold any character. */
    behind = strrchr(text, ')');
    return behind != NULL && sscanf(behind, ") %*c %d", &parent) == 1 ? parent : 0;
}

static bool is_worker(const struct knit_host *pool, pid_t pid)
{
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        const struct knit_worker *worker = &pool->workers[i];

        if (worker->step != KNIT_STEP_NONE && worker->process.pid == pid)
            return true;
    }
    return false;
}

static bool has_living(const struct knit_host *pool, uint32_t lane)
{
    return lane < pool->options.workers && pool->workers[lane].step != KNIT_STEP_NONE &&
           pool->workers[lane].step != KNIT_STEP_ENDED;
}

/* Whether a worker that lives has left it behind. */
static bool is_spared(const struct knit_host *pool, pid_t pid)
{
    char mark[KNIT_KIN_MARK_SIZE], own[KNIT_KIN_MARK_SIZE];

    if (has_living(pool, knit_leaf_of(pool, pid)))
        return true;
    if (!knit_kin_mark_of(pid, mark))
        return false;
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        knit_kin_make_mark(own, getpid(), pool->workers[i].serial);
        if (has_living(pool, i) && strcmp(mark, own) == 0)
            return true;
    }
    return false;
}

struct sweep {
    struct knit_host *pool;
    uint32_t found;
};

static void kill_orphan(void *arg, pid_t pid)
{
    struct sweep *sweep = arg;

    if (parent_of(pid) != getpid() || is_worker(sweep->pool, pid) || is_spared(sweep->pool, pid))
        return;
    /* It is an unreaped child, so the number is its own. */
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, WNOHANG);
    /* Counted though it may be gone: its children have been handed over. */
    sweep->found++;
}

uint32_t knit_orphans_kill(struct knit_host *pool)
{
    struct sweep sweep = {.pool = pool};

    if (!pool->options.kill_orphans)
        return 0;
    for (uint32_t i = 0; i < pool->options.workers; i++)
        sweep.found += !has_living(pool, i) && knit_leaf_kill(pool, i);
    (void)knit_kin_visit_all(kill_orphan, &sweep);
    return sweep.found;
}
