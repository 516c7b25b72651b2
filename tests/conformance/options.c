/* SPDX-License-Identifier: Apache-2.0 */
/* Options of a pool, which are settings of a daemon by the same names: what each refuses, and what
 * it does. Those of balancing are in balancer.c. */
#include "tests/conformance/conformance.h"

#include <knitting/pool.h>

/* The pool does not start, and says why in these words. */
static void refuses_both(
    struct conformance *c, const char *option, const char *other, const char *const words[3])
{
    const struct place_wish wish = {.options = {option, other}};
    char *said = place_refused(c->distance, &wish);

    for (int i = 0; i < 3 && words[i] != NULL; i++) {
        if (strstr(said, words[i]) == NULL)
            fail_msg("%s: \"%s\" should have \"%s\"", option, said, words[i]);
    }
    free(said);
}

static void refuses(struct conformance *c, const char *option, const char *const words[3])
{
    refuses_both(c, option, NULL, words);
}

static void out_of_range(struct conformance *c)
{
    static const struct {
        const char *option;
        const char *words[3];
    } wrong[] = {
        {"spin_us=1000001", {"spin_us", "1000001", "1000000"}},
        {"pause_ns=1000001", {"pause_ns", "1000001", "1000000"}},
        {"park_ms=3600001", {"park_ms", "3600001", "3600000"}},
        {"busy_poll_turns=1000001", {"busy_poll_turns", "1000001", "1000000"}},
        {"max_backoff_ms=0", {"max_backoff_ms", "1", "60000"}},
        {"max_backoff_ms=60001", {"max_backoff_ms", "60001", "60000"}},
        {"arena_initial_bytes=4294967294", {"arena_initial_bytes", "4294967294", "4293918720"}},
        {"arena_initial_bytes=16777217", {"arena_initial_bytes", "16777217", "16777216"}},
        {"call_max_bytes=0", {"call_max_bytes", "0", "1"}},
        {"call_max_bytes=2097153", {"call_max_bytes", "2097153", "eighth of arena_bytes"}},
        {"deferred_max=16385", {"deferred_max", "16385", "16384"}},
        {"deaths_per_minute=10001", {"deaths_per_minute", "10001", "10000"}},
        {"slow_call_ms=86400001", {"slow_call_ms", "86400001", "86400000"}},
        {"debug=host,lanes", {"debug", "'lanes'", "lifecycle"}},
        {"arena_mode=stretchy", {"unknown arena_mode: stretchy", "growable", "fixed"}},
        {"hard_timeout_scope=worl", {"unknown hard_timeout_scope: worl", "worker", "pool"}},
    };

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        refuses(c, wrong[i].option, wrong[i].words);
}

static void no_workers(struct conformance *c)
{
    const struct place_wish many = {.workers = 257};
    char *said = place_refused(c->distance, &many);

    if (strstr(said, "workers") == NULL || strstr(said, "257") == NULL ||
        strstr(said, "256") == NULL)
        fail_msg("%s", said);
    free(said);
}

/* With values that are as far from the defaults as may be. */
static void at_the_ends(struct conformance *c)
{
    static const struct place_wish least = {
        .options = {"spin_us=0", "pause_ns=0", "park_ms=1", "busy_poll_turns=0", "max_backoff_ms=1",
            "arena_initial_bytes=0", "slow_call_ms=0"}};
    enum { CALLS = 200 };
    struct knit_handle *handles[CALLS];

    conformance_open_place(c, &least);
    for (int64_t i = 0; i < CALLS; i++)
        conformance_succeeds(
            c, knit_start(c->k, NULL, &handles[i], &c->error, "ledger", "(int) -> int", i));
    for (int i = 0; i < CALLS; i++)
        (void)conformance_int(c, handles[i]);
    for (uint32_t i = 0; i < CALLS; i++)
        assert_int_equal(place_ran(c->place, i), 1);
}

static void echo_bytes(struct conformance *c, const uint8_t *bytes, size_t len)
{
    struct knit_handle *handle = NULL;

    conformance_succeeds(
        c, knit_start(c->k, NULL, &handle, &c->error, "echo", "(bin) -> bin", bytes, len));
    assert_memory_equal(conformance_bytes(c, handle, len), bytes, len);
    (void)knit_free(handle);
}

static void arenas_of_fixed_size(struct conformance *c)
{
    static const struct place_wish wish = {.options = {"arena_mode=fixed"}};
    static const struct place_wish both = {
        .options = {"arena_mode=fixed", "arena_initial_bytes=65536"}};
    enum { BYTES = (2 << 20) - 64 };
    uint8_t *bytes = malloc(BYTES);
    char *said = place_refused(c->distance, &both);

    assert_non_null(strstr(said, "arena_initial_bytes"));
    assert_non_null(strstr(said, "arena_mode fixed"));
    free(said);
    assert_non_null(bytes);
    memset(bytes, 0x5a, BYTES);
    conformance_open_place(c, &wish);
    for (int i = 0; i < 20; i++)
        echo_bytes(c, bytes, BYTES);
    free(bytes);
}

static void so_many_are_deferred(struct conformance *c)
{
    static const struct place_wish wish = {.workers = 1, .options = {"deferred_max=3"}};
    struct knit_handle *held[3], *more = NULL;

    conformance_open_place(c, &wish);
    for (uint32_t i = 0; i < 3; i++)
        held[i] = conformance_start_gated(c, c->k, "defer", i, 1, false);
    for (int i = 0; i < 2; i++) {
        conformance_succeeds(c, knit_start(c->k, NULL, &more, &c->error, "defer",
                                    "(int, int, bool) -> int", (int64_t)7, (int64_t)2, 0));
        conformance_fails(
            c, knit_await(more, conformance_patience_ms(), &c->error), KNIT_TASK_FAILED);
        assert_string_equal(c->error.message, "too many");
        (void)knit_free(more);
    }
    place_open_gate(c->place, 1);
    for (int i = 0; i < 3; i++)
        (void)conformance_int(c, held[i]);
    /* There is room again. */
    (void)conformance_int(c, conformance_start_gated(c, c->k, "defer", 8, 1, false));
}

static void none_is_deferred(struct conformance *c)
{
    static const struct place_wish wish = {.options = {"deferred_max=0"}};

    conformance_open_place(c, &wish);
    conformance_fails(c,
        knit_call(
            c->k, &c->error, "defer", "(int, int, bool) -> int", (int64_t)0, (int64_t)1, 0, NULL),
        KNIT_TASK_FAILED);
    assert_string_equal(c->error.message, "too many");
}

/* Options that a later library knows, or memory that nobody zeroed. */
static void reserved_words(struct conformance *c)
{
    struct knit_call_options call = KNIT_CALL_OPTIONS_INIT;
    struct knit_open_options session = {.slots = 64};
    struct knit_pool_options pool = {.workers = 1};
    struct knit_handle *handle = NULL;
    struct knit_pool *opened = NULL;
    struct knit *k = NULL;
    int64_t sum = 0;

    call.reserved[sizeof(call.reserved) / sizeof(call.reserved[0]) - 1] = 1;
    session.reserved[0] = UINT64_MAX;
    pool.reserved[sizeof(pool.reserved) / sizeof(pool.reserved[0]) - 1] = 1;
    conformance_fails(c, place_session(c->place, &session, &k, &c->error), KNIT_BAD_ARGUMENT);
    assert_non_null(strstr(c->error.message, "reserved of struct knit_open_options is not 0"));
    conformance_fails(c,
        knit_call_with(
            c->k, &call, &c->error, "add", "(int, int) -> int", (int64_t)2, (int64_t)3, &sum),
        KNIT_BAD_ARGUMENT);
    assert_non_null(strstr(c->error.message, "reserved of struct knit_call_options is not 0"));
    conformance_fails(c,
        knit_start(
            c->k, &call, &handle, &c->error, "add", "(int, int) -> int", (int64_t)2, (int64_t)3),
        KNIT_BAD_ARGUMENT);
    assert_null(handle);
    conformance_fails(c, knit_pool_open(&pool, &opened, &c->error), KNIT_BAD_ARGUMENT);
    assert_non_null(strstr(c->error.message, "reserved of struct knit_pool_options is not 0"));
    assert_true(k == NULL && opened == NULL && sum == 0);
}

static void nothing_to_open(struct conformance *c)
{
    struct knit *k = c->k;

    conformance_fails(c, knit_open(NULL, NULL, &k, &c->error), KNIT_BAD_ARGUMENT);
    assert_non_null(strstr(c->error.message, "URL"));
    assert_null(k);
    k = c->k;
    conformance_fails(c, knit_pool_session(NULL, NULL, &k, &c->error), KNIT_BAD_ARGUMENT);
    assert_non_null(strstr(c->error.message, "pool"));
    assert_null(k);
}

/* By TCP nobody may, of whatever task. */
static void a_task_that_is_none_is_lifted(struct conformance *c)
{
    bool is_lifted = true;
    int code = knit_lift(c->k, &c->error, "no_such_task", &is_lifted);

    if ((AT(c->distance) & AT_NETWORK) != 0) {
        conformance_fails(c, code, KNIT_DENIED);
        return;
    }
    conformance_fails(c, code, KNIT_UNKNOWN_TASK);
    if (strstr(c->error.message, "'no_such_task'") == NULL)
        fail_msg("%s", c->error.message);
    assert_true(is_lifted);
}

static void what_does_not_go_with_its_permission(struct conformance *c)
{
    static const struct {
        const char *permission, *option;
        const char *words[3];
    } wrong[] = {
        {"permission=lax", NULL, {"unknown permission: lax", "strict", "custom"}},
        {"permission=strict", "write_paths=/tmp", {"write_paths", "permission strict", "custom"}},
        {"permission=strict", "connect_ports=80", {"connect_ports", "permission strict", "custom"}},
        {"permission=strict", "listen_ports=any", {"listen_ports", "permission strict", "custom"}},
        {"permission=strict", "udp_sockets=on", {"udp_sockets", "permission strict", "custom"}},
        {"permission=strict", "unix_sockets=on", {"unix_sockets", "permission strict", "custom"}},
        {"permission=strict", "exec_programs=on", {"exec_programs", "permission strict", "custom"}},
        {"permission=unsafe", "read_paths=/usr", {"read_paths", "permission unsafe", "nothing"}},
        {"permission=custom", "connect_ports=0", {"connect_ports", "'0'", "65535"}},
        {"permission=custom", "listen_ports=1x", {"listen_ports", "'1x'", "any"}},
        {"permission=custom", "read_paths=/nowhere", {"read_paths", "/nowhere", "No such file"}},
        {"permission=strict", "files_max=1048577", {"files_max", "1048577", "1048576"}},
    };
    static const char *const of_threads[3] = {"permission is set", "threads", "processes can"};

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        refuses_both(c, wrong[i].permission, wrong[i].option,
            c->distance == THREADS ? of_threads : wrong[i].words);
}

static void modules_that_lie_elsewhere(struct conformance *c)
{
    static const char *const outside[3] = {
        "cannot load the module", "which is not in modules_root", "/usr"};
    static const char *const missing[3] = {"modules_root", "/nowhere", "No such file"};
    static const char *const no_folder[3] = {"modules_root", "/dev/null", "is no folder"};
    static const char *const address[3] = {
        "http://localhost/module.so", "expected the path of a file", "address"};

    refuses(c, "modules_root=/usr", outside);
    refuses(c, "modules_root=/nowhere", missing);
    refuses(c, "modules_root=/dev/null", no_folder);
    refuses(c, "module=http://localhost/module.so", address);
}

/* Two folders above the module, where those of all tests lie; and with a way that is not real. */
static void modules_below_a_root(struct conformance *c)
{
    char option[512];
    const struct place_wish wish = {.options = {option}};

    (void)snprintf(option, sizeof(option), "modules_root=%s/../..", getenv("KNIT_MODULE_FOLDER"));
    conformance_open_place(c, &wish);
    conformance_serves(c);
}

static const struct conformance_case cases[] = {
    {"O1", "an option out of its range is refused with name, value and what is possible",
        out_of_range, 0, 0, 0},
    {"O2", "more than 256 workers are refused with both numbers", no_workers, 0, 0, 0},
    {"O3", "a pool that neither spins nor pauses nor looks twice serves each call once",
        at_the_ends, 0, 0, 0},
    {"O4", "arenas that have all their memory from the beginning carry the largest arguments",
        arenas_of_fixed_size, 0, 0, 0},
    {"O5", "a worker defers as many calls as deferred_max says, and refuses the next one",
        so_many_are_deferred, 0, 0, 0},
    {"O6", "with deferred_max 0 no call is deferred", none_is_deferred, 0, 0, 0},
    {"O7", "options with reserved words that are not 0 are refused, those of a call for it alone",
        reserved_words, 0, 0, 0},
    {"O8", "without a URL or a pool no session is opened", nothing_to_open, 0, 0, 0},
    {"O9", "lifting a task that does not exist names it", a_task_that_is_none_is_lifted, AT_NETWORK,
        0, 0},
    {"O10", "what does not go with its permission is refused by both names",
        what_does_not_go_with_its_permission, AT(THREADS), 0, 0},
    {"O11", "modules outside of modules_root, and addresses, are refused with both paths",
        modules_that_lie_elsewhere, 0, 0, 0},
    {"O12", "modules that lie below modules_root are loaded", modules_below_a_root, 0, 0, 0},
};

const struct conformance_section conformance_options = CONFORMANCE_SECTION("options", cases);
