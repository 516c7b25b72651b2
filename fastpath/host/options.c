/* SPDX-License-Identifier: Apache-2.0 */
/* Defaults and checks. Values that make no sense are refused and not corrected: the host's
 * user gets one sentence that names the field.
 */
#include "fastpath/host/options.h"

#include "fastpath/host/reason.h"

void knit_host_options_init(struct knit_host_options *options)
{
    *options = (struct knit_host_options){
        .bootstrap = "",
        .workers = 1,
        .steal = true,
        .spin_us = 50,
        .pause_ns = 250,
        .slots = KNIT_SLOTS_DEFAULT,
        .arena_initial_bytes = 64u << 10,
        .arena_bytes = KNIT_ARENA_DEFAULT,
        .call_max_bytes = KNIT_ARENA_DEFAULT / 8,
        .reply_budget_bytes = KNIT_ARENA_DEFAULT,
        .sessions_max = 120,
        .uid_sessions_max = 64,
        .sessions_kept = 16,
        .abort_grace_ms = 10000,
        .slow_call_ms = 30000,
        .deaths_per_minute = 10,
        .startup_ms = 30000,
        .stop_fd = -1,
        .stop_ms = 5000,
        .abandoned_ms = 60000,
    };
    knit_confine_rules_init(&options->confinement.rules, KNIT_CONFINE_UNSAFE);
}

static int refuse_for_threads(struct knit_sentence *ret_why, const char *option)
{
    return knit_sentence_set(ret_why, KNIT_HOST_E_STARTUP,
        "%s is set: workers that are threads of the program cannot have it, processes can", option);
}

/* What a thread cannot be given, or could not be held to. */
static int check_threads(const struct knit_host_options *options, struct knit_sentence *ret_why)
{
    if (options->hard_timeout_ms != 0)
        return refuse_for_threads(ret_why, "hard_timeout_ms");
    if (options->abort_grace_ms != 0)
        return refuse_for_threads(ret_why, "abort_grace_ms");
    if (options->abandoned_ms != 0)
        return refuse_for_threads(ret_why, "abandoned_ms");
    if (options->confinement.rules.profile != KNIT_CONFINE_UNSAFE)
        return refuse_for_threads(ret_why, "permission");
    if (options->prefix != NULL && options->prefix[0] != NULL)
        return refuse_for_threads(ret_why, "prefix");
    if (options->environment != NULL)
        return refuse_for_threads(ret_why, "environment");
    if (options->kill_orphans)
        return refuse_for_threads(ret_why, "kill_orphans");
    return 0;
}

/* What workers are made of. */
static int check_kind(const struct knit_host_options *options, struct knit_sentence *ret_why)
{
    if (options->threads != NULL)
        return check_threads(options, ret_why);
    if (options->worker_path == NULL || options->worker_path[0] != '/')
        return knit_sentence_set(
            ret_why, KNIT_HOST_E_STARTUP, "worker_path must be an absolute path");
    if (options->program != NULL)
        return knit_sentence_set(ret_why, KNIT_HOST_E_STARTUP,
            "tasks of the program itself are for workers that are its threads; processes load "
            "modules");
    return 0;
}

int knit_host_options_check(const struct knit_host_options *options, struct knit_sentence *ret_why)
{
    if (check_kind(options, ret_why) != 0)
        return KNIT_HOST_E_STARTUP;
    if (options->workers == 0)
        return knit_sentence_set(ret_why, KNIT_HOST_E_STARTUP, "no workers");
    if (options->workers > KNIT_HOST_WORKERS_MAX)
        return knit_sentence_set(ret_why, KNIT_HOST_E_STARTUP,
            "%u workers, at most %u are possible", options->workers, KNIT_HOST_WORKERS_MAX);
    if (options->module_count == 0 && options->program == NULL)
        return knit_sentence_set(
            ret_why, KNIT_HOST_E_STARTUP, "worker startup failed: no modules are named");
    if (options->module_count > KNIT_HOST_MODULES_MAX)
        return knit_sentence_set(ret_why, KNIT_HOST_E_STARTUP,
            "%u modules, at most %u are possible", options->module_count, KNIT_HOST_MODULES_MAX);
    for (uint32_t i = 0; i < options->module_count; i++) {
        if (options->modules[i][0] != '/')
            return knit_sentence_set(ret_why, KNIT_HOST_E_STARTUP,
                "module \"%.500s\": must be an absolute path", options->modules[i]);
    }
    if (options->slots == 0 || options->slots > KNIT_SLOTS_MAX)
        return knit_sentence_set(ret_why, KNIT_HOST_E_STARTUP, "%u slots, 1 to %u are possible",
            options->slots, KNIT_SLOTS_MAX);
    if (options->arena_bytes < KNIT_PAGE || options->arena_bytes > KNIT_ARENA_MAX)
        return knit_sentence_set(ret_why, KNIT_HOST_E_STARTUP,
            "arena_bytes is %llu, %u to %llu are possible",
            (unsigned long long)options->arena_bytes, KNIT_PAGE,
            (unsigned long long)KNIT_ARENA_MAX);
    if (options->call_max_bytes == 0 || options->call_max_bytes > options->arena_bytes / 8)
        return knit_sentence_set(ret_why, KNIT_HOST_E_STARTUP,
            "call_max_bytes is %llu, 1 to %llu (an eighth of arena_bytes) are possible",
            (unsigned long long)options->call_max_bytes,
            (unsigned long long)options->arena_bytes / 8);
    if (options->sessions_max > KNIT_HOST_SESSIONS_MAX)
        return knit_sentence_set(ret_why, KNIT_HOST_E_STARTUP,
            "sessions_max is %u, at most %u are possible", options->sessions_max,
            KNIT_HOST_SESSIONS_MAX);
    if (options->deaths_per_minute > KNIT_HOST_DEATHS_MAX)
        return knit_sentence_set(ret_why, KNIT_HOST_E_STARTUP,
            "deaths_per_minute is %u, at most %u are possible", options->deaths_per_minute,
            KNIT_HOST_DEATHS_MAX);
    return knit_confine_check(&options->confinement, ret_why) == 0 ? 0 : KNIT_HOST_E_STARTUP;
}
