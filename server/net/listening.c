/* SPDX-License-Identifier: Apache-2.0 */
/* The word none in the place of an address or of a path means that there is none. */
#include "server/net/listening.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* The address, if it may be listened on. */
static int read_endpoint(const struct knit_settings *settings, size_t place,
    struct knit_endpoint *ret_endpoint, struct knit_sentence *why)
{
    const char *text = text_of(settings, place), *key = key_of(settings, place);
    int r = knit_endpoint_parse(text, key, ret_endpoint, why);
    bool is_known =
        is_tls(settings, place) && (settings->tls_client == KNIT_TLS_CLIENT_CHOICE_REQUIRED ||
                                       settings->require_authentication);

    if (r == 0 && !knit_endpoint_is_loopback(ret_endpoint) && !is_known &&
        !settings->allow_remote_without_authentication)
        return knit_sentence_set(why, KNIT_LISTENING_E_REFUSED,
            "%s: other machines can reach %s and there is no authentication; if anybody "
            "who reaches it may run every task, say --allow-remote-without-authentication",
            key, text);
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

int knit_listening_check(const struct knit_settings *settings, struct knit_sentence *why)
{
    bool has_socket = settings->socket == NULL || !is_none(settings->socket);
    struct knit_endpoint endpoint;
    size_t count = has_socket;
    int r = 0;

    for (size_t i = 0; r == 0 && i < count_addresses(settings); i++) {
        if (is_none(text_of(settings, i)))
            continue;
        r = read_endpoint(settings, i, &endpoint, why);
        if (r == 0)
            r = knit_endpoint_try(&endpoint, why);
        count++;
    }
    if (r == 0 && settings->socket_group != NULL)
        r = knit_socket_file_check_group(settings->socket_group, why);
    if (r == 0 && has_socket)
        r = knit_socket_file_check(settings->socket, why);
    if (r == 0 && count == 0)
        return refuse_nothing(why);
    return r == -ENOMEM ? knit_sentence_set(why, r, "out of memory") : r;
}

static int open_tcp(struct knit_listening *listening, const struct knit_settings *settings,
    size_t place, struct knit_sentence *why)
{
    const char *text = text_of(settings, place);
    struct knit_endpoint endpoint;
    size_t at = listening->tcp_count;
    int r;

    if (is_none(text))
        return 0;
    r = read_endpoint(settings, place, &endpoint, why);
    if (r == 0)
        r = knit_endpoint_listen(&endpoint, &listening->tcp_fds[at], why);
    if (r != 0)
        return r;
    listening->tcp_is_tls[at] = is_tls(settings, place);
    listening->tcp_count++;
    r = knit_endpoint_name(listening->tcp_fds[at], listening->tcp_names[at]);
    return r == 0 ? 0 : knit_sentence_set(why, r, "listen %s: %s", text, strerror(-r));
}

static int open_unix(struct knit_listening *listening, const struct knit_settings *settings,
    struct knit_sentence *why)
{
    char *usual = NULL;
    int r = 0;

    if (settings->socket != NULL && is_none(settings->socket))
        return 0;
    if (settings->socket == NULL)
        r = knit_socket_file_usual_path(true, &usual, why);
    if (r == 0)
        r = knit_socket_file_open(&listening->socket,
            settings->socket != NULL ? settings->socket : usual, (uint32_t)settings->socket_mode,
            settings->socket_group, why);
    free(usual);
    return r < 0 ? knit_sentence_set(why, -ENOMEM, "out of memory") : r;
}

int knit_listening_open(struct knit_listening *listening, const struct knit_settings *settings,
    struct knit_sentence *why)
{
    int r = open_unix(listening, settings, why);

    for (size_t i = 0; r == 0 && i < count_addresses(settings); i++)
        r = open_tcp(listening, settings, i, why);
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

void knit_listening_close(struct knit_listening *listening)
{
    for (size_t i = 0; i < listening->tcp_count; i++)
        (void)close(listening->tcp_fds[i]);
    listening->tcp_count = 0;
    knit_socket_file_close(&listening->socket);
}
