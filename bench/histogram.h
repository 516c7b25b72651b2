/* SPDX-License-Identifier: Apache-2.0 */
/* A histogram of spans, exact to better than one part in a hundred at any size.
 *
 * Log-linear: values below 128 have a bucket each, every doubling above that has 128 equal ones. So
 * a bucket is never wider than 1/128 of its values, all of uint64_t fits in 58 KiB, and
 * recording is a bit scan and an increment.
 *
 * Threads: one histogram belongs to one thread; merge them afterwards.
 *
 * Source: the idea is HdrHistogram's (Gil Tene); this one has one precision and no options.
 */
#pragma once

#include <stdint.h>

enum {
    KNIT_HISTOGRAM_BITS = 7,
    KNIT_HISTOGRAM_BUCKETS = (64 - KNIT_HISTOGRAM_BITS + 1) << KNIT_HISTOGRAM_BITS,
};

struct knit_histogram {
    uint64_t count, min, max;
    double sum;
    uint64_t buckets[KNIT_HISTOGRAM_BUCKETS];
};

void knit_histogram_init(struct knit_histogram *histogram);
void knit_histogram_record(struct knit_histogram *histogram, uint64_t value);
void knit_histogram_merge(struct knit_histogram *into, const struct knit_histogram *from);

/* The value that `percent` of all recorded ones do not exceed: the upper end of its bucket, though
 * never above the greatest one recorded. 0 when empty. */
uint64_t knit_histogram_percentile(const struct knit_histogram *histogram, double percent);

/* Of all recorded values. */
double knit_histogram_mean(const struct knit_histogram *histogram);
