/* SPDX-License-Identifier: Apache-2.0 */
/* Sends spans of calls to a collector, by OTLP/HTTP as JSON.
 *
 * Loops make spans of the calls whose trace is sampled and hand them over once a turn (outbox.h); a
 * thread gathers them for a moment and sends them (collector.h). What the collector does not take
 * is sent again, later each time, and dropped after a minute; what comes meanwhile waits, as far as
 * there is room. So a collector that is mute, slow or gone costs spans, and neither a loop's time
 * nor memory without an end. What is dropped is counted and said.
 *
 * Threads: knit_exporter_put() and knit_exporter_hand_over() are for the loop of that number, all
 * others for the main thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/sentence.h"
#include "server/base/counters.h"
#include "server/base/log.h"
#include "server/config/collector_url.h"
#include "server/report/ended_call.h"
#include "server/report/otlp.h"

struct knit_exporter;

struct knit_exporter_options {
    struct knit_collector_url url;
    struct knit_otlp_origin origin; /* whose texts stay */
    struct knit_log *log;
    uint32_t loops;
};

/* Returns 0, or -errno with the sentence. */
KNIT_MUST_CHECK int knit_exporter_start(const struct knit_exporter_options *options,
    struct knit_exporter **ret_exporter, struct knit_sentence *why);
/* The loops have ended. What is there is sent, in some seconds at most; what is left is dropped.
 * NULL is allowed; returns NULL. */
struct knit_exporter *knit_exporter_stop(struct knit_exporter *exporter);

/* Of its thread: spans that were taken and dropped. */
const struct knit_counters *knit_exporter_counters(const struct knit_exporter *exporter);

static inline bool knit_exporter_wants(const struct knit_ended_call *call)
{
    return call->trace != NULL && (call->trace->flags & KNIT_TRACE_SAMPLED) != 0;
}

/* Of a call that it wants. False: there is no room, and the span is dropped. */
bool knit_exporter_put(
    struct knit_exporter *exporter, uint32_t loop, const struct knit_ended_call *call);
/* At the end of a turn. Returns how many spans were dropped since the last time. */
uint64_t knit_exporter_hand_over(struct knit_exporter *exporter, uint32_t loop);
