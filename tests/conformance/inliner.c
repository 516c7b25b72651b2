/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that run in the host: on the session's own thread, or in the daemon's event loop. A call
 * was inlined if it says so itself, by thread or process. Callers that are attached to a daemon are
 * never served so. */
#include "tests/conformance/conformance.h"

#include <poll.h>
#include <unistd.h>

#include "tests/support/deadline.h"

enum { CALLS = 12, BATCHED = 8, BUSY = 24, BUSY_MS = 10 };

static const char where[] = "() -> (int, int)";

struct inliner_wish {
    const char *position;
    uint32_t workers, batch, threshold;
};

static void open_inlined(struct conformance *c, const struct inliner_wish *wish)
{
    static char texts[6][256];
    struct place_wish place = {.workers = wish->workers};
    const char *module = getenv("KNIT_INLINE");
    int count = 0;

    assert_non_null(module);
    (void)snprintf(texts[0], sizeof(texts[0]), "module=%s", module);
    (void)snprintf(texts[1], sizeof(texts[1]), "inliner_modules=%s", module);
    (void)snprintf(texts[2], sizeof(texts[2]), "inliner_position=%s", wish->position);
    (void)snprintf(
        texts[3], sizeof(texts[3]), "inliner_batch=%u", wish->batch != 0 ? wish->batch : 1);
    (void)snprintf(texts[4], sizeof(texts[4]), "inliner_dispatch_threshold=%u",
        wish->threshold != 0 ? wish->threshold : 1);
    for (; count < 5; count++)
        place.options[count] = texts[count];
    place.options[count++] = "inline_unconfined=on";
    place.options[count++] = "threads_io=1";
    place.options[count] = "steal=off";
    conformance_open_place(c, &place);
}

static struct knit_handle *start(struct conformance *c, const char *task)
{
    struct knit_handle *handle = NULL;

    conformance_succeeds(c, knit_start(c->k, NULL, &handle, &c->error, task, where));
    return handle;
}

static bool read_place(struct conformance *c, struct knit_handle *handle)
{
    int64_t process = 0, thread = 0;

    conformance_succeeds(c, knit_await(handle, conformance_patience_ms(), &c->error));
    conformance_succeeds(c, knit_results(handle, &c->error, &process, &thread));
    (void)knit_free(handle);
    return (AT(c->distance) & AT_IN_HOUSE) != 0 ? thread == gettid()
                                                : process == place_pid(c->place);
}

static bool is_inlined(struct conformance *c, const char *task)
{
    return read_place(c, start(c, task));
}

/* How many of so many calls that are in flight together are inlined. */
static int count_inlined(struct conformance *c, const char *task, int calls)
{
    struct knit_handle *handles[CALLS];
    int count = 0;

    for (int i = 0; i < calls; i++)
        handles[i] = start(c, task);
    for (int i = 0; i < calls; i++)
        count += read_place(c, handles[i]);
    return count;
}

static void the_threshold(struct conformance *c)
{
    const struct inliner_wish wish = {.position = "first", .threshold = 32};

    open_inlined(c, &wish);
    assert_int_equal(count_inlined(c, "spot", CALLS), 0);
}

/* One at a time never has two in flight. */
static void never_reaches_two(struct conformance *c)
{
    for (int i = 0; i < 6; i++)
        assert_false(is_inlined(c, "spot"));
}

static void a_threshold_that_is_reached(struct conformance *c)
{
    const struct inliner_wish wish = {.position = "first", .threshold = 2};
    int count;

    open_inlined(c, &wish);
    never_reaches_two(c);
    count = count_inlined(c, "spot", 10);
    assert_in_range(count, 1, 9);
    never_reaches_two(c);
}

/* Three in a round: two workers and the inliner. */
static void expect_round(struct conformance *c, const char *position, const char *round)
{
    const struct inliner_wish wish = {.position = position};

    open_inlined(c, &wish);
    for (int i = 0; i < 9; i++)
        assert_int_equal(is_inlined(c, "spot"), round[i % 3] == 'i');
}

static void first(struct conformance *c)
{
    expect_round(c, "first", "iww");
}

static void last(struct conformance *c)
{
    expect_round(c, "last", "wwi");
}

static void each_task_has_a_round(struct conformance *c)
{
    const struct inliner_wish wish = {.position = "first", .workers = 1};
    int64_t kind = 0;

    open_inlined(c, &wish);
    assert_true(is_inlined(c, "spot"));
    conformance_succeeds(c, knit_call(c->k, &c->error, "hooked", "() -> int", &kind));
    assert_int_equal(kind, 2);
    assert_false(is_inlined(c, "spot"));
}

/* ---- turns ---- */

static void count_done(struct knit_handle *handle, void *user)
{
    int *count = user;

    (void)handle;
    ++*count;
}

static void start_busy(struct conformance *c, struct knit_handle **handles, int count, int64_t ms)
{
    for (int i = 0; i < count; i++)
        conformance_succeeds(c,
            knit_start(c->k, NULL, &handles[i], &c->error, "spot_busy", "(int) -> (int, int)", ms));
}

/* No dispatch runs more than a batch, and the descriptor is readable until all are done: what else
 * the program polls has its turn between any two. */
static void expect_batches(struct conformance *c, uint32_t batch, int most)
{
    const struct inliner_wish wish = {.position = "first", .workers = 1, .batch = batch};
    struct knit_handle *handles[BATCHED];
    struct pollfd file = {.events = POLLIN};
    int done = 0, before, largest = 0;

    open_inlined(c, &wish);
    /* A round of two: every other call is the worker's. */
    for (int i = 0; i < 2 * BATCHED; i++) {
        struct knit_handle *handle = start(c, "spot");

        if (i % 2 == 0)
            handles[i / 2] = handle;
        else
            (void)knit_free(handle);
    }
    for (int i = 0; i < BATCHED; i++)
        knit_on_done(handles[i], count_done, &done);
    file.fd = knit_fd(c->k);
    assert_true(file.fd >= 0);
    for (int turns = 0; done < BATCHED && turns < 1000; turns++) {
        assert_int_equal(poll(&file, 1, PLACE_MS), 1);
        before = done;
        conformance_succeeds(c, knit_dispatch(c->k, &c->error));
        assert_in_range(done - before, 0, most);
        if (done - before > largest)
            largest = done - before;
    }
    assert_int_equal(done, BATCHED);
    assert_int_equal(largest, most);
    for (int i = 0; i < BATCHED; i++)
        (void)knit_free(handles[i]);
}

/* The daemon's loop answers another connection while some of this one's calls wait for a turn. */
static void answers_in_between(struct conformance *c)
{
    const struct inliner_wish wish = {.position = "first", .workers = 1, .batch = 1};
    struct knit_handle *handles[BUSY];
    struct knit *other, *own = c->k;

    open_inlined(c, &wish);
    own = c->k;
    other = conformance_session(c, NULL);
    c->k = other;
    conformance_serves(c);
    c->k = own;
    start_busy(c, handles, BUSY, BUSY_MS);
    conformance_succeeds(c, knit_flush(own, &c->error));
    c->k = other;
    conformance_serves(c);
    c->k = own;
    assert_int_equal(knit_await(handles[BUSY - 2], 0, &c->error), KNIT_PENDING);
    for (int i = 0; i < BUSY; i++)
        (void)read_place(c, handles[i]);
    (void)knit_close(other);
}

static void a_batch_of_one(struct conformance *c)
{
    if ((AT(c->distance) & AT_STREAMS) != 0)
        answers_in_between(c);
    else
        expect_batches(c, 0, 1);
}

static void a_batch_of_three(struct conformance *c)
{
    expect_batches(c, 3, 3);
}

/* ---- isolation ---- */

static void isolated_tasks(struct conformance *c)
{
    const struct inliner_wish wish = {.position = "first", .workers = 1};

    open_inlined(c, &wish);
    assert_int_equal(count_inlined(c, "isolated_spot", CALLS), 0);
    /* One that finds no room in a lane has another turn. */
    assert_in_range(count_inlined(c, "spot", CALLS), CALLS / 2, CALLS - 1);
}

static void an_inliner_alone(struct conformance *c)
{
    static char module[256];
    const struct place_wish wish = {
        .options = {"inliner_position=first", module, "inline_unconfined=on", "workers=0"}};
    char *said;

    (void)snprintf(module, sizeof(module), "inliner_modules=%s", getenv("KNIT_CONFORMANCE"));
    said = place_refused(c->distance, &wish);
    if (strstr(said, c->distance == THREADS ? "isolated" : "workers") == NULL)
        fail_msg("%s", said);
    free(said);
}

/* ---- outcomes ---- */

struct outcome {
    int code, started;
    bool retryable;
    char message[200];
};

static struct outcome outcome_of(struct conformance *c, int code)
{
    struct outcome outcome = {.code = code, .started = (int)c->error.started};

    assert_int_not_equal(code, KNIT_OK);
    assert_int_equal(c->error.code, code);
    outcome.retryable = c->error.retryable;
    (void)snprintf(outcome.message, sizeof(outcome.message), "%.199s", c->error.message);
    return outcome;
}

/* One after the other goes to the inliner and to the worker. */
static void expect_same(struct conformance *c, struct outcome (*attempt)(struct conformance *c))
{
    struct outcome one = attempt(c), other = attempt(c);

    if (memcmp(&one, &other, sizeof(one)) != 0)
        fail_msg("%d %d %s; %d %d %s", one.code, one.started, one.message, other.code,
            other.started, other.message);
}

static struct outcome fails(struct conformance *c)
{
    int code = knit_call(
        c->k, &c->error, "spot_fail", "(int, str) -> nil", (int64_t)17, "as it was told to");

    assert_int_equal(c->error.task_code, 17);
    return outcome_of(c, code);
}

static struct outcome lies(struct conformance *c)
{
    return outcome_of(c, knit_call(c->k, &c->error, "spot_liar", "() -> int", NULL));
}

static struct outcome is_given_the_wrong_type(struct conformance *c)
{
    return outcome_of(c, knit_call(c->k, &c->error, "spot_busy", "(str) -> any", "x", NULL, NULL));
}

/* It gets longer until it has started, which a machine may take more time for than that. */
static struct outcome runs_out_of_time(struct conformance *c)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct outcome late;

    options.timeout_ms = 10;
    do {
        options.timeout_ms *= 2;
        late = outcome_of(
            c, knit_call_with(c->k, &options, &c->error, "spot_obey", "() -> nil", NULL));
    } while (late.code == KNIT_TIMEOUT && late.started == KNIT_STARTED_NO &&
             options.timeout_ms < CONFORMANCE_PATIENCE_MS);
    return late;
}

static void an_inline_task_that_fails(struct conformance *c)
{
    const struct inliner_wish wish = {.position = "first", .workers = 1};
    struct outcome late;

    open_inlined(c, &wish);
    expect_same(c, fails);
    expect_same(c, lies);
    expect_same(c, is_given_the_wrong_type);
    for (int i = 0; i < 2; i++) {
        late = runs_out_of_time(c);
        assert_int_equal(late.code, KNIT_TIMEOUT);
        /* Over a stream the library's own clock may be first, which does not know. */
        assert_int_not_equal(late.started, KNIT_STARTED_NO);
    }
}

static void a_large_value(struct conformance *c)
{
    enum { BYTES = 100000 };
    const struct inliner_wish wish = {.position = "first", .workers = 1};
    unsigned char *value = malloc(BYTES);
    const void *got;
    size_t len;

    assert_non_null(value);
    memset(value, 0x5a, BYTES);
    memcpy(value, "\xc6\x00\x01\x86\x9b", 5); /* a bin of BYTES - 5 */
    open_inlined(c, &wish);
    for (int i = 0; i < 4; i++) {
        conformance_succeeds(c, knit_call(c->k, &c->error, "spot_echo", "(any) -> any", value,
                                    (size_t)BYTES, &got, &len));
        assert_int_equal(len, BYTES);
        assert_memory_equal(got, value, BYTES);
    }
    free(value);
}

/* Behind a busy one, all of whose calls are inlined: one is late, one cancelled, one told why. */
static void inline_calls_that_wait(struct conformance *c)
{
    const struct inliner_wish wish = {.position = "first", .workers = 1, .threshold = 2};
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *busy[2], *late[2], *cancelled[2], *told[2], *gone[2];

    open_inlined(c, &wish);
    options.timeout_ms = 10;
    for (int i = 0; i < 2; i++)
        start_busy(c, &busy[i], 1, 100);
    for (int i = 0; i < 2; i++) {
        conformance_succeeds(c, knit_start(c->k, &options, &late[i], &c->error, "spot", where));
        cancelled[i] = start(c, "spot");
        told[i] = start(c, "spot");
        gone[i] = start(c, "spot");
    }
    for (int i = 0; i < 2; i++) {
        knit_cancel(cancelled[i]);
        knit_abort(told[i], "no more");
        (void)knit_free(gone[i]);
    }
    for (int i = 0; i < 2; i++) {
        conformance_fails(
            c, knit_await(told[i], conformance_patience_ms(), &c->error), KNIT_CANCELLED);
        assert_non_null(strstr(c->error.message, "no more"));
        conformance_fails(
            c, knit_await(late[i], conformance_patience_ms(), &c->error), KNIT_TIMEOUT);
        /* Or it has its result: what cancels it comes over a stream behind the calls. */
        if (knit_await(cancelled[i], conformance_patience_ms(), &c->error) != KNIT_OK) {
            conformance_fails(c, knit_await(cancelled[i], 0, &c->error), KNIT_CANCELLED);
            assert_int_equal(c->error.started, KNIT_STARTED_NO);
        }
    }
    for (int i = 0; i < 2; i++) {
        (void)read_place(c, busy[i]);
        (void)knit_free(late[i]);
        (void)knit_free(cancelled[i]);
        (void)knit_free(told[i]);
    }
    conformance_serves(c);
    never_reaches_two(c);
}

static void what_an_inline_task_cannot_do(struct conformance *c)
{
    const struct inliner_wish wish = {.position = "first", .workers = 1};
    int64_t value = 0;

    open_inlined(c, &wish);
    conformance_fails(
        c, knit_call(c->k, &c->error, "spot_defer", "() -> int", &value), KNIT_BAD_RESULT);
    assert_non_null(strstr(c->error.message, "defer"));
    conformance_succeeds(c, knit_call(c->k, &c->error, "spot_defer", "() -> int", &value));
    assert_int_equal(value, 7);
}

static void what_callers_want_to_see(struct conformance *c)
{
    const struct inliner_wish wish = {.position = "first", .workers = 1};
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle;

    open_inlined(c, &wish);
    options.progress = true;
    for (int i = 0; i < 4; i++) {
        conformance_succeeds(c, knit_start(c->k, &options, &handle, &c->error, "spot_emit",
                                    "(int) -> (int, int)", (int64_t)3));
        assert_false(read_place(c, handle));
    }
    options.progress = false;
    options.affinity = 7;
    for (int i = 0; i < 4; i++) {
        conformance_succeeds(c, knit_start(c->k, &options, &handle, &c->error, "spot", where));
        assert_false(read_place(c, handle));
    }
    options.affinity = 0;
    /* On threads nobody can have it. */
    if (c->distance == THREADS)
        return;
    options.output = true;
    for (int i = 0; i < 4; i++) {
        conformance_succeeds(
            c, knit_start(c->k, &options, &handle, &c->error, "spot_print", where));
        assert_false(read_place(c, handle));
    }
}

static void attached_callers(struct conformance *c)
{
    const struct inliner_wish wish = {.position = "first", .workers = 1};

    open_inlined(c, &wish);
    assert_int_equal(count_inlined(c, "spot", CALLS), 0);
}

/* ---- refusals ---- */

static void expect_refused(
    struct conformance *c, const char *one, const char *two, const char *said)
{
    const struct place_wish wish = {.options = {one, two}};
    char *text = place_refused(c->distance, &wish);

    if (strstr(text, said) == NULL)
        fail_msg("%s", text);
    free(text);
}

static void an_inliner_without_modules(struct conformance *c)
{
    expect_refused(c, "inliner_position=first",
        (AT(c->distance) & AT_DAEMONS) != 0 ? "inline_unconfined=on" : NULL, "inliner_modules");
}

static void an_inliner_that_nobody_allowed(struct conformance *c)
{
    expect_refused(c, "inliner_position=last", NULL, "inline_unconfined");
}

static void a_module_that_is_none_of_the_pool(struct conformance *c)
{
    static char module[256];
    const struct place_wish wish = {
        .options = {"inliner_position=first", "inline_unconfined=on", module}};
    char *text;

    (void)snprintf(module, sizeof(module), "inliner_modules=%s", getenv("KNIT_INLINE"));
    text = place_refused(c->distance, &wish);
    if (strstr(text, "is not one of") == NULL)
        fail_msg("%s", text);
    free(text);
}

static const struct conformance_case cases[] = {
    {"D39a", "with a threshold of 32, 12 calls are not inlined", the_threshold, 0, 0, AT(LOCAL)},
    {"D39b", "with a threshold of 2, some of 10 calls are inlined and single calls are not",
        a_threshold_that_is_reached, 0, 0, AT(LOCAL)},
    {"D40a", "with a batch of 1 the loop goes on between two inline calls", a_batch_of_one, 0, 0,
        AT(LOCAL)},
    {"D40b", "a batch of 3 is at most 3 calls a turn", a_batch_of_three, 0, 0, AT_DAEMONS},
    {"D41a", "an inliner that is first takes the first call of each round", first, 0, 0, AT(LOCAL)},
    {"D41b", "one that is last takes the last", last, 0, 0, AT(LOCAL)},
    {"D41c", "each task has a round of its own, and the host's hook runs once",
        each_task_has_a_round, 0, 0, AT(LOCAL)},
    {"D42a", "an isolated task is never inlined", isolated_tasks, 0, 0, AT(LOCAL)},
    {"D42b", "an inliner alone is refused where a task is isolated", an_inliner_alone,
        AT_IN_HOUSE | AT_DAEMONS, 0, 0},
    {"D43a", "an inline task fails, lies and runs out of time as on a worker",
        an_inline_task_that_fails, 0, 0, AT(LOCAL)},
    {"D43b", "inline calls that wait are late, cancelled and dropped, and count no more",
        inline_calls_that_wait, 0, 0, AT(LOCAL)},
    {"D43c", "an inline call carries 100,000 bytes both ways", a_large_value, 0, 0, AT(LOCAL)},
    {"D43d", "an inline call that is deferred fails, and the next one on a worker does not",
        what_an_inline_task_cannot_do, 0, 0, AT(LOCAL)},
    {"D43e", "calls with output, progress or affinity go to workers", what_callers_want_to_see, 0,
        0, AT(LOCAL)},
    {"D43f", "calls of attached sessions are never inlined", attached_callers, 0, 0,
        AT_IN_HOUSE | AT_STREAMS},
    {"D43g", "an inliner without modules is refused", an_inliner_without_modules,
        AT(PROCESSES) | AT_DAEMONS, 0, AT(THREADS)},
    {"D43h", "a daemon inlines nothing unless inline_unconfined is on",
        an_inliner_that_nobody_allowed, AT_DAEMONS, 0, AT_IN_HOUSE},
    {"D43i", "a module for the inliner that the pool does not have is refused",
        a_module_that_is_none_of_the_pool, AT_IN_HOUSE | AT_DAEMONS, 0, 0},
};

const struct conformance_section conformance_inliner = CONFORMANCE_SECTION("inliner", cases);
