/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the tests' own tools: a helper that silently does nothing would make every test that
 * uses it pass. */
#include "tests/support/deadline.h"
#include "tests/support/process.h"
#include "tests/support/random.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int make_dir(void **state)
{
    *state = knit_scratch_new();
    return 0;
}

static int remove_dir(void **state)
{
    *state = knit_scratch_free(*state);
    return 0;
}

static void a_folder_is_removed_with_all_its_files(void **state)
{
    char *dir = knit_scratch_new(), *copy = strdup(dir);
    char *file = knit_scratch_file(dir, "file", "a\0b", 3), *link = knit_scratch_path(dir, "link");
    char *bytes;
    size_t len = 0;

    assert_int_equal(symlink(*state, link), 0);
    bytes = knit_scratch_read(file, &len);
    assert_int_equal(len, 3);
    assert_memory_equal(bytes, "a\0b", 3);
    assert_null(knit_scratch_free(dir));
    assert_int_equal(access(copy, F_OK), -1);
    assert_int_equal(access(*state, F_OK), 0);
    free(bytes);
    free(link);
    free(file);
    free(copy);
}

static void waiting_ends_when_the_condition_holds_and_at_the_deadline(void **state)
{
    int looks = 0;
    uint64_t before_ns = knit_deadline_now_ns();

    (void)state;
    assert_true(KNIT_WAIT_UNTIL(++looks == 3, 10000));
    assert_int_equal(looks, 3);
    assert_false(KNIT_WAIT_UNTIL(false, 20));
    assert_true(knit_deadline_now_ns() - before_ns >= 20u * 1000 * 1000);
    assert_int_equal(knit_deadline_left_ms(before_ns), 0);
    assert_true(knit_deadline_left_ms(knit_deadline_in_ms(10000)) > 0);
}

static void the_same_seed_gives_the_same_numbers(void **state)
{
    struct knit_random one, two;
    unsigned char bytes[13] = {0};
    unsigned seen[7] = {0};

    (void)state;
    knit_random_init(&one);
    knit_random_init_seeded(&two, one.seed);
    for (int i = 0; i < 1000; i++) {
        uint64_t number = knit_random_below(&one, 7);

        assert_int_equal(number, knit_random_below(&two, 7));
        seen[number]++;
    }
    for (int i = 0; i < 7; i++)
        assert_true(seen[i] > 0);
    knit_random_bytes(&one, bytes, sizeof(bytes) - 1);
    assert_int_equal(bytes[sizeof(bytes) - 1], 0);

    /* The numbers are part of what a printed seed promises. */
    knit_random_init_seeded(&two, 0);
    assert_true(knit_random_u64(&two) == 0xe220a8397b1dcdafu);
}

static void status_and_output_of_a_program_are_returned(void **state)
{
    char *output = NULL;

    assert_int_equal(knit_process_run(*state,
                         (const char *[]){"sh", "-c", "echo to one; echo to two >&2; exit 7", NULL},
                         10000, &output),
        7);
    assert_string_equal(output, "to one\nto two\n");
    free(output);
    assert_int_equal(
        knit_process_run(*state, (const char *[]){"/nonexistent/program", NULL}, 10000, &output),
        127);
    assert_non_null(strstr(output, "cannot start /nonexistent/program"));
    free(output);
    assert_int_equal(
        knit_process_run(*state, (const char *[]){"sh", "-c", "kill -9 $$", NULL}, 10000, NULL),
        KNIT_PROCESS_SIGNALLED + SIGKILL);
}

static void a_program_that_does_not_end_is_killed(void **state)
{
    struct knit_process process;
    pid_t pid;

    knit_process_start(&process, *state,
        (const char *[]){
            "sh", "-c", "trap '' TERM; echo ready; while :; do read x; done < /dev/zero", NULL});
    assert_true(knit_process_wait_for_text(&process, "ready", 10000));
    pid = process.pid;
    assert_int_equal(knit_process_wait(&process, 1), KNIT_PROCESS_STILL_RUNNING);
    assert_int_equal(knit_process_stop(&process, SIGTERM, 50), KNIT_PROCESS_STILL_RUNNING);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(knit_process_stop(&process, SIGTERM, 50), 0);
}

static void waiting_for_text_ends_with_the_program(void **state)
{
    struct knit_process process;

    knit_process_start(&process, *state, (const char *[]){"true", NULL});
    assert_false(knit_process_wait_for_text(&process, "never said", 60000));
    assert_int_equal(knit_process_stop(&process, SIGTERM, 10000), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_is_removed_with_all_its_files),
        cmocka_unit_test(waiting_ends_when_the_condition_holds_and_at_the_deadline),
        cmocka_unit_test(the_same_seed_gives_the_same_numbers),
        cmocka_unit_test(status_and_output_of_a_program_are_returned),
        cmocka_unit_test(a_program_that_does_not_end_is_killed),
        cmocka_unit_test(waiting_for_text_ends_with_the_program),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
