/* SPDX-License-Identifier: Apache-2.0 */
/* The command line by the tables of command_table.c.
 *
 * getopt_long() knows what users expect: --name=VALUE and --name VALUE, abbreviated names, letters
 * in one word with a value at its end. It is asked word by word, since only here is known that -5
 * is a number. Its own messages go to stderr as they are, which is no good with --json; what was
 * wrong is found out from what it leaves behind.
 */
#include <ctype.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "clients/tool/command.h"
#include "proto/nearest.h"

enum { OPTIONS_MAX = 32, LETTERS_MAX = 3 * OPTIONS_MAX };

struct parse {
    struct knit_tool *tool;
    const struct knit_tool_option *seen[OPTIONS_MAX]; /* by their places in the table */
    bool wants_help, wants_version;
    char mistake[512]; /* the first one; "" = none */
};

static void __attribute__((format(printf, 2, 3))) note(struct parse *parse, const char *format, ...)
{
    va_list args;

    if (parse->mistake[0] != '\0')
        return;
    va_start(args, format);
    vsnprintf(parse->mistake, sizeof(parse->mistake), format, args);
    va_end(args);
}

const struct knit_tool_command *knit_tool_command_find(const char *name)
{
    for (size_t i = 0; i < knit_tool_commands_count; i++) {
        if (strcmp(knit_tool_commands[i].name, name) == 0)
            return &knit_tool_commands[i];
    }
    return NULL;
}

bool knit_tool_option_is_for(
    const struct knit_tool_option *option, const struct knit_tool_command *command)
{
    size_t len = strlen(command->name);
    const char *at = option->commands;

    if (at == NULL)
        return true;
    for (; (at = strstr(at, command->name)) != NULL; at += len) {
        if ((at == option->commands || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0'))
            return true;
    }
    return false;
}

static const char *nearest_command(const char *name)
{
    struct knit_nearest nearest;
    const char *found = NULL;

    knit_nearest_init(&nearest, name, strlen(name));
    for (size_t i = 0; i < knit_tool_commands_count; i++) {
        const char *known = knit_tool_commands[i].name;

        if (knit_nearest_try(&nearest, known, strlen(known)))
            found = known;
    }
    return found;
}

int knit_tool_unknown_command(const struct knit_tool *tool, const char *name)
{
    const char *near = nearest_command(name);

    return knit_tool_usage(tool, "unknown command \"%s\"%s%s; knit help lists them", name,
        near != NULL ? "; the nearest is " : "", near != NULL ? near : "");
}

/* ---- what getopt_long() refuses ---- */

static const struct knit_tool_option *option_of(int letter)
{
    for (size_t i = 0; i < knit_tool_options_count; i++) {
        if (knit_tool_options[i].letter == letter)
            return &knit_tool_options[i];
    }
    return NULL;
}

/* --word, which is no option or the beginning of several. */
static void note_unknown_name(struct parse *parse, const char *word)
{
    struct knit_nearest nearest;
    const char *near = NULL;
    const char *beginnings[2];
    size_t len = strcspn(word + 2, "="), count = 0;

    knit_nearest_init(&nearest, word + 2, len);
    for (size_t i = 0; i < knit_tool_options_count; i++) {
        const char *known = knit_tool_options[i].name;

        if (strncmp(known, word + 2, len) == 0 && count < 2)
            beginnings[count++] = known;
        if (knit_nearest_try(&nearest, known, strlen(known)))
            near = known;
    }
    if (count == 2)
        note(parse, "%.*s may be --%s or --%s", (int)len + 2, word, beginnings[0], beginnings[1]);
    else if (near != NULL)
        note(parse, "unknown option %.*s; the nearest is --%s", (int)len + 2, word, near);
    else
        note(parse, "unknown option %.*s; see knit help", (int)len + 2, word);
}

static void note_refused(struct parse *parse, int answer, const char *word)
{
    const struct knit_tool_option *option = option_of(optopt);
    bool is_name = word[1] == '-';

    if (answer == ':' && option != NULL)
        note(parse, "--%s needs a value, %s", option->name, option->value);
    else if (is_name && option != NULL)
        note(parse, "--%s takes no value", option->name);
    else if (is_name)
        note_unknown_name(parse, word);
    else if (optopt > ' ' && optopt < 127)
        note(parse, "unknown option -%c; see knit help", optopt);
    else
        note(parse, "unknown option in %s; see knit help", word);
}

/* ---- reading ---- */

static void take(struct parse *parse, const struct knit_tool_option *option, const char *value)
{
    const char *wanted;

    parse->seen[option - knit_tool_options] = option;
    if (option->set == NULL) {
        parse->wants_help = parse->wants_help || option->letter == 'h';
        parse->wants_version = parse->wants_version || option->letter == 'V';
        return;
    }
    wanted = option->set(parse->tool, value);
    if (wanted != NULL)
        note(parse, "--%s takes %s, not \"%s\"", option->name, wanted, value);
}

/* The tables as getopt_long() wants them. */
static void describe(struct option names[OPTIONS_MAX + 1], char letters[LETTERS_MAX])
{
    char *at = letters;

    *at++ = '+';
    *at++ = ':';
    for (size_t i = 0; i < knit_tool_options_count; i++) {
        const struct knit_tool_option *option = &knit_tool_options[i];

        names[i] = (struct option){option->name,
            option->value != NULL ? required_argument : no_argument, NULL, option->letter};
        if (option->letter > 255)
            continue;
        *at++ = (char)option->letter;
        if (option->value != NULL)
            *at++ = ':';
    }
    names[knit_tool_options_count] = (struct option){0};
    *at = '\0';
}

static bool is_argument(const char *word)
{
    return word[0] != '-' || word[1] == '\0' || isdigit((unsigned char)word[1]);
}

/* Moves what is no option to the front of argv, behind the program's name. Returns their number. */
static int read_words(struct parse *parse, int argc, char **argv)
{
    struct option names[OPTIONS_MAX + 1];
    char letters[LETTERS_MAX];
    const struct knit_tool_command *command = NULL;
    bool is_inside = false; /* of a word with several letters */
    int count = 0, answer;

    describe(names, letters);
    opterr = 0;
    optind = 1;
    while (optind < argc && (command == NULL || !command->has_own_options)) {
        char *word = argv[optind];
        int before = optind;

        if (is_inside || !is_argument(word)) {
            answer = getopt_long(argc, argv, letters, names, NULL);
            if (answer == -1) /* "--" */
                break;
            is_inside = optind == before;
            if (answer == '?' || answer == ':')
                note_refused(parse, answer, word);
            else
                take(parse, option_of(answer), optarg);
            continue;
        }
        argv[++count] = word;
        optind++;
        if (count == 1)
            command = knit_tool_command_find(word);
    }
    while (optind < argc)
        argv[++count] = argv[optind++];
    return count;
}

static void check_options(struct parse *parse, const struct knit_tool_command *command)
{
    for (size_t i = 0; i < knit_tool_options_count; i++) {
        const struct knit_tool_option *option = parse->seen[i];

        if (option != NULL && !knit_tool_option_is_for(option, command))
            note(parse, "%s has no option --%s; it is for: %s", command->name, option->name,
                option->commands);
    }
}

int knit_tool_parse(
    int argc, char **argv, struct knit_tool *tool, struct knit_tool_request *ret_request)
{
    struct parse parse = {.tool = tool};
    int count = argc > 0 ? read_words(&parse, argc, argv) : 0;
    const struct knit_tool_command *command = count > 0 ? knit_tool_command_find(argv[1]) : NULL;

    *ret_request = (struct knit_tool_request){command, count - 1, argv + 2};
    if (parse.wants_help || parse.wants_version) {
        ret_request->command = knit_tool_command_find(parse.wants_help ? "help" : "version");
        ret_request->argc = parse.wants_help && command != NULL ? 1 : 0;
        ret_request->argv = argv + 1;
        return KNIT_TOOL_OK;
    }
    if (command != NULL)
        check_options(&parse, command);
    if (parse.mistake[0] != '\0')
        return knit_tool_usage(tool, "%s", parse.mistake);
    if (command != NULL)
        return KNIT_TOOL_OK;
    return count > 0 ? knit_tool_unknown_command(tool, argv[1])
                     : knit_tool_usage(tool, "which command? knit help lists them");
}
