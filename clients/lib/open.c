/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing a session; reconnect.c connects it.
 *
 * fork(): see forks.c.
 */
#include "clients/lib/open.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/lib/admin_calls.h"
#include "clients/lib/client.h"
#include "clients/lib/error.h"
#include "clients/lib/forks.h"
#include "clients/lib/lost.h"
#include "clients/lib/reconnect.h"
#include "clients/lib/tls.h"
#include "clients/lib/token.h"
#include "clients/lib/url.h"
#include "config.h"
#include "fastpath/control/registry.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/fd.h"
#include "fastpath/worker/inliner.h"
#include "proto/hello.h"
#include "proto/limits.h"

enum {
    PARAMS_MAX = 1024 * 1024 * 1024,
    CONNECT_MS_DEFAULT = 10 * 1000,
    NOTIFIED_MS_MAX = 1000,
    LEASE_CHECK_MS = 50,
    CONNECTIONS_MAX = 4,
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
    knit_handles_free_lost_lanes(&k->handles, is_ours);
    knit_poll_fd_fini(&k->poll_fd);
    knit_reconnect_fini(k, is_ours);
    k->tls = knit_tls_free(k->tls);
    k->token = knit_token_free(k->token);
    knit_handles_fini(&k->handles);
    knit_prepareds_fini(&k->prepareds);
    for (uint32_t i = 0; i < KNIT_STREAMS_MAX; i++)
        (void)knit_registry_free(k->registries[i]);
    knit_buffer_fini(&k->params);
    knit_buffer_fini(&k->local_stats);
    knit_forks_free_page(k->alive);
    free(k);
}

int knit_open_check(const struct knit_open_options *options, struct knit_error *ret_error)
{
    const struct knit_retry_options *retry = options->retry;
    const struct knit_spread_options *spread = options->spread;
    int code = knit_error_check_reserved("knit_open_options", options->reserved,
        sizeof(options->reserved) / sizeof(options->reserved[0]), ret_error);

    if (code == KNIT_OK && options->reply_max_bytes != 0 &&
        (options->reply_max_bytes < KNIT_STREAM_FIRST_MAX ||
            options->reply_max_bytes > KNIT_MESSAGE_BYTES_MAX))
        code = knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "option reply_max_bytes is %u: %u to %u are allowed, and 0 for %u",
            options->reply_max_bytes, KNIT_STREAM_FIRST_MAX, KNIT_MESSAGE_BYTES_MAX,
            KNIT_STREAM_IN_MAX_DEFAULT);
    if (code == KNIT_OK && retry != NULL)
        code = knit_error_check_reserved("knit_retry_options", retry->reserved,
            sizeof(retry->reserved) / sizeof(retry->reserved[0]), ret_error);
    if (code != KNIT_OK || spread == NULL)
        return code;
    if (spread->connections > CONNECTIONS_MAX)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "option connections is %u: 1 to %u are allowed, and 0 for %u", spread->connections,
            CONNECTIONS_MAX, CONNECTIONS_MAX);
    return knit_error_check_reserved("knit_spread_options", spread->reserved,
        sizeof(spread->reserved) / sizeof(spread->reserved[0]), ret_error);
}

struct knit *knit_open_new(const struct knit_open_options *options)
{
    struct knit *k = calloc(1, sizeof(*k));

    if (k == NULL)
        return NULL;
    k->would_block = options->would_block;
    k->lease_check_ns = LEASE_CHECK_MS * UINT64_C(1000000);
    k->admin_ms = options->connect_ms != 0 ? options->connect_ms : CONNECT_MS_DEFAULT;
    knit_poll_fd_init(&k->poll_fd);
    knit_buffer_init(&k->params, PARAMS_MAX);
    knit_buffer_init(&k->local_stats, PARAMS_MAX);
    k->prepareds.session = k;
    k->alive = knit_forks_new_page();
    knit_handles_init(&k->handles, k, k->alive);
    knit_retries_init(&k->handles.promises.retries, options->retry);
    k->link.fd = -1;
    k->link.tend_ns = k->link.look_ns = UINT64_MAX;
    for (uint32_t i = 0; i < KNIT_STREAMS_MAX; i++) {
        knit_transport_init_plain(&k->link.streams[i].transport, -1);
        k->link.streams[i].number = i;
    }
    k->link.stream = &k->link.streams[0];
    k->link.slots = options->slots != 0 ? options->slots : KNIT_SLOTS_DEFAULT;
    if (k->link.slots > SLOTS_MAX)
        k->link.slots = SLOTS_MAX;
    if (k->alive == NULL) {
        knit_open_free(k);
        return NULL;
    }
    knit_forks_add(k);
    return k;
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

int knit_open(const char *url, const struct knit_open_options *options, struct knit **ret,
    struct knit_error *ret_error)
{
    static const struct knit_open_options defaults;
    struct knit_url places[KNIT_URLS_MAX];
    struct knit_tls *tls;
    struct knit *k;
    const char *reason;
    uint32_t count;
    int code;

    *ret = NULL;
    if (options == NULL)
        options = &defaults;
    if (url == NULL)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "the URL is NULL: knit://, knits://, unix:// or shm:// with a place is expected");
    code = knit_open_check(options, ret_error);
    if (code != KNIT_OK)
        return code;
    if (knit_url_parse_list(url, places, &count, &reason) != 0)
        return knit_error_make(
            ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO, "bad URL \"%s\": %s", url, reason);
    code = make_tls(&places[0], options, &tls, ret_error);
    if (code != KNIT_OK)
        return code;
    k = knit_open_new(options);
    if (k == NULL) {
        (void)knit_tls_free(tls);
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for a session");
    }
    k->tls = tls;
    code = knit_token_new(options->token, &k->token, ret_error);
    if (code == KNIT_OK)
        code = knit_reconnect_first(k, places, count, options, ret_error);
    if (code != KNIT_OK) {
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

enum knit_state knit_state(struct knit *k)
{
    if (!knit_client_is_ours(k))
        return KNIT_IS_LOST;
    if (!knit_handles_has_lease(&k->handles) && k->handles.several != NULL)
        return KNIT_IS_DRAINING;
    if (!knit_handles_has_lease(&k->handles))
        return knit_link_is_open(&k->link) ? KNIT_IS_CONNECTING : KNIT_IS_LOST;
    return knit_handles_is_leaving(&k->handles) ? KNIT_IS_DRAINING : KNIT_IS_OPEN;
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

static void wait_for_all_notifications(struct knit *k)
{
    for (uint32_t i = 0; i < KNIT_STREAMS_MAX; i++) {
        struct knit_stream *stream = &k->link.streams[i];

        if (!stream->has_notified || !knit_stream_is_open(stream))
            continue;
        k->handles.stream = stream;
        wait_for_notifications(k);
    }
}

struct knit *knit_close(struct knit *k)
{
    if (k == NULL || k->is_calling_back)
        return k;
    if (knit_client_is_ours(k)) {
        wait_for_all_notifications(k);
        k->link.options.stays_lost = true;
        knit_handles_end_lease(&k->handles, KNIT_DISCONNECTED, "the session was closed");
        if (k->link.state != KNIT_LINK_SERVING)
            k->link.state = KNIT_LINK_CLOSED;
        knit_client_progress(k);
        knit_client_call_back(k);
    }
    knit_open_free(k);
    return NULL;
}
