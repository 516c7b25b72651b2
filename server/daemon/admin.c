/* SPDX-License-Identifier: Apache-2.0 */
/* A place that was not to be had is tried again in short steps: who waits for it is a probe. */
#include "server/daemon/admin.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/base/log.h"
#include "server/daemon/certificates.h"
#include "server/daemon/dealer.h"
#include "server/net/closer.h"
#include "server/tls/tls_context.h"

/* An elder that is told to drain lets go within milliseconds; one that is ended in another way does
 * when it has drained. */
enum { RETRY_FIRST_MS = 10, RETRY_MAX_MS = 1000 };

static bool is_none(const struct knit_settings *settings)
{
    return settings->admin == NULL || strcmp(settings->admin, "none") == 0;
}

static bool is_path(const struct knit_settings *settings)
{
    return settings->admin[0] == '/';
}

/* A path that begins elsewhere is no address either, and better told so. */
static int read_address(const struct knit_settings *settings, struct knit_endpoint *ret_endpoint,
    struct knit_sentence *why)
{
    if (strchr(settings->admin, '/') != NULL)
        return knit_sentence_set(why, KNIT_ENDPOINT_E_REFUSED,
            "server.admin: expected ADDRESS:PORT, the path of a socket from / on, or none, not "
            "'%s'",
            settings->admin);
    return knit_endpoint_parse(settings->admin, "server.admin", ret_endpoint, why);
}

int knit_admin_check(const struct knit_settings *settings, struct knit_sentence *why)
{
    struct knit_endpoint endpoint;
    int r;

    if (is_none(settings))
        return 0;
    if (is_path(settings)) {
        r = knit_socket_file_check(settings->admin, why);
        return r < 0 ? knit_sentence_set(why, r, "out of memory") : r;
    }
    r = read_address(settings, &endpoint, why);
    return r == 0 ? knit_endpoint_try(&endpoint, why) : r;
}

static void set_url(struct knit_admin *admin, const char *place)
{
    (void)snprintf(admin->url, sizeof(admin->url),
        is_path(admin->settings) ? "unix://%s" : "http://%s/", place);
}

static int open_place(struct knit_admin *admin, struct knit_sentence *why)
{
    const struct knit_settings *settings = admin->settings;
    char name[KNIT_ENDPOINT_TEXT_MAX];
    struct knit_endpoint endpoint;
    int r;

    if (is_path(settings)) {
        r = knit_socket_file_open(&admin->socket, settings->admin, (uint32_t)settings->socket_mode,
            settings->socket_group, why);
        admin->fd = admin->socket.fd;
        set_url(admin, r == 0 ? admin->socket.path : "");
        return r < 0 ? knit_sentence_set(why, r, "out of memory") : r;
    }
    r = read_address(settings, &endpoint, why);
    if (r == 0)
        r = knit_endpoint_listen(&endpoint, &admin->fd, why);
    if (r == 0 && (r = knit_endpoint_name(admin->fd, name)) != 0)
        return knit_sentence_set(why, r, "cannot listen: %s", strerror(-r));
    if (r == 0)
        set_url(admin, name);
    return r;
}

int knit_admin_open(struct knit_admin *admin, const struct knit_settings *settings,
    struct knit_log *log, bool has_elder, struct knit_sentence *why)
{
    int r;

    admin->settings = settings;
    admin->log = log;
    if (is_none(settings))
        return 0;
    r = open_place(admin, why);
    if (r == 0)
        return 0;
    if (has_elder) {
        set_url(admin, settings->admin);
        admin->retry_ms = RETRY_FIRST_MS;
        knit_log(log, KNIT_LOG_INFO, "the admin face waits for its place",
            KNIT_LOG_TEXT("reason", why->text));
        *why = (struct knit_sentence){""};
        return 0;
    }
    if (knit_setting_is_given(settings, "server", "admin"))
        return r < 0 ? r : KNIT_ADMIN_E_REFUSED;
    admin->url[0] = '\0';
    knit_log(log, KNIT_LOG_WARNING, "no admin face", KNIT_LOG_TEXT("reason", why->text));
    *why = (struct knit_sentence){""};
    return 0;
}

static bool on_accept(void *arg, int fd, enum knit_listener_kind kind)
{
    struct knit_admin *admin = arg;

    (void)kind;
    knit_face_take(&admin->face, fd);
    return true;
}

/* Those that are there go on. */
static void on_exhausted(void *arg, int error)
{
    (void)arg, (void)error;
}

/* ---- what the face asks -------------------------------------------------------------------- */

/* What follows from the loops' settings, and what they count by tasks. */
static void collect_loops(const struct knit_admin_knows *knows, struct knit_metrics_main *ret_main)
{
    for (uint32_t i = 0; i < knows->dealer->loops->count; i++) {
        const struct knit_share *share = &knows->dealer->loops->items[i].router.share;

        ret_main->slots += share->slots;
        ret_main->argument_bytes += share->arena_bytes;
        for (uint32_t row = 0; row < KNIT_RUN_ROWS; row++)
            knit_host_times_add(&ret_main->waits[row], &knows->stats->waits[i][row]);
    }
}

static void collect(void *arg, struct knit_metrics_main *ret_main)
{
    const struct knit_admin_knows *knows = &((const struct knit_admin *)arg)->knows;
    const uint64_t *accepted = knows->dealer->accepted;
    const struct knit_tls_validity *validities = NULL;
    size_t count = 0;

    *ret_main =
        (struct knit_metrics_main){.accepted = {[KNIT_METRICS_TCP] = accepted[KNIT_LISTENER_TCP],
                                       [KNIT_METRICS_UNIX] = accepted[KNIT_LISTENER_UNIX],
                                       [KNIT_METRICS_TLS] = accepted[KNIT_LISTENER_TLS]},
            .turned_away = knows->dealer->turned_away,
            .connections_max = knows->dealer->descriptors->connections_max};
    collect_loops(knows, ret_main);
    if (knows->certificates->store != NULL)
        count = knit_tls_context_validities(knows->certificates->store->context, &validities);
    for (size_t i = 0; i < count && i < KNIT_METRICS_EXPIRIES_MAX; i++)
        ret_main->expiries[ret_main->expiries_count++] =
            (struct knit_metrics_expiry){validities[i].path, validities[i].until};
}

static void on_listed(void *arg)
{
    knit_face_answer_calls(&((struct knit_admin *)arg)->face);
}

static bool ask_calls(void *arg)
{
    struct knit_admin *admin = arg;

    return knit_lists_ask(admin->knows.lists, on_listed, admin);
}

static int put_calls(void *arg, struct knit_buffer *buffer)
{
    return knit_lists_put(((const struct knit_admin *)arg)->knows.lists, buffer);
}

static void set_accepting(void *arg, bool accepts)
{
    knit_listener_hold(&((struct knit_admin *)arg)->listener, !accepts);
}

static void close_connection(void *arg, int fd)
{
    const struct knit_admin *admin = arg;

    knit_closer_close(is_path(admin->settings) ? admin->knows.closer : NULL, fd);
}

/* ---- serving ------------------------------------------------------------------------------- */

static int listen_on(struct knit_admin *admin)
{
    bool has_path = is_path(admin->settings);

    admin->listener = (struct knit_listener){.fd = admin->fd,
        .kind = has_path ? KNIT_LISTENER_UNIX : KNIT_LISTENER_TCP,
        .closer = has_path ? admin->knows.closer : NULL,
        .on_accept = on_accept,
        .on_exhausted = on_exhausted,
        .arg = admin};
    if (knit_listener_start(&admin->listener, admin->base) != 0)
        return -ENOMEM;
    knit_log(admin->log, KNIT_LOG_INFO, "admin face", KNIT_LOG_TEXT("url", admin->url),
        KNIT_LOG_TEXT("readers", has_path ? "whom socket_mode and socket_group admit"
                                          : "everybody who reaches the address"));
    return 0;
}

static int try_later(struct knit_admin *admin)
{
    const struct timeval later = {admin->retry_ms / 1000, admin->retry_ms % 1000 * 1000};

    admin->retry_ms = admin->retry_ms < RETRY_MAX_MS / 2 ? 2 * admin->retry_ms : RETRY_MAX_MS;
    return event_add(admin->retry_event, &later) < 0 ? -ENOMEM : 0;
}

static void on_retry(evutil_socket_t fd, short events, void *arg)
{
    struct knit_admin *admin = arg;
    struct knit_sentence why = {""};

    (void)fd, (void)events;
    if ((open_place(admin, &why) == 0 ? listen_on(admin) : try_later(admin)) != 0)
        knit_log(admin->log, KNIT_LOG_WARNING, "no admin face",
            KNIT_LOG_TEXT("reason", "out of memory"));
}

int knit_admin_start(struct knit_admin *admin, struct event_base *base)
{
    const struct knit_face_sources sources = {.stats = admin->knows.stats,
        .hosts = knit_list_words(&admin->settings->admin_hosts),
        .collect = collect,
        .ask_calls = ask_calls,
        .put_calls = put_calls,
        .set_accepting = set_accepting,
        .close = close_connection,
        .counters = &admin->counters,
        .arg = admin};

    if (admin->fd < 0 && admin->retry_ms == 0)
        return 0;
    admin->base = base;
    knit_face_init(&admin->face, base, &sources);
    if (admin->fd >= 0)
        return listen_on(admin);
    admin->retry_event = evtimer_new(base, on_retry, admin);
    return admin->retry_event != NULL ? try_later(admin) : -ENOMEM;
}

static void close_place(struct knit_admin *admin)
{
    if (admin->retry_event != NULL)
        event_free(admin->retry_event);
    admin->retry_event = NULL;
    knit_listener_stop(&admin->listener);
    if (admin->socket.path != NULL)
        knit_socket_file_close(&admin->socket);
    else if (admin->fd >= 0)
        (void)close(admin->fd);
    admin->fd = -1;
}

void knit_admin_drain(struct knit_admin *admin)
{
    admin->face.is_draining = true;
}

void knit_admin_yield(struct knit_admin *admin)
{
    close_place(admin);
}

void knit_admin_close(struct knit_admin *admin)
{
    close_place(admin);
    knit_face_fini(&admin->face);
}
