/* SPDX-License-Identifier: Apache-2.0 */
/* A switch over the codes; an error below 0 is -errno and gets a sentence that names no cause. */
#include "fastpath/host/reason.h"

#include <assert.h>
#include <stdint.h>

#include "fastpath/lane/layout.h"

static_assert(KNIT_SLOTS_MAX == 16368 && KNIT_ARENA_MAX == UINT64_C(1) << 40,
    "the sentence about KNIT_HOST_E_SIZE has the numbers");

const char *knit_host_reason(int error)
{
    switch (error) {
    case KNIT_HOST_E_STARTUP:
        return "the workers could not be started";
    case KNIT_HOST_E_SESSIONS:
        return "all sessions of the pool are taken";
    case KNIT_HOST_E_UID_SESSIONS:
        return "this user has all the sessions it may have";
    case KNIT_HOST_E_SESSIONS_KEPT:
        return "the pool's last sessions are kept for users who have none";
    case KNIT_HOST_E_MEMORY:
        return "the pool's sessions may not take more memory";
    case KNIT_HOST_E_DEPARTED:
        return "this user's processes keep the memory of sessions that have ended";
    case KNIT_HOST_E_CLOSED:
        return "the pool is shut down";
    case KNIT_HOST_E_SIZE:
        return "the pool offers no session of that size: 1 to 16368 slots, an arena of up to 1 TiB";
    case KNIT_HOST_E_UNSEALED:
        return "its request segment lacks the seals that keep its pages in place";
    default:
        return "the system refused";
    }
}
