/* SPDX-License-Identifier: Apache-2.0 */
/* Groups of version 2, which are killed by one write that no fork() outruns. No controller is
 * enabled, so the host may stay in the group above.
 *
 * Whose group it is says what made it: a service manager marks the group of a service with
 * `Delegate=` by an attribute, or gives its folder to the service's user. Making groups wherever
 * root can was rejected: they would stand in the way of a manager that owns the place.
 */
#include "fastpath/host/leaf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fastpath/lane/fd.h"

#define TEXT_SIZE 4096u
#define NAME_SIZE 64u
#define LEAF_NAME "knitting-%d-%u" /* the host's number, the lane */

/* The start of a file; "" when it cannot be read. */
static void read_text(int folder_fd, const char *path, char *ret_text)
{
    int fd = openat(folder_fd, path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, ret_text, TEXT_SIZE - 1) : 0;

    knit_fd_close(&fd);
    ret_text[got > 0 ? got : 0] = '\0';
}

/* The path of the group that the text of /proc/PID/cgroup names; its line ends the text. NULL:
 * none. */
static char *path_in(char *text)
{
    char *line = strstr(text, "0::/"), *end;

    if (line == NULL || (line != text && line[-1] != '\n'))
        return NULL;
    line += strlen("0::");
    end = strchr(line, '\n');
    if (end == NULL)
        return NULL;
    *end = '\0';
    return line;
}

static bool is_given(int fd)
{
    struct stat status;
    char value = '0';

    if (fgetxattr(fd, "user.delegate", &value, 1) == 1 ||
        fgetxattr(fd, "trusted.delegate", &value, 1) == 1)
        return value == '1';
    return geteuid() != 0 && fstat(fd, &status) == 0 && status.st_uid == geteuid();
}

/* Groups of hosts that were killed, which would stay for ever. Only empty ones can be removed. */
static void remove_left(int folder_fd)
{
    int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;

    if (folder == NULL) {
        knit_fd_close(&fd);
        return;
    }
    while ((entry = readdir(folder)) != NULL) {
        int pid;
        unsigned lane;

        if (sscanf(entry->d_name, LEAF_NAME, &pid, &lane) == 2 && kill(pid, 0) != 0 &&
            errno == ESRCH)
            (void)unlinkat(folder_fd, entry->d_name, AT_REMOVEDIR);
    }
    (void)closedir(folder);
}

void knit_leaf_init(struct knit_host *pool)
{
    /* The second where version 1 is mounted too. */
    static const char *const places[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    char text[TEXT_SIZE], path[TEXT_SIZE + NAME_SIZE];
    const char *own;

    read_text(AT_FDCWD, "/proc/self/cgroup", text);
    own = path_in(text);
    for (size_t i = 0; own != NULL && i < sizeof(places) / sizeof(places[0]); i++) {
        struct statfs status;
        int fd;

        (void)snprintf(path, sizeof(path), "%s%s", places[i], own);
        fd = open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && fstatfs(fd, &status) == 0 && status.f_type == CGROUP2_SUPER_MAGIC &&
            faccessat(fd, "cgroup.kill", W_OK, AT_EACCESS) == 0 && is_given(fd)) {
            pool->leaves_fd = fd;
            remove_left(fd);
            return;
        }
        knit_fd_close(&fd);
    }
}

/* And behind it perhaps the name of a file within. */
static void name_leaf(char *ret_name, uint32_t lane, const char *file)
{
    (void)snprintf(ret_name, NAME_SIZE, LEAF_NAME "%s", (int)getpid(), lane, file);
}

int knit_leaf_open(const struct knit_host *pool, uint32_t lane)
{
    char name[NAME_SIZE];

    if (pool->leaves_fd < 0)
        return -1;
    name_leaf(name, lane, "");
    if (mkdirat(pool->leaves_fd, name, 0755) != 0 && errno != EEXIST)
        return -1;
    name_leaf(name, lane, "/cgroup.procs");
    return openat(pool->leaves_fd, name, O_WRONLY | O_CLOEXEC);
}

bool knit_leaf_kill(const struct knit_host *pool, uint32_t lane)
{
    char name[NAME_SIZE], text[TEXT_SIZE];
    int fd;

    if (pool->leaves_fd < 0)
        return false;
    name_leaf(name, lane, "/cgroup.kill");
    fd = openat(pool->leaves_fd, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    (void)!write(fd, "1", 1);
    knit_fd_close(&fd);
    name_leaf(name, lane, "/cgroup.events");
    read_text(pool->leaves_fd, name, text);
    return strstr(text, "populated 1") != NULL;
}

uint32_t knit_leaf_of(const struct knit_host *pool, pid_t pid)
{
    char path[NAME_SIZE], text[TEXT_SIZE], begin[NAME_SIZE];
    const char *group, *name;

    if (pool->leaves_fd < 0)
        return UINT32_MAX;
    (void)snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
    read_text(AT_FDCWD, path, text);
    group = path_in(text);
    (void)snprintf(begin, sizeof(begin), "/knitting-%d-", (int)getpid());
    name = group != NULL ? strstr(group, begin) : NULL;
    return name != NULL ? (uint32_t)strtoul(name + strlen(begin), NULL, 10) : UINT32_MAX;
}

void knit_leaf_fini(struct knit_host *pool)
{
    char name[NAME_SIZE];

    for (uint32_t i = 0; pool->leaves_fd >= 0 && i < pool->options.workers; i++) {
        name_leaf(name, i, "");
        (void)unlinkat(pool->leaves_fd, name, AT_REMOVEDIR);
    }
    knit_fd_close(&pool->leaves_fd);
}
