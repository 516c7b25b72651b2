/* SPDX-License-Identifier: Apache-2.0 */
/* See scene.h. Descriptors and mappings are counted in /proc, so that no party's own counters are
 * trusted. */
#include "tests/stress/scene.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/host/host.h"
#include "fastpath/lane/inspect.h"
#include "proto/writer.h"
#include "tests/support/deadline.h"

void scene_init(struct scene *scene, uint32_t workers)
{
    memset(scene, 0, sizeof(*scene));
    pools_init(&scene->pools, workers);
    scene->pools.options.spin_us = 0;
    scene->pools.options.uid_sessions_max = 100;
}

/* The worker has acknowledged every session. */
static bool has_sessions(const struct knit_host *pool, const struct knit_worker *worker)
{
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
        if (pool->sessions[i] != NULL && worker->links[i] != KNIT_LINK_ATTACHED)
            return false;
    }
    return true;
}

static bool is_settled(struct scene *scene)
{
    const struct knit_host *pool = scene->pools.pool;

    for (uint32_t lane = 0; lane < scene->pools.options.workers; lane++) {
        struct knit_host_lane_stats stats;

        knit_host_lane_stats(scene->pools.pool, lane, &stats);
        if (stats.state != KNIT_HOST_LANE_SERVING || !stats.is_parked ||
            !has_sessions(pool, &pool->workers[lane]))
            return false;
    }
    return true;
}

void scene_settle(struct scene *scene)
{
    assert_true(KNIT_WAIT_UNTIL(pools_turn(&scene->pools) && is_settled(scene), 20000));
}

void scene_open(struct scene *scene)
{
    if (pools_open(&scene->pools) != 0)
        fail_msg("%s", scene->pools.why.text);
    scene_calls(scene, SCENE_CALLS, KNIT_LANE_ANY);
    scene_settle(scene);
    scene->size = scene_measure(scene);
}

void scene_fini(struct scene *scene)
{
    pools_fini(&scene->pools);
}

/* ---- calls ---- */

void scene_start(
    struct scene *scene, const char *task, int64_t number, uint32_t lane, struct pools_outcome *to)
{
    const struct knit_registry *registry = knit_host_registry(scene->pools.pool);
    const struct knit_registry_task *found = knit_registry_find(registry, task, strlen(task));
    struct knit_session *session = scene->pools.session->session;
    unsigned char memory[16];
    struct knit_buffer buffer;
    struct knit_writer writer;
    struct knit_session_call call = {
        .epoch = knit_registry_epoch(registry), .lane = lane, .payload = memory, .user = to};
    uint32_t slot;

    assert_non_null(found);
    call.task = found->id;
    knit_buffer_init_fixed(&buffer, memory, sizeof(memory));
    knit_writer_init(&writer, &buffer);
    knit_writer_array(&writer, 1);
    knit_writer_int(&writer, number);
    assert_int_equal(knit_writer_end(&writer), 0);
    call.len = buffer.len;
    to->is_there = false;
    to->code = 0;
    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    knit_session_flush(session);
}

void scene_calls(struct scene *scene, uint32_t count, uint32_t lane)
{
    static struct pools_outcome outcomes[SCENE_CALLS];

    assert_true(count <= SCENE_CALLS);
    for (uint32_t i = 0; i < count; i++)
        scene_start(scene, "echo", 1000 + i, lane, &outcomes[i]);
    for (uint32_t i = 0; i < count; i++) {
        pools_wait(&scene->pools, &outcomes[i]);
        assert_int_equal(outcomes[i].code, 0);
        assert_int_equal(outcomes[i].number, 1000 + i);
    }
}

void scene_load(struct scene *scene)
{
    (void)pools_turn(&scene->pools);
    for (uint32_t i = 0; i < SCENE_LOAD; i++) {
        struct pools_outcome *outcome = &scene->load[i];

        if (outcome->is_there) {
            assert_int_equal(outcome->code, 0);
            assert_int_equal(outcome->number % SCENE_LOAD, i);
            scene->load_done++;
        } else if (scene->load_next >= SCENE_LOAD) {
            continue;
        }
        scene_start(scene, "echo", (int64_t)(scene->load_next / SCENE_LOAD * SCENE_LOAD + i),
            KNIT_LANE_ANY, outcome);
        scene->load_next++;
    }
}

void scene_drain(struct scene *scene)
{
    if (scene->load_next == 0)
        return;
    for (uint32_t i = 0; i < SCENE_LOAD; i++) {
        pools_wait(&scene->pools, &scene->load[i]);
        assert_int_equal(scene->load[i].code, 0);
        scene->load[i].is_there = false;
    }
    scene->load_next = 0;
}

/* ---- inspection ---- */

static uint32_t count_entries(const char *path)
{
    DIR *dir = opendir(path);
    uint32_t count = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL)
        count++;
    (void)closedir(dir);
    return count;
}

static uint32_t count_mappings(pid_t pid)
{
    char path[64], line[4400];
    uint32_t count = 0;
    FILE *maps;

    (void)snprintf(path, sizeof(path), "/proc/%d/maps", pid);
    maps = fopen(path, "re");
    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps) != NULL)
        count += strstr(line, "/memfd:knit-re") != NULL;
    (void)fclose(maps);
    return count;
}

struct scene_size scene_measure(struct scene *scene)
{
    struct scene_size size = {0};
    struct knit_host_stats stats;

    knit_host_stats(scene->pools.pool, &stats);
    size.sessions = stats.sessions + stats.closing_sessions;
    size.memory_bytes = stats.memory_bytes;
    size.host_fds = count_entries("/proc/self/fd");
    for (uint32_t lane = 0; lane < scene->pools.options.workers; lane++) {
        struct knit_host_lane_stats worker;
        char path[64];

        knit_host_lane_stats(scene->pools.pool, lane, &worker);
        (void)snprintf(path, sizeof(path), "/proc/%d/fd", worker.pid);
        size.worker_fds += count_entries(path);
        size.worker_mappings += count_mappings(worker.pid);
    }
    return size;
}

void scene_check_size(struct scene *scene)
{
    struct scene_size now;

    scene_settle(scene);
    now = scene_measure(scene);
    assert_int_equal(now.sessions, scene->size.sessions);
    assert_int_equal(now.memory_bytes, scene->size.memory_bytes);
    assert_int_equal(now.host_fds, scene->size.host_fds);
    assert_int_equal(now.worker_fds, scene->size.worker_fds);
    assert_int_equal(now.worker_mappings, scene->size.worker_mappings);
    assert_int_equal(knit_session_slots_free(scene->pools.session->session), 256);
}

static void note(void *arg, const char *sentence)
{
    char *text = arg;
    size_t used = strlen(text);

    (void)snprintf(text + used, 4096 - used, "%s\n", sentence);
}

void scene_inspect(struct scene *scene, const char *when)
{
    struct knit_host *pool = scene->pools.pool;
    char text[4096] = "";
    struct knit_inspect_report report = {note, text};
    uint32_t findings = knit_inspect_board(&pool->board, pool->options.workers, &report);

    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
        const struct knit_host_session *host_session = pool->sessions[i];
        struct knit_inspect_session session;
        struct knit_inspect_counts counts;

        if (host_session == NULL)
            continue;
        session = (struct knit_inspect_session){.id = host_session->id,
            .geometry = host_session->view.geometry,
            .request = host_session->view.request,
            .reply = host_session->view.reply,
            .board = pool->board};
        assert_int_equal(knit_inspect_session(&session, &report, &counts), 0);
        findings += counts.findings;
    }
    if (findings != 0)
        fail_msg("%s: %s", when, text);
}

/* ---- steps ---- */

uint32_t scene_steps_begin(struct scene_steps *steps, uint32_t count, uint32_t *ret_stride)
{
    uint32_t stride = steps->all || count <= steps->wanted ? 1 : count / steps->wanted;
    const char *piece = steps->all ? getenv("KNIT_TEST_PIECE") : NULL;
    char *behind = NULL;

    if (piece != NULL) {
        unsigned long which = strtoul(piece, &behind, 10);

        assert_true(*behind == '/');
        stride = (uint32_t)strtoul(behind + 1, &behind, 10);
        assert_true(*behind == '\0' && which < stride);
        *ret_stride = stride;
        return (uint32_t)which;
    }
    *ret_stride = stride;
    return stride == 1 ? 0 : (uint32_t)knit_random_below(&steps->random, stride);
}

bool scene_wants_all(int argc, char **argv)
{
    return (argc > 1 && strcmp(argv[1], "--all-steps") == 0) || getenv("KNIT_TEST_LONG") != NULL;
}
