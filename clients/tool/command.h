/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of `knit` and its options: one table each. The parser, help and the completions of
 * shells all follow from these two; a new command or option is one row.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "clients/tool/tool.h"

struct knit_tool_command {
    const char *name;
    const char *arguments; /* as usage shows them; "" = none */
    const char *summary;   /* one line for the list of commands */
    const char *details;   /* for `knit help COMMAND`: lines that end in a newline */
    const char *completes; /* what shells offer behind it: "task", "task file", "pid", ... */
    bool has_own_options;  /* everything behind its name belongs to another program */
    /* argv[0] is the first argument. Returns the exit status. */
    int (*run)(const struct knit_tool *tool, int argc, char **argv);
};

struct knit_tool_option {
    int letter; /* -u; above 255: there is none */
    const char *name;
    const char *value;    /* as usage shows it; NULL = a switch */
    const char *commands; /* those that it is for, between blanks; NULL = all */
    const char *summary;  /* lines without the last newline */
    /* value is NULL for a switch. Returns NULL, or what it takes, as in "--timeout takes ...". */
    const char *(*set)(struct knit_tool *tool, const char *value);
};

extern const struct knit_tool_command knit_tool_commands[];
extern const size_t knit_tool_commands_count;
extern const struct knit_tool_option knit_tool_options[];
extern const size_t knit_tool_options_count;

/* NULL: there is none. */
const struct knit_tool_command *knit_tool_command_find(const char *name);

bool knit_tool_option_is_for(
    const struct knit_tool_option *option, const struct knit_tool_command *command);

/* What the command line asks for. */
struct knit_tool_request {
    const struct knit_tool_command *command;
    int argc; /* of the command's own arguments */
    char **argv;
};

/* Options may stand anywhere before "--"; a word that begins with "-" and a digit is an argument,
 * and so is "-" alone. Reads all of them before it reports the first mistake, so that --json
 * counts wherever it stands. Reorders argv. Returns KNIT_TOOL_OK or KNIT_TOOL_USAGE. */
KNIT_MUST_CHECK int knit_tool_parse(
    int argc, char **argv, struct knit_tool *tool, struct knit_tool_request *ret_request);

/* Reports a name that is no command. Returns KNIT_TOOL_USAGE. */
int knit_tool_unknown_command(const struct knit_tool *tool, const char *name);
