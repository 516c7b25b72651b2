/* SPDX-License-Identifier: Apache-2.0 */
/* What the router makes of arguments that are references: requests whose params are built of the
 * input, of values, references and any bytes, brought by one caller after the other, while workers
 * have turns, time goes on and requests are cancelled. The machine is that of pool.h.
 *
 * Oracle: each request is answered once, or not at all when its caller has gone. One that has a
 * result has it of its params with the results of those that its references meant when it was
 * brought: the one in flight then, or else one that was kept; so each of these has a result itself,
 * and there is none for a reference to nothing. DEPENDENCY says to which there is nothing, or has a
 * cause. In the end nothing waits, nothing is kept and no slot is taken.
 */
#include <string.h>
#include <unistd.h>

#include <knitting/code.h>

#include "fastpath/host/attach.h"
#include "fastpath/lane/lane.h"
#include "fastpath/lane/session.h"
#include "proto/options.h"
#include "proto/scan.h"
#include "proto/types.h"
#include "proto/walk.h"
#include "proto/writer.h"
#include "server/base/log.h"
#include "server/policy/principals.h"
#include "server/rpc/references.h"
#include "server/rpc/router.h"
#include "tests/fuzz/pool.h"
#include "tests/fuzz/target.h"

enum {
    STEPS_MAX = 200,
    REQUESTS_MAX = 256,
    MSGIDS = 8,
    ARGUMENTS_MAX = 20,
    CALL_MAX = 700, /* bytes of params */
    MESSAGE_MAX = 4096,
    OWNER = KNIT_OWNER_HOST + 1,
    TURNS_MAX = 100,
    NOTHING = -1,
};

/* What a task does: gives its params back, or fails. */
enum { TASK_ECHO, TASK_FAILS, TASKS };

enum outcome { OUTCOME_NONE, OUTCOME_RESULT, OUTCOME_ERROR };

struct request {
    uint32_t msgid;
    bool is_open, is_kept;
    enum outcome outcome;
    struct knit_buffer params, result;
    uint32_t count; /* of its references */
    uint32_t index[ARGUMENTS_MAX];
    int meant[ARGUMENTS_MAX];        /* a request, or NOTHING */
    bool may_be_gone[ARGUMENTS_MAX]; /* it was kept, and may not be any more */
};

struct scene {
    struct input input;
    struct pool *pool;
    struct knit_session *session;
    struct knit_lane *worker;
    struct knit_registry *registry;
    struct knit_settings settings;
    struct knit_log log;
    struct knit_principals principals;
    struct knit_turn turn;
    struct knit_host_own_session own;
    struct knit_router router;
    struct knit_caller caller;
    struct request request[REQUESTS_MAX];
    uint32_t requests;
    uint8_t bytes[MESSAGE_MAX]; /* of a message that waits */
    size_t len;
};

static struct scene scene;

/* ---- what requests mean ---- */

/* The request that a reference means now. */
static int find_meant(uint64_t msgid, bool *ret_may_be_gone)
{
    *ret_may_be_gone = false;
    for (int i = (int)scene.requests; i-- > 0;) {
        if (scene.request[i].msgid == msgid && scene.request[i].is_open)
            return i;
    }
    *ret_may_be_gone = true;
    for (int i = (int)scene.requests; i-- > 0;) {
        if (scene.request[i].msgid == msgid && scene.request[i].is_kept)
            return i;
    }
    return NOTHING;
}

static void note_references(struct request *request, struct knit_span params)
{
    struct knit_walk walk;
    struct knit_item item;
    struct knit_head head;

    if (knit_walk_array(&walk, params) != 0)
        return;
    for (uint32_t i = 0; knit_walk_next(&walk, &item) == 0; i++) {
        if (item.head.type != KNIT_HEAD_EXT || item.head.ext != KNIT_EXT_RESULT ||
            request->count == ARGUMENTS_MAX)
            continue;
        request->meant[request->count] = NOTHING;
        if (knit_head_read(item.body.bytes, item.body.len, &head) == 0 &&
            head.type == KNIT_HEAD_UINT)
            request->meant[request->count] =
                find_meant(head.value, &request->may_be_gone[request->count]);
        request->index[request->count++] = i;
    }
}

/* ---- what callers are told ---- */

static struct request *end_request(uint32_t msgid, enum outcome outcome)
{
    struct request *request;
    bool may_be_gone;
    const int at = find_meant(msgid, &may_be_gone);

    /* One that is open. */
    KNIT_FUZZ_CHECK(at != NOTHING && !may_be_gone);
    request = &scene.request[at];
    request->is_open = false;
    request->outcome = outcome;
    return request;
}

/* As it came, where nothing is a reference: what it may hold is for the worker to say. */
static void put_expected(const struct request *request, struct knit_buffer *expected)
{
    struct knit_writer writer;
    struct knit_walk walk;
    struct knit_item item;
    uint32_t hole = 0;

    if (request->count == 0) {
        (void)knit_buffer_append(expected, request->params.bytes, request->params.len);
        return;
    }
    knit_writer_init(&writer, expected);
    KNIT_FUZZ_CHECK(knit_walk_array(&walk, knit_buffer_span(&request->params)) == 0);
    knit_writer_array(&writer, (uint32_t)walk.left);
    for (uint32_t i = 0; knit_walk_next(&walk, &item) == 0; i++) {
        struct knit_span value = item.raw;

        if (hole < request->count && request->index[hole] == i) {
            const struct request *meant;

            KNIT_FUZZ_CHECK(request->meant[hole] != NOTHING);
            meant = &scene.request[request->meant[hole++]];
            KNIT_FUZZ_CHECK(meant->outcome == OUTCOME_RESULT);
            value = knit_buffer_span(&meant->result);
        }
        knit_writer_value(&writer, value.bytes, value.len);
    }
    KNIT_FUZZ_CHECK(knit_writer_end(&writer) == 0);
}

static void check_result(struct request *request, struct knit_span result)
{
    struct knit_buffer expected;

    knit_buffer_init(&expected, 1 << 20);
    put_expected(request, &expected);
    KNIT_FUZZ_CHECK(
        result.len == expected.len && memcmp(result.bytes, expected.bytes, result.len) == 0);
    knit_buffer_fini(&expected);
    KNIT_FUZZ_CHECK(knit_buffer_append(&request->result, result.bytes, result.len) == 0);
}

/* With a result to nothing, or to one that has failed, it fails so. */
static void check_failure(const struct request *request, const struct knit_failure *failure)
{
    bool may_be_unknown = false;

    for (uint32_t i = 0; i < request->count; i++)
        may_be_unknown |= request->meant[i] == NOTHING || request->may_be_gone[i];
    if (failure->code != KNIT_DEPENDENCY)
        return;
    KNIT_FUZZ_CHECK(failure->started == KNIT_STARTED_NO && request->count > 0);
    if (failure->unknown != KNIT_FAILURE_NONE)
        KNIT_FUZZ_CHECK(may_be_unknown);
    else
        KNIT_FUZZ_CHECK(failure->cause.bytes != NULL);
}

static void deliver(
    struct knit_caller *caller, uint32_t msgid, const struct knit_session_outcome *outcome)
{
    const struct knit_span bytes = knit_span(outcome->payload, outcome->len);
    const bool is_result = outcome->status == KNIT_STATUS_RESULT;
    struct request *request = end_request(msgid, is_result ? OUTCOME_RESULT : OUTCOME_ERROR);

    if (is_result)
        check_result(request, bytes);
    if (outcome->held)
        knit_router_release(caller, outcome->slot);
}

static void reply(struct knit_caller *caller, uint32_t msgid, struct knit_span result)
{
    (void)caller;
    check_result(end_request(msgid, OUTCOME_RESULT), result);
}

static void refuse(struct knit_caller *caller, uint32_t msgid, const struct knit_failure *failure)
{
    (void)caller;
    check_failure(end_request(msgid, OUTCOME_ERROR), failure);
}

static void bring(void);

/* In a turn of its own, which is a step. */
static void ready(struct knit_caller *caller)
{
    (void)caller;
}

static void resume(struct knit_caller *caller)
{
    knit_references_resume(caller);
    if (caller->pauses == 0)
        bring();
}

static void close_caller(struct knit_caller *caller)
{
    KNIT_FUZZ_CHECK(caller == NULL);
}

static const struct knit_caller_ops ops = {
    .deliver = deliver,
    .reply = reply,
    .refuse = refuse,
    .ready = ready,
    .resume = resume,
    .close = close_caller,
    .close_without_memory = close_caller,
};

/* ---- requests ---- */

static void put_argument(struct knit_buffer *params)
{
    struct input *input = &scene.input;
    const uint8_t kind = input_u8(input), number = input_u8(input);
    uint8_t bytes[300] = {0xc4, number};
    uint8_t reference[] = {0xd4, KNIT_EXT_RESULT, number % MSGIDS};

    switch (kind % 8) {
    case 0: /* a number */
        bytes[0] = number & 0x7f;
        (void)knit_buffer_append(params, bytes, 1);
        break;
    case 1: /* a bin */
        (void)knit_buffer_append(params, bytes, 2u + number);
        break;
    case 2: { /* an array of numbers, whose pad depends on where it lies */
        static const uint8_t typed[] = {0xd8, 36, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};

        (void)knit_buffer_append(params, typed, sizeof(typed));
        break;
    }
    case 3: /* an ext that is to be a reference */
        bytes[0] = 0xc7;
        bytes[1] = number % 8;
        bytes[2] = KNIT_EXT_RESULT;
        for (int i = 0; i < number % 8; i++)
            bytes[3 + i] = input_u8(input);
        (void)knit_buffer_append(params, bytes, 3u + number % 8);
        break;
    case 4: /* one within a value */
        bytes[0] = 0x91;
        memcpy(bytes + 1, reference, sizeof(reference));
        (void)knit_buffer_append(params, bytes, 1 + sizeof(reference));
        break;
    default:
        (void)knit_buffer_append(params, reference, sizeof(reference));
        break;
    }
}

static void put_options(struct knit_options *options)
{
    const uint8_t what = input_u8(&scene.input);

    *options = knit_options();
    if ((what & 3) == 1)
        options->keep = 1 + (what >> 6);
    if ((what & 12) == 4)
        options->timeout_ns = 1000000u * (what >> 4);
    if ((what & 12) == 8)
        options->queue_ns = what & 16 ? 0 : 20000000;
    options->priority = (what >> 5) % 3;
}

/* A message that waits to be brought, in place of another one. */
static void build_request(void)
{
    static const char *const names[] = {"echo", "fails"};
    struct input *input = &scene.input;
    const uint8_t what = input_u8(input);
    const uint32_t msgid = what % MSGIDS, count = input_below(input, ARGUMENTS_MAX);
    const struct knit_method method = {.name = knit_span_text(names[(what >> 3) % 8 == 7])};
    struct knit_buffer params, message;
    struct knit_options options;
    uint8_t head[] = {0xdc, 0, (uint8_t)count};

    knit_buffer_init(&params, 1 << 16);
    knit_buffer_init(&message, 1 << 16);
    (void)knit_buffer_append(&params, head, sizeof(head));
    for (uint32_t i = 0; i < count; i++)
        put_argument(&params);
    put_options(&options);
    KNIT_FUZZ_CHECK(knit_message_put_request(&message, msgid, &method, knit_buffer_span(&params),
                        knit_options_is_empty(&options) ? NULL : &options) == 0);
    scene.len = message.len <= MESSAGE_MAX ? message.len : 0;
    memcpy(scene.bytes, message.bytes, scene.len);
    knit_buffer_fini(&params);
    knit_buffer_fini(&message);
}

static struct request *add_request(const struct knit_message *message)
{
    struct request *request = &scene.request[scene.requests];
    struct knit_options options;
    const char *reason;

    *request = (struct request){.msgid = message->msgid};
    knit_buffer_init(&request->params, 1 << 16);
    knit_buffer_init(&request->result, 1 << 20);
    KNIT_FUZZ_CHECK(
        knit_buffer_append(&request->params, message->params.bytes, message->params.len) == 0);
    note_references(request, message->params);
    KNIT_FUZZ_CHECK(knit_options_decode(message->options, &options, &reason) == 0);
    request->is_kept = options.keep != KNIT_OPTION_NONE && options.keep != 0;
    request->is_open = true;
    scene.requests++;
    return request;
}

static void remove_request(struct request *request)
{
    knit_buffer_fini(&request->params);
    knit_buffer_fini(&request->result);
    request->is_open = request->is_kept = false;
    scene.requests--;
}

static bool is_in_flight(uint32_t msgid)
{
    bool may_be_gone;

    return find_meant(msgid, &may_be_gone) != NOTHING && !may_be_gone;
}

/* The message that waits has its turn. */
static void bring(void)
{
    enum knit_router_verdict verdict;
    struct knit_message message;
    struct request *request;
    struct knit_scan scan;
    const char *reason;
    const size_t len = scene.len;
    size_t used;
    bool is_twice;

    knit_scan_init(&scan, NULL);
    if (len == 0 || scene.requests == REQUESTS_MAX || scene.caller.pauses != 0)
        return;
    if (knit_scan_feed(&scan, scene.bytes, len, &used) != KNIT_SCAN_E_DONE || used != len ||
        knit_message_parse(scene.bytes, len, &scan, &message, &reason) != 0) {
        scene.len = 0;
        return;
    }
    is_twice = is_in_flight(message.msgid);
    request = is_twice ? NULL : add_request(&message);
    verdict = scan.has_reference ? knit_references_call(&scene.caller, &message, scene.turn.now_ns)
                                 : knit_router_call(&scene.caller, &message, scene.turn.now_ns);
    KNIT_FUZZ_CHECK((verdict == KNIT_ROUTER_TWICE) == is_twice);
    scene.caller.has_waited = verdict == KNIT_ROUTER_LATER;
    if (verdict != KNIT_ROUTER_LATER)
        scene.len = 0;
    else if (request != NULL)
        remove_request(request);
}

/* ---- the pool ---- */

static void run(void *arg, struct knit_job *job)
{
    static uint8_t bytes[256];
    struct knit_failure failure = knit_failure(KNIT_TASK_FAILED, "it was to fail");
    struct knit_buffer error;

    (void)arg;
    job->result = job->payload;
    job->result_len = knit_job_len(job);
    if (knit_job_task(job) != TASK_FAILS && job->refusal == 0)
        return;
    knit_buffer_init_fixed(&error, bytes, sizeof(bytes));
    KNIT_FUZZ_CHECK(knit_failure_put(&error, &failure, KNIT_FAILURE_FULL) == 0);
    job->status = KNIT_STATUS_ERROR;
    job->result = bytes;
    job->result_len = (uint32_t)error.len;
}

static void start_pool(void)
{
    const struct pool_session *session;
    struct knit_session_options how = {
        .argument_max_bytes = CALL_MAX, .random_seed = 1, .bell_fd = -1, .report_settled = true};
    struct knit_lane_options options = {.lanes = POOL_LANES,
        .owner = OWNER,
        .steal = true,
        .park_ms = 1,
        .result_max_bytes = KNIT_PAGE,
        .run = run};
    struct knit_lane_session in;

    scene.pool = pool_begin(pool_start(0));
    session = &scene.pool->session[0];
    how.steal = true;
    KNIT_FUZZ_CHECK(knit_session_new(&session->geometry, &session->request, &session->reply,
                        &scene.pool->board, &how, &scene.session) == 0);
    options.board = scene.pool->board;
    options.pool = scene.pool->pool;
    KNIT_FUZZ_CHECK(knit_lane_new(&options, &scene.worker) == 0);
    in = (struct knit_lane_session){.id = 1,
        .geometry = session->geometry,
        .request = session->request,
        .reply = session->reply,
        .bell_fd = -1,
        .trusted = true};
    KNIT_FUZZ_CHECK(knit_lane_attach(scene.worker, &in) == 0);
    scene.own = (struct knit_host_own_session){.session = scene.session,
        .reply = session->reply,
        .geometry = session->geometry,
        .bell_fd = -1};
}

static void add_tasks(void)
{
    static const char *const signatures[] = {"echo(value: any) -> any", "fails() -> any"};

    scene.registry = knit_registry_new(KNIT_REGISTRY_EPOCH_FIRST);
    KNIT_FUZZ_CHECK(scene.registry != NULL);
    for (uint32_t i = 0; i < TASKS; i++) {
        struct knit_registry_task task = {.doc = ""};
        struct knit_signature *signature = NULL;

        KNIT_FUZZ_CHECK(
            knit_signature_parse(signatures[i], strlen(signatures[i]), &signature, NULL) == 0);
        KNIT_FUZZ_CHECK(knit_registry_add(scene.registry, &task, signature) == 0);
    }
}

static void begin_caller(void)
{
    scene.caller = (struct knit_caller){.ops = &ops,
        .router = &scene.router,
        .turn = &scene.turn,
        .principal = scene.principals.anonymous,
        .form = KNIT_FAILURE_FULL};
}

/* What it waits for does not come. */
static void end_caller(void)
{
    knit_router_forget(&scene.caller);
    knit_in_flight_fini(&scene.caller.calls);
    KNIT_FUZZ_CHECK(scene.caller.references == NULL);
    for (uint32_t i = 0; i < scene.requests; i++) {
        knit_buffer_fini(&scene.request[i].params);
        knit_buffer_fini(&scene.request[i].result);
    }
    scene.requests = 0;
    scene.len = 0;
}

static void router_turn(void)
{
    knit_turn_tick(&scene.turn);
    if (scene.caller.pauses == 0)
        knit_references_resume(&scene.caller);
    (void)knit_router_turn(&scene.router);
}

static bool has_open(void)
{
    for (uint32_t i = 0; i < scene.requests; i++) {
        if (scene.request[i].is_open)
            return true;
    }
    return false;
}

static void turn(void)
{
    if (scene.router.outstanding > 0)
        KNIT_FUZZ_CHECK(knit_lane_turn(scene.worker) == KNIT_LANE_RUNNING);
    router_turn();
}

/* ---- the schedule ---- */

static void cancel(uint8_t what)
{
    const struct knit_span reason = knit_span("\xa4over", 5);

    if (is_in_flight(what % MSGIDS))
        (void)knit_router_cancel(
            &scene.caller, what % MSGIDS, what & 0x80 ? reason : knit_span(NULL, 0));
}

static void step(void)
{
    struct input *input = &scene.input;
    const uint8_t what = input_u8(input);

    switch (what % 16) {
    default:
        if (scene.len == 0)
            build_request();
        bring();
        break;
    case 8:
    case 9:
        turn();
        break;
    case 10:
        router_turn();
        break;
    case 11:
        cancel(input_u8(input));
        break;
    case 12:
        machine.now_ns += 100000ull << (what >> 4);
        break;
    case 13:
        end_caller();
        begin_caller();
        break;
    }
}

/* Every request is answered, and then nothing is left. */
static void finish(void)
{
    uint32_t turns = 0;

    for (; has_open(); turns++) {
        KNIT_FUZZ_CHECK(turns < TURNS_MAX);
        turn();
    }
    end_caller();
    for (turns = 0; scene.router.outstanding > 0; turns++) {
        KNIT_FUZZ_CHECK(turns < TURNS_MAX);
        turn();
    }
    KNIT_FUZZ_CHECK(scene.router.waiting == 0 && scene.router.referenced_bytes == 0);
    KNIT_FUZZ_CHECK(TAILQ_EMPTY(&scene.router.references));
    KNIT_FUZZ_CHECK(TAILQ_EMPTY(&scene.router.due_references));
    KNIT_FUZZ_CHECK(knit_session_slots_free(scene.session) == POOL_SLOTS);
    KNIT_FUZZ_CHECK(knit_counter_read(&scene.turn.counters.references_bound) ==
                    knit_counter_read(&scene.turn.counters.references_over));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct knit_sentence why;

    memset(&scene, 0, sizeof(scene));
    scene.input = (struct input){bytes, len, 0};
    KNIT_FUZZ_CHECK(knit_settings_init(&scene.settings, &why) == 0);
    scene.settings.call_max_bytes = CALL_MAX;
    scene.settings.in_flight_max = 6;
    scene.settings.input_max_bytes = 16 * CALL_MAX;
    knit_log_init(&scene.log, STDERR_FILENO, KNIT_LOG_ERROR);
    KNIT_FUZZ_CHECK(knit_principals_init(&scene.principals) == 0);
    scene.turn = (struct knit_turn){.settings = &scene.settings, .log = &scene.log};
    knit_buffer_init(&scene.turn.scratch, 1 << 20);
    start_pool();
    add_tasks();
    KNIT_FUZZ_CHECK(knit_router_init(&scene.router, &scene.turn, &scene.own, scene.registry) == 0);
    knit_turn_tick(&scene.turn);
    begin_caller();
    for (int i = 0; i < STEPS_MAX && !input_is_over(&scene.input); i++)
        step();
    finish();
    knit_router_fini(&scene.router);
    scene.worker = knit_lane_free(scene.worker);
    scene.session = knit_session_free(scene.session);
    (void)knit_registry_free(scene.registry);
    knit_buffer_fini(&scene.turn.scratch);
    knit_principals_fini(&scene.principals);
    knit_log_fini(&scene.log);
    knit_settings_fini(&scene.settings);
    return 0;
}
