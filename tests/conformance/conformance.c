/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a pool does what the sentences say, at every distance alike.
 * Method: see conformance.h. The cases of one distance share a pool, but for those that end or
 * change it; a case that fails costs that pool, so that no other fails with it. The table at the
 * end has a row for each case and a column for each distance.
 *
 *     conformance_tests [DISTANCE | ID]...    those alone: conformance_tests local tcp A9
 *     conformance_tests --list                what CASES.md has, and no case is run
 */
#include "tests/conformance/conformance.h"

#include <math.h>

#include "tests/conformance/counters.h"

enum result { NOT_RUN, FAILED, PASSED, REFUSED, MISSING, ABSENT, RESULTS };

static const char *const result_texts[RESULTS] = {
    [NOT_RUN] = "-",
    [FAILED] = "FAILED",
    [PASSED] = "ok",
    [REFUSED] = "error", /* as it must be there */
    [MISSING] = "not yet",
    [ABSENT] = "n/a",
};

/* One case at one distance. */
struct cell {
    const struct conformance_case *what;
    enum distance distance;
    enum result result;
    struct conformance context;
};

static const struct conformance_section *const sections[] = {
    &conformance_values,
    &conformance_built,
    &conformance_many,
    &conformance_slots,
    &conformance_lanes,
    &conformance_balancer,
    &conformance_options,
    &conformance_inliner,
    &conformance_timeouts,
    &conformance_errors,
    &conformance_ends,
    &conformance_limits,
    &conformance_trials,
    &conformance_sets,
    &conformance_later,
    &conformance_pools,
    &conformance_promises,
    &conformance_declared,
    &conformance_keys,
    &conformance_questions,
};

enum { SECTIONS = sizeof(sections) / sizeof(sections[0]) };

/* ---- what cases use ---- */

void conformance_succeeds(struct conformance *c, int code)
{
    if (code != KNIT_OK)
        fail_msg("%d %s: %s", code, c->error.name, c->error.message);
}

void conformance_fails(struct conformance *c, int code, int expected)
{
    if (code != expected || c->error.code != expected)
        fail_msg("%d in place of %d; the error is %d: %s", code, expected, c->error.code,
            c->error.message);
    assert_string_equal(c->error.name, knit_error_code_name(expected));
    assert_true(c->error.message[0] != '\0');
}

void conformance_serves(struct conformance *c)
{
    int64_t sum = 0;

    conformance_succeeds(
        c, knit_call(c->k, &c->error, "add", "(int, int) -> int", (int64_t)2, (int64_t)3, &sum));
    assert_true(sum == 5);
}

double conformance_patience_ms(void)
{
    return knit_deadline_left_ms(knit_deadline_in_ms(CONFORMANCE_PATIENCE_MS));
}

struct knit_handle *conformance_start_gated(
    struct conformance *c, struct knit *k, const char *task, uint32_t id, uint32_t gate, bool flag)
{
    struct knit_handle *handle = NULL;

    conformance_succeeds(c, knit_start(k, NULL, &handle, &c->error, task, "(int, int, bool) -> int",
                                (int64_t)id, (int64_t)gate, flag));
    conformance_succeeds(c, knit_flush(k, &c->error));
    place_wait_for(c->place, id);
    return handle;
}

struct knit_handle *conformance_hold(
    struct conformance *c, struct knit *k, uint32_t id, uint32_t gate, bool ignores)
{
    return conformance_start_gated(c, k, "hold", id, gate, ignores);
}

const uint8_t *conformance_bytes(struct conformance *c, struct knit_handle *handle, size_t len)
{
    const uint8_t *got = NULL;
    size_t got_len = 0;

    conformance_succeeds(c, knit_await(handle, conformance_patience_ms(), &c->error));
    conformance_succeeds(c, knit_results(handle, &c->error, &got, &got_len));
    assert_int_equal(got_len, len);
    return got;
}

int64_t conformance_int(struct conformance *c, struct knit_handle *handle)
{
    int64_t value = 0;

    conformance_succeeds(c, knit_await(handle, conformance_patience_ms(), &c->error));
    conformance_succeeds(c, knit_results(handle, &c->error, &value));
    (void)knit_free(handle);
    return value;
}

uint32_t conformance_lane(struct conformance *c, struct knit_handle *handle)
{
    int64_t lane = -1, lanes = 0, process;

    conformance_succeeds(c, knit_await(handle, conformance_patience_ms(), &c->error));
    conformance_succeeds(c, knit_results(handle, &c->error, &lane, &lanes, &process));
    (void)knit_free(handle);
    assert_true(lane >= 0 && lane < lanes && lanes <= 4);
    return (uint32_t)lane;
}

struct knit *conformance_session(struct conformance *c, const struct knit_open_options *options)
{
    struct knit *k = NULL;

    conformance_succeeds(c, place_session(c->place, options, &k, &c->error));
    return k;
}

void conformance_open_place(struct conformance *c, const struct place_wish *wish)
{
    assert_false(c->is_own_place);
    c->k = knit_close(c->k);
    c->is_own_place = true;
    c->place = NULL;
    c->place = place_open(c->distance, wish);
    c->k = conformance_session(c, NULL);
}

/* ---- one cell ---- */

/* The pool that the cases of a distance share; NULL: none is open. */
static struct place *shared;
static enum distance shared_at;
static struct counters shared_before; /* what it needs when nobody calls */

/* What is made once stays: each worker runs a call of the first session, which is deferred. */
static void warm_up(void)
{
    struct conformance c = {.place = shared};
    struct knit_handle *held[2];

    /* The session for stats is one more, in a pool of this process. */
    (void)place_lanes_serving(shared);
    assert_int_equal(place_session(shared, NULL, &c.k, &c.error), KNIT_OK);
    for (uint32_t i = 0; i < 2; i++)
        held[i] = conformance_start_gated(&c, c.k, "defer", i, 1, true);
    place_open_gate(shared, 1);
    for (int i = 0; i < 2; i++)
        (void)conformance_int(&c, held[i]);
    (void)knit_close(c.k);
    counters_read(shared, &shared_before);
}

static void share_place(enum distance distance)
{
    static const struct place_wish usual;

    if (shared != NULL && shared_at != distance) {
        struct place *old = shared;

        shared = NULL;
        place_close(old);
    }
    if (shared == NULL) {
        shared = place_open(distance, &usual);
        shared_at = distance;
        warm_up();
    }
    counters_lower(shared, &shared_before);
}

static int begin(void **state)
{
    struct cell *cell = *state;
    struct conformance *c = &cell->context;

    *c = (struct conformance){.distance = cell->distance};
    if (distance_is_missing(cell->distance) != NULL ||
        ((cell->what->missing_at | cell->what->absent_at) & AT(cell->distance)) != 0)
        return 0;
    share_place(cell->distance);
    place_forget(shared);
    c->place = shared;
    return place_session(c->place, NULL, &c->k, &c->error) == KNIT_OK ? 0 : -1;
}

static void run(void **state)
{
    struct cell *cell = *state;
    struct conformance *c = &cell->context;

    cell->result = FAILED;
    if (c->place == NULL) {
        cell->result = (cell->what->absent_at & AT(cell->distance)) != 0 ? ABSENT : MISSING;
        skip();
    }
    knit_random_init(&c->random);
    cell->what->run(c);
    if (c->k != NULL) {
        conformance_serves(c);
        counters_check_session(c->k);
        c->k = knit_close(c->k);
    }
    if (c->is_own_place) {
        struct place *own = c->place;

        c->place = NULL;
        place_close(own);
    }
    /* Of a place of its own, this program's descriptors and threads say it. */
    counters_check_place(shared, &shared_before);
    cell->result = (cell->what->refused_at & AT(cell->distance)) != 0 ? REFUSED : PASSED;
}

static int end(void **state)
{
    struct cell *cell = *state;
    struct conformance *c = &cell->context;

    if (cell->result != FAILED)
        return 0;
    if (c->place != NULL)
        place_open_gates(c->place);
    c->k = knit_close(c->k);
    if (c->is_own_place)
        place_abandon(c->place);
    place_abandon(shared);
    shared = NULL;
    return 0;
}

static int close_shared(void **state)
{
    struct place *place = shared;

    (void)state;
    shared = NULL;
    if (place != NULL)
        place_close(place);
    return 0;
}

/* ---- all of them ---- */

static bool is_named(char **names, int count, const struct conformance_case *what, int distance)
{
    bool names_distance = false, has_distance = false, names_case = false, has_case = false;

    for (int i = 0; i < count; i++) {
        bool is_distance = false;

        for (int at = 0; at < DISTANCES; at++) {
            if (strcmp(names[i], distance_name((enum distance)at)) == 0) {
                is_distance = names_distance = true;
                has_distance = has_distance || at == distance;
            }
        }
        if (!is_distance) {
            names_case = true;
            has_case = has_case || strcmp(names[i], what->id) == 0 ||
                       (strlen(names[i]) == 1 && names[i][0] == what->id[0]);
        }
    }
    return (!names_distance || has_distance) && (!names_case || has_case);
}

static void print_row(const struct cell *row[DISTANCES], size_t counts[RESULTS])
{
    const struct conformance_case *what = row[0]->what;

    (void)printf("  %-5s", what->id);
    for (int at = 0; at < DISTANCES; at++) {
        counts[row[at]->result]++;
        (void)printf("%-10s", result_texts[row[at]->result]);
    }
    (void)printf("%s\n", what->sentence);
}

/* Cells stand by distance, and at each in the order of the sections. */
static void print_table(const struct cell *cells, size_t cases)
{
    size_t counts[RESULTS] = {0}, at = 0;

    (void)printf("\n%-7s", "");
    for (int distance = 0; distance < DISTANCES; distance++)
        (void)printf("%-10s", distance_name((enum distance)distance));
    (void)printf("\n");
    for (int i = 0; i < SECTIONS; i++) {
        (void)printf("%s\n", sections[i]->title);
        for (size_t k = 0; k < sections[i]->count; k++, at++) {
            const struct cell *row[DISTANCES];

            for (size_t distance = 0; distance < DISTANCES; distance++)
                row[distance] = &cells[distance * cases + at];
            print_row(row, counts);
        }
    }
    (void)printf(
        "%zu cases: %zu ok, %zu named errors, %zu missing, %zu without meaning, %zu failed, "
        "%zu not run\n",
        cases, counts[PASSED], counts[REFUSED], counts[MISSING], counts[ABSENT], counts[FAILED],
        counts[NOT_RUN]);
}

/* Those distances, and what the cell there is in place of `ok`. */
static void list_exceptions(unsigned at, const char *text, bool *is_first)
{
    for (int distance = 0; distance < DISTANCES; distance++) {
        if ((at & AT(distance)) == 0)
            continue;
        (void)printf("%s%s", *is_first ? "" : ", ", distance_name((enum distance)distance));
        *is_first = false;
        at &= ~AT(distance);
        if (at == 0)
            (void)printf(": %s", text);
    }
}

static void list_cases(void)
{
    for (int i = 0; i < SECTIONS; i++) {
        (void)printf("## %s\n\n| # | sentence | not `ok` |\n|---|---|---|\n", sections[i]->title);
        for (size_t k = 0; k < sections[i]->count; k++) {
            const struct conformance_case *what = &sections[i]->cases[k];
            bool is_first = true;

            (void)printf("| %s | %s | ", what->id, what->sentence);
            list_exceptions(what->refused_at, result_texts[REFUSED], &is_first);
            list_exceptions(what->missing_at, result_texts[MISSING], &is_first);
            list_exceptions(what->absent_at, result_texts[ABSENT], &is_first);
            (void)printf("%s|\n", is_first ? "" : " ");
        }
        (void)printf("\n");
    }
}

static size_t fill_cells(struct cell *cells)
{
    size_t filled = 0;

    for (int distance = 0; distance < DISTANCES; distance++) {
        for (int i = 0; i < SECTIONS; i++) {
            for (size_t k = 0; k < sections[i]->count; k++)
                cells[filled++] = (struct cell){
                    .what = &sections[i]->cases[k], .distance = (enum distance)distance};
        }
    }
    return filled;
}

static char *test_name(const struct cell *cell)
{
    char *name;

    if (asprintf(&name, "%s %s: %s", distance_name(cell->distance), cell->what->id,
            cell->what->sentence) < 0)
        abort();
    return name;
}

int main(int argc, char **argv)
{
    size_t cases = 0, cell_count, count = 0;
    struct CMUnitTest *tests;
    struct cell *cells;
    int failed;

    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        list_cases();
        return 0;
    }
    for (int i = 0; i < SECTIONS; i++)
        cases += sections[i]->count;
    cells = calloc(cases * DISTANCES, sizeof(*cells));
    tests = calloc(cases * DISTANCES, sizeof(*tests));
    if (cells == NULL || tests == NULL)
        return 1;
    cell_count = fill_cells(cells);
    for (size_t i = 0; i < cell_count; i++) {
        if (is_named(argv + 1, argc - 1, cells[i].what, (int)cells[i].distance))
            tests[count++] = (struct CMUnitTest){test_name(&cells[i]), run, begin, end, &cells[i]};
    }
    failed = _cmocka_run_group_tests("conformance", tests, count, NULL, close_shared);
    print_table(cells, cases);
    for (size_t i = 0; i < count; i++)
        free((char *)(uintptr_t)tests[i].name);
    free(tests);
    free(cells);
    return failed == 0 && count > 0 ? 0 : 1;
}
