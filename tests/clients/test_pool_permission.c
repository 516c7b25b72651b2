/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a program's pool is refused where the kernel cannot hold workers to what they may touch,
 * and starts there if nothing was asked of it. Method: a child in which a filter answers as a
 * kernel without Landlock would.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <knitting/pool.h>

#include "tests/support/scratch.h"

enum { LEDGER_BYTES = 4096 * 8, CREATE_RULESET = 444 };

static const char *const modules[] = {TEST_MODULES "/module_tasks.so", NULL};
static char *folder, *ledger_path;
static struct knit_error error;

static int set_up(void **state)
{
    FILE *file;

    (void)state;
    folder = knit_scratch_new();
    ledger_path = knit_scratch_path(folder, "ledger");
    file = fopen(ledger_path, "w");
    return file != NULL && fclose(file) == 0 && truncate(ledger_path, LEDGER_BYTES) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    free(ledger_path);
    (void)knit_scratch_free(folder);
    return 0;
}

static void lose_landlock(void)
{
    struct sock_filter lines[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CREATE_RULESET, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {sizeof(lines) / sizeof(lines[0]), lines};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0)
        _exit(99);
}

/* The code, and what the child has said in a file; a pool that opens adds 2 and 3. */
static int open_without_landlock(const char *permission, char ret_said[1024])
{
    const char *const paths[] = {ledger_path, NULL};
    const struct knit_pool_options options = {.kind = KNIT_POOL_PROCESSES,
        .modules = modules,
        .worker_program = TEST_WORKER,
        .bootstrap = ledger_path,
        .permission = permission,
        .write_paths = permission != NULL && strcmp(permission, "custom") == 0 ? paths : NULL};
    int ends[2], status;
    ssize_t len;
    pid_t child;

    assert_int_equal(pipe(ends), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct knit_pool *pool = NULL;
        struct knit *k = NULL;
        int64_t sum = 0;
        int code;

        lose_landlock();
        code = knit_pool_open(&options, &pool, &error);
        if (code == KNIT_OK)
            code = knit_pool_session(pool, NULL, &k, &error);
        if (code == KNIT_OK)
            code = knit_call(k, &error, "add", "(int, int) -> int", (int64_t)2, (int64_t)3, &sum);
        (void)knit_close(k);
        (void)knit_pool_close(pool);
        (void)!write(ends[1], error.message, strlen(error.message) + 1);
        _exit(code == KNIT_OK ? (sum == 5 ? 0 : 98) : code == KNIT_NO_WORKER ? 1 : 97);
    }
    (void)close(ends[1]);
    len = read(ends[0], ret_said, 1023);
    ret_said[len > 0 ? len : 0] = '\0';
    (void)close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void what_the_kernel_cannot_enforce_refuses_the_pool(void **state)
{
    static const char *const permissions[] = {"strict", "custom"};
    char said[1024], expected[64];

    (void)state;
    for (int i = 0; i < 2; i++) {
        (void)snprintf(
            expected, sizeof(expected), "permission %s cannot be enforced", permissions[i]);
        assert_int_equal(open_without_landlock(permissions[i], said), 1);
        if (strstr(said, expected) == NULL || strstr(said, "no Landlock") == NULL)
            fail_msg("%s", said);
    }
}

static void a_pool_that_asks_for_nothing_opens_on_any_kernel(void **state)
{
    char said[1024];

    (void)state;
    assert_int_equal(open_without_landlock(NULL, said), 0);
    assert_int_equal(open_without_landlock("unsafe", said), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_the_kernel_cannot_enforce_refuses_the_pool),
        TEST(a_pool_that_asks_for_nothing_opens_on_any_kernel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
