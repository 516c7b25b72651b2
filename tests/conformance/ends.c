/* SPDX-License-Identifier: Apache-2.0 */
/* Starts that are refused, pools that end, workers and callers that die. */
#include "tests/conformance/conformance.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char ledger[] = "(int) -> int";

static void bootstrap_comes_first(struct conformance *c)
{
    static const struct place_wish wish = {.workers = 3};
    struct knit_handle *handles[60];
    const char *text;
    unsigned seen = 0;
    size_t len;

    conformance_open_place(c, &wish);
    conformance_succeeds(c, knit_call(c->k, &c->error, "bootstrapped", "() -> str", &text, &len));
    assert_true(len > 7 && memcmp(text + len - 7, "/ledger", 7) == 0);
    for (int i = 0; i < 60; i++)
        conformance_succeeds(
            c, knit_start(c->k, NULL, &handles[i], &c->error, "where", "() -> (int, int, int)"));
    for (int i = 0; i < 60; i++) {
        int64_t lane, lanes, process;

        conformance_succeeds(c, knit_await(handles[i], conformance_patience_ms(), &c->error));
        conformance_succeeds(c, knit_results(handles[i], &c->error, &lane, &lanes, &process));
        (void)knit_free(handles[i]);
        assert_true(lane >= 0 && lane < 3 && lanes == 3);
        seen |= 1u << lane;
    }
    assert_true(seen != 0);
}

static void modules_that_are_refused(struct conformance *c)
{
    static const struct {
        const char *number, *cause;
    } bad[] = {{"1", "ABI"}, {"2", "no tasks"}, {"3", "wrong"}, {"6", "already"},
        {"7", "knit_test_no_library_has_this"}, {"8", "no database today"}};
    const char *folder = getenv("KNIT_BAD_MODULES");
    char option[512];
    struct place_wish wish = {.workers = 1, .options = {option}};
    char *said;

    assert_non_null(folder);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        (void)snprintf(option, sizeof(option), "module=%s/module_bad_%s.so", folder, bad[i].number);
        said = place_refused(c->distance, &wish);
        if (strstr(said, "module_bad_") == NULL || strstr(said, bad[i].cause) == NULL)
            fail_msg("module %s: %s", bad[i].number, said);
        free(said);
    }
    /* What is not there, and what is an address. */
    for (size_t i = 0; i < 2; i++) {
        static const char *const names[] = {"/nowhere/none.so", "https://localhost/none.so"};

        (void)snprintf(option, sizeof(option), "module=%s", names[i]);
        said = place_refused(c->distance, &wish);
        assert_non_null(strstr(said, names[i]));
        free(said);
    }
}

/* Whether the pool takes nothing new: what it took before that ends in TIMEOUT. */
static bool is_refused_now(struct conformance *c)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    int code;

    options.timeout_ms = 20;
    code = knit_call_with(c->k, &options, &c->error, "add", "(int, int)", (int64_t)1, (int64_t)1);
    return code != KNIT_OK && code != KNIT_TIMEOUT;
}

static const struct knit_open_options stays_lost = {.stays_lost = true};

static void a_drain(struct conformance *c)
{
    static const struct place_wish wish = {.options = {"drain_ms=60000"}};
    struct knit_handle *held[2], *queued = NULL;
    struct place *place;

    conformance_open_place(c, &wish);
    c->k = knit_close(c->k);
    conformance_succeeds(c, place_session(c->place, &stays_lost, &c->k, &c->error));
    for (uint32_t i = 0; i < 2; i++)
        held[i] = conformance_hold(c, c->k, i, 1, true);
    conformance_succeeds(
        c, knit_start(c->k, NULL, &queued, &c->error, "ledger", ledger, (int64_t)10));
    conformance_succeeds(c, knit_flush(c->k, &c->error));
    place_kill(c->place, SIGTERM);
    assert_true(KNIT_WAIT_UNTIL(is_refused_now(c), PLACE_MS));
    conformance_fails(
        c, c->error.code, (AT(c->distance) & AT_IN_HOUSE) != 0 ? KNIT_SHUTDOWN : KNIT_DRAINING);
    assert_int_equal(c->error.started, KNIT_STARTED_NO);
    assert_true(c->error.retryable);
    /* What was accepted ends well. */
    assert_int_equal(knit_await(held[0], 0, &c->error), KNIT_PENDING);
    place_open_gate(c->place, 1);
    (void)conformance_int(c, queued);
    for (int i = 0; i < 2; i++)
        (void)conformance_int(c, held[i]);
    c->k = knit_close(c->k);
    place = c->place;
    assert_true(place_has_ended(place));
}

static void a_drain_that_is_over(struct conformance *c)
{
    const bool is_in_house = (AT(c->distance) & AT_IN_HOUSE) != 0;
    const struct place_wish wish = {.options = {"drain_ms=50", is_in_house ? "stop_ms=300" : NULL}};
    struct knit_handle *held[2], *queued = NULL;
    int code;

    conformance_open_place(c, &wish);
    /* A thread whose task ignores its end is left behind, with what it uses; so there the tasks
     * see their flag, and say themselves what comes of them. */
    for (uint32_t i = 0; i < 2; i++)
        held[i] = conformance_hold(c, c->k, i, 1, c->distance != THREADS);
    conformance_succeeds(
        c, knit_start(c->k, NULL, &queued, &c->error, "ledger", ledger, (int64_t)10));
    conformance_succeeds(c, knit_flush(c->k, &c->error));
    place_kill(c->place, SIGTERM);
    for (int i = 0; i < 2; i++) {
        code = knit_await(held[i], conformance_patience_ms(), &c->error);
        conformance_fails(c, code, c->distance != THREADS ? KNIT_SHUTDOWN : KNIT_TASK_FAILED);
        assert_int_not_equal(c->error.started, KNIT_STARTED_NO);
        (void)knit_free(held[i]);
    }
    code = knit_await(queued, conformance_patience_ms(), &c->error);
    conformance_fails(c, code, KNIT_SHUTDOWN);
    (void)knit_free(queued);
    assert_true(KNIT_WAIT_UNTIL(is_refused_now(c), PLACE_MS));
    c->k = knit_close(c->k);
    assert_true(place_has_ended(c->place));
    assert_int_equal(place_ran(c->place, 10), 0);
}

/* What their tasks say is what they were told. */
static void a_drain_that_tasks_obey(struct conformance *c)
{
    static const struct place_wish wish = {.options = {"drain_ms=50"}};
    struct knit_handle *calls[4];

    conformance_open_place(c, &wish);
    for (uint32_t i = 0; i < 4; i++)
        calls[i] = conformance_start_gated(c, c->k, "defer", i, 1, i >= 2);
    place_kill(c->place, SIGTERM);
    for (int i = 0; i < 4; i++) {
        conformance_fails(
            c, knit_await(calls[i], conformance_patience_ms(), &c->error), KNIT_SHUTDOWN);
        (void)knit_free(calls[i]);
    }
    c->k = knit_close(c->k);
    assert_true(place_has_ended(c->place));
}

static void tasks_that_end_their_worker(struct conformance *c)
{
    static const struct place_wish wish = {.options = {"deaths_per_minute=10000"}};
    static const struct {
        const char *how;
        int signal;
    } ways[] = {
        {"exit", 0}, {"abort", SIGABRT}, {"segv", SIGSEGV}, {"stack", SIGSEGV}, {"kill", SIGKILL}};

    conformance_open_place(c, &wish);
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct knit_handle *held = conformance_hold(c, c->k, (uint32_t)i, (uint32_t)i + 1, true);
        int code;

        code = knit_call(c->k, &c->error, "die", "(str)", ways[i].how);
        conformance_fails(c, code, KNIT_WORKER_DIED);
        if (getenv("KNIT_SANITIZED") == NULL || ways[i].signal != SIGSEGV)
            assert_int_equal(c->error.signal, ways[i].signal);
        assert_int_equal(c->error.started, KNIT_STARTED_YES);
        assert_false(c->error.retryable);
        assert_int_equal(knit_await(held, 0, &c->error), KNIT_PENDING);
        assert_true(KNIT_WAIT_UNTIL(place_lanes_serving(c->place) == 2, PLACE_MS));
        place_open_gate(c->place, (uint32_t)i + 1);
        (void)conformance_int(c, held);
        conformance_serves(c);
    }
}

static void a_worker_that_is_killed(struct conformance *c)
{
    enum { QUEUED = 32 };
    struct knit_handle *held[2], *queued[QUEUED];
    pid_t victim;
    int code;

    for (uint32_t i = 0; i < 2; i++)
        held[i] = conformance_hold(c, c->k, i, i + 1, true);
    for (int64_t i = 0; i < QUEUED; i++)
        conformance_succeeds(
            c, knit_start(c->k, NULL, &queued[i], &c->error, "ledger", ledger, i + 10));
    conformance_succeeds(c, knit_flush(c->k, &c->error));
    victim = (pid_t)place_ran_in(c->place, 0);
    assert_int_equal(kill(victim, SIGKILL), 0);
    code = knit_await(held[0], conformance_patience_ms(), &c->error);
    conformance_fails(c, code, KNIT_WORKER_DIED);
    assert_int_equal(c->error.started, KNIT_STARTED_YES);
    assert_int_equal(c->error.signal, SIGKILL);
    (void)knit_free(held[0]);
    /* Its replacement runs them, the other worker being held. */
    for (int i = 0; i < QUEUED; i++)
        assert_true(conformance_int(c, queued[i]) != victim);
    for (uint32_t i = 0; i < QUEUED; i++)
        assert_int_equal(place_ran(c->place, i + 10), 1);
    place_open_gate(c->place, 2);
    (void)conformance_int(c, held[1]);
}

static void a_daemon_that_is_killed(struct conformance *c)
{
    static const struct place_wish usual;
    struct knit_handle *held[2], *queued = NULL;
    uint64_t begin_ns;
    struct pollfd worker = {.events = POLLIN}; /* readable when it has ended */
    int code;

    conformance_open_place(c, &usual);
    c->k = knit_close(c->k);
    conformance_succeeds(c, place_session(c->place, &stays_lost, &c->k, &c->error));
    for (uint32_t i = 0; i < 2; i++)
        held[i] = conformance_hold(c, c->k, i, 1, true);
    worker.fd = (int)syscall(SYS_pidfd_open, place_ran_in(c->place, 0), 0);
    assert_true(worker.fd >= 0);
    conformance_succeeds(
        c, knit_start(c->k, NULL, &queued, &c->error, "ledger", ledger, (int64_t)10));
    conformance_succeeds(c, knit_flush(c->k, &c->error));
    place_kill(c->place, SIGKILL);
    begin_ns = knit_deadline_now_ns();
    for (int i = 0; i < 2; i++) {
        code = knit_await(held[i], conformance_patience_ms(), &c->error);
        conformance_fails(c, code, KNIT_DISCONNECTED);
        assert_int_not_equal(c->error.started, KNIT_STARTED_NO);
        (void)knit_free(held[i]);
    }
    assert_true(
        knit_deadline_now_ns() - begin_ns < knit_deadline_stretched_ns(UINT64_C(1000000000)));
    code = knit_await(queued, conformance_patience_ms(), &c->error);
    conformance_fails(c, code, KNIT_DISCONNECTED);
    assert_int_not_equal(c->error.started, KNIT_STARTED_YES);
    (void)knit_free(queued);
    conformance_fails(c, knit_call(c->k, &c->error, "add", "(int, int)", (int64_t)1, (int64_t)1),
        KNIT_DISCONNECTED);
    assert_int_equal(poll(&worker, 1, (int)conformance_patience_ms()), 1);
    (void)close(worker.fd);
    c->k = knit_close(c->k);
    assert_true(place_has_ended(c->place));
}

/* In a child: starts calls that wait at a gate, then is killed. */
static void be_a_caller(struct conformance *c)
{
    struct knit *k = NULL;
    struct knit_handle *handle;

    if (place_session(c->place, NULL, &k, NULL) != KNIT_OK)
        _exit(1);
    for (int64_t i = 0; i < 40; i++) {
        if (knit_start(k, NULL, &handle, NULL, "hold", "(int, int, bool)", i, (int64_t)1, 0) !=
            KNIT_OK)
            _exit(1);
    }
    (void)knit_flush(k, NULL);
    for (;;)
        (void)pause();
}

/* A child of the pool's own process has no pool. */
static void a_child_is_refused(struct conformance *c)
{
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct knit *k;
        bool is_told = place_session(c->place, NULL, &k, &c->error) == KNIT_DISCONNECTED &&
                       knit_call(c->k, &c->error, "empty", "()") == KNIT_DISCONNECTED;

        _exit(is_told ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void a_caller_that_is_killed(struct conformance *c)
{
    if ((AT(c->distance) & AT_IN_HOUSE) != 0) {
        a_child_is_refused(c);
        return;
    }
    for (int round = 0; round < 3; round++) {
        int status;
        pid_t pid;

        place_forget(c->place);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            be_a_caller(c);
        (void)KNIT_WAIT_UNTIL(
            place_ran(c->place, 0) != 0 || waitpid(pid, &status, WNOHANG) != 0, PLACE_MS);
        assert_true(place_ran(c->place, 0) != 0);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        for (int i = 0; i < 20; i++)
            conformance_serves(c);
    }
}

static void a_task_that_kills_workers(struct conformance *c)
{
    static const struct place_wish wish = {.options = {"deaths_per_minute=3"}};
    int code = KNIT_WORKER_DIED;

    conformance_open_place(c, &wish);
    for (int i = 0; i < 10 && code == KNIT_WORKER_DIED; i++)
        code = knit_call(c->k, &c->error, "die", "(str)", "abort");
    conformance_fails(c, code, KNIT_QUARANTINED);
    assert_int_equal(c->error.started, KNIT_STARTED_NO);
    assert_non_null(strstr(c->error.message, "die"));
    /* Others are served, and the state is visible. */
    conformance_serves(c);
    assert_true(place_stat(c->place, "pool", "quarantined") > 0);
}

static void a_worker_that_is_stopped(struct conformance *c)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *held;
    struct knit_handle *late = NULL;
    pid_t worker;
    int code;

    held = conformance_hold(c, c->k, 0, 1, true);
    worker = (pid_t)place_ran_in(c->place, 0);
    assert_int_equal(kill(worker, SIGSTOP), 0);
    place_open_gate(c->place, 1);
    for (int i = 0; i < 50; i++)
        conformance_serves(c);
    options.timeout_ms = 30;
    conformance_succeeds(c, knit_start(c->k, &options, &late, &c->error, "obey", "()"));
    code = knit_await(late, conformance_patience_ms(), &c->error);
    assert_int_equal(kill(worker, SIGCONT), 0);
    conformance_fails(c, code, KNIT_TIMEOUT);
    (void)knit_free(late);
    (void)conformance_int(c, held);
}

static const struct conformance_case cases[] = {
    {"H66a", "a bootstrap hook runs before tasks, with the text and its worker's place",
        bootstrap_comes_first, 0, 0, 0},
    {"H66b", "a start with a bad module is refused in a sentence that names file and cause",
        modules_that_are_refused, 0, 0, 0},
    {"H67a", "a pool that drains refuses new calls and ends the others well", a_drain, 0, 0, 0},
    {"H67b", "when its time is over, calls that run and wait end in SHUTDOWN", a_drain_that_is_over,
        0, 0, 0},
    {"K88", "when its time is over, calls whose tasks stop end in SHUTDOWN, and none in CANCELLED",
        a_drain_that_tasks_obey, 0, 0, 0},
    {"H68", "a task that ends its worker fails its call with the signal, and no other",
        tasks_that_end_their_worker, 0, 0, AT(THREADS)},
    {"H69", "a worker that is killed costs the call it ran; those behind it run once",
        a_worker_that_is_killed, 0, 0, AT(THREADS)},
    {"H70", "callers of a daemon that is killed are told, and its workers end",
        a_daemon_that_is_killed, 0, 0, AT_IN_HOUSE},
    {"H71", "a caller that is killed costs nobody else anything", a_caller_that_is_killed,
        AT_IN_HOUSE, 0, 0},
    {"H72", "a task in which workers die again and again is quarantined", a_task_that_kills_workers,
        0, 0, AT(THREADS)},
    {"H73", "with a worker stopped others go on, and deadlines end calls", a_worker_that_is_stopped,
        0, 0, AT(THREADS)},
};

const struct conformance_section conformance_ends =
    CONFORMANCE_SECTION("start, end and death", cases);
