/* SPDX-License-Identifier: Apache-2.0 */
/* knit: calls tasks from a shell.
 *
 * Options stand before or behind the command, but always before the task's name: everything behind
 * that is an argument, "-5" for example.
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/tool/tool.h"
#include "fastpath/lane/fd.h"

static const char help[] =
    "Usage: knit [OPTION...] COMMAND [ARGUMENT...]\n"
    "Call tasks of a Knitting pool.\n"
    "\n"
    "Commands:\n"
    "  call TASK [ARGUMENT...]  call a task and print its result as JSON\n"
    "  tasks                    list the tasks with their signatures\n"
    "  ping                     see whether the daemon answers and a worker can serve, and how "
    "fast\n"
    "  health                   the same for probes: exit status 0 ready, 1 degraded, 2 not "
    "reachable\n"
    "  stats                    print the daemon's counters\n"
    "  lift TASK                serve a quarantined task again; for root and the daemon's user\n"
    "  check PID                look through a daemon's memory for what is broken\n"
    "\n"
    "An ARGUMENT is JSON. @FILE sends the bytes of a file, - those of standard input;\n"
    "@text:FILE sends a file as text, @json:FILE as the JSON that is in it. What JSON\n"
    "has no word for is written as an object with one member: {\"$bin\": BASE64},\n"
    "{\"$float\": \"NaN\"}, {\"$bigint\": \"0xff\"}, {\"$map\": [[KEY, VALUE], ...]}, {\"$f64\": "
    "[1.5]}\n"
    "and more, see knit(1). Results are printed in the same way.\n"
    "\n"
    "Options, before TASK:\n"
    "  -u, --url URL     knit://HOST[:PORT], unix:///PATH or shm:///PATH; default: $KNITTING_URL,\n"
    "                    else the default socket of the daemon by unix://\n"
    "  -t, --timeout MS  give the call that many milliseconds; 0 has expired already\n"
    "      --raw         print the bytes of a str or bin as they are, anything else as msgpack\n"
    "      --json        print errors, tasks, ping, health and check as JSON as well\n"
    "  -h, --help        print this and end\n"
    "  -V, --version     print the version and end\n"
    "\n"
    "Exit status: 0 success, 1 the task failed or check found something, 2 wrong command line,\n"
    "3 no connection, 4 the pool refused the call, 5 it ran out of time, 6 its worker died,\n"
    "7 no room for the output, 130 cancelled by Ctrl-C.\n";

static const struct option options[] = {
    {"url", required_argument, NULL, 'u'},
    {"timeout", required_argument, NULL, 't'},
    {"raw", no_argument, NULL, 'r'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

static const struct {
    const char *name;
    int (*run)(const struct knit_tool *tool, int argc, char **argv);
} commands[] = {
    {"call", knit_tool_call},
    {"tasks", knit_tool_tasks},
    {"ping", knit_tool_ping},
    {"health", knit_tool_health},
    {"stats", knit_tool_stats},
    {"lift", knit_tool_lift},
    {"check", knit_tool_check},
};

/* The socket of a daemon that the user runs is tried before that of the system's. Over the socket
 * itself: to attach takes longer than one call saves. */
static const char *default_url(void)
{
    static char url[256];
    const char *given = getenv("KNITTING_URL"), *runtime = getenv("XDG_RUNTIME_DIR");

    if (given != NULL && given[0] != '\0')
        return given;
    if (geteuid() != 0 && runtime != NULL && runtime[0] == '/') {
        snprintf(url, sizeof(url), "unix://%s/knitting/knitting.sock", runtime);
        if (access(url + strlen("unix://"), F_OK) == 0)
            return url;
    }
    return "unix:///run/knitting/knitting.sock";
}

static int read_timeout(struct knit_tool *tool, const char *text)
{
    char *end;

    errno = 0;
    tool->timeout_ms = strtod(text, &end);
    if (end == text || *end != '\0' || errno != 0 || !isfinite(tool->timeout_ms) ||
        tool->timeout_ms < 0)
        return knit_tool_usage(tool, "--timeout takes a number of milliseconds, not \"%s\"", text);
    tool->has_timeout = true;
    return KNIT_TOOL_OK;
}

/* Reads options up to the first word that is not one. *ret_ended: --help or --version was printed,
 * and the run is over. */
static int read_options(struct knit_tool *tool, int argc, char **argv, bool *ret_ended)
{
    int status = KNIT_TOOL_OK, option;

    optind = 0;
    opterr = 0;
    while (status == KNIT_TOOL_OK &&
           (option = getopt_long(argc, argv, "+:u:t:hV", options, NULL)) != -1) {
        switch (option) {
        case 'u':
            tool->url = optarg;
            break;
        case 't':
            status = read_timeout(tool, optarg);
            break;
        case 'r':
            tool->is_raw = true;
            break;
        case 'j':
            tool->is_json = true;
            break;
        case 'h':
            fputs(help, stdout);
            *ret_ended = true;
            return knit_tool_finish(tool);
        case 'V':
            printf("knit %s\n", knit_version());
            *ret_ended = true;
            return knit_tool_finish(tool);
        case ':':
            return knit_tool_usage(tool, "%s needs a value", argv[optind - 1]);
        default:
            return knit_tool_usage(tool, "unknown option %s; see knit --help", argv[optind - 1]);
        }
    }
    return status;
}

int main(int argc, char **argv)
{
    struct knit_tool tool = {.timeout_ms = -1};
    bool has_ended = false;
    int status = KNIT_TOOL_OUTPUT;

    if (knit_fd_reserve_standard() == 0)
        status = read_options(&tool, argc, argv, &has_ended);
    if (status != KNIT_TOOL_OK || has_ended)
        return status;
    argc -= optind;
    argv += optind;
    if (argc == 0)
        return knit_tool_usage(&tool,
            "which command? call, tasks, ping, health, stats, lift or check; see knit --help");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(argv[0], commands[i].name) != 0)
            continue;
        status = read_options(&tool, argc, argv, &has_ended);
        if (status != KNIT_TOOL_OK || has_ended)
            return status;
        if (tool.url == NULL)
            tool.url = default_url();
        return commands[i].run(&tool, argc - optind, argv + optind);
    }
    return knit_tool_usage(&tool,
        "unknown command \"%s\"; there are call, tasks, ping, health, stats, lift and check, see "
        "knit "
        "--help",
        argv[0]);
}
