/* SPDX-License-Identifier: Apache-2.0 */
/* A session between its grant and knit_host_attached(): neither host nor workers map its request
 * segment, and it delays nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fastpath/lane/bell.h"
#include "tests/fastpath/guests.h"
#include "tests/fastpath/pools.h"
#include "tests/support/deadline.h"

static bool is_mapped_by(pid_t pid, uint64_t session)
{
    char path[64], name[64], line[512];
    bool found = false;
    FILE *maps;

    (void)snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
    (void)snprintf(name, sizeof(name), "memfd:knit-request-%llu ", (unsigned long long)session);
    maps = fopen(path, "re");
    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps) != NULL)
        found = found || strstr(line, name) != NULL;
    fclose(maps);
    return found;
}

static pid_t worker_pid(struct pools *pools)
{
    struct knit_host_lane_stats stats;

    knit_host_lane_stats(pools->pool, 0, &stats);
    return stats.state == KNIT_HOST_LANE_SERVING ? stats.pid : 0;
}

static void kill_worker(struct pools *pools)
{
    pid_t pid = worker_pid(pools);

    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_true(KNIT_WAIT_UNTIL(
        pools_turn(pools) && worker_pid(pools) != 0 && worker_pid(pools) != pid, 20000));
}

static void publish_count(
    struct pools *pools, struct guest *guest, unsigned char number, uint32_t *ret_slot)
{
    const unsigned char params[2] = {0x91, number};
    const struct knit_registry *registry = knit_host_registry(pools->pool);
    const struct knit_session_call call = {.task = knit_registry_find(registry, "count", 5)->id,
        .epoch = knit_registry_epoch(registry),
        .lane = KNIT_LANE_ANY,
        .payload = params,
        .len = sizeof(params)};

    assert_int_equal(knit_session_publish(guest->session, &call, ret_slot), 0);
    knit_session_flush(guest->session);
}

static bool is_answered(struct pools *pools, struct guest *guest, uint32_t slot)
{
    struct knit_session_outcome outcome;

    (void)pools_turn(pools);
    return knit_session_collect_slot(guest->session, slot, &outcome) &&
           outcome.status == KNIT_STATUS_RESULT;
}

/* Before the report its caller can punch holes: no worker has the segment mapped, not even one that
 * starts meanwhile. Calls from before the report are served after it, by later workers too. */
static void a_session_is_mapped_when_its_caller_reports_it_attached(void **state)
{
    const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    struct pools pools;
    struct guest guest = {.session = NULL};
    uint32_t slots[2];

    (void)state;
    pools_init(&pools, 1);
    pools_make_ledger(&pools);
    assert_int_equal(pools_open(&pools), 0);
    guests_map(&pools, 7, &guest);
    assert_int_equal(fallocate(guest.grant.request_fd, punch, 0, KNIT_PAGE), 0);
    publish_count(&pools, &guest, 1, &slots[0]);
    kill_worker(&pools);
    pools_add(&pools);
    assert_false(is_mapped_by(worker_pid(&pools), guest.grant.id));
    assert_int_equal(atomic_load_explicit(&pools.ledger[1], memory_order_seq_cst), 0);
    assert_int_equal(knit_segment_seal(guest.grant.request_fd), 0);
    assert_int_equal(fallocate(guest.grant.request_fd, punch, 0, KNIT_PAGE), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(knit_host_attached(pools.pool, guest.grant.id), 0);
    assert_int_equal(knit_host_attached(pools.pool, guest.grant.id), 0);
    assert_int_equal(knit_host_attached(pools.pool, 999), 0);
    assert_true(KNIT_WAIT_UNTIL(is_answered(&pools, &guest, slots[0]), 10000));
    kill_worker(&pools);
    publish_count(&pools, &guest, 2, &slots[1]);
    assert_true(KNIT_WAIT_UNTIL(is_answered(&pools, &guest, slots[1]), 10000));
    assert_true(is_mapped_by(worker_pid(&pools), guest.grant.id));
    guests_close(&pools, &guest);
    pools_fini(&pools);
}

/* A later seal does not bring the session back. The host is notified at once. */
static void a_session_that_is_not_sealed_is_evicted(void **state)
{
    struct pools pools;
    struct guest guest = {.session = NULL};
    struct pollfd host = {.events = POLLIN};

    (void)state;
    pools_init(&pools, 1);
    assert_int_equal(pools_open(&pools), 0);
    guests_map(&pools, 7, &guest);
    host.fd = knit_host_fd(pools.pool);
    while (poll(&host, 1, 0) == 1)
        (void)pools_turn(&pools);
    assert_int_equal(knit_host_attached(pools.pool, guest.grant.id), KNIT_HOST_E_UNSEALED);
    assert_int_equal(poll(&host, 1, knit_deadline_left_ms(knit_deadline_in_ms(5000))), 1);
    (void)pools_turn(&pools);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_SESSION_EVICTED), 1);
    assert_non_null(strstr(pools.text, "lacks the seals"));
    assert_true(knit_session_is_closed(guest.session));
    assert_int_equal(knit_segment_seal(guest.grant.request_fd), 0);
    assert_int_equal(knit_host_attached(pools.pool, guest.grant.id), 0);
    (void)pools_turn(&pools);
    assert_false(is_mapped_by(worker_pid(&pools), guest.grant.id));
    while (poll(&host, 1, 0) == 1)
        (void)pools_turn(&pools);
    guests_close(&pools, &guest);
    pools_fini(&pools);
}

static void a_session_that_is_not_attached_does_not_delay_a_shutdown(void **state)
{
    struct pools pools;
    struct guest guest = {.session = NULL};
    uint32_t slot;

    (void)state;
    pools_init(&pools, 1);
    assert_int_equal(pools_open(&pools), 0);
    guests_map(&pools, 7, &guest);
    publish_count(&pools, &guest, 1, &slot);
    knit_host_shutdown(pools.pool, true, knit_clock_ns() + 60000000000u);
    assert_true(KNIT_WAIT_UNTIL(pools_turn(&pools) && knit_host_is_stopped(pools.pool), 10000));
    assert_true(knit_session_is_closed(guest.session));
    guests_close(&pools, &guest);
    pools_fini(&pools);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_is_mapped_when_its_caller_reports_it_attached),
        cmocka_unit_test(a_session_that_is_not_sealed_is_evicted),
        cmocka_unit_test(a_session_that_is_not_attached_does_not_delay_a_shutdown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
