/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a forked child can neither use the parent's session nor keep it alive. Method: children
 * that call every function on the session, or hold its descriptors, while a server in a thread of
 * the parent sees what becomes of it.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <knitting/knitting.h>

#include "clients/lib/client.h"
#include "clients/lib/connect.h"
#include "tests/clients/fake_server.h"

static struct knit *k;
static struct knit_error error;

static int start(void **state)
{
    (void)knit_fake_start(state);
    k = knit_fake_open(NULL);
    return 0;
}

static int stop(void **state)
{
    k = knit_close(k);
    return knit_fake_stop(state);
}

static int status_of(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void a_forked_child_is_refused_and_harms_no_session(void **state)
{
    struct knit_handle *handle;
    int64_t number = 0;
    pid_t pid;

    (void)state;
    assert_int_equal(
        knit_start(k, NULL, &handle, &error, "echo", "(int) -> int", (int64_t)5), KNIT_OK);
    assert_true(knit_fd(k) >= 0);
    pid = fork();
    if (pid == 0) {
        bool is_refused = knit_call(k, &error, "echo", "()") == KNIT_DISCONNECTED &&
                          strstr(error.message, "fork") != NULL &&
                          knit_await(handle, -1, &error) == KNIT_DISCONNECTED &&
                          knit_flush(k, NULL) == KNIT_DISCONNECTED &&
                          knit_dispatch(k, NULL) == KNIT_DISCONNECTED &&
                          knit_ping(k, NULL, NULL) == KNIT_DISCONNECTED && knit_fd(k) == -1;

        knit_cancel(handle);
        knit_free(handle);
        knit_close(k);
        _exit(is_refused ? 0 : 1);
    }
    assert_int_equal(status_of(pid), 0);
    assert_int_equal(knit_await(handle, -1, &error), KNIT_OK);
    assert_int_equal(knit_results(handle, &error, &number), KNIT_OK);
    assert_int_equal(number, 5);
}

/* Outcomes through lanes may lie in memory that the child does not have; the child is refused over
 * a stream in the same way. */
static void a_child_does_not_get_outcomes_that_were_collected(void **state)
{
    struct knit_handle *handle;
    const void *result;
    int64_t number = 0;
    size_t len;
    pid_t pid;

    (void)state;
    assert_int_equal(
        knit_start(k, NULL, &handle, &error, "echo", "(int) -> int", (int64_t)5), KNIT_OK);
    assert_int_equal(knit_await(handle, -1, &error), KNIT_OK);
    pid = fork();
    if (pid == 0) {
        _exit(knit_await(handle, 0, &error) == KNIT_DISCONNECTED &&
                      knit_results(handle, &error, &number) == KNIT_DISCONNECTED &&
                      knit_result_raw(handle, &error, &result, &len) == KNIT_DISCONNECTED
                  ? 0
                  : 1);
    }
    assert_int_equal(status_of(pid), 0);
    assert_int_equal(knit_results(handle, &error, &number), KNIT_OK);
    assert_int_equal(number, 5);
}

/* The server takes one connection after the other: another session means that the first is over. */
static void a_child_does_not_keep_a_closed_session_alive(void **state)
{
    int release[2];
    char byte;
    pid_t pid;

    (void)state;
    assert_int_equal(pipe(release), 0);
    pid = fork();
    if (pid == 0) {
        close(release[1]);
        _exit(read(release[0], &byte, 1) == 0 ? 0 : 1);
    }
    knit_close(k);
    k = knit_fake_open(NULL);
    close(release[1]);
    assert_int_equal(status_of(pid), 0);
    close(release[0]);
}

/* The parent ends without a word, and its child lives on. */
static void a_child_does_not_keep_the_session_of_a_dead_parent(void **state)
{
    const struct knit_open_options options = {.connect_ms = 10000};
    int release[2];
    pid_t parent;
    char byte;

    (void)state;
    k = knit_close(k);
    assert_int_equal(pipe(release), 0);
    parent = fork();
    if (parent == 0) {
        struct knit *own;

        close(release[1]);
        if (knit_open(fake.url, &options, &own, NULL) != KNIT_OK)
            _exit(1);
        if (fork() == 0)
            _exit(read(release[0], &byte, 1) == 0 ? 0 : 1);
        _exit(0);
    }
    assert_int_equal(status_of(parent), 0);
    k = knit_fake_open(&options);
    assert_int_equal(write(release[1], "x", 1), 1); /* the child has lived until now */
    close(release[1]);
    close(release[0]);
}

/* Of epoll, and of eventfds. Files and sockets do not count: at the fork the resolver's thread may
 * have some open, which are the resolver's and stay. */
static int count_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    char target[64];
    int count = 0;

    if (folder == NULL)
        return -1;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        ssize_t len = readlinkat(dirfd(folder), entry->d_name, target, sizeof(target) - 1);

        target[len < 0 ? 0 : len] = '\0';
        count += strncmp(target, "anon_inode:", strlen("anon_inode:")) == 0;
    }
    (void)closedir(folder);
    return count;
}

/* A name is being looked up, by a thread that the child does not have. */
static void a_child_has_nothing_of_a_connection_that_is_being_opened(void **state)
{
    const int before = count_descriptors();
    struct knit_url url;
    const char *reason;
    pid_t pid;

    (void)state;
    assert_int_equal(knit_url_parse("knit://localhost:1", &url, &reason), 0);
    assert_int_equal(
        knit_connect_begin(&url, UINT64_MAX, NULL, &k->link.connecting, &error), KNIT_OK);
    assert_true(count_descriptors() > before);
    pid = fork();
    if (pid == 0) {
        k = knit_close(k);
        _exit(count_descriptors() <= before ? 0 : 1);
    }
    assert_int_equal(status_of(pid), 0);
}

#define WITH_FAKE(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FAKE(a_forked_child_is_refused_and_harms_no_session),
        WITH_FAKE(a_child_does_not_get_outcomes_that_were_collected),
        WITH_FAKE(a_child_does_not_keep_a_closed_session_alive),
        WITH_FAKE(a_child_does_not_keep_the_session_of_a_dead_parent),
        WITH_FAKE(a_child_has_nothing_of_a_connection_that_is_being_opened),
    };

    return cmocka_run_group_tests_name("fork", tests, NULL, NULL);
}
