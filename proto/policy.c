/* SPDX-License-Identifier: Apache-2.0 */
/* One copy of the text, cut into words where they stand: all names point into it. Whatever is not
 * understood refuses the whole file, since a rule that was misread would let somebody in or lock
 * somebody out, and the first mistake ends the reading.
 */
#include "proto/policy.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/nearest.h"
#include "proto/text.h"

#define BLANKS " \t\r\v\f"

const char *const knit_policy_methods[] = {"$/attach", "$/calls", "$/drain", "$/kill", "$/lift",
    "$/reload", "$/sessions", "$/stats", "$/stop", "$/tasks", "$/why", NULL};

struct reading {
    struct knit_policy_file *file;
    const char *path;
    unsigned line;
    struct knit_policy_section *section; /* the last one; NULL = there is none yet */
    struct knit_sentence *why;
};

__attribute__((format(printf, 2, 3))) static int refuse(
    struct reading *reading, const char *format, ...)
{
    char text[KNIT_SENTENCE_MAX / 2];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    return knit_sentence_set(
        reading->why, KNIT_POLICY_E_REFUSED, "%s:%u: %s", reading->path, reading->line, text);
}

/* ---- words --------------------------------------------------------------------------------- */

static bool begins_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* Room for one more, by doubling. */
static int grow(void **items, size_t count, size_t size)
{
    void *grown;

    if ((count & (count - 1)) != 0)
        return 0;
    grown = realloc(*items, (count != 0 ? 2 * count : 1) * size);
    if (grown == NULL)
        return -ENOMEM;
    *items = grown;
    return 0;
}

static int add_word(struct reading *reading, struct knit_policy_words *words, const char *text)
{
    void *items = words->items;

    if (reading->file->words == KNIT_POLICY_WORDS_MAX)
        return refuse(reading, "more than %u patterns and members", KNIT_POLICY_WORDS_MAX);
    if (grow(&items, words->count, sizeof(*words->items)) != 0)
        return -ENOMEM;
    words->items = items;
    words->items[words->count++] = (struct knit_policy_word){.text = text, .line = reading->line};
    reading->file->words++;
    return 0;
}

static bool is_method(const char *name)
{
    for (size_t i = 0; knit_policy_methods[i] != NULL; i++)
        if (strcmp(knit_policy_methods[i], name) == 0)
            return true;
    return false;
}

/* A misspelt method would be a rule about nothing; names of tasks may come later. */
static int check_pattern(struct reading *reading, const char *text)
{
    static const char others[] = "_.-*";
    const char *name = begins_with(text, "$/") ? text + 2 : text;
    size_t len = strlen(name);

    if (len == 0 || strlen(text) > KNIT_NAME_BYTES_MAX)
        return refuse(reading, "'%s' is no name of a task or of a method", text);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i], letter = c | 0x20;

        if ((letter < 'a' || letter > 'z') && (c < '0' || c > '9') && strchr(others, c) == NULL)
            return refuse(reading,
                "'%s': expected names of tasks, or patterns with *, with blanks between them",
                text);
    }
    if (name != text && strchr(name, '*') == NULL && !is_method(text)) {
        struct knit_nearest nearest;
        const char *found = NULL;

        knit_nearest_init(&nearest, text, strlen(text));
        for (size_t i = 0; knit_policy_methods[i] != NULL; i++)
            if (knit_nearest_try(&nearest, knit_policy_methods[i], strlen(knit_policy_methods[i])))
                found = knit_policy_methods[i];
        return refuse(reading, "'%s' is no method that a policy decides about%s%s", text,
            found != NULL ? "; the nearest is " : "", found != NULL ? found : "");
    }
    return 0;
}

/* Names of principals are compared byte by byte, so an id has one spelling. (uid_t)-1 is no id. */
static bool is_id(const char *text)
{
    size_t len = strspn(text, "0123456789");

    if (len == 0 || len > 10 || text[len] != '\0' || (text[0] == '0' && len > 1))
        return false;
    return strtoull(text, NULL, 10) < UINT32_MAX;
}

/* A member of a group, or the name of a principal, which is one alone. */
static int check_member(struct reading *reading, const char *text, bool is_own)
{
    static const char *const kinds[] = {
        "token:", "user:", "uid:", "cert:uri:", "cert:dns:", "unix-group:", "gid:"};
    enum { OF_SYSTEM = 5, KINDS = sizeof(kinds) / sizeof(kinds[0]) };
    const char *value = NULL;
    size_t kind = 0;

    if (strlen(text) > KNIT_POLICY_NAME_MAX)
        return refuse(reading, "a name is longer than %u characters", KNIT_POLICY_NAME_MAX);
    if (is_own && strchr(text, '*') != NULL)
        return refuse(reading, "'%s': a * stands in the members of a [group] alone", text);
    if (strcmp(text, "anonymous") == 0 || strcmp(text, "*") == 0)
        return 0;
    for (size_t i = 0; i < KINDS && value == NULL; i++)
        if (begins_with(text, kinds[i]))
            value = text + strlen(kinds[kind = i]);
    if (value == NULL || *value == '\0')
        return refuse(reading,
            "'%s': expected anonymous, token:NAME, user:NAME, uid:N, cert:uri:URI, cert:dns:NAME%s",
            text, is_own ? "" : ", unix-group:NAME or gid:N");
    if (is_own && kind >= OF_SYSTEM)
        return refuse(reading, "'%s' is a member of a [group], and no principal", text);
    if ((begins_with(text, "user:") || begins_with(text, "unix-group:")) &&
        strchr(value, '*') != NULL)
        return refuse(reading, "'%s': expected a name without *; uid:* are all users", text);
    if ((begins_with(text, "uid:") || begins_with(text, "gid:")) && !is_id(value) &&
        strcmp(value, "*") != 0)
        return refuse(
            reading, "'%s': expected a number from 0 to 4294967294, without zeros before it", text);
    return 0;
}

/* ---- lines --------------------------------------------------------------------------------- */

static char *strip(char *text)
{
    size_t len;

    text += strspn(text, BLANKS);
    len = strlen(text);
    while (len > 0 && strchr(BLANKS, text[len - 1]) != NULL)
        text[--len] = '\0';
    return text;
}

static int begin_section(struct reading *reading, char *text)
{
    struct knit_policy_file *file = reading->file;
    bool is_group = begins_with(text, "group");
    size_t kind = strlen(is_group ? "group" : "principal");
    void *sections = file->sections;
    struct knit_policy_section *section;
    char *name;
    int r;

    if ((!is_group && !begins_with(text, "principal")) || text[kind] == '\0' ||
        strchr(BLANKS, text[kind]) == NULL)
        return refuse(reading, "expected [group NAME] or [principal NAME]");
    name = strip(text + kind);
    if (*name == '\0' || strpbrk(name, BLANKS) != NULL || strlen(name) > KNIT_POLICY_NAME_MAX)
        return refuse(reading, "expected one name behind the word %s, of at most %u characters",
            is_group ? "group" : "principal", KNIT_POLICY_NAME_MAX);
    r = is_group ? 0 : check_member(reading, name, true);
    for (size_t i = 0; r == 0 && i < file->count; i++)
        if (file->sections[i].is_group == is_group && strcmp(file->sections[i].name, name) == 0)
            return refuse(reading, "[%s %s] stands on line %u already",
                is_group ? "group" : "principal", name, file->sections[i].line);
    if (r != 0)
        return r;
    if (file->count == KNIT_POLICY_SECTIONS_MAX)
        return refuse(reading, "more than %u sections", KNIT_POLICY_SECTIONS_MAX);
    if (grow(&sections, file->count, sizeof(*file->sections)) != 0)
        return -ENOMEM;
    file->sections = sections;
    section = &file->sections[file->count++];
    *section = (struct knit_policy_section){.name = name,
        .is_group = is_group,
        .line = reading->line,
        .own = {.text = name, .line = reading->line}};
    reading->section = section;
    return 0;
}

static int take_words(struct reading *reading, struct knit_policy_words *words, char *value)
{
    bool are_members = words == &reading->section->members;
    char *rest = NULL;
    int r = 0;

    for (char *word = strtok_r(value, BLANKS, &rest); r == 0 && word != NULL;
         word = strtok_r(NULL, BLANKS, &rest)) {
        r = are_members ? check_member(reading, word, false) : check_pattern(reading, word);
        if (r == 0)
            r = add_word(reading, words, word);
    }
    return r;
}

/* A whole number, with KiB, MiB or GiB behind it where it is a size. */
static bool read_number(const char *text, uint64_t *ret_value)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB"};
    uint64_t value = 0;
    size_t digits = strspn(text, "0123456789");

    if (digits == 0 || digits > 12)
        return false;
    for (size_t i = 0; i < digits; i++)
        value = 10 * value + (uint64_t)(text[i] - '0');
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(text + digits, units[i]) != 0)
            continue;
        if (value > UINT64_MAX >> (10 * i))
            return false;
        *ret_value = value << (10 * i);
        return true;
    }
    return false;
}

static int take_over_limit(struct reading *reading, const char *value)
{
    struct knit_policy_limits *limits = &reading->section->limits;

    if (limits->over_limit != KNIT_POLICY_OVER_NOT_SAID)
        return refuse(reading, "over_limit stands in this section already");
    if (strcmp(value, "refuse") == 0)
        limits->over_limit = KNIT_POLICY_OVER_REFUSE;
    else if (strcmp(value, "wait") == 0)
        limits->over_limit = KNIT_POLICY_OVER_WAIT;
    else
        return refuse(reading, "over_limit: expected refuse or wait, not '%s'", value);
    return 0;
}

static int take_limit(struct reading *reading, const char *key, const char *value)
{
    struct knit_policy_limits *limits = &reading->section->limits;
    uint64_t number;
    const struct {
        const char *key;
        uint64_t *limit, most;
    } rows[] = {{"weight", &limits->weight, 1000},
        {"calls_in_flight", &limits->calls_in_flight, 1000000},
        {"calls_per_second", &limits->calls_per_second, 1000000000},
        {"bytes_per_second", &limits->bytes_per_second, UINT64_C(1) << 40}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(key, rows[i].key) != 0)
            continue;
        if (*rows[i].limit != 0)
            return refuse(reading, "%s stands in this section already", key);
        if (!read_number(value, &number) || number == 0 || number > rows[i].most)
            return refuse(reading, "%s: expected a number from 1 to %llu%s, not '%s'", key,
                (unsigned long long)rows[i].most,
                rows[i].limit == &limits->bytes_per_second
                    ? ", or with KiB, MiB or GiB right behind it"
                    : "",
                value);
        *rows[i].limit = number;
        return 0;
    }
    return refuse(reading,
        "unknown key '%s'; there are members, allow, deny, weight, calls_in_flight, "
        "calls_per_second, bytes_per_second and over_limit",
        key);
}

static int take_pair(struct reading *reading, const char *key, char *value)
{
    struct knit_policy_section *section = reading->section;

    if (section == NULL)
        return refuse(reading, "expected [group NAME] or [principal NAME] before the first key");
    if (strcmp(key, "members") == 0 && !section->is_group)
        return refuse(reading, "members are a [group]'s; a principal is itself");
    if (*value == '\0')
        return refuse(reading, "%s: expected a value", key);
    if (strcmp(key, "members") == 0)
        return take_words(reading, &section->members, value);
    if (strcmp(key, "allow") == 0)
        return take_words(reading, &section->allow, value);
    if (strcmp(key, "deny") == 0)
        return take_words(reading, &section->deny, value);
    if (strcmp(key, "over_limit") == 0)
        return take_over_limit(reading, value);
    return take_limit(reading, key, value);
}

/* A # begins a comment in the first column and behind a blank; a URI may have one inside. */
static void cut_comment(char *text)
{
    for (char *mark = text; (mark = strchr(mark, '#')) != NULL; mark++)
        if (mark == text || strchr(BLANKS, mark[-1]) != NULL)
            *mark = '\0';
}

static int take_line(struct reading *reading, char *text)
{
    size_t len;
    char *mark;

    cut_comment(text);
    text = strip(text);
    len = strlen(text);
    if (len == 0)
        return 0;
    if (*text == '[') {
        if (text[len - 1] != ']')
            return refuse(reading, "expected ] at the end of the line");
        text[len - 1] = '\0';
        return begin_section(reading, strip(text + 1));
    }
    mark = strchr(text, '=');
    if (mark == NULL)
        return refuse(reading, "expected [group NAME], [principal NAME], key = value or a comment");
    *mark = '\0';
    return take_pair(reading, strip(text), strip(mark + 1));
}

int knit_policy_file_read(struct knit_policy_file *file, const char *path, const char *text,
    size_t len, struct knit_sentence *why)
{
    struct reading reading = {.file = file, .path = path, .why = why};
    char *next;
    int r = 0;

    if (len > KNIT_POLICY_FILE_BYTES_MAX)
        return knit_sentence_set(why, KNIT_POLICY_E_REFUSED, "%s: longer than %u bytes", path,
            KNIT_POLICY_FILE_BYTES_MAX);
    if (memchr(text, '\0', len) != NULL || !knit_text_is_utf8(text, len))
        return knit_sentence_set(why, KNIT_POLICY_E_REFUSED, "%s: expected text in UTF-8", path);
    file->text = malloc(len + 1);
    if (file->text == NULL)
        return -ENOMEM;
    memcpy(file->text, text, len);
    file->text[len] = '\0';
    next = file->text;
    while (r == 0 && next != NULL) {
        char *line = strsep(&next, "\n");

        reading.line++;
        r = take_line(&reading, line);
    }
    if (r != 0)
        knit_policy_file_fini(file);
    return r;
}

void knit_policy_file_fini(struct knit_policy_file *file)
{
    for (size_t i = 0; i < file->count; i++) {
        free(file->sections[i].members.items);
        free(file->sections[i].allow.items);
        free(file->sections[i].deny.items);
    }
    free(file->sections);
    free(file->text);
    *file = (struct knit_policy_file){0};
}
