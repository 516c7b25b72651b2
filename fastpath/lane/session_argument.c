/* SPDX-License-Identifier: Apache-2.0 */
/* The argument of a call that never ran, for who makes the call elsewhere when its pool is gone.
 * Which cell a call lies in is not noted when it is published, since hardly anybody asks: all cells
 * of its lane are looked at. What is read there was written by this session alone.
 */
#include "fastpath/lane/session_private.h"

static const struct knit_request_cell *find_cell(
    const struct knit_session *session, uint32_t slot, enum knit_ring ring)
{
    const struct knit_request_cell *cell =
        knit_layout_ring(&session->geometry, &session->request, session->slots[slot].lane, ring);
    const uint64_t gen = knit_session_gen(session, slot);

    for (uint32_t i = 0; i < session->geometry.cells; i++, cell++) {
        /* relaxed: this session alone writes the word. */
        const uint64_t ctrl = atomic_load_explicit(&cell->ctrl, memory_order_relaxed);

        if (knit_ctrl_gen(ctrl) == gen && knit_ctrl_slot(ctrl) == slot)
            return cell;
    }
    return NULL;
}

bool knit_session_argument(
    const struct knit_session *session, uint32_t slot, struct knit_span *ret_argument)
{
    const uint32_t rings = knit_rings_used(&session->geometry, &session->request);
    const struct knit_request_cell *cell = NULL;
    uint64_t meta;

    for (uint32_t ring = 0; cell == NULL && ring < session->geometry.classes; ring++) {
        if ((rings & 1u << ring) != 0)
            cell = find_cell(session, slot, (enum knit_ring)ring);
    }
    if (cell == NULL)
        return false;
    /* relaxed: as above. */
    meta = atomic_load_explicit(&cell->meta, memory_order_relaxed);
    if ((knit_meta_flags(meta) & KNIT_CELL_IN_ARENA) != 0)
        *ret_argument =
            knit_span(session->request.arena + session->slots[slot].block, knit_meta_len(meta));
    else if (knit_meta_len(meta) > KNIT_INLINE_MAX)
        *ret_argument = knit_span(knit_slab(session->request.slab, slot), knit_meta_len(meta));
    else
        *ret_argument = knit_span((const void *)cell->body, knit_meta_len(meta));
    return true;
}
