/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that a test starts: daemons, workers, tools. Each has its output in a file, dies with
 * the test, and is ended by its own process id, never by its name.
 *
 *     struct knit_process daemon;
 *     knit_process_start(&daemon, dir, (const char *[]){path, "--socket", socket, NULL});
 *     assert_true(knit_process_wait_for_text(&daemon, "ready", 5000));
 *     ...
 *     assert_int_equal(knit_process_stop(&daemon, SIGTERM, 5000), 0);
 *
 * A program is started as the leader of a process group of its own, so that a test's Ctrl-C does
 * not reach it, and its signals to its group do not reach the test. What a struct holds belongs
 * to the thread that started it. PR_SET_PDEATHSIG is bound to that thread as well: a program
 * outlives it by nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct knit_process {
    pid_t pid;    /* 0 = not started, or reaped */
    char *output; /* path of the file that takes stdout and stderr */
};

/* What knit_process_wait() and knit_process_stop() return when there is no exit status below 128 to
 * give. */
enum {
    KNIT_PROCESS_SIGNALLED = 128, /* + the signal's number */
    KNIT_PROCESS_STILL_RUNNING = -1,
};

/* Starts argv[0] (looked up in PATH), output to "NAME.PID.log" in dir. Ends the test when that is
 * not possible. */
void knit_process_start(
    struct knit_process *ret_process, const char *dir, const char *const argv[]);

/* Runs argv to its end. Its exit status as knit_process_wait() has it; ret_output, if not NULL, is
 * what it wrote, to be freed with free(). */
int knit_process_run(
    const char *dir, const char *const argv[], uint32_t timeout_ms, char **ret_output);

/* Whether the text has come out of the program within the time. False at once when the program has
 * ended without. */
bool knit_process_wait_for_text(
    struct knit_process *process, const char *text, uint32_t timeout_ms);

/* The exit status (0 for a program that was reaped before), KNIT_PROCESS_SIGNALLED + signal, or
 * KNIT_PROCESS_STILL_RUNNING after timeout_ms. */
int knit_process_wait(struct knit_process *process, uint32_t timeout_ms);

/* Sends the signal, waits, kills when it did not end in time (then KNIT_PROCESS_STILL_RUNNING),
 * frees what the struct holds. On a failed status the program's output is copied to stderr, where a
 * test's log shows it. May be called twice. */
int knit_process_stop(struct knit_process *process, int signal, uint32_t timeout_ms);
