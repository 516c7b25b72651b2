/* SPDX-License-Identifier: Apache-2.0 */
/* knittingd: from the command line to the running service, and every refusal as one line.
 *
 * Exit statuses: 0 done, 1 it could not start or go on, 2 the settings are wrong. What the settings
 * say and name is looked at by one function, before a start and by --check-config, which then has a
 * worker load the modules, so that both refuse the same with the same status. What a start would
 * warn of the check says on stderr, and does not fail.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "fastpath/lane/fd.h"
#include "server/base/log.h"
#include "server/config/command_line.h"
#include "server/config/resolve.h"
#include "server/config/setting.h"
#include "server/config/settings_file.h"
#include "server/daemon/print_config.h"
#include "server/daemon/service.h"
#include "server/daemon/signals.h"
#include "server/daemon/workers.h"

enum {
    EXIT_START = 1,
    EXIT_SETTINGS = 2,
};

static const char usual_config[] = KNIT_SYSCONFDIR "/knittingd.conf";

/* error is what the refusing function returned: one below 0 may come without a sentence. */
static int refuse(int status, int error, struct knit_sentence *why)
{
    const char *hint = "";

    if (why->text[0] == '\0')
        knit_sentence_set(why, error, "cannot start: %s", strerror(error < 0 ? -error : EIO));
    /* Whichever part said it. */
    if (strstr(why->text, strerror(EFBIG)) != NULL)
        hint = "; the limit of file sizes (ulimit -f) counts shared memory too";
    (void)fprintf(stderr, "%sknittingd: %s%s\n", knit_log_is_journal(STDERR_FILENO) ? "<3>" : "",
        why->text, hint);
    return status;
}

/* The status of a command whose work is what it prints; error is what the printing returned. */
static int finish_printing(int error)
{
    struct knit_sentence why;

    if (error == 0)
        return 0;
    return refuse(EXIT_START,
        knit_sentence_set(&why, error, "cannot write the output: %s", strerror(-error)), &why);
}

static int print_version(void)
{
    return printf("knittingd %s\n", KNIT_VERSION) < 0 || fflush(stdout) == EOF ? -errno : 0;
}

/* Defaults, file, command line, and what follows from them. */
static int read_settings(int argc, char **argv, const struct knit_command_line *line,
    struct knit_settings *settings, struct knit_sentence *why)
{
    const char *file = line->config;
    int r;

    if (file == NULL && knit_settings_file_is_there(usual_config))
        file = usual_config;
    r = file != NULL ? knit_settings_file_read(settings, file, why) : 0;
    if (r == 0)
        r = knit_command_line_apply(argc, argv, settings, why);
    if (r == 0)
        r = knit_settings_resolve(settings, why);
    return r;
}

static int run(int argc, char **argv, const struct knit_command_line *line)
{
    const bool is_check = line->command == KNIT_COMMAND_CHECK_CONFIG;
    struct knit_settings settings;
    struct knit_sentence why = {""};
    struct knit_log log;
    int status;
    int r = knit_settings_init(&settings, &why);

    if (r != 0)
        return refuse(EXIT_SETTINGS, r, &why);
    r = read_settings(argc, argv, line, &settings, &why);
    if (r == 0 && line->command == KNIT_COMMAND_PRINT_CONFIG) {
        status = finish_printing(knit_print_config(&settings, usual_config));
        knit_settings_fini(&settings);
        return status;
    }
    knit_log_init(&log, STDERR_FILENO, KNIT_LOG_WARNING);
    if (r == 0)
        r = knit_service_check(&settings, line->ready_file, is_check ? &log : NULL, &why);
    knit_log_fini(&log);
    /* Below 0 it is the system that refuses. */
    status = r > 0 ? EXIT_SETTINGS : EXIT_START;
    if (r == 0 && line->command == KNIT_COMMAND_RUN)
        r = knit_service_run(
            &settings, &(struct knit_service_options){line->ready_file, line->takes_over}, &why);
    else if (r == 0)
        r = knit_workers_try(&settings, &why);
    if (r != 0) {
        knit_setting_say_where(&settings, &why);
        status = refuse(status, r, &why);
    } else {
        status = 0;
    }
    knit_settings_fini(&settings);
    return status;
}

int main(int argc, char **argv)
{
    struct knit_command_line line;
    struct knit_sentence why = {""};
    int r = knit_fd_reserve_standard();

    if (r != 0)
        return EXIT_START;
    knit_signals_disarm();
    r = knit_command_line_parse(argc, argv, &line, &why);
    if (r != 0)
        return refuse(EXIT_SETTINGS, r, &why);
    switch (line.command) {
    case KNIT_COMMAND_HELP:
        return finish_printing(knit_command_line_print_help());
    case KNIT_COMMAND_SAMPLE_CONFIG:
        return finish_printing(knit_command_line_print_sample());
    case KNIT_COMMAND_VERSION:
        return finish_printing(print_version());
    case KNIT_COMMAND_RUN:
    case KNIT_COMMAND_CHECK_CONFIG:
    case KNIT_COMMAND_PRINT_CONFIG:
        break;
    }
    return run(argc, argv, &line);
}
