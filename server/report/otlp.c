/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of 64 bits are texts there, as JSON of protobuf has them. */
#include "server/report/otlp.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "proto/text.h"
#include "server/admin/json.h"

enum {
    TEXT_MAX = 256, /* bytes of a text */
    KIND_SERVER = 2,
    STATUS_ERROR = 2,
};

const char knit_otlp_tail[] = "]}]}]}";

static void put(struct knit_buffer *buffer, const char *text)
{
    (void)knit_buffer_append(buffer, text, strlen(text));
}

/* What is no character is '?'. */
static void put_text(struct knit_buffer *buffer, struct knit_span text)
{
    uint8_t clean[TEXT_MAX];
    const size_t len = text.len != 0 ? knit_text_cut(text.bytes, text.len, sizeof(clean)) : 0;
    size_t done = 0;

    while (done < len) {
        const size_t valid = knit_text_valid(text.bytes + done, len - done);

        memcpy(clean + done, text.bytes + done, valid);
        done += valid;
        if (done < len)
            clean[done++] = '?';
    }
    knit_json_put_text(buffer, knit_span(clean, len));
}

static void put_id(struct knit_buffer *buffer, const char *key, const uint8_t *id, size_t len)
{
    char digits[32];

    knit_trace_put_hex(digits, id, len);
    put(buffer, key);
    (void)knit_buffer_append(buffer, digits, 2 * len);
    put(buffer, "\",");
}

static void put_time(struct knit_buffer *buffer, const char *key, uint64_t ns)
{
    char text[64];

    (void)snprintf(text, sizeof(text), "\"%s\":\"%llu\",", key, (unsigned long long)ns);
    put(buffer, text);
}

static void put_text_attribute(struct knit_buffer *buffer, const char *key, struct knit_span value)
{
    put(buffer, "{\"key\":\"");
    put(buffer, key);
    put(buffer, "\",\"value\":{\"stringValue\":");
    put_text(buffer, value);
    put(buffer, "}},");
}

static void put_number_attribute(struct knit_buffer *buffer, const char *key, uint64_t value)
{
    char text[128];

    (void)snprintf(text, sizeof(text), "{\"key\":\"%s\",\"value\":{\"intValue\":\"%llu\"}},", key,
        (unsigned long long)value);
    put(buffer, text);
}

/* The last one, behind which no comma stands, is a text. */
static void put_attributes(struct knit_buffer *buffer, const struct knit_ended_call *call)
{
    put(buffer, "\"attributes\":[");
    put_text_attribute(buffer, "knitting.task", call->task);
    put_text_attribute(buffer, "knitting.principal", knit_span_text(call->principal));
    put_text_attribute(buffer, "knitting.peer", knit_span_text(call->peer));
    put_text_attribute(buffer, "knitting.kind",
        knit_span_text(call->is_notification ? "notification" : "request"));
    put_text_attribute(buffer, "knitting.outcome", knit_span_text(knit_ended_call_outcome(call)));
    if (call->knows_run) {
        put_number_attribute(buffer, "knitting.wait_us", (call->took_ns - call->run_ns) / 1000);
        put_number_attribute(buffer, "knitting.run_us", call->run_ns / 1000);
    }
    put_number_attribute(buffer, "knitting.in_bytes", call->argument_bytes);
    put_number_attribute(buffer, "knitting.out_bytes", call->result_bytes);
    put_text_attribute(buffer, "knitting.by", knit_span_text(knit_ended_call_ran_by(call)));
    if (buffer->error == 0)
        buffer->len--;
    put(buffer, "],");
}

static void put_status(struct knit_buffer *buffer, const struct knit_ended_call *call)
{
    char text[32];

    if (call->code == 0 && !call->is_gone) {
        put(buffer, "\"status\":{}");
        return;
    }
    (void)snprintf(text, sizeof(text), "\"status\":{\"code\":%d,\"message\":", STATUS_ERROR);
    put(buffer, text);
    put_text(buffer, call->is_gone ? knit_span_text("the caller has gone") : call->reason);
    put(buffer, "}");
}

void knit_otlp_put_call(
    struct knit_buffer *buffer, const struct knit_ended_call *call, uint64_t ended_ns)
{
    char text[32];

    put(buffer, "{");
    put_id(buffer, "\"traceId\":\"", call->trace->id, sizeof(call->trace->id));
    put_id(buffer, "\"spanId\":\"", call->trace->span, sizeof(call->trace->span));
    put_id(buffer, "\"parentSpanId\":\"", call->parent, sizeof(call->trace->span));
    put(buffer, "\"name\":");
    put_text(buffer, call->task);
    (void)snprintf(text, sizeof(text), ",\"kind\":%d,", KIND_SERVER);
    put(buffer, text);
    put_time(buffer, "startTimeUnixNano", ended_ns - call->took_ns);
    put_time(buffer, "endTimeUnixNano", ended_ns);
    put_attributes(buffer, call);
    put_status(buffer, call);
    put(buffer, "},");
}

void knit_otlp_put_head(struct knit_buffer *buffer, const struct knit_otlp_origin *origin)
{
    put(buffer, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[");
    put_text_attribute(buffer, "service.name", knit_span_text(origin->service));
    put_text_attribute(buffer, "service.instance.id", knit_span_text(origin->instance));
    put_text_attribute(buffer, "service.version", knit_span_text(origin->version));
    if (buffer->error == 0)
        buffer->len--;
    put(buffer, "]},\"scopeSpans\":[{\"scope\":{\"name\":\"knittingd\"},\"spans\":[");
}
