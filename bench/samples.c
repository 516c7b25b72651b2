/* SPDX-License-Identifier: Apache-2.0 */
/* A few hundred values are sorted anew for each question; nothing here is on a measured path. */
#include "bench/samples.h"

#include <stdlib.h>

void knit_samples_add(struct knit_samples *samples, double value)
{
    if (samples->count < KNIT_SAMPLES_MAX)
        samples->values[samples->count++] = value;
}

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* Linear between the two measurements next to the wanted place. */
static double quantile(const struct knit_samples *samples, double part)
{
    struct knit_samples sorted = *samples;
    double place;
    uint32_t low, high;
    if (sorted.count == 0)
        return 0;
    qsort(sorted.values, sorted.count, sizeof(sorted.values[0]), by_value);
    place = part * (sorted.count - 1);
    low = (uint32_t)place;
    high = low + 1 < sorted.count ? low + 1 : low;
    return sorted.values[low] + (sorted.values[high] - sorted.values[low]) * (place - low);
}

double knit_samples_median(const struct knit_samples *samples)
{
    return quantile(samples, 0.5);
}

double knit_samples_spread(const struct knit_samples *samples)
{
    double median = quantile(samples, 0.5);
    return median == 0 ? 0 : (quantile(samples, 0.75) - quantile(samples, 0.25)) / 2 / median * 100;
}
