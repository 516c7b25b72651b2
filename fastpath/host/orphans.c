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

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fastpath/host/leaf.h"
#include "fastpath/lane/fd.h"

#define VARIABLES_MAX 100000u

/* The parent of a process; 0 when it cannot be read. */
static pid_t parent_of(const char *pid)
{
    char path[64], text[512];
    const char *behind;
    int fd, parent = 0;
    ssize_t got;

    (void)snprintf(path, sizeof(path), "/proc/%.16s/stat", pid);
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

static bool is_worker(const struct knit_pool *pool, pid_t pid)
{
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        const struct knit_worker *worker = &pool->workers[i];

        if (worker->step != KNIT_STEP_NONE && worker->process.pid == pid)
            return true;
    }
    return false;
}

static bool has_living(const struct knit_pool *pool, uint32_t lane)
{
    return lane < pool->options.workers && pool->workers[lane].step != KNIT_STEP_NONE &&
           pool->workers[lane].step != KNIT_STEP_ENDED;
}

static bool is_mark_of_living(const struct knit_pool *pool, const char *variable)
{
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        char mark[KNIT_LAUNCH_MARK_SIZE];

        knit_launch_make_mark(mark, pool->workers[i].serial);
        if (has_living(pool, i) && strcmp(variable, mark) == 0)
            return true;
    }
    return false;
}

/* Whether a worker that lives has left it behind. */
static bool is_spared(const struct knit_pool *pool, const char *pid)
{
    char path[64], *variable = NULL;
    bool is_marked = false;
    size_t size = 0;
    FILE *file;

    if (has_living(pool, knit_leaf_of(pool, pid)))
        return true;
    (void)snprintf(path, sizeof(path), "/proc/%.16s/environ", pid);
    file = fopen(path, "re");
    if (file == NULL)
        return false;
    for (uint32_t i = 0;
         i < VARIABLES_MAX && !is_marked && getdelim(&variable, &size, '\0', file) >= 0; i++)
        is_marked = is_mark_of_living(pool, variable);
    free(variable);
    (void)fclose(file);
    return is_marked;
}

uint32_t knit_orphans_kill(struct knit_pool *pool)
{
    const struct dirent *entry;
    uint32_t found = 0;
    DIR *proc;

    if (!pool->options.kill_orphans)
        return 0;
    for (uint32_t i = 0; i < pool->options.workers; i++)
        found += !has_living(pool, i) && knit_leaf_kill(pool, i);
    proc = opendir("/proc");
    if (proc == NULL)
        return found;
    while ((entry = readdir(proc)) != NULL) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

        if (pid <= 1 || parent_of(entry->d_name) != getpid() || is_worker(pool, pid) ||
            is_spared(pool, entry->d_name))
            continue;
        /* It is an unreaped child, so the number is its own. */
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, WNOHANG);
        /* Counted though it may be gone: its children have been handed over. */
        found++;
    }
    (void)closedir(proc);
    return found;
}
