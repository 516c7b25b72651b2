/* SPDX-License-Identifier: Apache-2.0 */
/* `strict` refuses every key that opens something, since a user would rely on a setting that is
 * ignored in silence. `unsafe` refuses keys that restrict nothing there, for the same reason.
 * Limits hold with each of them.
 */
#include "fastpath/host/permission.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "fastpath/host/options.h"

/* What files_max is unless it is given: between these, and a part of the process's own. */
enum { FILES_LEAST = 256, FILES_MOST = 1024, FILES_PART = 4 };

_Static_assert(FILES_LEAST >= 2 * KNIT_HOST_SESSIONS_MAX, "as many for tasks as for all sessions");

#define FILES_POSSIBLE UINT64_C(1048576)
#define BYTES_POSSIBLE (UINT64_C(1) << 50)

/* Descriptors that were sent and not yet received count for the whole uid, against the limit of the
 * process that sends the next one. Workers reach their lower limit long before the host reaches its
 * own, so that the host can always send what callers and workers need. */
uint64_t knit_permission_files_preset(void)
{
    struct rlimit limit;
    uint64_t quarter =
        getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_max / FILES_PART : FILES_LEAST;

    return quarter < FILES_LEAST ? FILES_LEAST : quarter > FILES_MOST ? FILES_MOST : quarter;
}

static bool has_any(const char *const *list)
{
    return list != NULL && list[0] != NULL;
}

static int refuse_key(
    const struct knit_permission *permission, const char *key, struct knit_sentence *ret_why)
{
    const char *owner = permission->owner;

    if (permission->profile == KNIT_CONFINE_STRICT)
        return knit_sentence_set(ret_why, KNIT_PERMISSION_E_REFUSED,
            "%s%s: opens what %spermission strict closes; say custom to use it", owner, key, owner);
    return knit_sentence_set(ret_why, KNIT_PERMISSION_E_REFUSED,
        "%s%s: means nothing with %spermission unsafe, which closes nothing", owner, key, owner);
}

static int check_keys(const struct knit_permission *permission, struct knit_sentence *ret_why)
{
    const struct {
        const char *key;
        bool is_given;
        bool opens; /* what `strict` keeps closed */
    } keys[] = {
        {"read_paths", has_any(permission->read_paths), false},
        {"write_paths", has_any(permission->write_paths), true},
        {"connect_ports", has_any(permission->connect_ports), true},
        {"listen_ports", has_any(permission->listen_ports), true},
        {"udp_sockets", permission->udp_sockets, true},
        {"unix_sockets", permission->unix_sockets, true},
        {"exec_programs", permission->exec_programs, true},
    };

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (keys[i].is_given && (permission->profile == KNIT_CONFINE_UNSAFE ||
                                    (permission->profile == KNIT_CONFINE_STRICT && keys[i].opens)))
            return refuse_key(permission, keys[i].key, ret_why);
    }
    return 0;
}

static int check_limits(const struct knit_permission *permission, struct knit_sentence *ret_why)
{
    const struct {
        const char *key;
        uint64_t value, most;
    } limits[] = {
        {"memory_max_bytes", permission->memory_max_bytes, BYTES_POSSIBLE},
        {"files_max", permission->files_max, FILES_POSSIBLE},
        {"core_max_bytes", permission->core_max_bytes, BYTES_POSSIBLE},
        {"file_max_bytes", permission->file_max_bytes, BYTES_POSSIBLE},
    };

    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        if (limits[i].value > limits[i].most && limits[i].value != KNIT_CONFINE_NO_LIMIT)
            return knit_sentence_set(ret_why, KNIT_PERMISSION_E_REFUSED,
                "%s%s is %llu: 0 to %llu are possible", permission->owner, limits[i].key,
                (unsigned long long)limits[i].value, (unsigned long long)limits[i].most);
    }
    return 0;
}

/* "any" or a number. */
static int read_ports(const struct knit_permission *permission, const char *key,
    const char *const *list, struct knit_confine_ports *ret_ports, struct knit_sentence *ret_why)
{
    struct knit_confine_ports ports = {0};

    for (; list != NULL && *list != NULL; list++) {
        const char *word = *list;
        char *end;
        unsigned long port = strtoul(word, &end, 10);

        if (strcmp(word, "any") == 0) {
            ports.is_any = 1;
            continue;
        }
        if (word[0] < '0' || word[0] > '9' || *end != '\0' || port == 0 || port > UINT16_MAX)
            return knit_sentence_set(ret_why, KNIT_PERMISSION_E_REFUSED,
                "%s%s: expected ports from 1 to 65535 or any, not '%.100s'", permission->owner, key,
                word);
        if (ports.count == KNIT_CONFINE_PORTS_MAX)
            return knit_sentence_set(ret_why, KNIT_PERMISSION_E_REFUSED,
                "%s%s: expected at most %u ports", permission->owner, key, KNIT_CONFINE_PORTS_MAX);
        ports.port[ports.count++] = (uint16_t)port;
    }
    *ret_ports = ports;
    return 0;
}

static int read_all_ports(const struct knit_permission *permission,
    struct knit_confine_ports *ret_connect, struct knit_confine_ports *ret_listen,
    struct knit_sentence *ret_why)
{
    int r =
        read_ports(permission, "connect_ports", permission->connect_ports, ret_connect, ret_why);

    return r == 0 ? read_ports(
                        permission, "listen_ports", permission->listen_ports, ret_listen, ret_why)
                  : r;
}

int knit_permission_check(const struct knit_permission *permission, struct knit_sentence *ret_why)
{
    struct knit_confine_ports connect, listen;
    int r = check_keys(permission, ret_why);

    if (r == 0)
        r = check_limits(permission, ret_why);
    return r == 0 ? read_all_ports(permission, &connect, &listen, ret_why) : r;
}

static void free_paths(const char *const *paths)
{
    for (size_t i = 0; paths != NULL && paths[i] != NULL; i++)
        free((char *)paths[i]);
    free((void *)paths);
}

static int real_paths(const struct knit_permission *permission, const char *key,
    const char *const *list, const char *const **ret_paths, struct knit_sentence *ret_why)
{
    char **paths;
    size_t count = 0;

    while (list != NULL && list[count] != NULL)
        count++;
    paths = calloc(count + 1, sizeof(*paths));
    *ret_paths = (const char *const *)paths;
    if (paths == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        paths[i] = realpath(list[i], NULL);
        if (paths[i] == NULL)
            return knit_sentence_set(ret_why, KNIT_PERMISSION_E_REFUSED,
                "%s%s: cannot find %.500s: %s", permission->owner, key, list[i], strerror(errno));
    }
    return 0;
}

int knit_permission_policy(const struct knit_permission *permission,
    struct knit_confine_policy *ret_policy, struct knit_sentence *ret_why)
{
    struct knit_confine_rules *rules = &ret_policy->rules;
    int r;

    *ret_policy = (struct knit_confine_policy){0};
    *rules = (struct knit_confine_rules){.profile = permission->profile,
        .is_required = permission->is_required,
        .may_exec = permission->exec_programs,
        .may_udp = permission->udp_sockets,
        .may_unix = permission->unix_sockets,
        .memory_max_bytes = permission->memory_max_bytes,
        .files_max = permission->files_max,
        .core_max_bytes = permission->core_max_bytes,
        .file_max_bytes = permission->file_max_bytes};
    r = read_all_ports(permission, &rules->connect, &rules->listen, ret_why);
    if (r == 0)
        r = real_paths(
            permission, "read_paths", permission->read_paths, &ret_policy->read, ret_why);
    if (r == 0)
        r = real_paths(
            permission, "write_paths", permission->write_paths, &ret_policy->write, ret_why);
    return r;
}

void knit_permission_policy_free(struct knit_confine_policy *policy)
{
    free_paths(policy->read);
    free_paths(policy->write);
    policy->read = policy->write = NULL;
}
