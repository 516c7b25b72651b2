/* SPDX-License-Identifier: Apache-2.0 */
/* The five balancers. Each is a few lines over two questions: has the lane a worker, is it idle.
 * The board's answers are hints: a call that lands on a vacant lane is stolen, and a worker that
 * falls asleep after the choice is notified at the flush. */
#include "fastpath/lane/balancer.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define FILL_NS          20000u
#define FILL_MEAN_MIN_NS 100u

static const struct {
    const char *name;
    enum knit_balancer balancer;
} NAMES[] = {
    {"roundRobin", KNIT_BALANCER_ROUND_ROBIN},
    {"robinRound", KNIT_BALANCER_ROUND_ROBIN},
    {"firstIdle", KNIT_BALANCER_FIRST_IDLE},
    {"randomLane", KNIT_BALANCER_RANDOM},
    {"firstIdleOrRandom", KNIT_BALANCER_FIRST_IDLE_OR_RANDOM},
    {"leastLoaded", KNIT_BALANCER_LEAST_LOADED},
};

bool knit_balancer_parse(const char *name, enum knit_balancer *ret)
{
    for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++) {
        if (strcmp(name, NAMES[i].name) == 0) {
            *ret = NAMES[i].balancer;
            return true;
        }
    }
    return false;
}

const char *knit_balancer_name(enum knit_balancer balancer)
{
    for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++) {
        if (NAMES[i].balancer == balancer)
            return NAMES[i].name;
    }
    return "unknown";
}

static uint32_t cores(void)
{
    cpu_set_t allowed;
    return sched_getaffinity(0, sizeof(allowed), &allowed) == 0 ? (uint32_t)CPU_COUNT(&allowed)
                                                                : UINT32_MAX;
}

int knit_balance_init(struct knit_balance *balance, enum knit_balancer kind, bool steal,
    uint32_t lanes, const struct knit_board_view *board, uint64_t seed)
{
    *balance = (struct knit_balance){
        .kind = kind,
        .lanes = lanes,
        .random = seed != 0 ? seed : 0x9e3779b97f4a7c15u,
        .board = *board,
    };
    if (steal && kind == KNIT_BALANCER_ROUND_ROBIN)
        balance->warm_max = cores() > 2 ? 1 : UINT32_MAX;
    balance->next = calloc(KNIT_TASKS, 1);
    return balance->next != NULL ? 0 : -ENOMEM;
}

void knit_balance_fini(struct knit_balance *balance)
{
    free(balance->next);
    balance->next = NULL;
}

/* The lane that stands `i` behind `from`; both are below the number of lanes. */
static uint32_t behind(const struct knit_balance *balance, uint32_t from, uint32_t i)
{
    return from + i < balance->lanes ? from + i : from + i - balance->lanes;
}

/* The first lane from `from` on that has a worker, or `from` itself when none has. */
static uint32_t next_alive(const struct knit_balance *balance, uint32_t from)
{
    for (uint32_t i = 0; i < balance->lanes; i++) {
        uint32_t lane = behind(balance, from, i);
        if (!knit_board_is_vacant(&balance->board, lane))
            return lane;
    }
    return from;
}

/* The lane whose turn it is for the task. */
static uint32_t next_of(const struct knit_balance *balance, uint32_t task)
{
    const uint32_t next = balance->next[task % KNIT_TASKS];

    return next < balance->lanes ? next : 0;
}

/* The lane has had its turn. */
static uint32_t take_turn(struct knit_balance *balance, uint32_t task, uint32_t lane)
{
    balance->next[task % KNIT_TASKS] = (uint8_t)behind(balance, lane, 1);
    return lane;
}

/* Its upper bits depend on all of the number's. */
static uint64_t mixed(uint64_t number)
{
    number = (number ^ number >> 32) * 0x9e3779b97f4a7c15u;
    number = (number ^ number >> 29) * 0xbf58476d1ce4e5b9u;
    return number ^ number >> 32;
}

/* Rendezvous: each lane draws by the key and its number, and the highest draw wins. */
uint32_t knit_balance_place(const struct knit_board_view *board, uint32_t lanes, uint64_t key)
{
    uint64_t best_draw = 0;
    uint32_t best = 0;
    bool is_best_vacant = true;

    for (uint32_t lane = 0; lane < lanes; lane++) {
        const bool is_vacant = knit_board_is_vacant(board, lane);
        const uint64_t draw = mixed(mixed(key) + lane);

        if ((is_best_vacant && !is_vacant) || (is_best_vacant == is_vacant && draw >= best_draw)) {
            best = lane;
            best_draw = draw;
            is_best_vacant = is_vacant;
        }
    }
    return best;
}

static uint32_t round_robin(struct knit_balance *balance, uint32_t task)
{
    return take_turn(balance, task, next_alive(balance, next_of(balance, task)));
}

/* The lane holds calls of this task already, but less than FILL_NS of them. The board's mean may be
 * anything: a lane gets no more than so many calls that are taken for short. */
static bool has_room(uint32_t queued, uint32_t mean_ns)
{
    const uint64_t least_ns = mean_ns > FILL_MEAN_MIN_NS ? mean_ns : FILL_MEAN_MIN_NS;

    return queued > 0 && mean_ns != 0 && queued * least_ns < FILL_NS;
}

/* With many cores. The lane that is filled may sleep until the flush. */
static uint32_t fill(struct knit_balance *balance, uint32_t task, const uint32_t *queued)
{
    const struct knit_board_view *board = &balance->board;
    const uint32_t mean_ns = knit_board_mean_ns(board, task);

    if (has_room(queued[balance->warm], mean_ns) &&
        knit_board_park_state(board, balance->warm) == KNIT_PARK_AWAKE)
        return balance->warm;
    if (!has_room(queued[balance->filled], mean_ns) || knit_board_is_vacant(board, balance->filled))
        balance->filled = round_robin(balance, task);
    return balance->filled;
}

/* Xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled",
 * 2016); the high half scaled to the range by multiplication (Lemire, 2019), whose bias at 256
 * lanes is below 2^-24. */
static uint32_t random_lane(struct knit_balance *balance)
{
    uint64_t high;

    balance->random ^= balance->random >> 12;
    balance->random ^= balance->random << 25;
    balance->random ^= balance->random >> 27;
    high = balance->random * 0x2545f4914f6cdd1du >> 32;
    return next_alive(balance, (uint32_t)(high * balance->lanes >> 32));
}

/* The first lane with nothing queued or running; UINT32_MAX: none. */
static uint32_t first_idle(const struct knit_balance *balance, const uint32_t *queued)
{
    for (uint32_t lane = 0; lane < balance->lanes; lane++) {
        if (queued[lane] == 0 && !knit_board_is_vacant(&balance->board, lane) &&
            !knit_board_is_running(&balance->board, lane))
            return lane;
    }
    return UINT32_MAX;
}

static uint32_t least_loaded(struct knit_balance *balance, uint32_t task, const uint32_t *queued)
{
    const uint32_t from = next_of(balance, task);
    uint32_t found = from, least = UINT32_MAX;

    for (uint32_t i = 0; i < balance->lanes && least > 0; i++) {
        const uint32_t lane = behind(balance, from, i);
        uint32_t load;

        if (knit_board_is_vacant(&balance->board, lane))
            continue;
        /* A worker that has answered our last call may still show it. */
        load = queued[lane] > 0 ? 1 + queued[lane] : knit_board_is_running(&balance->board, lane);
        if (load < least) {
            least = load;
            found = lane;
        }
    }
    return take_turn(balance, task, found);
}

uint32_t knit_balance_pick_other(
    struct knit_balance *balance, uint32_t task, const uint32_t *queued)
{
    uint32_t lane = UINT32_MAX;

    switch (balance->kind) {
    case KNIT_BALANCER_RANDOM:
        return random_lane(balance);
    case KNIT_BALANCER_FIRST_IDLE:
        lane = first_idle(balance, queued);
        return lane != UINT32_MAX ? lane : round_robin(balance, task);
    case KNIT_BALANCER_FIRST_IDLE_OR_RANDOM:
        lane = first_idle(balance, queued);
        return lane != UINT32_MAX ? lane : random_lane(balance);
    case KNIT_BALANCER_LEAST_LOADED:
        return least_loaded(balance, task, queued);
    case KNIT_BALANCER_ROUND_ROBIN:
        break;
    }
    return balance->warm_max == 1 ? fill(balance, task, queued) : round_robin(balance, task);
}
