/* SPDX-License-Identifier: Apache-2.0 */
/* knit describe: one task of the registry, which is read whole: the protocol asks for pages of it,
 * not for names. */
#include <stdio.h>
#include <string.h>

#include <json-c/json.h>
#include <knitting/task.h>

#include "clients/tool/tool.h"
#include "proto/nearest.h"

struct search {
    const struct knit_tool *tool;
    const char *name;
    size_t arguments_max;
    bool is_found;
    struct knit_nearest nearest;
    char near[KNIT_NAME_BYTES_MAX + 1]; /* "" = there is none */
};

static void print(const struct knit_task_info *info, size_t arguments_max)
{
    knit_tool_print_task(info);
    if (info->timeout_ms < 0)
        puts("    No time limit of its own.");
    printf("    Takes up to %zu bytes of arguments.\n", arguments_max);
    if ((info->flags & KNIT_TASK_INLINE_SAFE) != 0)
        puts("    May run in its caller's process.");
    if ((info->flags & KNIT_TASK_IDEMPOTENT) != 0)
        puts("    May run twice.");
    if (info->module[0] != '\0') {
        fputs("    From ", stdout);
        knit_tool_put_text(info->module);
        fputs(".\n", stdout);
    }
}

static void look_at(const struct knit_task_info *info, void *user)
{
    struct search *search = user;
    struct json_object *object;

    if (strcmp(info->name, search->name) != 0) {
        if (knit_nearest_try(&search->nearest, info->name, strlen(info->name)))
            snprintf(search->near, sizeof(search->near), "%s", info->name);
        return;
    }
    search->is_found = true;
    if (!search->tool->is_json) {
        print(info, search->arguments_max);
        return;
    }
    object = knit_tool_task_object(info);
    json_object_object_add(object, "arguments_max", json_object_new_uint64(search->arguments_max));
    knit_tool_put_object(object);
    json_object_put(object);
}

int knit_tool_describe(const struct knit_tool *tool, int argc, char **argv)
{
    struct search search = {.tool = tool};
    struct knit_error error;
    struct knit *k;
    int status;

    if (argc != 1)
        return knit_tool_usage(tool, "describe takes the name of a task; knit tasks lists them");
    status = knit_tool_open(tool, NULL, &k);
    if (status != KNIT_TOOL_OK)
        return status;
    search.name = argv[0];
    search.arguments_max = knit_arguments_max(k);
    knit_nearest_init(&search.nearest, argv[0], strlen(argv[0]));
    if (knit_tasks(k, &error, look_at, &search) != KNIT_OK) {
        status = knit_tool_report(tool, &error);
    } else if (!search.is_found) {
        knit_tool_own_error(&error, KNIT_UNKNOWN_TASK, "there is no task '%s'%s%s%s", argv[0],
            search.near[0] != '\0' ? "; the nearest is '" : "", search.near,
            search.near[0] != '\0' ? "'" : "");
        status = knit_tool_report(tool, &error);
    } else {
        status = knit_tool_finish(tool);
    }
    knit_close(k);
    return status;
}
