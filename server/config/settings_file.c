/* SPDX-License-Identifier: Apache-2.0 */
/* Read line by line into a buffer of fixed size. A longer line, an indented one and a NUL byte are
 * refused, since each of them would set something other than what the file seems to say. The first
 * mistake ends the reading. libinih is not used: it cuts long lines, counts them wrongly afterwards
 * and takes an indented line for more of the value before it, so that each line would have to be
 * checked before libinih sees it, which takes more code than to split it.
 */
#include "server/config/settings_file.h"

#include <errno.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/nearest.h"

#define SPACES " \t\n\v\f\r"

struct reading {
    struct knit_settings *settings;
    struct knit_sentence *why;
    const char *path;
    const char *folder;
    FILE *file;
    unsigned line;
    int result; /* of the first mistake */
    char section[KNIT_SETTINGS_LINE_MAX + 1];
    char text[KNIT_SETTINGS_LINE_MAX + 1]; /* the line */
};

__attribute__((format(printf, 2, 3))) static void refuse(
    struct reading *reading, const char *format, ...)
{
    char text[KNIT_SENTENCE_MAX / 2];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    reading->result = knit_sentence_set(
        reading->why, KNIT_SETTING_E_REFUSED, "%s:%u: %s", reading->path, reading->line, text);
}

/* Puts the next line into `text`, without its end. False at the end of the file or on a mistake. */
static bool read_line(struct reading *reading)
{
    size_t len = 0;
    int c;

    reading->line++;
    while ((c = getc(reading->file)) != EOF && c != '\n') {
        if (c == '\0') {
            refuse(reading, "expected text, not a NUL byte");
            return false;
        }
        if (len == KNIT_SETTINGS_LINE_MAX) {
            refuse(reading, "the line is longer than %zu characters", len);
            return false;
        }
        reading->text[len++] = (char)c;
    }
    reading->text[len] = '\0';
    if (ferror(reading->file))
        refuse(reading, "cannot read further: %s", strerror(errno));
    return reading->result == 0 && (c != EOF || len > 0);
}

static void refuse_key(struct reading *reading, const char *section, const char *key)
{
    const struct knit_setting *found = knit_setting_successor(section, key);
    struct knit_nearest nearest;

    if (found != NULL) {
        refuse(reading, "the key '%s' is called %s now", key, found->key);
        return;
    }
    knit_nearest_init(&nearest, key, strlen(key));
    /* The keys of the same section come first: of two keys that are equally near, the first one
       stays. */
    for (int in_same = 1; in_same >= 0; in_same--) {
        for (size_t i = 0; i < knit_setting_count; i++) {
            const struct knit_setting *setting = &knit_setting_table[i];

            if ((strcmp(section, setting->section) == 0) == in_same &&
                knit_nearest_try(&nearest, setting->key, strlen(setting->key)))
                found = setting;
        }
    }
    if (section[0] == '\0')
        refuse(reading, "expected a line with its section above the key '%s', such as [%s]", key,
            found != NULL ? found->section : knit_setting_table[0].section);
    else if (found != NULL)
        refuse(reading, "unknown key '%s' in section [%s]; the nearest is %s in [%s]", key, section,
            found->key, found->section);
    else
        refuse(reading, "unknown key '%s' in section [%s]", key, section);
}

static void take_pair(struct reading *reading, const char *key, const char *value)
{
    const struct knit_setting *setting = knit_setting_by_key(reading->section, key);
    struct knit_setting_origin origin = {KNIT_SOURCE_FILE, reading->folder, reading->line};

    if (setting == NULL) {
        refuse_key(reading, reading->section, key);
        return;
    }
    reading->result = knit_setting_set(reading->settings, setting, &origin, value, reading->why);
    if (reading->result == KNIT_SETTING_E_REFUSED) {
        struct knit_sentence inner = *reading->why;

        refuse(reading, "%s", inner.text);
    }
}

static bool is_section(const char *name)
{
    for (size_t i = 0; i < knit_setting_count; i++) {
        if (strcmp(knit_setting_table[i].section, name) == 0)
            return true;
    }
    return false;
}

static void refuse_section(struct reading *reading, const char *name)
{
    char all[128] = "";
    const char *last = "";

    for (size_t i = 0; i < knit_setting_count; i++) {
        const char *section = knit_setting_table[i].section;
        const size_t len = strlen(all);

        if (strcmp(section, last) != 0)
            (void)snprintf(all + len, sizeof(all) - len, " [%s]", section);
        last = section;
    }
    refuse(reading, "unknown section [%s]; there are%s", name, all);
}

/* Also one in which nothing stands: what is written there later would not be looked for. */
static void take_section(struct reading *reading, const char *name)
{
    struct knit_nearest nearest;
    const char *found = NULL;

    if (is_section(name)) {
        (void)snprintf(reading->section, sizeof(reading->section), "%s", name);
        return;
    }
    knit_nearest_init(&nearest, name, strlen(name));
    for (size_t i = 0; i < knit_setting_count; i++) {
        const char *section = knit_setting_table[i].section;

        if (knit_nearest_try(&nearest, section, strlen(section)))
            found = section;
    }
    if (found != NULL)
        refuse(reading, "unknown section [%s]; the nearest is [%s]", name, found);
    else
        refuse_section(reading, name);
}

static char *strip(char *text)
{
    size_t len;

    text += strspn(text, SPACES);
    len = strlen(text);
    while (len > 0 && strchr(SPACES, text[len - 1]) != NULL)
        text[--len] = '\0';
    return text;
}

static void take_line(struct reading *reading)
{
    bool is_blank = reading->text[strspn(reading->text, SPACES)] == '\0';
    bool is_indented = strspn(reading->text, " \t") > 0 && !is_blank;
    bool has_bom = reading->line == 1 && strncmp(reading->text, "\xef\xbb\xbf", 3) == 0;
    char *text = reading->text + (has_bom ? 3 : 0), *mark;

    /* Behind a space a ; begins a comment, elsewhere it is a part of the value. */
    for (mark = text; (mark = strchr(mark, ';')) != NULL; mark++) {
        if (mark > text && strchr(SPACES, mark[-1]) != NULL)
            *mark = '\0';
    }
    text = strip(text);
    mark = strpbrk(text, *text == '[' ? "]" : "=:");
    if (is_indented) {
        refuse(reading, "the line is indented; every setting begins in the first column");
    } else if (*text == '\0' || *text == '#' || *text == ';') {
        return;
    } else if (mark == NULL) {
        refuse(reading, "expected [section], key = value or a comment");
    } else {
        *mark = '\0';
        if (*text == '[')
            take_section(reading, text + 1);
        else
            take_pair(reading, strip(text), strip(mark + 1));
    }
}

bool knit_settings_file_is_there(const char *path)
{
    struct stat status;

    return lstat(path, &status) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

int knit_settings_file_read(
    struct knit_settings *settings, const char *path, struct knit_sentence *why)
{
    struct reading reading = {.settings = settings, .why = why, .path = path};
    char *copy = realpath(path, NULL);

    /* Relative paths in the file start at the folder it really lies in. */
    reading.folder = copy != NULL ? dirname(copy) : NULL;
    reading.file = copy != NULL ? fopen(path, "re") : NULL;
    settings->file = path;
    if (reading.file == NULL) {
        reading.result = knit_sentence_set(
            why, KNIT_SETTING_E_REFUSED, "cannot open %s: %s", path, strerror(errno));
    } else {
        while (reading.result == 0 && read_line(&reading))
            take_line(&reading);
        (void)fclose(reading.file);
    }
    free(copy);
    return reading.result;
}
