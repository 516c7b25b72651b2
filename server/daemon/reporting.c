/* SPDX-License-Identifier: Apache-2.0 */
/* A part that is not asked for is not there. */
#include "server/daemon/reporting.h"

#include <string.h>

#include "config.h"

static int start_access_log(struct knit_reporting *reporting, const struct knit_settings *settings,
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

static int start_exporter(struct knit_reporting *reporting, const struct knit_settings *settings,
    const char *instance, struct knit_log *log, struct knit_sentence *why)
{
    struct knit_exporter_options options = {.origin = {.service = settings->otlp_service_name,
                                                .instance = instance,
                                                .version = KNIT_VERSION},
        .log = log,
        .loops = (uint32_t)settings->threads_io};
    int r;

    if (settings->otlp_endpoint == NULL)
        return 0;
    r = knit_collector_url_parse("log.otlp_endpoint", settings->otlp_endpoint, &options.url, why);
    return r == 0 ? knit_exporter_start(&options, &reporting->exporter, why) : r;
}

int knit_reporting_start(struct knit_reporting *reporting, const struct knit_settings *settings,
    const char *instance, struct knit_log *log, struct knit_sentence *why)
{
    int r = start_access_log(reporting, settings, log, why);

    return r == 0 ? start_exporter(reporting, settings, instance, log, why) : r;
}

void knit_reporting_tell(const struct knit_reporting *reporting, struct knit_stats_sources *sources)
{
    if (reporting->access_log != NULL)
        sources->reporting[0] = knit_access_log_counters(reporting->access_log);
    if (reporting->exporter != NULL)
        sources->reporting[1] = knit_exporter_counters(reporting->exporter);
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
    reporting->exporter = knit_exporter_stop(reporting->exporter);
    reporting->access_log = knit_access_log_close(reporting->access_log);
}
