/* SPDX-License-Identifier: Apache-2.0 */
/* What is said of calls to others, as the settings have it: begun before the loops start, ended
 * when they have.
 *
 * Threads: the main thread's.
 */
#pragma once

#include <knitting/code.h>

#include "proto/sentence.h"
#include "server/config/setting.h"
#include "server/daemon/reload.h"
#include "server/report/access_log.h"

struct knit_reporting {
    struct knit_access_log *access_log; /* NULL: there is none */
};

/* Returns 0, or -errno with the sentence. */
KNIT_MUST_CHECK int knit_reporting_start(struct knit_reporting *reporting,
    const struct knit_settings *settings, struct knit_log *log, struct knit_sentence *why);
struct knit_reload_part knit_reporting_part(struct knit_reporting *reporting);
/* Accepts a zeroed one. */
void knit_reporting_stop(struct knit_reporting *reporting);
