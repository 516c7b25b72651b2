/* SPDX-License-Identifier: Apache-2.0 */
/* Which users may attach to shared memory: the lists of users and groups. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <knitting/code.h>

#include "proto/sentence.h"
#include "server/config/setting.h"
#include "server/policy/credentials.h"

/* The kernel reports an id that the daemon's user namespace does not map as this one: an unknown
 * user. Where the namespace maps all ids it is an ordinary id, usually that of the user
 * "nobody". */
#define KNIT_ACCESS_STRANGER 65534u

enum {
    KNIT_ACCESS_E_REFUSED = 1, /* the sentence says why */
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
KNIT_MUST_CHECK int knit_access_init(
    struct knit_access *access, const struct knit_settings *settings, struct knit_sentence *why);
void knit_access_fini(struct knit_access *access);

/* Without lists every local one that the socket admits. With them root, the daemon's own user,
 * a listed user, or a member of a listed group. */
KNIT_MUST_CHECK bool knit_access_may_attach(
    const struct knit_access *access, const struct knit_credentials *credentials);

/* The id of a name, or of digits. False: there is none. May block on a name service. */
KNIT_MUST_CHECK bool knit_access_find_user(const char *name, unsigned *ret_uid);
KNIT_MUST_CHECK bool knit_access_find_group(const char *name, unsigned *ret_gid);

/* Whether every id is mapped by the daemon's user namespace. */
bool knit_access_maps_all(void);
