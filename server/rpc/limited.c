/* SPDX-License-Identifier: Apache-2.0 */
/* A caller that is resumed leaves its group first. What it does then can end any other caller, and
 * empty any group: so groups are freed when the walk over them is over.
 *
 * Loops do not tell each other when a call ends. A message for each such call would cost more than
 * a look each 10 ms while somebody waits, and which loop gets it would have to be shared out too.
 */
#include "server/rpc/limited.h"

#include <errno.h>
#include <stdlib.h>

#include "server/rpc/router.h"

enum {
    AT_ONCE = 1, /* a time that is over */
    CALLS_A_TURN = 16,
    TURN_NS = 1000000, /* of a loop's turn */
};

struct knit_limited_group {
    struct knit_principal *principal; /* its callers hold it */
    struct knit_share_queue callers;
    uint32_t count;
    uint64_t due_ns;
    LIST_ENTRY(knit_limited_group) in_all;
};

void knit_limited_init(struct knit_limited *limited)
{
    *limited = (struct knit_limited){.next_ns = UINT64_MAX};
    LIST_INIT(&limited->groups);
}

void knit_limited_fini(struct knit_limited *limited)
{
    struct knit_limited_group *group;

    while ((group = LIST_FIRST(&limited->groups)) != NULL) {
        LIST_REMOVE(group, in_all);
        free(group);
    }
}

static struct knit_limited_group *find(
    const struct knit_limited *limited, const struct knit_principal *principal)
{
    struct knit_limited_group *group;

    LIST_FOREACH(group, &limited->groups, in_all)
    if (group->principal == principal)
        return group;
    return NULL;
}

static void look_at(struct knit_limited *limited, struct knit_limited_group *group, uint64_t at_ns)
{
    group->due_ns = at_ns;
    if (at_ns < limited->next_ns)
        limited->next_ns = at_ns;
}

static bool waits_elsewhere(const struct knit_limited_group *group)
{
    return knit_quota_waiting(&group->principal->quota) > group->count;
}

/* When the group is looked at again, whose principal is over a limit. */
static uint64_t next_look_ns(
    const struct knit_limited_group *group, uint64_t now_ns, const struct knit_quota_over *over)
{
    uint64_t wait_ns = over->wait_ns;

    if (wait_ns == 0)
        wait_ns = waits_elsewhere(group) ? KNIT_LIMITED_SHORT_NS : KNIT_LIMITED_LOOK_NS;
    if (wait_ns < KNIT_LIMITED_SHORT_NS)
        wait_ns = KNIT_LIMITED_SHORT_NS;
    return now_ns + (wait_ns < KNIT_LIMITED_LONG_NS ? wait_ns : KNIT_LIMITED_LONG_NS);
}

bool knit_limited_must_wait(
    const struct knit_limited *limited, const struct knit_caller *caller, bool is_its_turn)
{
    const struct knit_quota *quota = &caller->principal->quota;
    struct knit_quota_over over;

    if (knit_quota_is_over(quota, caller->turn->now_ns, &over))
        return true;
    return knit_quota_waiting(quota) > 0 && !is_its_turn &&
           !(limited->resumed == caller && limited->turns_left > 0);
}

int knit_limited_enter(struct knit_limited *limited, struct knit_caller *caller)
{
    struct knit_limited_group *group = find(limited, caller->principal);

    if (group == NULL) {
        group = calloc(1, sizeof(*group));
        if (group == NULL)
            return -ENOMEM;
        group->principal = caller->principal;
        TAILQ_INIT(&group->callers);
        LIST_INSERT_HEAD(&limited->groups, group, in_all);
    }
    if (group->count == 0)
        look_at(limited, group, caller->turn->now_ns);
    TAILQ_INSERT_TAIL(&group->callers, caller, in_waiting);
    group->count++;
    knit_quota_note_waiting(&group->principal->quota, 1);
    return 0;
}

void knit_limited_leave(struct knit_limited *limited, struct knit_caller *caller)
{
    struct knit_limited_group *group = find(limited, caller->principal);

    TAILQ_REMOVE(&group->callers, caller, in_waiting);
    group->count--;
    knit_quota_note_waiting(&group->principal->quota, -1);
}

void knit_limited_note_end(struct knit_limited *limited, const struct knit_principal *principal)
{
    struct knit_limited_group *group = find(limited, principal);

    if (group != NULL && !waits_elsewhere(group))
        look_at(limited, group, AT_ONCE);
}

/* Its first caller brings what it has, and keeps its place if nothing of that was published. */
static void resume_first(struct knit_limited *limited, struct knit_limited_group *group)
{
    struct knit_caller *caller = TAILQ_FIRST(&group->callers);

    knit_share_leave(&caller->router->share, caller);
    caller->pauses &= (uint8_t)~KNIT_PAUSE_SLOT;
    limited->resumed = caller;
    limited->turns_left = CALLS_A_TURN;
    caller->ops->resume(caller);
    limited->resumed = NULL;
    /* One that has become another principal waits with that one's. */
    if (limited->turns_left < CALLS_A_TURN || caller->waiting_in != KNIT_SHARE_WAITING_LIMIT ||
        caller->principal != group->principal)
        return;
    TAILQ_REMOVE(&group->callers, caller, in_waiting);
    TAILQ_INSERT_HEAD(&group->callers, caller, in_waiting);
}

/* A policy that does not let it wait any more has those that do refused. */
static bool may_go(
    struct knit_limited_group *group, uint64_t now_ns, bool all, struct knit_quota_over *ret_over)
{
    const struct knit_quota *quota = &group->principal->quota;

    *ret_over = (struct knit_quota_over){.wait_ns = 0};
    return all || !knit_quota_waits(quota) || !knit_quota_is_over(quota, now_ns, ret_over);
}

/* As often as there are callers: the rest has its turn when all others have had theirs. */
static void go_on(struct knit_limited *limited, struct knit_limited_group *group,
    struct knit_turn *turn, bool all)
{
    const uint64_t until_ns = turn->now_ns + TURN_NS;
    uint32_t most = group->count;
    struct knit_quota_over over;

    while (group->count > 0) {
        knit_turn_tick(turn);
        if (!may_go(group, turn->now_ns, all, &over)) {
            look_at(limited, group, next_look_ns(group, turn->now_ns, &over));
            return;
        }
        if (most-- == 0 || turn->now_ns >= until_ns) {
            look_at(limited, group, turn->now_ns + (all ? KNIT_LIMITED_SHORT_NS : 0));
            return;
        }
        resume_first(limited, group);
    }
}

void knit_limited_resume(struct knit_limited *limited, struct knit_turn *turn, bool all)
{
    const uint64_t now_ns = turn->now_ns;
    struct knit_limited_group *group, *next;

    limited->next_ns = UINT64_MAX;
    LIST_FOREACH(group, &limited->groups, in_all)
    {
        if (group->due_ns <= now_ns || all)
            go_on(limited, group, turn, all);
        else
            look_at(limited, group, group->due_ns);
    }
    for (group = LIST_FIRST(&limited->groups); group != NULL; group = next) {
        next = LIST_NEXT(group, in_all);
        if (group->count > 0)
            continue;
        LIST_REMOVE(group, in_all);
        free(group);
    }
}
