/* SPDX-License-Identifier: Apache-2.0 */
/* Privileges are dropped before the first thread starts, and after the sockets are open, whose
 * ports and groups may have needed them.
 */
#include "server/daemon/workers.h"

#include <limits.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fastpath/control/image.h"
#include "fastpath/worker/inliner.h"
#include "server/base/log.h"
#include "server/config/confinement.h"
#include "server/config/install_paths.h"

/* What the settings name, found. */
struct found {
    char worker[PATH_MAX];
    char **modules;        /* ended by NULL */
    char **inline_modules; /* of these, the inliner's; ended by NULL, or NULL: there is none */
    struct knit_confine_policy confinement;
};

static bool is_one_of(char *const *paths, const char *path)
{
    while (*paths != NULL && strcmp(*paths, path) != 0)
        paths++;
    return *paths != NULL;
}

static int find_inline(
    const struct knit_settings *settings, struct found *found, struct knit_sentence *why)
{
    int r;

    if (settings->inliner_position == KNIT_INLINER_AT_NONE)
        return 0;
    r = knit_install_paths_find_modules(
        &settings->inliner_modules, NULL, &found->inline_modules, why);
    for (char **path = found->inline_modules; r == 0 && *path != NULL; path++) {
        if (!is_one_of(found->modules, *path))
            return knit_sentence_set(why, KNIT_INSTALL_PATHS_E_REFUSED,
                "pool.inliner_modules: \"%.500s\" is not one of the pool's modules", *path);
    }
    return r;
}

static int find(
    const struct knit_settings *settings, struct found *found, struct knit_sentence *why)
{
    int r = knit_install_paths_find_worker(settings->worker_program, found->worker, why);

    if (r == 0)
        r = knit_install_paths_find_modules(
            &settings->modules, settings->modules_root, &found->modules, why);
    if (r == 0)
        r = find_inline(settings, found, why);
    if (r == 0)
        r = knit_confinement_policy(settings, &found->confinement, why);
    return r;
}

static void free_found(struct found *found)
{
    knit_permission_policy_free(&found->confinement);
    knit_install_paths_free(found->modules);
    knit_install_paths_free(found->inline_modules);
}

int knit_workers_check(const struct knit_settings *settings, struct knit_sentence *why)
{
    struct found found = {.modules = NULL};
    int r = find(settings, &found, why);

    free_found(&found);
    return r;
}

/* Workers that are `unsafe` keep what the daemon keeps. */
static void drop_privileges(struct knit_log *log, enum knit_confine_profile profile)
{
    int r = profile == KNIT_CONFINE_UNSAFE ? 0 : knit_confine_host(NULL);

    if (r != 0)
        knit_log(log, KNIT_LOG_WARNING, "the daemon keeps privileges it does not need",
            KNIT_LOG_TEXT("reason", strerror(-r)));
}

static void fill_options(struct knit_host_options *options, const struct knit_settings *settings)
{
    knit_host_options_init(options);
    options->bootstrap = settings->bootstrap != NULL ? settings->bootstrap : "";
    options->workers = (uint32_t)settings->workers;
    options->steal = settings->steal != 0;
    options->spin_us = (uint32_t)settings->spin_us;
    options->pause_ns = (uint32_t)settings->pause_ns;
    options->park_ms = (uint32_t)settings->park_ms;
    options->uid_sessions_max = (uint32_t)settings->sessions_per_user;
    options->slots = (uint32_t)settings->slots;
    options->arena_initial_bytes = settings->arena_initial_bytes;
    options->arena_bytes = settings->arena_bytes;
    options->call_max_bytes = settings->call_max_bytes;
    if (options->reply_budget_bytes < settings->arena_bytes)
        options->reply_budget_bytes = settings->arena_bytes;
    if (settings->arena_mode == KNIT_ARENA_MODE_CHOICE_FIXED)
        knit_host_options_fix_arenas(options);
    options->deferred_max = (uint32_t)settings->deferred_max;
    options->hard_timeout_ms = (uint32_t)settings->hard_timeout_ms;
    options->abort_grace_ms = (uint32_t)settings->abort_grace_ms;
    options->slow_call_ms = (uint32_t)settings->slow_call_ms;
    options->deaths_per_minute = (uint32_t)settings->deaths_per_minute;
}

static void fill_found(struct knit_host_options *options, const struct found *found)
{
    options->worker_path = found->worker;
    options->modules = (const char *const *)found->modules;
    while (found->modules[options->module_count] != NULL)
        options->module_count++;
    options->confinement = found->confinement;
    /* Others cannot leave their worker's process group, which dies with it. */
    options->kill_orphans = found->confinement.rules.profile == KNIT_CONFINE_UNSAFE &&
                            prctl(PR_SET_CHILD_SUBREAPER, 1) == 0;
}

uint64_t knit_workers_memory_bytes(const struct knit_settings *settings, uint32_t sessions_max)
{
    struct knit_host_options options;

    fill_options(&options, settings);
    options.sessions_max = sessions_max;
    return knit_host_memory_bytes(&options, (uint32_t)settings->threads_io);
}

/* Files that workers do not have from memory (image.h). */
static void log_files(struct knit_log *log, const struct knit_host *pool)
{
    uint32_t count;
    const struct knit_image *images = knit_host_images(pool, &count);

    for (uint32_t i = 0; i < count; i++) {
        if (!images[i].is_frozen)
            knit_log(log, KNIT_LOG_INFO, "used by its path: no worker starts when it has changed",
                KNIT_LOG_TEXT("file", images[i].path));
    }
}

/* What a worker may have was chosen by the operator, and may be why it cannot start. */
static void say_limits(const struct knit_settings *settings, struct knit_sentence *why)
{
    const struct {
        const char *key;
        uint64_t value;
    } limits[] = {
        {"memory_max_bytes", settings->memory_max_bytes},
        {"files_max", settings->files_max},
        {"file_max_bytes", settings->file_max_bytes},
    };

    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        if (limits[i].value != 0 && knit_setting_is_given(settings, "worker", limits[i].key))
            knit_sentence_append(why, 0, "its worker.%s is %llu", limits[i].key,
                (unsigned long long)limits[i].value);
    }
}

int knit_workers_start(const struct knit_settings *settings, struct knit_log *log,
    const struct knit_workers_surroundings *surroundings, struct knit_host **ret_pool,
    struct knit_sentence *why)
{
    struct found found = {.modules = NULL};
    struct knit_host_options options;
    int r = find(settings, &found, why);

    if (r == 0) {
        drop_privileges(log, (enum knit_confine_profile)found.confinement.rules.profile);
        fill_options(&options, settings);
        fill_found(&options, &found);
        options.callbacks = surroundings->callbacks;
        options.stop_fd = surroundings->stop_fd;
        options.sessions_max = surroundings->sessions_max;
        for (uint32_t i = 0; settings->debug_bits & KNIT_DEBUG_IMPORTS && found.modules[i] != NULL;
             i++)
            knit_log(log, KNIT_LOG_DEBUG, "module", KNIT_LOG_TEXT("path", found.modules[i]));
        r = knit_host_open(&options, ret_pool, why);
        if (r != 0 && !knit_sentence_is_empty(why))
            say_limits(settings, why);
    }
    if (r == 0)
        log_files(log, *ret_pool);
    free_found(&found);
    return r;
}

int knit_workers_load_inline(const struct knit_settings *settings, struct knit_log *log,
    const struct knit_host *pool, struct knit_inline_tasks **ret_tasks, struct knit_sentence *why)
{
    struct knit_inline_tasks_options options = {.pool = knit_host_registry(pool),
        .bootstrap = settings->bootstrap,
        .workers = knit_host_lanes(pool)};
    struct found found = {.modules = NULL};
    int r;

    *ret_tasks = NULL;
    if (settings->inliner_position == KNIT_INLINER_AT_NONE)
        return 0;
    r = find(settings, &found, why);
    if (r == 0) {
        options.modules = (const char *const *)found.inline_modules;
        while (found.inline_modules[options.module_count] != NULL)
            options.module_count++;
        r = knit_inline_tasks_open(&options, ret_tasks, why);
        if (r > 0)
            knit_sentence_prefix(why, "inliner startup failed");
    }
    for (uint32_t i = 0; r == 0 && i < options.module_count; i++)
        knit_log(log, KNIT_LOG_WARNING, "tasks of this module run in the daemon, unconfined",
            KNIT_LOG_TEXT("path", found.inline_modules[i]));
    free_found(&found);
    return r;
}

int knit_workers_try(const struct knit_settings *settings, struct knit_sentence *why)
{
    const struct knit_workers_surroundings surroundings = {.stop_fd = -1};
    struct knit_settings one = *settings;
    struct knit_host *pool = NULL;
    struct knit_log log;
    int r;

    one.workers = 1;
    knit_log_init(&log, STDERR_FILENO, KNIT_LOG_ERROR);
    r = knit_workers_start(&one, &log, &surroundings, &pool, why);
    (void)knit_host_free(pool);
    knit_log_fini(&log);
    return r;
}

/* The pool reaps its own children: if the daemon reaped them, the pool would take another process
 * with the same pid for a worker. */
void knit_workers_reap_orphans(struct knit_host *pool)
{
    for (;;) {
        siginfo_t info = {.si_pid = 0};

        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
            return;
        if (pool != NULL && knit_host_owns_pid(pool, info.si_pid)) {
            /* It stands in front of the others until the pool has reaped it. */
            knit_host_dispatch(pool);
            if (knit_host_owns_pid(pool, info.si_pid))
                return;
        } else {
            (void)waitpid(info.si_pid, NULL, WNOHANG);
        }
    }
}
