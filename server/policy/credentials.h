/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says of the process at the other end of a connection. Who calls by it is another
 * matter (principal.h): a process may say a token, and be another principal than its user; it may
 * attach, and administer the daemon, as its user all the same.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include <knitting/code.h>

struct knit_credentials {
    bool is_local; /* it came by a unix socket, and the kernel vouches for the ids */
    /* Of a local one. Another has -1, which is the id of no user and no group. */
    uid_t uid;
    gid_t gid;
    pid_t pid; /* for people; never a key, it may be another process by now */
    int fd;    /* borrowed: the socket that knows the supplementary groups; -1 = none does */
};

/* One of whom nothing is known. */
#define KNIT_CREDENTIALS_NONE                                                                      \
    {                                                                                              \
        .uid = (uid_t)-1, .gid = (gid_t)-1, .fd = -1                                               \
    }

/* Root, or the daemon's own user: whoever could end the daemon anyway. */
bool knit_credentials_is_operator(const struct knit_credentials *credentials);

/* All groups of a local one, its primary one among them, each once, in ascending order. ret_gids:
 * for the heap's free(). Returns how many, or -errno; another has none. */
KNIT_MUST_CHECK int knit_credentials_groups(
    const struct knit_credentials *credentials, gid_t **ret_gids);
