/* SPDX-License-Identifier: Apache-2.0 */
/* Ending goes through four states, each begun by the messages or events that end the one before:
 *
 *     SERVING -> REFUSING   a signal or `$/drain`: no more connections, DRAIN to all loops; they
 *                           take calls of those alone that cannot know, for half of the time
 *     REFUSING -> DRAINING  every loop said DRAINS: no call will be published; the pool shuts down
 *     DRAINING -> ENDING    the pool is stopped, every call has its outcome: FINISH to all loops
 *     ENDING -> gone        every loop said FINISHED
 *
 * The order matters: a pool that shut down first would refuse calls which loops had accepted.
 */
#include "server/daemon/service.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fastpath/host/pool.h"
#include "fastpath/lane/fd.h"
#include "fastpath/worker/inline_tasks.h"
#include "server/base/instance.h"
#include "server/base/log.h"
#include "server/daemon/admin.h"
#include "server/daemon/announce.h"
#include "server/daemon/certificates.h"
#include "server/daemon/dealer.h"
#include "server/daemon/denials.h"
#include "server/daemon/descriptors.h"
#include "server/daemon/file_watch.h"
#include "server/daemon/identity.h"
#include "server/daemon/lists.h"
#include "server/daemon/loop.h"
#include "server/daemon/mailbox.h"
#include "server/daemon/pool_log.h"
#include "server/daemon/ready_file.h"
#include "server/daemon/reload.h"
#include "server/daemon/reporting.h"
#include "server/daemon/rules.h"
#include "server/daemon/second.h"
#include "server/daemon/signals.h"
#include "server/daemon/status.h"
#include "server/daemon/takeover.h"
#include "server/daemon/workers.h"
#include "server/net/closer.h"
#include "server/net/listening.h"
#include "server/policy/access.h"

enum service_state {
    SERVING,
    REFUSING,
    DRAINING,
    ENDING,
};

struct service {
    const struct knit_settings *settings;
    struct knit_log log;
    struct knit_access access;
    struct knit_instance instance;
    struct knit_identity identity;
    struct knit_ready_file ready;
    struct knit_rules rules;
    struct knit_reporting reporting;
    struct knit_reload_outcome outcome;
    struct knit_file_watch files; /* that settings name */
    struct knit_listed listed;
    struct knit_lists lists;
    enum service_state state;

    struct event_base *base;
    struct knit_signals signals;
    struct event *pool_event;
    struct knit_second second;
    struct knit_denials denials;
    struct event *outbox_event;
    struct knit_mailbox outbox;

    struct knit_listening listening;
    struct knit_takeover takeover; /* by another daemon */
    bool takes_over;
    int elder_fd; /* of the daemon that this one takes over from; -1 = none */
    struct knit_certificates certificates;
    struct knit_closer closer; /* if the socket needs one */
    bool has_closer;
    struct knit_descriptors descriptors;

    struct knit_host *pool;
    struct knit_inline_tasks *inline_tasks; /* NULL: there is no inliner */
    struct knit_loops loops;
    struct knit_dealer dealer;
    struct knit_admin admin;
    struct knit_status status;
    uint64_t drain_until_ns;
    bool is_hurried;  /* it was asked twice to end */
    bool is_given_up; /* the daemon was asked to end while its parts started */
    bool is_damaged;  /* it ends because of its memory */
    bool is_overrun;  /* and so because of a task, whose hard timeout is the pool's */
    uint32_t drains;
    uint32_t finished;
    uint32_t asked; /* by signals to end */
};

static int refuse_memory(struct knit_sentence *why)
{
    return knit_sentence_set(why, -ENOMEM, "out of memory");
}

/* ---- messages and the end ------------------------------------------------------------------- */

static void send_to_all(struct service *service, enum knit_mailbox_kind kind, uint64_t value)
{
    for (uint32_t i = 0; i < service->loops.count; i++)
        knit_mailbox_send_surely(
            &service->loops.items[i].inbox, (struct knit_mailbox_message){kind, -1, value});
}

static void begin_drain(struct service *service)
{
    const struct knit_settings *settings = service->settings;

    if (service->state != SERVING) {
        /* Asked twice: what still runs is ended now. */
        service->is_hurried = true;
        if (service->state == REFUSING)
            send_to_all(service, KNIT_MAILBOX_DRAIN, 0);
        if (service->state == DRAINING)
            knit_host_shutdown(service->pool, false, knit_clock_ns());
        return;
    }
    knit_log(
        &service->log, KNIT_LOG_INFO, "draining", KNIT_LOG_NUMBER("drain_ms", settings->drain_ms));
    service->state = REFUSING;
    service->drain_until_ns = knit_clock_ns() + settings->drain_ms * UINT64_C(1000000);
    knit_host_refuse_callers(service->pool);
    knit_admin_drain(&service->admin);
    knit_status_drain(&service->status, settings->drain_ms);
    service->listening.socket.leaves_files |= knit_takeover_withdraw(&service->takeover);
    knit_ready_file_remove(&service->ready);
    knit_listening_stop(&service->listening);
    knit_listening_close(&service->listening);
    send_to_all(service, KNIT_MAILBOX_DRAIN, service->is_overrun ? 0 : settings->drain_ms);
}

static void end_if_stopped(struct service *service)
{
    if (service->state != DRAINING || !knit_host_is_stopped(service->pool))
        return;
    service->state = ENDING;
    knit_status_end(&service->status);
    send_to_all(service, KNIT_MAILBOX_FINISH, 0);
}

/* Settings are read at start alone; files that they name are read again. */
static void reload(struct service *service)
{
    const struct knit_reload_part parts[] = {knit_certificates_part(&service->certificates),
        knit_identity_part(&service->identity), knit_rules_part(&service->rules),
        knit_reporting_part(&service->reporting)};
    struct knit_sentence why;

    knit_status_reload(&service->status);
    if (knit_reload_say(&service->outcome, parts, sizeof(parts) / sizeof(parts[0]), &service->log))
        send_to_all(service, KNIT_MAILBOX_RECHECK, 0);
    knit_status_reloaded(
        &service->status, knit_reload_outcome_get(&service->outcome, &why) ? why.text : NULL);
    knit_second_note(&service->second);
}

static void on_changed_files(void *arg)
{
    reload(arg);
}

static void on_outbox(evutil_socket_t fd, short events, void *arg)
{
    struct service *service = arg;
    struct knit_mailbox_message message;

    (void)fd, (void)events;
    while (knit_mailbox_receive(&service->outbox, &message)) {
        if (message.kind == KNIT_MAILBOX_DRAINS && ++service->drains == service->loops.count) {
            service->state = DRAINING;
            knit_host_shutdown(service->pool, !service->is_overrun && !service->is_hurried,
                service->is_hurried ? knit_clock_ns() : service->drain_until_ns);
            end_if_stopped(service);
        } else if (message.kind == KNIT_MAILBOX_ASKED) {
            if (message.value != 0)
                knit_admin_yield(&service->admin);
            if (service->state != SERVING)
                continue;
            service->listening.socket.leaves_files |= message.value != 0;
            begin_drain(service);
        } else if (message.kind == KNIT_MAILBOX_CALLS) {
            knit_lists_note(&service->lists, message.value);
        } else if (message.kind == KNIT_MAILBOX_LIST) {
            knit_lists_ask_for(&service->lists, (uint32_t)(message.value >> 32),
                (uint32_t)(message.value & UINT32_MAX));
        } else if (message.kind == KNIT_MAILBOX_RELOAD) {
            reload(service);
            knit_mailbox_send_surely(&service->loops.items[message.value >> 32].inbox,
                (struct knit_mailbox_message){
                    KNIT_MAILBOX_RELOADED, -1, message.value & UINT32_MAX});
        } else if (message.kind == KNIT_MAILBOX_FINISHED &&
                   ++service->finished == service->loops.count) {
            (void)event_base_loopbreak(service->base);
        }
    }
}

/* ---- what loops ask, on their threads ------------------------------------------------------- */

static bool on_drain(void *arg, bool is_taken_over)
{
    struct service *service = arg;

    return knit_mailbox_send(
        &service->outbox, (struct knit_mailbox_message){KNIT_MAILBOX_ASKED, -1, is_taken_over});
}

static uint32_t on_takeover(void *arg, int ret_fds[KNIT_ROUTER_SOCKETS_MAX])
{
    struct service *service = arg;

    uint32_t count = knit_takeover_give(&service->takeover, ret_fds);

    /* Without the keys clients of TLS make new handshakes, and no more. */
    if (count > 0 && service->certificates.store != NULL) {
        ret_fds[count] = knit_tls_tickets_give(&service->certificates.tickets);
        count += ret_fds[count] >= 0;
    }
    return count;
}

static void on_takeover_end(void *arg)
{
    struct service *service = arg;

    knit_takeover_give_back(&service->takeover);
}

static bool ask(void *arg, enum knit_asked_kind kind, uint32_t loop, uint32_t ticket)
{
    struct service *service = arg;

    return knit_mailbox_send(
        &service->outbox, (struct knit_mailbox_message){
                              kind == KNIT_ASKED_RELOAD ? KNIT_MAILBOX_RELOAD : KNIT_MAILBOX_LIST,
                              -1, (uint64_t)loop << 32 | ticket});
}

static void tell_stop(void *arg, const struct knit_host_address *call)
{
    knit_loops_stop(&((struct service *)arg)->loops, call);
}

/* ---- signals ------------------------------------------------------------------------------- */

static void on_signal(void *arg, int number)
{
    struct service *service = arg;

    if (service->settings->debug_bits & KNIT_DEBUG_SIGNALS)
        knit_log(&service->log, KNIT_LOG_DEBUG, "signal", KNIT_LOG_NUMBER("number", number),
            KNIT_LOG_TEXT("name", strsignal(number)));
    if (number == SIGCHLD) {
        knit_workers_reap_orphans(service->pool);
        /* The pool may have come to its end there, after which nothing wakes on_pool(). */
        end_if_stopped(service);
    } else if (number == SIGHUP) {
        reload(service);
    } else if (service->asked++ > 0 || service->state == SERVING) {
        /* The first after `$/drain` leaves calls their time: who stops may have drained before. */
        begin_drain(service);
    }
}

/* ---- the pool ------------------------------------------------------------------------------ */

static void on_output(
    void *arg, const struct knit_host_event *from, const char *line, size_t len, bool truncated)
{
    struct service *service = arg;
    struct knit_log_field text = KNIT_LOG_BYTES("line", line, len);

    knit_pool_log_output(&service->log, service->pool, from, &text, truncated);
}

/* A task wrote over what an event loop and its workers share, and perhaps over more, and calls of
 * that loop end no more. The daemon ends, to be started anew by what started it. */
static void give_up(struct service *service)
{
    service->is_damaged = true;
    if (service->state == SERVING)
        begin_drain(service);
}

/* A task ran longer than it may, which is the end of the pool: its own call gets HARD_TIMEOUT, all
 * others SHUTDOWN. */
static void close_at_once(struct service *service)
{
    service->is_overrun = true;
    begin_drain(service);
}

static bool on_second(void *arg)
{
    struct service *service = arg;

    return service->pool != NULL &&
           knit_denials_end_second(&service->denials, service->pool, &service->log);
}

static void on_pool_event(void *arg, const struct knit_host_event *event)
{
    struct service *service = arg;

    knit_pool_log_event(&service->log, service->pool, service->settings->debug_bits, event);
    if (event->kind == KNIT_HOST_CALL_DENIED)
        knit_denials_note(&service->denials);
    knit_second_note(&service->second);
    if (event->kind == KNIT_HOST_SESSION_DAMAGED)
        give_up(service);
    if (event->kind == KNIT_HOST_HARD_TIMEOUT &&
        service->settings->hard_timeout_scope == KNIT_SCOPE_CHOICE_POOL)
        close_at_once(service);
    if (event->kind == KNIT_HOST_SESSION_EVICTED)
        send_to_all(service, KNIT_MAILBOX_EVICTED, event->session);
}

static void on_pool(evutil_socket_t fd, short events, void *arg)
{
    struct service *service = arg;

    (void)fd, (void)events;
    knit_host_dispatch(service->pool);
    end_if_stopped(service);
}

static int start_pool(struct service *service, struct knit_sentence *why)
{
    const struct knit_workers_surroundings surroundings = {
        .callbacks = {.on_output = on_output, .on_event = on_pool_event, .arg = service},
        .stop_fd = service->signals.stop_fd,
        .sessions_max = service->descriptors.sessions_max};
    int r =
        knit_workers_start(service->settings, &service->log, &surroundings, &service->pool, why);

    service->is_given_up = r == KNIT_HOST_E_CLOSED;
    if (r == 0)
        r = knit_workers_load_inline(
            service->settings, &service->log, service->pool, &service->inline_tasks, why);
    if (r != 0)
        return r;
    service->pool_event = event_new(
        service->base, knit_host_fd(service->pool), EV_READ | EV_PERSIST, on_pool, service);
    if (service->pool_event == NULL || event_add(service->pool_event, NULL) < 0)
        return refuse_memory(why);
    return 0;
}

static int start_rules(struct service *service, struct knit_sentence *why)
{
    service->rules = (struct knit_rules){.settings = service->settings,
        .log = &service->log,
        .pool = service->pool,
        .principals = &service->identity.principals,
        .authentication = &service->identity.authentication};
    return knit_rules_begin(&service->rules, why);
}

/* ---- loops --------------------------------------------------------------------------------- */

static int start_loops(struct service *service, struct knit_sentence *why)
{
    uint32_t count = (uint32_t)service->settings->threads_io;

    service->loops = (struct knit_loops){.settings = service->settings,
        .log = &service->log,
        .principals = &service->identity.principals,
        .outbox = &service->outbox,
        .closer = service->listening.socket.closer,
        .tls = service->certificates.store,
        .inline_tasks = service->inline_tasks,
        .keys = knit_keys_new(),
        .backend = {.pool = service->pool,
            .access = &service->access,
            .authentication = &service->identity.authentication,
            .stats = &service->loops.stats,
            .instance = service->instance.text,
            .policy = service->rules.policy,
            .access_log = service->reporting.access_log,
            .exporter = service->reporting.exporter,
            .on_drain = on_drain,
            .on_takeover = on_takeover,
            .on_takeover_end = on_takeover_end,
            .ask = ask,
            .tell_stop = tell_stop,
            .arg = service},
        .outcome = &service->outcome,
        .listed = &service->listed,
        .stats = {.pool = service->pool,
            .face = &service->admin.counters,
            .log = &service->log,
            .started_ns = knit_clock_ns()}};
    service->loops.items = calloc(count, sizeof(*service->loops.items));
    service->loops.calls = calloc(count, sizeof(*service->loops.calls));
    if (service->loops.items == NULL || service->loops.calls == NULL || service->loops.keys == NULL)
        return refuse_memory(why);
    knit_reporting_tell(&service->reporting, &service->loops.stats);
    for (uint32_t i = 0; i < count; i++)
        knit_calls_init(&service->loops.calls[i]);
    for (uint32_t i = 0; i < count; i++) {
        int r = knit_loop_start(&service->loops.items[i], &service->loops, i);

        if (r != 0)
            return knit_sentence_set(why, r, "cannot start event loop %u: %s", i,
                r > 0 ? knit_host_reason(r) : strerror(-r));
        service->loops.stats.counters[i] = &service->loops.items[i].turn.counters;
        service->loops.stats.waits[i] = service->loops.items[i].turn.waits;
        service->loops.stats.loops = i + 1;
        service->loops.count = i + 1;
    }
    service->dealer = (struct knit_dealer){.log = &service->log,
        .second = &service->second,
        .loops = &service->loops,
        .descriptors = &service->descriptors,
        .closer = service->listening.socket.closer};
    return knit_dealer_init(&service->dealer) == 0 ? 0 : refuse_memory(why);
}

static int start_admin(struct service *service, struct knit_sentence *why)
{
    if (knit_lists_start(&service->lists, service->base, &service->loops) != 0)
        return refuse_memory(why);
    service->admin.knows = (struct knit_admin_knows){.stats = &service->loops.stats,
        .lists = &service->lists,
        .dealer = &service->dealer,
        .certificates = &service->certificates,
        .closer = service->has_closer ? &service->closer : NULL};
    return knit_admin_start(&service->admin, service->base) == 0 ? 0 : refuse_memory(why);
}

static int say_ready(struct service *service, struct knit_sentence *why)
{
    service->status.log = &service->log;
    service->status.loops = &service->loops;
    service->status.pool = service->pool;
    return knit_status_ready(&service->status, service->base) == 0 ? 0 : refuse_memory(why);
}

static void stop_loops(struct service *service)
{
    if (service->state != ENDING)
        send_to_all(service, KNIT_MAILBOX_FINISH, 0);
    for (uint32_t i = 0; i < service->loops.count; i++)
        knit_loop_join(&service->loops.items[i]);
    (void)knit_keys_free(service->loops.keys);
    free(service->loops.items);
    free(service->loops.calls);
    knit_dealer_fini(&service->dealer);
    service->loops = (struct knit_loops){0};
}

/* ---- start and stop ------------------------------------------------------------------------ */

static int make_base(struct service *service, struct knit_sentence *why)
{
    int r = knit_mailbox_open(&service->outbox);

    if (r != 0)
        return knit_sentence_set(why, r, "cannot create a pipe: %s", strerror(-r));
    service->base = event_base_new();
    if (service->base == NULL)
        return refuse_memory(why);
    service->outbox_event =
        event_new(service->base, service->outbox.read_fd, EV_READ | EV_PERSIST, on_outbox, service);
    if (service->outbox_event == NULL || event_add(service->outbox_event, NULL) < 0 ||
        knit_second_init(&service->second, service->base, &service->log) != 0)
        return refuse_memory(why);
    service->second.look = on_second;
    service->second.arg = service;
    return 0;
}

static int announce(struct service *service, struct knit_sentence *why)
{
    knit_announce(&(struct knit_announcement){&service->log, service->settings, &service->listening,
        &service->descriptors, service->pool});
    return knit_ready_file_write(&service->ready, &service->listening, why);
}

/* Before Linux 6.16. */
static int start_closer(struct service *service, struct knit_sentence *why)
{
    struct knit_socket_file *socket = &service->listening.socket;
    int r;

    if (!socket->brings_gifts && !service->admin.socket.brings_gifts)
        return 0;
    r = knit_closer_start(
        &service->closer, service->descriptors.connections_max + KNIT_FACE_CONNECTIONS_MAX);
    if (r != 0)
        return knit_sentence_set(why, r, "cannot start a thread: %s", strerror(-r));
    socket->closer = &service->closer;
    service->has_closer = true;
    return 0;
}

/* New ones, or those of a service manager, or of the daemon that this one takes over from. */
static int open_sockets(struct service *service, struct knit_sentence *why)
{
    struct knit_inherited inherited = KNIT_INHERITED_INIT;
    int r = knit_inherited_from_environment(&inherited, why);

    if (r == 0 && service->takes_over && !inherited.is_all)
        r = knit_takeover_ask(service->settings, &inherited, &service->elder_fd, why);
    service->ready.replaces = service->elder_fd >= 0;
    if (r == 0)
        r = knit_listening_open(&service->listening, service->settings, &inherited, why);
    if (inherited.tickets_fd >= 0 && service->settings->tls_ticket_keys == NULL &&
        knit_tls_tickets_take(&service->certificates.tickets, inherited.tickets_fd) != 0)
        knit_log(
            &service->log, KNIT_LOG_WARNING, "the keys of TLS tickets could not be taken over");
    if (r == 0)
        r = knit_admin_open(&service->admin, service->settings, &service->log,
            service->elder_fd >= 0 || inherited.is_all, why);
    knit_inherited_close(&inherited);
    service->ready.admin = service->admin.url;
    return r;
}

/* From here on the elder ends, and what it left is this daemon's. */
static void take_over(struct service *service)
{
    if (service->elder_fd < 0)
        return;
    knit_takeover_finish(&service->elder_fd, &service->log);
    service->listening.socket.leaves_files = service->listening.socket.lock_fd < 0;
}

static int start(struct service *service, struct knit_sentence *why)
{
    int r = knit_instance_make(&service->instance);

    if (r != 0)
        return knit_sentence_set(why, r, "cannot get random bytes: %s", strerror(-r));
    knit_file_watch_init(&service->files, service->settings);
    r = knit_access_init(&service->access, service->settings, why);
    if (r == 0)
        r = knit_identity_init(&service->identity, service->settings, why);
    if (r == 0)
        r = knit_descriptors_deal(service->settings, &service->descriptors, why);
    if (r == 0)
        r = knit_certificates_init(&service->certificates, service->settings, why);
    if (r == 0)
        r = knit_signals_open(&service->signals, why);
    if (r == 0)
        r = make_base(service, why);
    if (r == 0)
        r = open_sockets(service, why);
    /* A ready file that a daemon left behind must not announce this one. That daemon does not run,
     * since its sockets could be opened. One that is taken over from keeps it for a while. */
    if (r == 0 && !service->ready.replaces)
        r = knit_ready_file_clear(&service->ready, why);
    if (r == 0)
        r = start_pool(service, why);
    if (r == 0)
        r = start_closer(service, why);
    if (r == 0)
        r = start_rules(service, why);
    if (r == 0)
        r = knit_reporting_start(
            &service->reporting, service->settings, service->instance.text, &service->log, why);
    if (r == 0)
        r = start_loops(service, why);
    if (r == 0 &&
        (knit_certificates_watch(&service->certificates, service->base, &service->log) != 0 ||
            knit_file_watch_start(&service->files, service->base, on_changed_files, service) != 0))
        r = refuse_memory(why);
    if (r == 0 && (knit_signals_start(&service->signals, service->base, on_signal, service) != 0 ||
                      knit_listening_start(&service->listening, service->base, knit_dealer_accept,
                          knit_dealer_exhausted, &service->dealer) != 0))
        r = refuse_memory(why);
    if (r == 0)
        r = start_admin(service, why);
    if (r == 0)
        r = announce(service, why);
    if (r == 0)
        knit_takeover_offer(&service->takeover, &service->listening);
    if (r == 0)
        r = say_ready(service, why);
    return r;
}

static void free_event(struct event **event)
{
    if (*event != NULL)
        event_free(*event);
    *event = NULL;
}

static void stop(struct service *service)
{
    knit_signals_hold();
    knit_fd_close(&service->elder_fd);
    (void)knit_takeover_withdraw(&service->takeover);
    knit_ready_file_remove(&service->ready);
    knit_listening_stop(&service->listening);
    knit_admin_close(&service->admin);
    knit_lists_stop(&service->lists);
    stop_loops(service);
    knit_reporting_stop(&service->reporting);
    knit_rules_end(&service->rules);
    for (uint32_t i = 0; service->pool != NULL && service->settings->debug_bits & KNIT_DEBUG_LANE &&
                         i < knit_host_lanes(service->pool);
         i++)
        knit_pool_log_lane(&service->log, service->pool, i);
    free_event(&service->pool_event);
    service->inline_tasks = knit_inline_tasks_close(service->inline_tasks);
    service->pool = knit_host_free(service->pool);
    knit_second_fini(&service->second);
    knit_status_close(&service->status);
    knit_listening_close(&service->listening);
    if (service->has_closer)
        knit_closer_stop(&service->closer);
    knit_signals_close(&service->signals);
    free_event(&service->outbox_event);
    knit_certificates_unwatch(&service->certificates);
    knit_file_watch_stop(&service->files);
    if (service->base != NULL)
        event_base_free(service->base);
    knit_mailbox_close(&service->outbox);
    knit_listed_fini(&service->listed);
    knit_identity_fini(&service->identity);
    knit_certificates_fini(&service->certificates);
    knit_access_fini(&service->access);
}

/* Naming something in [log] debug is enough to have it written, unless less than the usual level is
 * wanted. */
static enum knit_log_level level_of(const struct knit_settings *settings)
{
    if (settings->level == KNIT_LOG_INFO && settings->debug_bits != 0)
        return KNIT_LOG_DEBUG;
    return (enum knit_log_level)settings->level;
}

int knit_service_run(const struct knit_settings *settings,
    const struct knit_service_options *options, struct knit_sentence *why)
{
    struct service service = {.settings = settings,
        .ready = {.path = options->ready_file, .fd = -1},
        .takes_over = options->takes_over,
        .takeover = KNIT_TAKEOVER_INIT,
        .elder_fd = -1,
        .admin = KNIT_ADMIN_INIT,
        .outbox = {-1, -1},
        .listening = {.socket = {.fd = -1, .lock_fd = -1}},
        .signals = {.stop_fd = -1}};
    int r;

    knit_status_init(&service.status);
    knit_descriptors_raise();
    knit_log_init(&service.log, STDERR_FILENO, level_of(settings));
    service.log.is_json = settings->log_format == KNIT_LOG_JSON;
    knit_reload_outcome_init(&service.outcome);
    knit_listed_init(&service.listed);
    r = start(&service, why);
    if (r == 0) {
        take_over(&service);
        (void)event_base_dispatch(service.base);
    }
    if (service.is_given_up)
        r = 0;
    if (r == 0)
        knit_log(&service.log, KNIT_LOG_INFO, "stopped");
    if (r == 0 && service.is_damaged)
        r = knit_sentence_set(why, 1, "ended because its shared memory was damaged");
    if (r == 0 && service.is_overrun)
        r = knit_sentence_set(
            why, 1, "ended because a task ran into its hard timeout (hard_timeout_scope = pool)");
    stop(&service);
    knit_log_fini(&service.log);
    return r;
}
