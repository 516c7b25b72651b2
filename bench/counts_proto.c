/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol's part of knit-counts: one request of echo:64, read and written again and again. */
#include "bench/counts.h"

#include <string.h>

#include "proto/message.h"
#include "proto/pack.h"
#include "proto/plain.h"
#include "proto/precheck.h"
#include "proto/scan.h"
#include "proto/signature.h"
#include "proto/writer.h"

enum { MSGID = 70000 };

struct message {
    struct knit_span params;
    struct knit_buffer request;
    unsigned char request_room[256];
    struct knit_scan scan;
    struct knit_signature *signature;
    struct knit_precheck precheck;
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

static void take(void *arg)
{
    struct message *message = arg;
    const struct knit_buffer *request = &message->request;
    struct knit_message taken;

    for (uint32_t i = 0; i < KNIT_COUNTS_BATCH; i++) {
        if (knit_plain_take(request->bytes, request->len, request->len, &taken) != request->len ||
            taken.msgid != MSGID || taken.params.len != message->params.len)
            knit_counts_fail("the request is not plain");
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
    struct knit_signature_args args;

    for (uint32_t i = 0; i < KNIT_COUNTS_BATCH; i++) {
        if (!knit_precheck_params(
                &message->precheck, message->params.bytes, message->params.len, &args) ||
            args.count != 1)
            knit_counts_fail("the arguments do not fit");
    }
}

static void check_fully(void *arg)
{
    struct message *message = arg;
    struct knit_signature_mismatch why;
    struct knit_signature_args args;

    for (uint32_t i = 0; i < KNIT_COUNTS_BATCH; i++) {
        if (knit_signature_check(
                message->signature, message->params.bytes, message->params.len, &args, &why) != 0 ||
            args.count != 1)
            knit_counts_fail("the arguments are wrong");
    }
}

/* ---- large texts ----------------------------------------------------------------------------- */

enum { LARGE = 65000, LARGE_CALLS = 16 };

/* One large str or bin: its params, and room for a copy. */
struct large {
    struct knit_signature *signature;
    struct knit_buffer params, copy;
};

static void check_large(void *arg)
{
    struct large *large = arg;
    struct knit_signature_args args;

    for (uint32_t i = 0; i < LARGE_CALLS; i++) {
        if (knit_signature_check(
                large->signature, large->params.bytes, large->params.len, &args, NULL) != 0)
            knit_counts_fail("a large argument does not fit");
    }
}

static void put_text(void *arg)
{
    struct large *large = arg;
    struct knit_writer writer;

    for (uint32_t i = 0; i < LARGE_CALLS; i++) {
        knit_buffer_reset(&large->copy);
        knit_writer_init(&writer, &large->copy);
        knit_writer_str(
            &writer, (const char *)large->params.bytes + large->params.len - LARGE, LARGE);
        if (knit_writer_end(&writer) != 0)
            knit_counts_fail("a large text is refused");
    }
}

KNIT_COUNTED(put_text_65000, put_text)
KNIT_COUNTED(check_text_65000, check_large)
KNIT_COUNTED(check_mixed_65000, check_large)
KNIT_COUNTED(check_bin_65000, check_large)

/* Params of one str or bin that is nothing but `piece`. */
static void measure_large(
    const struct knit_counts_phase *phases, size_t count, knit_pack *pack, const char *piece)
{
    static const char text[] = "echo(data: any) -> any";
    struct large large = {0};
    size_t size = strlen(piece);
    uint8_t *place;

    knit_buffer_init(&large.params, 2 * LARGE);
    knit_buffer_init(&large.copy, 2 * LARGE);
    place = knit_buffer_reserve(&large.params, 1 + KNIT_HEAD_BYTES_MAX + LARGE);
    if (place == NULL || knit_signature_parse(text, sizeof(text) - 1, &large.signature, NULL) != 0)
        knit_counts_fail("no large argument");
    place += knit_pack_array(place, 1);
    place += pack(place, LARGE);
    for (size_t at = 0; at < LARGE; at += size)
        memcpy(place + at, piece, size);
    large.params.len = (size_t)(place - large.params.bytes) + LARGE;
    knit_counts_measure(phases, count, 1, &large);
    large.signature = knit_signature_free(large.signature);
    knit_buffer_fini(&large.params);
    knit_buffer_fini(&large.copy);
}

static void measure_texts(void)
{
    static const struct knit_counts_phase ascii[] = {
        KNIT_COUNTS_PHASE(put_text_65000, put_text, LARGE_CALLS),
        KNIT_COUNTS_PHASE(check_text_65000, check_large, LARGE_CALLS),
    };
    static const struct knit_counts_phase mixed[] = {
        KNIT_COUNTS_PHASE(check_mixed_65000, check_large, LARGE_CALLS),
    };
    static const struct knit_counts_phase bin[] = {
        KNIT_COUNTS_PHASE(check_bin_65000, check_large, LARGE_CALLS),
    };

    /* The pieces divide the whole. */
    measure_large(ascii, sizeof(ascii) / sizeof(ascii[0]), knit_pack_str, "text ");
    measure_large(
        mixed, sizeof(mixed) / sizeof(mixed[0]), knit_pack_str, "a\xc3\xa4\xe2\x82\xac, ");
    measure_large(bin, sizeof(bin) / sizeof(bin[0]), knit_pack_bin, "text ");
}

/* ---- a request ------------------------------------------------------------------------------- */

KNIT_COUNTED(put_request, put)
KNIT_COUNTED(take_request, take)
KNIT_COUNTED(scan_request, scan)
KNIT_COUNTED(parse_request, parse)
KNIT_COUNTED(check_arguments, check)
KNIT_COUNTED(check_fully, check_fully)

void knit_counts_proto(void)
{
    static const struct knit_counts_phase phases[] = {
        KNIT_COUNTS_PHASE(put_request, put, KNIT_COUNTS_BATCH),
        KNIT_COUNTS_PHASE(take_request, take, KNIT_COUNTS_BATCH),
        KNIT_COUNTS_PHASE(scan_request, scan, KNIT_COUNTS_BATCH),
        KNIT_COUNTS_PHASE(parse_request, parse, KNIT_COUNTS_BATCH),
        KNIT_COUNTS_PHASE(check_arguments, check, KNIT_COUNTS_BATCH),
        KNIT_COUNTS_PHASE(check_fully, check_fully, KNIT_COUNTS_BATCH),
    };
    static const char text[] = "echo(data: bin) -> bin";
    unsigned char room[128];
    struct message message = {.params = knit_counts_params(room, 64)};

    knit_buffer_init_fixed(&message.request, message.request_room, sizeof(message.request_room));
    knit_scan_init(&message.scan, NULL);
    if (knit_signature_parse(text, sizeof(text) - 1, &message.signature, NULL) != 0)
        knit_counts_fail("no signature");
    knit_precheck_init(&message.precheck, message.signature);
    knit_counts_measure(phases, sizeof(phases) / sizeof(phases[0]), 1, &message);
    message.signature = knit_signature_free(message.signature);
    measure_texts();
}
