/* SPDX-License-Identifier: Apache-2.0 */
/* Defaults and checks. Values that make no sense are refused and not corrected: the host's
 * user gets one sentence that names the field.
 */
#include "fastpath/host/options.h"

#include <string.h>

#include "fastpath/host/reason.h"

#define DAY_MS UINT64_C(86400000)
#define MIB    (UINT64_C(1) << 20)
#define GIB    (UINT64_C(1) << 30)

#define NUMBER(member, least, most, preset)                                                        \
    {                                                                                              \
#member, offsetof(struct knit_host_options, member),                                       \
            sizeof(((struct knit_host_options *)NULL)->member) == sizeof(uint64_t), least, most,   \
            preset                                                                                 \
    }

const struct knit_host_number knit_host_numbers[] = {
    NUMBER(workers, 1, KNIT_HOST_WORKERS_MAX, 1),
    NUMBER(spin_us, 0, 1000000, 50),
    NUMBER(pause_ns, 0, 1000000, 250),
    NUMBER(park_ms, 0, 3600000, 0),
    NUMBER(deferred_max, 0, 16384, 64),
    NUMBER(slots, 16, KNIT_SLOTS_MAX, KNIT_SLOTS_DEFAULT),
    NUMBER(arena_initial_bytes, 0, 4 * GIB - MIB, UINT64_C(64) << 10),
    NUMBER(arena_bytes, UINT64_C(64) << 10, 4 * GIB - MIB, KNIT_ARENA_DEFAULT),
    NUMBER(call_max_bytes, 1, GIB, KNIT_ARENA_DEFAULT / 8),
    NUMBER(busy_poll_turns, 0, 1000000, 128),
    NUMBER(max_backoff_ms, 1, 60000, 10),
    NUMBER(deaths_per_minute, 0, KNIT_HOST_DEATHS_MAX, 10),
    NUMBER(hard_timeout_ms, 0, DAY_MS, 0),
    NUMBER(abort_grace_ms, 0, DAY_MS, 10000),
    NUMBER(slow_call_ms, 0, DAY_MS, 30000),
    NUMBER(startup_ms, 1, DAY_MS, 30000),
    NUMBER(stop_ms, 0, DAY_MS, 5000),
};
const size_t knit_host_number_count = sizeof(knit_host_numbers) / sizeof(knit_host_numbers[0]);

const struct knit_host_number *knit_host_number_find(const char *name)
{
    for (size_t i = 0; i < knit_host_number_count; i++) {
        if (strcmp(knit_host_numbers[i].name, name) == 0)
            return &knit_host_numbers[i];
    }
    return NULL;
}

void knit_host_number_set(
    struct knit_host_options *options, const struct knit_host_number *number, uint64_t value)
{
    void *member = (char *)options + number->offset;

    if (number->is_wide)
        *(uint64_t *)member = value;
    else
        *(uint32_t *)member = (uint32_t)value;
}

uint64_t knit_host_number_get(
    const struct knit_host_options *options, const struct knit_host_number *number)
{
    const void *member = (const char *)options + number->offset;

    return number->is_wide ? *(const uint64_t *)member : *(const uint32_t *)member;
}

void knit_host_options_init(struct knit_host_options *options)
{
    *options = (struct knit_host_options){
        .bootstrap = "",
        .steal = true,
        .reply_budget_bytes = KNIT_ARENA_DEFAULT,
        .sessions_max = 120,
        .uid_sessions_max = 64,
        .sessions_kept = 16,
        .stop_fd = -1,
        .abandoned_ms = 60000,
    };
    for (size_t i = 0; i < knit_host_number_count; i++)
        knit_host_number_set(options, &knit_host_numbers[i], knit_host_numbers[i].preset);
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

void knit_host_options_fix_arenas(struct knit_host_options *options)
{
    options->arena_initial_bytes = options->arena_bytes;
    options->reply_budget_bytes = options->arena_bytes * options->workers;
}

static int check_numbers(const struct knit_host_options *options, struct knit_sentence *ret_why)
{
    if (options->workers == 0)
        return knit_sentence_set(ret_why, KNIT_HOST_E_STARTUP, "no workers");
    for (size_t i = 0; i < knit_host_number_count; i++) {
        const struct knit_host_number *number = &knit_host_numbers[i];
        const uint64_t value = knit_host_number_get(options, number);

        if (value < number->least || value > number->most)
            return knit_sentence_set(ret_why, KNIT_HOST_E_STARTUP,
                "%s is %llu: %llu to %llu are possible", number->name, (unsigned long long)value,
                (unsigned long long)number->least, (unsigned long long)number->most);
    }
    if (options->call_max_bytes > options->arena_bytes / 8)
        return knit_sentence_set(ret_why, KNIT_HOST_E_STARTUP,
            "call_max_bytes is %llu: 1 to %llu (an eighth of arena_bytes) are possible",
            (unsigned long long)options->call_max_bytes,
            (unsigned long long)options->arena_bytes / 8);
    if (options->arena_initial_bytes > options->arena_bytes)
        return knit_sentence_set(ret_why, KNIT_HOST_E_STARTUP,
            "arena_initial_bytes is %llu: 0 to %llu (arena_bytes) are possible",
            (unsigned long long)options->arena_initial_bytes,
            (unsigned long long)options->arena_bytes);
    return 0;
}

int knit_host_options_check(const struct knit_host_options *options, struct knit_sentence *ret_why)
{
    if (check_kind(options, ret_why) != 0)
        return KNIT_HOST_E_STARTUP;
    if (options->has_no_workers && options->threads == NULL)
        return knit_sentence_set(ret_why, KNIT_HOST_E_STARTUP, "no workers: processes need some");
    if (check_numbers(options, ret_why) != 0)
        return KNIT_HOST_E_STARTUP;
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
    if (options->sessions_max > KNIT_HOST_SESSIONS_MAX)
        return knit_sentence_set(ret_why, KNIT_HOST_E_STARTUP,
            "sessions_max is %u, at most %u are possible", options->sessions_max,
            KNIT_HOST_SESSIONS_MAX);
    return knit_confine_check(&options->confinement, ret_why) == 0 ? 0 : KNIT_HOST_E_STARTUP;
}
