/* SPDX-License-Identifier: Apache-2.0 */
/* The rings of a session: where each lies, and which of them were ever used.
 *
 * Threads: any. Nothing blocks.
 */
#pragma once

#include "fastpath/lane/layout.h"

/* Where that ring of a lane begins. */
static inline struct knit_request_cell *knit_layout_ring(const struct knit_geometry *geometry,
    const struct knit_request_view *request, uint32_t lane, enum knit_ring ring)
{
    return request->ring + ((size_t)ring * geometry->lanes + lane) * geometry->cells;
}

/* Bits of the rings in which the session's caller has ever published, and of NORMAL. The others
 * were never written, and reading them would allocate their pages. */
static inline uint32_t knit_rings_used(
    const struct knit_geometry *geometry, const struct knit_request_view *request)
{
    /* relaxed: P1 (cursor.h) and K1 (lane_classes.h) lie behind the store; who looks before it
     * sleeps has fenced. */
    return 1u << KNIT_RING_NORMAL | (atomic_load_explicit(request->classes, memory_order_relaxed) &
                                        ((1u << geometry->classes) - 1));
}
