/* SPDX-License-Identifier: Apache-2.0 */
/* Root and the daemon's own user are told by the policy which tasks they may run, as all others
 * are, and may use every method: a policy must not lock out who could end the daemon anyway. */
#include "server/rpc/permit.h"

#include <stdio.h>

#include "proto/text.h"
#include "server/base/log.h"
#include "server/policy/policy.h"
#include "server/policy/principals.h"
#include "server/rpc/refusal.h"
#include "server/rpc/reports.h"
#include "server/rpc/router.h"

static bool has_policy(const struct knit_caller *caller)
{
    return caller->router->backend != NULL && caller->router->backend->policy != NULL;
}

bool knit_permit_method(const struct knit_caller *caller, const char *method, bool is_for_operators)
{
    if (!has_policy(caller) || !knit_policy_decides(method))
        return !is_for_operators || knit_credentials_is_operator(&caller->credentials);
    if (knit_policy_method(caller->turn->rights, &caller->principal->right, method))
        return true;
    return knit_credentials_is_operator(&caller->credentials);
}

/* By number there is no name that a pattern could stand for. */
bool knit_permit_knows(const struct knit_caller *caller, const struct knit_method *method)
{
    return knit_permit_sees_all(caller) || (has_policy(caller) && method->name.bytes != NULL &&
                                               knit_policy_covers(caller->router->backend->policy,
                                                   caller->principal, method->name));
}

static void say(const struct knit_caller *caller, const struct knit_message *message,
    const char *reason, const char *task)
{
    struct knit_trace_texts trace;

    knit_reports_name(caller, message, &trace);
    knit_log(caller->turn->log, KNIT_LOG_WARNING, "denied", KNIT_LOG_TEXT("reason", reason),
        KNIT_LOG_TEXT("principal", caller->principal->name), KNIT_LOG_TEXT("task", task),
        KNIT_LOG_CALLER(caller), KNIT_LOG_MAYBE("trace", trace.id),
        KNIT_LOG_MAYBE("span", trace.span));
}

/* name: as the caller says it; task: as it is. */
static void refuse(struct knit_caller *caller, const struct knit_message *message, const char *name,
    const char *task)
{
    const char *principal = caller->principal->name;
    char text[KNIT_PRINCIPAL_NAME_MAX + KNIT_NAME_BYTES_MAX + 96];

    if (has_policy(caller))
        (void)snprintf(text, sizeof(text), "the policy does not let %s call %s", principal, name);
    else if (name[0] == '$')
        (void)snprintf(text, sizeof(text),
            "%s: only root and the daemon's user may, by the unix socket", name);
    else
        (void)snprintf(text, sizeof(text), "%s may call no task", principal);
    KNIT_COUNT(caller->turn, calls_denied);
    if (knit_turn_may_say(caller->turn, KNIT_LOG_DENIED))
        say(caller, message, text, task);
    knit_refuse_with(caller, message, KNIT_DENIED, text);
}

void knit_permit_refuse_task(struct knit_caller *caller, const struct knit_message *message,
    const struct knit_registry_task *task)
{
    const struct knit_span name = message->method.name;
    char said[KNIT_NAME_BYTES_MAX + 1];

    if (name.bytes == NULL)
        (void)snprintf(
            said, sizeof(said), "task number %llu", (unsigned long long)message->method.id);
    else
        (void)snprintf(said, sizeof(said), "%.*s",
            (int)knit_text_cut(name.bytes, name.len, sizeof(said) - 1), (const char *)name.bytes);
    refuse(caller, message, said, task != NULL ? task->name : "there is none");
}

void knit_permit_refuse(
    struct knit_caller *caller, const struct knit_message *message, const char *name)
{
    refuse(caller, message, name, name);
}
