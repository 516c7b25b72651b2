/* SPDX-License-Identifier: Apache-2.0 */
/* Two passes over the same words: the first finds --config and the commands, the second sets
 * values. Both walk with next_word(), so they cannot disagree about where a value belongs.
 */
#include "server/config/command_line.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "proto/nearest.h"

/* What is not a setting. */
enum word {
    WORD_SETTING,
    WORD_CONFIG,
    WORD_READY_FILE,
    WORD_TAKE_OVER,
    WORD_CHECK_CONFIG,
    WORD_PRINT_CONFIG,
    WORD_HELP,
    WORD_VERSION,
    WORD_SAMPLE_CONFIG,
};

static const struct {
    const char *name;
    enum word word;
    const char *argument;
    const char *help;
} words[] = {
    {"config", WORD_CONFIG, "FILE",
        "Read settings from FILE; without it, from " KNIT_SYSCONFDIR
        "/knittingd.conf if that is there."},
    {"ready-file", WORD_READY_FILE, "FILE",
        "Write FILE once calls are served: one url=... for each way to call, and pid=..."},
    {"take-over", WORD_TAKE_OVER, NULL,
        "Serve in the place of the daemon that serves the unix socket now: go on with its "
        "listening "
        "sockets, and have it drain once calls are served here. Without such a one, just start."},
    {"check-config", WORD_CHECK_CONFIG, NULL,
        "Read all settings, look at what they name, load the modules in a worker, say what is "
        "wrong, "
        "and leave."},
    {"print-config", WORD_PRINT_CONFIG, NULL,
        "Print each setting's value and where it comes from, and what follows from them here."},
    {"sample-config", WORD_SAMPLE_CONFIG, NULL, "Print a file with every setting's default."},
    {"help", WORD_HELP, NULL, "Print this."},
    {"version", WORD_VERSION, NULL, "Print the version."},
};
enum { WORDS = sizeof(words) / sizeof(words[0]) };

struct option {
    enum word word;
    const struct knit_setting *setting; /* of WORD_SETTING */
    const char *value;                  /* NULL = there was none, and none was due */
};

struct walk {
    int argc;
    char **argv;
    int next;
};

static int refuse_unknown(const char *name, size_t name_len, struct knit_sentence *why)
{
    char given[KNIT_NEAREST_NAME_MAX + 1], found[KNIT_NEAREST_NAME_MAX + 1] = "";
    const struct knit_setting *successor;
    struct knit_nearest nearest;

    (void)snprintf(given, sizeof(given), "%.*s", (int)name_len, name);
    successor = knit_setting_successor(NULL, given);
    if (successor != NULL) {
        knit_setting_name(successor, found, sizeof(found));
        return knit_sentence_set(
            why, KNIT_SETTING_E_REFUSED, "the option --%s is called --%s now", given, found);
    }
    knit_nearest_init(&nearest, name, name_len);
    for (size_t i = 0; i < WORDS + knit_setting_count; i++) {
        char own[KNIT_NEAREST_NAME_MAX + 1];

        if (i < WORDS)
            (void)snprintf(own, sizeof(own), "%s", words[i].name);
        else
            knit_setting_name(&knit_setting_table[i - WORDS], own, sizeof(own));
        if (knit_nearest_try(&nearest, own, strlen(own)))
            memcpy(found, own, sizeof(found));
    }
    if (found[0] != '\0')
        return knit_sentence_set(
            why, KNIT_SETTING_E_REFUSED, "unknown option --%s; the nearest is --%s", given, found);
    return knit_sentence_set(
        why, KNIT_SETTING_E_REFUSED, "unknown option --%s; --help lists the ones there are", given);
}

static bool may_stand_alone(const struct option *option)
{
    if (option->word == WORD_SETTING)
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): identify() has set it. */
        return option->setting->kind == KNIT_SETTING_SWITCH;
    return option->word != WORD_CONFIG && option->word != WORD_READY_FILE;
}

/* The row of a name, among the words or the settings. */
static int identify(
    const char *name, size_t name_len, struct option *ret_option, struct knit_sentence *why)
{
    *ret_option = (struct option){.word = WORD_SETTING};
    for (size_t i = 0; i < WORDS; i++) {
        if (strlen(words[i].name) != name_len || memcmp(words[i].name, name, name_len) != 0)
            continue;
        ret_option->word = words[i].word;
        return 0;
    }
    ret_option->setting = knit_setting_by_name(name, name_len);
    return ret_option->setting != NULL ? 0 : refuse_unknown(name, name_len, why);
}

/* Whether the word is one of the options, without a value. */
static bool is_option(const char *word)
{
    struct option option;
    struct knit_sentence why;

    return strncmp(word, "--", 2) == 0 && identify(word + 2, strlen(word + 2), &option, &why) == 0;
}

/* The word behind a switch is its value unless it is an option. */
static const char *value_of_switch(struct walk *walk)
{
    if (walk->next >= walk->argc || walk->argv[walk->next][0] == '-')
        return "on";
    return walk->argv[walk->next++];
}

/* The next option with its value; call while walk->next < walk->argc. */
static int next_option(struct walk *walk, struct option *ret_option, struct knit_sentence *why)
{
    const char *word = walk->argv[walk->next++];
    const char *name = word + 2, *equals;
    size_t name_len;
    int r;

    if (strcmp(word, "-h") == 0)
        word = "--help", name = word + 2;
    if (strncmp(word, "--", 2) != 0 || word[2] == '\0')
        return knit_sentence_set(
            why, KNIT_SETTING_E_REFUSED, "expected an option that begins with --, not '%s'", word);
    equals = strchr(name, '=');
    name_len = equals != NULL ? (size_t)(equals - name) : strlen(name);
    r = identify(name, name_len, ret_option, why);
    if (r != 0)
        return r;
    if (equals != NULL) {
        if (may_stand_alone(ret_option) && ret_option->word != WORD_SETTING)
            return knit_sentence_set(
                why, KNIT_SETTING_E_REFUSED, "--%.*s takes no value", (int)name_len, name);
        ret_option->value = equals + 1;
    } else if (may_stand_alone(ret_option)) {
        ret_option->value = ret_option->word == WORD_SETTING ? value_of_switch(walk) : NULL;
    } else if (walk->next < walk->argc && !is_option(walk->argv[walk->next])) {
        ret_option->value = walk->argv[walk->next++];
    } else {
        return knit_sentence_set(
            why, KNIT_SETTING_E_REFUSED, "--%.*s needs a value", (int)name_len, name);
    }
    return 0;
}

int knit_command_line_parse(
    int argc, char **argv, struct knit_command_line *ret_line, struct knit_sentence *why)
{
    static const enum knit_command commands[] = {[WORD_CHECK_CONFIG] = KNIT_COMMAND_CHECK_CONFIG,
        [WORD_PRINT_CONFIG] = KNIT_COMMAND_PRINT_CONFIG,
        [WORD_HELP] = KNIT_COMMAND_HELP,
        [WORD_VERSION] = KNIT_COMMAND_VERSION,
        [WORD_SAMPLE_CONFIG] = KNIT_COMMAND_SAMPLE_CONFIG};
    struct walk walk = {argc, argv, 1};
    struct knit_command_line line = {.command = KNIT_COMMAND_RUN};

    while (walk.next < argc) {
        struct option option;
        int r = next_option(&walk, &option, why);

        if (r != 0)
            return r;
        if (option.word == WORD_CONFIG)
            line.config = option.value;
        else if (option.word == WORD_READY_FILE)
            line.ready_file = option.value;
        else if (option.word == WORD_TAKE_OVER)
            line.takes_over = true;
        else if (option.word != WORD_SETTING)
            line.command = commands[option.word];
    }
    *ret_line = line;
    return 0;
}

int knit_command_line_apply(
    int argc, char **argv, struct knit_settings *settings, struct knit_sentence *why)
{
    const struct knit_setting_origin origin = {KNIT_SOURCE_COMMAND_LINE, NULL, 0};
    struct walk walk = {argc, argv, 1};

    while (walk.next < argc) {
        struct option option;
        int r = next_option(&walk, &option, why);

        if (r == 0 && option.word == WORD_SETTING)
            r = knit_setting_set(settings, option.setting, &origin, option.value, why);
        if (r != 0) {
            if (r == KNIT_SETTING_E_REFUSED)
                knit_sentence_prefix(why, "command line");
            return r;
        }
    }
    return 0;
}

enum { TEXT_WIDTH = 78 };

/* Words of `text` in lines of at most TEXT_WIDTH, each begun with `margin`. */
static void print_wrapped(const char *margin, const char *text)
{
    size_t column = 0;

    while (*text) {
        size_t len = strcspn(text, " ");

        if (column == 0 || column + 1 + len > TEXT_WIDTH) {
            printf("%s%s", column ? "\n" : "", margin);
            column = strlen(margin);
        } else {
            putchar(' ');
            column++;
        }
        printf("%.*s", (int)len, text);
        column += len;
        text += len;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static void print_choices(const char *margin, const struct knit_setting *setting)
{
    char line[256];
    size_t used;

    if (setting->choices == NULL)
        return;
    used = (size_t)snprintf(line, sizeof(line), "One of");
    for (size_t i = 0; setting->choices[i] != NULL; i++)
        used += (size_t)snprintf(
            line + used, sizeof(line) - used, "%s %s", i ? "," : "", setting->choices[i]);
    (void)snprintf(line + used, sizeof(line) - used, ".");
    print_wrapped(margin, line);
}

static int end_of_output(void)
{
    if (fflush(stdout) == EOF)
        return -errno;
    return ferror(stdout) ? -EIO : 0;
}

int knit_command_line_print_help(void)
{
    const char *section = "";

    printf("Usage: knittingd [OPTION]...\nServes tasks from modules to callers near and far.\n\n");
    for (size_t i = 0; i < WORDS; i++) {
        printf("  --%s%s%s\n", words[i].name, words[i].argument != NULL ? " " : "",
            words[i].argument != NULL ? words[i].argument : "");
        print_wrapped("      ", words[i].help);
    }
    printf("\nSettings, as options and (in their section) as keys of the file:\n");
    for (size_t i = 0; i < knit_setting_count; i++) {
        const struct knit_setting *setting = &knit_setting_table[i];
        char name[64];

        if (strcmp(section, setting->section) != 0)
            printf("\n[%s]\n", setting->section);
        section = setting->section;
        knit_setting_name(setting, name, sizeof(name));
        printf("  --%s %s", name, setting->argument);
        if (setting->preset != NULL)
            printf("   (%s)", setting->preset);
        putchar('\n');
        print_wrapped("      ", setting->help);
        print_choices("      ", setting);
    }
    return end_of_output();
}

int knit_command_line_print_sample(void)
{
    const char *section = "";

    printf("# Settings of knittingd. Every one is here with its default; see knittingd.conf(5).\n");
    for (size_t i = 0; i < knit_setting_count; i++) {
        const struct knit_setting *setting = &knit_setting_table[i];

        if (strcmp(section, setting->section) != 0)
            printf("\n[%s]\n", setting->section);
        section = setting->section;
        putchar('\n');
        print_wrapped("# ", setting->help);
        print_choices("# ", setting);
        printf("#%s = %s\n", setting->key,
            setting->preset != NULL ? setting->preset : setting->argument);
    }
    return end_of_output();
}
