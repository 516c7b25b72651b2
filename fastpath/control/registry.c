/* SPDX-License-Identifier: Apache-2.0 */
/* One array in the order of ids, and one open-addressed hash table of ids for the names. Tasks are
 * never removed, so a probe ends at the first empty entry, and there are no tombstones.
 *
 * The announcement is a head, then for each task a record and its texts, in the byte order of the
 * machine, which it does not leave. Registries are compared by these bytes, so they contain neither
 * addresses nor padding.
 */
#include "fastpath/control/registry.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/limits.h"
#include "proto/nearest.h"
#include "proto/substitute.h"
#include "proto/text.h"

#define ANNOUNCE_MAGIC   0x6765724bu /* "Kreg" */
#define ANNOUNCE_VERSION 2u
#define NO_ID            UINT32_MAX

struct announce_head {
    uint32_t magic;
    uint32_t version;
    uint32_t epoch;
    uint32_t count;
};

struct announce_task {
    uint32_t timeout_ms;
    uint32_t hard_timeout_ms;
    uint32_t flags;
    uint32_t module;
    uint32_t signature_len;
    uint32_t doc_len;
    uint32_t on_timeout_len;
};

static_assert(sizeof(struct announce_head) == 16 && sizeof(struct announce_task) == 28,
    "no padding: announcements are compared byte for byte");

struct knit_registry {
    uint32_t epoch;
    uint32_t count;
    uint32_t capacity;
    uint32_t table_size; /* a power of two, more than twice count */
    struct knit_registry_task *tasks;
    uint32_t *table; /* ids, or NO_ID */
};

/* FNV-1a: names are short, and only modules of the operator choose them. */
static uint32_t hash_name(const char *name, size_t len)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)name[i]) * 16777619u;
    return hash;
}

/* The entry of the name, or the empty one where it would be added. */
static uint32_t find_entry(const struct knit_registry *registry, const char *name, size_t len)
{
    uint32_t entry = hash_name(name, len) & (registry->table_size - 1);

    for (;; entry = (entry + 1) & (registry->table_size - 1)) {
        uint32_t id = registry->table[entry];

        if (id == NO_ID)
            return entry;
        if (registry->tasks[id].name_len == len && memcmp(registry->tasks[id].name, name, len) == 0)
            return entry;
    }
}

static int grow(struct knit_registry *registry)
{
    uint32_t capacity = registry->capacity != 0 ? registry->capacity * 2 : 16;
    uint32_t table_size = capacity * 4;
    struct knit_registry_task *tasks;
    uint32_t *table = malloc(table_size * sizeof(*table));

    if (table == NULL)
        return -ENOMEM;
    tasks = realloc(registry->tasks, capacity * sizeof(*tasks));
    if (tasks == NULL) {
        free(table);
        return -ENOMEM;
    }
    free(registry->table);
    memset(table, 0xff, table_size * sizeof(*table));
    registry->tasks = tasks;
    registry->table = table;
    registry->capacity = capacity;
    registry->table_size = table_size;
    for (uint32_t id = 0; id < registry->count; id++)
        if (tasks[id].name != NULL)
            table[find_entry(registry, tasks[id].name, tasks[id].name_len)] = id;
    return 0;
}

struct knit_registry *knit_registry_new(uint32_t epoch)
{
    struct knit_registry *registry = calloc(1, sizeof(*registry));

    if (registry == NULL)
        return NULL;
    registry->epoch = epoch;
    if (grow(registry) != 0)
        return knit_registry_free(registry);
    return registry;
}

struct knit_registry *knit_registry_free(struct knit_registry *registry)
{
    if (registry == NULL)
        return NULL;
    for (uint32_t id = 0; id < registry->count; id++) {
        knit_signature_free((struct knit_signature *)registry->tasks[id].signature);
        free((char *)registry->tasks[id].doc);
        free((uint8_t *)registry->tasks[id].on_timeout.bytes);
    }
    free(registry->tasks);
    free(registry->table);
    free(registry);
    return NULL;
}

static int copy_span(struct knit_span span, struct knit_span *ret)
{
    uint8_t *bytes = NULL;

    if (span.bytes != NULL) {
        bytes = malloc(span.len);
        if (bytes == NULL)
            return -ENOMEM;
        memcpy(bytes, span.bytes, span.len);
    }
    *ret = knit_span(bytes, span.len);
    return 0;
}

int knit_registry_add(struct knit_registry *registry, const struct knit_registry_task *task,
    struct knit_signature *signature)
{
    const char *name = knit_signature_name(signature);
    size_t name_len = strlen(name);
    const char *doc = task->doc != NULL ? task->doc : "";
    size_t doc_len = knit_text_cut(doc, strlen(doc), KNIT_REGISTRY_DOC_BYTES_MAX);
    uint32_t entry = find_entry(registry, name, name_len);
    struct knit_span on_timeout;
    char *doc_copy;

    if (registry->table[entry] != NO_ID)
        return KNIT_REGISTRY_E_DUPLICATE;
    if (registry->count == KNIT_REGISTRY_TASKS_MAX)
        return KNIT_REGISTRY_E_FULL;
    if (registry->count == registry->capacity) {
        int error = grow(registry);

        if (error != 0)
            return error;
        entry = find_entry(registry, name, name_len);
    }
    doc_copy = strndup(doc, doc_len);
    if (doc_copy == NULL || copy_span(task->on_timeout, &on_timeout) != 0) {
        free(doc_copy);
        return -ENOMEM;
    }
    registry->tasks[registry->count] = (struct knit_registry_task){
        .id = registry->count,
        .name = name,
        .name_len = name_len,
        .signature = signature,
        .doc = doc_copy,
        .timeout_ms = task->timeout_ms,
        .hard_timeout_ms = task->hard_timeout_ms,
        .on_timeout = on_timeout,
        .flags = task->flags,
        .module = task->module,
    };
    knit_precheck_init(&registry->tasks[registry->count].precheck, signature);
    registry->table[entry] = registry->count++;
    return 0;
}

int knit_registry_skip(struct knit_registry *registry, uint32_t id)
{
    if (id < registry->count || id >= KNIT_REGISTRY_TASKS_MAX)
        return KNIT_REGISTRY_E_FULL;
    while (registry->count < id) {
        int error = registry->count == registry->capacity ? grow(registry) : 0;

        if (error != 0)
            return error;
        registry->tasks[registry->count++] = (struct knit_registry_task){0};
    }
    return 0;
}

/* ---- announcements ---- */

int knit_registry_put(const struct knit_registry *registry, struct knit_buffer *buffer)
{
    struct announce_head head = {
        ANNOUNCE_MAGIC, ANNOUNCE_VERSION, registry->epoch, registry->count};

    (void)knit_buffer_append(buffer, &head, sizeof(head));
    for (uint32_t id = 0; id < registry->count; id++) {
        const struct knit_registry_task *task = &registry->tasks[id];
        const char *text = knit_signature_text(task->signature);
        struct announce_task record = {
            .timeout_ms = task->timeout_ms,
            .hard_timeout_ms = task->hard_timeout_ms,
            .flags = task->flags,
            .module = task->module,
            .signature_len = (uint32_t)strlen(text),
            .doc_len = (uint32_t)strlen(task->doc),
            .on_timeout_len = (uint32_t)task->on_timeout.len,
        };

        (void)knit_buffer_append(buffer, &record, sizeof(record));
        (void)knit_buffer_append(buffer, text, record.signature_len);
        (void)knit_buffer_append(buffer, task->doc, record.doc_len);
        if (record.on_timeout_len != 0)
            (void)knit_buffer_append(buffer, task->on_timeout.bytes, record.on_timeout_len);
    }
    return buffer->error;
}

static bool read_bytes(struct knit_span *rest, void *ret, size_t len)
{
    if (rest->len < len)
        return false;
    memcpy(ret, rest->bytes, len);
    rest->bytes += len;
    rest->len -= len;
    return true;
}

/* Whether the next bytes are such a map, or there are none. */
static bool read_on_timeout(struct knit_span *rest, uint32_t len, struct knit_span *ret)
{
    struct knit_substitute substitute;
    const char *reason;

    *ret = knit_span(NULL, 0);
    if (len == 0)
        return true;
    if (len > rest->len || len > KNIT_REGISTRY_ON_TIMEOUT_MAX)
        return false;
    *ret = knit_span(rest->bytes, len);
    rest->bytes += len;
    rest->len -= len;
    return knit_substitute_decode(*ret, &substitute, NULL, &reason) == 0;
}

/* One record. The worker has checked the same, but it has run foreign code since. */
static int parse_task(struct knit_registry *registry, struct knit_span *rest)
{
    struct announce_task record;
    struct knit_registry_task task;
    struct knit_signature *signature;
    struct knit_span on_timeout;
    char doc[KNIT_REGISTRY_DOC_BYTES_MAX + 1];
    const char *text;
    int error;

    if (!read_bytes(rest, &record, sizeof(record)) ||
        record.doc_len > KNIT_REGISTRY_DOC_BYTES_MAX || record.signature_len > rest->len)
        return KNIT_REGISTRY_E_BAD;
    text = (const char *)rest->bytes;
    rest->bytes += record.signature_len;
    rest->len -= record.signature_len;
    if (!read_bytes(rest, doc, record.doc_len) || memchr(doc, '\0', record.doc_len) != NULL ||
        !knit_text_is_utf8(doc, record.doc_len))
        return KNIT_REGISTRY_E_BAD;
    doc[record.doc_len] = '\0';
    if (!read_on_timeout(rest, record.on_timeout_len, &on_timeout))
        return KNIT_REGISTRY_E_BAD;
    error = knit_signature_parse(text, record.signature_len, &signature, NULL);
    if (error != 0)
        return error < 0 ? error : KNIT_REGISTRY_E_BAD;
    task = (struct knit_registry_task){.doc = doc,
        .timeout_ms = record.timeout_ms,
        .hard_timeout_ms = record.hard_timeout_ms,
        .on_timeout = on_timeout,
        .flags = record.flags,
        .module = record.module};
    error = knit_registry_add(registry, &task, signature);
    if (error != 0)
        knit_signature_free(signature);
    return error;
}

int knit_registry_parse(struct knit_span bytes, struct knit_registry **ret_registry)
{
    struct announce_head head;
    struct knit_registry *registry;

    if (!read_bytes(&bytes, &head, sizeof(head)) || head.magic != ANNOUNCE_MAGIC ||
        head.version != ANNOUNCE_VERSION)
        return KNIT_REGISTRY_E_BAD;
    registry = knit_registry_new(head.epoch);
    if (registry == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < head.count; i++) {
        int error = parse_task(registry, &bytes);

        if (error != 0) {
            knit_registry_free(registry);
            return error;
        }
    }
    if (bytes.len != 0) {
        knit_registry_free(registry);
        return KNIT_REGISTRY_E_BAD;
    }
    *ret_registry = registry;
    return 0;
}

/* ---- look-ups ---- */

uint32_t knit_registry_epoch(const struct knit_registry *registry)
{
    return registry->epoch;
}

uint32_t knit_registry_count(const struct knit_registry *registry)
{
    return registry->count;
}

const struct knit_registry_task *knit_registry_at(const struct knit_registry *registry, uint32_t id)
{
    return id < registry->count && registry->tasks[id].name != NULL ? &registry->tasks[id] : NULL;
}

const struct knit_registry_task *knit_registry_find(
    const struct knit_registry *registry, const char *name, size_t len)
{
    uint32_t id;

    if (len == 0 || len > KNIT_NAME_BYTES_MAX)
        return NULL;
    id = registry->table[find_entry(registry, name, len)];
    return id != NO_ID ? &registry->tasks[id] : NULL;
}

const struct knit_registry_task *knit_registry_nearest(
    const struct knit_registry *registry, const char *name, size_t len)
{
    const struct knit_registry_task *found = NULL;
    struct knit_nearest nearest;

    knit_nearest_init(&nearest, name, len);
    for (uint32_t id = 0; id < registry->count && id < KNIT_REGISTRY_NEAREST_MAX; id++) {
        const struct knit_registry_task *task = &registry->tasks[id];

        if (task->name != NULL && knit_nearest_try(&nearest, task->name, task->name_len))
            found = task;
        if (nearest.below == 0)
            break;
    }
    return found;
}
