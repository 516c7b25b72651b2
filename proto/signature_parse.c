/* SPDX-License-Identifier: Apache-2.0 */
/* The parser of signatures: recursive descent over a grammar that has no recursion, so a row of
 * small functions.
 *
 * It collects into a structure as large as the largest signature, for the time of parsing; what was
 * collected is then packed into one allocation. The canonical text is written along the way, token
 * by token.
 */
#include "proto/signature_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/types.h"

enum {
    TYPES_MAX = KNIT_SIGNATURE_PARAMS_MAX + KNIT_SIGNATURE_RESULTS_MAX,
    TYPE_TEXT_MAX = 16, /* "undefined?..." is the longest */
    /* Spaces put in: one behind each colon and comma, two around the arrow. */
    CANONICAL_MAX = KNIT_SIGNATURE_BYTES_MAX + 2 * TYPES_MAX + 4,
};

struct parsed_type {
    struct knit_signature_type type;
    struct knit_span name;
    size_t text_len;
    char text[TYPE_TEXT_MAX];
};

struct parser {
    const char *text;
    size_t len;
    size_t at;
    bool is_call;     /* of a call: what PROTOCOL.md lets it leave out may be missing */
    const char *flaw; /* set = failed at `at` */
    struct knit_span name;
    uint32_t param_count;
    uint32_t result_count;
    bool has_rest;
    struct parsed_type type[TYPES_MAX];
    size_t canonical_len;
    char canonical[CANONICAL_MAX];
};

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool knit_signature_is_name(const char *name, size_t len)
{
    size_t i;

    if (len == 0 || len > KNIT_NAME_BYTES_MAX)
        return false;
    for (i = 0; i < len; i++) {
        if (!is_letter(name[i]) && !is_digit(name[i]) && memchr("_.-", name[i], 3) == NULL)
            return false;
    }
    return true;
}

static bool fail(struct parser *parser, const char *reason)
{
    parser->flaw = reason;
    return false;
}

static void skip_blanks(struct parser *parser)
{
    while (parser->at < parser->len &&
           (parser->text[parser->at] == ' ' || parser->text[parser->at] == '\t'))
        parser->at++;
}

static void emit(struct parser *parser, const char *text, size_t len)
{
    memcpy(parser->canonical + parser->canonical_len, text, len);
    parser->canonical_len += len;
}

/* Whether the token is next; if so, it is read. */
static bool take(struct parser *parser, const char *token)
{
    size_t len = strlen(token);

    skip_blanks(parser);
    if (parser->len - parser->at < len || memcmp(parser->text + parser->at, token, len) != 0)
        return false;
    parser->at += len;
    return true;
}

static bool is_next(struct parser *parser, const char *token)
{
    size_t at = parser->at;
    bool is_there = take(parser, token);

    parser->at = at;
    return is_there;
}

/* A run of letters, digits and what else is allowed. */
static struct knit_span take_name(struct parser *parser, const char *others)
{
    size_t start;

    skip_blanks(parser);
    start = parser->at;
    while (parser->at < parser->len) {
        char c = parser->text[parser->at];

        if (!is_letter(c) && !is_digit(c) && !(c && strchr(others, c) != NULL))
            break;
        parser->at++;
    }
    return knit_span(parser->text + start, parser->at - start);
}

static void add_text(struct parsed_type *type, const char *text)
{
    size_t len = strlen(text);

    memcpy(type->text + type->text_len, text, len);
    type->text_len += len;
}

static bool parse_type(struct parser *parser, struct parsed_type *ret_type)
{
    struct knit_span name = take_name(parser, "");
    bool is_typed_array = name.len > 0 && take(parser, "[]");
    const struct knit_type_row *row =
        knit_types_find((const char *)name.bytes, name.len, is_typed_array);

    if (row == NULL) {
        parser->at = (size_t)((const char *)name.bytes - parser->text);
        return fail(parser, name.len ? "unknown type" : "a type is missing");
    }
    ret_type->type = (struct knit_signature_type){
        .kind = row->kind, .code = row->code, .row = (uint8_t)(row - knit_types)};
    ret_type->text_len = 0;
    add_text(ret_type, row->name);
    if (take(parser, "?")) {
        ret_type->type.is_optional = true;
        add_text(ret_type, "?");
    }
    return true;
}

/* The name and the colon. In a call both may be missing: what stands there is the type then. */
static bool parse_param_name(struct parser *parser, struct parsed_type *param)
{
    size_t start = parser->at;
    uint32_t i;

    param->name = take_name(parser, "_");
    if (parser->is_call && !is_next(parser, ":")) {
        param->name = (struct knit_span){0};
        parser->at = start;
        return true;
    }
    if (param->name.len == 0)
        return fail(parser, "a parameter's name is missing");
    if (param->name.len > KNIT_PARAM_NAME_BYTES_MAX)
        return fail(parser, "a parameter's name is too long");
    if (is_digit((char)param->name.bytes[0]))
        return fail(parser, "a parameter's name begins with a letter or _");
    for (i = 0; i < parser->param_count; i++) {
        if (parser->type[i].name.len == param->name.len &&
            memcmp(parser->type[i].name.bytes, param->name.bytes, param->name.len) == 0)
            return fail(parser, "two parameters have the same name");
    }
    if (!take(parser, ":"))
        return fail(parser, "a colon and a type are missing behind a parameter's name");
    emit(parser, (const char *)param->name.bytes, param->name.len);
    emit(parser, ": ", 2);
    return true;
}

static bool parse_param(struct parser *parser)
{
    struct parsed_type *param = &parser->type[parser->param_count];

    if (parser->param_count == KNIT_SIGNATURE_PARAMS_MAX)
        return fail(parser, "more parameters than a signature may have");
    if (!parse_param_name(parser, param) || !parse_type(parser, param))
        return false;
    if (parser->is_call && is_next(parser, "..."))
        return fail(parser, "a call names each argument, without ...");
    if (take(parser, "...")) {
        parser->has_rest = true;
        add_text(param, "...");
    }
    emit(parser, param->text, param->text_len);
    parser->param_count++;
    return true;
}

static bool parse_params(struct parser *parser)
{
    if (take(parser, ")"))
        return true;
    for (;;) {
        if (!parse_param(parser))
            return false;
        if (take(parser, ")"))
            return true;
        if (parser->has_rest)
            return fail(parser, "only the last parameter may be repeated");
        if (!take(parser, ","))
            return fail(parser, "a comma or a closing parenthesis is missing");
        emit(parser, ", ", 2);
    }
}

static bool parse_result(struct parser *parser)
{
    struct parsed_type *result = &parser->type[parser->param_count + parser->result_count];

    if (parser->result_count == KNIT_SIGNATURE_RESULTS_MAX)
        return fail(parser, "more results than a signature may have");
    if (!parse_type(parser, result))
        return false;
    emit(parser, result->text, result->text_len);
    parser->result_count++;
    return true;
}

static bool parse_results(struct parser *parser)
{
    if (!take(parser, "("))
        return parse_result(parser);
    emit(parser, "(", 1);
    while (parse_result(parser)) {
        if (take(parser, ")")) {
            emit(parser, ")", 1);
            return parser->result_count > 1 ||
                   fail(parser, "one result stands without parentheses");
        }
        if (!take(parser, ","))
            return fail(parser, "a comma or a closing parenthesis is missing");
        emit(parser, ", ", 2);
    }
    return false;
}

static bool parse(struct parser *parser)
{
    if (parser->len > KNIT_SIGNATURE_BYTES_MAX)
        return fail(parser, "the signature is too long");
    parser->name = take_name(parser, "_.-");
    if (!(parser->is_call && parser->name.len == 0) &&
        !knit_signature_is_name((const char *)parser->name.bytes, parser->name.len))
        return fail(parser, "a task's name is 1 to 128 letters, digits, _, . or -");
    emit(parser, (const char *)parser->name.bytes, parser->name.len);
    if (!take(parser, "("))
        return fail(parser, "an opening parenthesis is missing behind the name");
    emit(parser, "(", 1);
    if (!parse_params(parser))
        return false;
    emit(parser, ")", 1);
    if (take(parser, "->")) {
        emit(parser, " -> ", 4);
        if (!parse_results(parser))
            return false;
    } else if (!parser->is_call || parser->at < parser->len) {
        return fail(parser, "an arrow -> and a result are missing");
    }
    skip_blanks(parser);
    return parser->at == parser->len || fail(parser, "there is text behind the result");
}

/* Copy a text behind the others, terminated; returns where it lies. */
static const char *put_text(char **at, const void *text, size_t len)
{
    char *start = *at;

    memcpy(start, text, len);
    start[len] = 0;
    *at = start + len + 1;
    return start;
}

static struct knit_signature *pack(const struct parser *parser)
{
    uint32_t i, count = parser->param_count + parser->result_count;
    struct knit_signature *signature;
    size_t size = sizeof(*signature) + count * sizeof(signature->type[0]);
    char *at;

    for (i = 0; i < count; i++)
        size += parser->type[i].name.len + 1 + parser->type[i].text_len + 1;
    size += parser->name.len + 1 + parser->canonical_len + 1;
    signature = calloc(1, size);
    if (signature == NULL)
        return NULL;
    signature->param_count = parser->param_count;
    signature->result_count = parser->result_count;
    signature->has_rest = parser->has_rest;
    at = (char *)&signature->type[count];
    for (i = 0; i < count; i++) {
        const struct parsed_type *from = &parser->type[i];

        signature->type[i] = from->type;
        if (from->name.bytes != NULL)
            signature->type[i].name = put_text(&at, from->name.bytes, from->name.len);
        signature->type[i].text = put_text(&at, from->text, from->text_len);
        if (i < parser->param_count && !from->type.is_optional &&
            !(parser->has_rest && i + 1 == parser->param_count))
            signature->required = i + 1;
    }
    signature->name = put_text(&at, parser->name.bytes, parser->name.len);
    signature->text = put_text(&at, parser->canonical, parser->canonical_len);
    return signature;
}

static int parse_text(const char *text, size_t len, bool is_call,
    struct knit_signature **ret_signature, struct knit_signature_flaw *ret_flaw)
{
    struct parser *parser = calloc(1, sizeof(*parser));
    struct knit_signature *signature = NULL;
    int r = 0;

    if (parser == NULL)
        return -ENOMEM;
    parser->text = text;
    parser->len = len;
    parser->is_call = is_call;
    if (parse(parser)) {
        signature = pack(parser);
        if (signature == NULL)
            r = -ENOMEM;
    } else {
        if (ret_flaw != NULL)
            *ret_flaw = (struct knit_signature_flaw){parser->at, parser->flaw};
        r = KNIT_SIGNATURE_E_SYNTAX;
    }
    free(parser);
    if (r == 0)
        *ret_signature = signature;
    return r;
}

int knit_signature_parse(const char *text, size_t len, struct knit_signature **ret_signature,
    struct knit_signature_flaw *ret_flaw)
{
    return parse_text(text, len, false, ret_signature, ret_flaw);
}

int knit_signature_parse_call(const char *text, size_t len, struct knit_signature **ret_signature,
    struct knit_signature_flaw *ret_flaw)
{
    return parse_text(text, len, true, ret_signature, ret_flaw);
}

struct knit_signature *knit_signature_free(struct knit_signature *signature)
{
    free(signature);
    return NULL;
}

const char *knit_signature_name(const struct knit_signature *signature)
{
    return signature->name;
}

const char *knit_signature_text(const struct knit_signature *signature)
{
    return signature->text;
}

uint32_t knit_signature_param_count(const struct knit_signature *signature)
{
    return signature->param_count;
}

uint32_t knit_signature_result_count(const struct knit_signature *signature)
{
    return signature->result_count;
}

const struct knit_type_row *knit_signature_type(
    const struct knit_signature *signature, uint32_t index, bool *ret_is_optional)
{
    if (index >= signature->param_count + signature->result_count)
        return NULL;
    *ret_is_optional = signature->type[index].is_optional;
    return &knit_types[signature->type[index].row];
}

const char *knit_signature_param_name(const struct knit_signature *signature, uint32_t index)
{
    return index < signature->param_count ? signature->type[index].name : NULL;
}

const char *knit_signature_param_type(const struct knit_signature *signature, uint32_t index)
{
    return index < signature->param_count ? signature->type[index].text : NULL;
}
