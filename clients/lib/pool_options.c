/* SPDX-License-Identifier: Apache-2.0 */
/* What the host and the daemon know of an option, its range, its words, what it does not go with,
 * is asked of fastpath, so that both refuse the same in the same words. Here is what a program's
 * pool has otherwise: 0 and NULL for defaults, and which of it threads cannot have.
 */
#include "clients/lib/pool_options.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "fastpath/host/debug.h"
#include "fastpath/host/module_path.h"
#include "fastpath/host/permission.h"
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
            return refuse(ret_why, "worker_program", given);
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
        "worker_program: the program knitting-worker is neither beside the library nor "
        "at " KNIT_WORKER "; say where it is");
}

/* What a part of the host has said of an option, as an answer to the program. */
static int refusal(int r, struct knit_sentence *ret_why)
{
    if (r == -ENOMEM)
        return knit_sentence_set(ret_why, KNIT_INTERNAL, "not enough memory for a pool");
    return r == 0 ? 0 : KNIT_BAD_ARGUMENT;
}

static int find_modules_in(struct knit_pool_setup *setup, const char *const *given,
    const char *root, struct knit_sentence *ret_why)
{
    uint32_t count = 0;
    int r = 0;

    while (given != NULL && given[count] != NULL && count <= KNIT_HOST_MODULES_MAX)
        count++;
    setup->modules = calloc((size_t)count + 1, sizeof(*setup->modules));
    if (setup->modules == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; r == 0 && i < count; i++)
        r = knit_module_path_find(given[i], root, &setup->modules[i], ret_why);
    setup->host.modules = (const char *const *)setup->modules;
    setup->host.module_count = count;
    return r;
}

static int find_modules(struct knit_pool_setup *setup, const struct knit_pool_options *options,
    struct knit_sentence *ret_why)
{
    char *root;
    int r = knit_module_root_find(options->modules_root, "modules_root", &root, ret_why);

    if (r == 0)
        r = find_modules_in(setup, options->modules, root, ret_why);
    free(root);
    return refusal(r, ret_why);
}

#define NUMBER(member)                                                                             \
    {                                                                                              \
#member, offsetof(struct knit_pool_options, member),                                       \
            sizeof(((struct knit_pool_options *)NULL)->member) == sizeof(uint64_t)                 \
    }

/* Options that are the host's, by the same names. */
static const struct {
    const char *name;
    size_t offset;
    bool is_wide; /* uint64_t, else uint32_t */
} numbers[] = {
    NUMBER(workers),
    NUMBER(spin_us),
    NUMBER(pause_ns),
    NUMBER(park_ms),
    NUMBER(deferred_max),
    NUMBER(arena_initial_bytes),
    NUMBER(arena_bytes),
    NUMBER(call_max_bytes),
    NUMBER(busy_poll_turns),
    NUMBER(max_backoff_ms),
    NUMBER(hard_timeout_ms),
    NUMBER(abort_grace_ms),
    NUMBER(slow_call_ms),
    NUMBER(deaths_per_minute),
    NUMBER(startup_ms),
    NUMBER(stop_ms),
};

/* What is not given is the host's default, and of the largest argument an eighth of the arena. */
static void fill_numbers(struct knit_host_options *host, const struct knit_pool_options *options)
{
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        const void *member = (const char *)options + numbers[i].offset;
        const uint64_t given =
            numbers[i].is_wide ? *(const uint64_t *)member : *(const uint32_t *)member;

        if (given != 0)
            knit_host_number_set(
                host, knit_host_number_find(numbers[i].name), given != KNIT_POOL_NONE ? given : 0);
    }
    if (options->call_max_bytes == 0)
        host->call_max_bytes = host->arena_bytes / 8;
}

static void fill(struct knit_host_options *host, const struct knit_pool_options *options)
{
    fill_numbers(host, options);
    if (options->bootstrap != NULL)
        host->bootstrap = options->bootstrap;
    host->environment = options->environment;
    host->steal = options->steal != 0 ? options->steal == KNIT_POOL_ON
                                      : host->workers > 1 && options->balancer == NULL;
    if (host->reply_budget_bytes < host->arena_bytes)
        host->reply_budget_bytes = host->arena_bytes;
    /* All sessions are the program's own. */
    host->sessions_max = 0;
    host->own_sessions_drain = true;
}

static const char *const arena_modes[] = {"growable", "fixed", NULL};
static const char *const scopes[] = {"worker", "pool", NULL};

/* The number of a word among those that are possible; NULL is the first one. */
static int find_word(const char *option, const char *given, const char *const *words,
    uint32_t *ret_index, struct knit_sentence *ret_why)
{
    *ret_index = 0;
    for (uint32_t i = 0; given != NULL && words[i] != NULL; i++) {
        if (strcmp(given, words[i]) == 0) {
            *ret_index = i;
            return 0;
        }
    }
    if (given == NULL)
        return 0;
    if (words[2] != NULL)
        return knit_sentence_set(ret_why, KNIT_BAD_ARGUMENT,
            "unknown %s: %.100s; expected %s, %s or %s", option, given, words[0], words[1],
            words[2]);
    return knit_sentence_set(ret_why, KNIT_BAD_ARGUMENT, "unknown %s: %.100s; expected %s or %s",
        option, given, words[0], words[1]);
}

static int set_words(struct knit_pool_setup *setup, const struct knit_pool_options *options,
    struct knit_sentence *ret_why)
{
    uint32_t mode, scope;
    int code = find_word("arena_mode", options->arena_mode, arena_modes, &mode, ret_why);

    if (code == 0)
        code =
            find_word("hard_timeout_scope", options->hard_timeout_scope, scopes, &scope, ret_why);
    if (code != 0)
        return code;
    setup->ends_by_hard_timeout = scope == 1;
    if (mode == 1 && options->arena_initial_bytes != 0)
        return knit_sentence_set(ret_why, KNIT_BAD_ARGUMENT,
            "arena_initial_bytes is set: it means nothing with arena_mode fixed, which is all of "
            "arena_bytes");
    if (mode == 1)
        knit_host_options_fix_arenas(&setup->host);
    return 0;
}

/* What is one of a few. */
static int check_choices(struct knit_pool_setup *setup, const struct knit_pool_options *options,
    struct knit_sentence *ret_why)
{
    const struct {
        const char *name;
        enum knit_pool_switch given;
    } switches[] = {
        {"steal", options->steal},
        {"udp_sockets", options->udp_sockets},
        {"unix_sockets", options->unix_sockets},
        {"exec_programs", options->exec_programs},
    };

    if (options->kind != KNIT_POOL_THREADS && options->kind != KNIT_POOL_PROCESSES)
        return knit_sentence_set(ret_why, KNIT_BAD_ARGUMENT,
            "kind is %d: KNIT_POOL_THREADS and KNIT_POOL_PROCESSES are possible",
            (int)options->kind);
    for (size_t i = 0; i < sizeof(switches) / sizeof(switches[0]); i++) {
        if ((unsigned)switches[i].given > KNIT_POOL_OFF)
            return knit_sentence_set(ret_why, KNIT_BAD_ARGUMENT,
                "%s is %d: KNIT_POOL_ON, KNIT_POOL_OFF and 0 are possible", switches[i].name,
                (int)switches[i].given);
    }
    if (options->balancer != NULL && !knit_balancer_parse(options->balancer, &setup->balancer))
        return knit_sentence_set(ret_why, KNIT_BAD_ARGUMENT,
            "unknown balancer: %.100s; expected " KNIT_BALANCER_NAMES, options->balancer);
    return 0;
}

/* ---- what processes may touch ---- */

/* 0 is `preset`; what the program is held to is no limit of a worker's. */
static uint64_t limit_of(uint64_t given, uint64_t preset, uint64_t none)
{
    return given == 0 ? preset : given == KNIT_POOL_NONE ? none : given;
}

static int set_permission(struct knit_pool_setup *setup, const struct knit_pool_options *options,
    struct knit_sentence *ret_why)
{
    static const char *const profiles[] = {[KNIT_CONFINE_UNSAFE] = "unsafe",
        [KNIT_CONFINE_STRICT] = "strict",
        [KNIT_CONFINE_CUSTOM] = "custom",
        NULL};
    struct knit_permission permission = {.owner = "",
        .is_required = options->permission != NULL,
        .read_paths = options->read_paths,
        .write_paths = options->write_paths,
        .connect_ports = options->connect_ports,
        .listen_ports = options->listen_ports,
        .udp_sockets = options->udp_sockets == KNIT_POOL_ON,
        .unix_sockets = options->unix_sockets == KNIT_POOL_ON,
        .exec_programs = options->exec_programs == KNIT_POOL_ON};
    uint32_t profile;
    int r = find_word("permission", options->permission, profiles, &profile, ret_why);
    bool is_unsafe;

    if (r != 0)
        return r;
    is_unsafe = profile == KNIT_CONFINE_UNSAFE;
    permission.profile = (enum knit_confine_profile)profile;
    permission.memory_max_bytes =
        limit_of(options->memory_max_bytes, KNIT_CONFINE_NO_LIMIT, KNIT_CONFINE_NO_LIMIT);
    permission.files_max = limit_of(options->files_max,
        is_unsafe ? KNIT_CONFINE_NO_LIMIT : knit_permission_files_preset(), KNIT_CONFINE_NO_LIMIT);
    permission.core_max_bytes =
        limit_of(options->core_max_bytes, is_unsafe ? KNIT_CONFINE_NO_LIMIT : 0, 0);
    permission.file_max_bytes =
        limit_of(options->file_max_bytes, KNIT_CONFINE_NO_LIMIT, KNIT_CONFINE_NO_LIMIT);
    r = knit_permission_check(&permission, ret_why);
    if (r == 0)
        r = knit_permission_policy(&permission, &setup->host.confinement, ret_why);
    return refusal(r, ret_why);
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
    int code = find_worker(options->worker_program, setup->worker, ret_why);

    setup->host.worker_path = setup->worker;
    if (code == 0 && setup->host.module_count == 0)
        return knit_sentence_set(
            ret_why, KNIT_BAD_ARGUMENT, "modules: worker processes need some, and none is named");
    if (code == 0)
        code = check_environment(options->environment, ret_why);
    if (code == 0)
        code = set_permission(setup, options, ret_why);
    return code;
}

/* What the program alone looks at; the rest is refused by the host. */
static int check_threads(const struct knit_pool_options *options, struct knit_sentence *ret_why)
{
    const struct {
        const char *name;
        bool is_set;
    } words[] = {
        {"worker_program", options->worker_program != NULL},
        {"permission", options->permission != NULL},
        {"read_paths", options->read_paths != NULL},
        {"write_paths", options->write_paths != NULL},
        {"connect_ports", options->connect_ports != NULL},
        {"listen_ports", options->listen_ports != NULL},
        {"udp_sockets", options->udp_sockets != 0},
        {"unix_sockets", options->unix_sockets != 0},
        {"exec_programs", options->exec_programs != 0},
        {"memory_max_bytes", options->memory_max_bytes != 0},
        {"files_max", options->files_max != 0},
        {"core_max_bytes", options->core_max_bytes != 0},
        {"file_max_bytes", options->file_max_bytes != 0},
    };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (words[i].is_set)
            return knit_sentence_set(ret_why, KNIT_BAD_ARGUMENT,
                "%s is set: workers that are threads of the program cannot have it, processes can",
                words[i].name);
    }
    return 0;
}

static int set_threads(struct knit_pool_setup *setup, const struct knit_module *program,
    const struct knit_pool_options *options, struct knit_sentence *ret_why)
{
    struct knit_host_options *host = &setup->host;

    if (check_threads(options, ret_why) != 0)
        return KNIT_BAD_ARGUMENT;
    host->threads = &knit_threads;
    host->program = program;
    if (options->abort_grace_ms == 0)
        host->abort_grace_ms = 0;
    host->abandoned_ms = 0;
    return 0;
}

/* ---- the inliner ---- */

static const char *find_module(const struct knit_pool_setup *setup, const char *path)
{
    for (uint32_t i = 0; i < setup->host.module_count; i++) {
        if (strcmp(setup->modules[i], path) == 0)
            return setup->modules[i];
    }
    return NULL;
}

static int add_inline_module(
    struct knit_pool_setup *setup, const char *given, struct knit_sentence *ret_why)
{
    char path[PATH_MAX];
    const char *found;

    if (realpath(given, path) == NULL)
        return refuse(ret_why, "inliner_modules:", given);
    found = find_module(setup, path);
    if (found == NULL)
        return knit_sentence_set(
            ret_why, KNIT_BAD_ARGUMENT, "inliner_modules: \"%.500s\" is not one of modules", given);
    for (uint32_t i = 0; i < setup->inline_count; i++) {
        if (setup->inline_modules[i] == found)
            return knit_sentence_set(
                ret_why, KNIT_BAD_ARGUMENT, "inliner_modules: \"%.500s\" is named twice", given);
    }
    setup->inline_modules[setup->inline_count++] = found;
    return 0;
}

static int find_inline_modules(struct knit_pool_setup *setup,
    const struct knit_pool_options *options, struct knit_sentence *ret_why)
{
    const char *const *given = options->inliner_modules;
    int code = 0;

    if (given == NULL && options->kind == KNIT_POOL_PROCESSES)
        return knit_sentence_set(ret_why, KNIT_BAD_ARGUMENT,
            "inliner_position is set: where workers are processes, inliner_modules says which "
            "modules this program loads for it");
    if (given == NULL)
        given = (const char *const *)setup->modules;
    for (size_t i = 0; code == 0 && given[i] != NULL; i++)
        code = add_inline_module(setup, given[i], ret_why);
    return code;
}

/* A host has a lane in any case. */
static int check_workers(struct knit_pool_setup *setup, const struct knit_pool_options *options,
    struct knit_sentence *ret_why)
{
    if (options->workers != KNIT_POOL_NONE)
        return 0;
    if (setup->inliner.at == KNIT_INLINER_AT_NONE)
        return knit_sentence_set(ret_why, KNIT_BAD_ARGUMENT,
            "no workers: without inliner_position nobody would run a task");
    if (options->kind == KNIT_POOL_PROCESSES)
        return knit_sentence_set(ret_why, KNIT_BAD_ARGUMENT,
            "no workers: kind is KNIT_POOL_PROCESSES, and an inliner alone has none; leave it out");
    setup->host.has_no_workers = true;
    setup->host.workers = 1;
    return 0;
}

static int set_inliner(struct knit_pool_setup *setup, const struct knit_module *program,
    const struct knit_pool_options *options, struct knit_sentence *ret_why)
{
    static const char *const positions[] = {"none", "first", "last", NULL};
    uint32_t at = KNIT_INLINER_AT_NONE;

    if (find_word("inliner_position", options->inliner_position, positions, &at, ret_why) != 0)
        return KNIT_BAD_ARGUMENT;
    setup->inliner.at = (enum knit_inliner_at)at;
    if (check_workers(setup, options, ret_why) != 0)
        return KNIT_BAD_ARGUMENT;
    if (at == KNIT_INLINER_AT_NONE)
        return 0;
    setup->inliner.batch = options->inliner_batch != 0 ? options->inliner_batch : 1;
    if (options->inliner_dispatch_threshold != KNIT_POOL_NONE)
        setup->inliner.threshold = options->inliner_dispatch_threshold;
    if (options->kind == KNIT_POOL_THREADS)
        setup->inline_program = program;
    setup->inline_modules =
        calloc((size_t)setup->host.module_count + 1, sizeof(*setup->inline_modules));
    if (setup->inline_modules == NULL)
        return knit_sentence_set(ret_why, KNIT_INTERNAL, "not enough memory for a pool");
    return find_inline_modules(setup, options, ret_why);
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
    if (knit_debug_add(&setup->debug, options->debug, "debug", ret_why) != 0 ||
        knit_debug_add(&setup->debug, getenv("KNITTING_DEBUG"), "$KNITTING_DEBUG", ret_why) != 0)
        return KNIT_BAD_ARGUMENT;
    fill(&setup->host, options);
    code = set_words(setup, options, ret_why);
    if (code == 0)
        code = find_modules(setup, options, ret_why);
    if (code == 0)
        code = options->kind == KNIT_POOL_THREADS ? set_threads(setup, program, options, ret_why)
                                                  : set_processes(setup, options, ret_why);
    if (code == 0)
        code = set_inliner(setup, program, options, ret_why);
    if (code == 0 && knit_host_options_check(&setup->host, ret_why) != 0)
        code = KNIT_BAD_ARGUMENT;
    return code;
}

void knit_pool_setup_fini(struct knit_pool_setup *setup)
{
    for (size_t i = 0; setup->modules != NULL && setup->modules[i] != NULL; i++)
        free(setup->modules[i]);
    free(setup->modules);
    free((void *)setup->inline_modules);
    knit_permission_policy_free(&setup->host.confinement);
    setup->modules = NULL;
    setup->inline_modules = NULL;
}
