/* SPDX-License-Identifier: Apache-2.0 */
/* What is too much, and what is no message at all. */
#include "tests/conformance/conformance.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <knitting/pool.h>

#include "tests/conformance/counters.h"

static void the_largest_arguments(struct conformance *c)
{
    static const struct {
        const char *option, *name;
    } bad[] = {
        {"call_max_bytes=0", "call_max_bytes"}, {"call_max_bytes=2097153", "call_max_bytes"}};
    size_t max = knit_arguments_max(c->k);
    uint8_t *bytes = calloc(1, max + 1);

    assert_non_null(bytes);
    assert_int_equal(max, 2 << 20); /* an eighth of the arena */
    conformance_succeeds(c, knit_call(c->k, &c->error, "echo", "(bin)", bytes, max - 6));
    for (int i = 0; i < 3; i++) {
        conformance_fails(
            c, knit_call(c->k, &c->error, "echo", "(bin)", bytes, max - 5), KNIT_TOO_LARGE);
        assert_int_equal(c->error.started, KNIT_STARTED_NO);
        assert_true(c->error.limit == (int64_t)max);
        assert_true(c->error.actual == (int64_t)max + 1);
        assert_non_null(strstr(c->error.message, "call_max_bytes"));
        assert_false(counters_has_block(c->k));
        conformance_serves(c);
    }
    free(bytes);
    /* In a pool of the program's own 0 is the default. */
    for (size_t i = (AT(c->distance) & AT_IN_HOUSE) != 0; i < 2; i++) {
        const struct place_wish wish = {.workers = 1, .options = {bad[i].option}};
        char *said = place_refused(c->distance, &wish);

        if (strstr(said, bad[i].name) == NULL)
            fail_msg("%s", said);
        free(said);
    }
}

/* ---- bytes of a stranger ---- */

static int dial(struct conformance *c)
{
    const char *url = place_url(c->place);
    const struct timeval patience = {.tv_sec = 10};
    int fd = -1, r = -1;

    if ((AT(c->distance) & AT_NETWORK) != 0) {
        struct sockaddr_in to = {.sin_family = AF_INET,
            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
            .sin_port = htons((uint16_t)strtoul(strrchr(url, ':') + 1, NULL, 10))};

        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        r = connect(fd, (struct sockaddr *)&to, sizeof(to));
    } else {
        struct sockaddr_un to = {.sun_family = AF_UNIX};

        /* unix:// and shm:// with a path */
        (void)snprintf(to.sun_path, sizeof(to.sun_path), "%s", strstr(url, "://") + 3);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        r = connect(fd, (struct sockaddr *)&to, sizeof(to));
    }
    assert_int_equal(r, 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    return fd;
}

/* Sends it, in pieces of so many bytes; then says that there is no more, and reads to the end. */
static size_t send_and_end(
    struct conformance *c, const void *bytes, size_t len, size_t piece, char *ret, size_t room)
{
    int fd = dial(c);
    size_t got = 0;
    ssize_t n;

    for (size_t at = 0; at < len; at += piece) {
        size_t part = len - at < piece ? len - at : piece;

        if (send(fd, (const char *)bytes + at, part, MSG_NOSIGNAL) < 0)
            break;
    }
    (void)shutdown(fd, SHUT_WR);
    while (got < room && (n = recv(fd, ret + got, room - got, 0)) > 0)
        got += (size_t)n;
    (void)close(fd);
    return got;
}

static void announcements(struct conformance *c)
{
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {
        {"\x94\x00\x01\xa4"
         "echo\xdd\xff\xff\xff\xff",
            13},
        {"\x94\x00\x01\xa4"
         "echo\x91\xdf\xff\xff\xff\xff",
            14},
        {"\x94\x00\x01\xa4"
         "echo\x91\xc9\xff\xff\xff\xff\x22",
            15},
        {"\x94\x00\x01\xa4"
         "echo\x91\xc6\xff\xff\xff\xff",
            14},
        {"\xdd\xff\xff\xff\xff", 5},
        {"\xc1", 1},
    };
    static const char good[] = "\x94\x00\x07\xa4"
                               "echo\x91\x05";
    char reply[512];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        for (size_t piece = 1; piece <= 16; piece += 15)
            (void)send_and_end(c, bad[i].bytes, bad[i].len, piece, reply, sizeof(reply));
    }
    /* One that is right, cut short at each byte and a byte at a time. */
    for (size_t len = 1; len < sizeof(good) - 1; len++)
        assert_int_equal(send_and_end(c, good, len, len, reply, sizeof(reply)), 0);
    conformance_serves(c);
}

static void random_bytes(struct conformance *c)
{
    enum { ROUNDS = 100, BYTES = 4096 };
    static char bytes[BYTES], reply[BYTES];

    for (int round = 0; round < ROUNDS; round++) {
        size_t len = 1 + knit_random_below(&c->random, BYTES - 1);

        knit_random_bytes(&c->random, bytes, len);
        if (round % 2 == 0)
            memcpy(bytes,
                "\x94\x00\x01\xa4"
                "echo\x91",
                len < 9 ? len : 9);
        (void)send_and_end(c, bytes, len, len, reply, sizeof(reply));
    }
    conformance_serves(c);
}

static void connections_that_do_nothing_right(struct conformance *c)
{
    enum { COUNT = 24 };
    static const char request[] = "\x94\x00\x07\xa5"
                                  "large\x91\xce\x00\x02\x00\x00";
    const struct linger at_once = {.l_onoff = 1};
    int fds[COUNT];

    for (int i = 0; i < COUNT; i++)
        fds[i] = dial(c);
    for (int i = 0; i < COUNT; i++) {
        switch (i % 4) {
        case 0: /* never writes */
            break;
        case 1: /* never reads */
            for (int k = 0; k < 50; k++)
                (void)send(fds[i], request, sizeof(request) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
            break;
        case 2: /* half a message, and half closed */
            (void)send(fds[i], request, 7, MSG_NOSIGNAL);
            (void)shutdown(fds[i], SHUT_WR);
            break;
        default: /* reset within a message */
            (void)send(fds[i], request, 9, MSG_NOSIGNAL);
            (void)setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
            (void)close(fds[i]);
            fds[i] = -1;
        }
        conformance_serves(c);
    }
    for (int i = 0; i < COUNT; i++) {
        if (fds[i] >= 0)
            (void)close(fds[i]);
    }
    conformance_serves(c);
}

static void refuses_permission_of_threads(struct conformance *c)
{
    static const struct place_wish wish = {.options = {"permission=strict"}};
    char *said = place_refused(c->distance, &wish);

    if (strstr(said, "permission is set") == NULL || strstr(said, "threads") == NULL)
        fail_msg("%s", said);
    free(said);
}

/* What is tried must be denied, and the worker live on; each works where all is permitted. */
static void what_is_not_permitted(struct conformance *c)
{
    enum { OF_THE_DAEMON = -1 };
    static const struct {
        const char *what, *text;
        int64_t number;
    } attempts[] = {{"read", "/etc/passwd", 0}, {"create", "/tmp/knit-made", 0}, {"connect", "", 9},
        {"bind", "", 0}, {"unix", "/tmp/none", 0}, {"exec", "/bin/true", 0},
        {"kill", "", OF_THE_DAEMON}, {"ptrace", "", OF_THE_DAEMON},
        {"open memory", "", OF_THE_DAEMON}, {"limit", "", OF_THE_DAEMON}};
    const char *module = getenv("KNIT_ESCAPE");
    char option[512];
    const struct place_wish wish = {.options = {option}};
    int64_t code;

    assert_non_null(module);
    if (c->distance == THREADS) {
        refuses_permission_of_threads(c);
        return;
    }
    (void)snprintf(option, sizeof(option), "module=%s", module);
    conformance_open_place(c, &wish);
    for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
        const int64_t number =
            attempts[i].number == OF_THE_DAEMON ? place_pid(c->place) : attempts[i].number;

        conformance_succeeds(c, knit_call(c->k, &c->error, "attempt", "(str, str, int) -> int",
                                    attempts[i].what, attempts[i].text, number, &code));
        if (code != EPERM && code != EACCES && code != ENOTSUP)
            fail_msg("%s %s: %lld", attempts[i].what, attempts[i].text, (long long)code);
    }
    conformance_succeeds(c, knit_call(c->k, &c->error, "attempt", "(str, str, int) -> int", "read",
                                module, (int64_t)0, &code));
    assert_true(code == 0);
    assert_true(place_stat(c->place, "pool", "deaths") == 0);
}

/* Opened without naming any permission. */
static void what_a_program_permits(struct conformance *c)
{
    const char *modules[] = {getenv("KNIT_ESCAPE"), NULL};
    const bool is_threads = c->distance == THREADS;
    const struct knit_pool_options options = {
        .kind = is_threads ? KNIT_POOL_THREADS : KNIT_POOL_PROCESSES,
        .modules = modules,
        .worker_program = is_threads ? NULL : getenv("KNIT_WORKER")};
    static const struct {
        const char *what, *text;
    } attempts[] = {{"read", "/etc/passwd"}, {"exec", "/bin/true"}, {"bind", ""}};
    struct knit_pool *pool = NULL;
    struct knit *k = NULL;

    conformance_succeeds(c, knit_pool_open(&options, &pool, &c->error));
    conformance_succeeds(c, knit_pool_session(pool, NULL, &k, &c->error));
    for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
        int64_t code = -1;

        conformance_succeeds(c, knit_call(k, &c->error, "attempt", "(str, str, int) -> int",
                                    attempts[i].what, attempts[i].text, (int64_t)0, &code));
        if (code != 0)
            fail_msg("%s %s: %lld", attempts[i].what, attempts[i].text, (long long)code);
    }
    (void)knit_close(k);
    (void)knit_pool_close(pool);
}

static void limits_of_workers(struct conformance *c)
{
    char option[512];
    const struct place_wish wish = {
        .options = {"files_max=250", "core_max_bytes=4096", "memory_max_bytes=70368744177664",
            "file_max_bytes=1048576", option}};
    static const struct {
        int64_t resource, most;
    } limits[] = {{RLIMIT_NOFILE, 250}, {RLIMIT_CORE, 4096}, {RLIMIT_DATA, INT64_C(1) << 46},
        {RLIMIT_FSIZE, 1 << 20}};

    (void)snprintf(option, sizeof(option), "module=%s", getenv("KNIT_ESCAPE"));
    if (c->distance == THREADS) {
        char *said = place_refused(c->distance, &wish);

        assert_non_null(strstr(said, "memory_max_bytes is set"));
        assert_non_null(strstr(said, "threads"));
        free(said);
        return;
    }
    conformance_open_place(c, &wish);
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        int64_t most = 0;

        conformance_succeeds(
            c, knit_call(c->k, &c->error, "limit_of", "(int) -> int", limits[i].resource, &most));
        /* The shadow memory of a sanitizer is larger than any limit: there is none then. */
        if (most != limits[i].most &&
            (limits[i].resource != RLIMIT_DATA || getenv("KNIT_SANITIZED") == NULL))
            fail_msg("limit %lld is %lld", (long long)limits[i].resource, (long long)most);
    }
}

static const struct conformance_case cases[] = {
    {"I75", "arguments of an eighth of the arena pass, one byte more is refused with numbers",
        the_largest_arguments, 0, 0, 0},
    {"I76a", "announced lengths cost nothing, and no message is taken before it is whole",
        announcements, 0, 0, AT_IN_HOUSE | AT(TLS)},
    {"I76b", "random bytes end their connection at most", random_bytes, 0, 0, AT_IN_HOUSE},
    {"I77", "peers that never write, never read, half close and reset disturb nobody",
        connections_that_do_nothing_right, 0, 0, AT_IN_HOUSE},
    {"I79", "a task is denied what its worker is not permitted: files, network, programs, others",
        what_is_not_permitted, AT(THREADS), 0, 0},
    {"I79b", "a pool of a program's own permits its tasks what the program may, unless it is told",
        what_a_program_permits, 0, 0, AT_DAEMONS},
    {"I79c", "a worker has the limits that are named for it", limits_of_workers, AT(THREADS), 0, 0},
};

const struct conformance_section conformance_limits =
    CONFORMANCE_SECTION("limits and hostile peers", cases);
