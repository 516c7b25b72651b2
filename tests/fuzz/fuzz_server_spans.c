/* SPDX-License-Identifier: Apache-2.0 */
/* Where spans go, and behind a NUL byte the texts of one. Oracle: a URL that is taken is put
 * together from its parts again, and none of them can end a line of a request's head; whatever the
 * texts are, a request is JSON for a parser that takes nothing beyond the standard, and UTF-8 that
 * is short is the name as it is.
 */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "proto/text.h"
#include "server/config/collector_url.h"
#include "server/report/otlp.h"
#include "tests/fuzz/target.h"

enum { TEXT_MAX = 256 };

/* ---- URLs ---------------------------------------------------------------------------------- */

static void check_part(const char *part, size_t size)
{
    const size_t len = strnlen(part, size);

    KNIT_FUZZ_CHECK(len > 0 && len < size);
    for (size_t i = 0; i < len; i++)
        KNIT_FUZZ_CHECK(part[i] > ' ' && part[i] <= '~');
}

static void check_url(const char *text)
{
    struct knit_collector_url url;
    struct knit_sentence why = {""};
    char again[1024];
    unsigned long port;
    bool is_v6;

    if (knit_collector_url_parse("log.otlp_endpoint", text, &url, &why) != 0) {
        KNIT_FUZZ_CHECK(strncmp(why.text, "log.otlp_endpoint: ", 19) == 0);
        return;
    }
    check_part(url.host, sizeof(url.host));
    check_part(url.port, sizeof(url.port));
    check_part(url.path, sizeof(url.path));
    check_part(url.authority, sizeof(url.authority));
    port = strtoul(url.port, NULL, 10);
    KNIT_FUZZ_CHECK(port > 0 && port <= UINT16_MAX && url.path[0] == '/');
    is_v6 = strchr(url.host, ':') != NULL;
    (void)snprintf(again, sizeof(again), "%s%s%s", is_v6 ? "[" : "", url.host, is_v6 ? "]" : "");
    if (strcmp(again, url.authority) == 0)
        KNIT_FUZZ_CHECK(port == 80);
    else
        (void)snprintf(again, sizeof(again), "%s%s%s:%s", is_v6 ? "[" : "", url.host,
            is_v6 ? "]" : "", url.port);
    KNIT_FUZZ_CHECK(strcmp(again, url.authority) == 0);
    (void)snprintf(again, sizeof(again), "http://%s%s", url.authority, url.path);
    KNIT_FUZZ_CHECK(strncmp(again, text, strlen(text)) == 0);
}

/* ---- spans --------------------------------------------------------------------------------- */

static struct json_object *parse(struct knit_span text)
{
    struct json_tokener *tokener = json_tokener_new();
    struct json_object *object;

    if (tokener == NULL)
        abort();
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    object = json_tokener_parse_ex(tokener, (const char *)text.bytes, (int)text.len);
    KNIT_FUZZ_CHECK(json_tokener_get_error(tokener) == json_tokener_success);
    KNIT_FUZZ_CHECK(json_tokener_get_parse_end(tokener) == text.len);
    json_tokener_free(tokener);
    return object;
}

static void check_name(struct json_object *span, struct knit_span task)
{
    struct json_object *name = NULL;
    size_t len;

    KNIT_FUZZ_CHECK(json_object_object_get_ex(span, "name", &name));
    len = (size_t)json_object_get_string_len(name);
    KNIT_FUZZ_CHECK(len <= TEXT_MAX);
    if (task.len <= TEXT_MAX && knit_text_is_utf8(task.bytes, task.len))
        KNIT_FUZZ_CHECK(
            len == task.len && memcmp(json_object_get_string(name), task.bytes, len) == 0);
}

/* principal: the texts up to a NUL. */
static void check_request(struct knit_span texts, const char *principal)
{
    static const struct knit_trace trace = {.id = {1}, .span = {2}, .flags = KNIT_TRACE_SAMPLED};
    static const uint8_t parent[8] = {3};
    static const struct knit_otlp_origin origin = {"knittingd", "0", "0"};
    const struct knit_ended_call call = {.principal = principal,
        .peer = principal,
        .task = texts,
        .code = KNIT_INTERNAL,
        .reason = texts,
        .took_ns = 2000,
        .knows_run = true,
        .run_ns = 1000,
        .argument_bytes = texts.len,
        .trace = &trace,
        .parent = parent};
    uint8_t memory[KNIT_OTLP_SPAN_MAX];
    struct knit_buffer span, request;
    struct json_object *object;

    knit_buffer_init_fixed(&span, memory, sizeof(memory));
    knit_otlp_put_call(&span, &call, 4000);
    KNIT_FUZZ_CHECK(span.error == 0);
    object = parse(knit_span(span.bytes, span.len - 1));
    check_name(object, texts);
    json_object_put(object);
    knit_buffer_init(&request, 1 << 20);
    knit_otlp_put_head(&request, &origin);
    (void)knit_buffer_append(&request, span.bytes, span.len);
    (void)knit_buffer_append(&request, span.bytes, span.len - 1);
    (void)knit_buffer_append(&request, knit_otlp_tail, strlen(knit_otlp_tail));
    KNIT_FUZZ_CHECK(request.error == 0);
    json_object_put(parse(knit_buffer_span(&request)));
    knit_buffer_fini(&request);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    const size_t url_len = len > 0 ? strnlen((const char *)bytes, len) : 0;
    char *url = strndup(len > 0 ? (const char *)bytes : "", url_len), *principal;

    if (url == NULL)
        abort();
    check_url(url);
    free(url);
    if (url_len == len)
        return 0;
    bytes += url_len + 1;
    len -= url_len + 1;
    principal = strndup((const char *)bytes, len);
    if (principal == NULL)
        abort();
    check_request(knit_span(bytes, len), principal);
    free(principal);
    return 0;
}
