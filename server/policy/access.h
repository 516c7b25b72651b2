/* SPDX-License-Identifier: Apache-2.0 */
/* Who is at the other end of a unix socket, and may they attach to shared memory. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "proto/sentence.h"
#include "server/config/setting.h"

/* An id that our user namespace cannot express arrives as this: a stranger, whoever it is. Where
 * the namespace expresses all ids it is an ordinary one, usually nobody's. */
#define KNIT_ACCESS_STRANGER 65534u

enum {
    KNIT_ACCESS_E_REFUSED = 1, /* the sentence says why */
};

struct knit_access_peer {
    uid_t uid;
    gid_t gid;
    pid_t pid; /* for people; never a key, it may be somebody else's by now */
};

/* The lists of users and groups, as numbers. */
struct knit_access {
    uid_t own_uid;
    bool maps_all; /* no id means "a stranger" */
    uid_t *uids;
    size_t uid_count;
    gid_t *gids;
    size_t gid_count;
};

/* Returns 0, KNIT_ACCESS_E_REFUSED (a name that is not known), -ENOMEM. */
int knit_access_init(
    struct knit_access *access, const struct knit_settings *settings, struct knit_sentence *why);
void knit_access_fini(struct knit_access *access);

/* Root, the daemon's own user, a listed user, or a member of a listed group. */
bool knit_access_may_attach(
    const struct knit_access *access, int fd, const struct knit_access_peer *peer);
