/* SPDX-License-Identifier: Apache-2.0 */
/* Spans go to one histogram one by one and to another by rows of sixteen; a last row that is not
 * full is dropped. */
#include "bench/typical.h"

#include "bench/ticks.h"

void knit_typical_init(struct knit_typical *typical)
{
    knit_histogram_init(&typical->spans);
    knit_histogram_init(&typical->rows);
    typical->sum = 0;
    typical->filled = 0;
}

void knit_typical_record(struct knit_typical *typical, uint64_t ticks)
{
    knit_histogram_record(&typical->spans, ticks);
    typical->sum += ticks;
    if (++typical->filled < KNIT_TYPICAL_ROW)
        return;
    knit_histogram_record(&typical->rows, typical->sum);
    typical->sum = 0;
    typical->filled = 0;
}

double knit_typical_ns(const struct knit_typical *typical)
{
    /* Too few spans for a row: as exact as the steps of the clock. */
    if (typical->rows.count == 0)
        return knit_typical_percentile_ns(typical, 50);
    return knit_ticks_to_ns((double)knit_histogram_percentile(&typical->rows, 50)) /
           KNIT_TYPICAL_ROW;
}

double knit_typical_percentile_ns(const struct knit_typical *typical, double percent)
{
    return knit_ticks_to_ns((double)knit_histogram_percentile(&typical->spans, percent));
}

double knit_typical_mean_ns(const struct knit_typical *typical)
{
    return knit_ticks_to_ns(knit_histogram_mean(&typical->spans));
}
