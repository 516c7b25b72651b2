/* SPDX-License-Identifier: Apache-2.0 */
/* A container's count comes before its elements, so the reader goes over them twice: once without a
 * writer, to count. That is exponential in nesting, and vectors are small.
 */
#include "tests/proto/notation.h"

#include <ctype.h>
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
#include "proto/decoder.h"
#include "proto/writer.h"

enum { BUFFER_MAX = 1 << 20, HEX_BYTES_MAX = 64 << 20 };

/* ---- Reading ---- */

static void read_value(const char **at, struct knit_writer *writer);

static void skip_blanks(const char **at)
{
    while (**at == ' ')
        (*at)++;
}

static bool take(const char **at, const char *token)
{
    size_t len = strlen(token);

    skip_blanks(at);
    if (strncmp(*at, token, len) != 0)
        return false;
    *at += len;
    return true;
}

static void need(const char **at, const char *token)
{
    if (!take(at, token))
        fail_msg("notation: '%s' expected at '%s'", token, *at);
}

static unsigned hex_digit(char c)
{
    return (unsigned)(isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10);
}

void knit_notation_hex(const char **at, struct knit_buffer *buffer)
{
    skip_blanks(at);
    while (isxdigit((unsigned char)(*at)[0]) && isxdigit((unsigned char)(*at)[1])) {
        uint8_t byte = (uint8_t)(hex_digit((*at)[0]) << 4 | hex_digit((*at)[1]));

        assert_int_equal(knit_buffer_append(buffer, &byte, 1), 0);
        *at += 2;
        skip_blanks(at);
    }
}

void knit_notation_hex_new(const char *hex, struct knit_buffer *ret)
{
    knit_buffer_init(ret, HEX_BYTES_MAX);
    knit_notation_hex(&hex, ret);
    assert_int_equal(*hex, 0);
}

static void read_hex(const char **at, struct knit_buffer *buffer)
{
    need(at, "h'");
    knit_notation_hex(at, buffer);
    need(at, "'");
}

static void read_text(const char **at, struct knit_writer *writer)
{
    struct knit_buffer text;
    char c;

    knit_buffer_init(&text, BUFFER_MAX);
    for (; **at != '"'; (*at)++) {
        assert_true(**at != 0);
        c = **at;
        if (c == '\\' && (*at)[1] == 'x') {
            c = (char)(hex_digit((*at)[2]) << 4 | hex_digit((*at)[3]));
            *at += 3;
        } else if (c == '\\') {
            c = *++*at;
        }
        assert_int_equal(knit_buffer_append(&text, &c, 1), 0);
    }
    (*at)++;
    if (writer != NULL)
        knit_writer_str(writer, (const char *)text.bytes, text.len);
    knit_buffer_fini(&text);
}

static void read_number(const char **at, struct knit_writer *writer)
{
    char *int_end, *float_end;
    double number = strtod(*at, &float_end);
    bool is_negative = **at == '-';
    uint64_t word =
        is_negative ? (uint64_t)strtoll(*at, &int_end, 10) : strtoull(*at, &int_end, 10);

    if (float_end == *at)
        fail_msg("notation: a value expected at '%s'", *at);
    if (writer != NULL && float_end > int_end)
        knit_writer_float(writer, number);
    else if (writer != NULL && is_negative)
        knit_writer_int(writer, (int64_t)word);
    else if (writer != NULL)
        knit_writer_uint(writer, word);
    *at = float_end;
}

static uint32_t read_elements(const char **at, struct knit_writer *writer, bool is_map)
{
    const char *close = is_map ? "}" : "]";
    uint32_t count = 0;

    while (!take(at, close)) {
        if (count++ > 0)
            need(at, ",");
        read_value(at, writer);
        if (is_map) {
            need(at, ":");
            read_value(at, writer);
        }
    }
    return count;
}

static void read_container(const char **at, struct knit_writer *writer, bool is_map)
{
    const char *ahead = *at;
    uint32_t count = read_elements(&ahead, NULL, is_map);

    if (writer != NULL && is_map)
        knit_writer_map(writer, count);
    else if (writer != NULL)
        knit_writer_array(writer, count);
    read_elements(at, writer, is_map);
}

static int64_t read_int(const char **at)
{
    char *end;
    int64_t number;

    skip_blanks(at);
    number = strtoll(*at, &end, 10);
    *at = end;
    return number;
}

static void read_ext(const char **at, struct knit_writer *writer, int code)
{
    struct knit_buffer body;

    knit_buffer_init(&body, BUFFER_MAX);
    if (code == 0) {
        code = (int)read_int(at);
        need(at, ",");
        read_hex(at, &body);
    } else {
        knit_notation_encode(at, &body);
        if (code == KNIT_EXT_ENVELOPE) {
            need(at, ",");
            read_hex(at, &body);
        }
    }
    need(at, ")");
    if (writer != NULL)
        knit_writer_ext(writer, code, body.bytes != NULL ? body.bytes : (uint8_t *)"", body.len);
    knit_buffer_fini(&body);
}

static void read_time(const char **at, struct knit_writer *writer)
{
    int64_t seconds = read_int(at);
    uint32_t nanoseconds;

    need(at, ",");
    nanoseconds = (uint32_t)read_int(at);
    need(at, ")");
    if (writer != NULL)
        knit_writer_time(writer, seconds, nanoseconds);
}

static bool read_named(const char **at, struct knit_writer *writer)
{
    if (take(at, "ext("))
        read_ext(at, writer, 0);
    else if (take(at, "set("))
        read_ext(at, writer, KNIT_EXT_SET);
    else if (take(at, "pairs("))
        read_ext(at, writer, KNIT_EXT_PAIRS);
    else if (take(at, "error("))
        read_ext(at, writer, KNIT_EXT_ERROR);
    else if (take(at, "envelope("))
        read_ext(at, writer, KNIT_EXT_ENVELOPE);
    else if (take(at, "time("))
        read_time(at, writer);
    else
        return false;
    return true;
}

static bool read_word(const char **at, struct knit_writer *writer)
{
    if (take(at, "nil")) {
        if (writer != NULL)
            knit_writer_nil(writer);
    } else if (take(at, "true")) {
        if (writer != NULL)
            knit_writer_bool(writer, true);
    } else if (take(at, "false")) {
        if (writer != NULL)
            knit_writer_bool(writer, false);
    } else {
        return false;
    }
    return true;
}

static void read_bin(const char **at, struct knit_writer *writer)
{
    struct knit_buffer bytes;

    knit_buffer_init(&bytes, BUFFER_MAX);
    read_hex(at, &bytes);
    if (writer != NULL)
        knit_writer_bin(writer, bytes.bytes, bytes.len);
    knit_buffer_fini(&bytes);
}

static void read_value(const char **at, struct knit_writer *writer)
{
    skip_blanks(at);
    if (take(at, "["))
        read_container(at, writer, false);
    else if (take(at, "{"))
        read_container(at, writer, true);
    else if (take(at, "\""))
        read_text(at, writer);
    else if (strncmp(*at, "h'", 2) == 0)
        read_bin(at, writer);
    else if (!read_word(at, writer) && !read_named(at, writer))
        read_number(at, writer);
    skip_blanks(at);
}

void knit_notation_encode(const char **at, struct knit_buffer *buffer)
{
    struct knit_writer writer;

    knit_writer_init(&writer, buffer);
    read_value(at, &writer);
    assert_int_equal(knit_writer_end(&writer), 0);
}

void knit_notation_encode_all(const char *text, struct knit_buffer *buffer)
{
    knit_notation_encode(&text, buffer);
    if (*text)
        fail_msg("notation: '%s' left over", text);
}

/* ---- Printing ---- */

struct printer {
    FILE *to;
    struct knit_decoder *decoder;
};

static void print_value(struct printer *printer, const struct knit_decoded *value);

static void print_hex(struct printer *printer, const uint8_t *bytes, size_t len)
{
    fputs("h'", printer->to);
    for (size_t i = 0; i < len; i++)
        fprintf(printer->to, "%02x", bytes[i]);
    fputc('\'', printer->to);
}

static void print_text(struct printer *printer, const uint8_t *text, size_t len)
{
    fputc('"', printer->to);
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '"' || text[i] == '\\')
            fprintf(printer->to, "\\%c", text[i]);
        else if (text[i] < ' ')
            fprintf(printer->to, "\\x%02x", text[i]);
        else
            fputc(text[i], printer->to);
    }
    fputc('"', printer->to);
}

static void print_float(struct printer *printer, double number)
{
    char text[64];

    if (number != number) {
        fputs("nan", printer->to);
        return;
    }
    /* The shortest form that reads back as the same number. */
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, number);
        if (strtod(text, NULL) == number)
            break;
    }
    fputs(text, printer->to);
    if (strpbrk(text, ".einf") == NULL)
        fputs(".0", printer->to);
}

static void print_ext(struct printer *printer, const struct knit_decoded *value)
{
    static const char *const names[] = {
        "set", "pairs", NULL, NULL, "error", NULL, NULL, "envelope"};
    const struct knit_decoded *inner = knit_decoder_open(printer->decoder, value);
    struct knit_span rest = knit_decoder_rest(value);
    const uint8_t *body;
    size_t len;
    int code;

    body = knit_decoder_bytes(value, &len, &code);
    if (inner != NULL) {
        fprintf(printer->to, "%s(", names[code - KNIT_EXT_SET]);
        print_value(printer, inner);
    } else {
        fprintf(printer->to, "ext(%d, ", code);
        print_hex(printer, body, len);
    }
    if (rest.bytes != NULL) {
        fputs(", ", printer->to);
        print_hex(printer, rest.bytes, rest.len);
    }
    fputc(')', printer->to);
}

static void print_container(struct printer *printer, const struct knit_decoded *value, bool is_map)
{
    fputc(is_map ? '{' : '[', printer->to);
    for (uint32_t i = 0; i < knit_decoder_count(value); i++) {
        if (i > 0)
            fputs(", ", printer->to);
        if (is_map) {
            print_value(printer, knit_decoder_key(value, i));
            fputs(": ", printer->to);
        }
        print_value(printer, knit_decoder_at(value, i));
    }
    fputc(is_map ? '}' : ']', printer->to);
}

static void print_time(struct printer *printer, const struct knit_decoded *value)
{
    int64_t seconds;
    uint32_t nanoseconds;

    assert_true(knit_decoder_time(value, &seconds, &nanoseconds));
    fprintf(printer->to, "time(%" PRId64 ", %" PRIu32 ")", seconds, nanoseconds);
}

static void print_value(struct printer *printer, const struct knit_decoded *value)
{
    const uint8_t *bytes;
    size_t len;

    bytes = knit_decoder_bytes(value, &len, NULL);
    switch (knit_decoder_type(value)) {
    case KNIT_DECODED_NIL:
        fputs("nil", printer->to);
        break;
    case KNIT_DECODED_BOOL:
        fputs(knit_decoder_bool(value) ? "true" : "false", printer->to);
        break;
    case KNIT_DECODED_INT:
        fprintf(printer->to, "%" PRId64, knit_decoder_int(value));
        break;
    case KNIT_DECODED_UINT:
        fprintf(printer->to, "%" PRIu64, knit_decoder_uint(value));
        break;
    case KNIT_DECODED_FLOAT:
        print_float(printer, knit_decoder_float(value));
        break;
    case KNIT_DECODED_STR:
        print_text(printer, bytes, len);
        break;
    case KNIT_DECODED_BIN:
        print_hex(printer, bytes, len);
        break;
    case KNIT_DECODED_ARRAY:
    case KNIT_DECODED_MAP:
        print_container(printer, value, knit_decoder_type(value) == KNIT_DECODED_MAP);
        break;
    case KNIT_DECODED_TIME:
        print_time(printer, value);
        break;
    case KNIT_DECODED_EXT:
        print_ext(printer, value);
        break;
    }
}

char *knit_notation_print(struct knit_span value)
{
    struct printer printer = {.decoder = knit_decoder_new()};
    const struct knit_decoded *decoded;
    char *text = NULL;
    size_t len;

    assert_non_null(printer.decoder);
    decoded = knit_decoder_read(printer.decoder, value.bytes, value.len);
    assert_non_null(decoded);
    printer.to = open_memstream(&text, &len);
    assert_non_null(printer.to);
    print_value(&printer, decoded);
    fclose(printer.to);
    knit_decoder_free(printer.decoder);
    return text;
}
