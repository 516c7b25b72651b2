/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that wait for the file look for its name, so the name must not be there before the
 * content. The file gets it by rename(), within one folder and so on one file system. Since
 * rename() replaces device nodes and links as well as files, what is there is looked at first.
 *
 * A daemon that serves holds a write lock on its file, which takes the right to write it: somebody
 * who may only read it cannot keep a daemon from starting.
 */
#include "server/daemon/ready_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fastpath/lane/fd.h"
#include "server/config/folder.h"
#include "server/net/listening.h"

#define REFUSED KNIT_READY_FILE_E_REFUSED

/* What lies at the path, or { .st_ino = 0 } for nothing. */
static int look(const char *path, struct stat *ret_there, struct knit_sentence *why)
{
    static const char beginning[] = {'u', 'r', 'l', '='};
    char bytes[sizeof(beginning)];
    struct stat there = {.st_ino = 0};
    ssize_t len;
    int fd;

    *ret_there = (struct stat){.st_ino = 0};
    if (lstat(path, &there) < 0)
        return errno == ENOENT ? 0
                               : knit_sentence_set(why, REFUSED,
                                     "cannot look at the ready file "
                                     "%s: %s",
                                     path, strerror(errno));
    if (!S_ISREG(there.st_mode))
        return knit_sentence_set(
            why, REFUSED, "cannot write the ready file %s: what is there is no regular file", path);
    fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    len = fd >= 0 ? read(fd, bytes, sizeof(bytes)) : -1;
    if (len < 0 || fstat(fd, ret_there) < 0) {
        (void)knit_sentence_set(
            why, REFUSED, "cannot look at the ready file %s: %s", path, strerror(errno));
    } else if (len != 0 && (len != sizeof(bytes) || memcmp(bytes, beginning, sizeof(bytes)) != 0)) {
        (void)knit_sentence_set(why, REFUSED,
            "cannot write the ready file %s: what is there is no ready file; remove it or name "
            "another",
            path);
        len = -1;
    }
    if (fd >= 0)
        (void)close(fd);
    return len < 0 ? REFUSED : 0;
}

int knit_ready_file_check(const char *path, struct knit_sentence *why)
{
    struct stat there;
    int r;

    if (path != NULL && path[0] == '\0')
        return knit_sentence_set(why, REFUSED, "--ready-file: expected a path, not ''");
    r = path != NULL ? look(path, &there, why) : 0;
    return r == 0 && path != NULL ? knit_folder_check(path, why) : r;
}

static bool is_named(const char *path, const struct stat *own)
{
    struct stat named;

    return lstat(path, &named) == 0 && named.st_dev == own->st_dev && named.st_ino == own->st_ino;
}

/* Of the open file, so that it ends with the process, whatever threads and forks come to. */
static void hold(int fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    /* A file system without locks has no second daemon refused. */
    (void)fcntl(fd, F_OFD_SETLK, &whole);
}

static bool is_held(const char *path)
{
    struct flock whole = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    bool held = fd >= 0 && fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;

    if (fd >= 0)
        (void)close(fd);
    return held;
}

/* As look(), for what is about to be replaced. */
static int look_to_replace(
    const struct knit_ready_file *file, struct stat *ret_there, struct knit_sentence *why)
{
    const char *path = file->path;
    int r = look(path, ret_there, why);

    if (r == 0 && ret_there->st_ino != 0 && !file->replaces && is_held(path))
        return knit_sentence_set(why, REFUSED,
            "cannot write the ready file %s: it is that of a daemon that serves; name another",
            path);
    return r;
}

int knit_ready_file_clear(const struct knit_ready_file *file, struct knit_sentence *why)
{
    struct stat there;
    int r;

    if (file->path == NULL)
        return 0;
    r = look_to_replace(file, &there, why);
    /* A process that made an empty one may hold it open; it announces nothing, and stays until the
     * end. */
    if (r == 0 && there.st_ino != 0 && there.st_size != 0 && is_named(file->path, &there))
        (void)unlink(file->path);
    return r;
}

static bool put(
    struct knit_ready_file *file, const char *other, const struct knit_listening *listening)
{
    const char *socket_path = listening->socket.path;
    FILE *stream = fopen(other, "wxe");
    bool is_written;

    if (stream == NULL)
        return false;
    for (size_t i = 0; i < listening->tcp_count; i++)
        fprintf(stream, "url=%s://%s\n", listening->tcp_is_tls[i] ? "knits" : "knit",
            listening->tcp_names[i]);
    if (socket_path != NULL)
        fprintf(stream, "url=unix://%s\nurl=shm://%s\n", socket_path, socket_path);
    if (file->admin != NULL && file->admin[0] != '\0')
        fprintf(stream, "admin=%s\n", file->admin);
    fprintf(stream, "pid=%ld\n", (long)getpid());
    file->fd = fcntl(fileno(stream), F_DUPFD_CLOEXEC, 0);
    if (file->fd >= 0)
        hold(file->fd);
    is_written = file->fd >= 0 && !ferror(stream);
    return fclose(stream) != EOF && is_written;
}

int knit_ready_file_write(
    struct knit_ready_file *file, const struct knit_listening *listening, struct knit_sentence *why)
{
    struct stat there;
    char *other;
    int r;

    if (file->path == NULL)
        return 0;
    r = look_to_replace(file, &there, why);
    if (r != 0)
        return r;
    if (asprintf(&other, "%s.%ld", file->path, (long)getpid()) < 0)
        return -ENOMEM;
    if (!put(file, other, listening) || rename(other, file->path) < 0) {
        r = knit_sentence_set(
            why, REFUSED, "cannot write the ready file %s: %s", file->path, strerror(errno));
        /* Without a descriptor it was not made, and belongs to somebody else if it is there. */
        if (file->fd >= 0)
            (void)unlink(other);
        knit_fd_close(&file->fd);
    }
    free(other);
    return r;
}

void knit_ready_file_remove(struct knit_ready_file *file)
{
    struct stat own;

    if (file->fd >= 0 && fstat(file->fd, &own) == 0 && is_named(file->path, &own))
        (void)unlink(file->path);
    knit_fd_close(&file->fd);
}
