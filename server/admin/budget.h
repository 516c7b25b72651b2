/* SPDX-License-Identifier: Apache-2.0 */
/* How much of the main thread the admin face may take: a hundredth of its time, and 20 ms at once
 * after a rest, which is more than a scrape, some probes and the page of an operator need.
 *
 * A piece of work is counted when it is done. So the last one before a pause may be longer than
 * what was left, and the pause is longer by what that takes to be paid: the hundredth holds,
 * whatever a piece costs. A pause ends when 1 ms may be worked again, since to begin costs as well.
 *
 * As in server/policy/quota.h it is one word, the time at which all that was done will be paid.
 *
 * Pure functions; times are CLOCK_MONOTONIC's, work is the processor's.
 */
#pragma once

#include <stdint.h>

#include <knitting/code.h>

#define KNIT_BUDGET_PART      100u /* one nanosecond in so many */
#define KNIT_BUDGET_MOST_NS   UINT64_C(20000000)
#define KNIT_BUDGET_RESUME_NS UINT64_C(1000000)

/* All zeros: rested. */
struct knit_budget {
    uint64_t paid_ns;
};

/* Counts work that was done. Returns 0 if more may be done, else after how many nanoseconds it
 * may. */
KNIT_MUST_CHECK uint64_t knit_budget_spend(
    struct knit_budget *budget, uint64_t now_ns, uint64_t work_ns);
