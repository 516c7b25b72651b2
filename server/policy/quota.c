/* SPDX-License-Identifier: Apache-2.0 */
/* Each rate is one word, the theoretical time of arrival of GCRA: no bucket is refilled, and a
 * principal that nobody asks for costs nothing. */
#include "server/policy/quota.h"

enum { BURST_NS = 100000000 };

#define SECOND_NS UINT64_C(1000000000)

static uint64_t load(const _Atomic uint64_t *word)
{
    /* relaxed throughout: the words order nothing. */
    return atomic_load_explicit(word, memory_order_relaxed);
}

/* What was taken is paid at the rate of its time; another rate begins anew. Else who sent much
 * while little was allowed would wait for hours when more is. */
static void set_rate(_Atomic uint64_t *limit, _Atomic uint64_t *paid_ns, uint64_t per_second)
{
    if (load(limit) == per_second)
        return;
    atomic_store_explicit(paid_ns, 0, memory_order_relaxed);
    atomic_store_explicit(limit, per_second, memory_order_relaxed);
}

void knit_quota_set(struct knit_quota *quota, const struct knit_policy_limits *limits)
{
    atomic_store_explicit(&quota->weight, limits->weight, memory_order_relaxed);
    atomic_store_explicit(&quota->calls_in_flight, limits->calls_in_flight, memory_order_relaxed);
    set_rate(&quota->calls_per_second, &quota->calls_ns, limits->calls_per_second);
    set_rate(&quota->bytes_per_second, &quota->bytes_ns, limits->bytes_per_second);
    atomic_store_explicit(
        &quota->waits, limits->over_limit == KNIT_POLICY_OVER_WAIT, memory_order_relaxed);
    atomic_store_explicit(&quota->is_limited,
        limits->calls_in_flight != 0 || limits->calls_per_second != 0 ||
            limits->bytes_per_second != 0,
        memory_order_relaxed);
}

uint32_t knit_quota_weight(const struct knit_quota *quota)
{
    const uint64_t weight = load(&quota->weight);

    return weight == 0 ? 1 : weight < UINT32_MAX ? (uint32_t)weight : UINT32_MAX;
}

bool knit_quota_has_rates(const struct knit_quota *quota)
{
    return load(&quota->calls_per_second) != 0 || load(&quota->bytes_per_second) != 0;
}

static uint64_t price_ns(uint64_t amount, uint64_t per_second)
{
    return amount < UINT64_MAX / SECOND_NS ? amount * SECOND_NS / per_second : SECOND_NS;
}

/* What was taken is so far ahead that one more has to wait. */
static bool is_ahead(const _Atomic uint64_t *paid_ns, uint64_t now_ns, uint64_t *ret_wait_ns)
{
    const uint64_t ns = load(paid_ns);

    if (ns <= now_ns + BURST_NS)
        return false;
    *ret_wait_ns = ns - now_ns - BURST_NS;
    return true;
}

/* An average of what is known is as good as it gets: which of its calls ends next nobody knows. */
static uint64_t guess_ns(const struct knit_quota *quota, uint64_t now_ns)
{
    const uint64_t interval_ns = load(&quota->interval_ns), ended_ns = load(&quota->ended_ns);

    if (interval_ns != 0)
        return interval_ns;
    return ended_ns < now_ns ? now_ns - ended_ns : 0;
}

bool knit_quota_is_over(
    const struct knit_quota *quota, uint64_t now_ns, struct knit_quota_over *ret_over)
{
    struct knit_quota_over over = {.name = "calls_in_flight"};

    over.limit = load(&quota->calls_in_flight);
    if (over.limit != 0 && load(&quota->in_flight) >= over.limit) {
        over.guess_ns = guess_ns(quota, now_ns);
        *ret_over = over;
        return true;
    }
    over.name = "calls_per_second";
    over.limit = load(&quota->calls_per_second);
    if (over.limit != 0 && is_ahead(&quota->calls_ns, now_ns, &over.wait_ns)) {
        *ret_over = over;
        return true;
    }
    over.name = "bytes_per_second";
    over.limit = load(&quota->bytes_per_second);
    if (over.limit == 0 || !is_ahead(&quota->bytes_ns, now_ns, &over.wait_ns))
        return false;
    *ret_over = over;
    return true;
}

bool knit_quota_owes(const struct knit_quota *quota, uint64_t now_ns)
{
    return load(&quota->calls_ns) > now_ns || load(&quota->bytes_ns) > now_ns;
}

static void move_on(_Atomic uint64_t *paid_ns, uint64_t now_ns, uint64_t price)
{
    uint64_t before = load(paid_ns);

    while (!atomic_compare_exchange_weak_explicit(paid_ns, &before,
        (before > now_ns ? before : now_ns) + price, memory_order_relaxed, memory_order_relaxed))
        ;
}

void knit_quota_take(struct knit_quota *quota, size_t bytes, uint64_t now_ns)
{
    const uint64_t calls = load(&quota->calls_per_second), most = load(&quota->bytes_per_second);

    if (atomic_fetch_add_explicit(&quota->in_flight, 1, memory_order_relaxed) == 0)
        atomic_store_explicit(&quota->ended_ns, now_ns, memory_order_relaxed);
    if (calls != 0)
        move_on(&quota->calls_ns, now_ns, price_ns(1, calls));
    if (most != 0)
        move_on(&quota->bytes_ns, now_ns, price_ns(bytes, most));
}

/* Two loops at once lose an interval, of which there are many. */
static void note_end(struct knit_quota *quota, uint64_t now_ns)
{
    const uint64_t ended_ns = load(&quota->ended_ns), before_ns = load(&quota->interval_ns);
    const uint64_t interval_ns = ended_ns < now_ns ? now_ns - ended_ns : 0;

    atomic_store_explicit(&quota->ended_ns, now_ns, memory_order_relaxed);
    atomic_store_explicit(&quota->interval_ns,
        before_ns != 0 ? before_ns / 8 * 7 + interval_ns / 8 : interval_ns, memory_order_relaxed);
}

void knit_quota_give_back(struct knit_quota *quota, uint64_t now_ns)
{
    note_end(quota, now_ns);
    (void)atomic_fetch_sub_explicit(&quota->in_flight, 1, memory_order_relaxed);
}

uint32_t knit_quota_take_slots(struct knit_quota *quota, uint32_t slots)
{
    const uint64_t limit = load(&quota->calls_in_flight);
    uint64_t before = load(&quota->slots), taken;

    do {
        const uint64_t left = before < limit ? limit - before : 0;

        taken = limit != 0 && left < slots ? left : slots;
    } while (!atomic_compare_exchange_weak_explicit(
        &quota->slots, &before, before + taken, memory_order_relaxed, memory_order_relaxed));
    return (uint32_t)taken;
}

void knit_quota_give_back_slots(struct knit_quota *quota, uint32_t slots)
{
    (void)atomic_fetch_sub_explicit(&quota->slots, slots, memory_order_relaxed);
}
