/* SPDX-License-Identifier: Apache-2.0 */
/* Names are looked up once, at start: a name service that hangs later cannot stop an event loop. */
#include "server/policy/access.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool read_id(const char *text, unsigned *ret_id)
{
    unsigned long value;
    char *end;

    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    value = strtoul(text, &end, 10);
    if (errno != 0 || *end != '\0' || value >= UINT32_MAX)
        return false;
    *ret_id = (unsigned)value;
    return true;
}

bool knit_access_find_user(const char *name, unsigned *ret_uid)
{
    const struct passwd *entry;

    if (read_id(name, ret_uid))
        return true;
    entry = getpwnam(name);
    if (entry != NULL)
        *ret_uid = entry->pw_uid;
    return entry != NULL;
}

bool knit_access_find_group(const char *name, unsigned *ret_gid)
{
    const struct group *entry;

    if (read_id(name, ret_gid))
        return true;
    entry = getgrnam(name);
    if (entry != NULL)
        *ret_gid = entry->gr_gid;
    return entry != NULL;
}

static int refuse_name(
    const char *list, const char *kind, const char *name, struct knit_sentence *why)
{
    return knit_sentence_set(
        why, KNIT_ACCESS_E_REFUSED, "server.%s: there is no %s '%s'", list, kind, name);
}

/* Whether the namespace maps the whole range onto itself, as the first one does. */
static bool maps_all(const char *path)
{
    unsigned inside = 1, outside = 1, count = 0;
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return false;
    if (fscanf(file, "%u %u %u", &inside, &outside, &count) != 3)
        count = 0;
    (void)fclose(file);
    return inside == 0 && outside == 0 && count == UINT32_MAX;
}

bool knit_access_maps_all(void)
{
    return maps_all("/proc/self/uid_map") && maps_all("/proc/self/gid_map");
}

int knit_access_init(
    struct knit_access *access, const struct knit_settings *settings, struct knit_sentence *why)
{
    const struct knit_list *users = &settings->attach_users, *groups = &settings->attach_groups;
    int r = 0;

    *access = (struct knit_access){.own_uid = geteuid()};
    access->maps_all = knit_access_maps_all();
    access->uids = calloc(users->count + 1, sizeof(*access->uids));
    access->gids = calloc(groups->count + 1, sizeof(*access->gids));
    if (access->uids == NULL || access->gids == NULL)
        r = -ENOMEM;
    for (size_t i = 0; r == 0 && i < users->count; i++) {
        if (!knit_access_find_user(users->items[i], &access->uids[i]))
            r = refuse_name("attach_users", "user", users->items[i], why);
        access->uid_count = i + 1;
    }
    for (size_t i = 0; r == 0 && i < groups->count; i++) {
        if (!knit_access_find_group(groups->items[i], &access->gids[i]))
            r = refuse_name("attach_groups", "group", groups->items[i], why);
        access->gid_count = i + 1;
    }
    if (r != 0)
        knit_access_fini(access);
    return r;
}

void knit_access_fini(struct knit_access *access)
{
    free(access->uids);
    free(access->gids);
    *access = (struct knit_access){0};
}

static bool is_stranger(const struct knit_access *access, unsigned id)
{
    return id == KNIT_ACCESS_STRANGER && !access->maps_all;
}

static bool is_listed_group(const struct knit_access *access, gid_t gid)
{
    for (size_t i = 0; i < access->gid_count && !is_stranger(access, gid); i++)
        if (access->gids[i] == gid)
            return true;
    return false;
}

static bool has_listed_group(
    const struct knit_access *access, const struct knit_credentials *credentials)
{
    bool found = false;
    gid_t *gids;
    int count = knit_credentials_groups(credentials, &gids);

    for (int i = 0; !found && i < count; i++)
        found = is_listed_group(access, gids[i]);
    if (count > 0)
        free(gids);
    return found;
}

bool knit_access_may_attach(
    const struct knit_access *access, const struct knit_credentials *credentials)
{
    bool is_known = !is_stranger(access, credentials->uid);

    if (!credentials->is_local)
        return false;
    if (access->uid_count == 0 && access->gid_count == 0)
        return true;
    if (credentials->uid == 0 || (is_known && credentials->uid == access->own_uid))
        return true;
    for (size_t i = 0; i < access->uid_count && is_known; i++)
        if (access->uids[i] == credentials->uid)
            return true;
    return access->gid_count > 0 && has_listed_group(access, credentials);
}
