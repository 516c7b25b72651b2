/* SPDX-License-Identifier: Apache-2.0 */
/* The first lines of the log: who may call through what, what the limits come to, that it is ready.
 *
 * Threads: the main thread's.
 */
#pragma once

#include "server/config/setting.h"
#include "server/daemon/descriptors.h"
#include "server/net/listening.h"

struct knit_host;
struct knit_log;

struct knit_announcement {
    struct knit_log *log;
    const struct knit_settings *settings;
    const struct knit_listening *listening;
    const struct knit_descriptors *descriptors;
    struct knit_host *pool;
};

void knit_announce(const struct knit_announcement *of);
