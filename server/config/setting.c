/* SPDX-License-Identifier: Apache-2.0 */
/* Setting settings from text. Text is parsed by kind; the range is the row's. Nothing here knows a
 * particular setting.
 */
#include "server/config/setting.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/host/module_path.h"

/* What a value needs to be put in its place. */
struct assignment {
    struct knit_settings *settings;
    const struct knit_setting *setting;
    const struct knit_setting_origin *origin;
    const char *text;
    struct knit_sentence *why;
};

static void *place_of(struct knit_settings *settings, const struct knit_setting *setting)
{
    return (char *)settings + setting->offset;
}

static size_t row_of(const struct knit_setting *setting)
{
    return (size_t)(setting - knit_setting_table);
}

static bool is_list(const struct knit_setting *setting)
{
    return setting->kind == KNIT_SETTING_LIST || setting->kind == KNIT_SETTING_PATH_LIST;
}

static bool is_text(const struct knit_setting *setting)
{
    return setting->kind == KNIT_SETTING_TEXT || setting->kind == KNIT_SETTING_PATH;
}

static void list_clear(struct knit_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    free(list->lines);
    *list = (struct knit_list){0};
}

static int refuse(const struct assignment *to, const char *expected)
{
    return knit_sentence_set(to->why, KNIT_SETTING_E_REFUSED, "%s.%s: expected %s, not '%s'",
        to->setting->section, to->setting->key, expected, to->text);
}

/* A whole number with an optional KiB, MiB or GiB; digits only, so that no sign, space or base
 * slips in. */
static bool read_number(const char *text, int base, uint64_t *ret_value)
{
    static const struct {
        const char *suffix;
        unsigned shift;
    } units[] = {{"", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}};
    unsigned long long value;
    char *end;

    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    value = strtoull(text, &end, base);
    if (errno != 0)
        return false;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(end, units[i].suffix) != 0)
            continue;
        if (base != 10 && i != 0)
            return false;
        if (value > UINT64_MAX >> units[i].shift)
            return false;
        *ret_value = value << units[i].shift;
        return true;
    }
    return false;
}

/* 1G, 1GB, 4k and the like, which elsewhere mean powers of 1000 or of 1024: what was meant is not
 * guessed. */
static bool has_other_unit(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    const char *unit = text + digits + strspn(text + digits, " ");
    bool is_known =
        strcmp(unit, "KiB") == 0 || strcmp(unit, "MiB") == 0 || strcmp(unit, "GiB") == 0;

    return digits > 0 && *unit != '\0' && strspn(unit, "kKmMgGtTiIbB") == strlen(unit) &&
           (!is_known || unit != text + digits);
}

static int set_number(const struct assignment *to)
{
    const struct knit_setting *setting = to->setting;
    bool may_be_auto = setting->kind == KNIT_SETTING_AUTO_NUMBER;
    uint64_t *place = place_of(to->settings, setting);
    char expected[128];
    uint64_t value;

    if (may_be_auto && strcmp(to->text, "auto") == 0) {
        *place = KNIT_AUTO;
        return 0;
    }
    if (has_other_unit(to->text))
        return refuse(to, "a number alone, or with KiB, MiB or GiB right behind it, as in 64MiB");
    if (!read_number(to->text, 10, &value) || value < setting->min || value > setting->max) {
        (void)snprintf(expected, sizeof(expected), "a number from %llu to %llu%s",
            (unsigned long long)setting->min, (unsigned long long)setting->max,
            may_be_auto ? " or auto" : "");
        return refuse(to, expected);
    }
    *place = value;
    return 0;
}

static int set_mode(const struct assignment *to)
{
    uint64_t value;

    if (!read_number(to->text, 8, &value) || value > to->setting->max)
        return refuse(to, "a file mode in octal, up to 0777");
    *(uint64_t *)place_of(to->settings, to->setting) = value;
    return 0;
}

static int set_switch(const struct assignment *to)
{
    bool may_be_auto = to->setting->kind == KNIT_SETTING_AUTO_SWITCH;
    uint64_t *place = place_of(to->settings, to->setting);

    if (strcmp(to->text, "on") == 0)
        *place = 1;
    else if (strcmp(to->text, "off") == 0)
        *place = 0;
    else if (may_be_auto && strcmp(to->text, "auto") == 0)
        *place = KNIT_AUTO;
    else
        return refuse(to, may_be_auto ? "on, off or auto" : "on or off");
    return 0;
}

static int set_choice(const struct assignment *to)
{
    const char *const *choices = to->setting->choices;
    char expected[256] = "";
    size_t used = 0;

    for (size_t i = 0; choices[i] != NULL; i++) {
        if (strcmp(choices[i], to->text) == 0) {
            *(uint64_t *)place_of(to->settings, to->setting) = i;
            return 0;
        }
        used += (size_t)snprintf(
            expected + used, sizeof(expected) - used, "%s %s", i ? "," : "", choices[i]);
    }
    return knit_sentence_set(to->why, KNIT_SETTING_E_REFUSED,
        "%s.%s: unknown %s: %s; expected one of%s", to->setting->section, to->setting->key,
        to->setting->key, to->text, expected);
}

/* Nothing takes quotation marks off a value, and nothing replaces ~. A path that begins with one of
 * them is meant otherwise than it would be taken. */
static int check_path(const struct assignment *to, const char *path)
{
    bool is_path =
        to->setting->kind == KNIT_SETTING_PATH || to->setting->kind == KNIT_SETTING_PATH_LIST;

    if (is_path && (path[0] == '"' || path[0] == '\''))
        return knit_sentence_set(to->why, KNIT_SETTING_E_REFUSED,
            "%s.%s: a quotation mark belongs to the value, it is not taken off; not %s",
            to->setting->section, to->setting->key, to->text);
    if (is_path && knit_module_path_is_remote(path))
        return knit_sentence_set(to->why, KNIT_SETTING_E_REFUSED,
            "%s.%s: expected the path of a file here, not the address %s", to->setting->section,
            to->setting->key, to->text);
    if (is_path && path[0] == '~')
        return knit_sentence_set(to->why, KNIT_SETTING_E_REFUSED,
            "%s.%s: ~ stands for itself and for no folder; write the folder, or ./%s if that is "
            "meant",
            to->setting->section, to->setting->key, to->text);
    return 0;
}

/* Returns NULL when out of memory. */
static char *new_path(const char *folder, const char *path, size_t path_len)
{
    char *joined;

    if (folder == NULL || path[0] == '/' || (path_len == 4 && memcmp(path, "none", 4) == 0))
        return strndup(path, path_len);
    if (asprintf(&joined, "%s/%.*s", folder, (int)path_len, path) < 0)
        return NULL;
    return joined;
}

static int set_text(const struct assignment *to)
{
    char **place = place_of(to->settings, to->setting);
    const char *folder = to->setting->kind == KNIT_SETTING_PATH ? to->origin->folder : NULL;
    char *copy;

    if (to->text[0] == '\0')
        return refuse(to, "some text");
    if (check_path(to, to->text) != 0)
        return KNIT_SETTING_E_REFUSED;
    copy = new_path(folder, to->text, strlen(to->text));
    if (copy == NULL)
        return -ENOMEM;
    free(*place);
    *place = copy;
    return 0;
}

static int list_append(struct knit_list *list, char *item, unsigned line)
{
    char **items = item != NULL ? reallocarray(list->items, list->count + 2, sizeof(*items)) : NULL;
    unsigned *lines = NULL;

    if (items != NULL) {
        list->items = items;
        lines = reallocarray(list->lines, list->count + 1, sizeof(*lines));
    }
    if (lines == NULL) {
        free(item);
        return -ENOMEM;
    }
    list->lines = lines;
    list->lines[list->count] = line;
    list->items[list->count++] = item;
    list->items[list->count] = NULL;
    return 0;
}

static int set_list(const struct assignment *to)
{
    const struct knit_setting *setting = to->setting;
    struct knit_list *list = place_of(to->settings, setting);
    const char *folder = setting->kind == KNIT_SETTING_PATH_LIST ? to->origin->folder : NULL;
    const char *word = to->text + strspn(to->text, " \t,");

    if (*word == '\0')
        return refuse(to, "at least one word");
    while (*word) {
        size_t len = strcspn(word, " \t,");

        if (list->count == setting->max)
            return knit_sentence_set(to->why, KNIT_SETTING_E_REFUSED,
                "%s.%s: expected at most %llu, '%s' is one more", setting->section, setting->key,
                (unsigned long long)setting->max, word);
        if (check_path(to, word) != 0)
            return KNIT_SETTING_E_REFUSED;
        if (list_append(list, new_path(folder, word, len), to->origin->line) < 0)
            return -ENOMEM;
        word += len;
        word += strspn(word, " \t,");
    }
    return 0;
}

static int set_value(const struct assignment *to)
{
    switch (to->setting->kind) {
    case KNIT_SETTING_NUMBER:
    case KNIT_SETTING_AUTO_NUMBER:
        return set_number(to);
    case KNIT_SETTING_MODE:
        return set_mode(to);
    case KNIT_SETTING_SWITCH:
    case KNIT_SETTING_AUTO_SWITCH:
        return set_switch(to);
    case KNIT_SETTING_CHOICE:
        return set_choice(to);
    case KNIT_SETTING_TEXT:
    case KNIT_SETTING_PATH:
        return set_text(to);
    case KNIT_SETTING_LIST:
    case KNIT_SETTING_PATH_LIST:
        return set_list(to);
    }
    return -EINVAL;
}

int knit_setting_set(struct knit_settings *settings, const struct knit_setting *setting,
    const struct knit_setting_origin *origin, const char *text, struct knit_sentence *why)
{
    /* cppcheck-suppress ctuuninitvar ; `why` is written, never read */
    struct assignment assignment = {settings, setting, origin, text, why};
    enum knit_setting_source source = origin->source;
    size_t row = row_of(setting);
    bool again = source != KNIT_SOURCE_DEFAULT && settings->source[row] == source;
    int r;

    if (again && !is_list(setting)) {
        if (source == KNIT_SOURCE_FILE)
            return knit_sentence_set(why, KNIT_SETTING_E_REFUSED, "%s.%s is set already on line %u",
                setting->section, setting->key, settings->line[row]);
        return knit_sentence_set(
            why, KNIT_SETTING_E_REFUSED, "%s.%s is given twice", setting->section, setting->key);
    }
    if (!again && is_list(setting))
        list_clear(place_of(settings, setting));
    r = set_value(&assignment);
    if (r == 0) {
        settings->source[row] = (uint8_t)source;
        settings->line[row] = origin->line;
        settings->is_auto[row] = strcmp(text, "auto") == 0;
    }
    return r;
}

/* The one line of the file that a row was set on; 0: a list's words stand on several. */
static unsigned line_of(const struct knit_settings *settings, size_t row)
{
    const struct knit_setting *setting = &knit_setting_table[row];
    const struct knit_list *list;

    if (!is_list(setting))
        return settings->line[row];
    list = (const void *)((const char *)settings + setting->offset);
    for (size_t i = 1; i < list->count; i++) {
        if (list->lines[i] != list->lines[0])
            return 0;
    }
    return list->count > 0 ? list->lines[0] : 0;
}

static void prefix_origin(
    const struct knit_settings *settings, size_t row, struct knit_sentence *why)
{
    char place[KNIT_SENTENCE_MAX];
    unsigned line = line_of(settings, row);

    if (settings->source[row] == KNIT_SOURCE_COMMAND_LINE) {
        knit_sentence_prefix(why, "command line");
    } else if (settings->source[row] == KNIT_SOURCE_FILE) {
        (void)snprintf(place, sizeof(place), line > 0 ? "%s:%u" : "%s", settings->file, line);
        knit_sentence_prefix(why, place);
    }
}

void knit_setting_say_where(const struct knit_settings *settings, struct knit_sentence *why)
{
    for (size_t row = 0; row < knit_setting_count; row++) {
        const struct knit_setting *setting = &knit_setting_table[row];
        char name[64];
        int len = snprintf(name, sizeof(name), "%s.%s: ", setting->section, setting->key);

        if (strncmp(why->text, name, (size_t)len) == 0) {
            prefix_origin(settings, row, why);
            return;
        }
    }
}

int knit_settings_init(struct knit_settings *settings, struct knit_sentence *why)
{
    const struct knit_setting_origin origin = {KNIT_SOURCE_DEFAULT, NULL, 0};

    *settings = (struct knit_settings){0};
    for (size_t i = 0; i < knit_setting_count; i++) {
        const struct knit_setting *setting = &knit_setting_table[i];
        int r;

        if (setting->preset == NULL)
            continue;
        r = knit_setting_set(settings, setting, &origin, setting->preset, why);
        if (r != 0) {
            knit_settings_fini(settings);
            return r;
        }
    }
    return 0;
}

void knit_settings_fini(struct knit_settings *settings)
{
    for (size_t i = 0; i < knit_setting_count; i++) {
        const struct knit_setting *setting = &knit_setting_table[i];

        if (is_list(setting)) {
            list_clear(place_of(settings, setting));
        } else if (is_text(setting)) {
            char **place = place_of(settings, setting);

            free(*place);
            *place = NULL;
        }
    }
}

const struct knit_setting *knit_setting_by_key(const char *section, const char *key)
{
    for (size_t i = 0; i < knit_setting_count; i++)
        if (strcmp(knit_setting_table[i].section, section) == 0 &&
            strcmp(knit_setting_table[i].key, key) == 0)
            return &knit_setting_table[i];
    return NULL;
}

void knit_setting_name(const struct knit_setting *setting, char *ret_name, size_t size)
{
    (void)snprintf(ret_name, size, "%s", setting->name != NULL ? setting->name : setting->key);
    for (char *c = ret_name; *c; c++)
        if (*c == '_')
            *c = '-';
}

const struct knit_setting *knit_setting_by_name(const char *name, size_t name_len)
{
    for (size_t i = 0; i < knit_setting_count; i++) {
        char own[64];

        knit_setting_name(&knit_setting_table[i], own, sizeof(own));
        if (strlen(own) == name_len && memcmp(own, name, name_len) == 0)
            return &knit_setting_table[i];
    }
    return NULL;
}

bool knit_setting_is_given(
    const struct knit_settings *settings, const char *section, const char *key)
{
    return settings->source[row_of(knit_setting_by_key(section, key))] != KNIT_SOURCE_DEFAULT;
}
