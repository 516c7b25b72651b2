/* SPDX-License-Identifier: Apache-2.0 */
/* A caller that is resumed leaves its queue first and, when it finds no slot after some calls,
 * joins it at the end: so the order of the queue is the order of turns.
 */
#include "server/rpc/share.h"

enum { CALLS_A_TURN = 16 }; /* of a caller that waited, while others wait too */

void knit_share_init(
    struct knit_share *share, struct knit_session *session, uint32_t slots, size_t arena_bytes)
{
    *share = (struct knit_share){.session = session, .slots = slots, .arena_bytes = arena_bytes};
    TAILQ_INIT(&share->waiting);
    TAILQ_INIT(&share->waiting_arena);
}

/* The first number that knit_share_may_take() turns down. */
uint32_t knit_share_alone(uint32_t slots)
{
    uint32_t shared = slots - slots / KNIT_SHARE_RESERVE_PART;

    return (KNIT_SHARE_FACTOR * shared + KNIT_SHARE_FACTOR) / (KNIT_SHARE_FACTOR + 1);
}

static struct knit_share_queue *queue_of(struct knit_share *share, enum knit_share_queue_kind kind)
{
    return kind == KNIT_SHARE_WAITING_SLOT ? &share->waiting : &share->waiting_arena;
}

void knit_share_leave(struct knit_share *share, struct knit_caller *caller)
{
    if (caller->waiting_in == KNIT_SHARE_NOT_WAITING)
        return;
    TAILQ_REMOVE(
        queue_of(share, (enum knit_share_queue_kind)caller->waiting_in), caller, in_waiting);
    caller->waiting_in = KNIT_SHARE_NOT_WAITING;
}

void knit_share_wait(
    struct knit_share *share, struct knit_caller *caller, enum knit_share_queue_kind kind)
{
    caller->pauses |= KNIT_PAUSE_SLOT;
    if (caller->waiting_in == kind)
        return;
    knit_share_leave(share, caller);
    TAILQ_INSERT_TAIL(queue_of(share, kind), caller, in_waiting);
    caller->waiting_in = (uint8_t)kind;
    KNIT_COUNT(caller->turn, waits_for_slot);
}

static void resume_queue(struct knit_share *share, enum knit_share_queue_kind kind)
{
    struct knit_share_queue *queue = queue_of(share, kind);
    struct knit_caller *caller;
    uint32_t rounds = 0;

    while (rounds++ < share->slots && knit_session_slots_free(share->session) > 0 &&
           (caller = TAILQ_FIRST(queue)) != NULL) {
        knit_share_leave(share, caller);
        caller->pauses &= (uint8_t)~KNIT_PAUSE_SLOT;
        share->resumed = caller;
        share->turns_left = CALLS_A_TURN;
        caller->ops->resume(caller);
        share->resumed = NULL;
        /* It published nothing, so there is no room for what this queue waits for. It keeps its
         * place at the front, and the others behind it wait on. */
        if (share->turns_left == CALLS_A_TURN && caller->waiting_in == kind) {
            TAILQ_REMOVE(queue, caller, in_waiting);
            TAILQ_INSERT_HEAD(queue, caller, in_waiting);
            break;
        }
    }
}

/* By turns, for either queue could take all slots that come free. */
bool knit_share_resume(struct knit_share *share)
{
    if (TAILQ_EMPTY(&share->waiting) && TAILQ_EMPTY(&share->waiting_arena))
        return false;
    share->is_arenas_turn = !share->is_arenas_turn;
    resume_queue(share, share->is_arenas_turn ? KNIT_SHARE_WAITING_ARENA : KNIT_SHARE_WAITING_SLOT);
    resume_queue(share, share->is_arenas_turn ? KNIT_SHARE_WAITING_SLOT : KNIT_SHARE_WAITING_ARENA);
    return true;
}
