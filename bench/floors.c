/* SPDX-License-Identifier: Apache-2.0 */
/* knit-floors: the cost of a cache line, a copy, a wake-up and a socket on this machine.
 *
 * Every floor is measured once a round; medians and spread over the rounds are printed.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/floor.h"
#include "bench/floor_line.h"
#include "bench/machine.h"
#include "bench/report.h"
#include "bench/samples.h"
#include "bench/ticks.h"

enum { TRIPS = 50000, TRIPS_QUICK = 200 };

typedef int measure_floor(const struct knit_floor_setting *setting, struct knit_floor_figure *ret);

struct floor {
    const char *name, *what;
    measure_floor *measure;
    struct knit_floor_setting setting;
    bool is_one_core; /* both sides on one core */
    struct knit_samples typical, p99, rate;
};

struct settings {
    int cpu, partner_cpu;
    uint32_t rounds, ms;
    bool is_quick;
    const char *only;
    enum knit_report_format format;
};

static int measure_line(const struct knit_floor_setting *setting, struct knit_floor_figure *ret)
{
    static struct knit_typical typical;
    struct knit_floor_line line;
    int error = knit_floor_line_init(&line, setting->partner_cpu);
    if (error != 0)
        return error;
    (void)knit_machine_pin(setting->cpu);
    knit_typical_init(&typical);
    knit_floor_line_measure(&line, setting->is_quick ? TRIPS_QUICK : TRIPS, &typical);
    knit_floor_line_fini(&line);
    ret->typical_ns = knit_typical_ns(&typical);
    ret->p99_ns = knit_typical_percentile_ns(&typical, 99);
    ret->per_second = 1e9 / knit_typical_mean_ns(&typical);
    return 0;
}

static struct floor floors[] = {
    {"line", "there and back, both spin", measure_line, {.bytes = 8}},
    {"ring", "one way, each cell published", knit_floor_ring, {.bytes = 64, .batch = 1}},
    {"ring", "one way, 32 cells at once", knit_floor_ring, {.bytes = 64, .batch = 32}},
    {"copy", "in cache", knit_floor_copy, {.bytes = 1024}},
    {"copy", "in cache", knit_floor_copy, {.bytes = 65536}},
    {"copy", "in cache", knit_floor_copy, {.bytes = 1 << 20}},
    {"copy", "out of cache", knit_floor_copy, {.bytes = 65536, .is_cold = true}},
    {"copy", "out of cache", knit_floor_copy, {.bytes = 1 << 20, .is_cold = true}},
    {"futex", "there and back, each its core", knit_floor_futex, {.bytes = 4}},
    {"futex", "there and back, one core", knit_floor_futex, {.bytes = 4}, .is_one_core = true},
    {"futex", "after 2 ms asleep", knit_floor_futex, {.bytes = 4, .sleep_ms = 2}},
    {"futex", "after 50 ms asleep", knit_floor_futex, {.bytes = 4, .sleep_ms = 50}},
    {"pool", "pipes to a process, one core", knit_floor_pipe, {.bytes = 64, .depth = 1},
        .is_one_core = true},
    {"pool", "pipes, 64 at once, one core", knit_floor_pipe, {.bytes = 64, .depth = 64},
        .is_one_core = true},
    {"pool", "a thread, mutex, one core", knit_floor_threads, {.bytes = 64, .depth = 1},
        .is_one_core = true},
    {"pool", "thread, 64 at once, one core", knit_floor_threads, {.bytes = 64, .depth = 64},
        .is_one_core = true},
    {"echo", "tcp", knit_floor_echo, {.bytes = 64, .connections = 1, .depth = 1}},
    {"echo", "tcp", knit_floor_echo, {.bytes = 64, .connections = 1, .depth = 16}},
    {"echo", "tcp", knit_floor_echo, {.bytes = 64, .connections = 50, .depth = 1}},
    {"echo", "tcp", knit_floor_echo, {.bytes = 64, .connections = 50, .depth = 16}},
    {"echo", "tcp", knit_floor_echo, {.bytes = 65536, .connections = 1, .depth = 1}},
    {"echo", "tcp", knit_floor_echo, {.bytes = 65536, .connections = 50, .depth = 1}},
    {"echo", "memory", knit_floor_memory, {.bytes = 64, .connections = 1, .depth = 1}},
    {"echo", "memory", knit_floor_memory, {.bytes = 64, .connections = 1, .depth = 64}},
    {"echo", "memory", knit_floor_memory, {.bytes = 65536, .connections = 1, .depth = 1}},
    {"echo", "memory", knit_floor_memory, {.bytes = 1 << 20, .connections = 1, .depth = 1}},
    {"echo", "unix", knit_floor_echo, {.bytes = 64, .connections = 1, .depth = 1, .is_unix = true}},
    {"echo", "unix", knit_floor_echo,
        {.bytes = 64, .connections = 1, .depth = 16, .is_unix = true}},
    {"echo", "unix", knit_floor_echo,
        {.bytes = 64, .connections = 50, .depth = 1, .is_unix = true}},
    {"echo", "unix", knit_floor_echo,
        {.bytes = 64, .connections = 50, .depth = 16, .is_unix = true}},
    {"echo", "unix", knit_floor_echo,
        {.bytes = 65536, .connections = 1, .depth = 1, .is_unix = true}},
};

enum { FLOORS = sizeof(floors) / sizeof(floors[0]) };

static bool is_wanted(const struct floor *floor, const struct settings *settings)
{
    char name[64];
    bool spins;
    snprintf(name, sizeof(name), "%s %s", floor->name, floor->what);
    if (settings->only != NULL && strstr(name, settings->only) == NULL)
        return false;
    /* With one core there is nothing that two sides could do at once: they would take turns by the
     * scheduler's slice. */
    spins = floor->measure == measure_line || floor->measure == knit_floor_ring ||
            floor->measure == knit_floor_memory;
    return !(spins && settings->cpu == settings->partner_cpu);
}

static int measure_all(const struct settings *settings)
{
    for (uint32_t i = 0; i < FLOORS; i++) {
        struct floor *floor = &floors[i];
        struct knit_floor_setting setting = floor->setting;
        struct knit_floor_figure figure;
        int error;
        if (!is_wanted(floor, settings))
            continue;
        setting.cpu = settings->cpu;
        setting.partner_cpu = floor->is_one_core ? settings->cpu : settings->partner_cpu;
        setting.ms = settings->ms;
        setting.is_quick = settings->is_quick;
        error = floor->measure(&setting, &figure);
        if (error != 0) {
            fprintf(stderr, "%s, %s: %s\n", floor->name, floor->what, strerror(-error));
            return error;
        }
        knit_samples_add(&floor->typical, figure.typical_ns);
        knit_samples_add(&floor->p99, figure.p99_ns);
        knit_samples_add(&floor->rate, figure.per_second);
    }
    return 0;
}

static void report_all(const struct settings *settings)
{
    struct knit_report *report = knit_report_new("floors: what the machine itself charges");
    char text[24];
    for (uint32_t i = 0; i < FLOORS; i++) {
        const struct floor *floor = &floors[i];
        if (floor->typical.count == 0)
            continue;
        knit_report_row(report);
        knit_report_text(report, "floor", floor->name);
        knit_report_text(report, "what", floor->what);
        snprintf(text, sizeof(text), "%u", floor->setting.bytes);
        knit_report_text(report, "bytes", text);
        if (floor->setting.connections > 0) {
            snprintf(text, sizeof(text), "%ux%u", floor->setting.connections, floor->setting.depth);
            knit_report_text(report, "conns x depth", text);
        }
        knit_report_number(report, "typical_ns", knit_samples_median(&floor->typical));
        if (knit_samples_median(&floor->p99) > 0)
            knit_report_number(report, "p99_ns", knit_samples_median(&floor->p99));
        knit_report_number(report, "per_s", knit_samples_median(&floor->rate));
        knit_report_number(report, "spread_%", knit_samples_spread(&floor->typical));
        if (floor->measure == knit_floor_copy)
            knit_report_number(
                report, "GB/s", floor->setting.bytes / knit_samples_median(&floor->typical));
    }
    knit_report_print(report, settings->format, stdout);
    knit_report_free(report);
}

static const char usage[] = "usage: knit-floors [OPTION...]\n"
                            "  --only=TEXT           only floors whose name has TEXT: line, ring, "
                            "copy, futex, echo, \"echo tcp\"\n"
                            "  --rounds=N --ms=N     rounds (5), milliseconds of each (100)\n"
                            "  --cpus=ONE,OTHER      cores of the two sides (the first two)\n"
                            "  --format=table|json|csv\n"
                            "  --quick               a short run that looks at every byte; the "
                            "figures mean nothing\n";

static const struct option options[] = {
    {"only", required_argument, NULL, 'o'},
    {"rounds", required_argument, NULL, 'r'},
    {"ms", required_argument, NULL, 'm'},
    {"cpus", required_argument, NULL, 'c'},
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
        switch (letter) {
        case 'o':
            settings->only = optarg;
            break;
        case 'r':
            settings->rounds = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'm':
            settings->ms = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'c':
            ok = sscanf(optarg, "%d,%d", &settings->cpu, &settings->partner_cpu) == 2;
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
    struct settings settings = {.rounds = 5, .ms = 100};
    knit_machine_pair(&settings.cpu, &settings.partner_cpu);
    if (!parse(argc, argv, &settings)) {
        fputs(usage, stderr);
        return 2;
    }
    knit_ticks_init();
    for (uint32_t round = 0; round < settings.rounds; round++) {
        if (measure_all(&settings) != 0)
            return 1;
    }
    report_all(&settings);
    return 0;
}
