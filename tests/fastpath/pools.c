/* SPDX-License-Identifier: Apache-2.0 */
/* See pools.h. Macros name the programs of this build, so an installed worker is never started.
 */
#include "tests/fastpath/pools.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/head.h"
#include "proto/writer.h"
#include "tests/support/deadline.h"
#include "tests/support/scratch.h"

/* Sanitizers in workers do not handle signals, because tests check how workers die of them. */
#define LEAVE_SIGNALS "handle_segv=0:handle_abort=0:use_sigaltstack=0"
static const char *const environment[] = {"PATH=/usr/bin:/bin", "KNIT_TEST=yes",
    "ASAN_OPTIONS=detect_leaks=0:" LEAVE_SIGNALS, "TSAN_OPTIONS=" LEAVE_SIGNALS, NULL};

static void on_event(void *arg, const struct knit_host_event *event)
{
    struct pools *pools = arg;
    size_t used = strlen(pools->text);

    (void)snprintf(pools->text + used, sizeof(pools->text) - used, "%s\n", event->text);
    if (pools->event_count < POOLS_EVENTS_MAX)
        pools->events[pools->event_count++] = *event;
}

static void on_output(
    void *arg, const struct knit_host_event *from, const char *line, size_t len, bool truncated)
{
    struct pools *pools = arg;
    size_t used = strlen(pools->output);

    pools->output_from = *from;
    (void)snprintf(pools->output + used, sizeof(pools->output) - used, "%.*s%s\n", (int)len, line,
        truncated ? " [cut]" : "");
}

void pools_init(struct pools *pools, uint32_t workers)
{
    memset(pools, 0, sizeof(*pools));
    pools->dir = knit_scratch_new();
    knit_host_options_init(&pools->options);
    pools->modules[0] = TEST_MODULES "/module_tasks.so";
    pools->options.worker_path = TEST_WORKER;
    pools->options.modules = pools->modules;
    pools->options.module_count = 1;
    pools->options.environment = environment;
    pools->options.workers = workers;
    pools->options.arena_bytes = 8u << 20;
    pools->options.call_max_bytes = 1u << 20;
    pools->options.callbacks = (struct knit_host_callbacks){on_output, on_event, pools};
}

void pools_make_ledger(struct pools *pools)
{
    int fd;

    pools->ledger_path = knit_scratch_path(pools->dir, "ledger");
    fd = open(pools->ledger_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, POOLS_LEDGER_WORDS * 8), 0);
    pools->ledger = mmap(NULL, POOLS_LEDGER_WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(pools->ledger != MAP_FAILED);
    close(fd);
}

int pools_open(struct pools *pools)
{
    struct knit_session_options session = {.spin_us = 20};
    int error;

    if (pools->ledger == NULL)
        pools_make_ledger(pools);
    if (pools->options.bootstrap[0] == '\0')
        pools->options.bootstrap = pools->ledger_path;
    error = knit_host_open(&pools->options, &pools->pool, &pools->why);
    if (error == 0)
        assert_int_equal(
            knit_host_own_session_open(pools->pool, 256, &session, &pools->session), 0);
    return error;
}

void pools_fini(struct pools *pools)
{
    if (pools->pool != NULL) {
        pools->session = knit_host_own_session_close(pools->pool, pools->session);
        pools->pool = knit_host_free(pools->pool);
    }
    if (pools->ledger != NULL)
        (void)munmap((void *)pools->ledger, POOLS_LEDGER_WORDS * 8);
    free(pools->ledger_path);
    pools->dir = knit_scratch_free(pools->dir);
}

void pools_expect_refusal(struct pools *pools, const char *sentence)
{
    assert_int_equal(pools_open(pools), KNIT_HOST_E_STARTUP);
    if (strstr(pools->why.text, sentence) == NULL)
        fail_msg("\"%s\" should have \"%s\"", pools->why.text, sentence);
    pools_fini(pools);
}

/* ---- calls ---- */

void pools_start(struct pools *pools, const char *task, const void *params, size_t len, void *user)
{
    const struct knit_registry *registry = knit_host_registry(pools->pool);
    const struct knit_registry_task *found = knit_registry_find(registry, task, strlen(task));
    struct knit_session_call call = {.epoch = knit_registry_epoch(registry),
        .lane = KNIT_LANE_ANY,
        .deadline_ns = pools->deadline_ns,
        .payload = params,
        .len = len,
        .user = user};
    uint32_t slot;

    assert_non_null(found);
    call.task = found->id;
    assert_int_equal(knit_session_publish(pools->session->session, &call, &slot), 0);
    knit_session_flush(pools->session->session);
}

static void start_one(
    struct pools *pools, const char *task, int64_t number, const char *text, void *user)
{
    unsigned char memory[512];
    struct knit_buffer buffer;
    struct knit_writer writer;

    knit_buffer_init_fixed(&buffer, memory, sizeof(memory));
    knit_writer_init(&writer, &buffer);
    knit_writer_array(&writer, 1);
    if (text != NULL)
        knit_writer_text(&writer, text);
    else
        knit_writer_int(&writer, number);
    assert_int_equal(knit_writer_end(&writer), 0);
    pools_start(pools, task, buffer.bytes, buffer.len, user);
}

void pools_start_number(struct pools *pools, const char *task, int64_t number, void *user)
{
    start_one(pools, task, number, NULL, user);
}

void pools_start_text(struct pools *pools, const char *task, const char *text, void *user)
{
    start_one(pools, task, 0, text, user);
}

void pools_start_empty(struct pools *pools, const char *task, void *user)
{
    pools_start(pools, task, "\x90", 1, user);
}

static void note(struct pools *pools, const struct knit_session_outcome *from)
{
    struct pools_outcome *to = from->user;
    struct knit_head head;
    const unsigned char *bytes = from->len <= KNIT_INLINE_MAX && !from->held
                                     ? (const unsigned char *)from->body
                                     : from->payload;

    assert_false(to->is_there);
    to->is_there = true;
    to->len = from->len;
    memcpy(to->bytes, bytes, from->len < sizeof(to->bytes) ? from->len : sizeof(to->bytes));
    if (from->status == KNIT_STATUS_ERROR) {
        assert_int_equal(knit_failure_decode(knit_span(to->bytes, to->len), &to->failure), 0);
        to->code = to->failure.code;
    } else if (knit_head_read(to->bytes, to->len, &head) == 0) {
        (void)knit_head_as_int(&head, &to->number);
    }
    if (from->held)
        knit_session_release(pools->session->session, from->slot);
}

bool pools_turn(struct pools *pools)
{
    struct knit_session_outcome outcomes[16];
    size_t count;

    knit_host_dispatch(pools->pool);
    /* Like a loop before it sleeps: parked workers are woken for calls not claimed yet. */
    (void)knit_session_arm(pools->session->session);
    knit_session_disarm(pools->session->session);
    do {
        count = knit_session_collect(pools->session->session, outcomes, 16);
        for (size_t i = 0; i < count; i++)
            note(pools, &outcomes[i]);
    } while (count > 0);
    return true;
}

void pools_wait(struct pools *pools, struct pools_outcome *outcome)
{
    assert_true(KNIT_WAIT_UNTIL(pools_turn(pools) && outcome->is_there, 20000));
}

void pools_add(struct pools *pools)
{
    struct pools_outcome sum = {0};

    pools_start(pools, "add", "\x92\x02\x03", 3, &sum);
    pools_wait(pools, &sum);
    assert_int_equal(sum.code, 0);
    assert_int_equal(sum.number, 5);
}

void pools_wait_events(struct pools *pools, enum knit_host_event_kind kind, uint32_t count)
{
    assert_true(
        KNIT_WAIT_UNTIL(pools_turn(pools) && pools_count_events(pools, kind) >= count, 20000));
}

void pools_wait_sessions(struct pools *pools, uint32_t count)
{
    struct knit_host_stats stats;

    assert_true(KNIT_WAIT_UNTIL(
        pools_turn(pools) && (knit_host_stats(pools->pool, &stats), stats.sessions == count),
        20000));
}

uint32_t pools_count_events(const struct pools *pools, enum knit_host_event_kind kind)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < pools->event_count; i++)
        count += pools->events[i].kind == kind;
    return count;
}
