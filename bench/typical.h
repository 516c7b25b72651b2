/* SPDX-License-Identifier: Apache-2.0 */
/* Spans of single calls: their percentiles, and one typical figure that is finer than the clock.
 *
 * The counter of some machines moves in steps of ten nanoseconds, a tenth of the shortest call, so
 * a median of single spans can only be one step or the next. Sums of sixteen spans in a row are as
 * exact as needed: the typical span is the median of those sums, divided by sixteen. Ratios between
 * short spans are made of typical ones.
 *
 * Threads: one at a time.
 */
#pragma once

#include "bench/histogram.h"

enum { KNIT_TYPICAL_ROW = 16 };

struct knit_typical {
    struct knit_histogram spans, rows;
    uint64_t sum; /* of the row that is being filled */
    uint32_t filled;
};

void knit_typical_init(struct knit_typical *typical);
void knit_typical_record(struct knit_typical *typical, uint64_t ticks);

double knit_typical_ns(const struct knit_typical *typical);
double knit_typical_percentile_ns(const struct knit_typical *typical, double percent);
double knit_typical_mean_ns(const struct knit_typical *typical);
