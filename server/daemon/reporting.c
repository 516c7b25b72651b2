/* SPDX-License-Identifier: Apache-2.0 */
/* A part that is not asked for is not there. */
#include "server/daemon/reporting.h"

#include <string.h>

int knit_reporting_start(struct knit_reporting *reporting, const struct knit_settings *settings,
    struct knit_log *log, struct knit_sentence *why)
{
    const char *where = settings->access_log;
    const struct knit_access_log_options options = {
        .path = strcmp(where, "log") != 0 ? where : NULL,
        .log = log,
        .loops = (uint32_t)settings->threads_io};

    return strcmp(where, "none") != 0 ? knit_access_log_open(&options, &reporting->access_log, why)
                                      : 0;
}

struct knit_reload_part knit_reporting_part(struct knit_reporting *reporting)
{
    const struct knit_access_log *access_log = reporting->access_log;

    return (struct knit_reload_part){
        .name = access_log != NULL && knit_access_log_has_file(access_log) ? "access_log" : NULL,
        .prepare = knit_access_log_prepare,
        .commit = knit_access_log_commit,
        .abandon = knit_access_log_abandon,
        .arg = reporting->access_log};
}

void knit_reporting_stop(struct knit_reporting *reporting)
{
    reporting->access_log = knit_access_log_close(reporting->access_log);
}
