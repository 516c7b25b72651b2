/* SPDX-License-Identifier: Apache-2.0 */
/* What a pool of the program's own takes of memory: a pool with one worker, a further worker, an
 * idle session; with threads and with processes.
 *
 * The figures are those of Pss in smaps_rollup of the program and of its workers, all added: a page
 * that several share counts once. Each is a difference over N of the same thing, so that what is
 * there once, such as code, is in none of them. All has been used once before it is measured: each
 * session has made a call.
 *
 *     knit-memory [--module PATH] [--worker PATH] [--bounds]
 *
 * --bounds: fail where a figure is above ten times what METHOD.md states, for a test.
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <knitting/pool.h>

enum { WORKERS = 9, SESSIONS = 33, POOLS = 5 };

static struct knit_pool_options options;
static const char *modules[2];

static void give_up(const char *what, const struct knit_error *error)
{
    fprintf(stderr, "knit-memory: %s: %s\n", what, error->message);
    exit(1);
}

/* Of the process; 0 if it has gone. */
static uint64_t pss_kib(const char *pid)
{
    char path[64], line[256];
    uint64_t kib = 0;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%s/smaps_rollup", pid);
    file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        (void)sscanf(line, "Pss: %" SCNu64, &kib);
    if (file != NULL)
        (void)fclose(file);
    return kib;
}

static bool is_child(const char *pid)
{
    char path[64], line[512];
    const char *end = NULL;
    FILE *file;
    int parent = 0;

    (void)snprintf(path, sizeof(path), "/proc/%s/stat", pid);
    file = fopen(path, "re");
    if (file == NULL)
        return false;
    if (fgets(line, sizeof(line), file) != NULL)
        end = strrchr(line, ')');
    (void)fclose(file);
    return end != NULL && sscanf(end, ") %*c %d", &parent) == 1 && parent == (int)getpid();
}

/* Of this program and its workers. */
static uint64_t all_kib(void)
{
    DIR *folder = opendir("/proc");
    uint64_t kib = pss_kib("self");
    struct dirent *entry;

    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && is_child(entry->d_name))
            kib += pss_kib(entry->d_name);
    }
    if (folder != NULL)
        (void)closedir(folder);
    return kib;
}

static struct knit_pool *open_pool(uint32_t workers)
{
    struct knit_pool *pool;
    struct knit_error error;

    options.workers = workers;
    if (knit_pool_open(&options, &pool, &error) != KNIT_OK)
        give_up("a pool", &error);
    return pool;
}

static struct knit *open_session(struct knit_pool *pool)
{
    struct knit *k;
    struct knit_error error;

    if (knit_pool_session(pool, NULL, &k, &error) != KNIT_OK ||
        knit_call(k, &error, "empty", "()") != KNIT_OK)
        give_up("a session", &error);
    return k;
}

/* A pool with so many workers, and a session that has called. */
static double of_pool(uint32_t workers)
{
    struct knit_pool *pools[POOLS];
    struct knit *sessions[POOLS];
    uint64_t first_kib = 0;

    for (int i = 0; i < POOLS; i++) {
        pools[i] = open_pool(workers);
        sessions[i] = open_session(pools[i]);
        if (i == 0)
            first_kib = all_kib();
    }
    first_kib = all_kib() - first_kib;
    for (int i = 0; i < POOLS; i++) {
        (void)knit_close(sessions[i]);
        (void)knit_pool_close(pools[i]);
    }
    return (double)first_kib / (POOLS - 1);
}

static double of_session(void)
{
    struct knit_pool *pool = open_pool(1);
    struct knit *sessions[SESSIONS];
    uint64_t first_kib = 0;

    for (int i = 0; i < SESSIONS; i++) {
        sessions[i] = open_session(pool);
        if (i == 0)
            first_kib = all_kib();
    }
    first_kib = all_kib() - first_kib;
    for (int i = 0; i < SESSIONS; i++)
        (void)knit_close(sessions[i]);
    (void)knit_pool_close(pool);
    return (double)first_kib / (SESSIONS - 1);
}

static bool show(const char *kind, const char *what, double kib, double stated_kib, bool is_bound)
{
    printf("%-10s %-34s %8.0f KiB\n", kind, what, kib);
    if (!is_bound || kib <= 10 * stated_kib)
        return true;
    fprintf(stderr, "knit-memory: %s: %s: more than ten times %.0f KiB\n", kind, what, stated_kib);
    return false;
}

static bool measure(const char *kind, const double stated_kib[3], bool is_bound)
{
    const double one = of_pool(1), many = of_pool(WORKERS);
    bool is_good = show(kind, "a pool: one worker, one session", one, stated_kib[0], is_bound);

    is_good &=
        show(kind, "a further worker", (many - one) / (WORKERS - 1), stated_kib[1], is_bound);
    return show(kind, "an idle session that has called", of_session(), stated_kib[2], is_bound) &&
           is_good;
}

int main(int argc, char **argv)
{
    static const double threads_kib[] = {320, 160, 360}, processes_kib[] = {1080, 300, 400};
    bool is_bound = false, is_good;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--bounds") == 0)
            is_bound = true;
        else if (strcmp(argv[i], "--module") == 0 && i + 1 < argc)
            modules[0] = argv[++i];
        else if (strcmp(argv[i], "--worker") == 0 && i + 1 < argc)
            options.worker_program = argv[++i];
        else {
            fprintf(stderr, "usage: knit-memory [--module PATH] [--worker PATH] [--bounds]\n");
            return 2;
        }
    }
    options.modules = modules;
    options.kind = KNIT_POOL_PROCESSES;
    is_good = measure("processes", processes_kib, is_bound);
    options.kind = KNIT_POOL_THREADS;
    options.worker_program = NULL;
    return measure("threads", threads_kib, is_bound) && is_good ? 0 : 1;
}
