/* SPDX-License-Identifier: Apache-2.0 */
/* Cells are made from what the daemon says, and texts in it are others': what a terminal would obey
 * is escaped here, once, so that whoever shows a cell need not think of it. Columns of texts are
 * sorted by their texts, columns of numbers by the numbers that stand behind theirs.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "clients/tool/json.h"
#include "clients/tool/top.h"

static const struct knit_top_column call_columns[] = {{"CALL", false}, {"STATE", false},
    {"AGE", true}, {"WORKER", true}, {"PRINCIPAL", false}, {"TASK", false}};
static const struct knit_top_column worker_columns[] = {{"WORKER", true}, {"STATE", false},
    {"PID", true}, {"CALLS", true}, {"CALLS/S", true}, {"BUSY%", true}, {"STOLEN", true},
    {"PARKS", true}, {"ENDS", true}};
static const struct knit_top_column session_columns[] = {{"SESSION", true}, {"KIND", false},
    {"STATE", false}, {"SLOTS", true}, {"RUNNING", true}, {"QUEUED", true}, {"KIB", true},
    {"PID", true}, {"PRINCIPAL", false}};
static const struct knit_top_column task_columns[] = {
    {"TASK", false}, {"ENDS", true}, {"SIGNAL", true}, {"QUARANTINED", false}};

#define COLUMNS(columns) (columns), sizeof(columns) / sizeof((columns)[0])

static const struct knit_top_table empty[KNIT_TOP_VIEWS] = {
    [KNIT_TOP_CALLS] = {"calls", COLUMNS(call_columns), NULL, 0, 0},
    [KNIT_TOP_WORKERS] = {"workers", COLUMNS(worker_columns), NULL, 0, 0},
    [KNIT_TOP_SESSIONS] = {"sessions", COLUMNS(session_columns), NULL, 0, 0},
    [KNIT_TOP_TASKS] = {"tasks that took workers down", COLUMNS(task_columns), NULL, 0, 0},
};

/* ---- cells ---------------------------------------------------------------------------------- */

/* NULL: no memory. */
static struct knit_top_row *add_row(struct knit_top_table *table)
{
    struct knit_top_row *row;

    if (table->count == table->room) {
        size_t room = table->room == 0 ? 64 : 2 * table->room;
        struct knit_top_row *rows = realloc(table->rows, room * sizeof(*rows));

        if (rows == NULL)
            return NULL;
        table->rows = rows;
        table->room = room;
    }
    row = &table->rows[table->count++];
    *row = (struct knit_top_row){0};
    return row;
}

static void put_text(struct knit_top_row *row, size_t column, struct knit_value text)
{
    char *cell = row->cells[column].text;
    size_t len = 0;
    const char *bytes = knit_value_text(text, &len);

    knit_tool_escape(bytes != NULL ? bytes : "", len, cell, KNIT_TOP_CELL_MAX);
}

static void put_number(struct knit_top_row *row, size_t column, uint64_t number)
{
    row->cells[column].number = number;
    (void)snprintf(row->cells[column].text, KNIT_TOP_CELL_MAX, "%" PRIu64, number);
}

static void put_dash(struct knit_top_row *row, size_t column)
{
    row->cells[column].text[0] = '-';
}

static uint64_t number_of(struct knit_value map, const char *key)
{
    struct knit_value value = knit_value_get(map, key);

    return knit_value_is_nil(value) ? 0 : knit_value_uint(value);
}

/* ---- tables --------------------------------------------------------------------------------- */

static bool put_calls(struct knit_top_table *table, struct knit_value answer)
{
    struct knit_items items = knit_value_items(knit_value_get(answer, "calls"));
    struct knit_value value;

    while (knit_items_next(&items, NULL, &value)) {
        struct knit_top_row *row = add_row(table);

        if (row == NULL)
            return false;
        row->has_call = true;
        row->call = knit_tool_call_row(value);
        knit_tool_call_address(&row->call, row->cells[0].text);
        put_text(row, 1, row->call.state);
        put_dash(row, 2);
        put_dash(row, 3);
        if (row->call.is_running) {
            put_number(row, 2, row->call.age_ms);
            knit_tool_age(row->call.age_ms, row->cells[2].text);
            put_number(row, 3, row->call.worker);
        }
        put_text(row, 4, row->call.principal);
        put_text(row, 5, row->call.task);
    }
    return true;
}

/* By how much something has grown in a second; seconds: in which it has, 0 = not known. */
static void put_rate(struct knit_top_row *row, size_t column, double grown, double seconds)
{
    if (seconds <= 0 || grown < 0) {
        put_dash(row, column);
        return;
    }
    row->cells[column].number = (uint64_t)(10 * grown / seconds);
    (void)snprintf(row->cells[column].text, KNIT_TOP_CELL_MAX, "%.1f", grown / seconds);
}

static bool put_workers(
    struct knit_top_table *table, struct knit_value stats, struct knit_value before, double seconds)
{
    struct knit_items items = knit_value_items(knit_value_get(stats, "lanes"));
    struct knit_value lane;

    for (uint64_t i = 0; knit_items_next(&items, NULL, &lane); i++) {
        struct knit_value old =
            seconds > 0 ? knit_value_at(knit_value_get(before, "lanes"), i) : before;
        struct knit_top_row *row = add_row(table);

        if (row == NULL)
            return false;
        put_number(row, 0, i);
        put_text(row, 1, knit_value_get(lane, "state"));
        put_number(row, 2, number_of(lane, "pid"));
        put_number(row, 3, number_of(lane, "calls"));
        put_rate(
            row, 4, (double)number_of(lane, "calls") - (double)number_of(old, "calls"), seconds);
        put_rate(row, 5,
            ((double)number_of(lane, "busy_ns") - (double)number_of(old, "busy_ns")) / 1e7,
            seconds);
        put_number(row, 6, number_of(lane, "stolen"));
        put_number(row, 7, number_of(lane, "parks"));
        put_number(row, 8, number_of(lane, "deaths"));
    }
    return true;
}

static bool put_sessions(struct knit_top_table *table, struct knit_value answer)
{
    struct knit_items items = knit_value_items(knit_value_get(answer, "sessions"));
    struct knit_value value;

    while (knit_items_next(&items, NULL, &value)) {
        struct knit_top_row *row = add_row(table);

        if (row == NULL)
            return false;
        put_number(row, 0, number_of(value, "session"));
        put_text(row, 1, knit_value_get(value, "kind"));
        put_text(row, 2, knit_value_get(value, "state"));
        put_number(row, 3, number_of(value, "slots"));
        put_number(row, 4, number_of(value, "running"));
        put_number(row, 5, number_of(value, "queued"));
        put_number(row, 6, number_of(value, "memory_bytes") / 1024);
        put_dash(row, 7);
        put_dash(row, 8);
        if (!knit_value_is_nil(knit_value_get(value, "pid"))) {
            put_number(row, 7, number_of(value, "pid"));
            put_text(row, 8, knit_value_get(value, "principal"));
        }
    }
    return true;
}

static bool put_tasks(struct knit_top_table *table, struct knit_value stats)
{
    struct knit_items items = knit_value_items(knit_value_get(stats, "tasks"));
    struct knit_value value;

    while (knit_items_next(&items, NULL, &value)) {
        struct knit_top_row *row = add_row(table);

        if (row == NULL)
            return false;
        put_text(row, 0, knit_value_get(value, "task"));
        put_number(row, 1, number_of(value, "deaths"));
        put_number(row, 2, number_of(value, "signal"));
        row->is_quarantined = knit_value_bool(knit_value_get(value, "quarantined"));
        (void)snprintf(
            row->cells[3].text, KNIT_TOP_CELL_MAX, "%s", row->is_quarantined ? "yes" : "no");
    }
    return true;
}

/* ---- heads ---------------------------------------------------------------------------------- */

static uint64_t sum(struct knit_value maps, const char *key)
{
    struct knit_items items = knit_value_items(maps);
    struct knit_value value;
    uint64_t total = 0;

    while (knit_items_next(&items, NULL, &value))
        total += number_of(value, key);
    return total;
}

static size_t count_running(const struct knit_top_table *calls)
{
    size_t count = 0;

    for (size_t i = 0; i < calls->count; i++)
        count += calls->rows[i].call.is_running;
    return count;
}

static void put_heads(struct knit_top_look *look, struct knit_value stats, struct knit_value calls,
    const struct knit_top_look *before, double seconds)
{
    const struct knit_value pool = knit_value_get(stats, "pool");
    const struct knit_top_table *rows = &look->tables[KNIT_TOP_CALLS];
    char age[16], version[64], rate[32] = "";
    size_t len = 0, running = count_running(rows);
    const char *text = knit_value_text(knit_value_get(stats, "version"), &len);

    knit_tool_escape(text != NULL ? text : "", len, version, sizeof(version));
    knit_tool_age(look->uptime_ms, age);
    if (seconds > 0 && look->calls_begun >= before->calls_begun)
        (void)snprintf(rate, sizeof(rate), " %.1f/s",
            (double)(look->calls_begun - before->calls_begun) / seconds);
    (void)snprintf(look->head[0], sizeof(look->head[0]),
        "knittingd %s, up %s; %" PRIu64 " connections, %zu workers; %" PRIu64 " calls begun%s",
        version, age, number_of(stats, "connections"), look->tables[KNIT_TOP_WORKERS].count,
        look->calls_begun, rate);
    (void)snprintf(look->head[1], sizeof(look->head[1]),
        "%zu run, %zu queued, %" PRIu64 " wait in their connections; %" PRIu64
        " tasks quarantined; %" PRIu64 " MiB of memory",
        running, rows->count - running, sum(knit_value_get(calls, "waiting"), "count"),
        number_of(pool, "quarantined"), number_of(pool, "memory_bytes") >> 20);
}

/* ---- a look --------------------------------------------------------------------------------- */

static int keep(const void *map, size_t len, unsigned char **ret_bytes, size_t *ret_len)
{
    *ret_bytes = malloc(len + 1);
    if (*ret_bytes == NULL)
        return KNIT_INTERNAL;
    memcpy(*ret_bytes, map, len);
    *ret_len = len;
    return KNIT_OK;
}

static int ask_for(struct knit *k, const struct knit_call_options *options,
    struct knit_error *ret_error, const char *method, struct knit_span *ret_map)
{
    const void *map;
    size_t len;
    int code = knit_call_with(k, options, ret_error, method, "() -> map", &map, &len);

    if (code == KNIT_OK)
        *ret_map = knit_span(map, len);
    return code;
}

static int ask_all(struct knit *k, const struct knit_tool *tool, struct knit_top_look *look,
    struct knit_error *ret_error)
{
    struct knit_call_options options = knit_tool_method_options(tool);
    struct {
        const char *method;
        unsigned char **bytes;
        size_t *len;
    } asked[] = {{"$/stats", &look->stats.bytes, &look->stats.len},
        {"$/calls", &look->calls.bytes, &look->calls.len},
        {"$/sessions", &look->sessions.bytes, &look->sessions.len}};
    int code = KNIT_OK;

    for (size_t i = 0; code == KNIT_OK && i < sizeof(asked) / sizeof(asked[0]); i++) {
        struct knit_span map;

        code = ask_for(k, &options, ret_error, asked[i].method, &map);
        if (code == KNIT_OK && keep(map.bytes, map.len, asked[i].bytes, asked[i].len) != KNIT_OK) {
            knit_tool_own_error(ret_error, KNIT_INTERNAL, "not enough memory");
            code = KNIT_INTERNAL;
        }
    }
    return code;
}

static bool is_same_daemon(struct knit_value stats, struct knit_value before)
{
    return number_of(stats, "pid") == number_of(before, "pid") &&
           number_of(stats, "uptime_ms") > number_of(before, "uptime_ms");
}

int knit_top_ask(struct knit *k, const struct knit_tool *tool, const struct knit_top_look *before,
    struct knit_top_look *ret_look, struct knit_error *ret_error)
{
    struct knit_reader reader = KNIT_READER_INIT;
    struct knit_value stats, calls, old;
    struct knit_top_table *tables = ret_look->tables;
    double seconds = 0;
    int code;

    *ret_look = (struct knit_top_look){0};
    memcpy(tables, empty, sizeof(empty));
    code = ask_all(k, tool, ret_look, ret_error);
    if (code != KNIT_OK)
        return code;
    stats = knit_read(&reader, ret_look->stats.bytes, ret_look->stats.len);
    calls = knit_read(&reader, ret_look->calls.bytes, ret_look->calls.len);
    old = before != NULL ? knit_read(&reader, before->stats.bytes, before->stats.len) : stats;
    if (before != NULL && is_same_daemon(stats, old))
        seconds = (double)(number_of(stats, "uptime_ms") - number_of(old, "uptime_ms")) / 1000;
    ret_look->uptime_ms = number_of(stats, "uptime_ms");
    ret_look->calls_begun = sum(knit_value_get(stats, "lanes"), "calls");
    if (!put_calls(&tables[KNIT_TOP_CALLS], calls) ||
        !put_workers(&tables[KNIT_TOP_WORKERS], stats, old, seconds) ||
        !put_sessions(&tables[KNIT_TOP_SESSIONS],
            knit_read(&reader, ret_look->sessions.bytes, ret_look->sessions.len)) ||
        !put_tasks(&tables[KNIT_TOP_TASKS], stats)) {
        knit_tool_own_error(ret_error, KNIT_INTERNAL, "not enough memory");
        return KNIT_INTERNAL;
    }
    put_heads(ret_look, stats, calls, before, seconds);
    if (knit_reader_code(&reader) == KNIT_OK)
        return KNIT_OK;
    knit_tool_own_error(ret_error, KNIT_BAD_RESULT, "the daemon answered something else");
    return KNIT_BAD_RESULT;
}

void knit_top_free(struct knit_top_look *look)
{
    for (size_t i = 0; i < KNIT_TOP_VIEWS; i++)
        free(look->tables[i].rows);
    free(look->stats.bytes);
    free(look->calls.bytes);
    free(look->sessions.bytes);
    *look = (struct knit_top_look){0};
}

/* ---- order ---------------------------------------------------------------------------------- */

static bool is_shown(
    const struct knit_top_table *table, const struct knit_top_row *row, const char *filter)
{
    if (filter[0] == '\0')
        return true;
    for (size_t i = 0; i < table->columns_count; i++)
        if (strcasestr(row->cells[i].text, filter) != NULL)
            return true;
    return false;
}

struct comparison {
    const struct knit_top_table *table;
    const struct knit_top_order *order;
};

static int compare(const void *a, const void *b, void *arg)
{
    const struct comparison *by = arg;
    const struct knit_top_row *rows[2] = {a, b};
    const size_t column = by->order->column;
    const struct knit_top_cell *left = &rows[0]->cells[column], *right = &rows[1]->cells[column];
    int r;

    if (by->table->columns[column].is_number && column > 0)
        r = (left->number < right->number) - (left->number > right->number);
    else if (by->table->columns[column].is_number)
        r = (left->number > right->number) - (left->number < right->number);
    else
        r = strcmp(left->text, right->text);
    if (r == 0)
        r = strcmp(rows[0]->cells[0].text, rows[1]->cells[0].text);
    return by->order->is_reversed ? -r : r;
}

size_t knit_top_sort(struct knit_top_table *table, const struct knit_top_order *order)
{
    struct comparison by = {table, order};
    size_t shown = 0;

    for (size_t i = 0; i < table->count; i++) {
        if (is_shown(table, &table->rows[i], order->filter)) {
            struct knit_top_row row = table->rows[i];

            table->rows[i] = table->rows[shown];
            table->rows[shown++] = row;
        }
    }
    if (shown > 0)
        qsort_r(table->rows, shown, sizeof(table->rows[0]), compare, &by);
    return shown;
}

/* ---- plain ---------------------------------------------------------------------------------- */

static int print_json(const struct knit_tool *tool, const struct knit_top_look *look)
{
    char *texts[3] = {NULL, NULL, NULL};
    int status = KNIT_TOOL_OK;

    if (knit_json_write(knit_span(look->stats.bytes, look->stats.len), false, &texts[0]) != 0 ||
        knit_json_write(knit_span(look->calls.bytes, look->calls.len), false, &texts[1]) != 0 ||
        knit_json_write(knit_span(look->sessions.bytes, look->sessions.len), false, &texts[2]) !=
            0) {
        status = knit_tool_no_memory(tool);
    } else {
        char *whole;

        if (asprintf(&whole, "{\"stats\":%s,\"calls\":%s,\"sessions\":%s}", texts[0], texts[1],
                texts[2]) < 0) {
            status = knit_tool_no_memory(tool);
        } else {
            knit_tool_put_json(whole);
            free(whole);
        }
    }
    for (size_t i = 0; i < 3; i++)
        free(texts[i]);
    return status;
}

static void print_table(struct knit_top_table *table)
{
    static const struct knit_top_order order = {0};
    int widths[KNIT_TOP_COLUMNS_MAX];
    size_t shown = knit_top_sort(table, &order);

    for (size_t i = 0; i < table->columns_count; i++) {
        widths[i] = (int)strlen(table->columns[i].name);
        for (size_t k = 0; k < shown; k++)
            if ((int)strlen(table->rows[k].cells[i].text) > widths[i])
                widths[i] = (int)strlen(table->rows[k].cells[i].text);
    }
    printf("\n%s:\n", table->name);
    for (size_t k = 0; k <= shown; k++) {
        for (size_t i = 0; i < table->columns_count; i++) {
            const char *text = k == 0 ? table->columns[i].name : table->rows[k - 1].cells[i].text;
            bool is_last = i + 1 == table->columns_count;

            if (table->columns[i].is_number)
                printf("%*s%s", widths[i], text, is_last ? "\n" : "  ");
            else
                printf("%-*s%s", is_last ? 0 : widths[i], text, is_last ? "\n" : "  ");
        }
    }
}

int knit_top_print(const struct knit_tool *tool, struct knit_top_look *look)
{
    int status = KNIT_TOOL_OK, written;

    if (tool->is_json) {
        status = print_json(tool, look);
    } else {
        printf("%s\n%s\n", look->head[0], look->head[1]);
        for (size_t i = 0; i < KNIT_TOP_VIEWS; i++)
            print_table(&look->tables[i]);
    }
    written = knit_tool_finish(tool);
    return status != KNIT_TOOL_OK ? status : written;
}
