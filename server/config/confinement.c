/* SPDX-License-Identifier: Apache-2.0 */
/* `strict` refuses every key that opens something, since a user would rely on a setting that is
 * ignored in silence. `unsafe` refuses keys that restrict nothing there, for the same reason.
 * Limits hold with each of them.
 *
 * A permission that is given is required: on a kernel that cannot enforce it the daemon refuses to
 * start. The default is enforced as far as the kernel can, so that the daemon starts everywhere.
 */
#include "server/config/confinement.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "fastpath/host/pool.h"

/* What files_max is unless it is given: between these, and a part of the daemon's own. */
enum { FILES_LEAST = 256, FILES_MOST = 1024, FILES_PART = 4 };

_Static_assert(FILES_LEAST >= 2 * KNIT_HOST_SESSIONS_MAX, "as many for tasks as for all sessions");

enum permission { PERMISSION_STRICT, PERMISSION_CUSTOM, PERMISSION_UNSAFE };

_Static_assert(KNIT_AUTO == KNIT_CONFINE_NO_LIMIT, "core_max_bytes, left to us, is no limit");

static const enum knit_confine_profile profiles[] = {
    [PERMISSION_STRICT] = KNIT_CONFINE_STRICT,
    [PERMISSION_CUSTOM] = KNIT_CONFINE_CUSTOM,
    [PERMISSION_UNSAFE] = KNIT_CONFINE_UNSAFE,
};

static int refuse_key(
    const struct knit_settings *settings, const char *key, struct knit_sentence *why)
{
    if (settings->permission == PERMISSION_STRICT)
        return knit_sentence_set(why, KNIT_CONFINEMENT_E_REFUSED,
            "worker.%s: opens what worker.permission strict closes; say custom to use it", key);
    return knit_sentence_set(why, KNIT_CONFINEMENT_E_REFUSED,
        "worker.%s: means nothing with worker.permission unsafe, which closes nothing", key);
}

/* "any" or a number. */
static int read_ports(const struct knit_list *list, const char *key,
    struct knit_confine_ports *ret_ports, struct knit_sentence *why)
{
    struct knit_confine_ports ports = {0};

    for (size_t i = 0; i < list->count; i++) {
        const char *word = list->items[i];
        char *end;
        unsigned long port = strtoul(word, &end, 10);

        if (strcmp(word, "any") == 0) {
            ports.is_any = 1;
            continue;
        }
        if (word[0] < '0' || word[0] > '9' || *end != '\0' || port == 0 || port > UINT16_MAX)
            return knit_sentence_set(why, KNIT_CONFINEMENT_E_REFUSED,
                "worker.%s: expected ports from 1 to 65535 or any, not '%s'", key, word);
        if (ports.count == KNIT_CONFINE_PORTS_MAX)
            return knit_sentence_set(why, KNIT_CONFINEMENT_E_REFUSED,
                "worker.%s: expected at most %u ports", key, KNIT_CONFINE_PORTS_MAX);
        ports.port[ports.count++] = (uint16_t)port;
    }
    *ret_ports = ports;
    return 0;
}

int knit_confinement_check(const struct knit_settings *settings, struct knit_sentence *why)
{
    const struct {
        const char *key;
        bool is_given;
        bool opens; /* what `strict` keeps closed */
    } keys[] = {
        {"read_paths", settings->read_paths.count != 0, false},
        {"write_paths", settings->write_paths.count != 0, true},
        {"connect_ports", settings->connect_ports.count != 0, true},
        {"listen_ports", settings->listen_ports.count != 0, true},
        {"udp_sockets", settings->udp_sockets != 0, true},
        {"unix_sockets", settings->unix_sockets != 0, true},
        {"exec_programs", settings->exec_programs != 0, true},
    };
    struct knit_confine_ports ports;
    int r = 0;

    for (size_t i = 0; r == 0 && i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (keys[i].is_given && (settings->permission == PERMISSION_UNSAFE ||
                                    (settings->permission == PERMISSION_STRICT && keys[i].opens)))
            r = refuse_key(settings, keys[i].key, why);
    }
    if (r == 0)
        r = read_ports(&settings->connect_ports, "connect_ports", &ports, why);
    if (r == 0)
        r = read_ports(&settings->listen_ports, "listen_ports", &ports, why);
    return r;
}

/* Descriptors that were sent and not yet received count for the whole uid, against the limit of the
 * process that sends the next one. Workers reach their lower limit long before the daemon reaches
 * its own, so that the daemon can always send what callers and workers need. */
static uint64_t files_max_preset(void)
{
    struct rlimit limit;
    uint64_t quarter =
        getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_max / FILES_PART : FILES_LEAST;

    return quarter < FILES_LEAST ? FILES_LEAST : quarter > FILES_MOST ? FILES_MOST : quarter;
}

void knit_confinement_resolve(struct knit_settings *settings)
{
    if (settings->files_max == KNIT_AUTO)
        settings->files_max = files_max_preset();
    /* KNIT_AUTO and no limit are one value, which is what `unsafe` wants. */
    if (settings->core_max_bytes == KNIT_AUTO && settings->permission != PERMISSION_UNSAFE)
        settings->core_max_bytes = 0;
}

static void free_paths(const char *const *paths)
{
    for (size_t i = 0; paths != NULL && paths[i] != NULL; i++)
        free((char *)paths[i]);
    free((void *)paths);
}

static int real_paths(const struct knit_list *list, const char *key, const char *const **ret_paths,
    struct knit_sentence *why)
{
    char **paths = calloc(list->count + 1, sizeof(*paths));

    *ret_paths = (const char *const *)paths;
    if (paths == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < list->count; i++) {
        paths[i] = realpath(list->items[i], NULL);
        if (paths[i] == NULL)
            return knit_sentence_set(why, KNIT_CONFINEMENT_E_REFUSED,
                "worker.%s: cannot find %s: %s", key, list->items[i], strerror(errno));
    }
    return 0;
}

static uint64_t limit_of(uint64_t value)
{
    return value != 0 ? value : KNIT_CONFINE_NO_LIMIT;
}

int knit_confinement_policy(const struct knit_settings *settings,
    struct knit_confine_policy *ret_policy, struct knit_sentence *why)
{
    struct knit_confine_rules *rules = &ret_policy->rules;
    int r;

    *ret_policy = (struct knit_confine_policy){0};
    *rules = (struct knit_confine_rules){.profile = profiles[settings->permission],
        .is_required = knit_setting_is_given(settings, "worker", "permission"),
        .may_exec = settings->exec_programs != 0,
        .may_udp = settings->udp_sockets != 0,
        .may_unix = settings->unix_sockets != 0,
        .memory_max_bytes = limit_of(settings->memory_max_bytes),
        .files_max = limit_of(settings->files_max),
        .core_max_bytes = settings->core_max_bytes,
        .file_max_bytes = limit_of(settings->file_max_bytes)};
    r = read_ports(&settings->connect_ports, "connect_ports", &rules->connect, why);
    if (r == 0)
        r = read_ports(&settings->listen_ports, "listen_ports", &rules->listen, why);
    if (r == 0)
        r = real_paths(&settings->read_paths, "read_paths", &ret_policy->read, why);
    if (r == 0)
        r = real_paths(&settings->write_paths, "write_paths", &ret_policy->write, why);
    return r;
}

void knit_confinement_policy_free(struct knit_confine_policy *policy)
{
    free_paths(policy->read);
    free_paths(policy->write);
    policy->read = policy->write = NULL;
}
