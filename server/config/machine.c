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

typedef uint64_t read_limit(FILE *file);

/* "QUOTA PERIOD", or "max PERIOD". */
static uint64_t read_quota(FILE *file)
{
    unsigned long long quota, period;

    if (fscanf(file, "%llu %llu", &quota, &period) != 2 || period == 0)
        return UINT64_MAX;
    return quota / period + (quota % period != 0);
}

static uint64_t read_bytes(FILE *file)
{
    unsigned long long bytes;

    return fscanf(file, "%llu", &bytes) == 1 ? bytes : UINT64_MAX;
}

/* The group's path below the mount, without a slash at its end. */
static bool find_group(const char *root, char ret_group[PATH_MAX])
{
    char path[PATH_MAX], line[PATH_MAX];
    bool is_found = false;
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
    file = fopen(path, "re");
    while (file != NULL && !is_found && fgets(line, sizeof(line), file) != NULL) {
        is_found = strncmp(line, "0::/", 4) == 0;
        line[strcspn(line, "\n")] = '\0';
    }
    if (file != NULL)
        (void)fclose(file);
    if (is_found)
        memcpy(ret_group, line + 3, strlen(line + 3) + 1);
    return is_found;
}

/* The least of what `name` says in the group and in those above it. */
static uint64_t least_of(const char *root, const char *name, read_limit *read)
{
    char group[PATH_MAX], path[2 * PATH_MAX];
    uint64_t least = UINT64_MAX;
    char *slash;

    if (!find_group(root, group))
        return UINT64_MAX;
    do {
        uint64_t own = UINT64_MAX;
        FILE *file;

        slash = strrchr(group, '/');
        if (slash != NULL && slash[1] == '\0')
            *slash = '\0';
        (void)snprintf(path, sizeof(path), "%s/sys/fs/cgroup%s/%s", root, group, name);
        file = fopen(path, "re");
        if (file != NULL) {
            own = read(file);
            (void)fclose(file);
        }
        least = own < least ? own : least;
        slash = strrchr(group, '/');
        if (slash != NULL)
            *slash = '\0';
    } while (slash != NULL);
    return least;
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
    uint64_t quota = least_of(root, "cpu.max", read_quota);
    uint64_t count = by_affinity();

    count = quota < count ? quota : count;
    return count < 1 ? 1 : count;
}

uint64_t knit_machine_memory_max(const char *root)
{
    return least_of(root, "memory.max", read_bytes);
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
