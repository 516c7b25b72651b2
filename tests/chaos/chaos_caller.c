/* SPDX-License-Identifier: Apache-2.0 */
/* A caller that records the outcome of each of its calls where a kill does not lose it: in a mapped
 * file with one word for each call id, beside the ledger in which the tasks count what they ran.
 *
 *     chaos_caller URL RECORD SEAT FIRST COUNT SEED [key=number...]
 *
 * calls ids FIRST to FIRST + COUNT - 1: most of them are short, some have a body or a deadline that
 * may expire, some are cancelled or their handles freed while in flight. With an odd SEED it waits
 * for its calls one after the other, with an even one it uses callbacks. A session that breaks is
 * opened again. Keys:
 *
 *     window=N     calls in flight (64)
 *     rate=N       calls a second, begun at their time even when those before have not ended; 0: as
 *                  many as fit (0). Implies callbacks
 *     plain=N      1: short calls only; 2: each one is cancelled at once (0)
 *     attempts=N   how often in a row opening may fail before it ends with status 3 (1)
 *
 * The record: SEATS seats of 64 bytes, then a u32 for each id, see enum record. For each call whose
 * worker died a line "died ID NS" says when the caller got that outcome, CLOCK_MONOTONIC. Exit
 * status 0: all calls have an outcome; 1: the library broke a promise, which stderr names.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <knitting/knitting.h>

#include "tests/support/deadline.h"
#include "tests/support/random.h"

enum { WINDOW_MAX = 4096, BODY_MAX = 60000, SEATS = 64, NS_PER_S = 1000000000, PAUSE_MS = 5 };

/* code << 16 | outcomes << 8 | started << 4 | flags */
enum record {
    RECORD_BEGUN = 1,
    RECORD_FREED = 2, /* its handle was freed while it was in flight: there is no outcome */
    RECORD_STARTED = 4,
    RECORD_OUTCOME = 1 << 8,
    RECORD_CODE = 16,
};

struct seat {
    _Atomic uint64_t begun, done, sessions;
    uint64_t unused[5];
};

enum kind { SHORT, BODY, DEADLINE, CANCEL, FREE_EARLY };

struct place {
    int64_t id; /* below 0: free */
    enum kind kind;
    struct knit_handle *handle;
    size_t len;
};

static struct {
    const char *url;
    struct seat *seat;
    _Atomic uint32_t *record;
    int64_t window, rate, plain, attempts;
    bool has_callbacks;
    struct knit *k;
    struct knit_random random;
    unsigned char body[BODY_MAX];
    struct place places[WINDOW_MAX];
    struct place *free_places[WINDOW_MAX];
    int64_t free_count;
} it;

static void die(const char *what, int64_t id, const struct knit_error *error)
{
    fprintf(stderr, "chaos_caller: %s, call %" PRId64 ": %s: %s\n", what, id,
        error != NULL ? error->name : "", error != NULL ? error->message : "");
    exit(1);
}

/* Each word has one writer. release: a reader of the word sees what was written before. */
static void note(int64_t id, uint32_t add)
{
    uint32_t word = atomic_load_explicit(&it.record[id], memory_order_relaxed);

    atomic_store_explicit(&it.record[id], word + add, memory_order_release);
}

static void raise_by_one(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_release);
}

static void note_outcome(int64_t id, int code, const struct knit_error *error)
{
    uint32_t started = code == KNIT_OK ? KNIT_STARTED_YES : (uint32_t)error->started;

    note(id, (uint32_t)code << RECORD_CODE | RECORD_OUTCOME | started << RECORD_STARTED);
    raise_by_one(&it.seat->done);
    if (code == KNIT_WORKER_DIED)
        printf("died %" PRId64 " %" PRIu64 "\n", id, knit_deadline_now_ns());
}

/* The result of a call that ended well is the bytes that were sent. */
static void check_body(const struct place *place)
{
    struct knit_error error;
    const void *bytes;
    size_t len;

    if (knit_results(place->handle, &error, &bytes, &len) != KNIT_OK)
        die("a result", place->id, &error);
    if (len != place->len || memcmp(bytes, it.body + place->id % 64, len) != 0)
        die("a body came back changed", place->id, NULL);
}

static void collect(struct place *place, double wait_ms)
{
    struct knit_error error;
    int code = knit_await(place->handle, wait_ms, &error);

    if (code == KNIT_PENDING)
        die("an outcome was announced that is not there", place->id, NULL);
    if (code == KNIT_OK && place->kind != SHORT && place->kind != CANCEL)
        check_body(place);
    note_outcome(place->id, code, &error);
    knit_free(place->handle);
    *place = (struct place){.id = -1};
    it.free_places[it.free_count++] = place;
}

static void on_done(struct knit_handle *handle, void *user)
{
    struct place *place = user;

    if (place->id < 0 || place->handle != handle)
        die("a call is done that is not in flight", place->id, NULL);
    collect(place, 0);
}

static enum kind any_kind(void)
{
    /* Of a hundred calls. */
    static const struct {
        enum kind kind;
        uint64_t below;
    } share[] = {{SHORT, 88}, {BODY, 92}, {DEADLINE, 95}, {CANCEL, 98}, {FREE_EARLY, 100}};
    uint64_t number = knit_random_below(&it.random, 100);
    size_t i = 0;

    if (it.plain != 0)
        return it.plain == 1 ? SHORT : CANCEL;
    while (number >= share[i].below)
        i++;
    return share[i].kind;
}

static int start(struct place *place, struct knit_error *ret_error)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    int64_t busy_us = 0;

    if (place->kind == SHORT || place->kind == CANCEL)
        return knit_start(
            it.k, NULL, &place->handle, ret_error, "ledger", "(int) -> int", place->id);
    place->len = knit_random_chance(&it.random, 4) ? knit_random_below(&it.random, BODY_MAX - 64)
                                                   : knit_random_below(&it.random, 300);
    if (place->kind == DEADLINE) {
        options.timeout_ms = (double)knit_random_below(&it.random, 3000) / 1000;
        busy_us = (int64_t)knit_random_below(&it.random, 1000);
    }
    return knit_start(it.k, &options, &place->handle, ret_error, "carry", "(int, int, bin) -> bin",
        place->id, busy_us, it.body + place->id % 64, place->len);
}

static void free_early(struct place *place)
{
    note(place->id, RECORD_FREED);
    raise_by_one(&it.seat->done);
    knit_free(place->handle);
    *place = (struct place){.id = -1};
    it.free_places[it.free_count++] = place;
}

/* The code of a session that broke, else KNIT_OK. */
static int begin(int64_t id)
{
    struct place *place = it.free_places[it.free_count - 1];
    struct knit_error error;
    int code;

    *place = (struct place){.id = id, .kind = any_kind()};
    note(id, RECORD_BEGUN);
    raise_by_one(&it.seat->begun);
    code = start(place, &error);
    if (code != KNIT_OK) {
        note_outcome(id, code, &error);
        place->id = -1;
        return code == KNIT_DISCONNECTED ? code : KNIT_OK;
    }
    it.free_count--;
    if (it.has_callbacks && place->kind != FREE_EARLY)
        knit_on_done(place->handle, on_done, place);
    if (place->kind == CANCEL || place->kind == FREE_EARLY) {
        if (knit_random_chance(&it.random, 2))
            (void)knit_flush(it.k, NULL);
        if (place->kind == FREE_EARLY)
            free_early(place);
        else
            knit_cancel(place->handle);
    }
    return KNIT_OK;
}

static void await_all(void)
{
    for (int64_t i = 0; i < it.window; i++) {
        if (it.places[i].id >= 0)
            collect(&it.places[i], -1);
    }
}

/* Waits for an answer, or until the next call is due. */
static int dispatch(int wait_ms)
{
    struct pollfd fd = {.fd = knit_fd(it.k), .events = POLLIN};

    if (knit_flush(it.k, NULL) == KNIT_OK && fd.fd >= 0)
        (void)poll(&fd, 1, wait_ms);
    return knit_dispatch(it.k, NULL);
}

/* Returns the first id that was not called; ends when the session breaks or all ids are called. */
static int64_t one_session(int64_t next, int64_t end, uint64_t begun_ns, int64_t first)
{
    int code = KNIT_OK;

    while (code == KNIT_OK && (next < end || it.free_count < it.window)) {
        int64_t allowed = end;

        if (it.rate != 0) {
            uint64_t ns = knit_deadline_now_ns() - begun_ns;

            allowed = first + (int64_t)(ns / 1000 * (uint64_t)it.rate / 1000000);
            allowed = allowed < end ? allowed : end;
        }
        while (code == KNIT_OK && it.free_count > 0 && next < allowed)
            code = begin(next++);
        if (!it.has_callbacks)
            await_all();
        else if (code == KNIT_OK)
            code = dispatch(it.rate == 0 ? 100 : 1);
        if (!it.has_callbacks && knit_fd(it.k) < 0)
            code = KNIT_DISCONNECTED;
    }
    return next;
}

static bool open_session(void)
{
    struct knit_open_options options = {.slots = (uint32_t)it.window, .stays_lost = true};
    struct knit_error error;

    for (int64_t i = 0; i < it.attempts; i++) {
        if (knit_open(it.url, &options, &it.k, &error) == KNIT_OK) {
            raise_by_one(&it.seat->sessions);
            return true;
        }
        (void)KNIT_WAIT_UNTIL(false, PAUSE_MS);
    }
    fprintf(stderr, "chaos_caller: open: %s\n", error.message);
    return false;
}

static int run(int64_t first, int64_t count)
{
    const uint64_t begun_ns = knit_deadline_now_ns();
    int64_t next = first;

    while (next < first + count) {
        if (!open_session())
            return 3;
        next = one_session(next, first + count, begun_ns, first);
        /* Calls that are in flight get their outcomes here, and none is left after. */
        if (!it.has_callbacks)
            await_all();
        it.k = knit_close(it.k);
        if (it.free_count != it.window)
            die("a session has ended, but not each of its calls", next, NULL);
    }
    return 0;
}

static int64_t number(const char *text)
{
    char *end;
    long long value = strtoll(text, &end, 10);

    if (end == text || *end != '\0' || value < 0) {
        fprintf(stderr, "chaos_caller: expected a number, not '%s'\n", text);
        exit(2);
    }
    return value;
}

static void read_keys(char **keys)
{
    const struct {
        const char *name;
        int64_t *value;
    } known[] = {{"window=", &it.window}, {"rate=", &it.rate}, {"plain=", &it.plain},
        {"attempts=", &it.attempts}};

    for (; *keys != NULL; keys++) {
        bool is_known = false;

        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
            size_t len = strlen(known[i].name);

            if (strncmp(*keys, known[i].name, len) == 0) {
                *known[i].value = number(*keys + len);
                is_known = true;
            }
        }
        if (!is_known || it.window < 1 || it.window > WINDOW_MAX) {
            fprintf(stderr, "chaos_caller: '%s' is no key, or its number too large\n", *keys);
            exit(2);
        }
    }
}

static void map_record(const char *path, int64_t seat)
{
    struct stat info;
    void *base = MAP_FAILED;
    int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd >= 0 && fstat(fd, &info) == 0)
        base = mmap(NULL, (size_t)info.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED || seat >= SEATS) {
        fprintf(stderr, "chaos_caller: %s: %s\n", path, strerror(errno));
        exit(2);
    }
    close(fd);
    it.seat = (struct seat *)base + seat;
    it.record = (_Atomic uint32_t *)((struct seat *)base + SEATS);
}

int main(int argc, char **argv)
{
    uint64_t seed;

    if (argc < 7) {
        fprintf(stderr, "usage: chaos_caller URL RECORD SEAT FIRST COUNT SEED [key=number...]\n");
        return 2;
    }
    it.url = argv[1];
    it.window = 64;
    it.attempts = 1;
    read_keys(argv + 7);
    map_record(argv[2], number(argv[3]));
    seed = (uint64_t)number(argv[6]);
    it.has_callbacks = seed % 2 == 0 || it.rate != 0;
    knit_random_init_seeded(&it.random, seed);
    knit_random_bytes(&it.random, it.body, sizeof(it.body));
    for (int64_t i = 0; i < it.window; i++) {
        it.places[i].id = -1;
        it.free_places[it.free_count++] = &it.places[i];
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    return run(number(argv[4]), number(argv[5]));
}
