/* SPDX-License-Identifier: Apache-2.0 */
/* What the settings leave open is asked of those who find it out at a start, so that this page and
 * the start cannot disagree.
 */
#include "server/daemon/print_config.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/config/install_paths.h"
#include "server/daemon/descriptors.h"
#include "server/daemon/memory.h"
#include "server/net/socket_file.h"

enum { COLUMN = 48 }; /* where origins begin */

struct row {
    const struct knit_settings *settings;
    const struct knit_setting *setting;
    size_t number;
    unsigned line; /* of the file */
};

/* ---- where a value comes from ---------------------------------------------------------------- */

static void print_origin(const struct row *row, int used, const char *more)
{
    printf("%*s ; ", used < COLUMN ? COLUMN - used : 0, "");
    switch ((enum knit_setting_source)row->settings->source[row->number]) {
    case KNIT_SOURCE_DEFAULT:
        printf("default");
        break;
    case KNIT_SOURCE_FILE:
        printf("%s:%u", row->settings->file, row->line);
        break;
    case KNIT_SOURCE_COMMAND_LINE:
        printf("command line");
        break;
    case KNIT_SOURCE_ENVIRONMENT:
        printf("environment, RUNTIME_DIRECTORY");
        break;
    }
    printf("%s%s\n", row->settings->is_auto[row->number] ? ", auto" : "", more);
}

/* ---- values ---------------------------------------------------------------------------------- */

static void print_number(const struct row *row, uint64_t value)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB"};
    size_t unit = 0;
    int used;

    if (value == KNIT_AUTO) {
        print_origin(row, printf("%s = auto", row->setting->key), "");
        return;
    }
    while (strcmp(row->setting->argument, "BYTES") == 0 && value != 0 && value % 1024 == 0 &&
           unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        unit++;
    }
    used = printf("%s = %llu%s", row->setting->key, (unsigned long long)value, units[unit]);
    print_origin(row, used, "");
}

static void print_word(const struct row *row, const char *word)
{
    print_origin(row, printf("%s = %s", row->setting->key, word), "");
}

/* A line break in it would begin another setting. */
static void print_text(const struct row *row, const char *text, const char *more)
{
    int used = printf("%s = ", row->setting->key);

    for (const char *c = text; *c != '\0'; c++)
        used += (unsigned char)*c < ' ' ? printf("\\x%02x", (unsigned char)*c) : printf("%c", *c);
    print_origin(row, used, more);
}

/* Relative ones start at the folder that the daemon is started in. */
static void print_path(const struct row *row, const char *path, const char *more)
{
    char folder[PATH_MAX], absolute[2 * PATH_MAX];

    if (path[0] == '/' || strcmp(path, "none") == 0 || getcwd(folder, sizeof(folder)) == NULL) {
        print_text(row, path, more);
        return;
    }
    (void)snprintf(absolute, sizeof(absolute), "%s/%s", folder, path);
    print_text(row, absolute, more);
}

static void print_unset(const struct row *row, const char *why)
{
    print_origin(row, printf("#%s =", row->setting->key), why);
}

/* ---- what is found out at a start ------------------------------------------------------------ */

static void print_usual_socket(const struct row *row)
{
    const char *variable = knit_socket_file_usual_variable();
    struct knit_sentence why = {""};
    char more[64] = "", *path = NULL;

    if (variable != NULL)
        (void)snprintf(more, sizeof(more), ", by $%s", variable);
    if (knit_socket_file_usual_path(false, &path, &why) == 0)
        print_text(row, path, more);
    else
        print_unset(row, ", which is nowhere here");
    free(path);
}

static void print_found_worker(const struct row *row)
{
    struct knit_sentence why = {""};
    char path[PATH_MAX];

    if (knit_install_paths_find_worker(NULL, path, &why) == 0)
        print_text(row, path, "");
    else
        print_unset(row, ", and not found");
}

static void print_found_modules(const struct row *row)
{
    const struct knit_list none = {NULL, 0};
    struct knit_sentence why = {""};
    char **paths = NULL;

    if (knit_install_paths_find_modules(&none, NULL, &paths, &why) != 0)
        print_unset(row, ", and there are none");
    else
        for (size_t i = 0; paths[i] != NULL; i++)
            print_text(row, paths[i], "");
    knit_install_paths_free(paths);
}

static const struct {
    const char *section, *key;
    void (*print)(const struct row *row);
} found[] = {
    {"server", "socket", print_usual_socket},
    {"pool", "modules", print_found_modules},
    {"pool", "worker_program", print_found_worker},
};

/* What is not set: found out, or nothing. */
static void print_left_out(const struct row *row)
{
    for (size_t i = 0; i < sizeof(found) / sizeof(found[0]); i++) {
        if (row->setting == knit_setting_by_key(found[i].section, found[i].key)) {
            found[i].print(row);
            return;
        }
    }
    print_unset(row, ", not set");
}

/* ---- rows ------------------------------------------------------------------------------------ */

static void print_list(const struct row *row, const struct knit_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        struct row item = *row;

        item.line = list->lines[i];
        if (row->setting->kind == KNIT_SETTING_PATH_LIST)
            print_path(&item, list->items[i], "");
        else
            print_text(&item, list->items[i], "");
    }
    if (list->count == 0)
        print_left_out(row);
}

static void print_row(const struct row *row)
{
    const void *place = (const char *)row->settings + row->setting->offset;
    char mode[8];

    switch (row->setting->kind) {
    case KNIT_SETTING_NUMBER:
    case KNIT_SETTING_AUTO_NUMBER:
        print_number(row, *(const uint64_t *)place);
        break;
    case KNIT_SETTING_MODE:
        (void)snprintf(mode, sizeof(mode), "%04o", (unsigned)*(const uint64_t *)place & 0777);
        print_word(row, mode);
        break;
    case KNIT_SETTING_SWITCH:
    case KNIT_SETTING_AUTO_SWITCH:
        print_word(row, *(const uint64_t *)place != 0 ? "on" : "off");
        break;
    case KNIT_SETTING_CHOICE:
        print_word(row, row->setting->choices[*(const uint64_t *)place]);
        break;
    case KNIT_SETTING_TEXT:
    case KNIT_SETTING_PATH:
        if (*(char *const *)place == NULL)
            print_left_out(row);
        else if (row->setting->kind == KNIT_SETTING_PATH)
            print_path(row, *(char *const *)place, "");
        else
            print_text(row, *(char *const *)place, "");
        break;
    case KNIT_SETTING_LIST:
    case KNIT_SETTING_PATH_LIST:
        print_list(row, place);
        break;
    }
}

/* What the settings come to on this machine. */
static void print_consequences(const struct knit_settings *settings)
{
    char sum[KNIT_MEMORY_TEXT_MAX], limit[KNIT_MEMORY_TEXT_MAX];
    struct knit_descriptors descriptors;
    struct knit_sentence why = {""};
    struct knit_memory memory;

    knit_descriptors_raise();
    if (knit_descriptors_deal(settings, &descriptors, &why) != 0) {
        printf("\n# %s\n", why.text);
        return;
    }
    knit_memory_add_up(settings, &descriptors, &memory);
    knit_memory_text(memory.sum_bytes, sum);
    knit_memory_text(memory.limit_bytes, limit);
    printf(
        "\n# With %llu open files: at most %llu connections, and %u sessions over shared memory.\n",
        (unsigned long long)descriptors.files, (unsigned long long)descriptors.connections_max,
        descriptors.sessions_max);
    printf("# Memory: at most %s%s; the control group allows: %s.\n", sum,
        memory.workers_bytes == 0
            ? ", and what tasks take in the workers, which memory_max_bytes can bound"
            : "",
        limit);
}

int knit_print_config(const struct knit_settings *settings, const char *usual_file)
{
    const char *debug = getenv("KNITTING_DEBUG"), *section = "";
    struct row row = {.settings = settings};
    static char room[64 * 1024];

    /* All of it leaves in one write, whose error is known. */
    (void)setvbuf(stdout, room, _IOFBF, sizeof(room));
    if (settings->file != NULL)
        printf("# Settings file: %s\n", settings->file);
    else
        printf("# Settings file: none; %s is not there.\n", usual_file);
    for (row.number = 0; row.number < knit_setting_count; row.number++) {
        row.setting = &knit_setting_table[row.number];
        row.line = settings->line[row.number];
        if (strcmp(section, row.setting->section) != 0)
            printf("\n[%s]\n", row.setting->section);
        section = row.setting->section;
        print_row(&row);
    }
    if (debug != NULL && debug[0] != '\0')
        printf("debug = %-*s ; environment, KNITTING_DEBUG\n", COLUMN - (int)strlen("debug = "),
            debug);
    print_consequences(settings);
    if (fflush(stdout) == EOF)
        return -errno;
    return ferror(stdout) ? -EIO : 0;
}
