/* SPDX-License-Identifier: Apache-2.0 */
/* knit-lane-bench: the cost of the lanes themselves, without encoding, library or daemon.
 *
 * One caller, one worker, each on its core. A case is a worker (thread or process), a task (empty,
 * echo), a size and a batch: "single" publishes one call and waits for its slot, a batch of n
 * publishes n and then collects n. Arguments are copied in, results copied out, both read. In the
 * cases "in place" the caller writes its argument where a worker that trusts it reads it: it is not
 * copied, so the cost should not depend on its length.
 *
 * Cases are measured in rounds: each round measures every case once for some milliseconds, and the
 * cache-line floor right before it. So a disturbance of the machine affects all equally, and floor
 * and case of a ratio are neighbours in time. Medians of the rounds and their spread are printed;
 * "typical" is a call's span (typical.h), in a batch divided by the batch's size. See METHOD.md.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/floor_line.h"
#include "bench/lane_pool.h"
#include "bench/machine.h"
#include "bench/report.h"
#include "bench/samples.h"
#include "bench/ticks.h"
#include "bench/typical.h"
#include "fastpath/lane/layout.h"

enum {
    CASES_MAX = 128,
    BATCH_MAX = 1000,
    COLLECT_MAX = 64,
    LEN_MAX = 1 << 20,
    FLOOR_TRIPS = 20000,
    FLOOR_TRIPS_QUICK = 200,
};

enum { THREAD, PROCESS, TRUSTED, BENCHES };

#define CALL_WITHIN_NS (UINT64_C(10) * 1000 * 1000 * 1000)

struct settings {
    struct knit_lane_pool_options pool;
    int cpu;
    int cpus[64];
    uint32_t cpus_count;
    bool floats; /* no thread is pinned, except while the floor is measured */
    uint32_t rounds, ms;
    bool with_thread, with_process, is_quick;
    const char *only; /* part of the names of the cases to run */
    enum knit_report_format format;
};

struct scenario {
    char name[48];
    const char *worker, *task;
    enum knit_lane_pool_task id;
    uint32_t len, batch; /* batch 0 = single */
    bool is_in_place;
    struct knit_samples typical, p50, p99, p999, max, per_call, ratio;
};

struct bench {
    const struct settings *settings;
    struct knit_session *session;
    struct knit_lane_pool *pool;
    struct knit_typical spans;
    uint64_t sent, until_ns;
    unsigned char *argument, *result;
    const char *failure;
};

/* ---- calls ----------------------------------------------------------------------------------- */

static bool failed(struct bench *bench, const char *what)
{
    const char *fault = knit_lane_pool_eviction(bench->pool);
    bench->failure = fault != NULL ? fault : what;
    return false;
}

/* The caller's bytes are those that the worker reads; the number stands for all of them. */
static int publish_in_place(
    struct bench *bench, struct knit_session_call *call, uint64_t number, uint32_t *ret_slot)
{
    void *room;
    int error = knit_session_reserve(bench->session, call->len, &room);
    if (error != 0)
        return error;
    memcpy(room, &number, sizeof(number));
    call->payload = room;
    error = knit_session_publish_reserved(bench->session, call, ret_slot);
    if (error != 0)
        knit_session_unreserve(bench->session, room);
    return error;
}

static int publish(struct bench *bench, const struct scenario *scenario, uint32_t *ret_slot)
{
    uint64_t number = bench->sent;
    struct knit_session_call call = {
        .task = scenario->id,
        .lane = KNIT_LANE_ANY,
        .payload = bench->argument,
        .len = scenario->len,
        .user = (void *)(uintptr_t)number,
    };
    int error;
    if (scenario->len >= sizeof(number))
        memcpy(bench->argument, &number, sizeof(number));
    error = scenario->is_in_place ? publish_in_place(bench, &call, number, ret_slot)
                                  : knit_session_publish(bench->session, &call, ret_slot);
    if (error == 0)
        bench->sent++;
    return error;
}

/* Copies the result out, as a caller would that keeps it, and looks whether it is the right one. */
static bool take(
    struct bench *bench, const struct scenario *scenario, const struct knit_session_outcome *got)
{
    uint64_t number = (uint64_t)(uintptr_t)got->user;
    size_t len = scenario->id == KNIT_LANE_POOL_ECHO   ? scenario->len
                 : scenario->id == KNIT_LANE_POOL_LOOK ? sizeof(number)
                                                       : 1;
    if (got->status != KNIT_STATUS_RESULT || got->len != len)
        return failed(bench, "an outcome that is no result, or of the wrong length");
    memcpy(bench->result, got->payload, len);
    if (got->held)
        knit_session_release(bench->session, got->slot);
    if (len >= sizeof(number) && memcmp(bench->result, &number, sizeof(number)) != 0)
        return failed(bench, "the result of another call");
    if (bench->settings->is_quick && len > sizeof(number) &&
        memcmp(bench->result + sizeof(number), bench->argument + sizeof(number),
            len - sizeof(number)) != 0)
        return failed(bench, "a result with other bytes than the argument");
    return true;
}

static bool call_single(struct bench *bench, const struct scenario *scenario)
{
    struct knit_session_outcome outcome;
    uint32_t slot;
    if (publish(bench, scenario, &slot) != 0)
        return failed(bench, "a call was refused");
    while (!knit_session_collect_slot(bench->session, slot, &outcome)) {
        if (knit_session_wait(bench->session, slot, bench->until_ns) != 0)
            return failed(bench, "no answer");
    }
    return take(bench, scenario, &outcome);
}

static bool call_batch(struct bench *bench, const struct scenario *scenario)
{
    struct knit_session_outcome outcomes[COLLECT_MAX];
    uint32_t sent = 0, done = 0, slot;
    while (done < scenario->batch) {
        int error = 0;
        size_t count;
        while (sent < scenario->batch && (error = publish(bench, scenario, &slot)) == 0)
            sent++;
        if (error != 0 && error != KNIT_SESSION_E_FULL && error != KNIT_SESSION_E_ARENA_FULL)
            return failed(bench, "a call was refused");
        count = knit_session_collect(bench->session, outcomes, COLLECT_MAX);
        if (count == 0) {
            if (knit_session_wait(bench->session, KNIT_SLOT_ANY, bench->until_ns) != 0)
                return failed(bench, "no answer");
            continue;
        }
        for (size_t i = 0; i < count; i++) {
            if (!take(bench, scenario, &outcomes[i]))
                return false;
        }
        done += (uint32_t)count;
    }
    return true;
}

/* ---- rounds ---------------------------------------------------------------------------------- */

static bool run_for(struct bench *bench, const struct scenario *scenario, uint64_t ns)
{
    uint64_t end_ns = knit_ticks_clock_ns() + ns, least = bench->settings->is_quick ? 3 : 1;
    /* The clock is read once in a while: once each call would be a tenth of a short one. */
    uint32_t chunk = scenario->batch > 16 ? 1 : scenario->len > 4096 ? 4 : 64;
    do {
        for (uint32_t i = 0; i < chunk; i++) {
            uint64_t begin = knit_ticks_now();
            if (!(scenario->batch == 0 ? call_single : call_batch)(bench, scenario))
                return false;
            knit_typical_record(&bench->spans, knit_ticks_now() - begin);
        }
        least = least > 0 ? least - 1 : 0;
    } while (least > 0 || knit_ticks_clock_ns() < end_ns);
    return true;
}

static bool measure(struct bench *bench, struct scenario *scenario, double floor_ns)
{
    uint64_t ns = (uint64_t)bench->settings->ms * 1000000;
    double calls, typical;
    bench->until_ns = knit_ticks_clock_ns() + ns + CALL_WITHIN_NS;
    knit_typical_init(&bench->spans);
    if (!run_for(bench, scenario, ns / 5)) /* wakes the worker, fills the caches */
        return false;
    knit_typical_init(&bench->spans);
    if (!run_for(bench, scenario, ns))
        return false;
    calls = scenario->batch == 0 ? 1 : scenario->batch;
    typical = knit_typical_ns(&bench->spans) / calls;
    knit_samples_add(&scenario->typical, typical);
    knit_samples_add(&scenario->p50, knit_typical_percentile_ns(&bench->spans, 50));
    knit_samples_add(&scenario->p99, knit_typical_percentile_ns(&bench->spans, 99));
    knit_samples_add(&scenario->p999, knit_typical_percentile_ns(&bench->spans, 99.9));
    knit_samples_add(&scenario->max, knit_typical_percentile_ns(&bench->spans, 100));
    knit_samples_add(&scenario->per_call, knit_typical_mean_ns(&bench->spans) / calls);
    if (floor_ns > 0)
        knit_samples_add(&scenario->ratio, typical / floor_ns);
    return true;
}

/* ---- cases ----------------------------------------------------------------------------------- */

static const uint32_t batches[] = {0, 1, 10, 64, 1000};

static uint32_t add_task(struct scenario *scenarios, uint32_t count,
    const struct settings *settings, const char *worker, enum knit_lane_pool_task id, uint32_t len)
{
    for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]) && count < CASES_MAX; i++) {
        struct scenario *scenario = &scenarios[count];
        char how[16] = "single";
        /* Large calls in large batches only measure how full the arena is. */
        if ((uint64_t)batches[i] * len > settings->pool.arena_bytes / 2)
            continue;
        *scenario = (struct scenario){.worker = worker, .id = id, .len = len, .batch = batches[i]};
        scenario->task = id == KNIT_LANE_POOL_ECHO ? "echo" : "empty";
        if (batches[i] > 0)
            snprintf(how, sizeof(how), "x%u", batches[i]);
        snprintf(scenario->name, sizeof(scenario->name), "%s %s %u %s", worker, scenario->task, len,
            how);
        count += settings->only == NULL || strstr(scenario->name, settings->only) != NULL;
    }
    return count;
}

static uint32_t add_worker(
    struct scenario *scenarios, uint32_t count, const struct settings *settings, const char *worker)
{
    static const uint32_t lens[] = {40, 64, KNIT_INLINE_MAX, 1024, 65536, LEN_MAX};
    count = add_task(scenarios, count, settings, worker, KNIT_LANE_POOL_EMPTY, 1);
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
        count = add_task(scenarios, count, settings, worker, KNIT_LANE_POOL_ECHO, lens[i]);
    return count;
}

static uint32_t add_in_place(
    struct scenario *scenarios, uint32_t count, const struct settings *settings)
{
    static const uint32_t lens[] = {4096, 65536, LEN_MAX};
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        struct scenario *scenario = &scenarios[count];
        *scenario = (struct scenario){.worker = "process",
            .task = "in place",
            .id = KNIT_LANE_POOL_LOOK,
            .len = lens[i],
            .is_in_place = true};
        snprintf(scenario->name, sizeof(scenario->name), "process in place %u single", lens[i]);
        count += settings->only == NULL || strstr(scenario->name, settings->only) != NULL;
    }
    return count;
}

static void report_case(struct knit_report *report, struct scenario *scenario)
{
    char bytes[16], batch[16];
    snprintf(bytes, sizeof(bytes), "%u", scenario->len);
    snprintf(batch, sizeof(batch), scenario->batch == 0 ? "single" : "%u", scenario->batch);
    knit_report_row(report);
    knit_report_text(report, "worker", scenario->worker);
    knit_report_text(report, "task", scenario->task);
    knit_report_text(report, "bytes", bytes);
    knit_report_text(report, "batch", batch);
    knit_report_number(report, "typical_ns", knit_samples_median(&scenario->typical));
    knit_report_number(report, "x_floor", knit_samples_median(&scenario->ratio));
    knit_report_number(report, "spread_%", knit_samples_spread(&scenario->typical));
    knit_report_number(report, "Mcalls/s", 1000 / knit_samples_median(&scenario->per_call));
    if (scenario->batch == 0) {
        knit_report_number(report, "p50_ns", knit_samples_median(&scenario->p50));
        knit_report_number(report, "p99_ns", knit_samples_median(&scenario->p99));
        knit_report_number(report, "p99.9_ns", knit_samples_median(&scenario->p999));
        knit_report_number(report, "max_ns", knit_samples_median(&scenario->max));
    }
}

static void report_all(const struct settings *settings, struct scenario *scenarios, uint32_t count,
    const struct knit_samples *floor)
{
    struct knit_report *report = knit_report_new("bare lanes: one caller, one worker, no encoding");
    knit_report_row(report);
    knit_report_text(report, "worker", "(floor)");
    knit_report_text(report, "task", "line");
    knit_report_text(report, "bytes", "8");
    knit_report_text(report, "batch", "single");
    knit_report_number(report, "typical_ns", knit_samples_median(floor));
    knit_report_number(report, "x_floor", 1);
    knit_report_number(report, "spread_%", knit_samples_spread(floor));
    for (uint32_t i = 0; i < count; i++)
        report_case(report, &scenarios[i]);
    knit_report_print(report, settings->format, stdout);
    knit_report_free(report);
}

static double measure_floor(const struct settings *settings, struct knit_floor_line *line)
{
    static struct knit_typical typical;
    if (line->page == NULL)
        return 0;
    (void)knit_machine_pin(settings->cpu);
    knit_typical_init(&typical);
    knit_floor_line_measure(line, settings->is_quick ? FLOOR_TRIPS_QUICK : FLOOR_TRIPS, &typical);
    if (settings->floats)
        (void)knit_machine_pin_to(settings->cpus, settings->cpus_count);
    return knit_typical_ns(&typical);
}

static int bench_of(const struct scenario *scenario)
{
    if (scenario->is_in_place)
        return TRUSTED;
    return strcmp(scenario->worker, "process") == 0 ? PROCESS : THREAD;
}

/* All pools live through the whole run; those not measured are parked. */
static int run_all(
    const struct settings *settings, struct bench benches[BENCHES], struct knit_floor_line *line)
{
    static struct scenario scenarios[CASES_MAX];
    static struct knit_samples floor;
    uint32_t count = 0;
    if (settings->with_thread)
        count = add_worker(scenarios, count, settings, "thread");
    if (settings->with_process) {
        count = add_worker(scenarios, count, settings, "process");
        count = add_in_place(scenarios, count, settings);
    }
    for (uint32_t round = 0; round < settings->rounds; round++) {
        for (uint32_t i = 0; i < count; i++) {
            struct bench *bench = &benches[bench_of(&scenarios[i])];
            double floor_ns = measure_floor(settings, line);
            knit_samples_add(&floor, floor_ns);
            if (!measure(bench, &scenarios[i], floor_ns)) {
                fprintf(stderr, "%s: %s\n", scenarios[i].name, bench->failure);
                return 1;
            }
        }
    }
    report_all(settings, scenarios, count, &floor);
    return 0;
}

static int open_bench(struct bench *bench, const struct settings *settings, int which)
{
    struct knit_lane_pool_options options = settings->pool;
    int error;
    options.process = which != THREAD;
    options.trusted |= which == TRUSTED;
    if (settings->floats)
        options.cpu = -1;
    *bench = (struct bench){.settings = settings, .argument = malloc(LEN_MAX)};
    bench->result = malloc(LEN_MAX);
    error = bench->argument == NULL || bench->result == NULL
                ? -1
                : knit_lane_pool_new(&options, &bench->pool);
    if (error != 0) {
        fprintf(stderr, "cannot open a pool: %s\n", strerror(-error));
        return 1;
    }
    for (uint32_t i = 0; i < LEN_MAX; i++)
        bench->argument[i] = (unsigned char)(i * 7 + i / 251);
    bench->session = knit_lane_pool_session(bench->pool);
    return 0;
}

static void close_bench(struct bench *bench)
{
    knit_lane_pool_free(bench->pool);
    free(bench->argument);
    free(bench->result);
}

static int run(const struct settings *settings)
{
    static struct bench benches[BENCHES];
    struct knit_floor_line line = {.order_fd = -1};
    int error = 0;
    /* Forks before the thread is started. On one core two spinning processes take turns by the
     * scheduler's slice, which is no floor. */
    if (settings->cpu != settings->pool.cpu)
        error = knit_floor_line_init(&line, settings->pool.cpu);
    if (error == 0 && settings->with_process)
        error = open_bench(&benches[PROCESS], settings, PROCESS);
    if (error == 0 && settings->with_process)
        error = open_bench(&benches[TRUSTED], settings, TRUSTED);
    if (error == 0 && settings->with_thread)
        error = open_bench(&benches[THREAD], settings, THREAD);
    /* The thread must not inherit the caller's core. */
    if (!settings->floats)
        (void)knit_machine_pin(settings->cpu);
    if (error == 0)
        error = run_all(settings, benches, &line);
    for (int i = 0; i < BENCHES; i++)
        close_bench(&benches[i]);
    knit_floor_line_fini(&line);
    return error == 0 ? 0 : 1;
}

/* ---- options --------------------------------------------------------------------------------- */

static const char usage[] =
    "usage: knit-lane-bench [OPTION...]\n"
    "  --worker=thread|process  only that kind of worker\n"
    "  --only=TEXT              only cases whose name has TEXT, as in \"process echo 64 x1000\"\n"
    "  --rounds=N --ms=N        rounds (9), milliseconds of a case in a round (40)\n"
    "  --cpus=CALLER,WORKER     cores (the first two); twice the same: one core for both\n"
    "  --float                  cores as the scheduler has it\n"
    "  --spin-us=N              longest spin of both sides (50)\n"
    "  --pause-ns=N --park-ms=N the worker's (0, 0)\n"
    "  --slots=N --arena-mib=N  of the session (1008, 64)\n"
    "  --trusted                the worker reads arguments in place\n"
    "  --format=table|json|csv\n"
    "  --quick                  a short run that looks at every byte; the figures mean nothing\n";

static const struct option options[] = {
    {"worker", required_argument, NULL, 'w'},
    {"only", required_argument, NULL, 'o'},
    {"rounds", required_argument, NULL, 'r'},
    {"ms", required_argument, NULL, 'm'},
    {"cpus", required_argument, NULL, 'c'},
    {"float", no_argument, NULL, 'l'},
    {"spin-us", required_argument, NULL, 's'},
    {"pause-ns", required_argument, NULL, 'p'},
    {"park-ms", required_argument, NULL, 'k'},
    {"slots", required_argument, NULL, 'n'},
    {"arena-mib", required_argument, NULL, 'a'},
    {"trusted", no_argument, NULL, 't'},
    {"format", required_argument, NULL, 'f'},
    {"quick", no_argument, NULL, 'q'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static bool parse(int argc, char **argv, struct settings *settings)
{
    int letter;
    bool ok = true;
    while (ok && (letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
        uint32_t number = optarg != NULL ? (uint32_t)strtoul(optarg, NULL, 10) : 0;
        switch (letter) {
        case 'w':
            settings->with_thread = strcmp(optarg, "thread") == 0;
            settings->with_process = strcmp(optarg, "process") == 0;
            ok = settings->with_thread || settings->with_process;
            break;
        case 'o':
            settings->only = optarg;
            break;
        case 'r':
            settings->rounds = number;
            break;
        case 'm':
            settings->ms = number;
            break;
        case 'c':
            ok = sscanf(optarg, "%d,%d", &settings->cpu, &settings->pool.cpu) == 2;
            break;
        case 'l':
            settings->floats = true;
            break;
        case 's':
            settings->pool.spin_us = number;
            break;
        case 'p':
            settings->pool.pause_ns = number;
            break;
        case 'k':
            settings->pool.park_ms = number;
            break;
        case 'n':
            settings->pool.slots = number;
            break;
        case 'a':
            settings->pool.arena_bytes = (uint64_t)number << 20;
            break;
        case 't':
            settings->pool.trusted = true;
            break;
        case 'f':
            ok = knit_report_parse(optarg, &settings->format);
            break;
        case 'q':
            settings->is_quick = true;
            settings->rounds = 1;
            settings->ms = 1;
            break;
        default:
            ok = false;
        }
    }
    return ok && optind == argc;
}

int main(int argc, char **argv)
{
    struct settings settings = {
        .pool = {.slots = KNIT_SLOTS_DEFAULT, .arena_bytes = KNIT_ARENA_DEFAULT, .spin_us = 50},
        .rounds = 9,
        .ms = 40,
        .with_thread = true,
        .with_process = true,
    };
    knit_machine_pair(&settings.cpu, &settings.pool.cpu);
    settings.cpus_count = knit_machine_cpus(settings.cpus, 64);
    if (!parse(argc, argv, &settings)) {
        fputs(usage, stderr);
        return 2;
    }
    knit_ticks_init();
    return run(&settings);
}
