/* SPDX-License-Identifier: Apache-2.0 */
/* The golden vectors of PROTOCOL.md, read out of that very file, both ways: one test for each
 * block.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/check.h"
#include "proto/failure.h"
#include "proto/hello.h"
#include "proto/message.h"
#include "proto/options.h"
#include "proto/signature.h"
#include "proto/walk.h"
#include "tests/proto/block.h"
#include "tests/proto/checks.h"
#include "tests/proto/notation.h"
#include "tests/proto/parsed.h"
#include "tests/proto/two_ways.h"

enum { BUFFER_MAX = 1 << 20 };

static char *specification;

static void assert_contains(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("'%s' does not contain '%s'", text, part);
}

static void assert_bytes(struct knit_span actual, struct knit_span expected, const char *what)
{
    if (actual.len != expected.len || memcmp(actual.bytes, expected.bytes, actual.len) != 0)
        fail_msg("other bytes than expected: %s", what);
}

static void encode(const char *text, struct knit_buffer *buffer)
{
    knit_buffer_init(buffer, BUFFER_MAX);
    knit_notation_encode_all(text, buffer);
}

/* ---- Values ---- */

static void values_are_read_and_written_as_specified(void **state)
{
    struct knit_buffer bytes, written;
    struct knit_block block;
    char *notation, *printed;
    char op;

    (void)state;
    knit_block_open(&block, specification, "values");
    while (knit_block_next(&block)) {
        op = knit_block_split(block.line, "=>", &notation);
        knit_notation_hex_new(block.line, &bytes);
        assert_int_equal(knit_check_value(bytes.bytes, bytes.len, KNIT_DEPTH_MAX, NULL), 0);
        printed = knit_notation_print(knit_buffer_span(&bytes));
        assert_string_equal(printed, notation);
        encode(notation, &written);
        if (op == '=')
            assert_bytes(knit_buffer_span(&written), knit_buffer_span(&bytes), notation);
        free(printed);
        knit_buffer_fini(&bytes);
        knit_buffer_fini(&written);
    }
    knit_block_close(&block);
}

static void malformed_values_are_refused_with_a_reason(void **state)
{
    struct knit_check_flaw flaw;
    struct knit_buffer bytes;
    struct knit_block block;
    char *reason;

    (void)state;
    knit_block_open(&block, specification, "refused");
    while (knit_block_next(&block)) {
        knit_block_split(block.line, "!", &reason);
        knit_notation_hex_new(block.line, &bytes);
        assert_true(knit_check_value(bytes.bytes, bytes.len, KNIT_DEPTH_MAX, &flaw) > 0);
        assert_contains(flaw.reason, reason);
        assert_true(flaw.offset <= bytes.len);
        knit_buffer_fini(&bytes);
    }
    knit_block_close(&block);
}

/* ---- Messages ---- */

static void print_method(FILE *to, const struct knit_method *method)
{
    if (method->name.bytes != NULL)
        fprintf(to, "\"%.*s\"", (int)method->name.len, method->name.bytes);
    else
        fprintf(to, "%" PRIu64, method->id);
}

static void print_raw(FILE *to, struct knit_span raw)
{
    char *text = knit_notation_print(raw);

    fprintf(to, " %s", text);
    free(text);
}

static char *describe(const struct knit_message *message)
{
    char *text;
    size_t len;
    FILE *to = open_memstream(&text, &len);

    if (message->kind == KNIT_MESSAGE_RESPONSE) {
        fprintf(to, "response %" PRIu32 " %s", message->msgid,
            message->error.bytes != NULL ? "error" : "result");
        print_raw(to, message->error.bytes != NULL ? message->error : message->result);
    } else {
        if (message->kind == KNIT_MESSAGE_REQUEST)
            fprintf(to, "request %" PRIu32 " ", message->msgid);
        else
            fprintf(to, "notification ");
        print_method(to, &message->method);
        print_raw(to, message->params);
        if (message->options.bytes != NULL)
            print_raw(to, message->options);
    }
    fclose(to);
    return text;
}

static int write_again(const struct knit_message *message, struct knit_buffer *buffer)
{
    struct knit_options options;
    const char *reason;

    if (message->kind == KNIT_MESSAGE_NOTIFICATION)
        return knit_message_put_notification(buffer, &message->method, message->params);
    if (message->kind == KNIT_MESSAGE_RESPONSE && message->error.bytes != NULL) {
        struct knit_failure failure;

        assert_int_equal(knit_failure_decode(message->error, &failure), 0);
        return knit_message_put_error(buffer, message->msgid, &failure,
            message->error.bytes[0] == 0x93 ? KNIT_FAILURE_FULL : KNIT_FAILURE_PLAIN);
    }
    if (message->kind == KNIT_MESSAGE_RESPONSE)
        return knit_message_put_response(buffer, message->msgid, message->result);
    assert_int_equal(knit_options_decode(message->options, &options, &reason), 0);
    return knit_message_put_request(
        buffer, message->msgid, &message->method, message->params, &options);
}

/* Each vector, and what is left of it after its first bytes. */
static void read_both_ways(const struct knit_buffer *bytes)
{
    static const struct knit_scan_limits limits = {.bounds_parts = true};
    struct knit_scan scan;
    size_t taken, used;
    int r;

    for (size_t from = 0; from < bytes->len; from++) {
        knit_scan_init(&scan, &limits);
        assert_true(
            two_ways_agree(&scan, bytes->bytes + from, bytes->len - from, &taken, &r, &used));
    }
}

static void read_message(const struct knit_buffer *bytes, const char *expected, bool is_exact)
{
    struct knit_message message;
    struct knit_buffer again;
    struct knit_scan scan;
    const char *reason;
    size_t used;
    char *text;

    knit_scan_init(&scan, NULL);
    assert_int_equal(knit_scan_feed(&scan, bytes->bytes, bytes->len, &used), KNIT_SCAN_E_DONE);
    assert_int_equal(used, bytes->len);
    assert_int_equal(knit_message_parse(bytes->bytes, used, &scan, &message, &reason), 0);
    text = describe(&message);
    assert_string_equal(text, expected);
    knit_buffer_init(&again, BUFFER_MAX);
    assert_int_equal(write_again(&message, &again), 0);
    if (is_exact)
        assert_bytes(knit_buffer_span(&again), knit_buffer_span(bytes), expected);
    knit_buffer_fini(&again);
    free(text);
}

static void refuse_message(const struct knit_buffer *bytes, const char *expected)
{
    struct knit_message message;
    struct knit_scan scan;
    const char *reason = NULL;
    size_t used;
    int r;

    knit_scan_init(&scan, NULL);
    r = knit_scan_feed(&scan, bytes->bytes, bytes->len, &used);
    if (r == KNIT_SCAN_E_DONE)
        assert_int_equal(
            knit_message_parse(bytes->bytes, used, &scan, &message, &reason), KNIT_MESSAGE_E_BAD);
    else
        assert_int_equal(r, KNIT_SCAN_E_BAD);
    assert_contains(reason != NULL ? reason : scan.reason, expected);
}

static void messages_are_read_and_written_as_specified(void **state)
{
    struct knit_buffer bytes;
    struct knit_block block;
    char *text;
    char op;

    (void)state;
    knit_block_open(&block, specification, "messages");
    while (knit_block_next(&block)) {
        op = knit_block_split(block.line, "=>!", &text);
        knit_notation_hex_new(block.line, &bytes);
        read_both_ways(&bytes);
        if (op == '!')
            refuse_message(&bytes, text);
        else
            read_message(&bytes, text, op == '=');
        knit_buffer_fini(&bytes);
    }
    knit_block_close(&block);
}

static void limits_are_kept_as_specified(void **state)
{
    const struct knit_scan_limits limits = {.bounds_parts = true};
    struct knit_buffer bytes;
    struct knit_block block;
    struct knit_scan scan;
    size_t used;
    char *text;

    (void)state;
    knit_block_open(&block, specification, "limits");
    while (knit_block_next(&block)) {
        assert_int_equal(knit_block_split(block.line, "!", &text), '!');
        knit_notation_hex_new(block.line, &bytes);
        read_both_ways(&bytes);
        knit_scan_init(&scan, &limits);
        /* Refused before it is whole. */
        assert_int_equal(knit_scan_feed(&scan, bytes.bytes, bytes.len - 1, &used), 0);
        assert_int_equal(scan.refused, 0);
        assert_int_equal(knit_scan_feed(&scan, bytes.bytes + used, 1, &used), 0);
        assert_int_equal(scan.refused, KNIT_TOO_LARGE);
        assert_contains(scan.reason, text);
        knit_buffer_fini(&bytes);
    }
    knit_block_close(&block);
}

/* ---- Options ---- */

static void describe_substitute(const struct knit_substitute *substitute, FILE *to)
{
    const struct knit_span values[] = {substitute->result, substitute->data};
    static const char *const names[] = {" result", " data"};

    if (substitute->kind == KNIT_SUBSTITUTE_ERROR)
        fputs(" error", to);
    if (substitute->message.bytes != NULL)
        fprintf(to, " message %.*s", (int)substitute->message.len, substitute->message.bytes);
    for (unsigned i = 0; i < 2; i++) {
        if (values[i].bytes == NULL)
            continue;
        fprintf(to, "%s ", names[i]);
        for (size_t at = 0; at < values[i].len; at++)
            fprintf(to, "%02x", values[i].bytes[at]);
    }
}

static char *describe_options(const struct knit_options *options)
{
    const struct {
        const char *name;
        uint64_t value;
        uint64_t none;
    } numbers[] = {
        {"timeout_ns", options->timeout_ns, KNIT_OPTION_NONE},
        {"queue_ns", options->queue_ns, KNIT_OPTION_NONE},
        {"queue_max", options->queue_max, KNIT_OPTION_NONE},
        {"progress", options->progress, 0},
        {"output", options->output, 0},
        {"keep", options->keep, 0},
        {"priority", options->priority, KNIT_PRIORITY_NORMAL},
        {"affinity", options->affinity, KNIT_OPTION_NONE},
        {"epoch", options->epoch, KNIT_OPTION_NONE},
    };
    char *text;
    size_t len, i;
    FILE *to = open_memstream(&text, &len);

    if (knit_options_is_empty(options))
        fputs("none", to);
    for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (numbers[i].value != numbers[i].none)
            fprintf(to, "%s %" PRIu64, numbers[i].name, numbers[i].value);
    }
    if (options->key.bytes != NULL)
        fputs("key ", to);
    for (i = 0; i < options->key.len; i++)
        fprintf(to, "%02x", options->key.bytes[i]);
    if (options->trace.bytes != NULL)
        fprintf(to, "trace %.*s", (int)options->trace.len, options->trace.bytes);
    describe_substitute(&options->substitute, to);
    fclose(to);
    return text;
}

/* What is read of a map that holds the timeout alone is what the table of options says. */
static void read_timeout_alone(const struct knit_buffer *bytes)
{
    uint64_t timeout_ns = knit_options_timeout_alone(knit_buffer_span(bytes));
    struct knit_options options;
    const char *reason;

    if (timeout_ns == KNIT_OPTION_NONE)
        return;
    assert_int_equal(knit_options_decode(knit_buffer_span(bytes), &options, &reason), 0);
    assert_int_equal(options.timeout_ns, timeout_ns);
    options.timeout_ns = KNIT_OPTION_NONE;
    assert_true(knit_options_is_empty(&options));
}

static void read_options(const struct knit_buffer *bytes, const char *expected)
{
    struct knit_options options;
    struct knit_buffer again;
    const char *reason;
    char *text;

    assert_int_equal(knit_options_decode(knit_buffer_span(bytes), &options, &reason), 0);
    text = describe_options(&options);
    assert_string_equal(text, expected);
    free(text);
    knit_buffer_init(&again, BUFFER_MAX);
    assert_int_equal(knit_options_put(&again, &options), 0);
    assert_int_equal(knit_options_decode(knit_buffer_span(&again), &options, &reason), 0);
    text = describe_options(&options);
    assert_string_equal(text, expected);
    free(text);
    knit_buffer_fini(&again);
}

static void options_are_read_as_specified(void **state)
{
    struct knit_options options;
    struct knit_buffer bytes;
    struct knit_block block;
    const char *reason;
    char *text;

    (void)state;
    knit_block_open(&block, specification, "options");
    while (knit_block_next(&block)) {
        char op = knit_block_split(block.line, "=!", &text);

        encode(block.line, &bytes);
        read_timeout_alone(&bytes);
        if (op == '=') {
            read_options(&bytes, text);
        } else {
            assert_int_equal(knit_options_decode(knit_buffer_span(&bytes), &options, &reason),
                KNIT_OPTIONS_E_BAD);
            assert_string_equal(reason, text);
        }
        knit_buffer_fini(&bytes);
    }
    knit_block_close(&block);
}

/* ---- Errors ---- */

static void assert_converts(
    const struct knit_buffer *from, enum knit_failure_form form, const struct knit_buffer *to)
{
    struct knit_buffer made;
    char *text;

    knit_buffer_init(&made, BUFFER_MAX);
    assert_int_equal(knit_failure_convert(&made, knit_buffer_span(from), form), 0);
    text = knit_notation_print(knit_buffer_span(&made));
    assert_bytes(knit_buffer_span(&made), knit_buffer_span(to), text);
    free(text);
    knit_buffer_fini(&made);
}

static void errors_change_between_their_forms_as_specified(void **state)
{
    static const char *const words[] = {"compact ", "full    ", "plain   "};
    struct knit_buffer form[3];
    struct knit_block block;

    (void)state;
    knit_block_open(&block, specification, "errors");
    while (knit_block_next(&block)) {
        for (unsigned i = 0; i < 3; i++) {
            assert_true(i == 0 || knit_block_next(&block));
            assert_memory_equal(block.line, words[i], 8);
            encode(block.line + 8, &form[i]);
        }
        for (unsigned from = 0; from < 2; from++) {
            assert_converts(&form[from], KNIT_FAILURE_COMPACT, &form[0]);
            assert_converts(&form[from], KNIT_FAILURE_FULL, &form[1]);
            assert_converts(&form[from], KNIT_FAILURE_PLAIN, &form[2]);
        }
        for (unsigned i = 0; i < 3; i++)
            knit_buffer_fini(&form[i]);
    }
    knit_block_close(&block);
}

/* ---- $/hello ---- */

static void print_spans(FILE *to, const struct knit_span *spans, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (spans[i].bytes != NULL)
            fprintf(to, " %.*s", (int)spans[i].len, spans[i].bytes);
    }
}

static void print_numbers(FILE *to, const uint64_t *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (numbers[i])
            fprintf(to, " %" PRIu64, numbers[i]);
    }
}

static char *describe_hello(const struct knit_hello *hello)
{
    char *text;
    size_t len;
    FILE *to = open_memstream(&text, &len);

    fprintf(to, "name %.*s", (int)hello->name.len, hello->name.bytes);
    if (hello->version.bytes != NULL)
        fprintf(to, " version %.*s", (int)hello->version.len, hello->version.bytes);
    if (hello->token.bytes != NULL)
        fputs(" token ", to);
    for (size_t i = 0; i < hello->token.len; i++)
        fprintf(to, "%02x", hello->token.bytes[i]);
    fclose(to);
    return text;
}

static char *describe_reply(const struct knit_hello_reply *reply)
{
    const uint64_t numbers[] = {reply->protocol, reply->epoch, reply->message_bytes,
        reply->call_bytes, reply->depth, reply->in_flight, reply->output_bytes};
    char *text;
    size_t len;
    FILE *to = open_memstream(&text, &len);

    fprintf(to, "%.*s", (int)reply->server.len, reply->server.bytes);
    print_spans(to, &reply->version, 1);
    print_numbers(to, numbers, sizeof(numbers) / sizeof(numbers[0]));
    print_spans(to, reply->feature, reply->feature_count);
    print_spans(to, &reply->principal, 1);
    print_spans(to, &reply->instance, 1);
    if (reply->workers != 0)
        fprintf(to, " workers %" PRIu64, reply->workers);
    fclose(to);
    return text;
}

/* Decoded, described, encoded, decoded and described again. */
static void check_hello(struct knit_span params, const char *expected, bool is_good)
{
    struct knit_buffer again;
    struct knit_hello hello;
    const char *reason = "";
    int r = knit_hello_decode(params, &hello, &reason);
    char *text;

    assert_int_equal(r, is_good ? 0 : KNIT_HELLO_E_BAD);
    if (!is_good) {
        assert_string_equal(reason, expected);
        return;
    }
    knit_buffer_init(&again, BUFFER_MAX);
    assert_int_equal(knit_hello_put(&again, &hello), 0);
    assert_int_equal(knit_hello_decode(knit_buffer_span(&again), &hello, &reason), 0);
    text = describe_hello(&hello);
    assert_string_equal(text, expected);
    free(text);
    knit_buffer_fini(&again);
}

static void check_reply(struct knit_span result, const char *expected, bool is_good)
{
    struct knit_hello_reply reply;
    struct knit_buffer again;
    const char *reason = "";
    int r = knit_hello_reply_decode(result, &reply, &reason);
    char *text;

    assert_int_equal(r, is_good ? 0 : KNIT_HELLO_E_BAD);
    if (!is_good) {
        assert_string_equal(reason, expected);
        return;
    }
    if (reply.version.bytes == NULL)
        reply.version = knit_span_text("");
    knit_buffer_init(&again, BUFFER_MAX);
    assert_int_equal(knit_hello_reply_put(&again, &reply), 0);
    assert_int_equal(knit_hello_reply_decode(knit_buffer_span(&again), &reply, &reason), 0);
    if (reply.version.len == 0)
        reply.version.bytes = NULL;
    text = describe_reply(&reply);
    assert_string_equal(text, expected);
    free(text);
    knit_buffer_fini(&again);
}

static void hello_is_read_and_written_as_specified(void **state)
{
    struct knit_buffer bytes, params;
    struct knit_block block;
    char *text;

    (void)state;
    knit_block_open(&block, specification, "hello");
    while (knit_block_next(&block)) {
        bool is_good = knit_block_split(block.line, "=!", &text) == '=';

        encode(block.line + 7, &bytes);
        if (strncmp(block.line, "params ", 7) == 0) {
            knit_buffer_init(&params, BUFFER_MAX);
            knit_buffer_append(&params, "\x91", 1);
            knit_buffer_append(&params, bytes.bytes, bytes.len);
            check_hello(knit_buffer_span(&params), text, is_good);
            knit_buffer_fini(&params);
        } else {
            check_reply(knit_buffer_span(&bytes), text, is_good);
        }
        knit_buffer_fini(&bytes);
    }
    knit_block_close(&block);
}

/* ---- Signatures ---- */

typedef int parse_signature(const char *text, size_t len, struct knit_signature **ret_signature,
    struct knit_signature_flaw *ret_flaw);

/* The canonical text is one more signature, and its own canonical text. */
static void check_parses(parse_signature *parse, const char *line, const char *canonical)
{
    struct knit_signature_flaw flaw = {0};
    struct knit_signature *signature;
    const char *texts[] = {line, canonical};

    for (int i = 0; i < 2; i++) {
        if (parse(texts[i], strlen(texts[i]), &signature, &flaw))
            fail_msg("%s: %s at %zu", texts[i], flaw.reason, flaw.offset);
        assert_string_equal(knit_signature_text(signature), canonical);
        knit_signature_free(signature);
    }
}

static void check_signatures(const char *name, parse_signature *parse)
{
    struct knit_signature_flaw flaw;
    struct knit_signature *signature;
    struct knit_block block;
    char *text, *reason;

    knit_block_open(&block, specification, name);
    while (knit_block_next(&block)) {
        bool is_good = knit_block_split(block.line, "=!", &text) == '=';

        knit_block_unescape(block.line);
        if (is_good) {
            check_parses(parse, block.line, text);
            continue;
        }
        if (parse(block.line, strlen(block.line), &signature, &flaw) != KNIT_SIGNATURE_E_SYNTAX)
            fail_msg("%s is no error", block.line);
        assert_contains(flaw.reason, strchr(text, ' ') + 1);
        assert_int_equal(flaw.offset, strtoull(text, &reason, 10));
    }
    knit_block_close(&block);
}

static void signatures_are_parsed_as_specified(void **state)
{
    (void)state;
    check_signatures("signatures", knit_signature_parse);
}

static void signatures_of_calls_are_parsed_as_specified(void **state)
{
    (void)state;
    check_signatures("calls", knit_signature_parse_call);
}

static void check_against_signatures(const char *name, bool is_result)
{
    struct knit_signature_mismatch why;
    struct knit_signature *signature;
    struct knit_buffer bytes;
    struct knit_block block;
    char *value, *expected;
    char text[512];
    int r;

    knit_block_open(&block, specification, name);
    while (knit_block_next(&block)) {
        struct knit_checks checks;
        char op;

        knit_block_split(block.line, "|", &value);
        op = knit_block_split(value, "=!", &expected);
        signature = knit_parsed(block.line);
        encode(value, &bytes);
        r = is_result ? knit_signature_check_result(signature, bytes.bytes, bytes.len, &why)
                      : knit_signature_check(signature, bytes.bytes, bytes.len, NULL, &why);
        checks = is_result ? knit_checks_result(signature, bytes.bytes, bytes.len)
                           : knit_checks_params(signature, bytes.bytes, bytes.len);
        if (checks.flaw != NULL)
            fail_msg("%s: %s", block.line, checks.flaw);
        if (op == '=') {
            assert_int_equal(r, 0);
        } else {
            knit_signature_explain(&why, is_result, text, sizeof(text));
            assert_int_equal(r, KNIT_SIGNATURE_E_MISMATCH);
            assert_contains(text, expected);
        }
        knit_signature_free(signature);
        knit_buffer_fini(&bytes);
    }
    knit_block_close(&block);
}

static void arguments_are_checked_as_specified(void **state)
{
    (void)state;
    check_against_signatures("arguments", false);
}

static void results_are_checked_as_specified(void **state)
{
    (void)state;
    check_against_signatures("results", true);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read_and_written_as_specified),
        cmocka_unit_test(malformed_values_are_refused_with_a_reason),
        cmocka_unit_test(messages_are_read_and_written_as_specified),
        cmocka_unit_test(limits_are_kept_as_specified),
        cmocka_unit_test(options_are_read_as_specified),
        cmocka_unit_test(errors_change_between_their_forms_as_specified),
        cmocka_unit_test(hello_is_read_and_written_as_specified),
        cmocka_unit_test(signatures_are_parsed_as_specified),
        cmocka_unit_test(signatures_of_calls_are_parsed_as_specified),
        cmocka_unit_test(arguments_are_checked_as_specified),
        cmocka_unit_test(results_are_checked_as_specified),
    };
    int failed;

    specification = knit_block_specification(argc, argv);
    if (specification == NULL)
        return 2;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(specification);
    return failed;
}
