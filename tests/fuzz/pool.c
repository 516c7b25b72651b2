/* SPDX-License-Identifier: Apache-2.0 */
/* See pool.h. Only the system calls that the code of the lanes uses are there; another one ends the
 * program. */
#include "tests/fuzz/pool.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "tests/fuzz/target.h"

enum { LOOK_NS = 1000 };

struct machine machine;

void pool_access(void);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now);
long __wrap_syscall(long number, ...);
int __wrap_sched_getcpu(void);

/* ---- the machine ---- */

static void step(void)
{
    if (machine.on_step != NULL)
        machine.on_step(machine.arg);
}

void pool_access(void)
{
    if (machine.on_access != NULL)
        machine.on_access(machine.arg);
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now)
{
    (void)clock;
    step();
    machine.now_ns += LOOK_NS;
    ret_now->tv_sec = (time_t)(machine.now_ns / 1000000000u);
    ret_now->tv_nsec = (long)(machine.now_ns % 1000000000u);
    return 0;
}

/* No worker moves to another core. */
int __wrap_sched_getcpu(void)
{
    return -1;
}

static long fail(int error)
{
    errno = error;
    return -1;
}

static long sleep_until(const struct timespec *until)
{
    if (until != NULL) {
        uint64_t until_ns = (uint64_t)until->tv_sec * 1000000000u + (uint64_t)until->tv_nsec;

        if (until_ns > machine.now_ns)
            machine.now_ns = until_ns;
    }
    return fail(until != NULL ? ETIMEDOUT : EINTR);
}

static bool is_word(uint64_t address, uint64_t value)
{
    const _Atomic uint32_t *word = (const _Atomic uint32_t *)(uintptr_t)address;

    return atomic_load_explicit(word, memory_order_acquire) == (uint32_t)value;
}

static long wait_one(uint64_t address, uint64_t value, const struct timespec *until)
{
    machine.sleeps++;
    if (!is_word(address, value))
        return fail(EAGAIN);
    step();
    return is_word(address, value) ? sleep_until(until) : 0;
}

static long wait_many(const struct futex_waitv *words, uint32_t count, const struct timespec *until)
{
    machine.sleeps++;
    for (uint32_t i = 0; i < count; i++) {
        if (!is_word(words[i].uaddr, words[i].val))
            return fail(EAGAIN);
    }
    step();
    for (uint32_t i = 0; i < count; i++) {
        if (!is_word(words[i].uaddr, words[i].val))
            return i;
    }
    return sleep_until(until);
}

long __wrap_syscall(long number, ...)
{
    unsigned long word[4];
    va_list words;

    va_start(words, number);
    for (int i = 0; i < 4; i++)
        word[i] = va_arg(words, unsigned long);
    va_end(words);
    if (number == SYS_futex_waitv)
        return wait_many((const struct futex_waitv *)word[0], (uint32_t)word[1],
            (const struct timespec *)word[3]);
    KNIT_FUZZ_CHECK(number == SYS_futex);
    if ((int)word[1] == FUTEX_WAIT_BITSET)
        return wait_one(word[0], (uint32_t)word[2], (const struct timespec *)word[3]);
    KNIT_FUZZ_CHECK((int)word[1] == FUTEX_WAKE);
    machine.wakes++;
    return 0;
}

/* ---- segments ---- */

static unsigned char *new_segment(uint64_t bytes, size_t *ret_bytes)
{
    unsigned char *base = aligned_alloc(KNIT_PAGE, bytes);

    KNIT_FUZZ_CHECK(base != NULL);
    *ret_bytes = bytes;
    return base;
}

static struct pool *new_pool(void)
{
    struct pool *pool = calloc(1, sizeof(*pool));

    KNIT_FUZZ_CHECK(pool != NULL);
    pool->board_base = new_segment(knit_layout_board_bytes(POOL_LANES), &pool->board_bytes);
    pool->pool_base = new_segment(knit_layout_pool_bytes(POOL_LANES), &pool->pool_bytes);
    knit_layout_board(POOL_LANES, pool->board_base, &pool->board);
    knit_layout_pool(POOL_LANES, pool->pool_base, &pool->pool);
    for (int i = 0; i < POOL_SESSIONS; i++) {
        struct pool_session *session = &pool->session[i];

        session->geometry = (struct knit_geometry){.version = KNIT_LAYOUT_VERSION,
            .lanes = POOL_LANES,
            .slots = POOL_SLOTS,
            .cells = POOL_CELLS,
            .features = KNIT_FEATURES,
            .classes = KNIT_CLASSES_MAX,
            .request_arena_bytes = POOL_REQUEST_ARENA,
            .reply_arena_bytes = POOL_REPLY_ARENA};
        KNIT_FUZZ_CHECK(knit_geometry_check(&session->geometry) == NULL);
        session->request_base =
            new_segment(knit_layout_request_bytes(&session->geometry), &session->request_bytes);
        session->reply_base =
            new_segment(knit_layout_reply_bytes(&session->geometry), &session->reply_bytes);
        knit_layout_request(&session->geometry, session->request_base, &session->request);
        knit_layout_reply(&session->geometry, session->reply_base, &session->reply);
    }
    return pool;
}

static void begin_lane(struct pool_session *session, uint32_t lane, uint64_t start)
{
    atomic_store_explicit(&session->reply.head[lane].value[0], start, memory_order_relaxed);
    atomic_store_explicit(&session->reply.lane[lane].completion_tail, start, memory_order_relaxed);
    for (uint64_t i = 0; i < POOL_CELLS; i++) {
        uint64_t before = start - POOL_CELLS + i;
        size_t at = lane * POOL_CELLS + (before & (POOL_CELLS - 1));

        if (start == 0)
            break;
        atomic_store_explicit(&session->request.ring[at].ctrl,
            knit_ctrl(start & KNIT_GEN_MASK, 0, knit_tag(before, POOL_CELLS)),
            memory_order_relaxed);
        atomic_store_explicit(&session->reply.completions[at],
            knit_completion(0, before, POOL_CELLS), memory_order_relaxed);
    }
}

struct pool *pool_begin(uint64_t start)
{
    static struct pool *pool;

    if (pool == NULL)
        pool = new_pool();
    memset(pool->board_base, 0, pool->board_bytes);
    memset(pool->pool_base, 0, KNIT_PAGE + POOL_LANES * KNIT_LINE);
    for (int i = 0; i < POOL_SESSIONS; i++) {
        struct pool_session *session = &pool->session[i];

        memset(session->request_base, 0, session->request_bytes);
        memset(session->reply_base, 0, session->reply_bytes);
        for (uint32_t lane = 0; lane < POOL_LANES; lane++)
            begin_lane(session, lane, start);
        for (uint32_t slot = 0; slot < POOL_SLOTS; slot++) {
            uint64_t gen = start & KNIT_GEN_MASK;

            atomic_store_explicit(&session->reply.claim[slot], knit_claim(gen, KNIT_OWNER_HOST),
                memory_order_relaxed);
            atomic_store_explicit(
                &session->reply.reply[slot].word, knit_word(gen, 0, 0), memory_order_relaxed);
        }
    }
    machine = (struct machine){.now_ns = 1000000000u};
    return pool;
}

uint64_t pool_start(uint8_t number)
{
    static const uint64_t starts[] = {0, 1023 * POOL_CELLS - 2, 65535 * POOL_CELLS - 3,
        (1ull << 32) - 2, (1ull << 40) - 2, UINT64_MAX - 1};

    return starts[number % (sizeof(starts) / sizeof(starts[0]))];
}

/* ---- the input ---- */

bool input_is_over(const struct input *input)
{
    return input->at >= input->len;
}

uint8_t input_u8(struct input *input)
{
    return input_is_over(input) ? 0 : input->bytes[input->at++];
}

uint64_t input_u64(struct input *input)
{
    uint64_t value = 0;

    for (int i = 0; i < 8; i++)
        value |= (uint64_t)input_u8(input) << 8 * i;
    return value;
}

uint32_t input_below(struct input *input, uint32_t bound)
{
    return input_u8(input) % bound;
}

uint64_t input_word(struct input *input, uint64_t now)
{
    uint8_t how = input_u8(input);

    switch (how & 7) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return now ^ 1ull << (input_u8(input) & 63);
    case 3:
        return now + 1 + (how >> 3);
    case 4:
        return now - 1 - (how >> 3);
    case 5:
        return now + ((uint64_t)(int8_t)input_u8(input) << 24);
    case 6:
        return 1ull << (input_u8(input) & 63);
    default:
        return input_u64(input);
    }
}

void input_write32(struct input *input, _Atomic uint32_t *word)
{
    uint32_t now = atomic_load_explicit(word, memory_order_relaxed);

    atomic_store_explicit(word, (uint32_t)input_word(input, now), memory_order_relaxed);
}

void input_write64(struct input *input, _Atomic uint64_t *word)
{
    uint64_t now = atomic_load_explicit(word, memory_order_relaxed);

    atomic_store_explicit(word, input_word(input, now), memory_order_relaxed);
}

void input_write_within(struct input *input, unsigned char *base, size_t bytes)
{
    input_write64(input, (_Atomic uint64_t *)(void *)base + input_u64(input) % (bytes / 8));
}
