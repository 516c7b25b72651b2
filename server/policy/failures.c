/* SPDX-License-Identifier: Apache-2.0 */
/* All entries stand in the order in which they failed last; those that nobody has, at its end. */
#include "server/policy/failures.h"

#include <stddef.h>
#include <stdlib.h>
#include <sys/queue.h>

enum { BUCKETS = 1024 };

static const uint64_t second_ns = 1000000000;

struct entry {
    uint64_t address;
    uint64_t second_ns; /* when the second began in which `answers` were given */
    uint64_t line_ns;   /* when it had its last line; 0 = it had none */
    uint64_t count;     /* since then */
    uint32_t answers;
    bool is_used;
    TAILQ_ENTRY(entry) in_order;
    LIST_ENTRY(entry) in_bucket;
};

struct knit_failures_table {
    TAILQ_HEAD(order_head, entry) order; /* the latest first */
    LIST_HEAD(, entry) buckets[BUCKETS];
    struct entry entries[KNIT_FAILURES_ADDRESSES];
};

static size_t bucket_of(uint64_t address)
{
    return (address * UINT64_C(0x9e3779b97f4a7c15)) >> 54;
}

static struct knit_failures_table *new_table(void)
{
    struct knit_failures_table *table = calloc(1, sizeof(*table));

    if (table == NULL)
        return NULL;
    TAILQ_INIT(&table->order);
    for (size_t i = 0; i < KNIT_FAILURES_ADDRESSES; i++)
        TAILQ_INSERT_TAIL(&table->order, &table->entries[i], in_order);
    return table;
}

void knit_failures_fini(struct knit_failures *failures)
{
    free(failures->table);
    failures->table = NULL;
}

static struct entry *take_entry(struct knit_failures_table *table, uint64_t address)
{
    size_t bucket = bucket_of(address);
    struct entry *entry;

    LIST_FOREACH(entry, &table->buckets[bucket], in_bucket)
    if (entry->address == address)
        break;
    if (entry == NULL) {
        entry = TAILQ_LAST(&table->order, order_head);
        if (entry->is_used)
            LIST_REMOVE(entry, in_bucket);
        entry->address = address;
        entry->second_ns = entry->line_ns = entry->count = entry->answers = 0;
        entry->is_used = true;
        LIST_INSERT_HEAD(&table->buckets[bucket], entry, in_bucket);
    }
    TAILQ_REMOVE(&table->order, entry, in_order);
    TAILQ_INSERT_HEAD(&table->order, entry, in_order);
    return entry;
}

struct knit_failures_verdict knit_failures_note(
    struct knit_failures *failures, uint64_t address, uint64_t now_ns)
{
    struct knit_failures_verdict verdict = {.count = 1};
    struct entry *entry;

    if (failures->table == NULL)
        failures->table = new_table();
    if (failures->table == NULL)
        return verdict;
    entry = take_entry(failures->table, address);
    if (entry->second_ns == 0 || now_ns - entry->second_ns >= second_ns) {
        entry->second_ns = now_ns;
        entry->answers = 0;
    }
    verdict.may_answer = entry->answers < KNIT_FAILURES_ANSWERS;
    entry->answers += verdict.may_answer;
    verdict.count = ++entry->count;
    verdict.may_log =
        entry->line_ns == 0 || now_ns - entry->line_ns >= KNIT_FAILURES_LINE_S * second_ns;
    if (verdict.may_log) {
        entry->line_ns = now_ns;
        entry->count = 0;
    }
    return verdict;
}
