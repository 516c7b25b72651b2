/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: every setting as --name, and what is not a setting.
 *
 * Both --name VALUE and --name=VALUE are taken. A switch may stand alone and is then on. There are
 * no short names but -h, no operands, and a name that is not known refuses the start, naming the
 * nearest one.
 */
#pragma once

#include <knitting/code.h>

#include "server/config/setting.h"

enum knit_command {
    KNIT_COMMAND_RUN,
    KNIT_COMMAND_CHECK_CONFIG,
    KNIT_COMMAND_PRINT_CONFIG,
    KNIT_COMMAND_HELP,
    KNIT_COMMAND_VERSION,
    KNIT_COMMAND_SAMPLE_CONFIG,
};

struct knit_command_line {
    enum knit_command command;
    const char *config;     /* NULL = the usual file, if there is one */
    const char *ready_file; /* NULL = none */
    bool takes_over;
};

/* What is not a setting, and whether each name is known. knit_command_line_apply() reads the values
 * of settings later, so that the file can be read in between.
 * Returns 0 or KNIT_SETTING_E_REFUSED. */
KNIT_MUST_CHECK int knit_command_line_parse(
    int argc, char **argv, struct knit_command_line *ret_line, struct knit_sentence *why);

/* Puts the values into settings. The words have passed knit_command_line_parse().
 * Returns 0, KNIT_SETTING_E_REFUSED or -ENOMEM. */
KNIT_MUST_CHECK int knit_command_line_apply(
    int argc, char **argv, struct knit_settings *settings, struct knit_sentence *why);

/* --help and --sample-config, to stdout. Return 0, or -errno when it cannot be written. */
KNIT_MUST_CHECK int knit_command_line_print_help(void);
KNIT_MUST_CHECK int knit_command_line_print_sample(void);
