/* SPDX-License-Identifier: Apache-2.0 */
/* A figure that is measured several times: its median and its spread.
 *
 * Spread is half the distance between the quartiles, in percent of the median: one disturbed round
 * moves neither.
 */
#pragma once

#include <stdint.h>

enum { KNIT_SAMPLES_MAX = 256 };

struct knit_samples {
    uint32_t count;
    double values[KNIT_SAMPLES_MAX];
};

/* The oldest measurements stay when there are more than KNIT_SAMPLES_MAX. */
void knit_samples_add(struct knit_samples *samples, double value);
double knit_samples_median(const struct knit_samples *samples); /* 0 when there are none */
double knit_samples_spread(const struct knit_samples *samples); /* percent */
