/* SPDX-License-Identifier: Apache-2.0 */
/* A name service may take its time, so the file is read on the main thread, which serves no calls.
 */
#include "server/daemon/rules.h"

#include <errno.h>

#include "fastpath/host/pool.h"
#include "server/base/log.h"
#include "server/config/setting.h"
#include "server/net/listening.h"
#include "server/policy/policy.h"
#include "server/policy/principals.h"

static int refuse_memory(int r, struct knit_sentence *why)
{
    return r == -ENOMEM ? knit_sentence_set(why, r, "out of memory") : r;
}

/* Where others reach the daemon since its policy gives strangers nothing, no other is taken. */
static int check_strangers(const struct knit_settings *settings,
    const struct knit_policy_file *file, struct knit_sentence *why)
{
    const char *const name = "anonymous";
    const struct knit_policy_names names = {.items = &name, .count = 1};
    const struct knit_policy_section *section = knit_policy_gives(file, &names);
    char text[KNIT_ENDPOINT_TEXT_MAX];

    if (section == NULL || !knit_listening_trusts_policy(settings, text))
        return 0;
    return knit_sentence_set(why, KNIT_POLICY_E_REFUSED,
        "%s:%u: gives anonymous something, and other machines can reach %s, where anybody is that; "
        "expected server.require_authentication = on, or --allow-remote-without-authentication",
        settings->policy, section->line, text);
}

static int load(
    const struct knit_settings *settings, struct knit_policy_file *file, struct knit_sentence *why)
{
    int r = knit_policy_load(file, settings->policy, why);

    if (r == 0 && (r = check_strangers(settings, file, why)) != 0)
        knit_policy_file_fini(file);
    return r;
}

int knit_rules_check(const struct knit_settings *settings, struct knit_sentence *why)
{
    struct knit_policy_file file = {0};
    int r = settings->policy != NULL ? load(settings, &file, why) : 0;

    knit_policy_file_fini(&file);
    return refuse_memory(r, why);
}

static int prepare(void *arg, struct knit_sentence *why)
{
    struct knit_rules *rules = arg;
    struct knit_policy_file file = {0};
    int r = load(rules->settings, &file, why);

    if (r == 0)
        r = knit_policy_prepare(rules->policy, &file);
    return refuse_memory(r, why);
}

/* Every principal, then every session; then classes are free that are left over, and whoever found
 * none while they were held is looked at again. */
static void commit(void *arg, struct knit_log *log, struct knit_sentence *note)
{
    struct knit_rules *rules = arg;
    bool is_short = true;

    knit_policy_commit(rules->policy);
    for (int pass = 0; pass < 2 && is_short; pass++) {
        knit_principals_set_rule(rules->principals, knit_policy_rule, rules->policy);
        knit_host_rights_renew(rules->pool);
        is_short = knit_policy_settle(rules->policy);
    }
    if (is_short && note != NULL)
        (void)knit_sentence_append(
            note, 0, "the policy makes too many classes of principals: some may do nothing");
    if (log == NULL)
        return;
    if (is_short)
        knit_log(log, KNIT_LOG_ERROR,
            "the policy makes too many classes of principals: some may do nothing",
            KNIT_LOG_NUMBER("most", KNIT_RIGHTS_CLASSES - KNIT_RIGHTS_FREE));
    knit_policy_log_idle(rules->policy, rules->settings->policy, rules->authentication, log, note);
}

static void abandon(void *arg)
{
    struct knit_rules *rules = arg;

    knit_policy_abandon(rules->policy);
}

struct knit_reload_part knit_rules_part(struct knit_rules *rules)
{
    return (struct knit_reload_part){.name = rules->policy != NULL ? "policy" : NULL,
        .prepare = prepare,
        .commit = commit,
        .abandon = abandon,
        .arg = rules};
}

int knit_rules_begin(struct knit_rules *rules, struct knit_sentence *why)
{
    struct knit_reload_part part;

    if (rules->settings->policy == NULL)
        return 0;
    rules->policy = knit_policy_new(knit_host_rights(rules->pool), knit_host_registry(rules->pool));
    if (rules->policy == NULL)
        return refuse_memory(-ENOMEM, why);
    part = knit_rules_part(rules);
    return knit_reload(&part, 1, rules->log, why);
}

void knit_rules_end(struct knit_rules *rules)
{
    rules->policy = knit_policy_free(rules->policy);
}
