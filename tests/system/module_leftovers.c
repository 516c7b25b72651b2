/* SPDX-License-Identifier: Apache-2.0 */
/* A module with functions of its own that bear the names of a library's, as one has that was built
 * with a copy of a library. */
#include <knitting/task.h>

#include <string.h>

KNIT_MODULE("1.0");

/* Exported, so the loader may bind a call of it to whatever else bears that name. */
#define OWN(name)                                                                                  \
    __attribute__((visibility("default"))) const char *name(void);                                 \
    const char *name(void)                                                                         \
    {                                                                                              \
        return "own";                                                                              \
    }

OWN(msgpack_version)
OWN(seccomp_version)
OWN(knit_clock_ns)
OWN(knit_lane_turn)

KNIT_TASK(owns, "owns() -> bool", .doc = "Whether its calls reach its own functions.")
{
    return knit_return_bool(
        call, strcmp(msgpack_version(), "own") == 0 && strcmp(seccomp_version(), "own") == 0 &&
                  strcmp(knit_clock_ns(), "own") == 0 && strcmp(knit_lane_turn(), "own") == 0);
}
