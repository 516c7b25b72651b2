/* SPDX-License-Identifier: Apache-2.0 */
/* Strings of the options are copied, so that a host may free its own after knit_host_open(), and
 * the text of START is made once: every worker of a pool, replacements too, gets the same bytes.
 *
 * A command prefix starts the worker program by its path, so that is not frozen.
 */
#include "fastpath/host/launch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fastpath/control/kin.h"
#include "fastpath/host/reason.h"

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

/* The word that a worker finds for a module (worker.c). */
static const char *how_loaded(const struct knit_image *image)
{
    return image->is_frozen ? "copy" : "path";
}

static char *put_list(char *to, const char *const *list)
{
    for (uint32_t i = 0; list != NULL && list[i] != NULL; i++)
        to = put_text(to, list[i]);
    return to;
}

/* The bytes of START: the bootstrap text, the modules, how each is loaded, the policy's paths, each
 * with its NUL. */
static int make_start_text(struct knit_launch *launch, const struct knit_host_options *options)
{
    const struct knit_confine_policy *confinement = &options->confinement;
    const char *bootstrap = options->bootstrap != NULL ? options->bootstrap : "";
    size_t bytes = strlen(bootstrap) + 1 + list_bytes(launch->module_paths) +
                   list_bytes(confinement->read) + list_bytes(confinement->write);
    char *next;

    for (uint32_t i = 0; i < launch->modules; i++)
        bytes += strlen(how_loaded(&launch->images[i + 1])) + 1;
    launch->start_text = malloc(bytes);
    if (launch->start_text == NULL)
        return -ENOMEM;
    launch->start_bytes = bytes;
    next = put_list(put_text(launch->start_text, bootstrap), launch->module_paths);
    for (uint32_t i = 0; i < launch->modules; i++)
        next = put_text(next, how_loaded(&launch->images[i + 1]));
    (void)put_list(put_list(next, confinement->read), confinement->write);
    launch->read_paths = (uint32_t)list_length(confinement->read);
    launch->write_paths = (uint32_t)list_length(confinement->write);
    return 0;
}

/* Copies the modules and the program. */
static int open_images(struct knit_launch *launch, struct knit_sentence *ret_why)
{
    const uint32_t count = launch->modules + 1;
    int error = 0;

    launch->images = calloc(count, sizeof(*launch->images));
    launch->fds = calloc(count, sizeof(*launch->fds));
    for (uint32_t i = 0; launch->images != NULL && i < count; i++)
        launch->images[i].fd = -1;
    if (launch->images == NULL || launch->fds == NULL)
        return -ENOMEM;
    error = knit_image_open(launch->worker_path, KNIT_IMAGE_PROGRAM, &launch->images[0], ret_why);
    launch->fds[launch->modules] = launch->images[0].fd;
    for (uint32_t i = 0; error == 0 && i < launch->modules; i++) {
        error = knit_image_open(
            launch->module_paths[i], KNIT_IMAGE_MODULE, &launch->images[i + 1], ret_why);
        launch->fds[i] = launch->images[i + 1].fd;
    }
    if (error == 0)
        return 0;
    knit_sentence_prefix(ret_why, "worker startup failed");
    return error < 0 ? error : KNIT_HOST_E_STARTUP;
}

int knit_launch_init(struct knit_launch *launch, const struct knit_host_options *options,
    struct knit_sentence *ret_why)
{
    const char *const *environment =
        options->environment != NULL ? options->environment : standard_environment;
    size_t prefix = list_length(options->prefix);
    int error;

    *launch = (struct knit_launch){.has_prefix = prefix != 0, .modules = options->module_count};
    launch->argv = calloc(prefix + 2, sizeof(*launch->argv));
    launch->environment = copy_list(environment, list_length(environment));
    launch->module_paths = copy_list(options->modules, options->module_count);
    if (launch->argv == NULL || launch->environment == NULL || launch->module_paths == NULL)
        return -ENOMEM;
    if (options->kill_orphans) {
        launch->mark = calloc(1, KNIT_KIN_MARK_SIZE);
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
    error = open_images(launch, ret_why);
    if (error != 0)
        return error;
    if (launch->has_prefix)
        launch->images[0].is_frozen = false;
    if (launch->images[0].is_frozen)
        knit_image_name(KNIT_IMAGE_FD_FIRST + (int)launch->modules, launch->program);
    return make_start_text(launch, options);
}

int knit_launch_check(const struct knit_launch *launch, struct knit_sentence *ret_why)
{
    const struct knit_image *image = &launch->images[0];
    int error = image->is_frozen ? 0 : knit_image_compare(launch->worker_path, image->fd);

    if (error == KNIT_IMAGE_E_CHANGED)
        return knit_sentence_set(ret_why, error,
            "%s: was changed since this program started, and is used by its path: put it back, or "
            "restart this program",
            launch->worker_path);
    if (error != 0)
        return knit_sentence_set(
            ret_why, error, "%s: cannot be run: %s", launch->worker_path, strerror(-error));
    return 0;
}

void knit_launch_fini(struct knit_launch *launch)
{
    for (uint32_t i = 0; launch->images != NULL && i <= launch->modules; i++)
        knit_image_close(&launch->images[i]);
    free(launch->images);
    free(launch->fds);
    free_list(launch->argv);
    free_list(launch->environment);
    free_list(launch->module_paths);
    free(launch->start_text);
}

void knit_launch_mark(struct knit_launch *launch, uint32_t serial)
{
    if (launch->mark != NULL)
        knit_kin_make_mark(launch->mark, getpid(), serial);
}
