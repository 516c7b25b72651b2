/* SPDX-License-Identifier: Apache-2.0 */
/* Sleeping and waking. Workers wake a caller by a word that the caller writes and by a socket of
 * which the caller holds one end. So the attacks are arms that jump, a socket that is never
 * read, or is filled, or shut, and notifications without calls.
 */
#include "tests/system/hostile/attack.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fastpath/lane/bell.h"
#include "tests/support/deadline.h"

enum { SLOTS = 64, ARENA = 1 << 20, PATIENCE_MS = 10000 };

static const unsigned char params[] = {0x91, 0xa4, 'w', 'o', 'o', 'l'};

static void call_and_notify(struct knit_attached *attached)
{
    if (knit_attached_call(attached, params, sizeof(params), 0))
        knit_attached_notify(attached);
}

/* Announces that it sleeps, with arms of all kinds, and never sleeps. */
bool knit_attack_false_arms(const struct knit_target *target, struct knit_random *random)
{
    struct knit_attached attached;
    uint64_t count = 0, until_ns = knit_deadline_now_ns() + 1000000000u;
    bool is_over, is_answered;
    uint32_t notified;

    knit_attached_open(&attached, target, SLOTS, ARENA);
    while (knit_deadline_now_ns() < until_ns && !knit_attached_is_over(&attached)) {
        static const uint32_t arms[] = {0, 1, 2, 3, UINT32_MAX, UINT32_MAX - 1, 1u << 31};
        uint32_t arm = knit_random_chance(random, 2)
                           ? arms[knit_random_below(random, sizeof(arms) / sizeof(arms[0]))]
                           : (uint32_t)knit_random_u64(random);

        atomic_store_explicit(attached.in.waiting, arm, memory_order_release);
        call_and_notify(&attached);
        count++;
    }
    is_over = knit_attached_is_over(&attached);
    is_answered = knit_attached_is_answered(&attached, PATIENCE_MS);
    /* If no worker raised `notified`, none has read a false arm and the attack was none. */
    notified = atomic_load_explicit(attached.out.notified, memory_order_acquire);
    printf("%llu false arms, the last one raised to is %u%s%s\n", (unsigned long long)count,
        notified, is_over ? ", the session was ended" : "",
        is_answered ? "" : ", not all calls were answered");
    knit_attached_close(&attached);
    return !is_over && is_answered && notified != 0;
}

/* Calls, for each of which the caller announces that it sleeps on its bell. False: they were not
 * answered. */
static bool call_asleep(struct knit_attached *attached, uint32_t *arm, uint32_t calls)
{
    for (uint32_t i = 0; i < calls; i++) {
        atomic_store_explicit(attached->in.waiting, ++*arm * 2, memory_order_release);
        call_and_notify(attached);
        if (!knit_attached_is_answered(attached, PATIENCE_MS))
            return false;
    }
    return true;
}

/* Bytes in the bell. */
static int in_bell(const struct knit_attached *attached)
{
    int bytes = 0;

    return ioctl(attached->fd[BELL_FD], FIONREAD, &bytes) == 0 ? bytes : 0;
}

/* Calls until many of them in a row have added no byte. */
static bool fill_bell(struct knit_attached *attached, uint32_t *arm)
{
    uint64_t until_ns = knit_deadline_in_ms(PATIENCE_MS);
    int before = 0, now = 0;

    do {
        before = now;
        if (!call_asleep(attached, arm, SLOTS))
            return false;
        now = in_bell(attached);
    } while (now != before && knit_deadline_now_ns() < until_ns);
    return now > 0 && now == before;
}

/* Asks for a byte at each call and reads none, until the socket is full; then shuts it. The other
 * direction takes nothing: what lay there would have to be closed by the host. */
bool knit_attack_full_bell(const struct knit_target *target, struct knit_random *random)
{
    static char bytes[65536];
    struct knit_attached attached;
    uint32_t arm = 0;
    ssize_t sent;
    bool fine;

    (void)random;
    knit_attached_open(&attached, target, SLOTS, ARENA);
    fine = fill_bell(&attached, &arm);
    printf("%u calls that asked for a byte, %d bytes in the bell\n", arm, in_bell(&attached));
    sent = send(attached.fd[BELL_FD], bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
    fine = fine && sent < 0 && errno == EPIPE && call_asleep(&attached, &arm, 10 * SLOTS);
    shutdown(attached.fd[BELL_FD], SHUT_RDWR);
    fine = fine && call_asleep(&attached, &arm, 10 * SLOTS) && !knit_attached_is_over(&attached);
    printf("%u calls in all, nothing sent back%s\n", arm,
        fine ? "" : "; not all were answered, or the bell was never full");
    knit_attached_close(&attached);
    return fine;
}

/* How often that worker went to sleep: its park word changes when it does, and when it wakes. */
static uint32_t sleeps_of(const struct knit_attached *attached, uint32_t lane)
{
    return (atomic_load_explicit(&attached->lanes.park[lane].value, memory_order_relaxed) >> 2) / 2;
}

/* Notifies all the time and calls nothing. A worker that it wakes a thousand times in a second
 * evicts the session. On a machine that is too busy for that many wake-ups it need not. */
bool knit_attack_notifying(const struct knit_target *target, struct knit_random *random)
{
    enum { SECONDS = 3, SLEEPS_A_SECOND = 1000 };
    struct knit_attached attached;
    uint64_t notifications = 0, until_ns = knit_deadline_in_ms(SECONDS * 1000);
    uint32_t before[KNIT_LANES_MAX], most = 0;
    bool is_over;

    (void)random;
    knit_attached_open(&attached, target, SLOTS, ARENA);
    for (uint32_t lane = 0; lane < attached.geometry.lanes; lane++)
        before[lane] = sleeps_of(&attached, lane);
    while (knit_deadline_now_ns() < until_ns && !knit_attached_is_over(&attached)) {
        knit_attached_notify(&attached);
        notifications++;
    }
    is_over = knit_attached_is_over(&attached);
    for (uint32_t lane = 0; lane < attached.geometry.lanes; lane++) {
        uint32_t sleeps = sleeps_of(&attached, lane) - before[lane];

        most = sleeps > most ? sleeps : most;
    }
    printf("%llu notifications, a worker slept %u times%s\n", (unsigned long long)notifications,
        most, is_over ? ", then the session was ended" : ", and the session is still served");
    knit_attached_close(&attached);
    return is_over || most <= (SECONDS + 1) * SLEEPS_A_SECOND;
}

/* Moves sleepers from the futexes that it can reach to another one. */
bool knit_attack_requeue(const struct knit_target *target, struct knit_random *random)
{
    struct knit_attached attached;
    uint64_t moved = 0, until_ns = knit_deadline_now_ns() + 1000000000u;
    bool is_over, is_answered;

    knit_attached_open(&attached, target, SLOTS, ARENA);
    while (knit_deadline_now_ns() < until_ns && !knit_attached_is_over(&attached)) {
        uint32_t lane = (uint32_t)knit_random_below(random, attached.geometry.lanes);
        const void *from[] = {
            &attached.in.bell[lane], attached.out.notified, &attached.lanes.park[lane].value};
        long n = syscall(SYS_futex, from[knit_random_below(random, 3)], FUTEX_REQUEUE, 0, 1000,
            &attached.in.abort[0], 0);

        if (n > 0)
            moved += (uint64_t)n;
        if (knit_random_chance(random, 16))
            call_and_notify(&attached);
    }
    is_over = knit_attached_is_over(&attached);
    is_answered = knit_attached_is_answered(&attached, PATIENCE_MS);
    printf("%llu sleepers moved%s%s\n", (unsigned long long)moved,
        is_over ? ", the session was ended" : "",
        is_answered ? "" : ", not all calls were answered");
    knit_attached_close(&attached);
    return moved > 0 && !is_over && is_answered;
}
