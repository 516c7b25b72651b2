/* SPDX-License-Identifier: Apache-2.0 */
/* Strings of the options are copied, so that a host may free its own after knit_pool_open(), and
 * the text of START is made once: every worker of a pool, replacements too, gets the same bytes.
 */
#include "fastpath/host/launch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const standard_environment[] = {
    "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", NULL};

static void free_list(const char *const *list)
{
    for (uint32_t i = 0; list != NULL && list[i] != NULL; i++)
        free((char *)list[i]);
    free((void *)list);
}

/* A copy of `count` strings with room for one more and a NULL behind them; NULL when out of
 * memory. */
static const char **copy_list(const char *const *list, size_t count)
{
    const char **copy = calloc(count + 2, sizeof(*copy));

    for (size_t i = 0; copy != NULL && i < count; i++) {
        copy[i] = strdup(list[i]);
        if (copy[i] == NULL) {
            free_list(copy);
            return NULL;
        }
    }
    return copy;
}

static size_t list_length(const char *const *list)
{
    size_t count = 0;

    while (list != NULL && list[count] != NULL)
        count++;
    return count;
}

/* Copies the text with its NUL; returns where the next one goes. */
static char *put_text(char *to, const char *text)
{
    size_t size = strlen(text) + 1;

    memcpy(to, text, size);
    return to + size;
}

static size_t list_bytes(const char *const *list)
{
    size_t bytes = 0;

    for (uint32_t i = 0; list != NULL && list[i] != NULL; i++)
        bytes += strlen(list[i]) + 1;
    return bytes;
}

static char *put_list(char *to, const char *const *list)
{
    for (uint32_t i = 0; list != NULL && list[i] != NULL; i++)
        to = put_text(to, list[i]);
    return to;
}

/* The bytes of START: the bootstrap text, the modules, the policy's paths, each with its NUL. */
static int make_start_text(struct knit_launch *launch, const struct knit_pool_options *options)
{
    const struct knit_confine_policy *confinement = &options->confinement;
    const char *bootstrap = options->bootstrap != NULL ? options->bootstrap : "";
    size_t bytes =
        strlen(bootstrap) + 1 + list_bytes(confinement->read) + list_bytes(confinement->write);
    char *next;

    for (uint32_t i = 0; i < options->module_count; i++)
        bytes += strlen(options->modules[i]) + 1;
    launch->start_text = malloc(bytes);
    if (launch->start_text == NULL)
        return -ENOMEM;
    launch->start_bytes = bytes;
    next = put_text(launch->start_text, bootstrap);
    for (uint32_t i = 0; i < options->module_count; i++)
        next = put_text(next, options->modules[i]);
    (void)put_list(put_list(next, confinement->read), confinement->write);
    launch->modules = options->module_count;
    launch->read_paths = (uint32_t)list_length(confinement->read);
    launch->write_paths = (uint32_t)list_length(confinement->write);
    return 0;
}

int knit_launch_init(struct knit_launch *launch, const struct knit_pool_options *options)
{
    const char *const *environment =
        options->environment != NULL ? options->environment : standard_environment;
    size_t prefix = list_length(options->prefix);

    *launch = (struct knit_launch){.has_prefix = prefix != 0};
    launch->argv = calloc(prefix + 2, sizeof(*launch->argv));
    launch->environment = copy_list(environment, list_length(environment));
    if (launch->argv == NULL || launch->environment == NULL)
        return -ENOMEM;
    if (options->kill_orphans) {
        launch->mark = calloc(1, KNIT_LAUNCH_MARK_SIZE);
        if (launch->mark == NULL)
            return -ENOMEM;
        launch->environment[list_length(environment)] = launch->mark;
    }
    for (size_t i = 0; i <= prefix; i++) {
        launch->argv[i] = strdup(i < prefix ? options->prefix[i] : options->worker_path);
        if (launch->argv[i] == NULL)
            return -ENOMEM;
    }
    launch->worker_path = launch->argv[prefix];
    return make_start_text(launch, options);
}

void knit_launch_fini(struct knit_launch *launch)
{
    free_list(launch->argv);
    free_list(launch->environment);
    free(launch->start_text);
}

void knit_launch_make_mark(char *ret_mark, uint32_t serial)
{
    (void)snprintf(ret_mark, KNIT_LAUNCH_MARK_SIZE, "KNITTING_WORKER=%d.%u", (int)getpid(), serial);
}

void knit_launch_mark(struct knit_launch *launch, uint32_t serial)
{
    if (launch->mark != NULL)
        knit_launch_make_mark(launch->mark, serial);
}
