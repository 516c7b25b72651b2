/* SPDX-License-Identifier: Apache-2.0 */
/* Supplementary groups are the kernel's record of when the peer connected (SO_PEERGROUPS). */
#include "server/policy/credentials.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* As many in most cases, so that the kernel is asked once. */
enum { GROUPS_USUAL = 32 };

bool knit_credentials_is_operator(const struct knit_credentials *credentials)
{
    return credentials->is_local && (credentials->uid == 0 || credentials->uid == geteuid());
}

static int compare_ids(const void *a, const void *b)
{
    const gid_t *left = a, *right = b;

    return (*left > *right) - (*left < *right);
}

/* In ascending order, each once; returns how many are left. */
static size_t sort_out(gid_t *gids, size_t count)
{
    size_t kept = 0;

    qsort(gids, count, sizeof(*gids), compare_ids);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || gids[kept - 1] != gids[i])
            gids[kept++] = gids[i];
    return kept;
}

int knit_credentials_groups(const struct knit_credentials *credentials, gid_t **ret_gids)
{
    socklen_t len = GROUPS_USUAL * sizeof(gid_t);
    gid_t *gids;
    int r;

    *ret_gids = NULL;
    if (!credentials->is_local)
        return 0;
    do {
        socklen_t size = len;

        gids = malloc(size + sizeof(*gids));
        if (gids == NULL)
            return -ENOMEM;
        r = credentials->fd < 0
                ? (len = 0, 0)
                : getsockopt(credentials->fd, SOL_SOCKET, SO_PEERGROUPS, gids, &len);
        if (r < 0) {
            r = -errno;
            free(gids);
            /* It has written how many there are. */
            if (r != -ERANGE || len <= size)
                return r;
        }
    } while (r < 0);
    gids[len / sizeof(*gids)] = credentials->gid;
    *ret_gids = gids;
    return (int)sort_out(gids, len / sizeof(*gids) + 1);
}
