/* SPDX-License-Identifier: Apache-2.0 */
/* The turn, and when to sleep.
 *
 * While calls are in flight the loop polls, so that an answer that comes within microseconds leaves
 * without a system call to wake the loop. How many empty turns it polls adapts between 0 and
 * busy_poll_turns: the number doubles when the loop is woken soon after it fell asleep, and is
 * halved by a longer sleep. Otherwise each long task would cost a burst of turns, and processor
 * time that the workers need. On the core of a worker that has calls of the loop there is nothing
 * to poll for before the loop sleeps.
 *
 * libevent runs one round of events for each turn (EVLOOP_ONCE), so the loop decides the order of a
 * turn's parts. A timerfd ends a sleep. It is set again only when it would fire too late: an early
 * alarm costs one empty turn, setting it would cost every sleep a system call.
 */
#include "server/daemon/loop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fastpath/lane/fd.h"
#include "fastpath/lane/timer.h"
#include "server/base/log.h"
#include "server/base/quiet_thread.h"
#include "server/config/setting.h"
#include "server/daemon/calls_page.h"
#include "server/daemon/lists.h"
#include "server/net/connection.h"
#include "server/net/listener.h"
#include "server/net/lookahead.h"
#include "server/rpc/reports.h"

enum {
    SHORT_SLEEP_NS = 80 * 1000, /* two wake-ups: polling a little longer would have saved it */
    POLL_TURNS_MIN = 8,
    FINISH_MS = 1000, /* for the last replies to leave */
    SCRATCH_MAX = 64 * 1024 * 1024,
};

bool knit_loop_send(struct knit_loop *loop, struct knit_mailbox_message message)
{
    return knit_mailbox_send(&loop->inbox, message);
}

/* Where the mailbox is full the call is answered when a worker comes to it. */
void knit_loops_stop(struct knit_loops *loops, const struct knit_host_address *call)
{
    for (uint32_t i = 0; i < loops->count; i++)
        if (loops->items[i].session->id == call->session)
            (void)knit_mailbox_send(&loops->items[i].inbox,
                (struct knit_mailbox_message){
                    KNIT_MAILBOX_STOP, -1, (uint64_t)call->slot << KNIT_LOOP_GEN_BITS | call->gen});
}

/* Makes sure that the sweep runs. */
static void schedule_sweep(struct knit_loop *loop)
{
    static const struct timeval second = {1, 0};

    loop->turn.needs_sweep = false;
    if (!event_pending(loop->sweep_event, EV_TIMEOUT, NULL))
        (void)event_add(loop->sweep_event, &second);
}

static void on_sweep(evutil_socket_t fd, short events, void *arg)
{
    struct knit_loop *loop = arg;

    (void)fd, (void)events;
    knit_turn_tick(&loop->turn);
    knit_log_end_second(loop->turn.log);
    knit_keyed_sweep(&loop->router);
    knit_connections_sweep(&loop->net);
}

/* ---- messages ------------------------------------------------------------------------------- */

/* What was read and waits has been accepted: it goes into the lanes, as far as there are slots. */
static void publish_waiting(struct knit_loop *loop)
{
    const uint32_t *outstanding = &loop->router.outstanding;
    uint32_t before;

    knit_session_fill_lanes(loop->session->session);
    do {
        before = *outstanding;
        loop->turn.input_until_ns = 0;
        (void)knit_share_resume(&loop->router.share, UINT64_MAX);
        knit_connections_resume_ready(&loop->net);
    } while (*outstanding > before);
    knit_session_flush(loop->session->session);
}

/* Nobody's new calls are taken any more. */
static void refuse_all(struct knit_loop *loop)
{
    publish_waiting(loop);
    loop->state = KNIT_LOOP_DRAINING;
    loop->router.serves_plain = false;
    knit_connections_drain(&loop->net, 0);
    (void)knit_mailbox_send(
        loop->all->outbox, (struct knit_mailbox_message){KNIT_MAILBOX_DRAINS, -1, loop->turn.loop});
}

/* Callers that said no `$/hello` cannot know: they have half of the time to leave by themselves. */
static void yield(struct knit_loop *loop)
{
    if (loop->state == KNIT_LOOP_YIELDING &&
        (loop->turn.now_ns >= loop->end_ns || !knit_connections_serve_plain(&loop->net)))
        refuse_all(loop);
}

static void begin_drain(struct knit_loop *loop, uint64_t drain_ms)
{
    if (loop->state == KNIT_LOOP_SERVING) {
        publish_waiting(loop);
        loop->state = KNIT_LOOP_YIELDING;
        loop->router.is_draining = loop->router.serves_plain = true;
        loop->end_ns = loop->turn.now_ns + drain_ms * UINT64_C(500000);
        knit_connections_drain(&loop->net, drain_ms);
    } else if (drain_ms == 0) {
        loop->end_ns = 0;
    }
    yield(loop);
}

static void open_connection(struct knit_loop *loop, int fd, enum knit_listener_kind kind)
{
    KNIT_COUNT(&loop->turn, connections_accepted);
    if (kind != KNIT_LISTENER_UNIX)
        knit_handshakes_begin(&loop->net, fd, kind == KNIT_LISTENER_TLS);
    else
        (void)knit_connection_open(&loop->net, knit_transport_plain(fd, true, loop->all->closer));
}

static void answer_reloads(struct knit_loop *loop, uint32_t ticket)
{
    struct knit_sentence why;
    bool has_failed = knit_reload_outcome_get(loop->all->outcome, &why);

    knit_asked_reloaded(&loop->router, ticket, has_failed, why.text);
}

void knit_loop_read_inbox(struct knit_loop *loop)
{
    struct knit_mailbox_message message;

    for (uint32_t i = 0;
         i < KNIT_LOOP_MESSAGES_A_TURN && knit_mailbox_receive(&loop->inbox, &message); i++) {
        switch ((enum knit_mailbox_kind)message.kind) {
        case KNIT_MAILBOX_CONNECTION:
            open_connection(loop, message.fd, (enum knit_listener_kind)message.value);
            break;
        case KNIT_MAILBOX_DRAIN:
            begin_drain(loop, message.value);
            break;
        case KNIT_MAILBOX_FINISH:
            begin_drain(loop, 0);
            loop->state = KNIT_LOOP_FINISHING;
            loop->end_ns = knit_clock_ns() + FINISH_MS * UINT64_C(1000000);
            break;
        case KNIT_MAILBOX_EVICTED:
            knit_connections_end_session(&loop->net, message.value);
            break;
        case KNIT_MAILBOX_RECHECK:
            knit_connections_recheck(&loop->net);
            break;
        case KNIT_MAILBOX_CALLS:
            knit_calls_page_fill(loop, message.value);
            break;
        case KNIT_MAILBOX_RELOADED:
            answer_reloads(loop, (uint32_t)message.value);
            break;
        case KNIT_MAILBOX_STOP:
            knit_router_stop(&loop->router, (uint32_t)(message.value >> KNIT_LOOP_GEN_BITS),
                message.value & (((uint64_t)1 << KNIT_LOOP_GEN_BITS) - 1));
            break;
        case KNIT_MAILBOX_LISTED:
            knit_listed_answer(loop->all->listed, &loop->router, (uint32_t)message.value);
            break;
        case KNIT_MAILBOX_RELOAD:
        case KNIT_MAILBOX_LIST:
        case KNIT_MAILBOX_OUTCOMES:
        case KNIT_MAILBOX_TURN:
        case KNIT_MAILBOX_ASKED:
        case KNIT_MAILBOX_DRAINS:
        case KNIT_MAILBOX_FINISHED:
            break;
        }
    }
    /* Whose message found no room here, its outcomes did. */
    knit_keyed_take(&loop->router);
}

/* What is left is reported again. */
static void on_inbox(evutil_socket_t fd, short events, void *arg)
{
    (void)fd, (void)events;
    knit_loop_read_inbox(arg);
}

/* ---- turns --------------------------------------------------------------------------------- */

static void on_bell(evutil_socket_t fd, short events, void *arg)
{
    struct knit_loop *loop = arg;

    (void)fd, (void)events;
    /* A late notification must not go on waking a loop that has nothing in flight. */
    knit_session_disarm(loop->session->session);
}

static void on_alarm(evutil_socket_t fd, short events, void *arg)
{
    struct knit_loop *loop = arg;
    uint64_t times;

    (void)events;
    (void)!read(fd, &times, sizeof(times));
    loop->alarm_ns = UINT64_MAX;
}

/* All that is not waiting for events. */
static void turn(struct knit_loop *loop)
{
    bool was_idle = !loop->turn.had_events;

    KNIT_COUNT(&loop->turn, turns);
    loop->turn.had_events = false;
    knit_turn_tick(&loop->turn);
    yield(loop);
    knit_handshakes_run(&loop->net);
    knit_connections_resume_ready(&loop->net);
    knit_lookahead_expire(&loop->net);
    if (knit_router_turn(&loop->router) > 0)
        loop->idle_turns = 0;
    else
        loop->idle_turns = was_idle ? loop->idle_turns + 1 : 1;
    knit_counter_set(&loop->turn.counters.calls_in_flight, loop->router.outstanding);
    knit_counter_set(&loop->turn.counters.calls_waiting, loop->router.waiting);
    knit_counter_set(&loop->turn.counters.argument_bytes, loop->router.share.argument_bytes);
    knit_lookahead_scan(&loop->net);
    knit_connections_flush(&loop->net);
    if (knit_reports_are_on(&loop->router))
        knit_reports_turn(&loop->router);
    if (loop->turn.needs_sweep)
        schedule_sweep(loop);
}

/* When the loop must be awake again: at the next deadline, and after max_backoff_ms while calls are
 * in flight. UINT64_MAX = only when an event comes. */
static uint64_t sleep_until_ns(const struct knit_loop *loop, bool is_outstanding)
{
    uint64_t until_ns = loop->router.next_ns, now_ns = knit_clock_ns();
    uint64_t backoff_ns = loop->turn.settings->max_backoff_ms * UINT64_C(1000000);
    uint64_t ahead_ns = knit_dues_next_ns(&loop->net.lookaheads.dues);

    if (ahead_ns < until_ns)
        until_ns = ahead_ns;
    if (loop->router.share.limited.next_ns < until_ns)
        until_ns = loop->router.share.limited.next_ns;
    if (loop->router.share.flows.held_until_ns < until_ns)
        until_ns = loop->router.share.flows.held_until_ns;
    if (is_outstanding && now_ns + backoff_ns < until_ns)
        until_ns = now_ns + backoff_ns;
    if ((loop->state == KNIT_LOOP_FINISHING || loop->state == KNIT_LOOP_YIELDING) &&
        loop->end_ns < until_ns)
        until_ns = loop->end_ns;
    return until_ns;
}

static void set_alarm(struct knit_loop *loop, uint64_t until_ns)
{
    if (until_ns >= loop->alarm_ns)
        return;
    knit_timer_arm(loop->alarm_fd, until_ns);
    loop->alarm_ns = until_ns;
}

static void sleep_for_events(struct knit_loop *loop, bool is_outstanding)
{
    set_alarm(loop, sleep_until_ns(loop, is_outstanding));
    KNIT_COUNT(&loop->turn, sleeps);
    (void)event_base_loop(loop->base, EVLOOP_ONCE);
}

/* Sleep with the bell armed, and learn from it how long to poll the next time: nothing, if polling
 * could not have helped. */
static void sleep_armed(struct knit_loop *loop, bool may_learn)
{
    struct knit_session *session = loop->session->session;
    uint64_t most = loop->turn.settings->busy_poll_turns, began_ns;

    if (!knit_session_arm(session)) {
        loop->idle_turns = 0;
        (void)event_base_loop(loop->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        return;
    }
    began_ns = knit_clock_ns();
    sleep_for_events(loop, true);
    if (knit_session_is_armed(session))
        knit_session_disarm(session);
    loop->idle_turns = 0;
    if (!may_learn)
        return;
    if (knit_clock_ns() - began_ns < SHORT_SLEEP_NS)
        loop->poll_turns =
            loop->poll_turns < POLL_TURNS_MIN ? POLL_TURNS_MIN : loop->poll_turns * 2;
    else
        loop->poll_turns /= 2;
    if (loop->poll_turns > most)
        loop->poll_turns = (uint32_t)most;
}

static void wait_for_events(struct knit_loop *loop)
{
    bool is_outstanding = loop->router.outstanding > 0;
    bool shares_core = is_outstanding && knit_session_shares_core(loop->session->session);

    if (knit_connections_has_work(&loop->net) || knit_share_is_due(&loop->router.share) ||
        knit_router_has_work(&loop->router) ||
        (is_outstanding && !shares_core && loop->idle_turns < loop->poll_turns))
        (void)event_base_loop(loop->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    else if (is_outstanding)
        sleep_armed(loop, !shares_core);
    else
        sleep_for_events(loop, false);
}

/* ---- the end ------------------------------------------------------------------------------- */

/* Every call has its outcome by now; what the session has not handed out by the end is lost with
 * the connection that it was for. */
static bool is_finished(const struct knit_loop *loop)
{
    if (loop->state != KNIT_LOOP_FINISHING)
        return false;
    if (loop->turn.now_ns >= loop->end_ns)
        return true;
    return loop->router.outstanding == 0 && !knit_router_has_work(&loop->router) &&
           !knit_limited_has_waiting(&loop->router.share.limited) &&
           !knit_keyed_has_waiters(&loop->router) && !knit_connections_has_work(&loop->net) &&
           !knit_connections_has_output(&loop->net);
}

static void close_session(struct knit_loop *loop)
{
    knit_router_fini(&loop->router);
    loop->session = knit_host_own_session_close(loop->all->backend.pool, loop->session);
}

/* By a task that the loop runs itself. The others cannot go on without it: its callers would wait
 * for good, and so would the end of the daemon. */
static void end_by_task(const struct knit_loop *loop, const char *what)
{
    knit_log(loop->turn.log, KNIT_LOG_ERROR, what, KNIT_LOG_NUMBER("loop", loop->turn.loop));
    abort();
}

static void on_thread_end(void *arg)
{
    end_by_task(arg, "a task has ended the thread of an event loop");
}

static _Thread_local const struct knit_loop *running; /* on this thread */

/* A daemon that ends well is not started again. */
static void on_exit_by_task(void)
{
    if (running != NULL)
        end_by_task(running, "a task has called exit() in an event loop");
}

static void run_until_finished(struct knit_loop *loop)
{
    while (!is_finished(loop)) {
        wait_for_events(loop);
        turn(loop);
    }
}

static void *run(void *arg)
{
    struct knit_loop *loop = arg;

    running = loop;
    pthread_cleanup_push(on_thread_end, loop);
    run_until_finished(loop);
    pthread_cleanup_pop(0);
    running = NULL;
    knit_router_give_up(&loop->router);
    while (!TAILQ_EMPTY(&loop->net.dirty))
        knit_connections_flush(&loop->net);
    knit_connections_close_all(&loop->net);
    close_session(loop);
    loop->state = KNIT_LOOP_ENDED;
    (void)knit_mailbox_send(loop->all->outbox,
        (struct knit_mailbox_message){KNIT_MAILBOX_FINISHED, -1, loop->turn.loop});
    return NULL;
}

/* ---- start and join ------------------------------------------------------------------------ */

struct event_base *knit_loop_new_base(void)
{
    struct event_config *config = event_config_new();
    struct event_base *base = NULL;

    if (config == NULL)
        return NULL;
    /* One thread a base: no locks. And nothing asks libevent what time it is, so it need not read
     * the clock in every turn. */
    if (event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_NO_CACHE_TIME) ==
            0 &&
        event_config_require_features(config, EV_FEATURE_O1) == 0)
        base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

static int make_events(struct knit_loop *loop)
{
    loop->inbox_event =
        event_new(loop->base, loop->inbox.read_fd, EV_READ | EV_PERSIST, on_inbox, loop);
    loop->bell_event =
        event_new(loop->base, loop->session->bell_fd, EV_READ | EV_PERSIST, on_bell, loop);
    loop->alarm_fd = knit_timer_open();
    if (loop->alarm_fd < 0)
        return -errno;
    loop->alarm_event = event_new(loop->base, loop->alarm_fd, EV_READ | EV_PERSIST, on_alarm, loop);
    loop->sweep_event = evtimer_new(loop->base, on_sweep, loop);
    if (loop->inbox_event == NULL || loop->bell_event == NULL || loop->alarm_event == NULL ||
        loop->sweep_event == NULL || event_add(loop->inbox_event, NULL) < 0 ||
        event_add(loop->bell_event, NULL) < 0 || event_add(loop->alarm_event, NULL) < 0)
        return -ENOMEM;
    return 0;
}

static void free_parts(struct knit_loop *loop)
{
    struct event **events[] = {
        &loop->inbox_event, &loop->bell_event, &loop->alarm_event, &loop->sweep_event};

    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        if (*events[i] != NULL)
            event_free(*events[i]);
        *events[i] = NULL;
    }
    knit_connections_fini(&loop->net);
    if (loop->base != NULL)
        event_base_free(loop->base);
    loop->base = NULL;
    knit_fd_close(&loop->alarm_fd);
    knit_mailbox_close(&loop->inbox);
    knit_buffer_fini(&loop->turn.scratch);
}

/* Outcomes for requests of this loop have come. */
static void on_outcomes(void *arg)
{
    struct knit_loop *loop = arg;

    (void)knit_mailbox_send(
        &loop->inbox, (struct knit_mailbox_message){KNIT_MAILBOX_OUTCOMES, -1, 0});
}

static int open_session(struct knit_loop *loop)
{
    static const enum knit_balancer balancers[] = {
        [KNIT_BALANCER_CHOICE_ROUND_ROBIN] = KNIT_BALANCER_ROUND_ROBIN,
        [KNIT_BALANCER_CHOICE_FIRST_IDLE] = KNIT_BALANCER_FIRST_IDLE,
        [KNIT_BALANCER_CHOICE_RANDOM_LANE] = KNIT_BALANCER_RANDOM,
        [KNIT_BALANCER_CHOICE_FIRST_IDLE_OR_RANDOM] = KNIT_BALANCER_FIRST_IDLE_OR_RANDOM,
        [KNIT_BALANCER_CHOICE_LEAST_LOADED] = KNIT_BALANCER_LEAST_LOADED};
    const struct knit_settings *settings = loop->turn.settings;
    struct knit_session_options options = {.balancer = balancers[settings->balancer],
        .spin_us = 0,
        .depth_ns = (uint32_t)settings->lane_depth_us * 1000,
        .report_settled = true,
        .random_seed = loop->turn.now_ns + loop->turn.loop};
    struct knit_host *pool = loop->all->backend.pool;
    int r = knit_host_own_session_open(pool, (uint32_t)settings->slots, &options, &loop->session);

    if (r != 0)
        return r;
    loop->turn.rights = knit_host_rights(pool);
    r = knit_router_init(&loop->router, &loop->turn, loop->session, knit_host_registry(pool));
    loop->router.backend = &loop->all->backend;
    loop->router.share.flows.places = knit_host_places(pool);
    if (r == 0 && loop->all->inline_tasks != NULL)
        r = atexit(on_exit_by_task) == 0
                ? knit_router_add_inliner(&loop->router, loop->all->inline_tasks)
                : -ENOMEM;
    if (r == 0)
        r = knit_keyed_add(&loop->router, loop->all->keys, on_outcomes, loop);
    if (r == 0)
        r = knit_reports_add(&loop->router);
    return r;
}

static int make_parts(struct knit_loop *loop)
{
    int r = knit_mailbox_open(&loop->inbox);

    if (r != 0)
        return r;
    loop->base = knit_loop_new_base();
    if (loop->base == NULL)
        return -ENOMEM;
    r = open_session(loop);
    if (r == 0)
        r = knit_connections_init(&loop->net, &loop->turn, &loop->router, loop->base);
    loop->net.handshakes.store = loop->all->tls;
    return r != 0 ? r : make_events(loop);
}

static int start_thread(struct knit_loop *loop)
{
    char name[16]; /* as long as the kernel takes it */

    (void)snprintf(name, sizeof(name), "knit-loop-%u", loop->turn.loop);
    return knit_quiet_thread_start(name, run, loop, &loop->thread);
}

int knit_loop_start(struct knit_loop *loop, const struct knit_loops *all, uint32_t index)
{
    int r;

    loop->all = all;
    loop->turn = (struct knit_turn){.settings = all->settings,
        .log = all->log,
        .principals = all->principals,
        .loop = index,
        .now_ns = knit_clock_ns()};
    loop->poll_turns = (uint32_t)all->settings->busy_poll_turns;
    loop->inbox = (struct knit_mailbox){-1, -1};
    loop->alarm_fd = -1;
    loop->alarm_ns = UINT64_MAX;
    knit_buffer_init(&loop->turn.scratch, SCRATCH_MAX);
    r = make_parts(loop);
    if (r == 0)
        r = start_thread(loop);
    if (r != 0) {
        close_session(loop);
        free_parts(loop);
        return r;
    }
    loop->has_thread = true;
    return 0;
}

void knit_loop_join(struct knit_loop *loop)
{
    if (!loop->has_thread)
        return;
    (void)pthread_join(loop->thread, NULL);
    loop->has_thread = false;
    free_parts(loop);
}
