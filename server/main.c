/* SPDX-License-Identifier: Apache-2.0 */
/* knittingd: from the command line to the running service, and every refusal as one line.
 *
 * Exit statuses: 0 done, 1 it could not start, 2 the settings are wrong.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "server/command_line.h"
#include "server/service.h"
#include "server/setting.h"
#include "server/settings_file.h"

enum {
    EXIT_START = 1,
    EXIT_SETTINGS = 2,
};

static const char usual_config[] = KNIT_SYSCONFDIR "/knittingd.conf";

static int refuse(int status, const struct knit_sentence *why)
{
    (void)fprintf(stderr, "knittingd: %s\n", why->text);
    return status;
}

/* Defaults, file, command line, and what follows from them. */
static int read_settings(int argc, char **argv, const struct knit_command_line *line,
    struct knit_settings *settings, struct knit_sentence *why)
{
    const char *file = line->config;
    int r;

    if (!file && access(usual_config, F_OK) == 0)
        file = usual_config;
    r = file ? knit_settings_file_read(settings, file, why) : 0;
    if (r == 0)
        r = knit_command_line_apply(argc, argv, settings, why);
    if (r == 0)
        r = knit_settings_resolve(settings, why);
    return r == -ENOMEM ? knit_sentence_say(why, r, "out of memory") : r;
}

static int run(int argc, char **argv, const struct knit_command_line *line)
{
    struct knit_settings settings;
    struct knit_sentence why;
    int status = 0;

    if (knit_settings_init(&settings, &why) != 0)
        return refuse(EXIT_SETTINGS, &why);
    if (read_settings(argc, argv, line, &settings, &why) != 0)
        status = refuse(EXIT_SETTINGS, &why);
    else if (line->command == KNIT_COMMAND_CHECK_CONFIG)
        status = knit_service_check(&settings, &why) != 0 ? refuse(EXIT_SETTINGS, &why) : 0;
    else if (knit_service_run(&settings, line->ready_file, &why) != 0)
        status = refuse(EXIT_START, &why);
    knit_settings_fini(&settings);
    return status;
}

int main(int argc, char **argv)
{
    struct knit_command_line line;
    struct knit_sentence why;

    if (knit_command_line_parse(argc, argv, &line, &why) != 0)
        return refuse(EXIT_SETTINGS, &why);
    switch (line.command) {
    case KNIT_COMMAND_HELP:
        return knit_command_line_print_help() == 0 ? 0 : EXIT_START;
    case KNIT_COMMAND_SAMPLE_CONFIG:
        return knit_command_line_print_sample() == 0 ? 0 : EXIT_START;
    case KNIT_COMMAND_VERSION:
        return printf("knittingd %s\n", KNIT_VERSION) > 0 && fflush(stdout) == 0 ? 0 : EXIT_START;
    case KNIT_COMMAND_RUN:
    case KNIT_COMMAND_CHECK_CONFIG:
        break;
    }
    return run(argc, argv, &line);
}
