/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol's part of knit-counts: one request of echo:64, read and written again and again. */
#include "bench/counts.h"

#include "proto/message.h"
#include "proto/scan.h"
#include "proto/signature.h"

enum { MSGID = 70000 };

struct message {
    struct knit_span params;
    struct knit_buffer request;
    unsigned char request_room[256];
    struct knit_scan scan;
    struct knit_signature *signature;
};

static void put(void *arg)
{
    struct message *message = arg;
    struct knit_method method = {.name = knit_span_text("echo")};

    for (uint32_t i = 0; i < KNIT_COUNTS_BATCH; i++) {
        knit_buffer_reset(&message->request);
        if (knit_message_put_request(&message->request, MSGID, &method, message->params, NULL) != 0)
            knit_counts_fail("a request does not fit");
    }
}

static void scan(void *arg)
{
    struct message *message = arg;
    const struct knit_buffer *request = &message->request;
    size_t used;

    for (uint32_t i = 0; i < KNIT_COUNTS_BATCH; i++) {
        knit_scan_reset(&message->scan);
        if (knit_scan_feed(&message->scan, request->bytes, request->len, &used) !=
                KNIT_SCAN_E_DONE ||
            used != request->len)
            knit_counts_fail("the request is not whole");
    }
}

static void parse(void *arg)
{
    struct message *message = arg;
    const struct knit_buffer *request = &message->request;
    struct knit_message parsed;
    const char *reason;

    for (uint32_t i = 0; i < KNIT_COUNTS_BATCH; i++) {
        if (knit_message_parse(request->bytes, request->len, &message->scan, &parsed, &reason) !=
                0 ||
            parsed.msgid != MSGID || parsed.params.len != message->params.len)
            knit_counts_fail("the request is not what was put");
    }
}

static void check(void *arg)
{
    struct message *message = arg;
    struct knit_signature_mismatch why;
    struct knit_signature_args args;

    for (uint32_t i = 0; i < KNIT_COUNTS_BATCH; i++) {
        if (knit_signature_check(
                message->signature, message->params.bytes, message->params.len, &args, &why) != 0 ||
            args.count != 1)
            knit_counts_fail("the arguments do not fit");
    }
}

KNIT_COUNTED(put_request, put)
KNIT_COUNTED(scan_request, scan)
KNIT_COUNTED(parse_request, parse)
KNIT_COUNTED(check_arguments, check)

void knit_counts_proto(void)
{
    static const struct knit_counts_phase phases[] = {
        KNIT_COUNTS_PHASE(put_request, put, KNIT_COUNTS_BATCH),
        KNIT_COUNTS_PHASE(scan_request, scan, KNIT_COUNTS_BATCH),
        KNIT_COUNTS_PHASE(parse_request, parse, KNIT_COUNTS_BATCH),
        KNIT_COUNTS_PHASE(check_arguments, check, KNIT_COUNTS_BATCH),
    };
    static const char text[] = "echo(data: bin) -> bin";
    unsigned char room[128];
    struct message message = {.params = knit_counts_params(room, 64)};

    knit_buffer_init_fixed(&message.request, message.request_room, sizeof(message.request_room));
    knit_scan_init(&message.scan, NULL);
    if (knit_signature_parse(text, sizeof(text) - 1, &message.signature, NULL) != 0)
        knit_counts_fail("no signature");
    knit_counts_measure(phases, sizeof(phases) / sizeof(phases[0]), 1, &message);
    message.signature = knit_signature_free(message.signature);
}
