/* SPDX-License-Identifier: Apache-2.0 */
/* How a session shares its calls among several daemons: see <knitting/state.h>. */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* For struct knit_open_options. A zeroed structure, or NULL in its place, means every default. */
struct knit_spread_options {
    uint32_t connections; /* that take calls at a time, 1 to 4; 0 = 4 */
    uint32_t lookup_ms;   /* names of hosts are looked up again so often; 0 = 30 s */
    uint64_t reserved[4];
};

#ifdef __cplusplus
}
#endif
