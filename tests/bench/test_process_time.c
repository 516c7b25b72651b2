/* SPDX-License-Identifier: Apache-2.0 */
/* Processor time of this process and of another: it passes for a process that works, and only for
 * that. */
#include "bench/process_time.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/deadline.h"

enum { BOUND_MS = 20000 };

static const uint64_t WORK_NS = 20 * 1000 * 1000;

static uint64_t work_until(uint64_t ns)
{
    uint64_t now, until_ns = knit_deadline_in_ms(BOUND_MS);
    do
        now = knit_process_time_ns(0);
    while (now < ns && knit_deadline_left_ms(until_ns) > 0);
    return now;
}

static pid_t child_that(bool works)
{
    pid_t pid = fork();
    if (pid == 0) {
        while (works)
            ;
        (void)pause();
        _exit(0);
    }
    assert_true(pid > 0);
    return pid;
}

static void end(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void work_of_this_process_takes_its_time(void **state)
{
    uint64_t before = knit_process_time_ns(0);
    (void)state;
    assert_true(before > 0);
    assert_true(work_until(before + WORK_NS) >= before + WORK_NS);
}

static void the_time_of_another_process_is_read(void **state)
{
    pid_t pid = child_that(true);
    bool grew;
    uint64_t own, both;
    (void)state;
    grew = KNIT_WAIT_UNTIL(knit_process_time_ns(pid) > WORK_NS, BOUND_MS);
    own = knit_process_time_ns(0);
    both = knit_process_times_ns(&pid, 1);
    end(pid);
    assert_true(grew);
    assert_true(both > own + WORK_NS);
}

static void a_sleeping_process_uses_none(void **state)
{
    pid_t pid = child_that(false);
    uint64_t before, slept;
    (void)state;
    before = knit_process_time_ns(0);
    (void)work_until(before + WORK_NS);
    slept = knit_process_time_ns(pid);
    end(pid);
    assert_true(slept < WORK_NS);
}

static void a_process_that_has_ended_counts_as_zero(void **state)
{
    pid_t pid = child_that(false);
    (void)state;
    end(pid);
    assert_int_equal(knit_process_time_ns(pid), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(work_of_this_process_takes_its_time),
        cmocka_unit_test(the_time_of_another_process_is_read),
        cmocka_unit_test(a_sleeping_process_uses_none),
        cmocka_unit_test(a_process_that_has_ended_counts_as_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
