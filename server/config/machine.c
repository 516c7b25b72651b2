/* SPDX-License-Identifier: Apache-2.0 */
/* A file that is not there or cannot be understood limits nothing. A container often sees its own
 * control group as the root of the hierarchy, where the files of a limited group then lie. */
#include "server/config/machine.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A limit as one version of the hierarchies has it. */
struct limit {
    const char *controller; /* whose hierarchy it is in version 1; NULL = of version 2 */
    uint64_t (*read)(const char *folder);
};

/* The numbers that a file begins with; returns how many of `count` there are. */
static int read_numbers(const char *folder, const char *name, long long *ret_numbers, int count)
{
    char path[2 * PATH_MAX + 64];
    int found = 0;
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    file = fopen(path, "re");
    if (file == NULL)
        return 0;
    while (found < count && fscanf(file, "%lld", &ret_numbers[found]) == 1)
        found++;
    (void)fclose(file);
    return found;
}

static uint64_t processors_of(long long quota, long long period)
{
    if (quota < 0 || period <= 0)
        return UINT64_MAX;
    return (uint64_t)(quota / period + (quota % period != 0));
}

/* "QUOTA PERIOD", or "max PERIOD". */
static uint64_t read_quota(const char *folder)
{
    long long numbers[2];

    if (read_numbers(folder, "cpu.max", numbers, 2) != 2)
        return UINT64_MAX;
    return processors_of(numbers[0], numbers[1]);
}

static uint64_t read_quota_1(const char *folder)
{
    long long quota, period;

    if (read_numbers(folder, "cpu.cfs_quota_us", &quota, 1) != 1 ||
        read_numbers(folder, "cpu.cfs_period_us", &period, 1) != 1)
        return UINT64_MAX;
    return processors_of(quota, period);
}

static uint64_t read_bytes(const char *folder)
{
    long long bytes;

    return read_numbers(folder, "memory.max", &bytes, 1) == 1 && bytes >= 0 ? (uint64_t)bytes
                                                                            : UINT64_MAX;
}

/* No limit is the largest number of whole pages there. */
static uint64_t read_bytes_1(const char *folder)
{
    long long bytes;

    if (read_numbers(folder, "memory.limit_in_bytes", &bytes, 1) != 1 || bytes < 0 ||
        bytes > LLONG_MAX - (1 << 20))
        return UINT64_MAX;
    return (uint64_t)bytes;
}

/* Whether a line "NUMBER:CONTROLLER,...:/GROUP" is about the hierarchy. */
static bool is_of(const char *line, const char *controller)
{
    const char *word = strchr(line, ':'), *end = word != NULL ? strchr(word + 1, ':') : NULL;

    if (end == NULL || end[1] != '/')
        return false;
    if (controller == NULL)
        return strncmp(line, "0::", 3) == 0;
    for (word++; word < end; word += strcspn(word, ",:") + 1)
        if (strcspn(word, ",:") == strlen(controller) &&
            strncmp(word, controller, strlen(controller)) == 0)
            return true;
    return false;
}

/* The group's path below the mount. */
static bool find_group(const char *root, const char *controller, char ret_group[PATH_MAX])
{
    char path[PATH_MAX], line[PATH_MAX];
    bool is_found = false;
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
    file = fopen(path, "re");
    while (file != NULL && !is_found && fgets(line, sizeof(line), file) != NULL) {
        is_found = is_of(line, controller);
        line[strcspn(line, "\n")] = '\0';
    }
    if (file != NULL)
        (void)fclose(file);
    if (is_found)
        (void)snprintf(ret_group, PATH_MAX, "%s", strchr(strchr(line, ':') + 1, ':') + 1);
    return is_found;
}

/* The least of what the group and those above it say. */
static uint64_t least_of(const char *root, const struct limit *limit)
{
    const char *controller = limit->controller != NULL ? limit->controller : "";
    char group[PATH_MAX], folder[2 * PATH_MAX];
    uint64_t least = UINT64_MAX;
    char *slash;

    if (!find_group(root, limit->controller, group))
        return UINT64_MAX;
    do {
        uint64_t own;

        slash = strrchr(group, '/');
        if (slash != NULL && slash[1] == '\0')
            *slash = '\0';
        (void)snprintf(folder, sizeof(folder), "%s/sys/fs/cgroup%s%s%s", root,
            controller[0] != '\0' ? "/" : "", controller, group);
        own = limit->read(folder);
        least = own < least ? own : least;
        slash = strrchr(group, '/');
        if (slash != NULL)
            *slash = '\0';
    } while (slash != NULL);
    return least;
}

static uint64_t least_of_both(
    const char *root, const struct limit *limit, const struct limit *older)
{
    uint64_t least = least_of(root, limit), other = least_of(root, older);

    return least < other ? least : other;
}

static uint64_t by_affinity(void)
{
    enum { PROCESSORS_MAX = 65536 };
    size_t size = CPU_ALLOC_SIZE(PROCESSORS_MAX);
    cpu_set_t *set = CPU_ALLOC(PROCESSORS_MAX);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    int count = 0;

    if (set != NULL && sched_getaffinity(0, size, set) == 0)
        count = CPU_COUNT_S(size, set);
    CPU_FREE(set);
    if (count > 0)
        return (uint64_t)count;
    return online < 1 ? 1 : (uint64_t)online;
}

uint64_t knit_machine_processors(const char *root)
{
    static const struct limit quotas[] = {{NULL, read_quota}, {"cpu", read_quota_1}};
    uint64_t quota = least_of_both(root, &quotas[0], &quotas[1]);
    uint64_t count = by_affinity();

    count = quota < count ? quota : count;
    return count < 1 ? 1 : count;
}

uint64_t knit_machine_memory_max(const char *root)
{
    static const struct limit limits[] = {{NULL, read_bytes}, {"memory", read_bytes_1}};

    return least_of_both(root, &limits[0], &limits[1]);
}

int knit_machine_check(struct knit_sentence *why)
{
    if (access("/proc/self/fd", X_OK) < 0)
        return knit_sentence_set(why, -errno,
            "cannot look into /proc/self/fd: %s; /proc has to be mounted, memory is handed to "
            "workers and callers through it",
            strerror(errno));
    /* Closes nothing: there is no such descriptor. */
    if (close_range(~0u, ~0u, 0) < 0)
        return knit_sentence_set(why, -errno,
            "cannot call close_range: %s; workers start with it, Linux 5.9 has it, and a filter of "
            "a container must let it pass",
            strerror(errno));
    return 0;
}
