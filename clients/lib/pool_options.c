/* SPDX-License-Identifier: Apache-2.0 */
/* Paths are made real before anything starts: workers run elsewhere and later, and a file that is
 * not there is refused by the name that the program gave it.
 */
#include "clients/lib/pool_options.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "fastpath/worker/thread.h"

static int refuse(struct knit_sentence *ret_why, const char *what, const char *path)
{
    return knit_sentence_set(
        ret_why, KNIT_BAD_ARGUMENT, "%s \"%.500s\": %s", what, path, strerror(errno));
}

/* The folder of the file that this was loaded from: the library's, or the program's that it is
 * linked into. */
static bool own_folder(char ret_folder[PATH_MAX])
{
    static const char here;
    Dl_info info;
    char *slash;

    if (dladdr(&here, &info) == 0 || info.dli_fname == NULL)
        return false;
    /* A program is known by the name that it was called by. */
    if (realpath(info.dli_fname[0] == '/' ? info.dli_fname : "/proc/self/exe", ret_folder) == NULL)
        return false;
    slash = strrchr(ret_folder, '/');
    *slash = '\0';
    return true;
}

static int find_worker(const char *given, char ret_path[PATH_MAX], struct knit_sentence *ret_why)
{
    char folder[PATH_MAX];

    if (given != NULL) {
        if (realpath(given, ret_path) == NULL || access(ret_path, R_OK | X_OK) != 0)
            return refuse(ret_why, "worker_path", given);
        return 0;
    }
    if (own_folder(folder) &&
        snprintf(ret_path, PATH_MAX, "%s/knitting-worker", folder) < PATH_MAX &&
        access(ret_path, R_OK | X_OK) == 0)
        return 0;
    if (access(KNIT_WORKER, R_OK | X_OK) == 0) {
        (void)snprintf(ret_path, PATH_MAX, "%s", KNIT_WORKER);
        return 0;
    }
    return knit_sentence_set(ret_why, KNIT_BAD_ARGUMENT,
        "worker_path: the program knitting-worker is neither beside the library nor at " KNIT_WORKER
        "; say where it is");
}

static int find_modules(
    struct knit_pool_setup *setup, const char *const *given, struct knit_sentence *ret_why)
{
    uint32_t count = 0;

    while (given != NULL && given[count] != NULL && count <= KNIT_HOST_MODULES_MAX)
        count++;
    setup->modules = calloc((size_t)count + 1, sizeof(*setup->modules));
    if (setup->modules == NULL)
        return knit_sentence_set(ret_why, KNIT_INTERNAL, "not enough memory for a pool");
    for (uint32_t i = 0; i < count; i++) {
        struct stat status;

        setup->modules[i] = realpath(given[i], NULL);
        if (setup->modules[i] == NULL || stat(setup->modules[i], &status) != 0)
            return refuse(ret_why, "module", given[i]);
        if (S_ISDIR(status.st_mode)) {
            errno = EISDIR;
            return refuse(ret_why, "module", given[i]);
        }
    }
    setup->host.modules = (const char *const *)setup->modules;
    setup->host.module_count = count;
    return 0;
}

static void set_u32(uint32_t *to, uint32_t given)
{
    if (given != 0)
        *to = given;
}

static void fill(struct knit_host_options *host, const struct knit_pool_options *options)
{
    set_u32(&host->workers, options->workers);
    if (options->bootstrap != NULL)
        host->bootstrap = options->bootstrap;
    host->environment = options->environment;
    host->steal = options->steal != 0 ? options->steal == KNIT_POOL_ON
                                      : host->workers > 1 && options->balancer == NULL;
    set_u32(&host->spin_us, options->spin_us);
    if (options->arena_bytes != 0)
        host->arena_bytes = options->arena_bytes;
    host->call_max_bytes =
        options->call_max_bytes != 0 ? options->call_max_bytes : host->arena_bytes / 8;
    if (host->reply_budget_bytes < host->arena_bytes)
        host->reply_budget_bytes = host->arena_bytes;
    host->hard_timeout_ms = options->hard_timeout_ms;
    set_u32(&host->abort_grace_ms, options->abort_grace_ms);
    set_u32(&host->slow_call_ms, options->slow_call_ms);
    set_u32(&host->deaths_per_minute, options->deaths_per_minute);
    set_u32(&host->startup_ms, options->startup_ms);
    set_u32(&host->stop_ms, options->stop_ms);
    /* All sessions are the program's own. */
    host->sessions_max = 0;
    host->own_sessions_drain = true;
}

/* What is one of a few. */
static int check_choices(struct knit_pool_setup *setup, const struct knit_pool_options *options,
    struct knit_sentence *ret_why)
{
    if (options->kind != KNIT_POOL_THREADS && options->kind != KNIT_POOL_PROCESSES)
        return knit_sentence_set(ret_why, KNIT_BAD_ARGUMENT,
            "kind is %d: KNIT_POOL_THREADS and KNIT_POOL_PROCESSES are possible",
            (int)options->kind);
    if ((unsigned)options->steal > KNIT_POOL_OFF)
        return knit_sentence_set(ret_why, KNIT_BAD_ARGUMENT,
            "steal is %d: KNIT_POOL_ON, KNIT_POOL_OFF and 0 are possible", (int)options->steal);
    if (options->balancer != NULL && !knit_balancer_parse(options->balancer, &setup->balancer))
        return knit_sentence_set(ret_why, KNIT_BAD_ARGUMENT,
            "unknown balancer: %.100s; expected " KNIT_BALANCER_NAMES, options->balancer);
    return 0;
}

/* What has no name is nothing that getenv() of a worker could find. */
static int check_environment(const char *const *given, struct knit_sentence *ret_why)
{
    for (; given != NULL && *given != NULL; given++) {
        if (**given == '=' || strchr(*given, '=') == NULL)
            return knit_sentence_set(
                ret_why, KNIT_BAD_ARGUMENT, "environment: \"%.500s\" is not NAME=value", *given);
    }
    return 0;
}

static int set_processes(struct knit_pool_setup *setup, const struct knit_pool_options *options,
    struct knit_sentence *ret_why)
{
    int code = find_worker(options->worker_path, setup->worker, ret_why);

    setup->host.worker_path = setup->worker;
    if (code == 0 && setup->host.module_count == 0)
        return knit_sentence_set(
            ret_why, KNIT_BAD_ARGUMENT, "modules: worker processes need some, and none is named");
    if (code == 0)
        code = check_environment(options->environment, ret_why);
    return code;
}

static int set_threads(struct knit_pool_setup *setup, const struct knit_module *program,
    const struct knit_pool_options *options, struct knit_sentence *ret_why)
{
    struct knit_host_options *host = &setup->host;

    if (options->worker_path != NULL)
        return knit_sentence_set(ret_why, KNIT_BAD_ARGUMENT,
            "worker_path is set: workers that are threads of the program cannot have it, processes "
            "can");
    host->threads = &knit_threads;
    host->program = program;
    host->abort_grace_ms = options->abort_grace_ms;
    host->abandoned_ms = 0;
    return 0;
}

int knit_pool_setup_init(struct knit_pool_setup *setup, const struct knit_module *program,
    const struct knit_pool_options *options, struct knit_sentence *ret_why)
{
    int code;

    *setup = (struct knit_pool_setup){.modules = NULL};
    knit_host_options_init(&setup->host);
    code = check_choices(setup, options, ret_why);
    if (code != 0)
        return code;
    fill(&setup->host, options);
    code = find_modules(setup, options->modules, ret_why);
    if (code == 0)
        code = options->kind == KNIT_POOL_THREADS ? set_threads(setup, program, options, ret_why)
                                                  : set_processes(setup, options, ret_why);
    if (code == 0 && knit_host_options_check(&setup->host, ret_why) != 0)
        code = KNIT_BAD_ARGUMENT;
    return code;
}

void knit_pool_setup_fini(struct knit_pool_setup *setup)
{
    for (size_t i = 0; setup->modules != NULL && setup->modules[i] != NULL; i++)
        free(setup->modules[i]);
    free(setup->modules);
    setup->modules = NULL;
}
