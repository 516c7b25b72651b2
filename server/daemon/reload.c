/* SPDX-License-Identifier: Apache-2.0 */
/* A part that is not given takes no part. */
#include "server/daemon/reload.h"

#include "server/base/log.h"

int knit_reload(const struct knit_reload_part *parts, size_t count, struct knit_log *log,
    struct knit_sentence *why)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < count; i++)
        if (parts[i].name != NULL)
            r = parts[i].prepare(parts[i].arg, why);
    for (size_t i = 0; i < count; i++) {
        if (parts[i].name == NULL)
            continue;
        if (r == 0)
            parts[i].commit(parts[i].arg, log, why);
        else
            parts[i].abandon(parts[i].arg);
    }
    return r;
}

void knit_reload_outcome_init(struct knit_reload_outcome *outcome)
{
    *outcome = (struct knit_reload_outcome){0};
    (void)pthread_mutex_init(&outcome->mutex, NULL);
}

bool knit_reload_say(struct knit_reload_outcome *outcome, const struct knit_reload_part *parts,
    size_t count, struct knit_log *log)
{
    bool is_said = knit_log_may(log, KNIT_LOG_RELOAD);
    struct knit_sentence why = {""};
    int r = knit_reload(parts, count, is_said ? log : NULL, &why);

    (void)pthread_mutex_lock(&outcome->mutex);
    outcome->has_failed = r != 0;
    outcome->why = why;
    (void)pthread_mutex_unlock(&outcome->mutex);
    if (is_said && r != 0)
        knit_log(log, KNIT_LOG_ERROR, "not reloaded: nothing has changed",
            KNIT_LOG_TEXT("reason", why.text));
    else if (is_said)
        knit_log(log, KNIT_LOG_INFO, "reloaded");
    return r == 0;
}

bool knit_reload_outcome_get(struct knit_reload_outcome *outcome, struct knit_sentence *ret_why)
{
    bool has_failed;

    (void)pthread_mutex_lock(&outcome->mutex);
    has_failed = outcome->has_failed;
    *ret_why = outcome->why;
    (void)pthread_mutex_unlock(&outcome->mutex);
    return has_failed;
}
