/* SPDX-License-Identifier: Apache-2.0 */
/* The turn, and when to sleep.
 *
 * While calls are in flight the loop polls: an answer that comes within microseconds is then on its
 * way without a system call to wake anybody. How many empty turns it polls adapts between 0 and
 * busy_poll_turns: doubled when polling found something, or would have soon after falling asleep;
 * halved when it ended in a longer sleep. Without that, long tasks would cost a burst of turns
 * each, at the expense of the very workers that run them.
 *
 * libevent runs one round of events for each turn (EVLOOP_ONCE), so the order of a turn's parts is
 * ours. A sleep is ended by a timerfd, which is set again only when it would fire too late: an
 * alarm too early costs one empty turn, setting it costs every sleep a system call.
 */
#include "server/daemon/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "server/net/connection.h"
#include "server/net/output.h"
#include "server/rpc/method.h"

enum {
    SHORT_SLEEP_NS = 80 * 1000, /* two wake-ups: polling a little longer would have saved it */
    POLL_TURNS_MIN = 8,
    FINISH_MS = 1000, /* for the last replies to leave */
    LINGER_S = 2,     /* for the peer of a closed connection to end its side */
    SCRATCH_MAX = 64 * 1024 * 1024,
};

bool knit_loop_send(struct knit_loop *loop, struct knit_mailbox_message message)
{
    return knit_mailbox_send(&loop->inbox, message);
}

uint64_t knit_loop_connection_count(const struct knit_loop *loop)
{
    uint64_t closed = knit_counter_read(&loop->turn.counters.connections_closed);
    uint64_t accepted = knit_counter_read(&loop->turn.counters.connections_accepted);

    return accepted > closed ? accepted - closed : 0;
}

/* Makes sure that the sweep runs. */
static void schedule_sweep(struct knit_loop *loop)
{
    static const struct timeval second = {1, 0};

    loop->turn.needs_sweep = false;
    if (!event_pending(loop->sweep_event, EV_TIMEOUT, NULL))
        (void)event_add(loop->sweep_event, &second);
}

/* ---- the sweep ----------------------------------------------------------------------------- */

static void sweep_stalled(struct knit_loop *loop)
{
    uint64_t stall_ns = loop->turn.settings->output_stall_s * UINT64_C(1000000000);
    struct knit_connection *connection, *next;

    for (connection = TAILQ_FIRST(&loop->stalled); connection; connection = next) {
        uint64_t since_ns = loop->turn.now_ns - connection->progress_ns;

        next = TAILQ_NEXT(connection, in_stalled);
        if (connection->is_lingering ? since_ns < LINGER_S * UINT64_C(1000000000)
                                     : since_ns < stall_ns)
            continue;
        if (connection->is_lingering)
            knit_connection_close(connection);
        else
            knit_output_drop_reader(connection);
    }
}

static void sweep_idle(struct knit_loop *loop)
{
    uint64_t idle_ns = loop->turn.settings->idle_timeout_s * UINT64_C(1000000000);
    struct knit_connection *connection, *next;

    for (connection = TAILQ_FIRST(&loop->idle); connection; connection = next) {
        next = TAILQ_NEXT(connection, in_idle);
        if (loop->turn.now_ns - connection->activity_ns < idle_ns)
            break;
        if (connection->calls.count == 0 && connection->session_id == 0)
            knit_connection_close(connection);
    }
}

static void on_sweep(evutil_socket_t fd, short events, void *arg)
{
    struct knit_loop *loop = arg;

    (void)fd, (void)events;
    knit_turn_tick(&loop->turn);
    knit_turn_end_second(&loop->turn);
    sweep_stalled(loop);
    knit_inputs_sweep(loop);
    knit_output_make_room(loop);
    if (loop->turn.settings->idle_timeout_s > 0)
        sweep_idle(loop);
    if (!TAILQ_EMPTY(&loop->stalled) || !TAILQ_EMPTY(&loop->idle) ||
        !TAILQ_EMPTY(&loop->inputs.waiting_for_budget))
        loop->turn.needs_sweep = true;
}

/* ---- messages ------------------------------------------------------------------------------- */

static void begin_drain(struct knit_loop *loop, uint64_t drain_ms)
{
    struct knit_connection *connection;

    if (loop->state != KNIT_LOOP_SERVING)
        return;
    loop->state = KNIT_LOOP_DRAINING;
    TAILQ_FOREACH(connection, &loop->connections, in_all)
    knit_method_say_goaway(connection, drain_ms);
    (void)knit_mailbox_send(
        loop->all->outbox, (struct knit_mailbox_message){KNIT_MAILBOX_DRAINS, -1, loop->turn.loop});
}

static void end_evicted(struct knit_loop *loop, uint64_t session_id)
{
    struct knit_connection *connection, *next;

    for (connection = TAILQ_FIRST(&loop->connections); connection; connection = next) {
        next = TAILQ_NEXT(connection, in_all);
        if (connection->session_id == session_id)
            knit_connection_close(connection);
    }
}

static void on_inbox(evutil_socket_t fd, short events, void *arg)
{
    struct knit_loop *loop = arg;
    struct knit_mailbox_message message;

    (void)fd, (void)events;
    while (knit_mailbox_receive(&loop->inbox, &message)) {
        switch ((enum knit_mailbox_kind)message.kind) {
        case KNIT_MAILBOX_CONNECTION:
            (void)knit_connection_open(loop, knit_transport_plain(message.fd, message.value != 0));
            break;
        case KNIT_MAILBOX_DRAIN:
            begin_drain(loop, message.value);
            break;
        case KNIT_MAILBOX_FINISH:
            begin_drain(loop, 0);
            loop->state = KNIT_LOOP_FINISHING;
            loop->end_ns = knit_clock_ns() + FINISH_MS * UINT64_C(1000000);
            break;
        case KNIT_MAILBOX_CONDEMNED:
            end_evicted(loop, message.value);
            break;
        case KNIT_MAILBOX_DRAINS:
        case KNIT_MAILBOX_FINISHED:
            break;
        }
    }
}

/* ---- turns --------------------------------------------------------------------------------- */

static void on_bell(evutil_socket_t fd, short events, void *arg)
{
    struct knit_loop *loop = arg;

    (void)fd, (void)events;
    /* A bell that rang late must not go on waking a loop that has nothing in flight. */
    knit_session_disarm(loop->router.session->session);
}

static void on_alarm(evutil_socket_t fd, short events, void *arg)
{
    struct knit_loop *loop = arg;
    uint64_t times;

    (void)events;
    (void)!read(fd, &times, sizeof(times));
    loop->alarm_ns = UINT64_MAX;
}

static void resume_ready(struct knit_loop *loop)
{
    struct knit_connections ready = TAILQ_HEAD_INITIALIZER(ready);
    struct knit_connection *connection;

    /* Those that become ready meanwhile wait for the next turn. */
    TAILQ_CONCAT(&ready, &loop->ready, in_ready);
    while ((connection = TAILQ_FIRST(&ready))) {
        TAILQ_REMOVE(&ready, connection, in_ready);
        connection->lists &= (uint16_t)~KNIT_IN_READY;
        knit_connection_resume(connection);
    }
}

static void flush_dirty(struct knit_loop *loop)
{
    struct knit_connection *connection;

    while ((connection = TAILQ_FIRST(&loop->dirty))) {
        TAILQ_REMOVE(&loop->dirty, connection, in_dirty);
        connection->lists &= (uint16_t)~KNIT_IN_DIRTY;
        knit_output_flush(connection);
    }
}

static void free_dead(struct knit_loop *loop)
{
    struct knit_connection *connection;

    while ((connection = TAILQ_FIRST(&loop->dead))) {
        TAILQ_REMOVE(&loop->dead, connection, in_all);
        knit_connection_free(connection);
    }
}

/* All that is not waiting for events. */
static void turn(struct knit_loop *loop)
{
    bool was_idle = !loop->turn.had_events;

    loop->turn.had_events = false;
    knit_turn_tick(&loop->turn);
    if (!TAILQ_EMPTY(&loop->ready))
        resume_ready(loop);
    if (knit_router_turn(&loop->router) > 0)
        loop->idle_turns = 0;
    else
        loop->idle_turns = was_idle ? loop->idle_turns + 1 : 1;
    flush_dirty(loop);
    free_dead(loop);
    if (loop->turn.needs_sweep)
        schedule_sweep(loop);
}

static bool has_work(const struct knit_loop *loop)
{
    return !TAILQ_EMPTY(&loop->ready) || !TAILQ_EMPTY(&loop->dirty);
}

/* When the loop must be awake again: at the next deadline, and while anything is in flight after
 * max_backoff_ms. UINT64_MAX = when something happens. */
static uint64_t sleep_until_ns(const struct knit_loop *loop, bool is_outstanding)
{
    uint64_t until_ns = loop->router.next_ns, now_ns = knit_clock_ns();
    uint64_t backoff_ns = loop->turn.settings->max_backoff_ms * UINT64_C(1000000);

    if (is_outstanding && now_ns + backoff_ns < until_ns)
        until_ns = now_ns + backoff_ns;
    if (loop->state == KNIT_LOOP_FINISHING && loop->end_ns < until_ns)
        until_ns = loop->end_ns;
    return until_ns;
}

static void set_alarm(struct knit_loop *loop, uint64_t until_ns)
{
    struct itimerspec when = {
        .it_value = {(time_t)(until_ns / 1000000000), (long)(until_ns % 1000000000)}};

    if (until_ns >= loop->alarm_ns)
        return;
    (void)timerfd_settime(loop->alarm_fd, TFD_TIMER_ABSTIME, &when, NULL);
    loop->alarm_ns = until_ns;
}

static void sleep_for_events(struct knit_loop *loop, bool is_outstanding)
{
    set_alarm(loop, sleep_until_ns(loop, is_outstanding));
    KNIT_COUNT(&loop->turn, sleeps);
    (void)event_base_loop(loop->base, EVLOOP_ONCE);
}

/* Sleep with the bell armed, and learn from it how long to poll the next time. */
static void sleep_armed(struct knit_loop *loop)
{
    struct knit_session *session = loop->router.session->session;
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
    if (knit_clock_ns() - began_ns < SHORT_SLEEP_NS)
        loop->poll_turns =
            loop->poll_turns < POLL_TURNS_MIN ? POLL_TURNS_MIN : loop->poll_turns * 2;
    else
        loop->poll_turns /= 2;
    if (loop->poll_turns > most)
        loop->poll_turns = (uint32_t)most;
    loop->idle_turns = 0;
}

static void wait_for_events(struct knit_loop *loop)
{
    bool is_outstanding = knit_router_outstanding(&loop->router) > 0;

    if (has_work(loop) || (is_outstanding && loop->idle_turns < loop->poll_turns))
        (void)event_base_loop(loop->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    else if (is_outstanding)
        sleep_armed(loop);
    else
        sleep_for_events(loop, false);
}

/* ---- the end ------------------------------------------------------------------------------- */

static bool has_output(const struct knit_loop *loop)
{
    const struct knit_connection *connection;

    TAILQ_FOREACH(connection, &loop->connections, in_all)
    if (knit_output_waiting(connection) > 0)
        return true;
    return false;
}

/* Every call has its outcome by now; what the session has not handed out by the end is lost with
 * the connection that it was for. */
static bool is_finished(const struct knit_loop *loop)
{
    if (loop->state != KNIT_LOOP_FINISHING)
        return false;
    if (loop->turn.now_ns >= loop->end_ns)
        return true;
    return knit_router_outstanding(&loop->router) == 0 && !has_work(loop) && !has_output(loop);
}

static void close_all(struct knit_loop *loop)
{
    struct knit_connection *connection;

    while ((connection = TAILQ_FIRST(&loop->connections)))
        knit_connection_close(connection);
    free_dead(loop);
}

static void *run(void *arg)
{
    struct knit_loop *loop = arg;

    while (!is_finished(loop)) {
        wait_for_events(loop);
        turn(loop);
    }
    knit_router_give_up(&loop->router);
    flush_dirty(loop);
    close_all(loop);
    knit_router_fini(&loop->router, loop->all->pool);
    loop->state = KNIT_LOOP_ENDED;
    (void)knit_mailbox_send(loop->all->outbox,
        (struct knit_mailbox_message){KNIT_MAILBOX_FINISHED, -1, loop->turn.loop});
    return NULL;
}

/* ---- start and join ------------------------------------------------------------------------ */

static struct event_base *new_base(void)
{
    struct event_config *config = event_config_new();
    struct event_base *base = NULL;

    if (!config)
        return NULL;
    /* One thread a base: no locks. */
    if (event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == 0 &&
        event_config_require_features(config, EV_FEATURE_O1) == 0)
        base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

static int make_events(struct knit_loop *loop)
{
    loop->base = new_base();
    if (!loop->base)
        return -ENOMEM;
    loop->inbox_event =
        event_new(loop->base, loop->inbox.read_fd, EV_READ | EV_PERSIST, on_inbox, loop);
    loop->bell_event =
        event_new(loop->base, loop->router.session->bell_fd, EV_READ | EV_PERSIST, on_bell, loop);
    loop->alarm_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (loop->alarm_fd < 0)
        return -errno;
    loop->alarm_event = event_new(loop->base, loop->alarm_fd, EV_READ | EV_PERSIST, on_alarm, loop);
    loop->sweep_event = evtimer_new(loop->base, on_sweep, loop);
    if (!loop->inbox_event || !loop->bell_event || !loop->alarm_event || !loop->sweep_event ||
        event_add(loop->inbox_event, NULL) < 0 || event_add(loop->bell_event, NULL) < 0 ||
        event_add(loop->alarm_event, NULL) < 0)
        return -ENOMEM;
    return knit_hangup_open(&loop->hangups, loop->base);
}

static void free_parts(struct knit_loop *loop)
{
    struct event **events[] = {
        &loop->inbox_event, &loop->bell_event, &loop->alarm_event, &loop->sweep_event};

    for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++) {
        if (*events[i])
            event_free(*events[i]);
        *events[i] = NULL;
    }
    knit_hangup_close(&loop->hangups);
    if (loop->base)
        event_base_free(loop->base);
    loop->base = NULL;
    if (loop->alarm_fd >= 0)
        (void)close(loop->alarm_fd);
    loop->alarm_fd = -1;
    knit_mailbox_close(&loop->inbox);
    knit_buffer_fini(&loop->turn.scratch);
    free(loop->read_buffer);
    loop->read_buffer = NULL;
}

static int make_parts(struct knit_loop *loop)
{
    int r = knit_mailbox_open(&loop->inbox);

    if (r != 0)
        return r;
    loop->read_buffer = malloc(KNIT_LOOP_READ_BUFFER_BYTES);
    if (!loop->read_buffer)
        return -ENOMEM;
    r = knit_router_init(&loop->router, loop, loop->all->pool);
    return r != 0 ? r : make_events(loop);
}

/* Signals are the main thread's. */
static int start_thread(struct knit_loop *loop)
{
    sigset_t all, before;
    int r;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&loop->thread, NULL, run, loop);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -r;
}

int knit_loop_start(struct knit_loop *loop, const struct knit_loops *all, uint32_t index)
{
    int r;

    loop->all = all;
    loop->turn = (struct knit_turn){
        .settings = all->settings, .log = all->log, .loop = index, .now_ns = knit_clock_ns()};
    loop->poll_turns = (uint32_t)all->settings->busy_poll_turns;
    loop->inbox = (struct knit_mailbox){-1, -1};
    loop->alarm_fd = -1;
    loop->hangups.fd = -1;
    loop->alarm_ns = UINT64_MAX;
    TAILQ_INIT(&loop->connections);
    TAILQ_INIT(&loop->dirty);
    TAILQ_INIT(&loop->ready);
    TAILQ_INIT(&loop->stalled);
    TAILQ_INIT(&loop->idle);
    TAILQ_INIT(&loop->dead);
    knit_inputs_init(&loop->inputs);
    knit_buffer_init(&loop->turn.scratch, SCRATCH_MAX);
    r = make_parts(loop);
    if (r == 0)
        r = start_thread(loop);
    if (r != 0) {
        knit_router_fini(&loop->router, all->pool);
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
