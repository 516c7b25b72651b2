/* SPDX-License-Identifier: Apache-2.0 */
/* Where the admin face listens: a TCP address or a unix socket of its own, beside those for calls.
 *
 * An address that the settings name must be had, or the daemon does not start. The one that it has
 * by itself may be in use, by another daemon as a rule: then there is a warning, and no face.
 *
 * With --take-over the elder holds the address, and where a service manager has the sockets for
 * calls another instance may. The elder lets go of it when it is told to drain by the one that
 * takes over, else at its end, and this daemon tries again until it has it. To hand the socket
 * over, as those for calls are, was rejected: both would accept from it for a while, and a probe
 * could hear from the one that drains that nothing is ready. A probe may find nobody for some
 * milliseconds instead, as it may at any start.
 *
 * Threads: the main thread's.
 */
#pragma once

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/sentence.h"
#include "server/admin/face.h"
#include "server/base/counters.h"
#include "server/config/setting.h"
#include "server/daemon/lists.h"
#include "server/net/endpoint.h"
#include "server/net/listener.h"
#include "server/net/socket_file.h"

struct knit_certificates;
struct knit_closer;
struct knit_dealer;
struct knit_log;
struct knit_stats_sources;

#define KNIT_ADMIN_URL_MAX 128

enum {
    KNIT_ADMIN_E_REFUSED = 1, /* the sentence says why */
};

/* What it tells of. */
struct knit_admin_knows {
    const struct knit_stats_sources *stats;
    struct knit_lists *lists;
    const struct knit_dealer *dealer;
    const struct knit_certificates *certificates;
    struct knit_closer *closer; /* NULL: none is needed */
};

struct knit_admin {
    const struct knit_settings *settings;
    struct knit_log *log;
    struct event_base *base; /* once it was started */
    struct knit_face face;
    struct knit_face_counters counters; /* of it */
    struct knit_admin_knows knows;
    struct knit_listener listener;
    struct knit_socket_file socket; /* .fd = -1: it has no path */
    int fd;                         /* that it listens on; -1 = none */
    char url[KNIT_ADMIN_URL_MAX];   /* where it is, or is about to be; "" = there is none */
    struct event *retry_event;
    uint32_t retry_ms; /* after which it tries to have its place; 0 = it does not wait for one */
};

#define KNIT_ADMIN_INIT                                                                            \
    {                                                                                              \
        .fd = -1, .socket = {.fd = -1, .lock_fd = -1 }                                             \
    }

/* Whether it can be read and the socket's file can be made. Returns 0, KNIT_ADMIN_E_REFUSED, or
 * -errno; with a sentence. */
KNIT_MUST_CHECK int knit_admin_check(
    const struct knit_settings *settings, struct knit_sentence *why);

/* Before the workers, as knit_listening_open(). has_elder: another daemon may serve still, and end
 * then. Returns 0, also where there is no face; KNIT_ADMIN_E_REFUSED, -errno, with a sentence. It
 * is closed in any case. */
KNIT_MUST_CHECK int knit_admin_open(struct knit_admin *admin, const struct knit_settings *settings,
    struct knit_log *log, bool has_elder, struct knit_sentence *why);

/* Serves from now on; admin->knows is filled. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_admin_start(struct knit_admin *admin, struct event_base *base);

/* The daemon drains, as the face says from now on. */
void knit_admin_drain(struct knit_admin *admin);

/* The daemon was taken over from: its place is another one's. */
void knit_admin_yield(struct knit_admin *admin);

/* Before the base is freed. Accepts one that was not opened. */
void knit_admin_close(struct knit_admin *admin);
