/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's process group dies with it, but an unsafe task may have children that left the group.
 * The host is their subreaper: when their parent ends they become its children, by which they are
 * known. Each one that is killed hands its own children over, so the caller sweeps until none is
 * left. A list of descendants that is made while the worker lives was rejected: it is out of date
 * at the next fork().
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

#include "fastpath/lane/fd.h"

/* The parent of a process; 0 when it cannot be read. */
static pid_t parent_of(const char *pid, char *ret_state)
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
    if (behind == NULL || sscanf(behind, ") %c %d", ret_state, &parent) != 2)
        return 0;
    return parent;
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

uint32_t knit_orphans_kill(struct knit_pool *pool)
{
    const struct dirent *entry;
    uint32_t alive = 0;
    DIR *proc;

    if (!pool->options.kill_orphans)
        return 0;
    proc = opendir("/proc");
    if (proc == NULL)
        return 0;
    while ((entry = readdir(proc)) != NULL) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        char state = ' ';

        if (pid <= 1 || parent_of(entry->d_name, &state) != getpid() || is_worker(pool, pid))
            continue;
        /* It is an unreaped child, so the number is its own. */
        (void)kill(pid, SIGKILL);
        if (waitpid(pid, NULL, WNOHANG) != pid && state != 'Z')
            alive++;
    }
    (void)closedir(proc);
    return alive;
}
