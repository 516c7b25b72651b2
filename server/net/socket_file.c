/* SPDX-License-Identifier: Apache-2.0 */
/* The lock file is removed at the end, while its lock is still held. A daemon that opened the file
 * just before and gets the lock just after holds the lock of a file without a name. Therefore each
 * daemon that gets the lock checks that the name still leads to the file it locked, and begins
 * again if not.
 */
#include "server/net/socket_file.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/config/folder.h"
#include "server/net/closer.h"

/* Linux 6.16; younger than the headers. */
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

#define REFUSED KNIT_SOCKET_FILE_E_REFUSED

const char *knit_socket_file_usual_variable(void)
{
    const char *service = getenv("RUNTIME_DIRECTORY");

    if (service != NULL && service[0] == '/')
        return "RUNTIME_DIRECTORY";
    return geteuid() == 0 ? NULL : "XDG_RUNTIME_DIR";
}

/* The folder of the usual place, which may be missing. */
static int find_usual_folder(char **ret_path, struct knit_sentence *why)
{
    const char *variable = knit_socket_file_usual_variable();
    const char *base = variable != NULL ? getenv(variable) : "/run", *service = base;

    /* Made by systemd, for this service alone; of several the first. */
    if (variable != NULL && strcmp(variable, "RUNTIME_DIRECTORY") == 0)
        return asprintf(ret_path, "%.*s", (int)strcspn(service, ":"), service) < 0 ? -ENOMEM : 0;
    if (base != NULL && base[0] != '\0' && base[0] != '/')
        return knit_sentence_set(why, REFUSED,
            "$XDG_RUNTIME_DIR is '%s', which is no absolute path, so there is no usual place for "
            "the unix socket; name one with --socket PATH, or none with --socket none",
            base);
    if (base == NULL || base[0] != '/')
        return knit_sentence_set(why, REFUSED,
            "there is no usual place for the unix socket because $XDG_RUNTIME_DIR is not set; "
            "name one with --socket PATH, or none with --socket none");
    return asprintf(ret_path, "%s/knitting", base) < 0 ? -ENOMEM : 0;
}

int knit_socket_file_usual_path(bool makes_folder, char **ret_path, struct knit_sentence *why)
{
    mode_t mode = geteuid() == 0 ? 0755 : 0700;
    char *folder, *path;
    int r = find_usual_folder(&folder, why);

    if (r != 0)
        return r;
    if (makes_folder && mkdir(folder, mode) < 0 && errno != EEXIST)
        r = knit_sentence_set(why, REFUSED,
            "cannot create %s for the unix socket: %s; name another place with --socket PATH, or "
            "none with --socket none",
            folder, strerror(errno));
    else if (asprintf(&path, "%s/knitting.sock", folder) < 0)
        r = -ENOMEM;
    else
        *ret_path = path;
    free(folder);
    return r;
}

/* Whether the lock's name still leads to the file that is locked. */
static bool is_named(int fd, const char *path)
{
    struct stat own, named;

    return fstat(fd, &own) == 0 && stat(path, &named) == 0 && own.st_ino == named.st_ino &&
           own.st_dev == named.st_dev;
}

static int take_lock(struct knit_socket_file *file, struct knit_sentence *why)
{
    for (int attempt = 0; attempt < 100; attempt++) {
        int fd = open(file->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (fd < 0)
            return knit_sentence_set(why, REFUSED,
                "cannot open %s: %s; choose another place with "
                "--socket",
                file->lock_path, strerror(errno));
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
            int r = errno == EWOULDBLOCK ? knit_sentence_set(why, REFUSED,
                                               "%s is served by another knittingd", file->path)
                                         : knit_sentence_set(why, REFUSED, "cannot lock %s: %s",
                                               file->lock_path, strerror(errno));

            (void)close(fd);
            return r;
        }
        if (is_named(fd, file->lock_path)) {
            file->lock_fd = fd;
            return 0;
        }
        (void)close(fd);
    }
    return knit_sentence_set(
        why, REFUSED, "cannot lock %s: it is replaced all the time", file->lock_path);
}

static int fill_address(
    const char *path, struct sockaddr_un *ret_address, struct knit_sentence *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    size_t len = strlen(path);

    if (len >= sizeof(address.sun_path))
        return knit_sentence_set(why, REFUSED,
            "the path of a unix socket has at most %zu bytes, %s has %zu",
            sizeof(address.sun_path) - 1, path, len);
    memcpy(address.sun_path, path, len + 1);
    *ret_address = address;
    return 0;
}

static int refuse_other_file(const char *path, struct knit_sentence *why)
{
    return knit_sentence_set(why, REFUSED, "%s is there already and is not a socket", path);
}

/* Removes the socket file of a daemon that has ended. The lock is held. */
static int remove_stale(const struct knit_socket_file *file, const struct sockaddr_un *address,
    struct knit_sentence *why)
{
    struct stat status;
    int fd, r;

    if (lstat(file->path, &status) < 0)
        return errno == ENOENT ? 0
                               : knit_sentence_set(why, REFUSED, "cannot look at %s: %s",
                                     file->path, strerror(errno));
    if (!S_ISSOCK(status.st_mode))
        return refuse_other_file(file->path, why);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return knit_sentence_set(why, REFUSED, "cannot create a unix socket: %s", strerror(errno));
    r = connect(fd, (const struct sockaddr *)address, sizeof(*address));
    if (r < 0)
        r = errno;
    (void)close(fd);
    /* EAGAIN: the backlog of a server is full. Only a refused connection proves that none is
     * there. */
    if (r != ECONNREFUSED && r != ENOENT)
        return knit_sentence_set(why, REFUSED, "%s is served by another program", file->path);
    if (unlink(file->path) < 0 && errno != ENOENT)
        return knit_sentence_set(
            why, REFUSED, "cannot remove the stale %s: %s", file->path, strerror(errno));
    return 0;
}

static int find_group(const char *group, gid_t *ret_gid, struct knit_sentence *why)
{
    const struct group *entry = getgrnam(group);

    if (entry == NULL)
        return knit_sentence_set(
            why, REFUSED, "server.socket_group: there is no group '%s'", group);
    *ret_gid = entry->gr_gid;
    return 0;
}

int knit_socket_file_check_group(const char *group, struct knit_sentence *why)
{
    gid_t gid = 0;
    int r = find_group(group, &gid, why), fd;

    if (r != 0)
        return r;
    /* A file in memory is given away by the same rules as the socket's, and leaves no trace. */
    fd = memfd_create("group", MFD_CLOEXEC);
    if (fd < 0)
        return knit_sentence_set(
            why, -errno, "cannot make a file to try the group %s with: %s", group, strerror(errno));
    if (fchown(fd, (uid_t)-1, gid) < 0)
        r = knit_sentence_set(why, REFUSED,
            "server.socket_group: the daemon's user may not give the socket to the group %s: %s; "
            "it has to be a member",
            group, strerror(errno));
    (void)close(fd);
    return r;
}

static int set_rights(const char *path, uint32_t mode, const char *group, struct knit_sentence *why)
{
    gid_t gid = 0;

    if (group != NULL) {
        int r = find_group(group, &gid, why);

        if (r != 0)
            return r;
        if (chown(path, (uid_t)-1, gid) < 0)
            return knit_sentence_set(
                why, REFUSED, "cannot give %s to the group %s: %s", path, group, strerror(errno));
    }
    if (chmod(path, (mode_t)mode) < 0)
        return knit_sentence_set(
            why, REFUSED, "cannot set the mode of %s: %s", path, strerror(errno));
    return 0;
}

/* Connections inherit it. A peer that sends a descriptor gets EPERM, and the daemon never closes a
 * stranger's socket, whose last close may sleep: in the thread that receives, even when it left no
 * room for descriptors. Before Linux 6.16 there is no such option, and a closer is needed. */
static bool can_refuse_descriptors(int fd)
{
    int off = 0;

    return setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof(off)) == 0;
}

static int bind_and_listen(struct knit_socket_file *file, const struct sockaddr_un *address,
    uint32_t mode, const char *group, struct knit_sentence *why)
{
    struct stat status;
    mode_t before;
    int fd, r;

    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return knit_sentence_set(why, REFUSED, "cannot create a unix socket: %s", strerror(errno));
    before = umask(0777);
    r = bind(fd, (const struct sockaddr *)address, sizeof(*address));
    (void)umask(before);
    if (r < 0 || lstat(file->path, &status) < 0) {
        r = knit_sentence_set(
            why, REFUSED, "cannot create the socket %s: %s", file->path, strerror(errno));
        (void)close(fd);
        return r;
    }
    file->fd = fd;
    file->brings_gifts = !can_refuse_descriptors(fd);
    file->device = status.st_dev;
    file->inode = status.st_ino;
    r = set_rights(file->path, mode, group, why);
    if (r == 0 && listen(fd, SOMAXCONN) < 0)
        r = knit_sentence_set(why, REFUSED, "cannot listen on %s: %s", file->path, strerror(errno));
    return r;
}

/* Relative paths are made absolute, so that processes in other folders can use what is printed. */
static char *new_absolute(const char *path)
{
    char *folder, *absolute;

    if (path[0] == '/')
        return strdup(path);
    folder = getcwd(NULL, 0);
    if (folder == NULL)
        return NULL;
    if (asprintf(&absolute, "%s/%s", folder, path) < 0)
        absolute = NULL;
    free(folder);
    return absolute;
}

static int check_path(const char *path, struct knit_sentence *why)
{
    struct sockaddr_un address;
    struct stat status;
    int r = fill_address(path, &address, why);

    if (r == 0)
        r = knit_folder_check(path, why);
    if (r == 0 && lstat(path, &status) == 0 && !S_ISSOCK(status.st_mode))
        r = refuse_other_file(path, why);
    return r;
}

static int check_usual_place(struct knit_sentence *why)
{
    char *folder, *path = NULL;
    int r = find_usual_folder(&folder, why);

    if (r != 0)
        return r;
    if (access(folder, F_OK) < 0)
        r = knit_folder_check(folder, why);
    else if (asprintf(&path, "%s/knitting.sock", folder) < 0)
        path = NULL, r = -ENOMEM;
    else
        r = check_path(path, why);
    free(path);
    free(folder);
    return r;
}

int knit_socket_file_check(const char *path, struct knit_sentence *why)
{
    char *absolute;
    int r;

    if (path == NULL)
        return check_usual_place(why);
    absolute = new_absolute(path);
    r = absolute != NULL ? check_path(absolute, why) : -ENOMEM;
    free(absolute);
    return r;
}

int knit_socket_file_open(struct knit_socket_file *file, const char *path, uint32_t mode,
    const char *group, struct knit_sentence *why)
{
    struct sockaddr_un address;
    int r;

    *file = (struct knit_socket_file){.lock_fd = -1, .fd = -1};
    file->path = new_absolute(path);
    if (file->path == NULL || asprintf(&file->lock_path, "%s.lock", file->path) < 0) {
        file->lock_path = NULL;
        knit_socket_file_close(file);
        return -ENOMEM;
    }
    r = fill_address(file->path, &address, why);
    if (r == 0)
        r = take_lock(file, why);
    if (r == 0)
        r = remove_stale(file, &address, why);
    if (r == 0)
        r = bind_and_listen(file, &address, mode, group, why);
    if (r != 0)
        knit_socket_file_close(file);
    return r;
}

/* Whether the lock is the file of that name, and held by whoever holds this descriptor. */
static bool is_own_lock(const struct knit_socket_file *file)
{
    return is_named(file->lock_fd, file->lock_path) && flock(file->lock_fd, LOCK_EX | LOCK_NB) == 0;
}

int knit_socket_file_adopt(
    struct knit_socket_file *file, const char *path, int fd, int lock_fd, struct knit_sentence *why)
{
    struct stat status;
    int r = 0;

    *file = (struct knit_socket_file){.lock_fd = lock_fd, .fd = fd, .leaves_files = true};
    file->path = new_absolute(path);
    if (file->path == NULL || asprintf(&file->lock_path, "%s.lock", file->path) < 0) {
        file->lock_path = NULL;
        r = -ENOMEM;
    } else if (lstat(file->path, &status) < 0 || !S_ISSOCK(status.st_mode)) {
        r = knit_sentence_set(
            why, REFUSED, "the socket that was handed over does not lie at %s any more", path);
    } else if (lock_fd >= 0 && !is_own_lock(file)) {
        r = knit_sentence_set(
            why, REFUSED, "the lock that was handed over is not that of %s", file->path);
    }
    if (r != 0) {
        knit_socket_file_close(file);
        return r;
    }
    file->device = status.st_dev;
    file->inode = status.st_ino;
    file->brings_gifts = !can_refuse_descriptors(fd);
    return 0;
}

int knit_socket_file_set_rights(const struct knit_socket_file *file, uint32_t mode,
    const char *group, struct knit_sentence *why)
{
    return set_rights(file->path, mode, group, why);
}

/* The socket holds its inode, so no other file has that number while it is open. */
static bool is_own_socket(const struct knit_socket_file *file)
{
    struct stat named;

    return lstat(file->path, &named) == 0 && named.st_dev == file->device &&
           named.st_ino == file->inode;
}

void knit_socket_file_close(struct knit_socket_file *file)
{
    bool removes = file->path != NULL && !file->leaves_files;
    bool is_open = file->path != NULL || file->leaves_files;

    if (is_open && file->fd >= 0) {
        if (removes && is_own_socket(file))
            (void)unlink(file->path);
        knit_closer_close(file->closer, file->fd);
    }
    if (is_open && file->lock_fd >= 0) {
        if (removes && is_named(file->lock_fd, file->lock_path))
            (void)unlink(file->lock_path);
        (void)close(file->lock_fd);
    }
    free(file->path);
    free(file->lock_path);
    *file = (struct knit_socket_file){.lock_fd = -1, .fd = -1};
}
