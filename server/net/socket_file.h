/* SPDX-License-Identifier: Apache-2.0 */
/* The unix socket: its path, its lock, its rights.
 *
 * Beside PATH lies PATH.lock, locked with flock() while the daemon lives. A daemon that gets the
 * lock may replace the socket file, since no other daemon can be serving it any more; one that does
 * not get it is the second daemon and is refused. A socket that is served without the lock is
 * refused as well, and a file that is not a socket is never removed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <knitting/code.h>

#include "proto/sentence.h"

enum {
    KNIT_SOCKET_FILE_E_REFUSED = 1, /* the sentence says why */
};

struct knit_closer;

struct knit_socket_file {
    char *path; /* absolute; NULL = closed */
    char *lock_path;
    int lock_fd;
    int fd;       /* non-blocking, listening */
    dev_t device; /* of the socket's file, and its inode */
    ino_t inode;
    bool brings_gifts;          /* the kernel cannot refuse the descriptors that peers send */
    bool leaves_files;          /* another process goes on with them: they are not removed */
    struct knit_closer *closer; /* closes fd; NULL: knit_socket_file_close() itself */
};

/* What PATH is when none is given: /run/knitting/knitting.sock for root, else
 * $XDG_RUNTIME_DIR/knitting/knitting.sock; in a service's own folder, where systemd made one.
 * makes_folder: creates that last folder, and nothing else.
 * Returns 0 with a path to be freed, KNIT_SOCKET_FILE_E_REFUSED, -ENOMEM. */
KNIT_MUST_CHECK int knit_socket_file_usual_path(
    bool makes_folder, char **ret_path, struct knit_sentence *why);

/* The variable of the environment that this follows from, or NULL. */
const char *knit_socket_file_usual_variable(void);

/* Whether a socket can be made there, whichever process serves it now; NULL: in the usual place.
 * Makes nothing. Returns 0, KNIT_SOCKET_FILE_E_REFUSED, -ENOMEM. */
KNIT_MUST_CHECK int knit_socket_file_check(const char *path, struct knit_sentence *why);

/* group may be NULL. The file has its rights before a peer can connect.
 * Returns 0, KNIT_SOCKET_FILE_E_REFUSED, -ENOMEM. Not for programs with threads: sets the umask. */
KNIT_MUST_CHECK int knit_socket_file_open(struct knit_socket_file *file, const char *path,
    uint32_t mode, const char *group, struct knit_sentence *why);

/* The same with a socket that another process has opened at that path, and its lock. lock_fd: -1 =
 * there is none, since the socket is a service manager's, who gave it mode and group. The files
 * stay at the end, until the caller says otherwise. Takes over both descriptors, in any case. */
KNIT_MUST_CHECK int knit_socket_file_adopt(struct knit_socket_file *file, const char *path, int fd,
    int lock_fd, struct knit_sentence *why);

/* Sets mode and group of an adopted one. Returns 0 or KNIT_SOCKET_FILE_E_REFUSED. */
KNIT_MUST_CHECK int knit_socket_file_set_rights(const struct knit_socket_file *file, uint32_t mode,
    const char *group, struct knit_sentence *why);

/* Whether there is such a group, and this process may give files to it. Returns 0,
 * KNIT_SOCKET_FILE_E_REFUSED, or -errno; with a sentence. */
KNIT_MUST_CHECK int knit_socket_file_check_group(const char *group, struct knit_sentence *why);

/* Removes both files, unless others lie in their places by now. Accepts a zeroed or closed one. */
void knit_socket_file_close(struct knit_socket_file *file);
