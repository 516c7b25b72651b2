/* SPDX-License-Identifier: Apache-2.0 */
/* msgpack to JSON: the bytes are checked, decoded into a tree, and the tree becomes json-c objects,
 * whose serializer knows how strings are escaped. Numbers are written here: a float always has a
 * point or an exponent, so that it is read as a float again, and the fewest digits that give the
 * same bits.
 *
 * json-c counts references; every function below returns a new object or NULL when out of memory,
 * and add() takes its object over even when it fails. Recursion is as deep as the check allows.
 */
#include "clients/tool/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <json-c/json.h>

#include "clients/tool/base64.h"
#include "clients/tool/bigint.h"
#include "clients/tool/json_private.h"
#include "proto/check.h"
#include "proto/decoder.h"
#include "proto/limits.h"

#define ELEMENT(code, name, size, number) [code] = {"$" name, size, KNIT_JSON_##number},
const struct knit_json_element knit_json_elements[KNIT_ELEMENT_CODES] = {
    {"", 0, 0}, KNIT_ELEMENTS(ELEMENT)};
#undef ELEMENT

static struct json_object *write_value(
    struct knit_decoder *decoder, const struct knit_decoded *value);

/* nil is NULL in json-c, and so is failure; a failed object is this one instead. */
static struct json_object *const failed = (struct json_object *)&knit_json_elements;

static struct json_object *checked(struct json_object *object)
{
    return object != NULL ? object : failed;
}

static struct json_object *drop(struct json_object *object)
{
    if (object != failed)
        json_object_put(object);
    return failed;
}

static struct json_object *add(struct json_object *array, struct json_object *element)
{
    if (array != failed && element != failed && json_object_array_add(array, element) == 0)
        return array;
    (void)drop(element);
    return drop(array);
}

static struct json_object *wrap(const char *key, struct json_object *content)
{
    struct json_object *object = content != failed ? json_object_new_object() : NULL;

    if (object != NULL && json_object_object_add(object, key, content) == 0)
        return object;
    (void)drop(content);
    return drop(object);
}

static struct json_object *text(const void *bytes, size_t len)
{
    return checked(json_object_new_string_len(len > 0 ? bytes : "", (int)len));
}

static struct json_object *take_text(char *string)
{
    struct json_object *object = string != NULL ? text(string, strlen(string)) : failed;

    free(string);
    return object;
}

static struct json_object *base64(const void *bytes, size_t len)
{
    return take_text(knit_base64_encode(bytes, len));
}

static struct json_object *write_real(double value)
{
    char digits[40];
    int precision = 1, whole;

    if (isnan(value))
        return wrap("$float", text("NaN", 3));
    if (isinf(value))
        return wrap("$float", value > 0 ? text("Infinity", 8) : text("-Infinity", 9));
    do
        snprintf(digits, sizeof(digits), "%.*g", precision, value);
    while (strtod(digits, NULL) != value && ++precision <= 17);
    /* As many digits as stand before the point keep %g from writing 2000 as 2e+03. */
    whole = value != 0 ? (int)floor(log10(fabs(value))) + 1 : 1;
    if (whole > precision && whole <= 17)
        snprintf(digits, sizeof(digits), "%.*g", whole, value);
    if (strpbrk(digits, ".e") == NULL)
        memcpy(digits + strlen(digits), ".0", sizeof(".0"));
    return checked(json_object_new_double_s(value, digits));
}

static struct json_object *write_time(const struct knit_decoded *value)
{
    struct json_object *array;
    char digits[64];
    int64_t seconds = 0;
    uint32_t nanoseconds = 0;
    struct tm date;
    time_t when;

    (void)knit_decoder_time(value, &seconds, &nanoseconds);
    when = (time_t)seconds;
    if (gmtime_r(&when, &date) != NULL && date.tm_year >= -1900 && date.tm_year <= 9999 - 1900) {
        snprintf(digits, sizeof(digits), "%04d-%02d-%02dT%02d:%02d:%02d.%09uZ", date.tm_year + 1900,
            date.tm_mon + 1, date.tm_mday, date.tm_hour, date.tm_min, date.tm_sec, nanoseconds);
        return wrap("$time", text(digits, strlen(digits)));
    }
    array = checked(json_object_new_array());
    array = add(array, checked(json_object_new_int64(seconds)));
    return wrap("$time", add(array, checked(json_object_new_int64(nanoseconds))));
}

static struct json_object *write_array(
    struct knit_decoder *decoder, const struct knit_decoded *value)
{
    struct json_object *array = checked(json_object_new_array());

    for (uint32_t i = 0; i < knit_decoder_count(value) && array != failed; i++)
        array = add(array, write_value(decoder, knit_decoder_at(value, i)));
    return array;
}

static struct json_object *write_pair(
    struct knit_decoder *decoder, const struct knit_decoded *key, const struct knit_decoded *value)
{
    struct json_object *pair = add(checked(json_object_new_array()), write_value(decoder, key));

    return add(pair, write_value(decoder, value));
}

static struct json_object *write_map_pairs(
    struct knit_decoder *decoder, const struct knit_decoded *value)
{
    struct json_object *array = checked(json_object_new_array());

    for (uint32_t i = 0; i < knit_decoder_count(value) && array != failed; i++)
        array =
            add(array, write_pair(decoder, knit_decoder_key(value, i), knit_decoder_at(value, i)));
    return wrap("$map", array);
}

/* The key as json-c can hold it: a str without NUL. NULL: it cannot. */
static char *plain_key(const struct knit_decoded *key)
{
    size_t len;
    const void *bytes;

    if (knit_decoder_type(key) != KNIT_DECODED_STR)
        return NULL;
    bytes = knit_decoder_bytes(key, &len, NULL);
    return len == 0 ? strdup("") : memchr(bytes, '\0', len) == NULL ? strndup(bytes, len) : NULL;
}

/* A JSON object, unless a key is no str, stands there twice, or would make it a special form. */
static struct json_object *write_map(struct knit_decoder *decoder, const struct knit_decoded *value)
{
    struct json_object *object = checked(json_object_new_object());
    uint32_t count = knit_decoder_count(value);

    for (uint32_t i = 0; i < count && object != failed; i++) {
        char *key = plain_key(knit_decoder_key(value, i));
        struct json_object *content;

        if (key == NULL || (count == 1 && key[0] == '$') ||
            json_object_object_get_ex(object, key, NULL)) {
            free(key);
            drop(object);
            return write_map_pairs(decoder, value);
        }
        content = write_value(decoder, knit_decoder_at(value, i));
        if (content == failed || json_object_object_add(object, key, content) != 0) {
            drop(content);
            object = drop(object);
        }
        free(key);
    }
    return object;
}

static struct json_object *write_element(const uint8_t *bytes, const struct knit_json_element *type)
{
    uint64_t bits = 0;
    unsigned unused = 64 - 8u * type->size;
    float single;
    double real;

    memcpy(&bits, bytes, type->size);
    if (type->kind == KNIT_JSON_UNSIGNED)
        return checked(json_object_new_uint64(bits));
    if (type->kind == KNIT_JSON_SIGNED)
        return checked(json_object_new_int64((int64_t)(bits << unused) >> unused));
    if (type->size == sizeof(single)) {
        memcpy(&single, bytes, sizeof(single));
        return write_real(single);
    }
    memcpy(&real, bytes, sizeof(real));
    return write_real(real);
}

static struct json_object *write_typed(const uint8_t *body, size_t len)
{
    struct json_object *array;
    struct knit_span elements;
    uint8_t code, size;

    if (!knit_check_typed(body, len, &code, &size, &elements))
        return failed;
    array = checked(json_object_new_array());
    for (size_t at = 0; at < elements.len && array != failed; at += size)
        array = add(array, write_element(elements.bytes + at, &knit_json_elements[code]));
    return wrap(knit_json_elements[code].key, array);
}

/* The array of alternating keys and values in an ext 35. */
static struct json_object *write_pairs(
    struct knit_decoder *decoder, const struct knit_decoded *content)
{
    struct json_object *array = checked(json_object_new_array());

    for (uint32_t i = 0; i + 1 < knit_decoder_count(content) && array != failed; i += 2)
        array = add(array,
            write_pair(decoder, knit_decoder_at(content, i), knit_decoder_at(content, i + 1)));
    return wrap("$pairs", array);
}

static struct json_object *write_ext(struct knit_decoder *decoder, const struct knit_decoded *value)
{
    const struct knit_decoded *content = knit_decoder_open(decoder, value);
    struct json_object *array;
    struct knit_span rest;
    size_t len;
    int code;
    const uint8_t *body = knit_decoder_bytes(value, &len, &code);

    switch (code) {
    case KNIT_EXT_UNDEFINED:
        return wrap("$undefined", checked(json_object_new_boolean(1)));
    case KNIT_EXT_BIGINT:
        return wrap("$bigint", take_text(knit_bigint_write(body, len)));
    case KNIT_EXT_SET:
        return content != NULL ? wrap("$set", write_value(decoder, content)) : failed;
    case KNIT_EXT_PAIRS:
        return content != NULL ? write_pairs(decoder, content) : failed;
    case KNIT_EXT_TYPED:
        return write_typed(body, len);
    case KNIT_EXT_VIEW:
        return wrap("$view", base64(body, len));
    case KNIT_EXT_ERROR:
        return content != NULL ? wrap("$error", write_value(decoder, content)) : failed;
    case KNIT_EXT_SYMBOL:
        return wrap("$symbol", text(body, len));
    case KNIT_EXT_ENVELOPE:
        if (content == NULL)
            return failed;
        rest = knit_decoder_rest(value);
        array = add(checked(json_object_new_array()), write_value(decoder, content));
        return wrap("$envelope", add(array, base64(rest.bytes, rest.len)));
    default:
        array = add(checked(json_object_new_array()), checked(json_object_new_int(code)));
        return wrap("$ext", add(array, base64(body, len)));
    }
}

static struct json_object *write_value(
    struct knit_decoder *decoder, const struct knit_decoded *value)
{
    const void *bytes;
    size_t len;

    switch (knit_decoder_type(value)) {
    case KNIT_DECODED_NIL:
        return NULL;
    case KNIT_DECODED_BOOL:
        return checked(json_object_new_boolean(knit_decoder_bool(value)));
    case KNIT_DECODED_INT:
        return checked(json_object_new_int64(knit_decoder_int(value)));
    case KNIT_DECODED_UINT:
        return checked(json_object_new_uint64(knit_decoder_uint(value)));
    case KNIT_DECODED_FLOAT:
        return write_real(knit_decoder_float(value));
    case KNIT_DECODED_STR:
        bytes = knit_decoder_bytes(value, &len, NULL);
        return text(bytes, len);
    case KNIT_DECODED_BIN:
        bytes = knit_decoder_bytes(value, &len, NULL);
        return wrap("$bin", base64(bytes, len));
    case KNIT_DECODED_ARRAY:
        return write_array(decoder, value);
    case KNIT_DECODED_MAP:
        return write_map(decoder, value);
    case KNIT_DECODED_TIME:
        return write_time(value);
    case KNIT_DECODED_EXT:
        return write_ext(decoder, value);
    }
    return failed;
}

int knit_json_write(struct knit_span value, bool is_indented, char **ret_text)
{
    struct knit_decoder *decoder;
    const struct knit_decoded *root;
    struct json_object *object = failed;
    const char *written;
    int flags =
        JSON_C_TO_STRING_NOSLASHESCAPE |
        (is_indented ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED : JSON_C_TO_STRING_PLAIN);
    char *copy = NULL;

    if (knit_check_value(value.bytes, value.len, KNIT_DEPTH_MAX, NULL) != 0)
        return KNIT_JSON_E_BAD;
    decoder = knit_decoder_new();
    root = decoder != NULL ? knit_decoder_read(decoder, value.bytes, value.len) : NULL;
    if (root != NULL)
        object = write_value(decoder, root);
    if (object != failed) {
        written = object != NULL ? json_object_to_json_string_ext(object, flags) : "null";
        copy = written != NULL ? strdup(written) : NULL;
        json_object_put(object);
    }
    knit_decoder_free(decoder);
    if (copy == NULL)
        return -ENOMEM;
    *ret_text = copy;
    return 0;
}
