/* SPDX-License-Identifier: Apache-2.0 */
/* The rules that tie several settings together, in the order in which one follows from another.
 * They run once, when every place has been read.
 */
#include "server/config/resolve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/worker/inliner.h"
#include "server/base/log.h"
#include "server/config/collector_url.h"
#include "server/config/confinement.h"
#include "server/config/machine.h"

static uint64_t within(uint64_t value, uint64_t min, uint64_t max)
{
    return value < min ? min : value > max ? max : value;
}

static int resolve_debug(struct knit_settings *settings, struct knit_sentence *why)
{
    int r = 0;

    settings->debug_bits = settings->level == KNIT_LOG_DEBUG ? KNIT_DEBUG_ALL : 0;
    for (size_t i = 0; r == 0 && i < settings->debug.count; i++)
        r = knit_debug_add(&settings->debug_bits, settings->debug.items[i], "log.debug", why);
    if (r == 0)
        r = knit_debug_add(&settings->debug_bits, getenv("KNITTING_DEBUG"), "$KNITTING_DEBUG", why);
    return r == 0 ? 0 : KNIT_SETTING_E_REFUSED;
}

/* As a service the daemon has a folder of its own for its socket, whose mode and group say who may
 * call. On a loopback address every user of the machine may, which has to be asked for. */
static int resolve_listen(struct knit_settings *settings, struct knit_sentence *why)
{
    const struct knit_setting_origin origin = {KNIT_SOURCE_ENVIRONMENT, NULL, 0};
    const char *folder = getenv("RUNTIME_DIRECTORY");

    if (folder == NULL || folder[0] != '/' || knit_setting_is_given(settings, "server", "listen"))
        return 0;
    return knit_setting_set(
        settings, knit_setting_by_key("server", "listen"), &origin, "none", why);
}

/* Who reads there is not told apart. So it is there by itself only where whoever reaches it may
 * call, and so read the same by `$/tasks` and `$/stats`: by TCP where every user of the machine
 * may, and for a service that has its socket alone beside that one, with the same mode and group.
 */
static int resolve_admin(struct knit_settings *settings)
{
    bool is_open = settings->policy == NULL && !settings->require_authentication;
    bool has_tcp = settings->listen.count > 0 && strcmp(settings->listen.items[0], "none") != 0;
    const char *folder = getenv("RUNTIME_DIRECTORY");
    char *place;

    if (settings->admin != NULL)
        return 0;
    if (is_open && !has_tcp && folder != NULL && folder[0] == '/') {
        if (asprintf(&place, "%.*s/admin.sock", (int)strcspn(folder, ":"), folder) < 0)
            return -ENOMEM;
    } else {
        place = strdup(is_open && has_tcp ? "127.0.0.1:5650" : "none");
    }
    settings->admin = place;
    return place != NULL ? 0 : -ENOMEM;
}

/* The word beside an address was forgotten there, or the address was. */
static int check_listen(const char *key, const struct knit_list *listen, struct knit_sentence *why)
{
    for (size_t i = 0; listen->count > 1 && i < listen->count; i++) {
        if (strcmp(listen->items[i], "none") == 0)
            return knit_sentence_set(why, KNIT_SETTING_E_REFUSED,
                "server.%s: the word none stands alone, not beside %s", key,
                listen->items[i == 0 ? 1 : 0]);
    }
    return 0;
}

/* Of two lists of who may attach, one would be forgotten. */
static int check_policy(const struct knit_settings *settings, struct knit_sentence *why)
{
    if (settings->policy != NULL &&
        settings->attach_users.count + settings->attach_groups.count > 0)
        return knit_sentence_set(why, KNIT_SETTING_E_REFUSED,
            "server.policy: says by $/attach who may call through shared memory; expected neither "
            "attach_users nor attach_groups beside it");
    return 0;
}

static int check_inliner(const struct knit_settings *settings, struct knit_sentence *why)
{
    if (settings->inliner_position == KNIT_INLINER_AT_NONE)
        return 0;
    if (settings->inline_unconfined == 0)
        return knit_sentence_set(why, KNIT_SETTING_E_REFUSED,
            "pool.inliner_position: event loops run tasks only with inline_unconfined = on, since "
            "nothing confines them in the daemon");
    if (settings->inliner_modules.count == 0)
        return knit_sentence_set(why, KNIT_SETTING_E_REFUSED,
            "pool.inliner_position: expected inliner_modules beside it, the modules that are "
            "loaded into the daemon");
    return 0;
}

static int check_access_log(const struct knit_settings *settings, struct knit_sentence *why)
{
    const char *where = settings->access_log;

    if (strcmp(where, "none") == 0 || strcmp(where, "log") == 0 || where[0] == '/')
        return 0;
    return knit_sentence_set(why, KNIT_SETTING_E_REFUSED,
        "log.access_log: expected none, log, or the absolute path of a file, not '%s'", where);
}

static int check_collector(const struct knit_settings *settings, struct knit_sentence *why)
{
    struct knit_collector_url url;

    return settings->otlp_endpoint == NULL
               ? 0
               : knit_collector_url_parse("log.otlp_endpoint", settings->otlp_endpoint, &url, why);
}

/* What is in the lanes already is not refused any more. */
static int check_queue(const struct knit_settings *settings, struct knit_sentence *why)
{
    if (settings->queue_delay_ms == 0 || settings->lane_depth_us != 0)
        return 0;
    return knit_sentence_set(why, KNIT_SETTING_E_REFUSED,
        "pool.queue_delay_ms: with lane_depth_us = 0 calls wait in the lanes, where none is "
        "refused");
}

static int read_proxies(struct knit_settings *settings, struct knit_sentence *why)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < settings->proxy_from.count; i++)
        r = knit_networks_parse(
            "server.proxy_from", settings->proxy_from.items[i], &settings->proxies[i], why);
    return r == 0 ? 0 : KNIT_SETTING_E_REFUSED;
}

int knit_settings_resolve(struct knit_settings *settings, struct knit_sentence *why)
{
    static const uint64_t message_overhead = 64 * 1024, input_preset_bytes = 256 << 20;
    uint64_t eighth = settings->arena_bytes / 8;
    int r;

    if (settings->workers == KNIT_AUTO)
        settings->workers = within(knit_machine_processors(""), 2, 256);
    if (settings->threads_io == KNIT_AUTO)
        settings->threads_io = within(knit_machine_processors("") / 4, 1, 64);
    if (settings->call_max_bytes == KNIT_AUTO)
        settings->call_max_bytes = eighth;
    if (settings->message_max_bytes == KNIT_AUTO)
        settings->message_max_bytes = settings->call_max_bytes + message_overhead;
    if (settings->input_max_bytes == KNIT_AUTO)
        settings->input_max_bytes =
            within(4 * settings->message_max_bytes, input_preset_bytes, UINT64_MAX);
    if (settings->balancer > KNIT_BALANCER_CHOICE_LEAST_LOADED)
        settings->balancer = KNIT_BALANCER_CHOICE_ROUND_ROBIN;
    if (settings->steal == KNIT_AUTO)
        settings->steal =
            settings->workers > 1 && !knit_setting_is_given(settings, "pool", "balancer");
    /* A policy says what those may do who have not said who they are: nothing unless it names them.
     */
    if (settings->require_authentication == KNIT_AUTO)
        settings->require_authentication = settings->tokens != NULL && settings->policy == NULL;
    knit_confinement_resolve(settings);

    if (settings->call_max_bytes > eighth)
        return knit_sentence_set(why, KNIT_SETTING_E_REFUSED,
            "pool.call_max_bytes: expected at most %llu, an eighth of arena_bytes, not "
            "%llu",
            (unsigned long long)eighth, (unsigned long long)settings->call_max_bytes);
    if (settings->input_max_bytes < 4 * settings->message_max_bytes)
        return knit_sentence_set(why, KNIT_SETTING_E_REFUSED,
            "server.input_max_bytes: expected at least four times message_max_bytes, %llu, not "
            "%llu",
            4 * (unsigned long long)settings->message_max_bytes,
            (unsigned long long)settings->input_max_bytes);
    if (settings->arena_mode == KNIT_ARENA_MODE_CHOICE_FIXED &&
        knit_setting_is_given(settings, "pool", "arena_initial_bytes"))
        return knit_sentence_set(why, KNIT_SETTING_E_REFUSED,
            "pool.arena_initial_bytes: means nothing with arena_mode fixed, which is all of "
            "arena_bytes");
    if (settings->arena_initial_bytes > settings->arena_bytes)
        return knit_sentence_set(why, KNIT_SETTING_E_REFUSED,
            "pool.arena_initial_bytes: expected at most arena_bytes, %llu, not %llu",
            (unsigned long long)settings->arena_bytes,
            (unsigned long long)settings->arena_initial_bytes);
    if (knit_confinement_check(settings, why) != 0)
        return KNIT_SETTING_E_REFUSED;
    if (check_listen("listen", &settings->listen, why) != 0 ||
        check_listen("listen_tls", &settings->listen_tls, why) != 0 ||
        check_policy(settings, why) != 0 || check_inliner(settings, why) != 0 ||
        check_queue(settings, why) != 0 || check_access_log(settings, why) != 0 ||
        check_collector(settings, why) != 0 || read_proxies(settings, why) != 0)
        return KNIT_SETTING_E_REFUSED;
    r = resolve_listen(settings, why);
    if (r == 0)
        r = resolve_admin(settings);
    return r == 0 ? resolve_debug(settings, why) : r;
}
