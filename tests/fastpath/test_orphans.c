/* SPDX-License-Identifier: Apache-2.0 */
/* What dead workers have left behind is looked for again by the clock, until a look finds nothing,
 * and not for ever. Method: to the host any child that is no worker is such a thing, so the test,
 * which is the host, forks them: each has a child of its own, which is handed over when it is
 * killed. Times are the test's where they decide.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/host/host.h"
#include "fastpath/host/orphans.h"
#include "fastpath/host/tick.h"
#include "fastpath/lane/bell.h"
#include "tests/fastpath/pools.h"
#include "tests/support/deadline.h"

enum { DEPTH = 3 };

#define MS UINT64_C(1000000)

/* In a child: forks the next ones, each the child of the one before, tells its number, waits. */
static _Noreturn void be_one_of(int fd, int depth)
{
    pid_t self;

    while (depth > 1 && fork() == 0)
        depth--;
    self = getpid();
    (void)setsid();
    if (write(fd, &self, sizeof(self)) != sizeof(self))
        _exit(1);
    for (;;)
        (void)pause();
}

/* A process with a child, and so on: so many in all. */
static void leave_behind(pid_t *ret_pids, int depth)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    if (fork() == 0)
        be_one_of(fds[1], depth);
    for (int i = 0; i < depth; i++)
        assert_int_equal(read(fds[0], &ret_pids[i], sizeof(pid_t)), sizeof(pid_t));
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static int count_left(const pid_t *pids, int depth)
{
    int left = 0;

    for (int i = 0; i < depth; i++)
        left += kill(pids[i], 0) == 0;
    return left;
}

static void open_pool(struct pools *pools)
{
    pools_init(pools, 1);
    pools->options.kill_orphans = true;
    assert_int_equal(pools_open(pools), 0);
}

static void what_is_handed_over_after_a_look_is_found_at_a_later_one(void **state)
{
    struct pools pools;
    struct knit_host_lane_stats stats;
    pid_t pids[DEPTH];

    (void)state;
    open_pool(&pools);
    leave_behind(pids, DEPTH);
    (void)pools_turn(&pools);
    assert_int_equal(count_left(pids, DEPTH), DEPTH);
    knit_host_lane_stats(pools.pool, 0, &stats);
    assert_int_equal(kill(stats.pid, SIGKILL), 0);
    assert_true(KNIT_WAIT_UNTIL(pools_turn(&pools) && count_left(pids, DEPTH) == 0, 10000));
    assert_true(KNIT_WAIT_UNTIL(pools_turn(&pools) && !pools.pool->has_orphans, 10000));
    pools_fini(&pools);
}

/* As death.c does when a worker has ended. */
static void begin_looking(struct knit_host *pool, uint64_t now_ns)
{
    pool->has_orphans = true;
    pool->orphans_due_ns = now_ns;
    pool->orphans_until_ns = now_ns + KNIT_ORPHANS_MAX_NS;
}

static void it_is_looked_for_when_that_is_due_and_no_longer_than_a_second(void **state)
{
    struct pools pools;
    struct knit_host *pool;
    uint64_t now_ns;
    pid_t pid;

    (void)state;
    open_pool(&pools);
    pool = pools.pool;
    now_ns = knit_clock_ns();
    begin_looking(pool, now_ns);
    knit_tick(pool, now_ns);
    assert_false(pool->has_orphans);
    /* Nobody looks while no worker has ended. */
    leave_behind(&pid, 1);
    knit_tick(pool, now_ns += 20 * MS);
    assert_int_equal(kill(pid, 0), 0);
    begin_looking(pool, now_ns);
    pool->orphans_due_ns = now_ns + 10 * MS;
    knit_tick(pool, now_ns + 9 * MS);
    assert_int_equal(pool->orphans_due_ns, now_ns + 10 * MS);
    assert_true(pool->has_orphans);
    knit_tick(pool, now_ns += 10 * MS);
    assert_true(pool->has_orphans);
    assert_int_equal(pool->orphans_due_ns, now_ns + 10 * MS);
    assert_true(KNIT_WAIT_UNTIL(
        (knit_tick(pool, now_ns += 10 * MS), kill(pid, 0) != 0 && !pool->has_orphans), 10000));
    /* One that is found at the end of the time is killed, and is the last. */
    leave_behind(&pid, 1);
    begin_looking(pool, now_ns);
    knit_tick(pool, now_ns += KNIT_ORPHANS_MAX_NS);
    assert_false(pool->has_orphans);
    assert_int_equal(waitpid(pid, NULL, 0) == pid || kill(pid, 0) != 0, 1);
    pools_fini(&pools);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_handed_over_after_a_look_is_found_at_a_later_one),
        cmocka_unit_test(it_is_looked_for_when_that_is_due_and_no_longer_than_a_second),
    };

    /* As the daemon is. */
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
