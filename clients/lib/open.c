/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing a session: connect, agree by `$/hello`, attach for shm://.
 *
 * fork(): see forks.c.
 */
#include "clients/lib/open.h"

#include <stdlib.h>
#include <unistd.h>

#include "clients/lib/admin_calls.h"
#include "clients/lib/attach.h"
#include "clients/lib/client.h"
#include "clients/lib/connect.h"
#include "clients/lib/error.h"
#include "clients/lib/forks.h"
#include "clients/lib/tls.h"
#include "clients/lib/url.h"
#include "config.h"
#include "fastpath/control/registry.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/fd.h"
#include "fastpath/worker/inliner.h"
#include "proto/hello.h"

enum {
    HELLO_BYTES_MAX = 4096,
    PARAMS_MAX = 1024 * 1024 * 1024,
    CONNECT_MS_DEFAULT = 10 * 1000,
    NOTIFIED_MS_MAX = 1000,
    LEASE_CHECK_MS = 50,
    SLOTS_MAX = KNIT_STREAM_PLACES_MAX - KNIT_STREAM_PLACES_SPARE - KNIT_STREAM_PLACES_WAITING,
};

const char *knit_version(void)
{
    return KNIT_VERSION;
}

uint64_t knit_now(void)
{
    return knit_clock_ns();
}

void knit_open_free(struct knit *k)
{
    bool is_ours = k->alive != NULL && knit_client_is_ours(k);

    knit_forks_remove(k);
    k->handles.inliner = knit_inliner_free(k->handles.inliner);
    k->handles.lanes = knit_lanes_free(k->handles.lanes, is_ours);
    knit_poll_fd_fini(&k->poll_fd);
    knit_stream_fini(&k->handles.stream);
    k->tls = knit_tls_free(k->tls);
    knit_handles_fini(&k->handles);
    knit_prepareds_fini(&k->prepareds);
    (void)knit_registry_free(k->registry);
    knit_buffer_fini(&k->params);
    knit_buffer_fini(&k->local_stats);
    knit_forks_free_page(k->alive);
    free(k);
}

int knit_open_check(const struct knit_open_options *options, struct knit_error *ret_error)
{
    return knit_error_check_reserved("knit_open_options", options->reserved,
        sizeof(options->reserved) / sizeof(options->reserved[0]), ret_error);
}

struct knit *knit_open_new(int fd, const struct knit_open_options *options)
{
    struct knit *k = calloc(1, sizeof(*k));
    uint32_t slots = options->slots != 0 ? options->slots : KNIT_SLOTS_DEFAULT;
    struct knit_transport transport;
    int r;

    if (k == NULL) {
        knit_fd_close(&fd);
        return NULL;
    }
    k->would_block = options->would_block;
    k->lease_check_ns = LEASE_CHECK_MS * UINT64_C(1000000);
    k->admin_ms = options->connect_ms != 0 ? options->connect_ms : CONNECT_MS_DEFAULT;
    knit_poll_fd_init(&k->poll_fd);
    knit_buffer_init(&k->params, PARAMS_MAX);
    knit_buffer_init(&k->local_stats, PARAMS_MAX);
    k->prepareds.session = k;
    k->tasks_age = 1;
    k->alive = knit_forks_new_page();
    knit_handles_init(&k->handles, k, k->alive);
    if (slots > SLOTS_MAX)
        slots = SLOTS_MAX;
    knit_transport_init_plain(&transport, fd);
    r = knit_stream_init(&k->handles.stream, &knit_handle_stream_callbacks, &transport, slots);
    if (r < 0 || k->alive == NULL) {
        knit_open_free(k);
        return NULL;
    }
    knit_forks_add(k);
    return k;
}

static int send_hello(struct knit *k, const struct knit_open_options *options, uint64_t until_ns,
    struct knit_error *ret_error)
{
    const struct knit_hello hello = {
        .name = knit_span_text(options->name != NULL ? options->name : "libknitting"),
        .version = knit_span_text(KNIT_VERSION),
    };
    struct knit_handle *handle;
    struct knit_hello_reply reply;
    const char *reason;
    struct knit_buffer params;
    struct knit_span result;
    int code;

    knit_buffer_init(&params, HELLO_BYTES_MAX);
    if (knit_hello_put(&params, &hello) != 0)
        code = knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "the name for the daemon's logs is too long, or no UTF-8");
    else
        code = knit_admin_call(
            k, "$/hello", knit_buffer_span(&params), until_ns, &handle, &result, ret_error);
    knit_buffer_fini(&params);
    if (code != KNIT_OK)
        return code;

    if (knit_hello_reply_decode(result, &reply, &reason) != 0) {
        code = knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "the server answered $/hello with something else: %s", reason);
        knit_error_set_lasting(ret_error);
    } else if (reply.protocol != KNIT_PROTOCOL_VERSION) {
        code = knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "the server (%.*s %.*s) speaks version %llu of the protocol, this library (%s) "
            "version %u",
            (int)reply.server.len, (const char *)reply.server.bytes, (int)reply.version.len,
            (const char *)reply.version.bytes, (unsigned long long)reply.protocol, KNIT_VERSION,
            KNIT_PROTOCOL_VERSION);
        knit_error_set_lasting(ret_error);
    } else {
        knit_stream_set_limits(
            &k->handles.stream, reply.message_bytes, reply.call_bytes, reply.in_flight);
        k->handles.stream.takes_references = knit_hello_reply_has(&reply, "references");
    }
    knit_handle_drop(handle);
    return code;
}

/* What encrypted connections of the session have in common; NULL: they are plain. */
static int make_tls(const struct knit_url *url, const struct knit_open_options *options,
    struct knit_tls **ret, struct knit_error *ret_error)
{
    *ret = NULL;
    if (url->is_encrypted)
        return knit_tls_new(options->tls, ret, ret_error);
    if (options->tls != NULL && url->scheme == KNIT_URL_TCP)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "options for TLS with a URL that has none: knits:// is expected");
    return KNIT_OK;
}

/* Connected, and able to take a hello. Takes over tls and the descriptor, even when it fails. */
static int make_session(int fd, const struct knit_url *url, const struct knit_open_options *options,
    struct knit_tls *tls, struct knit **ret, struct knit_error *ret_error)
{
    struct knit *k = knit_open_new(fd, options);
    int code;

    if (k == NULL) {
        (void)knit_tls_free(tls);
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for a session");
    }
    k->tls = tls;
    code = tls != NULL ? knit_transport_begin_tls(&k->handles.stream.transport, tls, url, ret_error)
                       : KNIT_OK;
    if (code == KNIT_OK)
        *ret = k;
    else
        knit_open_free(k);
    return code;
}

/* The connection did not live to bring an answer to the hello: it says why, and whether another one
 * would fare better. */
static int explain_lost(
    const struct knit *k, const struct knit_url *url, int code, struct knit_error *ret_error)
{
    const struct knit_transport *transport = &k->handles.stream.transport;
    const char *perhaps = "";

    if (url->scheme != KNIT_URL_TCP || knit_stream_is_open(&k->handles.stream) ||
        code != KNIT_DISCONNECTED)
        return code;
    if (transport->refusal != 0)
        code = transport->refusal;
    else if (!url->is_encrypted)
        perhaps = " (one that speaks TLS there does so: its URL begins with knits://)";
    knit_error_make(ret_error, code, KNIT_STARTED_NO, "cannot connect to %s:%s: %s%s", url->host,
        url->port, k->handles.stream.reason, perhaps);
    if (ret_error != NULL)
        ret_error->retryable = transport->refusal == 0;
    return code;
}

int knit_open(const char *url, const struct knit_open_options *options, struct knit **ret,
    struct knit_error *ret_error)
{
    static const struct knit_open_options defaults;
    struct knit_url where;
    struct knit_tls *tls;
    struct knit *k = NULL;
    const char *reason;
    uint64_t until_ns;
    int fd, code;

    *ret = NULL;
    if (options == NULL)
        options = &defaults;
    if (url == NULL)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "the URL is NULL: knit://, knits://, unix:// or shm:// with a place is expected");
    code = knit_open_check(options, ret_error);
    if (code != KNIT_OK)
        return code;
    if (knit_url_parse(url, &where, &reason) != 0)
        return knit_error_make(
            ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO, "bad URL \"%s\": %s", url, reason);
    until_ns = options->connect_ms != 0 ? options->connect_ms : CONNECT_MS_DEFAULT;
    until_ns = knit_clock_ns() + until_ns * 1000000;
    code = make_tls(&where, options, &tls, ret_error);
    if (code != KNIT_OK)
        return code;
    code = knit_connect(&where, until_ns, &fd, ret_error);
    if (code != KNIT_OK) {
        (void)knit_tls_free(tls);
        return code;
    }
    code = make_session(fd, &where, options, tls, &k, ret_error);
    if (code != KNIT_OK)
        return code;

    code = send_hello(k, options, until_ns, ret_error);
    code = explain_lost(k, &where, code, ret_error);
    if (code == KNIT_OK && where.scheme == KNIT_URL_SHM)
        code = knit_attach(k, options, until_ns, &k->handles.lanes, ret_error);
    if (code != KNIT_OK) {
        knit_stream_break(&k->handles.stream, "opening failed");
        knit_open_free(k);
        /* These pointed into the session that is gone. */
        if (ret_error != NULL) {
            ret_error->data = ret_error->details = NULL;
            ret_error->data_len = ret_error->details_len = 0;
        }
        return code;
    }
    *ret = k;
    return KNIT_OK;
}

/* What has an answer behind it has been read by the daemon, which goes on with it when the
 * connection ends. */
static void wait_for_notifications(struct knit *k)
{
    static const uint8_t no_params[] = {0x90};
    struct knit_handle *handle;
    struct knit_span result;

    if (knit_admin_call(k, "$/ping", knit_span(no_params, sizeof(no_params)),
            knit_clock_ns() + NOTIFIED_MS_MAX * UINT64_C(1000000), &handle, &result,
            NULL) == KNIT_OK)
        knit_handle_drop(handle);
}

struct knit *knit_close(struct knit *k)
{
    if (k == NULL || k->is_calling_back)
        return k;
    if (knit_client_is_ours(k)) {
        if (k->handles.stream.has_notified && knit_handles_has_lease(&k->handles))
            wait_for_notifications(k);
        knit_handles_end_lease(&k->handles, KNIT_DISCONNECTED, "the session was closed");
        knit_client_progress(k);
        knit_client_call_back(k);
    }
    knit_open_free(k);
    return NULL;
}
