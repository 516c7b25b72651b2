/* SPDX-License-Identifier: Apache-2.0 */
/* knit tasks, knit lift, knit drain and knit stats: what the daemon has, what it counted, and what
 * an operator asks of it. JSON is made by json-c; that of the counters, which come as one msgpack
 * value, by the functions that write results. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "clients/tool/json.h"
#include "clients/tool/tool.h"

static int refuse_arguments(const struct knit_tool *tool, const char *command, int argc)
{
    return argc == 0 ? KNIT_TOOL_OK : knit_tool_usage(tool, "%s takes no arguments", command);
}

void knit_tool_print_task(const struct knit_task_info *info)
{
    knit_tool_put_text(info->signature);
    if (info->doc[0] != '\0') {
        printf("\n    ");
        knit_tool_put_text(info->doc);
    }
    putchar('\n');
    if (info->timeout_ms >= 0)
        printf("    Limited to %g ms.\n", info->timeout_ms);
    if (info->deaths != 0) {
        const char *name = sigabbrev_np(info->last_signal);

        printf("    %sWorkers that it took down: %llu, the last by %s%s.\n",
            info->quarantined ? "Quarantined. " : "", (unsigned long long)info->deaths,
            info->last_signal != 0 ? "SIG" : "",
            info->last_signal == 0 ? "exit" : (name != NULL ? name : "?"));
    }
}

struct json_object *knit_tool_task_object(const struct knit_task_info *info)
{
    struct json_object *task = json_object_new_object();

    json_object_object_add(task, "id", json_object_new_int64(info->id));
    json_object_object_add(task, "name", json_object_new_string(info->name));
    json_object_object_add(task, "signature", json_object_new_string(info->signature));
    json_object_object_add(task, "doc", json_object_new_string(info->doc));
    json_object_object_add(task, "timeout_ms",
        info->timeout_ms >= 0 ? json_object_new_int64((int64_t)info->timeout_ms) : NULL);
    json_object_object_add(task, "module", json_object_new_string(info->module));
    json_object_object_add(task, "flags", json_object_new_int64(info->flags));
    json_object_object_add(task, "deaths", json_object_new_int64((int64_t)info->deaths));
    json_object_object_add(task, "last_signal", json_object_new_int(info->last_signal));
    json_object_object_add(task, "quarantined", json_object_new_boolean(info->quarantined));
    return task;
}

static void print_task(const struct knit_task_info *info, void *user)
{
    (void)user;
    knit_tool_print_task(info);
}

static void gather_task(const struct knit_task_info *info, void *user)
{
    json_object_array_add(user, knit_tool_task_object(info));
}

int knit_tool_tasks(const struct knit_tool *tool, int argc, char **argv)
{
    struct json_object *array = tool->is_json ? json_object_new_array() : NULL;
    struct knit_error error;
    struct knit *k;
    int status = refuse_arguments(tool, "tasks", argc);

    (void)argv;
    if (status == KNIT_TOOL_OK)
        status = knit_tool_open(tool, NULL, &k);
    if (status != KNIT_TOOL_OK) {
        json_object_put(array);
        return status;
    }
    if (knit_tasks(k, &error, tool->is_json ? gather_task : print_task, array) != KNIT_OK) {
        status = knit_tool_report(tool, &error);
    } else {
        if (tool->is_json)
            knit_tool_put_object(array);
        status = knit_tool_finish(tool);
    }
    json_object_put(array);
    knit_close(k);
    return status;
}

int knit_tool_lift(const struct knit_tool *tool, int argc, char **argv)
{
    struct knit_error error;
    struct knit *k;
    bool lifted;
    int status = argc == 1 ? KNIT_TOOL_OK
                           : knit_tool_usage(tool, "lift takes the name of a quarantined task");

    if (status == KNIT_TOOL_OK)
        status = knit_tool_open(tool, NULL, &k);
    if (status != KNIT_TOOL_OK)
        return status;
    if (knit_lift(k, &error, argv[0], &lifted) != KNIT_OK) {
        status = knit_tool_report(tool, &error);
    } else {
        if (tool->is_json)
            printf("{\"lifted\":%s}\n", lifted ? "true" : "false");
        else
            puts(lifted ? "served again" : "it was not quarantined");
        status = knit_tool_finish(tool);
    }
    knit_close(k);
    return status;
}

int knit_tool_drain(const struct knit_tool *tool, int argc, char **argv)
{
    struct knit_error error;
    struct knit *k;
    bool began;
    int status = argc > 0 ? refuse_arguments(tool, "drain", argc) : knit_tool_open(tool, NULL, &k);

    (void)argv;
    if (status != KNIT_TOOL_OK)
        return status;
    if (knit_drain(k, &error, &began) != KNIT_OK) {
        status = knit_tool_report(tool, &error);
    } else {
        if (tool->is_json)
            printf("{\"began\":%s}\n", began ? "true" : "false");
        else
            puts(began ? "it drains" : "it was draining already");
        status = knit_tool_finish(tool);
    }
    knit_close(k);
    return status;
}

int knit_tool_stats(const struct knit_tool *tool, int argc, char **argv)
{
    struct knit_error error;
    struct knit *k;
    const void *map;
    size_t len;
    char *text;
    int status = refuse_arguments(tool, "stats", argc);

    (void)argv;
    if (status == KNIT_TOOL_OK)
        status = knit_tool_open(tool, NULL, &k);
    if (status != KNIT_TOOL_OK)
        return status;
    if (knit_stats(k, &error, &map, &len) != KNIT_OK) {
        status = knit_tool_report(tool, &error);
    } else if (tool->is_raw) {
        (void)fwrite(map, 1, len, stdout);
        status = knit_tool_finish(tool);
    } else if (knit_json_write(knit_span(map, len), !tool->is_json, &text) != 0) {
        status = knit_tool_no_memory(tool);
    } else {
        knit_tool_put_json(text);
        free(text);
        status = knit_tool_finish(tool);
    }
    knit_close(k);
    return status;
}
