/* SPDX-License-Identifier: Apache-2.0 */
/* What is said of calls to others, as the settings have it: begun before the loops start, ended
 * when they have.
 *
 * Threads: the main thread's.
 */
#pragma once

#include <knitting/code.h>

#include "proto/sentence.h"
#include "server/admin/stats.h"
#include "server/config/setting.h"
#include "server/daemon/reload.h"
#include "server/report/access_log.h"
#include "server/report/exporter.h"

struct knit_reporting {
    struct knit_access_log *access_log; /* NULL: there is none, as the next */
    struct knit_exporter *exporter;
};

/* instance: stays. Returns 0; or not 0 with the sentence. */
KNIT_MUST_CHECK int knit_reporting_start(struct knit_reporting *reporting,
    const struct knit_settings *settings, const char *instance, struct knit_log *log,
    struct knit_sentence *why);
/* To where stats come from. */
void knit_reporting_tell(
    const struct knit_reporting *reporting, struct knit_stats_sources *sources);
struct knit_reload_part knit_reporting_part(struct knit_reporting *reporting);
/* Accepts a zeroed one. */
void knit_reporting_stop(struct knit_reporting *reporting);
