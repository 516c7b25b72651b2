/* SPDX-License-Identifier: Apache-2.0 */
/* The word none in the place of an address or of a path means that there is none. */
#include "server/net/listening.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/base/log.h"

static bool is_none(const char *word)
{
    return strcmp(word, "none") == 0;
}

/* A place in the addresses of both settings, one behind the other. */
static size_t count_addresses(const struct knit_settings *settings)
{
    return settings->listen.count + settings->listen_tls.count;
}

static bool is_tls(const struct knit_settings *settings, size_t place)
{
    return place >= settings->listen.count;
}

static const char *text_of(const struct knit_settings *settings, size_t place)
{
    return is_tls(settings, place) ? settings->listen_tls.items[place - settings->listen.count]
                                   : settings->listen.items[place];
}

static const char *key_of(const struct knit_settings *settings, size_t place)
{
    return is_tls(settings, place) ? "server.listen_tls" : "server.listen";
}

static bool has_tls(const struct knit_settings *settings)
{
    return settings->listen_tls.count > 0 && !is_none(settings->listen_tls.items[0]);
}

/* Whether an address before this one is the same: refused by name, because what the system says to
 * the second one is that another program has it. */
static bool is_repeated(
    const struct knit_settings *settings, size_t place, const struct knit_endpoint *endpoint)
{
    struct knit_endpoint other;
    struct knit_sentence ignored;

    for (size_t i = 0; i < place; i++)
        if (!is_none(text_of(settings, i)) &&
            knit_endpoint_parse(text_of(settings, i), key_of(settings, i), &other, &ignored) == 0 &&
            knit_endpoint_is_same(endpoint, &other))
            return true;
    return false;
}

bool knit_listening_trusts_policy(
    const struct knit_settings *settings, char ret_text[KNIT_ENDPOINT_TEXT_MAX])
{
    struct knit_endpoint endpoint;
    struct knit_sentence ignored;

    if (settings->policy == NULL || settings->require_authentication ||
        settings->tls_client == KNIT_TLS_CLIENT_CHOICE_REQUIRED ||
        settings->allow_remote_without_authentication)
        return false;
    for (size_t i = settings->listen.count; i < count_addresses(settings); i++) {
        if (is_none(text_of(settings, i)) || knit_endpoint_parse(text_of(settings, i),
                                                 key_of(settings, i), &endpoint, &ignored) != 0)
            continue;
        knit_endpoint_text(&endpoint, ret_text);
        if (!knit_endpoint_is_loopback(&endpoint))
            return true;
    }
    return false;
}

/* key: by which the address came. */
static int check_reach(const struct knit_settings *settings, bool is_for_tls, const char *key,
    const struct knit_endpoint *endpoint, struct knit_sentence *why)
{
    bool is_known = is_for_tls && (settings->tls_client == KNIT_TLS_CLIENT_CHOICE_REQUIRED ||
                                      settings->require_authentication || settings->policy != NULL);
    char text[KNIT_ENDPOINT_TEXT_MAX];

    if (is_known || knit_endpoint_is_loopback(endpoint) ||
        settings->allow_remote_without_authentication)
        return 0;
    knit_endpoint_text(endpoint, text);
    if (settings->require_authentication)
        return knit_sentence_set(why, KNIT_LISTENING_E_REFUSED,
            "%s: other machines can reach %s, and nobody could say who they are there, since no "
            "token is taken without TLS; expected server.listen_tls in its place",
            key, text);
    return knit_sentence_set(why, KNIT_LISTENING_E_REFUSED,
        "%s: other machines can reach %s and there is no authentication; expected listen_tls with "
        "tokens or with tls_client = required; if anybody who reaches it may run every task, say "
        "--allow-remote-without-authentication",
        key, text);
}

/* The address, if it may be listened on. */
static int read_endpoint(const struct knit_settings *settings, size_t place,
    struct knit_endpoint *ret_endpoint, struct knit_sentence *why)
{
    const char *text = text_of(settings, place), *key = key_of(settings, place);
    int r = knit_endpoint_parse(text, key, ret_endpoint, why);

    if (r == 0)
        r = check_reach(settings, is_tls(settings, place), key, ret_endpoint, why);
    if (r == 0 && is_repeated(settings, place, ret_endpoint))
        return knit_sentence_set(why, KNIT_LISTENING_E_REFUSED, "%s: %s is given twice", key, text);
    return r;
}

static int refuse_nothing(struct knit_sentence *why)
{
    return knit_sentence_set(why, KNIT_LISTENING_E_REFUSED,
        "nothing to listen on: server.listen and server.socket are none, and there is no "
        "server.listen_tls");
}

bool knit_listening_knows_nobody(const struct knit_settings *settings, bool is_tls)
{
    return settings->require_authentication && settings->tokens == NULL &&
           !(is_tls && settings->tls_client != KNIT_TLS_CLIENT_CHOICE_NONE);
}

void knit_listening_warn(
    const struct knit_settings *settings, bool is_tls, const char *address, struct knit_log *log)
{
    if (knit_listening_knows_nobody(settings, is_tls))
        knit_log(log, KNIT_LOG_WARNING,
            is_tls ? "nobody can say who they are there, as require_authentication wants: there is "
                     "neither tokens nor tls_client"
                   : "nobody can say who they are there, as require_authentication wants: there is "
                     "no tokens, and certificates are for listen_tls",
            KNIT_LOG_TEXT("address", address));
}

int knit_listening_check(
    const struct knit_settings *settings, struct knit_log *log, struct knit_sentence *why)
{
    bool has_socket = settings->socket == NULL || !is_none(settings->socket);
    bool are_passed = knit_inherited_are_passed(); /* in place of those that are named */
    struct knit_endpoint endpoint;
    size_t count = has_socket;
    int r = 0;

    for (size_t i = 0; r == 0 && i < count_addresses(settings); i++) {
        if (is_none(text_of(settings, i)))
            continue;
        r = read_endpoint(settings, i, &endpoint, why);
        if (r == 0 && !are_passed)
            r = knit_endpoint_try(&endpoint, why);
        if (r == 0 && log != NULL)
            knit_listening_warn(settings, is_tls(settings, i), text_of(settings, i), log);
        count++;
    }
    if (r == 0 && settings->socket_group != NULL)
        r = knit_socket_file_check_group(settings->socket_group, why);
    if (r == 0 && has_socket && !are_passed)
        r = knit_socket_file_check(settings->socket, why);
    if (r == 0 && count == 0 && !are_passed)
        return refuse_nothing(why);
    return r == -ENOMEM ? knit_sentence_set(why, r, "out of memory") : r;
}

struct opening {
    struct knit_listening *listening;
    const struct knit_settings *settings;
    struct knit_inherited *inherited;
};

/* Its socket is that at tcp_fds[tcp_count]. */
static int add_tcp(struct knit_listening *listening, bool is_tls, struct knit_sentence *why)
{
    size_t at = listening->tcp_count++;
    int r = knit_endpoint_name(listening->tcp_fds[at], listening->tcp_names[at]);

    listening->tcp_is_tls[at] = is_tls;
    return r == 0 ? 0 : knit_sentence_set(why, r, "cannot listen: %s", strerror(-r));
}

static int open_tcp(const struct opening *opening, size_t place, struct knit_sentence *why)
{
    struct knit_listening *listening = opening->listening;
    const struct knit_settings *settings = opening->settings;
    const char *text = text_of(settings, place);
    struct knit_endpoint endpoint;
    int *fd = &listening->tcp_fds[listening->tcp_count];
    int r;

    if (is_none(text))
        return 0;
    r = read_endpoint(settings, place, &endpoint, why);
    if (r != 0)
        return r;
    *fd = knit_inherited_take_tcp(opening->inherited, &endpoint);
    if (*fd < 0)
        r = knit_endpoint_listen(&endpoint, fd, why);
    return r == 0 ? add_tcp(listening, is_tls(settings, place), why) : r;
}

/* One that is handed over, or a new one. */
static int open_socket(const struct opening *opening, const char *path, struct knit_sentence *why)
{
    const struct knit_settings *settings = opening->settings;
    struct knit_socket_file *socket = &opening->listening->socket;
    struct knit_inherited *inherited = opening->inherited;
    uint32_t mode = (uint32_t)settings->socket_mode;
    int fd = knit_inherited_take_unix(inherited, path), r;

    if (fd < 0)
        return knit_socket_file_open(socket, path, mode, settings->socket_group, why);
    r = knit_socket_file_adopt(socket, path, fd, inherited->lock_fd, why);
    inherited->lock_fd = -1;
    if (r == 0 && socket->lock_fd >= 0)
        r = knit_socket_file_set_rights(socket, mode, settings->socket_group, why);
    return r;
}

static int open_unix(const struct opening *opening, struct knit_sentence *why)
{
    const struct knit_settings *settings = opening->settings;
    char *usual = NULL;
    int r = 0;

    if (settings->socket != NULL && is_none(settings->socket))
        return 0;
    if (settings->socket == NULL)
        r = knit_socket_file_usual_path(true, &usual, why);
    if (r == 0)
        r = open_socket(opening, settings->socket != NULL ? settings->socket : usual, why);
    free(usual);
    return r < 0 ? knit_sentence_set(why, -ENOMEM, "out of memory") : r;
}

/* A service manager's, whatever the settings name. */
static int adopt(const struct opening *opening, size_t place, struct knit_sentence *why)
{
    struct knit_listening *listening = opening->listening;
    struct knit_inherited *inherited = opening->inherited;
    struct sockaddr_un address = {.sun_family = AF_UNSPEC};
    socklen_t len = sizeof(address) - 1; /* so that the path ends with a NUL */
    struct knit_endpoint endpoint;
    int fd = inherited->fds[place], r;

    if (getsockname(fd, (struct sockaddr *)&address, &len) == 0 && address.sun_family == AF_UNIX) {
        if (listening->socket.fd >= 0 || address.sun_path[0] == '\0')
            return knit_sentence_set(why, KNIT_LISTENING_E_REFUSED,
                "$LISTEN_FDS: of unix sockets there may be one, which has a path");
        inherited->fds[place] = -1;
        return knit_socket_file_adopt(&listening->socket, address.sun_path, fd, -1, why);
    }
    if (listening->tcp_count == KNIT_LISTENING_TCP_MAX)
        return knit_sentence_set(why, KNIT_LISTENING_E_REFUSED,
            "$LISTEN_FDS: of TCP sockets there may be %d", KNIT_LISTENING_TCP_MAX);
    r = knit_endpoint_of(fd, &endpoint);
    if (r != 0)
        return knit_sentence_set(why, r, "$LISTEN_FDS: %s", strerror(-r));
    if (inherited->is_tls[place] && !has_tls(opening->settings))
        return knit_sentence_set(why, KNIT_LISTENING_E_REFUSED,
            "$LISTEN_FDS: a socket is for TLS, which needs server.listen_tls and what goes with "
            "it");
    r = check_reach(opening->settings, inherited->is_tls[place], "$LISTEN_FDS", &endpoint, why);
    if (r != 0)
        return r;
    listening->tcp_fds[listening->tcp_count] = fd;
    inherited->fds[place] = -1;
    return add_tcp(listening, inherited->is_tls[place], why);
}

int knit_listening_open(struct knit_listening *listening, const struct knit_settings *settings,
    struct knit_inherited *inherited, struct knit_sentence *why)
{
    const struct opening opening = {listening, settings, inherited};
    int r = inherited->is_all ? 0 : open_unix(&opening, why);

    for (size_t i = 0; r == 0 && inherited->is_all && i < inherited->count; i++)
        r = adopt(&opening, i, why);
    for (size_t i = 0; r == 0 && !inherited->is_all && i < count_addresses(settings); i++)
        r = open_tcp(&opening, i, why);
    if (r == 0 && listening->tcp_count == 0 && listening->socket.fd < 0)
        return refuse_nothing(why);
    return r;
}

int knit_listening_start(struct knit_listening *listening, struct event_base *base,
    knit_listener_on_accept *on_accept, knit_listener_on_exhausted *on_exhausted, void *arg)
{
    size_t sockets = listening->tcp_count + (listening->socket.fd >= 0);

    for (size_t i = 0; i < sockets; i++) {
        bool is_unix = i == listening->tcp_count;
        struct knit_listener *listener = &listening->listeners[i];

        *listener =
            (struct knit_listener){.fd = is_unix ? listening->socket.fd : listening->tcp_fds[i],
                .kind = is_unix                    ? KNIT_LISTENER_UNIX
                        : listening->tcp_is_tls[i] ? KNIT_LISTENER_TLS
                                                   : KNIT_LISTENER_TCP,
                .closer = is_unix ? listening->socket.closer : NULL,
                .on_accept = on_accept,
                .on_exhausted = on_exhausted,
                .arg = arg};
        if (knit_listener_start(listener, base) != 0)
            return -ENOMEM;
        listening->listener_count++;
    }
    return 0;
}

void knit_listening_stop(struct knit_listening *listening)
{
    for (size_t i = 0; i < listening->listener_count; i++)
        knit_listener_stop(&listening->listeners[i]);
    listening->listener_count = 0;
}

size_t knit_listening_duplicate(
    const struct knit_listening *listening, int ret_fds[KNIT_LISTENING_MAX + 1])
{
    int fds[KNIT_LISTENING_MAX + 1];
    size_t count = 0, done = 0;

    if (listening->socket.lock_fd >= 0)
        fds[count++] = listening->socket.lock_fd;
    if (listening->socket.fd >= 0)
        fds[count++] = listening->socket.fd;
    for (size_t i = 0; i < listening->tcp_count; i++)
        fds[count++] = listening->tcp_fds[i];
    while (done < count && (ret_fds[done] = fcntl(fds[done], F_DUPFD_CLOEXEC, 0)) >= 0)
        done++;
    if (done == count)
        return count;
    while (done > 0)
        (void)close(ret_fds[--done]);
    return 0;
}

void knit_listening_close(struct knit_listening *listening)
{
    for (size_t i = 0; i < listening->tcp_count; i++)
        (void)close(listening->tcp_fds[i]);
    listening->tcp_count = 0;
    knit_socket_file_close(&listening->socket);
}
