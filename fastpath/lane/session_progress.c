/* SPDX-License-Identifier: Apache-2.0 */
/* Which calls of a session are looked at for the values that they emit. One that has ended is taken
 * from the list when the list is walked next: so a call that is not watched costs nothing where it
 * ends. */
#include <stdlib.h>

#include "fastpath/lane/session_private.h"

static bool is_over(const struct knit_session *session, const struct knit_session_watch *watch)
{
    return session->slots[watch->slot].state != KNIT_SLOT_IN_FLIGHT ||
           knit_session_gen(session, watch->slot) != watch->gen;
}

static void drop_ended(struct knit_session *session)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < session->watch_count; i++) {
        if (!is_over(session, &session->watches[i]))
            session->watches[kept++] = session->watches[i];
    }
    session->watch_count = kept;
}

bool knit_session_watch(struct knit_session *session, uint32_t slot)
{
    if (session->watches == NULL)
        session->watches = calloc(session->geometry.slots, sizeof(*session->watches));
    if (session->watches == NULL)
        return false;
    /* Of calls that go on there are fewer than slots, this one not counted. */
    if (session->watch_count == session->geometry.slots)
        drop_ended(session);
    session->watches[session->watch_count++] =
        (struct knit_session_watch){.gen = knit_session_gen(session, slot), .slot = slot};
    return true;
}

bool knit_session_is_watching(const struct knit_session *session)
{
    return session->watch_count != 0;
}

static bool read_value(const struct knit_session *session, struct knit_session_watch *watch,
    struct knit_session_value *ret)
{
    if (!knit_emit_read(
            &session->reply.progress[watch->slot], watch->gen, watch->seen, &ret->emitted))
        return false;
    watch->seen = ret->emitted.word;
    ret->user = session->slots[watch->slot].user;
    ret->slot = watch->slot;
    return true;
}

void knit_session_take_values(struct knit_session *session,
    void (*on_value)(void *arg, const struct knit_session_value *value), void *arg)
{
    struct knit_session_value value;

    drop_ended(session);
    for (uint32_t i = 0; i < session->watch_count; i++) {
        if (read_value(session, &session->watches[i], &value))
            on_value(arg, &value);
    }
}

bool knit_session_last_value(
    struct knit_session *session, uint32_t slot, struct knit_session_value *ret)
{
    for (uint32_t i = 0; i < session->watch_count; i++) {
        struct knit_session_watch *watch = &session->watches[i];

        if (watch->slot == slot && watch->gen == knit_session_gen(session, slot))
            return read_value(session, watch, ret);
    }
    return false;
}

bool knit_session_has_values(const struct knit_session *session)
{
    for (uint32_t i = 0; i < session->watch_count; i++) {
        const struct knit_session_watch *watch = &session->watches[i];

        if (!is_over(session, watch) &&
            knit_emit_is_new(&session->reply.progress[watch->slot], watch->gen, watch->seen))
            return true;
    }
    return false;
}
