/* SPDX-License-Identifier: Apache-2.0 */
/* One table gives each option's name, its member and its rule. */
#include "proto/options.h"

#include <string.h>

#include "proto/head.h"
#include "proto/limits.h"
#include "proto/text.h"
#include "proto/walk.h"
#include "proto/writer.h"

enum rule { TIMEOUT, TIME, UINT, BOOL, PRIORITY, KEY, TEXT, AFFINITY };

static const struct option {
    const char *name;
    enum rule rule;
    size_t offset;
    const char *reason;
} table[] = {
    {"timeout", TIMEOUT, offsetof(struct knit_options, timeout_ns),
        "option timeout must be a number of milliseconds, or a map"},
    {"queue", TIME, offsetof(struct knit_options, queue_ns),
        "option queue must be a number of milliseconds"},
    {"queue_max", UINT, offsetof(struct knit_options, queue_max),
        "option queue_max must be an unsigned number"},
    {"progress", BOOL, offsetof(struct knit_options, progress), "option progress must be a bool"},
    {"output", BOOL, offsetof(struct knit_options, output), "option output must be a bool"},
    {"keep", UINT, offsetof(struct knit_options, keep), "option keep must be an unsigned number"},
    {"key", KEY, offsetof(struct knit_options, key),
        "option key must be a str or bin of 1 to 64 bytes"},
    {"priority", PRIORITY, offsetof(struct knit_options, priority),
        "option priority must be 0, 1 or 2"},
    {"affinity", AFFINITY, offsetof(struct knit_options, affinity),
        "option affinity must be an unsigned number or a str"},
    {"trace", TEXT, offsetof(struct knit_options, trace), "option trace must be a str"},
    {"epoch", UINT, offsetof(struct knit_options, epoch),
        "option epoch must be an unsigned number"},
};

enum { OPTIONS = sizeof(table) / sizeof(table[0]) };

const struct knit_options knit_options_default = {
    .timeout_ns = KNIT_OPTION_NONE,
    .queue_ns = KNIT_OPTION_NONE,
    .queue_max = KNIT_OPTION_NONE,
    .priority = KNIT_PRIORITY_NORMAL,
    .affinity = KNIT_OPTION_NONE,
    .epoch = KNIT_OPTION_NONE,
};

uint64_t knit_options_ns(double ms)
{
    double ns = ms * 1e6;
    uint64_t whole;

    /* NaN fails both comparisons. 2^64 is the first double that does not fit. */
    if (!(ns >= 0) || !(ns < 18446744073709551616.0))
        return KNIT_OPTION_NONE;
    whole = (uint64_t)ns;
    return (double)whole < ns ? whole + 1 : whole;
}

/* FNV-1a, except that KNIT_OPTION_NONE becomes 0. Equal texts must give equal numbers on every
 * machine and in every release. */
static uint64_t hash(struct knit_span text)
{
    uint64_t number = 0xcbf29ce484222325u;
    size_t i;

    for (i = 0; i < text.len; i++)
        number = (number ^ text.bytes[i]) * 0x100000001b3u;
    return number == KNIT_OPTION_NONE ? 0 : number;
}

static bool read_time(const struct knit_item *item, uint64_t *ret_ns)
{
    double ms;

    if (!knit_head_as_float(&item->head, &ms))
        return false;
    *ret_ns = knit_options_ns(ms);
    return true;
}

static bool read_affinity(const struct knit_item *item, uint64_t *ret_affinity)
{
    if (item->head.type == KNIT_HEAD_STR) {
        *ret_affinity = hash(item->body);
        return true;
    }
    if (!knit_item_uint(item, ret_affinity))
        return false;
    if (*ret_affinity == KNIT_OPTION_NONE)
        *ret_affinity = 0;
    return true;
}

static bool read_key(const struct knit_item *item, struct knit_span *ret_key)
{
    if (item->head.type != KNIT_HEAD_STR && item->head.type != KNIT_HEAD_BIN)
        return false;
    *ret_key = item->body;
    return item->body.len > 0 && item->body.len <= KNIT_KEY_BYTES_MAX;
}

/* A number, or a map of what the caller gets then. *reason: what is wrong, if more can be said. */
static bool read_timeout(
    const struct knit_item *item, struct knit_options *options, const char **reason)
{
    if (item->head.type != KNIT_HEAD_MAP)
        return read_time(item, &options->timeout_ns);
    return knit_substitute_decode(item->raw, &options->substitute, &options->timeout_ns, reason) ==
           0;
}

/* *reason: as with read_timeout(). */
static bool read_option(const struct option *option, const struct knit_item *item,
    struct knit_options *options, const char **reason)
{
    void *member = (char *)options + option->offset;

    switch (option->rule) {
    case TIMEOUT:
        return read_timeout(item, options, reason);
    case TIME:
        return read_time(item, member);
    case UINT:
        return knit_item_uint(item, member);
    case BOOL:
        return knit_item_bool(item, member);
    case PRIORITY:
        options->priority = (uint8_t)item->head.value;
        return item->head.type == KNIT_HEAD_UINT && item->head.value <= KNIT_PRIORITY_MAX;
    case KEY:
        return read_key(item, member);
    case AFFINITY:
        return read_affinity(item, member);
    case TEXT:
        return knit_item_text(item, member) && knit_text_is_utf8(item->body.bytes, item->body.len);
    }
    return false;
}

static const struct option *find(struct knit_span name)
{
    unsigned i;

    for (i = 0; i < OPTIONS; i++) {
        if (knit_span_is(name, table[i].name))
            return &table[i];
    }
    return NULL;
}

int knit_options_decode(
    struct knit_span map, struct knit_options *ret_options, const char **ret_reason)
{
    struct knit_options options = knit_options();
    const struct option *option;
    const char *reason;
    struct knit_walk walk;
    struct knit_item item;
    int r;

    if (map.bytes == NULL) {
        *ret_options = options;
        return 0;
    }
    r = knit_walk_map(&walk, map);
    while (r == 0) {
        r = knit_walk_next(&walk, &item);
        if (r)
            break;
        option = find(item.key);
        if (option == NULL || item.head.type == KNIT_HEAD_NIL)
            continue;
        reason = option->reason;
        if (!read_option(option, &item, &options, &reason)) {
            *ret_reason = reason;
            return KNIT_OPTIONS_E_BAD;
        }
    }
    if (r != KNIT_WALK_E_END) {
        *ret_reason = "options must be a map";
        return KNIT_OPTIONS_E_BAD;
    }
    *ret_options = options;
    return 0;
}

uint64_t knit_options_timeout_alone(struct knit_span map)
{
    static const uint8_t front[] = {0x81, 0xa7, 't', 'i', 'm', 'e', 'o', 'u', 't'};
    struct knit_head head;
    double ms;

    if (map.len <= sizeof(front) || !knit_span_is_same(map.bytes, front, sizeof(front)) ||
        knit_head_read(map.bytes + sizeof(front), map.len - sizeof(front), &head) != 0 ||
        head.size != map.len - sizeof(front))
        return KNIT_OPTION_NONE;
    if (head.type == KNIT_HEAD_UINT && head.value <= UINT32_MAX)
        return head.value * UINT64_C(1000000);
    return knit_head_as_float(&head, &ms) ? knit_options_ns(ms) : KNIT_OPTION_NONE;
}

static bool has_timeout(const struct knit_options *options)
{
    return options->timeout_ns != KNIT_OPTION_NONE ||
           options->substitute.kind != KNIT_SUBSTITUTE_NONE;
}

static uint32_t count_set(const struct knit_options *options)
{
    return has_timeout(options) + (options->queue_ns != KNIT_OPTION_NONE) +
           (options->queue_max != KNIT_OPTION_NONE) + options->progress + options->output +
           (options->keep != 0) + (options->key.bytes != NULL) +
           (options->priority != KNIT_PRIORITY_NORMAL) + (options->affinity != KNIT_OPTION_NONE) +
           (options->trace.bytes != NULL) + (options->epoch != KNIT_OPTION_NONE);
}

bool knit_options_is_empty(const struct knit_options *options)
{
    return count_set(options) == 0;
}

void knit_options_put_time(struct knit_writer *writer, uint64_t ns)
{
    if (ns % 1000000 == 0)
        knit_writer_uint(writer, ns / 1000000);
    else
        knit_writer_float(writer, (double)ns / 1e6);
}

static void put_time(struct knit_writer *writer, const char *name, uint64_t ns)
{
    if (ns == KNIT_OPTION_NONE)
        return;
    knit_writer_text(writer, name);
    knit_options_put_time(writer, ns);
}

static void put_timeout(struct knit_writer *writer, const struct knit_options *options)
{
    if (options->substitute.kind == KNIT_SUBSTITUTE_NONE) {
        put_time(writer, "timeout", options->timeout_ns);
        return;
    }
    knit_writer_text(writer, "timeout");
    knit_substitute_write(writer, &options->substitute, options->timeout_ns);
}

static void put_uint(struct knit_writer *writer, const char *name, uint64_t value, uint64_t none)
{
    if (value == none)
        return;
    knit_writer_text(writer, name);
    knit_writer_uint(writer, value);
}

int knit_options_put(struct knit_buffer *buffer, const struct knit_options *options)
{
    struct knit_writer writer;

    knit_writer_init(&writer, buffer);
    knit_writer_map(&writer, count_set(options));
    put_timeout(&writer, options);
    put_time(&writer, "queue", options->queue_ns);
    put_uint(&writer, "queue_max", options->queue_max, KNIT_OPTION_NONE);
    if (options->progress) {
        knit_writer_text(&writer, "progress");
        knit_writer_bool(&writer, true);
    }
    if (options->output) {
        knit_writer_text(&writer, "output");
        knit_writer_bool(&writer, true);
    }
    put_uint(&writer, "keep", options->keep, 0);
    if (options->key.bytes != NULL) {
        knit_writer_text(&writer, "key");
        knit_writer_bin(&writer, options->key.bytes, options->key.len);
    }
    put_uint(&writer, "priority", options->priority, KNIT_PRIORITY_NORMAL);
    put_uint(&writer, "affinity", options->affinity, KNIT_OPTION_NONE);
    if (options->trace.bytes != NULL) {
        knit_writer_text(&writer, "trace");
        knit_writer_str(&writer, (const char *)options->trace.bytes, options->trace.len);
    }
    put_uint(&writer, "epoch", options->epoch, KNIT_OPTION_NONE);
    return knit_writer_commit(&writer);
}
