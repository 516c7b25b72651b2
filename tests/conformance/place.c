/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon has a folder of its own with socket, ready file, ledger and log, and its tasks may write
 * the ledger alone. Its stats are asked for over the unix socket, whatever distance is tested. */
#include "tests/conformance/place.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <knitting/pool.h>
#include <knitting/values.h>

#include "tests/support/deadline.h"
#include "tests/support/process.h"
#include "tests/support/scratch.h"

enum { ARGUMENTS_MAX = 40, TEXT_MAX = 512, MODULES = 5, WISHES = 8, EVENT_KINDS = 32 };

struct entry {
    _Atomic uint32_t times, process;
};

struct place {
    enum distance distance;
    char *dir, *socket, *ready, *ledger_path;
    char url[TEXT_MAX], admin_url[TEXT_MAX];
    struct knit_process daemon;
    int expected_status;
    struct knit_pool *pool;               /* in this process; NULL: there is a daemon */
    _Atomic uint32_t events[EVENT_KINDS]; /* that it has told, by their kind */
    pthread_t closer;                     /* is_closing: closes it */
    bool is_closing;
    struct knit *admin; /* for stats; opened when they are asked for */
    _Atomic uint32_t *gate;
    struct entry *entry;
};

/* ---- the ledger ---- */

static const size_t ledger_bytes =
    PLACE_GATES * sizeof(_Atomic uint32_t) + PLACE_IDS * sizeof(struct entry);

static void open_ledger(struct place *place)
{
    int fd;

    place->ledger_path = knit_scratch_path(place->dir, "ledger");
    fd = open(place->ledger_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)ledger_bytes), 0);
    place->gate = mmap(NULL, ledger_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(place->gate != MAP_FAILED);
    place->entry = (struct entry *)(place->gate + PLACE_GATES);
    (void)close(fd);
}

void place_forget(struct place *place)
{
    for (uint32_t i = 0; i < PLACE_IDS; i++)
        atomic_store_explicit(&place->entry[i].times, 0, memory_order_relaxed);
    for (uint32_t i = 0; i < PLACE_GATES; i++)
        atomic_store_explicit(&place->gate[i], 0, memory_order_release);
}

uint32_t place_ran(const struct place *place, uint32_t id)
{
    return atomic_load_explicit(&place->entry[id].times, memory_order_acquire);
}

uint32_t place_ran_in(const struct place *place, uint32_t id)
{
    return atomic_load_explicit(&place->entry[id].process, memory_order_acquire);
}

void place_open_gate(struct place *place, uint32_t gate)
{
    atomic_store_explicit(&place->gate[gate], 1, memory_order_release);
}

void place_open_gates(struct place *place)
{
    for (uint32_t i = 0; i < PLACE_GATES; i++)
        place_open_gate(place, i);
}

/* ---- daemons ---- */

static const char *program(const char *variable)
{
    const char *path = getenv(variable);

    if (path == NULL)
        fail_msg("%s must name a program or module", variable);
    return path;
}

static char *authority; /* a folder */

static void forget_authority(void)
{
    authority = knit_scratch_free(authority);
}

struct command {
    const char *words[ARGUMENTS_MAX];
    char texts[ARGUMENTS_MAX][TEXT_MAX];
    int count;
};

static void add_word(struct command *command, const char *word)
{
    assert_true(command->count < ARGUMENTS_MAX - 1);
    command->words[command->count++] = word;
}

static void add_option(struct command *command, const char *name, const char *value)
{
    char *text = command->texts[command->count];
    int len = snprintf(text, TEXT_MAX, "--%s=%s", name, value);

    assert_true(len > 0 && len < TEXT_MAX);
    for (char *at = text + 2; *at != '='; at++) {
        if (*at == '_')
            *at = '-';
    }
    add_word(command, text);
}

/* "name=value"; what it names twice, the last one decides. */
static void add_wish(struct command *command, const char *wish)
{
    const char *value = strchr(wish, '=');
    char name[64] = "";

    assert_true(value != NULL && (size_t)(value - wish) < sizeof(name));
    memcpy(name, wish, (size_t)(value - wish));
    add_option(command, name, value + 1);
}

/* A file of an authority that this program makes once; the latest of the thread's. */
static const char *of_authority(const char *name)
{
    static _Thread_local char path[PATH_MAX];

    if (authority == NULL) {
        char *dir = knit_scratch_new();
        const char *const words[] = {program("KNIT_AUTHORITY"), dir, NULL};

        assert_int_equal(knit_process_run(dir, words, PLACE_MS, NULL), 0);
        authority = dir;
        (void)atexit(forget_authority);
    }
    (void)snprintf(path, sizeof(path), "%s/%s", authority, name);
    return path;
}

static bool has_wish(const struct place_wish *wish, const char *begin)
{
    for (size_t i = 0; i < sizeof(wish->options) / sizeof(wish->options[0]); i++) {
        if (wish->options[i] != NULL && strncmp(wish->options[i], begin, strlen(begin)) == 0)
            return true;
    }
    return false;
}

static void start_daemon(struct place *place, const struct place_wish *wish)
{
    struct command command = {.count = 0};
    char workers[16];

    (void)snprintf(workers, sizeof(workers), "%u", wish->workers != 0 ? wish->workers : 2);
    add_word(&command, program("KNIT_DAEMON"));
    add_word(&command, "--config=/dev/null");
    add_option(&command, "worker-program", program("KNIT_WORKER"));
    add_option(&command, "module", program("KNIT_CONFORMANCE"));
    add_option(&command, "module", program("KNIT_LEDGER"));
    add_option(&command, "module", program("KNIT_LATER"));
    add_option(&command, "module", program("KNIT_VALUES"));
    add_option(&command, "module", program("KNIT_DECLARED"));
    add_option(&command, "module", program("KNIT_LIMITED"));
    add_option(&command, "bootstrap", place->ledger_path);
    if (!has_wish(wish, "permission=")) {
        add_option(&command, "permission", "custom");
        add_option(&command, "write-paths", place->ledger_path);
    }
    add_option(&command, "socket", place->socket);
    add_option(&command, "ready-file", place->ready);
    add_option(&command, "listen", place->distance == TCP ? "127.0.0.1:0" : "none");
    if (place->distance == TLS) {
        add_option(&command, "listen-tls", "127.0.0.1:0");
        add_option(&command, "tls-certificate", of_authority("server.pem"));
        add_option(&command, "tls-key", of_authority("server.key"));
    }
    add_option(&command, "arena-bytes", "16MiB");
    add_option(&command, "workers", workers);
    if (wish->balancer != NULL)
        add_option(&command, "balancer", wish->balancer);
    for (size_t i = 0; i < sizeof(wish->options) / sizeof(wish->options[0]); i++) {
        if (wish->options[i] != NULL)
            add_wish(&command, wish->options[i]);
    }
    knit_process_start(&place->daemon, place->dir, command.words);
}

static bool is_ready_or_over(struct place *place)
{
    return access(place->ready, F_OK) == 0 ||
           knit_process_wait(&place->daemon, 0) != KNIT_PROCESS_STILL_RUNNING;
}

static void read_urls(struct place *place)
{
    static const char *const schemes[] = {
        [LOCAL] = "shm:", [UNIX] = "unix:", [TCP] = "knit:", [TLS] = "knits:"};
    char *text = knit_scratch_read(place->ready, NULL), *rest = text;

    assert_non_null(text);
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (strncmp(line, "url=", 4) != 0)
            continue;
        line += 4;
        if (strncmp(line, schemes[place->distance], strlen(schemes[place->distance])) == 0)
            (void)snprintf(place->url, sizeof(place->url), "%s", line);
        if (strncmp(line, "unix:", 5) == 0)
            (void)snprintf(place->admin_url, sizeof(place->admin_url), "%s", line);
    }
    free(text);
    assert_true(place->url[0] != '\0' && place->admin_url[0] != '\0');
}

/* ---- pools of this process ---- */

static bool is_in_house(enum distance distance)
{
    return (AT(distance) & AT_IN_HOUSE) != 0;
}

/* Switches, and lists of one word. */
static void wish_of_several(struct knit_pool_options *options, const char *wish, const char *value)
{
    const struct {
        const char *name;
        enum knit_pool_switch *option;
    } switches[] = {{"steal=", &options->steal}, {"udp_sockets=", &options->udp_sockets},
        {"unix_sockets=", &options->unix_sockets}, {"exec_programs=", &options->exec_programs}};
    const struct {
        const char *name;
        const char *const **option;
    } lists[] = {{"inliner_modules=", &options->inliner_modules},
        {"read_paths=", &options->read_paths}, {"write_paths=", &options->write_paths},
        {"connect_ports=", &options->connect_ports}, {"listen_ports=", &options->listen_ports}};
    static const char *one[5][2];

    for (size_t i = 0; i < sizeof(switches) / sizeof(switches[0]); i++) {
        if (strncmp(wish, switches[i].name, strlen(switches[i].name)) == 0)
            *switches[i].option = strcmp(value, "on") == 0 ? KNIT_POOL_ON : KNIT_POOL_OFF;
    }
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        if (strncmp(wish, lists[i].name, strlen(lists[i].name)) != 0)
            continue;
        one[i][0] = value;
        *lists[i].option = one[i];
    }
}

/* "name=value" of the daemon's settings, where a pool has an option of that name. */
static void wish_of_pool(struct knit_pool_options *options, const char ***module, const char *wish)
{
    const struct {
        const char *name;
        uint32_t *option;
        uint64_t *wide;
    } numbers[] = {
        {"hard_timeout_ms=", &options->hard_timeout_ms, NULL},
        {"abort_grace_ms=", &options->abort_grace_ms, NULL},
        {"deaths_per_minute=", &options->deaths_per_minute, NULL},
        {"drain_ms=", &options->drain_ms, NULL},
        {"stop_ms=", &options->stop_ms, NULL},
        {"spin_us=", &options->spin_us, NULL},
        {"pause_ns=", &options->pause_ns, NULL},
        {"park_ms=", &options->park_ms, NULL},
        {"busy_poll_turns=", &options->busy_poll_turns, NULL},
        {"max_backoff_ms=", &options->max_backoff_ms, NULL},
        {"deferred_max=", &options->deferred_max, NULL},
        {"inliner_batch=", &options->inliner_batch, NULL},
        {"inliner_dispatch_threshold=", &options->inliner_dispatch_threshold, NULL},
        {"slow_call_ms=", &options->slow_call_ms, NULL},
        {"arena_initial_bytes=", NULL, &options->arena_initial_bytes},
        {"call_max_bytes=", NULL, &options->call_max_bytes},
        {"files_max=", &options->files_max, NULL},
        {"memory_max_bytes=", NULL, &options->memory_max_bytes},
        {"core_max_bytes=", NULL, &options->core_max_bytes},
        {"file_max_bytes=", NULL, &options->file_max_bytes},
    };
    const struct {
        const char *name;
        const char **option;
    } words[] = {{"arena_mode=", &options->arena_mode}, {"debug=", &options->debug},
        {"inliner_position=", &options->inliner_position}, {"permission=", &options->permission},
        {"modules_root=", &options->modules_root},
        {"hard_timeout_scope=", &options->hard_timeout_scope}};
    const char *value = strchr(wish, '=') + 1;

    if (strncmp(wish, "module=", 7) == 0)
        *(*module)++ = value;
    if (strcmp(wish, "workers=0") == 0)
        options->workers = KNIT_POOL_NONE;
    wish_of_several(options, wish, value);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strncmp(wish, words[i].name, strlen(words[i].name)) == 0)
            *words[i].option = value;
    }
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        uint64_t given = strtoull(value, NULL, 10);

        if (strncmp(wish, numbers[i].name, strlen(numbers[i].name)) != 0)
            continue;
        given = given != 0 ? given : KNIT_POOL_NONE;
        if (numbers[i].option != NULL)
            *numbers[i].option = (uint32_t)given;
        else
            *numbers[i].wide = given;
    }
}

static void count_event(void *user, const struct knit_pool_event *event)
{
    struct place *place = user;

    if ((uint32_t)event->kind < EVENT_KINDS)
        atomic_fetch_add_explicit(&place->events[event->kind], 1, memory_order_seq_cst);
}

uint32_t place_told(const struct place *place, enum knit_pool_event_kind kind)
{
    return atomic_load_explicit(&place->events[kind], memory_order_seq_cst);
}

static int open_pool(
    struct place *place, const struct place_wish *wish, struct knit_error *ret_error)
{
    /* One more for processes alone, and those that a case wishes. */
    const char *modules[MODULES + 2 + WISHES] = {program("KNIT_CONFORMANCE"),
        program("KNIT_LEDGER"), program("KNIT_LATER"), program("KNIT_VALUES"),
        program("KNIT_DECLARED")};
    const bool is_threads = place->distance == THREADS;
    struct knit_pool_options options = {
        .kind = is_threads ? KNIT_POOL_THREADS : KNIT_POOL_PROCESSES,
        .workers = wish->workers != 0 ? wish->workers : 2,
        .modules = modules,
        .bootstrap = place->ledger_path,
        .balancer = wish->balancer,
        .worker_program = is_threads ? NULL : program("KNIT_WORKER"),
        .arena_bytes = 16 << 20,
        .on_event = count_event,
        .user = place};
    const char *const ledger[] = {place->ledger_path, NULL};
    const char **module = &modules[MODULES];

    if (!is_threads)
        *module++ = program("KNIT_LIMITED");
    if (!is_threads && !has_wish(wish, "permission=")) {
        options.permission = "custom";
        options.write_paths = ledger;
    }
    for (size_t i = 0; i < sizeof(wish->options) / sizeof(wish->options[0]); i++) {
        if (wish->options[i] != NULL)
            wish_of_pool(&options, &module, wish->options[i]);
    }
    return knit_pool_open(&options, &place->pool, ret_error);
}

static void *close_pool(void *arg)
{
    struct place *place = arg;

    place->pool = knit_pool_close(place->pool);
    return NULL;
}

static void join_closer(struct place *place)
{
    if (place->is_closing)
        assert_int_equal(pthread_join(place->closer, NULL), 0);
    place->is_closing = false;
}

/* ---- the table of distances ---- */

static const struct {
    const char *name;
    const char *is_missing; /* NULL: there are such pools */
} distances[DISTANCES] = {
    [THREADS] = {"threads", NULL},
    [PROCESSES] = {"processes", NULL},
    [LOCAL] = {"local", NULL},
    [UNIX] = {"unix", NULL},
    [TCP] = {"tcp", NULL},
    [TLS] = {"tls", KNIT_TLS_IS_MISSING},
};

const char *distance_name(enum distance distance)
{
    return distances[distance].name;
}

const char *distance_is_missing(enum distance distance)
{
    return distances[distance].is_missing;
}

static struct place *new_place(enum distance distance)
{
    struct place *place = calloc(1, sizeof(*place));

    assert_non_null(place);
    place->distance = distance;
    place->dir = knit_scratch_new();
    place->socket = knit_scratch_path(place->dir, "k.sock");
    place->ready = knit_scratch_path(place->dir, "ready");
    open_ledger(place);
    return place;
}

static void free_place(struct place *place)
{
    (void)knit_close(place->admin);
    (void)munmap(place->gate, ledger_bytes);
    free(place->socket);
    free(place->ready);
    free(place->ledger_path);
    (void)knit_scratch_free(place->dir);
    free(place);
}

struct place *place_open(enum distance distance, const struct place_wish *wish)
{
    struct place *place = new_place(distance);
    struct knit_error error;

    if (is_in_house(distance)) {
        if (open_pool(place, wish, &error) != KNIT_OK)
            fail_msg("%s: %s", error.name, error.message);
        return place;
    }
    start_daemon(place, wish);
    (void)KNIT_WAIT_UNTIL(is_ready_or_over(place), PLACE_MS);
    if (access(place->ready, F_OK) != 0) {
        place_abandon(place);
        fail_msg("no pool at the distance %s", distance_name(distance));
    }
    read_urls(place);
    return place;
}

char *place_refused(enum distance distance, const struct place_wish *wish)
{
    struct place *place = new_place(distance);
    struct knit_error error;
    char *text;
    int status;

    if (is_in_house(distance)) {
        status = open_pool(place, wish, &error);
        place_abandon(place);
        assert_true(status == KNIT_BAD_ARGUMENT || status == KNIT_NO_WORKER);
        return strdup(error.message);
    }
    start_daemon(place, wish);
    status = knit_process_wait(&place->daemon, PLACE_MS);
    text = knit_scratch_read(place->daemon.output, NULL);
    place_abandon(place);
    assert_true(status > 0 && status < KNIT_PROCESS_SIGNALLED);
    assert_non_null(text);
    return text;
}

void place_abandon(struct place *place)
{
    if (place == NULL)
        return;
    place_open_gates(place);
    join_closer(place);
    place->admin = knit_close(place->admin);
    place->pool = knit_pool_close(place->pool);
    (void)knit_process_stop(&place->daemon, SIGKILL, PLACE_MS);
    free_place(place);
}

void place_close(struct place *place)
{
    int status;

    if (is_in_house(place->distance)) {
        place_abandon(place);
        return;
    }
    place->admin = knit_close(place->admin);
    place_open_gates(place);
    status = knit_process_stop(&place->daemon, SIGTERM, PLACE_MS);
    if (status != place->expected_status)
        fail_msg("the daemon has ended with %d in place of %d", status, place->expected_status);
    free_place(place);
}

int place_session(struct place *place, const struct knit_open_options *options, struct knit **ret,
    struct knit_error *ret_error)
{
    struct knit_tls_options trust = {.ca_file = NULL};
    struct knit_open_options encrypted = {.slots = 0};

    if (place->pool != NULL)
        return knit_pool_session(place->pool, options, ret, ret_error);
    if (place->distance != TLS)
        return knit_open(place->url, options, ret, ret_error);
    if (options != NULL)
        encrypted = *options;
    trust.ca_file = of_authority("ca.pem");
    encrypted.tls = &trust;
    return knit_open(place->url, &encrypted, ret, ret_error);
}

pid_t place_pid(const struct place *place)
{
    return is_in_house(place->distance) ? getpid() : place->daemon.pid;
}

const char *place_url(const struct place *place)
{
    return place->url;
}

void place_kill(struct place *place, int signal)
{
    place->admin = knit_close(place->admin);
    if (is_in_house(place->distance)) {
        assert_int_equal(signal, SIGTERM);
        assert_int_equal(pthread_create(&place->closer, NULL, close_pool, place), 0);
        place->is_closing = true;
        return;
    }
    assert_int_equal(kill(place->daemon.pid, signal), 0);
    place->expected_status = signal == SIGTERM ? 0 : KNIT_PROCESS_SIGNALLED + signal;
}

void place_expect_end(struct place *place, int status)
{
    place->admin = knit_close(place->admin);
    place->expected_status = status;
}

bool place_has_ended(struct place *place)
{
    join_closer(place);
    if (is_in_house(place->distance))
        return true;
    if (knit_process_wait(&place->daemon, PLACE_MS) != place->expected_status)
        return false;
    place->expected_status = 0; /* of a program that has ended */
    return true;
}

/* ---- stats ---- */

/* nil on failure. */
static struct knit_value read_stats(struct place *place)
{
    const void *map = NULL;
    size_t len = 0;

    if (place->admin == NULL && place->pool != NULL)
        (void)!knit_pool_session(place->pool, NULL, &place->admin, NULL);
    else if (place->admin == NULL)
        (void)!knit_open(place->admin_url, NULL, &place->admin, NULL);
    if (place->admin != NULL)
        (void)!knit_stats(place->admin, NULL, &map, &len);
    return knit_read(NULL, map, len);
}

static uint64_t number(struct knit_value value)
{
    if (knit_value_type(value) == KNIT_TYPE_BOOL)
        return knit_value_bool(value);
    return knit_value_type(value) == KNIT_TYPE_INT || knit_value_type(value) == KNIT_TYPE_UINT
               ? knit_value_uint(value)
               : UINT64_MAX;
}

uint64_t place_stat(struct place *place, const char *section, const char *key)
{
    struct knit_value map = read_stats(place);

    return number(knit_value_get(section != NULL ? knit_value_get(map, section) : map, key));
}

uint64_t place_lane_stat(struct place *place, uint32_t lane, const char *key)
{
    struct knit_value lanes = knit_value_get(read_stats(place), "lanes");

    return number(knit_value_get(knit_value_at(lanes, lane), key));
}

uint32_t place_lanes_serving(struct place *place)
{
    return (uint32_t)place_stat(place, "pool", "lanes_serving");
}

void place_wait_for(struct place *place, uint32_t id)
{
    char lanes[256] = "";

    if (KNIT_WAIT_UNTIL(place_ran(place, id) != 0, PLACE_MS))
        return;
    for (uint32_t lane = 0; lane < 2; lane++) {
        size_t len = strlen(lanes);

        (void)snprintf(lanes + len, sizeof(lanes) - len, " lane %u%s%s, %llu calls, %llu parks;",
            lane, place_lane_stat(place, lane, "is_parked") == 1 ? " is parked" : "",
            place_lane_stat(place, lane, "is_running") == 1 ? " runs a call" : "",
            (unsigned long long)place_lane_stat(place, lane, "calls"),
            (unsigned long long)place_lane_stat(place, lane, "parks"));
    }
    fail_msg("call %u has not begun:%s", id, lanes);
}
