/* SPDX-License-Identifier: Apache-2.0 */
/* Cells are kept as text, so that all formats print the same rounded figures. */
#include "bench/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/machine.h"

enum { COLUMNS_MAX = 24, TEXT_MAX = 48 };

struct cell {
    bool is_there, is_number;
    char text[TEXT_MAX];
};

struct row {
    struct cell cells[COLUMNS_MAX];
};

struct knit_report {
    char title[128];
    uint32_t columns, rows, capacity;
    const char *names[COLUMNS_MAX];
    struct row *row;
};

static void *must(void *memory)
{
    if (memory == NULL) {
        fputs("out of memory\n", stderr);
        abort();
    }
    return memory;
}

struct knit_report *knit_report_new(const char *title)
{
    struct knit_report *report = must(calloc(1, sizeof(*report)));
    snprintf(report->title, sizeof(report->title), "%s", title);
    return report;
}

struct knit_report *knit_report_free(struct knit_report *report)
{
    if (report != NULL)
        free(report->row);
    free(report);
    return NULL;
}

void knit_report_row(struct knit_report *report)
{
    if (report->rows == report->capacity) {
        report->capacity = report->capacity * 2 + 16;
        report->row = must(realloc(report->row, report->capacity * sizeof(*report->row)));
    }
    memset(&report->row[report->rows++], 0, sizeof(*report->row));
}

static struct cell *cell(struct knit_report *report, const char *column)
{
    uint32_t i = 0;
    struct cell *ret;
    while (i < report->columns && strcmp(report->names[i], column) != 0)
        i++;
    if (i == COLUMNS_MAX || report->rows == 0) {
        fputs("a report with too many columns, or a cell without a row\n", stderr);
        abort();
    }
    if (i == report->columns)
        report->names[report->columns++] = column;
    ret = &report->row[report->rows - 1].cells[i];
    ret->is_there = true;
    return ret;
}

void knit_report_text(struct knit_report *report, const char *column, const char *text)
{
    struct cell *ret = cell(report, column);
    snprintf(ret->text, sizeof(ret->text), "%s", text);
}

/* No figure is exact to four digits; whole numbers from a thousand on. */
void knit_report_number(struct knit_report *report, const char *column, double number)
{
    struct cell *ret = cell(report, column);
    double size = fabs(number);
    int digits = size >= 1000 || number == floor(number) ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3;
    ret->is_number = isfinite(number);
    snprintf(ret->text, sizeof(ret->text), "%.*f", digits, number);
}

static void print_table(const struct knit_report *report, FILE *file)
{
    int width[COLUMNS_MAX];
    for (uint32_t c = 0; c < report->columns; c++) {
        width[c] = (int)strlen(report->names[c]);
        for (uint32_t r = 0; r < report->rows; r++) {
            int len = (int)strlen(report->row[r].cells[c].text);
            width[c] = len > width[c] ? len : width[c];
        }
    }
    fprintf(file, "%s\n%s\n\n", report->title, knit_machine_describe());
    for (uint32_t r = 0; r <= report->rows; r++) {
        for (uint32_t c = 0; c < report->columns; c++) {
            const struct cell *at = r == 0 ? NULL : &report->row[r - 1].cells[c];
            const char *text = at == NULL ? report->names[c] : at->is_there ? at->text : "-";
            /* The first column names the row; the others are aligned to the right. */
            fprintf(file, c == 0 ? "%-*s" : "  %*s", width[c], text);
        }
        fputc('\n', file);
    }
}

static void print_quoted(const char *text, FILE *file)
{
    fputc('"', file);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', file);
        fputc(*text, file);
    }
    fputc('"', file);
}

static void print_json(const struct knit_report *report, FILE *file)
{
    fputs("{\"title\": ", file);
    print_quoted(report->title, file);
    fputs(", \"machine\": ", file);
    print_quoted(knit_machine_describe(), file);
    fputs(", \"rows\": [", file);
    for (uint32_t r = 0; r < report->rows; r++) {
        const char *comma = "";
        fputs(r == 0 ? "\n  {" : ",\n  {", file);
        for (uint32_t c = 0; c < report->columns; c++) {
            const struct cell *at = &report->row[r].cells[c];
            if (!at->is_there)
                continue;
            fputs(comma, file);
            print_quoted(report->names[c], file);
            fputs(": ", file);
            if (at->is_number)
                fputs(at->text, file);
            else
                print_quoted(at->text, file);
            comma = ", ";
        }
        fputc('}', file);
    }
    fputs("\n]}\n", file);
}

static void print_csv(const struct knit_report *report, FILE *file)
{
    for (uint32_t c = 0; c < report->columns; c++)
        fprintf(file, "%s%s", c == 0 ? "" : ",", report->names[c]);
    fputc('\n', file);
    for (uint32_t r = 0; r < report->rows; r++) {
        for (uint32_t c = 0; c < report->columns; c++)
            fprintf(file, "%s%s", c == 0 ? "" : ",", report->row[r].cells[c].text);
        fputc('\n', file);
    }
}

void knit_report_print(const struct knit_report *report, enum knit_report_format format, FILE *file)
{
    switch (format) {
    case KNIT_REPORT_TABLE:
        print_table(report, file);
        break;
    case KNIT_REPORT_JSON:
        print_json(report, file);
        break;
    case KNIT_REPORT_CSV:
        print_csv(report, file);
        break;
    }
    fflush(file);
}

bool knit_report_parse(const char *name, enum knit_report_format *ret)
{
    static const char *const names[] = {"table", "json", "csv"};
    for (uint32_t i = 0; i < 3; i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret = (enum knit_report_format)i;
            return true;
        }
    }
    return false;
}
