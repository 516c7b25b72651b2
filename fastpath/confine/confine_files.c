/* SPDX-License-Identifier: Apache-2.0 */
/* Landlock by its system calls: the C library of Debian 12 has no functions for it, and its headers
 * know the second of seven versions, so newer constants are defined here.
 *
 * A ruleset first names the rights that it handles. All of them are denied then, except where a
 * rule grants one. A kernel is only asked for rights that its version has. A rule belongs to an
 * inode, found by opening the path, so the path may change its meaning later. A path that every
 * worker is granted may be missing; one that the policy lists may not.
 */
#include "fastpath/confine/confine_private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif
#ifndef LANDLOCK_ACCESS_FS_IOCTL_DEV
#define LANDLOCK_ACCESS_FS_IOCTL_DEV (1ULL << 15)
#endif

enum { NET_BIND_TCP = 1, NET_CONNECT_TCP = 2, SCOPE_ABSTRACT = 1, SCOPE_SIGNAL = 2, RULE_PORT = 2 };

/* As in linux/landlock.h of version 6; older kernels get the part that they know. */
struct ruleset {
    uint64_t handled_fs;
    uint64_t handled_net;
    uint64_t scoped;
};

struct port_rule {
    uint64_t allowed;
    uint64_t port;
};

#define READ ((uint64_t)LANDLOCK_ACCESS_FS_READ_FILE | (uint64_t)LANDLOCK_ACCESS_FS_READ_DIR)
#define EXEC ((uint64_t)LANDLOCK_ACCESS_FS_EXECUTE)
#define WRITE                                                                                      \
    ((uint64_t)LANDLOCK_ACCESS_FS_WRITE_FILE | (uint64_t)LANDLOCK_ACCESS_FS_REMOVE_DIR |           \
        (uint64_t)LANDLOCK_ACCESS_FS_REMOVE_FILE | (uint64_t)LANDLOCK_ACCESS_FS_MAKE_DIR |         \
        (uint64_t)LANDLOCK_ACCESS_FS_MAKE_REG | (uint64_t)LANDLOCK_ACCESS_FS_MAKE_SOCK |           \
        (uint64_t)LANDLOCK_ACCESS_FS_MAKE_FIFO | (uint64_t)LANDLOCK_ACCESS_FS_MAKE_SYM |           \
        (uint64_t)LANDLOCK_ACCESS_FS_REFER | (uint64_t)LANDLOCK_ACCESS_FS_TRUNCATE)
#define NEVER                                                                                      \
    ((uint64_t)LANDLOCK_ACCESS_FS_MAKE_CHAR | (uint64_t)LANDLOCK_ACCESS_FS_MAKE_BLOCK |            \
        (uint64_t)LANDLOCK_ACCESS_FS_IOCTL_DEV)
/* Rights that a rule for a file, not a folder, may grant. */
#define OF_FILES                                                                                   \
    (EXEC | (uint64_t)LANDLOCK_ACCESS_FS_READ_FILE | (uint64_t)LANDLOCK_ACCESS_FS_WRITE_FILE |     \
        (uint64_t)LANDLOCK_ACCESS_FS_TRUNCATE | (uint64_t)LANDLOCK_ACCESS_FS_IOCTL_DEV)

struct building {
    const struct knit_confine_plan *plan;
    int fd;
    uint64_t handled;
    struct knit_sentence *why;
};

/* Folders of libraries, their data and programs, and files that they read. /etc/passwd is not
 * among them, and of /proc only the worker's own folder is granted. */
static const char *const system_folders[] = {
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", NULL};
static const char *const system_files[] = {"/etc/ld.so.cache", "/etc/ld.so.preload",
    "/etc/localtime", "/dev/zero", "/dev/random", "/dev/urandom", "/sys/devices/system/cpu", NULL};
static const char *const system_sinks[] = {"/dev/null", "/dev/full", NULL};
/* Names, services and certificates, for workers that may use the network. */
static const char *const network_files[] = {"/etc/resolv.conf", "/etc/hosts", "/etc/host.conf",
    "/etc/nsswitch.conf", "/etc/services", "/etc/protocols", "/etc/gai.conf", "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf", NULL};

int knit_confine_files_abi(int *ret_error)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

    *ret_error = abi < 0 ? errno : 0;
    return abi < 0 ? 0 : (int)abi;
}

static int refuse(const struct building *building, const char *path, const char *reason)
{
    return knit_sentence_set(
        building->why, KNIT_CONFINE_E_REFUSED, "%.500s: cannot be granted: %s", path, reason);
}

/* Closes the descriptor. */
static int grant_fd(const struct building *building, int fd, const char *path, uint64_t rights)
{
    struct landlock_path_beneath_attr rule = {.parent_fd = fd};
    struct stat status;
    int error = fstat(fd, &status) == 0 ? 0 : errno;

    if (error == 0) {
        rule.allowed_access =
            rights & building->handled & (S_ISDIR(status.st_mode) ? ~0ULL : OF_FILES);
        if (rule.allowed_access != 0 &&
            syscall(SYS_landlock_add_rule, building->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0)
            error = errno;
    }
    (void)close(fd);
    return error == 0 ? 0 : refuse(building, path, strerror(error));
}

static int grant(const struct building *building, const char *path, uint64_t rights, bool is_listed)
{
    int fd = open(path, O_PATH | O_CLOEXEC);

    if (fd < 0)
        return is_listed ? refuse(building, path, strerror(errno)) : 0;
    return grant_fd(building, fd, path, rights);
}

static int grant_all(
    const struct building *building, const char *const *paths, uint64_t rights, bool is_listed)
{
    int error = 0;

    for (uint32_t i = 0; error == 0 && paths != NULL && paths[i] != NULL; i++)
        error = grant(building, paths[i], rights, is_listed);
    return error;
}

/* The folder of a module, since its libraries and data may lie there. Of a module in the root
 * folder only the file is granted. */
static int grant_module(const struct building *building, const char *path)
{
    const char *slash = strrchr(path, '/');
    char folder[4096];

    if (slash == NULL || slash == path || (size_t)(slash - path) >= sizeof(folder))
        return grant(building, path, READ, false);
    memcpy(folder, path, (size_t)(slash - path));
    folder[slash - path] = '\0';
    /* A missing folder is reported by the loader. */
    return grant(building, folder, READ, false);
}

/* The worker's own folder in /proc: libraries read its maps, status and fd. A descriptor of it
 * stays open, because the kernel may drop the inode when memory is short, and make another one that
 * the rule does not cover. The folder also shows mounts and the sockets of the network namespace,
 * and rules can only add, so these cannot be taken out. */
static int grant_self(const struct building *building)
{
    int fd = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int again;

    if (fd < 0)
        return 0;
    again = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (again < 0) {
        (void)close(fd);
        return refuse(building, "/proc/self", strerror(errno));
    }
    return grant_fd(building, again, "/proc/self", READ);
}

static int grant_files(const struct building *building)
{
    const struct knit_confine_policy *policy = building->plan->policy;
    bool is_custom = policy->rules.profile == KNIT_CONFINE_CUSTOM;
    uint64_t run = is_custom && policy->rules.may_exec ? READ | EXEC : READ;
    int error = grant_all(building, system_folders, run, false);

    if (error == 0)
        error = grant_all(building, system_files, READ, false);
    if (error == 0)
        error = grant_all(
            building, system_sinks, READ | (uint64_t)LANDLOCK_ACCESS_FS_WRITE_FILE, false);
    if (error == 0)
        error = grant_self(building);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    /* Their runtimes read threads and limits. */
    if (error == 0)
        error = grant(building, "/proc", READ, false);
#endif
    for (uint32_t i = 0; error == 0 && building->plan->modules[i] != NULL; i++)
        error = grant_module(building, building->plan->modules[i]);
    if (error == 0)
        error = grant_all(building, policy->read, run, true);
    if (error == 0 && is_custom)
        error = grant_all(building, policy->write, READ | WRITE, true);
    if (error == 0 && (building->plan->may_tcp || (is_custom && policy->rules.may_udp)))
        error = grant_all(building, network_files, READ, false);
    return error;
}

static int grant_ports(
    const struct building *building, const struct knit_confine_ports *ports, uint64_t right)
{
    for (uint32_t i = 0; !ports->is_any && i < ports->count; i++) {
        struct port_rule rule = {right, ports->port[i]};

        if (syscall(SYS_landlock_add_rule, building->fd, RULE_PORT, &rule, 0) != 0)
            return -errno;
    }
    return 0;
}

static void describe(const struct knit_confine_plan *plan, struct ruleset *ret_rules)
{
    const struct knit_confine_rules *rules = &plan->policy->rules;
    uint64_t files = READ | EXEC | WRITE | NEVER;

    if (plan->abi < KNIT_LANDLOCK_REFER)
        files &= ~(uint64_t)LANDLOCK_ACCESS_FS_REFER;
    if (plan->abi < KNIT_LANDLOCK_TRUNCATE)
        files &= ~(uint64_t)LANDLOCK_ACCESS_FS_TRUNCATE;
    if (plan->abi < KNIT_LANDLOCK_IOCTL)
        files &= ~(uint64_t)LANDLOCK_ACCESS_FS_IOCTL_DEV;
    *ret_rules = (struct ruleset){.handled_fs = files};
    if (plan->abi >= KNIT_LANDLOCK_PORTS)
        ret_rules->handled_net = (rules->listen.is_any ? 0u : (unsigned)NET_BIND_TCP) |
                                 (rules->connect.is_any ? 0u : (unsigned)NET_CONNECT_TCP);
    if (plan->abi >= KNIT_LANDLOCK_SCOPES)
        ret_rules->scoped = SCOPE_ABSTRACT | SCOPE_SIGNAL;
}

int knit_confine_files(const struct knit_confine_plan *plan, struct knit_sentence *ret_why)
{
    struct building building = {.plan = plan, .why = ret_why};
    struct ruleset rules;
    size_t size = plan->abi < KNIT_LANDLOCK_PORTS    ? offsetof(struct ruleset, handled_net)
                  : plan->abi < KNIT_LANDLOCK_SCOPES ? offsetof(struct ruleset, scoped)
                                                     : sizeof(rules);
    int error;

    describe(plan, &rules);
    building.handled = rules.handled_fs;
    building.fd = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (building.fd < 0)
        return -errno;
    error = grant_files(&building);
    if (error == 0 && (rules.handled_net & NET_CONNECT_TCP) != 0)
        error = grant_ports(&building, &plan->policy->rules.connect, NET_CONNECT_TCP);
    if (error == 0 && (rules.handled_net & NET_BIND_TCP) != 0)
        error = grant_ports(&building, &plan->policy->rules.listen, NET_BIND_TCP);
    if (error == 0 && syscall(SYS_landlock_restrict_self, building.fd, 0) != 0)
        error = -errno;
    (void)close(building.fd);
    return error;
}
