/* SPDX-License-Identifier: Apache-2.0 */
/* What a pool says of itself, the forms in which it is called, and what else comes with a call. */
#include "tests/conformance/conformance.h"

#include <sys/wait.h>
#include <unistd.h>

#include <knitting/args.h>
#include <knitting/values.h>

/* ---- asking ---- */

struct listed {
    bool has_late, may_run_twice;
    uint32_t count, next_id;
};

static void note_task(const struct knit_task_info *info, void *user)
{
    struct listed *listed = user;

    assert_true(info->id >= listed->next_id);
    listed->next_id = info->id + 1;
    listed->count++;
    assert_int_equal(strncmp(info->signature, info->name, strlen(info->name)), 0);
    if (strcmp(info->name, "kinds") == 0)
        listed->may_run_twice = (info->flags & KNIT_TASK_IDEMPOTENT) != 0;
    if (strcmp(info->name, "add") == 0)
        assert_int_equal(info->flags & KNIT_TASK_IDEMPOTENT, 0);
    if (strcmp(info->name, "seven_when_late") == 0) {
        assert_string_equal(info->signature, "seven_when_late() -> int");
        assert_string_equal(info->doc, "Waits until it is aborted.");
        assert_true(info->timeout_ms == 50);
        assert_false(info->quarantined);
        listed->has_late = true;
    }
}

static void its_tasks(struct conformance *c)
{
    struct listed listed = {.count = 0};

    conformance_succeeds(c, knit_tasks(c->k, &c->error, note_task, &listed));
    assert_true(listed.count > 40);
    assert_true(listed.has_late && listed.may_run_twice);
}

static void its_counters(struct conformance *c)
{
    const uint64_t serving = place_stat(c->place, "pool", "lanes_serving");
    const uint64_t before =
        place_lane_stat(c->place, 0, "calls") + place_lane_stat(c->place, 1, "calls");
    uint64_t took_ns = 0, calls = 0;

    assert_int_equal(serving, 2);
    for (int i = 0; i < 20; i++)
        conformance_serves(c);
    assert_true(KNIT_WAIT_UNTIL((calls = place_lane_stat(c->place, 0, "calls") +
                                         place_lane_stat(c->place, 1, "calls")) >= before + 20,
        PLACE_MS));
    conformance_succeeds(c, knit_ping(c->k, &c->error, &took_ns));
    assert_true(took_ns > 0);
}

/* Over TCP nobody is known, and so nobody may. */
static void lifting_a_task(struct conformance *c)
{
    static const struct place_wish wish = {.options = {"deaths_per_minute=2"}};
    bool was_quarantined = false;
    int code = KNIT_WORKER_DIED;

    conformance_open_place(c, &wish);
    for (int i = 0; i < 10 && code == KNIT_WORKER_DIED; i++)
        code = knit_call(c->k, &c->error, "die", "(str)", "abort");
    conformance_fails(c, code, KNIT_QUARANTINED);
    code = knit_lift(c->k, &c->error, "die", &was_quarantined);
    if ((AT(c->distance) & AT_NETWORK) != 0) {
        conformance_fails(c, code, KNIT_DENIED);
        return;
    }
    conformance_succeeds(c, code);
    assert_true(was_quarantined);
    conformance_fails(c, knit_call(c->k, &c->error, "die", "(str)", "live"), KNIT_TASK_FAILED);
    conformance_succeeds(c, knit_lift(c->k, &c->error, "add", &was_quarantined));
    assert_false(was_quarantined);
    conformance_fails(
        c, knit_lift(c->k, &c->error, "no_such_task", &was_quarantined), KNIT_UNKNOWN_TASK);
}

/* ---- ending calls, whosoever they are ---- */

struct address {
    uint64_t session, slot, generation;
};

static uint64_t number_of(struct knit_value row, const char *key)
{
    return knit_value_uint(knit_value_get(row, key));
}

static bool says(struct knit_value row, const char *key, const char *word)
{
    size_t len = 0;
    const char *text = knit_value_text(knit_value_get(row, key), &len);

    return text != NULL && len == strlen(word) && memcmp(text, word, len) == 0;
}

/* Whether there is one call of the task in that state, and its address. */
static bool has_one(struct conformance *c, const char *state, const char *task, struct address *ret)
{
    struct knit_reader reader = KNIT_READER_INIT;
    struct knit_items calls;
    struct knit_value row;
    const void *map;
    size_t len, found = 0;

    conformance_succeeds(c, knit_call(c->k, &c->error, "$/calls", "() -> map", &map, &len));
    calls = knit_value_items(knit_value_get(knit_read(&reader, map, len), "calls"));
    while (knit_items_next(&calls, NULL, &row)) {
        if (!says(row, "state", state) || !says(row, "task", task))
            continue;
        *ret = (struct address){
            number_of(row, "session"), number_of(row, "slot"), number_of(row, "generation")};
        found++;
    }
    return found == 1;
}

static int stop(struct conformance *c, const struct address *call, bool *ret_was_there)
{
    return knit_call(c->k, &c->error, "$/stop", "(uint, uint, uint) -> bool", call->session,
        call->slot, call->generation, ret_was_there);
}

static int kill_now(struct conformance *c, const struct address *call, bool *ret_was_there)
{
    return knit_call(c->k, &c->error, "$/kill", "(uint, uint, uint, uint) -> bool", call->session,
        call->slot, call->generation, UINT64_C(0), ret_was_there);
}

/* Over TCP nobody is known, and so nobody may; a pool of a program has no operator but that. */
static bool may_not(struct conformance *c,
    int (*end)(struct conformance *c, const struct address *call, bool *ret_was_there))
{
    static const struct address some = {1, 0, 1};
    bool was_there;

    if ((AT(c->distance) & (AT_NETWORK | AT_IN_HOUSE)) == 0)
        return false;
    conformance_fails(c, end(c, &some, &was_there),
        (AT(c->distance) & AT_NETWORK) != 0 ? KNIT_DENIED : KNIT_UNKNOWN_TASK);
    return true;
}

static void stopping_what_runs(struct conformance *c)
{
    struct knit_handle *held;
    struct address call;
    bool was_there = false;

    if (may_not(c, stop))
        return;
    held = conformance_hold(c, c->k, 0, 1, false);
    assert_true(KNIT_WAIT_UNTIL(has_one(c, "running", "hold", &call), PLACE_MS));
    conformance_succeeds(c, stop(c, &call, &was_there));
    assert_true(was_there);
    /* That it was told is what the task says. */
    conformance_fails(c, knit_await(held, conformance_patience_ms(), &c->error), KNIT_TASK_FAILED);
    (void)knit_free(held);
}

static void stopping_what_waits(struct conformance *c)
{
    struct knit_handle *held[2], *queued = NULL;
    struct address call;
    bool was_there = false;

    if (may_not(c, stop))
        return;
    for (uint32_t i = 0; i < 2; i++)
        held[i] = conformance_hold(c, c->k, i, 1, true);
    conformance_succeeds(
        c, knit_start(c->k, NULL, &queued, &c->error, "ledger", "(int) -> int", (int64_t)10));
    conformance_succeeds(c, knit_flush(c->k, &c->error));
    assert_true(KNIT_WAIT_UNTIL(has_one(c, "queued", "ledger", &call), PLACE_MS));
    conformance_succeeds(c, stop(c, &call, &was_there));
    assert_true(was_there);
    /* By a socket that comes at once, by shared memory when a worker has come to it. */
    if (c->distance == LOCAL)
        place_open_gate(c->place, 1);
    conformance_fails(c, knit_await(queued, conformance_patience_ms(), &c->error), KNIT_CANCELLED);
    assert_int_equal(c->error.started, KNIT_STARTED_NO);
    (void)knit_free(queued);
    place_open_gate(c->place, 1);
    for (int i = 0; i < 2; i++)
        (void)conformance_int(c, held[i]);
    assert_int_equal(place_ran(c->place, 10), 0);
}

static void killing_what_goes_on(struct conformance *c)
{
    static const struct place_wish wish = {.workers = 2};
    struct knit_handle *held, *other;
    struct address call;
    bool was_there = false;

    if (may_not(c, kill_now))
        return;
    conformance_open_place(c, &wish);
    held = conformance_hold(c, c->k, 0, 1, true);
    assert_true(KNIT_WAIT_UNTIL(has_one(c, "running", "hold", &call), PLACE_MS));
    other = conformance_hold(c, c->k, 1, 2, true);
    conformance_succeeds(c, kill_now(c, &call, &was_there));
    assert_true(was_there);
    conformance_fails(c, knit_await(held, conformance_patience_ms(), &c->error), KNIT_CANCELLED);
    assert_int_equal(c->error.started, KNIT_STARTED_YES);
    (void)knit_free(held);
    place_open_gate(c->place, 2);
    (void)conformance_int(c, other);
    conformance_serves(c);
}

static void addresses_of_no_call(struct conformance *c)
{
    struct knit_handle *held;
    struct address call, later;
    bool was_there = true;

    if (may_not(c, stop))
        return;
    held = conformance_hold(c, c->k, 0, 1, true);
    assert_true(KNIT_WAIT_UNTIL(has_one(c, "running", "hold", &call), PLACE_MS));
    later = (struct address){call.session, call.slot, call.generation + 1};
    conformance_fails(c, stop(c, &later, &was_there), KNIT_BAD_ARGUMENT);
    conformance_fails(c, kill_now(c, &later, &was_there), KNIT_BAD_ARGUMENT);
    place_open_gate(c->place, 1);
    (void)conformance_int(c, held);
    conformance_succeeds(c, stop(c, &call, &was_there));
    assert_false(was_there);
}

/* ---- forms of a call ---- */

enum form { PLAIN, WITH_OPTIONS, RAW, STARTED, PREPARED, ARRAY, FORMS };

/* refuse(code, "no") by that form, from a signature or from bytes. */
static int fail_by_form(struct conformance *c, enum form form, struct knit_prepared *prepared)
{
    const struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    const struct knit_arg args[] = {knit_pass_int(9), knit_pass_str("no")};
    struct knit_handle *handle = NULL;
    const void *bytes;
    size_t len;
    int code;

    switch (form) {
    case PLAIN:
        return knit_call(c->k, &c->error, "refuse", "(int, str)", (int64_t)9, "no");
    case WITH_OPTIONS:
        return knit_call_with(c->k, &options, &c->error, "refuse", "(int, str)", (int64_t)9, "no");
    case RAW:
        return knit_call_raw(c->k, NULL, &c->error, "refuse", "\x92\x09\xa2no", 5, &bytes, &len);
    case STARTED:
        conformance_succeeds(c,
            knit_start(c->k, NULL, &handle, &c->error, "refuse", "(int, str)", (int64_t)9, "no"));
        code = knit_await(handle, conformance_patience_ms(), &c->error);
        (void)knit_free(handle);
        return code;
    case PREPARED:
        return knit_call_prepared(prepared, NULL, &c->error, (int64_t)9, "no");
    case ARRAY:
    case FORMS:
        break;
    }
    return knit_call_args(prepared, NULL, &c->error, args, 2, NULL, 0);
}

static void every_form_of_a_call(struct conformance *c)
{
    struct knit_prepared *prepared = NULL;

    conformance_succeeds(c, knit_prepare(c->k, &c->error, "refuse", "(int, str)", &prepared));
    for (int round = 0; round < 3; round++) {
        for (int form = 0; form < FORMS; form++) {
            memset(&c->error, 0, sizeof(c->error));
            conformance_fails(c, fail_by_form(c, (enum form)form, prepared), KNIT_TASK_FAILED);
            assert_string_equal(c->error.message, "no");
            assert_true(c->error.task_code == 9);
            assert_int_equal(c->error.origin, KNIT_ORIGIN_TASK);
            assert_int_equal(c->error.started, KNIT_STARTED_YES);
        }
    }
    assert_null(knit_prepared_free(prepared));
}

/* ---- what is printed ---- */

static void what_a_task_prints(struct conformance *c)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle = NULL;
    const void *text = NULL;
    size_t len = 0;
    bool is_cut = true;

    options.output = true;
    if (c->distance == THREADS) {
        conformance_fails(
            c, knit_call_with(c->k, &options, &c->error, "say", "(str)", ""), KNIT_BAD_ARGUMENT);
        assert_non_null(strstr(c->error.message, "option output"));
        return;
    }
    conformance_succeeds(
        c, knit_start(c->k, &options, &handle, &c->error, "say", "(str)", "one\ntwo\n"));
    conformance_succeeds(c, knit_await(handle, conformance_patience_ms(), &c->error));
    assert_true(knit_output(handle, &text, &len, &is_cut));
    assert_int_equal(len, 8);
    assert_memory_equal(text, "one\ntwo\n", 8);
    assert_false(is_cut);
    (void)knit_free(handle);
    /* Of a call that did not ask, nothing. */
    conformance_succeeds(c, knit_start(c->k, NULL, &handle, &c->error, "say", "(str)", "three\n"));
    conformance_succeeds(c, knit_await(handle, conformance_patience_ms(), &c->error));
    assert_false(knit_output(handle, &text, &len, &is_cut));
    (void)knit_free(handle);
}

/* ---- fork ---- */

static void a_forked_child(struct conformance *c)
{
    struct knit_handle *held = conformance_hold(c, c->k, 0, 1, true);
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct knit *k = c->k;
        bool is_told = knit_call(k, &c->error, "empty", "()") == KNIT_DISCONNECTED &&
                       knit_await(held, -1, &c->error) == KNIT_DISCONNECTED &&
                       knit_dispatch(k, &c->error) == KNIT_DISCONNECTED &&
                       strstr(c->error.message, "fork") != NULL;

        _exit(is_told && knit_close(k) == NULL ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(knit_await(held, 0, &c->error), KNIT_PENDING);
    place_open_gate(c->place, 1);
    (void)conformance_int(c, held);
}

static const struct conformance_case cases[] = {
    {"Q1", "a pool lists its tasks with signature, doc and limits, in the order of their numbers",
        its_tasks, 0, 0, 0},
    {"Q2", "a pool counts calls, and answers a ping", its_counters, 0, 0, 0},
    {"Q3", "a quarantined task is lifted by whom the pool knows", lifting_a_task, AT_NETWORK, 0,
        AT(THREADS)},
    {"Q4", "every form of a call ends in the same error", every_form_of_a_call, 0, 0, 0},
    {"Q5", "what a task prints comes with its outcome to whom asked for it", what_a_task_prints,
        AT(THREADS), 0, 0},
    {"Q6", "a session is its parent's in a forked child, which is told so", a_forked_child, 0, 0,
        0},
    {"Q7", "a call that runs is asked to stop by its address, and ends as its task says",
        stopping_what_runs, AT_NETWORK | AT_IN_HOUSE, 0, 0},
    {"Q8", "a call that waits is not started once it is asked to stop", stopping_what_waits,
        AT_NETWORK | AT_IN_HOUSE, 0, 0},
    {"Q9", "a call that goes on is killed with its worker, and no other call ends",
        killing_what_goes_on, AT_NETWORK | AT_IN_HOUSE, 0, 0},
    {"Q10", "the address of a call that has ended is told from one that no call has had",
        addresses_of_no_call, AT_NETWORK | AT_IN_HOUSE, 0, 0},
};

const struct conformance_section conformance_questions =
    CONFORMANCE_SECTION("questions, and forms of a call", cases);
