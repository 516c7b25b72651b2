/* SPDX-License-Identifier: Apache-2.0 */
/* The part of the policy that hosts need too: its checks and names. Enforcing it is in
 * confine_process.c, so that only programs that confine a process link with libseccomp.
 */
#include "fastpath/confine/confine.h"

static const char *const names[KNIT_CONFINE_PROFILES] = {"unsafe", "strict", "custom"};

void knit_confine_rules_init(struct knit_confine_rules *rules, enum knit_confine_profile profile)
{
    *rules = (struct knit_confine_rules){.profile = profile,
        .memory_max_bytes = KNIT_CONFINE_NO_LIMIT,
        .files_max = KNIT_CONFINE_NO_LIMIT,
        .core_max_bytes = KNIT_CONFINE_NO_LIMIT,
        .file_max_bytes = KNIT_CONFINE_NO_LIMIT};
}

const char *knit_confine_name(uint32_t profile)
{
    return profile < KNIT_CONFINE_PROFILES ? names[profile] : NULL;
}

static int check_paths(const char *const *paths, struct knit_sentence *ret_why)
{
    uint32_t count = 0;

    for (; paths != NULL && paths[count] != NULL; count++) {
        if (paths[count][0] != '/')
            return knit_sentence_set(
                ret_why, KNIT_CONFINE_E_REFUSED, "%.500s: must be an absolute path", paths[count]);
    }
    if (count > KNIT_CONFINE_PATHS_MAX)
        return knit_sentence_set(ret_why, KNIT_CONFINE_E_REFUSED,
            "%u paths, at most %u are possible", count, KNIT_CONFINE_PATHS_MAX);
    return 0;
}

int knit_confine_check(const struct knit_confine_policy *policy, struct knit_sentence *ret_why)
{
    const struct knit_confine_rules *rules = &policy->rules;
    int error;

    ret_why->text[0] = '\0';
    if (knit_confine_name(rules->profile) == NULL)
        return knit_sentence_set(
            ret_why, KNIT_CONFINE_E_REFUSED, "profile %u is not one", rules->profile);
    if (rules->connect.count > KNIT_CONFINE_PORTS_MAX ||
        rules->listen.count > KNIT_CONFINE_PORTS_MAX)
        return knit_sentence_set(ret_why, KNIT_CONFINE_E_REFUSED, "at most %u ports are possible",
            KNIT_CONFINE_PORTS_MAX);
    error = check_paths(policy->read, ret_why);
    if (error == 0)
        error = check_paths(policy->write, ret_why);
    if (error != 0)
        return error;
    if (rules->profile == KNIT_CONFINE_STRICT &&
        (rules->may_exec || rules->may_udp || rules->may_unix ||
            knit_confine_has_ports(&rules->connect) || knit_confine_has_ports(&rules->listen) ||
            (policy->write != NULL && policy->write[0] != NULL)))
        return knit_sentence_set(ret_why, KNIT_CONFINE_E_REFUSED,
            "strict opens nothing but paths to read; what opens more needs custom");
    return 0;
}
