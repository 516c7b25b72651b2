/* SPDX-License-Identifier: Apache-2.0 */
/* libinih does the parsing, but is not trusted with the lines: one longer than its buffer would
 * reach the handler cut in two, with every later line number wrong, and an indented line would
 * silently continue the key before it. So lines are read here, counted here, and refused here when
 * they are too long, indented or hold a NUL; libinih only ever sees lines it understands. It goes
 * on after a mistake; the first one is what we keep.
 */
#include "server/config/settings_file.h"

#include <errno.h>
#include <ini.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/nearest.h"

struct reading {
    struct knit_settings *settings;
    struct knit_sentence *why;
    const char *path;
    const char *folder;
    FILE *file;
    unsigned line;
    int result; /* of the first mistake */
};

__attribute__((format(printf, 2, 3))) static void refuse(
    struct reading *reading, const char *format, ...)
{
    char text[KNIT_SENTENCE_MAX / 2];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    reading->result = knit_sentence_say(
        reading->why, KNIT_SETTING_E_REFUSED, "%s:%u: %s", reading->path, reading->line, text);
}

/* libinih's reader: one line into `text`, or NULL at the end or after a mistake. */
static char *next_line(char *text, int size, void *stream)
{
    struct reading *reading = stream;
    size_t max = size - 3 < KNIT_SETTINGS_LINE_MAX ? (size_t)size - 3 : KNIT_SETTINGS_LINE_MAX;
    size_t len = 0;
    int c;

    if (reading->result != 0)
        return NULL;
    reading->line++;
    while ((c = getc(reading->file)) != EOF && c != '\n') {
        if (c == '\0') {
            refuse(reading, "expected text, not a NUL byte");
            return NULL;
        }
        if (len == max) {
            refuse(reading, "the line is longer than %zu characters", max);
            return NULL;
        }
        text[len++] = (char)c;
    }
    if (c == EOF && len == 0)
        return NULL;
    text[len] = '\0';
    if ((text[0] == ' ' || text[0] == '\t') && text[strspn(text, " \t\r")] != '\0') {
        refuse(reading, "the line is indented; every setting begins in the first column");
        return NULL;
    }
    text[len] = '\n';
    text[len + 1] = '\0';
    return text;
}

static void refuse_key(struct reading *reading, const char *section, const char *key)
{
    const struct knit_setting *found = knit_setting_successor(section, key);
    struct knit_nearest nearest;

    if (found) {
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
    if (found)
        refuse(reading, "unknown key '%s' in section [%s]; the nearest is %s in [%s]", key, section,
            found->key, found->section);
    else
        refuse(reading, "unknown key '%s' in section [%s]", key, section);
}

/* libinih's handler; returns 1 when all is well. */
static int on_pair(void *user, const char *section, const char *key, const char *value)
{
    struct reading *reading = user;
    const struct knit_setting *setting;
    int r;

    if (reading->result != 0)
        return 0;
    setting = knit_setting_by_key(section, key);
    if (!setting) {
        refuse_key(reading, section, key);
        return 0;
    }
    r = knit_setting_set(reading->settings, setting,
        &(struct knit_setting_origin){KNIT_SOURCE_FILE, reading->folder, reading->line}, value,
        reading->why);
    if (r == KNIT_SETTING_E_REFUSED) {
        struct knit_sentence inner = *reading->why;

        refuse(reading, "%s", inner.text);
    } else if (r != 0) {
        reading->result = r;
    }
    return r == 0;
}

static int read_stream(struct reading *reading)
{
    int r = ini_parse_stream(next_line, reading, on_pair, reading);

    if (reading->result == 0 && ferror(reading->file))
        refuse(reading, "cannot read further: %s", strerror(errno));
    if (r > 0 && (reading->result == 0 || (unsigned)r < reading->line)) {
        /* libinih's own complaint, which came before any of ours: neither a section, nor a pair,
         * nor a comment. */
        reading->line = (unsigned)r;
        refuse(reading, "expected [section], key = value or a comment");
    }
    return reading->result;
}

int knit_settings_file_read(
    struct knit_settings *settings, const char *path, struct knit_sentence *why)
{
    struct reading reading = {.settings = settings, .why = why, .path = path};
    char *copy;
    char *folder;
    int r;

    /* Relative paths in the file start at the folder it really lies in. */
    copy = realpath(path, NULL);
    if (!copy)
        return knit_sentence_say(
            why, KNIT_SETTING_E_REFUSED, "cannot open %s: %s", path, strerror(errno));
    folder = dirname(copy);
    reading.folder = folder;
    reading.file = fopen(path, "re");
    if (!reading.file) {
        r = knit_sentence_say(
            why, KNIT_SETTING_E_REFUSED, "cannot open %s: %s", path, strerror(errno));
    } else {
        r = read_stream(&reading);
        (void)fclose(reading.file);
    }
    free(copy);
    return r;
}
