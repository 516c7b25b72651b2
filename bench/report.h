/* SPDX-License-Identifier: Apache-2.0 */
/* Figures as a table for people, or as JSON or CSV for programs.
 *
 * A report is rows; a row is named cells. Columns are all names that any row has, in the order in
 * which they first occur; a row without one shows "-". Rows are printed at the end, when the widths
 * of columns are known.
 *
 * Threads: one at a time. Without memory the program ends.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum knit_report_format { KNIT_REPORT_TABLE, KNIT_REPORT_JSON, KNIT_REPORT_CSV };

struct knit_report;

struct knit_report *knit_report_new(const char *title);
struct knit_report *knit_report_free(struct knit_report *report); /* NULL ok; returns NULL */

/* Begin a row; cells follow. `column` is static text. */
void knit_report_row(struct knit_report *report);
void knit_report_text(struct knit_report *report, const char *column, const char *text);
void knit_report_number(struct knit_report *report, const char *column, double number);

/* Title and machine are printed above a table, and as "title" and "machine" of JSON; CSV has only
 * the rows. */
void knit_report_print(
    const struct knit_report *report, enum knit_report_format format, FILE *file);

/* "table", "json" or "csv". */
bool knit_report_parse(const char *name, enum knit_report_format *ret);
