/* SPDX-License-Identifier: Apache-2.0 */
/* Ending goes through four states, each begun by the messages or events that end the one before:
 *
 *     SERVING -> REFUSING   a signal: no more connections, DRAIN to all loops
 *     REFUSING -> DRAINING  every loop said DRAINS: no call will be published; the pool shuts down
 *     DRAINING -> ENDING    the pool is stopped, every call has its outcome: FINISH to all loops
 *     ENDING -> gone        every loop said FINISHED
 *
 * The order matters: a pool that shut down first would refuse calls which loops had accepted.
 */
#include "server/daemon/service.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "fastpath/host/pool.h"
#include "server/base/log.h"
#include "server/config/confinement.h"
#include "server/config/install_paths.h"
#include "server/daemon/loop.h"
#include "server/daemon/mailbox.h"
#include "server/daemon/pool_log.h"
#include "server/daemon/ready_file.h"
#include "server/net/endpoint.h"
#include "server/net/listener.h"
#include "server/net/socket_file.h"
#include "server/policy/access.h"

enum { LISTENERS_MAX = 17 };

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
    enum service_state state;

    struct event_base *base;
    struct event *signals[4];
    struct event *pool_event;
    struct event *second_event; /* after a session was evicted */
    uint32_t evicted;           /* since that was last set */
    struct event *outbox_event;
    struct knit_mailbox outbox;

    int tcp_fds[LISTENERS_MAX];
    char tcp_names[LISTENERS_MAX][KNIT_ENDPOINT_TEXT_MAX];
    size_t tcp_count;
    struct knit_socket_file socket;
    struct knit_listener listeners[LISTENERS_MAX];
    size_t listener_count;
    time_t complained_at;

    struct knit_pool *pool;
    struct knit_loops loops;
    uint64_t *dealt;  /* connections handed to each loop */
    int stop_fd;      /* while the parts start: readable when the daemon is asked to end */
    bool is_given_up; /* it was asked to while they did */
    bool is_damaged;  /* it ends because of its memory */
    uint32_t drains;
    uint32_t finished;
};

static int refuse_memory(struct knit_sentence *why)
{
    return knit_sentence_say(why, -ENOMEM, "out of memory");
}

/* ---- connections --------------------------------------------------------------------------- */

/* At most once a second, whatever comes in. */
static void complain(struct service *service, const char *message, const char *reason)
{
    time_t now = (time_t)(knit_clock_ns() / 1000000000);

    if (now == service->complained_at)
        return;
    service->complained_at = now;
    knit_log(&service->log, KNIT_LOG_WARNING, message, KNIT_LOG_TEXT("reason", reason));
}

static void on_accept(void *arg, int fd, bool is_unix)
{
    struct service *service = arg;
    uint64_t total = 0, least = UINT64_MAX;
    uint32_t chosen = 0;

    for (uint32_t i = 0; i < service->loops.count; i++) {
        uint64_t closed =
            knit_counter_read(&service->loops.items[i].turn.counters.connections_closed);
        uint64_t open = service->dealt[i] > closed ? service->dealt[i] - closed : 0;

        total += open;
        if (open < least) {
            least = open;
            chosen = i;
        }
    }
    if (total >= service->settings->max_connections) {
        complain(service, "connection turned away", "max_connections are open");
        (void)close(fd);
        return;
    }
    if (!knit_loop_send(&service->loops.items[chosen],
            (struct knit_mailbox_message){KNIT_MAILBOX_CONNECTION, fd, is_unix})) {
        complain(service, "connection turned away", "its event loop does not keep up");
        (void)close(fd);
        return;
    }
    service->dealt[chosen]++;
}

static void on_exhausted(void *arg, int error)
{
    complain(arg, "connections are turned away", strerror(error));
}

static int start_listener(struct service *service, int fd, bool is_unix)
{
    struct knit_listener *listener = &service->listeners[service->listener_count];

    *listener = (struct knit_listener){.fd = fd,
        .is_unix = is_unix,
        .on_accept = on_accept,
        .on_exhausted = on_exhausted,
        .arg = service};
    if (knit_listener_start(listener, service->base) != 0)
        return -ENOMEM;
    service->listener_count++;
    return 0;
}

static int start_accepting(struct service *service, struct knit_sentence *why)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < service->tcp_count; i++)
        r = start_listener(service, service->tcp_fds[i], false);
    if (r == 0 && service->socket.fd >= 0)
        r = start_listener(service, service->socket.fd, true);
    return r == 0 ? 0 : refuse_memory(why);
}

static void stop_accepting(struct service *service)
{
    for (size_t i = 0; i < service->listener_count; i++)
        knit_listener_stop(&service->listeners[i]);
    service->listener_count = 0;
}

static void close_sockets(struct service *service)
{
    for (size_t i = 0; i < service->tcp_count; i++)
        (void)close(service->tcp_fds[i]);
    service->tcp_count = 0;
    knit_socket_file_close(&service->socket);
}

static bool is_none(const char *word)
{
    return strcmp(word, "none") == 0;
}

/* Whether we would listen there. */
static int read_endpoint(const struct knit_settings *settings, const char *text,
    struct knit_endpoint *ret_endpoint, struct knit_sentence *why)
{
    int r = knit_endpoint_parse(text, ret_endpoint, why);

    if (r == 0 && !knit_endpoint_is_loopback(ret_endpoint) &&
        !settings->allow_remote_without_authentication)
        return knit_sentence_say(why, KNIT_ENDPOINT_E_REFUSED,
            "server.listen: other machines can reach %s and there is no authentication; if anybody "
            "who reaches it may run every task, say --allow-remote-without-authentication",
            text);
    return r;
}

static int open_tcp(struct service *service, const char *text, struct knit_sentence *why)
{
    struct knit_endpoint endpoint;
    size_t at = service->tcp_count;
    int r;

    if (is_none(text))
        return 0;
    r = read_endpoint(service->settings, text, &endpoint, why);
    if (r == 0)
        r = knit_endpoint_listen(&endpoint, &service->tcp_fds[at], why);
    if (r != 0)
        return r;
    service->tcp_count++;
    r = knit_endpoint_name(service->tcp_fds[at], service->tcp_names[at]);
    return r == 0 ? 0 : knit_sentence_say(why, r, "listen %s: %s", text, strerror(-r));
}

static int open_unix(struct service *service, struct knit_sentence *why)
{
    const struct knit_settings *settings = service->settings;
    char *usual = NULL;
    int r = 0;

    if (settings->socket && is_none(settings->socket))
        return 0;
    if (!settings->socket)
        r = knit_socket_file_usual_path(&usual, why);
    if (r == 0)
        r = knit_socket_file_open(&service->socket, settings->socket ? settings->socket : usual,
            (uint32_t)settings->socket_mode, settings->socket_group, why);
    free(usual);
    return r < 0 ? refuse_memory(why) : r;
}

static int open_sockets(struct service *service, struct knit_sentence *why)
{
    int r = open_unix(service, why);

    for (size_t i = 0; r == 0 && i < service->settings->listen.count; i++)
        r = open_tcp(service, service->settings->listen.items[i], why);
    if (r == 0 && service->tcp_count == 0 && service->socket.fd < 0)
        return knit_sentence_say(
            why, 1, "nothing to listen on: both server.listen and server.socket are none");
    return r;
}

/* ---- messages and the end ------------------------------------------------------------------- */

/* A loop's mailbox is full only while thousands of connections wait in it; it will be emptied. */
static void send_surely(struct knit_loop *loop, struct knit_mailbox_message message)
{
    struct pollfd poll_fd = {loop->inbox.write_fd, POLLOUT, 0};

    for (int attempt = 0; attempt < 50 && !knit_loop_send(loop, message); attempt++)
        (void)poll(&poll_fd, 1, 100);
}

static void tell_all(struct service *service, enum knit_mailbox_kind kind, uint64_t value)
{
    for (uint32_t i = 0; i < service->loops.count; i++)
        send_surely(&service->loops.items[i], (struct knit_mailbox_message){kind, -1, value});
}

static void begin_drain(struct service *service)
{
    const struct knit_settings *settings = service->settings;

    if (service->state != SERVING) {
        /* Asked twice: what still runs is ended now. */
        if (service->state == DRAINING)
            knit_pool_shutdown(service->pool, false, knit_clock_ns());
        return;
    }
    knit_log(
        &service->log, KNIT_LOG_INFO, "draining", KNIT_LOG_NUMBER("drain_ms", settings->drain_ms));
    service->state = REFUSING;
    stop_accepting(service);
    close_sockets(service);
    tell_all(service, KNIT_MAILBOX_DRAIN, settings->drain_ms);
}

static void end_if_stopped(struct service *service)
{
    if (service->state != DRAINING || !knit_pool_is_stopped(service->pool))
        return;
    service->state = ENDING;
    tell_all(service, KNIT_MAILBOX_FINISH, 0);
}

static void on_outbox(evutil_socket_t fd, short events, void *arg)
{
    struct service *service = arg;
    struct knit_mailbox_message message;

    (void)fd, (void)events;
    while (knit_mailbox_receive(&service->outbox, &message)) {
        if (message.kind == KNIT_MAILBOX_DRAINS && ++service->drains == service->loops.count) {
            service->state = DRAINING;
            knit_pool_shutdown(service->pool, true,
                knit_clock_ns() + service->settings->drain_ms * UINT64_C(1000000));
            end_if_stopped(service);
        } else if (message.kind == KNIT_MAILBOX_FINISHED &&
                   ++service->finished == service->loops.count) {
            (void)event_base_loopbreak(service->base);
        }
    }
}

/* ---- signals ------------------------------------------------------------------------------- */

/* As process 1 the daemon inherits orphans. The pool's own children are left to the pool, which
 * would otherwise take a stranger's end for theirs. */
static void reap_orphans(struct service *service)
{
    for (;;) {
        siginfo_t info = {.si_pid = 0};

        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
            return;
        if (service->pool && knit_pool_owns_pid(service->pool, info.si_pid)) {
            /* It stands in front of the others until the pool has reaped it. */
            knit_pool_dispatch(service->pool);
            if (knit_pool_owns_pid(service->pool, info.si_pid))
                return;
        } else {
            (void)waitpid(info.si_pid, NULL, WNOHANG);
        }
    }
}

static void on_signal(evutil_socket_t number, short events, void *arg)
{
    struct service *service = arg;

    (void)events;
    if (service->settings->debug_bits & KNIT_DEBUG_SIGNALS)
        knit_log(&service->log, KNIT_LOG_INFO, "signal", KNIT_LOG_NUMBER("number", number),
            KNIT_LOG_TEXT("name", strsignal((int)number)));
    if (number == SIGCHLD) {
        if (getpid() == 1)
            reap_orphans(service);
    } else if (number == SIGHUP) {
        knit_log(&service->log, KNIT_LOG_WARNING,
            "SIGHUP does nothing: settings are read at start alone");
    } else {
        begin_drain(service);
    }
}

/* While the parts start and while they go, none of these must end the daemon in the default way,
 * which would leave its socket file behind. */
static void hold_signals(sigset_t *ret_set)
{
    (void)sigemptyset(ret_set);
    (void)sigaddset(ret_set, SIGTERM);
    (void)sigaddset(ret_set, SIGINT);
    (void)sigaddset(ret_set, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, ret_set, NULL);
}

/* A start may take half a minute, so the pool looks at a descriptor meanwhile. What comes then or
 * later stays pending until take_signals(). */
static int open_stop_fd(struct service *service, struct knit_sentence *why)
{
    sigset_t set;

    hold_signals(&set);
    (void)sigdelset(&set, SIGHUP);
    service->stop_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return service->stop_fd >= 0
               ? 0
               : knit_sentence_say(why, -errno, "cannot watch for signals: %s", strerror(errno));
}

static void close_stop_fd(struct service *service)
{
    if (service->stop_fd >= 0)
        (void)close(service->stop_fd);
    service->stop_fd = -1;
}

static int take_signals(struct service *service, struct knit_sentence *why)
{
    sigset_t set;

    static const int numbers[] = {SIGTERM, SIGINT, SIGCHLD, SIGHUP};

    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        service->signals[i] = evsignal_new(service->base, numbers[i], on_signal, service);
        if (!service->signals[i] || event_add(service->signals[i], NULL) < 0)
            return refuse_memory(why);
    }
    close_stop_fd(service);
    hold_signals(&set);
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    return 0;
}

/* ---- the pool ------------------------------------------------------------------------------ */

static void on_output(
    void *arg, uint32_t lane, pid_t pid, const char *line, size_t len, bool truncated)
{
    struct service *service = arg;

    knit_pool_log_output(&service->log, lane, pid, line, len, truncated);
}

/* Some task wrote over what an event loop and its workers believe. Nobody knows what else it wrote,
 * and calls of that loop end no more: whoever started the daemon is to start it anew. */
static void give_up(struct service *service)
{
    service->is_damaged = true;
    if (service->state == SERVING)
        begin_drain(service);
}

static void on_pool_event(void *arg, const struct knit_pool_event *event)
{
    static const struct timeval second = {1, 0};
    struct service *service = arg;

    knit_pool_log_event(
        &service->log, service->pool, service->settings->debug_bits, event, &service->evicted);
    if (event->kind == KNIT_POOL_SESSION_DAMAGED)
        give_up(service);
    if (event->kind != KNIT_POOL_SESSION_EVICTED)
        return;
    tell_all(service, KNIT_MAILBOX_EVICTED, event->session);
    if (!event_pending(service->second_event, EV_TIMEOUT, NULL))
        (void)event_add(service->second_event, &second);
}

static void on_second(evutil_socket_t fd, short events, void *arg)
{
    struct service *service = arg;

    (void)fd, (void)events;
    knit_pool_log_end_second(&service->log, &service->evicted);
}

static void on_pool(evutil_socket_t fd, short events, void *arg)
{
    struct service *service = arg;

    (void)fd, (void)events;
    knit_pool_dispatch(service->pool);
    end_if_stopped(service);
}

static int start_pool(struct service *service, const char *worker, char **modules,
    const struct knit_confine_policy *confinement, struct knit_sentence *why)
{
    const struct knit_settings *settings = service->settings;
    struct knit_pool_options options;
    int r;

    knit_pool_options_init(&options);
    options.worker_path = worker;
    options.modules = (const char *const *)modules;
    while (modules[options.module_count])
        options.module_count++;
    options.bootstrap = settings->bootstrap ? settings->bootstrap : "";
    options.workers = (uint32_t)settings->workers;
    options.steal = settings->steal != 0;
    options.spin_us = (uint32_t)settings->spin_us;
    options.pause_ns = (uint32_t)settings->pause_ns;
    options.park_ms = (uint32_t)settings->park_ms;
    options.slots = (uint32_t)settings->slots;
    options.arena_initial_bytes = settings->arena_initial_bytes;
    options.arena_bytes = settings->arena_bytes;
    options.call_max_bytes = settings->call_max_bytes;
    if (options.reply_budget_bytes < settings->arena_bytes)
        options.reply_budget_bytes = settings->arena_bytes;
    options.hard_timeout_ms = (uint32_t)settings->hard_timeout_ms;
    options.confinement = *confinement;
    options.callbacks.on_output = on_output;
    options.callbacks.on_event = on_pool_event;
    options.callbacks.arg = service;
    options.stop_fd = service->stop_fd;
    for (uint32_t i = 0; settings->debug_bits & KNIT_DEBUG_IMPORTS && modules[i]; i++)
        knit_log(&service->log, KNIT_LOG_INFO, "module", KNIT_LOG_TEXT("path", modules[i]));
    r = knit_pool_open(&options, &service->pool, why);
    service->is_given_up = r == KNIT_POOL_E_CLOSED;
    if (r != 0)
        return r;
    service->pool_event = event_new(
        service->base, knit_pool_fd(service->pool), EV_READ | EV_PERSIST, on_pool, service);
    if (!service->pool_event || event_add(service->pool_event, NULL) < 0)
        return refuse_memory(why);
    return 0;
}

/* Before the first thread, and after the sockets, whose ports and groups may have needed it.
 * Workers that are `unsafe` keep what the daemon keeps. */
static void drop_privileges(struct service *service, enum knit_confine_profile profile)
{
    int r = profile == KNIT_CONFINE_UNSAFE ? 0 : knit_confine_host(NULL);

    if (r != 0)
        knit_log(&service->log, KNIT_LOG_WARNING, "the daemon keeps privileges it does not need",
            KNIT_LOG_TEXT("reason", strerror(-r)));
}

static int open_pool(struct service *service, struct knit_sentence *why)
{
    struct knit_confine_policy confinement = {0};
    char worker[PATH_MAX];
    char **modules = NULL;
    int r = knit_install_paths_find_worker(service->settings->worker_program, worker, why);

    if (r == 0)
        r = knit_install_paths_find_modules(&service->settings->modules, &modules, why);
    if (r == 0)
        r = knit_confinement_policy(service->settings, &confinement, why);
    if (r == 0)
        drop_privileges(service, (enum knit_confine_profile)confinement.rules.profile);
    if (r == 0)
        r = start_pool(service, worker, modules, &confinement, why);
    knit_confinement_policy_free(&confinement);
    knit_install_paths_free(modules);
    return r;
}

/* ---- loops --------------------------------------------------------------------------------- */

static int start_loops(struct service *service, struct knit_sentence *why)
{
    uint32_t count = (uint32_t)service->settings->threads_io;

    service->loops = (struct knit_loops){.settings = service->settings,
        .log = &service->log,
        .outbox = &service->outbox,
        .backend = {service->pool, &service->access, &service->loops.stats},
        .stats = {.pool = service->pool, .log = &service->log, .started_ns = knit_clock_ns()}};
    service->loops.items = calloc(count, sizeof(*service->loops.items));
    service->dealt = calloc(count, sizeof(*service->dealt));
    if (!service->loops.items || !service->dealt)
        return refuse_memory(why);
    for (uint32_t i = 0; i < count; i++) {
        int r = knit_loop_start(&service->loops.items[i], &service->loops, i);

        if (r != 0)
            return knit_sentence_say(why, r, "cannot start event loop %u: %s", i,
                r > 0 ? knit_pool_reason(r) : strerror(-r));
        service->loops.stats.counters[i] = &service->loops.items[i].turn.counters;
        service->loops.stats.loops = i + 1;
        service->loops.count = i + 1;
    }
    return 0;
}

static void stop_loops(struct service *service)
{
    if (service->state != ENDING)
        tell_all(service, KNIT_MAILBOX_FINISH, 0);
    for (uint32_t i = 0; i < service->loops.count; i++)
        knit_loop_join(&service->loops.items[i]);
    free(service->loops.items);
    free(service->dealt);
    service->loops = (struct knit_loops){0};
}

/* ---- start and stop ------------------------------------------------------------------------ */

static int make_base(struct service *service, struct knit_sentence *why)
{
    int r = knit_mailbox_open(&service->outbox);

    if (r != 0)
        return knit_sentence_say(why, r, "cannot create a pipe: %s", strerror(-r));
    service->base = event_base_new();
    if (!service->base)
        return refuse_memory(why);
    service->outbox_event =
        event_new(service->base, service->outbox.read_fd, EV_READ | EV_PERSIST, on_outbox, service);
    service->second_event = evtimer_new(service->base, on_second, service);
    if (!service->outbox_event || !service->second_event ||
        event_add(service->outbox_event, NULL) < 0)
        return refuse_memory(why);
    return 0;
}

static int tell_ready(struct service *service, const char *ready_file, struct knit_sentence *why)
{
    const struct knit_registry *registry = knit_pool_registry(service->pool);

    for (size_t i = 0; i < service->tcp_count; i++)
        knit_log(&service->log, KNIT_LOG_INFO, "listening",
            KNIT_LOG_TEXT("address", service->tcp_names[i]));
    if (service->socket.fd >= 0)
        knit_log(&service->log, KNIT_LOG_INFO, "listening",
            KNIT_LOG_TEXT("socket", service->socket.path));
    for (uint32_t i = 0;
         service->settings->debug_bits & KNIT_DEBUG_IMPORTS && i < knit_registry_count(registry);
         i++) {
        const struct knit_registry_task *task = knit_registry_at(registry, i);

        knit_log(&service->log, KNIT_LOG_INFO, "task", KNIT_LOG_NUMBER("id", task->id),
            KNIT_LOG_TEXT("signature", knit_signature_text(task->signature)));
    }
    knit_log(&service->log, KNIT_LOG_INFO, "ready", KNIT_LOG_TEXT("version", KNIT_VERSION),
        KNIT_LOG_NUMBER("pid", getpid()), KNIT_LOG_NUMBER("tasks", knit_registry_count(registry)),
        KNIT_LOG_NUMBER("workers", knit_pool_lanes(service->pool)),
        KNIT_LOG_NUMBER("threads_io", service->loops.count));
    if (!ready_file)
        return 0;
    return knit_ready_file_write(ready_file, (const char(*)[64])service->tcp_names,
        service->tcp_count, service->socket.path, why);
}

/* Every connection is a descriptor, and 1,024 are soon too few. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int start(struct service *service, const char *ready_file, struct knit_sentence *why)
{
    int r = knit_access_init(&service->access, service->settings, why);

    if (r == 0)
        r = open_stop_fd(service, why);
    if (r == 0)
        r = make_base(service, why);
    if (r == 0)
        r = open_sockets(service, why);
    /* A former daemon's must not be taken for ours. Its sockets are ours now, so it is none that
     * runs. */
    if (r == 0 && ready_file)
        (void)unlink(ready_file);
    if (r == 0)
        r = open_pool(service, why);
    if (r == 0)
        r = start_loops(service, why);
    if (r == 0)
        r = take_signals(service, why);
    if (r == 0)
        r = start_accepting(service, why);
    return r == 0 ? tell_ready(service, ready_file, why) : r;
}

static void free_event(struct event **event)
{
    if (*event)
        event_free(*event);
    *event = NULL;
}

static void stop(struct service *service)
{
    sigset_t set;

    hold_signals(&set);
    stop_accepting(service);
    stop_loops(service);
    for (uint32_t i = 0; service->pool && service->settings->debug_bits & KNIT_DEBUG_LANE &&
                         i < knit_pool_lanes(service->pool);
         i++)
        knit_pool_log_lane(&service->log, service->pool, i);
    free_event(&service->pool_event);
    service->pool = knit_pool_free(service->pool);
    knit_pool_log_end_second(&service->log, &service->evicted);
    free_event(&service->second_event);
    close_sockets(service);
    for (size_t i = 0; i < sizeof(service->signals) / sizeof(*service->signals); i++)
        free_event(&service->signals[i]);
    free_event(&service->outbox_event);
    if (service->base)
        event_base_free(service->base);
    knit_mailbox_close(&service->outbox);
    knit_access_fini(&service->access);
    close_stop_fd(service);
}

int knit_service_check(const struct knit_settings *settings, struct knit_sentence *why)
{
    struct knit_confine_policy confinement = {0};
    struct knit_access access = {0};
    struct knit_endpoint endpoint;
    char worker[PATH_MAX];
    char **modules = NULL;
    int r = knit_access_init(&access, settings, why);

    for (size_t i = 0; r == 0 && i < settings->listen.count; i++)
        if (!is_none(settings->listen.items[i]))
            r = read_endpoint(settings, settings->listen.items[i], &endpoint, why);
    if (r == 0 && settings->socket_group)
        r = knit_socket_file_check_group(settings->socket_group, why);
    if (r == 0)
        r = knit_install_paths_find_worker(settings->worker_program, worker, why);
    if (r == 0)
        r = knit_install_paths_find_modules(&settings->modules, &modules, why);
    if (r == 0)
        r = knit_confinement_policy(settings, &confinement, why);
    knit_confinement_policy_free(&confinement);
    knit_install_paths_free(modules);
    knit_access_fini(&access);
    return r;
}

int knit_service_run(
    const struct knit_settings *settings, const char *ready_file, struct knit_sentence *why)
{
    struct service service = {.settings = settings,
        .outbox = {-1, -1},
        .socket = {.fd = -1, .lock_fd = -1},
        .stop_fd = -1};
    int r;

    (void)signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    knit_log_init(&service.log, STDERR_FILENO, (enum knit_log_level)settings->level);
    r = start(&service, ready_file, why);
    if (r == 0)
        (void)event_base_dispatch(service.base);
    if (service.is_given_up)
        r = 0;
    if (r == 0)
        knit_log(&service.log, KNIT_LOG_INFO, "stopped");
    if (r == 0 && service.is_damaged)
        r = knit_sentence_say(why, 1, "ended because its shared memory was damaged");
    stop(&service);
    knit_log_fini(&service.log);
    return r;
}
