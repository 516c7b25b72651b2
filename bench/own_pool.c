/* SPDX-License-Identifier: Apache-2.0 */
/* Pools are kept by their URL and never closed: a load ends its sessions after each round, and a
 * pool that began anew in each would be measured while it begins.
 */
#include "bench/own_pool.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <knitting/pool.h>

#define THREADS   "pool:threads="
#define PROCESSES "pool:processes="

enum { POOLS_MAX = 8, MODULES_MAX = 8 };

static struct {
    char *url;
    struct knit_pool *pool;
} pools[POOLS_MAX];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static int open_pool(const char *url, struct knit_pool **ret, struct knit_error *ret_error)
{
    const bool has_threads = strncmp(url, THREADS, strlen(THREADS)) == 0;
    const char *paths[MODULES_MAX + 1] = {NULL};
    char *words = strdup(url + strlen(has_threads ? THREADS : PROCESSES)), *rest = words;
    struct knit_pool_options options = {
        .kind = has_threads ? KNIT_POOL_THREADS : KNIT_POOL_PROCESSES, .modules = paths};
    int code;

    if (!has_threads)
        options.worker_program = strsep(&rest, ":");
    for (int i = 0; i < MODULES_MAX && rest != NULL; i++)
        paths[i] = strsep(&rest, ":");
    code = knit_pool_open(&options, ret, ret_error);
    free(words);
    return code;
}

static int find_pool(const char *url, struct knit_pool **ret, struct knit_error *ret_error)
{
    int code, i = 0;

    while (i < POOLS_MAX && pools[i].pool != NULL && strcmp(pools[i].url, url) != 0)
        i++;
    if (i == POOLS_MAX) {
        fprintf(stderr, "knit-bench: more than %d pools\n", POOLS_MAX);
        exit(2);
    }
    code = pools[i].pool != NULL ? KNIT_OK : open_pool(url, &pools[i].pool, ret_error);
    if (code == KNIT_OK && pools[i].url == NULL)
        pools[i].url = strdup(url);
    *ret = pools[i].pool;
    return code;
}

int knit_own_pool_session(const char *url, const struct knit_open_options *options,
    struct knit **ret, struct knit_error *ret_error)
{
    struct knit_pool *pool;
    int code;

    if (strncmp(url, THREADS, strlen(THREADS)) != 0 &&
        strncmp(url, PROCESSES, strlen(PROCESSES)) != 0)
        return knit_open(url, options, ret, ret_error);
    pthread_mutex_lock(&mutex);
    code = find_pool(url, &pool, ret_error);
    pthread_mutex_unlock(&mutex);
    if (code != KNIT_OK) {
        *ret = NULL;
        return code;
    }
    return knit_pool_session(pool, options, ret, ret_error);
}
