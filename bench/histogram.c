/* SPDX-License-Identifier: Apache-2.0 */
/* A bucket's row is how far the value's highest bit lies above bit 7, its column the seven bits
 * below that one. */
#include "bench/histogram.h"

#include <string.h>

enum { COLUMNS = 1 << KNIT_HISTOGRAM_BITS };

static uint32_t bucket_of(uint64_t value)
{
    uint32_t shift;

    if (value < COLUMNS)
        return (uint32_t)value;
    shift = 63 - (uint32_t)__builtin_clzll(value) - KNIT_HISTOGRAM_BITS;
    return (shift + 1) * COLUMNS + ((uint32_t)(value >> shift) & (COLUMNS - 1));
}

/* The greatest value of a bucket. */
static uint64_t bucket_end(uint32_t bucket)
{
    uint32_t shift;
    uint64_t first;

    if (bucket < COLUMNS)
        return bucket;
    shift = bucket / COLUMNS - 1;
    first = (uint64_t)(COLUMNS + bucket % COLUMNS) << shift;
    return first + ((1ull << shift) - 1);
}

void knit_histogram_init(struct knit_histogram *histogram)
{
    memset(histogram, 0, sizeof(*histogram));
    histogram->min = UINT64_MAX;
}

void knit_histogram_record(struct knit_histogram *histogram, uint64_t value)
{
    histogram->count++;
    histogram->sum += (double)value;
    histogram->min = value < histogram->min ? value : histogram->min;
    histogram->max = value > histogram->max ? value : histogram->max;
    histogram->buckets[bucket_of(value)]++;
}

void knit_histogram_merge(struct knit_histogram *into, const struct knit_histogram *from)
{
    into->count += from->count;
    into->sum += from->sum;
    into->min = from->min < into->min ? from->min : into->min;
    into->max = from->max > into->max ? from->max : into->max;
    for (uint32_t i = 0; i < KNIT_HISTOGRAM_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
}

uint64_t knit_histogram_percentile(const struct knit_histogram *histogram, double percent)
{
    double wanted = (double)histogram->count * percent / 100;
    uint64_t seen = 0;
    if (histogram->count == 0)
        return 0;
    for (uint32_t i = 0; i < KNIT_HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        /* An empty bucket is no answer, not even to "0 %". */
        if (histogram->buckets[i] != 0 && (double)seen >= wanted)
            return bucket_end(i) < histogram->max ? bucket_end(i) : histogram->max;
    }
    return histogram->max;
}

double knit_histogram_mean(const struct knit_histogram *histogram)
{
    return histogram->count == 0 ? 0 : histogram->sum / (double)histogram->count;
}
