/* SPDX-License-Identifier: Apache-2.0 */
/* Knitting itself, by any URL, under the same load as the others: the library's own functions, one
 * connection, the oldest call waited for. The daemon and its worker run already. */
#include <string.h>

#include <knitting/knitting.h>

#include "bench/peers/peer.h"

enum { HEAD_MAX = 6 };

static struct knit *session;
static struct knit_handle *handles[PEER_CALLS_MAX];
static unsigned char params[PEER_BYTES_MAX + HEAD_MAX];
static uint32_t order[PEER_CALLS_MAX]; /* of sending: a ring */
static uint32_t first, count;
static struct knit_error error;

static void open_session(const struct peer_options *options)
{
    struct knit_open_options open = {.slots = PEER_CALLS_MAX};

    if (options->address == NULL || knit_open(options->address, &open, &session, &error) != KNIT_OK)
        peer_fail(options->address == NULL ? "needs the URL of a daemon" : error.message);
}

/* [bin] */
static size_t put_head(size_t len)
{
    const unsigned char head[HEAD_MAX] = {0x91, 0xc6, (unsigned char)(len >> 24),
        (unsigned char)(len >> 16), (unsigned char)(len >> 8), (unsigned char)len};

    if (len < 256) {
        params[0] = 0x91;
        params[1] = 0xc4;
        params[2] = (unsigned char)len;
        return 3;
    }
    memcpy(params, head, sizeof(head));
    return sizeof(head);
}

static void send_call(uint32_t call, const void *bytes, size_t len)
{
    size_t head = put_head(len);

    memcpy(params + head, bytes, len);
    if (knit_start_raw(session, NULL, &handles[call], &error, "echo", params, head + len) !=
        KNIT_OK)
        peer_fail(error.message);
    order[(first + count++) % PEER_CALLS_MAX] = call;
}

static void finish(uint32_t call)
{
    const unsigned char *result;
    size_t len, head;

    if (knit_result_raw(handles[call], &error, (const void **)&result, &len) != KNIT_OK)
        peer_fail(error.message);
    head = result[0] == 0xc4 ? 2 : result[0] == 0xc5 ? 3 : 5;
    peer_done(call, result + head, len - head);
    handles[call] = knit_free(handles[call]);
}

/* The oldest, and whatever else is there by then. */
static void wait_calls(void)
{
    double wait_ms = -1;

    while (count > 0 && knit_await(handles[order[first]], wait_ms, &error) != KNIT_PENDING) {
        uint32_t call = order[first];

        first = (first + 1) % PEER_CALLS_MAX;
        count--;
        finish(call);
        wait_ms = 0;
    }
}

static void close_session(void)
{
    session = knit_close(session);
}

const struct peer peer = {"knitting", open_session, send_call, wait_calls, close_session};
