/* SPDX-License-Identifier: Apache-2.0 */
/* knit-bench: load on a pool, by any URL, and its figures.
 *
 * One case is described by options; many by a file with the options of one case on each line.
 * Several cases are measured in rounds, each once a round, in turns, so that a disturbance of the
 * machine affects all of them; the figures are medians of the rounds.
 *
 * A case whose URL is floor:tcp, floor:unix, floor:memory, floor:line, floor:futex, floor:pipe or
 * floor:threads is that floor (floor.h) with the same bytes, connections, depth, pause and core.
 * The cases after it, up to the next floor, are given as multiples of it. A case with --base is
 * such a floor too.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/floor.h"
#include "bench/floor_line.h"
#include "bench/load.h"
#include "bench/machine.h"
#include "bench/report.h"
#include "bench/samples.h"
#include "bench/ticks.h"

enum {
    PIDS_MAX = 64,
    CASES_MAX = 256,
    WORDS_MAX = 64,
    LINE_MAX_BYTES = 1024,
    FLOOR_TRIPS = 50000,
    IDLE_QUICK = 8
};

static const uint64_t QUICK_FLOOR_NS = 1000000;
static const uint64_t LOAD_NS_MAX = 10000000000u;

enum { P50, P90, P99, P999, P9999, MAX, MEAN, TYPICAL, PERCENTILES };

static const double percents[] = {50, 90, 99, 99.9, 99.99, 100};

struct scenario {
    const char *url, *task, *label;
    char *line; /* of the list of cases; the words above point into it */
    struct knit_load load;
    struct knit_mix mix;
    struct knit_samples rate, span[PERCENTILES];
    struct knit_samples rate_ratio, span_ratio; /* to the floor or base before it */
    struct knit_samples cpu, cpu_ratio;
    pid_t pids[PIDS_MAX];
    bool floats;  /* a floor whose sides are pinned to no core */
    bool is_base; /* a pool of which the next cases are multiples, as of a floor */
    uint64_t calls, errors;
    char first_error[KNIT_LOAD_TEXT_MAX];
};

struct settings {
    uint32_t rounds;
    bool is_quick;
    bool with_percentiles;
    enum knit_report_format format;
    const char *cases;
};

/* ---- measuring ------------------------------------------------------------------------------- */

static bool is_floor(const struct scenario *scenario)
{
    return strncmp(scenario->url, "floor:", 6) == 0;
}

static void add_figures(struct scenario *scenario, const struct knit_typical *spans, double rate)
{
    for (int i = P50; i <= MAX; i++)
        knit_samples_add(&scenario->span[i], knit_typical_percentile_ns(spans, percents[i]));
    knit_samples_add(&scenario->span[MEAN], knit_typical_mean_ns(spans));
    knit_samples_add(&scenario->span[TYPICAL], knit_typical_ns(spans));
    knit_samples_add(&scenario->rate, rate);
}

static bool measure_line(struct scenario *scenario, bool is_quick)
{
    static struct knit_typical typical;
    struct knit_floor_line line;
    int cpu, partner_cpu;
    knit_machine_pair(&cpu, &partner_cpu);
    (void)knit_machine_pin(cpu);
    if (cpu == partner_cpu || knit_floor_line_init(&line, partner_cpu) != 0)
        return false;
    knit_typical_init(&typical);
    knit_floor_line_measure(&line, is_quick ? 200 : FLOOR_TRIPS, &typical);
    knit_floor_line_fini(&line);
    add_figures(scenario, &typical, 1e9 / knit_typical_mean_ns(&typical));
    return true;
}

typedef int measure_floor_of(const struct knit_floor_setting *, struct knit_floor_figure *);

static measure_floor_of *floor_of(const char *url)
{
    static const struct {
        const char *url;
        measure_floor_of *measure;
    } floors[] = {
        {"floor:memory", knit_floor_memory},
        {"floor:futex", knit_floor_futex},
        {"floor:pipe", knit_floor_pipe},
        {"floor:threads", knit_floor_threads},
    };

    for (size_t i = 0; i < sizeof(floors) / sizeof(floors[0]); i++) {
        if (strcmp(url, floors[i].url) == 0)
            return floors[i].measure;
    }
    return knit_floor_echo;
}

static bool measure_other(struct scenario *scenario, bool is_quick)
{
    struct knit_floor_figure figure = {0};
    struct knit_floor_setting setting = {
        .ms = (uint32_t)(scenario->load.ns / 1000000) + 1,
        .count = scenario->load.count,
        .bytes = (uint32_t)(scenario->mix.tasks[0].len - scenario->mix.tasks[0].body),
        .connections = scenario->load.connections,
        .depth = scenario->load.batch > 0 ? scenario->load.batch : scenario->load.depth,
        .sleep_ms = (uint32_t)(scenario->load.pause_ns / 1000000),
        .is_unix = strcmp(scenario->url, "floor:unix") == 0,
        .is_quick = is_quick,
    };
    int error;
    knit_machine_pair(&setting.cpu, &setting.partner_cpu);
    if (scenario->floats)
        setting.cpu = setting.partner_cpu = -1;
    else if (scenario->load.cpu >= 0) /* both sides on one core */
        setting.partner_cpu = setting.cpu;
    error = floor_of(scenario->url)(&setting, &figure);
    if (error != 0) {
        snprintf(scenario->first_error, sizeof(scenario->first_error), "%s", strerror(-error));
        return false;
    }
    knit_samples_add(&scenario->span[P50], figure.typical_ns);
    knit_samples_add(&scenario->span[TYPICAL], figure.typical_ns);
    knit_samples_add(&scenario->span[P99], figure.p99_ns);
    knit_samples_add(&scenario->rate, figure.per_second);
    knit_samples_add(&scenario->cpu, figure.cpu_ns);
    return true;
}

static bool measure_floor(struct scenario *scenario, bool is_quick)
{
    return strcmp(scenario->url, "floor:line") == 0 ? measure_line(scenario, is_quick)
                                                    : measure_other(scenario, is_quick);
}

static double last(const struct knit_samples *samples)
{
    return samples->count == 0 ? 0 : samples->values[samples->count - 1];
}

/* A machine that is busy otherwise may do nothing of it in its time: then it gets more. */
static bool run_load(const struct scenario *scenario, struct knit_load_figures *ret)
{
    struct knit_load load = scenario->load;

    for (;; load.ns *= 2) {
        if (!knit_load_run(&load, ret))
            return false;
        if (ret->calls > 0 || ret->errors > 0 || load.ns > LOAD_NS_MAX)
            return true;
    }
}

static bool measure_load(struct scenario *scenario, const struct scenario *floor)
{
    static struct knit_load_figures figures;
    bool ran = run_load(scenario, &figures);
    if (scenario->errors == 0)
        memcpy(scenario->first_error, figures.first_error, sizeof(scenario->first_error));
    scenario->calls += figures.calls;
    scenario->errors += figures.errors;
    if (!ran || figures.calls == 0)
        return false;
    add_figures(scenario, &figures.spans, (double)figures.calls / figures.seconds);
    knit_samples_add(&scenario->cpu, figures.cpu_ns);
    if (floor != NULL) {
        /* A round with pauses has so few calls that a median of rows would be one row. */
        double span = last(&scenario->span[scenario->load.pause_ns > 0 ? P50 : TYPICAL]);
        if (scenario->load.batch > 0)
            span /= scenario->load.batch;
        knit_samples_add(&scenario->rate_ratio, last(&scenario->rate) / last(&floor->rate));
        knit_samples_add(&scenario->span_ratio, span / last(&floor->span[TYPICAL]));
        if (last(&floor->cpu) > 0)
            knit_samples_add(&scenario->cpu_ratio, last(&scenario->cpu) / last(&floor->cpu));
    }
    return true;
}

/* Floors pin their thread, and threads of loads would inherit that: it is undone after each. */
static bool measure_all(const struct settings *settings, struct scenario *scenarios, uint32_t count)
{
    int cpus[64];
    uint32_t cpus_count = knit_machine_cpus(cpus, 64);
    for (uint32_t round = 0; round < settings->rounds; round++) {
        const struct scenario *floor = NULL;
        for (uint32_t i = 0; i < count; i++) {
            struct scenario *scenario = &scenarios[i];
            bool ok;
            if (is_floor(scenario)) {
                ok = measure_floor(scenario, settings->is_quick);
                (void)knit_machine_pin_to(cpus, cpus_count);
                floor = scenario;
            } else {
                ok = measure_load(scenario, scenario->is_base ? NULL : floor);
                floor = scenario->is_base ? scenario : floor;
            }
            if (!ok) {
                fprintf(stderr, "%s %s: %s\n", scenario->url, scenario->task,
                    scenario->first_error[0] != '\0' ? scenario->first_error : "nothing was done");
                return false;
            }
        }
    }
    return true;
}

/* ---- reporting ------------------------------------------------------------------------------- */

static void report_span(
    struct knit_report *report, const struct scenario *scenario, const char *column, int which)
{
    if (scenario->span[which].count > 0)
        knit_report_number(report, column, knit_samples_median(&scenario->span[which]) / 1000);
}

static void report_case(
    struct knit_report *report, const struct settings *settings, const struct scenario *scenario)
{
    char how[64];
    const struct knit_load *load = &scenario->load;
    const char *colon = strchr(scenario->url, ':');
    int scheme = is_floor(scenario) || colon == NULL ? (int)strlen(scenario->url)
                                                     : (int)(colon - scenario->url);
    bool is_paced;
    knit_report_row(report);
    snprintf(how, sizeof(how), "%.*s", scheme, scenario->url);
    knit_report_text(report, "path", scenario->label != NULL ? scenario->label : how);
    knit_report_text(report, "task", scenario->task);
    if (load->rate > 0)
        snprintf(how, sizeof(how), "%ux%u @%.0f/s", load->connections, load->depth, load->rate);
    else if (load->batch > 0)
        snprintf(how, sizeof(how), "%u, batch %u", load->connections, load->batch);
    else
        snprintf(how, sizeof(how), "%ux%u", load->connections, load->depth);
    knit_report_text(report, "conns x depth", how);
    knit_report_number(report, "calls/s", knit_samples_median(&scenario->rate));
    /* If the rate is given, the span shows how much the rounds differ. */
    is_paced = load->pause_ns > 0 || load->rate > 0;
    knit_report_number(
        report, "spread_%", knit_samples_spread(is_paced ? &scenario->span[P50] : &scenario->rate));
    report_span(report, scenario, "p50_us", P50);
    if (settings->with_percentiles)
        report_span(report, scenario, "p90_us", P90);
    report_span(report, scenario, "p99_us", P99);
    if (settings->with_percentiles) {
        report_span(report, scenario, "p99.9_us", P999);
        report_span(report, scenario, "p99.99_us", P9999);
        report_span(report, scenario, "max_us", MAX);
        report_span(report, scenario, "mean_us", MEAN);
    }
    if (scenario->rate_ratio.count > 0) {
        knit_report_number(report, "rate/floor", knit_samples_median(&scenario->rate_ratio));
        knit_report_number(report, "span/floor", knit_samples_median(&scenario->span_ratio));
    }
    if (scenario->load.pids_count > 0 || scenario->cpu_ratio.count > 0) {
        knit_report_number(report, "cpu_us", knit_samples_median(&scenario->cpu) / 1000);
        knit_report_number(report, "cpu/floor", knit_samples_median(&scenario->cpu_ratio));
    }
    if (!is_floor(scenario)) {
        knit_report_number(report, "calls", (double)scenario->calls);
        knit_report_number(report, "errors", (double)scenario->errors);
    }
}

static int report_all(const struct settings *settings, struct scenario *scenarios, uint32_t count)
{
    struct knit_report *report = knit_report_new("load on a pool");
    int status = 0;
    for (uint32_t i = 0; i < count; i++) {
        report_case(report, settings, &scenarios[i]);
        if (scenarios[i].errors > 0) {
            fprintf(stderr, "%s %s: %llu calls failed, the first with: %s\n", scenarios[i].url,
                scenarios[i].task, (unsigned long long)scenarios[i].errors,
                scenarios[i].first_error);
            status = 1;
        }
    }
    knit_report_print(report, settings->format, stdout);
    knit_report_free(report);
    return status;
}

/* ---- options --------------------------------------------------------------------------------- */

static const char usage[] =
    "usage: knit-bench [-u URL] [OPTION...] [TASK]\n"
    "\n"
    "TASK is NAME, NAME:BYTES or NAME(INT,...), or several with weights:\n"
    "\"echo:64*9,primes_below(1000)*1\". The default is echo:64.\n"
    "\n"
    "  -u, --url=URL        knit://HOST, unix:///PATH, shm:///PATH ($KNITTING_URL);\n"
    "                       pool:threads=MODULE:..., pool:processes=WORKER:MODULE:...;\n"
    "                       floor:tcp, unix, memory, line, futex, pipe, threads: see METHOD.md\n"
    "      --token-file=FILE  who calls ($KNITTING_TOKEN_FILE, or the token in $KNITTING_TOKEN)\n"
    "      --tls-ca, --tls-cert, --tls-key, --tls-pin, --tls-pin-only  knits://: as knit has them\n"
    "  -c, --connections=N  (1)\n"
    "  -d, --depth=N        calls in flight on each (1)\n"
    "  -b, --batch=N        start N, await N, again\n"
    "  -r, --rate=N         open loop: calls a second, all together; depth is the most in flight\n"
    "      --pause=MS       one call at a time: asleep so long before each\n"
    "      --idle=N         more connections, which do nothing (0)\n"
    "      --pids=N,...     processes whose processor time counts with the caller's: cpu_us\n"
    "      --base           the cases behind this one are given as multiples of it\n"
    "  -t, --threads=N      (1)\n"
    "      --seconds=X      to measure (1); --warm=X before that (0.2)\n"
    "      --count=N        calls instead of seconds\n"
    "      --cpu=N          core of the first thread; the next ones follow\n"
    "      --float          a floor's two sides wherever the scheduler has them\n"
    "      --no-spin        shm: sleep at once\n"
    "      --typed          by knit_call(), with a signature: a task without arguments\n"
    "      --prepared       by prepared calls\n"
    "      --label=TEXT     name of the case in the table\n"
    "      --cases=FILE     a case a line, as options; those given beside it are defaults\n"
    "      --rounds=N       measure each case N times, in turns (1)\n"
    "      --percentiles    all of them, to p99.99\n"
    "      --format=table|json|csv\n"
    "      --quick          a short run that looks at every byte\n";

enum {
    SECONDS = 256,
    WARM,
    COUNT,
    CPU,
    FLOAT,
    NO_SPIN,
    TYPED,
    PREPARED,
    LABEL,
    PAUSE,
    IDLE,
    PIDS,
    BASE,
    CASES,
    ROUNDS,
    FORMAT,
    QUICK,
    ALL,
    TOKEN_FILE,
    TLS_CA,
    TLS_CERT,
    TLS_KEY,
    TLS_PIN,
    TLS_PIN_ONLY,
};

static const struct option options[] = {
    {"url", required_argument, NULL, 'u'},
    {"connections", required_argument, NULL, 'c'},
    {"depth", required_argument, NULL, 'd'},
    {"batch", required_argument, NULL, 'b'},
    {"rate", required_argument, NULL, 'r'},
    {"threads", required_argument, NULL, 't'},
    {"seconds", required_argument, NULL, SECONDS},
    {"warm", required_argument, NULL, WARM},
    {"count", required_argument, NULL, COUNT},
    {"cpu", required_argument, NULL, CPU},
    {"float", no_argument, NULL, FLOAT},
    {"no-spin", no_argument, NULL, NO_SPIN},
    {"typed", no_argument, NULL, TYPED},
    {"prepared", no_argument, NULL, PREPARED},
    {"label", required_argument, NULL, LABEL},
    {"pause", required_argument, NULL, PAUSE},
    {"idle", required_argument, NULL, IDLE},
    {"pids", required_argument, NULL, PIDS},
    {"base", no_argument, NULL, BASE},
    {"cases", required_argument, NULL, CASES},
    {"rounds", required_argument, NULL, ROUNDS},
    {"percentiles", no_argument, NULL, ALL},
    {"format", required_argument, NULL, FORMAT},
    {"quick", no_argument, NULL, QUICK},
    {"token-file", required_argument, NULL, TOKEN_FILE},
    {"tls-ca", required_argument, NULL, TLS_CA},
    {"tls-cert", required_argument, NULL, TLS_CERT},
    {"tls-key", required_argument, NULL, TLS_KEY},
    {"tls-pin", required_argument, NULL, TLS_PIN},
    {"tls-pin-only", no_argument, NULL, TLS_PIN_ONLY},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

/* A number of at least `least`, to the end of the text. */
static bool number(const char *text, double least, double *ret)
{
    char *end;
    *ret = strtod(text, &end);
    return end != text && *end == '\0' && *ret >= least;
}

static bool whole(const char *text, uint32_t least, uint32_t *ret)
{
    double value;
    if (!number(text, least, &value) || value > UINT32_MAX)
        return false;
    *ret = (uint32_t)value;
    return true;
}

/* Into the scenario itself, which is copied before it is run: load.pids is set last. */
static bool parse_pids(const char *text, struct scenario *scenario)
{
    uint32_t count = 0;
    char *end;
    do {
        long pid = strtol(text, &end, 10);
        if (end == text || pid <= 0 || count == PIDS_MAX)
            return false;
        scenario->pids[count++] = (pid_t)pid;
        text = end + 1;
    } while (*end == ',');
    scenario->load.pids_count = count;
    return *end == '\0';
}

static bool parse_identity(int letter, struct knit_load *load)
{
    load->has_tls = load->has_tls || letter != TOKEN_FILE;
    switch (letter) {
    case TOKEN_FILE:
        load->token = (struct knit_token_options){.file = optarg};
        return true;
    case TLS_CA:
        load->tls.ca_file = optarg;
        return true;
    case TLS_CERT:
        load->tls.certificate_file = optarg;
        return true;
    case TLS_KEY:
        load->tls.key_file = optarg;
        return true;
    case TLS_PIN:
        load->tls.pin = optarg;
        return true;
    case TLS_PIN_ONLY:
        load->tls.pin_only = true;
        return true;
    default:
        return false;
    }
}

static bool parse_load(int letter, struct scenario *scenario)
{
    struct knit_load *load = &scenario->load;
    double value = 0;
    bool ok = true;
    switch (letter) {
    case 'u':
        scenario->url = optarg;
        return true;
    case 'c':
        return whole(optarg, 1, &load->connections);
    case 'd':
        return whole(optarg, 1, &load->depth);
    case 'b':
        return whole(optarg, 0, &load->batch);
    case 'r':
        return number(optarg, 0, &load->rate);
    case 't':
        return whole(optarg, 1, &load->threads);
    case SECONDS:
        ok = number(optarg, 0.001, &value);
        load->ns = (uint64_t)(value * 1e9);
        return ok;
    case WARM:
        ok = number(optarg, 0, &value);
        load->warm_ns = (uint64_t)(value * 1e9);
        return ok;
    case COUNT:
        ok = number(optarg, 1, &value);
        load->count = (uint64_t)value;
        return ok;
    case CPU: {
        uint32_t cpu;
        ok = whole(optarg, 0, &cpu) && cpu < 64;
        load->cpu = ok ? (int)cpu : -1;
        return ok;
    }
    case FLOAT:
        scenario->floats = true;
        return true;
    case NO_SPIN:
        load->no_spin = true;
        return true;
    case TYPED:
        load->is_typed = true;
        return true;
    case PREPARED:
        load->is_prepared = true;
        return true;
    case LABEL:
        scenario->label = optarg;
        return true;
    case PAUSE:
        ok = number(optarg, 0, &value);
        load->pause_ns = (uint64_t)(value * 1e6);
        return ok;
    case IDLE:
        return whole(optarg, 0, &load->idle);
    case PIDS:
        return parse_pids(optarg, scenario);
    case BASE:
        scenario->is_base = true;
        return true;
    default:
        return parse_identity(letter, load);
    }
}

static const char *name_of(int letter)
{
    const struct option *option = options;
    while (option->name != NULL && option->val != letter)
        option++;
    return option->name;
}

static bool parse(int argc, char **argv, struct settings *settings, struct scenario *scenario)
{
    int letter;
    bool ok = true;
    optind = 0; /* glibc: begin anew */
    while (ok && (letter = getopt_long(argc, argv, "u:c:d:b:r:t:h", options, NULL)) != -1) {
        switch (letter) {
        case 'h':
            fputs(usage, stdout);
            exit(fflush(stdout) == 0 ? 0 : 1);
        case CASES:
            settings->cases = optarg;
            break;
        case ROUNDS:
            ok = whole(optarg, 1, &settings->rounds);
            break;
        case FORMAT:
            ok = knit_report_parse(optarg, &settings->format);
            break;
        case ALL:
            settings->with_percentiles = true;
            break;
        case QUICK:
            settings->is_quick = true;
            break;
        default:
            ok = parse_load(letter, scenario);
        }
    }
    if (!ok && letter != '?') /* an option that it does not know getopt names itself */
        fprintf(
            stderr, "knit-bench: --%s does not take \"%s\"; see --help\n", name_of(letter), optarg);
    if (ok && optind < argc)
        scenario->task = argv[optind++];
    if (ok && optind < argc)
        fprintf(
            stderr, "knit-bench: one task, and not \"%s\" behind it; see --help\n", argv[optind]);
    return ok && optind == argc;
}

static bool complete(struct scenario *scenario, const struct settings *settings)
{
    struct knit_load *load = &scenario->load;
    if (scenario->url == NULL) {
        fputs("knit-bench: no URL: give one with --url or in $KNITTING_URL\n", stderr);
        return false;
    }
    if (!knit_mix_init(&scenario->mix, scenario->task)) {
        fprintf(stderr, "knit-bench: task \"%s\": %s\n", scenario->task, scenario->mix.flaw);
        return false;
    }
    if (is_floor(scenario) && scenario->mix.tasks[0].body == 0 &&
        strcmp(scenario->url, "floor:line") != 0 && strcmp(scenario->url, "floor:futex") != 0) {
        fputs("knit-bench: a bare echo needs a task with bytes, as in echo:64\n", stderr);
        return false;
    }
    /* By count: on a busy machine no call might end within a short time. */
    if (settings->is_quick) {
        load->count = 3 * (uint64_t)load->connections * (load->depth + load->batch) + 20;
        load->count = load->rate > 0 || load->pause_ns > 0 ? 5 : load->count;
        load->idle = load->idle < IDLE_QUICK ? load->idle : IDLE_QUICK;
        load->ns = QUICK_FLOOR_NS;
    }
    if (load->pause_ns > 0 && (load->connections > 1 || load->depth > 1 || load->batch > 0)) {
        fputs("knit-bench: --pause is for one call at a time\n", stderr);
        return false;
    }
    load->is_whole = settings->is_quick;
    load->threads = load->threads < load->connections ? load->threads : load->connections;
    load->shows_progress = isatty(STDERR_FILENO);
    load->url = scenario->url;
    load->mix = &scenario->mix;
    return true;
}

/* Words of a line are separated by blanks; "#" begins a comment. The copy of the line is kept. */
static int split(char *line, char **words)
{
    static char program[] = "knit-bench";
    char *rest = line;
    int count = 0;
    words[count++] = program;
    line[strcspn(line, "#\n")] = '\0';
    for (char *word; (word = strtok_r(rest, " \t", &rest)) != NULL && count < WORDS_MAX - 1;)
        words[count++] = word;
    words[count] = NULL;
    return count;
}

static bool read_cases(struct settings *settings, const struct scenario *defaults,
    struct scenario *scenarios, uint32_t *ret_count)
{
    bool is_stdin = strcmp(settings->cases, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(settings->cases, "re");
    char line[LINE_MAX_BYTES], *words[WORDS_MAX];
    uint32_t count = 0;
    bool ok = file != NULL;
    if (!ok)
        perror(settings->cases);
    while (ok && fgets(line, sizeof(line), file) != NULL) {
        char *copy = strdup(line);
        int words_count = copy == NULL ? 0 : split(copy, words);
        if (words_count < 2 || count == CASES_MAX) {
            free(copy);
            ok = words_count == 1;
            continue;
        }
        scenarios[count] = *defaults;
        scenarios[count].line = copy;
        ok = parse(words_count, words, settings, &scenarios[count]) &&
             complete(&scenarios[count], settings);
        if (!ok)
            fprintf(stderr, "knit-bench: in the case %s", line);
        count++;
    }
    if (file != NULL && !is_stdin)
        fclose(file);
    *ret_count = count;
    return ok;
}

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

int main(int argc, char **argv)
{
    static struct scenario scenarios[CASES_MAX];
    static struct scenario defaults = {
        .task = "echo:64",
        .load = {.connections = 1,
            .depth = 1,
            .threads = 1,
            .ns = 1000000000,
            .warm_ns = 200000000,
            .cpu = -1},
    };
    struct settings settings = {.rounds = 1};
    uint32_t count = 1;
    defaults.url = getenv("KNITTING_URL");
    defaults.load.token.file = variable("KNITTING_TOKEN_FILE");
    if (defaults.load.token.file == NULL)
        defaults.load.token.text = variable("KNITTING_TOKEN");
    if (!parse(argc, argv, &settings, &defaults))
        return 2;
    if (settings.cases != NULL) {
        if (!read_cases(&settings, &defaults, scenarios, &count))
            return 2;
    } else {
        settings.with_percentiles = true;
        scenarios[0] = defaults;
        if (!complete(&scenarios[0], &settings))
            return 2;
    }
    knit_ticks_init();
    for (uint32_t i = 0; i < count; i++)
        scenarios[i].load.pids = scenarios[i].pids;
    if (!measure_all(&settings, scenarios, count))
        return 1;
    return report_all(&settings, scenarios, count);
}
