/* SPDX-License-Identifier: Apache-2.0 */
/* Lines that cannot be written: each is counted and told of, with the reason why it was lost,
 * though later ones get through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/report/access_log.h"
#include "tests/server/log_pipe.h"
#include "tests/support/deadline.h"
#include "tests/support/scratch.h"

enum { PATIENCE_MS = 60000 };

static struct log_pipe said;
static struct knit_access_log *access_log;
static char *folder, *path, *file;

static int setup(void **state)
{
    (void)state;
    folder = knit_scratch_new();
    path = knit_scratch_path(folder, "access.log");
    file = knit_scratch_path(folder, "file");
    log_pipe_open(&said);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    access_log = knit_access_log_close(access_log);
    log_pipe_close(&said);
    free(path);
    free(file);
    folder = knit_scratch_free(folder);
    return 0;
}

static void open_at(const char *where)
{
    const struct knit_access_log_options options = {.path = path, .log = &said.log, .loops = 1};
    struct knit_sentence why;

    assert_int_equal(symlink(where, path), 0);
    assert_int_equal(knit_access_log_open(&options, &access_log, &why), 0);
}

static void reopen_at(const char *where)
{
    struct knit_sentence why;

    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink(where, path), 0);
    assert_int_equal(knit_access_log_prepare(access_log, &why), 0);
    knit_access_log_commit(access_log, &said.log, &why);
}

static void put(const char *task)
{
    const struct knit_ended_call call = {
        .principal = "anonymous", .peer = "192.0.2.7:1", .task = knit_span_text(task)};

    knit_access_log_put(access_log, 0, &call);
    assert_int_equal(knit_access_log_hand_over(access_log, 0), 0);
}

static uint64_t dropped(void)
{
    return knit_counter_read(&knit_access_log_counters(access_log)->access_dropped);
}

static bool has_line(const char *task)
{
    char *text = knit_scratch_read(file, NULL);
    const bool has = text != NULL && strstr(text, task) != NULL;

    free(text);
    return has;
}

/* What was lost within the second of the first line is told of when others get through again. */
static void the_reason_is_that_of_the_lines_that_were_lost(void **state)
{
    (void)state;
    open_at("/dev/full");
    put("first");
    log_pipe_expect(&said, "lines=1 reason=\"No space left on device\"");
    put("second");
    assert_true(KNIT_WAIT_UNTIL(dropped() == 2, PATIENCE_MS));
    reopen_at(file);
    put("third");
    assert_true(KNIT_WAIT_UNTIL(has_line("task=third"), PATIENCE_MS));
    log_pipe_expect(&said, "lines=1 reason=\"No space left on device\"");
    assert_false(has_line("task=second"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            the_reason_is_that_of_the_lines_that_were_lost, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
