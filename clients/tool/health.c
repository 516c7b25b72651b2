/* SPDX-License-Identifier: Apache-2.0 */
/* knit ping and knit health: whether a call would be served now. A daemon that answers while no
 * worker of it can serve is not well, so both ask for the pool's counters too.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "clients/tool/json.h"
#include "clients/tool/tool.h"

/* Exit statuses of health, which are those of probes. */
enum {
    HEALTH_READY = 0,
    HEALTH_DEGRADED = 1,
    HEALTH_UNREACHABLE = 2,
};

struct health {
    double ms; /* how long the daemon took to answer */
    int64_t lanes, lanes_serving;
    bool is_degraded;
};

static struct json_object *member(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;

    return json_object_object_get_ex(object, key, &value) ? value : NULL;
}

/* Of what a daemon sent as its counters. */
static void read_pool(const void *map, size_t len, struct health *health)
{
    char *text = NULL;
    struct json_object *stats, *pool;

    if (knit_json_write(knit_span(map, len), false, &text) != 0)
        return;
    stats = json_tokener_parse(text);
    pool = member(stats, "pool");
    health->lanes = json_object_get_int64(member(pool, "lanes"));
    health->lanes_serving = json_object_get_int64(member(pool, "lanes_serving"));
    health->is_degraded = json_object_get_boolean(member(pool, "is_degraded"));
    json_object_put(stats);
    free(text);
}

static int ask(struct knit *k, struct health *ret_health, struct knit_error *ret_error)
{
    const void *map;
    uint64_t ns;
    size_t len;
    int code;

    *ret_health = (struct health){0};
    code = knit_ping(k, ret_error, &ns);
    if (code == KNIT_OK)
        code = knit_stats(k, ret_error, &map, &len);
    if (code != KNIT_OK)
        return code;
    ret_health->ms = (double)ns / 1e6;
    read_pool(map, len, ret_health);
    return KNIT_OK;
}

int knit_tool_ping(const struct knit_tool *tool, int argc, char **argv)
{
    struct knit_error error;
    struct health health;
    struct knit *k;
    int status = argc == 0 ? KNIT_TOOL_OK : knit_tool_usage(tool, "ping takes no arguments");

    (void)argv;
    if (status == KNIT_TOOL_OK)
        status = knit_tool_open(tool, NULL, &k);
    if (status != KNIT_TOOL_OK)
        return status;
    if (ask(k, &health, &error) != KNIT_OK) {
        status = knit_tool_report(tool, &error);
    } else if (health.lanes_serving == 0) {
        status = knit_tool_fail(
            tool, KNIT_TOOL_REFUSED, "the daemon answers, but no worker of it can serve");
    } else {
        printf(tool->is_json ? "{\"ms\":%.3f}\n" : "answered in %.3f ms\n", health.ms);
        status = knit_tool_finish(tool);
    }
    knit_close(k);
    return status;
}

static int say(const struct knit_tool *tool, const struct health *health)
{
    bool is_ready = health->lanes_serving > 0 && !health->is_degraded;
    const char *word = is_ready ? "ready" : "degraded";
    int status;

    printf(tool->is_json
               ? "{\"status\":\"%s\",\"lanes\":%lld,\"lanes_serving\":%lld,\"is_degraded\":"
                 "%s,\"ms\":%.3f}\n"
               : "%s: %lld workers, %lld of them serve%s, answered in %.3f ms\n",
        word, (long long)health->lanes, (long long)health->lanes_serving,
        tool->is_json         ? (health->is_degraded ? "true" : "false")
        : health->is_degraded ? ", they die faster than they work"
                              : "",
        health->ms);
    status = knit_tool_finish(tool);
    return status != KNIT_TOOL_OK ? status : is_ready ? HEALTH_READY : HEALTH_DEGRADED;
}

static int say_unreachable(const struct knit_tool *tool, const struct knit_error *error)
{
    struct json_object *object;

    if (!tool->is_json) {
        (void)knit_tool_report(tool, error);
        return HEALTH_UNREACHABLE;
    }
    object = json_object_new_object();
    json_object_object_add(object, "status", json_object_new_string("unreachable"));
    json_object_object_add(object, "name", json_object_new_string(error->name));
    json_object_object_add(object, "message", json_object_new_string(error->message));
    knit_tool_put_object(object);
    json_object_put(object);
    (void)knit_tool_finish(tool);
    return HEALTH_UNREACHABLE;
}

int knit_tool_health(const struct knit_tool *tool, int argc, char **argv)
{
    struct knit_error error;
    struct health health;
    struct knit *k;
    int status;

    (void)argv;
    if (argc != 0)
        return knit_tool_usage(tool, "health takes no arguments");
    if (knit_tool_try_open(tool, NULL, &k, &error) != KNIT_OK)
        return say_unreachable(tool, &error);
    status =
        ask(k, &health, &error) == KNIT_OK ? say(tool, &health) : say_unreachable(tool, &error);
    knit_close(k);
    return status;
}
