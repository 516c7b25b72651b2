/* SPDX-License-Identifier: Apache-2.0 */
/* One function for each thing that is said, in the order of the log. */
#include "server/daemon/announce.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "fastpath/host/pool.h"
#include "server/base/log.h"
#include "server/daemon/memory.h"

/* Only a number that somebody has asked for is missed. */
static void say_descriptors(const struct knit_announcement *of)
{
    const struct knit_descriptors *descriptors = of->descriptors;
    bool is_given = knit_setting_is_given(of->settings, "server", "max_connections");

    if (descriptors->connections_max < of->settings->max_connections)
        knit_log(of->log, is_given ? KNIT_LOG_WARNING : KNIT_LOG_INFO,
            "fewer connections than max_connections",
            KNIT_LOG_NUMBER("connections", descriptors->connections_max),
            KNIT_LOG_NUMBER("max_connections", of->settings->max_connections),
            KNIT_LOG_NUMBER("sessions", descriptors->sessions_max),
            KNIT_LOG_NUMBER("files", descriptors->files));
}

/* Who may call through a TCP address. */
static const char *callers_of(const struct knit_settings *settings, bool is_tls, const char *name)
{
    bool is_loopback = strncmp(name, "127.", 4) == 0 || strncmp(name, "[::1]", 5) == 0;

    if (knit_listening_knows_nobody(settings, is_tls))
        return "nobody";
    if (settings->policy != NULL)
        return "whom the policy lets";
    if (is_tls && settings->tls_client == KNIT_TLS_CLIENT_CHOICE_REQUIRED)
        return "whom a certificate of tls_client_ca names";
    if (settings->require_authentication)
        return "who say who they are";
    if (!is_loopback)
        return "everybody who reaches the address";
    return settings->proxy_from.count > 0
               ? "every user of this machine, and whom a proxy of proxy_from lets through"
               : "every user of this machine";
}

/* Who may call through what: the first lines of the log. */
static void say_addresses(const struct knit_announcement *of)
{
    const struct knit_settings *settings = of->settings;
    char mode[16];

    for (size_t i = 0; i < of->listening->tcp_count; i++) {
        const char *name = of->listening->tcp_names[i];
        bool is_tls = of->listening->tcp_is_tls[i];

        knit_log(of->log, KNIT_LOG_INFO, "listening", KNIT_LOG_TEXT("address", name),
            KNIT_LOG_TEXT("tls", is_tls ? "on" : "off"),
            KNIT_LOG_TEXT("callers", callers_of(settings, is_tls, name)));
        knit_listening_warn(settings, is_tls, name, of->log);
    }
    if (of->listening->socket.fd < 0)
        return;
    (void)snprintf(mode, sizeof(mode), "%04o", (unsigned)settings->socket_mode);
    knit_log(of->log, KNIT_LOG_INFO, "listening",
        KNIT_LOG_TEXT("socket", of->listening->socket.path),
        KNIT_LOG_TEXT("callers", "whom socket_mode and socket_group admit"),
        KNIT_LOG_TEXT("socket_mode", mode),
        KNIT_LOG_TEXT("socket_group",
            settings->socket_group != NULL ? settings->socket_group : "the daemon's own"),
        KNIT_LOG_TEXT(
            "attaching", settings->policy != NULL ? "whom the policy lets"
                         : settings->attach_users.count + settings->attach_groups.count > 0
                             ? "attach_users and attach_groups"
                             : "all of them"));
}

/* Each limit is finite, and together they may be more than there is. */
static void say_memory(const struct knit_announcement *of)
{
    char sessions[KNIT_MEMORY_TEXT_MAX], loops[KNIT_MEMORY_TEXT_MAX];
    char connections[KNIT_MEMORY_TEXT_MAX], workers[KNIT_MEMORY_TEXT_MAX];
    char sum[KNIT_MEMORY_TEXT_MAX], limit[KNIT_MEMORY_TEXT_MAX];
    struct knit_memory memory;
    bool is_too_much;

    knit_memory_add_up(of->settings, of->descriptors, &memory);
    is_too_much = memory.sum_bytes > memory.limit_bytes;
    knit_memory_text(memory.sessions_bytes, sessions);
    knit_memory_text(memory.loops_bytes, loops);
    knit_memory_text(memory.connections_bytes, connections);
    knit_memory_text(memory.workers_bytes != 0 ? memory.workers_bytes : UINT64_MAX, workers);
    knit_memory_text(memory.sum_bytes, sum);
    knit_memory_text(memory.limit_bytes, limit);
    knit_log(of->log, is_too_much ? KNIT_LOG_WARNING : KNIT_LOG_INFO,
        is_too_much ? "the settings allow more memory than the control group"
                    : "memory that the settings allow",
        KNIT_LOG_TEXT("sessions", sessions), KNIT_LOG_TEXT("loops", loops),
        KNIT_LOG_TEXT("connections", connections), KNIT_LOG_TEXT("workers", workers),
        KNIT_LOG_TEXT("sum", sum), KNIT_LOG_TEXT("control_group", limit));
}

static void say_tasks(const struct knit_announcement *of, const struct knit_registry *registry)
{
    for (uint32_t i = 0; i < knit_registry_count(registry); i++) {
        const struct knit_registry_task *task = knit_registry_at(registry, i);

        knit_log(of->log, KNIT_LOG_DEBUG, "task", KNIT_LOG_NUMBER("id", task->id),
            KNIT_LOG_TEXT("signature", knit_signature_text(task->signature)));
    }
}

void knit_announce(const struct knit_announcement *of)
{
    const struct knit_registry *registry = knit_host_registry(of->pool);

    say_addresses(of);
    say_descriptors(of);
    say_memory(of);
    knit_log(of->log, KNIT_LOG_INFO, "settings",
        KNIT_LOG_TEXT("file", of->settings->file != NULL ? of->settings->file : "none"));
    if (of->settings->debug_bits & KNIT_DEBUG_IMPORTS)
        say_tasks(of, registry);
    knit_log(of->log, KNIT_LOG_INFO, "ready", KNIT_LOG_TEXT("version", KNIT_VERSION),
        KNIT_LOG_NUMBER("pid", getpid()), KNIT_LOG_NUMBER("tasks", knit_registry_count(registry)),
        KNIT_LOG_NUMBER("workers", knit_host_lanes(of->pool)),
        KNIT_LOG_NUMBER("threads_io", of->settings->threads_io));
}
