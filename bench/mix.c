/* SPDX-License-Identifier: Apache-2.0 */
/* Params are encoded once; a call only stamps its number into them. */
#include "bench/mix.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "proto/buffer.h"
#include "proto/writer.h"

enum { BIN_MAX = 1 << 30, HEAD = 64 };

/* While it is measured, only so many bytes of a result are checked. */
enum { LOOK_AT = 64 };

struct parser {
    struct knit_mix *mix;
    const char *at;
};

static bool wrong(struct parser *parser, const char *flaw)
{
    parser->mix->flaw = flaw;
    return false;
}

/* ---- one task -------------------------------------------------------------------------------- */

/* False: out of memory. */
static bool put_body(struct knit_writer *writer, size_t len, bool is_text)
{
    uint8_t *text = is_text ? malloc(len + 1) : NULL;
    uint8_t *body = is_text ? text : knit_writer_bin_place(writer, len);

    for (size_t i = 0; body != NULL && i < len; i++)
        body[i] = is_text ? (uint8_t)('a' + i % 26) : (uint8_t)(i * 7 + i / 251);
    if (text != NULL)
        knit_writer_str(writer, (const char *)text, len);
    free(text);
    return body != NULL;
}

static bool encode(struct parser *parser, struct knit_mix_task *task, const int64_t *ints,
    uint32_t count, int64_t bytes)
{
    bool ok = true;
    struct knit_buffer buffer;
    struct knit_writer writer;
    knit_buffer_init(&buffer, (size_t)(bytes > 0 ? bytes : 0) + HEAD + 9 * (size_t)count);
    knit_writer_init(&writer, &buffer);
    knit_writer_array(&writer, bytes >= 0 ? 1 : count);
    for (uint32_t i = 0; i < count; i++)
        knit_writer_int(&writer, ints[i]);
    if (bytes >= 0)
        ok = put_body(&writer, (size_t)bytes, task->is_text);
    if (knit_writer_end(&writer) != 0 || !ok) {
        knit_buffer_fini(&buffer);
        return wrong(parser, "out of memory for an argument");
    }
    task->params = buffer.bytes; /* owned by the task now */
    task->len = buffer.len;
    task->body = bytes >= 0 ? buffer.len - (size_t)bytes : 0;
    task->echoes = bytes >= 0 && strcmp(task->name, "echo") == 0;
    return true;
}

static bool read_int(struct parser *parser, int64_t *ret)
{
    char *end;
    *ret = strtoll(parser->at, &end, 10);
    if (end == parser->at)
        return wrong(parser, "a number is missing");
    parser->at = end;
    return true;
}

static bool read_ints(struct parser *parser, int64_t *ints, uint32_t *ret_count)
{
    uint32_t count = 0;
    parser->at++;
    while (*parser->at != ')') {
        if (count == 8)
            return wrong(parser, "more than 8 integers");
        if (!read_int(parser, &ints[count++]))
            return false;
        if (*parser->at == ',')
            parser->at++;
        else if (*parser->at != ')')
            return wrong(parser, "')' is missing");
    }
    parser->at++;
    *ret_count = count;
    return true;
}

static bool read_task(struct parser *parser, uint64_t *weights)
{
    struct knit_mix_task *task = &parser->mix->tasks[parser->mix->count];
    int64_t bytes = -1, weight = 1, ints[8];
    uint32_t count = 0;
    size_t len = strcspn(parser->at, ":(*,");
    if (len == 0 || len > KNIT_MIX_NAME_MAX)
        return wrong(parser, "a task's name is missing or too long");
    memcpy(task->name, parser->at, len);
    parser->at += len;
    if (*parser->at == ':') {
        parser->at++;
        if (!read_int(parser, &bytes))
            return false;
        if (bytes < 0 || bytes > BIN_MAX)
            return wrong(parser, "bytes out of range (0 to 1 GiB)");
        task->is_text = *parser->at == 't';
        parser->at += task->is_text;
    } else if (*parser->at == '(' && !read_ints(parser, ints, &count)) {
        return false;
    }
    if (*parser->at == '*') {
        parser->at++;
        if (!read_int(parser, &weight))
            return false;
        if (weight < 1 || weight > 1000000)
            return wrong(parser, "weight out of range (1 to 1000000)");
    }
    *weights += (uint64_t)weight;
    task->until = *weights;
    parser->mix->count++;
    return encode(parser, task, ints, count, bytes);
}

bool knit_mix_init(struct knit_mix *mix, const char *text)
{
    struct parser parser = {.mix = mix, .at = text};
    uint64_t weights = 0;
    memset(mix, 0, sizeof(*mix));
    for (;;) {
        if (mix->count == KNIT_MIX_TASKS_MAX)
            return wrong(&parser, "more than 16 tasks");
        if (!read_task(&parser, &weights))
            return false;
        if (*parser.at == '\0')
            return true;
        if (*parser.at++ != ',')
            return wrong(&parser, "',' or the end was expected");
    }
}

void knit_mix_fini(struct knit_mix *mix)
{
    for (uint32_t i = 0; i < mix->count; i++)
        free(mix->tasks[i].params);
    mix->count = 0;
}

/* ---- calls ----------------------------------------------------------------------------------- */

bool knit_mix_argument_init(
    struct knit_mix_argument *argument, const struct knit_mix *mix, uint64_t seed)
{
    memset(argument, 0, sizeof(*argument));
    argument->mix = mix;
    argument->random = seed * 2 + 1;
    for (uint32_t i = 0; i < mix->count; i++) {
        argument->params[i] = malloc(mix->tasks[i].len);
        if (argument->params[i] == NULL)
            return false;
        memcpy(argument->params[i], mix->tasks[i].params, mix->tasks[i].len);
    }
    return true;
}

void knit_mix_argument_fini(struct knit_mix_argument *argument)
{
    for (uint32_t i = 0; i < KNIT_MIX_TASKS_MAX; i++) {
        free(argument->params[i]);
        argument->params[i] = NULL;
    }
}

uint32_t knit_mix_choose(struct knit_mix_argument *argument)
{
    const struct knit_mix *mix = argument->mix;
    uint32_t task = 0;
    uint64_t point;
    if (mix->count == 1)
        return 0;
    /* xorshift64: Marsaglia, Xorshift RNGs, 2003 */
    argument->random ^= argument->random << 13;
    argument->random ^= argument->random >> 7;
    argument->random ^= argument->random << 17;
    point = argument->random % mix->tasks[mix->count - 1].until;
    while (point >= mix->tasks[task].until)
        task++;
    return task;
}

static bool is_stamped(const struct knit_mix_task *task)
{
    return task->body != 0 && task->len - task->body >= sizeof(uint64_t);
}

static uint64_t stamp_of(const struct knit_mix_task *task, uint64_t number)
{
    uint64_t letters = 0;
    if (!task->is_text)
        return number;
    for (int i = 0; i < 8; i++)
        letters = letters << 8 | (uint64_t)('a' + (number >> 4 * i & 15));
    return letters;
}

const void *knit_mix_params(
    struct knit_mix_argument *argument, uint32_t task, uint64_t number, size_t *ret_len)
{
    const struct knit_mix_task *at = &argument->mix->tasks[task];
    uint64_t stamp = stamp_of(at, number);
    if (is_stamped(at))
        memcpy(argument->params[task] + at->body, &stamp, sizeof(stamp));
    *ret_len = at->len;
    return argument->params[task];
}

bool knit_mix_check(const struct knit_mix_argument *argument, uint32_t task, uint64_t number,
    const void *result, size_t len, bool whole)
{
    const struct knit_mix_task *at = &argument->mix->tasks[task];
    const uint8_t *bytes = result;
    uint64_t stamp = stamp_of(at, number);
    size_t head, from, look;
    if (!at->echoes)
        return len > 0;
    /* The argument is the array's only element, one byte after its head. */
    if (len != at->len - 1)
        return false;
    head = at->body - 1;
    from = head;
    if (memcmp(bytes, at->params + 1, head) != 0)
        return false;
    if (is_stamped(at)) {
        if (memcmp(bytes + head, &stamp, sizeof(stamp)) != 0)
            return false;
        from += sizeof(stamp);
    }
    look = whole || len - from < LOOK_AT ? len - from : LOOK_AT;
    return memcmp(bytes + from, at->params + 1 + from, look) == 0;
}
