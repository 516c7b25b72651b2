/* SPDX-License-Identifier: Apache-2.0 */
/* knit top in three parts: what the daemon says, as tables (top_look.c); the terminal
 * (top_screen.c); keys, and when to look again (top.c).
 *
 * Threads: none; one owner.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <termios.h>

#include "clients/tool/calls.h"

/* ---- what the daemon says ------------------------------------------------------------------- */

enum knit_top_view {
    KNIT_TOP_CALLS,
    KNIT_TOP_WORKERS,
    KNIT_TOP_SESSIONS,
    KNIT_TOP_TASKS, /* that took workers down */
    KNIT_TOP_VIEWS,
};

enum { KNIT_TOP_COLUMNS_MAX = 9, KNIT_TOP_CELL_MAX = 160 };

struct knit_top_column {
    const char *name;
    bool is_number; /* sorted by its number, largest first, and shown at the right */
};

struct knit_top_cell {
    char text[KNIT_TOP_CELL_MAX]; /* nothing in it that a terminal would obey */
    uint64_t number;
};

struct knit_top_row {
    struct knit_top_cell cells[KNIT_TOP_COLUMNS_MAX];
    bool has_call;
    struct knit_tool_call_row call; /* its numbers alone */
    bool is_quarantined;
};

struct knit_top_table {
    const char *name;
    const struct knit_top_column *columns;
    size_t columns_count;
    struct knit_top_row *rows;
    size_t count, room;
};

/* The three answers of one look, and what is made of them. */
struct knit_top_look {
    struct {
        unsigned char *bytes;
        size_t len;
    } stats, calls, sessions;
    uint64_t uptime_ms, calls_begun;
    struct knit_top_table tables[KNIT_TOP_VIEWS];
    char head[2][256]; /* lines above them */
};

/* Asks the daemon. before: the look before, for rates; or NULL. Returns KNIT_OK, or a code with the
 * error; the look is freed in any case. */
KNIT_MUST_CHECK int knit_top_ask(struct knit *k, const struct knit_tool *tool,
    const struct knit_top_look *before, struct knit_top_look *ret_look,
    struct knit_error *ret_error);
void knit_top_free(struct knit_top_look *look);

/* Which rows are shown: those that have the filter in a cell, sorted by a column. */
struct knit_top_order {
    size_t column;
    bool is_reversed;
    char filter[64];
};

/* Puts those rows that are shown in front, in their order. Returns how many they are. */
size_t knit_top_sort(struct knit_top_table *table, const struct knit_top_order *order);

/* Plain text, on stdout; or one JSON object: {stats, calls, sessions}, each as its method answers.
 * Returns the exit status. */
int knit_top_print(const struct knit_tool *tool, struct knit_top_look *look);

/* ---- the terminal --------------------------------------------------------------------------- */

struct knit_top_screen {
    struct termios before;
    bool is_entered;
    unsigned lines, columns;
};

/* Returns 0 or -errno: it is no terminal, or was taken away. */
KNIT_MUST_CHECK int knit_top_enter(struct knit_top_screen *screen);
/* As it was before. Accepts one that was not entered. */
void knit_top_leave(struct knit_top_screen *screen);
void knit_top_measure(struct knit_top_screen *screen);

struct knit_top_frame {
    const struct knit_top_look *look;
    enum knit_top_view view;
    const struct knit_top_order *order;
    size_t shown;    /* rows */
    size_t selected; /* one of them */
    size_t *first;   /* row at the top; moved so that the selected one is on the screen */
    const char *message;
    bool is_help;
};

void knit_top_draw(const struct knit_top_screen *screen, const struct knit_top_frame *frame);

/* How many rows of a table there is room for. */
size_t knit_top_page(const struct knit_top_screen *screen);
