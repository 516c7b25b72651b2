/* SPDX-License-Identifier: Apache-2.0 */
/* What a control group and an affinity leave of the machine, from files as the kernel writes
 * them. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "server/config/machine.h"
#include "tests/support/scratch.h"

static int set_up(void **state)
{
    static const char *const folders[] = {"proc", "proc/self", "sys", "sys/fs", "sys/fs/cgroup",
        "sys/fs/cgroup/outer", "sys/fs/cgroup/outer/inner", "sys/fs/cgroup/cpu",
        "sys/fs/cgroup/cpu/outer", "sys/fs/cgroup/memory", "sys/fs/cgroup/memory/outer"};
    char *root = knit_scratch_new();

    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        char *path = knit_scratch_path(root, folders[i]);

        assert_int_equal(mkdir(path, 0700), 0);
        free(path);
    }
    *state = root;
    return 0;
}

static int tear_down(void **state)
{
    knit_scratch_free(*state);
    return 0;
}

static void put(const char *root, const char *name, const char *text)
{
    free(knit_scratch_file(root, name, text, strlen(text)));
}

static void run_on_one_processor(cpu_set_t *ret_before)
{
    cpu_set_t one;
    int processor = 0;

    assert_int_equal(sched_getaffinity(0, sizeof(*ret_before), ret_before), 0);
    while (!CPU_ISSET(processor, ret_before))
        processor++;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
}

static void an_affinity_counts_where_no_group_limits(void **state)
{
    const char *root = *state;
    cpu_set_t before;

    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    assert_int_equal(knit_machine_processors(root), CPU_COUNT(&before));
    run_on_one_processor(&before);
    assert_int_equal(knit_machine_processors(root), 1);
    assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
    assert_true(knit_machine_memory_max(root) == UINT64_MAX);
}

static void the_tightest_group_counts(void **state)
{
    const char *root = *state;

    put(root, "proc/self/cgroup", "1:name=systemd:/x\n0::/outer/inner\n");
    put(root, "sys/fs/cgroup/outer/inner/cpu.max", "max 100000\n");
    put(root, "sys/fs/cgroup/outer/cpu.max", "50000 100000\n");
    put(root, "sys/fs/cgroup/outer/inner/memory.max", "629145600\n");
    put(root, "sys/fs/cgroup/outer/memory.max", "max\n");
    assert_int_equal(knit_machine_processors(root), 1);
    assert_int_equal(knit_machine_memory_max(root), 629145600);
    put(root, "sys/fs/cgroup/outer/memory.max", "1048576\n");
    assert_int_equal(knit_machine_memory_max(root), 1048576);
}

static void groups_of_version_1_count_too(void **state)
{
    const char *root = *state;

    put(root, "proc/self/cgroup", "5:memory:/outer\n4:cpu,cpuacct:/outer\n0::/\n");
    put(root, "sys/fs/cgroup/cpu/outer/cpu.cfs_quota_us", "-1\n");
    put(root, "sys/fs/cgroup/cpu/outer/cpu.cfs_period_us", "100000\n");
    put(root, "sys/fs/cgroup/memory/outer/memory.limit_in_bytes", "9223372036854771712\n");
    assert_true(knit_machine_memory_max(root) == UINT64_MAX);
    put(root, "sys/fs/cgroup/memory/outer/memory.limit_in_bytes", "629145600\n");
    assert_int_equal(knit_machine_memory_max(root), 629145600);
    put(root, "sys/fs/cgroup/cpu/outer/cpu.cfs_quota_us", "40000\n");
    assert_int_equal(knit_machine_processors(root), 1);
}

static void a_container_is_limited_at_its_root(void **state)
{
    const char *root = *state;

    put(root, "proc/self/cgroup", "0::/\n");
    put(root, "sys/fs/cgroup/cpu.max", "100000 100000\n");
    put(root, "sys/fs/cgroup/memory.max", "1000\n");
    assert_int_equal(knit_machine_processors(root), 1);
    assert_int_equal(knit_machine_memory_max(root), 1000);
}

static void files_that_make_no_sense_limit_nothing(void **state)
{
    const char *root = *state;
    cpu_set_t before;

    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    put(root, "proc/self/cgroup", "0::/outer\n");
    put(root, "sys/fs/cgroup/outer/cpu.max", "0 0\n");
    put(root, "sys/fs/cgroup/outer/memory.max", "");
    assert_int_equal(knit_machine_processors(root), CPU_COUNT(&before));
    assert_true(knit_machine_memory_max(root) == UINT64_MAX);
    put(root, "proc/self/cgroup", "nonsense");
    assert_int_equal(knit_machine_processors(root), CPU_COUNT(&before));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_affinity_counts_where_no_group_limits),
        TEST(the_tightest_group_counts),
        TEST(groups_of_version_1_count_too),
        TEST(a_container_is_limited_at_its_root),
        TEST(files_that_make_no_sense_limit_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
