/* SPDX-License-Identifier: Apache-2.0 */
/* What is kept for references (server/rpc/references.h) may take as much as input that waits. Sums
 * stay below 2^64: the ranges of the settings see to that (64 loops with a TiB each). */
#include "server/daemon/memory.h"

#include <stdio.h>

#include "server/config/machine.h"
#include "server/daemon/workers.h"
#include "server/net/input.h"
#include "server/rpc/keys.h"

/* Input and the entries of the queue ahead, and the rest of it. */
enum { A_CONNECTION = KNIT_INPUT_FREE_BYTES + 4096 };

/* Of the window, without its outcome. */
enum { A_KEY = 256 };

void knit_memory_add_up(const struct knit_settings *settings,
    const struct knit_descriptors *descriptors, struct knit_memory *ret_memory)
{
    struct knit_memory memory = {
        .sessions_bytes = knit_workers_memory_bytes(settings, descriptors->sessions_max),
        .loops_bytes = settings->threads_io *
                           (2 * settings->input_max_bytes + settings->output_total_max_bytes) +
                       KNIT_KEYS_MAX * A_KEY + KNIT_KEYS_BYTES,
        .connections_bytes = descriptors->connections_max * A_CONNECTION,
        .workers_bytes = settings->workers * settings->memory_max_bytes,
        .limit_bytes = knit_machine_memory_max(""),
    };

    memory.sum_bytes = memory.sessions_bytes + memory.loops_bytes + memory.connections_bytes +
                       memory.workers_bytes;
    *ret_memory = memory;
}

void knit_memory_text(uint64_t bytes, char ret_text[KNIT_MEMORY_TEXT_MAX])
{
    static const char *const units[] = {"MiB", "GiB", "TiB", "PiB", "EiB"};
    double number = (double)bytes / (1 << 20);
    size_t unit = 0;

    while (number >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        number /= 1024;
        unit++;
    }
    if (bytes == UINT64_MAX)
        (void)snprintf(ret_text, KNIT_MEMORY_TEXT_MAX, "no limit");
    else
        (void)snprintf(ret_text, KNIT_MEMORY_TEXT_MAX, "%.1f %s", number, units[unit]);
}
