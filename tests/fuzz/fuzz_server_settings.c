/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's settings: a file, and behind a NUL byte the words of a command line, one in each
 * line. Oracle: a refusal is one sentence, and of a file names the line; what the file set can be
 * given on the command line and has the same value there; resolved values lie in their range; each
 * address to listen on is parsed or refused.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/config/command_line.h"
#include "server/config/resolve.h"
#include "server/config/setting.h"
#include "server/config/settings_file.h"
#include "server/net/endpoint.h"
#include "tests/fuzz/target.h"
#include "tests/support/scratch.h"

enum { WORDS_MAX = 64 };

static char *folder, *path;

static void leave(void)
{
    free(path);
    (void)knit_scratch_free(folder);
}

static void assert_sentence(const struct knit_sentence *why)
{
    size_t len = strnlen(why->text, sizeof(why->text));

    KNIT_FUZZ_CHECK(len > 0 && len < sizeof(why->text));
    KNIT_FUZZ_CHECK(strchr(why->text, '\n') == NULL);
}

/* "FILE:LINE: ...", of a line that exists. */
static void assert_place(const struct knit_sentence *why, const char *bytes, size_t len)
{
    size_t lines = 1, path_len = strlen(path);
    unsigned long line;
    char *end;

    for (size_t i = 0; i < len; i++)
        lines += bytes[i] == '\n';
    KNIT_FUZZ_CHECK(strncmp(why->text, path, path_len) == 0 && why->text[path_len] == ':');
    line = strtoul(why->text + path_len + 1, &end, 10);
    KNIT_FUZZ_CHECK(line >= 1 && line <= lines && strncmp(end, ": ", 2) == 0 && end[2] != '\0');
}

/* ---- both ways ---- */

struct words {
    char *word[WORDS_MAX * 8];
    int count;
};

static void add_word(struct words *words, const char *name, const char *value)
{
    char *word = NULL;

    if (words->count == sizeof(words->word) / sizeof(words->word[0]))
        return;
    if (asprintf(&word, "--%s=%s", name, value) < 0)
        abort();
    words->word[words->count++] = word;
}

/* How the structure holds it: a char *, a struct knit_list, or a uint64_t. */
enum storage { TEXT, LIST, VALUE };

static enum storage stored_as(enum knit_setting_kind kind)
{
    switch (kind) {
    case KNIT_SETTING_TEXT:
    case KNIT_SETTING_PATH:
        return TEXT;
    case KNIT_SETTING_LIST:
    case KNIT_SETTING_PATH_LIST:
        return LIST;
    case KNIT_SETTING_NUMBER:
    case KNIT_SETTING_AUTO_NUMBER:
    case KNIT_SETTING_MODE:
    case KNIT_SETTING_SWITCH:
    case KNIT_SETTING_AUTO_SWITCH:
    case KNIT_SETTING_CHOICE:
        break;
    }
    return VALUE;
}

static void say(const struct knit_settings *settings, size_t row, struct words *words)
{
    const struct knit_setting *setting = &knit_setting_table[row];
    const void *place = (const char *)settings + setting->offset;
    const struct knit_list *list = place;
    char name[64], number[32];
    uint64_t value;

    knit_setting_name(setting, name, sizeof(name));
    switch (stored_as(setting->kind)) {
    case TEXT:
        add_word(words, name, *(char *const *)place);
        return;
    case LIST:
        for (size_t i = 0; i < list->count; i++)
            add_word(words, name, list->items[i]);
        return;
    case VALUE:
        break;
    }
    value = *(const uint64_t *)place;
    if (value == KNIT_AUTO)
        snprintf(number, sizeof(number), "auto");
    else if (setting->kind == KNIT_SETTING_SWITCH || setting->kind == KNIT_SETTING_AUTO_SWITCH)
        snprintf(number, sizeof(number), "%s", value ? "on" : "off");
    else if (setting->kind == KNIT_SETTING_CHOICE)
        snprintf(number, sizeof(number), "%s", setting->choices[value]);
    else
        snprintf(number, sizeof(number), setting->kind == KNIT_SETTING_MODE ? "%llo" : "%llu",
            (unsigned long long)value);
    add_word(words, name, number);
}

static bool is_same(const struct knit_settings *a, const struct knit_settings *b,
    const struct knit_setting *setting)
{
    const void *left = (const char *)a + setting->offset;
    const void *right = (const char *)b + setting->offset;
    const struct knit_list *lists[] = {left, right};
    const char *texts[2];

    switch (stored_as(setting->kind)) {
    case TEXT:
        texts[0] = *(char *const *)left;
        texts[1] = *(char *const *)right;
        return texts[0] == NULL ? texts[1] == NULL
                                : texts[1] != NULL && strcmp(texts[0], texts[1]) == 0;
    case LIST:
        if (lists[0]->count != lists[1]->count)
            return false;
        for (size_t i = 0; i < lists[0]->count; i++) {
            if (strcmp(lists[0]->items[i], lists[1]->items[i]) != 0)
                return false;
        }
        return true;
    case VALUE:
        break;
    }
    return *(const uint64_t *)left == *(const uint64_t *)right;
}

/* What the file set, given again as words. */
static void say_again(const struct knit_settings *settings)
{
    struct words words = {.word = {strdup("knittingd")}, .count = 1};
    struct knit_command_line line;
    struct knit_settings again;
    struct knit_sentence why;

    for (size_t row = 0; row < knit_setting_count; row++) {
        if (settings->source[row] == KNIT_SOURCE_FILE)
            say(settings, row, &words);
    }
    KNIT_FUZZ_CHECK(knit_settings_init(&again, &why) == 0);
    KNIT_FUZZ_CHECK(knit_command_line_parse(words.count, words.word, &line, &why) == 0);
    KNIT_FUZZ_CHECK(line.command == KNIT_COMMAND_RUN && line.config == NULL);
    KNIT_FUZZ_CHECK(knit_command_line_apply(words.count, words.word, &again, &why) == 0);
    for (size_t row = 0; row < knit_setting_count; row++)
        KNIT_FUZZ_CHECK(is_same(settings, &again, &knit_setting_table[row]));
    knit_settings_fini(&again);
    for (int i = 0; i < words.count; i++)
        free(words.word[i]);
}

/* ---- one input ---- */

static void resolve(struct knit_settings *settings)
{
    struct knit_endpoint endpoint;
    struct knit_sentence why = {""};

    if (knit_settings_resolve(settings, &why) != 0) {
        assert_sentence(&why);
        return;
    }
    KNIT_FUZZ_CHECK(settings->workers >= 1 && settings->workers <= 256);
    KNIT_FUZZ_CHECK(settings->threads_io >= 1 && settings->threads_io <= 64);
    KNIT_FUZZ_CHECK(settings->steal <= 1 && settings->slots >= 16 && settings->slots <= 16368);
    KNIT_FUZZ_CHECK(settings->call_max_bytes <= settings->arena_bytes / 8);
    KNIT_FUZZ_CHECK(settings->message_max_bytes <= 1 << 30);
    for (size_t i = 0; i < settings->listen.count; i++) {
        if (knit_endpoint_parse(settings->listen.items[i], "server.listen", &endpoint, &why) != 0)
            assert_sentence(&why);
        else
            (void)knit_endpoint_is_loopback(&endpoint);
    }
}

static void read_file(const char *bytes, size_t len, struct knit_settings *settings)
{
    struct knit_sentence why = {""};
    FILE *file = fopen(path, "wb");

    if (file == NULL || fwrite(bytes, 1, len, file) != len || fclose(file) != 0)
        abort();
    if (knit_settings_file_read(settings, path, &why) != 0) {
        assert_sentence(&why);
        assert_place(&why, bytes, len);
        return;
    }
    say_again(settings);
}

static void read_words(char *text, struct knit_settings *settings)
{
    char program[] = "knittingd", *words[WORDS_MAX + 1] = {program}, *rest = text;
    struct knit_command_line line;
    struct knit_sentence why = {""};
    int count = 1;

    while (count < WORDS_MAX && rest != NULL)
        words[count++] = strsep(&rest, "\n");
    if (knit_command_line_parse(count, words, &line, &why) != 0 ||
        knit_command_line_apply(count, words, settings, &why) != 0)
        assert_sentence(&why);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    const uint8_t *nul = len > 0 ? memchr(bytes, '\0', len) : NULL;
    struct knit_settings settings;
    struct knit_sentence why;
    char *text = NULL;

    if (folder == NULL) {
        folder = knit_scratch_new();
        path = knit_scratch_path(folder, "knittingd.conf");
        (void)atexit(leave);
        unsetenv("KNITTING_DEBUG");
    }
    KNIT_FUZZ_CHECK(knit_settings_init(&settings, &why) == 0);
    read_file((const char *)bytes, nul != NULL ? (size_t)(nul - bytes) : len, &settings);
    if (nul != NULL) {
        text = strndup((const char *)nul + 1, len - (size_t)(nul + 1 - bytes));
        read_words(text, &settings);
    }
    resolve(&settings);
    knit_settings_fini(&settings);
    free(text);
    return 0;
}
