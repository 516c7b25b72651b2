/* SPDX-License-Identifier: Apache-2.0 */
/* The list is the daemon's own and bounded, and so are the rows. Of calls it is said how many have
 * none; of callers the first ones are shown. */
#include "server/admin/page_calls.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "proto/walk.h"
#include "server/admin/text.h"

#define UNKNOWN "\342\200\223"

enum { ROWS_MAX = 200 };

struct caller {
    struct knit_span name;
    uint64_t connections, running, queued, waiting, age_ms;
};

struct callers {
    struct caller rows[ROWS_MAX];
    uint32_t count;
};

/* ---- the list ------------------------------------------------------------------------------- */

/* That of the key; nothing, if there is none. */
static struct knit_walk walk_of(struct knit_span calls, const char *key)
{
    struct knit_walk walk = {.left = 0};
    struct knit_item item;

    if (calls.len == 0 || knit_walk_find(calls, key, &item) != 0 ||
        knit_walk_array(&walk, item.raw) != 0)
        walk = (struct knit_walk){.left = 0};
    return walk;
}

static bool next(struct knit_walk *walk, struct knit_span *ret_row)
{
    struct knit_item item;

    if (walk->left == 0 || knit_walk_next(walk, &item) != 0)
        return false;
    *ret_row = item.raw;
    return true;
}

static struct knit_span text_of(struct knit_span map, const char *key)
{
    struct knit_span text = {NULL, 0};
    struct knit_item item;

    if (knit_walk_find(map, key, &item) == 0)
        (void)knit_item_text(&item, &text);
    return text;
}

static bool has_number(struct knit_span map, const char *key, uint64_t *ret_number)
{
    struct knit_item item;

    return map.len > 0 && knit_walk_find(map, key, &item) == 0 && knit_item_uint(&item, ret_number);
}

static uint64_t number_of(struct knit_span map, const char *key)
{
    uint64_t number = 0;

    (void)has_number(map, key, &number);
    return number;
}

/* ---- callers -------------------------------------------------------------------------------- */

/* NULL: there are as many as are shown. */
static struct caller *caller_of(struct callers *callers, struct knit_span row)
{
    const struct knit_span name = text_of(row, "principal");

    for (uint32_t i = 0; i < callers->count; i++)
        if (callers->rows[i].name.len == name.len &&
            memcmp(callers->rows[i].name.bytes, name.bytes, name.len) == 0)
            return &callers->rows[i];
    if (callers->count == ROWS_MAX)
        return NULL;
    callers->rows[callers->count] = (struct caller){.name = name};
    return &callers->rows[callers->count++];
}

static void age(struct caller *caller, uint64_t age_ms)
{
    if (age_ms > caller->age_ms)
        caller->age_ms = age_ms;
}

static void collect(struct callers *callers, struct knit_span calls)
{
    struct knit_walk walk = walk_of(calls, "callers");
    struct caller *caller;
    struct knit_span row;

    while (next(&walk, &row))
        if ((caller = caller_of(callers, row)) != NULL)
            caller->connections += number_of(row, "connections");
    walk = walk_of(calls, "calls");
    while (next(&walk, &row)) {
        if ((caller = caller_of(callers, row)) == NULL)
            continue;
        if (knit_span_is(text_of(row, "state"), "running"))
            caller->running++;
        else
            caller->queued++;
        age(caller, number_of(row, "age_ms"));
    }
    walk = walk_of(calls, "waiting");
    while (next(&walk, &row)) {
        if ((caller = caller_of(callers, row)) == NULL)
            continue;
        caller->waiting += number_of(row, "count");
        age(caller, number_of(row, "age_ms"));
    }
}

static int compare(const void *a, const void *b)
{
    const struct knit_span one = ((const struct caller *)a)->name;
    const struct knit_span other = ((const struct caller *)b)->name;
    int order = memcmp(one.bytes, other.bytes, one.len < other.len ? one.len : other.len);

    return order != 0 ? order : (one.len > other.len) - (one.len < other.len);
}

void knit_page_put_callers(struct knit_buffer *buffer, struct knit_span calls)
{
    struct callers callers = {.count = 0};

    collect(&callers, calls);
    qsort(callers.rows, callers.count, sizeof(callers.rows[0]), compare);
    for (uint32_t i = 0; i < callers.count; i++) {
        const struct caller *caller = &callers.rows[i];

        knit_text_put(buffer, "<tr><td>");
        knit_text_put_html(buffer, caller->name);
        knit_text_put(buffer,
            "</td><td>%" PRIu64 "</td><td>%" PRIu64 "</td><td>%" PRIu64 "</td><td>%" PRIu64
            "</td><td>",
            caller->connections, caller->running, caller->queued, caller->waiting);
        if (caller->age_ms > 0)
            knit_text_put(buffer, "%" PRIu64 "</td></tr>\n", caller->age_ms);
        else
            knit_text_put(buffer, UNKNOWN "</td></tr>\n");
    }
}

void knit_page_put_waiting(struct knit_buffer *buffer, struct knit_span calls)
{
    struct knit_walk walk = walk_of(calls, "waiting");
    struct knit_span row;
    uint64_t count = 0;

    while (next(&walk, &row))
        count += number_of(row, "count");
    knit_text_put(buffer, "%" PRIu64 " calls wait in their connections.", count);
}

/* ---- calls ---------------------------------------------------------------------------------- */

static void put_number(struct knit_buffer *buffer, struct knit_span row, const char *key)
{
    uint64_t number;

    if (has_number(row, key, &number))
        knit_text_put(buffer, "<td>%" PRIu64 "</td>", number);
    else
        knit_text_put(buffer, "<td>" UNKNOWN "</td>");
}

void knit_page_put_calls(struct knit_buffer *buffer, struct knit_span calls)
{
    static const char *const texts[] = {"task", "principal", "state"};
    struct knit_walk walk = walk_of(calls, "calls");
    struct knit_span row;

    for (uint32_t i = 0; i < ROWS_MAX && next(&walk, &row); i++) {
        knit_text_put(buffer, "<tr>");
        for (size_t k = 0; k < sizeof(texts) / sizeof(texts[0]); k++) {
            knit_text_put(buffer, "<td>");
            knit_text_put_html(buffer, text_of(row, texts[k]));
            knit_text_put(buffer, "</td>");
        }
        put_number(buffer, row, "worker");
        put_number(buffer, row, "age_ms");
        knit_text_put(buffer, "</tr>\n");
    }
}

void knit_page_put_left(struct knit_buffer *buffer, struct knit_span calls)
{
    const uint64_t rows = walk_of(calls, "calls").left;
    const uint64_t left = number_of(calls, "left_out") + (rows > ROWS_MAX ? rows - ROWS_MAX : 0);

    if (left > 0)
        knit_text_put(buffer, "And %" PRIu64 " more that run, or wait.", left);
    else
        knit_text_put(buffer, "Those that run, and wait in lanes.");
}
