/* SPDX-License-Identifier: Apache-2.0 */
/* knit help and knit version: the tables as text, or as JSON for programs. */
#include <stdio.h>
#include <string.h>

#include <json-c/json.h>

#include "clients/tool/command.h"

enum { SUMMARY_COLUMN = 21 };

static const char statuses[] =
    "Exit status: 0 success, 1 the task failed or check found something, 2 wrong command\n"
    "line, 3 no connection, 4 the pool refused the call, 5 it ran out of time, 6 its\n"
    "worker died, 7 no room for the output, 130 cancelled by Ctrl-C.\n";

/* "  -u, --url=URL"; returns its length. */
static int option_title(const struct knit_tool_option *option, char *title, size_t size)
{
    const char *equals = option->value != NULL ? "=" : "";
    const char *value = option->value != NULL ? option->value : "";

    return option->letter < 256
               ? snprintf(title, size, "-%c, --%s%s%s", option->letter, option->name, equals, value)
               : snprintf(title, size, "    --%s%s%s", option->name, equals, value);
}

static void print_options(const struct knit_tool_command *command)
{
    fputs("\nOptions, anywhere before --:\n", stdout);
    for (size_t i = 0; i < knit_tool_options_count; i++) {
        const struct knit_tool_option *option = &knit_tool_options[i];
        const char *line = option->summary, *end;
        char title[64];

        if (command != NULL && !knit_tool_option_is_for(option, command))
            continue;
        if (option_title(option, title, sizeof(title)) > SUMMARY_COLUMN - 3)
            printf("  %s\n%*s", title, SUMMARY_COLUMN, "");
        else
            printf("  %-*s", SUMMARY_COLUMN - 2, title);
        while ((end = strchr(line, '\n')) != NULL) {
            printf("%.*s\n%*s", (int)(end - line), line, SUMMARY_COLUMN, "");
            line = end + 1;
        }
        puts(line);
    }
}

static void print_all(void)
{
    fputs("Usage: knit [OPTION...] COMMAND [ARGUMENT...]\n"
          "Call tasks of a Knitting pool.\n"
          "\n"
          "Commands; knit help COMMAND has more:\n",
        stdout);
    for (size_t i = 0; i < knit_tool_commands_count; i++) {
        const struct knit_tool_command *command = &knit_tool_commands[i];
        char title[64];
        int len = snprintf(title, sizeof(title), "%s %s", command->name, command->arguments);

        if (len > SUMMARY_COLUMN - 4)
            printf("  %s\n%*s%s\n", title, SUMMARY_COLUMN, "", command->summary);
        else
            printf("  %-*s%s\n", SUMMARY_COLUMN - 2, title, command->summary);
    }
    print_options(NULL);
    printf("\n%s", statuses);
}

static void print_one(const struct knit_tool_command *command)
{
    printf("Usage: knit [OPTION...] %s%s%s\n%c%s.\n", command->name,
        command->arguments[0] != '\0' ? " " : "", command->arguments,
        command->summary[0] - 'a' + 'A', command->summary + 1);
    if (command->details[0] != '\0')
        printf("\n%s", command->details);
    if (!command->has_own_options)
        print_options(command);
}

static void add_text(struct json_object *object, const char *key, const char *text)
{
    json_object_object_add(object, key, text != NULL ? json_object_new_string(text) : NULL);
}

static struct json_object *command_object(const struct knit_tool_command *command)
{
    struct json_object *object = json_object_new_object(), *names = json_object_new_array();

    add_text(object, "name", command->name);
    add_text(object, "arguments", command->arguments);
    add_text(object, "summary", command->summary);
    add_text(object, "details", command->details);
    add_text(object, "completes", command->completes);
    for (size_t i = 0; i < knit_tool_options_count && !command->has_own_options; i++) {
        if (knit_tool_option_is_for(&knit_tool_options[i], command))
            json_object_array_add(names, json_object_new_string(knit_tool_options[i].name));
    }
    json_object_object_add(object, "options", names);
    return object;
}

static struct json_object *option_object(const struct knit_tool_option *option)
{
    const char letter[] = {(char)option->letter, '\0'};
    struct json_object *object = json_object_new_object();

    add_text(object, "name", option->name);
    add_text(object, "letter", option->letter < 256 ? letter : NULL);
    add_text(object, "value", option->value);
    add_text(object, "summary", option->summary);
    return object;
}

static void print_json_of_all(void)
{
    struct json_object *all = json_object_new_object();
    struct json_object *commands = json_object_new_array(), *options = json_object_new_array();

    for (size_t i = 0; i < knit_tool_commands_count; i++)
        json_object_array_add(commands, command_object(&knit_tool_commands[i]));
    for (size_t i = 0; i < knit_tool_options_count; i++)
        json_object_array_add(options, option_object(&knit_tool_options[i]));
    json_object_object_add(all, "commands", commands);
    json_object_object_add(all, "options", options);
    knit_tool_put_object(all);
    json_object_put(all);
}

static void print_json(const struct knit_tool_command *command)
{
    struct json_object *object = command_object(command);

    knit_tool_put_object(object);
    json_object_put(object);
}

int knit_tool_help(const struct knit_tool *tool, int argc, char **argv)
{
    const struct knit_tool_command *command = NULL;

    if (argc > 1)
        return knit_tool_usage(tool, "help takes the name of one command");
    if (argc == 1) {
        command = knit_tool_command_find(argv[0]);
        if (command == NULL)
            return knit_tool_unknown_command(tool, argv[0]);
    }
    if (tool->is_json && command != NULL)
        print_json(command);
    else if (tool->is_json)
        print_json_of_all();
    else if (command != NULL)
        print_one(command);
    else
        print_all();
    return knit_tool_finish(tool);
}

int knit_tool_version(const struct knit_tool *tool, int argc, char **argv)
{
    (void)argv;
    if (argc != 0)
        return knit_tool_usage(tool, "version takes no arguments");
    printf(tool->is_json ? "{\"version\":\"%s\"}\n" : "knit %s\n", knit_version());
    return knit_tool_finish(tool);
}
