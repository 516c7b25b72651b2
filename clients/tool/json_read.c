/* SPDX-License-Identifier: Apache-2.0 */
/* JSON to msgpack: json_lexer.c refuses what json-c would change, json-c parses, and its tree is
 * written out. An object with one member whose key begins with "$" is looked up in the table of
 * special forms; a key that is not there is an error, not a map, so that a misspelt form does not
 * travel as something else. Of equal keys json-c keeps the last: its tree then has fewer members
 * than the text.
 *
 * Values inside an ext are written into a buffer of their own first, because the length of an ext
 * stands before its body.
 */
#include "clients/tool/json.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <json-c/json.h>

#include "clients/tool/base64.h"
#include "clients/tool/bigint.h"
#include "clients/tool/json_lexer.h"
#include "clients/tool/json_private.h"
#include "proto/check.h"
#include "proto/limits.h"

/* json-c's own limit, above the protocol's: a text between the two is refused by our check, whose
 * sentence is the better one. */
enum { PARSE_DEPTH = 2 * KNIT_DEPTH_MAX, INNER_MAX = 1 << 30 };

struct reader {
    char *reason;
};

typedef int read_form(
    struct reader *reader, struct json_object *content, struct knit_writer *writer);

static int put(struct reader *reader, struct json_object *object, struct knit_writer *writer);

static int __attribute__((format(printf, 2, 3))) bad(struct reader *reader, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(reader->reason, KNIT_JSON_REASON_BYTES, format, args);
    va_end(args);
    return KNIT_JSON_E_BAD;
}

static const char *string_of(struct json_object *object, size_t *ret_len)
{
    if (!json_object_is_type(object, json_type_string))
        return NULL;
    *ret_len = (size_t)json_object_get_string_len(object);
    return json_object_get_string(object);
}

/* ---- special forms ---- */

/* The value that `$float` names. */
static bool special_real(struct json_object *content, double *ret_value)
{
    static const struct {
        const char *name;
        double value;
    } reals[] = {{"NaN", NAN}, {"Infinity", INFINITY}, {"-Infinity", -INFINITY}};
    size_t len;
    const char *text = string_of(content, &len);

    for (size_t i = 0; text != NULL && i < sizeof(reals) / sizeof(reals[0]); i++) {
        if (strlen(reals[i].name) == len && memcmp(text, reals[i].name, len) == 0) {
            *ret_value = reals[i].value;
            return true;
        }
    }
    return false;
}

static int read_float(
    struct reader *reader, struct json_object *content, struct knit_writer *writer)
{
    double value;

    if (!special_real(content, &value))
        return bad(reader, "$float takes \"NaN\", \"Infinity\" or \"-Infinity\"");
    knit_writer_float(writer, value);
    return 0;
}

/* The bytes of a Base64 text, for free(). */
static int take_base64(struct reader *reader, const char *form, struct json_object *content,
    uint8_t **ret_bytes, size_t *ret_len)
{
    size_t len = 0;
    const char *text = string_of(content, &len);
    uint8_t *bytes = malloc(len / 4 * 3 + 1);

    if (bytes == NULL)
        return -ENOMEM;
    if (text == NULL || !knit_base64_decode(text, len, bytes, ret_len)) {
        free(bytes);
        return bad(reader, "%s takes a text in Base64", form);
    }
    *ret_bytes = bytes;
    return 0;
}

static int read_bin(struct reader *reader, struct json_object *content, struct knit_writer *writer)
{
    uint8_t *bytes;
    size_t len;
    int r = take_base64(reader, "$bin", content, &bytes, &len);

    if (r != 0)
        return r;
    knit_writer_bin(writer, bytes, len);
    free(bytes);
    return 0;
}

static int read_view(struct reader *reader, struct json_object *content, struct knit_writer *writer)
{
    uint8_t *bytes;
    size_t len;
    int r = take_base64(reader, "$view", content, &bytes, &len);

    if (r != 0)
        return r;
    knit_writer_ext(writer, KNIT_EXT_VIEW, bytes, len);
    free(bytes);
    return 0;
}

static bool is_pair(struct json_object *object)
{
    return json_object_is_type(object, json_type_array) && json_object_array_length(object) == 2;
}

static int read_entries(struct reader *reader, const char *form, struct json_object *content,
    struct knit_writer *writer)
{
    size_t count = json_object_array_length(content);

    for (size_t i = 0; i < count; i++) {
        struct json_object *pair = json_object_array_get_idx(content, i);
        int r;

        if (!is_pair(pair))
            return bad(reader, "%s takes an array of [key, value]", form);
        r = put(reader, json_object_array_get_idx(pair, 0), writer);
        if (r == 0)
            r = put(reader, json_object_array_get_idx(pair, 1), writer);
        if (r != 0)
            return r;
    }
    return 0;
}

static int read_map(struct reader *reader, struct json_object *content, struct knit_writer *writer)
{
    if (!json_object_is_type(content, json_type_array))
        return bad(reader, "$map takes an array of [key, value]");
    knit_writer_map(writer, (uint32_t)json_object_array_length(content));
    return read_entries(reader, "$map", content, writer);
}

/* "YYYY-MM-DDTHH:MM:SS[.digits]Z". strptime() takes 30 February and 61 seconds, which timegm()
 * turns into another day or minute: so the result is compared with the text. */
static bool parse_time(
    const char *text, size_t len, int64_t *ret_seconds, uint32_t *ret_nanoseconds)
{
    struct tm date = {0}, said;
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &date);
    uint32_t unit = 100000000;

    if (rest == NULL)
        return false;
    *ret_nanoseconds = 0;
    if (*rest == '.') {
        for (rest++; *rest >= '0' && *rest <= '9' && unit > 0; rest++, unit /= 10)
            *ret_nanoseconds += (uint32_t)(*rest - '0') * unit;
    }
    said = date;
    *ret_seconds = timegm(&date);
    return date.tm_mday == said.tm_mday && date.tm_sec == said.tm_sec && strcmp(rest, "Z") == 0 &&
           rest + 1 == text + len;
}

static int read_time(struct reader *reader, struct json_object *content, struct knit_writer *writer)
{
    size_t len;
    const char *text = string_of(content, &len);
    int64_t seconds, nanoseconds;
    uint32_t fraction;

    if (text != NULL && parse_time(text, len, &seconds, &fraction)) {
        knit_writer_time(writer, seconds, fraction);
        return 0;
    }
    if (!is_pair(content) ||
        !json_object_is_type(json_object_array_get_idx(content, 0), json_type_int) ||
        !json_object_is_type(json_object_array_get_idx(content, 1), json_type_int))
        return bad(reader, "$time takes \"1970-01-01T00:00:00.0Z\" or [seconds, nanoseconds]");
    seconds = json_object_get_int64(json_object_array_get_idx(content, 0));
    nanoseconds = json_object_get_int64(json_object_array_get_idx(content, 1));
    if (nanoseconds < 0 || nanoseconds > 999999999)
        return bad(reader, "the nanoseconds of $time must be 0 to 999999999");
    knit_writer_time(writer, seconds, (uint32_t)nanoseconds);
    return 0;
}

static int read_undefined(
    struct reader *reader, struct json_object *content, struct knit_writer *writer)
{
    (void)reader;
    (void)content;
    knit_writer_ext(writer, KNIT_EXT_UNDEFINED, "", 0);
    return 0;
}

static int read_bigint(
    struct reader *reader, struct json_object *content, struct knit_writer *writer)
{
    size_t len = 0, body_len;
    const char *text = string_of(content, &len);
    uint8_t *body = malloc(len + 2);

    if (body == NULL)
        return -ENOMEM;
    if (text == NULL || !knit_bigint_read(text, len, body, &body_len)) {
        free(body);
        return bad(reader, "$bigint takes a text: \"0x...\", or at most %d decimal digits",
            KNIT_BIGINT_DECIMAL_MAX);
    }
    knit_writer_ext(writer, KNIT_EXT_BIGINT, body, body_len);
    free(body);
    return 0;
}

static int read_symbol(
    struct reader *reader, struct json_object *content, struct knit_writer *writer)
{
    size_t len;
    const char *text = string_of(content, &len);

    if (text == NULL)
        return bad(reader, "$symbol takes a text");
    knit_writer_ext(writer, KNIT_EXT_SYMBOL, text, len);
    return 0;
}

/* An ext whose body is one value, followed by bytes in the case of an envelope. */
static int put_inner(struct reader *reader, int code, struct json_object *content,
    struct knit_span rest, struct knit_writer *writer)
{
    struct knit_buffer buffer;
    struct knit_writer inner;
    size_t count =
        json_object_is_type(content, json_type_array) ? json_object_array_length(content) : 0;
    int r, end;

    knit_buffer_init(&buffer, INNER_MAX);
    knit_writer_init(&inner, &buffer);
    if (code == KNIT_EXT_PAIRS) {
        knit_writer_array(&inner, (uint32_t)(count * 2));
        r = read_entries(reader, "$pairs", content, &inner);
    } else {
        r = put(reader, content, &inner);
    }
    end = knit_writer_end(&inner);
    if (r == 0 && end != 0)
        r = end < 0 ? end : bad(reader, "%s", knit_writer_reason(end));
    if (r == 0 && rest.len > 0)
        r = knit_buffer_append(&buffer, rest.bytes, rest.len) != 0 ? -ENOMEM : 0;
    if (r == 0)
        knit_writer_ext(writer, code, buffer.bytes, buffer.len);
    knit_buffer_fini(&buffer);
    return r;
}

static int read_set(struct reader *reader, struct json_object *content, struct knit_writer *writer)
{
    if (!json_object_is_type(content, json_type_array))
        return bad(reader, "$set takes an array");
    return put_inner(reader, KNIT_EXT_SET, content, knit_span(NULL, 0), writer);
}

static int read_pairs(
    struct reader *reader, struct json_object *content, struct knit_writer *writer)
{
    if (!json_object_is_type(content, json_type_array))
        return bad(reader, "$pairs takes an array of [key, value]");
    return put_inner(reader, KNIT_EXT_PAIRS, content, knit_span(NULL, 0), writer);
}

static int read_error(
    struct reader *reader, struct json_object *content, struct knit_writer *writer)
{
    if (!json_object_is_type(content, json_type_object))
        return bad(reader, "$error takes an object with name and message");
    return put_inner(reader, KNIT_EXT_ERROR, content, knit_span(NULL, 0), writer);
}

static int read_envelope(
    struct reader *reader, struct json_object *content, struct knit_writer *writer)
{
    uint8_t *bytes;
    size_t len;
    int r;

    if (!is_pair(content))
        return bad(reader, "$envelope takes [header, body in Base64]");
    r = take_base64(
        reader, "the body of $envelope", json_object_array_get_idx(content, 1), &bytes, &len);
    if (r != 0)
        return r;
    r = put_inner(reader, KNIT_EXT_ENVELOPE, json_object_array_get_idx(content, 0),
        knit_span(bytes, len), writer);
    free(bytes);
    return r;
}

static int read_ext(struct reader *reader, struct json_object *content, struct knit_writer *writer)
{
    uint8_t *bytes;
    size_t len;
    int r;

    if (!is_pair(content) ||
        !json_object_is_type(json_object_array_get_idx(content, 0), json_type_int))
        return bad(reader, "$ext takes [type, body in Base64]");
    r = take_base64(
        reader, "the body of $ext", json_object_array_get_idx(content, 1), &bytes, &len);
    if (r != 0)
        return r;
    knit_writer_ext(writer, json_object_get_int(json_object_array_get_idx(content, 0)), bytes, len);
    free(bytes);
    return 0;
}

static const struct {
    const char *key;
    read_form *read;
} forms[] = {
    {"$bigint", read_bigint},
    {"$bin", read_bin},
    {"$envelope", read_envelope},
    {"$error", read_error},
    {"$ext", read_ext},
    {"$float", read_float},
    {"$map", read_map},
    {"$pairs", read_pairs},
    {"$set", read_set},
    {"$symbol", read_symbol},
    {"$time", read_time},
    {"$undefined", read_undefined},
    {"$view", read_view},
};

/* ---- typed arrays ---- */

static bool to_real(struct json_object *object, double *ret_value)
{
    struct json_object *special;

    if (json_object_is_type(object, json_type_int) ||
        json_object_is_type(object, json_type_double)) {
        *ret_value = json_object_get_double(object);
        return true;
    }
    return json_object_is_type(object, json_type_object) &&
           json_object_object_length(object) == 1 &&
           json_object_object_get_ex(object, "$float", &special) &&
           special_real(special, ret_value);
}

/* json-c gives integers above INT64_MAX as uint64 only, and negative ones as int64 only. */
static bool to_bits(
    struct json_object *object, const struct knit_json_element *type, uint64_t *ret_bits)
{
    unsigned width = 8u * type->size;
    int64_t value = json_object_get_int64(object);
    double real;
    float single;

    if (type->kind == KNIT_JSON_FLOAT) {
        if (!to_real(object, &real))
            return false;
        single = (float)real;
        if (type->size == sizeof(single)) {
            if (isfinite(real) && !isfinite(single))
                return false;
            *ret_bits = 0;
            memcpy(ret_bits, &single, sizeof(single));
        } else {
            memcpy(ret_bits, &real, sizeof(real));
        }
        return true;
    }
    if (!json_object_is_type(object, json_type_int))
        return false;
    if (type->kind == KNIT_JSON_UNSIGNED) {
        *ret_bits = json_object_get_uint64(object);
        return value >= 0 && (width == 64 || *ret_bits >> width == 0);
    }
    *ret_bits = (uint64_t)value;
    return json_object_get_uint64(object) <= INT64_MAX &&
           (width == 64 ||
               (value >= -(INT64_C(1) << (width - 1)) && value < INT64_C(1) << (width - 1)));
}

static int read_typed(
    struct reader *reader, uint8_t code, struct json_object *content, struct knit_writer *writer)
{
    const struct knit_json_element *type = &knit_json_elements[code];
    size_t count;
    uint8_t *body;

    if (!json_object_is_type(content, json_type_array))
        return bad(reader, "%s takes an array of numbers", type->key);
    count = json_object_array_length(content);
    body = malloc(2 + count * type->size);
    if (body == NULL)
        return -ENOMEM;
    body[0] = code;
    body[1] = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t bits;

        if (!to_bits(json_object_array_get_idx(content, i), type, &bits)) {
            free(body);
            return bad(reader, "element %zu of %s does not fit", i + 1, type->key);
        }
        memcpy(body + 2 + i * type->size, &bits, type->size);
    }
    knit_writer_ext(writer, KNIT_EXT_TYPED, body, 2 + count * type->size);
    free(body);
    return 0;
}

/* ---- values ---- */

static int put_special(
    struct reader *reader, const char *key, struct json_object *content, struct knit_writer *writer)
{
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (strcmp(forms[i].key, key) == 0)
            return forms[i].read(reader, content, writer);
    }
    for (int code = 1; code < KNIT_ELEMENT_CODES; code++) {
        if (strcmp(knit_json_elements[code].key, key) == 0)
            return read_typed(reader, (uint8_t)code, content, writer);
    }
    return bad(reader,
        "unknown form \"%.60s\"; for a map with that key write {\"$map\": [[\"%.40s\", ...]]}", key,
        key);
}

static int put_object(struct reader *reader, struct json_object *object, struct knit_writer *writer)
{
    int count = json_object_object_length(object);
    struct json_object_iterator at = json_object_iter_begin(object);
    struct json_object_iterator end = json_object_iter_end(object);
    int r = 0;

    if (count == 1 && json_object_iter_peek_name(&at)[0] == '$')
        return put_special(
            reader, json_object_iter_peek_name(&at), json_object_iter_peek_value(&at), writer);
    knit_writer_map(writer, (uint32_t)count);
    for (; r == 0 && !json_object_iter_equal(&at, &end); json_object_iter_next(&at)) {
        knit_writer_text(writer, json_object_iter_peek_name(&at));
        r = put(reader, json_object_iter_peek_value(&at), writer);
    }
    return r;
}

static int put_array(struct reader *reader, struct json_object *object, struct knit_writer *writer)
{
    size_t count = json_object_array_length(object);
    int r = 0;

    knit_writer_array(writer, (uint32_t)count);
    for (size_t i = 0; i < count && r == 0; i++)
        r = put(reader, json_object_array_get_idx(object, i), writer);
    return r;
}

static int put(struct reader *reader, struct json_object *object, struct knit_writer *writer)
{
    size_t len = 0;
    const char *text;

    switch (json_object_get_type(object)) {
    case json_type_null:
        knit_writer_nil(writer);
        return 0;
    case json_type_boolean:
        knit_writer_bool(writer, json_object_get_boolean(object) != 0);
        return 0;
    case json_type_int:
        if (json_object_get_uint64(object) > INT64_MAX)
            knit_writer_uint(writer, json_object_get_uint64(object));
        else
            knit_writer_int(writer, json_object_get_int64(object));
        return 0;
    case json_type_double:
        knit_writer_float(writer, json_object_get_double(object));
        return 0;
    case json_type_string:
        text = string_of(object, &len);
        knit_writer_str(writer, text, len);
        return 0;
    case json_type_array:
        return put_array(reader, object, writer);
    case json_type_object:
        return put_object(reader, object, writer);
    }
    return bad(reader, "json-c gave a value of an unknown type");
}

static size_t count_sessions(struct json_object *object)
{
    struct json_object_iterator at, end;
    size_t count = 0;

    if (json_object_is_type(object, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(object); i++)
            count += count_sessions(json_object_array_get_idx(object, i));
    } else if (json_object_is_type(object, json_type_object)) {
        end = json_object_iter_end(object);
        for (at = json_object_iter_begin(object); !json_object_iter_equal(&at, &end);
             json_object_iter_next(&at))
            count += 1 + count_sessions(json_object_iter_peek_value(&at));
    }
    return count;
}

int knit_json_read(const char *text, size_t len, struct knit_writer *writer,
    char ret_reason[KNIT_JSON_REASON_BYTES])
{
    struct reader reader = {ret_reason};
    size_t offset;
    const char *flaw = knit_json_lexer_check(text, len, &offset), *nul;
    struct json_tokener *tokener;
    struct json_object *object;
    enum json_tokener_error error;
    size_t end;
    int r;

    if (flaw != NULL)
        return bad(&reader, "at byte %zu: %s", offset, flaw);
    if (len >= INT32_MAX)
        return bad(&reader, "more than 2 GiB of JSON");
    nul = memchr(text, '\0', len);
    if (nul != NULL)
        return bad(&reader, "at byte %zu: a NUL", (size_t)(nul - text));
    tokener = json_tokener_new_ex(PARSE_DEPTH);
    if (tokener == NULL)
        return -ENOMEM;
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    /* The NUL behind the text tells json-c that a number at its end is over. */
    object = json_tokener_parse_ex(tokener, text, (int)len + 1);
    error = json_tokener_get_error(tokener);
    end = json_tokener_get_parse_end(tokener);
    json_tokener_free(tokener);
    if (error != json_tokener_success) {
        json_object_put(object);
        return bad(&reader, "at byte %zu: %s", end,
            error == json_tokener_continue ? "the JSON is not complete"
                                           : json_tokener_error_desc(error));
    }
    if (count_sessions(object) != knit_json_lexer_members(text, len))
        r = bad(&reader,
            "an object has a key twice; for such a map write {\"$map\": [[key, value], ...]}");
    else
        r = put(&reader, object, writer);
    json_object_put(object);
    return r;
}
