/* SPDX-License-Identifier: Apache-2.0 */
/* Sleeping and waking. Whom workers wake is decided by a word in the caller's hand, and how by a
 * socket that the caller holds one end of: so arms that jump, a socket that is never read, or is
 * filled, or shut, and bells that ring for nothing.
 */
#include "tests/system/hostile/attack.h"

#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fastpath/bell.h"
#include "tests/support/deadline.h"

enum { SLOTS = 64, ARENA = 1 << 20, PATIENCE_MS = 10000 };

static const unsigned char params[] = {0x91, 0xa4, 'w', 'o', 'o', 'l'};

static void call_and_ring(struct knit_attached *attached)
{
    if (knit_attached_call(attached, params, sizeof(params), 0))
        knit_attached_ring(attached);
}

/* Says that it sleeps, with arms of all kinds, and never does. */
bool knit_attack_liars(const struct knit_target *target, struct knit_random *random)
{
    struct knit_attached attached;
    uint64_t lies = 0, until_ns = knit_deadline_now_ns() + 1000000000u;

    knit_attached_open(&attached, target, SLOTS, ARENA);
    while (knit_deadline_now_ns() < until_ns && !knit_attached_is_over(&attached)) {
        static const uint32_t arms[] = {0, 1, 2, 3, UINT32_MAX, UINT32_MAX - 1, 1u << 31};
        uint32_t lie = knit_random_chance(random, 2)
                           ? arms[knit_random_below(random, sizeof(arms) / sizeof(arms[0]))]
                           : (uint32_t)knit_random_u64(random);

        atomic_store_explicit(attached.in.waiting, lie, memory_order_release);
        call_and_ring(&attached);
        lies++;
    }
    bool is_over = knit_attached_is_over(&attached);
    bool is_answered = knit_attached_is_answered(&attached, PATIENCE_MS);
    printf("%llu lies%s%s\n", (unsigned long long)lies, is_over ? ", the session was ended" : "",
        is_answered ? "" : ", not all calls were answered");
    knit_attached_close(&attached);
    /* It harmed itself at most, but whoever calls has to be answered as long as he is served. */
    return is_over || is_answered;
}

/* Asks for a byte at each turn and reads none; then fills the other direction, then shuts it. */
bool knit_attack_full_bell(const struct knit_target *target, struct knit_random *random)
{
    static char bytes[65536];
    struct knit_attached attached;
    uint32_t arm = 0, rounds = 0;
    ssize_t sent = 0, n;

    (void)random;
    for (int state = 0; state < 3; state++) {
        uint64_t until_ns = knit_deadline_now_ns() + 500000000u;

        knit_attached_open(&attached, target, SLOTS, ARENA);
        if (state == 1) {
            while ((n = send(attached.fd[BELL_FD], bytes, sizeof(bytes),
                        MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
                sent += n;
        }
        if (state == 2)
            shutdown(attached.fd[BELL_FD], SHUT_RDWR);
        while (knit_deadline_now_ns() < until_ns && !knit_attached_is_over(&attached)) {
            atomic_store_explicit(attached.in.waiting, ++arm * 2, memory_order_release);
            call_and_ring(&attached);
            rounds++;
        }
        if (!knit_attached_is_over(&attached) &&
            !knit_attached_is_answered(&attached, PATIENCE_MS)) {
            printf("calls were not answered, round %d\n", state);
            return false;
        }
        knit_attached_close(&attached);
    }
    printf("%u calls that asked for a byte, %zd bytes sent back\n", rounds, sent);
    return true;
}

/* Rings all the time and calls nothing; the worker that it wakes and wakes ends that. */
bool knit_attack_ringing(const struct knit_target *target, struct knit_random *random)
{
    struct knit_attached attached;
    uint64_t rings = 0, until_ns = knit_deadline_now_ns() + 3000000000u;

    (void)random;
    knit_attached_open(&attached, target, SLOTS, ARENA);
    while (knit_deadline_now_ns() < until_ns && !knit_attached_is_over(&attached)) {
        knit_attached_ring(&attached);
        rings++;
    }
    bool is_over = knit_attached_is_over(&attached);
    printf("%llu rings%s\n", (unsigned long long)rings,
        is_over ? ", then the session was ended" : ", and the session is served on");
    knit_attached_close(&attached);
    return is_over;
}

/* Takes sleepers from the words it can reach and hangs them on others. */
bool knit_attack_requeue(const struct knit_target *target, struct knit_random *random)
{
    struct knit_attached attached;
    uint64_t moved = 0, until_ns = knit_deadline_now_ns() + 1000000000u;

    knit_attached_open(&attached, target, SLOTS, ARENA);
    while (knit_deadline_now_ns() < until_ns && !knit_attached_is_over(&attached)) {
        uint32_t lane = (uint32_t)knit_random_below(random, attached.geometry.lanes);
        const void *from[] = {
            &attached.in.bell[lane], attached.out.rung, &attached.lanes.park[lane].value};
        long n = syscall(SYS_futex, from[knit_random_below(random, 3)], FUTEX_REQUEUE, 0, 1000,
            &attached.in.abort[0], 0);

        if (n > 0)
            moved += (uint64_t)n;
        if (knit_random_chance(random, 16))
            call_and_ring(&attached);
    }
    printf("%llu sleepers moved\n", (unsigned long long)moved);
    knit_attached_close(&attached);
    return true;
}
